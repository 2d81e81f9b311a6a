/* SPDX-License-Identifier: MIT */
/* Values of JSON. For cmd/. */
#ifndef CMD_JSON_H
#define CMD_JSON_H

#include <stdbool.h>
#include <stdio.h>

/* With its quotes; bytes that are no UTF-8 become U+FFFD. */
void json_string(FILE *out, const char *s);
/* As JSON has them: 0, but not 07. */
bool json_is_number(const char *s);
/* A number, or a string. */
void json_value(FILE *out, const char *s);

#endif
