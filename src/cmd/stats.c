/* SPDX-License-Identifier: MIT */
/*
 * batchiofs stats MOUNTPOINT [--json | --prometheus | --watch[=SECONDS]]: what the programs asked
 * and what reached the source in how many calls. Called by main.c.
 *
 * The daemon sends lines "group.name value" or "name value"; what is printed is made of them here,
 * in their order.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "cmd/ask.h"
#include "cmd/cmd.h"
#include "cmd/json.h"

static int usage(const char *word)
{
	log_error("stats: unexpected '%s'; usage: batchiofs stats MOUNTPOINT [--json | "
		  "--prometheus | --watch[=SECONDS]]",
		word);
	return EXIT_USAGE;
}

static void print_json(const struct figures *f)
{
	const char *open_group = "";
	bool first = true;

	putchar('{');
	for (size_t i = 0; i < f->count; i++) {
		const struct figure *now = &f->all[i];

		if (strcmp(now->group, open_group)) {
			if (open_group[0])
				printf("\n  }");
			if (now->group[0]) {
				printf("%s\n  ", first ? "" : ",");
				json_string(stdout, now->group);
				printf(": {");
				first = true;
			}
			open_group = now->group;
		}
		printf("%s\n  %s", first ? "" : ",", now->group[0] ? "  " : "");
		json_string(stdout, now->name);
		printf(": ");
		json_value(stdout, now->value);
		first = false;
	}
	printf("%s\n}\n", open_group[0] ? "\n  }" : "");
}

/* ---- the table ---- */

/* "operations_per_call" reads better with blanks. */
static void print_words(const char *s)
{
	for (; *s; s++)
		putchar(*s == '_' ? ' ' : *s);
}

static void print_row(const char *name, unsigned long long asked, unsigned long long calls,
	unsigned long long bytes)
{
	printf("  %-8s %12llu %12llu", name, asked, calls);
	if (calls)
		printf(" %12.2f", (double)asked / (double)calls);
	else
		printf(" %12s", "-");
	if (bytes)
		printf(" %10.1f MiB", (double)bytes / (1 << 20));
	putchar('\n');
}

/* What it is all about: what was asked, and in how many calls it reached the source. */
static void print_summary(const struct figures *f)
{
	unsigned long long pairs = figures_number(f, "backend_calls", "write_fsync");

	printf("\n  %-8s %12s %12s %12s %14s\n", "", "asked", "calls", "per call", "bytes");
	print_row("read", figures_number(f, "requests", "read"),
		figures_number(f, "backend_calls", "read"), figures_number(f, "bytes", "read"));
	print_row("write", figures_number(f, "requests", "write"),
		figures_number(f, "backend_calls", "write") + pairs,
		figures_number(f, "bytes", "written"));
	print_row("fsync", figures_number(f, "fsyncs", "asked"),
		figures_number(f, "fsyncs", "issued"), 0);
	putchar('\n');
}

static void print_table(const struct figures *f)
{
	const char *group = "";
	bool summed = false;

	for (size_t i = 0; i < f->count; i++) {
		const struct figure *now = &f->all[i];

		if (strcmp(now->group, group)) {
			/* The first lines, which say what is mounted, are over. */
			if (!summed)
				print_summary(f);
			summed = true;
			group = now->group;
			print_words(group);
			putchar('\n');
		}
		if (group[0])
			printf("  %-22s %15s\n", now->name, now->value);
		else
			printf("%-12s %s\n", now->name, now->value);
	}
}

/* ---- for Prometheus: batchiofs(8) lists the names ---- */

/* A label's value. */
static void print_label(const char *name, const char *value)
{
	printf("%s=\"", name);
	for (; value && *value; value++) {
		if (*value == '\n')
			printf("\\n");
		else if (*value == '"' || *value == '\\')
			printf("\\%c", *value);
		else
			putchar(*value);
	}
	putchar('"');
}

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

/* What goes up and down; everything else is counted. */
static bool is_gauge(const struct figure *figure)
{
	static const char *const groups[] = {
		"inodes", "files", "handles", "locks", "takeover", NULL};
	static const char *const names[] = {
		"loops", "loops_extra", "queue_depth", "uptime_seconds", NULL};
	static const char *const counted[] = {"reopened", "reopened_by_name", NULL};

	if (!figure->group[0])
		return is_one_of(figure->name, names);
	return is_one_of(figure->group, groups) && !is_one_of(figure->name, counted);
}

static void print_info(const struct figures *f)
{
	static const char *const names[] = {"version", "source", "mountpoint", "backend",
		"transport", "sharing", "watch", "fsync", NULL};

	printf("# TYPE batchiofs_info gauge\nbatchiofs_info{");
	for (int i = 0; names[i]; i++) {
		if (i)
			putchar(',');
		print_label(names[i], figures_text(f, "", names[i]));
	}
	printf("} 1\n");
}

static void print_prometheus(const struct figures *f)
{
	static const char *const not_measured[] = {"pid", "supervisor_pid", "worker_pid", NULL};
	char last[128] = "";

	print_info(f);
	for (size_t i = 0; i < f->count; i++) {
		const struct figure *now = &f->all[i];
		bool grouped = now->group[0], gauge = is_gauge(now);
		char metric[128];

		if (!json_is_number(now->value) || (!grouped && is_one_of(now->name, not_measured)))
			continue;
		snprintf(metric, sizeof(metric), "batchiofs_%s%s", grouped ? now->group : now->name,
			gauge ? "" : "_total");
		if (strcmp(metric, last))
			printf("# TYPE %s %s\n", metric, gauge ? "gauge" : "counter");
		memcpy(last, metric, sizeof(last));
		printf("%s{", metric);
		print_label("mountpoint", figures_text(f, "", "mountpoint"));
		if (grouped) {
			putchar(',');
			print_label("kind", now->name);
		}
		printf("} %s\n", now->value);
	}
}

/* ---- what goes on now ---- */

static double rate(const struct figures *before, const struct figures *now, const char *group,
	const char *name, double seconds)
{
	return (double)(figures_number(now, group, name) - figures_number(before, group, name)) /
	       seconds;
}

static void print_rates(const struct figures *before, const struct figures *now, double seconds)
{
	double reads = rate(before, now, "requests", "read", seconds);
	double writes = rate(before, now, "requests", "write", seconds);
	double calls = rate(before, now, "backend_calls", "read", seconds) +
		       rate(before, now, "backend_calls", "write", seconds) +
		       rate(before, now, "backend_calls", "write_fsync", seconds);
	time_t clock = time(NULL);
	struct tm local;
	char text[16];

	localtime_r(&clock, &local);
	strftime(text, sizeof(text), "%H:%M:%S", &local);
	printf("%s %9.0f %9.1f %9.0f %9.1f %8.2f %9.0f %9.0f %9.0f %7.0f\n", text, reads,
		rate(before, now, "bytes", "read", seconds) / (1 << 20), writes,
		rate(before, now, "bytes", "written", seconds) / (1 << 20),
		calls > 0 ? (reads + writes) / calls : 0.0,
		rate(before, now, "fsyncs", "asked", seconds),
		rate(before, now, "fsyncs", "issued", seconds),
		(double)(figures_sum(now, "requests") - figures_sum(before, "requests")) / seconds,
		rate(before, now, "", "errors", seconds));
	fflush(stdout);
}

/* Whether it is the same mount that was there. */
static bool is_still_there(const struct mount_entry *mount)
{
	struct mount_entry now;

	return !mountinfo_find(mount->point, &now) && now.major == mount->major &&
	       now.minor == mount->minor;
}

/* A line each so many seconds, until the mount is gone. */
static int watch(const struct mount_entry *mount, struct figures *before, unsigned seconds)
{
	struct figures now;
	int error;

	for (unsigned line = 0;; line++) {
		if (line % 20 == 0)
			printf("%8s %9s %9s %9s %9s %8s %9s %9s %9s %7s\n", "", "reads/s", "MiB/s",
				"writes/s", "MiB/s", "per call", "fsyncs/s", "issued/s", "all/s",
				"errors");
		sleep(seconds);
		error = ask_figures(mount, &now);
		if (error) {
			figures_free(&now);
			if (!is_still_there(mount))
				return EXIT_OK;
			log_error("%s: its daemon does not answer: %s", mount->point,
				strerror(-error));
			return EXIT_SYSTEM;
		}
		/* Another worker counts anew. */
		if (figures_number(&now, "", "worker_pid") !=
			figures_number(before, "", "worker_pid"))
			figures_free(before);
		print_rates(before, &now, seconds);
		figures_free(before);
		*before = now;
	}
}

int cmd_stats(int argc, char **argv)
{
	void (*print)(const struct figures *) = print_table;
	struct mount_entry mount;
	struct figures figures;
	const char *path = NULL;
	unsigned seconds = 0;
	int status, error;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			print = print_json;
		else if (!strcmp(argv[i], "--prometheus"))
			print = print_prometheus;
		else if (!strcmp(argv[i], "--watch"))
			seconds = 1;
		else if (sscanf(argv[i], "--watch=%5u", &seconds) == 1 && seconds)
			continue;
		else if (argv[i][0] == '-' || path)
			return usage(argv[i]);
		else
			path = argv[i];
	}
	if (!path)
		return usage("end of line");
	status = cmd_find_mount(path, &mount);
	if (status)
		return status;
	error = ask_figures(&mount, &figures);
	if (error == -ETIMEDOUT)
		log_error("%s: its daemon stopped answering", mount.point);
	else if (error)
		log_error("%s: cannot ask its daemon: %s%s", mount.point, strerror(-error),
			error == -ENOENT ? "; it is dead, or belongs to another user" : "");
	if (error)
		status = error == -EACCES ? EXIT_USAGE : EXIT_SYSTEM;
	else if (seconds)
		status = watch(&mount, &figures, seconds);
	else
		print(&figures);
	figures_free(&figures);
	return status;
}
