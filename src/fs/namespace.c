/* SPDX-License-Identifier: MIT */
/*
 * Names: looking them up, making them, moving them, taking them away. Called by libfuse through
 * ops.c; namespace.h for the rest of src/fs.
 *
 * The kernel has checked the caller's permission (default_permissions) or the mount is its owner's.
 * What is made is made as the caller (cred.h), so that it is the caller's from its first moment.
 */
#include "fs/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "fs/cred.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/outside.h"
#include "fs/reopen.h"
#include "fs/watch.h"

/* ---- finding ---- */

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

/*
 * The child `name` (one component, checked by the caller) of the directory dir_fd, an O_PATH
 * descriptor of the object itself, also of a symlink; *attr is filled. Mounts inside the source are
 * crossed, save our own: -ELOOP. The descriptor is the caller's. Or -errno.
 */
static int open_with_attr(
	struct fs *fs, int dir_fd, const char *name, struct stat *attr, bool *crossed)
{
	_cleanup_fd int fd = open_child(fs, dir_fd, name, crossed);

	if ((fd == -EMFILE || fd == -ENFILE) && inode_relieve(fs->inodes))
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
	if (fs->config.exclusive)
		check(fs, entry->ino, attr);
	else if (watch_generation(fs) != generation)
		look_again(fs, entry);
	return 0;
}

/* In parent, whose descriptor is dir_fd. entry is filled whole. 0 or -errno. */
static int lookup(struct fs *fs, fuse_ino_t parent, int dir_fd, const char *name,
	struct fuse_entry_param *entry)
{
	struct inode_place place = {.parent = parent, .name = name};
	uint64_t generation = watch_generation(fs);
	struct stat attr;
	int fd = open_with_attr(fs, dir_fd, name, &attr, &place.crossed);
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
	result = lookup(fs, parent, dir_fd, name, entry);
	inode_put(fs->inodes, parent);
	return result;
}

/* Answers with the entry, or with result where that is negative. What the kernel was not told it
 * does not know. */
static void reply_entry(fuse_req_t req, int result, const struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(req);

	if (result < 0)
		fs_reply(req, result);
	else if (fuse_reply_entry(req, entry) != 0)
		inode_forget(fs->inodes, entry->ino, 1);
}

/* What is behind fd, which stays the caller's; place: as inode_learn() takes it. */
static int learn_again(
	struct fs *fs, int fd, const struct inode_place *place, struct fuse_entry_param *entry)
{
	uint64_t generation = watch_generation(fs);
	_cleanup_fd int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	struct stat attr;

	if (again < 0 || fstat(again, &attr) < 0)
		return -errno;
	return namespace_learn(fs, steal_fd(&again), &attr, place, generation, entry);
}

/* "." of an object of any kind: so asks who has a number but no name (NFS servers). */
static int lookup_self(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *entry)
{
	int fd = inode_get(fs->inodes, ino);
	int result;

	if (fd < 0)
		return fd;
	result = learn_again(fs, fd, NULL, entry);
	inode_put(fs->inodes, ino);
	return result;
}

static bool same_object(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
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
		up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
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
	parent = open_across(fs, fd, "..");
	inode_put(fs->inodes, ino);
	if (parent < 0)
		return parent;
	return beneath_root(fs, parent) ? learn_again(fs, parent, NULL, entry) : -ESTALE;
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
	reply_entry(req, result, &entry);
}

static void forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup)
{
	if (inode_forget(fs->inodes, ino, nlookup) && fs->config.no_opens)
		file_forget(fs->files, ino);
}

void fs_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	forget(fs_of(req), ino, nlookup);
	fuse_reply_none(req);
}

void fs_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fs *fs = fs_of(req);

	for (size_t i = 0; i < count; i++)
		forget(fs, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

void fs_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char target[PATH_MAX + 1];
	int fd = inode_get(fs->inodes, ino);
	ssize_t length;

	if (fd < 0) {
		fs_reply(req, fd);
		return;
	}
	length = readlinkat(fd, "", target, sizeof(target) - 1);
	if (length < 0)
		length = errno == ENOENT ? -EINVAL : -errno; /* ENOENT: not a symlink */
	inode_put(fs->inodes, ino);
	if (length < 0) {
		fs_reply(req, length);
		return;
	}
	target[length] = '\0';
	fuse_reply_readlink(req, target);
}

/* ---- making ---- */

/* What is to be made. */
struct making {
	mode_t mode; /* with the type in S_IFMT */
	dev_t rdev;
	const char *target; /* of a symlink */
};

static int make(int dir_fd, const char *name, const struct making *what)
{
	int result;

	switch (what->mode & S_IFMT) {
	case S_IFDIR:
		result = mkdirat(dir_fd, name, what->mode & ~S_IFMT);
		break;
	case S_IFLNK:
		result = symlinkat(what->target, dir_fd, name);
		break;
	default:
		result = mknodat(dir_fd, name, what->mode, what->rdev);
		break;
	}
	return result < 0 ? -errno : 0;
}

static int make_and_learn(fuse_req_t req, fuse_ino_t parent, const char *name,
	const struct making *what, struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(req);
	int result = fs_check_name(name);
	struct cred_scope scope;
	int dir_fd;

	if (result < 0)
		return result;
	dir_fd = inode_get(fs->inodes, parent);
	if (dir_fd < 0)
		return dir_fd;
	change_begin(fs);
	result = cred_enter(&scope, req);
	if (result == 0) {
		result = make(dir_fd, name, what);
		cred_leave(&scope);
	}
	change_end(fs, 0);
	if (result == 0)
		result = lookup(fs, parent, dir_fd, name, entry);
	inode_put(fs->inodes, parent);
	return result;
}

/* Made to be opened, most probably. */
static int make_file(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_entry_param *entry)
{
	int result = fs_check_name(name);

	return result < 0 ? result : file_make(req, parent, name, mode & 07777, entry);
}

void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct making what = {.mode = mode & S_IFMT ? mode : mode | S_IFREG, .rdev = rdev};
	struct fuse_entry_param entry;
	int result = -EINVAL;

	/* mknod(2) makes neither; make() would. */
	if (S_ISREG(what.mode) && fs_of(req)->config.no_opens)
		result = make_file(req, parent, name, mode, &entry);
	else if (!S_ISDIR(mode) && !S_ISLNK(mode))
		result = make_and_learn(req, parent, name, &what, &entry);
	reply_entry(req, result, &entry);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct making what = {.mode = S_IFDIR | (mode & ~S_IFMT)};
	struct fuse_entry_param entry;

	reply_entry(req, make_and_learn(req, parent, name, &what, &entry), &entry);
}

void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct making what = {.mode = S_IFLNK, .target = target};
	struct fuse_entry_param entry;

	reply_entry(req, make_and_learn(req, parent, name, &what, &entry), &entry);
}

/* A new name of ino. The answer is about ino itself, whatever stands at newname by then. */
static int link_and_learn(struct fs *fs, fuse_ino_t ino, fuse_ino_t newparent, const char *newname,
	struct fuse_entry_param *entry)
{
	struct inode_place place = {.parent = newparent, .name = newname};
	int fd = inode_get(fs->inodes, ino);
	int dir_fd = fd < 0 ? fd : inode_get(fs->inodes, newparent);
	char number[16];
	int result = dir_fd < 0 ? dir_fd : 0;

	if (result == 0) {
		/* By way of /proc: without a name AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH. */
		snprintf(number, sizeof(number), "%d", fd);
		change_begin(fs);
		if (linkat(fs->proc_fd, number, dir_fd, newname, AT_SYMLINK_FOLLOW) < 0)
			result = -errno;
		change_end(fs, 0);
		inode_put(fs->inodes, newparent);
	}
	if (result == 0)
		result = learn_again(fs, fd, &place, entry);
	/* The kernel takes them also where they are older than what it was told since. */
	if (result == 0)
		entry->attr_timeout = fs->config.attr_timeout;
	if (fd >= 0)
		inode_put(fs->inodes, ino);
	return result;
}

void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct fuse_entry_param entry;
	int result = fs_check_name(newname);

	if (result == 0)
		result = link_and_learn(fs_of(req), ino, newparent, newname, &entry);
	reply_entry(req, result, &entry);
}

/* ---- taking away and moving ---- */

/*
 * A name is about to go, and with it perhaps the object, which somebody may still use; or to move,
 * and the object is to be found by the new one. Returns what inode_moved() and inode_put() take, or
 * 0.
 */
static fuse_ino_t hold_known(struct fs *fs, int dir_fd, const char *name)
{
	struct stat attr;
	bool crossed;
	int fd = open_with_attr(fs, dir_fd, name, &attr, &crossed);

	return fd < 0 ? 0 : inode_hold(fs->inodes, fd, &attr);
}

/* What only the deletion of an object asks for is not needed while all have their descriptors. */
static fuse_ino_t hold_removed(struct fs *fs, int dir_fd, const char *name)
{
	if (!inode_dropped(fs->inodes) && !inode_named(fs->inodes))
		return 0;
	return hold_known(fs, dir_fd, name);
}

static int remove_name(struct fs *fs, fuse_ino_t parent, const char *name, int flags)
{
	struct inode_place place = {.parent = parent, .name = name};
	int result = fs_check_name(name);
	fuse_ino_t held;
	int dir_fd;

	if (result < 0)
		return result;
	dir_fd = inode_get(fs->inodes, parent);
	if (dir_fd < 0)
		return dir_fd;
	held = hold_removed(fs, dir_fd, name);
	change_begin(fs);
	result = unlinkat(dir_fd, name, flags) < 0 ? -errno : 0;
	change_end(fs, 0);
	if (held && result == 0)
		inode_moved(fs->inodes, held, &place, NULL);
	if (held)
		inode_put(fs->inodes, held);
	inode_put(fs->inodes, parent);
	return result;
}

void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fs_reply(req, remove_name(fs_of(req), parent, name, 0));
}

void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fs_reply(req, remove_name(fs_of(req), parent, name, AT_REMOVEDIR));
}

/* A whiteout left behind is a new object, so it is the caller's; else nothing is made. */
static int move(fuse_req_t req, int dir_fd, const char *name, int new_dir_fd, const char *newname,
	unsigned flags)
{
	struct cred_scope scope;
	int result;

	if (flags == 0)
		return renameat(dir_fd, name, new_dir_fd, newname) < 0 ? -errno : 0;
	if (!(flags & RENAME_WHITEOUT))
		return renameat2(dir_fd, name, new_dir_fd, newname, flags) < 0 ? -errno : 0;
	result = cred_enter(&scope, req);
	if (result < 0)
		return result;
	result = renameat2(dir_fd, name, new_dir_fd, newname, flags) < 0 ? -errno : 0;
	cred_leave(&scope);
	return result;
}

/* One of the two directories of a rename, and what is known at its name. */
struct rename_end {
	struct inode_place place;
	int dir_fd;
	fuse_ino_t held; /* or 0 */
};

/* Both objects stay held meanwhile: nobody looks for them by a name that is being moved. */
static void hold_ends(struct fs *fs, struct rename_end *from, struct rename_end *to, unsigned flags)
{
	bool named = inode_named(fs->inodes);

	if (named)
		from->held = hold_known(fs, from->dir_fd, from->place.name);
	if (flags & RENAME_EXCHANGE ? named : !(flags & RENAME_NOREPLACE))
		to->held = hold_removed(fs, to->dir_fd, to->place.name);
}

static void ends_moved(
	struct fs *fs, const struct rename_end *from, const struct rename_end *to, unsigned flags)
{
	/* Two names of one object: nothing has happened. */
	if (from->held == to->held)
		return;
	if (to->held)
		inode_moved(fs->inodes, to->held, &to->place,
			flags & RENAME_EXCHANGE ? &from->place : NULL);
	if (from->held)
		inode_moved(fs->inodes, from->held, &from->place, &to->place);
}

static int rename_ends(
	fuse_req_t req, struct rename_end *from, struct rename_end *to, unsigned flags)
{
	struct fs *fs = fs_of(req);
	int result;

	hold_ends(fs, from, to, flags);
	change_begin(fs);
	result = move(req, from->dir_fd, from->place.name, to->dir_fd, to->place.name, flags);
	change_end(fs, 0);
	if (result == 0)
		ends_moved(fs, from, to, flags);
	if (from->held)
		inode_put(fs->inodes, from->held);
	if (to->held)
		inode_put(fs->inodes, to->held);
	return result;
}

static int rename_between(
	fuse_req_t req, struct rename_end *from, struct rename_end *to, unsigned flags)
{
	struct fs *fs = fs_of(req);
	int result = from->dir_fd = inode_get(fs->inodes, from->place.parent);

	if (result < 0)
		return result;
	result = to->dir_fd = inode_get(fs->inodes, to->place.parent);
	if (result >= 0) {
		result = rename_ends(req, from, to, flags);
		inode_put(fs->inodes, to->place.parent);
	}
	inode_put(fs->inodes, from->place.parent);
	return result;
}

void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned flags)
{
	struct rename_end from = {.place = {.parent = parent, .name = name}};
	struct rename_end to = {.place = {.parent = newparent, .name = newname}};
	int result = fs_check_name(name);

	if (result == 0)
		result = fs_check_name(newname);
	if (result == 0)
		result = rename_between(req, &from, &to, flags);
	fs_reply(req, result);
}
