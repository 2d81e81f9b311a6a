/* SPDX-License-Identifier: MIT */
/*
 * Races against the file system: names that change between a directory, links that lead outside,
 * special files and nothing, while programs use them through the mount. For
 * tests/mount/escape.bats.
 *
 *   swap_tool SOURCE MOUNT OUTSIDE TRIES [follow]
 *
 * SOURCE and MOUNT are the same empty directory, beside the mount and through it; OUTSIDE is a
 * directory with files that nobody but an escape would touch. Users of the mount follow no link
 * themselves, so whatever is opened, read, made or changed there, and any special file that is
 * opened in SOURCE, is the daemon's doing, and told: inotify sees it, and inode numbers from there
 * are known. Prints what was tried and how often, and each escape; the status is 1 where there was
 * one. With "follow" users follow links: then there has to be one.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMES        6 /* that change */
#define USERS        6
#define OUTSIDE_MOST 64
#define KINDS        7

/* What a name may be at the moment. */
static const char *const kinds[KINDS] = {
	"directory", "link-out", "link-up", "fifo", "device", "socket", "file"};

struct shared {
	atomic_ulong tries, worked, swaps, escapes;
	atomic_bool stop;
};

static struct shared *shared;
static const char *source, *mountpoint, *outside;
static ino_t outside_inodes[OUTSIDE_MOST];
static int n_outside;
static bool follow;
static unsigned long wanted;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void escape(const char *what, const char *name)
{
	if (atomic_fetch_add(&shared->escapes, 1) < 20)
		printf("ESCAPE: %s %s\n", what, name);
	fflush(stdout);
}

static unsigned random_of(unsigned *seed, unsigned below)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (*seed >> 8) % below;
}

/* ---- what names change between ---- */

/* One of each kind for each name, as .KIND.N. */
static void make_kinds(int dir, int n)
{
	char name[64], up[4200] = "";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	snprintf(name, sizeof(name), ".directory.%d", n);
	if (mkdirat(dir, name, 0777))
		die(name);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY);
	close(openat(fd, "secret", O_CREAT | O_WRONLY, 0666));
	close(fd);
	snprintf(name, sizeof(name), ".link-out.%d", n);
	if (symlinkat(outside, dir, name))
		die(name);
	for (int i = 0; i < 16; i++)
		strcat(up, "../");
	strcat(up, outside + 1);
	snprintf(name, sizeof(name), ".link-up.%d", n);
	if (symlinkat(up, dir, name))
		die(name);
	snprintf(name, sizeof(name), ".fifo.%d", n);
	if (mkfifoat(dir, name, 0666))
		die(name);
	snprintf(name, sizeof(name), ".device.%d", n);
	if (mknodat(dir, name, S_IFCHR | 0666, makedev(1, 5)) && errno != EPERM)
		die(name);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), ".socket.%d", n);
	if (fchdir(dir) || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die("socket");
	close(fd);
	snprintf(name, sizeof(name), ".file.%d", n);
	close(openat(dir, name, O_CREAT | O_WRONLY, 0666));
	snprintf(name, sizeof(name), "name%d", n);
	close(openat(dir, name, O_CREAT | O_WRONLY, 0666));
}

/* Exchanges a name with what is kept as one of its kinds, over and over. */
static void swap(const char *path, unsigned seed)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	char away[32];

	if (dir < 0)
		die(path);
	snprintf(away, sizeof(away), ".away%u", seed);
	while (!atomic_load(&shared->stop)) {
		int n = (int)random_of(&seed, NAMES);
		char name[32], other[64];

		snprintf(name, sizeof(name), "name%d", n);
		snprintf(other, sizeof(other), ".%s.%d", kinds[random_of(&seed, KINDS)], n);
		if (!renameat2(dir, name, dir, other, RENAME_EXCHANGE))
			atomic_fetch_add(&shared->swaps, 1);
		/* A name that is gone for a moment: another's is never replaced. */
		if (random_of(&seed, 16) == 0 && !renameat2(dir, name, dir, away, RENAME_NOREPLACE))
			renameat2(dir, away, dir, name, RENAME_NOREPLACE);
	}
	_exit(0);
}

/* ---- users of the mount ---- */

static void look(int fd, const char *what)
{
	struct stat st;

	if (fstat(fd, &st))
		return;
	for (int i = 0; i < n_outside; i++)
		if (outside_inodes[i] == st.st_ino)
			escape("an inode from outside came by", what);
}

static int opened(int dir, const char *path, uint64_t flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC | O_NONBLOCK, .mode = 0};
	int fd;

	if (flags & (O_CREAT | __O_TMPFILE))
		how.mode = 0666;
	how.resolve = follow ? 0 : RESOLVE_NO_SYMLINKS;
	fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
	if (fd >= 0 && !follow)
		look(fd, path);
	return fd;
}

/* In a directory that may be something else by now. */
static bool use_directory(int dir, const char *name, unsigned *seed)
{
	int fd = opened(dir, name, O_PATH | O_DIRECTORY);
	int file = -1;
	bool worked = fd >= 0;

	switch (worked ? random_of(seed, 7) : 0) {
	case 0:
		break;
	case 1:
		worked = !mkdirat(fd, "made-dir", 0777) && !unlinkat(fd, "made-dir", AT_REMOVEDIR);
		break;
	case 2:
		file = opened(fd, "made", O_CREAT | O_RDWR);
		worked = file >= 0 && write(file, "x", 1) == 1;
		break;
	case 3:
		worked = !renameat(fd, "made", fd, "moved");
		break;
	case 4:
		worked = !linkat(fd, "secret", fd, "linked", 0) && !unlinkat(fd, "linked", 0);
		break;
	case 5:
		worked = !symlinkat(outside, fd, "symlink") && !unlinkat(fd, "symlink", 0);
		break;
	case 6:
		worked = !unlinkat(fd, "moved", 0);
		break;
	}
	if (file >= 0)
		close(file);
	if (fd >= 0)
		close(fd);
	return worked;
}

/* Names with a slash in them resolve here and now. */
static bool use_path(int dir, const char *name, unsigned *seed)
{
	static const int flags[] = {
		O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC, O_PATH, O_WRONLY | O_CREAT};
	char path[64], byte;
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/secret", name);
	if (random_of(seed, 8) == 0) {
		struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};

		return !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) &&
		       !utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW);
	}
	fd = opened(dir, path, (uint64_t)flags[random_of(seed, 5)]);
	if (fd < 0)
		return false;
	if (read(fd, &byte, 1) == 1 && byte == 'S' && !follow)
		escape("bytes from outside were read by", path);
	close(fd);
	return true;
}

static bool list(int dir, const char *name)
{
	int fd = opened(dir, name, O_RDONLY | O_DIRECTORY);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!stream)
		return false;
	while ((entry = readdir(stream)))
		if (!strcmp(entry->d_name, "only-outside") && !follow)
			escape("a name from outside was listed by", name);
	closedir(stream);
	return true;
}

/* Itself: a file, or what must not be opened by anybody but who uses it. */
static bool use_name(int dir, const char *name, unsigned *seed)
{
	struct stat st;
	char byte;
	int fd;

	if (random_of(seed, 2))
		return !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
	/* A special file is opened by this kernel, here, and never by the daemon. */
	fd = opened(dir, name, O_RDONLY | O_NOFOLLOW);
	if (fd < 0)
		return false;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && read(fd, &byte, 1) == 1 && byte == 'S' &&
		!follow)
		escape("bytes from outside were read by", name);
	close(fd);
	return true;
}

static void use(unsigned seed)
{
	int dir = open(mountpoint, O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		die(mountpoint);
	while (atomic_fetch_add(&shared->tries, 1) < wanted && !atomic_load(&shared->stop)) {
		char name[32];
		bool worked = false;

		snprintf(name, sizeof(name), "name%u", random_of(&seed, NAMES));
		switch (random_of(&seed, 4)) {
		case 0:
			worked = use_directory(dir, name, &seed);
			break;
		case 1:
			worked = use_path(dir, name, &seed);
			break;
		case 2:
			worked = list(dir, name);
			break;
		case 3:
			worked = use_name(dir, name, &seed);
			break;
		}
		if (worked)
			atomic_fetch_add(&shared->worked, 1);
	}
	_exit(0);
}

/* ---- watching ---- */

static void note_outside(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	if (!dir)
		die(path);
	while ((entry = readdir(dir)) && n_outside < OUTSIDE_MOST)
		if (strcmp(entry->d_name, ".."))
			outside_inodes[n_outside++] = entry->d_ino;
	closedir(dir);
}

/* All that happens outside, and openings of special files in the source, on the bare side. */
static int watch(void)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (fd < 0 || inotify_add_watch(fd, outside, IN_ALL_EVENTS) < 0)
		die("inotify");
	for (int n = 0; n < NAMES; n++) {
		static const char *const special[] = {"fifo", "device"};

		for (int i = 0; i < 2; i++) {
			char path[4200];

			snprintf(path, sizeof(path), "%s/.%s.%d", source, special[i], n);
			if (inotify_add_watch(fd, path, IN_OPEN | IN_ACCESS | IN_MODIFY) < 0 &&
				errno != ENOENT)
				die(path);
		}
	}
	return fd;
}

static void tell_events(int fd)
{
	_Alignas(struct inotify_event) char buffer[8192];
	ssize_t n;

	while ((n = read(fd, buffer, sizeof(buffer))) > 0) {
		for (char *at = buffer; at < buffer + n;) {
			const struct inotify_event *event = (const void *)at;
			char what[64];

			at += sizeof(*event) + event->len;
			snprintf(what, sizeof(what), "event %#x of watch %d:", event->mask,
				event->wd);
			escape(what, event->len ? event->name : "itself");
		}
	}
}

/* A swapper at path, or a user where it is NULL. */
static pid_t start(const char *path, unsigned seed)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		return pid;
	if (path)
		swap(path, seed);
	use(seed);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t users[USERS], swappers[2];
	int events, dir;

	if (argc < 5)
		return 2;
	source = argv[1];
	mountpoint = argv[2];
	outside = argv[3];
	wanted = strtoul(argv[4], NULL, 10);
	follow = argc > 5;
	umask(0);
	shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	dir = open(source, O_RDONLY | O_DIRECTORY);
	if (shared == MAP_FAILED || dir < 0)
		die(source);
	note_outside(outside);
	for (int n = 0; n < NAMES; n++)
		make_kinds(dir, n);
	if (chdir("/"))
		die("/");
	events = watch();
	swappers[0] = start(source, 1);
	swappers[1] = start(mountpoint, 2);
	for (unsigned i = 0; i < USERS; i++)
		users[i] = start(NULL, 10 + i);
	for (int i = 0; i < USERS; i++)
		while (waitpid(users[i], NULL, WNOHANG) == 0) {
			tell_events(events);
			usleep(10000);
		}
	atomic_store(&shared->stop, true);
	for (int i = 0; i < 2; i++)
		waitpid(swappers[i], NULL, 0);
	tell_events(events);
	printf("%lu tries, of which %lu worked, beside %lu exchanges: %lu escapes\n", wanted,
		atomic_load(&shared->worked), atomic_load(&shared->swaps),
		atomic_load(&shared->escapes));
	return atomic_load(&shared->escapes) ? 1 : 0;
}
