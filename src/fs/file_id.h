/* SPDX-License-Identifier: MIT */
/*
 * File handles of the source, as name_to_handle_at(2) gives them: an object's identity, which a
 * recycled inode number does not share. For the inode table only.
 */
#ifndef FS_FILE_ID_H
#define FS_FILE_ID_H

#include <stdbool.h>
#include <stdint.h>

enum { FILE_ID_BYTES = 40 };

/* What open_by_handle_at() takes. */
struct file_id {
	int32_t type;
	uint8_t len;
	uint8_t bytes[FILE_ID_BYTES];
};

/* Of the object behind fd, which may be O_PATH. *mount is its mount's id. 0 or -errno. */
int file_id_of(int fd, struct file_id *id, int *mount);

/* An O_PATH descriptor, or -errno: -ESTALE for an object that is gone. Needs CAP_DAC_READ_SEARCH.
 */
int file_id_open(int root_fd, const struct file_id *id);

bool file_id_equal(const struct file_id *a, const struct file_id *b);

#endif
