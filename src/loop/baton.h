/* SPDX-License-Identifier: MIT */
/*
 * Which loop waits for requests. For loop.c and keeper.c.
 *
 * One that does is enough: woken in turns, they would work on each other's processors, and each in
 * vain where another is awake. The others wait for the baton, which is passed on by who is going to
 * be busy, and by the keeper where nobody did.
 */
#ifndef LOOP_BATON_H
#define LOOP_BATON_H

#include <stdatomic.h>
#include <stdbool.h>

#include "batchio/batchio.h"

struct loop;
struct loop_group;

/* A loop's part. */
struct baton {
	int fd; /* eventfd: readable when the loop shall look for requests; -1 for the keeper's */
	bool waiting; /* for requests; counts among group->waiting */
	atomic_bool parked; /* waits for the baton, and has not been given it */
	bool armed; /* poll is in flight */
	struct batchio_request poll;
};

/* 0 or -errno. */
int baton_open(struct baton *baton);
void baton_close(struct baton *baton);

/* The loop waits for requests, or looks for them, or no longer does. Again is the same. */
void baton_set_waiting(struct loop *loop, bool waiting);

/* Whether another loop does. */
bool baton_other_waits(const struct loop *loop);

/*
 * Waits for the baton instead of requests, if another loop waits for these: true; for a while only,
 * whoever should have passed it. The loop has nothing else to do, and no poll of the device.
 */
bool baton_wait(struct loop *loop);

/* Wakes a loop that waits for the baton, if there is one: true. Any thread. */
bool baton_pass(struct loop_group *group);

#endif
