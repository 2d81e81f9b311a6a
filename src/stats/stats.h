/* SPDX-License-Identifier: MIT */
/*
 * Counters of one loop, merged by the reader. Anyone from transport/ upwards may include it.
 *
 * One writer (the loop's thread), any readers: relaxed atomics without a locked instruction on the
 * writer's side.
 */
#ifndef STATS_STATS_H
#define STATS_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "batchio/batchio.h"

/* FUSE opcodes counted one by one; larger ones (CUSE_INIT) are counted in the last. */
#define STATS_OPCODES 64
/* Buckets of powers of two: 1, 2-3, 4-7, … */
#define STATS_BUCKETS 12

typedef _Atomic uint64_t stat_counter;

struct loop_stats {
	stat_counter requests[STATS_OPCODES]; /* received, by opcode */
	stat_counter turns; /* of the loop that received something */
	stat_counter turn_size[STATS_BUCKETS]; /* requests received a turn */
	stat_counter calls_read; /* calls handed to the backend, by kind */
	stat_counter calls_write;
	stat_counter calls_write_sync; /* linked write + flush */
	stat_counter calls_sync;
	stat_counter call_ops[STATS_BUCKETS]; /* data operations a read or write call */
	stat_counter syncs_asked; /* FSYNC requests */
	stat_counter syncs_failed_file; /* of these, answered with the error that the file keeps */
	stat_counter syncs_clean; /* of these, answered at once, as nothing had changed */
	stat_counter syncs_joined; /* of these, that shared a flush in flight */
	stat_counter writes_dropped; /* past the page cache, that had pages of it dropped */
	stat_counter syncs_early; /* flushes begun before they were asked for */
	stat_counter waits; /* calls of the source that took long, and held up a loop */
	stat_counter
		waits_expected; /* calls beside which another loop looked for requests therefore */
	stat_counter waits_by_ring; /* buffered writes that went through the ring therefore */
	stat_counter bytes_read;
	stat_counter bytes_written;
	stat_counter errors; /* data operations answered with an error */
	stat_counter refused; /* malformed requests */
};

/* By the loop's own thread only. */
static inline void stat_add(stat_counter *counter, uint64_t n)
{
	uint64_t now = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

static inline uint64_t stat_read(const stat_counter *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Bucket of n >= 1. */
static inline unsigned stat_bucket(uint64_t n)
{
	unsigned bucket = 63 - (unsigned)__builtin_clzll(n | 1);

	return bucket < STATS_BUCKETS ? bucket : STATS_BUCKETS - 1;
}

/* Sum over loops; plain numbers. */
struct stats_sum {
	struct loop_stats counters; /* used as plain storage */
	struct batchio_counters io;
};

void stats_add_io(struct batchio_counters *sum, const struct batchio_counters *io);
void stats_add_loop(
	struct stats_sum *sum, const struct loop_stats *loop, const struct batchio_counters *io);

/* Writes the sums as lines "name value\n", the form of the control socket. */
void stats_print(const struct stats_sum *sum, FILE *out);

#endif
