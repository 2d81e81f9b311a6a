/* SPDX-License-Identifier: MIT */
/*
 * Acting as the caller, see cred.h. For src/fs only.
 *
 * The thread takes on the caller's file system identity, so that new objects are owned and
 * accounted as the caller's. The kernel has checked permission already, with all of the caller's
 * groups, which are not known here: so the checks of the source's file system must not fail for
 * want of one, and the capabilities that Linux takes away along with uid 0 are put back, those of
 * them that decide about access.
 */
#include "fs/cred.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "fs/fs.h"

#define BIT(cap) (UINT64_C(1) << (cap))

/* Dropped from the effective set by setfsuid() away from 0, given back by setfsuid(0):
 * capabilities(7). */
#define FS_CAPS                                                                                    \
	(BIT(CAP_CHOWN) | BIT(CAP_MKNOD) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) |      \
		BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_LINUX_IMMUTABLE) |                     \
		BIT(CAP_MAC_OVERRIDE))

/* What the kernel has decided above us. */
#define RAISED_CAPS                                                                                \
	(BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) | BIT(CAP_MKNOD))

/* What this thread is. */
struct self {
	bool known;
	uid_t uid;
	gid_t gid;
	mode_t mask;
	struct __user_cap_data_struct acting[2]; /* while fsuid is a caller's, not 0 */
};

static _Thread_local struct self self;

/*
 * Since Linux 6.0 the kernel above us takes S_ISGID out of a new file's mode where the caller may
 * not have it (it knows the groups), so the source need not: CAP_FSETID stops it from guessing.
 * Before, it has to.
 */
static bool kernel_strips_sgid(void)
{
	struct utsname name;
	int major = 0;

	return uname(&name) == 0 && sscanf(name.release, "%d", &major) == 1 && major >= 6;
}

void cred_give_up_resources(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].effective &= ~(uint32_t)BIT(CAP_SYS_RESOURCE);
	data[0].permitted &= ~(uint32_t)BIT(CAP_SYS_RESOURCE);
	syscall(SYS_capset, &header, data);
}

static int learn_self(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	uint64_t effective, permitted;
	uint64_t raised = RAISED_CAPS | (kernel_strips_sgid() ? BIT(CAP_FSETID) : 0);

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	effective = data[0].effective | (uint64_t)data[1].effective << 32;
	permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	effective = (effective & ~FS_CAPS) | (raised & permitted);
	data[0].effective = (uint32_t)effective;
	data[1].effective = effective >> 32;
	self.acting[0] = data[0];
	self.acting[1] = data[1];
	self.uid = geteuid();
	self.gid = getegid();
	self.mask = umask(0);
	umask(self.mask);
	self.known = true;
	return 0;
}

static void set_mask(mode_t mask)
{
	if (self.mask == mask)
		return;
	umask(mask);
	self.mask = mask;
}

/* The raw calls: glibc's change every thread. setfsuid has no error to report. */
static void set_identity(uid_t uid, gid_t gid, const struct cred_scope *from)
{
	if (gid != from->gid)
		syscall(SYS_setfsgid, gid);
	if (uid != from->uid)
		syscall(SYS_setfsuid, uid);
}

static int raise_caps(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capset, &header, self.acting) < 0 ? -errno : 0;
}

int cred_enter(struct cred_scope *scope, fuse_req_t req)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	int result = self.known ? 0 : learn_self();

	if (result < 0)
		return result;
	*scope = (struct cred_scope){.uid = self.uid, .gid = self.gid};
	if (fs_of(req)->config.privileged && (caller->uid != self.uid || caller->gid != self.gid)) {
		/* Somebody whom our user namespace has no number for. */
		if (caller->uid == (uid_t)-1 || caller->gid == (gid_t)-1)
			return -EOVERFLOW;
		set_identity(caller->uid, caller->gid, scope);
		scope->uid = caller->uid;
		scope->gid = caller->gid;
		scope->changed = true;
		if (self.uid == 0 && caller->uid != 0)
			result = raise_caps();
		if (result < 0) {
			set_identity(self.uid, self.gid, scope);
			return result;
		}
	}
	set_mask(caller->umask & 0777);
	return 0;
}

bool cred_caller_in_group(fuse_req_t req, gid_t gid)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	const struct fs *fs = fs_of(req);
	gid_t groups[CRED_GROUPS];
	int n;

	if (caller->gid == gid)
		return true;
	n = fs->config.groups_of ? fs->config.groups_of(caller->pid, groups, CRED_GROUPS)
				 : fuse_req_getgroups(req, CRED_GROUPS, groups);
	if (n > CRED_GROUPS)
		n = CRED_GROUPS;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

void cred_leave(struct cred_scope *scope)
{
	set_mask(0);
	if (scope->changed)
		set_identity(self.uid, self.gid, scope);
	scope->changed = false;
}
