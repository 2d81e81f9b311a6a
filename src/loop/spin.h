/* SPDX-License-Identifier: MIT */
/*
 * Looking for the next request for a moment before going to sleep. For loop.c and lane.c.
 *
 * A program that waits for each answer before it asks again sends its next request a few
 * microseconds after the last answer; going to sleep and being woken on another processor takes as
 * long again. So one idle loop of the mount looks again for a short while, as long as that succeeds
 * more often than not and nobody else wants its processor.
 */
#ifndef LOOP_SPIN_H
#define LOOP_SPIN_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

struct spin {
	int credit; /* successes less failures, within bounds */
	unsigned resting; /* sleeps to go before the next try */
	unsigned since_look; /* spins since the last look at who else wants the processor */
	long preempted; /* how often this thread had been, then */
};

/*
 * May receive and dispatch one request: true. False: the loop shall sleep. Called with nothing at
 * work in the loop but its polls.
 */
bool spin_for_request(struct loop *loop);

/* The same for a loop of a ring: true where batchio_reap() has something to look at. */
bool spin_for_news(struct loop *loop);

#endif
