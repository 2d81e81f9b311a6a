/* SPDX-License-Identifier: MIT */
/* Looking after lanes; see guard.h. */
#include "loop/guard.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/turn.h"

#define LOOK_MS 10
/* Looks without work, after which the guard sleeps. */
#define QUIET_LOOKS 50
/* Looks after which a lane is no longer cautious. */
#define CALM_LOOKS 200

/* Between two looks it has done nothing but be at work. */
static bool is_stuck(struct loop *loop)
{
	unsigned turns = atomic_load_explicit(&loop->turns, memory_order_relaxed);
	bool stuck = atomic_load(&loop->turning) && turns == loop->turns_seen;

	loop->turns_seen = turns;
	return stuck;
}

/* Another loop comes to help: a new one, or else one that is not stuck. */
static void relieve(
	struct loop_group *group, struct lane *lane, struct loop *stuck, struct loop *other)
{
	lane->calm = 0;
	atomic_store_explicit(&lane->cautious, true, memory_order_relaxed);
	if (!lane_add(group, lane) && other && atomic_load(&lane->wide) == stuck)
		atomic_store_explicit(&lane->wide, other, memory_order_release);
	if (atomic_load(&lane->wide) != stuck)
		lane_rescue(stuck, atomic_load(&lane->wide));
}

/* True where a loop of the lane is at work. */
static bool look(struct loop_group *group, struct lane *lane)
{
	struct loop *stuck = NULL; /* since the last look */
	struct loop *other = NULL;
	bool busy = lane->front && atomic_load(&lane->front->turning);

	for (unsigned n = 0; n <= lane->extras; n++) {
		struct loop *loop = n ? &lane->extra[n - 1] : lane->first;
		bool was = loop->stuck;

		loop->stuck = is_stuck(loop);
		busy |= atomic_load(&loop->turning);
		if (!loop->stuck)
			other = loop;
		else if (!was)
			stuck = loop;
	}
	if (stuck)
		relieve(group, lane, stuck, other);
	else if (lane->calm < CALM_LOOKS && ++lane->calm == CALM_LOOKS)
		atomic_store_explicit(&lane->cautious, false, memory_order_relaxed);
	return busy;
}

static bool look_at_all(struct loop_group *group)
{
	bool busy = false;

	for (unsigned n = 0; n < group->nlanes; n++)
		busy |= look(group, &group->lanes[n]);
	return busy;
}

/* False when the group ends, or goes without a ring. */
static bool wait_for(struct loop_group *group, int fd, int ms)
{
	return group_wait(group, fd, ms) && atomic_load(&group->ring) != RING_NONE;
}

static void *guard_main(void *arg)
{
	struct loop_group *group = arg;
	uint64_t count;

	while (wait_for(group, group->guard_fd, -1)) {
		unsigned quiet = 0;

		if (read(group->guard_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			log_error("the guard of the ring: %s", strerror(errno));
		while (quiet < QUIET_LOOKS) {
			if (!wait_for(group, -1, LOOK_MS))
				return NULL;
			quiet = look_at_all(group) ? 0 : quiet + 1;
		}
		/* Who begins after this calls; who began before is seen by a last look. */
		atomic_store(&group->guarded, false);
		if (look_at_all(group))
			guard_wake(group);
	}
	return NULL;
}

void guard_wake(struct loop_group *group)
{
	uint64_t one = 1;

	if (atomic_exchange(&group->guarded, true))
		return;
	if (write(group->guard_fd, &one, sizeof(one)) < 0)
		log_error("cannot wake the guard of the ring: %s", strerror(errno));
}

int guard_start(struct loop_group *group)
{
	int error;

	group->guard_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (group->guard_fd < 0)
		return -errno;
	error = pthread_create(&group->guard, NULL, guard_main, group);
	group->guard_started = !error;
	return -error;
}

void guard_join(struct loop_group *group)
{
	if (group->guard_started) {
		/* It waits for work, where there is no ring after all. */
		atomic_store(&group->guarded, false);
		guard_wake(group);
		pthread_join(group->guard, NULL);
	}
	group->guard_started = false;
	if (group->guard_fd >= 0)
		close(group->guard_fd);
	group->guard_fd = -1;
}
