/* SPDX-License-Identifier: MIT */
/* Changes of the source by others; see outside.h. For src/fs only. */
#include "fs/outside.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/aside.h"
#include "fs/file.h"
#include "fs/fs.h"

/* Each is counted; so many are worth a line of their own. */
#define LOGGED_MOST 100

int64_t change_time(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

int64_t change_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return change_time(&now);
}

void change_begin(struct fs *fs)
{
	if (fs->config.exclusive)
		atomic_fetch_add(&fs->changing, 1);
}

static void raise_to(_Atomic int64_t *value, int64_t to)
{
	int64_t now = atomic_load(value);

	while (now < to && !atomic_compare_exchange_weak(value, &now, to))
		;
}

void change_end(struct fs *fs, fuse_ino_t ino)
{
	if (!fs->config.exclusive)
		return;
	if (ino) {
		inode_changed(fs->inodes, ino, change_now());
		file_changed(fs, ino);
	} else {
		raise_to(&fs->names_changed_at, change_now());
		atomic_fetch_add(&fs->names_changed, 1);
	}
	change_over(fs);
}

void change_made(struct fs *fs)
{
	if (fs->config.exclusive)
		raise_to(&fs->names_changed_at, change_now());
	change_over(fs);
}

void change_over(struct fs *fs)
{
	if (fs->config.exclusive)
		atomic_fetch_sub(&fs->changing, 1);
}

static void tell(struct fs *fs, fuse_ino_t ino, int fd)
{
	uint64_t n = atomic_fetch_add(&fs->outside, 1) + 1;
	char number[16];
	char path[PATH_MAX];
	ssize_t length;

	if (n > LOGGED_MOST)
		return;
	snprintf(number, sizeof(number), "%d", fd);
	length = readlinkat(fs->proc_fd, number, path, sizeof(path) - 1);
	path[length < 0 ? 0 : length] = '\0';
	log_warning(
		"%s (inode %llu) was changed by somebody else although the mount is exclusive: "
		"dropping what is cached of it; sharing=shared is for sources that others change%s",
		path, (unsigned long long)ino,
		n == LOGGED_MOST ? "; further ones are only counted" : "");
}

void outside_check(struct fs *fs, fuse_ino_t ino, int fd, const struct stat *attr, int64_t data)
{
	int64_t ctime = change_time(&attr->st_ctim);

	if (!fs->config.exclusive || ctime <= data || ctime <= atomic_load(&fs->names_changed_at) ||
		atomic_load(&fs->changing) || !inode_news(fs->inodes, ino, ctime))
		return;
	tell(fs, ino, fd);
	file_overtaken(fs, ino);
	aside_drop(fs->aside, ino);
}

uint64_t outside_count(const struct fs *fs)
{
	return atomic_load(&fs->outside);
}
