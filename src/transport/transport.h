/* SPDX-License-Identifier: MIT */
/*
 * How requests arrive and answers leave. For loop/ and, to answer, fs/.
 *
 * A transport belongs to one loop and runs on its thread; its I/O goes through the loop's batchio
 * handle, so that transport and backend share one ring.
 */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "batchio/batchio.h"
#include "stats/stats.h"
#include "transport/request.h"

struct transport;

struct transport_ops {
	const char *name; /* the word of -o transport= */

	/* Required. Loop thread, when nothing is left to do: makes batchio_reap() return when a
	 * request arrives. 0 or -errno. */
	int (*arm)(struct transport *t);

	/*
	 * Required. Loop thread. Receives one request into req (message, length, unique, opcode)
	 * that passed abi_check(). 1: received; 0: none now, arm() will tell; -ENODEV: the file
	 * system is unmounted; other -errno.
	 */
	int (*receive)(struct transport *t, struct request *req);

	/*
	 * Required. Loop thread. Queues the answer of req; its memory is req's own. When it is out,
	 * the request goes back to the pool.
	 */
	void (*send)(struct transport *t, struct request *req, int iovcnt);
};

struct transport {
	const struct transport_ops *ops;
	int fd; /* /dev/fuse, O_NONBLOCK; the owner of the mount closes it */
	struct batchio *bio;
	struct request_pool *pool;
	struct loop_stats *stats;
	struct batchio_request poll;
	bool armed; /* poll is in flight */
	bool ready; /* requests may be waiting */
	unsigned sending; /* answers on their way */
	bool at_once; /* answers go out within send(), not with the loop's next turn */
};

/* /dev/fuse */
extern const struct transport_ops transport_dev;

/*
 * Answers req with the bytes of iov, as libfuse composes them: iov[0] is the header. Copies what
 * does not lie in the request's own payload area. Once a request.
 */
void transport_answer(struct transport *t, struct request *req, const struct iovec *iov, int count);

#endif
