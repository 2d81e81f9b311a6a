/* SPDX-License-Identifier: MIT */
/* One mount from its start to its end; see serve.h. */
#include "serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
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
#include "report.h"
#include "transport/ring.h"

/* The most that libfuse 3.14 takes in one message. */
#define MAX_WRITE (1u << 20)
/* Standard calls block their loop, so there are more loops than processors. */
#define STANDARD_LOOPS 8
/* Cold sequential reads are bounded by what is read ahead. */
#define READ_AHEAD_KB 1024
/* Seconds that names and attributes are kept: where nobody else changes them, and where nobody
 * tells of changes. */
#define FOREVER       1e9
#define SHORT_SECONDS 1.0
/* The kernel sends its first request at once. */
#define INIT_MS 5000

extern char **environ;

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
	struct fuse_session *session;
	struct mount_entry mount; /* ours, once mounted */
	uint64_t mount_id; /* its unique one, 0 where there is none */
	struct claim claim;
	struct control control;
	int signal_fd;
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

static bool has_option(const char *list, const char *name)
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
		.keep_atime = has_option(options->mount_options, "ro") ||
			      has_option(options->mount_options, "noatime"),
		.direct_io_all = options->cache == CACHE_NONE,
		.exclusive = server->exclusive,
		.writeback = options->cache == CACHE_WRITEBACK ||
			     (options->cache == CACHE_AUTO && server->exclusive),
		.no_opens = no_opens(server),
		.passthrough = options->passthrough,
		.read_only = has_option(options->mount_options, "ro"),
		.no_statx = has_option(options->mount_options, "allow_root"),
		.privileged = geteuid() == 0,
		/* A request more than we work on at once is better queued in the kernel. */
		.max_background = options->queue_depth > 16 ? options->queue_depth : 16,
		.max_write = MAX_WRITE,
	};
}

/* ---- mounting ---- */

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
	if (n && level <= FUSE_LOG_WARNING)
		log_message(
			level <= FUSE_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "%s", text);
}

/*
 * The mount options for libfuse: the user's, and what a mount of ours always or by default has. The
 * caller's to free; NULL when memory ran out.
 */
static char *mount_options(const struct server *server)
{
	const struct options *options = server->options;
	const char *given = options->mount_options;
	bool root = geteuid() == 0;
	char *list = NULL;

	if (fuse_opt_add_opt(&list, "subtype=batchiofs,default_permissions"))
		return NULL;
	if (!has_option(given, "fsname")) {
		_cleanup_free char *fsname = NULL;

		if (asprintf(&fsname, "fsname=%s", server->source) < 0 ||
			fuse_opt_add_opt_escaped(&list, fsname))
			return NULL;
	}
	/* What mount(8) means by "defaults": as the bare directory, for all its users. */
	if (root && !options->noallow_other && !has_option(given, "allow_other") &&
		!has_option(given, "allow_root"))
		fuse_opt_add_opt(&list, "allow_other");
	if (root && !has_option(given, "nosuid"))
		fuse_opt_add_opt(&list, "suid");
	if (root && !has_option(given, "nodev"))
		fuse_opt_add_opt(&list, "dev");
	if (given)
		fuse_opt_add_opt(&list, given);
	return list;
}

static int make_session(struct server *server)
{
	_cleanup_free char *list = mount_options(server);
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int status = EXIT_SYSTEM;

	if (list && !fuse_opt_add_arg(&args, "batchiofs") && !fuse_opt_add_arg(&args, "-o") &&
		!fuse_opt_add_arg(&args, list)) {
		server->session = fuse_session_new(
			&args, fs_operations(), sizeof(struct fuse_lowlevel_ops), &server->fs);
		/* It has said itself what it does not like. */
		status = server->session ? EXIT_OK : EXIT_USAGE;
	}
	fuse_opt_free_args(&args);
	return status;
}

/* After the end of ours its numbers may be those of somebody's next mount at the same place. */
static bool still_mounted(const struct server *server)
{
	struct mount_entry now;

	if (server->mount_id)
		return mountinfo_unique_id(server->mountpoint) == server->mount_id;
	return !mountinfo_find(server->mountpoint, &now) && now.major == server->mount.major &&
	       now.minor == server->mount.minor;
}

static void spawn_fusermount(const char *point)
{
	char *argv[] = {"fusermount3", "-u", "-q", "-z", "--", (char *)point, NULL};
	pid_t pid;

	if (!posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
}

/*
 * Detaches our mount; the loops go on until its last user is gone. Never a mount that somebody put
 * over it: only the topmost one can be named.
 */
static void detach(struct server *server)
{
	if (!still_mounted(server))
		return;
	if (umount2(server->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) && errno == EPERM)
		spawn_fusermount(server->mountpoint);
	if (still_mounted(server))
		log_error("cannot unmount %s: %s", server->mountpoint, strerror(errno));
}

static void set_bdi(const struct server *server, const char *name, unsigned value)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/%s", server->mount.major,
		server->mount.minor, name);
	file = fopen(path, "we");
	/* Ordinary users have no right to, and go on without. */
	if (!file)
		return;
	fprintf(file, "%u\n", value);
	fclose(file);
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

static int start_loops(struct server *server)
{
	struct loop_group_config config = {
		.loops = server->loops,
		.depth = server->options->queue_depth,
		.payload = MAX_WRITE,
		/* What a loop waits for there may never come. */
		.careful = server->remote,
		.uring = server->uring,
		.device = fuse_session_fd(server->session),
		.ring = want_ring(server),
		.ring_loops = server->options->loops,
		.hooks = {.dispatch = fs_dispatch, .turn_end = fs_turn_end, .user = &server->fs},
	};
	struct batchio_error error = {0};

	if (fcntl(config.device, F_SETFL, O_NONBLOCK) || fs_attach(&server->fs, server->session)) {
		log_error("cannot set up /dev/fuse: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	if (loop_group_start(&server->fs.loops, &config, &error)) {
		log_error("cannot start %u loops of depth %u: %s", config.loops, config.depth,
			error.text);
		return EXIT_SYSTEM;
	}
	return EXIT_OK;
}

/* Mounts, and starts to answer. On failure nothing is mounted. An exit status. */
static int mount_and_start(struct server *server)
{
	int status;

	if (fuse_session_mount(server->session, server->mountpoint)) {
		log_error("cannot mount on %s", server->mountpoint);
		return EXIT_MOUNT;
	}
	if (mountinfo_find(server->mountpoint, &server->mount)) {
		log_error("%s: mounted, but not in /proc/self/mountinfo", server->mountpoint);
		fuse_session_unmount(server->session);
		return EXIT_SYSTEM;
	}
	server->mount_id = mountinfo_unique_id(server->mountpoint);
	atomic_store(&server->fs.own_dev, makedev(server->mount.major, server->mount.minor));
	status = start_loops(server);
	if (status) {
		detach(server);
		return status;
	}
	set_bdi(server, "read_ahead_kb", READ_AHEAD_KB);
	set_bdi(server, "strict_limit", 0);
	set_bdi(server, "max_ratio", 100);
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
		    });
}

/* The first asks to end when nobody uses the mount any more, the second to end now. */
static void take_signal(struct server *server)
{
	struct signalfd_siginfo info;

	if (read(server->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (server->unmounting) {
		log_warning(
			"second signal %u: ending although the mount is in use", info.ssi_signo);
		loop_group_stop(&server->fs.loops);
		return;
	}
	server->unmounting = true;
	log_info("signal %u: unmounting %s", info.ssi_signo, server->mountpoint);
	detach(server);
}

/* Until the loops have ended. */
static void run(struct server *server)
{
	struct pollfd fds[2 + 1 + CONTROL_CLIENTS];

	fds[0] = (struct pollfd){.fd = server->fs.loops.ended_fd, .events = POLLIN};
	fds[1] = (struct pollfd){.fd = server->signal_fd, .events = POLLIN};
	while (!(fds[0].revents & POLLIN)) {
		int n = control_poll_fds(&server->control, fds + 2);

		if (poll(fds, (nfds_t)n + 2, -1) < 0)
			continue;
		if (fds[1].revents & POLLIN)
			take_signal(server);
		control_serve(&server->control, fds + 2, n);
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

/* Whether the kernel does what -o passthrough asks of it, which its first request tells. */
static bool passes_through(struct server *server)
{
	struct fs *fs = &server->fs;

	if (!server->options->passthrough)
		return true;
	for (int ms = 0; ms < INIT_MS && !atomic_load(&fs->answering); ms++)
		usleep(1000);
	if (atomic_load(&fs->passthrough))
		return true;
	log_error("passthrough: this kernel does not have it (Linux 6.9 or later, built with "
		  "CONFIG_FUSE_PASSTHROUGH, has); without this option the mount goes");
	return false;
}

static int run_mount(struct server *server, serve_ready *ready, void *user)
{
	int error = control_open(&server->control, server->mount.major, server->mount.minor);
	int status = EXIT_OK;

	server->control.stats = write_stats;
	server->control.user = server;
	if (error)
		log_warning("no control socket, so no stats: %s", strerror(-error));
	if (passes_through(server)) {
		ready(user);
		run(server);
	} else {
		status = EXIT_MOUNT;
		loop_group_stop(&server->fs.loops);
	}
	error = loop_group_join(&server->fs.loops);
	/* First, as our numbers are soon free for another mount. */
	detach(server);
	fs_end(&server->fs);
	loop_group_free(&server->fs.loops);
	return status || error == -ENODEV || error == 0 ? status : EXIT_SYSTEM;
}

/*
 * libfuse frees what its mount took only along with an unmount by path, unless the connection is
 * dead. By now the path may lead to the file system that we were mounted over: better to leave the
 * few bytes.
 */
static void free_session(struct fuse_session *session)
{
	struct pollfd device = {.fd = fuse_session_fd(session)};

	if (device.fd >= 0 && poll(&device, 1, 0) == 1 && (device.revents & POLLERR))
		fuse_session_unmount(session);
	fuse_session_destroy(session);
}

int serve(const struct options *options, const char *source, const char *mountpoint,
	serve_ready *ready, void *user)
{
	struct server server = {
		.options = options,
		.source = source,
		.mountpoint = mountpoint,
		.claim.fd = -1,
		.control.listen_fd = -1,
	};
	struct fs_config config;
	int status = choose_sharing(&server);

	if (!status)
		status = choose_backend(&server);
	if (status)
		return status;
	config = fs_config(&server);
	umask(0);
	fuse_set_log_func(fuse_message);
	/* The source first: once mounted over itself, its path leads to us. */
	if (fs_init(&server.fs, source, &config))
		return EXIT_MOUNT;
	status = claim_source(&server);
	if (!status)
		fs_watch(&server.fs);
	server.signal_fd = block_signals();
	if (!status)
		status = server.signal_fd < 0 ? EXIT_SYSTEM : make_session(&server);
	if (!status)
		status = mount_and_start(&server);
	if (!status)
		status = run_mount(&server, ready, user);
	if (server.session)
		free_session(server.session);
	fs_destroy(&server.fs);
	if (server.signal_fd >= 0)
		close(server.signal_fd);
	claim_release(&server.claim);
	/* Last: its end tells `batchiofs umount` that all is closed. */
	control_close(&server.control);
	return status;
}
