/* SPDX-License-Identifier: MIT */
/* The descriptors that this process has open. Anyone may include it. */
#ifndef BASE_DESCRIPTORS_H
#define BASE_DESCRIPTORS_H

/*
 * Calls visit for each of them, but for the one that they are read through; visit may close its
 * own. dir_fd is /proc/self/fd, or -1 where that is to be found by its path. 0, what visit returns
 * other than 0, which ends it, or -errno.
 */
int descriptors_each(int dir_fd, int (*visit)(int fd, void *user), void *user);

#endif
