/* SPDX-License-Identifier: MIT */
/*
 * What we tell the kernel unasked: that something it keeps is no longer so. For the watch.
 *
 * Written to the device raw: libfuse 3.14 does not know all of them, and its calls go by way of the
 * session. The kernel has done it when the call returns. Never from a loop thread: notify_entry()
 * waits for the directory's lock and notify_data() for pages that are being read or written, and
 * who holds these may be waiting for a loop's answer.
 *
 * All return 0 or -errno: -ENOENT where the kernel keeps nothing of it, -ENODEV and -ENOTCONN where
 * the mount is gone.
 */
#ifndef FS_NOTIFY_H
#define FS_NOTIFY_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * The name in the directory parent, whether it stood for something or for nothing. drop: it goes at
 * once, and whatever stands in or on it (a program's working directory, a mount) with it; else it
 * is asked for before it is next used, and goes if it is gone (before Linux 6.2: it is dropped).
 */
int notify_entry(int device, fuse_ino_t parent, const char *name, size_t length, bool drop);

/* Attributes and access control lists of ino. Waits for nobody. */
int notify_attr(int device, fuse_ino_t ino);

/* The same and all its data: pages of a file, the cached listing of a directory. */
int notify_data(int device, fuse_ino_t ino);

/* All names everywhere. Protocol 7.44, Linux 6.16. */
int notify_all_entries(int device);

#endif
