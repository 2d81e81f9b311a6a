/* SPDX-License-Identifier: MIT */
/* The mount itself: made, tuned, taken away. For serve.c only. */
#ifndef MOUNTPOINT_H
#define MOUNTPOINT_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mountinfo.h"
#include "options.h"

struct fs;

struct mountpoint {
	const struct options *options;
	const char *source, *path; /* absolute */
	struct fuse_session *session;
	struct mount_entry mount; /* ours, once mounted */
	uint64_t id; /* its unique one, 0 where there is none */
};

/* Whether a list of mount options (NULL: none) has one of that name. */
bool mountpoint_has_option(const char *list, const char *name);

/* The session, before the mount. An exit status; what failed was logged. */
int mountpoint_prepare(struct mountpoint *point, struct fs *fs);
/* Mounts. On failure nothing is mounted. An exit status. */
int mountpoint_mount(struct mountpoint *point);
/*
 * Goes on with the mount of another program in this process: its device, its numbers, its unique
 * one. Asks nothing of what is mounted. An exit status.
 */
int mountpoint_inherit(
	struct mountpoint *point, int device, unsigned major, unsigned minor, uint64_t id);
/* Sets what the kernel lets us set of the mount, where rights allow. */
void mountpoint_tune(const struct mountpoint *point);
/*
 * Detaches our mount; the loops go on until its last user is gone. Never a mount that somebody put
 * over it: only the topmost one can be named.
 */
void mountpoint_detach(const struct mountpoint *point);
/* Frees the session; once nobody uses it. */
void mountpoint_free(struct mountpoint *point);

#endif
