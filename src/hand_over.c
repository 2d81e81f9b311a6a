/* SPDX-License-Identifier: MIT */
/* One program after another; see hand_over.h. */
#include "hand_over.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/reserve.h"
#include "cmd/cmd.h"
#include "server.h"

/* Names the state's descriptor, and what to do. */
#define VARIABLE "BATCHIOFS_STATE"
/* For the other program to find out whether it could go on. */
#define TRIAL_MS 20000

extern char **environ;

/* ---- descriptors ---- */

/* The standard ones are any program's. */
static int set_inherited(int fd, void *inherited)
{
	if (fd > STDERR_FILENO)
		fcntl(fd, F_SETFD, *(const bool *)inherited ? 0 : FD_CLOEXEC);
	return 0;
}

/* ---- in the program that goes on ---- */

static bool is_told(const struct state *state, int fd)
{
	return fd <= STDERR_FILENO || fd == state->fd || fd == state->root_fd ||
	       fd == state->device_fd || fd == state->claim_fd || fd == state->control_fd ||
	       fd == state->tables_fd || fd == state->program_fd || fd == state->asker_fd;
}

static int note_fd(int fd, void *user)
{
	struct state *state = user;
	int *grown;

	if (is_told(state, fd))
		return 0;
	grown = realloc(state->open, (state->n_open + 1) * sizeof(int));
	if (!grown)
		return -ENOMEM;
	state->open = grown;
	state->open[state->n_open++] = fd;
	return 0;
}

/* A line for whoever looks at the trial, besides the log's. */
static int read_state(struct state *state, int fd)
{
	FILE *in = lseek(fd, 0, SEEK_SET) ? NULL : fdopen(dup(fd), "re");
	char text[128] = "";
	int error = in ? state_read(in, state, text, sizeof(text)) : -errno;

	if (in)
		fclose(in);
	if (error)
		log_error("cannot go on with another program's mount: %s",
			*text ? text : strerror(-error));
	state->fd = fd;
	return error;
}

struct state *hand_over_taken(int *status)
{
	const char *word = getenv(VARIABLE);
	bool inherited = false;
	struct state *state;
	char then[8] = "";
	int fd = -1;

	*status = EXIT_OK;
	if (!word)
		return NULL;
	*status = EXIT_SYSTEM;
	state = calloc(1, sizeof(*state));
	if (!state || sscanf(word, "%d,%7s", &fd, then) < 1 || read_state(state, fd))
		return NULL;
	unsetenv(VARIABLE);
	state->back = !strcmp(then, "back");
	state->trial = !strcmp(then, "trial");
	descriptors_each(-1, set_inherited, &inherited);
	if (descriptors_each(-1, note_fd, state)) {
		log_error("cannot see what is open");
		return NULL;
	}
	if (state->syslog && !state->trial)
		log_to_syslog();
	*status = EXIT_OK;
	return state;
}

/* ---- from one to the next ---- */

/* Executes the program (a descriptor of it, or a path) with our words. -errno, if it returns. */
static int execute(
	const struct options *options, int fd, const char *path, int state_fd, const char *then)
{
	bool inherited = true;
	char value[32];
	int error;

	snprintf(value, sizeof(value), "%d%s", state_fd, then);
	setenv(VARIABLE, value, 1);
	descriptors_each(-1, set_inherited, &inherited);
	execveat(fd, path, options->argv, environ, *path ? 0 : AT_EMPTY_PATH);
	error = -errno;
	log_error("cannot execute %s: %s", *path ? path : "the former program", strerror(-error));
	inherited = false;
	descriptors_each(-1, set_inherited, &inherited);
	unsetenv(VARIABLE);
	return error;
}

void hand_over_back(const struct options *options, const struct state *state)
{
	if (state->back)
		return;
	log_error("the program before this one goes on");
	execute(options, (int)state->program_fd, "", state->fd, ",back");
}

/* ---- in the supervisor ---- */

__attribute__((format(printf, 2, 3))) static void answer(
	struct server *server, const char *format, ...)
{
	int asker = atomic_exchange(&server->supervise.board->asker, 0);
	char line[PATH_MAX + 256];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (asker <= 0)
		return;
	send(asker, line, n < (int)sizeof(line) ? (size_t)n : sizeof(line) - 1,
		MSG_NOSIGNAL | MSG_DONTWAIT);
	supervise_let_go(&server->supervise, asker);
}

static void close_state(struct server *server)
{
	if (server->state_fd >= 0)
		close(server->state_fd);
	if (server->program_fd >= 0)
		close(server->program_fd);
	server->state_fd = server->program_fd = -1;
}

/* The state as a file in memory. 0 or -errno. */
static int write_state(struct server *server)
{
	_cleanup_fd int fd = memfd_create("batchiofs-state", MFD_CLOEXEC);
	_cleanup_fd int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct state state;
	FILE *out = fd < 0 || self < 0 ? NULL : fdopen(dup(fd), "we");

	if (!out)
		return -errno;
	state = (struct state){
		.exclusive = server->exclusive,
		.remote = server->remote,
		.uring = server->uring,
		.restricted = server->walls.ring,
		.loops = server->loops,
		.lasting = inode_lasting(server->fs.inodes),
		.syslog = log_is_to_syslog(),
		.major = server->point.mount.major,
		.minor = server->point.mount.minor,
		.mount_id = (long long)server->point.id,
		.root_fd = server->fs.root_fd,
		.device_fd = fuse_session_fd(server->point.session),
		.claim_fd = server->claim.fd,
		.control_fd = server->control.listen_fd,
		.tables_fd = server->tables_fd,
		.program_fd = self,
		.asker_fd = atomic_load(&server->supervise.board->asker),
	};
	snprintf(state.program, sizeof(state.program), "%s", BATCHIOFS_VERSION);
	snprintf(state.source, sizeof(state.source), "%s", server->source);
	snprintf(state.mountpoint, sizeof(state.mountpoint), "%s", server->mountpoint);
	snprintf(state.claim, sizeof(state.claim), "%s", server->claim.path);
	snprintf(state.control, sizeof(state.control), "%s",
		server->control.listen_fd < 0 ? "" : server->control.address.sun_path);
	state_write(out, &state);
	reserve_describe(out);
	if (fclose(out))
		return -ENOSPC;
	server->program_fd = steal_fd(&self);
	server->state_fd = steal_fd(&fd);
	return 0;
}

/* What the other program says, until it closes its end: text is the last line of it. False: it took
 * too long. */
static bool listen_to(int pipe, char *text, size_t size)
{
	int64_t end = clock_ns() + TRIAL_MS * INT64_C(1000000);
	struct pollfd fds = {.fd = pipe, .events = POLLIN};
	size_t used = 0;
	ssize_t n = 1;
	char *line;

	while (n > 0) {
		int64_t left = (end - clock_ns()) / 1000000;

		if (left <= 0 || poll(&fds, 1, (int)left) == 0)
			return false;
		/* Only what came last is of interest. */
		if (used > size / 2) {
			memmove(text, text + size / 4, used - size / 4);
			used -= size / 4;
		}
		n = read(pipe, text + used, size - 1 - used);
		used += n > 0 ? (size_t)n : 0;
		if (n < 0 && errno == EINTR)
			n = 1;
	}
	while (used && text[used - 1] == '\n')
		used--;
	text[used] = '\0';
	line = strrchr(text, '\n');
	if (line)
		memmove(text, line + 1, strlen(line + 1) + 1);
	return true;
}

/* Starts the other program's trial. Its process id, or -errno. */
static pid_t start_trial(const struct server *server, int state_fd, int pipe)
{
	const int given[] = {state_fd, server->fs.root_fd, fuse_session_fd(server->point.session),
		server->claim.fd, server->control.listen_fd, server->tables_fd};
	posix_spawn_file_actions_t actions;
	char value[32];
	int error;
	pid_t pid;

	snprintf(value, sizeof(value), "%d,trial", state_fd);
	setenv(VARIABLE, value, 1);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, pipe, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, pipe, STDERR_FILENO);
	/* Onto itself: open in that program, too. */
	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++)
		if (given[i] >= 0)
			posix_spawn_file_actions_adddup2(&actions, given[i], given[i]);
	error = posix_spawn(&pid, server->supervise.board->program, &actions, NULL,
		server->options->argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	unsetenv(VARIABLE);
	return error ? -error : pid;
}

/* Whether the other program could go on. If not, text says why. */
static bool try_it(const struct server *server, int state_fd, char *text, size_t size)
{
	const char *program = server->supervise.board->program;
	int fds[2], status = 0;
	bool in_time;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC)) {
		snprintf(text, size, "no pipe: %s", strerror(errno));
		return false;
	}
	pid = start_trial(server, state_fd, fds[1]);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		snprintf(text, size, "%.900s: %s", program, strerror(-pid));
		return false;
	}
	in_time = listen_to(fds[0], text, size);
	close(fds[0]);
	if (!in_time)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0 && !strcmp(text, STATE_READY))
		return true;
	if (!in_time || !*text || !strcmp(text, STATE_READY))
		snprintf(text, size, "%.900s %s when asked whether it can go on", program,
			in_time ? "ended" : "did not answer");
	return false;
}

bool hand_over_may(void *user)
{
	struct server *server = user;
	char text[1024] = "";
	int error;

	if (server->tables_fd < 0) {
		answer(server, "refused the mount was made under a limit of file sizes, so that "
			       "its tables lie in no file\n");
		return false;
	}
	error = write_state(server);
	if (error) {
		answer(server, "refused cannot write the state down: %s\n", strerror(-error));
		return false;
	}
	if (try_it(server, server->state_fd, text, sizeof(text)))
		return true;
	log_error("%s cannot go on with this mount: %s", server->supervise.board->program, text);
	answer(server, "refused %s\n", text);
	close_state(server);
	return false;
}

void hand_over_go(void *user)
{
	struct server *server = user;
	int error;

	log_info("%s takes this program's place", server->supervise.board->program);
	walls_end(&server->walls);
	error = execute(
		server->options, -1, server->supervise.board->program, server->state_fd, "");
	answer(server, "refused %s: %s\n", server->supervise.board->program, strerror(-error));
	walls_start(&server->walls, server->options);
	close_state(server);
}

void hand_over_failed(void *user)
{
	struct server *server = user;

	if (server->state->back)
		return;
	walls_end(&server->walls);
	hand_over_back(server->options, server->state);
	walls_start(&server->walls, server->options);
}

void hand_over_done(struct server *server)
{
	struct supervise_board *board = server->supervise.board;

	if (server->state->back) {
		answer(server,
			"refused the workers of %s died before they had taken over; the former "
			"program goes on\n",
			board->program);
	} else {
		atomic_fetch_add(&board->upgrades, 1);
		answer(server, "upgraded %s %s %lld\n", server->state->program, BATCHIOFS_VERSION,
			(long long)atomic_load(&board->pause_ns) / 1000);
	}
	log_info("this program goes on in place of the former one");
	supervise_let_go(&server->supervise, (int)server->state->program_fd);
	supervise_let_go(&server->supervise, server->state->fd);
}
