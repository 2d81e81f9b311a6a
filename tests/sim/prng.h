/* SPDX-License-Identifier: MIT */
/*
 * Seeded random numbers for the simulation: the same seed gives the same schedule on every machine.
 * Called by tests/sim only. splitmix64.
 */
#ifndef SIM_PRNG_H
#define SIM_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
	uint64_t state;
};

static inline uint64_t prng_next(struct prng *p)
{
	uint64_t z = (p->state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 … n-1. */
static inline unsigned prng_below(struct prng *p, unsigned n)
{
	return (unsigned)(((prng_next(p) >> 32) * n) >> 32);
}

static inline unsigned prng_between(struct prng *p, unsigned low, unsigned high)
{
	return low + prng_below(p, high - low + 1);
}

/* True in n of a thousand cases. */
static inline bool prng_chance(struct prng *p, unsigned n)
{
	return prng_below(p, 1000) < n;
}

#endif
