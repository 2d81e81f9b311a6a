/* SPDX-License-Identifier: MIT */
/*
 * Opening, creating and releasing regular files, and what is done with a handle besides reading and
 * writing. Called by libfuse through ops.c.
 */
#include "fs/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/cred.h"
#include "fs/file_table.h"
#include "fs/fs.h"
#include "fs/lock.h"
#include "fs/namespace.h"
#include "fs/priv.h"
#include "fs/watch.h"
#include "loop/loop.h"

/* One copy_file_range request blocks its loop; a larger one is answered short and comes again. */
#define COPY_MAX (128u << 20)

int file_variant(int flags)
{
	return (flags & O_DIRECT ? FD_DIRECT : 0) | (flags & O_APPEND ? FD_APPEND : 0);
}

/*
 * Flags for the source. Creation is not repeated; syncs come as requests of their own (FSYNC after
 * a buffered O_SYNC write), or per write (RWF_DSYNC, data.c).
 */
static int source_flags(int flags)
{
	return (flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_NOFOLLOW | O_SYNC | O_DSYNC | O_NONBLOCK |
				FASYNC | O_DIRECTORY)) |
	       O_CLOEXEC;
}

/* Reading leaves no time of access behind where the mount is to have none. */
static int quiet(const struct fs *fs)
{
	return fs->config.keep_atime ? O_NOATIME : 0;
}

/* It is a regular file or a directory: opening it has no effect of its own. */
int file_reopen(struct fs *fs, int fd, int flags)
{
	char name[16];
	int again;

	flags |= quiet(fs);
	snprintf(name, sizeof(name), "%d", fd);
	again = openat(fs->proc_fd, name, flags);
	/* Somebody else's, and no right to read it without a trace. */
	if (again < 0 && errno == EPERM && quiet(fs)) {
		flags &= ~O_NOATIME;
		again = openat(fs->proc_fd, name, flags);
	}
	if (again < 0 && (errno == EMFILE || errno == ENFILE) && inode_relieve(fs->inodes))
		again = openat(fs->proc_fd, name, flags);
	return again < 0 ? -errno : again;
}

static int open_inode(struct fs *fs, fuse_ino_t ino, int flags)
{
	mode_t type = inode_type(fs->inodes, ino);
	int path_fd;
	int fd;

	if (!S_ISREG(type))
		return S_ISDIR(type) ? -EISDIR : type ? -ENXIO : -ESTALE;
	path_fd = inode_get(fs->inodes, ino);
	if (path_fd < 0)
		return path_fd;
	fd = file_reopen(fs, path_fd, source_flags(flags));
	inode_put(fs->inodes, ino);
	return fd;
}

int file_fd(struct fs *fs, struct handle *handle, int variant)
{
	int flags = handle->access | (variant & FD_DIRECT ? O_DIRECT : 0) |
		    (variant & FD_APPEND ? O_APPEND : 0);
	int fd = atomic_load_explicit(&handle->fd[variant], memory_order_acquire);
	int none = -1;

	if (fd >= 0)
		return fd;
	fd = open_inode(fs, atomic_load(&handle->ino), flags);
	if (fd < 0)
		return fd;
	if (atomic_compare_exchange_strong(&handle->fd[variant], &none, fd))
		return fd;
	/* Another loop was quicker. */
	close(fd);
	return none;
}

/*
 * FOPEN_… for a file opened with flags. Direct writers of one file run in parallel only with both
 * flags, which libfuse 3.14 cannot say both; without FOPEN_DIRECT_IO's shared mmap (Linux 6.6)
 * O_DIRECT stays with the page cache's rules.
 */
static uint32_t open_reply_flags(struct fs *fs, fuse_ino_t ino, int flags)
{
	if (fs->config.direct_io_all ||
		((flags & O_DIRECT) &&
			atomic_load_explicit(&fs->direct_io_mmap, memory_order_relaxed)))
		return FOPEN_DIRECT_IO | ABI_FOPEN_PARALLEL_DIRECT_WRITES;
	/* Who changes the data makes the watch drop it. */
	return watch_covers(fs, inode_device(fs->inodes, ino)) ? FOPEN_KEEP_CACHE : 0;
}

/* Makes fd (taken over) an opener of ino. Fills out. 0 or -errno. */
static int add_opener(struct fs *fs, fuse_ino_t ino, int fd, int flags, struct fuse_open_out *out)
{
	struct handle *handle =
		handle_new(fs->handles, ino, fd, file_variant(flags), flags & O_ACCMODE);
	int result;

	if (!handle)
		return -ENFILE;
	result = file_add_handle(fs->files, ino, handle);
	if (result < 0) {
		handle_free(fs->handles, handle);
		return result;
	}
	*out = (struct fuse_open_out){
		.fh = handle->index,
		.open_flags = open_reply_flags(fs, ino, flags),
	};
	return 0;
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_open_out out;
	int fd = open_inode(fs, ino, fi->flags);
	int result;

	if (fd >= 0 && (fi->flags & O_TRUNC) && priv_kill_asked())
		priv_kill(req, ino, fd);
	result = fd < 0 ? fd : add_opener(fs, ino, fd, fi->flags, &out);

	if (result < 0)
		fs_reply(req, result);
	else
		fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* An unnamed file in a directory (O_TMPFILE). The descriptor, or -errno. */
static int create_unnamed(int dir_fd, mode_t mode, int flags)
{
	int fd;

	/* O_EXCL: may never be linked. */
	fd = openat(
		dir_fd, ".", (source_flags(flags) & ~O_TRUNC) | O_TMPFILE | (flags & O_EXCL), mode);
	return fd < 0 ? -errno : fd;
}

/*
 * A new file, or -EEXIST for the caller to open what is there: opening with O_CREAT alone could
 * hang on a FIFO that somebody put there meanwhile.
 */
static int create_named(int dir_fd, const char *name, mode_t mode, int flags)
{
	int fd = openat(dir_fd, name,
		(source_flags(flags) & ~O_TRUNC) | O_CREAT | O_EXCL | O_NOFOLLOW, mode);

	return fd < 0 ? -errno : fd;
}

/* name NULL: an unnamed one. */
static int create_in(int dir_fd, const char *name, mode_t mode, int flags)
{
	return name ? create_named(dir_fd, name, mode, flags) : create_unnamed(dir_fd, mode, flags);
}

static int create_as_caller(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, int flags)
{
	struct fs *fs = fs_of(req);
	struct cred_scope scope;
	int dir_fd = inode_get(fs->inodes, parent);
	int fd;

	if (dir_fd < 0)
		return dir_fd;
	flags |= quiet(fs);
	fd = cred_enter(&scope, req);
	if (fd == 0) {
		fd = create_in(dir_fd, name, mode, flags);
		if ((fd == -EMFILE || fd == -ENFILE) && inode_relieve(fs->inodes))
			fd = create_in(dir_fd, name, mode, flags);
		cred_leave(&scope);
	}
	inode_put(fs->inodes, parent);
	return fd;
}

/* Makes the file behind fd known. Leaves fd to the caller. */
static int learn_open(struct fs *fs, int fd, struct fuse_entry_param *entry)
{
	uint64_t generation = watch_generation(fs);
	char name[16];
	struct stat st;
	int path_fd;

	if (fstat(fd, &st))
		return -errno;
	snprintf(name, sizeof(name), "%d", fd);
	path_fd = openat(fs->proc_fd, name, O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return -errno;
	return namespace_learn(fs, path_fd, &st, generation, entry);
}

/* Opens what was there already, as open(O_CREAT) does. */
static int open_existing(fuse_req_t req, fuse_ino_t parent, const char *name, int flags,
	struct fuse_entry_param *entry)
{
	struct fs *fs = fs_of(req);
	int result = fs_lookup_child(fs, parent, name, entry);
	int fd;

	if (result < 0)
		return result;
	/* The kernel takes them also where they are older than what it was told since. */
	entry->attr_timeout = fs->config.attr_timeout;
	fd = open_inode(fs, entry->ino, flags);
	if (fd >= 0 && (flags & O_TRUNC) && priv_kill_asked())
		priv_kill(req, entry->ino, fd);
	if (fd < 0)
		inode_forget(fs->inodes, entry->ino, 1);
	return fd;
}

static void split_timeout(double timeout, uint64_t *sec, uint32_t *nsec)
{
	*sec = (uint64_t)timeout;
	*nsec = (uint32_t)((timeout - (double)*sec) * 1e9);
}

/* libfuse can say an entry and an open in one answer, but not all of the open's flags. */
static void fs_fill_entry(struct fuse_entry_out *out, const struct fuse_entry_param *entry)
{
	const struct stat *st = &entry->attr;

	*out = (struct fuse_entry_out){
		.nodeid = entry->ino,
		.generation = entry->generation,
		.attr =
			{
				.ino = st->st_ino,
				.size = (uint64_t)st->st_size,
				.blocks = (uint64_t)st->st_blocks,
				.atime = (uint64_t)st->st_atim.tv_sec,
				.atimensec = (uint32_t)st->st_atim.tv_nsec,
				.mtime = (uint64_t)st->st_mtim.tv_sec,
				.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
				.ctime = (uint64_t)st->st_ctim.tv_sec,
				.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
				.mode = st->st_mode,
				.nlink = (uint32_t)st->st_nlink,
				.uid = st->st_uid,
				.gid = st->st_gid,
				.rdev = (uint32_t)st->st_rdev,
				.blksize = (uint32_t)st->st_blksize,
			},
	};
	split_timeout(entry->entry_timeout, &out->entry_valid, &out->entry_valid_nsec);
	split_timeout(entry->attr_timeout, &out->attr_valid, &out->attr_valid_nsec);
}

static void reply_create(
	fuse_req_t req, const struct fuse_entry_param *entry, const struct fuse_open_out *open)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {.open = *open};

	fs_fill_entry(&out.entry, entry);
	fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* Both CREATE and TMPFILE: libfuse 3.14 does not know the latter, so ops.c shows it to it as
 * CREATE. */
void fs_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	bool unnamed = loop_current()->opcode == ABI_OP_TMPFILE;
	struct fuse_entry_param entry = {0};
	struct fuse_open_out out;
	_cleanup_fd int fd = -1;
	int result = unnamed ? 0 : fs_check_name(name);

	if (result < 0) {
		fs_reply(req, result);
		return;
	}
	fd = create_as_caller(req, parent, unnamed ? NULL : name, mode, fi->flags);
	if (fd == -EEXIST && !unnamed && !(fi->flags & O_EXCL))
		fd = open_existing(req, parent, name, fi->flags, &entry);
	else if (fd >= 0)
		result = learn_open(fs, fd, &entry);
	if (fd < 0)
		result = fd;
	if (result < 0) {
		fs_reply(req, result);
		return;
	}
	result = add_opener(fs, entry.ino, steal_fd(&fd), fi->flags, &out);
	if (result < 0) {
		inode_forget(fs->inodes, entry.ino, 1);
		fs_reply(req, result);
		return;
	}
	reply_create(req, &entry, &out);
}

void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	/* close(2) of a local file reports nothing, fsync does; the kernel need not ask again. */
	if (!fs->config.posix_locks) {
		fs_reply(req, -ENOSYS);
		return;
	}
	lock_flush(fs, ino, fi->lock_owner);
	fs_reply(req, 0);
}

void fs_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_find(fs->handles, fi->fh, ino);

	if (handle) {
		lock_release(fs, file_of(fs->files, ino), handle);
		file_remove_handle(fs->files, ino, handle);
		handle_free(fs->handles, handle);
	}
	fs_reply(req, handle ? 0 : -EBADF);
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_find(fs->handles, fi->fh, ino);
	int fd = handle ? file_fd(fs, handle, 0) : -EBADF;

	if (fd >= 0 && priv_kill_due(req))
		priv_kill(req, ino, fd);
	if (fd >= 0)
		fd = fallocate(fd, mode, offset, length) ? -errno : 0;
	fs_reply(req, fd);
}

void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_find(fs->handles, fi->fh, ino);
	int fd = handle ? atomic_load(&handle->fd[handle->first]) : -EBADF;
	off_t found = -1;

	/* Only what needs the source; positions are the kernel's. */
	if (fd >= 0 && whence != SEEK_DATA && whence != SEEK_HOLE)
		fd = -EINVAL;
	if (fd >= 0) {
		found = lseek(fd, off, whence);
		if (found < 0)
			fd = -errno;
	}
	if (fd < 0)
		fs_reply(req, fd);
	else
		fuse_reply_lseek(req, found);
}

void fs_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs *fs = fs_of(req);
	struct handle *in = handle_find(fs->handles, fi_in->fh, ino_in);
	struct handle *out = handle_find(fs->handles, fi_out->fh, ino_out);
	int in_fd = in ? file_fd(fs, in, 0) : -EBADF;
	int out_fd = out ? file_fd(fs, out, 0) : -EBADF;
	ssize_t copied;

	if (in_fd < 0 || out_fd < 0) {
		fs_reply(req, in_fd < 0 ? in_fd : out_fd);
		return;
	}
	if (priv_kill_due(req))
		priv_kill(req, ino_out, out_fd);
	copied = copy_file_range(
		in_fd, &off_in, out_fd, &off_out, len < COPY_MAX ? len : COPY_MAX, (unsigned)flags);
	if (copied < 0)
		fs_reply(req, -errno);
	else
		fuse_reply_write(req, (size_t)copied);
}
