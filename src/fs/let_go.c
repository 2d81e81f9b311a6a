/* SPDX-License-Identifier: MIT */
/*
 * What the kernel lets go of: forgotten objects, closed files and directories. Called by ops.c.
 *
 * These must not fail, for nobody asks again, and what was not let go of would stay for good. So
 * they do not go by way of libfuse, which needs memory for each message.
 */
#include "fs/fs.h"
#include "loop/loop.h"
#include "transport/request.h"

/* Forgotten objects between two looks at what else has ended: the last descriptor of one that was
 * deleted frees its blocks. */
#define FORGETS_AT_ONCE 16

static void forget_many(struct fs *fs, const struct fuse_batch_forget_in *batch)
{
	const struct fuse_forget_one *one = (const struct fuse_forget_one *)(batch + 1);

	for (uint32_t i = 0; i < batch->count; i++) {
		fs_forget(fs, one[i].nodeid, one[i].nlookup);
		if (i % FORGETS_AT_ONCE == FORGETS_AT_ONCE - 1)
			loop_breathe();
	}
}

static void answer(const struct request *req, int result)
{
	struct fuse_out_header out = {
		.len = sizeof(out),
		.error = result,
		.unique = req->unique,
	};
	const struct iovec iov = {.iov_base = &out, .iov_len = sizeof(out)};

	loop_answer(&iov, 1);
}

bool fs_let_go(struct fs *fs, struct request *req)
{
	const struct fuse_in_header *header = request_message(req);
	const void *body = header + 1;
	const struct fuse_release_in *release = body;

	switch (req->opcode) {
	case FUSE_FORGET: /* neither has an answer */
		fs_forget(fs, header->nodeid, ((const struct fuse_forget_in *)body)->nlookup);
		return true;
	case FUSE_BATCH_FORGET:
		forget_many(fs, body);
		return true;
	case FUSE_RELEASE:
		answer(req, fs_release(fs, header->nodeid, release->fh));
		return true;
	case FUSE_RELEASEDIR:
		answer(req, fs_releasedir(fs, header->nodeid, release->fh));
		return true;
	default:
		return false;
	}
}
