/* SPDX-License-Identifier: MIT */
/* Start-up: which verb, what the words mean, whether it can work, into the background. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "base/notify.h"
#include "base/terminal.h"
#include "cmd/cmd.h"
#include "hand_over.h"
#include "options.h"
#include "serve.h"

/* ---- checks before anything is started ---- */

/* An existing directory. An exit status; what is wrong with it is logged. */
static int check_directory(const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st)) {
		log_error("%s %s: %s%s", what, path, strerror(errno),
			errno == ENOENT     ? "; it must be an existing directory"
			: errno == ENOTCONN ? "; a dead mount lies there: umount -l it"
			: errno == EACCES   ? "; you need the right to read and search it"
					    : "");
		return EXIT_USAGE;
	}
	if (!S_ISDIR(st.st_mode)) {
		log_error("%s %s: not a directory", what, path);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int check_source(const char *path, char *resolved)
{
	int status = check_directory("source", path);

	if (status)
		return status;
	if (access(path, R_OK | X_OK)) {
		log_error("source %s: %s; you need the right to read and search it", path,
			strerror(errno));
		return EXIT_USAGE;
	}
	if (!realpath(path, resolved)) {
		log_error("source %s: %s", path, strerror(errno));
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int check_mountpoint(const char *path, char *resolved)
{
	struct mount_entry mount;
	int status;

	/* First what does not touch the mountpoint: a dead mount on it would only say ENOTCONN. */
	if (!mountinfo_resolve(path, resolved) && !mountinfo_find(resolved, &mount) &&
		mountinfo_is_batchiofs(&mount)) {
		log_error("mountpoint %s: batchiofs is mounted there already, of %s; "
			  "'batchiofs umount %s' first",
			path, mount.source, path);
		return EXIT_MOUNT;
	}
	status = check_directory("mountpoint", path);
	if (status)
		return status;
	if (!realpath(path, resolved)) {
		log_error("mountpoint %s: %s", path, strerror(errno));
		return EXIT_USAGE;
	}
	if (!mountinfo_find(resolved, &mount) && mountinfo_is_batchiofs(&mount)) {
		log_error("mountpoint %s: batchiofs is mounted there already, of %s", path,
			mount.source);
		return EXIT_MOUNT;
	}
	/* As fusermount3 wants it; it would say so less clearly. */
	if (geteuid() != 0 && access(path, W_OK)) {
		log_error("mountpoint %s: %s; an ordinary user mounts on directories that are "
			  "theirs to write",
			path, strerror(errno));
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int check_device(void)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		log_error("cannot open /dev/fuse: %s%s", strerror(errno),
			errno == ENOENT || errno == ENODEV || errno == ENXIO
				? "; 'modprobe fuse' makes it where the kernel has FUSE"
				: "");
		return errno == EACCES || errno == EPERM ? EXIT_USAGE : EXIT_MOUNT;
	}
	close(fd);
	return EXIT_OK;
}

/* ---- into the background ---- */

/* The mount answers: tells whoever waits for us (its end of a pipe), and lets go of the terminal.
 */
static void background_ready(void *user)
{
	int *parent = user;
	char ready = 1;

	log_to_syslog();
	terminal_leave();
	if (write(*parent, &ready, 1) != 1)
		log_warning("nobody waited for the mount to be ready");
	close(*parent);
	*parent = -1;
}

static void foreground_ready(void *user)
{
	const char *mountpoint = user;

	log_info("%s is mounted", mountpoint);
	notify_ready();
}

/* Waits for the daemon to be ready or to end; then asks the mount something, as programs will. An
 * exit status. */
static int wait_for_daemon(pid_t daemon, int pipe, const char *mountpoint)
{
	struct stat st;
	char ready = 0;
	ssize_t n;
	int status = 0;

	while ((n = read(pipe, &ready, 1)) < 0 && errno == EINTR)
		;
	if (n == 1) {
		if (!stat(mountpoint, &st))
			return EXIT_OK;
		log_error("%s was mounted but does not answer, and is unmounted: %s", mountpoint,
			strerror(errno));
		/* It was refused when it introduced itself to the kernel: that is never made good.
		 */
		kill(daemon, SIGTERM);
		while (waitpid(daemon, NULL, 0) < 0 && errno == EINTR)
			;
		return EXIT_MOUNT;
	}
	while (waitpid(daemon, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		return WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_MOUNT;
	log_error("the daemon was killed by signal %d", WTERMSIG(status));
	return EXIT_SYSTEM;
}

static int serve_in_background(
	const struct options *options, const char *source, const char *mountpoint)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC)) {
		log_error("cannot make a pipe: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	pid = fork();
	if (pid < 0) {
		log_error("cannot fork: %s", strerror(errno));
		return EXIT_SYSTEM;
	}
	if (pid > 0) {
		close(fds[1]);
		return wait_for_daemon(pid, fds[0], mountpoint);
	}
	close(fds[0]);
	setsid();
	/* Not to keep any directory busy. */
	if (chdir("/"))
		log_warning("cannot change to /: %s", strerror(errno));
	return serve(options, source, mountpoint, background_ready, &fds[1]);
}

static int mount_verb(int argc, char **argv)
{
	char source[PATH_MAX];
	char mountpoint[PATH_MAX];
	struct options options;
	int status = options_parse(&options, argc, argv) ? EXIT_USAGE : EXIT_OK;

	if (!status && options.help) {
		options_help(stdout);
	} else if (!status && options.version) {
		printf("batchiofs %s (libfuse %s, io_uring by %s)\n", BATCHIOFS_VERSION,
			fuse_pkgversion(),
			*batchio_uring_impl() ? batchio_uring_impl() : "nothing");
	} else if (!status) {
		status = check_source(options.source, source);
		if (!status)
			status = check_mountpoint(options.mountpoint, mountpoint);
		if (!status)
			status = check_device();
		if (!status && options.foreground)
			status = serve(&options, source, mountpoint, foreground_ready, mountpoint);
		else if (!status)
			status = serve_in_background(&options, source, mountpoint);
	}
	options_free(&options);
	return status;
}

/* In the place of another program, with its words. */
static int go_on(int argc, char **argv, struct state *state)
{
	struct options options;
	int status = options_parse(&options, argc, argv) ? EXIT_USAGE : EXIT_OK;

	if (!status)
		status = serve_on(&options, state);
	else if (!state->trial)
		hand_over_back(&options, state);
	options_free(&options);
	return status;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"stats", cmd_stats},
	{"status", cmd_status},
	{"umount", cmd_umount},
	{"upgrade", cmd_upgrade},
	{"cleanup", cmd_cleanup},
	{"doctor", cmd_doctor},
	{"bench", cmd_bench},
};

int main(int argc, char **argv)
{
	int status;
	struct state *state = hand_over_taken(&status);

	if (state || status)
		return state ? go_on(argc, argv, state) : status;
	for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(argv[1], verbs[i].name))
			return verbs[i].run(argc - 1, argv + 1);
	return mount_verb(argc, argv);
}
