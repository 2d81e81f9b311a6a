/* SPDX-License-Identifier: MIT */
/* See json.h. For cmd/. */
#include "cmd/json.h"

#include <ctype.h>

/* Bytes of the UTF-8 character at s, 0 where there is none: paths may have any bytes. */
static int character(const char *s)
{
	const unsigned char *c = (const unsigned char *)s;
	int length = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;

	if (c[0] > 0xf4 || (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f) ||
		(c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f))
		return 0;
	for (int i = 1; i < length; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

void json_string(FILE *out, const char *s)
{
	fputc('"', out);
	while (*s) {
		int length = character(s);

		if (!length)
			fprintf(out, "\\ufffd");
		else if (*s == '"' || *s == '\\')
			fprintf(out, "\\%c", *s);
		else if ((unsigned char)*s < 0x20)
			fprintf(out, "\\u%04x", *s);
		else
			fprintf(out, "%.*s", length, s);
		s += length ? length : 1;
	}
	fputc('"', out);
}

bool json_is_number(const char *s)
{
	if (!*s || (s[0] == '0' && s[1]))
		return false;
	for (; *s; s++)
		if (!isdigit((unsigned char)*s))
			return false;
	return true;
}

void json_value(FILE *out, const char *s)
{
	if (json_is_number(s))
		fputs(s, out);
	else
		json_string(out, s);
}
