/* SPDX-License-Identifier: MIT */
/*
 * A backend that makes chosen attempts of another one fail, fall short or end out of order. For
 * tests: sits behind the same seam as the real backends. Anyone under tests/ may include it.
 *
 * An attempt is what the library hands the backend: a request, or what an earlier short transfer
 * left of it. Nothing of a failed attempt reaches the inner backend; of a short one, its first
 * `bytes` do. Where the write of a linked pair is hit, its sync is cut off, as io_uring does it.
 */
#ifndef FAULTY_BACKEND_H
#define FAULTY_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "batchio/batchio.h"

enum faulty_verdict {
	FAULTY_PASS, /* to the inner backend, as it is */
	FAULTY_FAIL, /* ends with fault->error, the inner backend never sees it */
	FAULTY_SHORT, /* READ, WRITE: only the first fault->bytes are done (0: says end of file, or
			 "nothing written") */
};

struct faulty_fault {
	int error; /* -errno */
	size_t bytes; /* less than the attempt's */
};

/* What the attempt is. */
struct faulty_attempt {
	const struct batchio_request *req;
	off_t offset; /* where this attempt starts */
	size_t len; /* bytes it is to move */
	uint64_t number; /* 1 for the first attempt of the handle, of any kind */
};

struct faulty_config {
	struct batchio *inner; /* owned from faulty_backend_new() on, also where that fails */
	/*
	 * Called once an attempt, before it starts, on the thread that uses the handle. NULL: every
	 * attempt passes.
	 */
	enum faulty_verdict (*judge)(
		void *user, const struct faulty_attempt *attempt, struct faulty_fault *fault);
	void *user;
	uint64_t seed; /* not 0: what ends together is reported in an order made from it */
};

/* New handle, to be freed by batchio_close(), which closes config->inner too. */
struct batchio *faulty_backend_new(const struct faulty_config *config, struct batchio_error *error);

/* A ready-made judge: hits attempts number `first` to `first + count - 1` among those that match.
 */
struct faulty_nth {
	unsigned kinds; /* 1u << BATCHIO_WRITE | …; 0: all */
	int fd; /* -1: any */
	off_t from, to; /* READ, WRITE: attempts that touch [from, to); to = 0: any */
	unsigned first, count; /* first = 1: the first match; count = 0: all from there on */
	enum faulty_verdict verdict;
	struct faulty_fault fault;
	unsigned seen; /* out: matches so far */
};

enum faulty_verdict faulty_judge_nth(
	void *nth, const struct faulty_attempt *attempt, struct faulty_fault *fault);

#endif
