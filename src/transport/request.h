/* SPDX-License-Identifier: MIT */
/*
 * One request of the kernel: its message, its answer, and room for whoever works on it.
 * For transport/, loop/ and fs/.
 *
 * The message buffer: the header (80 bytes for READ and WRITE) ends at a page boundary, so that the
 *payload of a WRITE is page-aligned and goes to the backend from where it arrived; the data of a
 *READ is put in the same place, its reply header right before it.
 *
 *	| area: REQUEST_AREA - 80 bytes free | header | payload: max_write bytes, page-aligned |
 */
#ifndef TRANSPORT_REQUEST_H
#define TRANSPORT_REQUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "batchio/batchio.h"
#include "transport/abi.h"

/* Holds IOV_MAX iovecs and the message header. */
#define REQUEST_AREA 20480
/* Private to the layer that works on the request; fs/data.c asserts that it is enough. */
#define REQUEST_SCRATCH 768
/* Answers without payload: the largest is ENTRY + OPEN of CREATE, 160 bytes. */
#define REQUEST_SMALL 256

struct request_pool;
struct transport;

struct request {
	struct list node; /* pool's free list */
	char *area; /* REQUEST_AREA bytes; the header is at its end */
	char *payload; /* area + REQUEST_AREA */
	size_t length; /* of the message received, from request_message() on */
	uint64_t unique; /* of the message */
	uint32_t opcode;
	struct request_pool *pool; /* where it goes back to */
	bool answered; /* the answer is on its way; its end gives the request back */
	struct transport *sender; /* by which */

	struct batchio_request reply;
	struct iovec reply_iov[2];
	char small[REQUEST_SMALL];

	_Alignas(16) char scratch[REQUEST_SCRATCH];
};

static inline void *request_message(const struct request *req)
{
	return req->payload - FUSE_HEADER_SPACE;
}

/* A bounded set of requests with their buffers, shared by the loops of a mount. Thread-safe. */
struct request_pool {
	pthread_mutex_t lock;
	struct list free;
	unsigned count;
	_Atomic unsigned
		available; /* read without the lock by a loop that wonders whether to wait */
	size_t payload_size;
	struct request *requests;
	char *memory;
	size_t memory_size;
};

/* payload_size is rounded up to whole pages. 0 or -ENOMEM. */
int request_pool_init(struct request_pool *pool, unsigned count, size_t payload_size);
void request_pool_destroy(struct request_pool *pool);

/* NULL when all are in use. */
struct request *request_take(struct request_pool *pool);
void request_give(struct request_pool *pool, struct request *req);

#endif
