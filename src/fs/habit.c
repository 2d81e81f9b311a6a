/* SPDX-License-Identifier: MIT */
/* When a sync is to be expected; see habit.h. */
#include "fs/habit.h"

#include <stdatomic.h>

#include "fs/file.h"
#include "fs/fs.h"

/*
 * What programs do with files that they have just made (a rollback journal is made, written, synced
 * and taken away again) is a habit of the mount. Packed, and kept loosely: it is a guess.
 */
struct new_files {
	struct co_habit habit;
	bool full; /* what is asked is a full fsync */
};

#define FULL (UINT64_C(1) << 63)

static struct new_files of_new_files(struct fs *fs)
{
	uint64_t packed = atomic_load_explicit(&fs->new_file_habit, memory_order_relaxed);

	return (struct new_files){
		.habit = {.usual = (uint32_t)packed, .streak = (unsigned)(packed >> 32) & 0xffff},
		.full = packed & FULL,
	};
}

static void set_of_new_files(struct fs *fs, const struct new_files *files)
{
	atomic_store_explicit(&fs->new_file_habit,
		files->habit.usual | (uint64_t)files->habit.streak << 32 | (files->full ? FULL : 0),
		memory_order_relaxed);
}

void habit_synced(struct fs *fs, struct file *file, bool full)
{
	struct new_files files = of_new_files(fs);

	file->full_syncs = full;
	if (!file->is_new)
		return;
	file->is_new = false;
	co_habit_note(&files.habit, file->queue.writes);
	files.full = full;
	set_of_new_files(fs, &files);
}

bool habit_wants_flush(struct fs *fs, struct file *file)
{
	struct new_files files = of_new_files(fs);

	if (file->is_new) {
		file->queue.habit = files.habit;
		file->full_syncs = files.full;
	}
	if (file->early_busy || !co_wants_flush(&file->queue))
		return false;
	/* Until a sync confirms the guess it is not made again. */
	if (file->is_new) {
		files.habit.streak = 1;
		set_of_new_files(fs, &files);
	}
	return true;
}
