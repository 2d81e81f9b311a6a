/* SPDX-License-Identifier: MIT */
/*
 * The library's io_uring backend and plain calls, from their own sources, with attempts that can be
 * made to fail: nothing of such an attempt reaches the file, and what comes back is what the kernel
 * would have said. For programs of tests, which are linked with this before libbatchio.a.
 *
 * Through the ring: as a request becomes a submission entry it is made one that does nothing (or
 * half), and the result of its completion is replaced where it is taken from the ring. The second
 * half of a linked pair whose first fails or falls short is cut off.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <sys/uio.h>
#include <unistd.h>

#include "batchio/backend.h"
#include "plan.h"

#if BATCHIO_URING
#include <liburing.h>
#endif

/* Half of a vector, for an attempt that falls short. */
struct half {
	struct iovec first;
	const struct iovec *iov;
	int cnt;
};

static bool halve(struct half *half, const struct iovec *iov, int cnt)
{
	*half = (struct half){.iov = iov, .cnt = cnt / 2};
	if (cnt > 1)
		return true;
	half->first = (struct iovec){iov[0].iov_base, iov[0].iov_len / 2};
	half->iov = &half->first;
	half->cnt = 1;
	return half->first.iov_len > 0;
}

static void note_hit(enum batchio_kind kind, bool linked, const void *base)
{
	struct faulty_plan *plan = faulty_plan();

	plan->kind = kind;
	plan->linked = linked;
	plan->base = base;
}

/* ---- plain calls ---- */

/* The call is hit: false where nothing of it is to be done, and errno is set. */
static bool goes_on(enum batchio_kind kind, const void *base)
{
	note_hit(kind, false, base);
	errno = faulty_plan()->error;
	return !faulty_plan()->error;
}

/* What of the call is to be done: all, half, or nothing (false). */
static bool take(unsigned what, enum batchio_kind kind, const char *name, const struct iovec **iov,
	int *cnt, struct half *half)
{
	if (!faulty_now(what, name, NULL))
		return true;
	if (!goes_on(kind, (*iov)[0].iov_base))
		return false;
	if (halve(half, *iov, *cnt)) {
		*iov = half->iov;
		*cnt = half->cnt;
	}
	return true;
}

/* It does not fall short. */
static bool take_sync(enum batchio_kind kind, const char *name)
{
	if (faulty_now(FAULTY_DATA, name, NULL) && !goes_on(kind, NULL))
		return false;
	atomic_fetch_add(&faulty_plan()->syncs, 1);
	return true;
}

#if BATCHIO_URING
static ssize_t faulty_preadv2(int fd, const struct iovec *iov, int cnt, off_t offset, int flags)
{
	struct half half;

	return take(FAULTY_DATA, BATCHIO_READ, "preadv2", &iov, &cnt, &half)
		       ? preadv2(fd, iov, cnt, offset, flags)
		       : -1;
}
#endif

static ssize_t faulty_pwritev2(int fd, const struct iovec *iov, int cnt, off_t offset, int flags)
{
	struct half half;

	return take(FAULTY_DATA, BATCHIO_WRITE, "pwritev2", &iov, &cnt, &half)
		       ? pwritev2(fd, iov, cnt, offset, flags)
		       : -1;
}

static ssize_t faulty_preadv(int fd, const struct iovec *iov, int cnt, off_t offset)
{
	struct half half;

	return take(FAULTY_DATA, BATCHIO_READ, "preadv", &iov, &cnt, &half)
		       ? preadv(fd, iov, cnt, offset)
		       : -1;
}

static ssize_t faulty_pwritev(int fd, const struct iovec *iov, int cnt, off_t offset)
{
	struct half half;

	return take(FAULTY_DATA, BATCHIO_WRITE, "pwritev", &iov, &cnt, &half)
		       ? pwritev(fd, iov, cnt, offset)
		       : -1;
}

static ssize_t faulty_writev(int fd, const struct iovec *iov, int cnt)
{
	struct half half;

	return take(FAULTY_ANSWER, BATCHIO_WRITE, "writev", &iov, &cnt, &half)
		       ? writev(fd, iov, cnt)
		       : -1;
}

static int faulty_fdatasync(int fd)
{
	return take_sync(BATCHIO_FDATASYNC, "fdatasync") ? fdatasync(fd) : -1;
}

static int faulty_fsync(int fd)
{
	return take_sync(BATCHIO_FSYNC, "fsync") ? fsync(fd) : -1;
}

#if BATCHIO_URING

/* ---- through the ring ---- */

/* Entries that were tampered with and whose completion has not been taken. */
struct tampered {
	uint64_t udata; /* 0: free */
	bool replace;
	int result;
	struct half half;
};

static struct tampered tampered[256];
static _Atomic unsigned ntampered;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* The thread's next entry is the sync of a pair whose write has been hit. */
static __thread bool cut_next;

static struct tampered *tamper(uint64_t udata)
{
	struct tampered *t = tampered;

	pthread_mutex_lock(&lock);
	while (t->udata)
		t++; /* fewer fail at a time than there are places */
	*t = (struct tampered){.udata = udata};
	atomic_fetch_add(&ntampered, 1);
	pthread_mutex_unlock(&lock);
	return t;
}

/* The entry does nothing, and is said to have ended with result. */
static void replace(struct io_uring_sqe *sqe, uint64_t udata, int result)
{
	struct tampered *t = tamper(udata);

	t->result = result;
	t->replace = true;
	/* Of nothing: an operation that rings take which are restricted to the backend's. */
	io_uring_prep_poll_remove(sqe, UINT64_MAX);
	io_uring_sqe_set_data64(sqe, udata);
}

static unsigned what_of(const struct batchio_request *req)
{
	if (batchio_is_command(req))
		return FAULTY_COMMAND;
	if (req->kind == BATCHIO_POLL)
		return FAULTY_POLL;
	return req->flags & BATCHIO_STREAM ? FAULTY_ANSWER : FAULTY_DATA;
}

static bool moves_bytes(const struct batchio_request *req)
{
	return req->kind == BATCHIO_READ || req->kind == BATCHIO_WRITE;
}

static void hit(struct io_uring_sqe *sqe, uint64_t udata, const struct batchio_request *req)
{
	bool linked = sqe->flags & IOSQE_IO_LINK;
	int error = faulty_plan()->error;
	struct tampered *t;

	note_hit(req->kind, linked || (req->priv.state & BATCHIO_S_LINKED),
		moves_bytes(req) ? batchio_iov(req)[0].iov_base : NULL);
	if (error) {
		replace(sqe, udata, -error);
		cut_next = linked;
		return;
	}
	if (!moves_bytes(req))
		return; /* a sync does not fall short */
	t = tamper(udata);
	if (!halve(&t->half, batchio_iov(req), batchio_iovcnt(req)))
		return;
	sqe->addr = (uintptr_t)t->half.iov;
	sqe->len = (unsigned)t->half.cnt;
	sqe->flags &= (uint8_t)~IOSQE_IO_LINK;
	cut_next = linked;
}

/* In the place of io_uring_sqe_set_data64(), the last that is done to an entry. */
static void faulty_sqe(struct io_uring_sqe *sqe, uint64_t udata)
{
	const struct batchio_request *req = (const struct batchio_request *)(uintptr_t)udata;

	io_uring_sqe_set_data64(sqe, udata);
	if (udata & 1) /* no request's */
		return;
	if (cut_next) {
		cut_next = false;
		replace(sqe, udata, -ECANCELED);
		return;
	}
	if (faulty_now(what_of(req), "ring", NULL))
		hit(sqe, udata, req);
	if (sqe->opcode == IORING_OP_FSYNC)
		atomic_fetch_add(&faulty_plan()->syncs, 1);
}

/* The completion at head, as it shall be seen, or NULL. */
static struct io_uring_cqe *faulty_cqe(struct io_uring *ring, unsigned head)
{
	struct io_uring_cqe *cqe;

	if (head == io_uring_smp_load_acquire(ring->cq.ktail))
		return NULL;
	cqe = &ring->cq.cqes[io_uring_cqe_index(ring, head, ring->cq.ring_mask)];
	if (!atomic_load(&ntampered))
		return cqe;
	pthread_mutex_lock(&lock);
	for (struct tampered *t = tampered; t < tampered + 256; t++) {
		if (t->udata != cqe->user_data || !t->udata)
			continue;
		if (t->replace)
			cqe->res = t->result;
		t->udata = 0;
		atomic_fetch_sub(&ntampered, 1);
	}
	pthread_mutex_unlock(&lock);
	return cqe;
}

#undef io_uring_for_each_cqe
#define io_uring_for_each_cqe(ring, head, cqe)                                                     \
	for (head = *(ring)->cq.khead; (cqe = faulty_cqe(ring, head)); head++)
#define io_uring_sqe_set_data64 faulty_sqe

#endif

#define preadv2   faulty_preadv2
#define pwritev2  faulty_pwritev2
#define preadv    faulty_preadv
#define pwritev   faulty_pwritev
#define writev    faulty_writev
#define fdatasync faulty_fdatasync
#define fsync     faulty_fsync

#include "batchio/direct.c"
#include "batchio/uring.c"
#include "batchio/uring_inline.c"
