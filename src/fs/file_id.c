/* SPDX-License-Identifier: MIT */
/* File handles of the source, see file_id.h. For the inode table only. */
#include "fs/file_id.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

int file_id_of(int fd, struct file_id *id, int *mount)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + FILE_ID_BYTES];
	} u;

	u.handle.handle_bytes = FILE_ID_BYTES;
	if (name_to_handle_at(fd, "", &u.handle, mount, AT_EMPTY_PATH) < 0)
		return -errno;
	id->type = u.handle.handle_type;
	id->len = u.handle.handle_bytes;
	memcpy(id->bytes, u.handle.f_handle, id->len);
	return 0;
}

int file_id_open(int root_fd, const struct file_id *id)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + FILE_ID_BYTES];
	} u;
	int fd;

	u.handle.handle_type = id->type;
	u.handle.handle_bytes = id->len;
	memcpy(u.handle.f_handle, id->bytes, id->len);
	fd = open_by_handle_at(root_fd, &u.handle, O_PATH | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

bool file_id_equal(const struct file_id *a, const struct file_id *b)
{
	return a->type == b->type && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}
