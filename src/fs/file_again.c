/* SPDX-License-Identifier: MIT */
/* Open files after the death of the process that had them; see file.h. For src/fs only. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/file_table.h"
#include "fs/fs.h"

void file_note_failure(struct file *file)
{
	if (file->mark->failed != file->queue.failed)
		file->mark->failed = (int16_t)file->queue.failed;
}

/* What its predecessor knew of file, as far as it matters. With its lock, or nobody else there. */
static void take_over(struct file *file)
{
	/* Who has read through the cache, and what, is not known any more. */
	file->cached_to = UINT64_MAX;
	/* What was written may not be on the device. */
	co_changed(&file->queue);
	if (file->mark->failed)
		co_fail(&file->queue, file->mark->failed);
}

static int by_opening(const void *a, const void *b)
{
	const struct handle *x = *(struct handle *const *)a;
	const struct handle *y = *(struct handle *const *)b;

	return (x->opened > y->opened) - (x->opened < y->opened);
}

/* The open regular files' handles in order of their opening, the caller's; *count of them. NULL
 * without memory. */
static struct handle **open_handles(struct fs *fs, size_t *count)
{
	uint32_t slots = handle_slots(fs->handles);
	struct handle **all = malloc((slots + 1) * sizeof(struct handle *));

	*count = 0;
	for (uint32_t n = 0; all && n < slots; n++) {
		struct handle *handle = handle_at(fs->handles, n);

		if (handle && S_ISREG(inode_type(fs->inodes, handle->ino)))
			all[(*count)++] = handle;
	}
	if (all)
		qsort(all, *count, sizeof(struct handle *), by_opening);
	return all;
}

static int recover_opened(struct fs *fs)
{
	size_t count;
	struct handle **all = open_handles(fs, &count);
	int result = all ? 0 : -ENOMEM;

	for (size_t n = 0; n < count && result == 0; n++) {
		fuse_ino_t ino = all[n]->ino;

		result = file_add_handle(fs->files, ino, all[n]);
		inode_opened(fs->inodes, ino);
	}
	for (size_t n = 0; n < count && result == 0; n++) {
		struct file *file = file_of(fs->files, all[n]->ino);

		/* Once each, by its oldest handle. */
		if (file->handles.next == &all[n]->node)
			take_over(file);
	}
	for (uint32_t n = 0; n < handle_slots(fs->handles); n++) {
		struct handle *handle = handle_at(fs->handles, n);

		if (handle && S_ISDIR(inode_type(fs->inodes, handle->ino)))
			inode_opened(fs->inodes, handle->ino);
	}
	free(all);
	return result;
}

/* A kept one is made again by who needs it next; but not what it owes. */
static int recover_kept(struct fs *fs, fuse_ino_t ino)
{
	struct file *file;
	int result = file_keep(fs->files, ino, &file);

	/* Damaged, or gone. */
	if (result < 0)
		return result == -ENOMEM ? result : 0;
	take_over(file);
	file_unref(fs->files, file);
	return 0;
}

static bool is_blank(const struct file_mark *mark)
{
	static const struct file_mark blank;

	return memcmp(mark, &blank, sizeof(blank)) == 0;
}

int file_recover(struct fs *fs)
{
	fuse_ino_t ino = FUSE_ROOT_ID, next;
	int result = fs->config.no_opens ? 0 : recover_opened(fs);

	while (result == 0 && (next = inode_next(fs->inodes, ino))) {
		/* What is left of those that nobody knows. */
		for (; ino < next; ino++)
			if (!is_blank(file_mark_of(fs->files, ino)))
				*file_mark_of(fs->files, ino) = (struct file_mark){0};
		if (fs->config.no_opens && S_ISREG(inode_type(fs->inodes, ino)) &&
			!is_blank(file_mark_of(fs->files, ino)))
			result = recover_kept(fs, ino);
		ino = next + 1;
	}
	return result;
}
