/* SPDX-License-Identifier: MIT */
/*
 * The faulty backend; see faulty_backend.h. Written on the public calls of the inner handle: each
 * attempt that passes becomes a request of its own ("shadow") there. For tests.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "batchio/backend.h"
#include "faulty_backend.h"

struct faulty {
	struct faulty_config config;
	uint64_t attempts, random;
	struct shadow *ended; /* passed attempts that ended, newest first */
	unsigned nended;
	size_t npolls; /* passed and not ended */
};

struct shadow {
	struct batchio_request req; /* the inner handle's */
	struct batchio *bio; /* the outer handle */
	struct batchio_request *outer;
	ssize_t result;
	struct shadow *next;
	struct iovec iov[];
};

static uint64_t random_below(struct faulty *f, uint64_t n)
{
	/* xorshift64: any seed but 0 */
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random % n;
}

static void report(struct batchio *bio, struct batchio_request *req, ssize_t result)
{
	if (!batchio_request_result(bio, req, result))
		batchio_queue_push(&bio->queue, req);
}

static void shadow_done(struct batchio_request *req, ssize_t result)
{
	struct shadow *s = req->user;
	struct faulty *f = s->bio->backend;

	s->result = result;
	s->next = f->ended;
	f->ended = s;
	f->nended++;
}

/* Reports what ended: in order, or in the seed's. */
static void report_ended(struct faulty *f)
{
	while (f->ended) {
		struct shadow **at = &f->ended, *s;
		uint64_t skip = f->random ? random_below(f, f->nended) : f->nended - 1;

		while (skip--)
			at = &(*at)->next;
		s = *at;
		*at = s->next;
		f->nended--;
		f->npolls -= s->outer->kind == BATCHIO_POLL;
		report(s->bio, s->outer, s->result);
		free(s);
	}
}

/* A copy of req's next attempt for the inner handle, of its first `bytes` only. */
static struct shadow *make_shadow(
	struct batchio *bio, struct batchio_request *req, size_t bytes, unsigned drop_flags)
{
	int cnt = req->kind == BATCHIO_READ || req->kind == BATCHIO_WRITE ? batchio_iovcnt(req) : 0;
	struct shadow *s = calloc(1, sizeof(*s) + sizeof(struct iovec) * (size_t)cnt);
	int n = 0;

	if (!s)
		abort(); /* a test's machine is out of memory */
	for (; n < cnt; n++) {
		s->iov[n] = batchio_iov(req)[n];
		if (s->iov[n].iov_len > bytes)
			s->iov[n].iov_len = bytes;
		bytes -= s->iov[n].iov_len;
	}
	s->bio = bio;
	s->outer = req;
	s->req = (struct batchio_request){
		.kind = req->kind,
		.flags = req->flags & ~drop_flags,
		.fd = req->fd,
		.iov = s->iov,
		.iovcnt = cnt,
		.offset = cnt && !(req->flags & BATCHIO_STREAM) ? batchio_offset(req) : 0,
		.events = req->events,
		.done = shadow_done,
		.user = s,
	};
	return s;
}

static void pass(
	struct batchio *bio, struct batchio_request *req, size_t bytes, unsigned drop_flags)
{
	struct faulty *f = bio->backend;
	int ret = batchio_submit(f->config.inner, &make_shadow(bio, req, bytes, drop_flags)->req);

	assert(ret == 0);
	(void)ret;
	f->npolls += req->kind == BATCHIO_POLL;
}

static enum faulty_verdict judge(
	struct faulty *f, const struct batchio_request *req, struct faulty_fault *fault)
{
	struct faulty_attempt attempt = {
		.req = req,
		.offset = req->kind <= BATCHIO_WRITE ? batchio_offset(req) : 0,
		.len = req->priv.total - req->moved,
		.number = ++f->attempts,
	};
	enum faulty_verdict v;

	*fault = (struct faulty_fault){0};
	v = f->config.judge ? f->config.judge(f->config.user, &attempt, fault) : FAULTY_PASS;
	assert(v != FAULTY_SHORT || req->kind <= BATCHIO_WRITE);
	assert(v != FAULTY_SHORT || fault->bytes < attempt.len);
	assert(v != FAULTY_FAIL || fault->error < 0);
	return v;
}

/* Does what was judged of one attempt; only a passing write keeps its link. */
static void carry_out(struct batchio *bio, struct batchio_request *req, enum faulty_verdict verdict,
	const struct faulty_fault *fault, unsigned drop_flags)
{
	if (verdict == FAULTY_PASS)
		pass(bio, req, req->priv.total - req->moved, drop_flags);
	else if (verdict == FAULTY_SHORT && fault->bytes)
		pass(bio, req, fault->bytes, BATCHIO_LINK);
	else
		report(bio, req, verdict == FAULTY_FAIL ? fault->error : 0);
}

static void start_pair(
	struct batchio *bio, struct batchio_request *write, struct batchio_request *sync)
{
	struct faulty *f = bio->backend;
	struct faulty_fault write_fault, sync_fault;
	enum faulty_verdict write_verdict = judge(f, write, &write_fault), sync_verdict;

	if (write_verdict != FAULTY_PASS) {
		carry_out(bio, write, write_verdict, &write_fault, BATCHIO_LINK);
		report(bio, sync, -ECANCELED);
		return;
	}
	/* The inner handle must see both halves or no link. */
	sync_verdict = judge(f, sync, &sync_fault);
	carry_out(bio, write, FAULTY_PASS, NULL, sync_verdict == FAULTY_PASS ? 0 : BATCHIO_LINK);
	carry_out(bio, sync, sync_verdict, &sync_fault, 0);
}

static int faulty_start(struct batchio *bio)
{
	struct faulty *f = bio->backend;
	struct batchio_request *req;

	if (!f->config.inner) /* after faulty_cancel_waits() */
		return 0;
	while ((req = batchio_next(bio))) {
		struct faulty_fault fault;
		enum faulty_verdict verdict;

		if (batchio_is_pair(req)) {
			start_pair(bio, req, batchio_queue_pop(&bio->queue));
			continue;
		}
		verdict = judge(f, req, &fault);
		carry_out(bio, req, verdict, &fault, BATCHIO_LINK);
	}
	return batchio_flush(f->config.inner);
}

static int faulty_reap(struct batchio *bio, unsigned want, int timeout_ms)
{
	struct faulty *f = bio->backend;
	int64_t deadline = batchio_deadline(timeout_ms);
	int ret;

	while (f->config.inner) {
		size_t missing;

		ret = faulty_start(bio);
		if (ret < 0)
			return ret;
		missing = want > bio->done.count ? want - bio->done.count : 0;
		ret = batchio_reap(f->config.inner, (unsigned)missing, batchio_left_ms(deadline));
		report_ended(f);
		if (ret < 0)
			return ret;
		if (bio->done.count >= want || (ret == 0 && !bio->queue.count))
			return 0;
	}
	return 0;
}

/*
 * The inner handle cancels its polls only by being closed, so all else has to end first.
 */
static void faulty_cancel_waits(struct batchio *bio)
{
	struct faulty *f = bio->backend;

	while (bio->inflight - bio->done.count > f->npolls)
		if (faulty_reap(bio, (unsigned)bio->done.count + 1, -1) < 0)
			break;
	batchio_close(f->config.inner);
	f->config.inner = NULL;
	report_ended(f);
}

static void faulty_destroy(struct batchio *bio)
{
	struct faulty *f = bio->backend;

	batchio_close(f->config.inner);
	free(f);
}

static const struct batchio_ops faulty_ops = {
	.name = "faulty",
	.start = faulty_start,
	.reap = faulty_reap,
	.cancel_waits = faulty_cancel_waits,
	.destroy = faulty_destroy,
};

struct batchio *faulty_backend_new(const struct faulty_config *config, struct batchio_error *error)
{
	struct faulty *f = calloc(1, sizeof(*f));
	struct batchio *bio = NULL;

	if (f) {
		f->config = *config;
		f->random = config->seed;
		bio = batchio_new_backend(&faulty_ops, f, error);
	} else {
		batchio_fail(error, -ENOMEM, "out of memory for a faulty backend");
	}
	if (bio)
		return bio;
	batchio_close(config->inner);
	free(f);
	return NULL;
}

enum faulty_verdict faulty_judge_nth(
	void *nth, const struct faulty_attempt *attempt, struct faulty_fault *fault)
{
	struct faulty_nth *n = nth;
	const struct batchio_request *req = attempt->req;

	if (n->kinds && !(n->kinds & (1u << req->kind)))
		return FAULTY_PASS;
	if (n->fd >= 0 && n->fd != req->fd)
		return FAULTY_PASS;
	if (n->to && req->kind <= BATCHIO_WRITE &&
		(attempt->offset >= n->to || attempt->offset + (off_t)attempt->len <= n->from))
		return FAULTY_PASS;
	n->seen++;
	if (n->seen < n->first || (n->count && n->seen >= n->first + n->count))
		return FAULTY_PASS;
	*fault = n->fault;
	return n->verdict;
}
