/* SPDX-License-Identifier: MIT */
/*
 * FUSE over io_uring (Linux 6.14 and later). For loop/.
 *
 * The kernel has a queue for each processor, and a queue has entries: each is a request of ours
 * with its buffer. An entry waits as a command on the handle of some loop, becomes a request when a
 * process on that processor asks for something, and waits again, on the handle of the loop that
 * sends the answer. FORGET, INTERRUPT and notifications stay on /dev/fuse.
 */
#ifndef TRANSPORT_RING_H
#define TRANSPORT_RING_H

#include "transport/transport.h"

extern const struct transport_ops transport_ring;

/* Why there is none to be had of the running kernel, or NULL. Static. */
const char *ring_missing(void);

/* The kernel's queues: one for each processor that may ever be there. */
unsigned ring_queues(void);

/*
 * Gives the kernel entry, of t's pool, for queue. It takes it, or t->refused is set, in the next
 * batchio_reap(). 0 or -errno.
 */
int ring_register(struct transport *t, struct request *entry, unsigned queue);

/* The request that was received, is not answered, and has this unique number; or NULL. Any thread.
 */
struct request *ring_find(struct request_pool *pool, uint64_t unique);

#endif
