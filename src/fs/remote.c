/* SPDX-License-Identifier: MIT */
/* Where the source lies, see remote.h. */
#include "fs/remote.h"

#include <linux/magic.h>
#include <stdint.h>
#include <sys/statfs.h>

/* Not in linux/magic.h; from statfs(2) and the kernel's sources. */
#define GFS2_SUPER_MAGIC     0x01161970
#define LUSTRE_SUPER_MAGIC   0x0bd00bd0
#define ORANGEFS_SUPER_MAGIC 0x20030528
#define VBOXSF_SUPER_MAGIC   0x786f4256

bool remote_source(int fd)
{
	struct statfs st;

	if (fstatfs(fd, &st))
		return false;
	switch ((uint32_t)st.f_type) {
	case AFS_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case CODA_SUPER_MAGIC:
	case FUSE_SUPER_MAGIC:
	case GFS2_SUPER_MAGIC:
	case LUSTRE_SUPER_MAGIC:
	case NFS_SUPER_MAGIC:
	case OCFS2_SUPER_MAGIC:
	case ORANGEFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case V9FS_MAGIC:
	case VBOXSF_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}
