/* SPDX-License-Identifier: MIT */
/* More loops while the others are stuck; see keeper.h. */
#include "loop/keeper.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/log.h"
#include "loop/turn.h"

/* Requests that wait so long have found no loop that is awake, or longer, none at all. */
#define NUDGE_MS 1
#define TICK_MS  20
/* Requests at work of which none ends for so long are stuck. */
#define STUCK_MS 1000
/* After a loop that could not be started. */
#define PAUSE_MS 1000

/* Until a request waits. False when the group ends. */
static bool wait_for_requests(struct loop_group *group)
{
	struct pollfd fds[] = {
		{.fd = group->wake_fd, .events = POLLIN},
		{.fd = group->config.device, .events = POLLIN},
	};

	while (poll(fds, 2, -1) < 0)
		;
	/* Unmounted: the loops see it, and one of them ends the group. */
	if (fds[1].revents & (POLLERR | POLLHUP | POLLNVAL)) {
		baton_pass(group);
		group_wait(group, -1, -1);
	}
	return !fds[0].revents && !(fds[1].revents & (POLLERR | POLLHUP | POLLNVAL));
}

static bool requests_wait(struct loop_group *group)
{
	struct pollfd device = {.fd = group->config.device, .events = POLLIN};

	return poll(&device, 1, 0) == 1 && device.revents == POLLIN;
}

static uint64_t taken(struct loop_group *group)
{
	uint64_t sum = 0;

	for (unsigned n = 0; n < group->config.loops + LOOP_EXTRA; n++)
		sum += atomic_load_explicit(&group->loops[n].taken, memory_order_relaxed);
	return sum;
}

/* A place for another loop, or NULL. Its counters go on where its last holder left them. */
static struct loop *free_place(struct loop_group *group)
{
	for (unsigned n = 0; n < LOOP_EXTRA; n++) {
		struct loop *loop = &group->loops[group->config.loops + n];

		if (!loop->thread_started)
			return loop;
		if (atomic_load(&loop->ended)) {
			pthread_join(loop->thread, NULL);
			loop->thread_started = false;
			return loop;
		}
	}
	return NULL;
}

/* False when there is no place, or no thread. */
static bool start_loop(struct loop_group *group)
{
	struct loop *loop = free_place(group);
	int error;

	if (!loop)
		return false;
	atomic_store(&loop->ended, false);
	atomic_fetch_add(&group->running, 1);
	atomic_fetch_add(&group->extra, 1);
	error = pthread_create(&loop->thread, NULL, loop_extra_main, loop);
	loop->thread_started = !error;
	if (error) {
		atomic_fetch_sub(&group->extra, 1);
		atomic_fetch_sub(&group->running, 1);
		log_warning("requests wait, and no further loop starts: %s", strerror(error));
	}
	return !error;
}

/*
 * Without a buffer no loop takes anything. Waits until one can, or else gives more room where those
 * that have all of it are stuck. False when the group ends.
 */
static bool wait_for_room(struct loop_group *group)
{
	uint64_t before = taken(group);
	int waited = 0;

	while (taken(group) == before && request_pool_empty(&group->pool)) {
		if (!group_wait(group, -1, TICK_MS))
			return false;
		waited += TICK_MS;
		if (waited >= STUCK_MS)
			request_pool_stretch(&group->pool);
	}
	return true;
}

static void *keeper_main(void *arg)
{
	struct loop_group *group = arg;

	while (wait_for_requests(group)) {
		uint64_t before = taken(group);

		if (!group_wait(group, -1, NUDGE_MS))
			break;
		if (taken(group) != before || !requests_wait(group))
			continue;
		baton_pass(group);
		if (!group_wait(group, -1, TICK_MS))
			break;
		if (!wait_for_room(group))
			break;
		if (taken(group) != before || !requests_wait(group))
			continue;
		if (!start_loop(group) && !group_wait(group, -1, PAUSE_MS))
			break;
	}
	return NULL;
}

int keeper_start(struct loop_group *group)
{
	int error = pthread_create(&group->keeper, NULL, keeper_main, group);

	group->keeper_started = !error;
	return -error;
}

void keeper_join(struct loop_group *group)
{
	if (!group->keeper_started)
		return;
	pthread_join(group->keeper, NULL);
	for (unsigned n = 0; n < LOOP_EXTRA; n++) {
		struct loop *loop = &group->loops[group->config.loops + n];

		if (loop->thread_started)
			pthread_join(loop->thread, NULL);
	}
}
