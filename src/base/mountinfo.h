/* SPDX-License-Identifier: MIT */
/*
 * What is mounted where, from /proc/self/mountinfo: never touches a mount itself, so that it
 * answers also when one hangs. For main.c, cmd/, control/ and fs/.
 */
#ifndef BASE_MOUNTINFO_H
#define BASE_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Where the kernel lists the mounts that this process sees. */
#define MOUNTINFO "/proc/self/mountinfo"

struct mount_entry {
	unsigned id, parent; /* of the mount; the parent may be one that is not listed (chroot) */
	unsigned major, minor; /* st_dev of what is mounted */
	uid_t user; /* of a FUSE mount: who mounted it */
	char type[64];
	char root[PATH_MAX]; /* which directory of the file system is mounted */
	char point[PATH_MAX];
	char source[PATH_MAX];
};

/* Calls visit for every mount that the file (MOUNTINFO) lists, in its order. 0 or -errno. */
typedef void mountinfo_visit(const struct mount_entry *entry, void *user);
int mountinfo_each(const char *file, mountinfo_visit *visit, void *user);
/* The same of a table that is open, from its start. */
int mountinfo_each_fd(int fd, mountinfo_visit *visit, void *user);

/*
 * MOUNTINFO, wherever it is asked for by this process from now on, is read from a descriptor opened
 * now: it goes on to tell of the mounts as they are seen from here, also when /proc is out of
 * reach. Once, before there are threads. 0 or -errno.
 */
int mountinfo_hold(void);

/* The mount with this id, out of the file. 0, -ENOENT where it is not listed, or -errno. */
int mountinfo_find_id(const char *file, unsigned id, struct mount_entry *out);

/* Undoes the kernel's octal escapes (space, tab, newline, backslash), in place. */
void mountinfo_unescape(char *s);

/* The topmost mount at exactly the path `point` (absolute, resolved). 0, -ENOENT where nothing is
 * mounted there, or -errno. */
int mountinfo_find(const char *point, struct mount_entry *out);

/*
 * A number of the topmost mount at the path that no other mount ever gets, unlike id and st_dev,
 * which go to the next one; 0 where the kernel (before 6.8) has none. Asks nothing of what is
 * mounted.
 */
uint64_t mountinfo_unique_id(const char *point);

/* Is the file system of `mount`, which was unmounted, still mounted at another place (a bind
 * mount)? */
bool mountinfo_elsewhere(const struct mount_entry *mount);

/* A mount of the file system with this st_dev. 0, -ENOENT where there is none, or -errno. */
int mountinfo_of_device(unsigned major, unsigned minor, struct mount_entry *out);

/* Is it one of ours? */
bool mountinfo_is_batchiofs(const struct mount_entry *entry);

/*
 * The absolute path of a mountpoint without touching what is mounted on it: its parent is resolved,
 * its last component is taken as it is. out: PATH_MAX bytes. 0 or -errno.
 */
int mountinfo_resolve(const char *path, char *out);

#endif
