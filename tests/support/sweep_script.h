/* SPDX-License-Identifier: MIT */
/*
 * What a program does on a mount while something fails: a script of file calls, each with a look at
 * whether it came to what it has to, or to an error that it may come to. For sweep_tool.c.
 */
#ifndef SWEEP_SCRIPT_H
#define SWEEP_SCRIPT_H

#include <stdbool.h>

struct sweep_script {
	const char *mount, *source;
	int error; /* that calls may be told; 0: all have to succeed */
	/* Out, of the last run. */
	unsigned told; /* calls that were */
	bool wrong; /* something was not as it has to be: said on standard output */
};

/* Once, in a directory of its own, which is gone afterwards. */
void sweep_script_run(struct sweep_script *script);

/* The directory goes; everything has to succeed. Nothing may fail meanwhile. */
void sweep_script_clean(struct sweep_script *script);

#endif
