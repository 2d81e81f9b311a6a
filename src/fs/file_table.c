/* SPDX-License-Identifier: MIT */
/* Which inodes are in use, by node id; see file.h. For src/fs only. */
#include "fs/file_table.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/reserve.h"
#include "fs/backing.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/lock.h"

/* As many as the inode table can number; untouched pages cost nothing. */
#define FILE_SLOTS (64u << 20)
/* Of one merged call. */
#define MERGE_BYTES (1u << 20)
/* Kept files that go at once, when there are too many, but no more than such a part of them. */
#define RETIRE_MOST 64
#define RETIRE_PART 8
/* So large a part of those kept besides may wait for the device to go. */
#define RETIRE_SHARE 4

struct file_table {
	struct fs *fs;
	pthread_mutex_t lock;
	_Atomic(struct file *) *slots; /* by node id */
	struct file_mark *marks; /* likewise */
	struct list open; /* all of them */
	struct list idle; /* of these, the kept ones without users, oldest first */
	unsigned n_idle, max_idle;
	uint64_t n_kept;
	struct list retiring; /* for the thread, referenced, */
	unsigned n_retiring; /* and those that it is at */
	uint64_t retired; /* batches that went */
	pthread_cond_t retire_cond, retired_cond;
	pthread_t retire_thread;
	bool retire_started, ending;
	struct co_limits limits;
};

int file_table_new(struct fs *fs, unsigned max_kept, struct file_table **out)
{
	struct file_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->slots = reserve(FILE_SLOTS * sizeof(*table->slots));
	table->marks = reserve_shared("files", FILE_SLOTS * sizeof(*table->marks));
	if (!table->slots || !table->marks) {
		free(table);
		return -ENOMEM;
	}
	table->fs = fs;
	table->max_idle = max_kept;
	pthread_mutex_init(&table->lock, NULL);
	list_init(&table->open);
	list_init(&table->idle);
	list_init(&table->retiring);
	pthread_cond_init(&table->retire_cond, NULL);
	pthread_cond_init(&table->retired_cond, NULL);
	table->limits = (struct co_limits){.max_ops = IOV_MAX, .max_bytes = MERGE_BYTES};
	*out = table;
	return 0;
}

struct file *file_of(struct file_table *table, fuse_ino_t ino)
{
	assert(ino < FILE_SLOTS);
	return atomic_load_explicit(&table->slots[ino], memory_order_acquire);
}

struct file_mark *file_mark_of(struct file_table *table, fuse_ino_t ino)
{
	return &table->marks[ino];
}

/* ---- one file ---- */

static struct file *file_new(struct file_table *table, fuse_ino_t ino)
{
	struct file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->ino = ino;
	file->mark = &file->last;
	file->flush_fd = -1;
	pthread_mutex_init(&file->lock, NULL);
	list_init(&file->node);
	list_init(&file->idle);
	list_init(&file->handles);
	list_init(&file->lock_owners);
	co_file_init(&file->queue, &table->limits);
	file->queue.exclusive = table->fs->config.exclusive;
	return file;
}

/* Gives file a handle of its own. path_fd: the inode's, pinned. */
static void make_kept(struct file *file, int path_fd)
{
	file->kept = true;
	file->path_fd = path_fd;
	handle_init_own(&file->own, file->ino);
	list_add_tail(&file->own.node, &file->handles);
	co_open(&file->queue);
}

/* Nobody knows file any more. */
static void file_free(struct file_table *table, struct file *file)
{
	lock_drop_all(file);
	if (file->kept) {
		if (!file_set_mtime(table->fs, file, file->path_fd))
			inode_changed(table->fs->inodes, file->ino, file->written_at);
		handle_close(&file->own);
		inode_put(table->fs->inodes, file->ino);
	}
	backing_free(table->fs, file);
	if (file->flush_fd >= 0)
		close(file->flush_fd);
	pthread_mutex_destroy(&file->lock);
	free(file->early);
	free(file);
}

/* Takes file out of the table. The lock is held. */
static void remove_file(struct file_table *table, struct file *file)
{
	assert(co_idle(&file->queue));
	atomic_store_explicit(&table->slots[file->ino], NULL, memory_order_release);
	file->last = *file->mark;
	memset(file->mark, 0, sizeof(*file->mark));
	file->mark = &file->last;
	list_del(&file->node);
	table->n_kept -= file->kept;
}

static void not_idle(struct file_table *table, struct file *file)
{
	if (list_empty(&file->idle))
		return;
	list_del(&file->idle);
	list_init(&file->idle);
	table->n_idle--;
}

static void insert_file(struct file_table *table, struct file *file)
{
	list_add_tail(&file->node, &table->open);
	file->mark = &table->marks[file->ino];
	atomic_store_explicit(&table->slots[file->ino], file, memory_order_release);
	table->n_kept += file->kept;
}

static void stop_retiring(struct file_table *table);

void file_table_free(struct file_table *table)
{
	struct list *node, *next;

	if (!table)
		return;
	stop_retiring(table);
	/* The kept ones, and those of an aborted connection, which never released them. */
	list_for_each_safe (node, next, &table->open)
		file_free(table, list_entry(node, struct file, node));
	munmap(table->slots, FILE_SLOTS * sizeof(*table->slots));
	munmap(table->marks, FILE_SLOTS * sizeof(*table->marks));
	pthread_cond_destroy(&table->retire_cond);
	pthread_cond_destroy(&table->retired_cond);
	pthread_mutex_destroy(&table->lock);
	free(table);
}

/* ---- files of handles ---- */

int file_add_handle(struct file_table *table, fuse_ino_t ino, struct handle *handle)
{
	struct file *file;

	if (ino >= FILE_SLOTS)
		return -ENFILE;
	pthread_mutex_lock(&table->lock);
	file = file_of(table, ino);
	if (!file) {
		file = file_new(table, ino);
		if (file)
			insert_file(table, file);
	}
	if (file)
		file->refs++;
	pthread_mutex_unlock(&table->lock);
	if (!file)
		return -ENOMEM;
	pthread_mutex_lock(&file->lock);
	list_add_tail(&handle->node, &file->handles);
	co_open(&file->queue);
	pthread_mutex_unlock(&file->lock);
	return 0;
}

void file_remove_handle(struct file_table *table, fuse_ino_t ino, struct handle *handle)
{
	struct file *file = file_of(table, ino);

	pthread_mutex_lock(&file->lock);
	/* Its descriptors are at hand still; those of the last one go with it. */
	file_set_mtime(table->fs, file, atomic_load(&handle->fd[handle->first]));
	list_del(&handle->node);
	co_close(&file->queue);
	pthread_mutex_unlock(&file->lock);
	file_unref(table, file);
}

void file_ref(struct file_table *table, struct file *file)
{
	pthread_mutex_lock(&table->lock);
	file->refs++;
	pthread_mutex_unlock(&table->lock);
}

/* ---- kept files ---- */

/* Has it taken anything that may not be on the device yet? With its lock, or without users. */
static bool unsynced(const struct file *file)
{
	return file->queue.changes != file->queue.clean_data && file->queue.changes > 1;
}

static void write_back(struct file *file, unsigned flags)
{
	int fd = handle_some_fd(&file->own);
	bool due;

	pthread_mutex_lock(&file->lock);
	due = unsynced(file);
	pthread_mutex_unlock(&file->lock);
	if (fd < 0 || !due || !sync_file_range(fd, 0, 0, flags))
		return;
	/* Of the answers only these tell of lost data. */
	if (errno == EIO || errno == ENOSPC || errno == EDQUOT) {
		int error = -errno;

		pthread_mutex_lock(&file->lock);
		co_fail(&file->queue, error);
		file_note_failure(file);
		pthread_mutex_unlock(&file->lock);
	}
}

/*
 * Lets go of the files on the list, which the caller has referenced. What they have written goes to
 * the device first: an error of that write-back belongs to their descriptors, and to nobody once
 * these are closed. One that has failed, or is used again, stays.
 */
static void retire(struct file_table *table, struct list *files)
{
	struct list going;
	struct list *node;

	list_for_each (node, files)
		write_back(list_entry(node, struct file, idle), SYNC_FILE_RANGE_WRITE);
	list_for_each (node, files)
		write_back(list_entry(node, struct file, idle), SYNC_FILE_RANGE_WAIT_BEFORE |
									SYNC_FILE_RANGE_WRITE |
									SYNC_FILE_RANGE_WAIT_AFTER);
	list_init(&going);
	pthread_mutex_lock(&table->lock);
	while ((node = list_pop(files))) {
		struct file *file = list_entry(node, struct file, idle);

		list_init(&file->idle);
		if (--file->refs == 0 && (file->forgotten || !file->queue.failed)) {
			remove_file(table, file);
			list_add_tail(&file->idle, &going);
		}
	}
	pthread_mutex_unlock(&table->lock);
	while ((node = list_pop(&going)))
		file_free(table, list_entry(node, struct file, idle));
}

/* ---- the thread that waits for the device meanwhile ---- */

static void *retire_main(void *arg)
{
	struct file_table *table = arg;
	struct list batch;

	list_init(&batch);
	pthread_mutex_lock(&table->lock);
	while (!table->ending || !list_empty(&table->retiring)) {
		unsigned n = table->n_retiring;

		if (!n) {
			pthread_cond_wait(&table->retire_cond, &table->lock);
			continue;
		}
		list_splice_tail(&table->retiring, &batch);
		pthread_mutex_unlock(&table->lock);
		retire(table, &batch);
		pthread_mutex_lock(&table->lock);
		/* Until now they had their descriptors. */
		table->n_retiring -= n;
		table->retired++;
		pthread_cond_broadcast(&table->retired_cond);
	}
	pthread_mutex_unlock(&table->lock);
	return NULL;
}

/* Is the thread there? The lock is held. */
static bool have_retirer(struct file_table *table)
{
	if (!table->retire_started)
		table->retire_started =
			!pthread_create(&table->retire_thread, NULL, retire_main, table);
	return table->retire_started && !table->ending;
}

/* It takes the list. The lock is held. */
static void hand_over(struct file_table *table, struct list *files, unsigned n)
{
	list_splice_tail(files, &table->retiring);
	table->n_retiring += n;
	pthread_cond_signal(&table->retire_cond);
}

/* Until some more have gone. The lock is held. */
static void await_retired(struct file_table *table)
{
	uint64_t before = table->retired;

	while (table->retired == before)
		pthread_cond_wait(&table->retired_cond, &table->lock);
}

static void stop_retiring(struct file_table *table)
{
	pthread_mutex_lock(&table->lock);
	table->ending = true;
	pthread_cond_signal(&table->retire_cond);
	pthread_mutex_unlock(&table->lock);
	if (table->retire_started)
		pthread_join(table->retire_thread, NULL);
}

/* The oldest idle files, referenced, onto a list. Returns how many; *wait: the device has to be
 * waited for. The lock is held. */
static unsigned choose_oldest(struct file_table *table, struct list *files, bool *wait)
{
	unsigned part = table->max_idle / RETIRE_PART + 1;
	unsigned n;

	for (n = 0; n < RETIRE_MOST && n < part && !list_empty(&table->idle); n++) {
		struct file *file = list_entry(table->idle.next, struct file, idle);

		not_idle(table, file);
		*wait |= unsynced(file);
		file->refs++;
		list_add_tail(&file->idle, files);
	}
	return n;
}

/*
 * There are too many: the oldest onto a list, or to the thread if the device has to be waited for.
 * Those that wait have their descriptors still, so where they are many whoever brings more waits
 * with them. The lock is held, though not throughout.
 */
static void make_room(struct file_table *table, struct list *files)
{
	bool wait = false;
	unsigned n;

	while (table->n_retiring && table->n_retiring >= table->max_idle / RETIRE_SHARE)
		await_retired(table);
	if (table->n_idle <= table->max_idle)
		return;
	n = choose_oldest(table, files, &wait);
	if (wait && have_retirer(table))
		hand_over(table, files, n);
}

bool file_relieve(void *arg)
{
	struct file_table *table = arg;
	struct list files;
	bool wait = false;
	bool any;

	list_init(&files);
	pthread_mutex_lock(&table->lock);
	/* By the thread in any case: the caller may act as somebody else. */
	if (!list_empty(&table->idle) && have_retirer(table))
		hand_over(table, &files, choose_oldest(table, &files, &wait));
	any = table->n_retiring > 0;
	if (any)
		await_retired(table);
	pthread_mutex_unlock(&table->lock);
	return any;
}

/* The last user of a kept file is gone. The lock is held; what it returns is to be freed. */
static struct file *rest(struct file_table *table, struct file *file, struct list *too_many)
{
	if (file->forgotten) {
		remove_file(table, file);
		return file;
	}
	/* A failed one stays until the kernel forgets it: only then is nobody owed the error. */
	if (!file->queue.failed) {
		list_add_tail(&file->idle, &table->idle);
		if (++table->n_idle > table->max_idle)
			make_room(table, too_many);
	}
	return NULL;
}

void file_unref(struct file_table *table, struct file *file)
{
	struct file *gone = NULL;
	struct list too_many;

	list_init(&too_many);
	pthread_mutex_lock(&table->lock);
	if (--file->refs == 0) {
		if (file->kept) {
			gone = rest(table, file, &too_many);
		} else {
			assert(list_empty(&file->handles));
			remove_file(table, file);
			gone = file;
		}
	}
	pthread_mutex_unlock(&table->lock);
	if (gone)
		file_free(table, gone);
	if (!list_empty(&too_many))
		retire(table, &too_many);
}

static struct file *find_locked(struct file_table *table, fuse_ino_t ino)
{
	struct file *file = file_of(table, ino);

	if (!file)
		return NULL;
	file->refs++;
	/* On a list of files to be retired it is not idle, and stays there. */
	if (file->refs == 1)
		not_idle(table, file);
	return file;
}

struct file *file_find(struct file_table *table, fuse_ino_t ino)
{
	struct file *file;

	if (ino >= FILE_SLOTS || !file_of(table, ino))
		return NULL;
	pthread_mutex_lock(&table->lock);
	file = find_locked(table, ino);
	pthread_mutex_unlock(&table->lock);
	return file;
}

struct file *file_lock(struct file_table *table, fuse_ino_t ino)
{
	struct file *file = file_find(table, ino);

	if (file)
		pthread_mutex_lock(&file->lock);
	return file;
}

void file_unlock(struct file_table *table, struct file *file)
{
	pthread_mutex_unlock(&file->lock);
	file_unref(table, file);
}

int file_keep(struct file_table *table, fuse_ino_t ino, struct file **out)
{
	struct file *made;
	int path_fd;

	*out = file_find(table, ino);
	if (*out)
		return 0;
	if (ino >= FILE_SLOTS)
		return -ENFILE;
	path_fd = inode_get(table->fs->inodes, ino);
	if (path_fd < 0)
		return path_fd;
	made = file_new(table, ino);
	if (!made) {
		inode_put(table->fs->inodes, ino);
		return -ENOMEM;
	}
	make_kept(made, path_fd);
	pthread_mutex_lock(&table->lock);
	*out = find_locked(table, ino);
	if (!*out) {
		*out = made;
		made->refs = 1;
		insert_file(table, made);
		made = NULL;
	}
	pthread_mutex_unlock(&table->lock);
	if (made)
		file_free(table, made);
	return 0;
}

void file_forget(struct file_table *table, fuse_ino_t ino)
{
	struct file *file = NULL;

	if (ino >= FILE_SLOTS || !file_of(table, ino))
		return;
	pthread_mutex_lock(&table->lock);
	file = file_of(table, ino);
	if (file && file->kept && file->refs == 0) {
		not_idle(table, file);
		remove_file(table, file);
	} else {
		if (file)
			file->forgotten = true;
		file = NULL;
	}
	pthread_mutex_unlock(&table->lock);
	if (file)
		file_free(table, file);
}

uint64_t file_count_kept(struct file_table *table)
{
	uint64_t n;

	pthread_mutex_lock(&table->lock);
	n = table->n_kept;
	pthread_mutex_unlock(&table->lock);
	return n;
}
