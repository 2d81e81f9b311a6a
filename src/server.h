/* SPDX-License-Identifier: MIT */
/* What one mount is made of. For serve.c and hand_over.c, who know what is inside. */
#ifndef SERVER_H
#define SERVER_H

#include <sys/stat.h>

#include "control/claim.h"
#include "control/control.h"
#include "fs/fs.h"
#include "mountpoint.h"
#include "options.h"
#include "serve.h"
#include "state.h"
#include "supervise/supervise.h"
#include "walls.h"

struct server {
	const struct options *options;
	const char *source;
	const char *mountpoint;
	bool exclusive; /* sharing, auto resolved */
	struct stat seen; /* the source, when that was done */
	bool remote; /* the source is another host's, or another daemon's */
	bool supervised;
	bool uring, ring;
	unsigned loops, processors, queues;
	struct fs fs;
	struct mountpoint point;
	struct claim claim;
	struct control control;
	struct supervise supervise; /* board NULL: nobody takes over */
	serve_ready *ready;
	void *ready_user;
	int signal_fd;
	int tables_fd; /* where the shared tables lie, -1: in no file */
	struct awake_means awake;
	bool unmounting;
	struct walls walls;
	int64_t mounted_at; /* clock_ns(); of a supervised one board->mounted_at counts */
	struct state *state; /* of the program that this one has taken the place of, or NULL */
	int state_fd, program_fd; /* while another is about to take this one's place, or -1 */
};

#endif
