/* SPDX-License-Identifier: MIT */
/* Mounts that others make in the source, see watch_mounts.h. */
#include "fs/watch_mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/mountinfo.h"
#include "fs/file_id.h"

/* One look at the table of mounts. */
struct look {
	struct watch_mounts *mounts;
	struct stale *stale; /* NULL the first time: nothing is kept yet */
	unsigned *ids;
	size_t n_ids;
};

static bool is_known(const struct watch_mounts *mounts, unsigned id)
{
	for (size_t i = 0; i < mounts->n_known; i++)
		if (mounts->known[i] == id)
			return true;
	return false;
}

/* The node id of a directory of the source, by its path there; 0 where the kernel doesn't know it,
 * or where the path leads over another mount, as below a second mount at the same place. */
static fuse_ino_t find_directory(const struct watch_mounts *mounts, const char *path)
{
	struct open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	_cleanup_fd int fd = syscall(SYS_openat2, mounts->root_fd, path, &how, sizeof(how));
	struct stat st;

	return fd < 0 || fstat(fd, &st) ? 0 : inode_find(mounts->inodes, st.st_dev, st.st_ino);
}

static void make_stale(struct look *look, const char *point)
{
	char path[PATH_MAX];
	const char *source = look->mounts->source;
	size_t length = strlen(source);
	char *name;

	if (strncmp(point, source, length) || point[length] != '/')
		return;
	snprintf(path, sizeof(path), "./%s", point + length + 1);
	name = strrchr(path, '/');
	*name++ = '\0';
	stale_entry(look->stale, find_directory(look->mounts, path), name);
}

static void take(const struct mount_entry *mount, void *user)
{
	struct look *look = user;
	unsigned *grown;

	if (mount->parent != (unsigned)look->mounts->mount)
		return;
	grown = realloc(look->ids, (look->n_ids + 1) * sizeof(*grown));
	if (grown) {
		look->ids = grown;
		look->ids[look->n_ids++] = mount->id;
	}
	if (look->stale && !is_known(look->mounts, mount->id))
		make_stale(look, mount->point);
}

static void read_source_path(struct watch_mounts *mounts)
{
	char link[32];
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", mounts->root_fd);
	length = readlink(link, mounts->source, sizeof(mounts->source) - 1);
	mounts->source[length < 0 ? 0 : length] = '\0';
	/* Of the root, what is beneath begins with one slash. */
	if (!strcmp(mounts->source, "/"))
		mounts->source[0] = '\0';
}

void watch_mounts_look(struct watch_mounts *mounts, struct stale *stale)
{
	struct look look = {.mounts = mounts, .stale = stale};

	if (mountinfo_each_fd(mounts->fd, take, &look) < 0) {
		free(look.ids);
		return;
	}
	free(mounts->known);
	mounts->known = look.ids;
	mounts->n_known = look.n_ids;
}

int watch_mounts_open(struct watch_mounts *mounts, int root_fd, struct inode_table *inodes)
{
	struct file_id id;
	int result = file_id_of(root_fd, &id, &mounts->mount);

	if (result < 0)
		return result;
	mounts->root_fd = root_fd;
	mounts->inodes = inodes;
	mounts->fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);
	if (mounts->fd < 0)
		return -errno;
	read_source_path(mounts);
	watch_mounts_look(mounts, NULL);
	return 0;
}

void watch_mounts_close(struct watch_mounts *mounts)
{
	if (mounts->fd >= 0)
		close(mounts->fd);
	free(mounts->known);
}
