/* SPDX-License-Identifier: MIT */
/*
 * Sweeps over what can fail in a daemon that serves a mount. For tests/mount/sweeps.bats; the
 * daemon is build/faulty/batchiofs with FAULTY_PLAN=FILE.
 *
 * WHAT is data, answer, poll, command, memory or descriptor; ERROR is short or an error's name.
 *
 *   sweep_tool plan FILE WHAT ERROR N
 *       Makes FILE: of the next daemon that is started the N-th fails (0: none, they are counted).
 *   sweep_tool seen FILE
 *       Says how many were counted, how many failed, and which function it was. Nothing fails then.
 *   sweep_tool run FILE MOUNT SOURCE PID WHAT ERROR MOST
 *       The script once for each N, of which the N-th fails: every one, or about MOST of them.
 *       Prints a row: what, error, numbers, all calls right, a call told of it.
 *   sweep_tool starve MOUNT SOURCE PID MOST
 *       The script with room for 0, 1, 2, ... more descriptors in the daemon, the same row.
 *
 * Afterwards the mount has to serve as if nothing had been: after each number, where every one is
 * tried; and in the end the daemon has as many descriptors open as before. Status 1: it was not so,
 * and why is on standard output; what does not end in time is said to hang, and killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faulty/plan.h"
#include "sweep_script.h"

#define HANG_SECONDS 40
/* After the last that was hit, in case the next runs have more of them. */
#define MISSES 2

/* Shared with the parent, who watches. */
static struct progress {
	_Atomic uint64_t number, steps;
} * progress;

static void usage(void)
{
	fprintf(stderr, "sweep_tool: bad arguments; its source says what it takes\n");
	exit(2);
}

static unsigned what_of(const char *word)
{
	static const char *const words[] = {
		"data", "answer", "poll", "command", "memory", "descriptor"};

	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(words[i], word))
			return 1u << i;
	usage();
	return 0;
}

static int error_of(const char *word)
{
	static const int known[] = {EIO, ENOSPC, EAGAIN, EINTR, ECANCELED, ENOMEM, EMFILE, ENFILE};

	if (!strcmp(word, "short"))
		return 0;
	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(strerrorname_np(known[i]), word))
			return known[i];
	usage();
	return 0;
}

/* What programs may be told: the rest is for the daemon to try again. */
static int told_of(unsigned what, int error)
{
	if (what & (FAULTY_ANSWER | FAULTY_POLL | FAULTY_COMMAND))
		return 0;
	return error == EAGAIN || error == EINTR ? 0 : error;
}

static void *shared(const char *path, bool make)
{
	int fd = path ? open(path, O_RDWR | (make ? O_CREAT : 0), 0644) : -1;
	void *map = MAP_FAILED;

	if (!path)
		map = mmap(NULL, FAULTY_PLAN_SIZE, PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	else if (fd >= 0 && ftruncate(fd, FAULTY_PLAN_SIZE) == 0)
		map = mmap(NULL, FAULTY_PLAN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		perror(path ? path : "mmap");
		exit(2);
	}
	return map;
}

/* ---- the daemon ---- */

/* A loop that comes to help where others are stuck has a ring of its own, and may stay. */
static bool is_ring(DIR *dir, const char *name)
{
	char link[64];
	ssize_t n = readlinkat(dirfd(dir), name, link, sizeof(link) - 1);

	link[n < 0 ? 0 : n] = '\0';
	return strstr(link, "[io_uring]");
}

/* Its descriptors' numbers; and how many there are, but for rings. */
static int descriptors(const char *pid, bool *used, int most)
{
	const struct dirent *entry;
	char path[64];
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (!dir) {
		printf("the daemon is gone: %s: %s\n", path, strerror(errno));
		exit(1);
	}
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		n += !is_ring(dir, entry->d_name);
		if (used && atoi(entry->d_name) < most)
			used[atoi(entry->d_name)] = true;
	}
	closedir(dir);
	return n;
}

/* What is on its way to be closed gets time. */
static bool as_many_as(const char *pid, int before)
{
	char command[64];
	int now = 0;

	for (int i = 0; i < 100; i++) {
		now = descriptors(pid, NULL, 0);
		if (now <= before)
			return true;
		poll(NULL, 0, 50);
	}
	printf("the daemon has %d descriptors open, and had %d\n", now, before);
	fflush(stdout);
	snprintf(command, sizeof(command), "ls -l /proc/%s/fd", pid);
	return system(command) < 0;
}

/* ---- rows ---- */

/* The script and its end; the first part may fail. */
static bool run(struct sweep_script *script, struct faulty_plan *plan)
{
	bool wrong;

	atomic_fetch_add(&progress->steps, 1);
	sweep_script_run(script);
	wrong = script->wrong;
	if (plan)
		faulty_stop(plan);
	atomic_fetch_add(&progress->steps, 1);
	script->wrong = false;
	sweep_script_clean(script);
	return !wrong && !script->wrong;
}

static bool run_untouched(struct sweep_script *script)
{
	struct sweep_script untouched = {.mount = script->mount, .source = script->source};
	bool good = run(&untouched, NULL);

	if (!good)
		puts("and that with nothing failing");
	return good;
}

struct row {
	unsigned right, told;
	uint64_t last; /* the highest number that was hit */
};

static bool try_number(struct sweep_script *script, struct faulty_plan *plan, unsigned what,
	int error, uint64_t n, bool some, struct row *row)
{
	bool good, hit;

	atomic_store(&progress->number, n);
	faulty_set(plan, what, error, n, 1);
	good = run(script, plan);
	hit = atomic_load(&plan->hits);
	if (hit)
		row->last = n;
	row->right += hit && !script->told;
	row->told += script->told > 0;
	if (good && (hit || !script->told) && (some || run_untouched(script)))
		return true;
	printf("number %llu: %s, called at %p; %u calls were told\n", (unsigned long long)n,
		hit ? plan->call : "not hit", plan->caller, script->told);
	return false;
}

static bool sweep(struct sweep_script *script, struct faulty_plan *plan, const char *pid,
	char **words, uint64_t most)
{
	unsigned what = what_of(words[0]), misses = 0;
	int error = error_of(words[1]), before;
	struct row row = {0};
	uint64_t total, step;

	faulty_set(plan, what, 0, 0, 0);
	if (!run(script, plan))
		return false;
	total = atomic_load(&plan->seen);
	before = descriptors(pid, NULL, 0);
	step = most && total > most ? total / most : 1;
	script->error = told_of(what, error);
	for (uint64_t n = 1; misses < MISSES && n < 2 * total + 10; n += step) {
		if (!try_number(script, plan, what, error, n, step > 1, &row))
			return false;
		misses = row.last == n ? 0 : misses + 1;
	}
	script->error = 0;
	if (!row.last) {
		printf("%s: none was asked for\n", words[0]);
		return false;
	}
	if (!run_untouched(script) || !as_many_as(pid, before))
		return false;
	printf("| %s | %s | 1-%llu%s | %u | %u |\n", words[0], words[1],
		(unsigned long long)row.last, step > 1 ? ", some" : "", row.right, row.told);
	return true;
}

static bool starve(struct sweep_script *script, const char *pid_word, int most)
{
	enum { MOST = 4096 };
	pid_t pid = atoi(pid_word);
	struct rlimit limit, less;
	struct row row = {0};
	int before;

	if (!run_untouched(script) || !run_untouched(script) ||
		prlimit(pid, RLIMIT_NOFILE, NULL, &limit))
		return false;
	before = descriptors(pid_word, NULL, 0);
	for (int room = 0; room <= most; room++) {
		bool used[MOST] = {false}, good;
		int number = 0, left = room;

		atomic_store(&progress->number, (uint64_t)room);
		descriptors(pid_word, used, MOST);
		while (number < MOST && (used[number] || left > 0))
			left -= !used[number++];
		while (number < MOST && used[number])
			number++;
		less = limit;
		less.rlim_cur = (rlim_t)number;
		if (prlimit(pid, RLIMIT_NOFILE, &less, NULL))
			return false;
		script->error = EMFILE;
		atomic_fetch_add(&progress->steps, 1);
		sweep_script_run(script);
		good = !script->wrong;
		row.right += !script->told;
		row.told += script->told > 0;
		prlimit(pid, RLIMIT_NOFILE, &limit, NULL);
		atomic_fetch_add(&progress->steps, 1);
		sweep_script_clean(script);
		if (!good || script->wrong || (room % 4 == 0 && !run_untouched(script))) {
			printf("with room for %d descriptors\n", room);
			return false;
		}
	}
	if (!as_many_as(pid_word, before))
		return false;
	printf("| descriptor | limit | room for 0-%d | %u | %u |\n", most, row.right, row.told);
	return true;
}

/* ---- watching ---- */

/* The child's status, or 1 after the end of a child that hangs. */
static int watch(pid_t child)
{
	uint64_t steps = 0;
	int status, idle = 0;

	while (waitpid(child, &status, WNOHANG) == 0) {
		poll(NULL, 0, 10);
		idle = atomic_load(&progress->steps) == steps ? idle + 1 : 0;
		steps = atomic_load(&progress->steps);
		if (idle < HANG_SECONDS * 100)
			continue;
		printf("no end at number %llu\n", (unsigned long long)progress->number);
		kill(child, SIGKILL);
		return 1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int watched(int argc, char **argv)
{
	struct sweep_script script = {0};
	pid_t child;
	bool good = false;

	setvbuf(stdout, NULL, _IOLBF, 0);
	progress = shared(NULL, false);
	child = fork();
	if (child)
		return watch(child);
	if (argc == 9 && !strcmp(argv[1], "run")) {
		script.mount = argv[3];
		script.source = argv[4];
		good = sweep(&script, shared(argv[2], false), argv[5], argv + 6,
			strtoull(argv[8], NULL, 10));
	} else if (argc == 6 && !strcmp(argv[1], "starve")) {
		script.mount = argv[2];
		script.source = argv[3];
		good = starve(&script, argv[4], atoi(argv[5]));
	} else {
		usage();
	}
	exit(good ? 0 : 1);
}

int main(int argc, char **argv)
{
	struct faulty_plan *plan;

	if (argc == 6 && !strcmp(argv[1], "plan")) {
		plan = shared(argv[2], true);
		faulty_set(
			plan, what_of(argv[3]), error_of(argv[4]), strtoull(argv[5], NULL, 10), 1);
		return 0;
	}
	if (argc == 3 && !strcmp(argv[1], "seen")) {
		plan = shared(argv[2], false);
		faulty_stop(plan);
		printf("%llu %llu %s\n", (unsigned long long)plan->seen,
			(unsigned long long)plan->hits, plan->hits ? plan->call : "none");
		return 0;
	}
	return watched(argc, argv);
}
