/* SPDX-License-Identifier: MIT */
/*
 * Handles by name, scratch files and request helpers for the tests of libbatchio. For
 * tests/unit/batchio_*_test.c; include test.h first.
 */
#ifndef BATCHIO_HANDLES_H
#define BATCHIO_HANDLES_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "faulty_backend.h"
#include "null_backend.h"

/* The variants of the contract suite. "tiny" rings show what happens when nothing fits. */
#define HANDLE_VARIANTS                                                                            \
	"standard", "uring", "uring-single", "uring-tiny", "shuffled-standard", "shuffled-uring"

/* NULL when there is none of that name here; *error says why. */
static inline struct batchio *handle_new(const char *variant, struct batchio_error *error)
{
	struct faulty_config shuffled = {.seed = 20240607};

	if (!strncmp(variant, "shuffled-", 9)) {
		shuffled.inner = handle_new(variant + 9, error);
		return shuffled.inner ? faulty_backend_new(&shuffled, error) : NULL;
	}
	if (!strcmp(variant, "standard"))
		return batchio_new_standard(error);
	if (!strcmp(variant, "uring"))
		return batchio_new_uring(BATCHIO_ENTRIES_DEFAULT, 0, error);
	if (!strcmp(variant, "uring-single"))
		return batchio_new_uring(64, BATCHIO_SINGLE_ISSUER, error);
	if (!strcmp(variant, "uring-tiny"))
		return batchio_new_uring(1, 0, error);
	if (!strcmp(variant, "null"))
		return null_backend_new(error);
	abort();
}

static struct batchio_error handle_error;

/* In a TEST: a handle of the variant, or the test ends as skipped (no ring here) or failed. */
#define HANDLE_OF(bio, variant)                                                                    \
	struct batchio *bio = handle_new(variant, &handle_error);                                  \
	if (!bio && handle_error.code == BATCHIO_EURINGUNAVAILABLE)                                \
		SKIP(handle_error.text);                                                           \
	REQUIRE(bio, handle_error.text)

#define HANDLE(bio) HANDLE_OF(bio, test_variant)

/* An unlinked file in TMPDIR or /tmp; aborts when there is no room for one. */
static inline int scratch_file(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/batchio-test-XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	if (fd < 0) {
		perror(path);
		abort();
	}
	unlink(path);
	return fd;
}

static inline void fill_pattern(void *buf, size_t len, unsigned seed)
{
	unsigned char *p = buf;

	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)((i * 31 + seed * 17 + (i >> 8)) & 0xff);
}

/* A request that notes its end. */
struct noted {
	struct batchio_request req; /* first: noted_done() finds the rest by it */
	struct iovec iov;
	int calls; /* of done() */
	ssize_t result;
	int order; /* 1 for the first that ended since noted_order was 0 */
};

static int noted_order;

static inline void noted_done(struct batchio_request *req, ssize_t result)
{
	struct noted *n = (struct noted *)req;

	n->calls++;
	n->result = result;
	n->order = ++noted_order;
}

static inline void noted_io(
	struct noted *n, enum batchio_kind kind, int fd, void *buf, size_t len, off_t offset)
{
	memset(n, 0, sizeof(*n));
	n->iov = (struct iovec){.iov_base = buf, .iov_len = len};
	n->req.kind = kind;
	n->req.fd = fd;
	n->req.iov = &n->iov;
	n->req.iovcnt = 1;
	n->req.offset = offset;
	n->req.done = noted_done;
}

static inline void noted_sync(struct noted *n, enum batchio_kind kind, int fd)
{
	noted_io(n, kind, fd, NULL, 0, 0);
	n->req.iov = NULL;
	n->req.iovcnt = 0;
}

static inline void noted_poll(struct noted *n, int fd, short events)
{
	noted_sync(n, BATCHIO_POLL, fd);
	n->req.events = events;
}

/* Reaps until nothing is in flight. Returns 0 or the error of the reap that failed. */
static inline int reap_all(struct batchio *bio)
{
	while (batchio_inflight(bio)) {
		int n = batchio_reap(bio, 1, 5000);

		if (n <= 0)
			return n ? n : -ETIME;
	}
	return 0;
}

static inline struct batchio_counters counters_of(const struct batchio *bio)
{
	struct batchio_counters c;

	batchio_get_counters(bio, &c);
	return c;
}

#endif
