/* SPDX-License-Identifier: MIT */
/* Who does what inside and outside; see walls.h. */
#include "walls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mountinfo.h"
#include "cmd/cmd.h"
#include "confine/confine.h"
#include "confine/outside.h"
#include "control/claim.h"
#include "control/control.h"
#include "fs/fs.h"
#include "mountpoint.h"

static void task_detach(void *user)
{
	const struct walls *walls = user;

	mountpoint_detach(walls->point);
}

static void task_tune(void *user)
{
	const struct walls *walls = user;

	mountpoint_tune(walls->point);
}

static void task_release(void *user)
{
	const struct walls *walls = user;

	claim_unlink(walls->claim);
	control_unlink(walls->control);
}

/* "namespace,root,…", "none". A ring is restricted in any case. */
static void tell(struct walls *walls, unsigned stand)
{
	size_t used = strlen(confine_names(stand, walls->names, sizeof(walls->names)));

	if (walls->ring || !used)
		snprintf(walls->names + used, sizeof(walls->names) - used, "%s%s", used ? "," : "",
			walls->ring ? "ring" : "none");
}

void walls_start(struct walls *walls, const struct options *options)
{
	const struct outside_tasks tasks = {task_detach, task_tune, task_release, walls};
	int error;

	tell(walls, 0);
	if (options->confine == CONFINE_NONE)
		return;
	error = mountinfo_hold();
	if (!error)
		error = outside_start(&tasks, !options->foreground);
	if (error)
		log_warning("confine: not at all: %s", strerror(-error));
	walls->outside = !error;
}

int walls_enter(struct walls *walls, struct fs *fs, bool uring)
{
	const struct confine_wish wish = {fs->root_fd, fs->proc_fd, uring};
	unsigned stand;

	if (walls->outside) {
		walls->inside = true;
		/* Their paths lead elsewhere from here on. */
		claim_leave(walls->claim);
		control_leave(walls->control);
		log_by(outside_log);
		fs->config.groups_of = outside_groups;
		stand = confine(&wish);
		fs->config.apart = stand & CONFINE_NAMESPACE;
		tell(walls, stand);
	}
	if (!fchdir(fs->proc_fd))
		return EXIT_OK;
	log_error("cannot change to /proc/self/fd: %s", strerror(errno));
	return EXIT_SYSTEM;
}

void walls_detach(const struct walls *walls)
{
	int error = walls->inside ? outside_detach() : 0;

	if (!walls->inside)
		mountpoint_detach(walls->point);
	else if (error)
		log_error("cannot unmount %s: the process outside is gone", walls->point->path);
}

void walls_tune(const struct walls *walls)
{
	if (walls->inside)
		outside_tune();
	else
		mountpoint_tune(walls->point);
}

void walls_release(const struct walls *walls)
{
	if (walls->inside)
		outside_release();
}

void walls_end(struct walls *walls)
{
	if (walls->outside)
		outside_end();
	walls->outside = false;
}
