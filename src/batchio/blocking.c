/* SPDX-License-Identifier: MIT */
/*
 * The blocking calls of libbatchio, written on submission and completion. Called by programs.
 *
 * They may be used while requests of batchio_submit() are in flight: those may end meanwhile, but
 * their done() is left to the next batchio_reap().
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "batchio/backend.h"

/* Requests kept in flight by one call: more than most rings take, few enough for the heap. */
#define WINDOW_MAX   1024
#define WINDOW_STACK 8

struct slot {
	struct batchio_request req;
	struct iovec iov;
	struct batchio_op *op;
};

struct batch {
	struct batchio *bio;
	enum batchio_kind kind;
	int fd;
	struct batchio_op *next, *end; /* ops not submitted yet */
	size_t pending; /* submitted, not ended */
};

/* Tells the requests of the blocking calls from others on the done queue. */
static void batch_done(struct batchio_request *req, ssize_t result);
static void single_done(struct batchio_request *req, ssize_t result);

static bool is_blocking(const struct batchio_request *req)
{
	return req->done == batch_done || req->done == single_done;
}

static void submit_slot(struct batch *b, struct slot *slot)
{
	struct batchio_op *op = slot->op = b->next++;

	slot->iov = (struct iovec){.iov_base = op->buf, .iov_len = op->len};
	slot->req = (struct batchio_request){
		.kind = b->kind,
		.fd = b->fd,
		.iov = &slot->iov,
		.iovcnt = 1,
		.offset = op->offset,
		.done = batch_done,
		.user = b,
	};
	b->pending++;
	batchio_enqueue(b->bio, &slot->req, op->len);
}

static void batch_done(struct batchio_request *req, ssize_t result)
{
	struct slot *slot = (struct slot *)req; /* its first member */
	struct batch *b = req->user;

	slot->op->result = result;
	b->pending--;
	if (b->next < b->end)
		submit_slot(b, slot);
}

static void single_done(struct batchio_request *req, ssize_t result)
{
	size_t *pending = req->user;

	(void)result; /* stays in priv.result */
	(*pending)--;
}

/* Calls done() of ended blocking requests and leaves the others. */
static void run_blocking(struct batchio *bio)
{
	struct batchio_queue ended = bio->done;
	struct batchio_request *req;

	bio->done = (struct batchio_queue){0};
	while ((req = batchio_queue_pop(&ended))) {
		if (!is_blocking(req)) {
			batchio_queue_push(&bio->done, req);
			continue;
		}
		bio->inflight--;
		req->done(req, req->priv.result);
	}
}

/* Ended requests that are not ours: they don't count as progress of a blocking call. */
static size_t count_others(const struct batchio *bio)
{
	size_t n = 0;

	for (const struct batchio_request *req = bio->done.head; req; req = req->priv.next)
		n += !is_blocking(req);
	return n;
}

/* Waits until *pending is 0. Returns 0, or -errno when the backend is lost. */
static int wait_for(struct batchio *bio, const size_t *pending)
{
	while (*pending) {
		size_t want = count_others(bio) + *pending;
		int ret = bio->ops->reap(bio, want > UINT_MAX ? UINT_MAX : (unsigned)want, -1);

		run_blocking(bio);
		if (ret == -EAGAIN || ret == -EBUSY || ret == -ENOMEM)
			batchio_pause();
		else if (ret < 0)
			return ret;
	}
	return 0;
}

static int check_ops(const struct batchio_op *ops, size_t n)
{
	if (n && !ops)
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		if (ops[i].offset < 0 || ops[i].len > (size_t)SSIZE_MAX)
			return -EINVAL;
	return 0;
}

/* What the call returns: the first error in op order. */
static int first_error(enum batchio_kind kind, const struct batchio_op *ops, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (ops[i].result < 0)
			return (int)ops[i].result;
		if (kind == BATCHIO_READ && (size_t)ops[i].result < ops[i].len)
			return BATCHIO_EOF;
	}
	return 0;
}

static int run_batch(
	struct batchio *bio, enum batchio_kind kind, int fd, struct batchio_op *ops, size_t n)
{
	struct batch b = {.bio = bio, .kind = kind, .fd = fd};
	struct slot few[WINDOW_STACK], *many = NULL, *slots;
	size_t window = n < WINDOW_MAX ? n : WINDOW_MAX;
	int ret = check_ops(ops, n);

	if (ret < 0)
		return ret;
	if (window > WINDOW_STACK)
		many = malloc(window * sizeof(*many));
	slots = many ? many : few;
	if (!many && window > WINDOW_STACK) /* slower, but no reason to fail */
		window = WINDOW_STACK;
	for (size_t i = 0; i < n; i++)
		ops[i].result = -ECANCELED; /* stays where the backend is lost */
	b.next = ops;
	b.end = ops + n;
	for (size_t i = 0; i < window; i++)
		submit_slot(&b, &slots[i]);
	ret = wait_for(bio, &b.pending);
	free(many);
	return ret < 0 ? ret : first_error(kind, ops, n);
}

int batchio_pread_batch(struct batchio *bio, int fd, struct batchio_op *ops, size_t n)
{
	return run_batch(bio, BATCHIO_READ, fd, ops, n);
}

int batchio_pwrite_batch(struct batchio *bio, int fd, struct batchio_op *ops, size_t n)
{
	return run_batch(bio, BATCHIO_WRITE, fd, ops, n);
}

static int run_sync(struct batchio *bio, int fd, enum batchio_kind kind)
{
	size_t pending = 1;
	struct batchio_request req = {
		.kind = kind, .fd = fd, .done = single_done, .user = &pending};
	int ret;

	batchio_enqueue(bio, &req, 0);
	ret = wait_for(bio, &pending);
	return ret < 0 ? ret : (int)req.priv.result;
}

int batchio_fsync(struct batchio *bio, int fd)
{
	return run_sync(bio, fd, BATCHIO_FDATASYNC);
}

int batchio_fsync_full(struct batchio *bio, int fd)
{
	return run_sync(bio, fd, BATCHIO_FSYNC);
}

int batchio_linked_write_fsync(
	struct batchio *bio, int fd, const void *buf, size_t len, off_t offset)
{
	size_t pending = 2;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct batchio_request write = {
		.kind = BATCHIO_WRITE,
		.flags = BATCHIO_LINK,
		.fd = fd,
		.iov = &iov,
		.iovcnt = 1,
		.offset = offset,
		.done = single_done,
		.user = &pending,
	};
	struct batchio_request sync = {
		.kind = BATCHIO_FDATASYNC, .fd = fd, .done = single_done, .user = &pending};
	int ret;

	if (offset < 0 || len > (size_t)SSIZE_MAX)
		return -EINVAL;
	batchio_enqueue_pair(bio, &write, len, &sync);
	ret = wait_for(bio, &pending);
	if (ret < 0)
		return ret;
	return (int)(write.priv.result < 0 ? write.priv.result : sync.priv.result);
}
