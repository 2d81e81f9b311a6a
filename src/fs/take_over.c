/* SPDX-License-Identifier: MIT */
/*
 * Going on where a process that died has left off: its tables from shared memory, its descriptors,
 * its agreement with the kernel. Called by serve.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "fs/fs.h"
#include "fs/file.h"
#include "fs/inode.h"
#include "fs/journal.h"
#include "fs/lock.h"
#include "fs/watch.h"

/* ---- descriptors ---- */

/* A bit for each descriptor that is somebody's. */
struct in_use {
	uint64_t *bits;
	size_t count;
};

static void note_in_use(int fd, void *arg)
{
	struct in_use *in_use = arg;

	if (fd >= 0 && (size_t)fd < in_use->count)
		in_use->bits[fd / 64] |= UINT64_C(1) << fd % 64;
}

static void note_handles(struct fs *fs, struct in_use *in_use)
{
	for (uint32_t n = 0; n < handle_slots(fs->handles); n++) {
		struct handle *handle = handle_at(fs->handles, n);

		for (int i = 0; handle && i < FD_VARIANTS; i++)
			note_in_use(atomic_load(&handle->fd[i]), in_use);
	}
}

/* Whether a descriptor is what its handle says it is. */
static bool is_of_inode(int fd, fuse_ino_t ino, void *arg)
{
	struct fs *fs = arg;

	return inode_is(fs->inodes, ino, fd);
}

static int close_if_stray(int fd, void *arg)
{
	const struct in_use *in_use = arg;

	if ((size_t)fd < in_use->count && !(in_use->bits[fd / 64] >> fd % 64 & 1))
		close(fd);
	return 0;
}

/* Closes what is open and nobody's. */
static int close_strays(struct fs *fs, const int *keep, size_t count)
{
	struct in_use in_use = {.count = 1u << 20};
	int result;

	in_use.bits = calloc(in_use.count / 64, sizeof(*in_use.bits));
	if (!in_use.bits)
		return -ENOMEM;
	for (size_t n = 0; n < count; n++)
		note_in_use(keep[n], &in_use);
	note_in_use(fs->proc_fd, &in_use);
	inode_each_fd(fs->inodes, note_in_use, &in_use);
	note_handles(fs, &in_use);
	result = locks_recover(fs, note_in_use, &in_use);
	if (result == 0)
		result = descriptors_each(fs->proc_fd, close_if_stray, &in_use);
	free(in_use.bits);
	return result;
}

/* ---- the kernel ---- */

/* libfuse learns what the kernel and our predecessor have agreed to. */
static int agree_again(struct fs *fs)
{
	_Alignas(8) char message[JOURNAL_INIT_MAX];
	struct fuse_buf buf = {.mem = message};

	buf.size = journal_get_init(fs->journal, message, sizeof(message));
	/* It died before the kernel had asked: it asks us. */
	if (!buf.size)
		return 0;
	fs->init_again = (struct fuse_in_header *)message;
	fuse_session_process_buf(fs->session, &buf);
	fs->init_again = NULL;
	return atomic_load(&fs->answering) ? 0 : -EPROTO;
}

/* The kernel hands out again what was not answered: before anybody takes a new request, which would
 * be handed out twice. */
static int have_resent(struct fs *fs)
{
	struct fuse_out_header out = {
		.len = sizeof(out),
		.error = ABI_NOTIFY_RESEND,
	};

	return write(fuse_session_fd(fs->session), &out, sizeof(out)) < 0 ? -errno : 0;
}

int fs_take_over(struct fs *fs, const int *keep, size_t count)
{
	const char *what = "what was known";
	int result = inode_recover(fs->inodes);

	if (result == 0) {
		handle_recover(fs->handles, is_of_inode, fs);
		what = "open files";
		result = file_recover(fs);
	}
	if (result == 0) {
		what = "descriptors";
		result = close_strays(fs, keep, count);
	}
	if (result == 0) {
		what = "the agreement with the kernel";
		watch_taken_over(fs->watch);
		result = agree_again(fs);
	}
	if (result == 0 && atomic_load(&fs->answering))
		result = have_resent(fs);
	if (result < 0)
		log_error("cannot take over %s: %s", what, strerror(-result));
	else if (inode_damaged(fs->inodes))
		log_error("%llu objects were left damaged and answer EIO until they are looked up "
			  "anew",
			(unsigned long long)inode_damaged(fs->inodes));
	return result;
}
