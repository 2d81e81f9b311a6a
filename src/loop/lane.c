/* SPDX-License-Identifier: MIT */
/* The loops of FUSE over io_uring; see lane.h. */
#include "loop/lane.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "loop/guard.h"
#include "loop/loop.h"
#include "loop/turn.h"
#include "transport/ring.h"

/* Of an extra wide loop. */
#define EXTRA_ENTRIES 8

/* ---- inboxes ---- */

static int inbox_open(struct inbox *inbox)
{
	pthread_mutex_init(&inbox->lock, NULL);
	list_init(&inbox->requests);
	inbox->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return inbox->fd < 0 ? -errno : 0;
}

static void inbox_close(struct inbox *inbox)
{
	if (inbox->fd < 0)
		return;
	close(inbox->fd);
	pthread_mutex_destroy(&inbox->lock);
}

static void inbox_put(struct loop *loop, struct list *requests)
{
	struct inbox *inbox = &loop->inbox;
	uint64_t one = 1;
	bool first;

	pthread_mutex_lock(&inbox->lock);
	first = list_empty(&inbox->requests);
	list_splice_tail(requests, &inbox->requests);
	pthread_mutex_unlock(&inbox->lock);
	if (first && write(inbox->fd, &one, sizeof(one)) < 0)
		log_error("cannot wake loop %u: %s", loop->number, strerror(errno));
}

static void inbox_put_one(struct loop *loop, struct request *req)
{
	struct list one;

	list_init(&one);
	list_add_tail(&req->node, &one);
	inbox_put(loop, &one);
}

/* All that is in it goes to requests, which is made. */
static void inbox_take(struct inbox *inbox, struct list *requests)
{
	list_init(requests);
	pthread_mutex_lock(&inbox->lock);
	list_splice_tail(&inbox->requests, requests);
	pthread_mutex_unlock(&inbox->lock);
}

void lane_rescue(struct loop *from, struct loop *to)
{
	struct list requests;

	inbox_take(&from->inbox, &requests);
	if (!list_empty(&requests))
		inbox_put(to, &requests);
}

/* The loop takes what it was handed. */
static void inbox_empty(struct loop *loop)
{
	struct list requests;
	struct list *node;

	inbox_take(&loop->inbox, &requests);
	while ((node = list_pop(&requests))) {
		struct request *req = list_entry(node, struct request, node);

		if (req->answered) {
			req->ops->send(&loop->transport, req);
			continue;
		}
		list_add_tail(&req->node, &loop->transport.arrived);
		loop->transport.ready = true;
	}
}

static void inbox_done(struct batchio_request *poll, ssize_t result)
{
	struct loop *loop = poll->user;
	uint64_t count;

	loop->inbox.armed = false;
	if (result < 0)
		return;
	/* First, so that what comes after the look wakes again. */
	if (read(loop->inbox.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("loop %u: %s", loop->number, strerror(errno));
	inbox_empty(loop);
}

static int inbox_arm(struct loop *loop)
{
	struct inbox *inbox = &loop->inbox;
	int error;

	if (inbox->armed)
		return 0;
	error = turn_poll(loop, &inbox->poll, inbox->fd, inbox_done);
	inbox->armed = !error;
	return error;
}

/* ---- turns ---- */

unsigned lane_polls(const struct loop *loop)
{
	return loop->inbox.armed;
}

static bool is_front(const struct loop *loop)
{
	return loop == loop->lane->front;
}

/* Reads and writes go through the ring where they would wait. */
static bool may_wait(const struct request *req)
{
	return req->opcode != FUSE_READ && req->opcode != FUSE_WRITE;
}

static struct loop *wide_of(struct lane *lane)
{
	return atomic_load_explicit(&lane->wide, memory_order_acquire);
}

unsigned lane_limit(const struct loop *loop)
{
	return atomic_load_explicit(&loop->lane->cautious, memory_order_relaxed) ? 1 : LOOP_DRAIN;
}

bool lane_passes(struct loop *loop, struct request *req)
{
	struct loop *front = loop->lane->front;
	bool alone;

	if (is_front(loop)) {
		if (!list_empty(&loop->transport.arrived))
			inbox_put(wide_of(loop->lane), &loop->transport.arrived);
		return false;
	}
	/* One by itself probably has others to come after it, one by one. */
	alone = loop->received == 0 && list_empty(&loop->transport.arrived) && turn_idle(loop);
	if (!front || !(alone || may_wait(req)) || !atomic_exchange(&front->idle, false))
		return false;
	inbox_put_one(front, req);
	return true;
}

/* The lane of the queue that req came by. */
static struct lane *home_of(struct loop_group *group, const struct request *req)
{
	return &group->lanes[req->queue % group->nlanes];
}

bool lane_returns(struct loop *loop, struct request *req)
{
	struct lane *home;

	if (req->ops != &transport_ring)
		return false;
	home = home_of(loop->group, req);
	if (loop->lane == home)
		return false;
	inbox_put_one(wide_of(home), req);
	return true;
}

bool loop_answer_late(struct loop_group *group, const struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct request *req = NULL;

	/* Against their end. */
	pthread_mutex_lock(&group->lock);
	if (group->lanes)
		req = ring_find(&group->entries, out->unique);
	if (req) {
		req->answered = true;
		req->ops->lay_out(req, iov, count);
		inbox_put_one(wide_of(home_of(group, req)), req);
	}
	pthread_mutex_unlock(&group->lock);
	return req != NULL;
}

int lane_rest(struct loop *loop)
{
	int error = inbox_arm(loop);
	int n;

	if (error)
		return error;
	atomic_fetch_add_explicit(&loop->turns, 1, memory_order_relaxed);
	if (loop->transport.ready || !loop->wake_armed)
		return batchio_reap(loop->bio, 0, 0);
	if (is_front(loop) && turn_idle(loop)) {
		atomic_store(&loop->idle, true);
		/* The answers leave before. */
		if (batchio_flush(loop->bio) == 0 && spin_for_news(loop)) {
			atomic_store(&loop->idle, false);
			return batchio_reap(loop->bio, 0, 0);
		}
	}
	atomic_store_explicit(&loop->turning, false, memory_order_relaxed);
	n = batchio_reap(loop->bio, 1, -1);
	atomic_fetch_add_explicit(&loop->turns, 1, memory_order_relaxed);
	atomic_store(&loop->turning, true);
	atomic_store(&loop->idle, false);
	guard_call(loop->group);
	return n;
}

/* ---- opening ---- */

/* Entries from `next` on, so many of them, become the queue's on this loop. 0 or -errno. */
static int register_some(struct loop *loop, unsigned queue, unsigned next, unsigned count)
{
	struct transport *t = &loop->transport;
	int error = 0;

	while (count-- && !error)
		error = ring_register(t, &loop->group->entries.requests[next++], queue);
	if (!error && batchio_reap(loop->bio, 0, 0) < 0)
		error = -EIO;
	return error ? error : t->refused;
}

/* A single loop is to see everything: then it has no front. */
static unsigned loops_each(const struct loop_group *group)
{
	return group->config.ring_loops == 1 ? 1 : 2;
}

/* Without the extra ones, which come after these. */
static unsigned first_loops(const struct loop_group *group)
{
	return loops_each(group) * group->nlanes;
}

unsigned lanes_count(const struct loop_group *group)
{
	return group->lanes ? first_loops(group) + group->nlanes * LANE_EXTRA : 0;
}

/* What the queues of other processors than the lanes' have: one entry each. */
static unsigned spare_queues(const struct loop_group *group)
{
	return group->nqueues - group->nlanes;
}

static unsigned entries_each(const struct loop_group *group)
{
	return (group->own_entries - spare_queues(group)) / group->nlanes;
}

/*
 * Registers the loop's entries. Those of a lane lie together, the front's first; after those of all
 * lanes come those of the spare queues. 0 or -errno.
 */
static int register_all(struct loop *loop)
{
	struct loop_group *group = loop->group;
	unsigned lane = (unsigned)(loop->lane - group->lanes);
	unsigned each = entries_each(group);
	unsigned fronts = loop->lane->front ? 1 : 0;
	unsigned first = lane * each;
	int error;

	if (is_front(loop))
		return register_some(loop, lane, first, 1);
	error = register_some(loop, lane, first + fronts, each - fronts);
	for (unsigned n = 0; n < spare_queues(group) && !error; n++)
		if (n % group->nlanes == lane)
			error = register_some(loop, group->nlanes + n, group->nlanes * each + n, 1);
	return error;
}

static void open_lane(struct loop *loop)
{
	struct loop_group *group = loop->group;
	int error = register_all(loop);

	if (error) {
		/* It is a refusal of all: the kernel goes on by /dev/fuse. */
		if (atomic_exchange(&group->ring, RING_NONE) != RING_NONE)
			log_warning("the kernel refuses FUSE over io_uring, so requests come by "
				    "/dev/fuse: %s",
				strerror(-error));
		return;
	}
	if (atomic_fetch_add(&group->lanes_open, 1) + 1 == first_loops(group)) {
		int opening = RING_OPENING;

		atomic_compare_exchange_strong(&group->ring, &opening, RING_OPEN);
	}
}

/* False: it does not come to that. */
static bool wait_for_kernel(struct loop_group *group)
{
	struct pollfd fds[] = {
		{.fd = group->ring_fd, .events = POLLIN},
		{.fd = group->wake_fd, .events = POLLIN},
	};

	while (poll(fds, 2, -1) < 0)
		;
	return atomic_load(&group->ring) == RING_OPENING && !fds[1].revents;
}

static void report_start(struct loop *loop, int error, const struct batchio_error *reason)
{
	struct loop_group *group = loop->group;

	pthread_mutex_lock(&group->lock);
	group->lanes_started++;
	if (error && !group->lanes_error) {
		group->lanes_error = error;
		group->lanes_reason = *reason;
	}
	pthread_cond_broadcast(&group->start_cond);
	pthread_mutex_unlock(&group->lock);
}

static void *extra_main(void *arg)
{
	struct loop *loop = arg;
	struct loop_group *group = loop->group;
	struct lane *lane = loop->lane;
	unsigned number =
		(unsigned)(lane - group->lanes) * LANE_EXTRA + (unsigned)(loop - lane->extra);
	struct batchio_error reason = {0};
	int error = turn_begin(loop, &reason);

	if (!error)
		error = register_some(loop, (unsigned)(lane - group->lanes),
			group->own_entries + number * EXTRA_ENTRIES, EXTRA_ENTRIES);
	/* What it is handed it has to take, with entries or without. */
	if (error)
		log_warning("a loop of the ring is stuck, and no other starts: %s",
			reason.text[0] ? reason.text : strerror(-error));
	if (loop->bio)
		turn_end_all(loop, turn_run(loop));
	turn_end(loop);
	return NULL;
}

bool lane_add(struct loop_group *group, struct lane *lane)
{
	struct loop *loop = &lane->extra[lane->extras];
	int error;

	if (lane->extras == LANE_EXTRA || atomic_load(&group->stopping))
		return false;
	error = pthread_create(&loop->thread, NULL, extra_main, loop);
	if (error) {
		log_warning(
			"a loop of the ring is stuck, and no other starts: %s", strerror(error));
		return false;
	}
	loop->thread_started = true;
	lane->extras++;
	atomic_store_explicit(&lane->wide, loop, memory_order_release);
	return true;
}

static void *lane_main(void *arg)
{
	struct loop *loop = arg;
	struct loop_group *group = loop->group;
	struct batchio_error reason = {0};
	int error = turn_begin(loop, &reason);

	report_start(loop, error, &reason);
	if (!error && wait_for_kernel(group)) {
		open_lane(loop);
		turn_end_all(loop, turn_run(loop));
	}
	turn_end(loop);
	return NULL;
}

bool loop_group_has_ring(struct loop_group *group)
{
	return atomic_load(&group->ring) == RING_READY;
}

void loop_group_open_ring(struct loop_group *group, bool agreed)
{
	int ready = RING_READY;
	uint64_t one = 1;

	if (!atomic_compare_exchange_strong(
		    &group->ring, &ready, agreed ? RING_OPENING : RING_NONE))
		return;
	if (write(group->ring_fd, &one, sizeof(one)) < 0)
		log_error("cannot wake the loops of the ring: %s", strerror(errno));
}

const char *loop_group_transport(struct loop_group *group)
{
	return (atomic_load(&group->ring) == RING_OPEN ? transport_ring : transport_dev).name;
}

/* ---- start and end ---- */

static int init_loop(struct loop_group *group, struct lane *lane, struct loop *loop)
{
	unsigned number = (unsigned)(loop - group->lane_loops);

	turn_init(loop, group, group->config.loops + LOOP_EXTRA + number, &transport_ring);
	loop->transport.pool = &group->entries;
	loop->lane = lane;
	return inbox_open(&loop->inbox);
}

static int init_lane(struct loop_group *group, unsigned n)
{
	struct lane *lane = &group->lanes[n];
	unsigned each = loops_each(group);
	int error = 0;

	lane->first = &group->lane_loops[n * each];
	lane->front = each > 1 ? lane->first + 1 : NULL;
	lane->extra = &group->lane_loops[first_loops(group) + n * LANE_EXTRA];
	atomic_init(&lane->wide, lane->first);
	for (unsigned i = 0; i < each && !error; i++)
		error = init_loop(group, lane, lane->first + i);
	for (unsigned i = 0; i < LANE_EXTRA && !error; i++)
		error = init_loop(group, lane, lane->extra + i);
	return error;
}

static int make_lanes(struct loop_group *group)
{
	unsigned most;
	unsigned spare;
	unsigned count;
	int error;

	most = group->nqueues = group->config.queues;
	group->nlanes = group->config.processors;
	if (group->config.ring_loops)
		most = group->config.ring_loops / 2 > 1 ? group->config.ring_loops / 2 : 1;
	if (group->nlanes > most)
		group->nlanes = most;
	spare = spare_queues(group);
	count = group->config.depth > spare ? (group->config.depth - spare) / group->nlanes : 0;
	/* One for the front and one for the wide loop. */
	count = count < 2 ? 2 : count;
	group->lanes = calloc(group->nlanes, sizeof(*group->lanes));
	group->lane_loops = calloc((size_t)first_loops(group) + group->nlanes * LANE_EXTRA,
		sizeof(*group->lane_loops));
	group->ring_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!group->lanes || !group->lane_loops)
		return -ENOMEM;
	for (unsigned n = 0; n < lanes_count(group); n++)
		group->lane_loops[n].inbox.fd = -1;
	group->own_entries = count * group->nlanes + spare;
	error = request_pool_init(&group->entries,
		group->own_entries + group->nlanes * LANE_EXTRA * EXTRA_ENTRIES,
		group->config.payload, &transport_ring);
	if (!error && group->ring_fd < 0)
		error = -errno;
	for (unsigned n = 0; n < group->nlanes && !error; n++)
		error = init_lane(group, n);
	return error;
}

/* 0 once all have their handles, or -errno. */
static int start_threads(struct loop_group *group)
{
	unsigned n;
	int error = 0;

	for (n = 0; n < first_loops(group) && !error; n++) {
		struct loop *loop = &group->lane_loops[n];

		error = -pthread_create(&loop->thread, NULL, lane_main, loop);
		loop->thread_started = !error;
	}
	if (error)
		return error;
	pthread_mutex_lock(&group->lock);
	while (group->lanes_started < n)
		pthread_cond_wait(&group->start_cond, &group->lock);
	error = group->lanes_error;
	pthread_mutex_unlock(&group->lock);
	return error;
}

void lanes_start(struct loop_group *group)
{
	int error;

	if (!group->config.ring)
		return;
	atomic_store(&group->ring, RING_READY);
	error = make_lanes(group);
	if (!error)
		error = start_threads(group);
	if (!error)
		error = guard_start(group);
	if (!error)
		return;
	log_warning("no FUSE over io_uring, so requests come by /dev/fuse: %s",
		group->lanes_reason.text[0] ? group->lanes_reason.text : strerror(-error));
	loop_group_open_ring(group, false);
	lanes_join(group);
}

void lanes_join(struct loop_group *group)
{
	unsigned count = lanes_count(group);
	struct loop *loops = group->lane_loops;

	/* Who adds loops. */
	guard_join(group);
	for (unsigned n = 0; loops && n < count; n++)
		if (loops[n].thread_started)
			pthread_join(loops[n].thread, NULL);
	pthread_mutex_lock(&group->lock);
	free(group->lanes);
	group->lanes = NULL;
	group->lane_loops = NULL;
	pthread_mutex_unlock(&group->lock);
	for (unsigned n = 0; loops && n < count; n++)
		inbox_close(&loops[n].inbox);
	free(loops);
	if (group->ring_fd >= 0)
		close(group->ring_fd);
	group->ring_fd = -1;
}
