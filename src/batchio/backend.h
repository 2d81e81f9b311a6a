/* SPDX-License-Identifier: MIT */
/*
 * What a backend of libbatchio is: the ops table, the handle, and the life of a request.
 * For the files of src/batchio and for test backends (tests/support). Never installed.
 *
 * Who does what. The front end (batchio.c) checks requests, queues them and calls done(). A backend
 * takes requests from the queue (batchio_next()), makes one attempt at each and reports what the
 * kernel said (batchio_request_result()). Short transfers, EINTR, end of file and linked pairs are
 * dealt with there (request.c), once for all backends.
 *
 * Threads: every callback runs on the thread that uses the handle, one at a time, never from within
 * done(). No callback calls done().
 */
#ifndef BATCHIO_BACKEND_H
#define BATCHIO_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "batchio/batchio.h"
#include "batchio/command.h"

#ifndef BATCHIO_URING
#define BATCHIO_URING 1 /* make URING=0 gives 0 */
#endif

/* The kind of a command's request: beyond those that programs may submit. */
#define BATCHIO_COMMAND (BATCHIO_POLL + 1)

static inline bool batchio_is_command(const struct batchio_request *req)
{
	return (unsigned)req->kind == BATCHIO_COMMAND;
}

/* Polls and commands may wait for ever, and are cancelled by batchio_close(). */
static inline bool batchio_is_wait(const struct batchio_request *req)
{
	return (unsigned)req->kind >= BATCHIO_POLL;
}

/* First in, first out, chained through priv.next. */
struct batchio_queue {
	struct batchio_request *head, *tail;
	size_t count;
};

struct batchio_ops {
	/* Required. What batchio_backend_name() says. Static. */
	const char *name;

	/*
	 * Optional. In batchio_submit(), for a request with BATCHIO_MAYINLINE or BATCHIO_MAYWAIT
	 * that is not half of a pair. The backend may attempt it here. Returns true when
	 * batchio_request_result() said that the request needs nothing more; false has the front
	 * end queue it, or what is left of it.
	 */
	bool (*try_inline)(struct batchio *bio, struct batchio_request *req);

	/*
	 * Required. In batchio_flush(), and in batchio_submit() when `batch_max` are queued and one
	 * more comes. Starts as many of bio->queue as there is room for, without waiting for any to
	 * end. A write for which batchio_is_pair() holds has its sync right behind it in the queue:
	 * both must be started together or not yet. Returns 0 or -errno; on an error what was not
	 * started stays queued.
	 */
	int (*start)(struct batchio *bio);

	/*
	 * Required. In batchio_reap(), batchio_close() and the blocking calls. Starts what is
	 * queued, then waits until bio->done holds at least `want` requests, timeout_ms has passed
	 * (-1: no limit), a signal came, or nothing is left that could end. want = 0: collects what
	 * has ended, without waiting. Returns 0 in all these cases, else -errno: -EAGAIN, -EBUSY
	 * and -ENOMEM mean that a later call may succeed, any other that the backend is lost; it
	 * must then never again touch a request.
	 */
	int (*reap)(struct batchio *bio, unsigned want, int timeout_ms);

	/* Optional. What batchio_has_news() says beyond bio->done. */
	bool (*has_news)(struct batchio *bio);

	/*
	 * Optional; required of a backend where polls or commands outlive start(). In
	 * batchio_close(), once. Each of them that was started and has not ended must end, with an
	 * error, at the latest in the next reap().
	 */
	void (*cancel_waits)(struct batchio *bio);

	/*
	 * Required. Last of batchio_close(), with nothing in flight unless reap() failed for good.
	 * Frees bio->backend.
	 */
	void (*destroy)(struct batchio *bio);
};

/* Written by the thread that uses the handle, read by any: relaxed atomics. */
struct batchio_tally {
	_Atomic uint64_t enters, syscalls, ring_ops, inline_ops, reads, writes, syncs, linked,
		continued, errors;
};

struct batchio {
	const struct batchio_ops *ops;
	void *backend; /* the backend's own */
	size_t batch_max; /* start() when so many are queued and one more comes; 0: never */
	struct batchio_queue queue; /* submitted, to be started */
	struct batchio_queue done; /* ended, done() not called yet */
	struct batchio_request *held; /* a BATCHIO_LINK write waiting for its sync; not queued */
	size_t inflight; /* submitted, done() not called yet */
	bool reaping, closing;
	bool commands; /* the backend takes them */
	bool restricted; /* a ring that refuses foreign operations */
	struct batchio_tally tally;
};

/* priv.state */
enum {
	BATCHIO_S_RING = 1u << 0, /* went through a ring at least once */
	BATCHIO_S_BROKEN = 1u << 1, /* WRITE of a pair: not whole at the first attempt */
	BATCHIO_S_LINKED = 1u << 2, /* sync of a pair, first attempt not reported yet */
	BATCHIO_S_AGAIN = 1u << 3, /* sync: its write became whole only later, run it again */
	BATCHIO_S_CANCEL = 1u << 4, /* sync: its write failed; poll: being cancelled */
	BATCHIO_S_WAITING = 1u << 5, /* sync: reported (priv.result) before its write ended */
};

static inline void batchio_count(_Atomic uint64_t *counter, uint64_t n)
{
	/* One writer at a time, so no locked instruction: readers only need a whole value. */
	uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

void batchio_queue_push(struct batchio_queue *q, struct batchio_request *req);
struct batchio_request *batchio_queue_pop(struct batchio_queue *q);

/* ---- request.c: the life of a request ---- */

/* Readies a checked request; total is the sum of its iovecs. */
void batchio_request_begin(struct batchio_request *req, size_t total);

/* The next request to start, off the queue, or NULL. Syncs that must not run end here. */
struct batchio_request *batchio_next(struct batchio *bio);

/* A WRITE that is to be started together with priv.pair, the next in the queue. */
static inline bool batchio_is_pair(const struct batchio_request *req)
{
	return req->kind == BATCHIO_WRITE && req->priv.pair &&
	       !(req->priv.state & BATCHIO_S_BROKEN);
}

/* Where the next attempt of a READ or WRITE goes: the whole, or what short transfers left. */
static inline const struct iovec *batchio_iov(const struct batchio_request *req)
{
	return req->priv.rest ? req->priv.rest : req->iov;
}

static inline int batchio_iovcnt(const struct batchio_request *req)
{
	return req->priv.rest ? req->priv.restcnt : req->iovcnt;
}

static inline off_t batchio_offset(const struct batchio_request *req)
{
	return req->flags & BATCHIO_STREAM ? -1 : req->offset + (off_t)req->moved;
}

/*
 * Reports what one attempt came to: bytes, 0, poll events, or -errno. The halves of a pair are
 * reported in any order; a sync that was cut off by its write is reported as -ECANCELED. Returns
 * true when the backend is done with the request (it may be on bio->done now), false when it is to
 * be attempted again: then the backend does so or puts it (back) on bio->queue.
 */
bool batchio_request_result(struct batchio *bio, struct batchio_request *req, ssize_t result);

/* ---- batchio.c ---- */

/*
 * New handle on a backend, whose state is `backend`. Checks the table: NULL and -EINVAL in *error
 * when a required callback is missing. On failure the state stays the caller's.
 */
struct batchio *batchio_new_backend(
	const struct batchio_ops *ops, void *backend, struct batchio_error *error);

/* Fills *error (may be NULL). Always returns NULL, for `return batchio_fail(…)`. */
void *batchio_fail(struct batchio_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Like batchio_submit() of a request known to be right; not affected by a held write. */
void batchio_enqueue(struct batchio *bio, struct batchio_request *req, size_t total);

/* The same for a WRITE and its sync. */
void batchio_enqueue_pair(struct batchio *bio, struct batchio_request *write, size_t total,
	struct batchio_request *sync);

/* ---- time ---- */

/* Milliseconds of the monotonic clock. */
int64_t batchio_now_ms(void);

/* What is left until `deadline` (-1: no limit), in ms, never negative; -1 for no limit. */
int batchio_left_ms(int64_t deadline);

/* Sleeps a millisecond: before something is tried again that the kernel had no memory for. */
void batchio_pause(void);

/* The deadline that timeout_ms from now makes. */
static inline int64_t batchio_deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : batchio_now_ms() + timeout_ms;
}

#endif
