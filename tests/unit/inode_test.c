/* SPDX-License-Identifier: MIT */
/* The inode table: identity, lookup counts, bounded descriptors, recycled inode numbers. */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "test.h"
/* After it. */
#include "scratch.h"

/* Of a directory of its own for each test. */
static struct inode_table *table;

static bool start_keeping(unsigned max_fds, unsigned max_forgotten)
{
	return scratch_make() && inode_table_new(root, max_fds, max_forgotten, &table) == 0;
}

static bool start(unsigned max_fds)
{
	return start_keeping(max_fds, 0);
}

static void stop(void)
{
	inode_table_free(table);
	scratch_remove();
}

static void make_file(const char *name)
{
	close(openat(root, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static int path_fd(const char *name, struct stat *attr)
{
	int fd = openat(root, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		fstat(fd, attr);
	return fd;
}

/* Learns a name; its node id, 0 on failure. */
static fuse_ino_t learn(const char *name, struct fuse_entry_param *entry)
{
	struct fuse_entry_param local;
	struct stat attr;
	int fd = path_fd(name, &attr);

	if (!entry)
		entry = &local;
	return fd >= 0 && inode_learn(table, fd, &attr, NULL, entry) == 0 ? entry->ino : 0;
}

static uint64_t fds_held(void)
{
	struct inode_usage usage;

	inode_get_usage(table, &usage);
	return usage.fds;
}

/* The source's inode number behind a node id, or 0 when it cannot be had. */
static ino_t object_of(fuse_ino_t ino)
{
	int fd = inode_get(table, ino);
	struct stat st = {0};

	if (fd < 0)
		return 0;
	fstat(fd, &st);
	inode_put(table, ino);
	return st.st_ino;
}

static unsigned count_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

TEST(root_is_there_and_is_never_forgotten)
{
	struct stat st;

	REQUIRE(start(100), "no table");
	fstat(root, &st);
	inode_forget(table, FUSE_ROOT_ID, 1);
	CHECK_EQ(object_of(FUSE_ROOT_ID), st.st_ino);
	CHECK_EQ(inode_type(table, FUSE_ROOT_ID), S_IFDIR);
	stop();
}

TEST(numbers_never_given_out_are_stale)
{
	REQUIRE(start(100), "no table");
	CHECK_EQ(inode_get(table, 0), -ESTALE);
	CHECK_EQ(inode_get(table, 2), -ESTALE);
	CHECK_EQ(inode_get(table, UINT64_MAX), -ESTALE);
	CHECK_EQ(inode_type(table, 2), 0);
	inode_put(table, 2);
	inode_forget(table, 2, 1);
	inode_forget(table, UINT64_MAX, 1);
	stop();
}

TEST(two_names_of_one_object_are_one_inode)
{
	fuse_ino_t a;

	REQUIRE(start(100), "no table");
	make_file("a");
	make_file("c");
	linkat(root, "a", root, "b", 0);
	a = learn("a", NULL);
	CHECK(a > FUSE_ROOT_ID);
	CHECK_EQ(learn("b", NULL), a);
	CHECK(learn("c", NULL) != a);
	CHECK_EQ(inode_type(table, a), S_IFREG);
	stop();
}

TEST(forgotten_after_as_many_forgets_as_lookups)
{
	fuse_ino_t a;

	REQUIRE(start(100), "no table");
	make_file("a");
	a = learn("a", NULL);
	learn("a", NULL);
	inode_forget(table, a, 1);
	CHECK(object_of(a) != 0);
	inode_forget(table, a, 2); /* too many: ignored */
	CHECK(object_of(a) != 0);
	inode_forget(table, a, 1);
	CHECK_EQ(inode_get(table, a), -ESTALE);
	stop();
}

TEST(a_descriptor_in_use_outlives_the_forget)
{
	fuse_ino_t a;
	struct stat st;
	int fd;

	REQUIRE(start(100), "no table");
	make_file("a");
	a = learn("a", NULL);
	fd = inode_get(table, a);
	inode_forget(table, a, 1);
	CHECK_EQ(fstat(fd, &st), 0);
	inode_put(table, a);
	CHECK_EQ(inode_get(table, a), -ESTALE);
	stop();
}

TEST(a_reused_node_id_has_another_generation)
{
	struct fuse_entry_param a, b;

	REQUIRE(start(100), "no table");
	make_file("a");
	make_file("b");
	learn("a", &a);
	inode_forget(table, a.ino, 1);
	learn("b", &b);
	CHECK_EQ(a.ino, b.ino);
	CHECK(a.generation != b.generation);
	stop();
}

/* For the tests below: files whose descriptors are dropped at once. */
static bool start_dropping(void)
{
	if (!start(0))
		return false;
	make_file("probe");
	learn("probe", NULL);
	return fds_held() == 1; /* the root's */
}

#define REQUIRE_DROPPING()                                                                         \
	do {                                                                                       \
		if (!start_dropping()) {                                                           \
			stop();                                                                    \
			SKIP("no open_by_handle_at() here");                                       \
		}                                                                                  \
	} while (0)

TEST(descriptors_are_bounded_and_come_back)
{
	enum { FILES = 500, BOUND = 20 };
	fuse_ino_t inos[FILES];
	ino_t objects[FILES];
	struct inode_usage usage;

	REQUIRE_DROPPING();
	stop();
	REQUIRE(start(BOUND), "no table");
	for (int i = 0; i < FILES; i++) {
		char name[16];
		struct stat st;

		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		fstatat(root, name, &st, 0);
		objects[i] = st.st_ino;
		inos[i] = learn(name, NULL);
		CHECK(fds_held() <= BOUND);
	}
	for (int i = 0; i < FILES; i++)
		CHECK_EQ(object_of(inos[i]), objects[i]);
	inode_get_usage(table, &usage);
	CHECK(usage.fds <= BOUND);
	CHECK(usage.reopened >= FILES - BOUND);
	CHECK_EQ(usage.inodes, FILES + 1);
	CHECK(usage.bytes_per_inode < 256);
	stop();
}

TEST(a_dropped_object_is_found_after_a_rename)
{
	fuse_ino_t a;
	struct stat st;

	REQUIRE_DROPPING();
	make_file("a");
	a = learn("a", NULL);
	fstatat(root, "a", &st, 0);
	renameat(root, "a", root, "b");
	make_file("a");
	CHECK_EQ(object_of(a), st.st_ino);
	CHECK_EQ(learn("b", NULL), a);
	CHECK(learn("a", NULL) != a);
	stop();
}

TEST(a_recycled_inode_number_is_another_inode)
{
	struct stat old, new = {0};
	fuse_ino_t a, b;

	REQUIRE_DROPPING();
	make_file("a");
	a = learn("a", NULL);
	fstatat(root, "a", &old, 0);
	unlinkat(root, "a", 0);
	for (int i = 0; i < 1000 && new.st_ino != old.st_ino; i++) {
		char name[16];

		snprintf(name, sizeof(name), "b%d", i);
		make_file(name);
		fstatat(root, name, &new, 0);
		if (new.st_ino == old.st_ino)
			renameat(root, name, root, "b");
	}
	if (new.st_ino != old.st_ino) {
		stop();
		SKIP("inode numbers do not come back here");
	}
	b = learn("b", NULL);
	CHECK(b != 0);
	CHECK(b != a);
	CHECK_EQ(inode_get(table, a), -ESTALE);
	CHECK_EQ(object_of(b), new.st_ino);
	inode_forget(table, a, 1);
	CHECK_EQ(object_of(b), new.st_ino);
	stop();
}

TEST(an_unlinked_object_that_was_held_stays)
{
	struct stat st;
	fuse_ino_t a;
	int fd;

	REQUIRE_DROPPING();
	CHECK(inode_dropped(table));
	make_file("a");
	a = learn("a", NULL);
	fd = path_fd("a", &st);
	CHECK_EQ(inode_hold(table, fd, &st), a);
	unlinkat(root, "a", 0);
	inode_put(table, a);
	/* Others come and would drive it out. */
	for (int i = 0; i < 100; i++) {
		learn("probe", NULL);
		object_of(learn("probe", NULL));
	}
	CHECK_EQ(object_of(a), st.st_ino);
	stop();
}

TEST(holding_what_nobody_knows_does_nothing)
{
	struct stat st;
	unsigned before;

	REQUIRE(start(100), "no table");
	make_file("a");
	before = count_fds();
	CHECK_EQ(inode_hold(table, path_fd("a", &st), &st), 0);
	CHECK_EQ(count_fds(), before);
	stop();
}

TEST(relieving_closes_descriptors)
{
	char name[16];
	uint64_t before;

	REQUIRE_DROPPING();
	stop();
	REQUIRE(start(1000), "no table");
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		learn(name, NULL);
		object_of(learn(name, NULL)); /* used: passed over once */
	}
	before = fds_held();
	CHECK(inode_relieve(table, -EMFILE));
	CHECK(fds_held() < before);
	while (inode_relieve(table, -EMFILE))
		;
	CHECK_EQ(fds_held(), 1);
	stop();
}

TEST(no_descriptor_is_left_behind)
{
	unsigned before = count_fds();
	char name[16];

	REQUIRE(start(10), "no table");
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		object_of(learn(name, NULL));
		learn(name, NULL);
	}
	stop();
	CHECK_EQ(count_fds(), before);
}

/* More slots than a chunk, forgotten and known again, so that memory went back and came again. */
TEST(many_come_and_go)
{
	enum { FILES = 3000 };
	static fuse_ino_t inos[FILES];
	struct inode_usage usage;
	char name[16];

	REQUIRE(start(100), "no table");
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
	}
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < FILES; i++) {
			snprintf(name, sizeof(name), "f%d", i);
			inos[i] = learn(name, NULL);
			CHECK(inos[i] != 0);
		}
		for (int i = 0; i < FILES; i++)
			inode_forget(table, inos[(i * 7) % FILES], 1);
		inode_get_usage(table, &usage);
		CHECK_EQ(usage.inodes, 1);
	}
	stop();
}

/* For the tests below: up to four forgotten objects stay. */
#define REQUIRE_KEEPING()                                                                          \
	do {                                                                                       \
		if (!start_dropping()) {                                                           \
			stop();                                                                    \
			SKIP("no open_by_handle_at() here");                                       \
		}                                                                                  \
		stop();                                                                            \
		REQUIRE(start_keeping(100, 4), "no table");                                        \
	} while (0)

static uint64_t forgotten(void)
{
	struct inode_usage usage;

	inode_get_usage(table, &usage);
	return usage.forgotten;
}

TEST(a_forgotten_object_answers_to_its_number_and_keeps_it)
{
	struct fuse_entry_param before, after;
	struct stat st;

	REQUIRE_KEEPING();
	make_file("a");
	fstatat(root, "a", &st, 0);
	learn("a", &before);
	inode_forget(table, before.ino, 1);
	CHECK_EQ(forgotten(), 1);
	CHECK_EQ(fds_held(), 1);
	inode_forget(table, before.ino, 1); /* one too many: ignored */
	renameat(root, "a", root, "b");
	CHECK_EQ(object_of(before.ino), st.st_ino);
	CHECK_EQ(forgotten(), 1);
	learn("b", &after);
	CHECK_EQ(forgotten(), 0);
	CHECK_EQ(after.ino, before.ino);
	CHECK_EQ(after.generation, before.generation);
	stop();
}

TEST(a_forgotten_object_that_was_deleted_is_stale)
{
	struct fuse_entry_param a, b;

	REQUIRE_KEEPING();
	make_file("a");
	learn("a", &a);
	inode_forget(table, a.ino, 1);
	unlinkat(root, "a", 0);
	/* The file system itself may still be at work with it. */
	for (int i = 0; i < 100 && object_of(a.ino); i++)
		usleep(10000);
	CHECK_EQ(inode_get(table, a.ino), -ESTALE);
	/* Deleted before it was forgotten: nothing to keep. */
	make_file("b");
	learn("b", &b);
	unlinkat(root, "b", 0);
	inode_forget(table, b.ino, 1);
	CHECK_EQ(inode_get(table, b.ino), -ESTALE);
	stop();
}

TEST(of_forgotten_objects_the_oldest_make_room)
{
	struct fuse_entry_param entries[6], other;
	char name[16];

	REQUIRE_KEEPING();
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		learn(name, &entries[i]);
	}
	for (int i = 0; i < 4; i++)
		inode_forget(table, entries[i].ino, 1);
	CHECK(object_of(entries[0].ino) != 0); /* used, so the newest now */
	inode_forget(table, entries[4].ino, 1);
	inode_forget(table, entries[5].ino, 1);
	CHECK_EQ(forgotten(), 4);
	CHECK(object_of(entries[0].ino) != 0);
	CHECK_EQ(inode_get(table, entries[1].ino), -ESTALE);
	CHECK_EQ(inode_get(table, entries[2].ino), -ESTALE);
	for (int i = 3; i < 6; i++)
		CHECK(object_of(entries[i].ino) != 0);
	make_file("other");
	learn("other", &other);
	CHECK_EQ(other.ino, entries[1].ino);
	CHECK(other.generation != entries[1].generation);
	stop();
}

TEST(inode_numbers_of_devices_do_not_collide)
{
	struct stat own, other = {.st_dev = 12345, .st_ino = 7},
			 third = {.st_dev = 777, .st_ino = 7};
	struct stat large = {.st_dev = 777, .st_ino = (UINT64_C(1) << 48) - 1}, again = third;

	REQUIRE(start(100), "no table");
	fstat(root, &own);
	own.st_ino = 7;
	inode_number(table, &own);
	inode_number(table, &other);
	inode_number(table, &third);
	inode_number(table, &large);
	inode_number(table, &again);
	CHECK_EQ(own.st_ino, 7);
	CHECK(other.st_ino != own.st_ino);
	CHECK(third.st_ino != own.st_ino && third.st_ino != other.st_ino);
	CHECK_EQ(large.st_ino >> 48, third.st_ino >> 48);
	CHECK_EQ(again.st_ino, third.st_ino);
	stop();
}

enum { WORKERS = 4, SHARED = 40 };

static void *hammer(void *arg)
{
	unsigned seed = (unsigned)(size_t)arg;

	for (int i = 0; i < 3000; i++) {
		char name[16];
		fuse_ino_t ino;

		snprintf(name, sizeof(name), "f%d", rand_r(&seed) % SHARED);
		ino = learn(name, NULL);
		if (ino == 0 || object_of(ino) == 0 || inode_type(table, ino) != S_IFREG)
			return "failed";
		inode_forget(table, ino, 1);
	}
	return NULL;
}

TEST(threads_share_the_table)
{
	pthread_t threads[WORKERS];
	struct inode_usage usage;
	char name[16];

	REQUIRE(start(8), "no table");
	for (int i = 0; i < SHARED; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
	}
	for (size_t i = 0; i < WORKERS; i++)
		pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
	for (int i = 0; i < WORKERS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		CHECK(result == NULL);
	}
	inode_get_usage(table, &usage);
	CHECK_EQ(usage.inodes, 1);
	stop();
}

TEST(known_objects_are_found_and_counted_up_forgotten_ones_are_not)
{
	fuse_ino_t a, b, c;
	struct stat st;

	REQUIRE(start_keeping(100, 10), "no table");
	make_file("a");
	make_file("b");
	make_file("c");
	a = learn("a", NULL);
	b = learn("b", NULL);
	c = learn("c", NULL);
	fstatat(root, "b", &st, 0);
	CHECK_EQ(inode_find(table, st.st_dev, st.st_ino), b);
	CHECK_EQ(inode_find(table, st.st_dev + 1, st.st_ino), 0);
	CHECK_EQ(inode_device(table, b), st.st_dev);
	CHECK(inode_known(table, b));
	inode_forget(table, b, 1);
	CHECK_EQ(inode_find(table, st.st_dev, st.st_ino), 0);
	CHECK(!inode_known(table, b));
	CHECK(!inode_known(table, 12345));
	CHECK_EQ(inode_next(table, FUSE_ROOT_ID), FUSE_ROOT_ID);
	CHECK_EQ(inode_next(table, FUSE_ROOT_ID + 1), a);
	CHECK_EQ(inode_next(table, a + 1), c);
	CHECK_EQ(inode_next(table, c + 1), 0);
	stop();
}

TEST_MAIN()
