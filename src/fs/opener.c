/* SPDX-License-Identifier: MIT */
/* Who serves a request, and with which descriptor; see file.h. For src/fs only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fs/file.h"
#include "fs/fs.h"
#include "fs/outside.h"

/* ---- opening the source ---- */

int file_variant(const struct fs *fs, int flags)
{
	/* An exclusive mount's kernel knows where the file ends, and says where an appended write
	 * goes. */
	bool append = flags & O_APPEND && !fs->config.exclusive;

	return (flags & O_DIRECT ? FD_DIRECT : 0) | (append ? FD_APPEND : 0);
}

/*
 * Flags for the source: those that are about reading and writing. Creation is not repeated; syncs
 * come as requests of their own (FSYNC after a buffered O_SYNC write), or per write (RWF_DSYNC,
 * data.c); others (O_PATH) would open something else.
 */
int file_source_flags(const struct fs *fs, int flags)
{
	flags &= O_ACCMODE | O_APPEND | O_TRUNC | O_DIRECT | O_NOATIME | O_LARGEFILE;
	if (fs->config.exclusive)
		flags &= ~O_APPEND;
	/* Reading leaves no time of access behind where the mount is to have none. */
	return flags | O_CLOEXEC | (fs->config.keep_atime ? O_NOATIME : 0);
}

static int open_number(struct fs *fs, int fd, int flags)
{
	char name[16];
	int again;

	snprintf(name, sizeof(name), "%d", fd);
	do {
		again = openat(fs->proc_fd, name, flags);
		again = again < 0 ? -errno : again;
	} while (inode_relieve(fs->inodes, again));
	return again;
}

/* It is a regular file or a directory: opening it has no effect of its own. */
int file_reopen(struct fs *fs, int fd, int flags)
{
	int quiet = fs->config.keep_atime ? O_NOATIME : 0;
	int again = open_number(fs, fd, flags | quiet);

	/* Somebody else's, and no right to read it without a trace. */
	if (again == -EPERM && quiet)
		again = open_number(fs, fd, flags & ~O_NOATIME);
	return again;
}

/* The kernel reads what it is to write only a part of, also for those who opened for writing only.
 */
static int reopen_for_writeback(struct fs *fs, int path_fd, int flags)
{
	int fd = -EACCES;

	if (fs->config.writeback && (flags & O_ACCMODE) == O_WRONLY)
		fd = file_reopen(fs, path_fd, (flags & ~O_ACCMODE) | O_RDWR);
	return fd == -EACCES ? file_reopen(fs, path_fd, flags) : fd;
}

int file_open(struct fs *fs, fuse_ino_t ino, int flags)
{
	mode_t type = inode_type(fs->inodes, ino);
	int path_fd;
	int fd;

	if (!S_ISREG(type))
		return S_ISDIR(type) ? -EISDIR : type ? -ENXIO : -ESTALE;
	path_fd = inode_get(fs->inodes, ino);
	if (path_fd < 0)
		return path_fd;
	fd = reopen_for_writeback(fs, path_fd, file_source_flags(fs, flags));
	inode_put(fs->inodes, ino);
	return fd;
}

/* ---- descriptors of a handle ---- */

/* Of two that open at once one is used. */
static int publish(struct handle *handle, int variant, int fd)
{
	int none = -1;

	if (fd < 0 || atomic_compare_exchange_strong(&handle->fd[variant], &none, fd))
		return fd;
	close(fd);
	return none;
}

static bool is_own(const struct handle *handle)
{
	return handle->first < 0;
}

static int open_variant(struct fs *fs, struct handle *handle, int variant, int access)
{
	int flags = access | (variant & FD_DIRECT ? O_DIRECT : 0) |
		    (variant & FD_APPEND ? O_APPEND : 0);

	fuse_ino_t ino = atomic_load(&handle->ino);
	int fd = file_open(fs, ino, flags);
	struct stat attr;

	/* A file that was kept, let go and is kept again: is it as we left it? */
	if (is_own(handle) && fd >= 0 && fstat(fd, &attr) == 0)
		file_check(fs, ino, fd, &attr);
	return publish(handle, variant | (is_own(handle) && access == O_RDONLY ? FD_READ : 0), fd);
}

int file_fd(struct fs *fs, struct handle *handle, int variant)
{
	int fd = atomic_load_explicit(&handle->fd[variant], memory_order_acquire);

	if (fd >= 0)
		return fd;
	if (is_own(handle) && fs->config.read_only)
		return -EROFS;
	return open_variant(fs, handle, variant, handle->access);
}

/* Nobody may write it: an immutable file, a source that is mounted read-only. */
static bool no_writing(int error)
{
	return error == -EACCES || error == -EPERM || error == -EROFS || error == -ETXTBSY;
}

static int own_read_fd(struct fs *fs, struct handle *handle, int variant)
{
	int fd = atomic_load_explicit(&handle->fd[variant | FD_READ], memory_order_acquire);

	if (fd >= 0)
		return fd;
	fd = file_fd(fs, handle, variant);
	return no_writing(fd) ? open_variant(fs, handle, variant, O_RDONLY) : fd;
}

int file_read_fd(struct fs *fs, struct handle *handle, int variant)
{
	if (is_own(handle))
		return own_read_fd(fs, handle, variant & FD_DIRECT);
	/* Appending is of no concern to a reader: no second descriptor is opened for it. */
	if ((variant ^ handle->first) & FD_DIRECT)
		return file_fd(fs, handle, variant);
	return atomic_load(&handle->fd[handle->first]);
}

int file_any_fd(struct fs *fs, struct handle *handle)
{
	return is_own(handle) ? own_read_fd(fs, handle, 0)
			      : atomic_load(&handle->fd[handle->first]);
}

int file_flush_fd(struct fs *fs, struct file *file, int own)
{
	int fd;

	/* A kept file's own handle is its oldest opener, and keeps its descriptors. */
	if (file->kept)
		return own;
	pthread_mutex_lock(&file->lock);
	if (file->flush_fd < 0 && !list_empty(&file->handles)) {
		struct handle *oldest = list_entry(file->handles.next, struct handle, node);

		file->flush_fd = fcntl(file_any_fd(fs, oldest), F_DUPFD_CLOEXEC, 0);
	}
	fd = file->flush_fd >= 0 ? file->flush_fd : own;
	pthread_mutex_unlock(&file->lock);
	return fd;
}

static int directory_fd(struct fs *fs, struct file *file)
{
	int fd = atomic_load_explicit(&file->own.fd[0], memory_order_acquire);

	if (fd >= 0)
		return fd;
	/* By way of /proc: "." would ask for the right to search the directory as well. */
	return publish(
		&file->own, 0, file_reopen(fs, file->path_fd, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/* ---- openers ---- */

static int kept_opener(struct fs *fs, fuse_ino_t ino, struct opener *out)
{
	mode_t type = inode_type(fs->inodes, ino);
	int result;

	if (!S_ISREG(type) && !S_ISDIR(type))
		return type ? -EBADF : -ESTALE;
	result = file_keep(fs->files, ino, &out->file);
	if (result < 0)
		return result;
	out->handle = &out->file->own;
	if (S_ISDIR(type))
		result = directory_fd(fs, out->file);
	if (result >= 0)
		return 0;
	opener_put(fs, out);
	*out = (struct opener){0};
	return result;
}

int opener_get(struct fs *fs, fuse_ino_t ino, uint64_t fh, struct opener *out)
{
	*out = (struct opener){0};
	if (fs->config.no_opens)
		return kept_opener(fs, ino, out);
	out->handle = handle_find(fs->handles, fh, ino);
	if (!out->handle)
		return -EBADF;
	if (out->handle->damaged)
		return -EIO;
	out->file = file_of(fs->files, ino);
	return 0;
}

void opener_put(struct fs *fs, struct opener *opener)
{
	if (opener->file && opener->file->kept)
		file_unref(fs->files, opener->file);
}

/* ---- what a file is owed ---- */

bool file_tell_attrs(struct fs *fs, fuse_ino_t ino)
{
	struct file *file = fs->config.exclusive ? NULL : file_find(fs->files, ino);

	if (!file)
		return false;
	atomic_store(&file->attrs_told, true);
	file_unref(fs->files, file);
	return true;
}

void file_forget_attrs(const struct fs *fs, fuse_ino_t ino)
{
	fuse_lowlevel_notify_inval_inode(fs->session, inode_told(fs->inodes, ino), -1, 0);
}

void file_changed(struct fs *fs, fuse_ino_t ino)
{
	struct file *file = file_lock(fs->files, ino);

	if (!file)
		return;
	co_changed(&file->queue);
	file_unlock(fs->files, file);
}

void file_overtaken(struct fs *fs, fuse_ino_t ino)
{
	struct file *file = file_lock(fs->files, ino);

	if (!file)
		return;
	file->mark->mtime_due = file->mark->mtime_known = false;
	co_changed(&file->queue);
	file_unlock(fs->files, file);
}

void file_check(struct fs *fs, fuse_ino_t ino, int fd, const struct stat *attr)
{
	struct file *file = fs->config.exclusive ? file_lock(fs->files, ino) : NULL;
	int64_t written_at = 0;
	bool writing = false;

	if (file) {
		writing = file->queue.unfinished_writes > 0;
		written_at = file->written_at;
		file_unlock(fs->files, file);
	}
	/* While one is under way, its time may show already. */
	if (!writing)
		outside_check(fs, ino, fd, attr, written_at);
}

void file_told_mtime(struct file *file, const struct stat *attr)
{
	file->mark->mtime = attr->st_mtim;
	file->mark->mtime_known = true;
}

void file_show_mtime(struct fs *fs, fuse_ino_t ino, struct stat *attr)
{
	struct file *file = fs->config.writeback ? file_lock(fs->files, ino) : NULL;

	if (!file)
		return;
	if (file->mark->mtime_due)
		attr->st_mtim = file->mark->mtime;
	file_unlock(fs->files, file);
}

bool file_set_mtime(struct fs *fs, struct file *file, int fd)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, file->mark->mtime};
	struct stat now;
	char number[16];

	if (!file->mark->mtime_due)
		return false;
	file->mark->mtime_due = false;
	/* Of a deleted one nobody will ask. */
	if (fstat(fd, &now) == 0 &&
		(now.st_nlink == 0 || change_time(&now.st_mtim) == change_time(&file->mark->mtime)))
		return false;
	snprintf(number, sizeof(number), "%d", fd);
	change_begin(fs);
	utimensat(fs->proc_fd, number, times, 0);
	file->written_at = change_now();
	inode_changed(fs->inodes, file->ino, file->written_at);
	change_over(fs);
	return true;
}
