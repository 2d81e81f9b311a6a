/* SPDX-License-Identifier: MIT */
/*
 * A schedule: requests arrive in bursts, calls are taken, run and end in any order, openers come
 * and go, all drawn from one seed. Called by main.c.
 */
#include <string.h>

#include "sim.h"

static unsigned one_of(struct world *w, const unsigned *choices, unsigned n)
{
	return choices[prng_below(&w->rng, n)];
}

#define ONE_OF(w, ...)                                                                             \
	one_of(w, (const unsigned[]){__VA_ARGS__},                                                 \
		sizeof((unsigned[]){__VA_ARGS__}) / sizeof(unsigned))

/* The character of the schedule. Faults are absent from half of them, so that order is tested pure.
 */
static void draw_profile(struct world *w)
{
	struct profile *p = &w->p;

	*p = (struct profile){
		.ops = prng_between(&w->rng, 20, ONE_OF(w, 60, 100, MAX_OPS)),
		.burst = ONE_OF(w, 1, 4, 16, 64),
		.reads = ONE_OF(w, 0, 200, 400, 800),
		.appends = ONE_OF(w, 0, 0, 50, 150),
		.syncs = ONE_OF(w, 0, 20, 100, 300),
		.sequential = ONE_OF(w, 0, 300, 900, 1000),
		.descending = ONE_OF(w, 0, 0, 0, 500),
		.duplicate = ONE_OF(w, 0, 0, 100, 300),
		.unit = ONE_OF(w, 2, 8, 16, MAX_LEN),
		.span = ONE_OF(w, 80, 200, FILE_CELLS),
		.classes = ONE_OF(w, 1, 1, 2, 3),
		.cancels = ONE_OF(w, 0, 50),
		.churn = ONE_OF(w, 0, 20, 200),
		.eager = ONE_OF(w, 1000, 1000, 700, 200),
		.exclusive = ONE_OF(w, 0, 1),
		.changes = ONE_OF(w, 0, 0, 100),
		.base = ONE_OF(w, 0, 0, 1) ? (uint64_t)INT64_MAX - DISK_CELLS : 0,
	};
	if (prng_chance(&w->rng, 500)) {
		p->fails = ONE_OF(w, 0, 20, 150);
		p->transient = ONE_OF(w, 0, 20, 150);
		p->breaks = ONE_OF(w, 0, 20);
	}
	if (prng_chance(&w->rng, 300)) {
		p->flush_fails = ONE_OF(w, 50, 400);
		p->sudden = ONE_OF(w, 0, 10, 50);
	}
	w->limits.max_ops = ONE_OF(w, 1, 3, 16, 1024, 1024);
	w->limits.max_bytes = ONE_OF(w, 1, 64, 256, 1 << 20, 1 << 20);
}

static unsigned draw_offset(struct world *w, unsigned len)
{
	const struct profile *p = &w->p;
	unsigned offset = prng_below(&w->rng, p->span);

	if (w->n_ops && prng_chance(&w->rng, p->duplicate))
		offset = w->ops[prng_below(&w->rng, w->n_ops)].offset;
	else if (prng_chance(&w->rng, p->sequential))
		offset = w->next_offset;
	if (prng_chance(&w->rng, p->descending) && w->next_offset >= 2 * len)
		offset = w->next_offset - 2 * len;
	return offset + len <= p->span ? offset : prng_below(&w->rng, p->span - len + 1);
}

static void draw_data(struct world *w, struct sim_op *op)
{
	const struct profile *p = &w->p;
	/* Equal sizes most of the time: they meet at their ends. */
	unsigned len = prng_chance(&w->rng, 700) ? p->unit : prng_below(&w->rng, p->unit + 1);

	op->klass = prng_below(&w->rng, p->classes);
	if (op->append) {
		op->len = len < MAX_APPEND ? len : MAX_APPEND;
		/* Appenders mostly know the end, sometimes they are wrong. */
		op->offset = prng_chance(&w->rng, 700) ? w->next_append : w->size;
		if (op->offset + op->len > DISK_CELLS)
			op->offset = 0;
		w->next_append = op->offset + op->len;
	} else {
		op->len = len;
		op->offset = draw_offset(w, len);
		w->next_offset = op->offset + len;
	}
	if (prng_chance(&w->rng, p->fails))
		op->fate =
			op->kind == CO_WRITE && prng_chance(&w->rng, 300) ? FATE_SHORT : FATE_FAILS;
	else if (prng_chance(&w->rng, p->transient))
		op->fate = FATE_TRANSIENT;
	if (op->len && prng_chance(&w->rng, 500))
		op->good = prng_below(&w->rng, op->len);
	if (op->fate == FATE_SHORT && op->len == 0)
		op->fate = FATE_GOOD;
}

static void arrive(struct world *w)
{
	unsigned id = w->n_ops++, draw = prng_below(&w->rng, 1000);
	const struct profile *p = &w->p;
	struct sim_op *op = &w->ops[id];

	memset(op, 0, sizeof(*op));
	op->id = id;
	w->clock++;
	if (draw < p->syncs) {
		op->kind = CO_SYNC;
		op->full = prng_chance(&w->rng, 300);
	} else {
		op->kind =
			draw < p->syncs + (1000 - p->syncs) * p->reads / 1000 ? CO_READ : CO_WRITE;
		op->append = op->kind == CO_WRITE && prng_chance(&w->rng, p->appends);
		draw_data(w, op);
	}
	w->stats->ops++;
	if (w->verbose) {
		char text[80];

		trace(w, "arrive: %s", describe(op, text, sizeof(text)));
	}
	model_arrive(w, op);
	seam_push(w, op);
}

static void count_call(struct world *w, const struct co_call *call)
{
	struct stats *stats = w->stats;

	stats->calls++;
	stats->merged += call->n > 1;
	stats->merged_ops += call->n > 1 ? call->n : 0;
	stats->longest = call->n > stats->longest ? call->n : stats->longest;
	stats->flushes += call->kind == CO_SYNC || call->kind == CO_WRITE_SYNC;
	stats->pairs += call->kind == CO_WRITE_SYNC;
	stats->shared += call->syncs.next->next != &call->syncs && !list_empty(&call->syncs);
}

static void trace_call(struct world *w, const struct co_call *call)
{
	static const char *const names[] = {"read", "write", "sync", "write+sync"};
	struct list *node;
	char text[80];

	trace(w, "take: %s, %u ops, %zu cells%s", names[call->kind], call->n, call->len,
		call->full ? ", full" : "");
	list_for_each (node, &call->ops)
		trace(w, "  %s", describe(sim_op_of(node), text, sizeof(text)));
	list_for_each (node, &call->syncs)
		trace(w, "  %s", describe(sim_op_of(node), text, sizeof(text)));
}

/* One call starts. False: there is none, or it is wrong. */
static bool take(struct world *w)
{
	struct co_call *call;

	w->clock++;
	call = seam_take(w);
	if (call && w->verbose)
		trace_call(w, call);
	if (!model_take(w, call) || !call)
		return false;
	count_call(w, call);
	w->flights[w->n_flights++] = (struct flight){.call = call, .taken = w->clock};
	return true;
}

static void run_one(struct world *w)
{
	struct flight *flight = &w->flights[prng_below(&w->rng, w->n_flights)];

	w->clock++;
	if (!flight->ran)
		backend_run(w, flight);
}

/* What the model must know of a call's end before the answers come. */
static void note_end(struct world *w, const struct flight *flight)
{
	const struct co_outcome *outcome = &flight->outcome;
	struct co_call *call = flight->call;
	struct list *node;

	list_for_each (node, &call->ops) {
		sim_op_of(node)->inflight = false;
		if (call->n > 1 && outcome->error)
			sim_op_of(node)->must_alone = true;
	}
	list_for_each (node, &call->syncs) {
		sim_op_of(node)->inflight = false;
		sim_op_of(node)->flushed = w->clock;
	}
	w->stats->reruns += call->n > 1 && outcome->error;
	w->stats->op_errors += call->n == 1 && outcome->error;
	w->stats->short_reads +=
		call->kind == CO_READ && !outcome->error && outcome->moved < call->len;
	w->stats->cancelled += call->kind == CO_WRITE_SYNC && outcome->sync;
	w->stats->flush_errors += outcome->sync && call->kind == CO_SYNC;
	if (call->kind == CO_SYNC || call->kind == CO_WRITE_SYNC)
		model_flush_ended(w, flight);
}

static void end_one(struct world *w)
{
	unsigned i = prng_below(&w->rng, w->n_flights);
	struct flight flight = w->flights[i];
	enum co_kind kind = flight.call->kind;

	w->clock++;
	if (!flight.ran)
		return;
	w->flights[i] = w->flights[--w->n_flights];
	trace(w, "end: call of %u ops at %u", flight.call->n,
		(unsigned)(flight.call->offset - w->p.base));
	note_end(w, &flight);
	seam_done(w, flight.call, &flight.outcome);
	model_flush_told(w, kind, flight.outcome.sync);
}

static void come_and_go(struct world *w)
{
	struct sim_opener *opener = &w->openers[prng_below(&w->rng, MAX_OPENERS)];

	w->clock++;
	trace(w, "%s: opener %d", opener->open ? "close" : "open", (int)(opener - w->openers));
	if (opener->open) {
		model_close(w, opener);
		co_close(&w->file);
	} else {
		model_open(opener);
		co_open(&w->file);
	}
}

static void fail_suddenly(struct world *w)
{
	int error = FLUSH_ERROR(w->flush_errors++);

	w->clock++;
	trace(w, "write-back fails: %d", error);
	model_failure(w, error);
	co_fail(&w->file, error);
}

/* A rename, a chmod, a truncation. */
static void change(struct world *w)
{
	w->clock++;
	trace(w, "something else changes");
	model_changed(w);
	seam_changed(w);
}

/* What happens between two turns. */
static void work(struct world *w)
{
	unsigned runs = prng_below(&w->rng, w->n_flights + 2);
	unsigned ends = prng_below(&w->rng, w->n_flights + 2);

	while (runs-- && w->n_flights && !w->why[0])
		run_one(w);
	while (ends-- && w->n_flights && !w->why[0])
		end_one(w);
	if (prng_chance(&w->rng, w->p.churn))
		come_and_go(w);
	if (prng_chance(&w->rng, w->p.sudden))
		fail_suddenly(w);
	if (prng_chance(&w->rng, w->p.changes))
		change(w);
}

static void turn(struct world *w)
{
	bool eager = prng_chance(&w->rng, w->p.eager);
	unsigned calls = prng_below(&w->rng, 4);

	for (unsigned n = prng_between(&w->rng, 0, w->p.burst); n && w->n_ops < w->p.ops; n--)
		arrive(w);
	while (!w->why[0] && (eager || calls--) && take(w))
		;
	if (!w->why[0])
		work(w);
}

/* Nothing new arrives: everything must end. */
static void drain(struct world *w)
{
	unsigned limit = 100 * MAX_OPS;

	while (w->n_live && !w->why[0]) {
		while (take(w))
			;
		if (w->why[0])
			return;
		if (!w->n_flights) {
			fail(w, "#%u waits, nothing is in flight", w->live[0]->id);
			return;
		}
		work(w);
		if (!limit--) {
			fail(w, "it does not end");
			return;
		}
	}
}

bool world_run(struct world *w, uint64_t seed, enum mutation mutation, struct stats *stats)
{
	bool verbose = w->verbose;

	/* ops, a large part, are cleared one by one as they arrive. */
	memset((char *)w + offsetof(struct world, n_ops), 0,
		sizeof(*w) - offsetof(struct world, n_ops));
	w->rng.state = seed;
	w->clock = 0;
	w->why[0] = '\0';
	w->verbose = verbose;
	w->stats = stats;
	w->mutation = mutation;
	stats->schedules++;

	draw_profile(w);
	backend_start(w);
	model_start(w);
	seam_start(w);
	for (unsigned n = prng_below(&w->rng, MAX_OPENERS); n; n--)
		come_and_go(w);
	while (w->n_ops < w->p.ops && !w->why[0])
		turn(w);
	drain(w);
	return !w->why[0] && model_end(w);
}
