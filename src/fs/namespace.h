/* SPDX-License-Identifier: MIT */
/* Finding children of a directory. For src/fs only; in namespace.c. */
#ifndef FS_NAMESPACE_H
#define FS_NAMESPACE_H

#include <fuse_lowlevel.h>
#include <stdint.h>
#include <sys/stat.h>

struct fs;

/*
 * The child `name` (one component, checked by the caller) of the directory dir_fd, an O_PATH
 * descriptor of the object itself, also of a symlink; *attr is filled. Mounts inside the source are
 * crossed, save our own: -ELOOP. The descriptor is the caller's. Or -errno.
 */
int namespace_open(struct fs *fs, int dir_fd, const char *name, struct stat *attr);

/*
 * inode_learn() of what fd is, and was when *attr was taken; fd is taken over. generation is
 * watch_generation() from before that. entry is filled whole, for a name that is not a mount point.
 * 0 or -errno.
 */
int namespace_learn(struct fs *fs, int fd, const struct stat *attr, uint64_t generation,
	struct fuse_entry_param *entry);

/*
 * namespace_open(), then namespace_learn(); entry is filled whole. 0 or -errno. The caller tells
 * the kernel, or takes the count back with inode_forget().
 */
int namespace_lookup(struct fs *fs, int dir_fd, const char *name, struct fuse_entry_param *entry);

/*
 * The same of a child that is no mount point; else -EXDEV. A listing asks so: what is mounted there
 * may not answer, which is of no concern to who only reads the directory.
 */
int namespace_lookup_here(
	struct fs *fs, int dir_fd, const char *name, struct fuse_entry_param *entry);

#endif
