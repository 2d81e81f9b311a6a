/* SPDX-License-Identifier: MIT */
/*
 * A set of byte ranges that answers "which of them touch this range?" in logarithmic time.
 * Part of the coalescer; called by coalesce.c only.
 *
 * A treap by (start, seq), each node knowing the largest end below it. Nodes are the caller's, so
 * nothing is allocated; priorities are a hash of seq, so the shape is the same in every run.
 */
#ifndef COALESCE_SPANS_H
#define COALESCE_SPANS_H

#include <stdbool.h>
#include <stdint.h>

/* One range, [start, end), embedded in the caller's object. Two nodes of a set differ in seq. */
struct span {
	uint64_t start;
	uint64_t end;
	uint64_t seq;
	/* The set's own. */
	struct span *left, *right;
	uint64_t max_end;
	uint64_t priority;
};

/* The empty set is NULL. */
struct span_set {
	struct span *root;
};

/* start, end and seq are set, start < end, and they stay the same until spans_remove(). */
void spans_insert(struct span_set *set, struct span *node);
void spans_remove(struct span_set *set, struct span *node);

/* Returns true to end the search there. Must not change the set. */
typedef bool span_match(struct span *node, void *arg);

/*
 * Offers each range that shares a byte with [start, end) to match(), by rising (start, seq).
 * The one at which match() returned true, or NULL.
 */
struct span *spans_find(
	const struct span_set *set, uint64_t start, uint64_t end, span_match *match, void *arg);

#endif
