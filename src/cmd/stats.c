/* SPDX-License-Identifier: MIT */
/*
 * batchiofs stats MOUNTPOINT [--json]: what the programs asked and what reached the source in how
 * many calls. Called by main.c.
 *
 * The daemon sends lines "group.name value" or "name value"; a table or JSON is made of them here,
 * in their order.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "cmd/cmd.h"
#include "control/control.h"

/* A daemon that does not answer in this time is stuck as a whole. */
#define ANSWER_SECONDS 5

static int usage(const char *word)
{
	log_error("stats: unexpected '%s'; usage: batchiofs stats MOUNTPOINT [--json]", word);
	return EXIT_USAGE;
}

static void print_json_string(const char *s)
{
	putchar('"');
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	putchar('"');
}

static bool is_number(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isdigit((unsigned char)*s))
			return false;
	return true;
}

/* Splits "group.name value\n" in place. group is "" where there is none. False for a line of
 * another form. */
static bool split(char *line, char **group, char **name, char **value)
{
	char *end = strchr(line, '\n');
	char *dot;

	if (end)
		*end = '\0';
	*value = strchr(line, ' ');
	if (!*value)
		return false;
	*(*value)++ = '\0';
	dot = strchr(line, '.');
	*group = dot ? line : "";
	*name = dot ? dot + 1 : line;
	if (dot)
		*dot = '\0';
	return true;
}

static void print_json(FILE *in)
{
	_cleanup_free char *line = NULL;
	char open_group[64] = "";
	size_t size = 0;
	bool first = true;
	char *group, *name, *value;

	putchar('{');
	while (getline(&line, &size, in) >= 0) {
		if (!split(line, &group, &name, &value))
			continue;
		if (strcmp(group, open_group)) {
			if (open_group[0])
				printf("\n  }");
			if (group[0]) {
				printf("%s\n  \"%s\": {", first ? "" : ",", group);
				first = true;
			}
			snprintf(open_group, sizeof(open_group), "%s", group);
		}
		printf("%s\n  %s\"%s\": ", first ? "" : ",", group[0] ? "  " : "", name);
		if (is_number(value))
			printf("%s", value);
		else
			print_json_string(value);
		first = false;
	}
	printf("%s\n}\n", open_group[0] ? "\n  }" : "");
}

/* "operations_per_call" reads better with blanks. */
static void print_words(const char *s)
{
	for (; *s; s++)
		putchar(*s == '_' ? ' ' : *s);
}

/* ---- the table ---- */

struct figure {
	char *line; /* owns what the others point into */
	char *group, *name, *value;
};

struct figures {
	struct figure *all;
	size_t count;
};

/* Reads all lines; what memory does not hold is left out. */
static struct figures read_figures(FILE *in)
{
	struct figures f = {0};
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, in) >= 0) {
		struct figure *grown = realloc(f.all, (f.count + 1) * sizeof(*grown));
		struct figure *now;

		if (!grown)
			break;
		f.all = grown;
		now = &f.all[f.count];
		if (!split(line, &now->group, &now->name, &now->value))
			continue;
		now->line = line;
		f.count++;
		line = NULL;
		size = 0;
	}
	free(line);
	return f;
}

static void free_figures(struct figures *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->all[i].line);
	free(f->all);
}

static unsigned long long figure(const struct figures *f, const char *group, const char *name)
{
	for (size_t i = 0; i < f->count; i++)
		if (!strcmp(f->all[i].group, group) && !strcmp(f->all[i].name, name))
			return strtoull(f->all[i].value, NULL, 10);
	return 0;
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
	unsigned long long pairs = figure(f, "backend_calls", "write_fsync");

	printf("\n  %-8s %12s %12s %12s %14s\n", "", "asked", "calls", "per call", "bytes");
	print_row("read", figure(f, "requests", "read"), figure(f, "backend_calls", "read"),
		figure(f, "bytes", "read"));
	print_row("write", figure(f, "requests", "write"),
		figure(f, "backend_calls", "write") + pairs, figure(f, "bytes", "written"));
	print_row("fsync", figure(f, "fsyncs", "asked"), figure(f, "fsyncs", "issued"), 0);
	putchar('\n');
}

static void print_table(FILE *in)
{
	struct figures f = read_figures(in);
	const char *group = "";
	bool summed = false;

	for (size_t i = 0; i < f.count; i++) {
		const struct figure *now = &f.all[i];

		if (strcmp(now->group, group)) {
			/* The first lines, which say what is mounted, are over. */
			if (!summed)
				print_summary(&f);
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
	free_figures(&f);
}

int cmd_stats(int argc, char **argv)
{
	struct timeval limit = {.tv_sec = ANSWER_SECONDS};
	struct mount_entry mount;
	const char *path = NULL;
	bool json = false;
	FILE *in;
	int status;
	int fd;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
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
	fd = control_ask(&mount, "stats\n");
	if (fd < 0) {
		log_error("%s: cannot ask its daemon: %s%s", mount.point, strerror(-fd),
			fd == -ENOENT ? "; it is dead, or belongs to another user" : "");
		return fd == -EACCES ? EXIT_USAGE : EXIT_SYSTEM;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	in = fdopen(fd, "r");
	if (!in)
		return EXIT_SYSTEM;
	if (json)
		print_json(in);
	else
		print_table(in);
	if (ferror(in))
		log_error("%s: its daemon stopped answering", mount.point);
	status = ferror(in) ? EXIT_SYSTEM : EXIT_OK;
	fclose(in);
	return status;
}
