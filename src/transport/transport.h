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

#include "base/list.h"
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
	 * Required. Loop thread. Receives one request (message, length, unique, opcode) that passed
	 * abi_check(). 1: it is in *req; 0: none now, arm() will tell; -ENODEV: the file system is
	 * unmounted; other -errno.
	 */
	int (*receive)(struct transport *t, struct request **req);

	/*
	 * Required. Any thread. Puts the answer, as libfuse composes it (iov[0] begins with the
	 * header), in the request's own memory. What is not there yet is copied.
	 */
	void (*lay_out)(struct request *req, const struct iovec *iov, int count);

	/* Required. Loop thread. The laid out answer goes out, with which the request ends. */
	void (*send)(struct transport *t, struct request *req);

	/* Required. Loop thread. The request was dispatched, and whoever may still answer it has
	 * what that takes. */
	void (*leave)(struct request *req);
};

struct transport {
	const struct transport_ops *ops;
	int fd; /* /dev/fuse, O_NONBLOCK; the owner of the mount closes it */
	struct batchio *bio;
	struct request_pool *pool;
	struct loop_stats *stats;
	bool ready; /* requests may be waiting */
	unsigned armed; /* of its polls or commands, those that wait for a request */
	unsigned sending; /* answers on their way that are nothing to wait for */
	/* dev.c's */
	struct batchio_request poll;
	bool at_once; /* answers go out within send(), not with the loop's next turn */
	/* ring.c's */
	struct list arrived;
	int refused; /* -errno of an entry that the kernel did not take */
	int ended; /* -errno that the kernel ended an entry with */
};

/* /dev/fuse */
extern const struct transport_ops transport_dev;

/* Is base, of length bytes, in the payload of req? For lay_out(). */
bool answer_in_payload(const struct request *req, const void *base, size_t length);

/* Gathers count pieces at `to`, which may be where some of them lie already. Their length. */
size_t answer_gather(char *to, const struct iovec *iov, int count);

/* Answers a message that failed its check, of which nothing else has seen more than the header. */
void answer_refused(struct transport *t, const struct fuse_in_header *in,
	struct fuse_out_header *out, int error);

#endif
