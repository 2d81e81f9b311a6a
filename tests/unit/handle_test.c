/* SPDX-License-Identifier: MIT */
/* The handle table: numbers from the kernel find open handles of the right inode, and nothing else.
 */
#include "fs/handle.h"

#include <fcntl.h>
#include <unistd.h>

#include "test.h"

static struct handle_table *table;

static int some_fd(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

TEST(an_open_handle_is_found_by_number_and_inode)
{
	struct handle *h;

	REQUIRE(handle_table_new(&table) == 0, "no table");
	h = handle_new(table, 5, some_fd(), FD_APPEND, O_RDWR);
	REQUIRE(h, "no handle");
	CHECK(handle_find(table, h->fh, 5) == h);
	CHECK(handle_find(table, h->fh, 6) == NULL);
	CHECK(handle_find(table, h->fh, 0) == NULL);
	CHECK(handle_find(table, h->fh + 1, 5) == NULL);
	CHECK(handle_find(table, UINT64_MAX, 5) == NULL);
	CHECK_EQ(handle_count(table), 1);
	handle_table_free(table);
}

TEST(a_new_handle_has_the_descriptor_at_its_variant_only)
{
	int fd = some_fd();
	struct handle *h;

	REQUIRE(handle_table_new(&table) == 0, "no table");
	h = handle_new(table, 5, fd, FD_DIRECT | FD_APPEND, O_WRONLY);
	REQUIRE(h, "no handle");
	for (int i = 0; i < FD_VARIANTS; i++)
		CHECK_EQ(h->fd[i], i == (FD_DIRECT | FD_APPEND) ? fd : -1);
	CHECK_EQ(h->first, FD_DIRECT | FD_APPEND);
	CHECK_EQ(h->access, O_WRONLY);
	CHECK(list_empty(&h->node));
	CHECK_EQ(h->dir_offset, 0);
	handle_table_free(table);
}

TEST(freeing_closes_every_descriptor_and_hides_the_handle)
{
	int a = some_fd(), b = some_fd();
	struct handle *h;
	uint32_t index;

	REQUIRE(handle_table_new(&table) == 0, "no table");
	h = handle_new(table, 5, a, 0, O_RDWR);
	REQUIRE(h, "no handle");
	index = h->index;
	h->fd[FD_DIRECT] = b;
	handle_free(table, h);
	CHECK(!is_open(a));
	CHECK(!is_open(b));
	CHECK(handle_find(table, index, 5) == NULL);
	CHECK_EQ(handle_count(table), 0);
	handle_table_free(table);
}

TEST(slots_are_used_again_and_start_clean_numbers_never)
{
	struct handle *h;
	uint32_t index;
	uint64_t fh;

	REQUIRE(handle_table_new(&table) == 0, "no table");
	h = handle_new(table, 5, some_fd(), FD_DIRECT, O_RDWR);
	REQUIRE(h, "no handle");
	index = h->index;
	fh = h->fh;
	h->dir_offset = 99;
	handle_free(table, h);
	h = handle_new(table, 6, some_fd(), 0, O_RDONLY);
	REQUIRE(h, "no handle");
	CHECK_EQ(h->index, index);
	CHECK_EQ(h->dir_offset, 0);
	CHECK_EQ(h->fd[FD_DIRECT], -1);
	CHECK(handle_find(table, fh, 5) == NULL);
	CHECK(handle_find(table, fh, 6) == NULL);
	CHECK(handle_find(table, h->fh, 6) == h);
	handle_table_free(table);
}

TEST(freeing_the_table_closes_what_is_open)
{
	int fd = some_fd();

	REQUIRE(handle_table_new(&table) == 0, "no table");
	handle_new(table, 5, fd, 0, O_RDWR);
	handle_table_free(table);
	CHECK(!is_open(fd));
}

enum { WORKERS = 4 };

static void *hammer(void *arg)
{
	fuse_ino_t ino = (size_t)arg;

	for (int i = 0; i < 5000; i++) {
		struct handle *h = handle_new(table, ino, some_fd(), i % FD_VARIANTS, O_RDWR);

		if (!h || handle_find(table, h->fh, ino) != h)
			return "failed";
		/* Whatever the others have open is not ours. */
		if (handle_find(table, i % 16, ino) && handle_find(table, i % 16, ino) != h)
			return "failed";
		handle_free(table, h);
	}
	return NULL;
}

TEST(threads_share_the_table)
{
	pthread_t threads[WORKERS];

	REQUIRE(handle_table_new(&table) == 0, "no table");
	for (size_t i = 0; i < WORKERS; i++)
		pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
	for (int i = 0; i < WORKERS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		CHECK(result == NULL);
	}
	CHECK_EQ(handle_count(table), 0);
	handle_table_free(table);
}

TEST_MAIN()
