/* SPDX-License-Identifier: MIT */
/*
 * batchiofs umount [-l] MOUNTPOINT: unmounts, then waits until the daemon has closed everything of the source. Called by main.c
 * and, through mount/umount.batchiofs, by umount(8).
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "control/control.h"

extern char **environ;

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
		log_error("%s: no batchiofs mount there; 'findmnt -t fuse.batchiofs' lists them", path);
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
		log_error("cannot run fusermount3: %s; install the package fuse3",
			strerror(error));
		return EXIT_SYSTEM;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? EXIT_OK : EXIT_MOUNT;
}

static int unmount(const char *point, bool lazy)
{
	if (!umount2(point, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)))
		return EXIT_OK;
	if (errno == EPERM)
		return unmount_as_user(point, lazy);
	log_error("cannot unmount %s: %s%s", point, strerror(errno),
		errno == EBUSY ? "; 'fuser -vm' shows who uses it, -l detaches it now" : "");
	return EXIT_MOUNT;
}

static int usage(const char *word)
{
	log_error("umount: unexpected '%s'; usage: batchiofs umount [-l] MOUNTPOINT", word);
	return EXIT_USAGE;
}

int cmd_umount(int argc, char **argv)
{
	const char *path = NULL;
	struct mount_entry mount;
	bool lazy = false;
	_cleanup_fd int daemon = -1;
	char byte;
	int status;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-l"))
			lazy = true;
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
	/* Before the mount is gone and its number with it. A dead daemon has no socket and nothing to wait for. */
	daemon = lazy ? -1 : control_ask(&mount, "wait\n");
	status = unmount(mount.point, lazy);
	if (status || daemon < 0)
		return status;
	while (read(daemon, &byte, 1) > 0 || errno == EINTR)
		errno = 0;
	return EXIT_OK;
}
