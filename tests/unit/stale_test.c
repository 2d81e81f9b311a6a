/* SPDX-License-Identifier: MIT */
/* What is told to the kernel: without doubles, in an order, everything. A socket is the kernel. */
#include "fs/stale.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test.h"
#include "transport/abi.h"

static int ends[2]; /* ours to tell, the kernel's to hear */
static int root = -1;
static struct inode_table *table;
static atomic_bool halt;
static struct stale *stale;

/* One message as the kernel gets it. */
struct heard {
	struct fuse_out_header header;
	union {
		struct fuse_notify_inval_inode_out inode;
		struct fuse_notify_inval_entry_out entry;
		char space[512];
	};
};

static bool start(void)
{
	root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	atomic_store(&halt, false);
	stale = calloc(1, sizeof(*stale));
	if (!stale || root < 0 || inode_table_new(root, 10, 0, &table) ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends))
		return false;
	stale_init(stale, ends[0], table, &halt);
	return true;
}

static void stop(void)
{
	stale_free(stale);
	free(stale);
	inode_table_free(table);
	close(ends[0]);
	close(ends[1]);
	close(root);
}

/* "attr 5", "data 5", "entry 5 name", "all"; "" when there is nothing. */
static const char *hear(void)
{
	static char text[512];
	struct heard h = {0};
	ssize_t got = read(ends[1], &h, sizeof(h));

	text[0] = '\0';
	if (got < (ssize_t)sizeof(h.header) || h.header.len != (size_t)got || h.header.unique)
		return text;
	if (h.header.error == FUSE_NOTIFY_INVAL_INODE)
		snprintf(text, sizeof(text), "%s %llu", h.inode.off < 0 ? "attr" : "data",
			(unsigned long long)h.inode.ino);
	else if (h.header.error == FUSE_NOTIFY_INVAL_ENTRY)
		snprintf(text, sizeof(text), "entry %llu %.*s", (unsigned long long)h.entry.parent,
			(int)h.entry.namelen, h.space + sizeof(h.entry));
	else if (h.header.error == ABI_NOTIFY_INC_EPOCH)
		snprintf(text, sizeof(text), "all");
	return text;
}

static bool heard(const char *want)
{
	return !strcmp(hear(), want);
}

TEST(each_is_told_once_what_waits_for_nobody_first)
{
	REQUIRE(start(), "no table");
	stale_inode(stale, 5, STALE_DATA);
	stale_entry(stale, 5, "name");
	stale_inode(stale, 6, STALE_ATTR);
	stale_inode(stale, 5, STALE_ATTR);
	stale_inode(stale, 5, STALE_DATA);
	stale_entry(stale, 5, "name");
	stale_entry(stale, 5, "nam");
	stale_inode(stale, 0, STALE_ATTR);
	stale_entry(stale, 0, "name");
	CHECK(heard(""));
	stale_tell(stale);
	CHECK(heard("attr 5"));
	CHECK(heard("attr 6"));
	CHECK(heard("entry 5 name"));
	CHECK(heard("entry 5 nam"));
	CHECK(heard("data 5"));
	CHECK(heard(""));
	stale_tell(stale);
	CHECK(heard(""));
	CHECK_EQ(atomic_load(&stale->told), 5);
	stop();
}

TEST(what_does_not_fit_is_told_before)
{
	const int room = 4 << 20; /* of the socket */
	unsigned before = 0, after = 0;

	REQUIRE(start(), "no table");
	if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)))
		SKIP("needs root for a larger socket buffer");
	for (unsigned i = 0; i < STALE_ITEMS + 10; i++)
		stale_inode(stale, 100 + i, STALE_ATTR);
	while (*hear())
		before++;
	stale_tell(stale);
	while (*hear())
		after++;
	CHECK_EQ(before, STALE_ITEMS);
	CHECK_EQ(after, 10);
	stop();
}

TEST(everything_is_all_names_and_each_inode_twice)
{
	REQUIRE(start(), "no table");
	stale_entry(stale, 5, "name");
	stale_tell_everything(stale, true);
	CHECK(heard("entry 5 name"));
	CHECK(heard("all"));
	CHECK(heard("attr 1"));
	CHECK(heard("data 1"));
	CHECK(heard(""));
	stop();
}

TEST(nothing_is_told_after_the_stop)
{
	REQUIRE(start(), "no table");
	stale_inode(stale, 5, STALE_ATTR);
	atomic_store(&halt, true);
	stale_tell(stale);
	CHECK(heard(""));
	stop();
}

TEST_MAIN()
