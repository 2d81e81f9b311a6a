/* SPDX-License-Identifier: MIT */
/* The turns of an event loop; see loop.h. */
#include "loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>

#include "loop/slow.h"
#include "loop/turn.h"

/* A loop of the keeper's ends after this time without work. */
#define IDLE_MS 2000

static __thread struct loop *self;

void turn_set_self(struct loop *loop)
{
	self = loop;
}

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
	return (size_t)loop->wake_armed + loop->baton.armed + lane_polls(loop) +
	       loop->transport.armed;
}

bool turn_idle(const struct loop *loop)
{
	return batchio_inflight(loop->bio) == polls(loop) + loop->transport.sending;
}

/* The request at hand is all that there is to do. */
static bool lone(const struct loop *loop)
{
	return loop->let_go <= 1 && turn_idle(loop);
}

void loop_answer(const struct iovec *iov, int count)
{
	struct loop *loop = self;
	struct request *req = loop->current;

	assert(!req->answered);
	loop->current = NULL;
	loop->answered = true;
	req->answered = true;
	req->ops->lay_out(req, iov, count);
	if (lane_returns(loop, req))
		return;
	/* With company answers leave together, and those of a lane as it comes to rest. */
	loop->transport.at_once = !loop->lane && lone(loop);
	loop->waited |= loop->transport.at_once;
	req->ops->send(&loop->transport, req);
}

bool loop_may_wait(void)
{
	struct loop *loop = self;
	struct loop_group *group = loop->group;

	if (!lone(loop) || group->config.careful)
		return false;
	if (loop->lane)
		return loop->waited = loop == loop->lane->front;
	if (atomic_load_explicit(&group->extra, memory_order_relaxed) ||
		!(baton_other_waits(loop) || baton_pass(group)))
		return false;
	loop->waited = true;
	return true;
}

void loop_breathe(void)
{
	struct loop *loop = self;
	struct request *current = loop->current;
	bool answered = loop->answered;

	if (turn_idle(loop))
		return;
	batchio_reap(loop->bio, 0, 0);
	loop->current = current;
	loop->answered = answered;
}

/* Those that the turn's end hands to the backend; all others may wait for the source in dispatch().
 */
static bool is_data(const struct request *req)
{
	return req->opcode == FUSE_READ || req->opcode == FUSE_WRITE || req->opcode == FUSE_FSYNC;
}

static void dispatch(struct loop *loop, struct request *req)
{
	struct loop_group *group = loop->group;
	unsigned opcode = req->opcode;
	bool data = is_data(req);
	int64_t began = 0;

	stat_add(&loop->stats.requests[opcode < STATS_OPCODES ? opcode : STATS_OPCODES - 1], 1);
	/* It may take long: who is woken meanwhile shall not count on us. */
	baton_set_waiting(loop, false);
	req->answered = false;
	loop->answered = false;
	loop->current = req;
	/* Of data, the backend's calls are looked at; here it is only queued. */
	if (!data)
		began = slow_begin(loop, opcode);
	group->config.hooks.dispatch(loop, req, group->config.hooks.user);
	if (!data)
		loop->late |= slow_end(loop, opcode, began);
	/*
	 * Still ours: a message that has no answer (FORGET), or one that is given beside the loops.
	 * Else nothing of it may be looked at:
	 * another loop may have answered it, and a third one taken its buffer for the next.
	 */
	if (loop->current == req)
		req->ops->leave(req);
	else
		loop->let_go += !loop->answered;
	loop->current = NULL;
}

/*
 * What was dispatched before a request that gets stuck is stuck with it. Where that is to be
 * feared, a ring is handed what there is before such a request.
 */
static void make_way(struct loop *loop, const struct request *req)
{
	const struct loop_group_config *config = &loop->group->config;

	if (is_data(req) || !config->uring ||
		!(config->careful || slow_expected(loop, req->opcode) ||
			atomic_load_explicit(&loop->group->extra, memory_order_relaxed)))
		return;
	config->hooks.turn_end(loop, config->hooks.user);
	/* What cannot start now starts with the turn's reap. */
	batchio_flush(loop->bio);
}

/* Once it has happened, each request goes alone: data calls run inline may get stuck as well. */
static unsigned turn_limit(const struct loop *loop)
{
	if (loop->lane)
		return lane_limit(loop);
	return atomic_load_explicit(&loop->group->extra, memory_order_relaxed) ? 1 : LOOP_DRAIN;
}

int loop_receive_one(struct loop *loop)
{
	struct transport *t = &loop->transport;
	struct request *req;
	int got = t->ops->receive(t, &req);

	if (got <= 0)
		return got;
	if (loop->lane && lane_passes(loop, req))
		return 1;
	atomic_store_explicit(&loop->taken,
		atomic_load_explicit(&loop->taken, memory_order_relaxed) + 1, memory_order_relaxed);
	/* With others at work there is no time to sleep. */
	if (turn_idle(loop))
		awake_count(loop, &loop->looks);
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

	loop->late = false;
	while (loop->received < most && loop->transport.ready && got > 0 && !loop->late)
		got = loop_receive_one(loop);
	if (loop->received) {
		stat_add(&loop->stats.turns, 1);
		stat_add(&loop->stats.turn_size[stat_bucket(loop->received)], 1);
	}
	/* There is more than one loop can do. */
	if (loop->received >= most && !loop->lane)
		baton_pass(loop->group);
	loop->received = 0;
	return got < 0 ? got : 0;
}

int turn_poll(struct loop *loop, struct batchio_request *poll, int fd,
	void (*done)(struct batchio_request *poll, ssize_t result))
{
	*poll = (struct batchio_request){
		.kind = BATCHIO_POLL,
		.fd = fd,
		.events = POLLIN,
		.done = done,
		.user = loop,
	};
	return batchio_submit(loop->bio, poll);
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

	if (loop->wake_armed)
		return 0;
	error = turn_poll(loop, &loop->wake, loop->group->wake_fd, wake_done);
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
	/* The last answers of a ring wait for the next request at once. */
	batchio_flush(loop->bio);
}

/* Instead of sleeping, in vain or not: what is to go out goes first. */
static bool found_by_spinning(struct loop *loop)
{
	bool found;

	if (loop->transport.ready || !turn_idle(loop) || loop->transport.armed ||
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
	return !loop->transport.ready && !loop->transport.armed && loop->wake_armed &&
	       turn_idle(loop) && baton_wait(loop);
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

/* The same where requests come by /dev/fuse. */
static int rest_at_device(struct loop *loop, int patience)
{
	struct transport *t = &loop->transport;
	int error = 0;

	if (left_to_another(loop) || found_by_spinning(loop))
		return 1;
	if (!t->ready)
		error = t->ops->arm(t);
	if (error)
		return error;
	/* Ready but out of requests: only a completion helps, here or on another loop. */
	if (t->ready && request_pool_empty(&loop->group->pool))
		return loop_reap_next(loop, 10);
	return t->ready ? batchio_reap(loop->bio, 0, 0) : rest(loop, patience);
}

int turn_run(struct loop *loop)
{
	struct loop_group *group = loop->group;
	bool extra = !loop->lane && loop->number >= group->config.loops;
	int error = 0;

	loop->transport.ready = true;
	while (!error && !atomic_load_explicit(&group->stopping, memory_order_relaxed)) {
		int n;

		/* At first, and where the poll has ended for another reason than its event. */
		error = arm_wake(loop);
		if (!error)
			error = drain(loop);
		group->config.hooks.turn_end(loop, group->config.hooks.user);
		loop->let_go = 0;
		if (error)
			break;
		answer_ended(loop);
		n = loop->lane ? lane_rest(loop) : rest_at_device(loop, extra ? IDLE_MS : -1);
		if (n < 0)
			error = n;
		else if (n == 0 && extra && !loop->transport.ready && turn_idle(loop))
			break;
	}
	finish_work(loop);
	return error;
}
