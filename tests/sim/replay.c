/* SPDX-License-Identifier: MIT */
/*
 * What is right, at the end: the ops of a schedule done once more, one after another in order of
 * arrival, on a plain array. Overlapping ops keep that order and others do not touch each other, so
 * every read and the final content must come out the same. Called by model.c.
 *
 * Two things a run one by one cannot know: a write that was answered with an error may have left
 * bytes, and a read beyond the end may come before or after a write further on that extends the
 * file.
 */
#include <string.h>

#include "sim.h"

struct state {
	cell expect[DISK_CELLS];
	unsigned size; /* from successful writes */
	unsigned max_size; /* with what failed ones may have left */
};

/* The cell was left there by a write that failed, or fell short, before `id`. */
static bool is_leftover(
	const struct world *w, const struct state *s, unsigned pos, cell found, unsigned id)
{
	unsigned writer, i, good_writer = (s->expect[pos] - 1u) / MAX_LEN;
	const struct sim_op *op;

	if (found == 0)
		return false;
	writer = (found - 1u) / MAX_LEN;
	i = (found - 1u) % MAX_LEN;
	if (writer >= w->n_ops || writer >= id)
		return false;
	if (s->expect[pos] && s->expect[pos] < first_content(0) && good_writer > writer)
		return false;
	op = &w->ops[writer];
	return op->kind == CO_WRITE && !op->append && op->offset + i == pos && i < op->touched &&
	       (op->result < 0 || i >= (unsigned)op->result);
}

static bool is_right(
	const struct world *w, const struct state *s, unsigned pos, cell found, unsigned id)
{
	return found == s->expect[pos] || is_leftover(w, s, pos, found, id);
}

static bool replay_append(struct world *w, struct state *s, const struct sim_op *op)
{
	unsigned moved = op->result > 0 ? (unsigned)op->result : 0;

	if (op->placed != moved)
		return fail(w, "#%u is answered %zd, but %u cells of it were appended", op->id,
			op->result, op->placed);
	if (moved && (op->landed < s->size || op->landed > s->max_size))
		return fail(
			w, "#%u was appended at %u, the end was %u", op->id, op->landed, s->size);
	return true;
}

static bool replay_write(struct world *w, struct state *s, const struct sim_op *op)
{
	unsigned moved = op->result > 0 ? (unsigned)op->result : 0;
	unsigned pos = op->append ? op->landed : op->offset;

	if (op->append && !replay_append(w, s, op))
		return false;
	for (unsigned i = 0; i < moved; i++)
		s->expect[pos + i] = tag(op->id, i);
	if (moved && pos + moved > s->size)
		s->size = pos + moved;
	if (s->size > s->max_size)
		s->max_size = s->size;
	if (op->touched && pos + op->touched > s->max_size)
		s->max_size = pos + op->touched;
	return true;
}

static bool replay_read(struct world *w, const struct state *s, const struct sim_op *op)
{
	unsigned moved = op->result > 0 ? (unsigned)op->result : 0;
	unsigned end = op->fate == FATE_FAILS ? op->good : op->len;

	for (unsigned i = 0; i < moved; i++)
		if (!is_right(w, s, op->offset + i, op->got[i], op->id))
			return fail(w, "read #%u got 0x%x at %u, not 0x%x", op->id, op->got[i],
				op->offset + i, s->expect[op->offset + i]);
	if (op->result < 0 || moved >= end)
		return true;
	/* Ended early: nothing that it must see lies beyond. */
	if (op->offset + moved < op->size_at_arrival)
		return fail(w, "read #%u ends at %u, the file at %u", op->id, op->offset + moved,
			op->size_at_arrival);
	for (unsigned i = moved; i < end; i++)
		if (s->expect[op->offset + i])
			return fail(w, "read #%u ends at %u, before 0x%x at %u", op->id,
				op->offset + moved, s->expect[op->offset + i], op->offset + i);
	return true;
}

bool replay(struct world *w)
{
	static struct state s;

	memset(&s, 0, sizeof(s));
	s.size = s.max_size = w->first_size;
	for (unsigned i = 0; i < s.size; i++)
		s.expect[i] = first_content(i);
	for (unsigned i = 0; i < w->n_ops; i++) {
		const struct sim_op *op = &w->ops[i];

		if (op->kind == CO_WRITE && !replay_write(w, &s, op))
			return false;
		if (op->kind == CO_READ && !replay_read(w, &s, op))
			return false;
	}
	if (w->size < s.size || w->size > s.max_size)
		return fail(w, "the file has %u cells, not %u", w->size, s.size);
	for (unsigned i = 0; i < w->size; i++)
		if (!is_right(w, &s, i, w->disk[i], w->n_ops))
			return fail(
				w, "the file has 0x%x at %u, not 0x%x", w->disk[i], i, s.expect[i]);
	return true;
}
