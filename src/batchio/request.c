/* SPDX-License-Identifier: MIT */
/*
 * The life of a request between submission and done(): queues, short transfers, retries, linked
 * pairs. Called by the front end and by every backend, so that all keep one contract.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "batchio/backend.h"

/*
 * EAGAIN is retried because io_uring gives it for want of memory or of request slots. On a
 * non-blocking descriptor it would never end, hence a bound.
 */
#define RETRIES_MAX 1000

void batchio_queue_push(struct batchio_queue *q, struct batchio_request *req)
{
	req->priv.next = NULL;
	if (q->tail)
		q->tail->priv.next = req;
	else
		q->head = req;
	q->tail = req;
	q->count++;
}

struct batchio_request *batchio_queue_pop(struct batchio_queue *q)
{
	struct batchio_request *req = q->head;

	if (!req)
		return NULL;
	q->head = req->priv.next;
	if (!q->head)
		q->tail = NULL;
	q->count--;
	req->priv.next = NULL;
	return req;
}

int64_t batchio_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int batchio_left_ms(int64_t deadline)
{
	int64_t left;

	if (deadline < 0)
		return -1;
	left = deadline - batchio_now_ms();
	return left > 0 ? (int)left : 0;
}

void batchio_pause(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

void batchio_request_begin(struct batchio_request *req, size_t total)
{
	req->moved = 0;
	memset(&req->priv, 0, sizeof(req->priv));
	req->priv.total = total;
}

static void count_end(struct batchio *bio, const struct batchio_request *req, ssize_t result)
{
	struct batchio_tally *t = &bio->tally;

	/* Its result is the device's word, not how an operation went. */
	if (batchio_is_command(req))
		return;
	switch (req->kind) {
	case BATCHIO_READ:
		batchio_count(&t->reads, 1);
		break;
	case BATCHIO_WRITE:
		batchio_count(&t->writes, !(req->flags & BATCHIO_STREAM));
		break;
	case BATCHIO_FDATASYNC:
	case BATCHIO_FSYNC:
		batchio_count(&t->syncs, result != -ECANCELED);
		break;
	case BATCHIO_POLL:
		break;
	}
	if (req->priv.state & BATCHIO_S_RING)
		batchio_count(&t->ring_ops, 1);
	else if (req->kind != BATCHIO_POLL && result != -ECANCELED)
		batchio_count(&t->inline_ops, 1);
	batchio_count(&t->errors, result < 0);
}

static bool sync_result(struct batchio *bio, struct batchio_request *req, ssize_t result);

/* The write of a pair has ended, so its sync can be judged. The write may be gone after this. */
static void settle_pair(struct batchio *bio, struct batchio_request *write, bool whole)
{
	struct batchio_request *sync = write->priv.pair;

	write->priv.pair = NULL;
	sync->priv.pair = NULL;
	if (!whole)
		sync->priv.state |= BATCHIO_S_CANCEL;
	else if (write->priv.state & BATCHIO_S_BROKEN)
		sync->priv.state |= BATCHIO_S_AGAIN;
	if (!(sync->priv.state & BATCHIO_S_WAITING))
		return;
	sync->priv.state &= ~BATCHIO_S_WAITING;
	if (!sync_result(bio, sync, sync->priv.result))
		batchio_queue_push(&bio->queue, sync);
}

static bool end_request(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	count_end(bio, req, result);
	free(req->priv.rest);
	req->priv.rest = NULL;
	req->priv.result = result;
	batchio_queue_push(&bio->done, req); /* before its sync, which may end in settle_pair() */
	if (req->kind == BATCHIO_WRITE && req->priv.pair)
		settle_pair(bio, req, result >= 0);
	return true;
}

struct batchio_request *batchio_next(struct batchio *bio)
{
	struct batchio_request *req;

	while ((req = batchio_queue_pop(&bio->queue))) {
		if (!(req->priv.state & BATCHIO_S_CANCEL))
			return req;
		end_request(bio, req, -ECANCELED);
	}
	return NULL;
}

/* The attempt came to nothing or not to all; the request is to be attempted again. */
static bool again(struct batchio_request *req)
{
	req->priv.state |= BATCHIO_S_BROKEN; /* whatever was linked behind it has been cut off */
	return false;
}

static bool retry(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	/* A signal is bound to pass, but a kernel that says EAGAIN may say so for ever. */
	if (result == -EAGAIN && ++req->priv.retries > RETRIES_MAX)
		return end_request(bio, req, result);
	return again(req);
}

/* Makes priv.rest what is left after n more bytes. Returns 0 or -ENOMEM. */
static int advance(struct batchio_request *req, size_t n)
{
	struct iovec *rest = req->priv.rest;
	const struct iovec *iov = batchio_iov(req);
	int cnt = batchio_iovcnt(req), skip = 0;

	while (skip < cnt && n >= iov[skip].iov_len)
		n -= iov[skip++].iov_len;
	assert(skip < cnt);
	cnt -= skip;
	if (rest) {
		memmove(rest, rest + skip, sizeof(*rest) * (size_t)cnt);
	} else {
		rest = malloc(sizeof(*rest) * (size_t)cnt);
		if (!rest)
			return -ENOMEM;
		memcpy(rest, iov + skip, sizeof(*rest) * (size_t)cnt);
	}
	rest[0].iov_base = (char *)rest[0].iov_base + n;
	rest[0].iov_len -= n;
	req->priv.rest = rest;
	req->priv.restcnt = cnt;
	return 0;
}

/*
 * A direct read cut short by the end of the file leaves a rest that is not aligned, for which some
 * file systems say EINVAL instead of "nothing there".
 */
static bool is_direct_eof(const struct batchio_request *req, ssize_t result)
{
	struct stat st;

	return result == -EINVAL && req->kind == BATCHIO_READ && req->moved > 0 &&
	       !fstat(req->fd, &st) && batchio_offset(req) >= st.st_size;
}

static bool transfer_result(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	size_t left = req->priv.total - req->moved;

	if (result == -EINTR || result == -EAGAIN)
		return retry(bio, req, result);
	if (is_direct_eof(req, result))
		result = 0;
	if (result < 0)
		return end_request(bio, req, result);
	if (result == 0 && left > 0) /* a write that gets nowhere would be repeated for ever */
		return end_request(
			bio, req, req->kind == BATCHIO_READ ? (ssize_t)req->moved : -EIO);
	assert((size_t)result <= left);
	if ((size_t)result == left) {
		req->moved += left;
		return end_request(bio, req, (ssize_t)req->moved);
	}
	result = advance(req, (size_t)result) ? -ENOMEM : result;
	if (result < 0)
		return end_request(bio, req, result);
	req->moved += (size_t)result;
	req->priv.retries = 0;
	batchio_count(&bio->tally.continued, 1);
	return again(req);
}

/* One writev, reported as it came: a reader of a stream tells the pieces apart. */
static bool stream_result(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	if (result == -EINTR)
		return false;
	req->moved = result > 0 ? (size_t)result : 0;
	return end_request(bio, req, result);
}

static bool sync_result(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	unsigned state = req->priv.state;

	if (req->priv.pair) {
		req->priv.result = result;
		req->priv.state |= BATCHIO_S_WAITING;
		return true;
	}
	req->priv.state &= ~(BATCHIO_S_AGAIN | BATCHIO_S_LINKED);
	if (state & BATCHIO_S_CANCEL)
		return end_request(bio, req, -ECANCELED);
	if (state & BATCHIO_S_AGAIN)
		return false;
	/* Its write is whole, yet the chain was cut: it is owed a sync of its own. */
	if (result == -ECANCELED && (state & BATCHIO_S_LINKED))
		return false;
	if (result == -EINTR || result == -EAGAIN)
		return retry(bio, req, result);
	return end_request(bio, req, result);
}

bool batchio_request_result(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	if (batchio_is_command(req))
		return end_request(bio, req, result);
	switch (req->kind) {
	case BATCHIO_READ:
	case BATCHIO_WRITE:
		if (req->flags & BATCHIO_STREAM)
			return stream_result(bio, req, result);
		return transfer_result(bio, req, result);
	case BATCHIO_FDATASYNC:
	case BATCHIO_FSYNC:
		return sync_result(bio, req, result);
	case BATCHIO_POLL:
		return result == -EINTR ? false : end_request(bio, req, result);
	}
	return end_request(bio, req, -EINVAL);
}
