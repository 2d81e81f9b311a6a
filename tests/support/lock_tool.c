/* SPDX-License-Identifier: MIT */
/*
 * Takes locks, for tests/mount/locks.bats.
 *
 *	lock_tool try KIND TYPE FILE	exit status 1 where somebody else has it
 *	lock_tool hold KIND TYPE FILE	as try; says "held" and keeps it until it is killed
 *	lock_tool wait KIND TYPE FILE [SECONDS]	waits, says "got" or the error; SIGINT and, after
 *		SECONDS, SIGALRM are caught without restarting the call
 *	lock_tool many KIND N FILE	N processes wait for write locks; says "got N" when all had
 *it lock_tool test TYPE FILE	F_GETLK: the process in the way, or "free" lock_tool close KIND FILE
 *locks, then closes another descriptor of the file: "kept" or "lost" lock_tool reopen FILE	an
 *owner's locks by two handles, for reading and for writing
 *
 * KIND is flock, posix or ofd; TYPE is r or w.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "lock_tool: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

static void say(const char *text)
{
	printf("%s\n", text);
	fflush(stdout);
}

/* 0, or -1 with errno. */
static int take(const char *kind, bool write, int fd, bool wait)
{
	struct flock all = {.l_type = write ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	if (!strcmp(kind, "flock"))
		return flock(fd, (write ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
	if (!strcmp(kind, "posix"))
		return fcntl(fd, wait ? F_SETLKW : F_SETLK, &all);
	if (!strcmp(kind, "ofd"))
		return fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &all);
	errno = EINVAL;
	return -1;
}

static void try(const char *kind, bool write, const char *path)
{
	if (take(kind, write, open_file(path, O_RDWR), false) == 0)
		return;
	if (errno != EAGAIN && errno != EACCES)
		die(path);
	exit(1);
}

static void caught(int signal)
{
	(void)signal;
}

static void wait_for(const char *kind, bool write, const char *path, const char *seconds)
{
	struct sigaction action = {.sa_handler = caught};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	if (seconds)
		alarm((unsigned)atoi(seconds));
	say("waiting");
	say(take(kind, write, open_file(path, O_RDWR), true) ? strerror(errno) : "got");
}

static void many(const char *kind, int n, const char *path)
{
	int got = 0;
	int status;

	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0)
			_exit(take(kind, true, open_file(path, O_RDWR), true) ? 1 : 0);
	}
	while (wait(&status) > 0)
		got += status == 0;
	printf("got %d\n", got);
}

static void test(bool write, const char *path)
{
	struct flock all = {.l_type = write ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

	if (fcntl(open_file(path, O_RDWR), F_GETLK, &all) < 0)
		die(path);
	if (all.l_type == F_UNLCK)
		say("free");
	else
		printf("%d\n", all.l_pid);
}

/* Whether another process finds path locked. */
static bool locked(const char *kind, const char *path)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork");
	if (pid == 0)
		_exit(take(kind, true, open_file(path, O_RDWR), false) ? 1 : 0);
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	return status != 0;
}

static void close_other(const char *kind, const char *path)
{
	int fd = open_file(path, O_RDWR);
	int other = open_file(path, O_RDWR);

	if (take(kind, true, fd, false) || !locked(kind, path))
		die("take");
	close(other);
	say(locked(kind, path) ? "kept" : "lost");
}

static void reopen(const char *path)
{
	int reader = open_file(path, O_RDONLY);
	int writer = open_file(path, O_WRONLY);

	if (take("posix", false, reader, false) || take("posix", true, writer, false))
		die("take");
	say(locked("posix", path) ? "locked" : "free");
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";

	if (!strcmp(verb, "test") && argc == 4)
		test(argv[2][0] == 'w', argv[3]);
	else if (!strcmp(verb, "close") && argc == 4)
		close_other(argv[2], argv[3]);
	else if (!strcmp(verb, "reopen") && argc == 3)
		reopen(argv[2]);
	else if (!strcmp(verb, "many") && argc == 5)
		many(argv[2], atoi(argv[3]), argv[4]);
	else if (!strcmp(verb, "wait") && argc >= 5)
		wait_for(argv[2], argv[3][0] == 'w', argv[4], argv[5]);
	else if ((!strcmp(verb, "try") || !strcmp(verb, "hold")) && argc == 5)
		try(argv[2], argv[3][0] == 'w', argv[4]);
	else
		return 2;
	if (!strcmp(verb, "hold")) {
		say("held");
		pause();
	}
	return 0;
}
