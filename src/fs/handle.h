/* SPDX-License-Identifier: MIT */
/*
 * The handle table: every open file and directory as a numbered slot. For src/fs only.
 *
 * Numbers from the kernel are checked: handle_find() knows those that are open, and of which inode.
 * A handle lives from handle_new() to handle_free(); the kernel sends no request for it after
 * RELEASE, so a found handle stays valid while the request that named it is unanswered.
 * Thread-safe. The table lies in shared memory, and a successor of a process that died goes on with
 * it: handle_recover().
 */
#ifndef FS_HANDLE_H
#define FS_HANDLE_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/list.h"

/* Descriptors of one handle differ in these; bits index handle.fd. */
enum {
	FD_DIRECT = 1, /* O_DIRECT */
	FD_APPEND = 2, /* O_APPEND */
	FD_READ = 4, /* of a file's own handle (file.h): for reading only, as writing is refused */
	FD_VARIANTS = 8,
};

struct handle {
	_Atomic uint64_t ino; /* node id, 0 while the slot is free */
	uint32_t index; /* of this slot */
	uint64_t fh; /* fuse_file_info.fh: the slot and its user, so no other handle's ever */
	uint64_t opened; /* in this order */
	bool damaged; /* what a dead process left of it is not to be trusted: EIO */
	uid_t owner; /* whose share it is of, where it is: handle_own() */
	bool owned;
	int access; /* O_RDONLY, O_WRONLY or O_RDWR */
	/*
	 * Regular files: descriptors by variant, -1 while not open. The one opened first is never
	 * replaced. Directories: fd[0] only.
	 */
	_Atomic int fd[FD_VARIANTS];
	int first; /* variant opened first; -1: a file's own handle, opened as needed */
	struct list node; /* regular files: on file.handles, in order of opening */
	bool cached; /* regular files: read through the page cache; file.lock */
	pthread_mutex_t dir_lock; /* directories: held while the stream's position is in use */
	uint64_t dir_offset; /* directories: where the next getdents64 of fd[0] starts */
#define HANDLE_NOWHERE UINT64_MAX /* not known: none of the kernel's offsets */
};

struct handle_table;

int handle_table_new(struct handle_table **out);
/* Closes whatever is still open. */
void handle_table_free(struct handle_table *table);

/*
 * A new handle of ino on fd, which it takes over (also on failure). NULL when memory or numbers run
 * out. The slot is published to handle_find() on return.
 */
struct handle *handle_new(
	struct handle_table *table, fuse_ino_t ino, int fd, int variant, int access);

/* Of users other than root none shall have more than so many handles; 0: no bound. At the start. */
void handle_bound(struct handle_table *table, uint32_t most);
/* The new handle is the user's. False where that one has too many, and it is to be freed. Once. */
bool handle_own(struct handle_table *table, struct handle *handle, uid_t uid);

/* The open handle fh of ino, or NULL. */
struct handle *handle_find(struct handle_table *table, uint64_t fh, fuse_ino_t ino);

/* Closes the handle's descriptors; its number may be given out again. */
void handle_free(struct handle_table *table, struct handle *handle);

/* Sets up a file's own handle, which is in no table; handle_close() is its end. */
void handle_init_own(struct handle *handle, fuse_ino_t ino);
void handle_close(struct handle *handle);

/* ---- after a predecessor's death ---- */

/*
 * In a process that was forked after handle_table_new(), once the one that used the table has died:
 * all that was open is open again, belonging to no file yet. is_right() says whether a descriptor
 * is of that inode; a handle with another is damaged.
 */
void handle_recover(
	struct handle_table *table, bool (*is_right)(int fd, fuse_ino_t ino, void *arg), void *arg);

/* The handle open in the slot n, or NULL; n is below handle_slots(). */
struct handle *handle_at(struct handle_table *table, uint32_t n);
uint32_t handle_slots(const struct handle_table *table);

/* Any descriptor of the handle that is open, or -1. */
int handle_some_fd(const struct handle *handle);

/* Open handles. */
uint64_t handle_count(struct handle_table *table);

#endif
