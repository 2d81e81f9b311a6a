/* SPDX-License-Identifier: MIT */
/*
 * Deterministic simulation of the coalescer, TAP on standard output.
 *
 *   sim [--schedules N] [--start S]   schedules of seeds S … S+N-1, then every mutation
 *   sim --seed N [-v]                 one schedule; -v prints what happens in it
 *   sim --mutate NAME                 one deliberate fault, which must be caught
 *   sim --mutate NAME --seed N [-v]   the schedule of one seed with the fault in it
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* A mutation that so many schedules do not show would go unseen in practice. */
#define MUTATION_SCHEDULES 2000

static struct world world;

struct arguments {
	uint64_t schedules, start, seed;
	bool one;
	enum mutation mutation;
};

static int usage(void)
{
	fprintf(stderr, "usage: sim [--schedules N] [--start S]\n"
			"       sim --seed N [-v] [--mutate NAME]\n"
			"       sim --mutate NAME\n"
			"mutations:");
	for (int i = 1; i < MUTATIONS; i++)
		fprintf(stderr, " %s", mutation_names[i]);
	fputc('\n', stderr);
	return 2;
}

static bool parse_number(const char *text, uint64_t *number)
{
	char *end;

	if (!text || *text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 0);
	return !errno && !*end;
}

static bool parse_mutation(const char *text, enum mutation *mutation)
{
	for (int i = 1; text && i < MUTATIONS; i++)
		if (!strcmp(text, mutation_names[i])) {
			*mutation = (enum mutation)i;
			return true;
		}
	return false;
}

static bool parse(int argc, char **argv, struct arguments *args)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i];
		bool good;

		if (!strcmp(name, "-v")) {
			world.verbose = true;
			continue;
		}
		i++; /* argv[argc] is NULL, which no parser takes */
		if (!strcmp(name, "--schedules"))
			good = parse_number(argv[i], &args->schedules);
		else if (!strcmp(name, "--start"))
			good = parse_number(argv[i], &args->start);
		else if (!strcmp(name, "--seed"))
			good = args->one = parse_number(argv[i], &args->seed);
		else if (!strcmp(name, "--mutate"))
			good = parse_mutation(argv[i], &args->mutation);
		else
			good = false;
		if (!good)
			return false;
	}
	return true;
}

static void print_stats(const struct stats *s)
{
	printf("# %" PRIu64 " ops in %" PRIu64 " calls; %" PRIu64
	       " calls merged, of %.1f ops, at most "
	       "%" PRIu64 "\n",
		s->ops, s->calls, s->merged, s->merged ? (double)s->merged_ops / s->merged : 0.0,
		s->longest);
	printf("# %" PRIu64 " flushes: %" PRIu64 " shared, %" PRIu64
	       " paired with a write (%" PRIu64 " of them cancelled), %" PRIu64 " failed; %" PRIu64
	       " syncs refused on a failed file; %" PRIu64 " joined a flush in flight\n",
		s->flushes, s->shared, s->pairs, s->cancelled, s->flush_errors, s->refused,
		s->joined);
	printf("# %" PRIu64 " merged calls failed and were run again; %" PRIu64
	       " lone errors, %" PRIu64 " short reads\n",
		s->reruns, s->op_errors, s->short_reads);
}

static bool run_schedules(const struct arguments *args, struct stats *stats)
{
	uint64_t failures = 0;

	for (uint64_t seed = args->start; seed < args->start + args->schedules; seed++) {
		if (world_run(&world, seed, MUTATE_NONE, stats))
			continue;
		printf("# seed %" PRIu64 " failed: %s\n", seed, world.why);
		if (++failures == 10)
			break;
	}
	if (failures)
		puts("# run one alone with: sim --seed N -v");
	return failures == 0;
}

static bool report(int number, bool good, const char *text)
{
	printf("%sok %d - %s\n", good ? "" : "not ", number, text);
	fflush(stdout);
	return good;
}

static bool run_mutation(int number, enum mutation mutation)
{
	struct stats stats = {0};
	char text[100];

	snprintf(text, sizeof(text), "mutation %s is caught", mutation_names[mutation]);
	for (uint64_t seed = 0; seed < MUTATION_SCHEDULES; seed++) {
		if (world_run(&world, seed, mutation, &stats))
			continue;
		printf("# seed %" PRIu64 ": %s\n", seed, world.why);
		return report(number, true, text);
	}
	return report(number, false, text);
}

static bool run_all(const struct arguments *args)
{
	struct stats stats = {0};
	char text[100];
	bool good, coalesced;

	printf("1..%d\n", 2 + MUTATIONS - 1);
	snprintf(text, sizeof(text), "%" PRIu64 " schedules from seed %" PRIu64, args->schedules,
		args->start);
	good = report(1, run_schedules(args, &stats), text);
	print_stats(&stats);
	coalesced = stats.merged && stats.shared && stats.pairs && stats.cancelled &&
		    stats.reruns && stats.refused && stats.short_reads && stats.joined;
	good &= report(
		2, coalesced, "merged calls, shared and joined flushes, pairs and reruns occurred");
	for (int i = 1; i < MUTATIONS; i++)
		good &= run_mutation(i + 2, (enum mutation)i);
	return good;
}

static bool run_seed(const struct arguments *args)
{
	struct stats stats = {0};
	bool good = world_run(&world, args->seed, args->mutation, &stats);
	char text[60];

	if (!good)
		printf("# seed %" PRIu64 " failed: %s\n", args->seed, world.why);
	snprintf(text, sizeof(text), "seed %" PRIu64, args->seed);
	puts("1..1");
	return report(1, good, text);
}

int main(int argc, char **argv)
{
	struct arguments args = {.schedules = 100000};
	bool good;

	if (!parse(argc, argv, &args))
		return usage();
	if (args.one) {
		good = run_seed(&args);
	} else if (args.mutation) {
		puts("1..1");
		good = run_mutation(1, args.mutation);
	} else {
		good = run_all(&args);
	}
	return good ? 0 : 1;
}
