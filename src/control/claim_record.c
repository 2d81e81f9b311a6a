/* SPDX-License-Identifier: MIT */
/* What a claim says; see claim_record.h. */
#include "control/claim_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mountinfo.h"

static const char *const kinds[] = {
	[PLACE_OWN] = "place",
	[PLACE_ABOVE] = "above",
	[PLACE_INSIDE] = "inside",
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void write_escaped(FILE *out, const char *value)
{
	for (; *value; value++) {
		if (*value == '\n' || *value == '\\')
			fprintf(out, "\\%03o", (unsigned char)*value);
		else
			fputc(*value, out);
	}
	fputc('\n', out);
}

void claim_record_write(FILE *out, const struct claim_record *record)
{
	fprintf(out, "sharing %s\npid %d\nsource ", record->exclusive ? "exclusive" : "shared",
		record->pid);
	write_escaped(out, record->source);
	fprintf(out, "mountpoint ");
	write_escaped(out, record->mountpoint);
	for (size_t i = 0; i < record->places.n; i++) {
		const struct place *place = &record->places.list[i];

		fprintf(out, "%s %u:%u ", kinds[place->kind], place->major, place->minor);
		write_escaped(out, place->path);
	}
	fprintf(out, "end\n");
}

static int read_text(const char *value, char **out)
{
	free(*out);
	*out = strdup(value);
	if (!*out)
		return -ENOMEM;
	mountinfo_unescape(*out);
	return 0;
}

static int read_place(char *value, enum place_kind kind, struct places *places)
{
	unsigned major, minor;
	int at = 0;

	if (sscanf(value, "%u:%u %n", &major, &minor, &at) != 2 || value[at] != '/')
		return -EINVAL;
	mountinfo_unescape(value + at);
	return places_add(places, kind, major, minor, value + at);
}

static int read_line(const char *name, char *value, struct claim_record *record)
{
	if (!strcmp(name, "source"))
		return read_text(value, &record->source);
	if (!strcmp(name, "mountpoint"))
		return read_text(value, &record->mountpoint);
	if (!strcmp(name, "sharing"))
		record->exclusive = strcmp(value, "shared") != 0;
	else if (!strcmp(name, "pid"))
		record->pid = (pid_t)strtol(value, NULL, 10);
	for (size_t i = 0; i < N_KINDS; i++)
		if (!strcmp(name, kinds[i]))
			return read_place(value, (enum place_kind)i, &record->places);
	return 0;
}

int claim_record_read(FILE *in, struct claim_record *record)
{
	_cleanup_free char *line = NULL;
	size_t size = 0;
	ssize_t length;
	bool ended = false;
	int error = 0;

	while (!error && !ended && (length = getline(&line, &size, in)) > 0) {
		char *value;

		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		ended = !strcmp(line, "end");
		value = strchr(line, ' ');
		if (!value)
			continue;
		*value++ = '\0';
		error = read_line(line, value, record);
	}
	if (!error && (!ended || !record->source || !record->mountpoint || !record->places.n))
		error = -EINVAL;
	return error;
}

void claim_record_free(struct claim_record *record)
{
	free(record->source);
	free(record->mountpoint);
	places_free(&record->places);
	*record = (struct claim_record){0};
}

bool claim_record_conflict(
	const struct claim_record *mine, const struct claim_record *other, char *text, size_t size)
{
	static const char *const relations[] = {
		[PLACES_SAME] = "is the same directory as",
		[PLACES_BELOW] = "lies below",
		[PLACES_CONTAIN] = "contains",
		[PLACES_OVERLAP] = "shares a mount inside with",
	};
	enum place_relation relation;

	if (!mine->exclusive && !other->exclusive)
		return false;
	relation = places_relation(&mine->places, &other->places);
	if (relation == PLACES_APART)
		return false;
	snprintf(text, size, "it %s %s, which batchiofs mounts %s on %s (pid %d)",
		relations[relation], other->source,
		other->exclusive ? "exclusively" : "with sharing=shared", other->mountpoint,
		other->pid);
	return true;
}
