/* SPDX-License-Identifier: MIT */
/* Notifications to the kernel, see notify.h. For the watch. */
#include "fs/notify.h"

#include <errno.h>
#include <stdint.h>
#include <sys/uio.h>

#include "transport/abi.h"

/* A notification is an answer to nothing, its code in place of the error. iov[0] is ours. */
static int notify(int device, int code, struct iovec *iov, int count)
{
	struct fuse_out_header out = {.error = code};

	iov[0] = (struct iovec){.iov_base = &out, .iov_len = sizeof(out)};
	for (int i = 0; i < count; i++)
		out.len += (uint32_t)iov[i].iov_len;
	return writev(device, iov, count) < 0 ? -errno : 0;
}

int notify_entry(int device, fuse_ino_t parent, const char *name, size_t length, bool drop)
{
	struct fuse_notify_inval_entry_out entry = {
		.parent = parent,
		.namelen = (uint32_t)length,
		.flags = drop ? 0 : FUSE_EXPIRE_ONLY,
	};
	struct iovec iov[3] = {
		[1] = {.iov_base = &entry, .iov_len = sizeof(entry)},
		[2] = {.iov_base = (void *)name, .iov_len = length + 1},
	};

	return notify(device, FUSE_NOTIFY_INVAL_ENTRY, iov, 3);
}

static int notify_inode(int device, fuse_ino_t ino, int64_t from)
{
	/* From a negative offset on: attributes only. Length 0: to the end. */
	struct fuse_notify_inval_inode_out inode = {.ino = ino, .off = from};
	struct iovec iov[2] = {[1] = {.iov_base = &inode, .iov_len = sizeof(inode)}};

	return notify(device, FUSE_NOTIFY_INVAL_INODE, iov, 2);
}

int notify_attr(int device, fuse_ino_t ino)
{
	return notify_inode(device, ino, -1);
}

int notify_data(int device, fuse_ino_t ino)
{
	return notify_inode(device, ino, 0);
}

int notify_all_entries(int device)
{
	struct iovec iov[1];

	return notify(device, ABI_NOTIFY_INC_EPOCH, iov, 1);
}
