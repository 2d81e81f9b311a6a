/* SPDX-License-Identifier: MIT */
/*
 * From a file's queue to the backend, and back to who asked. Called by data.c, and by the loops
 * (fs_turn_end, completions).
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/data_op.h"
#include "fs/fs.h"
#include "fs/habit.h"
#include "fs/outside.h"
#include "loop/loop.h"
#include "loop/slow.h"

/* Between two looks for changes by others, after flushes. */
#define CHECK_EVERY_NS 100000000

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
 * error, or the rest would be lost without a word. And one to a read for its page cache that fell
 * short it takes for the file's end: what an error stopped has to be that error, or there would be
 * zeros for what could not be read. The kernel then asks for the pages one by one.
 */
static ssize_t result_of(const struct data_op *d)
{
	ssize_t result = d->op.result;

	if (result < 0 || (size_t)result == d->op.len)
		return result;
	if (d->written_back)
		return d->outcome.error ? d->outcome.error : -EIO;
	return d->fills_pages && d->outcome.error ? d->outcome.error : result;
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
	file_note_failure(file);
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

void data_answer(struct data_op *d)
{
	struct loop_stats *stats = &loop_self()->stats;
	/* The operation lives in the request, which is another's once it is answered. */
	struct opener opener = d->opener;
	struct fs *fs = d->fs;
	ssize_t result = result_of(d);

	note_lost(d, result);
	if (d->note)
		data_append_ended(d);
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
			data_answer(d);
	}
}

/* ---- writes past the page cache ---- */

/*
 * The kernel drops the pages that a write past its cache is going to change before it sends the
 * write, and not again afterwards. Who reads meanwhile may bring an old page back, and it would
 * stay: we keep the kernel from looking at times of change itself. So such a write, where the file
 * was read through the cache, is answered when its pages were dropped once more; by a thread beside
 * the loops, for the kernel waits for pages that are being read.
 *
 * When those who read so have gone, the next of these writes has all pages dropped; then there is
 * nothing to be dropped any more. Where nobody says who has gone, one does of so many.
 */
#define DROPS_MOST 32

static bool is_beside_cache(const struct data_op *d)
{
	const struct file *file = d->file;
	bool overlaps = d->op.append || (d->op.offset < file->cached_to &&
						d->op.offset + d->op.len > file->cached_from);

	return d->op.kind == CO_WRITE && d->op.result > 0 && d->op.klass & FD_DIRECT &&
	       !d->written_back &&
	       (file->dropping || (file->cached_from != file->cached_to && overlaps));
}

static bool drops_all(struct fs *fs, struct file *file)
{
	struct list *node;

	file->drops++;
	if (fs->config.no_opens)
		return file->drops >= DROPS_MOST;
	list_for_each (node, &file->handles)
		if (list_entry(node, struct handle, node)->cached)
			return false;
	return true;
}

/* A direct write that its program does not wait for makes the kernel forget the attributes when it
 * begins, and not when it ends. */
static void forget_attrs(struct fs *fs, struct file *file)
{
	if (atomic_load(&file->attrs_told) && atomic_exchange(&file->attrs_told, false))
		file_forget_attrs(fs, file->ino);
}

/* On the thread beside the loops, which does one after another. */
static void dropped_beside(struct aside_job *job)
{
	struct data_op *d = list_entry(job, struct data_op, drop);
	/* The operation lives in the request, which is another's once it is answered. */
	struct request *request = d->request;
	struct opener opener = d->opener;
	struct file *file = d->file;
	struct fs *fs = d->fs;

	if (d->drop_all) {
		pthread_mutex_lock(&file->lock);
		file->dropping--;
		pthread_mutex_unlock(&file->lock);
	}
	fuse_reply_write(d->req, (size_t)d->op.result);
	request->ops->leave(request);
	opener_put(fs, &opener);
}

/* Those of the answered ones that are such go to the thread, in the order in which they are found.
 * The lock is held. */
static void drop_beside_cache(struct file *file, struct list *answered)
{
	struct list others;
	struct list *node;

	if (file->cached_from == file->cached_to && !file->dropping)
		return;
	list_init(&others);
	while ((node = list_pop(answered))) {
		struct data_op *d = data_op_of(list_entry(node, struct co_op, node));

		if (!is_beside_cache(d)) {
			list_add_tail(node, &others);
			continue;
		}
		d->drop_all = drops_all(d->fs, file);
		if (d->drop_all) {
			/* Writes that end before it is done wait for it. */
			file->dropping++;
			file->cached_from = file->cached_to = 0;
			file->drops = 0;
		}
		stat_add(&loop_self()->stats.bytes_written, (uint64_t)d->op.result);
		stat_add(&loop_self()->stats.writes_dropped, 1);
		d->drop = (struct aside_job){.ino = file->ino, .done = dropped_beside};
		if (!d->drop_all && !d->op.append) {
			d->drop.off = (off_t)d->op.offset;
			d->drop.len = (off_t)d->op.result;
		}
		aside_add(d->fs->aside, &d->drop);
	}
	list_splice_tail(&others, answered);
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

void data_note_changes(struct data_op *d)
{
	uint64_t names = atomic_load(&d->fs->names_changed);
	struct file *file = d->file;

	/* Names come and go without a word of whose: all files have changed then. */
	/* Nor of what the kernel itself has written. */
	if (file->names_seen != names || file->mark->backing > 0)
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
	data_note_changes(d);
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
	bool direct_write = head->op.kind == CO_WRITE && head->op.klass & FD_DIRECT;
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
		file->mark->mtime_due |= head->written_back && file->mark->mtime_known;
	}
	co_done(&file->queue, &head->op.call, &head->outcome, &answered);
	file_note_failure(file);
	drop_beside_cache(file, &answered);
	take_calls(file, &calls);
	expected = written && good && habit_wants_flush(fs, file) && push_early(fs, file);
	if (expected)
		take_calls(file, &early);
	pthread_mutex_unlock(&file->lock);
	start_calls(&calls);
	if (direct_write)
		forget_attrs(fs, file);
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

void data_submit(struct batchio_request *io)
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

unsigned data_may_wait(void)
{
	return loop_may_wait() ? BATCHIO_MAYWAIT : 0;
}

static void start_sync(struct data_op *head, const struct co_call *call)
{
	head->sync_io = (struct batchio_request){
		.kind = call->full ? BATCHIO_FSYNC : BATCHIO_FDATASYNC,
		.flags = data_may_wait(),
		.fd = head->sync_fd,
		.done = sync_done,
		.user = head,
	};
	data_submit(&head->sync_io);
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
	data_submit(&head->io);
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
