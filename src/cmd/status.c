/* SPDX-License-Identifier: MIT */
/*
 * batchiofs status [MOUNTPOINT] [--json]: the mounts there are, what serves them, and how they are.
 * batchiofs cleanup: takes away those whose daemon is dead. Called by main.c. Nothing here looks at
 * what is mounted by its path but in a child, which may hang.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cmd/ask.h"
#include "cmd/cmd.h"
#include "cmd/json.h"

/* How long a mount that works takes to say what it is, at most. */
#define LOOK_MS 1000

enum health { WELL, SLOW, SILENT, DEAD };

static const char *const health_words[] = {
	[WELL] = "well",
	[SLOW] = "does not answer", /* the mount, though its daemon does */
	[SILENT] = "daemon does not answer",
	[DEAD] = "dead",
};

struct mounts {
	struct mount_entry *all;
	size_t n;
	bool failed;
};

static void note(const struct mount_entry *entry, void *user)
{
	struct mounts *mounts = user;
	struct mount_entry *grown;

	if (!mountinfo_is_batchiofs(entry))
		return;
	grown = realloc(mounts->all, (mounts->n + 1) * sizeof(*grown));
	mounts->failed |= !grown;
	if (!grown)
		return;
	mounts->all = grown;
	mounts->all[mounts->n++] = *entry;
}

/* What statfs(2) of the mount says, which the kernel never answers by itself, in a child: 0,
 * -errno, or -ETIMEDOUT. */
static int look_at(const char *point)
{
	int64_t end = clock_ns() + LOOK_MS * INT64_C(1000000);
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct statfs st;

		_exit(statfs(point, &st) ? errno & 0xff : 0);
	}
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, WNOHANG) != pid) {
		if (clock_ns() > end) {
			/* It goes when the mount does. */
			kill(pid, SIGKILL);
			return -ETIMEDOUT;
		}
		usleep(1000);
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static enum health health_of(const struct mount_entry *mount, const struct figures *figures)
{
	int looked = look_at(mount->point);

	if (looked == -ENOTCONN || looked == -ECONNABORTED)
		return DEAD;
	if (!figures->count)
		return SILENT;
	return looked == -ETIMEDOUT ? SLOW : WELL;
}

static const char *or_dash(const char *word)
{
	return word ? word : "-";
}

/* 3 d 4 h, 4 h 5 min, 5 min 6 s. */
static void print_duration(unsigned long long seconds)
{
	if (seconds >= 86400)
		printf("%llu d %llu h", seconds / 86400, seconds / 3600 % 24);
	else if (seconds >= 3600)
		printf("%llu h %llu min", seconds / 3600, seconds / 60 % 60);
	else
		printf("%llu min %llu s", seconds / 60, seconds % 60);
}

static void print_one(const struct mount_entry *mount, const struct figures *f, enum health health)
{
	printf("%s\n  source    %s\n  health    %s\n", mount->point, mount->source,
		health_words[health]);
	if (!f->count)
		return;
	printf("  served by %s version %s, pid %s", or_dash(figures_text(f, "", "backend")),
		or_dash(figures_text(f, "", "version")), or_dash(figures_text(f, "", "pid")));
	if (figures_text(f, "", "worker_pid"))
		printf(" (worker %s; %llu restarts, %llu upgrades)",
			figures_text(f, "", "worker_pid"), figures_number(f, "", "worker_restarts"),
			figures_number(f, "", "upgrades"));
	printf("\n  mode      sharing=%s, transport=%s, fsync=%s, watch %s\n  up        ",
		or_dash(figures_text(f, "", "sharing")), or_dash(figures_text(f, "", "transport")),
		or_dash(figures_text(f, "", "fsync")), or_dash(figures_text(f, "", "watch")));
	print_duration(figures_number(f, "", "uptime_seconds"));
	printf(", %llu requests, %llu errors\n", figures_sum(f, "requests"),
		figures_number(f, "", "errors"));
}

static void print_json(
	const struct mount_entry *mount, const struct figures *f, enum health health, bool first)
{
	static const char *const names[] = {"version", "backend", "sharing", "transport", "fsync",
		"watch", "pid", "worker_pid", "worker_restarts", "upgrades", "uptime_seconds"};

	printf("%s\n  {\"mountpoint\": ", first ? "" : ",");
	json_string(stdout, mount->point);
	printf(", \"source\": ");
	json_string(stdout, mount->source);
	printf(", \"health\": \"%s\"", health_words[health]);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = figures_text(f, "", names[i]);

		if (!value)
			continue;
		printf(", \"%s\": ", names[i]);
		json_value(stdout, value);
	}
	printf("}");
}

static int find_mounts(struct mounts *mounts)
{
	int error = mountinfo_each(MOUNTINFO, note, mounts);

	if (!error && !mounts->failed)
		return EXIT_OK;
	log_error("cannot read the list of mounts: %s", strerror(error ? -error : ENOMEM));
	return EXIT_SYSTEM;
}

static int usage(const char *verb, const char *word, const char *rest)
{
	log_error("%s: unexpected '%s'; usage: batchiofs %s%s", verb, word, verb, rest);
	return EXIT_USAGE;
}

int cmd_status(int argc, char **argv)
{
	struct mounts mounts = {0};
	const char *path = NULL;
	bool json = false, all_well = true;
	int status;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (!strcmp(argv[i], "--all"))
			continue;
		else if (argv[i][0] == '-' || path)
			return usage("status", argv[i], " [MOUNTPOINT | --all] [--json]");
		else
			path = argv[i];
	}
	if (path) {
		mounts.all = malloc(sizeof(*mounts.all));
		status = mounts.all ? cmd_find_mount(path, mounts.all) : EXIT_SYSTEM;
		mounts.n = status == EXIT_OK;
	} else {
		status = find_mounts(&mounts);
	}
	if (!status && json)
		printf("[");
	for (size_t i = 0; i < mounts.n; i++) {
		struct figures figures = {0};
		enum health health;

		ask_figures(&mounts.all[i], &figures);
		health = health_of(&mounts.all[i], &figures);
		all_well &= health == WELL;
		if (json)
			print_json(&mounts.all[i], &figures, health, i == 0);
		else
			print_one(&mounts.all[i], &figures, health);
		figures_free(&figures);
	}
	if (!status && json)
		printf("%s]\n", mounts.n ? "\n" : "");
	free(mounts.all);
	return status || all_well ? status : EXIT_SYSTEM;
}

int cmd_cleanup(int argc, char **argv)
{
	struct mounts mounts = {0};
	size_t dead = 0;
	int status;

	if (argc > 1)
		return usage("cleanup", argv[1], "");
	status = find_mounts(&mounts);
	/* Those mounted last lie on others, perhaps. */
	for (size_t i = mounts.n; i-- > 0;) {
		int looked = look_at(mounts.all[i].point);

		if (looked != -ENOTCONN && looked != -ECONNABORTED)
			continue;
		dead++;
		if (umount2(mounts.all[i].point, MNT_DETACH | UMOUNT_NOFOLLOW)) {
			log_error("%s is dead, and cannot be unmounted: %s", mounts.all[i].point,
				strerror(errno));
			status = EXIT_MOUNT;
		} else {
			printf("%s was dead, and is unmounted\n", mounts.all[i].point);
		}
	}
	if (!status && !dead)
		printf("no dead mounts among %zu\n", mounts.n);
	free(mounts.all);
	return status;
}
