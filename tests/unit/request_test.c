/* SPDX-License-Identifier: MIT */
/* The pool of requests: so many, and so much memory of them, and no more. */
#include "transport/request.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test.h"
#include "transport/transport.h"

enum { COUNT = 256, MIB = 1 << 20, MOST_MIB = 128 };

static struct request_pool pool;
static struct request *held[COUNT];

/* Takes requests that need so much each, up to n, and fills them. How many there were. */
static unsigned take(struct request **into, unsigned n, size_t bytes)
{
	unsigned got = 0;

	while (got < n && (into[got] = request_take(&pool))) {
		request_use(into[got], bytes);
		memset(into[got]->payload, 1, bytes);
		got++;
	}
	return got;
}

static void give(struct request **from, unsigned n)
{
	while (n)
		request_give(&pool, from[--n]);
}

/* Of the pool's memory, whatever else the process has (a sanitizer's shadow, say). */
static size_t resident_mib(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t pages = pool.memory_size / page;
	unsigned char *in_memory = calloc(pages, 1);
	size_t n = 0;

	if (!in_memory || mincore(pool.memory, pool.memory_size, in_memory))
		n = pages;
	for (size_t i = 0; in_memory && i < pages; i++)
		n += in_memory[i] & 1;
	free(in_memory);
	return n * page / MIB;
}

TEST(small_requests_are_bounded_by_their_number)
{
	REQUIRE(request_pool_init(&pool, COUNT, MIB, &transport_dev) == 0, "no pool");
	CHECK_EQ(take(held, COUNT, 4096), COUNT);
	CHECK(request_pool_empty(&pool));
	CHECK(request_take(&pool) == NULL);
	request_give(&pool, held[0]);
	CHECK(!request_pool_empty(&pool));
	held[0] = request_take(&pool);
	CHECK(held[0]);
	give(held, COUNT);
	request_pool_destroy(&pool);
}

TEST(large_requests_are_bounded_by_their_memory)
{
	unsigned n;

	REQUIRE(request_pool_init(&pool, COUNT, MIB, &transport_dev) == 0, "no pool");
	n = take(held, COUNT, MIB);
	CHECK(n >= 32 && n < MOST_MIB);
	CHECK(request_pool_empty(&pool));
	/* One that ends makes room for one. */
	give(held + n - 1, 1);
	CHECK(!request_pool_empty(&pool));
	CHECK_EQ(take(held + n - 1, 2, MIB), 1);
	give(held, n);
	CHECK(!request_pool_empty(&pool));
	CHECK_EQ(pool.used, 0);
	request_pool_destroy(&pool);
}

TEST(stuck_ones_leave_room_until_they_use_less)
{
	unsigned n, more;

	REQUIRE(request_pool_init(&pool, COUNT, MIB, &transport_dev) == 0, "no pool");
	n = take(held, COUNT, MIB);
	request_pool_stretch(&pool);
	CHECK(!request_pool_empty(&pool));
	more = take(held + n, COUNT - n, MIB);
	CHECK_EQ(n + more, COUNT);
	CHECK(request_pool_empty(&pool));
	/* Still over the bound. */
	give(held + n, more);
	CHECK(!request_pool_empty(&pool));
	/* Below it, and there it stays. */
	give(held + n - 1, 1);
	CHECK_EQ(take(held + n - 1, 2, MIB), 1);
	give(held, n);
	request_pool_destroy(&pool);
}

TEST(memory_stays_bounded_when_small_requests_hold_buffers_that_were_large)
{
	REQUIRE(request_pool_init(&pool, COUNT, MIB, &transport_dev) == 0, "no pool");
	for (int round = 0; round < 5; round++) {
		unsigned small = take(held, 100, 4096);
		unsigned large = take(held + small, COUNT - small, MIB);

		CHECK_EQ(small, 100);
		CHECK(large >= 32);
		/* The first given back is the first taken again. */
		give(held + (round % 2 ? small : 0), round % 2 ? large : small);
		give(held + (round % 2 ? 0 : small), round % 2 ? small : large);
	}
	CHECK(resident_mib() >= 32 && resident_mib() < MOST_MIB);
	request_pool_destroy(&pool);
}

TEST_MAIN()
