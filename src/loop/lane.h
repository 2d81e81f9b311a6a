/* SPDX-License-Identifier: MIT */
/*
 * The loops of FUSE over io_uring. For src/loop only.
 *
 * Each processor's queue has a lane of two loops. The kernel gives a request to the entry that came
 * back last, and from then on it is the business of the loop that holds this entry: were the loop
 * stuck in the source, the requests of its other entries would wait behind it. So the front loop
 * has one entry, with which it may wait for the source, and the wide loop has the others, and waits
 * for nothing but its ring. An entry stays with the loop that answers: what may wait is handed by
 * the wide loop to a front that is idle, and what arrives at a front together by the front to the
 * wide loop. So entries gather where requests of their kind are at home: one after another, which
 * is the front's, or many at once.
 *
 * Where a wide loop is stuck all the same (the page cache makes writers wait, a file system is
 * frozen), a guard adds another one with entries of its own, which come first.
 *
 * Loops run where they like: bound to the queue's processor, whoever was answered there was moved
 * to another one as often as not, and its next request with it.
 */
#ifndef LOOP_LANE_H
#define LOOP_LANE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "batchio/batchio.h"
#include "transport/request.h"

struct loop;
struct loop_group;

/* What other loops, and threads that are none, hand to a loop: requests to be dispatched, and
 * answered ones to be sent. */
struct inbox {
	pthread_mutex_t lock;
	struct list requests;
	int fd; /* eventfd: readable when there are some; -1: not made */
	bool armed; /* poll is in flight */
	struct batchio_request poll;
};

/* Wide loops of a lane that the guard may add. */
#define LANE_EXTRA 8

struct lane {
	struct loop *front; /* NULL: none */
	_Atomic(struct loop *) wide; /* the one that is handed things */
	struct loop *first; /* wide loop; the guard's */
	struct loop *extra; /* LANE_EXTRA more */
	unsigned extras; /* of these, those that run */
	unsigned calm; /* the guard's looks since a loop was stuck */
	atomic_bool cautious; /* one was, a moment ago: each request goes alone */
};

enum ring_state {
	RING_NONE, /* not wanted, or not to be had: /dev/fuse has it all */
	RING_READY, /* the lanes wait for the kernel to agree */
	RING_OPENING, /* it has: entries are registered */
	RING_OPEN,
};

/*
 * Makes the lanes with their handles, if config.ring asks for them; before the device is read. On
 * failure the reason is logged, and /dev/fuse has to do.
 */
void lanes_start(struct loop_group *group);

/* Waits for the lanes to end and frees them. */
void lanes_join(struct loop_group *group);

/* Their loops, running or not, of which there are lanes_count(). */
unsigned lanes_count(const struct loop_group *group);

/* For guard.c: another wide loop for the lane, which becomes the one that is handed things. False
 * when there is none left, or no thread. */
bool lane_add(struct loop_group *group, struct lane *lane);

/* For guard.c: moves what a loop was handed and has not taken to another. */
void lane_rescue(struct loop *from, struct loop *to);

/* Requests received at once by a loop at most. */
unsigned lane_limit(const struct loop *loop);

/* ---- for the turn of a lane's loop ---- */

/* Requests and polls of the lane's own that wait, beside the transport's. */
unsigned lane_polls(const struct loop *loop);

/* A request has been received: true if another loop takes it. */
bool lane_passes(struct loop *loop, struct request *req);

/* The answer of req is laid out: true if another loop sends it. */
bool lane_returns(struct loop *loop, struct request *req);

/* Waits for what is next. As batchio_reap(). */
int lane_rest(struct loop *loop);

#endif
