/* SPDX-License-Identifier: MIT */
/*
 * What a program that serves a mount tells the one that takes its place in the same process: text,
 * a line each, in a file in memory. For hand_over.c, serve.c and main.c.
 *
 * The next program is another build, perhaps: it takes over only if both write down the same
 * things, and the tables in shared memory are of the same form. STATE_VERSION goes up with each
 * change of what is in those tables, their names and sizes are compared besides.
 */
#ifndef STATE_H
#define STATE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define STATE_VERSION 1

/* What a trial prints when all is well. */
#define STATE_READY "ready to go on"

enum { STATE_TABLES = 16 };

struct state_table {
	char name[32];
	size_t size;
	long long offset;
};

struct state {
	char program[64]; /* version of the one that wrote it */
	char source[PATH_MAX], mountpoint[PATH_MAX];
	long long exclusive, remote, uring, restricted, loops, lasting, syslog;
	long long major, minor; /* of the mount, */
	long long mount_id; /* and mountpoint.id */
	/* Descriptors. */
	long long root_fd, device_fd, claim_fd, control_fd, tables_fd;
	long long program_fd; /* the program itself, for the way back */
	long long asker_fd; /* who has asked for the next one; -1: nobody */
	char claim[PATH_MAX]; /* path of the claim, */
	char control[128]; /* and of the control socket */
	struct state_table tables[STATE_TABLES];
	size_t n_tables;
	/* Not of the text: of this program. */
	int fd; /* where the text came from */
	int *open; /* what was open before, but for the standard ones and those above */
	size_t n_open;
	bool back; /* the next program has failed, and the one that wrote this goes on */
	bool trial; /* only to say whether it could */
};

/* All but the lines of tables, which reserve_describe() writes. */
void state_write(FILE *out, const struct state *state);

/* 0; -EPROTO where it is of another version, or not whole, with the reason in text; or -errno. */
int state_read(FILE *in, struct state *state, char *text, size_t size);

#endif
