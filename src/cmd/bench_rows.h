/* SPDX-License-Identifier: MIT */
/* The work that `batchiofs bench` measures. For cmd/bench.c. */
#ifndef CMD_BENCH_ROWS_H
#define CMD_BENCH_ROWS_H

#include <stddef.h>

struct bench_work {
	const char *dir; /* where to work: the source, or a mount of it */
	size_t size; /* bytes of BENCH_FILE there */
	double seconds; /* for which a row runs */
};

struct bench_row {
	const char *name;
	const char *what;
	/* Runs in a process of its own. Operations a second, or -errno. */
	double (*run)(const struct bench_work *work);
};

/* A file full of data, made before all rows. */
#define BENCH_FILE "data"

extern const struct bench_row bench_rows[];
extern const size_t bench_rows_count;

/* Makes BENCH_FILE, on the device. 0 or -errno. */
int bench_prepare(const struct bench_work *work);

#endif
