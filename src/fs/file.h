/* SPDX-License-Identifier: MIT */
/*
 * An open regular file: the queue and the openers of one inode. For src/fs only.
 *
 * Made by the first open, freed after the last reference: one a handle, one for each loop that has
 * it on its list of touched files, one while a completed call is being answered.
 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "coalesce/coalesce.h"
#include "fs/handle.h"

struct fs;
struct file_table;

struct file {
	fuse_ino_t ino;
	struct list node; /* on the table's list; its lock, as for refs */
	unsigned refs;
	pthread_mutex_t lock; /* of all below */
	struct co_file queue;
	struct list handles; /* handle.node, in order of opening */
	struct list lock_owners; /* lock.c's */
	/*
	 * All flushes go through this descriptor: a duplicate of the oldest opener's, made by the
	 * first flush. The kernel reports a write-back error once per open file description; the
	 * oldest one has missed nothing that a later opener is owed.
	 */
	int flush_fd;
};

int file_table_new(struct file_table **out);
void file_table_free(struct file_table *table);

/* The open file of ino. Valid while a handle of it is open. */
struct file *file_of(struct file_table *table, fuse_ino_t ino);

/* Another reference, or the last one less. */
void file_ref(struct file_table *table, struct file *file);
void file_unref(struct file_table *table, struct file *file);

/*
 * The descriptor of handle for requests of a variant (FD_DIRECT, FD_APPEND), opened when it is the
 * first of its kind. Stays open as long as the handle. Returns it, or -errno.
 */
int file_fd(struct fs *fs, struct handle *handle, int variant);

/*
 * Opens anew the regular file or directory behind a descriptor of any kind. Returns the descriptor,
 * or -errno.
 */
int file_reopen(struct fs *fs, int fd, int flags);

/* FD_… bits of open flags. */
int file_variant(int flags);

#endif
