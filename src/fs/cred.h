/* SPDX-License-Identifier: MIT */
/*
 * Acting as the caller: new objects belong to who asked for them. For src/fs only.
 *
 *	struct cred_scope scope;
 *	cred_enter(&scope, req);
 *	result = mkdirat(…);
 *	cred_leave(&scope);
 *
 * Changes only the calling thread (raw system calls), and only where fs.config.privileged; sets the
 * thread's umask to the caller's. Must not be nested. cred_enter() returns 0 or -errno; after an
 *error nothing is changed and cred_leave() is not to be called.
 */
#ifndef FS_CRED_H
#define FS_CRED_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <sys/types.h>

struct cred_scope {
	bool changed;
	uid_t uid;
	gid_t gid;
};

/*
 * Before the loops start, in the thread that starts them: gives up CAP_SYS_RESOURCE, with which the
 * daemon's writes would pass over its callers' quotas and take the blocks reserved for root.
 */
void cred_give_up_resources(void);

/* Groups asked for at most. */
#define CRED_GROUPS 256

/*
 * Whether the caller is of the group. It takes a look at /proc, so this is for rare cases; groups
 * that cannot be learnt are none.
 */
bool cred_caller_in_group(fuse_req_t req, gid_t gid);

int cred_enter(struct cred_scope *scope, fuse_req_t req);
void cred_leave(struct cred_scope *scope);

#endif
