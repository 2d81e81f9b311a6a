/* SPDX-License-Identifier: MIT */
/*
 * The event loop: one thread, one batchio handle (one ring), one turn after another. For fs/ and
 * main.c.
 *
 * A turn: completions are reaped and answered; a bounded number of requests is received and
 * dispatched; what they queued goes to the backend; the next reap submits that together with the
 * answers and waits. A mount has one or more loops, which share the request pool and the device; a
 * file may be worked on by several.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "batchio/batchio.h"
#include "loop/awake.h"
#include "loop/baton.h"
#include "loop/lane.h"
#include "loop/spin.h"
#include "stats/stats.h"
#include "transport/transport.h"

/* Requests received a turn: few enough that processor and device overlap, enough to merge. */
#define LOOP_DRAIN 32
/* Loops besides those asked for, while these are stuck in the source; see keeper.h. */
#define LOOP_EXTRA 64

struct loop;

/* What the loops run. All callbacks run on a loop's thread. */
struct loop_hooks {
	/* Required. A request has arrived: answers it now, or lets it go (loop_set_current()) and
	 * answers later. */
	void (*dispatch)(struct loop *loop, struct request *req, void *user);
	/* Required. All requests of a turn were dispatched: what they left queued goes to the
	 * backend. */
	void (*turn_end)(struct loop *loop, void *user);
	void *user;
};

struct loop_group_config {
	unsigned loops; /* threads, >= 1 */
	unsigned depth; /* requests at work at once, and ring entries of each loop */
	size_t payload; /* largest data of a request */
	bool careful; /* the source may keep a loop waiting for ever */
	bool uring; /* io_uring backend, else standard */
	bool lasting; /* another process goes on should this one die */
	int device; /* /dev/fuse, O_NONBLOCK */
	bool ring; /* FUSE over io_uring, if the kernel agrees; only with uring, and not careful */
	unsigned ring_loops; /* for it; 0: two for each processor */
	unsigned processors, queues; /* for it: the machine's, and ring_queues() */
	struct awake_means awake; /* of awake_open() */
	struct loop_hooks hooks;
};

struct loop_group {
	struct loop_group_config config;
	struct request_pool pool;
	struct loop *loops; /* config.loops, then LOOP_EXTRA places of the keeper's */
	pthread_t keeper;
	bool keeper_started;
	atomic_bool spinning; /* a loop looks for requests instead of sleeping */
	atomic_uint waiting; /* loops that wait for requests or look for them, see baton.h */
	atomic_uint extra; /* of the keeper's loops, those that run */
	struct awake awake;
	atomic_uint probation[STATS_OPCODES]; /* slow.c's, by opcode */
	int wake_fd; /* eventfd: readable once the loops shall end */
	_Atomic int error; /* first -errno that ended a loop; -ENODEV is the ordinary end */
	atomic_bool stopping;
	atomic_uint running;
	int ended_fd; /* eventfd: readable when the last loop has ended */
	pthread_mutex_t lock; /* of what follows, and of loop.bio against its end */
	pthread_cond_t start_cond;
	/* FUSE over io_uring; lane.c's. */
	_Atomic int ring; /* enum ring_state */
	int ring_fd; /* eventfd: readable once the kernel has agreed, or not */
	unsigned nqueues; /* the kernel's, */
	unsigned nlanes; /* and those that serve them: queue n is lane n % nlanes's */
	struct lane *lanes; /* NULL: none */
	struct loop *lane_loops; /* two a lane */
	unsigned own_entries; /* those of the lanes' first loops; the extra ones' follow */
	pthread_t guard; /* guard.c's */
	bool guard_started;
	int guard_fd; /* eventfd: readable when loops have begun to work */
	atomic_bool guarded; /* the guard looks at them */
	atomic_uint lanes_open; /* of these, those that have registered their entries */
	struct request_pool entries;
	unsigned lanes_started; /* lanes' loops, and their first error */
	int lanes_error;
	struct batchio_error lanes_reason;
	unsigned started; /* loops that have a handle, or failed to get one */
	int start_error;
	struct batchio_error start_reason;
};

struct loop {
	struct loop_group *group;
	unsigned number;
	pthread_t thread;
	struct batchio *bio;
	struct transport transport;
	_Atomic uint64_t taken; /* requests received, ever */
	unsigned received; /* in this turn */
	unsigned let_go; /* of these, those to be answered later */
	bool answered; /* the one that is being dispatched */
	bool late; /* one of this turn took long: what waits goes first */
	struct baton baton;
	bool waited; /* something may have ended within submit */
	atomic_bool ended; /* a loop of the keeper's: nothing is left of it but the thread */
	struct lane *lane; /* of a ring; NULL: the loop reads the device */
	struct inbox inbox; /* a lane's */
	/* A lane's: it does not wait for requests; and how often it began to; what the guard saw.
	 */
	atomic_bool turning;
	atomic_uint turns;
	unsigned turns_seen;
	bool stuck; /* as the guard found it */
	/* A front: it waits with nothing to do, and nobody has handed it something. */
	atomic_bool idle;
	struct request *current; /* being dispatched or answered, see loop_current() */
	void *touched[LOOP_DRAIN]; /* fs/data.c: files that this turn queued something for */
	unsigned ntouched;
	struct loop_stats stats;
	struct batchio *stats_bio; /* bio while it may be asked for its counters (group.lock) */
	struct batchio_counters ended_io; /* the counters of those that were closed */
	struct spin spin;
	struct awake_looks looks;
	struct batchio_request wake;
	bool wake_armed;
	bool thread_started;
};

/*
 * Makes the pool and one thread with its handle a loop; the threads wait for requests on
 * config->device from then on. 0, or -errno with *error filled (code may be
 * BATCHIO_EURINGUNAVAILABLE), and nothing is left.
 */
int loop_group_start(struct loop_group *group, const struct loop_group_config *config,
	struct batchio_error *error);

/* FUSE over io_uring is wanted, and ready for the kernel to agree. */
bool loop_group_has_ring(struct loop_group *group);

/* The kernel has our answer to INIT: it has agreed to FUSE over io_uring, or it has not. Once. */
void loop_group_open_ring(struct loop_group *group, bool agreed);

/* What requests come by: the transport's name. */
const char *loop_group_transport(struct loop_group *group);

/* Makes the loops end although the mount is there: for a start that fails. Any thread. */
void loop_group_stop(struct loop_group *group);

/* Waits for all loops to end. Returns the error that ended them, -ENODEV as a rule. */
int loop_group_join(struct loop_group *group);

/* After that, and when nobody else has a request of theirs. */
void loop_group_free(struct loop_group *group);

/* Sums the counters of all loops; any thread, between start and join. */
void loop_group_stats(struct loop_group *group, struct stats_sum *sum);

/* Receives and dispatches a request if there is one: 1; 0, or -errno. For spin.c. */
int loop_receive_one(struct loop *loop);

/* Waits for something else to end than answers on their way. As batchio_reap(). For baton.c. */
int loop_reap_next(struct loop *loop, int timeout_ms);

/*
 * The one request at hand is all that the calling loop has to do, and another loop is there for the
 * next to come: it may wait for the source.
 */
bool loop_may_wait(void);

/*
 * Between the parts of a request that takes long: answers what of others has ended meanwhile. With
 * no lock held that an answer to a read, write or sync may want.
 */
void loop_breathe(void);

/* The loop of the calling thread, or NULL. */
struct loop *loop_self(void);

/*
 * The request at hand: set while one is dispatched, until it is answered or let go. Whoever answers
 * one later sets it with loop_set_current() before.
 */
struct request *loop_current(void);

/*
 * With NULL while a request is dispatched: it is let go, to be answered later. It has to be said
 * before any other loop can come to know of the request, for it is not this loop's from then on.
 */
void loop_set_current(struct request *req);

/* Answers the request at hand with the bytes of iov, as libfuse composes them, and lets it go. */
void loop_answer(const struct iovec *iov, int count);

/*
 * The same, from any thread, of a request that a loop has left to others: true. False: it is none
 * of the ring's, whose answers are matched; a message to the device has to do.
 */
bool loop_answer_late(struct loop_group *group, const struct iovec *iov, int count);

#endif
