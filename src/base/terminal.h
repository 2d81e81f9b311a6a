/* SPDX-License-Identifier: MIT */
/*
 * The three standard descriptors. Anyone may include it.
 */
#ifndef BASE_TERMINAL_H
#define BASE_TERMINAL_H

#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

/* They lead nowhere from now on. False, and they stay: there is no /dev/null. */
static inline bool terminal_leave(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return false;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null > STDERR_FILENO)
		close(null);
	return true;
}

#endif
