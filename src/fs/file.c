/* SPDX-License-Identifier: MIT */
/*
 * Opening, creating and releasing regular files, and what is done with a handle besides reading and
 * writing. Called by libfuse through ops.c.
 */
#include "fs/backing.h"
#include "fs/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/aside.h"
#include "fs/cred.h"
#include "fs/file_table.h"
#include "fs/fs.h"
#include "fs/journal.h"
#include "fs/lock.h"
#include "fs/namespace.h"
#include "fs/outside.h"
#include "fs/priv.h"
#include "fs/watch.h"
#include "loop/loop.h"

/* One copy_file_range request blocks its loop; a larger one is answered short and comes again. */
#define COPY_MAX (128u << 20)

/*
 * FOPEN_… for a file opened with flags. Direct writers of one file run in parallel only with both
 * flags, which libfuse 3.14 cannot say both; without FOPEN_DIRECT_IO's shared mmap (Linux 6.6)
 * O_DIRECT stays with the page cache's rules.
 */
static uint32_t open_reply_flags(struct fs *fs, fuse_ino_t ino, int flags)
{
	/* Nobody else changes the data, or the watch drops it then. */
	bool true_cache = fs->config.exclusive || watch_covers(fs, inode_device(fs->inodes, ino));
	uint32_t keep = true_cache ? FOPEN_KEEP_CACHE : 0;

	if (fs->config.direct_io_all ||
		((flags & O_DIRECT) &&
			atomic_load_explicit(&fs->direct_io_mmap, memory_order_relaxed)))
		return FOPEN_DIRECT_IO | ABI_FOPEN_PARALLEL_DIRECT_WRITES | keep;
	return keep;
}

/* The kernel is to serve the open itself, if it can; the file has a handle. */
static void pass_through(struct fs *fs, fuse_ino_t ino, int fd, struct fuse_open_out *out)
{
	int backing = backing_of(fs, file_of(fs->files, ino), fd);

	if (!backing)
		return;
	out->open_flags = ABI_FOPEN_PASSTHROUGH;
	out->padding = (uint32_t)backing;
}

/* Makes fd (taken over) an opener of ino, of the caller's. Fills out. 0 or -errno. */
static int add_opener(fuse_req_t req, fuse_ino_t ino, int fd, int flags, struct fuse_open_out *out)
{
	struct fs *fs = fs_of(req);
	struct handle *handle =
		handle_new(fs->handles, ino, fd, file_variant(fs, flags), flags & O_ACCMODE);
	int result;

	if (!handle)
		return -ENFILE;
	result = handle_own(fs->handles, handle, fuse_req_ctx(req)->uid)
			 ? file_add_handle(fs->files, ino, handle)
			 : -ENFILE;
	if (result < 0) {
		handle_free(fs->handles, handle);
		return result;
	}
	inode_opened(fs->inodes, ino);
	*out = (struct fuse_open_out){
		.fh = handle->fh,
		.open_flags = open_reply_flags(fs, ino, flags),
	};
	if (atomic_load_explicit(&fs->passthrough, memory_order_relaxed))
		pass_through(fs, ino, fd, out);
	return 0;
}

void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_open_out out;
	int fd, result;

	change_begin(fs);
	fd = fs->config.no_opens ? -ENOSYS : file_open(fs, ino, fi->flags);
	if (fd >= 0 && (fi->flags & O_TRUNC) && priv_kill_asked())
		priv_kill(req, ino, fd);
	if (fi->flags & O_TRUNC)
		change_end(fs, ino);
	else
		change_over(fs);
	result = fd < 0 ? fd : add_opener(req, ino, fd, fi->flags, &out);

	if (result < 0)
		fs_reply(req, result);
	else
		fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* name NULL: an unnamed one (O_TMPFILE), which with O_EXCL may never be linked. */
struct creation {
	const char *name;
	mode_t mode;
	int flags; /* the caller's */
};

/* As reopen_for_writeback() opens what is there. */
static int creation_flags(const struct fs *fs, const struct creation *new)
{
	int flags = file_source_flags(fs, new->flags) & ~O_TRUNC;

	if (fs->config.writeback && (flags & O_ACCMODE) == O_WRONLY)
		flags = (flags & ~O_ACCMODE) | O_RDWR;
	return flags;
}

/*
 * A new file, or -EEXIST for the caller to open what is there: opening with O_CREAT alone could
 * hang on a FIFO that somebody put there meanwhile.
 */
static int create_in(struct fs *fs, int dir_fd, const struct creation *new)
{
	int flags = creation_flags(fs, new);
	int fd;

	if (new->name)
		fd = openat(dir_fd, new->name, flags | O_CREAT | O_EXCL | O_NOFOLLOW, new->mode);
	else
		fd = openat(dir_fd, ".", flags | O_TMPFILE | (new->flags &O_EXCL), new->mode);
	return fd < 0 ? -errno : fd;
}

static int create_with_cred(fuse_req_t req, int dir_fd, const struct creation *new)
{
	struct fs *fs = fs_of(req);
	struct cred_scope scope;
	int fd = cred_enter(&scope, req);

	if (fd < 0)
		return fd;
	fd = create_in(fs, dir_fd, new);
	while (inode_relieve(fs->inodes, fd))
		fd = create_in(fs, dir_fd, new);
	cred_leave(&scope);
	return fd;
}

/* What was made by a process that has died. */
static int open_made(struct fs *fs, int dir_fd, const struct creation *new)
{
	int fd = openat(dir_fd, new->name, creation_flags(fs, new) | O_NOFOLLOW | O_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static int create_as_caller(fuse_req_t req, fuse_ino_t parent, const struct creation *new)
{
	struct fs *fs = fs_of(req);
	int dir_fd = inode_get(fs->inodes, parent);
	struct change change;
	bool made;
	int fd;

	if (dir_fd < 0)
		return dir_fd;
	change_begin(fs);
	journal_begin(fs, &change);
	/* One without a name has gone with its descriptor; else it is there, and the caller's. */
	made = change.past == PAST_ENDED && change.result == 0 && new->name;
	if (change.past == PAST_ENDED && change.result < 0)
		fd = change.result;
	else
		fd = made ? -EEXIST : create_with_cred(req, dir_fd, new);
	if (fd == -EEXIST && !made && new->name)
		made = journal_made(&change, dir_fd, new->name, S_IFREG);
	if (made)
		fd = open_made(fs, dir_fd, new);
	journal_end(&change, fd < 0 ? fd : 0);
	change_made(fs);
	inode_put(fs->inodes, parent);
	return fd;
}

/* Makes the file behind fd known, which was made at place (NULL: without a name). Leaves fd to the
 * caller. */
static int learn_open(
	struct fs *fs, int fd, const struct inode_place *place, struct fuse_entry_param *entry)
{
	uint64_t generation = watch_generation(fs);
	struct stat st;
	int path_fd;

	if (fstat(fd, &st))
		return -errno;
	path_fd = file_reopen(fs, fd, O_PATH | O_CLOEXEC);
	if (path_fd < 0)
		return path_fd;
	return namespace_learn(fs, path_fd, &st, place, generation, entry);
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
	change_begin(fs);
	fd = file_open(fs, entry->ino, flags);
	if (fd >= 0 && (flags & O_TRUNC) && priv_kill_asked())
		priv_kill(req, entry->ino, fd);
	change_end(fs, entry->ino);
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
static void fs_fill_entry(
	struct fuse_entry_out *out, fuse_ino_t told, const struct fuse_entry_param *entry)
{
	const struct stat *st = &entry->attr;

	*out = (struct fuse_entry_out){
		.nodeid = told,
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

	fs_fill_entry(&out.entry, inode_told(fs_of(req)->inodes, entry->ino), entry);
	fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

/* The new file's own handle begins with the descriptor that it was made with, taken over. */
static int keep_created(
	struct fs *fs, const struct fuse_entry_param *entry, int fd, struct fuse_open_out *out)
{
	struct file *file;
	int none = -1;
	int result = file_keep(fs->files, entry->ino, &file);

	*out = (struct fuse_open_out){.open_flags = FOPEN_KEEP_CACHE};
	if (result < 0 || !atomic_compare_exchange_strong(&file->own.fd[0], &none, fd))
		close(fd);
	if (result == 0) {
		pthread_mutex_lock(&file->lock);
		file->is_new = true;
		file_told_mtime(file, &entry->attr);
		pthread_mutex_unlock(&file->lock);
		file_unref(fs->files, file);
	}
	return result;
}

/* What create_as_caller() has made and could not be made known. */
static void unmake(struct fs *fs, const struct inode_place *place, int result)
{
	int dir_fd = inode_get(fs->inodes, place->parent);

	if (dir_fd < 0)
		return;
	namespace_unmake(fs, dir_fd, place->name, false, result);
	inode_put(fs->inodes, place->parent);
}

/* Makes a file, or opens the one of that name. On success entry and out are filled. 0 or -errno. */
static int create_or_open(fuse_req_t req, fuse_ino_t parent, const struct creation *new,
	struct fuse_entry_param *entry, struct fuse_open_out *out)
{
	struct fs *fs = fs_of(req);
	struct inode_place place = {.parent = parent, .name = new->name};
	_cleanup_fd int fd = create_as_caller(req, parent, new);
	bool made = fd >= 0 && new->name;
	int result = 0;

	if (fd == -EEXIST && new->name && !(new->flags &O_EXCL))
		fd = open_existing(req, parent, new->name, new->flags, entry);
	else if (fd >= 0)
		result = learn_open(fs, fd, new->name ? &place : NULL, entry);
	if (fd < 0)
		return fd;
	if (result == 0) {
		result = fs->config.no_opens
				 ? keep_created(fs, entry, steal_fd(&fd), out)
				 : add_opener(req, entry->ino, steal_fd(&fd), new->flags, out);
		if (result < 0)
			inode_forget(fs->inodes, entry->ino, 1);
	}
	if (made && result < 0)
		unmake(fs, &place, result);
	return result;
}

/* Both CREATE and TMPFILE: libfuse 3.14 does not know the latter, so ops.c shows it to it as
 * CREATE. */
void fs_create(
	fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	bool unnamed = loop_current()->opcode == ABI_OP_TMPFILE;
	struct creation new = {unnamed ? NULL : name, mode, fi->flags};
	struct fuse_entry_param entry = {0};
	struct fuse_open_out out;
	int result = unnamed ? 0 : fs_check_name(name);

	/* The kernel then asks by MKNOD, and opens without a word. */
	if (!unnamed && fs_of(req)->config.no_opens)
		result = -ENOSYS;
	if (result == 0)
		result = create_or_open(req, parent, &new, &entry, &out);
	if (result < 0)
		fs_reply(req, result);
	else
		reply_create(req, &entry, &out);
}

int file_make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_entry_param *entry)
{
	struct creation new = {name, mode, O_RDWR | O_EXCL};
	struct fuse_open_out out;

	return create_or_open(req, parent, &new, entry, &out);
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

int fs_release(struct fs *fs, fuse_ino_t ino, uint64_t fh)
{
	struct handle *handle = handle_find(fs->handles, fh, ino);
	struct file *file = handle ? file_of(fs->files, ino) : NULL;

	/* A directory's is RELEASEDIR's. */
	if (!file)
		return -EBADF;
	lock_release(fs, file, handle);
	file_remove_handle(fs->files, ino, handle);
	handle_free(fs->handles, handle);
	inode_closed(fs->inodes, ino);
	return 0;
}

void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct opener opener;
	int fd = opener_get(fs, ino, fi->fh, &opener);

	if (fd == 0) {
		fd = file_fd(fs, opener.handle, 0);
		change_begin(fs);
		if (fd >= 0 && priv_kill_due(req))
			priv_kill(req, ino, fd);
		if (fd >= 0)
			fd = fallocate(fd, mode, offset, length) ? -errno : 0;
		change_end(fs, ino);
		opener_put(fs, &opener);
	}
	fs_reply(req, fd);
}

off_t file_seek(int fd, off_t off, int whence)
{
	off_t found;

	if (fd < 0)
		return fd;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	found = lseek(fd, off, whence);
	return found < 0 ? -errno : found;
}

void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct opener opener;
	off_t found;

	if (fs->config.writeback) {
		aside_seek(fs->aside, req, ino, fi->fh, off, whence);
		return;
	}
	found = opener_get(fs, ino, fi->fh, &opener);
	if (found == 0) {
		found = file_seek(file_any_fd(fs, opener.handle), off, whence);
		opener_put(fs, &opener);
	}
	if (found < 0)
		fs_reply(req, (int)found);
	else
		fuse_reply_lseek(req, found);
}

struct copy {
	fuse_ino_t ino_out;
	off_t off_in, off_out;
	size_t len;
	unsigned flags;
};

static ssize_t copy(
	fuse_req_t req, const struct opener *in, const struct opener *out, struct copy *copy)
{
	struct fs *fs = fs_of(req);
	int in_fd = file_read_fd(fs, in->handle, 0);
	int out_fd = in_fd < 0 ? in_fd : file_fd(fs, out->handle, 0);
	ssize_t copied;

	if (out_fd < 0)
		return out_fd;
	if (priv_kill_due(req))
		priv_kill(req, copy->ino_out, out_fd);
	copied = copy_file_range(in_fd, &copy->off_in, out_fd, &copy->off_out,
		copy->len < COPY_MAX ? copy->len : COPY_MAX, copy->flags);
	return copied < 0 ? -errno : copied;
}

void fs_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs *fs = fs_of(req);
	struct copy what = {ino_out, off_in, off_out, len, (unsigned)flags};
	struct opener in, out;
	ssize_t copied = opener_get(fs, ino_in, fi_in->fh, &in);

	if (copied == 0) {
		copied = opener_get(fs, ino_out, fi_out->fh, &out);
		if (copied == 0) {
			change_begin(fs);
			copied = copy(req, &in, &out, &what);
			change_end(fs, ino_out);
			opener_put(fs, &out);
		}
		opener_put(fs, &in);
	}
	if (copied < 0)
		fs_reply(req, (int)copied);
	else
		fuse_reply_write(req, (size_t)copied);
}
