/* SPDX-License-Identifier: MIT */
/*
 * Finding an object of the source again after its descriptor was closed. For the inode table, and
 * open_on_mount() for namespace.c. No state.
 *
 * What is found is compared with what is known of the object, without asking a file system that
 * may not answer: nothing else is ever taken for it.
 */
#ifndef FS_REOPEN_H
#define FS_REOPEN_H

#include <limits.h>
#include <stdint.h>

#include "fs/file_id.h"

/* What is known of an object. */
struct object {
	uint64_t dev, ino;
	uint8_t type; /* S_IFMT >> 12 */
	struct file_id id;
};

/* The child `name` of a directory, as an O_PATH descriptor, if it is on the directory's own mount;
 * else -EXDEV, or -errno. */
int open_on_mount(int dir_fd, const char *name);

/* Both return an O_PATH descriptor, or -errno: -ESTALE where the object is not to be found. */
int reopen_by_handle(int root_fd, const struct object *want);
/*
 * In the directory dir_fd, on its mount: by name, or where that leads to something else, by
 * listing the directory; name becomes the one that led to it.
 */
int reopen_by_name(int dir_fd, char name[NAME_MAX + 1], const struct object *want);

#endif
