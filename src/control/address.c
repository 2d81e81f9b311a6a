/* SPDX-License-Identifier: MIT */
/* Where control sockets and claims lie; see address.h. */
#include "control/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int control_place(int place, uid_t uid, char *dir, size_t size)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (uid == 0) {
		if (place > 0)
			return -ENOENT;
		snprintf(dir, size, "/run/batchiofs");
		return 0;
	}
	switch (place) {
	case 0:
		/* Our own; root asks the place below. */
		if (!runtime || runtime[0] != '/' || uid != geteuid())
			return -ENOENT;
		return snprintf(dir, size, "%s/batchiofs", runtime) < (int)size ? 0 : -ENAMETOOLONG;
	case 1:
		snprintf(dir, size, "/run/user/%u/batchiofs", uid);
		return 0;
	case 2:
		snprintf(dir, size, "/tmp/batchiofs-%u", uid);
		return 0;
	default:
		return -ENOENT;
	}
}

int control_make_dir(const char *dir)
{
	/* Users look at root's claims; a socket has a mode of its own. */
	mode_t mode = geteuid() == 0 ? 0755 : 0700;
	struct stat st;

	if (mkdir(dir, mode) && errno != EEXIST)
		return -errno;
	if (lstat(dir, &st))
		return -errno;
	/* In /tmp somebody else may have been first. */
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
		return -EPERM;
	if ((st.st_mode & mode) != mode && chmod(dir, mode))
		return -errno;
	return 0;
}

int control_address(struct sockaddr_un *address, const char *dir, unsigned major, unsigned minor)
{
	int n;

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	n = snprintf(
		address->sun_path, sizeof(address->sun_path), "%s/%u:%u.sock", dir, major, minor);
	return n < (int)sizeof(address->sun_path) ? 0 : -ENAMETOOLONG;
}
