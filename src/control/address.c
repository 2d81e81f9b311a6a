/* SPDX-License-Identifier: MIT */
/* Where control sockets lie; see address.h. */
#include "control/address.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
		snprintf(dir, size, "%s/batchiofs", runtime);
		return 0;
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

int control_address(struct sockaddr_un *address, const char *dir, unsigned major, unsigned minor)
{
	int n;

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	n = snprintf(
		address->sun_path, sizeof(address->sun_path), "%s/%u:%u.sock", dir, major, minor);
	return n < (int)sizeof(address->sun_path) ? 0 : -ENAMETOOLONG;
}
