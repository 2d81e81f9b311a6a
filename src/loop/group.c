/* SPDX-License-Identifier: MIT */
/* The loops of a mount, from their start to their end; see loop.h. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/keeper.h"
#include "loop/loop.h"
#include "loop/turn.h"

/* The least that the kernel takes. */
#define SLICE_NS 100000

/* The kernel's struct sched_attr in its first form; the C library's headers may have none. */
struct slices {
	uint32_t size;
	uint32_t policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t slice;
	uint64_t deadline;
	uint64_t period;
};

static int make_handle(struct loop *loop, struct batchio_error *reason)
{
	const struct loop_group_config *config = &loop->group->config;
	unsigned flags = BATCHIO_SINGLE_ISSUER | (loop->lane ? BATCHIO_COMMANDS : 0);

	loop->bio = config->uring ? batchio_new_uring(config->depth, flags, reason)
				  : batchio_new_standard(reason);
	return loop->bio ? 0 : reason->code;
}

/* The ring belongs to the thread that made it, so each thread makes its own and tells the starter.
 */
static void report_start(struct loop *loop, int error, const struct batchio_error *reason)
{
	struct loop_group *group = loop->group;

	pthread_mutex_lock(&group->lock);
	group->started++;
	if (error && !group->start_error) {
		group->start_error = error;
		group->start_reason = *reason;
	}
	pthread_cond_broadcast(&group->start_cond);
	/* Nobody runs before all can. */
	while (group->started < group->config.loops)
		pthread_cond_wait(&group->start_cond, &group->lock);
	pthread_mutex_unlock(&group->lock);
}

void turn_end_all(struct loop *loop, int error)
{
	struct loop_group *group = loop->group;
	uint64_t one = 1;
	int none = 0;

	atomic_compare_exchange_strong(&group->error, &none, error);
	atomic_store(&group->stopping, true);
	if (error && error != -ENODEV)
		log_error("loop %u ends: %s", loop->number, strerror(-error));
	if (write(group->wake_fd, &one, sizeof(one)) < 0)
		log_error("cannot wake the other loops: %s", strerror(errno));
}

/* Which takes the handle away from loop_group_stats(). */
void turn_end(struct loop *loop)
{
	struct batchio *bio = loop->bio;
	struct batchio_counters io;

	if (!bio)
		return;
	pthread_mutex_lock(&loop->group->lock);
	batchio_get_counters(bio, &io);
	stats_add_io(&loop->ended_io, &io);
	loop->stats_bio = NULL;
	pthread_mutex_unlock(&loop->group->lock);
	batchio_close(bio);
	loop->bio = NULL;
}

/*
 * A loop works in short pieces that others wait for: where processors are wanted by many, it asks
 * for short turns on them, and is let in before who has long ones (Linux 6.12; before that nothing
 * changes). Its share stays the same.
 */
static void ask_for_short_slices(void)
{
	struct slices slices;

	/* All but the slice stays as whoever started us wants it. */
	if (syscall(SYS_sched_getattr, 0, &slices, sizeof(slices), 0) ||
		(slices.policy != SCHED_OTHER && slices.policy != SCHED_BATCH))
		return;
	slices.size = sizeof(slices);
	slices.slice = SLICE_NS;
	syscall(SYS_sched_setattr, 0, &slices, 0);
}

int turn_begin(struct loop *loop, struct batchio_error *reason)
{
	int error = unshare(CLONE_FS) ? -errno : 0;

	turn_set_self(loop);
	ask_for_short_slices();
	/* A umask of the thread's own: requests create files with their callers' masks. */
	if (error)
		snprintf(reason->text, sizeof(reason->text), "unshare(CLONE_FS): %s",
			strerror(-error));
	else
		error = make_handle(loop, reason);
	loop->transport.bio = loop->bio;
	pthread_mutex_lock(&loop->group->lock);
	loop->stats_bio = loop->bio;
	pthread_mutex_unlock(&loop->group->lock);
	return error;
}

/* The last that the thread of a loop does with it that reads the device. */
static void end(struct loop *loop)
{
	struct loop_group *group = loop->group;
	uint64_t one = 1;

	turn_end(loop);
	if (atomic_fetch_sub(&group->running, 1) == 1 &&
		write(group->ended_fd, &one, sizeof(one)) < 0)
		log_error("cannot report the end of the loops: %s", strerror(errno));
	atomic_store(&loop->ended, true);
}

static void *loop_main(void *arg)
{
	struct loop *loop = arg;
	struct loop_group *group = loop->group;
	struct batchio_error reason = {0};
	int error;

	error = turn_begin(loop, &reason);
	report_start(loop, error, &reason);
	if (!group->start_error)
		turn_end_all(loop, turn_run(loop));
	end(loop);
	return NULL;
}

void *loop_extra_main(void *arg)
{
	struct loop *loop = arg;
	struct loop_group *group = loop->group;
	struct batchio_error reason = {0};
	int error = turn_begin(loop, &reason);

	if (error) {
		log_warning("requests wait, and no further loop starts: %s", reason.text);
	} else {
		error = turn_run(loop);
		if (error)
			turn_end_all(loop, error);
		/* The others may have left all to this one. */
		baton_pass(group);
	}
	atomic_fetch_sub(&group->extra, 1);
	end(loop);
	return NULL;
}

void turn_init(struct loop *loop, struct loop_group *group, unsigned number,
	const struct transport_ops *transport)
{
	loop->group = group;
	loop->number = number;
	loop->baton.fd = -1;
	loop->transport.ops = transport;
	loop->transport.fd = group->config.device;
	loop->transport.pool = &group->pool;
	loop->transport.stats = &loop->stats;
	list_init(&loop->transport.arrived);
	loop->inbox.fd = -1;
}

static int start_threads(struct loop_group *group)
{
	unsigned n;
	int error = 0;

	for (n = 0; n < group->config.loops && !error; n++)
		error = baton_open(&group->loops[n].baton);
	if (error)
		return error;
	for (n = 0; n < group->config.loops && !error; n++) {
		atomic_fetch_add(&group->running, 1);
		error = -pthread_create(&group->loops[n].thread, NULL, loop_main, &group->loops[n]);
		group->loops[n].thread_started = !error;
		if (error)
			atomic_fetch_sub(&group->running, 1);
	}
	pthread_mutex_lock(&group->lock);
	if (error) {
		/* Those that could not be made count as started and failed. */
		group->start_error = error;
		group->started += group->config.loops - (n - 1);
		pthread_cond_broadcast(&group->start_cond);
	}
	while (group->started < group->config.loops)
		pthread_cond_wait(&group->start_cond, &group->lock);
	error = group->start_error;
	pthread_mutex_unlock(&group->lock);
	return error;
}

int loop_group_start(struct loop_group *group, const struct loop_group_config *config,
	struct batchio_error *error)
{
	int result;

	memset(group, 0, sizeof(*group));
	group->config = *config;
	pthread_mutex_init(&group->lock, NULL);
	pthread_cond_init(&group->start_cond, NULL);
	group->ring_fd = -1;
	group->guard_fd = -1;
	group->awake.call_fd = -1;
	group->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	group->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	group->loops = calloc(config->loops + LOOP_EXTRA, sizeof(*group->loops));
	for (unsigned n = 0; group->loops && n < config->loops + LOOP_EXTRA; n++)
		turn_init(&group->loops[n], group, n, &transport_dev);
	result = request_pool_init(&group->pool, config->depth, config->payload, &transport_dev);
	group->pool.lasting = config->lasting;
	if (group->wake_fd < 0 || group->ended_fd < 0)
		result = -EMFILE;
	else if (!group->loops)
		result = -ENOMEM;
	/* The kernel agrees to a ring in the first answer that it gets. */
	if (!result)
		lanes_start(group);
	if (!result)
		result = start_threads(group);
	if (!result)
		result = keeper_start(group);
	if (!result) {
		awake_start(group);
		return 0;
	}
	error->code = result;
	if (group->start_reason.text[0])
		*error = group->start_reason;
	else
		snprintf(error->text, sizeof(error->text), "%s", strerror(-result));
	loop_group_open_ring(group, false);
	/* Some may be running. */
	if (group->wake_fd >= 0)
		loop_group_stop(group);
	loop_group_join(group);
	loop_group_free(group);
	return result;
}

bool group_wait(struct loop_group *group, int fd, int ms)
{
	struct pollfd fds[] = {
		{.fd = group->wake_fd, .events = POLLIN},
		{.fd = fd, .events = POLLIN},
	};

	while (poll(fds, 2, ms) < 0)
		;
	return !fds[0].revents;
}

void loop_group_stop(struct loop_group *group)
{
	uint64_t one = 1;

	if (write(group->wake_fd, &one, sizeof(one)) < 0)
		log_error("cannot stop the loops: %s", strerror(errno));
}

int loop_group_join(struct loop_group *group)
{
	for (unsigned n = 0; group->loops && n < group->config.loops; n++)
		if (group->loops[n].thread_started)
			pthread_join(group->loops[n].thread, NULL);
	keeper_join(group);
	lanes_join(group);
	awake_join(group);
	for (unsigned n = 0; group->loops && n < group->config.loops; n++)
		baton_close(&group->loops[n].baton);
	return atomic_load(&group->error);
}

void loop_group_free(struct loop_group *group)
{
	free(group->loops);
	group->loops = NULL;
	if (group->pool.requests)
		request_pool_destroy(&group->pool);
	if (group->entries.requests)
		request_pool_destroy(&group->entries);
	if (group->wake_fd >= 0)
		close(group->wake_fd);
	if (group->ended_fd >= 0)
		close(group->ended_fd);
	pthread_cond_destroy(&group->start_cond);
	pthread_mutex_destroy(&group->lock);
}

/* The lock is held. */
static void add_stats(const struct loop *loop, struct stats_sum *sum)
{
	struct batchio_counters io;

	stats_add_loop(sum, &loop->stats, &loop->ended_io);
	if (!loop->stats_bio)
		return;
	batchio_get_counters(loop->stats_bio, &io);
	stats_add_io(&sum->io, &io);
}

void loop_group_stats(struct loop_group *group, struct stats_sum *sum)
{
	memset(sum, 0, sizeof(*sum));
	pthread_mutex_lock(&group->lock);
	for (unsigned n = 0; n < group->config.loops + LOOP_EXTRA; n++)
		add_stats(&group->loops[n], sum);
	for (unsigned n = 0; n < lanes_count(group); n++)
		add_stats(&group->lane_loops[n], sum);
	pthread_mutex_unlock(&group->lock);
}
