/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes. Called by libfuse through ops.c.
 *
 * The calls take paths, so they go through the links in /proc/self/fd, which lead to the object
 * itself without opening it: symlinks and special files included. ENOSYS is never answered: the
 * kernel would not ask again.
 */
#include <errno.h>
#include <linux/limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "fs/cred.h"
#include "fs/fs.h"
#include "fs/journal.h"
#include "fs/outside.h"
#include "fs/inode.h"

/* linux/xattr.h has it, but does not go together with sys/xattr.h everywhere. */
#define TRUSTED "trusted."

/* Path of an object while its inode is pinned. */
struct target {
	fuse_ino_t ino;
	char path[16];
};

static int target_get(struct fs *fs, fuse_ino_t ino, struct target *t)
{
	int fd = inode_get(fs->inodes, ino);

	if (fd < 0)
		return fd;
	t->ino = ino;
	/* The loops' working directory is proc_fd: no call takes it and a number. */
	snprintf(t->path, sizeof(t->path), "%d", fd);
	return 0;
}

static void target_put(struct fs *fs, struct target *t)
{
	inode_put(fs->inodes, t->ino);
}

static int error_of_call(void)
{
	return errno == ENOSYS ? -EOPNOTSUPP : -errno;
}

/* The answer of getxattr and listxattr: the size alone, or the bytes. result: their number, or
 * -errno. */
static void reply_bytes(fuse_req_t req, ssize_t result, size_t wanted, const void *bytes)
{
	if (result < 0)
		fs_reply(req, result);
	else if (wanted == 0)
		fuse_reply_xattr(req, result);
	else if ((size_t)result > wanted)
		fs_reply(req, -ERANGE);
	else
		fuse_reply_buf(req, bytes, result);
}

static size_t at_most(size_t size, size_t limit)
{
	return size < limit ? size : limit;
}

void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	void *bytes = fs_answer_buffer(req);
	struct target target;
	ssize_t result = target_get(fs, ino, &target);

	if (result == 0) {
		/* The kernel has taken in the name before it writes the value, maybe over it. */
		result = getxattr(target.path, name, size ? bytes : NULL,
			at_most(size, fs->config.max_write));
		if (result < 0)
			result = error_of_call();
		target_put(fs, &target);
	}
	reply_bytes(req, result, size, bytes);
}

/* Takes names out that only the privileged see, as the kernel does for a caller without
 * CAP_SYS_ADMIN. */
static ssize_t hide_trusted(char *names, ssize_t size)
{
	ssize_t kept = 0;

	for (ssize_t i = 0; i < size;) {
		ssize_t length = strnlen(names + i, size - i) + 1;

		if (length > size - i) /* cannot be: each name ends with a zero */
			length = size - i;
		if (strncmp(names + i, TRUSTED, strlen(TRUSTED)) != 0) {
			memmove(names + kept, names + i, length);
			kept += length;
		}
		i += length;
	}
	return kept;
}

void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fs *fs = fs_of(req);
	char *names = fs_answer_buffer(req);
	bool hide = fs->config.privileged && fuse_req_ctx(req)->uid != 0;
	struct target target;
	ssize_t result = target_get(fs, ino, &target);

	if (result == 0) {
		/* The size of what is left after hiding is known from the whole list only. */
		size_t room = hide ? fs->config.max_write : at_most(size, fs->config.max_write);

		result = listxattr(target.path, room ? names : NULL, room);
		if (result < 0)
			result = error_of_call();
		else if (hide)
			result = hide_trusted(names, result);
		target_put(fs, &target);
	}
	reply_bytes(req, result, size, names);
}

/*
 * An access list is a change of mode: set-group-id goes where the caller is not of the group. The
 * source would see to it, if it were not root who sets the list.
 */
static void drop_sgid(fuse_req_t req, const char *path)
{
	struct fs *fs = fs_of(req);
	struct stat st;

	if (!fs->config.privileged || fuse_req_ctx(req)->uid == 0 || stat(path, &st) < 0)
		return;
	if (st.st_mode & S_ISGID && !cred_caller_in_group(req, st.st_gid))
		chmod(path, st.st_mode & 07777 & ~S_ISGID);
}

struct attribute {
	const char *name, *value;
	size_t size;
};

static bool has_attribute(const char *path, const struct attribute *attribute)
{
	char value[XATTR_SIZE_MAX];

	return getxattr(path, attribute->name, value, sizeof(value)) == (ssize_t)attribute->size &&
	       memcmp(value, attribute->value, attribute->size) == 0;
}

static int set_once(struct fs *fs, const char *path, const struct attribute *attribute, int flags)
{
	struct change change;
	int result = 0;

	journal_begin(fs, &change);
	if (change.past == PAST_ENDED)
		result = change.result;
	else if (setxattr(path, attribute->name, attribute->value, attribute->size, flags) < 0)
		result = error_of_call();
	if (result == -EEXIST && change.past == PAST_BEGUN && has_attribute(path, attribute))
		result = 0;
	journal_end(&change, result);
	return result;
}

static int remove_once(struct fs *fs, const char *path, const char *name)
{
	struct change change;
	int result = 0;

	journal_begin(fs, &change);
	if (change.past == PAST_ENDED)
		result = change.result;
	else if (removexattr(path, name) < 0)
		result = error_of_call();
	/* It may have been there, and the first try have taken it. */
	if (result == -ENODATA && change.past == PAST_BEGUN)
		result = 0;
	journal_end(&change, result);
	return result;
}

void fs_setxattr(
	fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fs *fs = fs_of(req);
	struct target target;
	int result = target_get(fs, ino, &target);

	if (result == 0) {
		change_begin(fs);
		result = set_once(fs, target.path, &(struct attribute){name, value, size}, flags);
		if (result == 0 && strcmp(name, "system.posix_acl_access") == 0)
			drop_sgid(req, target.path);
		change_end(fs, ino);
		target_put(fs, &target);
	}
	fs_reply(req, result);
}

void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = fs_of(req);
	struct target target;
	int result = target_get(fs, ino, &target);

	if (result == 0) {
		change_begin(fs);
		result = remove_once(fs, target.path, name);
		change_end(fs, ino);
		target_put(fs, &target);
	}
	fs_reply(req, result);
}
