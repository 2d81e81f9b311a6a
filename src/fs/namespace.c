/* SPDX-License-Identifier: MIT */
/*
 * Names: making them, moving them, taking them away. Called by libfuse through ops.c.
 *
 * The kernel has checked the caller's permission (default_permissions) or the mount is its owner's.
 * What is made is made as the caller (cred.h), so that it is the caller's from its first moment.
 */
#include "fs/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/cred.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/journal.h"
#include "fs/outside.h"

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

void namespace_unmake(struct fs *fs, int dir_fd, const char *name, bool directory, int result)
{
	if (result != -EMFILE && result != -ENFILE && result != -ENOMEM)
		return;
	change_begin(fs);
	unlinkat(dir_fd, name, directory ? AT_REMOVEDIR : 0);
	change_end(fs, 0);
}

static int make_and_learn(fuse_req_t req, fuse_ino_t parent, const char *name,
	const struct making *what, struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(req);
	int result = fs_check_name(name);
	struct cred_scope scope;
	struct change change;
	int dir_fd;

	if (result < 0)
		return result;
	dir_fd = inode_get(fs->inodes, parent);
	if (dir_fd < 0)
		return dir_fd;
	change_begin(fs);
	journal_begin(fs, &change);
	result = change.past == PAST_ENDED ? change.result : cred_enter(&scope, req);
	if (result == 0 && change.past != PAST_ENDED) {
		result = make(dir_fd, name, what);
		cred_leave(&scope);
	}
	if (result == -EEXIST && journal_made(&change, dir_fd, name, what->mode & S_IFMT))
		result = 0;
	journal_end(&change, result);
	change_made(fs);
	if (result == 0) {
		result = namespace_lookup(fs, parent, dir_fd, name, entry);
		namespace_unmake(fs, dir_fd, name, S_ISDIR(what->mode), result);
	}
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
	namespace_reply(req, result, &entry);
}

void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct making what = {.mode = S_IFDIR | (mode & ~S_IFMT)};
	struct fuse_entry_param entry;

	namespace_reply(req, make_and_learn(req, parent, name, &what, &entry), &entry);
}

void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct making what = {.mode = S_IFLNK, .target = target};
	struct fuse_entry_param entry;

	namespace_reply(req, make_and_learn(req, parent, name, &what, &entry), &entry);
}

/* The name is given to what is behind fd. 0 or -errno. */
static int give_name(struct fs *fs, int fd, int dir_fd, const char *newname)
{
	struct change change;
	struct stat attr;
	char number[16];
	int result = 0;

	journal_begin_with(fs, &change, fs->journal && fstat(fd, &attr) == 0 ? &attr : NULL);
	if (change.past == PAST_ENDED)
		result = change.result;
	/* By way of /proc: without a name AT_EMPTY_PATH asks for CAP_DAC_READ_SEARCH. */
	snprintf(number, sizeof(number), "%d", fd);
	if (change.past != PAST_ENDED &&
		linkat(fs->proc_fd, number, dir_fd, newname, AT_SYMLINK_FOLLOW) < 0)
		result = errno == EEXIST && journal_is_there(&change, dir_fd, newname) ? 0 : -errno;
	journal_end(&change, result);
	return result;
}

/* A new name of ino. The answer is about ino itself, whatever stands at newname by then. */
static int link_and_learn(struct fs *fs, fuse_ino_t ino, fuse_ino_t newparent, const char *newname,
	struct fuse_entry_param *entry)
{
	struct inode_place place = {.parent = newparent, .name = newname};
	int fd = inode_get(fs->inodes, ino);
	int dir_fd = fd < 0 ? fd : inode_get(fs->inodes, newparent);
	int result = dir_fd < 0 ? dir_fd : 0;

	if (result == 0) {
		change_begin(fs);
		result = give_name(fs, fd, dir_fd, newname);
		change_end(fs, 0);
	}
	if (result == 0) {
		result = namespace_learn_again(fs, fd, &place, entry);
		namespace_unmake(fs, dir_fd, newname, false, result);
	}
	if (dir_fd >= 0)
		inode_put(fs->inodes, newparent);
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
	namespace_reply(req, result, &entry);
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
	int fd = namespace_open(fs, dir_fd, name, &attr, &crossed);

	return fd < 0 ? 0 : inode_hold(fs->inodes, fd, &attr);
}

/* What only the deletion of an object asks for is not needed while all have their descriptors. */
static fuse_ino_t hold_removed(struct fs *fs, int dir_fd, const char *name)
{
	if (!inode_dropped(fs->inodes) && !inode_named(fs->inodes))
		return 0;
	return hold_known(fs, dir_fd, name);
}

/*
 * In a mount namespace of our own the kernel takes nothing for a mount point that is one where the
 * source lies: it would remove or move the name, and take off what is mounted there. 0 or -EBUSY.
 */
static int check_not_mounted(const struct fs *fs, int dir_fd, const char *name)
{
	struct statx stx;

	if (!fs->config.apart ||
		statx(dir_fd, name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0, &stx) < 0)
		return 0;
	return stx.stx_attributes & STATX_ATTR_MOUNT_ROOT ? -EBUSY : 0;
}

static int take_name(struct fs *fs, int dir_fd, const char *name, int flags)
{
	struct change change;
	int result = check_not_mounted(fs, dir_fd, name);

	if (result < 0)
		return result;
	journal_begin(fs, &change);
	if (change.past == PAST_ENDED)
		result = change.result;
	else
		result = unlinkat(dir_fd, name, flags) < 0 ? -errno : 0;
	/* The kernel knew it to be there. */
	if (result == -ENOENT && change.past == PAST_BEGUN)
		result = 0;
	journal_end(&change, result);
	return result;
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
	result = take_name(fs, dir_fd, name, flags);
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

/*
 * Done twice, an exchange would be undone, and what is left behind for a whiteout moved: there the
 * object itself tells whether it is in its new place. Else its old name is gone.
 */
static int move_once(
	fuse_req_t req, const struct rename_end *from, const struct rename_end *to, unsigned flags)
{
	struct fs *fs = fs_of(req);
	bool told_by_object = fs->journal && flags & (RENAME_EXCHANGE | RENAME_WHITEOUT);
	struct change change;
	struct stat attr;
	int result = check_not_mounted(fs, from->dir_fd, from->place.name);

	if (result == 0)
		result = check_not_mounted(fs, to->dir_fd, to->place.name);
	if (result < 0)
		return result;
	told_by_object = told_by_object &&
			 fstatat(from->dir_fd, from->place.name, &attr, AT_SYMLINK_NOFOLLOW) == 0;
	journal_begin_with(fs, &change, told_by_object ? &attr : NULL);
	if (change.past == PAST_ENDED)
		result = change.result;
	else if (journal_is_there(&change, to->dir_fd, to->place.name))
		result = 0;
	else
		result = move(
			req, from->dir_fd, from->place.name, to->dir_fd, to->place.name, flags);
	/* The kernel knew it to be there. */
	if (result == -ENOENT && change.past == PAST_BEGUN &&
		faccessat(to->dir_fd, to->place.name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		result = 0;
	journal_end(&change, result);
	return result;
}

static int rename_ends(
	fuse_req_t req, struct rename_end *from, struct rename_end *to, unsigned flags)
{
	struct fs *fs = fs_of(req);
	int result;

	hold_ends(fs, from, to, flags);
	change_begin(fs);
	result = move_once(req, from, to, flags);
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
