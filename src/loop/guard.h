/* SPDX-License-Identifier: MIT */
/*
 * Looks whether a lane's wide loop is stuck in the source, and gives the lane another one. For
 * lane.c only.
 *
 * The kernel gives requests to loops that have no time for them, so it is no use to wait until some
 * go unread, as keeper.h does. While there is work the guard looks at all lanes some times a
 * second; else it sleeps.
 */
#ifndef LOOP_GUARD_H
#define LOOP_GUARD_H

#include <stdatomic.h>

#include "loop/loop.h"

/* 0 or -errno. */
int guard_start(struct loop_group *group);
/* The group is stopping, or goes without a ring. */
void guard_join(struct loop_group *group);

void guard_wake(struct loop_group *group);

/* A loop has something to do. */
static inline void guard_call(struct loop_group *group)
{
	if (!atomic_load(&group->guarded))
		guard_wake(group);
}

#endif
