/* SPDX-License-Identifier: MIT */
/*
 * The watch: fanotify on the source's file system tells what others change there, and the kernel is
 * told to forget it, so that it may keep everything else for good. For src/fs.
 *
 * A mount on a directory of the source is no event there, but changes the table of mounts, which is
 * watched too (watch_mounts.h).
 *
 * It covers one device, the source's own. Objects on others (mounts inside the source), and all
 * objects where there is no watch (the user's rights, the file system, the kernel), have the short
 * timeouts; the functions here say which. They may be called by any thread, with fs->watch NULL
 * too.
 *
 * What makes it sound: an answer to the kernel is made from what the source was at a moment t, and
 * a change after t may be told to the kernel before the answer has reached it.
 * - Names: the kernel holds the directory's lock from before a lookup's request until its answer is
 *   in place, and takes the same lock in a notification; so what is told meanwhile waits. A name
 *   that is asked for again is so without the lock, and the answer may renew it: it is told again
 *   (stale.h). It is not dropped: that would take a directory from under who works in it (getcwd(2)
 *   fails then) or a mount off it, should the change have been its creation.
 * - Attributes: to an inode that the kernel has, it counts what is told, and takes no older answer
 *   (fuse's attr_version). The answers that it takes unseen (SETATTR, LINK, CREATE of what was
 * there already) get the short timeout. An inode that it hasn't yet is told again until it has
 *   (stale.h).
 * - But the watch must find the inode in our table. Between looking at an object and putting it
 *   there it would not: so who does, reads watch_generation() before and after, and looks again if
 *   it has moved. The watch moves it after it has read events and before it searches the table.
 * - Data: pages that are being read are locked until the answer is there; to drop them waits.
 * - A directory's cached listing is kept by the directory's mtime as well; fs_opendir() lets none
 * be kept of a directory that has just changed, since a second change may leave the same mtime.
 */
#ifndef FS_WATCH_H
#define FS_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs;
struct watch;

/* How long the kernel keeps what is watched: for good, as its clock goes. */
#define WATCH_SECONDS 1e6

/* Why the file system of root_fd cannot be watched by this process, or NULL. Static, or
 * strerror()'s. */
const char *watch_missing(int root_fd);

/*
 * Sets the mark. NULL where it cannot be, with a line logged that says why. fs->root_fd and
 * fs->inodes are there, and outlive it. Before the mount.
 */
struct watch *watch_new(const struct fs *fs);

/*
 * INIT has come: starts the thread, which tells the kernel by way of device (/dev/fuse of the
 * mount, which stays the caller's). minor is the kernel's version of the protocol. Until then
 * nothing counts as watched; nor later where this fails, with a line logged. watch NULL is fine.
 */
void watch_start(struct watch *watch, int device, int proc_fd, unsigned minor);

/* Another process has read events, and has died: before watch_start(), which then has the kernel
 * forget everything. */
void watch_taken_over(struct watch *watch);

/* Ends the thread and frees; NULL is fine. The loops still answer, or have all ended. */
void watch_free(struct watch *watch);

/* Whether objects of the device are watched now. */
bool watch_covers(const struct fs *fs, dev_t dev);

/* Seconds for which the kernel may keep attributes, and names, of objects on the device. */
double watch_attr_timeout(const struct fs *fs, dev_t dev);
double watch_entry_timeout(const struct fs *fs, dev_t dev);

/* See above. */
uint64_t watch_generation(const struct fs *fs);

/* Logs what the watch's thread wants to be known; watch NULL is fine. On a loop's thread. */
void watch_log(struct watch *watch);

struct watch_usage {
	bool active;
	uint64_t events; /* all that were read */
	uint64_t own; /* of these, our own doing */
	uint64_t elsewhere; /* of these, of objects that the kernel doesn't know */
	uint64_t invalidations; /* of something that the kernel had */
	uint64_t overflows; /* of the queue: all was invalidated */
};

void watch_get_usage(const struct watch *watch, struct watch_usage *out);

#endif
