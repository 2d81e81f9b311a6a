/* SPDX-License-Identifier: MIT */
/*
 * Directories whose listing had better not be kept: the kernel then lists them anew, and is told
 * the attributes of all that is in them along with the names. For src/fs only.
 *
 * With the writeback cache the kernel drops what it knows of a file's blocks at each close, so a
 * program that opens file after file of a directory (grep -r) makes the next one to stat them ask
 * for each again. Where such questions come, or are to come after this since file after file is
 * read for the first time, the listing is dropped before it is wanted next: one answer instead of
 * many. Every few times it is kept all the same; where no question comes after that, it was
 * needless.
 */
#ifndef FS_RELIST_H
#define FS_RELIST_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct fs;
struct relist;

/* The caller's, freed by relist_free(). Without memory NULL, with which one does as well. */
struct relist *relist_new(struct fs *fs);
void relist_free(struct relist *relist);

/* All that follows does nothing with NULL. Any thread. */

/* child was found in parent. */
void relist_found(struct relist *relist, fuse_ino_t parent, fuse_ino_t child);
/* The kernel has asked for the attributes of a regular file that it knows, or reads it from its
 * beginning. */
void relist_asked(struct relist *relist, fuse_ino_t ino);
/* A part of dir's listing is on its way to the kernel. ends: there is no more. */
void relist_listed(struct relist *relist, fuse_ino_t dir, bool ends);

#endif
