/* SPDX-License-Identifier: MIT */
/*
 * The simulation of the coalescer: what its parts share.
 *
 *  main.c      arguments, report
 *  world.c     a schedule: requests come, calls start, run and end, in an order drawn from the seed
 *  backend.c   a disk in memory: what a call does, and how it goes wrong
 *  seam.c      between world and coalescer; deliberate faults (mutations) go in here
 *  model.c     what is right, checked at every step, by brute force
 *  replay.c    what is right, checked at the end: all operations once more, one after another
 *
 * The production coalescer runs unchanged. Nothing here shares code with it.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "coalesce/coalesce.h"
#include "prng.h"

enum {
	MAX_OPS = 200,
	MAX_LEN = 64, /* cells of one op */
	MAX_APPEND = 32, /* cells of one appending op */
	FILE_CELLS = 512, /* where plain ops go */
	DISK_CELLS = FILE_CELLS + MAX_OPS * MAX_APPEND,
	MAX_OPENERS = 4,
	MAX_FLIGHTS = MAX_OPS,
};

/*
 * A byte of the simulated file, wide enough to say where it came from: which op wrote it, and which
 * of the op's bytes it is. 0 is a hole.
 */
typedef uint16_t cell;

/* Op errors name the op, so an error that reaches another one is seen. */
#define FATE_ERROR(id)      (-1000 - (int)(id))
#define TRANSIENT_ERROR(id) (-5000 - (int)(id))
#define FLUSH_ERROR(n)      (-3000 - (int)(n))

enum fate {
	FATE_GOOD,
	FATE_FAILS, /* stops with its error after `good` cells, whenever it is tried */
	FATE_SHORT, /* a lone write ends after `good` cells without an error */
	FATE_TRANSIENT, /* fails in company, not alone */
};

/* One request and all that is known of it. Its position in world.ops is its order of arrival. */
struct sim_op {
	struct co_op op; /* the coalescer's view */
	/* What was asked. */
	unsigned id;
	enum co_kind kind;
	bool full, append;
	unsigned klass;
	unsigned offset, len; /* in cells */
	enum fate fate;
	unsigned good;
	/* What became of it; times are world.clock, 0 is never. */
	unsigned arrived, ran, answered;
	unsigned flushed; /* a sync: when a flush with it ended, though it may have to wait again */
	unsigned shares; /* a sync: when the flush began that it found in flight and may share */
	unsigned size_at_arrival; /* the least size that the file had */
	bool inflight;
	bool must_alone; /* was in a failed call with others */
	int must_fail; /* a sync that a failure found waiting: the error it must get */
	bool durable; /* its last run was before a good flush */
	bool durable_full; /* and before a good full one */
	unsigned part; /* cells moved in the last run */
	unsigned touched; /* most cells moved in any run */
	unsigned placed; /* cells moved in all runs together */
	unsigned landed; /* where they went */
	ssize_t result;
	cell got[MAX_LEN];
};

/* A call between take and done. */
struct flight {
	struct co_call *call;
	unsigned taken;
	bool ran;
	unsigned flush_start;
	struct co_outcome outcome;
};

struct sim_opener {
	bool open;
};

/* What the seed decides once for the whole schedule; chances in a thousand. */
struct profile {
	unsigned ops;
	unsigned burst;
	unsigned reads, appends, syncs; /* of a thousand ops; the rest are writes */
	unsigned sequential, descending, duplicate;
	unsigned unit; /* most cells of an op */
	unsigned span; /* cells that plain ops touch */
	unsigned classes;
	unsigned fails, transient, breaks, flush_fails, cancels, sudden;
	unsigned churn;
	unsigned changes; /* of other kinds than writes */
	bool exclusive;
	unsigned eager; /* to take until NULL */
	uint64_t base; /* of cell 0, in the coalescer's offsets */
};

struct stats {
	uint64_t schedules, ops, calls, merged, merged_ops, shared, pairs, cancelled, reruns;
	uint64_t short_reads, op_errors, flushes, flush_errors, refused, clean, joined, longest;
};

enum mutation {
	MUTATE_NONE,
	MUTATE_ANSWER_EARLY,
	MUTATE_SYNC_NO_WAIT,
	MUTATE_SYNC_LATE_JOIN,
	MUTATE_SWAP_RESULTS,
	MUTATE_OVERTAKE,
	MUTATE_FAILED_FLUSH_IS_GOOD,
	MUTATE_RETRY_INTO_SUCCESS,
	MUTATE_CANCELLED_IS_GOOD,
	MUTATE_ERROR_TO_ALL,
	MUTATE_MIX_CLASSES,
	MUTATE_FORGET_FULL,
	MUTATE_FORGET_APPEND,
	MUTATE_BREAK_LIMITS,
	MUTATE_NEVER_MERGE,
	MUTATE_LOSE_ANSWER,
	MUTATE_ANSWER_TWICE,
	MUTATE_STALL,
	MUTATE_FORGET_CHANGE,
	MUTATE_CLEAN_TOO_SOON,
	MUTATE_NEVER_CLEAN,
	MUTATE_SHARE_TOO_LATE,
	MUTATE_NEVER_SHARE,
	MUTATIONS,
};

struct world {
	struct prng rng;
	struct profile p;
	struct stats *stats;
	bool verbose;
	unsigned clock;
	char why[200]; /* what is wrong; empty while nothing is */

	struct co_limits limits;
	struct co_file file;

	struct sim_op ops[MAX_OPS];
	unsigned n_ops;
	struct sim_op *live[MAX_OPS]; /* unanswered, in order of arrival */
	unsigned n_live;
	struct flight flights[MAX_FLIGHTS];
	unsigned n_flights;
	struct sim_opener openers[MAX_OPENERS];

	/* generator */
	unsigned next_offset, next_append;

	/* backend */
	cell disk[DISK_CELLS];
	unsigned size, first_size;
	unsigned flush_errors;

	/* model */
	int failed; /* the error of the file, 0 while it is good */
	unsigned good_flush, good_full_flush; /* latest start of one that ended well */
	unsigned changed; /* when something else than data last changed, or was in doubt */
	unsigned answered_size;

	/* seam */
	enum mutation mutation;
	struct co_limits seam_limits;
	struct sim_op *held;
	bool mutated;
};

/* Notes what is wrong; the first note stays. Always false. */
bool fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void trace(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *describe(const struct sim_op *op, char *buf, size_t size);

static inline struct sim_op *sim_op_of(struct list *node)
{
	return list_entry(list_entry(node, struct co_op, node), struct sim_op, op);
}

/* world.c: runs the schedule of a seed. True: all is right; otherwise w->why says what is not. */
bool world_run(struct world *w, uint64_t seed, enum mutation mutation, struct stats *stats);

/* backend.c */
cell tag(unsigned id, unsigned i);
cell first_content(unsigned pos);
void backend_start(struct world *w);
void backend_run(struct world *w, struct flight *flight);

/* seam.c: each takes the answers to model_answer(). */
extern const char *const mutation_names[MUTATIONS];
void seam_start(struct world *w);
void seam_push(struct world *w, struct sim_op *op);
struct co_call *seam_take(struct world *w);
void seam_changed(struct world *w);
void seam_done(struct world *w, struct co_call *call, const struct co_outcome *outcome);

/* model.c */
void model_start(struct world *w);
void model_arrive(struct world *w, struct sim_op *op);
bool model_take(struct world *w, struct co_call *call);
void model_flush_ended(struct world *w, const struct flight *flight);
bool model_sync_waits(struct world *w, struct sim_op *op);
void model_changed(struct world *w);
bool model_flush_told(struct world *w, enum co_kind kind, int result);
bool model_answer(struct world *w, struct sim_op *op, ssize_t result);
void model_failure(struct world *w, int error);
void model_open(struct sim_opener *opener);
void model_close(struct world *w, struct sim_opener *opener);
bool model_end(struct world *w);

/* replay.c: every answer and the final content, against the ops in order of arrival. */
bool replay(struct world *w);

#endif
