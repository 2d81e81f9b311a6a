/* SPDX-License-Identifier: MIT */
/*
 * State of the io_uring backend. For uring.c, uring_setup.c and uring_inline.c only.
 */
#ifndef BATCHIO_URING_H
#define BATCHIO_URING_H

#include <liburing.h>

#include "batchio/backend.h"

struct uring {
	struct io_uring ring;
	unsigned depth; /* reads, writes and syncs in flight at the kernel at most: the SQ's size */
	unsigned ops; /* of those, in flight now */
	unsigned nwaits; /* polls and commands in flight; not bounded, they may wait for ever */
	struct batchio_request
		*waits; /* the same, chained through priv.next and priv.pair (back) */
	unsigned buffered_inline; /* writes that go inline before RWF_NOWAIT is tried again */
	bool getevents; /* completions are only posted when we ask (DEFER_TASKRUN) */
	bool commands_left; /* the handle is being closed: their completions mean nothing */
	bool restricted; /* to the backend's operations */
	int lost; /* -errno once io_uring_enter failed for good */
};

/*
 * Makes the ring. Returns 0, or BATCHIO_EURINGUNAVAILABLE or -errno with *error filled and nothing
 * left behind.
 */
int batchio_uring_setup(
	struct uring *u, unsigned entries, unsigned flags, struct batchio_error *error);

/* The try_inline callback: which requests are quicker as plain system calls. */
bool batchio_uring_try_inline(struct batchio *bio, struct batchio_request *req);

#endif
