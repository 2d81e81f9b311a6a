/* SPDX-License-Identifier: MIT */
/* Node ids that outlive the mount, see lasting.h. For the inode table. */
#include "fs/lasting.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/mountinfo.h"

/* Forms of handles, by their types in <linux/exportfs.h> and XFS. */
enum {
	INO32_GEN = 1,
	INO64_GEN = 0x81,
};

struct ino32_gen {
	uint32_t ino;
	uint32_t generation;
};

struct __attribute__((packed)) ino64_gen {
	uint64_t ino;
	uint32_t generation;
};

static bool is_whole(int root_fd, int mount)
{
	_cleanup_free struct mount_entry *entry = malloc(sizeof(*entry));
	struct statx stx;

	return entry && mountinfo_find_id(MOUNTINFO, mount, entry) == 0 &&
	       !strcmp(entry->root, "/") &&
	       statx(root_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, 0, &stx) == 0 &&
	       stx.stx_attributes & STATX_ATTR_MOUNT_ROOT;
}

int lasting_form(int root_fd, const struct file_id *root, int mount)
{
	bool known = (root->type == INO32_GEN && root->len == sizeof(struct ino32_gen)) ||
		     (root->type == INO64_GEN && root->len == sizeof(struct ino64_gen));

	return known && is_whole(root_fd, mount) ? root->type : NOT_LASTING;
}

fuse_ino_t lasting_number(int form, const struct file_id *id)
{
	struct ino32_gen small;
	struct ino64_gen big;

	if (id->type != form)
		return 0;
	if (form == INO64_GEN) {
		memcpy(&big, id->bytes, sizeof(big));
		if (big.ino > UINT32_MAX)
			return 0;
		small = (struct ino32_gen){big.ino, big.generation};
	} else {
		memcpy(&small, id->bytes, sizeof(small));
	}
	return small.generation ? (fuse_ino_t)small.generation << 32 | small.ino : 0;
}

struct file_id lasting_id(int form, fuse_ino_t ino)
{
	struct ino32_gen small = {(uint32_t)ino, ino >> 32};
	struct ino64_gen big = {small.ino, small.generation};
	struct file_id id = {.type = form};

	id.len = form == INO64_GEN ? sizeof(big) : sizeof(small);
	memcpy(id.bytes, form == INO64_GEN ? (void *)&big : (void *)&small, id.len);
	return id;
}
