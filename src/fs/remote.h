/* SPDX-License-Identifier: MIT */
/* Where the source lies. For src/fs and serve.c. */
#ifndef FS_REMOTE_H
#define FS_REMOTE_H

#include <stdbool.h>

/*
 * Whether others than this kernel's processes may change the file system of fd, or keep it from
 * answering: it is on a network or a cluster's disk, or served by a daemon.
 */
bool remote_source(int fd);

#endif
