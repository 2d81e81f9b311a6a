/* SPDX-License-Identifier: MIT */
/* See ask.h. For cmd/. */
#include "cmd/ask.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "control/control.h"

/* A daemon that does not answer in this time is stuck as a whole. */
#define ANSWER_SECONDS 5

/* Splits "group.name value\n" in place. False for a line of another form. */
static bool split(struct figure *figure)
{
	char *line = figure->line, *dot;

	line[strcspn(line, "\n")] = '\0';
	figure->value = strchr(line, ' ');
	if (!figure->value)
		return false;
	*figure->value++ = '\0';
	dot = strchr(line, '.');
	figure->group = dot ? line : line + strlen(line);
	figure->name = dot ? dot + 1 : line;
	if (dot)
		*dot = '\0';
	return true;
}

/* Reads all lines; what memory does not hold is left out. */
void figures_read(FILE *in, struct figures *f)
{
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, in) >= 0) {
		struct figure *grown = realloc(f->all, (f->count + 1) * sizeof(*grown));

		if (!grown)
			break;
		f->all = grown;
		f->all[f->count].line = line;
		if (!split(&f->all[f->count]))
			continue;
		f->count++;
		line = NULL;
		size = 0;
	}
	free(line);
}

int ask_figures(const struct mount_entry *mount, struct figures *figures)
{
	struct timeval limit = {.tv_sec = ANSWER_SECONDS};
	int fd = control_ask(mount, "stats\n");
	bool stopped;
	FILE *in;

	*figures = (struct figures){0};
	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	in = fdopen(fd, "r");
	if (!in) {
		close(fd);
		return -ENOMEM;
	}
	figures_read(in, figures);
	stopped = ferror(in);
	fclose(in);
	return stopped ? -ETIMEDOUT : 0;
}

void figures_free(struct figures *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->all[i].line);
	free(f->all);
	*f = (struct figures){0};
}

const char *figures_text(const struct figures *f, const char *group, const char *name)
{
	for (size_t i = 0; i < f->count; i++)
		if (!strcmp(f->all[i].group, group) && !strcmp(f->all[i].name, name))
			return f->all[i].value;
	return NULL;
}

unsigned long long figures_number(const struct figures *f, const char *group, const char *name)
{
	const char *text = figures_text(f, group, name);

	return text ? strtoull(text, NULL, 10) : 0;
}

unsigned long long figures_sum(const struct figures *f, const char *group)
{
	unsigned long long sum = 0;

	for (size_t i = 0; i < f->count; i++)
		if (!strcmp(f->all[i].group, group))
			sum += strtoull(f->all[i].value, NULL, 10);
	return sum;
}
