/* SPDX-License-Identifier: MIT */
/*
 * batchiofs bench DIR: what a mount costs and gains on the disk that DIR is on. Called by main.c.
 *
 * The same rows on the bare directory and on mounts of it, in turn, some rounds; medians and their
 * ratio to the bare directory. Works in a directory of its own below DIR, which goes at the end, as
 * do the mounts. Each row runs in a process of its own: one that hangs is ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/bench_rows.h"
#include "cmd/cmd.h"
#include "transport/ring.h"

#define ROUNDS_MAX 100
#define ROWS_MAX   16
/* For a row beyond its own time. */
#define PATIENCE_SECONDS 60

extern char **environ;

struct target {
	const char *name;
	const char *options; /* NULL: the bare directory */
	bool ring; /* FUSE over io_uring has to be switched on */
};

static const struct target targets[] = {
	{"bare", NULL, false},
	{"uring", "backend=uring,sharing=shared", false},
	{"uring-exclusive", "backend=uring,sharing=exclusive", false},
	{"ring", "backend=uring,transport=ring,sharing=shared", true},
	{"standard", "backend=standard,sharing=shared", false},
};

#define TARGETS (sizeof(targets) / sizeof(targets[0]))

struct bench {
	unsigned rounds;
	unsigned seconds;
	unsigned mebibytes;
	bool json;
	bool wanted[ROWS_MAX];
	char dir[PATH_MAX]; /* ours, with source and mount point in it */
	char source[PATH_MAX + 8];
	char mountpoint[PATH_MAX + 8];
	bool left_out[TARGETS];
	int error[TARGETS][ROWS_MAX]; /* -errno that a row ended with */
	double values[TARGETS][ROWS_MAX][ROUNDS_MAX];
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* ---- mounts ---- */

/* Runs this program. Its exit status, or -1. */
static int run_self(char *const argv[])
{
	pid_t pid;
	int status;
	int error = posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ);

	if (error) {
		log_error("bench: cannot run this program again: %s", strerror(error));
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool mount_target(const struct bench *bench, const struct target *target)
{
	char *argv[] = {"batchiofs", (char *)bench->source, (char *)bench->mountpoint, "-o",
		(char *)target->options, NULL};

	return run_self(argv) == EXIT_OK;
}

static bool unmount_target(const struct bench *bench)
{
	char *argv[] = {"batchiofs", "umount", (char *)bench->mountpoint, NULL};

	return run_self(argv) == EXIT_OK;
}

/* ---- one row ---- */

/* In a process of its own. What the row says, or -errno. */
static double measure(const struct bench *bench, const struct bench_row *row, const char *dir)
{
	struct bench_work work = {
		.dir = dir,
		.size = (size_t)bench->mebibytes << 20,
		.seconds = bench->seconds,
	};
	struct pollfd out = {.events = POLLIN};
	double value = -EIO;
	int pipes[2];
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		value = row->run(&work);
		_exit(write(pipes[1], &value, sizeof(value)) == sizeof(value) ? 0 : 1);
	}
	close(pipes[1]);
	out.fd = pipes[0];
	if (pid < 0)
		value = -errno;
	else if (poll(&out, 1, (int)(bench->seconds + PATIENCE_SECONDS) * 1000) < 1)
		value = stopped ? -EINTR : -ETIME;
	else if (read(pipes[0], &value, sizeof(value)) != sizeof(value))
		value = -EIO;
	close(pipes[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return value;
}

static void progress(const struct bench *bench, unsigned round, size_t target, size_t row)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[Kround %u of %u, %s: %s", round + 1, bench->rounds,
			targets[target].name, row < bench_rows_count ? bench_rows[row].what : "");
}

static void run_target(struct bench *bench, unsigned round, size_t t)
{
	const struct target *target = &targets[t];
	const char *dir = target->options ? bench->mountpoint : bench->source;

	if (bench->left_out[t] || stopped)
		return;
	progress(bench, round, t, bench_rows_count);
	if (target->options && !mount_target(bench, target)) {
		bench->left_out[t] = true;
		return;
	}
	for (size_t r = 0; r < bench_rows_count && !stopped; r++) {
		double value;

		if (!bench->wanted[r] || bench->error[t][r])
			continue;
		progress(bench, round, t, r);
		value = measure(bench, &bench_rows[r], dir);
		if (value < 0)
			bench->error[t][r] = (int)value;
		else
			bench->values[t][r][round] = value;
	}
	if (target->options && !unmount_target(bench))
		bench->left_out[t] = true;
}

/* ---- what came of it ---- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct bench *bench, size_t t, size_t r)
{
	double sorted[ROUNDS_MAX];
	unsigned n = bench->rounds;

	memcpy(sorted, bench->values[t][r], n * sizeof(sorted[0]));
	qsort(sorted, n, sizeof(sorted[0]), compare);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static void print_cell(const struct bench *bench, size_t t, size_t r)
{
	double value = median(bench, t, r);
	char text[32];

	if (bench->left_out[t])
		snprintf(text, sizeof(text), "-");
	else if (bench->error[t][r])
		snprintf(text, sizeof(text), "%s", strerrorname_np(-bench->error[t][r]));
	else if (!t || bench->error[0][r])
		snprintf(text, sizeof(text), "%.0f", value);
	else
		snprintf(text, sizeof(text), "%.0f %.2f", value, value / median(bench, 0, r));
	printf(" %16s", text);
}

static void print_table(const struct bench *bench)
{
	printf("%-10s", "");
	for (size_t t = 0; t < TARGETS; t++)
		printf(" %16s", targets[t].name);
	printf("\n");
	for (size_t r = 0; r < bench_rows_count; r++) {
		if (!bench->wanted[r])
			continue;
		printf("%-10s", bench_rows[r].name);
		for (size_t t = 0; t < TARGETS; t++)
			print_cell(bench, t, r);
		printf("\n");
	}
	printf("\nMedians of %u rounds in turn, and their ratio to the bare directory (1.00: as "
	       "quick):\n",
		bench->rounds);
	for (size_t r = 0; r < bench_rows_count; r++)
		if (bench->wanted[r])
			printf("  %-10s %s\n", bench_rows[r].name, bench_rows[r].what);
}

static void print_json(const struct bench *bench)
{
	const char *comma = "";

	printf("{\"rounds\": %u, \"rows\": {", bench->rounds);
	for (size_t r = 0; r < bench_rows_count; r++) {
		const char *between = "";

		if (!bench->wanted[r])
			continue;
		printf("%s\n  \"%s\": {", comma, bench_rows[r].name);
		comma = ",";
		for (size_t t = 0; t < TARGETS; t++) {
			if (bench->left_out[t] || bench->error[t][r])
				continue;
			printf("%s\"%s\": %.6g", between, targets[t].name, median(bench, t, r));
			between = ", ";
		}
		printf("}");
	}
	printf("\n}}\n");
}

/* ---- the whole ---- */

static int usage(void)
{
	log_error(
		"usage: batchiofs bench DIR [--rounds=N] [--seconds=N] [--mib=N] [--json]; DIR is "
		"a directory on the disk to measure");
	return EXIT_USAGE;
}

static bool number(const char *word, const char *name, unsigned least, unsigned most, unsigned *out)
{
	size_t length = strlen(name);
	unsigned long value;
	char *end;

	if (strncmp(word, name, length) != 0)
		return false;
	value = strtoul(word + length, &end, 10);
	if (*end || end == word + length || value < least || value > most) {
		log_error("bench: %s: a whole number from %u to %u would be right", word, least,
			most);
		exit(EXIT_USAGE);
	}
	*out = (unsigned)value;
	return true;
}

/* --rows=NAME,…: only these. False with a message logged for a name that is none. */
static bool choose_rows(struct bench *bench, const char *names)
{
	_cleanup_free char *list = strdup(names);
	char *rest = list;
	char *name;

	memset(bench->wanted, 0, sizeof(bench->wanted));
	while ((name = strsep(&rest, ","))) {
		size_t r = 0;

		while (r < bench_rows_count && strcmp(name, bench_rows[r].name) != 0)
			r++;
		if (r == bench_rows_count) {
			log_error("bench: no row '%s'; there are:", name);
			for (r = 0; r < bench_rows_count; r++)
				log_error("bench:   %-10s %s", bench_rows[r].name,
					bench_rows[r].what);
			return false;
		}
		bench->wanted[r] = true;
	}
	return true;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path);
}

/* Makes what is worked on. An exit status. */
static int prepare(struct bench *bench, const char *dir)
{
	struct bench_work work = {
		.dir = bench->source,
		.size = (size_t)bench->mebibytes << 20,
	};
	struct statvfs room;
	int error;

	if (snprintf(bench->dir, sizeof(bench->dir), "%s/batchiofs-bench-XXXXXX", dir) >=
			(int)sizeof(bench->dir) ||
		statvfs(dir, &room)) {
		log_error("bench: %s: %s", dir, strerror(errno));
		return EXIT_USAGE;
	}
	/* The file, the stream, and what the writers make. */
	if ((double)room.f_bavail * (double)room.f_frsize < 4.0 * (double)work.size) {
		log_error("bench: %s has less than the %u MiB left that are wanted; --mib=%u takes "
			  "a quarter",
			dir, 4 * bench->mebibytes, bench->mebibytes / 4 ? bench->mebibytes / 4 : 1);
		return EXIT_USAGE;
	}
	if (!mkdtemp(bench->dir)) {
		log_error("bench: cannot make a directory in %s: %s", dir, strerror(errno));
		return EXIT_USAGE;
	}
	snprintf(bench->source, sizeof(bench->source), "%s/source", bench->dir);
	snprintf(bench->mountpoint, sizeof(bench->mountpoint), "%s/mount", bench->dir);
	error = mkdir(bench->source, 0700) || mkdir(bench->mountpoint, 0700) ? -errno : 0;
	if (!error)
		error = bench_prepare(&work);
	if (error)
		log_error("bench: %s: %s", bench->source, strerror(-error));
	return error ? EXIT_SYSTEM : EXIT_OK;
}

static void choose_targets(struct bench *bench)
{
	struct batchio_error reason;
	struct batchio *probe = batchio_new_uring(1, 0, &reason);

	for (size_t t = 0; t < TARGETS; t++) {
		bool uring = targets[t].options && strstr(targets[t].options, "backend=uring");

		bench->left_out[t] = (uring && !probe) || (targets[t].ring && ring_missing());
	}
	if (!probe)
		log_warning("bench: without uring: %s", reason.text);
	else if (ring_missing())
		log_info("bench: without ring: %s", ring_missing());
	batchio_close(probe);
}

static int run(struct bench *bench)
{
	struct sigaction action = {.sa_handler = stop};
	bool failed = false;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	choose_targets(bench);
	for (unsigned round = 0; round < bench->rounds; round++)
		for (size_t t = 0; t < TARGETS; t++)
			run_target(bench, round, t);
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\033[K");
	if (stopped)
		return EXIT_SYSTEM;
	if (bench->json)
		print_json(bench);
	else
		print_table(bench);
	for (size_t t = 0; t < TARGETS; t++)
		for (size_t r = 0; r < bench_rows_count; r++)
			failed |= !bench->left_out[t] && bench->error[t][r] != 0;
	return failed ? EXIT_SYSTEM : EXIT_OK;
}

int cmd_bench(int argc, char **argv)
{
	_cleanup_free struct bench *bench = calloc(1, sizeof(*bench));
	_cleanup_free char *dir = NULL;
	const char *given = NULL;
	int status;

	if (!bench)
		return EXIT_SYSTEM;
	bench->rounds = 3;
	bench->seconds = 2;
	bench->mebibytes = 256;
	memset(bench->wanted, true, sizeof(bench->wanted));
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			bench->json = true;
		else if (!strncmp(argv[i], "--rows=", 7)) {
			if (!choose_rows(bench, argv[i] + 7))
				return EXIT_USAGE;
		} else if (number(argv[i], "--rounds=", 1, ROUNDS_MAX, &bench->rounds) ||
			   number(argv[i], "--seconds=", 1, 3600, &bench->seconds) ||
			   number(argv[i], "--mib=", 1, 1 << 20, &bench->mebibytes))
			continue;
		else if (argv[i][0] == '-' || given)
			return usage();
		else
			given = argv[i];
	}
	if (!given)
		return usage();
	dir = realpath(given, NULL);
	if (!dir) {
		log_error("bench: %s: %s", given, strerror(errno));
		return EXIT_USAGE;
	}
	status = prepare(bench, dir);
	if (status == EXIT_OK)
		status = run(bench);
	/* Only what is empty of mounts: never through one that would not go. */
	if (bench->source[0])
		nftw(bench->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return status;
}
