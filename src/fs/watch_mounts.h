/* SPDX-License-Identifier: MIT */
/*
 * Mounts that others make on directories of the source: a name that the kernel keeps for good leads
 * elsewhere then. For watch.c, on the watch's thread once it runs.
 *
 * Only those right on the source's own mount matter: what lies on another has short timeouts. So
 * has a mount point once it was looked up, so an unmount needs no notice.
 */
#ifndef FS_WATCH_MOUNTS_H
#define FS_WATCH_MOUNTS_H

#include <limits.h>
#include <stddef.h>

#include "fs/inode.h"
#include "fs/stale.h"

struct watch_mounts {
	/* The table of mounts as it is seen from where we were started; to poll for POLLPRI: it has
	 * changed; -1 before the opening. */
	int fd;
	char source[PATH_MAX]; /* the source's path at the start, seen from there */
	int root_fd;
	struct inode_table *inodes;
	int mount; /* the source's mount */
	unsigned *known; /* ids of the mounts on it, as of the last look */
	size_t n_known;
};

/* root_fd and inodes are the caller's, and outlive it. 0 or -errno; the closing is due either way.
 */
int watch_mounts_open(struct watch_mounts *mounts, int root_fd, struct inode_table *inodes);
void watch_mounts_close(struct watch_mounts *mounts);

/* Makes the names stale that are mount points since the last look. */
void watch_mounts_look(struct watch_mounts *mounts, struct stale *stale);

#endif
