/* SPDX-License-Identifier: MIT */
/* Taking set-id bits away; see priv.h. */
#include "fs/priv.h"

#include <sys/stat.h>

#include "fs/cred.h"
#include "fs/file.h"
#include "fs/fs.h"

bool priv_kill_asked(void)
{
	const struct request *req = loop_current();
	const struct fuse_in_header *header = request_message(req);
	const void *arg = header + 1;

	switch (req->opcode) {
	case FUSE_WRITE:
		return ((const struct fuse_write_in *)arg)->write_flags & FUSE_WRITE_KILL_SUIDGID;
	case FUSE_OPEN:
		return ((const struct fuse_open_in *)arg)->open_flags & FUSE_OPEN_KILL_SUIDGID;
	case FUSE_CREATE:
		return ((const struct fuse_create_in *)arg)->open_flags & FUSE_OPEN_KILL_SUIDGID;
	case FUSE_SETATTR:
		return ((const struct fuse_setattr_in *)arg)->valid & FATTR_KILL_SUIDGID;
	default:
		return false;
	}
}

bool priv_kill_due(fuse_req_t req)
{
	/* CAP_FSETID cannot be asked for in another's name: root has it. */
	return fuse_req_ctx(req)->uid != 0;
}

void priv_kill(fuse_req_t req, fuse_ino_t ino, int fd)
{
	const struct fs *fs = fs_of(req);
	struct stat st;
	mode_t bits;

	/* Without CAP_FSETID of our own the source does it. */
	if (!fs->config.privileged || fstat(fd, &st))
		return;
	bits = st.st_mode & S_ISUID;
	/* Without group execution the bit is no identity: members of the group may keep it. */
	if ((st.st_mode & S_ISGID) &&
		((st.st_mode & S_IXGRP) || !cred_caller_in_group(req, st.st_gid)))
		bits |= S_ISGID;
	if (!bits || fchmod(fd, (st.st_mode & 07777) & ~bits))
		return;
	file_forget_attrs(fs, ino);
}
