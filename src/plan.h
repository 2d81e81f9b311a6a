/* SPDX-License-Identifier: MIT */
/* What to run: from the options, and from what there is. For serve.c only. */
#ifndef PLAN_H
#define PLAN_H

#include "server.h"

/* Fixes backend and number of loops. An exit status. */
int plan_backend(struct server *server);
/* What of the machine a process that is confined cannot see; part of the above. */
void plan_machine(struct server *server);
/* Whether this process may open as many files as a mount takes. An exit status, logged. */
int plan_descriptors(void);
/* Fixes what sharing=auto means, and looks at the source. An exit status. */
int plan_sharing(struct server *server);
/* Whether another process shall take over should the one that serves the mount die. */
bool plan_supervision(const struct options *options);
/* The rest in the file system's terms, once all of the above is fixed. */
struct fs_config plan_fs(const struct server *server);
/* Whether requests are to come by FUSE over io_uring; if they cannot, the reason is logged. */
bool plan_ring(const struct server *server);

#endif
