/* SPDX-License-Identifier: MIT */
/*
 * The coalescer: what of one file's queue may be merged, ordered and shared.
 * Called by fs/data.c and by the simulation in tests/sim.
 *
 * Pure: no system call, no clock, no thread, no allocation. All memory is the caller's. A co_file
 * is used by one thread at a time (the caller's lock).
 *
 * The rules it keeps (numbers as in the design):
 *  1 a request is answered after its backing call ended, with its own bytes or its own error;
 *    what a failing merged call left undone is run again, request by request;
 *  2 overlapping requests (one of them a write) run in arrival order; an appending write overlaps
 * all; 3 adjacent requests of one kind and class become one vectored call, up to the limits; 4 all
 * syncs waiting when a flush starts share it, later ones wait for the next; one that asked for a
 * full fsync makes the flush a full one; 5 a sync behind a write goes out as a linked pair with it;
 *  6 of a file that nobody else may touch, a sync with nothing changed since the last good flush is
 *    answered at once;
 *    one that comes while a flush runs which covers all that was answered shares it;
 *  7 a failed flush is told to every opener, and the file stays failed until nobody has it open.
 */
#ifndef COALESCE_H
#define COALESCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "coalesce/spans.h"

enum co_kind {
	CO_READ,
	CO_WRITE,
	CO_SYNC,
	CO_WRITE_SYNC, /* of calls only: a write and, if it succeeds whole, a flush */
};

/* One call for the backend. Lives in one of its ops: valid until co_done() of it. */
struct co_call {
	struct list node; /* on the file's list of calls in flight; the coalescer's own */
	enum co_kind kind;
	bool full; /* CO_SYNC, CO_WRITE_SYNC: fsync, not fdatasync */
	uint64_t covers; /* CO_SYNC, CO_WRITE_SYNC: co_file.changes when the flush was taken */
	bool append; /* of the data ops, all or none: lands at the end of the file */
	uint32_t klass; /* of the data ops */
	unsigned n; /* data ops */
	uint64_t offset; /* of the first data op */
	size_t len; /* bytes of all data ops */
	struct list ops; /* data ops (co_op.node) by rising offset; empty for CO_SYNC */
	struct list syncs; /* sync ops (co_op.node) that share the flush; empty for data calls */
};

/*
 * One request; embedded in the caller's request. Zero it, then fill the fields marked "in".
 * The coalescer's from co_push() until it is answered; only node may be used afterwards, by the
 * caller.
 */
struct co_op {
	struct list node; /* call->ops, call->syncs, answered; before that the coalescer's own */
	enum co_kind kind; /* in: CO_READ, CO_WRITE or CO_SYNC */
	bool full; /* in, CO_SYNC: a full fsync was asked */
	bool append; /* in, CO_WRITE: lands at the end of the file wherever offset says */
	bool early; /* in, CO_SYNC: nobody's, begun because of co_wants_flush() */
	uint32_t klass; /* in: only requests of equal class are merged */
	uint64_t offset; /* in, below 2^63 */
	size_t len; /* in, below 2^63; 0 is allowed */
	ssize_t result; /* out, once answered: bytes moved (0 for a sync), or -errno */
	/* The coalescer's own. */
	bool alone; /* runs unmerged, after a failed merged call */
	bool taken; /* in a call in flight */
	bool blocking; /* some later op counts this one among its blockers */
	unsigned blockers; /* earlier unfinished ops, none of them appending, that it overlaps */
	int sync_error; /* CO_SYNC: the failure that it must be told whatever its flush says */
	uint64_t seq; /* order of arrival */
	struct list order; /* data: on co_file.order */
	struct list appends; /* appending: on co_file.appends */
	struct span span; /* data of at least a byte, not appending: in co_file.spans */
	struct co_call call; /* the call, if it began with this op */
};

/*
 * How many writes come before a sync. Where that was the same several times in a row, the flush may
 * begin when so many have ended, and the sync, when it comes, joins it: co_wants_flush().
 */
struct co_habit {
	unsigned usual; /* writes before the last sync */
	unsigned streak; /* how often in a row it was so many */
};

/* A sync came after so many writes. */
void co_habit_note(struct co_habit *habit, unsigned writes);

struct co_limits {
	unsigned max_ops; /* data ops merged into one call, >= 1 */
	size_t max_bytes; /* bytes merged into one call; a single larger op still goes alone */
};

/* The coalescer's own, to be embedded. "Unfinished" is what is waiting or in flight. */
struct co_file {
	const struct co_limits *limits;
	struct list order; /* unfinished data ops, in order of arrival */
	struct list appends; /* the appending ones of them, likewise */
	struct list ready_reads; /* waiting reads without blockers, in order of arrival */
	struct list ready_writes; /* waiting writes without blockers, in order of arrival */
	struct list syncs; /* waiting syncs, in order of arrival */
	struct list inflight; /* calls taken and not done */
	struct span_set spans; /* bytes of the unfinished data ops that do not append */
	unsigned unfinished_writes;
	uint64_t next_seq;
	struct co_call *flush; /* the flush in flight, or NULL */
	int failed; /* 0, or the -errno of the failed flush */
	bool exclusive; /* in, after co_file_init(): all changes come through here (rule 6) */
	uint64_t changes; /* finished writes and co_changed(); from 1 */
	uint64_t clean_data; /* changes covered by the last good flush of any kind, */
	uint64_t clean_full; /* and by the last good full one; 0: none yet */
	unsigned writes; /* ended since the last sync came */
	struct co_habit habit; /* may be set after co_file_init(), as a first guess */
	unsigned openers; /* open now */
};

/* limits must outlive the file and stay the same. */
void co_file_init(struct co_file *file, const struct co_limits *limits);

/* No op waiting and no call in flight. */
bool co_idle(const struct co_file *file);

/* An opener comes and goes. Going with requests pending is allowed; they are still answered. */
void co_open(struct co_file *file);
void co_close(struct co_file *file);

/* Something else of the file has changed that a sync must see to: its size, its name, its rights.
 */
void co_changed(struct co_file *file);

/*
 * A sync is likely to come next, and its flush could begin now: the caller may push one of its own
 * (co_op.early). Of a file that nobody else may touch only, for there a later sync can share it.
 */
bool co_wants_flush(const struct co_file *file);

/*
 * A request arrives. True: it waits for co_take(), or (op->taken) for a flush that is in flight.
 * False: it is answered already, op->result is set (a sync of a failed or a clean file).
 */
bool co_push(struct co_file *file, struct co_op *op);

/*
 * The next call that may start now, or NULL. Call again until NULL. The caller runs it and
 * then says co_done(). While anything waits and nothing is in flight, there is a next call.
 */
struct co_call *co_take(struct co_file *file);

/* How a call ended. */
struct co_outcome {
	size_t moved; /* data ops: bytes moved from the start of the call */
	int error; /* data ops: 0, or -errno of what stopped it after `moved` */
	int sync; /* flush: 0, -errno, or, for CO_WRITE_SYNC, -ECANCELED when it never ran */
};

/*
 * A call has ended. Its ops, where answered, are moved to the end of `answered` with result set;
 * the others go back to the queue, so call co_take() again. For a read, moved < len with error 0 is
 * the end of the file. For a write, moved < len with error 0 must not be (the backend finishes
 * short writes), except for a lone op, which is then answered with moved.
 *
 * After an error a lone op is answered with moved, or with the error if nothing moved. Of several,
 * those wholly moved are answered, the others run again, each alone; only an appending write that
 * landed in part is answered with that part, since running it again would write its beginning
 * twice.
 *
 * A flush that was cancelled (-ECANCELED in a pair) is run again on its own. The -ECANCELED of a
 * CO_SYNC is an error like any other. A failed flush also answers the syncs that were waiting
 * meanwhile.
 */
void co_done(struct co_file *file, struct co_call *call, const struct co_outcome *outcome,
	struct list *answered);

/*
 * The writer could not be told otherwise (asynchronous write-back failed): the file is failed with
 * error (-errno), as after a failed flush. Syncs waiting or in flight now will be answered with the
 * failure when their flush ends, whatever it says.
 *
 * A failure while nobody has the file open is kept for the next opener.
 */
void co_fail(struct co_file *file, int error);

#endif
