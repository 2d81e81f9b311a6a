/* SPDX-License-Identifier: MIT */
/* What the loops of a group share from their start to their end. For src/loop only. */
#ifndef LOOP_TURN_H
#define LOOP_TURN_H

#include "loop/loop.h"

/* ---- loop.c ---- */

/*
 * The calling thread is the loop's from now on: loop_self(). NULL: no loop's.
 */
void turn_set_self(struct loop *loop);

/*
 * Turns until the file system is unmounted, the group is stopped, or something fails; a loop of the
 * keeper's also ends when it has been idle for a while: 0. Else -errno.
 */
int turn_run(struct loop *loop);

/* Nothing is at work but answers on their way. */
bool turn_idle(const struct loop *loop);

/* Starts to wait until fd is readable: done() with the loop as the poll's user. 0 or -errno. */
int turn_poll(struct loop *loop, struct batchio_request *poll, int fd,
	void (*done)(struct batchio_request *poll, ssize_t result));

/* ---- group.c ---- */

/* For threads beside the loops: waits for fd (-1: none) to be readable, or `ms` (-1: for ever).
 * False when the group ends. */
bool group_wait(struct loop_group *group, int fd, int ms);

/* Of memory that is all zero. */
void turn_init(struct loop *loop, struct loop_group *group, unsigned number,
	const struct transport_ops *transport);

/* The thread becomes the loop's, with a handle. 0, or -errno with *reason filled. */
int turn_begin(struct loop *loop, struct batchio_error *reason);

/* Ends the other loops as well: a loop alone never ends while the mount is good. */
void turn_end_all(struct loop *loop, int error);

/* Answers what is at work, and closes the handle. */
void turn_end(struct loop *loop);

/* The thread of one of the keeper's loops; zero but for its group and number. */
void *loop_extra_main(void *loop);

#endif
