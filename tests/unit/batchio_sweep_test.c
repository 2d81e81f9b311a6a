/* SPDX-License-Identifier: MIT */
/*
 * One script of all that libbatchio does, again and again: in each run the next attempt fails,
 * falls short or is cancelled, or the next allocation or descriptor is refused. Every call is
 * answered once, with its own bytes or its own error, and what was written is there. Run by `make
 * test`; with the library's I/O from tests/support/faulty. Prints the rows of tests/README.md.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "test.h"
#include "../support/batchio_handles.h"
#include "../support/faulty/plan.h"

#define FILE_SIZE  50000
#define SECONDS    100
#define CALLS_MOST 64

struct call {
	struct noted noted; /* of one that was submitted; first */
	struct iovec iov[3];
	enum batchio_kind kind;
	unsigned phase;
	bool paired; /* a sync behind a linked write */
	bool pair; /* a linked write; blocking: with its sync */
	const char *base; /* of its bytes in memory */
	size_t len;
	off_t offset; /* -1: to no place in the file */
	long long want, result;
};

static struct script {
	struct batchio *bio;
	int fd, pipe[2];
	struct call calls[CALLS_MOST];
	unsigned ncalls, phase, hit_phase;
	char model[FILE_SIZE], out[FILE_SIZE], in[FILE_SIZE + 4096];
	bool unknown[FILE_SIZE]; /* the bytes of failed writes */
	long long acknowledged; /* syncs */
} script;

/* ---- the script ---- */

static struct call *add_call(struct script *s, enum batchio_kind kind, size_t len, off_t offset)
{
	struct call *c = &s->calls[s->ncalls++];
	bool writes = kind == BATCHIO_WRITE;
	off_t end = FILE_SIZE;

	if (s->ncalls > CALLS_MOST)
		abort();
	memset(c, 0, sizeof(*c));
	c->kind = kind;
	c->phase = s->phase;
	c->len = len;
	c->offset = offset;
	c->base = writes ? s->out + offset : s->in + offset;
	if (kind != BATCHIO_READ && !writes) {
		c->base = NULL;
		c->offset = -1;
	} else if (kind == BATCHIO_READ && offset + (off_t)len > end) {
		c->want = end - offset;
	} else {
		c->want = (long long)len;
	}
	return c;
}

/* What the phase has brought. */
static void end_phase(struct script *s)
{
	if (atomic_load(&faulty_plan()->hits) && !s->hit_phase)
		s->hit_phase = s->phase;
	for (unsigned i = 0; i < s->ncalls; i++) {
		struct call *c = &s->calls[i];
		bool sync = c->kind == BATCHIO_FDATASYNC || c->kind == BATCHIO_FSYNC;

		if (c->phase != s->phase)
			continue;
		s->acknowledged += (sync || (c->pair && !c->noted.req.done)) && c->result >= 0;
		if (c->offset < 0)
			continue;
		if (c->kind == BATCHIO_WRITE && c->result >= 0)
			memcpy(s->model + c->offset, s->out + c->offset, c->len);
		for (size_t k = 0; c->kind == BATCHIO_WRITE && c->result < 0 && k < c->len; k++)
			s->unknown[(size_t)c->offset + k] = true;
		for (long long k = 0; c->kind == BATCHIO_READ && k < c->result; k++) {
			size_t at = (size_t)(c->offset + k);

			if (!s->unknown[at] && c->base[k] != s->model[at]) {
				CHECK(!"a read brings other bytes");
				break;
			}
		}
	}
	s->phase++;
}

static void blocking_batch(
	struct script *s, enum batchio_kind kind, int n, size_t len, off_t offset)
{
	struct batchio_op ops[16];
	unsigned first = s->ncalls;
	int first_error = 0, ret;

	for (int i = 0; i < n; i++) {
		struct call *c = add_call(s, kind, len, offset + (off_t)len * i);

		ops[i] = (struct batchio_op){(char *)c->base, len, c->offset, 12345};
	}
	ret = kind == BATCHIO_READ ? batchio_pread_batch(s->bio, s->fd, ops, (size_t)n)
				   : batchio_pwrite_batch(s->bio, s->fd, ops, (size_t)n);
	for (int i = 0; i < n; i++) {
		s->calls[first + (unsigned)i].result = ops[i].result;
		if (!first_error && ops[i].result < 0)
			first_error = (int)ops[i].result;
		else if (!first_error && (size_t)ops[i].result < len)
			first_error = BATCHIO_EOF;
	}
	CHECK_EQ(ret, first_error);
	end_phase(s);
}

static void blocking_sync(struct script *s, bool full)
{
	struct call *c = add_call(s, full ? BATCHIO_FSYNC : BATCHIO_FDATASYNC, 0, 0);

	c->result = full ? batchio_fsync_full(s->bio, s->fd) : batchio_fsync(s->bio, s->fd);
	end_phase(s);
}

static void blocking_pair(struct script *s, size_t len, off_t offset)
{
	struct call *c = add_call(s, BATCHIO_WRITE, len, offset);

	c->pair = true;
	c->result = batchio_linked_write_fsync(s->bio, s->fd, c->base, len, offset);
	c->result = c->result ? c->result : (long long)len;
	end_phase(s);
}

static void submit(struct script *s, struct call *c, unsigned flags)
{
	bool moves = c->kind == BATCHIO_READ || c->kind == BATCHIO_WRITE;
	int fd = c->kind == BATCHIO_POLL ? s->pipe[0] : s->fd;

	noted_io(&c->noted, c->kind, flags & BATCHIO_STREAM ? s->pipe[1] : fd, (char *)c->base,
		c->len, moves ? c->offset : 0);
	c->noted.req.flags = flags;
	c->noted.req.events = c->kind == BATCHIO_POLL ? 1 : 0;
	c->pair = flags & BATCHIO_LINK;
	if (moves && c->len % 3 == 0) { /* in three pieces */
		for (size_t i = 0; i < 3; i++)
			c->iov[i] = (struct iovec){(char *)c->base + i * (c->len / 3), c->len / 3};
		c->noted.req.iov = c->iov;
		c->noted.req.iovcnt = 3;
	} else if (!moves) {
		c->noted.req.iov = NULL;
		c->noted.req.iovcnt = 0;
	}
	if (flags & BATCHIO_STREAM)
		c->offset = -1;
	CHECK_EQ(batchio_submit(s->bio, &c->noted.req), 0);
}

static void end_submitted(struct script *s, unsigned first)
{
	CHECK_EQ(reap_all(s->bio), 0);
	CHECK_EQ(batchio_inflight(s->bio), 0);
	for (unsigned i = first; i < s->ncalls; i++) {
		CHECK_EQ(s->calls[i].noted.calls, 1);
		s->calls[i].result = s->calls[i].noted.result;
	}
	end_phase(s);
}

static void submitted_writes(struct script *s)
{
	unsigned first = s->ncalls;
	struct call *c;

	submit(s, add_call(s, BATCHIO_WRITE, 2100, 30000), 0);
	submit(s, add_call(s, BATCHIO_WRITE, 512, 34000), BATCHIO_DSYNC);
	submit(s, add_call(s, BATCHIO_WRITE, 4000, 36000), BATCHIO_MAYINLINE);
	submit(s, add_call(s, BATCHIO_WRITE, 3000, 42000), BATCHIO_LINK);
	c = add_call(s, BATCHIO_FSYNC, 0, 0);
	c->paired = true;
	submit(s, c, 0);
	submit(s, add_call(s, BATCHIO_WRITE, 4000, 46000), BATCHIO_MAYWAIT);
	c = add_call(s, BATCHIO_POLL, 0, 0);
	c->want = 1;
	submit(s, c, 0);
	submit(s, add_call(s, BATCHIO_WRITE, 64, 100), BATCHIO_STREAM);
	end_submitted(s, first);
}

static void submitted_reads(struct script *s)
{
	unsigned first = s->ncalls;

	submit(s, add_call(s, BATCHIO_READ, 2100, 30000), 0);
	submit(s, add_call(s, BATCHIO_READ, 4000, 36000), BATCHIO_MAYINLINE);
	submit(s, add_call(s, BATCHIO_READ, 2000, 42000), BATCHIO_DIRECT);
	submit(s, add_call(s, BATCHIO_READ, 1000, 49500), BATCHIO_MAYINLINE);
	submit(s, add_call(s, BATCHIO_READ, 1200, 48200), BATCHIO_MAYWAIT);
	submit(s, add_call(s, BATCHIO_FDATASYNC, 0, 0), 0);
	submit(s, add_call(s, BATCHIO_FSYNC, 0, 0), BATCHIO_MAYWAIT);
	end_submitted(s, first);
}

/* All of it on s->bio, which is closed. */
static void run(struct script *s)
{
	char text[1000] = "ready";

	s->ncalls = s->hit_phase = 0;
	s->phase = 1;
	s->acknowledged = 0;
	memset(s->model, 0, FILE_SIZE);
	memset(s->unknown, 0, FILE_SIZE);
	memset(s->in, 1, sizeof(s->in));
	fill_pattern(s->out, FILE_SIZE, 7);
	if (ftruncate(s->fd, 0) || ftruncate(s->fd, FILE_SIZE) || write(s->pipe[1], text, 5) != 5)
		abort();
	blocking_batch(s, BATCHIO_WRITE, 12, 1000, 0);
	blocking_batch(s, BATCHIO_READ, 6, 2000, 0);
	blocking_batch(s, BATCHIO_READ, 2, 1500, 47500);
	blocking_sync(s, false);
	blocking_pair(s, 5000, 20000);
	blocking_sync(s, true);
	submitted_writes(s);
	submitted_reads(s);
	batchio_close(s->bio);
	faulty_stop(faulty_plan());
	s->bio = NULL;
	if (read(s->pipe[0], text, sizeof(text)) < 5)
		abort();
}

/* ---- what it has to come to ---- */

static bool is_sync(unsigned kind)
{
	return kind == BATCHIO_FDATASYNC || kind == BATCHIO_FSYNC;
}

/* The attempt that was hit was one of c's. */
static bool was_hit(const struct script *s, const struct call *c)
{
	const struct faulty_plan *plan = faulty_plan();
	const char *base = plan->base;
	bool blocking_pair = c->pair && !c->noted.req.done;

	if (c->phase != s->hit_phase)
		return false;
	if (is_sync(plan->kind) && blocking_pair)
		return true;
	if (plan->kind != (unsigned)c->kind)
		return false;
	return c->base ? base >= c->base && base < c->base + c->len : true;
}

/* What c has to come to, given that an attempt of its own was hit. */
static long long hit_result(const struct call *c, int error)
{
	bool once = c->kind == BATCHIO_POLL || c->noted.req.flags & BATCHIO_STREAM;

	if (error == 0)
		return c->noted.req.flags & BATCHIO_STREAM ? c->want / 2 : c->want;
	if (error == EINTR || (error == EAGAIN && !once))
		return c->want;
	/* That is what a sync behind a write is told which had to be continued: it has its own. */
	if (error == ECANCELED && (c->paired || (c->pair && is_sync(faulty_plan()->kind))))
		return c->want;
	return -error;
}

/* True when a call was told of the failure. */
static bool check_calls(struct script *s, int error)
{
	const struct call *before = NULL;
	bool told = false;
	unsigned hit = 0;

	for (unsigned i = 0; i < s->ncalls; before = &s->calls[i++]) {
		const struct call *c = &s->calls[i];
		long long want = c->want;

		if (was_hit(s, c)) {
			hit++;
			want = hit_result(c, error);
		} else if (c->paired && before->result < 0) {
			want = -ECANCELED;
		}
		CHECK_EQ(c->result, want);
		told |= was_hit(s, c) && c->result != c->want;
	}
	CHECK_EQ(hit, s->hit_phase ? 1 : 0);
	return told;
}

static void check_file(struct script *s)
{
	ssize_t n = pread(s->fd, s->in, FILE_SIZE, 0);

	CHECK_EQ(n, FILE_SIZE);
	for (size_t i = 0; i < FILE_SIZE; i++) {
		if (!s->unknown[i] && s->in[i] != s->model[i]) {
			CHECK(!"the file has other bytes");
			return;
		}
	}
}

static int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (dir && readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ---- the sweeps ---- */

static void begin(struct script *s)
{
	alarm(SECONDS);
	s->fd = scratch_file();
	if (pipe(s->pipe))
		abort();
}

static void end(struct script *s)
{
	close(s->fd);
	close(s->pipe[0]);
	close(s->pipe[1]);
	alarm(0);
}

/* Every attempt of the script in turn, of the kinds of `what`. */
static void sweep_attempts(unsigned what, int error, const char *name)
{
	struct script *s = &script;
	unsigned right = 0, told = 0;
	bool hit = true;
	uint64_t n;

	begin(s);
	for (n = 1; hit && !test_failed; n++) {
		int open = open_descriptors();

		s->bio = handle_new(test_variant, &handle_error);
		if (!s->bio && handle_error.code == BATCHIO_EURINGUNAVAILABLE)
			SKIP(handle_error.text);
		REQUIRE(s->bio, handle_error.text);
		faulty_set(faulty_plan(), what, error, n, 1);
		run(s);
		hit = atomic_load(&faulty_plan()->hits);
		if (hit && check_calls(s, error))
			told++;
		else if (hit)
			right++;
		else
			check_calls(s, 0);
		check_file(s);
		CHECK(atomic_load(&faulty_plan()->syncs) >= (uint64_t)s->acknowledged);
		CHECK_EQ(open_descriptors(), open);
		if (test_failed)
			printf("# at number %llu\n", (unsigned long long)n);
	}
	end(s);
	/* The script, and each way through it, was there. */
	CHECK(n > 30);
	printf("# %s | %s | 1-%llu | %u | %u\n", test_variant, name, (unsigned long long)n - 2,
		right, told);
}

TEST(falls_short)
{
	sweep_attempts(FAULTY_DATA | FAULTY_ANSWER, 0, "short");
}

#define EVERY (FAULTY_DATA | FAULTY_ANSWER | FAULTY_POLL)

TEST(fails_with_eio)
{
	sweep_attempts(EVERY, EIO, "EIO");
}

TEST(fails_with_enospc)
{
	sweep_attempts(EVERY, ENOSPC, "ENOSPC");
}

TEST(fails_with_eagain)
{
	sweep_attempts(EVERY, EAGAIN, "EAGAIN");
}

TEST(fails_with_eintr)
{
	sweep_attempts(EVERY, EINTR, "EINTR");
}

TEST(fails_with_ecanceled)
{
	sweep_attempts(EVERY, ECANCELED, "ECANCELED");
}

/* One call may be told that there was none; the others have what is theirs. */
static unsigned check_refused(struct script *s, int error)
{
	const struct call *before = NULL;
	unsigned told = 0;

	for (unsigned i = 0; i < s->ncalls; before = &s->calls[i++]) {
		const struct call *c = &s->calls[i];

		if (c->result == -error)
			told++;
		else
			CHECK_EQ(c->result, c->paired && before->result < 0 ? -ECANCELED : c->want);
	}
	CHECK(told <= 1);
	return told;
}

/* From the making of the handle on, every allocation or descriptor in turn. */
static void sweep_refusals(unsigned what, int error, const char *name)
{
	struct script *s = &script;
	unsigned right = 0, told = 0, unmade = 0;
	bool hit = true;
	uint64_t n;

	begin(s);
	for (n = 1; hit && !test_failed; n++) {
		int open = open_descriptors();

		handle_error = (struct batchio_error){0};
		faulty_set(faulty_plan(), what, error, n, 1);
		s->bio = handle_new(test_variant, &handle_error);
		hit = atomic_load(&faulty_plan()->hits);
		if (!s->bio) {
			faulty_stop(faulty_plan());
			if (!hit && handle_error.code == BATCHIO_EURINGUNAVAILABLE)
				SKIP(handle_error.text);
			CHECK(hit && handle_error.text[0]);
			CHECK(handle_error.code == -error ||
				(error == ENOMEM &&
					handle_error.code == BATCHIO_EURINGUNAVAILABLE));
			unmade++;
		} else {
			run(s);
			hit = atomic_load(&faulty_plan()->hits);
			told += hit ? check_refused(s, error) : 0;
			right += hit;
			check_file(s);
		}
		CHECK_EQ(open_descriptors(), open);
		if (test_failed)
			printf("# at number %llu, %s\n", (unsigned long long)n,
				faulty_plan()->call);
	}
	end(s);
	CHECK(n > 2);
	printf("# %s | %s | 1-%llu | %u | %u | no handle: %u\n", test_variant, name,
		(unsigned long long)n - 2, right - told, told, unmade);
}

TEST(memory_runs_out)
{
	sweep_refusals(FAULTY_MEMORY, ENOMEM, "memory");
}

TEST(descriptors_run_out)
{
	sweep_refusals(FAULTY_DESCRIPTOR, EMFILE, "EMFILE");
	sweep_refusals(FAULTY_DESCRIPTOR, ENFILE, "ENFILE");
}

/* The same by the kernel, with room for a few. */
TEST(descriptors_are_limited)
{
	struct script *s = &script;
	struct rlimit limit, less;
	bool whole = false;

	begin(s);
	if (getrlimit(RLIMIT_NOFILE, &limit))
		abort();
	for (int room = 0; room < 4 && !test_failed; room++) {
		int free_fd = dup(0), open = open_descriptors();

		close(free_fd);
		less = limit;
		less.rlim_cur = (rlim_t)(free_fd + room);
		setrlimit(RLIMIT_NOFILE, &less);
		s->bio = handle_new(test_variant, &handle_error);
		if (!s->bio && handle_error.code == BATCHIO_EURINGUNAVAILABLE) {
			setrlimit(RLIMIT_NOFILE, &limit);
			SKIP(handle_error.text);
		}
		if (!s->bio) {
			CHECK_EQ(handle_error.code, -EMFILE);
			CHECK(handle_error.text[0]);
		} else {
			run(s);
			whole = check_refused(s, EMFILE) == 0;
			check_file(s);
		}
		setrlimit(RLIMIT_NOFILE, &limit);
		CHECK_EQ(open_descriptors(), open - 1);
	}
	CHECK(whole);
	end(s);
}

TEST_MATRIX("standard", "uring", "uring-single", "uring-tiny")
