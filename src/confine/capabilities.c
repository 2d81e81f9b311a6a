/* SPDX-License-Identifier: MIT */
/* The capabilities that are needed, and the end of all others. For confine.c only. */
#include "confine/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (UINT64_C(1) << (capability))

/* All that a daemon of root's may use. */
static const int needed[] = {
	CAP_CHOWN, /* chown in a caller's name, who may */
	CAP_DAC_OVERRIDE, /* the kernel above has checked permissions, with groups unknown here */
	CAP_DAC_READ_SEARCH, /* the same, and objects are opened again by their handles */
	CAP_FOWNER, /* the same, of what takes the owner */
	CAP_FSETID, /* the kernel above has decided about set-group-id bits */
	CAP_SETUID, /* the file system uid of callers */
	CAP_SETGID, /* the file system gid of callers */
	CAP_MKNOD, /* device nodes, which root makes */
	CAP_LINUX_IMMUTABLE, /* chattr +i and +a */
	CAP_SETFCAP, /* security.capability (setcap) */
	CAP_MAC_ADMIN, /* labels of Smack and SELinux that the source does not know */
	CAP_SYS_ADMIN, /* trusted.* and security.* attributes, -o passthrough, fanotify */
	CAP_IPC_LOCK, /* the memory of rings, before Linux 5.12 */
};

#define N_NEEDED (sizeof(needed) / sizeof(needed[0]))

struct sets {
	struct __user_cap_header_struct header;
	struct __user_cap_data_struct data[2];
};

static int get(struct sets *sets)
{
	*sets = (struct sets){.header.version = _LINUX_CAPABILITY_VERSION_3};
	return syscall(SYS_capget, &sets->header, sets->data) < 0 ? -errno : 0;
}

bool capability_held(int capability)
{
	struct sets sets;

	return !get(&sets) && sets.data[capability / 32].effective >> capability % 32 & 1;
}

/* Out of the bounding set, from which programs would get them. */
static void bound(uint64_t kept)
{
	for (int capability = 0; capability < 64; capability++)
		if (!(kept & BIT(capability)))
			prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

int confine_capabilities(void)
{
	uint64_t kept = 0;
	struct sets sets;
	int error = get(&sets);

	if (error)
		return error;
	for (size_t i = 0; i < N_NEEDED; i++)
		kept |= BIT(needed[i]);
	if (capability_held(CAP_SETPCAP))
		bound(kept);
	for (int half = 0; half < 2; half++) {
		sets.data[half].effective &= (uint32_t)(kept >> 32 * half);
		sets.data[half].permitted &= (uint32_t)(kept >> 32 * half);
		sets.data[half].inheritable = 0;
	}
	if (syscall(SYS_capset, &sets.header, sets.data) < 0)
		return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}
