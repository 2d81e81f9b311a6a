/* SPDX-License-Identifier: MIT */
/*
 * What is mounted where, from /proc/self/mountinfo: never touches a mount itself, so that it
 * answers also when one hangs. For main.c, cmd/, control/ and fs/.
 */
#ifndef BASE_MOUNTINFO_H
#define BASE_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct mount_entry {
	int id, parent; /* the mount's and that of the mount it lies on */
	unsigned major, minor; /* st_dev of what is mounted */
	uid_t user; /* of a FUSE mount: who mounted it */
	char type[64];
	char point[PATH_MAX];
	char source[PATH_MAX];
};

/* The topmost mount at exactly the path `point` (absolute, resolved). 0, -ENOENT where nothing is
 * mounted there, or -errno. */
int mountinfo_find(const char *point, struct mount_entry *out);

/* Calls take for every mount, those below first. 0 or -errno. */
int mountinfo_each(void (*take)(const struct mount_entry *mount, void *user), void *user);

/* Is the file system of `mount`, which was unmounted, still mounted at another place (a bind
 * mount)? */
bool mountinfo_elsewhere(const struct mount_entry *mount);

/* Is it one of ours? */
bool mountinfo_is_batchiofs(const struct mount_entry *entry);

/*
 * The absolute path of a mountpoint without touching what is mounted on it: its parent is resolved,
 * its last component is taken as it is. out: PATH_MAX bytes. 0 or -errno.
 */
int mountinfo_resolve(const char *path, char *out);

#endif
