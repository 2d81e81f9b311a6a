/* SPDX-License-Identifier: MIT */
/* One worker after another; see supervise.h. */
#include "supervise/supervise.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/reserve.h"

/* So many that crash in this time are no accident, nor are so many that die in any way. */
#define CRASHES_MOST    5
#define CRASHES_SECONDS 60
#define DEATHS_MOST     200
#define DEATHS_SECONDS  10
/* Nor so many that die before they have taken over. */
#define FAILURES_MOST 5
/* Nor a program whose first workers do. */
#define GIVE_BACK 2

/* Of a thread, not of the process as a whole (Linux 6.9). */
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

/* A thread that waits in the kernel for an answer of ours outlives its process. */
#define REAP_MS      100
#define WATCH_THREAD "watch\n"

/* Deaths within a time: the moments of the last ones, in a ring. */
struct tally {
	int64_t at[DEATHS_MOST];
	unsigned count;
};

struct deaths {
	struct tally all, crashes;
	unsigned failures; /* in a row */
};

/* ---- setting up ---- */

static bool is_foreign(const struct supervise *s, int fd)
{
	for (size_t i = 0; i < s->nforeign; i++)
		if (s->foreign[i] == fd)
			return true;
	return false;
}

/* What is open, and ours. */
static int note_open(int fd, void *user)
{
	struct supervise *s = user;

	if (is_foreign(s, fd))
		return 0;
	if (s->nkeep + 1 >= s->room) {
		size_t room = s->room * 2 + 64;
		int *grown = realloc(s->keep, room * sizeof(int));

		if (!grown)
			return -ENOMEM;
		s->keep = grown;
		s->room = room;
	}
	s->keep[s->nkeep++] = fd;
	return 0;
}

void supervise_let_go(struct supervise *s, int fd)
{
	for (size_t i = 0; i < s->nkeep; i++)
		if (s->keep[i] == fd)
			s->keep[i] = s->keep[--s->nkeep];
	close(fd);
}

int supervise_open(struct supervise *s)
{
	s->board = reserve_shared("board", sizeof(*s->board));
	s->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!s->board)
		return -ENOMEM;
	atomic_store(&s->board->supervisor, getpid());
	return s->ready_fd < 0 || s->stop_fd < 0 ? -EMFILE : 0;
}

void supervise_close(struct supervise *s)
{
	if (s->ready_fd >= 0)
		close(s->ready_fd);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	if (s->board)
		munmap(s->board, sizeof(*s->board));
	free(s->keep);
	*s = (struct supervise){.ready_fd = -1, .stop_fd = -1};
}

/* ---- a worker ---- */

static void *canary_main(void *arg)
{
	struct supervise_board *board = arg;

	atomic_store(&board->canary, gettid());
	for (;;)
		pause();
	return NULL;
}

static void become_worker(struct supervise *s, bool again)
{
	pthread_t canary;
	int status;

	prctl(PR_SET_NAME, "batchiofs-work");
	crash_watch(&s->board->crash);
	status = s->enter(s->user);
	if (status)
		exit(status);
	/* Without one the process as a whole is watched. */
	if (pthread_create(&canary, NULL, canary_main, s->board))
		atomic_store(&s->board->canary, getpid());
	while (!atomic_load(&s->board->go))
		usleep(50);
	/* There is room for it. */
	s->keep[s->nkeep++] = atomic_load(&s->board->pidfd);
	status = s->work(s->user, again);
	fflush(NULL);
	exit(status);
}

/* Its process id, or -errno. Descriptors are shared, memory is copied but for what is shared. */
static pid_t fork_worker(struct supervise *s, bool again)
{
	struct clone_args args = {.flags = CLONE_FILES, .exit_signal = SIGCHLD};
	pid_t pid;

	atomic_store(&s->board->go, false);
	atomic_store(&s->board->ready, false);
	atomic_store(&s->board->canary, 0);
	fflush(NULL);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0)
		become_worker(s, again);
	if (pid < 0)
		return -errno;
	atomic_store(&s->board->worker, pid);
	return pid;
}

void supervise_ready(struct supervise *s, bool final)
{
	struct supervise_board *board = s->board;
	int64_t died_at = atomic_load(&board->died_at);
	uint64_t one = 1;

	if (died_at) {
		int64_t pause = clock_ns() - died_at;

		atomic_store(&board->pause_ns, pause);
		if (pause > atomic_load(&board->longest_ns))
			atomic_store(&board->longest_ns, pause);
	}
	atomic_store(&board->final, final);
	atomic_store(&board->ready, true);
	if (write(s->ready_fd, &one, sizeof(one)) < 0)
		log_error("cannot tell the supervisor: %s", strerror(errno));
}

bool supervise_ask(struct supervise *s, const char *program, int asker)
{
	struct supervise_board *board = s->board;
	uint64_t one = 1;

	if (atomic_load(&board->asker))
		return false;
	snprintf(board->program, sizeof(board->program), "%s", program);
	atomic_store(&board->asker, asker);
	if (write(s->ready_fd, &one, sizeof(one)) < 0)
		log_error("cannot tell the supervisor: %s", strerror(errno));
	return true;
}

bool supervise_orphaned(const struct supervise *s)
{
	return s->board && getppid() != atomic_load(&s->board->supervisor);
}

void supervise_stop(struct supervise *s)
{
	uint64_t one = 1;

	atomic_store(&s->board->stop, true);
	if (write(s->stop_fd, &one, sizeof(one)) < 0)
		log_error("cannot stop the worker: %s", strerror(errno));
}

/* ---- deaths ---- */

/* True when there were `most` within `seconds`. */
static bool tally_add(struct tally *tally, unsigned most, int seconds)
{
	int64_t now = clock_ns();
	int64_t *place = &tally->at[tally->count % most];
	bool many = tally->count >= most && now - *place < seconds * INT64_C(1000000000);

	*place = now;
	tally->count++;
	return many;
}

/* Why there shall be no other worker, or NULL. */
static const char *give_up(struct supervise *s, struct deaths *deaths, int signal)
{
	bool crash = signal != SIGKILL && signal != SIGTERM;
	bool many = tally_add(&deaths->all, DEATHS_MOST, DEATHS_SECONDS);
	bool crashes = crash && tally_add(&deaths->crashes, CRASHES_MOST, CRASHES_SECONDS);

	deaths->failures = atomic_load(&s->board->ready) ? 0 : deaths->failures + 1;
	if (atomic_load(&s->board->final))
		return "this kernel cannot hand out its requests again (Linux 6.9 can)";
	if (deaths->failures >= FAILURES_MOST)
		return "its successors died before they had taken over";
	if (crashes)
		return "workers crash again and again";
	return many ? "workers die again and again" : NULL;
}

static bool is_zombie(pid_t pid)
{
	char path[64], line[256] = "";
	const char *state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	/* After the name, which may be anything. */
	state = strrchr(line, ')');
	return state && state[1] == ' ' && state[2] == 'Z';
}

/* Whether what is left of a process is nothing but its watch's thread, and its dead main thread. */
static bool is_as_good_as_dead(pid_t pid)
{
	const struct dirent *entry;
	bool others = false;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char file[400], name[32] = "";
		FILE *comm;

		if (entry->d_name[0] == '.' || atoi(entry->d_name) == pid)
			continue;
		snprintf(file, sizeof(file), "%s/%s/comm", path, entry->d_name);
		comm = fopen(file, "re");
		if (comm && !fgets(name, sizeof(name), comm))
			name[0] = '\0';
		if (comm)
			fclose(comm);
		others |= strcmp(name, WATCH_THREAD) != 0;
	}
	if (dir)
		closedir(dir);
	return dir && !others && is_zombie(pid);
}

/* A thread of the worker has ended, so the rest of it ends, too: waits for that. Its status. */
static int reap(pid_t pid)
{
	int status = 0;
	int waited = 0;

	while (waitpid(pid, &status, WNOHANG) != pid) {
		/* It is freed by what its successor answers. */
		if (waited++ >= REAP_MS && is_as_good_as_dead(pid))
			return SIGKILL;
		usleep(waited < REAP_MS ? 200 : 10000);
	}
	return status;
}

/* ---- the supervisor ---- */

/*
 * A descriptor that tells of the worker's end. The process as a whole ends with its last thread,
 * which may wait for what only a successor answers; and of its main thread that ends before others
 * nothing is told. So another thread is watched.
 */
static int watch_worker(struct supervise *s, pid_t pid)
{
	pid_t canary;
	int fd;

	while (!(canary = atomic_load(&s->board->canary)) && !is_zombie(pid))
		usleep(50);
	fd = canary && canary != pid ? (int)syscall(SYS_pidfd_open, canary, PIDFD_THREAD) : -1;
	/* Older kernels know the process as a whole only. */
	return fd < 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : fd;
}

/* What one run of the supervisor knows. */
struct run {
	struct deaths deaths;
	bool told; /* that a worker is ready, to those who wait for the mount */
	bool replacing; /* the worker was killed for that */
};

/* The worker has something to tell. */
static void take_word(struct supervise *s, struct run *run, pid_t pid)
{
	uint64_t count;

	if (read(s->ready_fd, &count, sizeof(count)) != sizeof(count))
		return;
	if (!run->told && atomic_load(&s->board->ready)) {
		run->told = true;
		s->ready(s->user);
	}
	if (atomic_load(&s->board->asker) && atomic_load(&s->board->ready) && !run->replacing &&
		s->may_replace(s->user)) {
		run->replacing = true;
		kill(pid, SIGKILL);
	}
}

/* Waits for the worker's end. Its status as waitpid() gives it. */
static int wait_for_worker(struct supervise *s, struct run *run, pid_t pid, int pidfd)
{
	for (;;) {
		struct pollfd fds[] = {
			{.fd = pidfd, .events = POLLIN},
			{.fd = s->ready_fd, .events = POLLIN},
			/* Not while the worker takes over: nothing is opened then. */
			{.fd = atomic_load(&s->board->ready) ? s->signal_fd : -1, .events = POLLIN},
		};

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[1].revents)
			take_word(s, run, pid);
		if (fds[0].revents)
			return reap(pid);
		if (fds[2].revents)
			s->signalled(s->user);
	}
}

/* One worker, from its start to its end. */
static int run_worker(struct supervise *s, struct run *run, bool again)
{
	pid_t pid = fork_worker(s, again);
	int pidfd, status;

	if (pid < 0) {
		log_error("cannot start a worker: %s", strerror(-pid));
		return SIGKILL;
	}
	pidfd = watch_worker(s, pid);
	atomic_store(&s->board->pidfd, pidfd);
	atomic_store(&s->board->go, true);
	status = wait_for_worker(s, run, pid, pidfd);
	atomic_store(&s->board->died_at, clock_ns());
	if (pidfd >= 0)
		close(pidfd);
	return status;
}

/* What to do after a worker's death. False: nothing, and a line was logged. */
static bool go_on(struct supervise *s, struct run *run, int signal)
{
	pid_t pid = atomic_load(&s->board->worker);
	const char *reason;

	crash_tell(&s->board->crash, pid);
	if (run->replacing) {
		s->replace(s->user);
		run->replacing = false;
		return true;
	}
	reason = run->told || s->again ? give_up(s, &run->deaths, signal)
				       : "it had not answered yet";
	if (s->again && !run->told && run->deaths.failures >= GIVE_BACK)
		s->give_back(s->user);
	if (reason) {
		log_error("the worker was killed by signal %d (%s), and no other one takes "
			  "over: %s",
			signal, strsignal(signal), reason);
		return false;
	}
	atomic_fetch_add(&s->board->restarts, 1);
	log_warning("worker %d was killed by signal %d (%s); another one takes over", pid, signal,
		strsignal(signal));
	return true;
}

int supervise_run(struct supervise *s)
{
	struct run run = {.told = false};
	bool again = s->again;
	int error = descriptors_each(-1, note_open, s);
	int status;

	if (error) {
		log_error("cannot see what is open: %s", strerror(-error));
		return EXIT_FAILURE;
	}
	do {
		status = run_worker(s, &run, again);
		again = true;
		if (WIFEXITED(status) && WEXITSTATUS(status) && s->again && !run.told)
			s->give_back(s->user);
	} while (!WIFEXITED(status) && go_on(s, &run, WTERMSIG(status)));
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
