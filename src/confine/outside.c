/* SPDX-License-Identifier: MIT */
/* The process outside, and asking it; see outside.h. */
#include "confine/outside.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/terminal.h"

#define GROUPS_MOST 256
#define LINE_MOST   1024

enum task { LOG, DETACH, TUNE, RELEASE, GROUPS };

struct question {
	uint32_t task;
	int32_t number; /* GROUPS: of a thread; LOG: the level */
	uint64_t id; /* a process that died may have left an answer unread */
	char line[LINE_MOST]; /* LOG; sent as far as it goes */
};

#define QUESTION_SIZE offsetof(struct question, line)

struct reply {
	uint64_t id;
	int32_t count; /* GROUPS */
	uint32_t unused;
	gid_t groups[GROUPS_MOST]; /* sent as far as they go */
};

#define REPLY_SIZE offsetof(struct reply, groups)

static struct {
	int fd; /* a SOCK_SEQPACKET to it; -1: none */
	pid_t pid, parent;
	pthread_mutex_t lock; /* of questions that are answered */
	uint64_t asked;
} outside = {.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the process ---- */

/* "Groups: 4 24 27" of a thread. How many, or -errno. */
static int read_groups(pid_t tid, gid_t *groups)
{
	char path[64], line[64 + GROUPS_MOST * 11];
	int count = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		char *at = line + strlen("Groups:"), *end;

		if (strncmp(line, "Groups:", strlen("Groups:")))
			continue;
		for (; count < GROUPS_MOST; count++, at = end) {
			gid_t gid = (gid_t)strtoul(at, &end, 10);

			if (end == at)
				break;
			groups[count] = gid;
		}
		break;
	}
	fclose(file);
	return count;
}

static void work(const struct outside_tasks *tasks, int fd)
{
	struct question question;
	ssize_t n;

	while ((n = recv(fd, &question, sizeof(question), 0)) != 0) {
		struct reply reply = {.id = question.id};
		size_t size = REPLY_SIZE;

		if (n < (ssize_t)QUESTION_SIZE)
			continue;
		switch (question.task) {
		case LOG:
			question.line[sizeof(question.line) - 1] = '\0';
			log_message((enum log_level)question.number, "%s", question.line);
			continue;
		case DETACH:
			tasks->detach(tasks->user);
			break;
		case TUNE:
			tasks->tune(tasks->user);
			break;
		case RELEASE:
			tasks->release(tasks->user);
			break;
		case GROUPS:
			reply.count = read_groups(question.number, reply.groups);
			size += reply.count > 0 ? (size_t)reply.count * sizeof(gid_t) : 0;
			break;
		}
		if (send(fd, &reply, size, MSG_NOSIGNAL) < 0)
			return;
	}
}

/* Who looks for daemons by the words they were called with shall not find two. */
static void rename_self(void)
{
	static const char title[] = "batchiofs: outside";
	FILE *file = fopen("/proc/self/cmdline", "re");
	char buffer[4096];
	size_t length = file ? fread(buffer, 1, sizeof(buffer), file) : 0;

	if (file)
		fclose(file);
	if (length > sizeof(title)) {
		memset(program_invocation_name, 0, length);
		memcpy(program_invocation_name, title, sizeof(title));
	}
	prctl(PR_SET_NAME, "batchiofs-out");
}

/* Signals stay blocked: whoever stops all processes means the daemon, which may want help then. */
static void run(const struct outside_tasks *tasks, int fd, bool to_syslog)
{
	rename_self();
	if (to_syslog) {
		log_to_syslog();
		if (!terminal_leave())
			close_range(0, 2, 0);
	}
	if (fd > 3)
		close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0u, 0);
	work(tasks, fd);
	_exit(0);
}

int outside_start(const struct outside_tasks *tasks, bool to_syslog)
{
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(fds[0]);
		run(tasks, fds[1], to_syslog);
	}
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return -errno;
	}
	outside.fd = fds[0];
	outside.pid = pid;
	outside.parent = getpid();
	return 0;
}

void outside_end(void)
{
	if (outside.fd < 0)
		return;
	close(outside.fd);
	outside.fd = -1;
	if (outside.parent == getpid())
		while (waitpid(outside.pid, NULL, 0) < 0 && errno == EINTR)
			;
}

/* ---- asking it ---- */

static int exchange(struct question *question, struct reply *reply)
{
	ssize_t n;

	question->id = (uint64_t)getpid() << 32 | (outside.asked++ & 0xffffffff);
	do {
		n = send(outside.fd, question, QUESTION_SIZE, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	do {
		n = recv(outside.fd, reply, sizeof(*reply), 0);
		if (n == 0)
			return -EPIPE;
	} while (n < 0 ? errno == EINTR : reply->id != question->id);
	return n < (ssize_t)REPLY_SIZE ? -EIO : 0;
}

static int ask(enum task task, int32_t number, struct reply *reply)
{
	struct question question = {.task = task, .number = number};
	int error;

	if (outside.fd < 0)
		return -ENOTCONN;
	pthread_mutex_lock(&outside.lock);
	error = exchange(&question, reply);
	pthread_mutex_unlock(&outside.lock);
	return error;
}

int outside_detach(void)
{
	struct reply reply;

	return ask(DETACH, 0, &reply);
}

int outside_tune(void)
{
	struct reply reply;

	return ask(TUNE, 0, &reply);
}

int outside_release(void)
{
	struct reply reply;

	return ask(RELEASE, 0, &reply);
}

int outside_groups(pid_t tid, gid_t *groups, int most)
{
	struct reply reply;
	int error = ask(GROUPS, tid, &reply);

	if (error || reply.count < 0)
		return error ? error : reply.count;
	memcpy(groups, reply.groups,
		sizeof(gid_t) * (size_t)(reply.count < most ? reply.count : most));
	return reply.count;
}

void outside_log(int level, const char *line)
{
	struct question question = {.task = LOG, .number = level};
	size_t length = strnlen(line, sizeof(question.line) - 1);

	memcpy(question.line, line, length);
	send(outside.fd, &question, QUESTION_SIZE + length + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}
