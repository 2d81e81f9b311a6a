/* SPDX-License-Identifier: MIT */
/*
 * Reads, writes and syncs: from libfuse to the file's queue, from the queue to the backend, and
 * back. Called by libfuse through ops.c, and by the loops (fs_turn_end, completions).
 *
 * A request lives in its message buffer until it is answered: the operation in its scratch, the
 * vector of a merged call in the area of the request that heads it. So nothing is allocated.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/file.h"
#include "fs/fs.h"
#include "fs/habit.h"
#include "fs/outside.h"
#include "fs/priv.h"
#include "fs/relist.h"
#include "loop/loop.h"
#include "loop/slow.h"

/* Classes: requests of different ones are never merged. The lower bits are the descriptor's
 * variant. */
#define CLASS_DSYNC FD_VARIANTS
/* Between two looks for changes by others, after flushes. */
#define CHECK_EVERY_NS 100000000

struct data_op {
	struct co_op op;
	fuse_req_t req;
	struct request *request;
	struct fs *fs;
	struct opener opener;
	struct file *file; /* opener.file */
	int fd;
	bool written_back; /* a WRITE of the kernel's own, from its page cache */
	/* Of the call that this operation heads. */
	struct list start; /* on a list of calls to start */
	unsigned waiting; /* backend requests not ended */
	struct co_outcome outcome;
	struct batchio_request io;
	struct batchio_request sync_io;
	int sync_fd;
};

_Static_assert(sizeof(struct data_op) <= REQUEST_SCRATCH, "scratch holds an operation");
_Static_assert(IOV_MAX * sizeof(struct iovec) + FUSE_HEADER_SPACE <= REQUEST_AREA,
	"the area holds a full vector and the header");

static struct data_op *data_op_of(struct co_op *op)
{
	return list_entry(op, struct data_op, op);
}

static struct data_op *head_of(struct co_call *call)
{
	return data_op_of(list_entry(call, struct co_op, call));
}

/* ---- answers ---- */

/*
 * The kernel takes any answer to its writing back for all of it: one that fell short has to be an
 * error, or the rest would be lost without a word.
 */
static ssize_t result_of(const struct data_op *d)
{
	if (!d->written_back || d->op.result < 0 || (size_t)d->op.result == d->op.len)
		return d->op.result;
	return d->outcome.error ? d->outcome.error : -EIO;
}

/*
 * The kernel tells each opener of a write-back that failed, once, and drops the data: rule 7 wants
 * the file to stay failed. Not for want of room: that may be made, and who was told writes again.
 */
static void note_lost(struct data_op *d, ssize_t result)
{
	struct file *file = d->file;

	if (!d->written_back || result >= 0 || result == -ENOSPC || result == -EDQUOT)
		return;
	pthread_mutex_lock(&file->lock);
	co_fail(&file->queue, (int)result);
	pthread_mutex_unlock(&file->lock);
}

/* A flush that nobody asked for has ended; who joined it is answered apart. */
static void end_early(struct data_op *d)
{
	struct file *file = d->file;
	struct fs *fs = d->fs;

	pthread_mutex_lock(&file->lock);
	file->early_busy = false;
	pthread_mutex_unlock(&file->lock);
	file_unref(fs->files, file);
}

static void answer(struct data_op *d)
{
	struct loop_stats *stats = &loop_self()->stats;
	/* The operation lives in the request, which is another's once it is answered. */
	struct opener opener = d->opener;
	struct fs *fs = d->fs;
	ssize_t result = result_of(d);

	note_lost(d, result);
	loop_set_current(d->request);
	if (result < 0) {
		stat_add(&stats->errors, 1);
		fuse_reply_err(d->req, (int)-result);
	} else if (d->op.kind == CO_READ) {
		stat_add(&stats->bytes_read, (uint64_t)result);
		fuse_reply_buf(d->req, d->request->payload, (size_t)result);
	} else if (d->op.kind == CO_WRITE) {
		stat_add(&stats->bytes_written, (uint64_t)result);
		fuse_reply_write(d->req, (size_t)result);
	} else {
		fuse_reply_err(d->req, 0);
	}
	loop_set_current(NULL);
	opener_put(fs, &opener);
}

static void answer_all(struct list *answered)
{
	struct list *node;

	while ((node = list_pop(answered))) {
		struct data_op *d = data_op_of(list_entry(node, struct co_op, node));

		if (d->op.early)
			end_early(d);
		else
			answer(d);
	}
}

/* ---- calls to the backend ---- */

static void start_calls(struct list *calls);

/* The taken calls of a file, as a list. Under the file's lock. */
static void take_calls(struct file *file, struct list *calls)
{
	struct co_call *call;

	list_init(calls);
	while ((call = co_take(&file->queue)))
		list_add_tail(&head_of(call)->start, calls);
}

/* What else than writes a sync has to see to. The lock is held. */
static void note_changes(struct data_op *d)
{
	uint64_t names = atomic_load(&d->fs->names_changed);
	struct file *file = d->file;

	/* Names come and go without a word of whose: all files have changed then. */
	/* Nor of what the kernel itself has written. */
	if (file->names_seen != names || file->backing > 0)
		co_changed(&file->queue);
	file->names_seen = names;
}

/*
 * Where a sync comes each time after so many writes, its flush begins when these have ended, and
 * the sync joins it: a message less to wait for. Pushes the operation of such a flush of file.
 * False: there is nothing to do. The lock is held, and the caller's reference becomes the
 * operation's.
 */
static bool push_early(struct fs *fs, struct file *file)
{
	struct data_op *d = file->early ? file->early : malloc(sizeof(*d));
	struct handle *oldest = list_entry(file->handles.next, struct handle, node);

	file->early = d;
	if (!d || list_empty(&file->handles))
		return false;
	*d = (struct data_op){
		.op = {.kind = CO_SYNC, .full = file->full_syncs, .early = true},
		.fs = fs,
		.file = file,
		/* None is opened: that would look at the file, whose lock is held. */
		.fd = handle_some_fd(oldest),
	};
	if (d->fd < 0)
		return false;
	note_changes(d);
	if (!co_push(&file->queue, &d->op))
		return false;
	file->early_busy = true;
	stat_add(&loop_self()->stats.syncs_early, 1);
	return true;
}

/* A call has ended: answers its requests, and starts what waited for it. */
static void finish(struct data_op *head)
{
	struct fs *fs = head->fs;
	struct file *file = head->file;
	bool written = fs->config.exclusive && head->op.kind == CO_WRITE;
	bool good = !head->outcome.error;
	bool expected;
	struct list answered;
	struct list calls;
	struct list early;

	list_init(&answered);
	list_init(&early);
	/* The requests' handles keep the file only until they are answered. */
	file_ref(fs->files, file);
	pthread_mutex_lock(&file->lock);
	if (written) {
		file->written_at = change_now();
		/* Unless the kernel tells another one: it counts in ticks, the source may not. */
		file->mtime_due |= head->written_back && file->mtime_known;
	}
	co_done(&file->queue, &head->op.call, &head->outcome, &answered);
	take_calls(file, &calls);
	expected = written && good && habit_wants_flush(fs, file) && push_early(fs, file);
	if (expected)
		take_calls(file, &early);
	pthread_mutex_unlock(&file->lock);
	start_calls(&calls);
	answer_all(&answered);
	/* Whoever was answered does not wait for this; and it keeps the reference. */
	start_calls(&early);
	if (!expected)
		file_unref(fs->files, file);
}

static void data_done(struct batchio_request *io, ssize_t result)
{
	struct data_op *head = io->user;

	head->outcome.moved = io->moved;
	head->outcome.error = result < 0 ? (int)result : 0;
	if (--head->waiting == 0)
		finish(head);
}

/*
 * Has somebody else changed what was flushed? Not after each of many flushes: a time that has been
 * looked at makes the next write set another, and the inode be written with it.
 */
static void look_for_others(struct data_op *head)
{
	struct file *file = head->file;
	int64_t now = change_now();
	struct stat attr;

	if (now - file->checked_at < CHECK_EVERY_NS || fstat(head->sync_fd, &attr))
		return;
	file->checked_at = now;
	file_check(head->fs, file->ino, head->sync_fd, &attr);
}

static void sync_done(struct batchio_request *io, ssize_t result)
{
	struct data_op *head = io->user;

	head->outcome.sync = (int)result;
	if (result == 0 && head->fs->config.exclusive)
		look_for_others(head);
	if (--head->waiting == 0)
		finish(head);
}

static void submit(struct batchio_request *io)
{
	struct loop *loop = loop_self();
	int error = batchio_submit(loop->bio, io);

	/* A copy to or from the page cache has probably ended. */
	loop->waited |= !(io->flags & (BATCHIO_DIRECT | BATCHIO_DSYNC | BATCHIO_LINK));

	/* Cannot be refused by its form; should it be, that is how it ended. */
	if (error) {
		io->moved = 0;
		io->done(io, error);
	}
}

/* Quicker than a hand-over to the ring's workers, where nobody else has to wait for it. */
static unsigned may_wait(void)
{
	return loop_may_wait() ? BATCHIO_MAYWAIT : 0;
}

static void start_sync(struct data_op *head, const struct co_call *call)
{
	head->sync_io = (struct batchio_request){
		.kind = call->full ? BATCHIO_FSYNC : BATCHIO_FDATASYNC,
		.flags = may_wait(),
		.fd = head->sync_fd,
		.done = sync_done,
		.user = head,
	};
	submit(&head->sync_io);
}

/* A buffered write is a copy, but not where the file system makes it wait: then it goes beside. */
static unsigned may_inline(const struct co_call *call)
{
	struct loop *loop = loop_self();

	if (call->kind == CO_READ || call->klass & (FD_DIRECT | CLASS_DSYNC) ||
		!loop->group->config.uring || !slow_for_others(loop, FUSE_WRITE))
		return BATCHIO_MAYINLINE;
	stat_add(&loop->stats.waits_by_ring, 1);
	return 0;
}

static void start_data(struct data_op *head, const struct co_call *call)
{
	struct iovec *iov = (struct iovec *)head->request->area;
	unsigned opcode = call->kind == CO_READ ? FUSE_READ : FUSE_WRITE;
	struct list *node;
	int64_t began;
	int n = 0;

	list_for_each (node, &call->ops) {
		struct data_op *d = data_op_of(list_entry(node, struct co_op, node));

		iov[n++] = (struct iovec){.iov_base = d->request->payload, .iov_len = d->op.len};
	}
	head->io = (struct batchio_request){
		.kind = call->kind == CO_READ ? BATCHIO_READ : BATCHIO_WRITE,
		.flags = may_inline(call) | (call->klass & FD_DIRECT ? BATCHIO_DIRECT : 0) |
			 (call->klass & CLASS_DSYNC ? BATCHIO_DSYNC : 0) |
			 (call->kind == CO_WRITE_SYNC ? BATCHIO_LINK : 0),
		.fd = head->fd,
		.iovcnt = n,
		.iov = iov,
		.offset = (off_t)call->offset,
		.done = data_done,
		.user = head,
	};
	began = slow_begin(loop_self(), opcode);
	submit(&head->io);
	slow_end(loop_self(), opcode, began);
}

static void count_call(const struct co_call *call)
{
	struct loop_stats *stats = &loop_self()->stats;

	if (call->kind == CO_READ)
		stat_add(&stats->calls_read, 1);
	else if (call->kind == CO_WRITE)
		stat_add(&stats->calls_write, 1);
	else if (call->kind == CO_WRITE_SYNC)
		stat_add(&stats->calls_write_sync, 1);
	else
		stat_add(&stats->calls_sync, 1);
	if (call->n)
		stat_add(&stats->call_ops[stat_bucket(call->n)], 1);
}

static void start_call(struct data_op *head)
{
	const struct co_call *call = &head->op.call;
	bool data = call->kind != CO_SYNC;
	bool sync = call->kind == CO_SYNC || call->kind == CO_WRITE_SYNC;

	count_call(call);
	head->outcome = (struct co_outcome){0};
	head->waiting = data + sync;
	if (sync)
		head->sync_fd = file_flush_fd(head->fs, head->file, head->fd);
	/* Nothing may come between the two: the pair is linked by their order. */
	if (data)
		start_data(head, call);
	if (sync)
		start_sync(head, call);
}

static void start_calls(struct list *calls)
{
	struct list *node;

	while ((node = list_pop(calls)))
		start_call(list_entry(node, struct data_op, start));
}

void fs_turn_end(struct loop *loop, void *user)
{
	struct fs *fs = user;

	for (unsigned i = 0; i < loop->ntouched; i++) {
		struct file *file = loop->touched[i];
		struct list calls;

		pthread_mutex_lock(&file->lock);
		take_calls(file, &calls);
		pthread_mutex_unlock(&file->lock);
		start_calls(&calls);
		file_unref(fs->files, file);
	}
	loop->ntouched = 0;
}

/* ---- requests ---- */

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

/* Queues d for its file. */
static void push(struct data_op *d)
{
	struct file *file = d->file;
	bool joins, waits;

	touch(d->fs, file);
	loop_set_current(NULL);
	pthread_mutex_lock(&file->lock);
	if (d->op.kind == CO_SYNC) {
		note_changes(d);
		habit_synced(d->fs, file, d->op.full);
	}
	waits = co_push(&file->queue, &d->op);
	joins = waits && d->op.kind == CO_SYNC && d->op.taken;
	pthread_mutex_unlock(&file->lock);
	stat_add(&loop_self()->stats.syncs_joined, joins);
	/* Where it waits, another loop may have taken and answered it by now. */
	if (!waits) {
		struct loop_stats *stats = &loop_self()->stats;

		stat_add(d->op.result ? &stats->syncs_failed_file : &stats->syncs_clean, 1);
		answer(d);
	}
}

/* The opener that the request names becomes d's. 0 or -errno. */
static int find_opener(struct data_op *d, fuse_ino_t ino, uint64_t fh)
{
	int result = opener_get(d->fs, ino, fh, &d->opener);

	d->file = d->opener.file;
	return result;
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
	int result = find_opener(d, ino, fi->fh);

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
	int result = find_opener(d, ino, fi->fh);

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
	push(d);
}

void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct data_op *d = new_op(req, CO_SYNC, 0, 0);
	int result = find_opener(d, ino, fi->fh);

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
	answer(d);
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
		.flags = may_wait(),
		.fd = atomic_load(&d->opener.handle->fd[0]),
		.done = dir_sync_done,
		.user = d,
	};
	submit(&d->io);
}
