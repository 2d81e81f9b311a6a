/* SPDX-License-Identifier: MIT */
/*
 * batchiofs umount [-l] [-f] MOUNTPOINT: unmounts, then waits until the daemon has closed
 * everything of the source. Called by main.c and, through mount/umount.batchiofs, by umount(8).
 */
#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "control/control.h"

extern char **environ;

/* How long the daemon may take to end before that is worth a word, and before we go without it. */
#define QUIET_SECONDS 2
#define WAIT_SECONDS  60

int cmd_find_mount(const char *path, struct mount_entry *out)
{
	char point[PATH_MAX];
	int error = mountinfo_resolve(path, point);

	if (!error)
		error = mountinfo_find(point, out);
	if (error && error != -ENOENT) {
		log_error("%s: %s", path, strerror(-error));
		return EXIT_SYSTEM;
	}
	if (error || !mountinfo_is_batchiofs(out)) {
		log_error("%s: no batchiofs mount there; 'findmnt -t fuse.batchiofs' lists them",
			path);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* The way of ordinary users. fusermount3 says itself what is wrong. */
static int unmount_as_user(const char *point, bool lazy)
{
	char *argv[] = {"fusermount3", "-u", lazy ? "-z" : "--", lazy ? "--" : (char *)point,
		lazy ? (char *)point : NULL, NULL};
	pid_t pid;
	int status = 0;
	int error = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);

	if (error) {
		log_error("cannot run fusermount3: %s; install the package fuse3", strerror(error));
		return EXIT_SYSTEM;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? EXIT_OK : EXIT_MOUNT;
}

static int unmount(const char *point, bool lazy, bool force)
{
	if (!umount2(point, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0) | (force ? MNT_FORCE : 0)))
		return EXIT_OK;
	if (errno == EPERM)
		return unmount_as_user(point, lazy);
	log_error("cannot unmount %s: %s%s", point, strerror(errno),
		errno == EBUSY ? "; 'fuser -vm' shows who uses it, -l detaches it now" : "");
	return EXIT_MOUNT;
}

/* The daemon at the other end of a connection, as a pidfd; -1 where there is none to be had. */
static int daemon_pidfd(int daemon)
{
	struct ucred peer = {0};
	socklen_t size = sizeof(peer);

	if (daemon < 0 || getsockopt(daemon, SOL_SOCKET, SO_PEERCRED, &peer, &size) ||
		peer.pid <= 0)
		return -1;
	return (int)syscall(SYS_pidfd_open, peer.pid, 0);
}

/* Waits until the connection ends. False after the time. */
static bool connection_ends(int daemon, int seconds)
{
	struct pollfd connection = {.fd = daemon, .events = POLLIN};
	char byte;

	while (poll(&connection, 1, seconds * 1000) > 0)
		if (read(daemon, &byte, 1) <= 0 && errno != EINTR)
			return true;
	return false;
}

/*
 * The connection ends when the daemon has closed everything; its process is gone a moment later.
 * Not for ever: a copy of the mount in another mount namespace (a container's) keeps the daemon
 * going.
 */
static void wait_for_end(const char *point, int daemon, int pidfd)
{
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};

	if (!connection_ends(daemon, QUIET_SECONDS)) {
		log_warning(
			"%s is unmounted; waiting for its daemon, which is still writing or serves "
			"a copy of the mount in another mount namespace",
			point);
		if (!connection_ends(daemon, WAIT_SECONDS)) {
			log_warning(
				"%s: not waiting any longer: the source is still in use", point);
			return;
		}
	}
	if (pidfd >= 0)
		poll(&ended, 1, 5000);
}

static int usage(const char *word)
{
	log_error("umount: unexpected '%s'; usage: batchiofs umount [-l] [-f] MOUNTPOINT", word);
	return EXIT_USAGE;
}

int cmd_umount(int argc, char **argv)
{
	const char *path = NULL;
	struct mount_entry mount;
	bool lazy = false;
	bool force = false;
	_cleanup_fd int daemon = -1;
	_cleanup_fd int pidfd = -1;
	int status;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-l"))
			lazy = true;
		else if (!strcmp(argv[i], "-f"))
			force = true;
		else if (argv[i][0] == '-' || path)
			return usage(argv[i]);
		else
			path = argv[i];
	}
	if (!path)
		return usage("end of line");
	status = cmd_find_mount(path, &mount);
	if (status)
		return status;
	/* Before the mount is gone and its number with it. A dead daemon has no socket and nothing
	 * to wait for. */
	daemon = lazy ? -1 : control_ask(&mount, "wait\n");
	pidfd = daemon_pidfd(daemon);
	status = unmount(mount.point, lazy, force);
	/* That was not all of it: the daemon goes on. */
	if (!status && daemon >= 0 && !mountinfo_elsewhere(&mount))
		wait_for_end(mount.point, daemon, pidfd);
	return status;
}
