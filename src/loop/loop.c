/* SPDX-License-Identifier: MIT */
/* The event loop; see loop.h. */
#include "loop/loop.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/keeper.h"

/* A loop of the keeper's ends after this time without work. */
#define IDLE_MS 2000

static __thread struct loop *self;

struct loop *loop_self(void)
{
	return self;
}

struct request *loop_current(void)
{
	return self ? self->current : NULL;
}

void loop_set_current(struct request *req)
{
	self->current = req;
}

/* Polls in flight. */
static size_t polls(const struct loop *loop)
{
	return (size_t)loop->wake_armed + loop->baton.armed + loop->transport.armed;
}

/* Nothing is at work but answers on their way. */
static bool idle(const struct loop *loop)
{
	return batchio_inflight(loop->bio) == polls(loop) + loop->transport.sending;
}

/* The request at hand is all that there is to do. */
static bool lone(const struct loop *loop)
{
	return loop->let_go <= 1 && idle(loop);
}

void loop_answer(const struct iovec *iov, int count)
{
	struct loop *loop = self;
	struct request *req = loop->current;

	loop->current = NULL;
	loop->answered = true;
	/* With company answers leave together. */
	loop->transport.at_once = lone(loop);
	loop->waited |= loop->transport.at_once;
	transport_answer(&loop->transport, req, iov, count);
}

bool loop_may_wait(void)
{
	struct loop *loop = self;
	struct loop_group *group = loop->group;

	if (!lone(loop) || group->config.careful ||
		atomic_load_explicit(&group->extra, memory_order_relaxed) ||
		!(baton_other_waits(loop) || baton_pass(group)))
		return false;
	loop->waited = true;
	return true;
}

static void dispatch(struct loop *loop, struct request *req)
{
	struct loop_group *group = loop->group;

	stat_add(&loop->stats
			  .requests[req->opcode < STATS_OPCODES ? req->opcode : STATS_OPCODES - 1],
		1);
	/* It may take long: who is woken meanwhile shall not count on us. */
	baton_set_waiting(loop, false);
	req->answered = false;
	loop->answered = false;
	loop->current = req;
	group->config.hooks.dispatch(loop, req, group->config.hooks.user);
	/*
	 * Still ours: a message that has no answer (FORGET). Else nothing of it may be looked at:
	 * another loop may have answered it, and a third one taken its buffer for the next.
	 */
	if (loop->current == req)
		request_give(&group->pool, req);
	else
		loop->let_go += !loop->answered;
	loop->current = NULL;
}

/* Those that the turn's end hands to the backend; all others may wait for the source in dispatch().
 */
static bool is_data(const struct request *req)
{
	return req->opcode == FUSE_READ || req->opcode == FUSE_WRITE || req->opcode == FUSE_FSYNC;
}

/*
 * What was dispatched before a request that gets stuck is stuck with it. Where that is to be
 * feared, a ring is handed what there is before such a request.
 */
static void make_way(struct loop *loop, const struct request *req)
{
	const struct loop_group_config *config = &loop->group->config;

	if (is_data(req) || !config->uring ||
		!(config->careful ||
			atomic_load_explicit(&loop->group->extra, memory_order_relaxed)))
		return;
	config->hooks.turn_end(loop, config->hooks.user);
	/* What cannot start now starts with the turn's reap. */
	batchio_flush(loop->bio);
}

/* Once it has happened, each request goes alone: data calls run inline may get stuck as well. */
static unsigned turn_limit(const struct loop *loop)
{
	return atomic_load_explicit(&loop->group->extra, memory_order_relaxed) ? 1 : LOOP_DRAIN;
}

int loop_receive_one(struct loop *loop)
{
	struct transport *t = &loop->transport;
	struct request *req = request_take(&loop->group->pool);
	int got;

	/* All are at work: one of them ends before there is room. */
	if (!req)
		return 0;
	got = t->ops->receive(t, req);
	if (got <= 0) {
		request_give(&loop->group->pool, req);
		t->ready = false;
		return got;
	}
	atomic_store_explicit(&loop->taken,
		atomic_load_explicit(&loop->taken, memory_order_relaxed) + 1, memory_order_relaxed);
	if (loop->received++)
		make_way(loop, req);
	dispatch(loop, req);
	return 1;
}

/* Receives and dispatches a bounded number of requests. 0 or -errno. */
static int drain(struct loop *loop)
{
	unsigned most = turn_limit(loop);
	int got = 1;

	while (loop->received < most && loop->transport.ready && got > 0)
		got = loop_receive_one(loop);
	if (loop->received) {
		stat_add(&loop->stats.turns, 1);
		stat_add(&loop->stats.turn_size[stat_bucket(loop->received)], 1);
	}
	/* There is more than one loop can do. */
	if (loop->received >= most)
		baton_pass(loop->group);
	loop->received = 0;
	return got < 0 ? got : 0;
}

static void wake_done(struct batchio_request *wake, ssize_t result)
{
	struct loop *loop = wake->user;

	loop->wake_armed = false;
	if (result >= 0)
		atomic_store(&loop->group->stopping, true);
}

static int arm_wake(struct loop *loop)
{
	int error;

	loop->wake = (struct batchio_request){
		.kind = BATCHIO_POLL,
		.fd = loop->group->wake_fd,
		.events = POLLIN,
		.done = wake_done,
		.user = loop,
	};
	error = batchio_submit(loop->bio, &loop->wake);
	loop->wake_armed = !error;
	return error;
}

/* What other loops hold is answered by them; what we hold is answered before we go. */
static void finish_work(struct loop *loop)
{
	loop->group->config.hooks.turn_end(loop, loop->group->config.hooks.user);
	while (batchio_inflight(loop->bio) > polls(loop))
		if (batchio_reap(loop->bio, 1, 100) < 0)
			break;
}

/* Instead of sleeping, in vain or not: what is to go out goes first. */
static bool found_by_spinning(struct loop *loop)
{
	bool found;

	if (loop->transport.ready || !idle(loop) || loop->transport.armed ||
		batchio_flush(loop->bio) != 0 || batchio_reap(loop->bio, 0, 0) < 0)
		return false;
	baton_set_waiting(loop, true);
	found = spin_for_request(loop);
	baton_set_waiting(loop, false);
	return found;
}

int loop_reap_next(struct loop *loop, int timeout_ms)
{
	/* Answers end as they are handed over: they are nothing to wake up for. */
	return batchio_reap(loop->bio, 1 + loop->transport.sending, timeout_ms);
}

/* True: another loop waits for requests, and this one has waited for its turn. */
static bool left_to_another(struct loop *loop)
{
	return !loop->transport.ready && !loop->transport.armed && loop->wake_armed && idle(loop) &&
	       baton_wait(loop);
}

/* Waits for what the loop has to do next. As batchio_reap(). */
static int rest(struct loop *loop, int patience)
{
	int n;

	/* The wake-up came with something else, a moment ago. */
	if (!loop->wake_armed)
		return 0;
	baton_set_waiting(loop, true);
	n = loop_reap_next(loop, patience);
	baton_set_waiting(loop, false);
	return n;
}

/* What has ended within submit need not wait for the next reap, nor the loop for it. */
static void answer_ended(struct loop *loop)
{
	while (loop->waited) {
		loop->waited = false;
		batchio_reap(loop->bio, 0, 0);
	}
}

/*
 * Turns until the file system is unmounted, the group is stopped, or something fails; a loop of the
 * keeper's also ends when it has been idle for a while: 0.
 */
static int run(struct loop *loop)
{
	int patience = loop->number < loop->group->config.loops ? -1 : IDLE_MS;
	struct transport *t = &loop->transport;
	int error = arm_wake(loop);

	t->ready = true;
	while (!error && !atomic_load_explicit(&loop->group->stopping, memory_order_relaxed)) {
		bool starved;
		int n;

		error = drain(loop);
		loop->group->config.hooks.turn_end(loop, loop->group->config.hooks.user);
		loop->let_go = 0;
		if (error)
			break;
		answer_ended(loop);
		if (left_to_another(loop) || found_by_spinning(loop))
			continue;
		if (!t->ready)
			error = t->ops->arm(t);
		if (error)
			break;
		/* Ready but out of requests: only a completion helps, here or on another loop. */
		starved = t->ready && !loop->group->pool.available;
		if (starved)
			n = loop_reap_next(loop, 10);
		else
			n = t->ready ? batchio_reap(loop->bio, 0, 0) : rest(loop, patience);
		if (n < 0)
			error = n;
		else if (n == 0 && patience >= 0 && !t->ready && idle(loop))
			break;
	}
	finish_work(loop);
	return error;
}

static int make_handle(struct loop *loop, struct batchio_error *reason)
{
	const struct loop_group_config *config = &loop->group->config;

	loop->bio = config->uring ? batchio_new_uring(config->depth, BATCHIO_SINGLE_ISSUER, reason)
				  : batchio_new_standard(reason);
	return loop->bio ? 0 : reason->code;
}

/* The ring belongs to the thread that made it, so each thread makes its own and tells the starter.
 */
static void report_start(struct loop *loop, int error, const struct batchio_error *reason)
{
	struct loop_group *group = loop->group;

	pthread_mutex_lock(&group->lock);
	loop->stats_bio = loop->bio;
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

/* Ends the other loops as well: a loop alone never ends while the mount is good. */
static void end_all(struct loop *loop, int error)
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

/* Answers what is at work, and takes the handle away from loop_group_stats(). */
static void close_handle(struct loop *loop)
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

/* The thread becomes the loop's. 0, or -errno with *reason filled. */
static int begin(struct loop *loop, struct batchio_error *reason)
{
	int error = unshare(CLONE_FS) ? -errno : 0;

	self = loop;
	/* A umask of the thread's own: requests create files with their callers' masks. */
	if (error)
		snprintf(reason->text, sizeof(reason->text), "unshare(CLONE_FS): %s",
			strerror(-error));
	else
		error = make_handle(loop, reason);
	loop->transport.bio = loop->bio;
	return error;
}

/* The last that a loop's thread does with it. */
static void end(struct loop *loop)
{
	struct loop_group *group = loop->group;
	uint64_t one = 1;

	close_handle(loop);
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

	error = begin(loop, &reason);
	report_start(loop, error, &reason);
	if (!group->start_error)
		end_all(loop, run(loop));
	end(loop);
	return NULL;
}

void *loop_extra_main(void *arg)
{
	struct loop *loop = arg;
	struct loop_group *group = loop->group;
	struct batchio_error reason = {0};
	int error = begin(loop, &reason);

	if (error) {
		log_warning("requests wait, and no further loop starts: %s", reason.text);
	} else {
		pthread_mutex_lock(&group->lock);
		loop->stats_bio = loop->bio;
		pthread_mutex_unlock(&group->lock);
		error = run(loop);
		if (error)
			end_all(loop, error);
		/* The others may have left all to this one. */
		baton_pass(group);
	}
	atomic_fetch_sub(&group->extra, 1);
	end(loop);
	return NULL;
}

static void init_loop(struct loop_group *group, unsigned number)
{
	struct loop *loop = &group->loops[number];

	loop->group = group;
	loop->number = number;
	loop->baton.fd = -1;
	loop->transport.ops = group->config.transport;
	loop->transport.fd = group->config.device;
	loop->transport.pool = &group->pool;
	loop->transport.stats = &loop->stats;
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
	group->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	group->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	group->loops = calloc(config->loops + LOOP_EXTRA, sizeof(*group->loops));
	for (unsigned n = 0; group->loops && n < config->loops + LOOP_EXTRA; n++)
		init_loop(group, n);
	result = request_pool_init(&group->pool, config->depth, config->payload);
	if (group->wake_fd < 0 || group->ended_fd < 0)
		result = -EMFILE;
	else if (!group->loops)
		result = -ENOMEM;
	if (!result)
		result = start_threads(group);
	if (!result)
		result = keeper_start(group);
	if (!result)
		return 0;
	error->code = result;
	if (group->start_reason.text[0])
		*error = group->start_reason;
	else
		snprintf(error->text, sizeof(error->text), "%s", strerror(-result));
	loop_group_join(group);
	return result;
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
	for (unsigned n = 0; group->loops && n < group->config.loops; n++)
		baton_close(&group->loops[n].baton);
	free(group->loops);
	group->loops = NULL;
	if (group->pool.requests)
		request_pool_destroy(&group->pool);
	if (group->wake_fd >= 0)
		close(group->wake_fd);
	if (group->ended_fd >= 0)
		close(group->ended_fd);
	pthread_cond_destroy(&group->start_cond);
	pthread_mutex_destroy(&group->lock);
	return atomic_load(&group->error);
}

void loop_group_stats(struct loop_group *group, struct stats_sum *sum)
{
	memset(sum, 0, sizeof(*sum));
	pthread_mutex_lock(&group->lock);
	for (unsigned n = 0; n < group->config.loops + LOOP_EXTRA; n++) {
		struct loop *loop = &group->loops[n];
		struct batchio_counters io;

		stats_add_loop(sum, &loop->stats, &loop->ended_io);
		if (loop->stats_bio) {
			batchio_get_counters(loop->stats_bio, &io);
			stats_add_io(&sum->io, &io);
		}
	}
	pthread_mutex_unlock(&group->lock);
}
