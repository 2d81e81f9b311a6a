/* SPDX-License-Identifier: MIT */
/*
 * Where a worker has crashed: noted by it in shared memory, told by its supervisor, which is the
 * same program at the same addresses. For supervise.c only.
 */
#ifndef SUPERVISE_CRASH_H
#define SUPERVISE_CRASH_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

enum { CRASH_FRAMES = 32 };

/* In shared memory. */
struct crash {
	_Atomic int signal; /* 0: none */
	pid_t thread;
	char name[16]; /* the thread's */
	uintptr_t address; /* that was touched, of SIGSEGV and SIGBUS */
	int depth;
	void *frames[CRASH_FRAMES];
};

/* In the worker, once: crashes are noted, and then go their way. With a limit of core files that
 * allows for one, it may be written though users have been acted for. */
void crash_watch(struct crash *crash);

/* In the supervisor: logs what was noted, if anything was, and forgets it. */
void crash_tell(struct crash *crash, pid_t worker);

#endif
