/* SPDX-License-Identifier: MIT */
/*
 * Taking set-user-id and set-group-id bits away from files that an ordinary caller changes. For
 * src/fs only.
 *
 * The mount promises it to the kernel (FUSE_HANDLE_KILLPRIV_V2), which then need not ask for an
 * xattr before every write. The source's file system removes security.capability by itself, whoever
 * writes, but leaves the bits to a daemon that is root.
 */
#ifndef FS_PRIV_H
#define FS_PRIV_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

/* Does the WRITE, OPEN, CREATE or SETATTR being dispatched ask for it (libfuse 3.14 does not say)?
 */
bool priv_kill_asked(void);

/* For changes that come without the question (fallocate, copy_file_range): may the caller keep the
 * bits? */
bool priv_kill_due(fuse_req_t req);

/*
 * Takes the bits from the open regular file fd of ino, where it has them, and tells the kernel,
 * which may know an older mode. Before the change, as the kernel does.
 */
void priv_kill(fuse_req_t req, fuse_ino_t ino, int fd);

#endif
