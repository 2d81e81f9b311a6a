/* SPDX-License-Identifier: MIT */
/*
 * When a sync is to be expected, so that its flush may begin before it comes: by a file's own habit
 * (coalesce.h), and by that of the mount for files that were just made. For data.c only; the file's
 * lock is held.
 */
#ifndef FS_HABIT_H
#define FS_HABIT_H

#include <stdbool.h>

struct file;
struct fs;

/* A program asks for a sync; before it goes to the queue. full: fsync, not fdatasync. */
void habit_synced(struct fs *fs, struct file *file, bool full);

/* Writes have ended, and a flush should begin. To be followed by one, if it can. */
bool habit_wants_flush(struct fs *fs, struct file *file);

#endif
