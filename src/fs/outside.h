/* SPDX-License-Identifier: MIT */
/*
 * Changes of an exclusive mount's source that did not come through the mount. Nobody should make
 * them, and the kernel would go on with what it has cached, so they are noticed where it costs
 * little: when an object is looked up or asked for its attributes, a file's descriptor is opened
 * anew, a flush has ended. For src/fs only; nothing of it does anything in a shared mount.
 *
 * How: an object's ctime may not be later than the last change of it that the mount itself made. So
 * every own change is bracketed; while any is under way nobody is suspected.
 */
#ifndef FS_OUTSIDE_H
#define FS_OUTSIDE_H

#include <fuse_lowlevel.h>
#include <stdint.h>
#include <sys/stat.h>

struct fs;

/* A change of the source by the mount, other than a write of data, begins. */
void change_begin(struct fs *fs);
/* It has ended, well or not: ino was concerned; 0: names, and so whoever has them. Its next sync
 * has something to do. */
void change_end(struct fs *fs, fuse_ino_t ino);
/* It has ended, and made a new name: none of the files that were there before is concerned. */
void change_made(struct fs *fs);
/* It has ended, and the caller has seen to the rest (inode_changed()). */
void change_over(struct fs *fs);

/* A time as change times are compared: nanoseconds since 1970. And now. */
int64_t change_time(const struct timespec *time);
int64_t change_now(void);

/*
 * The source says attr of ino, fd being a descriptor of it. data: when its last write ended
 * (change_now()), or 0. If that is news, it is logged and counted, and the kernel's caches of the
 * file are dropped.
 */
void outside_check(struct fs *fs, fuse_ino_t ino, int fd, const struct stat *attr, int64_t data);

/* Changes noticed. */
uint64_t outside_count(const struct fs *fs);

#endif
