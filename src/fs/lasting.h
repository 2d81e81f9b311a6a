/* SPDX-License-Identifier: MIT */
/*
 * Node ids that outlive the mount, so that file handles of it do (an NFS server's clients keep
 * them): made of the object's inode number and the generation in the source's own handle, and
 * turned into that handle again. For the inode table. No state.
 *
 * Only where an id leads to nothing but what the mount shows: the source is a whole file system.
 * And only where the handle is that small: ext2, ext3, ext4, XFS and the like. The upper half of
 * such an id, the generation, is never zero.
 */
#ifndef FS_LASTING_H
#define FS_LASTING_H

#include <fuse_lowlevel.h>

#include "fs/file_id.h"

enum { NOT_LASTING = 0 };

/* The form of the handles, given the source's root: its descriptor, handle and mount id. Or
 * NOT_LASTING. */
int lasting_form(int root_fd, const struct file_id *root, int mount);

/* The node id of the object with this handle, or 0: it has none that lasts. */
fuse_ino_t lasting_number(int form, const struct file_id *id);

static inline bool lasting_is(fuse_ino_t ino)
{
	return ino >> 32 != 0;
}

/* The handle that an id was made of. */
struct file_id lasting_id(int form, fuse_ino_t ino);

#endif
