/* SPDX-License-Identifier: MIT */
/*
 * Which kinds of requests have made a loop wait for the source lately, so that the next of the kind
 * holds up nobody else. Any loop; what one has found holds for all of its group.
 *
 * Most calls of a file system end within microseconds, and waking another loop first costs as much
 * as they do. So each is timed: after one that took long, another loop is asked to look for
 * requests before the next of its kind, until so many of these were quick.
 */
#ifndef LOOP_SLOW_H
#define LOOP_SLOW_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* By opcode: whether the next is likely to wait. */
bool slow_expected(const struct loop *loop, unsigned opcode);

/* Whether one of the kind is likely to wait, and others that the loop has at work would wait with
 * it. */
bool slow_for_others(const struct loop *loop, unsigned opcode);

/* Around a call that may wait: what slow_begin() returned goes to slow_end(). True: it took long.
 */
int64_t slow_begin(struct loop *loop, unsigned opcode);
bool slow_end(struct loop *loop, unsigned opcode, int64_t began);

#endif
