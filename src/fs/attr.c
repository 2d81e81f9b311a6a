/* SPDX-License-Identifier: MIT */
/*
 * Attributes: getattr, setattr, statfs. Called by libfuse through ops.c.
 *
 * Whether the caller may was checked by the kernel; here it is done with the daemon's rights, on
 * descriptors, so special files and symlinks are changed without being opened or followed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/cred.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/outside.h"
#include "fs/priv.h"
#include "fs/relist.h"
#include "fs/watch.h"

#define OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)
#define TIMES                                                                                      \
	(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |                     \
		FUSE_SET_ATTR_MTIME_NOW)

/* The object of a request: through the handle that came with it, else the inode's descriptor. */
struct target {
	fuse_ino_t ino;
	struct handle *handle; /* or NULL: the inode is pinned */
	int fd;
};

static int target_get(struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi, struct target *t)
{
	t->ino = ino;
	t->handle = fi ? handle_find(fs->handles, fi->fh, ino) : NULL;
	t->fd = t->handle ? atomic_load(&t->handle->fd[t->handle->first])
			  : inode_get(fs->inodes, ino);
	return t->fd < 0 ? t->fd : 0;
}

static void target_put(struct fs *fs, struct target *t)
{
	if (!t->handle)
		inode_put(fs->inodes, t->ino);
}

/* The attributes as they are now, for the answer. */
static int fresh(struct fs *fs, const struct target *t, struct stat *attr)
{
	if (fstat(t->fd, attr) < 0)
		return -errno;
	file_check(fs, t->ino, t->fd, attr);
	inode_number(fs->inodes, attr);
	return 0;
}

void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct target target;
	struct stat attr;
	int result = target_get(fs, ino, fi, &target);

	file_tell_attrs(fs, ino);
	if (result == 0) {
		result = fresh(fs, &target, &attr);
		target_put(fs, &target);
	}
	if (result < 0) {
		fs_reply(req, result);
		return;
	}
	if (S_ISREG(attr.st_mode))
		relist_asked(fs->relist, ino);
	fuse_reply_attr(req, &attr, watch_attr_timeout(fs, attr.st_dev));
}

/* ---- setattr: in the order in which one chmod, chown or truncate after another would come ---- */

static int set_owner(int fd, const struct stat *attr, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;

	return fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/*
 * The source's chown takes set-group-id without group execution where who asks is not of the file's
 * group; for it that is us, who may keep all. True where it is to go.
 */
static bool chown_takes_sgid(fuse_req_t req, const struct target *t)
{
	struct stat st;

	return fs_of(req)->config.privileged && fuse_req_ctx(req)->uid != 0 && !fstat(t->fd, &st) &&
	       !S_ISDIR(st.st_mode) && (st.st_mode & (S_ISGID | S_IXGRP)) == S_ISGID &&
	       !cred_caller_in_group(req, st.st_gid);
}

static int chown_as_caller(
	fuse_req_t req, const struct target *t, const struct stat *attr, int to_set)
{
	bool takes_sgid = chown_takes_sgid(req, t);
	int result = set_owner(t->fd, attr, to_set);
	char number[16];
	struct stat st;

	if (result < 0 || !takes_sgid || fstat(t->fd, &st))
		return result;
	snprintf(number, sizeof(number), "%d", t->fd);
	fchmodat(fs_of(req)->proc_fd, number, st.st_mode & 07777 & ~(mode_t)S_ISGID, 0);
	return 0;
}

/* number: fd as a name in proc_fd, which leads to the object itself, symlinks included. */
static int set_mode(struct fs *fs, const char *number, mode_t mode)
{
	return fchmodat(fs->proc_fd, number, mode & 07777, 0) < 0 ? -errno : 0;
}

static int set_size(fuse_req_t req, const struct target *t, off_t size)
{
	struct fs *fs = fs_of(req);
	mode_t type = inode_type(fs->inodes, t->ino);
	_cleanup_fd int opened = -1;
	struct opener opener = {0};
	int fd = t->fd;
	int result = 0;

	if (!S_ISREG(type))
		return S_ISDIR(type) ? -EISDIR : -EINVAL;
	if (size < 0)
		return -EINVAL;
	if (fs->config.no_opens) {
		result = opener_get(fs, t->ino, 0, &opener);
		fd = result < 0 ? result : file_fd(fs, opener.handle, 0);
	} else if (!t->handle || t->handle->access == O_RDONLY) {
		fd = opened = file_reopen(fs, t->fd, O_WRONLY | O_CLOEXEC);
	}
	/* A change of owner takes the bits by itself. */
	if (fd >= 0 && priv_kill_asked())
		priv_kill(req, t->ino, fd);
	result = fd < 0 ? fd : ftruncate(fd, size) < 0 ? -errno : 0;
	opener_put(fs, &opener);
	return result;
}

static struct timespec time_of(const struct timespec *value, bool set, bool now)
{
	if (now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return set ? *value : (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(struct fs *fs, const char *number, const struct stat *attr, int to_set)
{
	struct timespec times[2] = {
		time_of(&attr->st_atim, to_set & FUSE_SET_ATTR_ATIME,
			to_set & FUSE_SET_ATTR_ATIME_NOW),
		time_of(&attr->st_mtim, to_set & FUSE_SET_ATTR_MTIME,
			to_set & FUSE_SET_ATTR_MTIME_NOW),
	};

	return utimensat(fs->proc_fd, number, times, 0) < 0 ? -errno : 0;
}

/* ctime is the source's own affair. */
static int set_all(fuse_req_t req, const struct target *t, const struct stat *attr, int to_set)
{
	struct fs *fs = fs_of(req);
	char number[16];
	int result = 0;

	snprintf(number, sizeof(number), "%d", t->fd);
	/* Nothing at all is chown(-1, -1), which moves ctime and takes set-id bits. */
	if (to_set & OWNER || !(to_set & (OWNER | FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_SIZE | TIMES)))
		result = chown_as_caller(req, t, attr, to_set);
	if (result == 0 && to_set & FUSE_SET_ATTR_MODE)
		result = set_mode(fs, number, attr->st_mode);
	if (result == 0 && to_set & FUSE_SET_ATTR_SIZE)
		result = set_size(req, t, attr->st_size);
	if (result == 0 && to_set & TIMES)
		result = set_times(fs, number, attr, to_set);
	return result;
}

/* The kernel's own times of a file that it writes back, and nothing else. */
static bool written_back(const struct fs *fs, int to_set)
{
	return fs->config.writeback && to_set == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME);
}

/* The kernel's time of a write and the source's, which come that close where nobody set a time. */
#define PUT_OFF_NS 100000000

/*
 * The source has its own time of these writes, nearly the same. The kernel's is set before the file
 * goes (file.h): a program that writes and syncs in turns would else pay for one more change of the
 * inode each time. True where that is taken care of. A time that is far from it may be one that a
 * program has set, which looks the same here: it may not wait, nor be lost with us.
 */
static bool put_off(struct fs *fs, const struct target *t, const struct stat *attr)
{
	struct file *file = file_lock(fs->files, t->ino);
	bool near;

	if (!file)
		return false;
	near = llabs((long long)(file->written_at - change_time(&attr->st_mtim))) <= PUT_OFF_NS;
	if (near) {
		file_told_mtime(file, attr);
		file->mark->mtime_due = true;
	}
	file_unlock(fs->files, file);
	return near;
}

/*
 * What the answer needs when the kernel has told us its own times, which it goes on to believe. The
 * source is not asked for its: a file system with fine-grained times then gives the next write one
 * of its own, and the inode has to be written once more at each sync.
 */
static int fresh_but_times(
	struct fs *fs, const struct target *t, const struct stat *told, struct stat *attr)
{
	struct statx now;

	if (statx(t->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS & ~(STATX_MTIME | STATX_CTIME), &now))
		return -errno;
	*attr = (struct stat){
		.st_ino = now.stx_ino,
		.st_dev = makedev(now.stx_dev_major, now.stx_dev_minor),
		.st_mode = now.stx_mode,
		.st_nlink = now.stx_nlink,
		.st_uid = now.stx_uid,
		.st_gid = now.stx_gid,
		.st_size = (off_t)now.stx_size,
		.st_blocks = (blkcnt_t)now.stx_blocks,
		.st_blksize = (blksize_t)now.stx_blksize,
		.st_atim = {.tv_sec = now.stx_atime.tv_sec, .tv_nsec = now.stx_atime.tv_nsec},
		.st_mtim = told->st_mtim,
		.st_ctim = told->st_mtim,
	};
	inode_number(fs->inodes, attr);
	return 0;
}

/* What was put off is overtaken, by a time that is set now: by attr's, or the source's clock's. */
static void forget_mtime(struct fs *fs, fuse_ino_t ino, const struct stat *attr, bool now)
{
	struct file *file = file_lock(fs->files, ino);

	if (!file)
		return;
	file->mark->mtime_due = false;
	file->mark->mtime = attr->st_mtim;
	file->mark->mtime_known = !now;
	file_unlock(fs->files, file);
}

/* Changes what is to be set; *now becomes what it is then. */
static int change(fuse_req_t req, const struct target *t, const struct stat *attr, int to_set,
	struct stat *now)
{
	struct fs *fs = fs_of(req);
	int result;

	if (written_back(fs, to_set) && put_off(fs, t, attr))
		return fresh_but_times(fs, t, attr, now);
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		forget_mtime(fs, t->ino, attr, to_set & FUSE_SET_ATTR_MTIME_NOW);
	change_begin(fs);
	result = set_all(req, t, attr, to_set);
	change_end(fs, t->ino);
	return result < 0 ? result : fresh(fs, t, now);
}

void fs_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct target target;
	struct stat now;
	int result = target_get(fs, ino, fi, &target);

	if (result == 0) {
		result = change(req, &target, attr, to_set, &now);
		target_put(fs, &target);
	}
	if (result < 0)
		fs_reply(req, result);
	else
		/* Short also where it is watched: the kernel takes them even where they are older
		 * than what it was told since. */
		fuse_reply_attr(req, &now, fs->config.attr_timeout);
}

void fs_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	int fd = inode_get(fs->inodes, ino ? ino : FUSE_ROOT_ID);
	struct statvfs st;
	int result = fd;

	if (fd >= 0) {
		result = fstatvfs(fd, &st) < 0 ? -errno : 0;
		inode_put(fs->inodes, ino ? ino : FUSE_ROOT_ID);
	}
	if (result < 0)
		fs_reply(req, result);
	else
		fuse_reply_statfs(req, &st);
}
