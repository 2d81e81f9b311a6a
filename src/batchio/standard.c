/* SPDX-License-Identifier: MIT */
/*
 * The standard backend: sequential preadv, pwritev, writev, fdatasync, fsync on the calling
 * thread; epoll for polls (standard_poll.c). Makes no io_uring_* call. Called through the ops table
 * only.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "batchio/direct.h"
#include "batchio/standard.h"

static void run(struct batchio *bio, struct batchio_request *req)
{
	if (req->kind == BATCHIO_POLL)
		batchio_poll_start(bio, req);
	else
		batchio_run_direct(bio, req);
}

static bool standard_try_inline(struct batchio *bio, struct batchio_request *req)
{
	if (req->kind == BATCHIO_POLL)
		return false;
	batchio_run_direct(bio, req);
	return true;
}

/*
 * A pair needs no care: the write has ended before its sync is taken off the queue, and
 * batchio_next() drops the sync of one that failed.
 */
static int standard_start(struct batchio *bio)
{
	struct batchio_request *req;

	while ((req = batchio_next(bio)))
		run(bio, req);
	return 0;
}

/* All but polls has ended when start() returns, so that polls alone are waited for. */
static int standard_reap(struct batchio *bio, unsigned want, int timeout_ms)
{
	struct standard *std = bio->backend;
	int64_t deadline = -1;
	bool first = true;
	int ret;

	standard_start(bio);
	while (std->npolls) {
		bool wait = bio->done.count < want;

		if (!first && !wait)
			break;
		if (wait && first)
			deadline = batchio_deadline(timeout_ms);
		ret = batchio_poll_wait(bio, wait ? batchio_left_ms(deadline) : 0);
		if (ret <= 0 && (ret != 0 || !wait || batchio_left_ms(deadline) == 0))
			return ret == -EINTR ? 0 : ret;
		first = false;
	}
	return 0;
}

static void standard_destroy(struct batchio *bio)
{
	batchio_poll_free(bio);
	free(bio->backend);
}

static const struct batchio_ops standard_ops = {
	.name = "standard",
	.try_inline = standard_try_inline,
	.start = standard_start,
	.reap = standard_reap,
	.cancel_waits = batchio_poll_cancel,
	.destroy = standard_destroy,
};

struct batchio *batchio_new_standard(struct batchio_error *error)
{
	struct standard *std = calloc(1, sizeof(*std));
	struct batchio *bio;

	if (!std)
		return batchio_fail(error, -ENOMEM, "out of memory for a batchio handle");
	std->epfd = -1;
	bio = batchio_new_backend(&standard_ops, std, error);
	if (!bio)
		free(std);
	return bio;
}
