/* SPDX-License-Identifier: MIT */
/*
 * A file in use: the queue and the openers of one inode. For src/fs only.
 *
 * With a message for each open: made by the first one, freed after the last reference: one a
 * handle, one for each loop that has it on its list of touched files, one while a completed call is
 * being answered.
 *
 * Where opens send none (config.no_opens) nobody says when a file is in use, so a file, or a
 * directory, gets one handle of its own, which serves all openers. It is made by the first request
 * that needs it and kept, with its descriptors, until the kernel forgets the inode or so many
 * others were used since that its turn has come; then it is made anew on demand. It pins its inode:
 * a node id cannot be given to another object while a file of it is kept.
 */
#ifndef FS_FILE_H
#define FS_FILE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "base/list.h"
#include "coalesce/coalesce.h"
#include "fs/handle.h"

struct fs;
struct file_table;

/* What a successor has to know of a file, should this process die: in shared memory. All zero, but
 * for files in use. */
struct file_mark {
	/*
	 * Writeback cache: the time of modification that the kernel keeps and has told us, while
	 * the source shows that of our own writes, at most a moment off. It is set before the file
	 * goes, not at each of the kernel's messages.
	 */
	struct timespec mtime;
	bool mtime_due;
	bool mtime_known; /* mtime is what the kernel has, as far as it has told or was told */
	int16_t failed; /* queue.failed: 0 or -errno */
	int32_t backing; /* backing.c's: > 0 a number of the kernel's, -1 none */
};

struct file {
	fuse_ino_t ino;
	struct file_mark *mark; /* file->lock; in the table of all as long as the file is, */
	struct file_mark last; /* else here */

	struct list node; /* on the table's list; its lock, as for the next three */
	unsigned refs;
	struct list idle; /* kept without users: on the table's list, else on none */
	bool forgotten; /* kept, and to go with its last user */
	bool kept; /* has a handle of its own, and pins its inode */
	int path_fd; /* kept: the inode's descriptor */
	struct handle own; /* kept: the handle that serves all */
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
	/*
	 * Where the page cache of the mount may have something: what was read through it since all
	 * was dropped. Empty: from is to. See calls.c.
	 */
	uint64_t cached_from, cached_to;
	unsigned drops; /* writes that had pages dropped since then */
	unsigned dropping; /* of all its pages, at work or to come */
	atomic_bool attrs_told; /* the kernel was told its attributes since a direct write ended */
	uint64_t names_seen; /* fs.names_changed at the last sync */
	int64_t written_at; /* exclusive: when the last write ended, as change_now() */
	int64_t checked_at; /* exclusive: when a flush last looked for changes by others */
	/* Exclusive: flushes that begin before they are asked for; data.c's. */
	bool is_new; /* made through us, and not synced yet */
	bool full_syncs; /* what was asked last was a full fsync */
	bool early_busy; /* early is in use */
	void *early; /* the operation of such a flush, or NULL; freed with the file */
};

/* max_kept: files kept without users, where opens send no message. 0 or -errno. */
int file_table_new(struct fs *fs, unsigned max_kept, struct file_table **out);
void file_table_free(struct file_table *table);

/* The open file of ino. Valid while a handle of it is open. */
struct file *file_of(struct file_table *table, fuse_ino_t ino);

/* Another reference, or the last one less. */
void file_ref(struct file_table *table, struct file *file);
void file_unref(struct file_table *table, struct file *file);

/* The file of ino, or NULL, with a reference. */
struct file *file_find(struct file_table *table, fuse_ino_t ino);
/* The same with its lock; file_unlock() gives back both. */
struct file *file_lock(struct file_table *table, fuse_ino_t ino);
void file_unlock(struct file_table *table, struct file *file);
/* file_find(), but made to be kept if there is none. 0 or -errno. */
int file_keep(struct file_table *table, fuse_ino_t ino, struct file **out);
/* The kernel has forgotten ino: its kept file goes. */
void file_forget(struct file_table *table, fuse_ino_t ino);
/* The process ran out of descriptors: some kept files without users go. With no file's lock held.
 * False when there are none. */
bool file_relieve(void *table);
uint64_t file_count_kept(struct file_table *table);

/* file->queue may have failed, with its lock held: a successor shall know. */
void file_note_failure(struct file *file);

/*
 * In a process that was forked after file_table_new(), once the one that used the table has died
 * and inodes and handles are recovered: open files are files again, and those that had failed are
 * failed for all who have them open. 0 or -errno.
 */
int file_recover(struct fs *fs);

/* Something of ino has changed that its next sync has to see to. */
void file_changed(struct fs *fs, fuse_ino_t ino);
/*
 * The kernel is going to be told the attributes of ino; before they are taken. Shared mounts: what
 * is told while a direct write is on its way is older than that, and would stay. True: ino is open.
 */
bool file_tell_attrs(struct fs *fs, fuse_ino_t ino);
/* The kernel forgets the attributes of ino, and nothing else: so this waits for nothing that a loop
 * would have to do. */
void file_forget_attrs(const struct fs *fs, fuse_ino_t ino);
/* Somebody else has changed it: what was put off for it is not ours to set any more. */
void file_overtaken(struct fs *fs, fuse_ino_t ino);

/* outside_check() of what the source says of ino, a file of ours perhaps. */
void file_check(struct fs *fs, fuse_ino_t ino, int fd, const struct stat *attr);

/* The kernel has the time of modification of attr. With file->lock held. */
void file_told_mtime(struct file *file, const struct stat *attr);

/* Puts a time of modification that is due in attr, for an answer. */
void file_show_mtime(struct fs *fs, fuse_ino_t ino, struct stat *attr);

/* Sets a time of modification that is due: true where it was another one. With file->lock held, or
 * nobody else to know file. */
bool file_set_mtime(struct fs *fs, struct file *file, int fd);

/* ---- who serves a request ---- */

struct opener {
	struct handle *handle;
	struct file *file; /* NULL for a directory that was opened by a message */
};

/*
 * The opener that a request for ino names: the handle fh, or the file's own. Valid until
 * opener_put(), or until the request is answered, whichever is first. 0 or -errno.
 */
int opener_get(struct fs *fs, fuse_ino_t ino, uint64_t fh, struct opener *out);
void opener_put(struct fs *fs, struct opener *opener);

/*
 * The descriptor of handle for requests of a variant (FD_DIRECT, FD_APPEND), opened when it is the
 * first of its kind. Stays open as long as the handle. Returns it, or -errno.
 */
int file_fd(struct fs *fs, struct handle *handle, int variant);

/* The same for reading only, where a descriptor that may not write will do. */
int file_read_fd(struct fs *fs, struct handle *handle, int variant);

/* A descriptor of handle for what any will do: attributes, a flush. Or -errno. */
int file_any_fd(struct fs *fs, struct handle *handle);

/* The one that file's flushes go through, see struct file. Out of descriptors, the request's own
 * has to do. */
int file_flush_fd(struct fs *fs, struct file *file, int own);

/* Opens the regular file ino in the source, with the caller's flags. The descriptor, or -errno. */
int file_open(struct fs *fs, fuse_ino_t ino, int flags);
/* What is left of a caller's flags there. */
int file_source_flags(const struct fs *fs, int flags);

/*
 * Opens anew the regular file or directory behind a descriptor of any kind. Returns the descriptor,
 * or -errno.
 */
int file_reopen(struct fs *fs, int fd, int flags);

/* lseek() for SEEK_DATA and SEEK_HOLE, the only ones that need the source. fd may be -errno
 * already.
 */
off_t file_seek(int fd, off_t off, int whence);

/* Makes the regular file name, the caller's, and keeps its descriptor; entry is filled. For opens
 * without a message. 0 or -errno. */
int file_make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_entry_param *entry);

/* FD_… bits of open flags. */
int file_variant(const struct fs *fs, int flags);

#endif
