/* SPDX-License-Identifier: MIT */
/*
 * Work beside the loops, one piece after another on a thread of its own: what makes the kernel
 * write back or drop a file's pages. The kernel then waits for requests that the loops answer, so
 * no loop may wait for it. For src/fs only.
 */
#ifndef FS_ASIDE_H
#define FS_ASIDE_H

#include <fuse_lowlevel.h>

#include "base/list.h"

struct aside;
struct fs;

/* The session is there. *out is the caller's, freed by aside_free(). 0 or -errno. */
int aside_new(struct fs *fs, struct aside **out);

/* The loops have ended: ends the thread, having answered what was asked. */
void aside_free(struct aside *aside);

/*
 * lseek(SEEK_DATA or SEEK_HOLE) in a file of which the kernel may have pages that it has not
 * written back yet: they are, and the request is answered. Of the request only the reply handle is
 * used.
 */
void aside_seek(
	struct aside *aside, fuse_req_t req, fuse_ino_t ino, uint64_t fh, off_t off, int whence);

/* Somebody's own: the kernel drops attributes and len bytes from off on (0: all) that it caches of
 * ino, then done() is called on the thread, in which the job may go away. */
struct aside_job {
	struct list node;
	fuse_ino_t ino;
	off_t off, len;
	void (*done)(struct aside_job *job);
};

void aside_add(struct aside *aside, struct aside_job *job);

/* The kernel shall drop what it caches of ino: attributes and pages. */
void aside_drop(struct aside *aside, fuse_ino_t ino);

#endif
