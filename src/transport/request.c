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

/* Bytes of payload: less is not counted, a page or two each. */
#define LARGE 16384
/* Before the payload, where the message begins. */
#define PAGE_BEFORE 4096
/* As much as requests at work may use; one more may come on top by each loop. */
#define USED_MOST (72u << 20)
/* As much as stays in memory. */
#define TOUCHED_MOST (88u << 20)

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

bool request_pool_empty(struct request_pool *pool)
{
	return !pool->available ||
	       (atomic_load_explicit(&pool->used, memory_order_relaxed) >= USED_MOST &&
		       !atomic_load_explicit(&pool->stretched, memory_order_relaxed));
}

void request_pool_stretch(struct request_pool *pool)
{
	atomic_store_explicit(&pool->stretched, true, memory_order_relaxed);
}

struct request *request_take(struct request_pool *pool)
{
	struct list *node;

	if (request_pool_empty(pool))
		return NULL;
	pthread_mutex_lock(&pool->lock);
	node = list_pop(&pool->free);
	if (node)
		pool->available--;
	pthread_mutex_unlock(&pool->lock);
	return node ? list_entry(node, struct request, node) : NULL;
}

void request_use(struct request *req, size_t bytes)
{
	struct request_pool *pool = req->pool;

	if (bytes > pool->payload_size)
		bytes = pool->payload_size;
	if (bytes < LARGE)
		return;
	req->uses = bytes;
	atomic_fetch_add_explicit(&pool->used, bytes, memory_order_relaxed);
	if (bytes <= req->touched)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->touched += bytes - req->touched;
	pthread_mutex_unlock(&pool->lock);
	req->touched = bytes;
}

static void touch(char *from, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

#ifdef MADV_POPULATE_WRITE
	if (madvise(from, size, MADV_POPULATE_WRITE) == 0)
		return;
#endif
	/* Kernels before 5.14. */
	for (size_t n = 0; n < size; n += page)
		((volatile char *)from)[n] = 0;
}

void request_make_ready(struct request *req)
{
	struct request_pool *pool = req->pool;
	size_t more = pool->payload_size - req->touched;
	bool all;

	if (!pool->lasting || !more)
		return;
	pthread_mutex_lock(&pool->lock);
	all = pool->touched + more <= TOUCHED_MOST;
	if (all)
		pool->touched += more;
	pthread_mutex_unlock(&pool->lock);
	if (all)
		req->touched = pool->payload_size;
	if (all || !req->ready)
		touch(req->payload - PAGE_BEFORE, PAGE_BEFORE + (all ? pool->payload_size : LARGE));
	req->ready = true;
}

/* It is nobody else's yet. */
static void end_use(struct request_pool *pool, struct request *req)
{
	bool too_much;
	size_t used = atomic_fetch_sub_explicit(&pool->used, req->uses, memory_order_relaxed);

	if (used - req->uses < USED_MOST)
		atomic_store_explicit(&pool->stretched, false, memory_order_relaxed);
	req->uses = 0;
	pthread_mutex_lock(&pool->lock);
	too_much = pool->touched > TOUCHED_MOST;
	if (too_much)
		pool->touched -= req->touched;
	pthread_mutex_unlock(&pool->lock);
	if (!too_much)
		return;
	madvise(req->payload, req->touched, MADV_DONTNEED);
	req->touched = 0;
	req->ready = false;
}

void request_give(struct request_pool *pool, struct request *req)
{
	if (req->uses)
		end_use(pool, req);
	pthread_mutex_lock(&pool->lock);
	/* One that comes back twice would be given to two requests at once. */
	assert(pool->available < pool->count);
	list_add_head(&req->node, &pool->free);
	pool->available++;
	pthread_mutex_unlock(&pool->lock);
}
