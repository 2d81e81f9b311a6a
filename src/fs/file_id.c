/* SPDX-License-Identifier: MIT */
/* File handles of the source, see file_id.h. For the inode table and the watch. */
#include "fs/file_id.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define NANOSECONDS INT64_C(1000000000)
/* Of the clock that file systems read; they seldom keep less than the whole of it, save those that
 * keep seconds. */
#define TICK (20 * INT64_C(1000000))

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

int file_id_born(const struct statx *stx, struct file_id *id)
{
	const struct statx_timestamp *born = &stx->stx_btime;
	struct timespec now;
	int64_t age;

	if (!(stx->stx_mask & STATX_BTIME) || born->tv_sec == 0)
		return -ENODATA;
	id->type = FILE_ID_BORN;
	id->len = sizeof(born->tv_sec) + sizeof(born->tv_nsec);
	memcpy(id->bytes, &born->tv_sec, sizeof(born->tv_sec));
	memcpy(id->bytes + sizeof(born->tv_sec), &born->tv_nsec, sizeof(born->tv_nsec));
	/* The clock that file systems take their times from. */
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	age = (now.tv_sec - born->tv_sec) * NANOSECONDS + now.tv_nsec - born->tv_nsec;
	return age > (born->tv_nsec ? TICK : 2 * NANOSECONDS) ? 0 : -EAGAIN;
}

bool file_id_equal(const struct file_id *a, const struct file_id *b)
{
	return a->type == b->type && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

bool file_id_matches(const struct file_id *id, int fd)
{
	struct file_id now;
	struct statx stx;
	int mount;

	if (id->type != FILE_ID_BORN)
		return file_id_of(fd, &now, &mount) == 0 && file_id_equal(&now, id);
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BTIME, &stx) < 0)
		return false;
	return file_id_born(&stx, &now) != -ENODATA && file_id_equal(&now, id);
}
