/* SPDX-License-Identifier: MIT */
/*
 * What is right, at every step: the rules of the coalescer said again as plainly as possible, by
 * looking at all ops, without any of its indexes. Called by world.c and seam.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sim.h"

bool fail(struct world *w, const char *format, ...)
{
	va_list args;

	if (w->why[0])
		return false;
	va_start(args, format);
	vsnprintf(w->why, sizeof(w->why), format, args);
	va_end(args);
	return false;
}

void trace(struct world *w, const char *format, ...)
{
	va_list args;

	if (!w->verbose)
		return;
	printf("# %4u ", w->clock);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

const char *describe(const struct sim_op *op, char *buf, size_t size)
{
	static const char *const names[] = {"read", "write", "sync"};

	if (op->kind == CO_SYNC)
		snprintf(buf, size, "#%u %s", op->id, op->full ? "full sync" : "sync");
	else
		snprintf(buf, size, "#%u %s%s [%u,%u) class %u", op->id,
			op->append ? "appending " : "", names[op->kind], op->offset,
			op->offset + op->len, op->klass);
	return buf;
}

void model_start(struct world *w)
{
	w->answered_size = w->first_size;
}

/* ---- order ---- */

static bool conflict(const struct sim_op *a, const struct sim_op *b)
{
	if (a->kind == CO_SYNC || b->kind == CO_SYNC)
		return false;
	if (a->append || b->append)
		return true;
	if (a->kind == CO_READ && b->kind == CO_READ)
		return false;
	return a->len && b->len && a->offset < b->offset + b->len && b->offset < a->offset + a->len;
}

static bool in_call(const struct co_call *call, const struct sim_op *op)
{
	struct list *node;

	list_for_each (node, &call->ops)
		if (sim_op_of(node) == op)
			return true;
	return false;
}

/* The first live op, outside the call, that this one must wait for. */
static struct sim_op *blocker(
	const struct world *w, const struct sim_op *op, const struct co_call *call)
{
	for (unsigned i = 0; i < w->n_live && w->live[i]->id < op->id; i++)
		if (conflict(w->live[i], op) && !(call && in_call(call, w->live[i])))
			return w->live[i];
	return NULL;
}

/* ---- a call begins ---- */

static bool check_data_op(struct world *w, const struct co_call *call, const struct sim_op *op,
	const struct sim_op *last)
{
	const struct sim_op *other = blocker(w, op, call);
	enum co_kind kind = call->kind == CO_READ ? CO_READ : CO_WRITE;

	if (op->inflight || op->answered)
		return fail(w, "#%u is in a second call", op->id);
	if (op->kind != kind || op->append != call->append || op->klass != call->klass)
		return fail(w, "#%u is not of the kind or class of its call", op->id);
	if (op->must_alone && call->n > 1)
		return fail(w, "#%u is merged again after a failed call", op->id);
	if (other)
		return fail(w, "#%u overtakes #%u", op->id, other->id);
	if (last && last->offset + last->len != op->offset)
		return fail(w, "#%u is not adjacent to #%u", op->id, last->id);
	if (last && call->append && last->id > op->id)
		return fail(w, "#%u is appended behind #%u", op->id, last->id);
	return true;
}

static bool check_data(struct world *w, struct co_call *call)
{
	const struct sim_op *last = NULL;
	struct list *node;
	unsigned n = 0, len = 0;

	list_for_each (node, &call->ops) {
		struct sim_op *op = sim_op_of(node);

		if (!check_data_op(w, call, op, last))
			return false;
		if (!last && call->offset - w->p.base != op->offset)
			return fail(w, "call does not begin where #%u does", op->id);
		n++;
		len += op->len;
		last = op;
	}
	if (n != call->n || len != call->len || n == 0)
		return fail(
			w, "call counts %u ops, %zu cells, has %u, %u", call->n, call->len, n, len);
	if (n > 1 && (n > w->limits.max_ops || len > w->limits.max_bytes))
		return fail(w, "call of %u ops, %u cells is over the limits", n, len);
	return true;
}

static bool check_syncs(struct world *w, struct co_call *call)
{
	bool full = false;
	struct list *node;
	unsigned n = 0;

	for (unsigned i = 0; i < w->n_flights; i++)
		if (!list_empty(&w->flights[i].call->syncs))
			return fail(w, "two flushes at once");
	list_for_each (node, &call->syncs) {
		struct sim_op *op = sim_op_of(node);

		if (op->kind != CO_SYNC || op->inflight || op->answered)
			return fail(w, "#%u is not a waiting sync", op->id);
		full |= op->full;
		n++;
	}
	if (full != call->full)
		return fail(w, "flush %s full", call->full ? "is needlessly" : "should be");
	for (unsigned i = 0; i < w->n_live; i++)
		n -= w->live[i]->kind == CO_SYNC && !w->live[i]->inflight;
	if (n != 0)
		return fail(w, "a waiting sync was not taken along");
	return true;
}

static bool flush_inflight(const struct world *w)
{
	for (unsigned i = 0; i < w->n_flights; i++)
		if (!list_empty(&w->flights[i].call->syncs))
			return true;
	return false;
}

static bool could_join(const struct world *w, const struct co_call *call, const struct sim_op *op)
{
	struct sim_op *head = sim_op_of(call->ops.next), *tail = sim_op_of(call->ops.prev);
	bool behind = tail->offset + tail->len == op->offset;
	bool before = op->offset + op->len == head->offset && !op->append;

	if (call->n >= w->limits.max_ops || call->len + op->len > w->limits.max_bytes)
		return false;
	return op->kind == head->kind && op->klass == head->klass && op->append == head->append &&
	       !op->must_alone && !head->must_alone && op->len && head->len && (behind || before);
}

static unsigned first_id(const struct co_call *call)
{
	unsigned id = UINT32_MAX;
	struct list *node;

	list_for_each (node, &call->ops)
		if (sim_op_of(node)->id < id)
			id = sim_op_of(node)->id;
	return id;
}

/* Nothing that belongs into the call was left out of it. */
static bool check_greed(struct world *w, const struct co_call *call)
{
	unsigned first = first_id(call);

	for (unsigned i = 0; i < w->n_live; i++) {
		const struct sim_op *op = w->live[i];

		if (op->kind == CO_SYNC || op->inflight || in_call(call, op))
			continue;
		if (op->id < first && !blocker(w, op, NULL))
			return fail(w, "#%u could go before #%u", op->id, first);
		if (could_join(w, call, op) && !blocker(w, op, call))
			return fail(w, "#%u could join the call of #%u", op->id, first);
	}
	return true;
}

/* Rule 5: a write goes out with the syncs exactly if it is the last one that can go, and one came
 * after. */
static bool check_pair(struct world *w, const struct co_call *call)
{
	bool other_write = false, sync_behind = false;
	unsigned first = first_id(call);
	bool alone = sim_op_of(call->ops.next)->must_alone;

	if (call->kind == CO_READ)
		return true;
	for (unsigned i = 0; i < w->n_live; i++) {
		const struct sim_op *op = w->live[i];

		if (op->kind == CO_SYNC)
			sync_behind |= !op->inflight && op->id > first;
		else if (op->kind == CO_WRITE && !op->inflight && !in_call(call, op))
			other_write |= !blocker(w, op, NULL);
	}
	if (sync_behind && !other_write && !alone && !flush_inflight(w)) {
		if (call->kind != CO_WRITE_SYNC)
			return fail(w, "write #%u should go out with its sync", first);
	} else if (call->kind == CO_WRITE_SYNC) {
		return fail(w, "write #%u should not be paired", first);
	}
	return true;
}

/* Where no data call is taken, no data op can go. */
static bool check_rest(struct world *w, const struct co_call *call)
{
	for (unsigned i = 0; i < w->n_live; i++) {
		const struct sim_op *op = w->live[i];

		if (op->kind != CO_SYNC && !op->inflight && !blocker(w, op, NULL))
			return fail(w, "#%u could go, but was not taken", op->id);
		if (op->kind == CO_SYNC && !op->inflight && !call && !flush_inflight(w))
			return fail(w, "sync #%u could go, but was not taken", op->id);
	}
	return true;
}

bool model_take(struct world *w, struct co_call *call)
{
	bool data = call && call->kind != CO_SYNC;
	bool syncs = call && (call->kind == CO_SYNC || call->kind == CO_WRITE_SYNC);
	struct list *node;

	if (!data && !check_rest(w, call))
		return false;
	if (!call)
		return true;
	if (data && !(check_data(w, call) && check_greed(w, call) && check_pair(w, call)))
		return false;
	if (!data && (call->n || call->len || !list_empty(&call->ops)))
		return fail(w, "a flush with data");
	if (!syncs && !list_empty(&call->syncs))
		return fail(w, "a data call with syncs");
	if (syncs && !check_syncs(w, call))
		return false;
	list_for_each (node, &call->ops)
		sim_op_of(node)->inflight = true;
	list_for_each (node, &call->syncs)
		sim_op_of(node)->inflight = true;
	return true;
}

/* ---- arrival and answer ---- */

void model_arrive(struct world *w, struct sim_op *op)
{
	op->arrived = w->clock;
	op->size_at_arrival = w->answered_size;
	w->live[w->n_live++] = op;
}

static void forget(struct world *w, const struct sim_op *op)
{
	unsigned i = 0;

	while (w->live[i] != op)
		i++;
	memmove(&w->live[i], &w->live[i + 1], (w->n_live - i - 1) * sizeof(w->live[0]));
	w->n_live--;
}

/* A write answered before the sync came that no flush of its kind has covered, or NULL. */
static const struct sim_op *not_durable(const struct world *w, const struct sim_op *sync)
{
	for (unsigned i = 0; i < w->n_ops; i++) {
		const struct sim_op *op = &w->ops[i];

		if (op->kind == CO_WRITE && op->answered && op->answered < sync->arrived &&
			op->ran && !(sync->full ? op->durable_full : op->durable))
			return op;
	}
	return NULL;
}

/* The same of all that are answered by now, or have run and failed in part. */
static bool any_not_durable(const struct world *w, const struct sim_op *sync)
{
	for (unsigned i = 0; i < w->n_ops; i++) {
		const struct sim_op *op = &w->ops[i];

		if (op->kind == CO_WRITE && op->answered &&
			(op->ran == 0 || !(sync->full ? op->durable_full : op->durable) ||
				op->answered >= (sync->full ? w->good_full_flush : w->good_flush)))
			return true;
	}
	return false;
}

/* All changes but writes are covered by a good flush of the sync's kind (rule 6). */
static bool clean(const struct world *w, const struct sim_op *sync)
{
	unsigned flush = sync->full ? w->good_full_flush : w->good_flush;

	return w->p.exclusive && flush > w->changed;
}

static bool check_sync_answer(struct world *w, const struct sim_op *sync)
{
	const struct sim_op *op;
	unsigned flush = sync->full ? w->good_full_flush : w->good_flush;
	int error = sync->must_fail ? sync->must_fail : w->failed;

	if (sync->result != 0 && !error)
		return fail(w, "sync #%u fails without a reason", sync->id);
	if (sync->result != 0 && sync->result != error)
		return fail(w, "sync #%u is answered %zd, not %d", sync->id, sync->result, error);
	if (sync->result != 0)
		return true;
	if (error)
		return fail(w, "sync #%u succeeds on a failed file", sync->id);
	if (flush <= sync->arrived && !clean(w, sync) && !(sync->shares && flush >= sync->shares))
		return fail(w, "sync #%u is answered without a %sflush that began after it",
			sync->id, sync->full ? "full " : "");
	op = not_durable(w, sync);
	if (op)
		return fail(w, "sync #%u is answered, write #%u is not durable", sync->id, op->id);
	return true;
}

/* The flush in flight that was taken after everything the sync has to see to, or NULL. */
static const struct flight *sharable(const struct world *w, const struct sim_op *sync)
{
	const struct flight *flush = NULL;

	for (unsigned i = 0; i < w->n_flights; i++)
		if (w->flights[i].call->kind == CO_SYNC)
			flush = &w->flights[i];
	if (!flush || !w->p.exclusive || w->failed || w->changed >= flush->taken ||
		(sync->full && !flush->call->full))
		return NULL;
	for (unsigned i = 0; i < w->n_ops; i++)
		if (w->ops[i].kind == CO_WRITE && w->ops[i].answered >= flush->taken)
			return NULL;
	return flush;
}

/* Rule 6 is kept, too: what could be answered at once, or share a flush, is not kept waiting. */
bool model_sync_waits(struct world *w, struct sim_op *op)
{
	const struct flight *flush = op->kind == CO_SYNC ? sharable(w, op) : NULL;

	if (op->kind != CO_SYNC)
		return true;
	if (!w->failed && clean(w, op) && !any_not_durable(w, op))
		return fail(w, "sync #%u waits, and nothing has changed", op->id);
	if (op->inflight && !flush)
		return fail(w, "sync #%u shares a flush that began too early", op->id);
	if (!op->inflight && flush)
		return fail(w, "sync #%u waits, and could share the flush in flight", op->id);
	op->shares = flush ? flush->taken : 0;
	return true;
}

void model_changed(struct world *w)
{
	w->changed = w->clock;
}

/* Its own bytes, or its own error. What the bytes are is for the replay. */
static bool check_data_answer(struct world *w, const struct sim_op *op)
{
	ssize_t want = op->len;

	if (!op->ran)
		return fail(w, "#%u is answered before it ran", op->id);
	if (op->fate == FATE_FAILS)
		want = op->good ? (ssize_t)op->good : FATE_ERROR(op->id);
	if (op->fate == FATE_SHORT)
		want = op->good;
	if (op->result == want)
		return true;
	/* An end of file; the replay knows whether it could be. */
	if (op->kind == CO_READ && op->result >= 0 && (want < 0 || op->result < want))
		return true;
	if (op->append && op->must_alone && op->result > 0 && op->result == (ssize_t)op->placed)
		return true;
	return fail(w, "#%u is answered %zd, not %zd", op->id, op->result, want);
}

bool model_answer(struct world *w, struct sim_op *op, ssize_t result)
{
	if (op->answered)
		return fail(w, "#%u is answered twice", op->id);
	op->result = result;
	op->answered = w->clock;
	op->inflight = false;
	forget(w, op);
	trace(w, "answer: #%u %zd", op->id, result);
	if (op->kind == CO_WRITE && result > 0) {
		unsigned end = (op->append ? op->landed : op->offset) + (unsigned)result;

		if (end > w->answered_size)
			w->answered_size = end;
	}
	return op->kind == CO_SYNC ? check_sync_answer(w, op) : check_data_answer(w, op);
}

/* ---- flushes, failure, openers (rule 7) ---- */

void model_failure(struct world *w, int error)
{
	if (!w->failed)
		w->failed = error;
	w->changed = w->clock;
	for (unsigned i = 0; i < w->n_live; i++)
		if (w->live[i]->kind == CO_SYNC && !w->live[i]->must_fail)
			w->live[i]->must_fail = w->failed;
}

/* After a call's answers: a sync that can only fail is not kept waiting for another flush. */
bool model_flush_told(struct world *w, enum co_kind kind, int result)
{
	bool cancelled = kind == CO_WRITE_SYNC && result == -ECANCELED;

	for (unsigned i = 0; i < w->n_live && result; i++) {
		const struct sim_op *op = w->live[i];

		if (op->kind != CO_SYNC)
			continue;
		if (!cancelled || (w->failed && op->flushed == w->clock))
			return fail(w, "sync #%u is not told of the failure", op->id);
	}
	return true;
}

void model_flush_ended(struct world *w, const struct flight *flight)
{
	int result = flight->outcome.sync;

	if (flight->call->kind == CO_WRITE_SYNC && result == -ECANCELED)
		return;
	if (result != 0) {
		model_failure(w, result);
		return;
	}
	if (flight->flush_start > w->good_flush)
		w->good_flush = flight->flush_start;
	if (flight->call->full && flight->flush_start > w->good_full_flush)
		w->good_full_flush = flight->flush_start;
}

void model_open(struct sim_opener *opener)
{
	opener->open = true;
}

void model_close(struct world *w, struct sim_opener *opener)
{
	bool others = false;

	opener->open = false;
	for (unsigned i = 0; i < MAX_OPENERS; i++)
		others |= w->openers[i].open;
	/* Until then somebody may have it open who was told. */
	if (!others)
		w->failed = 0;
}

bool model_end(struct world *w)
{
	if (w->n_live)
		return fail(w, "#%u is never answered", w->live[0]->id);
	if (!co_idle(&w->file))
		return fail(w, "something is left in the queue");
	return replay(w);
}
