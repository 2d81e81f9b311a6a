/* SPDX-License-Identifier: MIT */
/*
 * What of something scarce each user has: none but root may take all of it from the others. For
 * src/fs only. The caller's lock is held at every call. It may lie in shared memory.
 */
#ifndef FS_SHARE_H
#define FS_SHARE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Users that have some at the same time; those beyond are not counted. */
#define SHARE_USERS 4096

struct shares {
	uint32_t most; /* for a user; 0: as much as there is */
	uint32_t n; /* entries in use, some with nothing */
	struct share {
		uid_t uid;
		uint32_t count;
	} users[SHARE_USERS];
};

/* One more for the user: false where that is too much. */
bool share_take(struct shares *shares, uid_t uid);
/* After it was true. */
void share_give(struct shares *shares, uid_t uid);

#endif
