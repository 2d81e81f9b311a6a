/* SPDX-License-Identifier: MIT */
/* Finding children of a directory. For src/fs only; in namespace.c. */
#ifndef FS_NAMESPACE_H
#define FS_NAMESPACE_H

#include <fuse_lowlevel.h>

struct fs;
struct inode_place;

/*
 * inode_learn() of what fd is, and was when *attr was taken; fd is taken over, place as there.
 * generation is watch_generation() from before *attr was taken. entry is filled whole. 0 or -errno.
 */
int namespace_learn(struct fs *fs, int fd, const struct stat *attr, const struct inode_place *place,
	uint64_t generation, struct fuse_entry_param *entry);

/*
 * Looks name up in parent, whose descriptor is dir_fd, as fs_lookup_child() does; but what is a
 * mount point is -EXDEV. A listing asks so: what is mounted there may not answer, which is of no
 * concern to who only reads the directory. 0 or -errno. The caller tells the kernel, or takes the
 * count back with inode_forget().
 */
int namespace_lookup_here(struct fs *fs, fuse_ino_t parent, int dir_fd, const char *name,
	struct fuse_entry_param *entry);

#endif
