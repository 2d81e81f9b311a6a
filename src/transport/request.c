/* SPDX-License-Identifier: MIT */
/* The pool of requests; see request.h. */
#include "transport/request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/reserve.h"

int request_pool_init(struct request_pool *pool, unsigned count, size_t payload_size,
	const struct transport_ops *ops)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t stride;

	memset(pool, 0, sizeof(*pool));
	pthread_mutex_init(&pool->lock, NULL);
	list_init(&pool->free);
	pool->payload_size = (payload_size + page - 1) / page * page;
	stride = REQUEST_AREA + pool->payload_size;
	pool->memory_size = stride * count;
	pool->requests = calloc(count, sizeof(*pool->requests));
	/* Only pages that are used cost memory, and the free list is last in, first out. */
	pool->memory = reserve(pool->memory_size);
	if (!pool->requests || !pool->memory) {
		request_pool_destroy(pool);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < count; i++) {
		pool->requests[i].area = pool->memory + stride * i;
		pool->requests[i].payload = pool->requests[i].area + REQUEST_AREA;
		pool->requests[i].message = pool->requests[i].payload - FUSE_HEADER_SPACE;
		pool->requests[i].pool = pool;
		pool->requests[i].ops = ops;
		list_add_tail(&pool->requests[i].node, &pool->free);
	}
	pool->count = count;
	pool->available = count;
	return 0;
}

void request_pool_destroy(struct request_pool *pool)
{
	if (pool->memory)
		munmap(pool->memory, pool->memory_size);
	free(pool->requests);
	pthread_mutex_destroy(&pool->lock);
	memset(pool, 0, sizeof(*pool));
}

struct request *request_take(struct request_pool *pool)
{
	struct list *node;

	pthread_mutex_lock(&pool->lock);
	node = list_pop(&pool->free);
	if (node)
		pool->available--;
	pthread_mutex_unlock(&pool->lock);
	return node ? list_entry(node, struct request, node) : NULL;
}

void request_give(struct request_pool *pool, struct request *req)
{
	pthread_mutex_lock(&pool->lock);
	/* One that comes back twice would be given to two requests at once. */
	assert(pool->available < pool->count);
	list_add_head(&req->node, &pool->free);
	pool->available++;
	pthread_mutex_unlock(&pool->lock);
}
