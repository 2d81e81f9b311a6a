/* SPDX-License-Identifier: MIT */
/* Each user's share of handles, counted by user. Run by `make test`. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/handle.h"
#include "fs/share.h"
#include "test.h"

TEST(nobody_but_root_takes_more_than_the_share)
{
	struct shares *shares = calloc(1, sizeof(*shares));

	REQUIRE(shares, "no memory");
	shares->most = 3;
	for (int i = 0; i < 3; i++)
		CHECK(share_take(shares, 7));
	CHECK(!share_take(shares, 7));
	CHECK(share_take(shares, 8));
	for (int i = 0; i < 100; i++)
		CHECK(share_take(shares, 0));
	share_give(shares, 7);
	CHECK(share_take(shares, 7));
	CHECK(!share_take(shares, 7));
	/* Giving back what was never had is no credit. */
	share_give(shares, 9);
	for (int i = 0; i < 3; i++)
		CHECK(share_take(shares, 9));
	CHECK(!share_take(shares, 9));
	free(shares);
}

TEST(users_come_and_go_without_end)
{
	struct shares *shares = calloc(1, sizeof(*shares));

	REQUIRE(shares, "no memory");
	shares->most = 1;
	CHECK(share_take(shares, 1));
	for (uid_t uid = 2; uid < 3 * SHARE_USERS; uid++) {
		CHECK(share_take(shares, uid));
		CHECK(!share_take(shares, uid));
		share_give(shares, uid);
	}
	CHECK(!share_take(shares, 1));
	free(shares);
}

static bool is_right(int fd, fuse_ino_t ino, void *arg)
{
	(void)ino, (void)arg;
	return fcntl(fd, F_GETFD) >= 0;
}

TEST(handles_count_until_they_are_freed_and_after_a_recovery)
{
	struct handle_table *table;
	struct handle *h[3];

	REQUIRE(handle_table_new(&table) == 0, "no table");
	handle_bound(table, 2);
	for (int i = 0; i < 3; i++) {
		h[i] = handle_new(table, 5, open("/dev/null", O_RDWR), 0, O_RDWR);
		REQUIRE(h[i], "no handle");
		CHECK_EQ(handle_own(table, h[i], 7), i < 2);
	}
	handle_free(table, h[2]);
	handle_free(table, h[1]);
	h[1] = handle_new(table, 5, open("/dev/null", O_RDWR), 0, O_RDWR);
	CHECK(handle_own(table, h[1], 7));
	h[2] = handle_new(table, 5, open("/dev/null", O_RDWR), 0, O_RDWR);
	CHECK(!handle_own(table, h[2], 7));
	CHECK(handle_own(table, h[2], 8));
	/* User 7 has two, 8 has one. */
	handle_recover(table, is_right, NULL);
	h[2] = handle_new(table, 5, open("/dev/null", O_RDWR), 0, O_RDWR);
	CHECK(!handle_own(table, h[2], 7));
	CHECK(handle_own(table, h[2], 8));
	handle_table_free(table);
}

TEST_MAIN()
