/* SPDX-License-Identifier: MIT */
/*
 * Landlock around an ordinary user's daemon: all that is done by path stays in the source. For
 * confine.c only.
 */
#include "confine/confine.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* linux/landlock.h as of Linux 6.12: the installed one may be older. */
#define CREATE_VERSION (1u << 0)
#define RULE_PATH      1
#define READ_FILE      (1ull << 2)
#define READ_DIR       (1ull << 3)
#define FIRST_VERSION  13 /* rights on files: so many bits */
#define REFER          (1ull << 13)
#define TRUNCATE       (1ull << 14)
#define IOCTL_DEV      (1ull << 15)
#define NET_ALL        3 /* bind, connect by TCP */
#define SCOPE_ALL      3 /* abstract sockets, signals of others */
#define VERSION_REFER  2
#define VERSION_TRUNC  3
#define VERSION_NET    4
#define VERSION_IOCTL  5
#define VERSION_SCOPE  6

struct ruleset {
	uint64_t files, net, scope;
};

struct path_rule {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

/* What the kernel's version can forbid, all of it; and the size of the structure that it knows. */
static size_t forbid_all(struct ruleset *rules, int version)
{
	rules->files = (1ull << FIRST_VERSION) - 1;
	rules->files |= REFER;
	if (version >= VERSION_TRUNC)
		rules->files |= TRUNCATE;
	if (version >= VERSION_IOCTL)
		rules->files |= IOCTL_DEV;
	if (version >= VERSION_NET)
		rules->net = NET_ALL;
	if (version >= VERSION_SCOPE)
		rules->scope = SCOPE_ALL;
	return version >= VERSION_SCOPE ? sizeof(*rules)
	       : version >= VERSION_NET ? 2 * sizeof(uint64_t)
					: sizeof(uint64_t);
}

static int allow(int ruleset, int directory, uint64_t rights)
{
	struct path_rule rule = {.allowed = rights, .parent_fd = directory};

	return syscall(SYS_landlock_add_rule, ruleset, RULE_PATH, &rule, 0) ? -errno : 0;
}

int confine_landlock(int root_fd, int proc_fd)
{
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);
	struct ruleset rules = {0};
	_cleanup_fd int ruleset = -1;
	int error;

	if (version < 0)
		return -errno;
	/* The first one has no renaming from one directory to another. */
	if (version < VERSION_REFER)
		return -ENOSYS;
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, forbid_all(&rules, version), 0);
	if (ruleset < 0)
		return -errno;
	error = allow(ruleset, root_fd, rules.files);
	/* Listed by who takes over from a worker. */
	if (!error)
		error = allow(ruleset, proc_fd, READ_DIR | READ_FILE);
	if (!error && syscall(SYS_landlock_restrict_self, ruleset, 0))
		error = -errno;
	return error;
}
