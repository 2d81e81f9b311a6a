/* SPDX-License-Identifier: MIT */
/*
 * The io_uring backend: submission, completion, polls. Called through the ops table only.
 *
 * Nothing is lost when the completion queue is full: reads, writes and syncs in flight never
 * exceed the submission queue, which is half of it; should polls fill the rest, the kernel keeps
 * what overflows (IORING_FEAT_NODROP, in every kernel that passes the probe) and hands it out when
 * entered.
 */
#define _GNU_SOURCE 1
#include "batchio/backend.h"

#if BATCHIO_URING

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "batchio/uring.h"

/* ---- user_data: the one place where requests are packed into it ---- */

/* A request's address; its low bits are free, 1 marks what is not a request. */
#define UDATA_IGNORE 1u

_Static_assert(sizeof(uintptr_t) <= sizeof(uint64_t), "a pointer must fit user_data");
_Static_assert(_Alignof(struct batchio_request) >= 2, "the lowest bit must be free");

static uint64_t udata_of(const struct batchio_request *req)
{
	return (uintptr_t)req;
}

/* NULL for what carries no request: cancellations, liburing's timeouts (all bits set). */
static struct batchio_request *request_of(uint64_t udata)
{
	return udata & UDATA_IGNORE ? NULL : (struct batchio_request *)(uintptr_t)udata;
}

/* ---- polls and commands in flight, so that close can cancel them ---- */

static void add_wait(struct uring *u, struct batchio_request *req)
{
	req->priv.next = u->waits;
	req->priv.pair = NULL;
	if (u->waits)
		u->waits->priv.pair = req;
	u->waits = req;
	u->nwaits++;
}

static void del_wait(struct uring *u, struct batchio_request *req)
{
	if (req->priv.pair)
		req->priv.pair->priv.next = req->priv.next;
	else
		u->waits = req->priv.next;
	if (req->priv.next)
		req->priv.next->priv.pair = req->priv.pair;
	req->priv.pair = NULL;
	u->nwaits--;
}

/* ---- submission ---- */

static void prep_poll(struct uring *u, struct io_uring_sqe *sqe, const struct batchio_request *req)
{
	unsigned mask = (unsigned short)req->events;

	if ((req->flags & BATCHIO_EXCLUSIVE) && (u->ring.features & IORING_FEAT_POLL_32BITS))
		mask |= EPOLLEXCLUSIVE;
	io_uring_prep_poll_add(sqe, req->fd, mask);
}

static void prep_command(struct io_uring_sqe *sqe, const struct batchio_request *req)
{
	/* Its first member. */
	const struct batchio_command *command = (const struct batchio_command *)req;

	/* The handle's entries are of the double size. */
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = req->fd;
	sqe->cmd_op = command->op;
	sqe->addr = (uintptr_t)req->iov;
	sqe->len = (unsigned)req->iovcnt;
	memcpy(sqe->cmd, command->argument, command->length);
}

static void prep_data(struct io_uring_sqe *sqe, struct batchio_request *req)
{
	/* The offset as the kernel has it; -1 is "where the file stands", or none. */
	uint64_t offset = (uint64_t)batchio_offset(req);
	unsigned cnt = (unsigned)batchio_iovcnt(req);

	switch (req->kind) {
	case BATCHIO_READ:
		io_uring_prep_readv(sqe, req->fd, batchio_iov(req), cnt, offset);
		break;
	case BATCHIO_WRITE:
		io_uring_prep_writev(sqe, req->fd, batchio_iov(req), cnt, offset);
		if (req->flags & BATCHIO_DSYNC)
			sqe->rw_flags = RWF_DSYNC;
		if (batchio_is_pair(req))
			sqe->flags |= IOSQE_IO_LINK;
		break;
	case BATCHIO_FDATASYNC:
		io_uring_prep_fsync(sqe, req->fd, IORING_FSYNC_DATASYNC);
		break;
	case BATCHIO_FSYNC:
		io_uring_prep_fsync(sqe, req->fd, 0);
		break;
	case BATCHIO_POLL:
		break;
	}
}

static void prep(struct uring *u, struct batchio_request *req)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	assert(sqe); /* fill() saw to it */
	if (batchio_is_command(req))
		prep_command(sqe, req);
	else if (req->kind == BATCHIO_POLL)
		prep_poll(u, sqe, req);
	else
		prep_data(sqe, req);
	if (batchio_is_wait(req))
		add_wait(u, req);
	else
		u->ops++;
	io_uring_sqe_set_data64(sqe, udata_of(req));
	req->priv.state |= BATCHIO_S_RING;
}

/* Moves what there is room for from the queue to the SQ. */
static void fill(struct batchio *bio)
{
	struct uring *u = bio->backend;
	struct batchio_request *req;

	while ((req = bio->queue.head)) {
		bool pair = batchio_is_pair(req);
		unsigned need = pair ? 2 : 1;

		if (io_uring_sq_space_left(&u->ring) < need)
			break;
		if (!batchio_is_wait(req) && u->ops + need > u->depth)
			break;
		req = batchio_next(bio);
		if (!req)
			break;
		prep(u, req);
		if (!pair)
			continue;
		assert(bio->queue.head == req->priv.pair);
		prep(u, batchio_queue_pop(&bio->queue));
	}
}

/* ---- completion ---- */

static void complete(struct batchio *bio, uint64_t udata, int result)
{
	struct uring *u = bio->backend;
	struct batchio_request *req = request_of(udata);

	if (!req || (u->commands_left && batchio_is_command(req)))
		return;
	if (batchio_is_wait(req))
		del_wait(u, req);
	else
		u->ops--;
	if (!batchio_request_result(bio, req, result))
		batchio_queue_push(&bio->queue, req);
}

/* Takes every completion posted, without a system call. Returns how many. */
static unsigned harvest(struct batchio *bio)
{
	struct uring *u = bio->backend;
	struct io_uring_cqe *cqe;
	unsigned head, n = 0;

	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		complete(bio, cqe->user_data, cqe->res);
		n++;
	}
	io_uring_cq_advance(&u->ring, n);
	return n;
}

/* Completions that the kernel posts only when it is entered: overflown, or deferred. */
static bool must_enter(struct uring *u)
{
	unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);

	return flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN);
}

/*
 * One io_uring_enter: submits the SQ and waits for `wait` completions at most timeout_ms. Returns 0
 * when it did what it could, -ETIME, -EINTR, or another -errno.
 */
static int enter(struct batchio *bio, unsigned wait, int timeout_ms)
{
	struct uring *u = bio->backend;
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts;
	int ret;

	batchio_count(&bio->tally.enters, 1);
	if (wait && timeout_ms >= 0) {
		ts.tv_sec = timeout_ms / 1000;
		ts.tv_nsec = timeout_ms % 1000 * 1000000LL;
		ret = io_uring_submit_and_wait_timeout(&u->ring, &cqe, wait, &ts, NULL);
	} else if (wait) {
		ret = io_uring_submit_and_wait(&u->ring, wait);
	} else if (u->getevents) {
		ret = io_uring_submit_and_get_events(&u->ring);
	} else {
		ret = io_uring_submit(&u->ring);
	}
	return ret < 0 ? ret : 0;
}

static bool is_transient(int ret)
{
	return ret == -EAGAIN || ret == -EBUSY || ret == -ENOMEM;
}

/*
 * The kernel no longer takes what we hand it (the ring's descriptor was closed, the wrong thread
 * uses a single-issuer handle). What it has not got ends with the error; what it has is left alone
 * from here on, for its memory may soon be gone.
 */
static int lose(struct batchio *bio, int error)
{
	struct uring *u = bio->backend;
	struct batchio_request *req;

	u->lost = error;
	while ((req = batchio_next(bio)))
		batchio_request_result(bio, req, error);
	return error;
}

static int uring_start(struct batchio *bio)
{
	struct uring *u = bio->backend;
	int ret;

	if (u->lost)
		return lose(bio, u->lost);
	for (;;) {
		fill(bio);
		if (!io_uring_sq_ready(&u->ring))
			return 0;
		ret = enter(bio, 0, 0);
		if (ret == -EINTR)
			continue;
		if (ret < 0)
			return is_transient(ret) ? ret : lose(bio, ret);
		harvest(bio);
	}
}

/* How many completions to wait for, given that bio->done is to hold `want`. */
static unsigned to_wait(struct batchio *bio, unsigned want)
{
	struct uring *u = bio->backend;
	size_t missing = want > bio->done.count ? want - bio->done.count : 0;
	size_t can_end = (size_t)u->ops + u->nwaits;

	/* With more to start than the ring takes, refill before it runs dry. */
	if (bio->queue.count && missing > u->depth / 4)
		missing = u->depth / 4 ? u->depth / 4 : 1;
	return (unsigned)(missing < can_end ? missing : can_end);
}

static int uring_reap(struct batchio *bio, unsigned want, int timeout_ms)
{
	struct uring *u = bio->backend;
	int64_t deadline = want ? batchio_deadline(timeout_ms) : -1;
	int left = timeout_ms, ret;
	unsigned wait, got = 1;

	if (u->lost)
		return lose(bio, u->lost);
	harvest(bio);
	for (;;) {
		fill(bio);
		wait = to_wait(bio, want);
		/*
		 * The kernel may leave IORING_SQ_TASKRUN set with nothing to run (a worker sets it
		 * just after we took its completion), so an enter that brought nothing is the last.
		 */
		if (!wait && !io_uring_sq_ready(&u->ring) && !(got && must_enter(u)))
			return 0;
		ret = enter(bio, wait, left);
		if (ret < 0 && !is_transient(ret) && ret != -EINTR && ret != -ETIME)
			return lose(bio, ret);
		got = harvest(bio);
		if (bio->done.count >= want || ret == -ETIME || ret == -EINTR)
			return 0;
		/* A signal or the time limit, which the count of submissions hid. */
		if (ret == 0 && got < wait && !io_uring_sq_ready(&u->ring))
			return 0;
		left = batchio_left_ms(deadline);
		if (left == 0)
			return 0;
		/* Too much in flight for the kernel's memory: what ends makes room. */
		if (is_transient(ret) && !(u->ops && wait))
			return ret;
		if (is_transient(ret))
			batchio_pause();
	}
}

/* The kernel cancels commands with the ring only, and then takes no more notice of their memory. */
static void leave_commands(struct batchio *bio)
{
	struct uring *u = bio->backend;
	struct batchio_request *req = u->waits;

	u->commands_left = true;
	while (req) {
		struct batchio_request *next = req->priv.next;

		if (batchio_is_command(req)) {
			del_wait(u, req);
			batchio_request_result(bio, req, -ECANCELED);
		}
		req = next;
	}
}

static bool uring_has_news(struct batchio *bio)
{
	struct uring *u = bio->backend;

	return io_uring_cq_ready(&u->ring) || must_enter(u);
}

/* A poll in flight that is not being cancelled yet. */
static struct batchio_request *poll_to_cancel(struct uring *u)
{
	struct batchio_request *req = u->waits;

	while (req && (req->priv.state & BATCHIO_S_CANCEL))
		req = req->priv.next;
	return req;
}

/* Asks for the cancellation of polls; each then ends by its own completion. */
static void uring_cancel_waits(struct batchio *bio)
{
	struct uring *u = bio->backend;
	struct batchio_request *req;

	leave_commands(bio);
	while ((req = poll_to_cancel(u)) && !u->lost) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

		if (!sqe) { /* SQ full; the list may have changed afterwards */
			if (uring_start(bio) < 0)
				batchio_pause();
			continue;
		}
		req->priv.state |= BATCHIO_S_CANCEL;
		io_uring_prep_poll_remove(sqe, udata_of(req));
		io_uring_sqe_set_data64(sqe, UDATA_IGNORE);
	}
}

static void uring_destroy(struct batchio *bio)
{
	struct uring *u = bio->backend;

	io_uring_queue_exit(&u->ring);
	free(u);
}

static const struct batchio_ops uring_ops = {
	.name = "uring",
	.try_inline = batchio_uring_try_inline,
	.start = uring_start,
	.reap = uring_reap,
	.has_news = uring_has_news,
	.cancel_waits = uring_cancel_waits,
	.destroy = uring_destroy,
};

const char *batchio_uring_impl(void)
{
	return "liburing";
}

struct batchio *batchio_new_uring(unsigned entries, unsigned flags, struct batchio_error *error)
{
	struct batchio *bio = NULL;
	struct uring *u;

	if (entries < 1 || entries > BATCHIO_ENTRIES_MAX)
		return batchio_fail(error, -EINVAL, "%u ring entries: 1 to %d are allowed", entries,
			BATCHIO_ENTRIES_MAX);
	if (flags & ~(BATCHIO_SINGLE_ISSUER | BATCHIO_COMMANDS))
		return batchio_fail(error, -EINVAL, "unknown flags %#x for a ring", flags);
	u = calloc(1, sizeof(*u));
	if (!u)
		return batchio_fail(error, -ENOMEM, "out of memory for a batchio handle");
	if (!batchio_uring_setup(u, entries, flags, error)) {
		bio = batchio_new_backend(&uring_ops, u, error);
		if (!bio)
			io_uring_queue_exit(&u->ring);
	}
	if (!bio) {
		free(u);
		return NULL;
	}
	bio->batch_max = u->depth;
	bio->commands = flags & BATCHIO_COMMANDS;
	bio->restricted = u->restricted;
	return bio;
}

#endif
