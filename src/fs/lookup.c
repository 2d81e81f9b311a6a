/* SPDX-License-Identifier: MIT */
/*
 * Names: finding them, and what the kernel is told of them and may keep. Called by libfuse through
 * ops.c; namespace.h for the rest of src/fs.
 *
 * The kernel has checked the caller's permission (default_permissions) or the mount is its owner's.
 */
#include "fs/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/relist.h"
#include "fs/reopen.h"
#include "fs/watch.h"

/*
 * What open_on_mount() does, across a mount point. Neither the open nor this statx asks the mounted
 * file system anything, so our own mount is recognised without waiting for ourselves.
 */
static int open_across(struct fs *fs, int dir_fd, const char *name)
{
	_cleanup_fd int fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct statx stx;

	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) < 0)
		return -errno;
	if (makedev(stx.stx_dev_major, stx.stx_dev_minor) ==
		atomic_load_explicit(&fs->own_dev, memory_order_relaxed))
		return -ELOOP;
	return steal_fd(&fd);
}

/* *crossed: the child may be a mount point. */
static int open_child(struct fs *fs, int dir_fd, const char *name, bool *crossed)
{
	int fd = open_on_mount(dir_fd, name);

	*crossed = fd == -EXDEV;
	return *crossed ? open_across(fs, dir_fd, name) : fd;
}

int namespace_open(struct fs *fs, int dir_fd, const char *name, struct stat *attr, bool *crossed)
{
	_cleanup_fd int fd = open_child(fs, dir_fd, name, crossed);

	while (inode_relieve(fs->inodes, fd))
		fd = open_child(fs, dir_fd, name, crossed);
	if (fd < 0)
		return fd;
	if (fstat(fd, attr) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* Is it as we left it? */
static void check(struct fs *fs, fuse_ino_t ino, const struct stat *attr)
{
	int fd = inode_get(fs->inodes, ino);

	if (fd < 0)
		return;
	file_check(fs, ino, fd, attr);
	inode_put(fs->inodes, ino);
}

/* The attributes of an object that was learned, taken once more. */
static void look_again(struct fs *fs, struct fuse_entry_param *entry)
{
	int fd = inode_get(fs->inodes, entry->ino);
	struct stat attr;

	if (fd < 0)
		return;
	if (fstat(fd, &attr) == 0) {
		entry->attr = attr;
		inode_number(fs->inodes, &entry->attr);
	}
	inode_put(fs->inodes, entry->ino);
}

int namespace_learn(struct fs *fs, int fd, const struct stat *attr, const struct inode_place *place,
	uint64_t generation, struct fuse_entry_param *entry)
{
	/* An unmount is no event. */
	bool crossed = place && place->crossed;
	int result;

	*entry = (struct fuse_entry_param){
		.attr_timeout = watch_attr_timeout(fs, attr->st_dev),
		.entry_timeout =
			crossed ? fs->config.entry_timeout : watch_entry_timeout(fs, attr->st_dev),
	};
	result = inode_learn(fs->inodes, fd, attr, place, entry);
	if (result < 0)
		return result;
	if (place)
		relist_found(fs->relist, place->parent, entry->ino);
	if (fs->config.exclusive) {
		check(fs, entry->ino, attr);
		file_show_mtime(fs, entry->ino, &entry->attr);
	} else if (file_tell_attrs(fs, entry->ino) || watch_generation(fs) != generation)
		look_again(fs, entry);
	return 0;
}

int namespace_lookup(struct fs *fs, fuse_ino_t parent, int dir_fd, const char *name,
	struct fuse_entry_param *entry)
{
	struct inode_place place = {.parent = parent, .name = name};
	uint64_t generation = watch_generation(fs);
	struct stat attr;
	int fd = namespace_open(fs, dir_fd, name, &attr, &place.crossed);
	int result = fd < 0 ? fd : namespace_learn(fs, fd, &attr, &place, generation, entry);

	/* The source bound into itself: the kernel has no place for a second root. */
	return result == 0 && entry->ino == FUSE_ROOT_ID ? -ELOOP : result;
}

int namespace_lookup_here(struct fs *fs, fuse_ino_t parent, int dir_fd, const char *name,
	struct fuse_entry_param *entry)
{
	struct inode_place place = {.parent = parent, .name = name};
	uint64_t generation = watch_generation(fs);
	_cleanup_fd int fd = open_on_mount(dir_fd, name);
	struct stat attr;

	if (fd < 0)
		return fd;
	if (fstat(fd, &attr) < 0)
		return -errno;
	return namespace_learn(fs, steal_fd(&fd), &attr, &place, generation, entry);
}

int fs_lookup_child(
	struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *entry)
{
	int result = fs_check_name(name);
	int dir_fd;

	if (result < 0)
		return result;
	dir_fd = inode_get(fs->inodes, parent);
	if (dir_fd < 0)
		return dir_fd;
	result = namespace_lookup(fs, parent, dir_fd, name, entry);
	inode_put(fs->inodes, parent);
	return result;
}

void namespace_reply(fuse_req_t req, int result, const struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(req);

	struct fuse_entry_param told;

	if (result < 0) {
		fs_reply(req, result);
		return;
	}
	told = *entry;
	told.ino = inode_told(fs->inodes, entry->ino);
	if (fuse_reply_entry(req, &told) != 0)
		inode_forget(fs->inodes, entry->ino, 1);
}

static int duplicate(int fd)
{
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	return again < 0 ? -errno : again;
}

int namespace_learn_again(
	struct fs *fs, int fd, const struct inode_place *place, struct fuse_entry_param *entry)
{
	uint64_t generation = watch_generation(fs);
	_cleanup_fd int again = duplicate(fd);
	struct stat attr;

	while (inode_relieve(fs->inodes, again))
		again = duplicate(fd);
	if (again < 0)
		return again;
	if (fstat(again, &attr) < 0)
		return -errno;
	return namespace_learn(fs, steal_fd(&again), &attr, place, generation, entry);
}

/* "." of an object of any kind: so asks who has a number but no name (NFS servers). */
static int lookup_self(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *entry)
{
	uint64_t generation = watch_generation(fs);
	int fd = inode_get(fs->inodes, ino);
	struct stat attr;
	int result;

	if (fd == -ESTALE) {
		/* Not in the table: ino is as the kernel knows it. */
		fd = inode_recall(fs->inodes, ino, &attr);
		return fd < 0 ? fd : namespace_learn(fs, fd, &attr, NULL, generation, entry);
	}
	if (fd < 0)
		return fd;
	result = namespace_learn_again(fs, fd, NULL, entry);
	inode_put(fs->inodes, ino);
	return result;
}

static bool same_object(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Where the kernel says the object behind fd is. */
static bool path_of(struct fs *fs, int fd, char path[PATH_MAX])
{
	char name[16];
	ssize_t n;

	snprintf(name, sizeof(name), "%d", fd);
	n = readlinkat(fs->proc_fd, name, path, PATH_MAX - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return true;
}

/* Whether the directory fd, which is on the source's own mount, is a child of the source's root. */
static bool below_root(struct fs *fs, int fd)
{
	char path[PATH_MAX], root[PATH_MAX];
	char *slash;

	if (!path_of(fs, fd, path) || !path_of(fs, fs->root_fd, root))
		return false;
	slash = strrchr(path, '/');
	if (!slash)
		return false;
	slash[slash == path] = '\0';
	return !strcmp(path, root);
}

/* The parent of a directory. Over the source itself our own mount covers the root: ".." is it. */
static int open_parent(struct fs *fs, int fd)
{
	int parent = open_across(fs, fd, "..");

	if (parent != -ELOOP || !below_root(fs, fd))
		return parent;
	parent = fcntl(fs->root_fd, F_DUPFD_CLOEXEC, 0);
	return parent < 0 ? -errno : parent;
}

/* Whether the way up from the directory fd leads to the source's root: it may have been moved out.
 */
static bool beneath_root(struct fs *fs, int fd)
{
	_cleanup_fd int at = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct stat root, here, before = {0};

	if (at < 0 || fstat(fs->root_fd, &root) < 0)
		return false;
	while (fstat(at, &here) == 0 && !same_object(&here, &before)) {
		int up;

		if (same_object(&here, &root))
			return true;
		up = open_parent(fs, at);
		if (up < 0)
			return false;
		close(at);
		at = up;
		before = here;
	}
	return false;
}

/* ".." of a directory, for the same. The root is its own. */
static int lookup_parent(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *entry)
{
	_cleanup_fd int parent = -1;
	int fd;

	if (ino == FUSE_ROOT_ID)
		return lookup_self(fs, ino, entry);
	fd = inode_get(fs->inodes, ino);
	if (fd < 0)
		return fd;
	parent = open_parent(fs, fd);
	inode_put(fs->inodes, ino);
	if (parent < 0)
		return parent;
	return beneath_root(fs, parent) ? namespace_learn_again(fs, parent, NULL, entry) : -ESTALE;
}

/* The kernel may keep that there is nothing where nobody else can make something, or where it will
 * be told of it. */
static int keep_nothing(struct fs *fs, fuse_ino_t parent, struct fuse_entry_param *entry)
{
	dev_t dev = inode_device(fs->inodes, parent);

	if (!fs->config.exclusive && !watch_covers(fs, dev))
		return -ENOENT;
	*entry = (struct fuse_entry_param){.entry_timeout = watch_entry_timeout(fs, dev)};
	return 0;
}

void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param entry;
	int result;

	if (!strcmp(name, "."))
		result = lookup_self(fs, parent, &entry);
	else if (!strcmp(name, ".."))
		result = lookup_parent(fs, parent, &entry);
	else
		result = fs_lookup_child(fs, parent, name, &entry);
	if (result == -ENOENT)
		result = keep_nothing(fs, parent, &entry);
	namespace_reply(req, result, &entry);
}

void fs_forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup)
{
	if (inode_forget(fs->inodes, ino, nlookup) && fs->config.no_opens)
		file_forget(fs->files, ino);
}
