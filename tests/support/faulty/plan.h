/* SPDX-License-Identifier: MIT */
/*
 * Which of what a program asks of the kernel fails: counted, so that each in turn can be made to.
 * For tests: io.c and calls.c ask it, sweep_tool and the sweeps in tests/unit set it.
 *
 * It is one for the process; where the environment's FAULTY_PLAN names a file of
 * FAULTY_PLAN_SIZE bytes, the plan is that file, shared with whoever maps it.
 */
#ifndef FAULTY_PLAN_H
#define FAULTY_PLAN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FAULTY_PLAN_SIZE 4096

enum {
	FAULTY_DATA =
		1u << 0, /* attempts at reads, writes and syncs: through the ring, or inline */
	FAULTY_ANSWER = 1u << 1, /* writes without a position: answers to /dev/fuse */
	FAULTY_POLL = 1u << 2, /* polls, through the ring */
	FAULTY_COMMAND = 1u << 3, /* commands of FUSE over io_uring */
	FAULTY_MEMORY = 1u << 4, /* malloc and the like, mmap, pthread_create */
	FAULTY_DESCRIPTOR = 1u << 5, /* open and the like, dup, eventfd, socket, ... */
};

struct faulty_plan {
	_Atomic unsigned what; /* FAULTY_…; 0: nothing is counted, nothing fails */
	int error; /* errno; 0: the attempt is done by half (FAULTY_DATA) */
	_Atomic uint64_t at, count; /* those number at to at + count - 1 fail; at 0: none */
	_Atomic uint64_t seen, hits; /* out: so many were counted, so many failed */
	/* Out, of the last that failed. */
	char call[32];
	void *caller; /* where it was called; memory and descriptors */
	/* The same, of an attempt. */
	unsigned kind; /* enum batchio_kind */
	bool linked; /* half of a linked pair */
	const void *base; /* where its first bytes go or come from */
	_Atomic uint64_t syncs; /* out: attempts at syncs that reached the kernel */
};

_Static_assert(sizeof(struct faulty_plan) <= FAULTY_PLAN_SIZE, "the plan fits its file");

/* The process's. */
struct faulty_plan *faulty_plan(void);

/* One of these is asked for, by the name of call: true where it is to fail. */
bool faulty_now(unsigned what, const char *call, void *caller);

/* For who sets it. What is counted begins anew. */
static inline void faulty_set(
	struct faulty_plan *plan, unsigned what, int error, uint64_t at, uint64_t count)
{
	atomic_store(&plan->what, 0);
	plan->error = error;
	atomic_store(&plan->at, at);
	atomic_store(&plan->count, count);
	atomic_store(&plan->seen, 0);
	atomic_store(&plan->hits, 0);
	atomic_store(&plan->syncs, 0);
	atomic_store(&plan->what, what);
}

static inline void faulty_stop(struct faulty_plan *plan)
{
	atomic_store(&plan->what, 0);
}

#endif
