/* SPDX-License-Identifier: MIT */
/*
 * Where a mount's processes stand: the one that serves requests is confined (confine/confine.h),
 * and what takes more than it may do is asked of one that stays outside (confine/outside.h). A
 * supervisor stays outside too. With confine=none everything is done where it comes up. For
 * serve.c.
 */
#ifndef WALLS_H
#define WALLS_H

#include <stdbool.h>

#include "options.h"

struct claim;
struct control;
struct fs;
struct mountpoint;

struct walls {
	/* The mount's; all of it is known when walls_start() is called. */
	struct mountpoint *point;
	struct claim *claim;
	struct control *control;
	bool outside; /* there is somebody to ask, */
	bool inside; /* and this process has to */
	bool ring; /* rings refuse foreign operations */
	char names[96]; /* of the walls that stand, for `batchiofs stats` */
};

/* Once it is mounted: starts the process outside, if the options say so. */
void walls_start(struct walls *walls, const struct options *options);
/* In the process that is to serve fs's requests: builds the walls. Its working directory becomes
 * fs->proc_fd. An exit status. */
int walls_enter(struct walls *walls, struct fs *fs, bool uring);
/* As mountpoint.h's. */
void walls_detach(const struct walls *walls);
void walls_tune(const struct walls *walls);
/* The names in /run go, where this process could not remove them itself. */
void walls_release(const struct walls *walls);
/* The process outside ends. */
void walls_end(struct walls *walls);

#endif
