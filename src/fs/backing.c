/* SPDX-License-Identifier: MIT */
/* -o passthrough; see backing.h. For src/fs only. */
#include "fs/backing.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "fs/fs.h"
#include "transport/abi.h"

static int open_backing(struct fs *fs, int fd)
{
	struct abi_backing_map map = {.fd = fd};
	int id = ioctl(fuse_session_fd(fs->session), ABI_IOC_BACKING_OPEN, &map);

	if (id > 0)
		return id;
	if (!atomic_exchange(&fs->backing_refused, true))
		log_warning("passthrough: the kernel takes some files not, which are served by "
			    "requests: %s%s",
			id < 0 ? strerror(errno) : "no number",
			errno == ELOOP ? " (the source is itself a file system over another)" : "");
	return -1;
}

int backing_of(struct fs *fs, struct file *file, int fd)
{
	int id;

	pthread_mutex_lock(&file->lock);
	if (!file->mark->backing)
		file->mark->backing = open_backing(fs, fd);
	id = file->mark->backing;
	pthread_mutex_unlock(&file->lock);
	return id > 0 ? id : 0;
}

void backing_free(struct fs *fs, struct file *file)
{
	uint32_t id = (uint32_t)file->mark->backing;

	/* After the end of the mount it is gone already. */
	if (file->mark->backing > 0)
		ioctl(fuse_session_fd(fs->session), ABI_IOC_BACKING_CLOSE, &id);
}
