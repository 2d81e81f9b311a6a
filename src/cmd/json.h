/* SPDX-License-Identifier: MIT */
/* Values of JSON. For cmd/. */
#ifndef CMD_JSON_H
#define CMD_JSON_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>

/* With its quotes. */
static inline void json_string(FILE *out, const char *s)
{
	fputc('"', out);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(out, "\\u%04x", *s);
		else
			fputc(*s, out);
	}
	fputc('"', out);
}

/* Digits and nothing else. */
static inline bool json_is_number(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isdigit((unsigned char)*s))
			return false;
	return true;
}

static inline void json_value(FILE *out, const char *s)
{
	if (json_is_number(s))
		fputs(s, out);
	else
		json_string(out, s);
}

#endif
