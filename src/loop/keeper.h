/* SPDX-License-Identifier: MIT */
/*
 * Keeps a group answering while its loops are stuck in the source. For loop.c only.
 *
 * A loop that looks a name up, makes or removes one waits for the source as any program does. Where
 * requests wait and no loop has taken one for a while, another loop is started, up to LOOP_EXTRA;
 * it ends when it has had nothing to do for some time.
 */
#ifndef LOOP_KEEPER_H
#define LOOP_KEEPER_H

#include "loop/loop.h"

/* 0 or -errno. */
int keeper_start(struct loop_group *group);

/* After the group's own loops have ended: waits for the keeper and its loops. */
void keeper_join(struct loop_group *group);

#endif
