/* SPDX-License-Identifier: MIT */
/*
 * The process that stays outside of the walls, for the few things that are done there: it takes the
 * mount away, sets what sysfs says of it, removes what lies in /run, writes to syslog, and looks up
 * a caller's groups in /proc. It holds nothing of the mount or of the source, and ends with the
 * process that serves them. For serve.c.
 */
#ifndef CONFINE_OUTSIDE_H
#define CONFINE_OUTSIDE_H

#include <stdbool.h>
#include <sys/types.h>

/* What it does when it is asked to; these run in it, with the memory that was its parent's. */
struct outside_tasks {
	void (*detach)(void *user);
	void (*tune)(void *user);
	void (*release)(void *user);
	void *user;
};

/* Forks it. to_syslog: it leaves the terminal, and what it has to say goes there. 0 or -errno. */
int outside_start(const struct outside_tasks *tasks, bool to_syslog);
/* In the process that has started it, when nobody asks any more: it ends. */
void outside_end(void);

/* ---- asked by any thread; 0, or -errno where it is not there any more ---- */

int outside_detach(void);
int outside_tune(void);
int outside_release(void);

/* As fs_config.groups_of. */
int outside_groups(pid_t tid, gid_t *groups, int most);

/* As log_by()'s. Never waits: a line that there is no room for is lost. */
void outside_log(int level, const char *line);

#endif
