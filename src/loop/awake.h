/* SPDX-License-Identifier: MIT */
/*
 * Keeps the machine's processors from sleeping while requests come one after another. For group.c,
 * loop.c and serve.c.
 *
 * Client and daemon wake each other in turns, and the disk wakes either. A processor that has gone
 * to sleep meanwhile takes as long to wake as the work itself takes, above all a virtual one, which
 * gives itself back to its host. The kernel can be asked to keep them awake (PM QoS,
 * /dev/cpu_dma_latency, root's). This is asked for while at least some thousand requests a second
 * come, and taken back within milliseconds after.
 */
#ifndef LOOP_AWAKE_H
#define LOOP_AWAKE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_group;

/* A loop looks at the clock each so many requests. */
#define AWAKE_REQUESTS 8

/* A group's part. */
struct awake {
	int call_fd; /* eventfd: readable when the thread shall begin */
	pthread_t thread;
	atomic_bool started;
	atomic_bool held; /* asked for */
	atomic_uint seen; /* looks while it is */
	atomic_uint_least64_t holds; /* times */
	atomic_uint_least64_t held_ns; /* all of those that ended */
};

/* A loop's. */
struct awake_looks {
	unsigned requests;
	int64_t at; /* the last look */
};

/* How to ask for it. */
struct awake_means {
	int fd; /* /dev/cpu_dma_latency; -1: processors sleep as they like */
	int32_t latency; /* microseconds to ask for */
};

/*
 * To be called before the mount, which may cover /dev and /sys. For the group's configuration; the
 * descriptor is the caller's to close, and -1 where this kernel or these rights have none, or it
 * would change nothing.
 */
struct awake_means awake_open(void);

/* Logs why it cannot; the group does without then. */
void awake_start(struct loop_group *group);
/* The group is stopping. */
void awake_join(struct loop_group *group);

/* For awake_count(). */
void awake_look(struct loop *loop, struct awake_looks *looks);

/* A loop has received a request. */
static inline void awake_count(struct loop *loop, struct awake_looks *looks)
{
	if (++looks->requests == AWAKE_REQUESTS)
		awake_look(loop, looks);
}

#endif
