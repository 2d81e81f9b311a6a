/* SPDX-License-Identifier: MIT */
/* The verbs' side of the control socket; see control.h. */
#include "control/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/address.h"

/* Is it the one who mounted, or root, that answers there? */
static bool trusted(int fd, uid_t user)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       (peer.uid == 0 || peer.uid == user);
}

static int ask_at(const struct sockaddr_un *address, uid_t user, const char *command)
{
	_cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ssize_t length = (ssize_t)strlen(command);

	if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		return -errno;
	if (!trusted(fd, user))
		return -EACCES;
	if (send(fd, command, (size_t)length, MSG_NOSIGNAL) != length)
		return -EPIPE;
	return steal_fd(&fd);
}

int control_ask(const struct mount_entry *mount, const char *command)
{
	int result = -ENOENT;

	for (int place = 0; place < CONTROL_PLACES; place++) {
		struct sockaddr_un address;
		char dir[80];
		int fd;

		if (control_place(place, mount->user, dir, sizeof(dir)) ||
			control_address(&address, dir, mount->major, mount->minor))
			continue;
		fd = ask_at(&address, mount->user, command);
		if (fd >= 0)
			return fd;
		if (fd != -ENOENT && fd != -ECONNREFUSED)
			result = fd;
	}
	return result;
}
