/* SPDX-License-Identifier: MIT */
/* Finding an object of the source again, see reopen.h. */
#include "fs/reopen.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"

enum { LISTING = 16 << 10 }; /* on the stack */

static _Atomic bool no_openat2; /* the kernel is older than 5.6 */

int open_on_mount(int dir_fd, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
			   RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	if (atomic_load_explicit(&no_openat2, memory_order_relaxed))
		return -EXDEV;
	fd = syscall(SYS_openat2, dir_fd, name, &how, sizeof(how));
	if (fd >= 0)
		return fd;
	if (errno != ENOSYS)
		return -errno;
	atomic_store_explicit(&no_openat2, true, memory_order_relaxed);
	return -EXDEV;
}

/* Without openat2() what is mounted over the name is told by is_object() alone. */
static int open_named(int dir_fd, const char *name)
{
	int fd = open_on_mount(dir_fd, name);

	if (fd != -EXDEV || !atomic_load_explicit(&no_openat2, memory_order_relaxed))
		return fd;
	fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool is_object(int fd, const struct object *want)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, &stx) < 0)
		return false;
	return makedev(stx.stx_dev_major, stx.stx_dev_minor) == want->dev &&
	       stx.stx_ino == want->ino && (stx.stx_mode & S_IFMT) >> 12 == want->type &&
	       file_id_matches(&want->id, fd);
}

/* -ESTALE for another object. */
static int open_object(int dir_fd, const char *name, const struct object *want)
{
	_cleanup_fd int fd = open_named(dir_fd, name);

	if (fd < 0)
		return fd;
	return is_object(fd, want) ? steal_fd(&fd) : -ESTALE;
}

/* Whether there may be another name of the object in the directory. */
static bool led_elsewhere(int result)
{
	return result == -ESTALE || result == -ENOENT || result == -EXDEV;
}

static int open_listing(int dir_fd)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
	int fd = openat(dir_fd, ".", flags | O_NOATIME);

	/* Somebody else's directory. */
	if (fd < 0 && errno == EPERM)
		fd = openat(dir_fd, ".", flags);
	return fd < 0 ? -errno : fd;
}

/* Asks for each entry with the right inode number, until one is it. */
static int search_batch(int dir_fd, const char *batch, long size, char name[NAME_MAX + 1],
	const struct object *want)
{
	int result = -ESTALE;

	for (long at = 0; at < size && led_elsewhere(result);) {
		const struct dirent64 *d = (const void *)(batch + at);

		at += d->d_reclen;
		if (d->d_ino != want->ino || strlen(d->d_name) > NAME_MAX ||
			!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		result = open_object(dir_fd, d->d_name, want);
		if (result >= 0)
			strcpy(name, d->d_name);
	}
	return result;
}

static int search(int dir_fd, char name[NAME_MAX + 1], const struct object *want)
{
	char batch[LISTING] __attribute__((aligned(8)));
	_cleanup_fd int listing = open_listing(dir_fd);
	int result = -ESTALE;
	long got = 1;

	if (listing < 0)
		return listing == -EMFILE || listing == -ENFILE ? listing : -ESTALE;
	while (led_elsewhere(result) && got > 0) {
		got = syscall(SYS_getdents64, listing, batch, sizeof(batch));
		if (got > 0)
			result = search_batch(dir_fd, batch, got, name, want);
	}
	return led_elsewhere(result) ? -ESTALE : result;
}

int reopen_by_name(int dir_fd, char name[NAME_MAX + 1], const struct object *want)
{
	int fd = open_object(dir_fd, name, want);

	return led_elsewhere(fd) ? search(dir_fd, name, want) : fd;
}

int reopen_by_handle(int root_fd, const struct object *want)
{
	_cleanup_fd int fd = file_id_open(root_fd, &want->id);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != want->dev || st.st_ino != want->ino ||
		(st.st_mode & S_IFMT) >> 12 != want->type)
		return -ESTALE;
	return steal_fd(&fd);
}
