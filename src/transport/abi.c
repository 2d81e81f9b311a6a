/* SPDX-License-Identifier: MIT */
/* Checks on messages before anything interprets them; see abi.h. For the transports. */
#include "transport/abi.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* A message, header included: an argument of `arg` bytes and then `names` terminated strings. */
struct shape {
	uint16_t arg;
	uint8_t names;
};

/* By opcode; those not listed need no more than the header. */
static const struct shape shapes[] = {
	[FUSE_LOOKUP] = {0, 1},
	[FUSE_FORGET] = {sizeof(struct fuse_forget_in), 0},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in), 0},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in), 0},
	[FUSE_SYMLINK] = {0, 2},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1},
	[FUSE_UNLINK] = {0, 1},
	[FUSE_RMDIR] = {0, 1},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in), 0},
	[FUSE_READ] = {sizeof(struct fuse_read_in), 0},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in), 0},
	[FUSE_FSYNC] = {sizeof(struct fuse_fsync_in), 0},
	[FUSE_SETXATTR] = {FUSE_COMPAT_SETXATTR_IN_SIZE, 1},
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 1},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in), 0},
	[FUSE_REMOVEXATTR] = {0, 1},
	[FUSE_FLUSH] = {sizeof(struct fuse_flush_in), 0},
	/* Old kernels send only the first eight bytes: major and minor. */
	[FUSE_INIT] = {8, 0},
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in), 0},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in), 0},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in), 0},
	[FUSE_FSYNCDIR] = {sizeof(struct fuse_fsync_in), 0},
	[FUSE_GETLK] = {sizeof(struct fuse_lk_in), 0},
	[FUSE_SETLK] = {sizeof(struct fuse_lk_in), 0},
	[FUSE_SETLKW] = {sizeof(struct fuse_lk_in), 0},
	[FUSE_ACCESS] = {sizeof(struct fuse_access_in), 0},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1},
	[FUSE_INTERRUPT] = {sizeof(struct fuse_interrupt_in), 0},
	[FUSE_BMAP] = {sizeof(struct fuse_bmap_in), 0},
	[FUSE_IOCTL] = {sizeof(struct fuse_ioctl_in), 0},
	[FUSE_POLL] = {sizeof(struct fuse_poll_in), 0},
	[FUSE_NOTIFY_REPLY] = {sizeof(struct fuse_notify_retrieve_in), 0},
	[FUSE_BATCH_FORGET] = {sizeof(struct fuse_batch_forget_in), 0},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in), 0},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in), 0},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in), 0},
	[FUSE_COPY_FILE_RANGE] = {sizeof(struct fuse_copy_file_range_in), 0},
	[ABI_OP_TMPFILE] = {sizeof(struct fuse_create_in), 1},
	[ABI_OP_STATX] = {sizeof(struct abi_statx_in), 0},
};

/* Do `names` terminated strings lie within length bytes at p? *rest is what follows them. */
static bool names_end(const char *p, size_t length, unsigned names, size_t *rest)
{
	while (names--) {
		const char *end = memchr(p, '\0', length);

		if (!end)
			return false;
		length -= (size_t)(end - p) + 1;
		p = end + 1;
	}
	*rest = length;
	return true;
}

/* No offset beyond what off_t holds, no range that wraps. */
static bool range_ok(uint64_t offset, uint64_t size)
{
	return offset <= INT64_MAX && size <= (uint64_t)INT64_MAX - offset;
}

static int check_read(const struct fuse_read_in *in, size_t max_payload)
{
	return in->size <= max_payload && range_ok(in->offset, in->size) ? 0 : -EINVAL;
}

static int check_write(const struct fuse_write_in *in, size_t rest, size_t max_payload)
{
	if (in->size > rest || in->size > max_payload || !range_ok(in->offset, in->size))
		return -EINVAL;
	return 0;
}

static int check_copy(const struct fuse_copy_file_range_in *in)
{
	return range_ok(in->off_in, in->len) && range_ok(in->off_out, in->len) ? 0 : -EINVAL;
}

static int check_arguments(
	uint32_t opcode, const void *arg, size_t rest, size_t tail, size_t max_payload)
{
	switch (opcode) {
	case FUSE_READ:
		return check_read(arg, max_payload);
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		/* Directory offsets are cookies of the source, not positions. */
		return ((const struct fuse_read_in *)arg)->size <= max_payload ? 0 : -EINVAL;
	case FUSE_WRITE:
		return check_write(arg, rest, max_payload);
	case FUSE_SETXATTR:
		return ((const struct fuse_setxattr_in *)arg)->size <= tail ? 0 : -EINVAL;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		return ((const struct fuse_getxattr_in *)arg)->size <= max_payload ? 0 : -EINVAL;
	case FUSE_IOCTL:
		return ((const struct fuse_ioctl_in *)arg)->in_size <= rest &&
				       ((const struct fuse_ioctl_in *)arg)->out_size <= max_payload
			       ? 0
			       : -EINVAL;
	case FUSE_BATCH_FORGET:
		return ((const struct fuse_batch_forget_in *)arg)->count <=
				       rest / sizeof(struct fuse_forget_one)
			       ? 0
			       : -EINVAL;
	case FUSE_FALLOCATE:
		return range_ok(((const struct fuse_fallocate_in *)arg)->offset,
			       ((const struct fuse_fallocate_in *)arg)->length)
			       ? 0
			       : -EINVAL;
	case FUSE_COPY_FILE_RANGE:
		return check_copy(arg);
	default:
		return 0;
	}
}

int abi_check(const void *message, size_t length, size_t max_payload)
{
	const struct fuse_in_header *in = message;
	struct shape shape = {0, 0};
	const char *arg = (const char *)message + sizeof(*in);
	size_t rest;
	size_t tail = 0;

	if (length < sizeof(*in) || in->len != length)
		return -EPROTO;
	if (in->opcode < sizeof(shapes) / sizeof(shapes[0]))
		shape = shapes[in->opcode];
	rest = length - sizeof(*in);
	if (rest < shape.arg)
		return -EINVAL;
	rest -= shape.arg;
	if (shape.names && !names_end(arg + shape.arg, rest, shape.names, &tail))
		return -EINVAL;
	return check_arguments(in->opcode, arg, rest, tail, max_payload);
}

size_t abi_payload(const void *message)
{
	const struct fuse_in_header *in = message;
	const struct fuse_read_in *read = (const void *)(in + 1);

	if (in->opcode == FUSE_READ || in->opcode == FUSE_READDIR || in->opcode == FUSE_READDIRPLUS)
		return read->size;
	return in->len - sizeof(*in);
}
