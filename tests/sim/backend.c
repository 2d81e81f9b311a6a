/* SPDX-License-Identifier: MIT */
/*
 * The simulation's backend: a disk of cells in memory. A call takes effect in one moment between
 * its start and its end, which world.c draws. Called by world.c.
 */
#include <errno.h>
#include <string.h>

#include "sim.h"

cell tag(unsigned id, unsigned i)
{
	return (cell)(id * MAX_LEN + i + 1);
}

cell first_content(unsigned pos)
{
	return (cell)(0xc000 + pos);
}

void backend_start(struct world *w)
{
	memset(w->disk, 0, sizeof(w->disk));
	w->first_size = w->size = prng_below(&w->rng, w->p.span + 1);
	for (unsigned i = 0; i < w->size; i++)
		w->disk[i] = first_content(i);
}

/* How far this op gets before something stops it, and what. */
static unsigned reach(struct world *w, const struct sim_op *op, bool company, int *error)
{
	*error = 0;
	if (op->fate == FATE_FAILS) {
		*error = FATE_ERROR(op->id);
		return op->good;
	}
	if (op->fate == FATE_SHORT) {
		*error = company ? TRANSIENT_ERROR(op->id) : 0;
		return op->good;
	}
	if (company && (op->fate == FATE_TRANSIENT || prng_chance(&w->rng, w->p.breaks))) {
		*error = TRANSIENT_ERROR(op->id);
		return prng_below(&w->rng, op->len + 1);
	}
	return op->len;
}

static void move(struct world *w, struct sim_op *op, unsigned pos, unsigned part)
{
	for (unsigned i = 0; i < part; i++) {
		if (op->kind == CO_READ)
			op->got[i] = w->disk[pos + i];
		else
			w->disk[pos + i] = tag(op->id, i);
	}
	if (op->kind == CO_WRITE && part > 0 && pos + part > w->size)
		w->size = pos + part;
	op->part = part;
	op->placed += part;
	op->landed = pos;
	if (part > op->touched)
		op->touched = part;
}

static void run_data(struct world *w, struct co_call *call, struct co_outcome *outcome)
{
	unsigned pos = call->append ? w->size : (unsigned)(call->offset - w->p.base);
	bool stopped = false;
	struct list *node;

	list_for_each (node, &call->ops) {
		struct sim_op *op = sim_op_of(node);
		unsigned part = 0;
		int error = 0;

		op->ran = w->clock;
		op->durable = op->durable_full = false;
		if (!stopped)
			part = reach(w, op, call->n > 1, &error);
		if (op->kind == CO_READ && pos + part > w->size) {
			part = pos < w->size ? w->size - pos : 0;
			stopped = true; /* end of file */
			error = 0;
		}
		move(w, op, pos, part);
		outcome->moved += part;
		pos += op->len;
		if (!stopped && (error || part < op->len)) {
			outcome->error = error;
			stopped = true;
		}
	}
}

static int flush(struct world *w, unsigned start, bool full)
{
	if (prng_chance(&w->rng, w->p.flush_fails)) {
		if (prng_chance(&w->rng, 60))
			return -ECANCELED;
		return FLUSH_ERROR(w->flush_errors++);
	}
	for (unsigned i = 0; i < w->n_ops; i++)
		if (w->ops[i].ran && w->ops[i].ran <= start) {
			w->ops[i].durable = true;
			w->ops[i].durable_full |= full;
		}
	return 0;
}

void backend_run(struct world *w, struct flight *flight)
{
	struct co_call *call = flight->call;
	struct co_outcome *outcome = &flight->outcome;

	flight->ran = true;
	flight->flush_start = call->kind == CO_SYNC ? flight->taken : w->clock;
	if (call->kind != CO_SYNC)
		run_data(w, call, outcome);
	if (call->kind == CO_WRITE_SYNC && (outcome->error || outcome->moved < call->len ||
						   prng_chance(&w->rng, w->p.cancels)))
		outcome->sync = -ECANCELED;
	else if (call->kind == CO_SYNC || call->kind == CO_WRITE_SYNC)
		outcome->sync = flush(w, flight->flush_start, call->full);
	trace(w, "run: moved %zu of %zu, error %d, sync %d", outcome->moved, call->len,
		outcome->error, outcome->sync);
}
