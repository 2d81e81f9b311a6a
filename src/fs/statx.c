/* SPDX-License-Identifier: MIT */
/*
 * STATX, which libfuse 3.14 does not know: attributes with the time of birth. Called by ops.c with
 * the message, before libfuse would see it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/file.h"
#include "fs/fs.h"
#include "fs/watch.h"

static struct abi_sx_time sx_time(const struct statx_timestamp *t)
{
	return (struct abi_sx_time){.tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec};
}

static void fill(struct fs *fs, struct abi_statx *to, const struct statx *from)
{
	struct stat number = {
		.st_ino = from->stx_ino,
		.st_dev = makedev(from->stx_dev_major, from->stx_dev_minor),
	};

	inode_number(fs->inodes, &number);
	*to = (struct abi_statx){
		.mask = from->stx_mask,
		.blksize = from->stx_blksize,
		.attributes = from->stx_attributes,
		.nlink = from->stx_nlink,
		.uid = from->stx_uid,
		.gid = from->stx_gid,
		.mode = from->stx_mode,
		.ino = number.st_ino,
		.size = from->stx_size,
		.blocks = from->stx_blocks,
		.attributes_mask = from->stx_attributes_mask,
		.atime = sx_time(&from->stx_atime),
		.btime = sx_time(&from->stx_btime),
		.ctime = sx_time(&from->stx_ctime),
		.mtime = sx_time(&from->stx_mtime),
		.rdev_major = from->stx_rdev_major,
		.rdev_minor = from->stx_rdev_minor,
	};
	/* Of the source's mount, not of this one. */
	to->attributes &= ~(uint64_t)STATX_ATTR_MOUNT_ROOT;
	to->attributes_mask &= ~(uint64_t)STATX_ATTR_MOUNT_ROOT;
}

static int statx_fd(int fd, const struct abi_statx_in *in, struct statx *out)
{
	int flags = AT_EMPTY_PATH | (int)(in->sx_flags & AT_STATX_SYNC_TYPE);
	unsigned mask = (in->sx_mask & (STATX_BASIC_STATS | STATX_BTIME)) | STATX_BASIC_STATS;

	return statx(fd, "", flags, mask, out) ? -errno : 0;
}

static int get(struct fs *fs, const struct fuse_in_header *header, struct statx *out)
{
	const struct abi_statx_in *in = (const struct abi_statx_in *)(header + 1);
	struct handle *handle = NULL;
	int fd;
	int result;

	if (in->getattr_flags & FUSE_GETATTR_FH)
		handle = handle_find(fs->handles, in->fh, header->nodeid);
	if (handle)
		return statx_fd(atomic_load(&handle->fd[handle->first]), in, out);
	fd = inode_get(fs->inodes, header->nodeid);
	if (fd < 0)
		return fd;
	result = statx_fd(fd, in, out);
	inode_put(fs->inodes, header->nodeid);
	return result;
}

void fs_statx(struct fs *fs, struct request *req)
{
	const struct fuse_in_header *header = request_message(req);
	struct fuse_out_header out = {.unique = req->unique};
	struct abi_statx_out body;
	struct statx attr;
	struct iovec iov[2] = {
		{.iov_base = &out, .iov_len = sizeof(out)},
		{.iov_base = &body, .iov_len = sizeof(body)},
	};
	int result;

	file_tell_attrs(fs, header->nodeid);
	result = fs->config.no_statx ? -ENOSYS : get(fs, header, &attr);
	memset(&body, 0, sizeof(body));
	if (!result) {
		double timeout =
			watch_attr_timeout(fs, makedev(attr.stx_dev_major, attr.stx_dev_minor));

		body.attr_valid = (uint64_t)timeout;
		body.attr_valid_nsec = (uint32_t)((timeout - (double)body.attr_valid) * 1e9);
		fill(fs, &body.stat, &attr);
	}
	out.error = result;
	out.len = (uint32_t)(sizeof(out) + (result ? 0 : sizeof(body)));
	loop_answer(iov, result ? 1 : 2);
}
