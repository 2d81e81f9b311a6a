/* SPDX-License-Identifier: MIT */
/*
 * The public face of libbatchio: checks every request once for all backends, queues it, hands it to
 * the backend and calls done(). The blocking calls are in blocking.c, on top of this.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batchio/backend.h"

/* ---- errors ---- */

void *batchio_fail(struct batchio_error *error, int code, const char *format, ...)
{
	va_list args;

	if (!error)
		return NULL;
	error->code = code;
	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return NULL;
}

char *batchio_strerror(int code, char *buf, size_t size)
{
	if (size == 0)
		return buf;
	if (code == BATCHIO_EOF)
		snprintf(buf, size, "end of file before the wanted length");
	else if (code == BATCHIO_EURINGUNAVAILABLE)
		snprintf(buf, size, "io_uring is not available");
	else if (code >= 0)
		snprintf(buf, size, "no error");
	else
		/* strerrordesc_np: no static buffer, unlike strerror() */
		snprintf(buf, size, "%s", strerrordesc_np(-code) ?: "unknown error");
	return buf;
}

/* ---- handles ---- */

struct batchio *batchio_new_backend(
	const struct batchio_ops *ops, void *backend, struct batchio_error *error)
{
	struct batchio *bio;

	if (!ops || !ops->name || !ops->start || !ops->reap || !ops->destroy)
		return batchio_fail(error, -EINVAL, "backend %s lacks a required callback",
			ops && ops->name ? ops->name : "(no name)");
	bio = calloc(1, sizeof(*bio));
	if (!bio)
		return batchio_fail(error, -ENOMEM, "out of memory for a batchio handle");
	bio->ops = ops;
	bio->backend = backend;
	if (error)
		*error = (struct batchio_error){0};
	return bio;
}

const char *batchio_backend_name(const struct batchio *bio)
{
	return bio->ops->name;
}

bool batchio_is_restricted(const struct batchio *bio)
{
	return bio->restricted;
}

size_t batchio_inflight(const struct batchio *bio)
{
	return bio->inflight;
}

void batchio_get_counters(const struct batchio *bio, struct batchio_counters *out)
{
	const struct batchio_tally *t = &bio->tally;

	*out = (struct batchio_counters){
		.enters = atomic_load_explicit(&t->enters, memory_order_relaxed),
		.syscalls = atomic_load_explicit(&t->syscalls, memory_order_relaxed),
		.ring_ops = atomic_load_explicit(&t->ring_ops, memory_order_relaxed),
		.inline_ops = atomic_load_explicit(&t->inline_ops, memory_order_relaxed),
		.reads = atomic_load_explicit(&t->reads, memory_order_relaxed),
		.writes = atomic_load_explicit(&t->writes, memory_order_relaxed),
		.syncs = atomic_load_explicit(&t->syncs, memory_order_relaxed),
		.linked = atomic_load_explicit(&t->linked, memory_order_relaxed),
		.continued = atomic_load_explicit(&t->continued, memory_order_relaxed),
		.errors = atomic_load_explicit(&t->errors, memory_order_relaxed),
	};
}

/* ---- submission ---- */

/* Sum of the iovecs, or -EINVAL where the kernel would refuse them. */
static ssize_t iov_total(const struct iovec *iov, int cnt)
{
	size_t total = 0;

	if (cnt < 1 || cnt > IOV_MAX || !iov)
		return -EINVAL;
	for (int i = 0; i < cnt; i++) {
		if (iov[i].iov_len > (size_t)SSIZE_MAX - total)
			return -EINVAL;
		total += iov[i].iov_len;
	}
	return (ssize_t)total;
}

/* Which flags make sense for which kind. The hints are allowed with all. */
static unsigned allowed_flags(enum batchio_kind kind)
{
	unsigned hints = BATCHIO_DIRECT | BATCHIO_MAYINLINE | BATCHIO_MAYWAIT;

	switch (kind) {
	case BATCHIO_WRITE:
		return hints | BATCHIO_DSYNC | BATCHIO_STREAM | BATCHIO_LINK;
	case BATCHIO_POLL:
		return hints | BATCHIO_EXCLUSIVE;
	default:
		return hints;
	}
}

/* Bytes wanted (0 where the kind has none), or -EINVAL. */
static ssize_t check_request(const struct batchio_request *req)
{
	const unsigned stream = BATCHIO_STREAM;

	if (!req->done || (unsigned)req->kind > BATCHIO_POLL ||
		(req->flags & ~allowed_flags(req->kind)))
		return -EINVAL;
	if ((req->flags & stream) && (req->flags & (BATCHIO_LINK | BATCHIO_DSYNC)))
		return -EINVAL;
	if (req->kind != BATCHIO_READ && req->kind != BATCHIO_WRITE)
		return 0;
	if (!(req->flags & stream) && req->offset < 0)
		return -EINVAL;
	return iov_total(req->iov, req->iovcnt);
}

/*
 * A full queue is started when one more comes, so that the device does not idle while the rest of
 * a large batch is made. Not before one more comes: what just fits goes out with the wait for it.
 * An error shows again at the next flush or reap.
 */
static void make_room(struct batchio *bio)
{
	if (bio->batch_max && bio->queue.count >= bio->batch_max)
		bio->ops->start(bio);
}

void batchio_enqueue(struct batchio *bio, struct batchio_request *req, size_t total)
{
	batchio_request_begin(req, total);
	bio->inflight++;
	if ((req->flags & BATCHIO_MAYWAIT) && bio->queue.count)
		bio->ops->start(bio);
	if ((req->flags & (BATCHIO_MAYINLINE | BATCHIO_MAYWAIT)) && bio->ops->try_inline &&
		bio->ops->try_inline(bio, req))
		return;
	make_room(bio);
	batchio_queue_push(&bio->queue, req);
}

static void queue_pair(
	struct batchio *bio, struct batchio_request *write, struct batchio_request *sync)
{
	write->priv.pair = sync;
	sync->priv.pair = write;
	sync->priv.state |= BATCHIO_S_LINKED;
	batchio_count(&bio->tally.linked, 1);
	make_room(bio);
	batchio_queue_push(&bio->queue, write); /* nothing is started between the two */
	batchio_queue_push(&bio->queue, sync);
}

void batchio_enqueue_pair(struct batchio *bio, struct batchio_request *write, size_t total,
	struct batchio_request *sync)
{
	batchio_request_begin(write, total);
	batchio_request_begin(sync, 0);
	bio->inflight += 2;
	queue_pair(bio, write, sync);
}

int batchio_submit(struct batchio *bio, struct batchio_request *req)
{
	ssize_t total = check_request(req);
	struct batchio_request *write = bio->held;

	if (total < 0)
		return (int)total;
	if (bio->closing)
		return -ECANCELED;
	if (write) {
		if (req->kind != BATCHIO_FDATASYNC && req->kind != BATCHIO_FSYNC)
			return -EINVAL;
		bio->held = NULL;
		batchio_request_begin(req, 0);
		bio->inflight++;
		queue_pair(bio, write, req);
	} else if (req->flags & BATCHIO_LINK) {
		batchio_request_begin(req, (size_t)total);
		bio->inflight++;
		bio->held = req; /* until its sync comes: queued alone it would go out alone */
	} else {
		batchio_enqueue(bio, req, (size_t)total);
	}
	return 0;
}

int batchio_submit_command(struct batchio *bio, struct batchio_command *command)
{
	struct batchio_request *req = &command->request;

	if (!bio->commands)
		return -ENOTSUP;
	if (!req->done || command->length > BATCHIO_ARGUMENT_MAX || bio->held)
		return -EINVAL;
	if (bio->closing)
		return -ECANCELED;
	req->kind = (enum batchio_kind)BATCHIO_COMMAND;
	batchio_enqueue(bio, req, 0);
	return 0;
}

bool batchio_has_news(struct batchio *bio)
{
	return bio->done.count || (bio->ops->has_news && bio->ops->has_news(bio));
}

int batchio_flush(struct batchio *bio)
{
	return bio->queue.count ? bio->ops->start(bio) : 0;
}

/* ---- completion ---- */

/* Only what has ended by now: done() may end more, which the next reap reports. */
static int run_done(struct batchio *bio)
{
	struct batchio_queue ended = bio->done;
	struct batchio_request *req;
	int n = 0;

	bio->done = (struct batchio_queue){0};
	bio->reaping = true;
	while ((req = batchio_queue_pop(&ended))) {
		bio->inflight--;
		n++;
		req->done(req, req->priv.result);
	}
	bio->reaping = false;
	return n;
}

int batchio_reap(struct batchio *bio, unsigned min, int timeout_ms)
{
	size_t can_end = bio->inflight - (bio->held ? 1 : 0);
	int ret, n;

	if (bio->reaping)
		return -EDEADLK;
	if (!can_end)
		return 0;
	if (min > can_end)
		min = (unsigned)can_end;
	ret = bio->ops->reap(bio, timeout_ms ? min : 0, timeout_ms);
	n = run_done(bio);
	return n ? n : ret;
}

/* Polls and commands that were never started end here; all else is started and waited for. */
static void cancel_queued_waits(struct batchio *bio)
{
	struct batchio_queue queue = bio->queue;
	struct batchio_request *req;

	bio->queue = (struct batchio_queue){0};
	while ((req = batchio_queue_pop(&queue))) {
		if (batchio_is_wait(req))
			batchio_request_result(bio, req, -ECANCELED);
		else
			batchio_queue_push(&bio->queue, req);
	}
}

void batchio_close(struct batchio *bio)
{
	if (!bio)
		return;
	bio->closing = true;
	if (bio->held) /* its sync never came */
		batchio_queue_push(&bio->queue, bio->held);
	bio->held = NULL;
	cancel_queued_waits(bio);
	if (bio->ops->cancel_waits)
		bio->ops->cancel_waits(bio);
	while (bio->inflight) {
		int n = batchio_reap(bio, 1, -1);

		if (n >= 0)
			continue;
		if (n != -EAGAIN && n != -EBUSY && n != -ENOMEM)
			break; /* the backend is lost, see batchio_ops.reap */
		batchio_pause();
	}
	bio->ops->destroy(bio);
	free(bio);
}
