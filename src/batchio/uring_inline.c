/* SPDX-License-Identifier: MIT */
/*
 * Which requests are quicker as plain system calls than through the ring, and running them. For
 * uring.c.
 *
 * A cached read is a copy: a call that doesn't wait does it in a microsecond. A buffered write is
 * a copy as well, but not every file system can say "that would wait": ext4 punts it to a
 * worker when it comes through the ring (48 us against 1), so there the plain call is used. What
 * waits for a device goes through the ring: direct I/O, O_DSYNC, syncs, reads that miss the cache.
 */
#define _GNU_SOURCE 1
#include "batchio/backend.h"

#if BATCHIO_URING

#include <errno.h>

#include "batchio/direct.h"
#include "batchio/uring.h"

/* How many writes go the plain way before RWF_NOWAIT is tried again after EOPNOTSUPP. */
#define PLAIN_WRITES 1000

static bool would_wait(int error)
{
	return error == EAGAIN || error == EOPNOTSUPP || error == ENOSYS;
}

/* Reads what is in the page cache. Returns true when that ended the request. */
static bool read_cached(struct batchio *bio, struct batchio_request *req)
{
	ssize_t n;

	do {
		batchio_count(&bio->tally.syscalls, 1);
		n = preadv2(req->fd, batchio_iov(req), batchio_iovcnt(req), batchio_offset(req),
			RWF_NOWAIT);
		if (n < 0 && would_wait(errno))
			return false;
		/* A short read goes on here: at the end of the file the next says 0. */
	} while (!batchio_request_result(bio, req, n < 0 ? -errno : n));
	return true;
}

/* Writes without waiting for a device, as far as the file system lets us know. */
static bool write_cached(struct batchio *bio, struct batchio_request *req)
{
	struct uring *u = bio->backend;
	ssize_t n;

	while (!u->buffered_inline) {
		batchio_count(&bio->tally.syscalls, 1);
		n = pwritev2(req->fd, batchio_iov(req), batchio_iovcnt(req), batchio_offset(req),
			RWF_NOWAIT);
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0 && would_wait(errno))
			u->buffered_inline = PLAIN_WRITES;
		else if (batchio_request_result(bio, req, n < 0 ? -errno : n))
			return true;
	}
	u->buffered_inline--;
	batchio_run_direct(bio, req);
	return true;
}

bool batchio_uring_try_inline(struct batchio *bio, struct batchio_request *req)
{
	if ((req->flags & BATCHIO_MAYWAIT) && req->kind != BATCHIO_POLL) {
		batchio_run_direct(bio, req);
		return true;
	}
	if (req->flags & (BATCHIO_DIRECT | BATCHIO_DSYNC | BATCHIO_STREAM))
		return false;
	if (req->kind == BATCHIO_READ)
		return read_cached(bio, req);
	if (req->kind == BATCHIO_WRITE)
		return write_cached(bio, req);
	return false;
}

#endif
