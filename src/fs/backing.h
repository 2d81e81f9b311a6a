/* SPDX-License-Identifier: MIT */
/*
 * -o passthrough: reads, writes and mappings of a file go from the kernel to the source's file
 * without us (Linux 6.9). For src/fs only.
 *
 * All openers of an inode have to go the same way, by the same registered file: it belongs to the
 * file (file.h) and goes with it. Where the kernel takes none, that file is served as any other.
 */
#ifndef FS_BACKING_H
#define FS_BACKING_H

#include "fs/file.h"

/*
 * The number for the answer to an open of file by fd, or 0: the file is served by requests. Says
 * once why.
 */
int backing_of(struct fs *fs, struct file *file, int fd);

/* Nobody knows file any more. */
void backing_free(struct fs *fs, struct file *file);

#endif
