/* SPDX-License-Identifier: MIT */
/* Which loop waits for requests; see baton.h. For loop.c and keeper.c. */
#include "loop/baton.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/loop.h"
#include "loop/turn.h"

#define LOOK_AROUND_MS 500

int baton_open(struct baton *baton)
{
	baton->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return baton->fd < 0 ? -errno : 0;
}

void baton_close(struct baton *baton)
{
	if (baton->fd >= 0)
		close(baton->fd);
	baton->fd = -1;
}

void baton_set_waiting(struct loop *loop, bool waiting)
{
	if (loop->baton.waiting == waiting)
		return;
	loop->baton.waiting = waiting;
	if (waiting)
		atomic_fetch_add(&loop->group->waiting, 1);
	else
		atomic_fetch_sub(&loop->group->waiting, 1);
}

bool baton_other_waits(const struct loop *loop)
{
	return atomic_load(&loop->group->waiting) > loop->baton.waiting;
}

static void poll_done(struct batchio_request *poll, ssize_t result)
{
	struct loop *loop = poll->user;
	uint64_t passed;

	loop->baton.armed = false;
	if (result >= 0 && read(loop->baton.fd, &passed, sizeof(passed)) < 0 && errno != EAGAIN)
		log_error("loop %u: %s", loop->number, strerror(errno));
}

static bool arm(struct loop *loop)
{
	struct baton *baton = &loop->baton;

	if (baton->armed)
		return true;
	baton->armed = turn_poll(loop, &baton->poll, baton->fd, poll_done) == 0;
	return baton->armed;
}

bool baton_wait(struct loop *loop)
{
	struct baton *baton = &loop->baton;

	if (baton->fd < 0 || !baton_other_waits(loop) || !arm(loop))
		return false;
	atomic_store(&baton->parked, true);
	/* Who gets busy after this finds it parked. */
	if (baton_other_waits(loop))
		loop_reap_next(loop, LOOK_AROUND_MS);
	atomic_store(&baton->parked, false);
	return true;
}

bool baton_pass(struct loop_group *group)
{
	uint64_t one = 1;

	for (unsigned n = 0; n < group->config.loops; n++) {
		struct loop *loop = &group->loops[n];
		bool parked = true;

		if (!atomic_compare_exchange_strong(&loop->baton.parked, &parked, false))
			continue;
		if (write(loop->baton.fd, &one, sizeof(one)) < 0)
			log_error("cannot wake loop %u: %s", n, strerror(errno));
		return true;
	}
	return false;
}
