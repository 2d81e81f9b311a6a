/* SPDX-License-Identifier: MIT */
/* Requests that make a loop wait; see slow.h. */
#include "loop/slow.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "loop/loop.h"
#include "loop/turn.h"

/* Longer than a call takes that copies, or looks into caches; shorter than most disks. */
#define SLOW_NS 250000
/* Quick ones of the kind until it is trusted again. */
#define PROBATION 32

static atomic_uint *probation_of(const struct loop *loop, unsigned opcode)
{
	return &loop->group->probation[opcode < STATS_OPCODES ? opcode : STATS_OPCODES - 1];
}

bool slow_expected(const struct loop *loop, unsigned opcode)
{
	return atomic_load_explicit(probation_of(loop, opcode), memory_order_relaxed) > 0;
}

bool slow_for_others(const struct loop *loop, unsigned opcode)
{
	return slow_expected(loop, opcode) && !turn_idle(loop);
}

int64_t slow_begin(struct loop *loop, unsigned opcode)
{
	/* A lane has a loop of its own for what waits. */
	if (!loop->lane && slow_expected(loop, opcode) &&
		(baton_other_waits(loop) || baton_pass(loop->group)))
		stat_add(&loop->stats.waits_expected, 1);
	return clock_ns();
}

bool slow_end(struct loop *loop, unsigned opcode, int64_t began)
{
	atomic_uint *probation = probation_of(loop, opcode);
	unsigned left = atomic_load_explicit(probation, memory_order_relaxed);
	bool late = clock_ns() - began > SLOW_NS;

	if (late)
		stat_add(&loop->stats.waits, 1);
	/* Of two at once one may be lost: it is a guess. */
	if (late || left)
		atomic_store_explicit(probation, late ? PROBATION : left - 1, memory_order_relaxed);
	return late;
}
