/* SPDX-License-Identifier: MIT */
/*
 * A process that dies after any of its instructions. For tests of what lies in memory shared with
 * it; include test.h first.
 */
#ifndef STEPPED_H
#define STEPPED_H

#include <limits.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Runs work() in a process that shares our descriptors, and kills it after so many of its
 * instructions. seen() (or NULL) is called after each. Returns how many there were, fewer where
 * work() ended before; -1 where it cannot be traced.
 */
static inline long stepped(void (*work)(void), long steps, void (*seen)(long step))
{
#ifdef __SANITIZE_THREAD__
	/* Its own memory of each access belongs to the process that forked. */
	(void)work, (void)steps, (void)seen;
	return -1;
#else
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	long step = -1;
	int status;

	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(1);
		raise(SIGSTOP);
		work();
		raise(SIGSTOP);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		/* At its beginning, and when work() has ended. */
		if (WSTOPSIG(status) != SIGTRAP && step >= 0)
			break;
		step++;
		if (seen && step)
			seen(step);
		if (step >= steps || ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL))
			break;
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
			;
	}
	return step;
#endif
}

/* ---- the instructions after which shared memory is another ---- */

#define STORES_MOST 500

static const char *stores_in; /* the memory that is looked at, */
static size_t stores_size;
static char stores_before[4096]; /* and what it was */
static long stores[STORES_MOST];
static int n_stores;

static inline void note_store(long step)
{
	if (!memcmp(stores_in, stores_before, stores_size))
		return;
	memcpy(stores_before, stores_in, stores_size);
	if (n_stores < STORES_MOST)
		stores[n_stores++] = step;
}

/*
 * Lets a process do work() and finds its stores to size bytes at memory. Returns how many there
 * are: death after stores[i] instructions is death after the i-th of them; -1 where it cannot be
 * traced.
 */
static inline int find_stores(void (*work)(void), const void *memory, size_t size)
{
	stores_in = memory;
	stores_size = size < sizeof(stores_before) ? size : sizeof(stores_before);
	memcpy(stores_before, memory, stores_size);
	n_stores = 0;
	return stepped(work, LONG_MAX, note_store) < 0 ? -1 : n_stores;
}

#endif
