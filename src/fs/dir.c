/* SPDX-License-Identifier: MIT */
/*
 * Directories: opening, listing, releasing. Called by libfuse through ops.c.
 *
 * Offsets that the kernel sees are the source's own cookies (d_off), so seekdir and telldir work as
 * they do there. Entries are fetched in portions that surely fit into the answer, so that the
 * stream seldom has to go back: on ext4 going back means sorting the directory again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/inode.h"
#include "fs/namespace.h"
#include "fs/relist.h"
#include "fs/watch.h"

enum {
	ANSWER_MAX = 128 << 10,
	/* Sizes of entries, at least and at most, from the kernel and in the answer (fuse_dirent,
	   fuse_direntplus). */
	DIRENT_LEAST = 24,
	DIRENT_MOST = 280,
	PLAIN_LEAST = 32,
	PLAIN_MOST = 280,
	PLUS_LEAST = 160,
	PLUS_MOST = 408,
	BATCH_MAX = 32 << 10, /* on the stack */
	PLUS_COUNT = ANSWER_MAX / PLUS_LEAST,
	SETTLED_NS = 100000000, /* many ticks of the clock that files are stamped with */
};

struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

/* One answer while it is built. */
struct listing {
	struct fs *fs;
	fuse_req_t req;
	fuse_ino_t ino;
	struct handle *handle;
	int fd;
	dev_t dev;
	bool plus;
	char *out;
	size_t size, used;
	unsigned learned; /* lookup counts given, to be taken back if the answer is lost */
	fuse_ino_t inos[PLUS_COUNT];
};

/*
 * Whether the kernel may keep the listing: nobody else changes the directory, or the watch drops it
 * then, and an answer on its way is told by the new mtime. Of a directory that changed within the
 * last ticks of the clock the next mtime may be the same.
 */
static bool listing_keeps(struct fs *fs, int fd)
{
	struct timespec now;
	struct stat st;

	if (fs->config.exclusive)
		return true;
	if (fstat(fd, &st) || !watch_covers(fs, st.st_dev))
		return false;
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (now.tv_sec - st.st_mtim.tv_sec) * 1000000000LL + now.tv_nsec - st.st_mtim.tv_nsec >
	       SETTLED_NS;
}

void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	int path_fd = fs->config.no_opens ? -ENOSYS : inode_get(fs->inodes, ino);
	struct handle *handle;
	int fd = path_fd;

	if (path_fd >= 0) {
		/* By way of /proc: "." would ask for the right to search the directory as well. */
		fd = file_reopen(fs, path_fd, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		inode_put(fs->inodes, ino);
	}
	if (fd < 0) {
		fs_reply(req, fd);
		return;
	}
	handle = handle_new(fs->handles, ino, fd, 0, O_RDONLY);
	if (handle && !handle_own(fs->handles, handle, fuse_req_ctx(req)->uid)) {
		handle_free(fs->handles, handle);
		handle = NULL;
	}
	if (!handle) {
		fs_reply(req, -ENFILE);
		return;
	}
	inode_opened(fs->inodes, ino);
	fi->fh = handle->fh;
	fi->keep_cache = fi->cache_readdir = listing_keeps(fs, fd);
	if (fuse_reply_open(req, fi) != 0) {
		handle_free(fs->handles, handle);
		inode_closed(fs->inodes, ino);
	}
}

int fs_releasedir(struct fs *fs, fuse_ino_t ino, uint64_t fh)
{
	struct handle *handle = handle_find(fs->handles, fh, ino);

	/* A file's is RELEASE's. */
	if (!handle || file_of(fs->files, ino))
		return -EBADF;
	handle_free(fs->handles, handle);
	inode_closed(fs->inodes, ino);
	return 0;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* What the listing alone says of an entry: the kernel takes ino 0 for "not looked up". */
static void fill_bare(
	struct listing *l, const struct linux_dirent64 *d, struct fuse_entry_param *entry)
{
	*entry = (struct fuse_entry_param){.attr = {
						   .st_dev = l->dev,
						   .st_ino = d->d_ino,
						   .st_mode = (mode_t)d->d_type << 12,
					   }};
	inode_number(l->fs->inodes, &entry->attr);
}

/*
 * Puts one entry into the answer. 1: it is there, or has vanished meanwhile; 0: there is no room
 * for it.
 */
static int add_entry(struct listing *l, const struct linux_dirent64 *d)
{
	size_t room = l->size - l->used;
	struct fuse_entry_param entry;
	fuse_ino_t ino = 0;
	size_t length;

	if (l->plus && !is_dot(d->d_name)) {
		int result = l->learned == PLUS_COUNT ? -EMFILE
						      : namespace_lookup_here(l->fs, l->ino, l->fd,
								d->d_name, &entry);

		if (result == -ENOENT)
			return 1;
		if (result == 0)
			ino = entry.ino;
	}
	if (ino)
		entry.ino = inode_told(l->fs->inodes, ino);
	else
		fill_bare(l, d, &entry);
	length = l->plus ? fuse_add_direntry_plus(
				   l->req, l->out + l->used, room, d->d_name, &entry, d->d_off)
			 : fuse_add_direntry(l->req, l->out + l->used, room, d->d_name, &entry.attr,
				   d->d_off);
	if (length > room) {
		if (ino)
			inode_forget(l->fs->inodes, ino, 1);
		return 0;
	}
	if (ino)
		l->inos[l->learned++] = ino;
	l->used += length;
	return 1;
}

/* Bytes to fetch now: as many as fit when blown up to an answer, 0 when the answer is as good as
 * full. */
static size_t batch_size(const struct listing *l)
{
	size_t room = l->size - l->used;
	size_t least = l->plus ? PLUS_LEAST : PLAIN_LEAST;
	size_t size = room / least * DIRENT_LEAST;

	if (size < DIRENT_MOST)
		size = l->used ? 0 : DIRENT_MOST;
	return size < BATCH_MAX ? size : BATCH_MAX;
}

/* Fetches once and adds. 1: there may be more to add; 0: the answer is ready; or -errno. */
static int add_batch(struct listing *l)
{
	char batch[BATCH_MAX] __attribute__((aligned(8)));
	size_t size = batch_size(l);
	uint64_t before = l->handle->dir_offset;
	long got;

	if (size == 0)
		return 0;
	got = syscall(SYS_getdents64, l->fd, batch, size);
	if (got < 0)
		return -errno;
	for (long at = 0; at < got;) {
		const struct linux_dirent64 *d = (const void *)(batch + at);

		if (l->plus)
			loop_breathe();
		if (!add_entry(l, d)) {
			/* Read again by the next request. */
			if (lseek(l->fd, before, SEEK_SET) < 0)
				return -errno;
			l->handle->dir_offset = before;
			return 0;
		}
		before = d->d_off;
		at += d->d_reclen;
	}
	l->handle->dir_offset = before;
	return got > 0;
}

static int seek_to(struct listing *l, off_t offset)
{
	if ((uint64_t)offset == l->handle->dir_offset)
		return 0;
	if (lseek(l->fd, offset, SEEK_SET) < 0)
		return -errno;
	l->handle->dir_offset = offset;
	return 0;
}

/* The dir_lock is held. Entries before an error are given; the error comes again with the next
 * request. */
static int build(struct listing *l, off_t offset)
{
	struct stat st;
	int result;

	l->fd = atomic_load(&l->handle->fd[0]);
	if (fstat(l->fd, &st) < 0)
		return -errno;
	l->dev = st.st_dev;
	result = seek_to(l, offset);
	if (result < 0)
		return result;
	do
		result = add_batch(l);
	while (result > 0);
	return l->used ? 0 : result;
}

static void answer(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
	struct fuse_file_info *fi, bool plus)
{
	struct fs *fs = fs_of(req);
	struct opener opener;
	struct listing l;
	int result = opener_get(fs, ino, fi->fh, &opener);

	if (result == 0 && offset < 0) {
		opener_put(fs, &opener);
		result = -EINVAL;
	}
	if (result < 0) {
		fs_reply(req, result);
		return;
	}
	l.fs = fs;
	l.req = req;
	l.ino = ino;
	l.handle = opener.handle;
	l.plus = plus;
	l.out = fs_answer_buffer(req);
	l.used = 0;
	l.learned = 0;
	l.size = size < fs->config.max_write ? size : fs->config.max_write;
	if (l.size > ANSWER_MAX)
		l.size = ANSWER_MAX;
	pthread_mutex_lock(&l.handle->dir_lock);
	result = build(&l, offset);
	pthread_mutex_unlock(&l.handle->dir_lock);
	opener_put(fs, &opener);
	if (result < 0) {
		fs_reply(req, result);
		return;
	}
	if (fuse_reply_buf(req, l.out, l.used) == 0) {
		relist_listed(fs->relist, ino, l.used == 0);
		return;
	}
	for (unsigned i = 0; i < l.learned; i++)
		inode_forget(fs->inodes, l.inos[i], 1);
}

void fs_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	answer(req, ino, size, offset, fi, false);
}

void fs_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	answer(req, ino, size, offset, fi, true);
}
