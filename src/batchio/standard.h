/* SPDX-License-Identifier: MIT */
/*
 * State of the standard backend, and its polls. For standard.c and standard_poll.c only.
 */
#ifndef BATCHIO_STANDARD_H
#define BATCHIO_STANDARD_H

#include "batchio/backend.h"

#define POLL_BUCKETS 64 /* a handle polls a handful of descriptors */

struct watch;

struct standard {
	int epfd; /* made by the first poll; -1 before */
	size_t npolls; /* polls started and not ended */
	bool checked; /* registrations were checked since the last poll was started */
	unsigned waits; /* since registrations were checked */
	struct watch *buckets[POLL_BUCKETS]; /* by descriptor */
};

/* Starts a poll; may end it at once (an error, or a file that is always ready). */
void batchio_poll_start(struct batchio *bio, struct batchio_request *req);

/*
 * Ends the polls that are ready, waiting for the first up to timeout_ms (-1: no limit). Returns
 * how many ended, 0 when the time passed or none of those that woke it was awaited, or -errno.
 */
int batchio_poll_wait(struct batchio *bio, int timeout_ms);

/* Ends every poll with -ECANCELED. */
void batchio_poll_cancel(struct batchio *bio);

void batchio_poll_free(struct batchio *bio);

#endif
