/* SPDX-License-Identifier: MIT */
/* One mount from its start to its end; see serve.h. */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "cmd/cmd.h"
#include "control/claim.h"
#include "control/control.h"
#include "fs/lock.h"
#include "fs/remote.h"
#include "fs/watch.h"
#include "mountpoint.h"
#include "report.h"
#include "supervise/supervise.h"
#include "transport/ring.h"

/* The most that libfuse 3.14 takes in one message. */
#define MAX_WRITE (1u << 20)
/* Standard calls block their loop, so there are more loops than processors. */
#define STANDARD_LOOPS 8
/* Seconds that names and attributes are kept: where nobody else changes them, and where nobody
 * tells of changes. */
#define FOREVER       1e9
#define SHORT_SECONDS 1.0
/* The kernel sends its first request at once. */
#define INIT_MS 5000

struct server {
	const struct options *options;
	const char *source;
	const char *mountpoint;
	bool exclusive; /* sharing, auto resolved */
	struct stat seen; /* the source, when that was done */
	bool remote; /* the source is another host's, or another daemon's */
	bool uring;
	unsigned loops;
	struct fs fs;
	struct mountpoint point;
	struct claim claim;
	struct control control;
	struct supervise supervise; /* board NULL: nobody takes over */
	serve_ready *ready;
	void *ready_user;
	int signal_fd;
	struct awake_means awake;
	bool unmounting;
};

/* ---- what to run ---- */

/* Fixes backend and number of loops. An exit status. */
static int choose_backend(struct server *server)
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
	batchio_close(probe);
	server->loops = options->loops;
	if (!server->loops && server->uring)
		server->loops = cpus < 2 ? 2 : cpus > 4 ? 4 : (unsigned)cpus;
	else if (!server->loops)
		server->loops = STANDARD_LOOPS;
	return EXIT_OK;
}

/* Whether the device is a batchiofs mount. */
static bool is_batchiofs(dev_t dev)
{
	struct mount_entry mount;

	return !mountinfo_of_device(major(dev), minor(dev), &mount) &&
	       mountinfo_is_batchiofs(&mount);
}

/*
 * Fixes what sharing=auto means: exclusive over the source itself, since then nobody reaches the
 * source by its path but through us; save for a file system of several hosts, or who asks for locks
 * against others, or lets the kernel write. Over what a batchiofs mount shows it is exclusive too,
 * which is refused later: a second mount at the same place was not meant. An exit status.
 */
static int choose_sharing(struct server *server)
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

/*
 * Once the source is open and before it may be mounted over. Where another mount has come between
 * choose_sharing() and the opening, what was opened is not what was looked at. An exit status.
 */
static int claim_source(struct server *server)
{
	struct stat now;
	const struct claim_wish wish = {
		.exclusive = server->exclusive,
		.source = server->source,
		.mountpoint = server->mountpoint,
		.source_fd = server->fs.root_fd,
	};

	if (fstat(server->fs.root_fd, &now) || now.st_dev != server->seen.st_dev ||
		now.st_ino != server->seen.st_ino) {
		log_error("cannot mount %s: something was mounted on it at this moment; "
			  "'findmnt %s' shows what",
			server->source, server->source);
		return EXIT_MOUNT;
	}
	return claim_take(&server->claim, &wish) ? EXIT_MOUNT : EXIT_OK;
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

static struct fs_config fs_config(const struct server *server)
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
		.supervised = options->supervise,
		.read_only = mountpoint_has_option(options->mount_options, "ro"),
		.no_statx = mountpoint_has_option(options->mount_options, "allow_root"),
		.privileged = geteuid() == 0,
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

static bool want_ring(const struct server *server)
{
	const char *reason;

	if (server->options->transport != TRANSPORT_RING)
		return false;
	reason = no_ring(server);
	if (reason)
		log_warning("transport=ring: %s; requests come by /dev/fuse", reason);
	return !reason;
}

static bool is_supervised(const struct server *server)
{
	return server->supervise.board != NULL;
}

static int start_loops(struct server *server)
{
	struct loop_group_config config = {
		.loops = server->loops,
		.depth = server->options->queue_depth,
		.payload = MAX_WRITE,
		/* What a loop waits for there may never come. */
		.careful = server->remote,
		.uring = server->uring,
		.lasting = is_supervised(server),
		.device = fuse_session_fd(server->point.session),
		.ring = want_ring(server),
		.ring_loops = server->options->loops,
		.awake = server->awake,
		.hooks = {.dispatch = fs_dispatch, .turn_end = fs_turn_end, .user = &server->fs},
	};
	struct batchio_error error = {0};

	if (loop_group_start(&server->fs.loops, &config, &error)) {
		log_error("cannot start %u loops of depth %u: %s", config.loops, config.depth,
			error.text);
		return EXIT_SYSTEM;
	}
	return EXIT_OK;
}

/* ---- running ---- */

static void write_stats(FILE *out, void *user)
{
	struct server *server = user;

	report(out, &(struct report){
			    .options = server->options,
			    .source = server->source,
			    .mountpoint = server->mountpoint,
			    .exclusive = server->exclusive,
			    .uring = server->uring,
			    .loops = server->loops,
			    .fs = &server->fs,
			    .board = server->supervise.board,
		    });
}

/* The first asks to end when nobody uses the mount any more, the second to end now. */
static void take_signal(void *user)
{
	struct server *server = user;
	struct signalfd_siginfo info;

	if (read(server->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (is_supervised(server) &&
		getpid() != atomic_load(&server->supervise.board->supervisor) &&
		!supervise_orphaned(&server->supervise)) {
		log_warning("signal %u is for process %d, the supervisor", info.ssi_signo,
			atomic_load(&server->supervise.board->supervisor));
		return;
	}
	if (server->unmounting) {
		log_warning(
			"second signal %u: ending although the mount is in use", info.ssi_signo);
		if (is_supervised(server))
			supervise_stop(&server->supervise);
		else
			loop_group_stop(&server->fs.loops);
		return;
	}
	server->unmounting = true;
	log_info("signal %u: unmounting %s", info.ssi_signo, server->mountpoint);
	mountpoint_detach(&server->point);
}

/* Until the loops have ended. */
static void run(struct server *server)
{
	struct pollfd fds[3 + 1 + CONTROL_CLIENTS];

	fds[0] = (struct pollfd){.fd = server->fs.loops.ended_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = server->signal_fd, .events = POLLIN};
	fds[2] = (struct pollfd){.fd = server->supervise.stop_fd, .events = POLLIN};
	while (!(fds[0].revents & POLLIN)) {
		int n = control_poll_fds(&server->control, fds + 3);

		if (poll(fds, (nfds_t)n + 3, -1) < 0)
			continue;
		if (fds[1].revents & POLLIN)
			take_signal(server);
		if (fds[2].revents & POLLIN) {
			loop_group_stop(&server->fs.loops);
			fds[2].fd = -1;
		}
		control_serve(&server->control, fds + 3, n);
	}
}

/* Blocked in all threads from before they start; only run() takes them. */
static int block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN);
	/* A file size limit of the caller's shall be EFBIG for a write, not our end. */
	signal(SIGXFSZ, SIG_IGN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Whether the kernel has come to terms with us, and does what -o passthrough asks of it; its first
 * request tells. */
static bool is_agreed(struct server *server)
{
	struct fs *fs = &server->fs;

	if (!server->options->passthrough && !is_supervised(server))
		return true;
	for (int ms = 0; ms < INIT_MS && !atomic_load(&fs->answering); ms++)
		usleep(1000);
	if (!server->options->passthrough || atomic_load(&fs->passthrough))
		return true;
	log_error("passthrough: this kernel does not have it (Linux 6.9 or later, built with "
		  "CONFIG_FUSE_PASSTHROUGH, has); without this option the mount goes");
	return false;
}

/* The mount answers, for the first time or again. */
static void tell_ready(struct server *server, bool again)
{
	if (!is_supervised(server)) {
		server->ready(server->ready_user);
		return;
	}
	supervise_ready(&server->supervise, !atomic_load(&server->fs.resends));
	if (!again && !server->options->foreground)
		log_to_syslog();
}

/* All that comes before the loops. An exit status. */
static int begin(struct server *server, bool again)
{
	struct fuse_session *session = server->point.session;

	if (is_supervised(server) && fs_open_proc(&server->fs))
		return EXIT_SYSTEM;
	if (fcntl(fuse_session_fd(session), F_SETFL, O_NONBLOCK) ||
		fs_attach(&server->fs, session)) {
		log_error("cannot set up /dev/fuse: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	if (again && fs_take_over(&server->fs, server->supervise.keep, server->supervise.nkeep))
		return EXIT_SYSTEM;
	return EXIT_OK;
}

/* The requests of the mount, until it is unmounted. An exit status. */
static int work(void *user, bool again)
{
	struct server *server = user;
	int status = EXIT_OK;
	int error;

	status = begin(server, again);
	if (!status)
		status = start_loops(server);
	if (status) {
		mountpoint_detach(&server->point);
		return status;
	}
	if (!again)
		mountpoint_tune(&server->point);
	if (is_agreed(server)) {
		tell_ready(server, again);
		run(server);
	} else {
		status = EXIT_MOUNT;
		loop_group_stop(&server->fs.loops);
	}
	error = loop_group_join(&server->fs.loops);
	/* First, as our numbers are soon free for another mount. */
	mountpoint_detach(&server->point);
	fs_end(&server->fs);
	loop_group_free(&server->fs.loops);
	if (is_supervised(server)) {
		bool orphaned = supervise_orphaned(&server->supervise);

		fs_destroy(&server->fs);
		if (orphaned) {
			claim_release(&server->claim);
			control_close(&server->control);
		}
	}
	return status || error == -ENODEV || error == 0 ? status : EXIT_SYSTEM;
}

/* ---- the whole ---- */

static void supervisor_ready(void *user)
{
	struct server *server = user;

	server->ready(server->ready_user);
}

/* An exit status. */
static int supervise_mount(struct server *server)
{
	struct supervise *supervise = &server->supervise;
	int status;

	supervise->work = work;
	supervise->ready = supervisor_ready;
	supervise->signalled = take_signal;
	supervise->signal_fd = server->signal_fd;
	supervise->user = server;
	status = supervise_run(supervise);
	mountpoint_detach(&server->point);
	return status;
}

/* Mounts, and opens the control socket. On failure nothing is mounted. An exit status. */
static int mount_it(struct server *server)
{
	int status = mountpoint_mount(&server->point);
	int error;

	if (status)
		return status;
	atomic_store(
		&server->fs.own_dev, makedev(server->point.mount.major, server->point.mount.minor));
	error = control_open(
		&server->control, server->point.mount.major, server->point.mount.minor);
	server->control.stats = write_stats;
	server->control.user = server;
	if (error)
		log_warning("no control socket, so no stats: %s", strerror(-error));
	return EXIT_OK;
}

static int open_supervise(struct server *server)
{
	int error = server->options->supervise ? supervise_open(&server->supervise) : 0;

	if (error)
		log_error("supervise: %s", strerror(-error));
	return error ? EXIT_SYSTEM : EXIT_OK;
}

int serve(const struct options *options, const char *source, const char *mountpoint,
	serve_ready *ready, void *user)
{
	struct server server = {
		.options = options,
		.source = source,
		.mountpoint = mountpoint,
		.point = {.options = options, .source = source, .path = mountpoint},
		.claim.fd = -1,
		.control.listen_fd = -1,
		.supervise = {.ready_fd = -1, .stop_fd = -1},
		.ready = ready,
		.ready_user = user,
		.awake.fd = -1,
	};
	struct fs_config config;
	int status = choose_sharing(&server);

	if (!status)
		status = choose_backend(&server);
	if (status)
		return status;
	config = fs_config(&server);
	umask(0);
	/* The source first: once mounted over itself, its path leads to us. */
	if (fs_init(&server.fs, source, &config))
		return EXIT_MOUNT;
	status = claim_source(&server);
	if (!status)
		fs_watch(&server.fs);
	if (options->idle == IDLE_AUTO)
		server.awake = awake_open();
	server.signal_fd = block_signals();
	if (!status)
		status = server.signal_fd < 0 ? EXIT_SYSTEM : open_supervise(&server);
	if (!status)
		status = mountpoint_prepare(&server.point, &server.fs);
	if (!status)
		status = mount_it(&server);
	if (!status)
		status = is_supervised(&server) ? supervise_mount(&server) : work(&server, false);
	mountpoint_free(&server.point);
	fs_destroy(&server.fs);
	if (server.signal_fd >= 0)
		close(server.signal_fd);
	if (server.awake.fd >= 0)
		close(server.awake.fd);
	supervise_close(&server.supervise);
	claim_release(&server.claim);
	/* Last: its end tells `batchiofs umount` that all is closed. */
	control_close(&server.control);
	return status;
}
