/* SPDX-License-Identifier: MIT */
/*
 * A request run as plain system calls; see direct.h. For the backends of this directory.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <unistd.h>

#include "batchio/direct.h"

static ssize_t write_durable(struct batchio *bio, const struct batchio_request *req)
{
	ssize_t n = pwritev2(
		req->fd, batchio_iov(req), batchio_iovcnt(req), batchio_offset(req), RWF_DSYNC);

	if (n >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
		return n;
	/* A file system or kernel that doesn't know the flag: in two steps. */
	batchio_count(&bio->tally.syscalls, 2);
	n = pwritev(req->fd, batchio_iov(req), batchio_iovcnt(req), batchio_offset(req));
	if (n > 0 && fdatasync(req->fd) < 0)
		return -1;
	return n;
}

static ssize_t attempt(struct batchio *bio, const struct batchio_request *req)
{
	const struct iovec *iov = batchio_iov(req);
	int cnt = batchio_iovcnt(req);

	batchio_count(&bio->tally.syscalls, 1);
	switch (req->kind) {
	case BATCHIO_READ:
		return preadv(req->fd, iov, cnt, batchio_offset(req));
	case BATCHIO_WRITE:
		if (req->flags & BATCHIO_STREAM)
			return writev(req->fd, iov, cnt);
		if (req->flags & BATCHIO_DSYNC)
			return write_durable(bio, req);
		return pwritev(req->fd, iov, cnt, batchio_offset(req));
	case BATCHIO_FDATASYNC:
		return fdatasync(req->fd);
	case BATCHIO_FSYNC:
		return fsync(req->fd);
	case BATCHIO_POLL:
		break;
	}
	errno = EINVAL;
	return -1;
}

void batchio_run_direct(struct batchio *bio, struct batchio_request *req)
{
	ssize_t n;

	do {
		n = attempt(bio, req);
	} while (!batchio_request_result(bio, req, n < 0 ? -errno : n));
}
