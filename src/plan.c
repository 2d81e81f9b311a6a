/* SPDX-License-Identifier: MIT */
/* What to run, see plan.h. */
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "batchio/command.h"
#include "cmd/cmd.h"
#include "fs/remote.h"
#include "fs/watch.h"
#include "transport/ring.h"

/* The most that libfuse 3.14 takes in one message. */
#define MAX_WRITE (1u << 20)
/* Standard calls block their loop, so there are more loops than processors. */
#define STANDARD_LOOPS 8
/* Seconds that names and attributes are kept: where nobody else changes them, and where nobody
 * tells of changes. */
#define FOREVER       1e9
#define SHORT_SECONDS 1.0
/* What a mount opens for itself, and some files. */
#define DESCRIPTORS_LEAST 64u

int plan_backend(struct server *server)
{
	const struct options *options = server->options;
	struct batchio_error error;
	struct batchio *probe = NULL;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (options->backend != BACKEND_STANDARD) {
		probe = batchio_new_uring(options->queue_depth, 0, &error);
		if (!probe && options->backend == BACKEND_URING) {
			log_error("backend=uring: %s; backend=standard works without io_uring",
				error.text);
			return EXIT_MOUNT;
		}
		if (!probe)
			log_warning("backend=auto: taking the standard backend: %s", error.text);
	}
	server->uring = probe != NULL;
	server->walls.ring = probe && batchio_is_restricted(probe);
	batchio_close(probe);
	server->loops = options->loops;
	if (!server->loops && server->uring)
		server->loops = cpus < 2 ? 2 : cpus > 4 ? 4 : (unsigned)cpus;
	else if (!server->loops)
		server->loops = STANDARD_LOOPS;
	plan_machine(server);
	return EXIT_OK;
}

void plan_machine(struct server *server)
{
	server->processors = (unsigned)get_nprocs();
	server->queues = ring_queues();
}

int plan_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_max >= DESCRIPTORS_LEAST)
		return EXIT_OK;
	log_error(
		"a limit of %llu open files (ulimit -n) is too low for a mount: %u are needed, and "
		"some more for each open file",
		(unsigned long long)limit.rlim_max, DESCRIPTORS_LEAST);
	return EXIT_SYSTEM;
}

/* Whether the device is a batchiofs mount. */
static bool is_batchiofs(dev_t dev)
{
	struct mount_entry mount;

	return !mountinfo_of_device(major(dev), minor(dev), &mount) &&
	       mountinfo_is_batchiofs(&mount);
}

/*
 * What sharing=auto means: exclusive over the source itself, since then nobody reaches the
 * source by its path but through us; save for a file system of several hosts, or who asks for locks
 * against others, or lets the kernel write. Over what a batchiofs mount shows it is exclusive too,
 * which is refused later: a second mount at the same place was not meant. An exit status.
 */
int plan_sharing(struct server *server)
{
	const struct options *options = server->options;
	_cleanup_fd int fd = open(server->source, O_PATH | O_CLOEXEC);
	struct stat source;
	struct stat point;

	if (fd < 0 || fstat(fd, &source) || stat(server->mountpoint, &point)) {
		log_error("cannot look at %s and %s: %s", server->source, server->mountpoint,
			strerror(errno));
		return EXIT_USAGE;
	}
	server->seen = source;
	server->remote = remote_source(fd);
	server->exclusive = options->sharing == SHARING_EXCLUSIVE;
	if (options->sharing == SHARING_AUTO)
		server->exclusive =
			source.st_dev == point.st_dev && source.st_ino == point.st_ino &&
			(!server->remote || is_batchiofs(source.st_dev)) && !options->posix_locks &&
			!options->flock && !options->passthrough;
	return options_check(options, server->exclusive) ? EXIT_USAGE : EXIT_OK;
}

/* Whether the kernel hands out again what a dead process has not answered. */
static bool kernel_resends(void)
{
	int major = 0, minor = 0;
	struct utsname name;

	return uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 9));
}

/* Root's mounts are supervised where they can be, others where that is asked for. */
bool plan_supervision(const struct options *options)
{
	if (options->supervise || options->nosupervise)
		return options->supervise;
	return geteuid() == 0 && options->transport != TRANSPORT_RING && kernel_resends();
}

/* What was given wins. */
static double seconds(double given, double otherwise)
{
	return given < 0 ? otherwise : given;
}

/*
 * Opens without a message need a daemon that may open whatever the kernel lets its users open: an
 * ordinary user's may not.
 */
static bool no_opens(const struct server *server)
{
	const struct options *options = server->options;

	return options->opens == OPENS_NONE ||
	       (options->opens == OPENS_AUTO && server->exclusive && geteuid() == 0 &&
		       options->cache != CACHE_NONE);
}

struct fs_config plan_fs(const struct server *server)
{
	const struct options *options = server->options;
	double unwatched = server->exclusive ? FOREVER : SHORT_SECONDS;

	return (struct fs_config){
		.attr_timeout = seconds(options->attr_timeout, unwatched),
		.entry_timeout = seconds(options->entry_timeout, unwatched),
		/* Nobody tells of a mapping that the kernel writes through. */
		.attr_watched = seconds(options->attr_timeout,
			options->passthrough ? SHORT_SECONDS : WATCH_SECONDS),
		.entry_watched = seconds(options->entry_timeout, WATCH_SECONDS),
		.watch = !server->exclusive && options->watch != WATCH_NONE,
		.fsync_data = options->fsync == FSYNC_DATA,
		.posix_locks = options->posix_locks,
		.flock = options->flock,
		.keep_atime = mountpoint_has_option(options->mount_options, "ro") ||
			      mountpoint_has_option(options->mount_options, "noatime"),
		.direct_io_all = options->cache == CACHE_NONE,
		.exclusive = server->exclusive,
		.writeback = options->cache == CACHE_WRITEBACK ||
			     (options->cache == CACHE_AUTO && server->exclusive),
		.no_opens = no_opens(server),
		.passthrough = options->passthrough,
		.supervised = server->supervised,
		.read_only = mountpoint_has_option(options->mount_options, "ro"),
		.no_statx = mountpoint_has_option(options->mount_options, "allow_root"),
		.privileged = geteuid() == 0,
		.inherited_fd = server->state ? (int)server->state->root_fd : 0,
		/* A request more than we work on at once is better queued in the kernel. */
		.max_background = options->queue_depth > 16 ? options->queue_depth : 16,
		.max_write = MAX_WRITE,
	};
}

/* Why requests cannot come by FUSE over io_uring, or NULL. */
static const char *no_ring(const struct server *server)
{
	const struct options *options = server->options;

	if (!server->uring)
		return "backend=standard does without io_uring";
	/* The kernel gives a request to a loop before that has time for it. */
	if (server->remote)
		return "a request that waits for another host would hold up others behind it";
	if (options->posix_locks || options->flock)
		return "locks that wait would keep its places from other requests";
	return ring_missing();
}

bool plan_ring(const struct server *server)
{
	const char *reason;

	if (server->options->transport != TRANSPORT_RING)
		return false;
	reason = no_ring(server);
	if (reason)
		log_warning("transport=ring: %s; requests come by /dev/fuse", reason);
	return !reason;
}
