/* SPDX-License-Identifier: MIT */
/*
 * Between the simulated world and the coalescer. Normally it only passes on; with a mutation it
 * commits one deliberate fault, of a kind that a coalescer could have, and the checks must notice.
 * Called by world.c.
 */
#include <errno.h>
#include <string.h>

#include "sim.h"

const char *const mutation_names[MUTATIONS] = {
	[MUTATE_NONE] = "none",
	[MUTATE_ANSWER_EARLY] = "answer-early",
	[MUTATE_SYNC_NO_WAIT] = "sync-no-wait",
	[MUTATE_SYNC_LATE_JOIN] = "sync-late-join",
	[MUTATE_SWAP_RESULTS] = "swap-results",
	[MUTATE_OVERTAKE] = "overtake",
	[MUTATE_FAILED_FLUSH_IS_GOOD] = "failed-flush-is-good",
	[MUTATE_RETRY_INTO_SUCCESS] = "retry-into-success",
	[MUTATE_CANCELLED_IS_GOOD] = "cancelled-is-good",
	[MUTATE_ERROR_TO_ALL] = "error-to-all",
	[MUTATE_MIX_CLASSES] = "mix-classes",
	[MUTATE_FORGET_FULL] = "forget-full",
	[MUTATE_FORGET_APPEND] = "forget-append",
	[MUTATE_BREAK_LIMITS] = "break-limits",
	[MUTATE_NEVER_MERGE] = "never-merge",
	[MUTATE_LOSE_ANSWER] = "lose-answer",
	[MUTATE_ANSWER_TWICE] = "answer-twice",
	[MUTATE_STALL] = "stall",
	[MUTATE_FORGET_CHANGE] = "forget-change",
	[MUTATE_CLEAN_TOO_SOON] = "clean-too-soon",
	[MUTATE_NEVER_CLEAN] = "never-clean",
	[MUTATE_SHARE_TOO_LATE] = "share-too-late",
	[MUTATE_NEVER_SHARE] = "never-share",
};

/* The fault is on, and due in n of a thousand cases. */
static bool mutate(struct world *w, enum mutation mutation, unsigned n)
{
	return w->mutation == mutation && prng_chance(&w->rng, n);
}

void seam_start(struct world *w)
{
	w->seam_limits = w->limits;
	if (w->mutation == MUTATE_BREAK_LIMITS) {
		w->seam_limits.max_ops *= 4;
		w->seam_limits.max_bytes *= 4;
	}
	if (w->mutation == MUTATE_NEVER_MERGE)
		w->seam_limits.max_ops = 1;
	co_file_init(&w->file, &w->seam_limits);
	w->file.exclusive = w->p.exclusive && w->mutation != MUTATE_NEVER_CLEAN;
}

void seam_changed(struct world *w)
{
	if (w->mutation != MUTATE_FORGET_CHANGE)
		co_changed(&w->file);
}

static void push(struct world *w, struct sim_op *op)
{
	struct co_call *flush = w->file.flush;

	/* As if writes and changes since its start were in the flush in flight. */
	if (w->mutation == MUTATE_SHARE_TOO_LATE && flush)
		flush->covers = w->file.changes;
	if (w->mutation == MUTATE_NEVER_SHARE && flush)
		flush->covers = 0;
	if (co_push(&w->file, &op->op)) {
		op->inflight = op->kind == CO_SYNC && op->op.taken;
		w->stats->joined += op->inflight;
		model_sync_waits(w, op);
		return;
	}
	w->stats->refused += op->op.result != 0;
	w->stats->clean += op->op.result == 0;
	model_answer(w, op, w->mutation == MUTATE_RETRY_INTO_SUCCESS ? 0 : op->op.result);
}

static void fill(struct world *w, struct sim_op *op)
{
	op->op = (struct co_op){
		.kind = op->kind,
		.full = op->full && w->mutation != MUTATE_FORGET_FULL,
		.append = op->append && w->mutation != MUTATE_FORGET_APPEND,
		.klass = w->mutation == MUTATE_MIX_CLASSES ? 0 : op->klass,
		.offset = w->p.base + op->offset,
		.len = op->len,
	};
}

void seam_push(struct world *w, struct sim_op *op)
{
	struct sim_op *held = w->held;

	fill(w, op);
	if (op->kind == CO_SYNC && mutate(w, MUTATE_SYNC_NO_WAIT, 200)) {
		model_answer(w, op, 0);
		return;
	}
	if (op->kind == CO_SYNC && w->file.flush && !held && w->mutation == MUTATE_SYNC_LATE_JOIN) {
		w->held = op;
		return;
	}
	if (!held && mutate(w, MUTATE_OVERTAKE, 200)) {
		w->held = op;
		return;
	}
	push(w, op);
	if (held && w->mutation == MUTATE_OVERTAKE) {
		w->held = NULL;
		push(w, held);
	}
	if (op->kind == CO_WRITE && mutate(w, MUTATE_ANSWER_EARLY, 50))
		model_answer(w, op, op->len);
}

struct co_call *seam_take(struct world *w)
{
	if (w->held && w->mutation == MUTATE_OVERTAKE) {
		push(w, w->held);
		w->held = NULL;
	}
	if (mutate(w, MUTATE_STALL, 50))
		return NULL;
	return co_take(&w->file);
}

/* Two neighbours whose results differ. */
static void swap_results(struct list *answered)
{
	struct list *node;

	list_for_each (node, answered) {
		struct co_op *a = list_entry(node, struct co_op, node);
		struct co_op *b = list_entry(node->next, struct co_op, node);
		ssize_t result = a->result;

		if (node->next == answered || a->result == b->result)
			continue;
		a->result = b->result;
		b->result = result;
		return;
	}
}

static void answer_all(struct world *w, struct list *answered)
{
	struct list *node;

	if (w->mutation == MUTATE_SWAP_RESULTS)
		swap_results(answered);
	while ((node = list_pop(answered))) {
		struct sim_op *op = sim_op_of(node);
		ssize_t result = op->op.result;

		/* Answered: the requester may free it. */
		memset(&op->op, 0xa5, sizeof(op->op));
		if (mutate(w, MUTATE_LOSE_ANSWER, 20))
			continue;
		model_answer(w, op, result);
		if (mutate(w, MUTATE_ANSWER_TWICE, 20))
			model_answer(w, op, result);
	}
}

static void answer_cancelled(struct world *w, struct co_call *call)
{
	struct list *node;

	while ((node = list_pop(&call->syncs)))
		model_answer(w, sim_op_of(node), 0);
}

/* The ops of a stopped call that should run again get its error instead. */
static void answer_stopped(struct world *w, int error)
{
	for (unsigned i = 0; i < w->n_ops; i++) {
		struct sim_op *op = &w->ops[i];

		if (!op->answered && op->must_alone && op->ran && !op->inflight)
			model_answer(w, op, error);
	}
}

void seam_done(struct world *w, struct co_call *call, const struct co_outcome *outcome)
{
	bool flush = call->kind == CO_SYNC || call->kind == CO_WRITE_SYNC;
	bool pair = call->kind == CO_WRITE_SYNC;
	bool company = call->n > 1;
	struct co_outcome told = *outcome;
	struct list answered;

	list_init(&answered);
	if (w->mutation == MUTATE_FAILED_FLUSH_IS_GOOD && flush && told.sync != -ECANCELED)
		told.sync = 0;
	if (w->mutation == MUTATE_CANCELLED_IS_GOOD && pair && told.sync == -ECANCELED)
		answer_cancelled(w, call);
	co_done(&w->file, call, &told, &answered);
	/* As if a flush covered what was written while it ran. */
	if (w->mutation == MUTATE_CLEAN_TOO_SOON && flush && !told.sync)
		w->file.clean_data = w->file.changes;
	answer_all(w, &answered);
	if (w->mutation == MUTATE_ERROR_TO_ALL && company && outcome->error)
		answer_stopped(w, outcome->error);
	if (w->mutation == MUTATE_SYNC_LATE_JOIN && flush && w->held) {
		struct sim_op *held = w->held;

		w->held = NULL;
		if (outcome->sync == 0)
			model_answer(w, held, 0);
		else
			push(w, held);
	}
}
