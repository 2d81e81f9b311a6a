/* SPDX-License-Identifier: MIT */
/*
 * The per-file queue: what may be merged, ordered and shared. Contract and callers: coalesce.h.
 *
 * How order is kept (rule 2), in three parts, each cheap to look up:
 *  - a plain read or write counts its blockers, the earlier unfinished ones that it overlaps (one
 * of the two being a write), when it arrives; each of them takes itself off that count when it
 * finishes;
 *  - an appending write may start when everything that arrived before it has finished;
 *  - nothing may start that arrived after an unfinished appending write.
 * "Unfinished" counts what is in flight and what goes back to the queue after an error, so an op
 * that is run again keeps its place.
 */
#include "coalesce/coalesce.h"

#include <assert.h>
#include <errno.h>

#define op_of(pos)       list_entry(pos, struct co_op, node)
#define op_of_order(pos) list_entry(pos, struct co_op, order)
#define op_of_span(pos)  list_entry(pos, struct co_op, span)

void co_file_init(struct co_file *file, const struct co_limits *limits)
{
	assert(limits->max_ops >= 1);
	*file = (struct co_file){.limits = limits, .changes = 1};
	list_init(&file->order);
	list_init(&file->appends);
	list_init(&file->ready_reads);
	list_init(&file->ready_writes);
	list_init(&file->syncs);
	list_init(&file->inflight);
}

bool co_idle(const struct co_file *file)
{
	return list_empty(&file->order) && list_empty(&file->syncs) && list_empty(&file->inflight);
}

/* ---- openers and failure (rule 7) ---- */

void co_open(struct co_file *file)
{
	file->openers++;
}

/*
 * Who came after the failure has been told of it as well: were its next sync to succeed because the
 * others have gone, it would take the lost bytes for good.
 */
void co_close(struct co_file *file)
{
	assert(file->openers > 0);
	if (--file->openers == 0)
		file->failed = 0;
}

/* Each of the syncs will be answered with the failure. */
static void taint(struct list *syncs, int error)
{
	struct list *pos;

	list_for_each (pos, syncs)
		if (!op_of(pos)->sync_error)
			op_of(pos)->sync_error = error;
}

void co_fail(struct co_file *file, int error)
{
	struct list *pos;

	assert(error < 0);
	co_changed(file);
	if (!file->failed)
		file->failed = error;
	taint(&file->syncs, file->failed);
	list_for_each (pos, &file->inflight)
		taint(&list_entry(pos, struct co_call, node)->syncs, file->failed);
}

/* ---- arrival ---- */

/* By order of arrival. Most ops arrive, or come back, near the end. */
static void add_by_seq(struct list *list, struct co_op *op)
{
	struct list *pos = list;

	while (pos->prev != list && op_of(pos->prev)->seq > op->seq)
		pos = pos->prev;
	list_add_before(&op->node, pos);
}

static void make_ready(struct co_file *file, struct co_op *op)
{
	add_by_seq(op->kind == CO_READ ? &file->ready_reads : &file->ready_writes, op);
}

static bool conflict(const struct co_op *a, const struct co_op *b)
{
	return a->kind == CO_WRITE || b->kind == CO_WRITE;
}

static bool has_span(const struct co_op *op)
{
	return op->len > 0 && !op->append;
}

static bool count_blocker(struct span *node, void *arg)
{
	struct co_op *earlier = op_of_span(node);
	struct co_op *op = arg;

	if (conflict(earlier, op)) {
		earlier->blocking = true;
		op->blockers++;
	}
	return false;
}

static void find_blockers(struct co_file *file, struct co_op *op)
{
	/* Readers among themselves are the common case. */
	if (op->kind == CO_READ && file->unfinished_writes == 0)
		return;
	spans_find(&file->spans, op->span.start, op->span.end, count_blocker, op);
}

static void push_data(struct co_file *file, struct co_op *op)
{
	/* So offset + len never overflows. */
	assert(op->offset <= INT64_MAX && op->len <= INT64_MAX);
	assert(!op->append || op->kind == CO_WRITE);

	list_add_tail(&op->order, &file->order);
	list_init(&op->appends);
	if (op->append)
		list_add_tail(&op->appends, &file->appends);
	if (has_span(op)) {
		op->span.start = op->offset;
		op->span.end = op->offset + op->len;
		op->span.seq = op->seq;
		find_blockers(file, op);
		spans_insert(&file->spans, &op->span);
	}
	if (op->kind == CO_WRITE)
		file->unfinished_writes++;
	list_init(&op->node);
	if (op->blockers == 0)
		make_ready(file, op);
}

void co_changed(struct co_file *file)
{
	file->changes++;
}

/* So often in a row makes a habit: of a write or two, and of more, which often come in other
 * numbers (the kernel merges neighbours) and then cost a flush in vain. */
#define HABIT_FEW  2
#define HABIT_MANY 8

void co_habit_note(struct co_habit *habit, unsigned writes)
{
	if (writes != habit->usual)
		*habit = (struct co_habit){.usual = writes};
	else if (habit->streak < HABIT_MANY)
		habit->streak++;
}

/* The number is to be relied on. */
static bool habit_holds(const struct co_habit *habit)
{
	return habit->streak >= (habit->usual <= 2 ? HABIT_FEW : HABIT_MANY);
}

bool co_wants_flush(const struct co_file *file)
{
	return file->exclusive && habit_holds(&file->habit) && file->writes == file->habit.usual &&
	       file->unfinished_writes == 0 && !file->failed && !file->flush &&
	       list_empty(&file->syncs);
}

/* The flush in flight began after all that a sync arriving now has to see to (rule 6). */
static bool may_share(const struct co_file *file, const struct co_op *op)
{
	const struct co_call *flush = file->flush;

	return file->exclusive && flush && flush->kind == CO_SYNC &&
	       flush->covers == file->changes && (flush->full || !op->full);
}

/* Answers a sync that need not wait (rules 6 and 7). */
static bool push_sync(struct co_file *file, struct co_op *op)
{
	bool clean = file->exclusive &&
		     file->changes == (op->full ? file->clean_full : file->clean_data);

	if (!op->early && file->writes) {
		co_habit_note(&file->habit, file->writes);
		file->writes = 0;
	}
	if (file->failed || clean) {
		list_init(&op->node);
		op->result = file->failed;
		return false;
	}
	op->taken = may_share(file, op);
	list_add_tail(&op->node, op->taken ? &file->flush->syncs : &file->syncs);
	return true;
}

bool co_push(struct co_file *file, struct co_op *op)
{
	assert(op->kind == CO_READ || op->kind == CO_WRITE || op->kind == CO_SYNC);
	op->seq = file->next_seq++;
	op->alone = op->taken = op->blocking = false;
	op->blockers = 0;
	op->sync_error = 0;
	if (op->kind == CO_SYNC)
		return push_sync(file, op);
	push_data(file, op);
	return true;
}

/* ---- taking ---- */

/* May start now, as far as appending writes are concerned; blockers are looked at elsewhere. */
static bool in_turn(const struct co_file *file, const struct co_op *op)
{
	if (list_empty(&file->appends))
		return true;
	if (op->append)
		return file->order.next == &op->order;
	return op->seq < list_entry(file->appends.next, struct co_op, appends)->seq;
}

/*
 * The earliest op that may start, or NULL. Where the earliest ready one is not in turn, no later
 * one is: either it waits for an appending write, which those would wait for too, or it is one
 * itself.
 */
static struct co_op *earliest(const struct co_file *file)
{
	struct co_op *read = NULL, *write = NULL, *op;

	if (!list_empty(&file->ready_reads))
		read = op_of(file->ready_reads.next);
	if (!list_empty(&file->ready_writes))
		write = op_of(file->ready_writes.next);
	op = !read || (write && write->seq < read->seq) ? write : read;
	return op && in_turn(file, op) ? op : NULL;
}

static void begin_call(struct co_file *file, struct co_call *call, enum co_kind kind)
{
	*call = (struct co_call){.kind = kind};
	list_init(&call->ops);
	list_init(&call->syncs);
	list_add_tail(&call->node, &file->inflight);
}

/* Moves a ready op into the call, before `at`. */
static void take_op(struct co_call *call, struct co_op *op, struct list *at)
{
	assert(!op->taken && op->blockers == 0);
	op->taken = true;
	list_del(&op->node);
	list_add_before(&op->node, at);
	call->n++;
	call->len += op->len;
}

static bool may_join(const struct co_file *file, const struct co_call *call, const struct co_op *op)
{
	return !op->taken && !op->alone && op->blockers == 0 && op->kind == call->kind &&
	       op->klass == call->klass && op->append == call->append && op->len > 0 &&
	       op->len <= file->limits->max_bytes - call->len;
}

struct neighbour {
	const struct co_file *file;
	const struct co_call *call;
};

static bool begins_at_end(struct span *node, void *arg)
{
	struct neighbour *n = arg;

	return node->start == n->call->offset + n->call->len &&
	       may_join(n->file, n->call, op_of_span(node)) && in_turn(n->file, op_of_span(node));
}

static bool ends_at_front(struct span *node, void *arg)
{
	struct neighbour *n = arg;

	return node->end == n->call->offset && may_join(n->file, n->call, op_of_span(node)) &&
	       in_turn(n->file, op_of_span(node));
}

static bool grow_end(struct co_file *file, struct co_call *call)
{
	struct neighbour n = {file, call};
	uint64_t end = call->offset + call->len;
	struct span *found = spans_find(&file->spans, end, end + 1, begins_at_end, &n);

	if (!found)
		return false;
	take_op(call, op_of_span(found), &call->ops);
	return true;
}

static bool grow_front(struct co_file *file, struct co_call *call)
{
	struct neighbour n = {file, call};
	struct span *found;

	if (call->offset == 0)
		return false;
	found = spans_find(&file->spans, call->offset - 1, call->offset, ends_at_front, &n);
	if (!found)
		return false;
	take_op(call, op_of_span(found), call->ops.next);
	call->offset = found->start;
	return true;
}

/*
 * The call begins with the oldest unfinished op and holds what follows it without a gap, so the
 * next in order waits for nobody outside the call.
 */
static bool grow_append(struct co_file *file, struct co_call *call)
{
	struct co_op *last = op_of(call->ops.prev);
	struct co_op *next = op_of_order(last->order.next);

	if (last->order.next == &file->order || !may_join(file, call, next) ||
		next->offset != call->offset + call->len)
		return false;
	take_op(call, next, &call->ops);
	return true;
}

static bool grow(struct co_file *file, struct co_call *call)
{
	if (call->n >= file->limits->max_ops || call->len >= file->limits->max_bytes)
		return false;
	if (call->append)
		return grow_append(file, call);
	return grow_end(file, call) || grow_front(file, call);
}

static void add_syncs(struct co_file *file, struct co_call *call)
{
	struct list *pos;

	assert(!file->flush);
	file->flush = call;
	call->covers = file->changes;
	list_splice_tail(&file->syncs, &call->syncs);
	list_for_each (pos, &call->syncs)
		call->full |= op_of(pos)->full;
}

/*
 * A pair (rule 5): the last write that can go now takes the waiting syncs along, if one of them
 * came after it. `first` is the earliest op of the call.
 */
static bool wants_sync(const struct co_file *file, const struct co_op *first)
{
	const struct list *next = file->ready_writes.next;

	if (first->kind != CO_WRITE || first->alone || file->flush || list_empty(&file->syncs))
		return false;
	if (next != &file->ready_writes && in_turn(file, op_of(next)))
		return false;
	return op_of(file->syncs.prev)->seq > first->seq;
}

static struct co_call *take_data(struct co_file *file, struct co_op *first)
{
	struct co_call *call = &first->call;

	begin_call(file, call, first->kind);
	call->klass = first->klass;
	call->append = first->append;
	call->offset = first->offset;
	take_op(call, first, &call->ops);
	if (!first->alone && first->len > 0)
		while (grow(file, call))
			;
	if (wants_sync(file, first)) {
		call->kind = CO_WRITE_SYNC;
		add_syncs(file, call);
	}
	return call;
}

struct co_call *co_take(struct co_file *file)
{
	struct co_op *first = earliest(file);
	struct co_call *call;

	if (first)
		return take_data(file, first);
	if (file->flush || list_empty(&file->syncs))
		return NULL;
	call = &op_of(file->syncs.next)->call;
	begin_call(file, call, CO_SYNC);
	add_syncs(file, call);
	return call;
}

/* ---- completion ---- */

struct finished {
	struct co_file *file;
	const struct co_op *op;
};

static bool unblock(struct span *node, void *arg)
{
	struct finished *finished = arg;
	struct co_op *later = op_of_span(node);

	if (!conflict(later, finished->op))
		return false;
	/* Whatever came earlier and conflicts has finished, or this one could not have run. */
	assert(later->seq > finished->op->seq && later->blockers > 0 && !later->taken);
	if (--later->blockers == 0)
		make_ready(finished->file, later);
	return false;
}

static void answer_data(
	struct co_file *file, struct co_op *op, ssize_t result, struct list *answered)
{
	struct finished finished = {file, op};

	assert(op->taken && op->blockers == 0);
	assert(result <= 0 || (size_t)result <= op->len);
	list_del(&op->order);
	list_del(&op->appends);
	if (op->kind == CO_WRITE) {
		file->unfinished_writes--;
		file->writes++;
		/* Also a failed one: who knows what it wrote. */
		co_changed(file);
	}
	if (has_span(op)) {
		spans_remove(&file->spans, &op->span);
		if (op->blocking)
			spans_find(&file->spans, op->span.start, op->span.end, unblock, &finished);
	}
	op->taken = false;
	op->result = result;
	list_add_tail(&op->node, answered);
}

static void run_again(struct co_file *file, struct co_op *op)
{
	op->taken = false;
	op->alone = true;
	make_ready(file, op);
}

/* One of several ops of a call that an error stopped; it moved the first `part` bytes of this one.
 */
static void end_stopped(struct co_file *file, struct co_op *op, size_t part, struct list *answered)
{
	if (part == op->len || (op->append && part > 0))
		answer_data(file, op, (ssize_t)part, answered);
	else
		run_again(file, op);
}

static void end_data(struct co_file *file, struct list *ops, unsigned n,
	const struct co_outcome *outcome, struct list *answered)
{
	size_t left = outcome->moved;
	struct list *pos;

	while ((pos = list_pop(ops))) {
		struct co_op *op = op_of(pos);
		size_t part = left < op->len ? left : op->len;

		left -= part;
		if (n == 1 && outcome->error && part == 0)
			answer_data(file, op, outcome->error, answered);
		else if (n > 1 && outcome->error)
			end_stopped(file, op, part, answered);
		else
			answer_data(file, op, (ssize_t)part, answered);
	}
}

/* Answers each sync with result, or with the failure that came while it waited. */
static void answer_syncs(struct list *syncs, int result, struct list *answered)
{
	struct list *pos;

	while ((pos = list_pop(syncs))) {
		struct co_op *op = op_of(pos);

		op->result = op->sync_error ? op->sync_error : result;
		list_add_tail(pos, answered);
	}
}

static void sync_again(struct co_file *file, struct list *syncs)
{
	struct list *pos;

	while ((pos = list_pop(syncs)))
		add_by_seq(&file->syncs, op_of(pos));
}

struct flush {
	bool full;
	uint64_t covers;
};

static void end_flush(struct co_file *file, const struct flush *flush, struct list *syncs,
	int result, struct list *answered)
{
	if (result == 0) {
		file->clean_data = flush->covers;
		if (flush->full)
			file->clean_full = flush->covers;
		answer_syncs(syncs, 0, answered);
		return;
	}
	co_fail(file, result);
	answer_syncs(syncs, file->failed, answered);
	answer_syncs(&file->syncs, file->failed, answered);
}

void co_done(struct co_file *file, struct co_call *call, const struct co_outcome *outcome,
	struct list *answered)
{
	enum co_kind kind = call->kind;
	struct flush flush = {call->full, call->covers};
	unsigned writes = kind == CO_WRITE_SYNC ? call->n : 0;
	struct list ops, syncs;

	assert(outcome->moved <= call->len && outcome->error <= 0 && outcome->sync <= 0);
	if (kind == CO_WRITE && call->n > 1)
		assert(outcome->error || outcome->moved == call->len);
	if (kind == CO_WRITE_SYNC) /* a flush after a write that fell short would be a lie */
		assert(outcome->sync || (!outcome->error && outcome->moved == call->len));

	/* The call lives in one of its ops, which its requester may free, or the queue reuse. */
	list_init(&ops);
	list_init(&syncs);
	list_splice_tail(&call->ops, &ops);
	list_splice_tail(&call->syncs, &syncs);
	list_del(&call->node);

	if (kind != CO_SYNC)
		end_data(file, &ops, call->n, outcome, answered);
	if (kind == CO_READ || kind == CO_WRITE)
		return;
	file->flush = NULL;
	/* The flush of a pair covers its writes, if nothing else was counted meanwhile. */
	if (file->changes == flush.covers + writes)
		flush.covers = file->changes;
	if (kind == CO_SYNC || outcome->sync != -ECANCELED)
		end_flush(file, &flush, &syncs, outcome->sync, answered);
	else if (file->failed)
		answer_syncs(&syncs, file->failed, answered);
	else
		sync_again(file, &syncs);
}
