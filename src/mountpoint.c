/* SPDX-License-Identifier: MIT */
/* The mount itself, see mountpoint.h. For serve.c only. */
#include "mountpoint.h"

#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "fs/fs.h"

/* Cold sequential reads are bounded by what is read ahead. */
#define READ_AHEAD_KB 1024

extern char **environ;

bool mountpoint_has_option(const char *list, const char *name)
{
	size_t length = strlen(name);
	const char *at = list;

	while (at && (at = strstr(at, name))) {
		if ((at == list || at[-1] == ',') &&
			(at[length] == ',' || at[length] == '\0' || at[length] == '='))
			return true;
		at += length;
	}
	return false;
}

/* It has said something. */
static bool fuse_spoke;

/* libfuse's own words go where ours go, without their newline. */
__attribute__((format(printf, 2, 0))) static void fuse_message(
	enum fuse_log_level level, const char *format, va_list ap)
{
	char text[512];
	size_t n;

	vsnprintf(text, sizeof(text), format, ap);
	n = strlen(text);
	while (n && text[n - 1] == '\n')
		text[--n] = '\0';
	fuse_spoke |= n && level <= FUSE_LOG_WARNING;
	if (n && level <= FUSE_LOG_WARNING)
		log_message(
			level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "%s", text);
}

/*
 * The mount options for libfuse: the user's, and what a mount of ours always or by default has. The
 * caller's to free; NULL when memory ran out.
 */
static char *mount_options(const struct mountpoint *point)
{
	const struct options *options = point->options;
	const char *given = options->mount_options;
	bool root = geteuid() == 0;
	char *list = NULL;

	if (fuse_opt_add_opt(&list, "subtype=batchiofs,default_permissions"))
		return NULL;
	if (!mountpoint_has_option(given, "fsname")) {
		_cleanup_free char *fsname = NULL;

		if (asprintf(&fsname, "fsname=%s", point->source) < 0 ||
			fuse_opt_add_opt_escaped(&list, fsname))
			return NULL;
	}
	/* What mount(8) means by "defaults": as the bare directory, for all its users. */
	if (root && !options->noallow_other && !mountpoint_has_option(given, "allow_other") &&
		!mountpoint_has_option(given, "allow_root"))
		fuse_opt_add_opt(&list, "allow_other");
	if (root && !mountpoint_has_option(given, "nosuid"))
		fuse_opt_add_opt(&list, "suid");
	if (root && !mountpoint_has_option(given, "nodev"))
		fuse_opt_add_opt(&list, "dev");
	if (given)
		fuse_opt_add_opt(&list, given);
	return list;
}

int mountpoint_prepare(struct mountpoint *point, struct fs *fs)
{
	_cleanup_free char *list = mount_options(point);
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int status = EXIT_SYSTEM;

	fuse_set_log_func(fuse_message);
	if (!list)
		log_error("out of memory for the options of the mount");
	if (list && !fuse_opt_add_arg(&args, "batchiofs") && !fuse_opt_add_arg(&args, "-o") &&
		!fuse_opt_add_arg(&args, list)) {
		point->session = fuse_session_new(
			&args, fs_operations(), sizeof(struct fuse_lowlevel_ops), fs);
		/* It has said itself what it does not like of the options. */
		status = point->session ? EXIT_OK : EXIT_USAGE;
		if (!point->session && !fuse_spoke)
			log_error("libfuse has no memory for the mount");
	}
	fuse_opt_free_args(&args);
	return status;
}

/* After the end of ours its numbers may be those of somebody's next mount at the same place. */
static bool still_mounted(const struct mountpoint *point)
{
	struct mount_entry now;

	if (point->id)
		return mountinfo_unique_id(point->path) == point->id;
	return !mountinfo_find(point->path, &now) && now.major == point->mount.major &&
	       now.minor == point->mount.minor;
}

static void spawn_fusermount(const char *point)
{
	char *argv[] = {"fusermount3", "-u", "-q", "-z", "--", (char *)point, NULL};
	pid_t pid;

	if (!posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}

void mountpoint_detach(const struct mountpoint *point)
{
	if (!still_mounted(point))
		return;
	if (umount2(point->path, MNT_DETACH | UMOUNT_NOFOLLOW) && errno == EPERM)
		spawn_fusermount(point->path);
	if (still_mounted(point))
		log_error("cannot unmount %s: %s", point->path, strerror(errno));
}

int mountpoint_mount(struct mountpoint *point)
{
	int error;

	if (fuse_session_mount(point->session, point->path)) {
		log_error("cannot mount on %s", point->path);
		return EXIT_MOUNT;
	}
	error = mountinfo_find(point->path, &point->mount);
	if (error) {
		log_error("cannot find the mount on %s in /proc/self/mountinfo: %s", point->path,
			strerror(-error));
		fuse_session_unmount(point->session);
		return EXIT_SYSTEM;
	}
	point->id = mountinfo_unique_id(point->path);
	return EXIT_OK;
}

int mountpoint_inherit(
	struct mountpoint *point, int device, unsigned major, unsigned minor, uint64_t id)
{
	char path[32];

	snprintf(path, sizeof(path), "/dev/fd/%d", device);
	if (fuse_session_mount(point->session, path))
		return EXIT_SYSTEM;
	if (mountinfo_of_device(major, minor, &point->mount)) {
		log_error("%s: it is not mounted any more", point->path);
		return EXIT_MOUNT;
	}
	point->id = id;
	return EXIT_OK;
}

static void set_bdi(const struct mountpoint *point, const char *name, unsigned value)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/%s", point->mount.major,
		point->mount.minor, name);
	file = fopen(path, "we");
	/* Ordinary users have no right to, and go on without. */
	if (!file)
		return;
	fprintf(file, "%u\n", value);
	fclose(file);
}

void mountpoint_tune(const struct mountpoint *point)
{
	set_bdi(point, "read_ahead_kb", READ_AHEAD_KB);
	set_bdi(point, "strict_limit", 0);
	set_bdi(point, "max_ratio", 100);
}

/*
 * libfuse frees what its mount took only along with an unmount by path, unless the connection is
 * dead. By now the path may lead to the file system that we were mounted over: better to leave the
 * few bytes.
 */
void mountpoint_free(struct mountpoint *point)
{
	struct pollfd device = {.events = 0};

	if (!point->session)
		return;
	device.fd = fuse_session_fd(point->session);
	if (device.fd >= 0 && poll(&device, 1, 0) == 1 && (device.revents & POLLERR))
		fuse_session_unmount(point->session);
	fuse_session_destroy(point->session);
	point->session = NULL;
}
