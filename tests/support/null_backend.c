/* SPDX-License-Identifier: MIT */
/*
 * The null backend; see null_backend.h. For tests and benchmarks.
 */
#include "batchio/backend.h"
#include "null_backend.h"

static ssize_t success(const struct batchio_request *req)
{
	switch (req->kind) {
	case BATCHIO_READ:
	case BATCHIO_WRITE:
		return (ssize_t)(req->priv.total - req->moved);
	case BATCHIO_POLL:
		return (unsigned short)req->events;
	default:
		return 0;
	}
}

static int null_start(struct batchio *bio)
{
	struct batchio_request *req;

	while ((req = batchio_next(bio)))
		batchio_request_result(bio, req, success(req)); /* whole, so never again */
	return 0;
}

static int null_reap(struct batchio *bio, unsigned want, int timeout_ms)
{
	(void)want;
	(void)timeout_ms;
	return null_start(bio);
}

static void null_destroy(struct batchio *bio)
{
	(void)bio;
}

static const struct batchio_ops null_ops = {
	.name = "null",
	.start = null_start,
	.reap = null_reap,
	.destroy = null_destroy,
};

struct batchio *null_backend_new(struct batchio_error *error)
{
	return batchio_new_backend(&null_ops, NULL, error);
}
