/* SPDX-License-Identifier: MIT */
/*
 * Short transfers, retries and errors of libbatchio's requests, injected behind the backend seam,
 * over each real backend; the null backend; the check of the ops table. Run by `make test`.
 */
#define _GNU_SOURCE 1
#include "test.h"
#include "batchio/backend.h"
#include "../support/batchio_handles.h"

/* Every attempt moves a random part, or nothing, or is interrupted; offsets in `bad` fail. */
struct chaos {
	uint64_t random;
	off_t bad_from, bad_to;
	int interrupted;
};

static uint64_t below(struct chaos *c, uint64_t n)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return c->random % n;
}

static enum faulty_verdict chaotic(
	void *user, const struct faulty_attempt *a, struct faulty_fault *fault)
{
	struct chaos *c = user;

	if (below(c, 4) == 0) {
		fault->error = below(c, 2) ? -EINTR : -EAGAIN;
		c->interrupted++;
		return FAULTY_FAIL;
	}
	if (a->req->kind > BATCHIO_WRITE)
		return FAULTY_PASS;
	if (a->offset < c->bad_to && a->offset + (off_t)a->len > c->bad_from) {
		/* What lies before the bad place is still moved. */
		fault->bytes = a->offset < c->bad_from ? (size_t)(c->bad_from - a->offset) : 0;
		fault->error = -EIO;
		return fault->bytes ? FAULTY_SHORT : FAULTY_FAIL;
	}
	if (a->len > 1 && below(c, 2)) {
		fault->bytes = 1 + below(c, a->len - 1);
		return FAULTY_SHORT;
	}
	return FAULTY_PASS;
}

static struct batchio *over(
	enum faulty_verdict (*judge)(void *, const struct faulty_attempt *, struct faulty_fault *),
	void *user, uint64_t seed)
{
	struct faulty_config config = {.judge = judge, .user = user, .seed = seed};

	config.inner = handle_new(test_variant, &handle_error);
	return config.inner ? faulty_backend_new(&config, &handle_error) : NULL;
}

#define OVER(bio, judge, user, seed)                                                               \
	struct batchio *bio = over(judge, user, seed);                                             \
	if (!bio && handle_error.code == BATCHIO_EURINGUNAVAILABLE)                                \
		SKIP(handle_error.text);                                                           \
	REQUIRE(bio, handle_error.text)

/* One schedule: vectored writes, pairs and reads, whole in the end but for the bad range. */
static void chaos_run(uint64_t seed)
{
	enum { N = 24, LEN = 96 };
	static struct noted w[N], s[N], r[N];
	static char out[N][LEN], in[N][LEN];
	struct iovec iov[N][3];
	struct chaos c = {.random = seed, .bad_from = 5 * LEN + 40, .bad_to = 5 * LEN + 50};
	int fd = scratch_file();
	OVER(bio, chaotic, &c, seed);

	for (int i = 0; i < N; i++) {
		fill_pattern(out[i], LEN, (unsigned)(i + seed));
		iov[i][0] = (struct iovec){out[i], 10};
		iov[i][1] = (struct iovec){out[i] + 10, 0};
		iov[i][2] = (struct iovec){out[i] + 10, LEN - 10};
		noted_io(&w[i], BATCHIO_WRITE, fd, NULL, 0, i * LEN);
		w[i].req.iov = iov[i];
		w[i].req.iovcnt = 3;
		w[i].req.flags = i % 4 == 1 ? BATCHIO_LINK : 0;
		CHECK_EQ(batchio_submit(bio, &w[i].req), 0);
		noted_sync(&s[i], BATCHIO_FSYNC, fd);
		if (i % 4 == 1)
			CHECK_EQ(batchio_submit(bio, &s[i].req), 0);
	}
	CHECK_EQ(reap_all(bio), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(w[i].calls, 1);
		CHECK_EQ(w[i].result, i == 5 ? -EIO : LEN);
		CHECK_EQ(w[i].req.moved, i == 5 ? 40 : LEN);
		if (i % 4 == 1)
			CHECK_EQ(s[i].result, i == 5 ? -ECANCELED : 0);
		noted_io(&r[i], BATCHIO_READ, fd, in[i], LEN, i * LEN);
		CHECK_EQ(batchio_submit(bio, &r[i].req), 0);
	}
	CHECK_EQ(reap_all(bio), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(r[i].result, i == 5 ? -EIO : LEN);
		CHECK_EQ(r[i].req.moved, i == 5 ? 40 : LEN);
		CHECK(!memcmp(in[i], out[i], i == 5 ? 40 : LEN));
	}
	CHECK(c.interrupted > 0);
	batchio_close(bio);
	close(fd);
}

TEST(short_transfers_and_interruptions_in_any_order)
{
	for (uint64_t seed = 1; seed <= 60 && !test_failed; seed++) {
		chaos_run(seed);
		if (test_failed)
			printf("# seed %llu\n", (unsigned long long)seed);
	}
}

TEST(short_read_is_continued_to_the_end_of_file)
{
	struct faulty_nth nth = {
		.fd = -1, .first = 1, .count = 2, .verdict = FAULTY_SHORT, .fault = {.bytes = 3}};
	char buf[20];
	struct batchio_op op = {buf, 20, 0, -1};
	int fd = scratch_file();
	OVER(bio, faulty_judge_nth, &nth, 0);

	CHECK_EQ(pwrite(fd, "0123456789", 10, 0), 10);
	CHECK_EQ(batchio_pread_batch(bio, fd, &op, 1), BATCHIO_EOF);
	CHECK_EQ(op.result, 10);
	CHECK(!memcmp(buf, "0123456789", 10));
	batchio_close(bio);
	close(fd);
}

/* As some file systems have it of a direct read, whose rest is not aligned. */
TEST(a_rest_refused_behind_the_end_of_file_is_the_end)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_READ,
		.fd = -1,
		.first = 2,
		.count = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EINVAL}};
	char buf[20];
	struct batchio_op op = {buf, 20, 0, -1};
	int fd = scratch_file();
	OVER(bio, faulty_judge_nth, &nth, 0);

	CHECK_EQ(pwrite(fd, "0123456789", 10, 0), 10);
	CHECK_EQ(batchio_pread_batch(bio, fd, &op, 1), BATCHIO_EOF);
	CHECK_EQ(op.result, 10);
	CHECK_EQ(nth.seen, 2);
	/* Else it is an error like any other. */
	nth = (struct faulty_nth){.kinds = 1u << BATCHIO_READ,
		.fd = -1,
		.first = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EINVAL}};
	CHECK_EQ(batchio_pread_batch(bio, fd, &op, 1), -EINVAL);
	batchio_close(bio);
	close(fd);
}

TEST(write_that_gets_nowhere_is_eio)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.first = 1,
		.verdict = FAULTY_SHORT,
		.fault = {.bytes = 0}};
	struct batchio_op op = {(char *)"abcd", 4, 0, -1};
	int fd = scratch_file();
	OVER(bio, faulty_judge_nth, &nth, 0);

	CHECK_EQ(batchio_pwrite_batch(bio, fd, &op, 1), -EIO);
	CHECK_EQ(nth.seen, 1);
	batchio_close(bio);
	close(fd);
}

/* EAGAIN for ever ends; a sync that failed once is not tried again. */
TEST(retries_end)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_READ,
		.fd = -1,
		.first = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EAGAIN}};
	char buf[4];
	struct batchio_op op = {buf, 4, 0, -1};
	int fd = scratch_file();
	OVER(bio, faulty_judge_nth, &nth, 0);

	CHECK_EQ(batchio_pread_batch(bio, fd, &op, 1), -EAGAIN);
	CHECK(nth.seen > 100);
	nth = (struct faulty_nth){.kinds = 1u << BATCHIO_FSYNC,
		.fd = -1,
		.first = 1,
		.count = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EIO}};
	CHECK_EQ(batchio_fsync_full(bio, fd), -EIO);
	CHECK_EQ(nth.seen, 1);
	batchio_close(bio);
	close(fd);
}

TEST(an_error_in_a_batch_harms_nobody_else)
{
	enum { N = 50 };
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.from = 33 * 4,
		.to = 34 * 4,
		.first = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -ENOSPC}};
	struct batchio_op ops[N];
	char buf[4] = "wxyz";
	int fd = scratch_file();
	OVER(bio, faulty_judge_nth, &nth, 7);

	for (int i = 0; i < N; i++)
		ops[i] = (struct batchio_op){buf, 4, i * 4, -1};
	CHECK_EQ(batchio_pwrite_batch(bio, fd, ops, N), -ENOSPC);
	for (int i = 0; i < N; i++)
		CHECK_EQ(ops[i].result, i == 33 ? -ENOSPC : 4);
	batchio_close(bio);
	close(fd);
}

/* ---- the seam itself ---- */

TEST(null_backend_succeeds_at_once)
{
	char buf[4] = "abcd";
	struct batchio_op op = {buf, 4, 0, -1};
	HANDLE_OF(bio, "null");

	CHECK_EQ(batchio_pwrite_batch(bio, -1, &op, 1), 0);
	CHECK_EQ(op.result, 4);
	CHECK_EQ(batchio_pread_batch(bio, -1, &op, 1), 0);
	CHECK_EQ(batchio_linked_write_fsync(bio, -1, buf, 4, 0), 0);
	CHECK_EQ(counters_of(bio).syncs, 1);
	CHECK(!strcmp(batchio_backend_name(bio), "null"));
	batchio_close(bio);
}

static int some_call(struct batchio *bio)
{
	(void)bio;
	return 0;
}

static int some_reap(struct batchio *bio, unsigned want, int timeout_ms)
{
	(void)bio;
	(void)want;
	(void)timeout_ms;
	return 0;
}

static void some_destroy(struct batchio *bio)
{
	(void)bio;
}

TEST(half_written_tables_are_refused)
{
	const struct batchio_ops whole = {
		.name = "some", .start = some_call, .reap = some_reap, .destroy = some_destroy};
	struct batchio_error e;
	struct batchio_ops half;
	struct batchio *bio = batchio_new_backend(&whole, NULL, &e);

	CHECK(bio != NULL);
	batchio_close(bio);
#define WITHOUT(member)                                                                            \
	do {                                                                                       \
		half = whole;                                                                      \
		half.member = NULL;                                                                \
		CHECK(!batchio_new_backend(&half, NULL, &e));                                      \
		CHECK_EQ(e.code, -EINVAL);                                                         \
	} while (0)
	WITHOUT(name);
	WITHOUT(start);
	WITHOUT(reap);
	WITHOUT(destroy);
	CHECK(!batchio_new_backend(NULL, NULL, NULL));
}

TEST_MATRIX("standard", "uring", "uring-tiny")
