/* SPDX-License-Identifier: MIT */
/* See descriptors.h. */
#include "base/descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int descriptors_each(int dir_fd, int (*visit)(int fd, void *user), void *user)
{
	int fd = openat(
		dir_fd, dir_fd < 0 ? "/proc/self/fd" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int result = 0;

	if (!dir) {
		result = -errno;
		if (fd >= 0)
			close(fd);
		return result;
	}
	while (result == 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != fd)
			result = visit(atoi(entry->d_name), user);
	closedir(dir);
	return result;
}
