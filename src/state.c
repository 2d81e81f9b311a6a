/* SPDX-License-Identifier: MIT */
/* The text, see state.h. */
#include "state.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define AT(field) offsetof(struct state, field)

/* Everything that has one line; all of them are required. */
static const struct {
	const char *name;
	size_t at;
	size_t text; /* bytes of a text; 0: a number */
} fields[] = {
	{"program", AT(program), 64},
	{"source", AT(source), PATH_MAX},
	{"mountpoint", AT(mountpoint), PATH_MAX},
	{"exclusive", AT(exclusive), 0},
	{"remote", AT(remote), 0},
	{"uring", AT(uring), 0},
	{"restricted", AT(restricted), 0},
	{"loops", AT(loops), 0},
	{"lasting", AT(lasting), 0},
	{"syslog", AT(syslog), 0},
	{"major", AT(major), 0},
	{"minor", AT(minor), 0},
	{"mount_id", AT(mount_id), 0},
	{"root_fd", AT(root_fd), 0},
	{"device_fd", AT(device_fd), 0},
	{"claim_fd", AT(claim_fd), 0},
	{"control_fd", AT(control_fd), 0},
	{"tables_fd", AT(tables_fd), 0},
	{"program_fd", AT(program_fd), 0},
	{"asker_fd", AT(asker_fd), 0},
	{"claim", AT(claim), PATH_MAX},
	{"control", AT(control), 128},
};

enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

/* A path may have a newline in it. */
static void write_text(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n' || *text == '\\')
			fprintf(out, "\\%c", *text == '\n' ? 'n' : '\\');
		else
			fputc(*text, out);
	}
}

static void take_text(const char *text, char *at, size_t size)
{
	while (*text && size > 1) {
		bool escaped = *text == '\\' && text[1];

		text += escaped;
		*at++ = (char)(escaped && *text == 'n' ? '\n' : *text);
		text++;
		size--;
	}
	*at = '\0';
}

void state_write(FILE *out, const struct state *state)
{
	fprintf(out, "batchiofs-state %d\n", STATE_VERSION);
	for (int i = 0; i < FIELDS; i++) {
		const char *at = (const char *)state + fields[i].at;

		fprintf(out, "%s ", fields[i].name);
		if (fields[i].text)
			write_text(out, at);
		else
			fprintf(out, "%lld", *(const long long *)at);
		fputc('\n', out);
	}
}

static bool take_table(struct state *state, const char *line)
{
	struct state_table *table = &state->tables[state->n_tables];

	if (state->n_tables == STATE_TABLES ||
		sscanf(line, "table %31s %zu %lld", table->name, &table->size, &table->offset) != 3)
		return false;
	state->n_tables++;
	return true;
}

/* Which field the line is, or FIELDS. */
static int take_field(struct state *state, const char *line)
{
	for (int i = 0; i < FIELDS; i++) {
		size_t length = strlen(fields[i].name);
		char *at = (char *)state + fields[i].at;

		if (strncmp(line, fields[i].name, length) != 0 || line[length] != ' ')
			continue;
		line += length + 1;
		if (fields[i].text)
			take_text(line, at, fields[i].text);
		else
			*(long long *)at = strtoll(line, NULL, 10);
		return i;
	}
	return FIELDS;
}

int state_read(FILE *in, struct state *state, char *text, size_t size)
{
	_cleanup_free char *line = NULL;
	size_t room = 0;
	bool seen[FIELDS] = {false};
	int version = 0;

	*state = (struct state){.fd = -1};
	if (getline(&line, &room, in) < 0 || sscanf(line, "batchiofs-state %d", &version) != 1 ||
		version != STATE_VERSION) {
		snprintf(text, size, "its state has the form %d, this program's has %d", version,
			STATE_VERSION);
		return -EPROTO;
	}
	while (getline(&line, &room, in) > 0) {
		int field;

		line[strcspn(line, "\n")] = '\0';
		if (take_table(state, line))
			continue;
		field = take_field(state, line);
		if (field == FIELDS) {
			snprintf(text, size, "its state has something unknown: %.60s", line);
			return -EPROTO;
		}
		seen[field] = true;
	}
	for (int i = 0; i < FIELDS; i++)
		if (!seen[i]) {
			snprintf(text, size, "its state says nothing of %s", fields[i].name);
			return -EPROTO;
		}
	return 0;
}
