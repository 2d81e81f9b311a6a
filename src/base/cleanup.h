/* SPDX-License-Identifier: MIT */
/*
 * Scope cleanup: descriptors and memory that close themselves. Anyone may include it.
 *
 *	_cleanup_fd int fd = openat(…);
 *	...
 *	return steal_fd(&fd);
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_fd   __attribute__((cleanup(cleanup_fd_)))
#define _cleanup_free __attribute__((cleanup(cleanup_free_)))

/* Keeps errno, so that `return -errno` after the scope's failing call stays right. */
static inline void cleanup_fd_(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_free_(void *p)
{
	free(*(void **)p);
}

static inline int steal_fd(int *fd)
{
	int stolen = *fd;

	*fd = -1;
	return stolen;
}

#endif
