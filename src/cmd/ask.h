/* SPDX-License-Identifier: MIT */
/* What a daemon says of itself: the lines of "stats". For cmd/. */
#ifndef CMD_ASK_H
#define CMD_ASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/mountinfo.h"

struct figure {
	char *line; /* owns what the others point into */
	char *group, *name, *value; /* group "": none */
};

struct figures {
	struct figure *all;
	size_t count;
};

/*
 * Asks the daemon of a mount, which has 5 seconds. 0, -ETIMEDOUT where it does not answer, or
 * another -errno of control_ask(). figures_free() is due in any case.
 */
int ask_figures(const struct mount_entry *mount, struct figures *figures);
/* Of what a daemon sends. figures is empty. */
void figures_read(FILE *in, struct figures *figures);
void figures_free(struct figures *figures);

/* The value's text, or NULL; its number, or 0; the sum of a group. */
const char *figures_text(const struct figures *figures, const char *group, const char *name);
unsigned long long figures_number(
	const struct figures *figures, const char *group, const char *name);
unsigned long long figures_sum(const struct figures *figures, const char *group);

#endif
