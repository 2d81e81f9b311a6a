/* SPDX-License-Identifier: MIT */
/* Letting go of the terminal; see terminal.h. */
#include "base/terminal.h"

#include <fcntl.h>
#include <unistd.h>

static int null_fd = -1;

void terminal_prepare(void)
{
	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
}

bool terminal_leave(void)
{
	int null = null_fd < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : null_fd;

	if (null < 0)
		return false;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (null_fd < 0 && null > STDERR_FILENO)
		close(null);
	return true;
}
