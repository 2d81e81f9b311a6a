/* SPDX-License-Identifier: MIT */
/*
 * The inode table where it may not use file handles: objects come back by name, and nothing else is
 * ever taken for them.
 */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test.h"
/* After it. */
#include "scratch.h"

static struct inode_table *table;

/* As ordinary users are: open_by_handle_at() is refused. */
static void give_up_handles(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &header, data);
	data[0].effective &= ~(1u << CAP_DAC_READ_SEARCH);
	syscall(SYS_capset, &header, data);
}

static bool start(unsigned max_fds)
{
	give_up_handles();
	return scratch_make() && inode_table_new(root, max_fds, 100, &table) == 0;
}

static void stop(void)
{
	inode_table_free(table);
	scratch_remove();
}

static void make_file(const char *path)
{
	close(openat(root, path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static const char *last_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int path_fd(const char *path, struct stat *attr)
{
	int fd = openat(root, path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		fstat(fd, attr);
	return fd;
}

/* Learns a path, whose last component is in parent (0: no place is told). Its node id, or 0. */
static fuse_ino_t learn_in(fuse_ino_t parent, const char *path)
{
	struct inode_place place = {.parent = parent, .name = last_of(path)};
	struct fuse_entry_param entry;
	struct stat attr;
	int fd = path_fd(path, &attr);

	if (fd < 0 || inode_learn(table, fd, &attr, parent ? &place : NULL, &entry) < 0)
		return 0;
	return entry.ino;
}

static fuse_ino_t learn(const char *name)
{
	return learn_in(FUSE_ROOT_ID, name);
}

static struct inode_usage usage(void)
{
	struct inode_usage now;

	inode_get_usage(table, &now);
	return now;
}

/* Lets the clock's hand go round: what can be dropped is. */
static void drop_all(void)
{
	while (inode_relieve(table, -EMFILE))
		;
}

static ino_t number_of(const char *path)
{
	struct stat st = {0};

	fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW);
	return st.st_ino;
}

/* The source's inode number behind a node id, 0 where it is stale, 1 for another error. */
static ino_t object_of(fuse_ino_t ino)
{
	int fd = inode_get(table, ino);
	struct stat st = {0};

	if (fd < 0)
		return fd == -ESTALE ? 0 : 1;
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

TEST(descriptors_are_bounded_and_come_back)
{
	enum { FILES = 500, BOUND = 20 };
	static fuse_ino_t inos[FILES];
	char name[32];

	REQUIRE(start(BOUND), "no table");
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "a-name-of-20-bytes%d", i % 100 + i / 100 * 1000);
		make_file(name);
		inos[i] = learn(name);
		CHECK(usage().fds <= BOUND);
	}
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "a-name-of-20-bytes%d", i % 100 + i / 100 * 1000);
		CHECK_EQ(object_of(inos[i]), number_of(name));
		CHECK(usage().fds <= BOUND);
	}
	CHECK(usage().reopened_by_name >= FILES - BOUND);
	CHECK_EQ(usage().reopened_by_name, usage().reopened);
	CHECK_EQ(usage().inodes, FILES + 1);
	/* Slot, index, and a place of 32 bytes each. */
	CHECK(usage().bytes_per_inode > 100 + 30);
	CHECK(usage().bytes_per_inode < 256);
	for (int i = 0; i < FILES; i++)
		inode_forget(table, inos[i], 1);
	CHECK_EQ(usage().inodes, 1);
	CHECK_EQ(usage().forgotten, 0);
	stop();
}

TEST(what_has_no_place_stays_open)
{
	fuse_ino_t a;

	REQUIRE(start(0), "no table");
	make_file("a");
	a = learn_in(0, "a");
	drop_all();
	CHECK_EQ(usage().fds, 2);
	CHECK_EQ(learn("a"), a);
	drop_all();
	CHECK_EQ(usage().fds, 1);
	CHECK_EQ(object_of(a), number_of("a"));
	/* Asked for by number: the place is still known. */
	learn_in(0, "a");
	drop_all();
	CHECK_EQ(usage().fds, 1);
	stop();
}

TEST(renamed_behind_is_found_in_its_directory)
{
	fuse_ino_t a;

	REQUIRE(start(0), "no table");
	make_file("a");
	a = learn("a");
	drop_all();
	renameat(root, "a", root, "b");
	make_file("a");
	CHECK_EQ(object_of(a), number_of("b"));
	drop_all();
	CHECK_EQ(object_of(a), number_of("b"));
	CHECK_EQ(usage().reopened_by_name, 2);
	CHECK(learn("a") != a);
	CHECK_EQ(learn("b"), a);
	stop();
}

TEST(exchanged_behind_are_not_confused)
{
	fuse_ino_t a, b;
	ino_t was_a, was_b;

	REQUIRE(start(0), "no table");
	make_file("a");
	make_file("b");
	was_a = number_of("a");
	was_b = number_of("b");
	a = learn("a");
	b = learn("b");
	drop_all();
	renameat2(root, "a", root, "b", RENAME_EXCHANGE);
	CHECK_EQ(object_of(a), was_a);
	CHECK_EQ(object_of(b), was_b);
	stop();
}

TEST(moved_elsewhere_behind_is_stale_until_it_is_seen_there)
{
	fuse_ino_t a, d;

	REQUIRE(start(0), "no table");
	make_file("a");
	mkdirat(root, "d", 0700);
	a = learn("a");
	d = learn("d");
	drop_all();
	renameat(root, "a", root, "d/a");
	CHECK_EQ(object_of(a), 0);
	CHECK_EQ(learn_in(d, "d/a"), a);
	drop_all();
	CHECK_EQ(object_of(a), number_of("d/a"));
	stop();
}

TEST(replaced_behind_is_stale_also_when_the_number_comes_again)
{
	fuse_ino_t a, b;
	ino_t old;

	REQUIRE(start(0), "no table");
	make_file("a");
	old = number_of("a");
	a = learn("a");
	drop_all();
	unlinkat(root, "a", 0);
	for (int i = 0; i < 1000 && number_of("a") != old; i++) {
		char name[16];

		snprintf(name, sizeof(name), "b%d", i);
		make_file(name);
		if (number_of(name) == old || i == 999)
			renameat(root, name, root, "a");
	}
	CHECK_EQ(object_of(a), 0);
	b = learn("a");
	CHECK(b != a);
	CHECK_EQ(object_of(a), 0);
	CHECK_EQ(object_of(b), number_of("a"));
	inode_forget(table, a, 1);
	CHECK_EQ(object_of(b), number_of("a"));
	stop();
}

TEST(a_renamed_directory_leads_to_its_files)
{
	fuse_ino_t d, sub, file;

	REQUIRE(start(0), "no table");
	mkdirat(root, "d", 0700);
	mkdirat(root, "d/sub", 0700);
	make_file("d/sub/file");
	d = learn("d");
	sub = learn_in(d, "d/sub");
	file = learn_in(sub, "d/sub/file");
	drop_all();
	CHECK_EQ(usage().fds, 1);
	renameat(root, "d", root, "e");
	mkdirat(root, "d", 0700);
	mkdirat(root, "d/sub", 0700);
	make_file("d/sub/file");
	CHECK_EQ(object_of(file), number_of("e/sub/file"));
	CHECK_EQ(object_of(sub), number_of("e/sub"));
	stop();
}

static fuse_ino_t hold(const char *path)
{
	struct stat st;
	int fd = path_fd(path, &st);

	return inode_hold(table, fd, &st);
}

TEST(moved_through_the_mount_goes_by_the_new_name)
{
	struct inode_place from = {.parent = FUSE_ROOT_ID, .name = "a"}, to = {.name = "b"};
	fuse_ino_t a, d;

	REQUIRE(start(0), "no table");
	make_file("a");
	mkdirat(root, "d", 0700);
	a = learn("a");
	d = to.parent = learn("d");
	drop_all();
	CHECK(inode_named(table));
	CHECK_EQ(hold("a"), a);
	renameat(root, "a", root, "d/b");
	inode_moved(table, a, &from, &to);
	inode_put(table, a);
	drop_all();
	CHECK_EQ(usage().fds, 1);
	CHECK_EQ(object_of(a), number_of("d/b"));
	CHECK_EQ(object_of(d), number_of("d"));
	stop();
}

TEST(a_removed_name_is_forgotten_and_another_serves)
{
	struct inode_place from = {.parent = FUSE_ROOT_ID, .name = "a"};
	fuse_ino_t a;

	REQUIRE(start(0), "no table");
	make_file("a");
	linkat(root, "a", root, "b", 0);
	a = learn("a");
	CHECK_EQ(hold("a"), a);
	unlinkat(root, "a", 0);
	inode_moved(table, a, &from, NULL);
	inode_put(table, a);
	drop_all();
	CHECK_EQ(usage().fds, 2);
	CHECK_EQ(object_of(a), number_of("b"));
	CHECK_EQ(learn("b"), a);
	drop_all();
	CHECK_EQ(usage().fds, 1);
	CHECK_EQ(object_of(a), number_of("b"));
	/* Not the name that it is known by. */
	CHECK_EQ(hold("b"), a);
	inode_moved(table, a, &from, NULL);
	inode_put(table, a);
	drop_all();
	CHECK_EQ(usage().fds, 1);
	stop();
}

TEST(an_unnamed_file_that_gets_a_name_can_be_dropped)
{
	struct inode_place place = {.parent = FUSE_ROOT_ID, .name = "named"};
	struct fuse_entry_param entry, again;
	char proc[32];
	struct stat st;
	int fd;

	REQUIRE(start(0), "no table");
	fd = openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0) {
		stop();
		SKIP("no O_TMPFILE here");
	}
	fstat(fd, &st);
	inode_learn(table, dup(fd), &st, NULL, &entry);
	drop_all();
	CHECK_EQ(usage().fds, 2);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	CHECK_EQ(linkat(AT_FDCWD, proc, root, "named", AT_SYMLINK_FOLLOW), 0);
	fstat(fd, &st);
	inode_learn(table, fd, &st, &place, &again);
	CHECK_EQ(again.ino, entry.ino);
	drop_all();
	CHECK_EQ(usage().fds, 1);
	CHECK_EQ(object_of(entry.ino), number_of("named"));
	stop();
}

TEST(an_unlinked_object_that_was_held_stays)
{
	struct inode_place from = {.parent = FUSE_ROOT_ID, .name = "a"};
	fuse_ino_t a;
	ino_t was;

	REQUIRE(start(0), "no table");
	make_file("a");
	was = number_of("a");
	a = learn("a");
	drop_all();
	CHECK_EQ(hold("a"), a);
	unlinkat(root, "a", 0);
	inode_moved(table, a, &from, NULL);
	inode_put(table, a);
	drop_all();
	CHECK_EQ(object_of(a), was);
	inode_forget(table, a, 1);
	CHECK_EQ(usage().inodes, 1);
	stop();
}

TEST(an_open_object_is_dropped_only_in_need)
{
	char name[16];
	fuse_ino_t a;
	ino_t was;

	REQUIRE(start(5), "no table");
	make_file("a");
	was = number_of("a");
	a = learn("a");
	inode_opened(table, a);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		learn(name);
	}
	CHECK(usage().fds <= 5);
	unlinkat(root, "a", 0);
	CHECK_EQ(object_of(a), was);
	make_file("a");
	CHECK_EQ(object_of(a), was);
	inode_closed(table, a);
	inode_closed(table, a);
	inode_opened(table, learn("f0"));
	drop_all();
	CHECK_EQ(usage().fds, 2); /* the root's, and of the one without a name */
	stop();
}

TEST(a_tree_of_2000_levels_comes_back_from_top_to_bottom)
{
	enum { LEVELS = 2000, BOUND = 20 };
	static fuse_ino_t inos[LEVELS];
	struct fuse_entry_param entry;
	ino_t bottom = 0;
	int at, next;

	REQUIRE(start(BOUND), "no table");
	at = dup(root);
	for (int i = 0; i < LEVELS; i++) {
		struct inode_place place = {i ? inos[i - 1] : FUSE_ROOT_ID, "level", false};
		struct stat st;

		mkdirat(at, "level", 0700);
		next = openat(at, "level", O_PATH | O_CLOEXEC);
		close(at);
		at = next;
		fstat(at, &st);
		CHECK_EQ(inode_learn(table, dup(at), &st, &place, &entry), 0);
		inos[i] = entry.ino;
		bottom = st.st_ino;
	}
	close(at);
	drop_all();
	CHECK_EQ(usage().fds, 1);
	CHECK_EQ(object_of(inos[LEVELS - 1]), bottom);
	CHECK(usage().fds <= BOUND);
	CHECK(usage().reopened_by_name >= LEVELS);
	/* The parents first: they stay as long as they lead somewhere. */
	for (int i = 0; i < LEVELS - 1; i++)
		inode_forget(table, inos[i], 1);
	CHECK_EQ(usage().inodes, LEVELS + 1);
	drop_all();
	CHECK_EQ(object_of(inos[LEVELS - 1]), bottom);
	inode_forget(table, inos[LEVELS - 1], 1);
	CHECK_EQ(usage().inodes, 1);
	/* No path is as long as this one. */
	for (int i = 0; i < LEVELS; i++) {
		renameat(root, "level/level", root, "below");
		unlinkat(root, "level", AT_REMOVEDIR);
		renameat(root, "below", root, "level");
	}
	stop();
}

TEST(directories_moved_about_behind_make_no_circle)
{
	fuse_ino_t a, x;

	REQUIRE(start(0), "no table");
	mkdirat(root, "a", 0700);
	mkdirat(root, "a/x", 0700);
	a = learn("a");
	x = learn_in(a, "a/x");
	renameat(root, "a/x", root, "x");
	renameat(root, "a", root, "x/a");
	CHECK_EQ(learn_in(x, "x/a"), a);
	drop_all();
	/* Where they were last seen they are no more; but it comes to an end. */
	object_of(a);
	object_of(x);
	CHECK_EQ(learn("x"), x);
	CHECK_EQ(learn_in(x, "x/a"), a);
	drop_all();
	CHECK_EQ(object_of(a), number_of("x/a"));
	inode_forget(table, x, 2);
	inode_forget(table, a, 3);
	CHECK_EQ(usage().inodes, 1);
	stop();
}

TEST(no_descriptor_is_left_behind)
{
	unsigned before;
	char name[16];

	give_up_handles();
	before = count_fds();
	REQUIRE(start(10), "no table");
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		make_file(name);
		object_of(learn(name));
		learn(name);
	}
	for (int i = 0; i < 25; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		unlinkat(root, name, 0);
	}
	for (fuse_ino_t ino = 2; ino < 52; ino++)
		object_of(ino);
	stop();
	CHECK_EQ(count_fds(), before);
}

enum { WORKERS = 4, DIRS = 8, EACH = 8 };

static fuse_ino_t dirs[DIRS];

/* Learns, reopens, moves and forgets at random; each object keeps its inode number all the while.
 */
static void *hammer(void *arg)
{
	unsigned seed = (unsigned)(size_t)arg;

	for (int i = 0; i < 3000; i++) {
		int d = rand_r(&seed) % DIRS;
		char path[32];
		fuse_ino_t ino;
		ino_t object;

		snprintf(path, sizeof(path), "d%d/f%d", d, rand_r(&seed) % EACH);
		if (i % 16 == 0) {
			char other[40];

			/* Away and back, behind the table. */
			snprintf(other, sizeof(other), "%s.%zu", path, (size_t)arg);
			renameat(root, path, root, other);
			renameat(root, other, root, path);
		}
		ino = learn_in(dirs[d], path);
		if (ino == 0)
			continue;
		object = object_of(ino);
		if (object == 1 || (object && inode_type(table, ino) != S_IFREG))
			return "failed";
		if (i % 64 == 0)
			inode_relieve(table, -EMFILE);
		inode_forget(table, ino, 1);
	}
	return NULL;
}

TEST(threads_share_the_table)
{
	pthread_t threads[WORKERS];
	char path[32];

	REQUIRE(start(4), "no table");
	for (int d = 0; d < DIRS; d++) {
		snprintf(path, sizeof(path), "d%d", d);
		mkdirat(root, path, 0700);
		dirs[d] = learn(path);
		for (int i = 0; i < EACH; i++) {
			snprintf(path, sizeof(path), "d%d/f%d", d, i);
			make_file(path);
		}
	}
	for (size_t i = 0; i < WORKERS; i++)
		pthread_create(&threads[i], NULL, hammer, (void *)(i + 1));
	for (int i = 0; i < WORKERS; i++) {
		void *result;

		pthread_join(threads[i], &result);
		CHECK(result == NULL);
	}
	CHECK_EQ(usage().inodes, 1 + DIRS);
	stop();
}

static fuse_ino_t moving;
static ino_t moving_object;
static _Atomic bool moved_enough;

static void *ask_for_the_moving(void *arg)
{
	(void)arg;
	while (!moved_enough) {
		if (object_of(moving) != moving_object)
			return "lost";
		inode_relieve(table, -EMFILE);
	}
	return NULL;
}

TEST(what_is_being_moved_through_the_mount_is_always_found)
{
	struct inode_place places[2] = {{.name = "a"}, {.name = "b"}};
	const char *paths[2] = {"d/a", "e/b"};
	pthread_t threads[2];

	REQUIRE(start(0), "no table");
	mkdirat(root, "d", 0700);
	mkdirat(root, "e", 0700);
	make_file("d/a");
	places[0].parent = learn("d");
	places[1].parent = learn("e");
	moving = learn_in(places[0].parent, "d/a");
	moving_object = number_of("d/a");
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, ask_for_the_moving, NULL);
	for (int i = 0; i < 3000; i++) {
		int at = i % 2;

		CHECK_EQ(hold(paths[at]), moving);
		renameat(root, paths[at], root, paths[!at]);
		inode_moved(table, moving, &places[at], &places[!at]);
		inode_put(table, moving);
		inode_relieve(table, -EMFILE);
	}
	moved_enough = true;
	for (int i = 0; i < 2; i++) {
		void *result;

		pthread_join(threads[i], &result);
		CHECK(result == NULL);
	}
	stop();
}

TEST_MAIN()
