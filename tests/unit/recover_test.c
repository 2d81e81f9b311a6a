/* SPDX-License-Identifier: MIT */
/*
 * The tables after the death of the process that used them: a child fills them and is killed, and
 * the parent, which has not known anything of it, goes on.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/reserve.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/inode_table.h"
#include "test.h"
/* After it. */
#include "scratch.h"
#include "stepped.h"

static struct inode_table *table;

static bool start(void)
{
	return scratch_make() && inode_table_new(root, 1000, 0, &table) == 0;
}

static void stop(void)
{
	inode_table_free(table);
	scratch_remove();
}

static fuse_ino_t learn(const char *name)
{
	struct fuse_entry_param entry;
	struct stat attr;
	int fd;

	close(openat(root, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	fd = openat(root, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &attr) || inode_learn(table, fd, &attr, NULL, &entry))
		return 0;
	return entry.ino;
}

/* Runs work() in a process that shares our descriptors, and kills it there. */
static bool in_one_that_dies(void (*work)(void))
{
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	int status;

	if (pid == 0) {
		work();
		raise(SIGKILL);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status);
}

static ino_t number_behind(fuse_ino_t ino)
{
	int fd = inode_get(table, ino);
	struct stat attr;

	if (fd < 0)
		return 0;
	inode_put(table, ino);
	return fstat(fd, &attr) ? 0 : attr.st_ino;
}

static ino_t number_of(const char *name)
{
	struct stat attr;

	return fstatat(root, name, &attr, 0) ? 0 : attr.st_ino;
}

static void learn_some(void)
{
	char name[16];

	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		learn(name);
	}
	for (int i = 0; i < 600; i += 2) {
		struct fuse_entry_param entry;
		struct stat attr;
		int fd;

		snprintf(name, sizeof(name), "f%d", i);
		fd = openat(root, name, O_PATH | O_CLOEXEC);
		fstat(fd, &attr);
		inode_learn(table, fd, &attr, NULL, &entry);
		inode_forget(table, entry.ino, 2);
	}
}

TEST(what_was_known_is_known_what_was_forgotten_is_not)
{
	struct inode_usage usage;

	REQUIRE(start(), "no table");
	REQUIRE(in_one_that_dies(learn_some), "no child");
	CHECK_EQ(inode_recover(table), 0);
	inode_get_usage(table, &usage);
	CHECK_EQ(usage.inodes, 301);
	CHECK_EQ(usage.fds, 301);
	CHECK_EQ(inode_damaged(table), 0);
	for (int i = 1; i < 600; i += 2) {
		char name[16];
		struct stat attr;
		fuse_ino_t ino;

		snprintf(name, sizeof(name), "f%d", i);
		REQUIRE(fstatat(root, name, &attr, 0) == 0, "no file");
		ino = inode_find(table, attr.st_dev, attr.st_ino);
		CHECK(ino != 0 && number_behind(ino) == attr.st_ino);
	}
	/* And new ones find their place among them. */
	CHECK(number_behind(learn("another")) == number_of("another"));
	stop();
}

static struct slot *slot_named(const char *name)
{
	struct stat attr;

	if (fstatat(root, name, &attr, 0))
		return NULL;
	return slot_of(table, inode_find(table, attr.st_dev, attr.st_ino));
}

static void leave_damage(void)
{
	learn("wrong-sum");
	learn("wrong-descriptor");
	learn("wrong-generation");
	learn("good");
	slot_named("wrong-sum")->ino ^= 1;
	slot_named("wrong-descriptor")->fd = root;
	slot_named("wrong-generation")->generation++;
	/* Taken and not filled. */
	slot_alloc(&table->slots)->fd = 1;
}

TEST(a_damaged_slot_costs_its_own_object_an_error)
{
	struct inode_usage usage;
	fuse_ino_t bad;

	REQUIRE(start(), "no table");
	REQUIRE(in_one_that_dies(leave_damage), "no child");
	CHECK_EQ(inode_recover(table), 0);
	CHECK_EQ(inode_damaged(table), 3);
	inode_get_usage(table, &usage);
	CHECK_EQ(usage.inodes, 5);
	bad = node_id(table, slot_named("wrong-descriptor"));
	CHECK_EQ(inode_get(table, bad), -EIO);
	CHECK(fcntl(root, F_GETFD) >= 0);
	CHECK(number_behind(node_id(table, slot_named("good"))) == number_of("good"));
	stop();
}

static fuse_ino_t learnt;

static void learn_one(void)
{
	learn("one");
}

static void forget_one(void)
{
	inode_forget(table, learnt, 1);
}

/* With "one" learnt before, for what is to forget it. */
static bool start_one(bool known)
{
	if (!start())
		return false;
	learnt = known ? learn("one") : 0;
	return !known || learnt;
}

/*
 * work() dies after each of its stores to the table in turn: nothing is damaged then, what is known
 * is what it was, and what is looked up again is found.
 */
static void killed_at_any_store(void (*work)(void), bool known)
{
	int count;

	REQUIRE(start_one(known), "no table");
	/* The root's slot, and the next. */
	count = find_stores(work, table->slots.slot, 2 * sizeof(struct slot));
	stop();
	if (count < 0)
		SKIP("no process can be traced here");
	CHECK(count > 5);
	for (int i = 0; i < count && !test_failed; i++) {
		struct stat attr;
		fuse_ino_t ino;

		REQUIRE(start_one(known), "no table");
		stepped(work, stores[i], NULL);
		CHECK_EQ(inode_recover(table), 0);
		CHECK_EQ(inode_damaged(table), 0);
		REQUIRE(fstatat(root, "one", &attr, 0) == 0, "no file");
		ino = inode_find(table, attr.st_dev, attr.st_ino);
		CHECK(!ino || number_behind(ino) == attr.st_ino);
		CHECK(number_behind(learn("one")) == attr.st_ino);
		if (test_failed)
			printf("# after store %d of %d\n", i + 1, count);
		stop();
	}
}

TEST(killed_at_any_store_of_a_lookup_it_leaves_no_damage)
{
	killed_at_any_store(learn_one, false);
}

TEST(killed_at_any_store_of_a_forget_it_leaves_no_damage)
{
	killed_at_any_store(forget_one, true);
}

static void learn_names(void)
{
	char name[256];

	for (int i = 1; i < 250; i++) {
		memset(name, 'a' + i % 26, (size_t)i);
		name[i] = '\0';
		names_add(&table->slots.names, name);
	}
}

TEST(names_that_are_claimed_stay_and_the_rest_is_free)
{
	struct names *names;
	char longest[256], copy[256];
	uint32_t kept, again;

	REQUIRE(start(), "no table");
	names = &table->slots.names;
	REQUIRE(in_one_that_dies(learn_names), "no child");
	/* As the child did, to know the references. */
	learn_names();
	memset(longest, 'q', 200);
	longest[200] = '\0';
	kept = names_add(names, longest);
	CHECK_EQ(names_recover(names), 0);
	CHECK(names_claim(names, kept));
	CHECK(!names_claim(names, kept));
	CHECK(!names_claim(names, 0));
	CHECK(!names_claim(names, UINT32_MAX));
	names_claimed(names);
	names_copy(names, kept, copy);
	CHECK(strcmp(copy, longest) == 0);
	for (int i = 0; i < 1000; i++) {
		again = names_add(names, longest);
		CHECK(again != 0 && again != kept);
	}
	names_copy(names, kept, copy);
	CHECK(strcmp(copy, longest) == 0);
	stop();
}

static struct handle_table *handles;
static uint64_t *told; /* by the child */

static void open_some(void)
{
	struct handle *a = handle_new(handles, 5, open("/dev/null", O_RDWR), 0, O_RDWR);
	struct handle *b = handle_new(handles, 6, open("/dev/null", O_RDWR), FD_DIRECT, O_RDONLY);
	struct handle *c = handle_new(handles, 7, open("/dev/null", O_RDWR), 0, O_RDWR);

	told[0] = a->fh;
	told[1] = b->fh;
	told[2] = c->fh;
	a->dir_offset = 77;
	handle_free(handles, b);
	c->fd[0] = 1000000;
}

static bool is_open(int fd, fuse_ino_t ino, void *arg)
{
	(void)ino, (void)arg;
	return fcntl(fd, F_GETFD) >= 0;
}

TEST(open_handles_are_open_and_no_number_comes_twice)
{
	struct handle *a, *c, *d;

	told = reserve_shared("told", 3 * sizeof(*told));
	REQUIRE(told && handle_table_new(&handles) == 0, "no table");
	REQUIRE(in_one_that_dies(open_some), "no child");
	handle_recover(handles, is_open, NULL);
	CHECK_EQ(handle_count(handles), 2);
	a = handle_find(handles, told[0], 5);
	REQUIRE(a, "gone");
	CHECK(a->dir_offset == HANDLE_NOWHERE);
	CHECK(!a->damaged && handle_some_fd(a) >= 0);
	CHECK(handle_find(handles, told[1], 6) == NULL);
	c = handle_find(handles, told[2], 7);
	REQUIRE(c, "gone");
	CHECK(c->damaged && handle_some_fd(c) < 0);
	d = handle_new(handles, 6, open("/dev/null", O_RDWR), 0, O_RDWR);
	CHECK(d->fh != told[1] && handle_find(handles, told[1], 6) == NULL);
	CHECK(d->opened > c->opened);
	handle_table_free(handles);
}

static void open_one(void)
{
	handle_new(handles, 5, open("/dev/null", O_RDWR | O_CLOEXEC), FD_DIRECT, O_RDWR);
}

/* A table with a handle that was used before: where the next one will be. */
static struct handle *start_handles(void)
{
	struct handle *former;

	if (handle_table_new(&handles))
		return NULL;
	former = handle_new(handles, 4, open("/dev/null", O_RDWR | O_CLOEXEC), 0, O_RDONLY);
	if (former)
		handle_free(handles, former);
	return former;
}

TEST(killed_at_any_store_of_an_open_its_handle_is_whole_or_not_there)
{
	const struct handle *place = start_handles();
	bool there = false;
	int count;

	REQUIRE(place, "no table");
	count = find_stores(open_one, place, sizeof(*place));
	handle_table_free(handles);
	if (count < 0)
		SKIP("no process can be traced here");
	CHECK(count > 3);
	for (int i = 0; i < count && !test_failed; i++) {
		struct handle *handle;

		REQUIRE(start_handles(), "no table");
		stepped(open_one, stores[i], NULL);
		handle_recover(handles, is_open, NULL);
		handle = handle_at(handles, 0);
		CHECK_EQ(handle_count(handles), handle ? 1 : 0);
		if (handle) {
			there = true;
			CHECK(!handle->damaged && handle->first == FD_DIRECT);
			CHECK(handle->access == O_RDWR && handle->fd[FD_DIRECT] >= 0);
			CHECK(handle->fh >> 32 == 2 && handle->opened == 1);
		}
		if (test_failed)
			printf("# after store %d of %d\n", i + 1, count);
		handle_table_free(handles);
	}
	CHECK(there);
}

TEST_MAIN()
