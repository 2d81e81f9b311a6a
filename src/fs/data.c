/* SPDX-License-Identifier: MIT */
/*
 * Reads, writes and syncs, from libfuse to the file's queue. Called by libfuse through ops.c.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/data_op.h"
#include "fs/fs.h"
#include "fs/habit.h"
#include "fs/priv.h"
#include "fs/relist.h"
#include "loop/loop.h"

/* The turn's end will look at file. */
static void touch(struct fs *fs, struct file *file)
{
	struct loop *loop = loop_self();

	for (unsigned i = 0; i < loop->ntouched; i++)
		if (loop->touched[i] == file)
			return;
	assert(loop->ntouched < LOOP_DRAIN);
	file_ref(fs->files, file);
	loop->touched[loop->ntouched++] = file;
}

static struct data_op *new_op(fuse_req_t req, enum co_kind kind, uint64_t offset, size_t len)
{
	struct request *request = loop_current();
	struct data_op *d = (struct data_op *)request->scratch;

	memset(d, 0, sizeof(*d));
	d->req = req;
	d->request = request;
	d->fs = fs_of(req);
	d->op.kind = kind;
	d->op.offset = offset;
	d->op.len = len;
	return d;
}

/* What is read through the page cache stays there. The lock is held. */
static void note_cached(struct data_op *d)
{
	uint64_t from = d->op.offset, to = from + d->op.len;
	struct file *file = d->file;

	if (d->op.klass & FD_DIRECT || d->fs->config.direct_io_all)
		return;
	d->opener.handle->cached = true;
	if (file->cached_from == file->cached_to) {
		file->cached_from = from;
		file->cached_to = to;
	}
	if (from < file->cached_from)
		file->cached_from = from;
	if (to > file->cached_to)
		file->cached_to = to;
}

/* Queues d for its file. */
static void push(struct data_op *d)
{
	struct file *file = d->file;
	bool joins, waits;

	touch(d->fs, file);
	loop_set_current(NULL);
	pthread_mutex_lock(&file->lock);
	if (d->op.kind == CO_SYNC) {
		data_note_changes(d);
		habit_synced(d->fs, file, d->op.full);
	} else if (d->op.kind == CO_READ)
		note_cached(d);
	waits = co_push(&file->queue, &d->op);
	joins = waits && d->op.kind == CO_SYNC && d->op.taken;
	pthread_mutex_unlock(&file->lock);
	stat_add(&loop_self()->stats.syncs_joined, joins);
	/* Where it waits, another loop may have taken and answered it by now. */
	if (!waits) {
		struct loop_stats *stats = &loop_self()->stats;

		stat_add(d->op.result ? &stats->syncs_failed_file : &stats->syncs_clean, 1);
		data_answer(d);
	}
}

/* The opener that the request names becomes d's. 0 or -errno. */
static int find_opener(struct data_op *d, fuse_ino_t ino, uint64_t fh)
{
	int result = opener_get(d->fs, ino, fh, &d->opener);

	d->file = d->opener.file;
	return result;
}

/* The same of a regular file: a directory's handle has no queue. */
static int find_file(struct data_op *d, fuse_ino_t ino, uint64_t fh)
{
	int result = find_opener(d, ino, fh);

	return result == 0 && !d->file ? -EBADF : result;
}

/* Instead of queuing it. */
static void refuse(struct data_op *d, int error)
{
	struct opener opener = d->opener;
	struct fs *fs = d->fs;

	fs_reply(d->req, error);
	opener_put(fs, &opener);
}

/* A write past the page cache that has to be on the device before its answer. Where no open said so
 * to the kernel, it sends an FSYNC, as it does after a cached one. */
static bool dsync_is_ours(const struct data_op *d, int variant, int flags)
{
	return (flags & O_DSYNC) && !d->fs->config.no_opens &&
	       ((variant & FD_DIRECT) || d->fs->config.direct_io_all);
}

/* The class of a request with flags, and its descriptor. 0 or -errno. */
static int choose_fd(struct data_op *d, int flags)
{
	int variant = file_variant(d->fs, flags);

	if (d->op.kind == CO_READ) {
		/* All buffered readers share one class. */
		d->op.klass = (uint32_t)(variant & FD_DIRECT);
		d->fd = file_read_fd(d->fs, d->opener.handle, variant);
	} else {
		d->op.klass = (uint32_t)variant;
		d->fd = file_fd(d->fs, d->opener.handle, variant);
		d->op.append = variant & FD_APPEND;
		if (dsync_is_ours(d, variant, flags))
			d->op.klass |= CLASS_DSYNC;
	}
	return d->fd < 0 ? d->fd : 0;
}

void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct data_op *d = new_op(req, CO_READ, (uint64_t)off, size);
	int result = find_file(d, ino, fi->fh);

	/* Of one that is a program's own the kernel says whose; its flags may be the same. */
	d->fills_pages = !fi->lock_owner;
	if (off == 0)
		relist_asked(d->fs->relist, ino);
	if (result == 0)
		result = choose_fd(d, fi->flags);
	if (result < 0)
		refuse(d, result);
	else
		push(d);
}

void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi)
{
	struct data_op *d = new_op(req, CO_WRITE, (uint64_t)off, size);
	int result = find_file(d, ino, fi->fh);

	/* The message's layout puts the data here, whatever transport it came by. */
	assert(buf == d->request->payload);
	d->written_back = fi->writepage;
	/* Pages written back go where they belong, whatever the descriptor's flags. */
	if (result == 0)
		result = choose_fd(d, fi->writepage ? 0 : fi->flags);
	if (result < 0) {
		refuse(d, result);
		return;
	}
	if (priv_kill_asked())
		priv_kill(req, ino, d->fd);
	if (d->fs->journal)
		data_await_former(d);
	if (d->op.append && d->fs->journal && data_note_append(d)) {
		loop_set_current(NULL);
		data_answer(d);
		return;
	}
	push(d);
}

void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct data_op *d = new_op(req, CO_SYNC, 0, 0);
	int result = find_file(d, ino, fi->fh);

	stat_add(&loop_self()->stats.syncs_asked, 1);
	d->op.full = !datasync && !d->fs->config.fsync_data;
	if (result == 0) {
		d->fd = file_any_fd(d->fs, d->opener.handle);
		result = d->fd < 0 ? d->fd : 0;
	}
	if (result < 0) {
		refuse(d, result);
		return;
	}
	push(d);
}

static void dir_sync_done(struct batchio_request *io, ssize_t result)
{
	struct data_op *d = io->user;

	d->op.result = result;
	data_answer(d);
}

void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct data_op *d = new_op(req, CO_SYNC, 0, 0);
	int result = find_opener(d, ino, fi->fh);

	if (result < 0) {
		refuse(d, result);
		return;
	}
	loop_set_current(NULL);
	d->io = (struct batchio_request){
		.kind = datasync || d->fs->config.fsync_data ? BATCHIO_FDATASYNC : BATCHIO_FSYNC,
		.flags = data_may_wait(),
		.fd = atomic_load(&d->opener.handle->fd[0]),
		.done = dir_sync_done,
		.user = d,
	};
	data_submit(&d->io);
}
