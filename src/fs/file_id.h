/* SPDX-License-Identifier: MIT */
/*
 * File handles of the source, as name_to_handle_at(2) gives them: an object's identity, which a
 * recycled inode number does not share. For the inode table and the watch.
 */
#ifndef FS_FILE_ID_H
#define FS_FILE_ID_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
	FILE_ID_BYTES = 40,
	FILE_ID_BORN = -1, /* no handle: the time of birth, where there are none */
};

/* What open_by_handle_at() takes. */
struct file_id {
	int32_t type; /* of the handle, or FILE_ID_BORN */
	uint8_t len;
	uint8_t bytes[FILE_ID_BYTES];
};

/* Of the object behind fd, which may be O_PATH. *mount is its mount's id. 0 or -errno. */
int file_id_of(int fd, struct file_id *id, int *mount);

/* An O_PATH descriptor, or -errno: -ESTALE for an object that is gone. Needs CAP_DAC_READ_SEARCH.
 */
int file_id_open(int root_fd, const struct file_id *id);

/*
 * Where there are no handles (overlayfs): with device and inode number, the time of birth, of an
 * object that is older than the clock's tick. Who gets its inode number after it is younger then.
 * -EAGAIN: too young as yet; -ENODATA: the source does not tell.
 */
int file_id_born(const struct statx *stx, struct file_id *id);

bool file_id_equal(const struct file_id *a, const struct file_id *b);

/* Whether fd is of the object with this id, given that device and inode number agree. */
bool file_id_matches(const struct file_id *id, int fd);

#endif
