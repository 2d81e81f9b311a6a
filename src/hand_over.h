/* SPDX-License-Identifier: MIT */
/*
 * Another program takes the place of this one, and the mount goes on: `batchiofs upgrade`. For
 * serve.c and main.c.
 *
 * The supervisor first has the other program try, in a process of its own, whether it could go on
 * with what is there: that one maps the tables, and ends. Then the worker is killed, as one that
 * crashes would be, and the supervisor executes the other program, which starts a worker that takes
 * over. Descriptors and tables stay open meanwhile; state.h says what it is told. Should its first
 * workers fail, the former program is executed again.
 */
#ifndef HAND_OVER_H
#define HAND_OVER_H

#include "options.h"
#include "state.h"

struct server;

/*
 * What this program is to go on with, if it was started in the place of another: the caller's for
 * good; NULL otherwise. *status is not 0 where that cannot be read: logged, and the program is to
 * end with it. First of all, with one thread.
 */
struct state *hand_over_taken(int *status);

/* The program that wrote the state goes on with it. Returns where even that is not possible,
 * logged. */
void hand_over_back(const struct options *options, const struct state *state);

/* ---- for supervise.h's callbacks: user is the struct server ---- */

bool hand_over_may(void *server);
void hand_over_go(void *server);
void hand_over_failed(void *server);

/* The first worker of this program is ready. */
void hand_over_done(struct server *server);

#endif
