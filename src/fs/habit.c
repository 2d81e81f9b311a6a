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
static struct co_habit of_new_files(struct fs *fs)
{
	uint64_t packed = atomic_load_explicit(&fs->new_file_habit, memory_order_relaxed);

	return (struct co_habit){.usual = (unsigned)packed, .streak = (unsigned)(packed >> 32)};
}

static void set_of_new_files(struct fs *fs, const struct co_habit *habit)
{
	atomic_store_explicit(&fs->new_file_habit, habit->usual | (uint64_t)habit->streak << 32,
		memory_order_relaxed);
}

void habit_synced(struct fs *fs, struct file *file, bool full)
{
	struct co_habit habit = of_new_files(fs);

	file->full_syncs = full;
	if (!file->is_new)
		return;
	file->is_new = false;
	co_habit_note(&habit, file->queue.writes);
	set_of_new_files(fs, &habit);
}

bool habit_wants_flush(struct fs *fs, struct file *file)
{
	struct co_habit habit = file->queue.habit;

	if (file->is_new)
		file->queue.habit = habit = of_new_files(fs);
	if (file->early_busy || !co_wants_flush(&file->queue))
		return false;
	/* Until a sync confirms the guess it is not made again. */
	if (file->is_new) {
		habit.streak = 1;
		set_of_new_files(fs, &habit);
	}
	return true;
}
