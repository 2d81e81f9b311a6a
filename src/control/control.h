/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a mount: asked by the verbs of cmd/, served by the main thread of the
 * daemon.
 *
 * It lies outside the mount, so that it answers also when the mount hangs: in /run/batchiofs for
 * root, else in $XDG_RUNTIME_DIR/batchiofs or /tmp/batchiofs-UID, named by the mount's device
 * number. Only root and the mounting user may connect (mode 0600, and the peer's uid is checked on
 * both sides).
 *
 * Protocol: the client sends a line, "stats", "wait" or "upgrade PROGRAM", and nothing after it
 * counts. The answer to "stats" is lines "name value" and the end of the connection; "wait" has no
 * answer: the connection ends with the daemon. That to "upgrade" comes when it is done: "upgraded
 * VERSION-BEFORE VERSION MICROSECONDS", for which the mount did not answer, or "refused REASON".
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/mountinfo.h"

/* Connections at once; more wait in the socket's backlog. */
#define CONTROL_CLIENTS 16

/* The longest line: an upgrade's. */
#define CONTROL_LINE (PATH_MAX + 16)

/* ---- the daemon's side ---- */

struct control_client {
	int fd; /* -1: free */
	bool waits; /* for our end */
	size_t length; /* of what has come of its line, */
	char line[CONTROL_LINE]; /* which is here */
};

struct control {
	int listen_fd; /* -1: none */
	uid_t owner;
	struct sockaddr_un address;
	struct stat socket; /* there, to know it again */
	struct control_client clients[CONTROL_CLIENTS];
	void (*stats)(FILE *out, void *user); /* writes the lines of "stats" */
	/*
	 * "upgrade": this program shall take the place of ours. True: the client is answered, and
	 * its descriptor closed, by who was told. False: text says why not.
	 */
	bool (*upgrade)(const char *program, int client, char *text, size_t size, void *user);
	void *user;
};

/* Makes the socket of the mount with this device number. 0 or -errno; control_close() is harmless
 * after either. */
int control_open(struct control *control, unsigned major, unsigned minor);
/* Goes on with the socket that another program in this process has made; -1: with none. */
void control_inherit(struct control *control, int fd, const char *path);
void control_close(struct control *control);
/* As claim_unlink() and claim_leave(): the socket's name. */
void control_unlink(const struct control *control);
void control_leave(struct control *control);

/* Descriptors to poll: fills up to 1 + CONTROL_CLIENTS entries, returns how many. */
int control_poll_fds(const struct control *control, struct pollfd *fds);
/* Does what poll() found in the same entries. Never blocks. */
void control_serve(struct control *control, const struct pollfd *fds, int n);

/* ---- the verbs' side ---- */

/*
 * Connects to the daemon of a mount and sends command. The connected descriptor, or -errno: -ENOENT
 * where there is no socket, -EACCES where it is not ours to ask or not served by who mounted.
 */
int control_ask(const struct mount_entry *mount, const char *command);

#endif
