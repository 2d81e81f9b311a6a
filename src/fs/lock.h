/* SPDX-License-Identifier: MIT */
/*
 * Locks forwarded to the source (posix_locks, flock). For src/fs only; in lock.c.
 *
 * Without those options the kernel keeps the locks and asks nobody.
 */
#ifndef FS_LOCK_H
#define FS_LOCK_H

#include <fuse_lowlevel.h>
#include <stdint.h>

struct file;
struct fs;
struct handle;
struct locks;

/* 0 or -errno. *out is the caller's, freed by locks_free(). */
int locks_new(const struct fs *fs, struct locks **out);
/* After locks_end(). */
void locks_free(struct locks *locks);

/* Ends all waits with EINTR and answers them. No more are begun. */
void locks_end(struct locks *locks);

/*
 * In a process that was forked after locks_new(), once the one that used them has died and files
 * are recovered: who has locks is known again. use() is called with each descriptor that belongs to
 * them. 0 or -errno.
 */
int locks_recover(struct fs *fs, void (*use)(int fd, void *arg), void *arg);

/* Requests that wait for a lock. */
uint64_t locks_waiting(struct locks *locks);

/* owner has closed a descriptor of ino: its POSIX locks go. */
void lock_flush(struct fs *fs, fuse_ino_t ino, uint64_t owner);

/* handle of file is released: the locks that belong to it go. */
void lock_release(struct fs *fs, struct file *file, struct handle *handle);

/* file goes: so do all locks left. */
void lock_drop_all(struct file *file);

#endif
