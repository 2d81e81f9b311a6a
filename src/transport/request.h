/* SPDX-License-Identifier: MIT */
/*
 * One request of the kernel: its message, its answer, and room for whoever works on it.
 * For transport/, loop/ and fs/.
 *
 * The buffer: what the message has before its data (80 bytes for READ and WRITE) ends at a page
 * boundary, so that the payload of a WRITE is page-aligned and goes to the backend from where it
 * arrived; the data of a READ is put in the same place, its reply header right before it.
 *
 *	| area: vector | ring header | free | header | payload: max_write bytes, page-aligned |
 */
#ifndef TRANSPORT_REQUEST_H
#define TRANSPORT_REQUEST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "batchio/batchio.h"
#include "batchio/command.h"
#include "transport/abi.h"

/* IOV_MAX iovecs, */
#define REQUEST_VECTOR 16384
/* and a page more: the ring's header at its beginning, the message's at its end. */
#define REQUEST_AREA (REQUEST_VECTOR + 4096)
/* Private to the layer that works on the request; fs/data.c asserts that it is enough. */
#define REQUEST_SCRATCH 768
/* Answers without payload: the largest is ENTRY + OPEN of CREATE, 160 bytes. */
#define REQUEST_SMALL 256

struct request_pool;
struct transport;
struct transport_ops;

struct request {
	struct list node; /* pool's free list; a list of arrived ones; a loop's inbox */
	const struct transport_ops *ops; /* of the transport it comes by */
	char *area; /* REQUEST_AREA bytes */
	char *payload; /* area + REQUEST_AREA */
	char *message; /* from the header on; ends in payload, or before it */
	size_t length; /* of the message received */
	size_t uses; /* bytes of payload that it needs, its answer's included; the pool's */
	size_t touched; /* bytes of payload that are in memory; the pool's */
	bool ready; /* its first pages are in memory */
	_Atomic uint64_t unique; /* of the message */
	uint32_t opcode;
	struct request_pool *pool; /* its memory */
	bool answered; /* the answer is laid out, and goes out */

	struct iovec reply_iov[2];
	union {
		struct { /* dev.c's */
			struct batchio_request reply;
			struct transport *sender; /* by which the answer goes out */
			char small[REQUEST_SMALL];
		};
		struct { /* ring.c's: the request is an entry of the ring */
			struct batchio_command command;
			struct transport *holder; /* on whose handle the command waits */
			uint16_t queue;
			uint8_t tries; /* of its command, that have failed */
		};
	};

	_Alignas(16) char scratch[REQUEST_SCRATCH];
};

static inline void *request_message(const struct request *req)
{
	return req->message;
}

static inline struct abi_ring_header *request_ring_header(const struct request *req)
{
	return (struct abi_ring_header *)(req->area + REQUEST_VECTOR);
}

/*
 * A bounded set of requests with their buffers, shared by the loops of a mount. Thread-safe.
 *
 * Most requests are small, and so many at once are wanted; were they all large, their buffers would
 * be hundreds of MiB. So what those at work use is bounded as well, and over a bound buffers go
 * back to the system when they are given back.
 */
struct request_pool {
	pthread_mutex_t lock;
	struct list free;
	unsigned count;
	/* Read without the lock. */
	_Atomic unsigned available;
	_Atomic size_t used; /* bytes of payload, by requests at work */
	_Atomic bool stretched; /* beyond their bound, until they are below it again */
	size_t touched; /* bytes of payload that are in memory */
	bool lasting; /* what is read into a request must not be lost with the process */
	size_t payload_size;
	struct request *requests;
	char *memory;
	size_t memory_size;
};

/* payload_size is rounded up to whole pages. 0 or -ENOMEM. */
int request_pool_init(struct request_pool *pool, unsigned count, size_t payload_size,
	const struct transport_ops *ops);
void request_pool_destroy(struct request_pool *pool);

/* NULL when all are in use, or as much memory as may be. */
struct request *request_take(struct request_pool *pool);
void request_give(struct request_pool *pool, struct request *req);

/*
 * Before a message is read into it. Killed while the kernel waits for a page of the buffer, a
 * process takes the message with it, and its sender gets EIO. So in a lasting pool that page is
 * there: all of the buffer as long as so much may be in memory, else what most messages need.
 */
void request_make_ready(struct request *req);

/* None can be had now: one at work has to end first. */
bool request_pool_empty(struct request_pool *pool);

/*
 * Those at work are stuck, perhaps all in one place that others need not touch: until they use less
 * memory again only their number is bounded.
 */
void request_pool_stretch(struct request_pool *pool);

/* So many bytes of its payload are needed until it is given back. Once for each time. */
void request_use(struct request *req, size_t bytes);

#endif
