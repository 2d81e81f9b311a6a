/* SPDX-License-Identifier: MIT */
/*
 * ioctls: inode flags, project id, generation; no other one ever reaches the source. Called by
 * libfuse through ops.c.
 *
 * Programs ask for flags by FS_IOC_GETFLAGS and the like; the kernel checks the caller's right to
 * change them and sends us the call with the size of the value itself, which for the flags and the
 * generation is 4 bytes whatever the command's number says (it says long).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/outside.h"
#include "fs/inode.h"

/* An allowed command: its number for the source, and how many bytes go which way. */
struct command {
	unsigned long number;
	size_t in, out;
};

static bool find_command(unsigned cmd, struct command *out)
{
	switch (cmd) {
	case FS_IOC_GETFLAGS:
	case FS_IOC32_GETFLAGS:
		*out = (struct command){FS_IOC_GETFLAGS, .out = sizeof(int)};
		return true;
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
		*out = (struct command){FS_IOC_SETFLAGS, .in = sizeof(int)};
		return true;
	case FS_IOC_GETVERSION:
	case FS_IOC32_GETVERSION:
		*out = (struct command){FS_IOC_GETVERSION, .out = sizeof(int)};
		return true;
	case FS_IOC_FSGETXATTR:
		*out = (struct command){FS_IOC_FSGETXATTR, .out = sizeof(struct fsxattr)};
		return true;
	case FS_IOC_FSSETXATTR:
		*out = (struct command){FS_IOC_FSSETXATTR, .in = sizeof(struct fsxattr)};
		return true;
	}
	return false;
}

/* Only regular files and directories are opened: elsewhere ioctls are a driver's. */
static int open_object(struct fs *fs, fuse_ino_t ino)
{
	mode_t type = inode_type(fs->inodes, ino);
	char number[16];
	int fd, opened;

	if (!S_ISREG(type) && !S_ISDIR(type))
		return type ? -ENOTTY : -ESTALE;
	fd = inode_get(fs->inodes, ino);
	if (fd < 0)
		return fd;
	snprintf(number, sizeof(number), "%d", fd);
	opened = openat(fs->proc_fd, number, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (opened < 0)
		opened = -errno;
	inode_put(fs->inodes, ino);
	return opened;
}

/* value: the command's argument, in and out. */
static int run(
	struct fs *fs, fuse_ino_t ino, struct fuse_file_info *fi, unsigned long number, void *value)
{
	struct handle *handle = fi ? handle_find(fs->handles, fi->fh, ino) : NULL;
	_cleanup_fd int opened = -1;
	int fd;

	if (handle)
		fd = atomic_load(&handle->fd[handle->first]);
	else
		fd = opened = open_object(fs, ino);
	if (fd < 0)
		return fd;
	return ioctl(fd, number, value) < 0 ? -errno : 0;
}

void fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	unsigned flags, const void *in_buf, size_t in_bufsz, size_t out_bufsz)
{
	union {
		long number;
		struct fsxattr fsx;
	} value = {0};
	struct command command;
	int result;

	(void)arg; /* an address of the caller's, not ours */
	if (flags & FUSE_IOCTL_UNRESTRICTED || !find_command(cmd, &command)) {
		fs_reply(req, -ENOTTY);
		return;
	}
	if (in_bufsz < command.in || out_bufsz < command.out) {
		fs_reply(req, -EINVAL);
		return;
	}
	if (command.in)
		memcpy(&value, in_buf, command.in);
	change_begin(fs_of(req));
	result = run(fs_of(req), ino, fi, command.number, &value);
	if (command.in)
		change_end(fs_of(req), ino);
	else
		change_over(fs_of(req));
	/* The kernel doesn't know that this moved the time of change. */
	if (result == 0 && command.in)
		file_forget_attrs(fs_of(req), ino);
	if (result < 0)
		fs_reply(req, result);
	else
		fuse_reply_ioctl(req, 0, command.out ? &value : NULL, command.out);
}
