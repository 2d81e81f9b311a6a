/* SPDX-License-Identifier: MIT */
/* The daemon's side of the control socket; see control.h. */
#include "control/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/address.h"

static int listen_at(struct control *control)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int error;

	if (fd < 0)
		return -errno;
	/* Left by a daemon that was killed: device numbers of living mounts are unique. */
	unlink(control->address.sun_path);
	mask = umask(0177);
	error = bind(fd, (struct sockaddr *)&control->address, sizeof(control->address)) ||
				listen(fd, CONTROL_CLIENTS)
			? -errno
			: 0;
	umask(mask);
	if (error) {
		close(fd);
		return error;
	}
	control->listen_fd = fd;
	if (lstat(control->address.sun_path, &control->socket))
		control->socket = (struct stat){0};
	return 0;
}

/* The next mount may have got our device number, and so our socket's name, since ours is gone. The
 * inode number cannot be another's while we listen. */
void control_unlink(const struct control *control)
{
	struct stat now;

	if (control->address.sun_path[0] && !lstat(control->address.sun_path, &now) &&
		now.st_dev == control->socket.st_dev && now.st_ino == control->socket.st_ino)
		unlink(control->address.sun_path);
}

void control_leave(struct control *control)
{
	control->address.sun_path[0] = '\0';
}

int control_open(struct control *control, unsigned major, unsigned minor)
{
	int error = -ENOENT;

	control->listen_fd = -1;
	control->owner = geteuid();
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		control->clients[i].fd = -1;
	for (int place = 0; place < CONTROL_PLACES && error; place++) {
		char dir[80];

		if (control_place(place, control->owner, dir, sizeof(dir)))
			continue;
		error = control_make_dir(dir);
		if (!error)
			error = control_address(&control->address, dir, major, minor);
		if (!error)
			error = listen_at(control);
	}
	return error;
}

void control_inherit(struct control *control, int fd, const char *path)
{
	control->listen_fd = fd;
	control->owner = geteuid();
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		control->clients[i].fd = -1;
	control->address = (struct sockaddr_un){.sun_family = AF_UNIX};
	strncpy(control->address.sun_path, path, sizeof(control->address.sun_path) - 1);
	if (fd < 0 || lstat(path, &control->socket))
		control->socket = (struct stat){0};
}

static void drop(struct control_client *client)
{
	close(client->fd);
	client->fd = -1;
}

void control_close(struct control *control)
{
	if (control->listen_fd < 0)
		return;
	control_unlink(control);
	close(control->listen_fd);
	control->listen_fd = -1;
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		if (control->clients[i].fd >= 0)
			drop(&control->clients[i]);
}

int control_poll_fds(const struct control *control, struct pollfd *fds)
{
	int n = 0;
	bool room = false;

	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		room |= control->clients[i].fd < 0;
		fds[n++] = (struct pollfd){.fd = control->clients[i].fd, .events = POLLIN};
	}
	fds[n++] = (struct pollfd){.fd = room ? control->listen_fd : -1, .events = POLLIN};
	return n;
}

static void accept_client(struct control *control)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);
	_cleanup_fd int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return;
	if (peer.uid != 0 && peer.uid != control->owner)
		return;
	for (int i = 0; i < CONTROL_CLIENTS; i++) {
		if (control->clients[i].fd < 0) {
			control->clients[i] = (struct control_client){.fd = steal_fd(&fd)};
			return;
		}
	}
}

/* Sends what fits: an answer is far below a socket's buffer, and a client that does not read is its
 * own loss. */
static void send_stats(struct control *control, int fd)
{
	_cleanup_free char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return;
	control->stats(out, control->user);
	if (fclose(out) == 0)
		send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Lets go of a client that is answered elsewhere. */
static void upgrade(struct control *control, struct control_client *client, const char *program)
{
	char text[256] = "this mount cannot", answer[sizeof(text) + 16];

	if (control->upgrade &&
		control->upgrade(program, client->fd, text, sizeof(text), control->user)) {
		client->fd = -1;
		return;
	}
	snprintf(answer, sizeof(answer), "refused %s\n", text);
	send(client->fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Does what the client's line asks for. False: it is done with. */
static bool obey(struct control *control, struct control_client *client)
{
	static const char upgrading[] = "upgrade ";
	char *end = memchr(client->line, '\n', client->length);

	if (!end)
		return client->length < sizeof(client->line);
	*end = '\0';
	client->waits = !strcmp(client->line, "wait");
	if (!strcmp(client->line, "stats"))
		send_stats(control, client->fd);
	if (!strncmp(client->line, upgrading, strlen(upgrading)))
		upgrade(control, client, client->line + strlen(upgrading));
	/* Its end is the answer. */
	return client->waits;
}

static void serve_client(struct control *control, struct control_client *client)
{
	char ignored[64];
	char *to = client->waits ? ignored : client->line + client->length;
	size_t room = client->waits ? sizeof(ignored) : sizeof(client->line) - client->length;
	ssize_t n = recv(client->fd, to, room, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && client->waits)
		return;
	/* It may come in pieces. */
	client->length += n > 0 ? (size_t)n : 0;
	if ((n <= 0 || !obey(control, client)) && client->fd >= 0)
		drop(client);
}

void control_serve(struct control *control, const struct pollfd *fds, int n)
{
	for (int i = 0; i < n; i++) {
		if (!fds[i].revents)
			continue;
		if (fds[i].fd == control->listen_fd)
			accept_client(control);
		else
			serve_client(control, &control->clients[i]);
	}
}
