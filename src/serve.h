/* SPDX-License-Identifier: MIT */
/*
 * One mount from its start to its end: open the source, mount, run the loops, answer the control
 * socket, unmount. For main.c only.
 */
#ifndef SERVE_H
#define SERVE_H

#include "fs/fs.h"
#include "options.h"
#include "state.h"

/* Called once, when the mount answers requests. */
typedef void serve_ready(void *user);

/*
 * Serves the mount that options ask for; source and mountpoint are absolute and were checked.
 * Returns when it is unmounted. An exit status of cmd.h; what failed was logged. Never leaves a
 * mount behind.
 */
int serve(const struct options *options, const char *source, const char *mountpoint,
	serve_ready *ready, void *user);

/*
 * The same for a mount that another program has served in this process until now (hand_over.h).
 * With state->trial it only finds out whether it could, says so, and ends the process.
 */
int serve_on(const struct options *options, struct state *state);

#endif
