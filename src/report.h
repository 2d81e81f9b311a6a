/* SPDX-License-Identifier: MIT */
/* The counters and settings of a mount, as lines "name value\n". For serve.c. */
#ifndef REPORT_H
#define REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "options.h"

struct fs;
struct supervise_board;

struct report {
	const struct options *options;
	const char *source;
	const char *mountpoint;
	bool exclusive;
	bool uring;
	unsigned loops;
	const char *confined; /* the walls that stand, with commas between; or "none" */
	struct fs *fs;
	int64_t mounted_at; /* clock_ns() */
	const struct supervise_board *board; /* NULL: nobody would take over */
};

/* Any thread, while the loops are there. */
void report(FILE *out, const struct report *r);

#endif
