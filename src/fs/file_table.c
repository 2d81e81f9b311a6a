/* SPDX-License-Identifier: MIT */
/* Which inodes are open, by node id; see file.h. For src/fs only. */
#include "fs/file.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fs/file_table.h"
#include "fs/lock.h"

/* As many as the inode table can number; untouched pages cost nothing. */
#define FILE_SLOTS (64u << 20)
/* Of one merged call. */
#define MERGE_BYTES (1u << 20)

struct file_table {
	pthread_mutex_t lock;
	_Atomic(struct file *) *slots; /* by node id */
	struct list open; /* all of them */
	struct co_limits limits;
};

int file_table_new(struct file_table **out)
{
	struct file_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	table->slots = mmap(NULL, FILE_SLOTS * sizeof(*table->slots), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (table->slots == MAP_FAILED) {
		free(table);
		return -ENOMEM;
	}
	pthread_mutex_init(&table->lock, NULL);
	list_init(&table->open);
	table->limits = (struct co_limits){.max_ops = IOV_MAX, .max_bytes = MERGE_BYTES};
	*out = table;
	return 0;
}

struct file *file_of(struct file_table *table, fuse_ino_t ino)
{
	assert(ino < FILE_SLOTS);
	return atomic_load_explicit(&table->slots[ino], memory_order_acquire);
}

static struct file *file_new(struct file_table *table, fuse_ino_t ino)
{
	struct file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->ino = ino;
	file->flush_fd = -1;
	pthread_mutex_init(&file->lock, NULL);
	list_init(&file->handles);
	list_init(&file->lock_owners);
	co_file_init(&file->queue, &table->limits);
	return file;
}

static void file_free(struct file *file)
{
	list_del(&file->node);
	lock_drop_all(file);
	if (file->flush_fd >= 0)
		close(file->flush_fd);
	pthread_mutex_destroy(&file->lock);
	free(file);
}

void file_table_free(struct file_table *table)
{
	struct list *node, *next;

	if (!table)
		return;
	/* An aborted connection never released them. */
	list_for_each_safe (node, next, &table->open)
		file_free(list_entry(node, struct file, node));
	munmap(table->slots, FILE_SLOTS * sizeof(*table->slots));
	pthread_mutex_destroy(&table->lock);
	free(table);
}

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
			list_add_tail(&file->node, &table->open);
	}
	if (file) {
		file->refs++;
		atomic_store_explicit(&table->slots[ino], file, memory_order_release);
	}
	pthread_mutex_unlock(&table->lock);
	if (!file)
		return -ENOMEM;
	pthread_mutex_lock(&file->lock);
	list_add_tail(&handle->node, &file->handles);
	co_open(&file->queue, &handle->opener);
	pthread_mutex_unlock(&file->lock);
	return 0;
}

void file_remove_handle(struct file_table *table, fuse_ino_t ino, struct handle *handle)
{
	struct file *file = file_of(table, ino);

	pthread_mutex_lock(&file->lock);
	list_del(&handle->node);
	co_close(&file->queue, &handle->opener);
	pthread_mutex_unlock(&file->lock);
	file_unref(table, file);
}

void file_ref(struct file_table *table, struct file *file)
{
	pthread_mutex_lock(&table->lock);
	file->refs++;
	pthread_mutex_unlock(&table->lock);
}

void file_unref(struct file_table *table, struct file *file)
{
	bool last;

	pthread_mutex_lock(&table->lock);
	last = --file->refs == 0;
	if (last) {
		assert(co_idle(&file->queue) && list_empty(&file->handles));
		atomic_store_explicit(&table->slots[file->ino], NULL, memory_order_release);
		file_free(file);
	}
	pthread_mutex_unlock(&table->lock);
}
