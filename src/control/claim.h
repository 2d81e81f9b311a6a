/* SPDX-License-Identifier: MIT */
/*
 * The claim of a mount on its source: what makes exclusive exclusive. For serve.c only.
 *
 * Two mounts conflict when the source of one is that of the other, or lies above or below it,
 * unless both are shared. A mount publishes its claim before it is mounted, as a file in the
 * directory `claims` beside the control socket, and holds an open-file-description lock on it: it
 * ends with the daemon, however that ends, and a file without a lock is stale. Checking and
 * publishing are one step under the lock of the directory.
 *
 * Root's claims bind everybody and are readable by all; an ordinary user's bind only their own
 * mounts: anyone could write such a file to stop the mounts of others. Daemons that don't share
 * /run (containers) don't see each other.
 *
 * A source inside a batchiofs mount is reached through that mount, and so harms no claim on what
 * lies beneath; but it can't be mounted exclusively itself, since programs use that mount.
 */
#ifndef CONTROL_CLAIM_H
#define CONTROL_CLAIM_H

#include <limits.h>
#include <stdbool.h>

struct claim {
	int fd; /* holds the lock; -1: none */
	char path[PATH_MAX]; /* of the file */
};

/* Paths are absolute and resolved; source_fd is the opened source, not yet mounted over. */
struct claim_wish {
	bool exclusive;
	const char *source;
	const char *mountpoint;
	int source_fd;
};

/*
 * 0; -EBUSY where another mount is in the way; or another -errno. What failed was logged in one
 * line. Where there is no place for claims, a shared mount goes without, with a warning.
 * claim_release() is to be called after 0, and is harmless after either.
 */
int claim_take(struct claim *claim, const struct claim_wish *wish);
void claim_release(struct claim *claim);
/* The first half of it, where the path leads there: nobody sees it any more. */
void claim_unlink(const struct claim *claim);
/* Another process does that: the path is not to be used here any more. */
void claim_leave(struct claim *claim);

#endif
