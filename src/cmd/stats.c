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

static void print_table(FILE *in)
{
	_cleanup_free char *line = NULL;
	char open_group[64] = "";
	size_t size = 0;
	char *group, *name, *value;

	while (getline(&line, &size, in) >= 0) {
		if (!split(line, &group, &name, &value))
			continue;
		if (strcmp(group, open_group)) {
			snprintf(open_group, sizeof(open_group), "%s", group);
			if (group[0]) {
				print_words(group);
				putchar('\n');
			}
		}
		if (group[0])
			printf("  %-22s %15s\n", name, value);
		else
			printf("%-12s %s\n", name, value);
	}
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
