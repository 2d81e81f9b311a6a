/* SPDX-License-Identifier: MIT */
/* Finding children of a directory. For src/fs only; in lookup.c unless it says otherwise. */
#ifndef FS_NAMESPACE_H
#define FS_NAMESPACE_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct fs;
struct inode_place;

/*
 * The child `name` (one component, checked by the caller) of the directory dir_fd, an O_PATH
 * descriptor of the object itself, also of a symlink; *attr is filled. Mounts inside the source are
 * crossed, save our own: -ELOOP. *crossed: the child may be a mount point. The descriptor is the
 * caller's. Or -errno.
 */
int namespace_open(struct fs *fs, int dir_fd, const char *name, struct stat *attr, bool *crossed);

/*
 * inode_learn() of what fd is, and was when *attr was taken; fd is taken over, place as there.
 * generation is watch_generation() from before *attr was taken. entry is filled whole. 0 or -errno.
 */
int namespace_learn(struct fs *fs, int fd, const struct stat *attr, const struct inode_place *place,
	uint64_t generation, struct fuse_entry_param *entry);

/* The same of what is behind fd now, which stays the caller's. */
int namespace_learn_again(
	struct fs *fs, int fd, const struct inode_place *place, struct fuse_entry_param *entry);

/*
 * Looks name up in parent, whose descriptor is dir_fd, as fs_lookup_child() does. entry is filled
 * whole. 0 or -errno. The caller tells the kernel, or takes the count back with inode_forget().
 */
int namespace_lookup(struct fs *fs, fuse_ino_t parent, int dir_fd, const char *name,
	struct fuse_entry_param *entry);

/*
 * The same, but what is a mount point is -EXDEV. A listing asks so: what is mounted there may not
 * answer, which is of no concern to who only reads the directory.
 */
int namespace_lookup_here(struct fs *fs, fuse_ino_t parent, int dir_fd, const char *name,
	struct fuse_entry_param *entry);

/*
 * The kernel cannot be told of what was just made at name in dir_fd, for there is no memory or no
 * descriptor left (result). It would go on taking the name for free: what was made goes again. In
 * namespace.c.
 */
void namespace_unmake(struct fs *fs, int dir_fd, const char *name, bool directory, int result);

/* Answers with the entry, or with result where that is negative. What the kernel was not told it
 * does not know. */
void namespace_reply(fuse_req_t req, int result, const struct fuse_entry_param *entry);

#endif
