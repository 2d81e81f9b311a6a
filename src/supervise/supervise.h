/* SPDX-License-Identifier: MIT */
/*
 * Keeps a mount alive when the process that serves it dies. For serve.c.
 *
 * The process that has made the mount becomes its supervisor: it does nothing but wait. Requests
 * are served by a worker forked from it, which shares its descriptors (so that none is closed when
 * the worker dies) and the memory in which the tables lie. When the worker has died, another one is
 * forked from the supervisor as it was at the start, and takes over.
 *
 * While a worker starts or takes over the supervisor opens and closes nothing: what is open besides
 * what was open at the first fork is then the dead one's, and closed.
 *
 * Another program takes the supervisor's place by the same road: the worker is killed, and where
 * supervise.replace() does not return, a worker of that program takes over.
 */
#ifndef SUPERVISE_SUPERVISE_H
#define SUPERVISE_SUPERVISE_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervise/crash.h"

/* In shared memory, for all to read. */
struct supervise_board {
	_Atomic int64_t mounted_at; /* clock_ns() */
	_Atomic pid_t supervisor, worker;
	_Atomic pid_t canary; /* a thread of the worker that does nothing but die with it */
	_Atomic uint32_t restarts; /* workers that took over */
	atomic_bool go; /* the supervisor has its descriptors, and the worker may look at them, */
	_Atomic int pidfd; /* of which this is the one that the worker is watched by */
	atomic_bool ready; /* the worker answers requests */
	atomic_bool final; /* nobody could take over from this worker */
	atomic_bool stop; /* the worker shall end although the mount is in use */
	_Atomic int64_t died_at; /* clock_ns() */
	_Atomic int64_t pause_ns; /* from there until the last take-over was ready, */
	_Atomic int64_t longest_ns; /* and the longest */
	struct crash crash;
	_Atomic uint32_t upgrades; /* programs that took this one's place */
	_Atomic int asker; /* who asks for the next one: a connected descriptor; 0: nobody */
	char program[PATH_MAX]; /* the one that is meant, absolute */
};

struct supervise {
	struct supervise_board *board;
	int ready_fd; /* eventfd: the worker has something to tell */
	int stop_fd; /* eventfd: readable when board->stop */
	int *keep; /* descriptors that are the supervisor's: open at the first fork, and the pidfd
		    */
	size_t nkeep, room; /* there is room for the pidfd */
	/* Of another program's workers, when this one took its place: open from before, and
	 * nobody's. */
	const int *foreign;
	size_t nforeign;
	bool again; /* the first worker takes over, too */
	/* All required; user is their argument. */
	int (*enter)(void *user); /* in the worker, while it has one thread: 0 or its exit status */
	int (*work)(void *user, bool again); /* in the worker, then: its exit status */
	void (*ready)(void *user); /* in the supervisor, once: the first worker answers */
	void (*signalled)(void *user); /* in the supervisor: signal_fd is readable */
	/* In the supervisor: whether board->program may take its place; who asked is answered if
	 * not. */
	bool (*may_replace)(void *user);
	/* In the supervisor, without a worker: it does. Returns where that failed. */
	void (*replace)(void *user);
	/* In the supervisor: its first workers failed, and it came in place of another: that one
	 * again, where it does not return. */
	void (*give_back)(void *user);
	int signal_fd;
	void *user;
};

/* Makes what both sides need; then work, ready, signalled, signal_fd and user are to be filled. 0
 * or -errno. */
int supervise_open(struct supervise *s);
void supervise_close(struct supervise *s);

/*
 * Runs workers until one has ended by itself, or too many have died: then a line is logged, and
 * what is mounted is the caller's to take down. One thread, signals blocked. An exit status.
 */
int supervise_run(struct supervise *s);

/* In the worker: another program shall take the supervisor's place. asker is a connection's
 * descriptor, the supervisor's from now on. False: somebody else asks already. */
bool supervise_ask(struct supervise *s, const char *program, int asker);

/* In the supervisor: closes a descriptor that was open at the first fork. */
void supervise_let_go(struct supervise *s, int fd);

/* In the supervisor: the worker shall end although the mount is in use. */
void supervise_stop(struct supervise *s);

/* ---- in a worker ---- */

/* It answers requests. final: nobody could take over from it. */
void supervise_ready(struct supervise *s, bool final);
/* Its supervisor is dead, and all that it would do is the worker's. */
bool supervise_orphaned(const struct supervise *s);

#endif
