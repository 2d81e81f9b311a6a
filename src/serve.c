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
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "base/reserve.h"
#include "base/terminal.h"
#include "cmd/cmd.h"
#include "fs/lock.h"
#include "fs/watch.h"
#include "hand_over.h"
#include "plan.h"
#include "report.h"
#include "server.h"

/* The kernel sends its first request at once. */
#define INIT_MS 5000

/* ---- the source ---- */

/*
 * Once the source is open and before it may be mounted over. Where another mount has come between
 * plan_sharing() and the opening, what was opened is not what was looked at. An exit status.
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

static bool is_supervised(const struct server *server)
{
	return server->supervise.board != NULL;
}

static int start_loops(struct server *server)
{
	struct loop_group_config config = {
		.loops = server->loops,
		.depth = server->options->queue_depth,
		.payload = server->fs.config.max_write,
		/* What a loop waits for there may never come. */
		.careful = server->remote,
		.uring = server->uring,
		.lasting = is_supervised(server),
		.device = fuse_session_fd(server->point.session),
		.ring = server->ring,
		.ring_loops = server->options->loops,
		.processors = server->processors,
		.queues = server->queues,
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

/* The process that is to serve requests, before it has other threads. An exit status. */
static int enter(void *user)
{
	struct server *server = user;

	if (is_supervised(server) && fs_open_proc(&server->fs))
		return EXIT_SYSTEM;
	return walls_enter(&server->walls, &server->fs, server->uring);
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
			    .confined = server->walls.names,
			    .fs = &server->fs,
			    .mounted_at = server->mounted_at,
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
	walls_detach(&server->walls);
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
		/* The supervisor has other ways. */
		if (!is_supervised(server) || supervise_orphaned(&server->supervise))
			walls_detach(&server->walls);
		return status;
	}
	if (!again)
		walls_tune(&server->walls);
	if (is_agreed(server)) {
		tell_ready(server, again);
		run(server);
	} else {
		status = EXIT_MOUNT;
		loop_group_stop(&server->fs.loops);
	}
	error = loop_group_join(&server->fs.loops);
	/* First, as our numbers are soon free for another mount. */
	walls_detach(&server->walls);
	fs_end(&server->fs);
	loop_group_free(&server->fs.loops);
	if (is_supervised(server)) {
		bool orphaned = supervise_orphaned(&server->supervise);

		fs_destroy(&server->fs);
		if (orphaned) {
			walls_release(&server->walls);
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

	if (server->state)
		hand_over_done(server);
	else
		server->ready(server->ready_user);
}

/* An exit status. */
static int serve_mount(struct server *server)
{
	int status = enter(server);

	if (!status)
		return work(server, false);
	walls_detach(&server->walls);
	return status;
}

/* An exit status. */
static int supervise_mount(struct server *server)
{
	struct supervise *supervise = &server->supervise;
	int status;

	supervise->enter = enter;
	supervise->work = work;
	supervise->ready = supervisor_ready;
	supervise->signalled = take_signal;
	supervise->may_replace = hand_over_may;
	supervise->replace = hand_over_go;
	supervise->give_back = hand_over_failed;
	supervise->again = server->state != NULL;
	supervise->signal_fd = server->signal_fd;
	supervise->user = server;
	if (server->state) {
		supervise->foreign = server->state->open;
		supervise->nforeign = server->state->n_open;
	}
	status = supervise_run(supervise);
	mountpoint_detach(&server->point);
	return status;
}

/* In the worker, asked by the control socket; see control.h. */
static bool take_upgrade(const char *program, int client, char *text, size_t size, void *user)
{
	struct server *server = user;

	if (!is_supervised(server))
		snprintf(text, size,
			"the mount is not supervised (nosupervise, transport=ring, or "
			"not root's)");
	else if (supervise_orphaned(&server->supervise))
		snprintf(text, size, "its supervisor is dead");
	else if (!atomic_load(&server->fs.resends))
		snprintf(text, size, "this kernel cannot hand out requests again (Linux 6.9 can)");
	else if (program[0] != '/')
		snprintf(text, size, "%.200s is no absolute path", program);
	else if (supervise_ask(&server->supervise, program, client))
		return true;
	else
		snprintf(text, size, "another upgrade is under way");
	return false;
}

static void set_control(struct server *server)
{
	server->control.stats = write_stats;
	server->control.upgrade = take_upgrade;
	server->control.user = server;
}

/* Mounts, and opens the control socket. On failure nothing is mounted. An exit status. */
static int mount_it(struct server *server)
{
	int status = mountpoint_mount(&server->point);
	int error;

	if (status)
		return status;
	server->mounted_at = clock_ns();
	if (is_supervised(server))
		atomic_store(&server->supervise.board->mounted_at, server->mounted_at);
	atomic_store(
		&server->fs.own_dev, makedev(server->point.mount.major, server->point.mount.minor));
	error = control_open(
		&server->control, server->point.mount.major, server->point.mount.minor);
	set_control(server);
	if (error)
		log_warning("no control socket, so no stats: %s", strerror(-error));
	return EXIT_OK;
}

static int open_supervise(struct server *server)
{
	int error = server->supervised ? supervise_open(&server->supervise) : 0;

	if (error)
		log_error("supervise: %s", strerror(-error));
	return error ? EXIT_SYSTEM : EXIT_OK;
}

/* Of what is supervised the tables shall be there for another program, too. */
static int init_fs(struct server *server)
{
	struct fs_config config = plan_fs(server);

	umask(0);
	terminal_prepare();
	if (server->supervised)
		server->tables_fd = reserve_keep();
	return fs_init(&server->fs, server->source, &config) ? EXIT_MOUNT : EXIT_OK;
}

static void init(struct server *server, const struct options *options, const char *source,
	const char *mountpoint)
{
	*server = (struct server){
		.options = options,
		.source = source,
		.mountpoint = mountpoint,
		.point = {.options = options, .source = source, .path = mountpoint},
		.claim.fd = -1,
		.control.listen_fd = -1,
		.supervise = {.ready_fd = -1, .stop_fd = -1},
		.signal_fd = -1,
		.tables_fd = -1,
		.state_fd = -1,
		.program_fd = -1,
		.awake.fd = -1,
		.walls = {.point = &server->point,
			.claim = &server->claim,
			.control = &server->control},
	};
}

/* What comes before the mount, the source being ours. An exit status. */
static int prepare(struct server *server)
{
	int status;

	fs_watch(&server->fs);
	if (server->options->idle == IDLE_AUTO)
		server->awake = awake_open();
	server->signal_fd = block_signals();
	if (server->signal_fd < 0) {
		log_error("cannot wait for signals: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	status = open_supervise(server);
	return status ? status : mountpoint_prepare(&server->point, &server->fs);
}

static void finish(struct server *server)
{
	mountpoint_free(&server->point);
	fs_destroy(&server->fs);
	if (server->signal_fd >= 0)
		close(server->signal_fd);
	if (server->awake.fd >= 0)
		close(server->awake.fd);
	supervise_close(&server->supervise);
	walls_release(&server->walls);
	claim_release(&server->claim);
	walls_end(&server->walls);
	/* Last: its end tells `batchiofs umount` that all is closed. */
	control_close(&server->control);
}

int serve(const struct options *options, const char *source, const char *mountpoint,
	serve_ready *ready, void *user)
{
	struct server server;
	int status;

	init(&server, options, source, mountpoint);
	server.ready = ready;
	server.ready_user = user;
	status = plan_descriptors();
	if (!status)
		status = plan_sharing(&server);
	if (!status)
		status = plan_backend(&server);
	if (status)
		return status;
	server.supervised = plan_supervision(options);
	/* The source first: once mounted over itself, its path leads to us. */
	status = init_fs(&server);
	if (status)
		return status;
	status = claim_source(&server);
	if (!status)
		status = prepare(&server);
	if (!status)
		status = mount_it(&server);
	if (!status) {
		server.ring = plan_ring(&server);
		walls_start(&server.walls, options);
	}
	if (!status)
		status = is_supervised(&server) ? supervise_mount(&server) : serve_mount(&server);
	finish(&server);
	return status;
}

/* ---- in the place of another program ---- */

/* Its tables for ours. An exit status. */
static int inherit_tables(struct server *server)
{
	const struct state *state = server->state;
	int error = 0;

	for (size_t i = 0; i < state->n_tables && !error; i++) {
		const struct state_table *table = &state->tables[i];

		error = reserve_inherit(
			(int)state->tables_fd, table->name, table->size, (off_t)table->offset);
		if (error)
			log_error("its table of %s: %s", table->name,
				error == -EINVAL   ? "of another form than this program's"
				: error == -ENOENT ? "this program has none"
						   : strerror(-error));
	}
	if (!error) {
		error = reserve_inherited((int)state->tables_fd);
		if (error)
			log_error("this program has a table that it has not");
	}
	server->tables_fd = (int)state->tables_fd;
	return error ? EXIT_SYSTEM : EXIT_OK;
}

/* All that is the other one's, once ours is as it is before a mount. An exit status. */
static int inherit(struct server *server)
{
	const struct state *state = server->state;
	int status;

	if (state->lasting != inode_lasting(server->fs.inodes)) {
		log_error("its inode numbers are of another kind than this program's");
		return EXIT_SYSTEM;
	}
	status = mountpoint_inherit(&server->point, (int)state->device_fd, (unsigned)state->major,
		(unsigned)state->minor, (uint64_t)state->mount_id);
	if (status)
		return status;
	atomic_store(&server->fs.own_dev, makedev(state->major, state->minor));
	server->claim.fd = (int)state->claim_fd;
	snprintf(server->claim.path, sizeof(server->claim.path), "%s", state->claim);
	control_inherit(&server->control, (int)state->control_fd, state->control);
	set_control(server);
	return inherit_tables(server);
}

int serve_on(const struct options *options, struct state *state)
{
	struct server server;
	int status;

	init(&server, options, state->source, state->mountpoint);
	server.state = state;
	server.exclusive = state->exclusive;
	server.remote = state->remote;
	server.uring = state->uring;
	server.loops = (unsigned)state->loops;
	server.supervised = true;
	server.walls.ring = state->restricted;
	plan_machine(&server);
	status = init_fs(&server);
	if (!status)
		status = prepare(&server);
	if (!status)
		status = inherit(&server);
	if (!status && state->trial)
		printf("%s\n", STATE_READY);
	/* Nothing of it is this process's to take away. */
	if (state->trial) {
		fflush(NULL);
		_exit(status);
	}
	if (!status) {
		walls_start(&server.walls, options);
		status = supervise_mount(&server);
	} else {
		hand_over_back(options, state);
	}
	finish(&server);
	return status;
}
