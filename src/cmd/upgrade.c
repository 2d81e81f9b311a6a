/* SPDX-License-Identifier: MIT */
/*
 * batchiofs upgrade [--to PROGRAM] MOUNTPOINT: has a running mount served by another program, this
 * one unless said otherwise, while programs go on using it. Called by main.c.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "control/control.h"

/* The other program has 20 seconds to find out whether it can; what comes then takes far less. */
#define WAIT_SECONDS 60

static int usage(const char *word)
{
	log_error("upgrade: unexpected '%s'; usage: batchiofs upgrade [--to PROGRAM] MOUNTPOINT",
		word);
	return EXIT_USAGE;
}

/* The program's absolute path. An exit status. */
static int find_program(const char *given, char *path)
{
	if (!realpath(given ? given : "/proc/self/exe", path)) {
		log_error("%s: %s", given ? given : "this program", strerror(errno));
		return EXIT_USAGE;
	}
	if (strchr(path, '\n')) {
		log_error("%s: a newline in its path", path);
		return EXIT_USAGE;
	}
	if (access(path, X_OK)) {
		log_error(
			"%s: %s; a program is needed that may be executed", path, strerror(errno));
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

/* The answer's line, without its end. An exit status. */
static int take_answer(int daemon, char *line, size_t size)
{
	struct pollfd fds = {.fd = daemon, .events = POLLIN};
	size_t used = 0;
	ssize_t n = 1;

	while (n > 0) {
		if (poll(&fds, 1, WAIT_SECONDS * 1000) == 0) {
			log_error("no answer within %d seconds", WAIT_SECONDS);
			return EXIT_SYSTEM;
		}
		n = read(daemon, line + used, size - 1 - used);
		used += n > 0 ? (size_t)n : 0;
		if (n < 0 && errno == EINTR)
			n = 1;
	}
	line[used] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (*line)
		return EXIT_OK;
	log_error("the connection ended without an answer; 'batchiofs stats' shows what serves the "
		  "mount");
	return EXIT_SYSTEM;
}

static int tell(const char *point, const char *line)
{
	char before[64], now[64];
	long long microseconds;

	if (sscanf(line, "upgraded %63s %63s %lld", before, now, &microseconds) == 3) {
		printf("%s: version %s goes on in place of %s; the mount paused for %.1f ms\n",
			point, now, before, (double)microseconds / 1000);
		return EXIT_OK;
	}
	log_error("%s: not upgraded: %s", point,
		!strncmp(line, "refused ", strlen("refused ")) ? line + strlen("refused ") : line);
	return EXIT_SYSTEM;
}

int cmd_upgrade(int argc, char **argv)
{
	const char *path = NULL, *given = NULL;
	char program[PATH_MAX], command[PATH_MAX + 16], line[PATH_MAX + 512];
	struct mount_entry mount;
	_cleanup_fd int daemon = -1;
	int status;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--to") && i + 1 < argc)
			given = argv[++i];
		else if (argv[i][0] == '-' || path)
			return usage(argv[i]);
		else
			path = argv[i];
	}
	if (!path)
		return usage("end of line");
	status = cmd_find_mount(path, &mount);
	if (!status)
		status = find_program(given, program);
	if (status)
		return status;
	snprintf(command, sizeof(command), "upgrade %s\n", program);
	daemon = control_ask(&mount, command);
	if (daemon < 0) {
		log_error("%s: its daemon cannot be asked: %s", path, strerror(-daemon));
		return EXIT_SYSTEM;
	}
	status = take_answer(daemon, line, sizeof(line));
	return status ? status : tell(mount.point, line);
}
