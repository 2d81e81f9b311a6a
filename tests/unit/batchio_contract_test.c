/* SPDX-License-Identifier: MIT */
/*
 * The contract of libbatchio, run against every backend: same calls, same results. Run by `make
 * test`.
 */
#define _GNU_SOURCE 1
#include <limits.h>
#include <sys/stat.h>

#include "test.h"
#include "../support/batchio_handles.h"

static bool is_ring(void)
{
	return strstr(test_variant, "uring") != NULL;
}

TEST(batch_reads_back_what_was_written)
{
	enum { N = 300, LEN = 1000 };
	static char out[N][LEN], in[N][LEN];
	struct batchio_op w[N], r[N];
	int fd = scratch_file();
	HANDLE(bio);

	for (int i = 0; i < N; i++) {
		fill_pattern(out[i], LEN, (unsigned)i);
		w[i] = (struct batchio_op){out[i], LEN, (off_t)(N - 1 - i) * LEN, -1};
		r[i] = (struct batchio_op){in[i], LEN, (off_t)(N - 1 - i) * LEN, -1};
	}
	CHECK_EQ(batchio_pwrite_batch(bio, fd, w, N), 0);
	CHECK_EQ(batchio_fsync(bio, fd), 0);
	CHECK_EQ(batchio_fsync_full(bio, fd), 0);
	CHECK_EQ(batchio_pread_batch(bio, fd, r, N), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(w[i].result, LEN);
		CHECK_EQ(r[i].result, LEN);
	}
	CHECK(!memcmp(out, in, sizeof(out)));
	CHECK_EQ(counters_of(bio).writes, N);
	CHECK_EQ(counters_of(bio).reads, N);
	CHECK_EQ(counters_of(bio).syncs, 2);
	batchio_close(bio);
	close(fd);
}

/* More than a call keeps in flight (1024), more than any ring here. */
TEST(batch_larger_than_everything)
{
	enum { N = 5000 };
	static uint32_t out[N], in[N];
	static struct batchio_op ops[N];
	int fd = scratch_file();
	HANDLE(bio);

	for (int i = 0; i < N; i++) {
		out[i] = (uint32_t)i * 2654435761u;
		ops[i] = (struct batchio_op){&out[i], 4, i * 4, -1};
	}
	CHECK_EQ(batchio_pwrite_batch(bio, fd, ops, N), 0);
	for (int i = 0; i < N; i++)
		ops[i] = (struct batchio_op){&in[i], 4, i * 4, -1};
	CHECK_EQ(batchio_pread_batch(bio, fd, ops, N), 0);
	CHECK(!memcmp(out, in, sizeof(out)));
	CHECK_EQ(batchio_inflight(bio), 0);
	batchio_close(bio);
	close(fd);
}

TEST(read_past_the_end_is_eof_with_the_bytes_read)
{
	char buf[3][10];
	struct batchio_op ops[3] = {
		{buf[0], 10, 0, -1}, {buf[1], 10, 5, -1}, {buf[2], 10, 100, -1}};
	int fd = scratch_file();
	HANDLE(bio);

	CHECK_EQ(pwrite(fd, "0123456789ab", 12, 0), 12);
	CHECK_EQ(batchio_pread_batch(bio, fd, ops, 3), BATCHIO_EOF);
	CHECK_EQ(ops[0].result, 10);
	CHECK_EQ(ops[1].result, 7);
	CHECK_EQ(ops[2].result, 0);
	CHECK(!memcmp(buf[1], "56789ab", 7));
	batchio_close(bio);
	close(fd);
}

/* A direct read cut by the end of the file leaves an unaligned rest. */
TEST(direct_read_past_an_unaligned_end)
{
	char path[] = "batchio-direct-XXXXXX", *buf = NULL;
	struct batchio_op op;
	int fd = mkstemp(path), direct = open(path, O_RDONLY | O_DIRECT);
	HANDLE(bio);

	unlink(path);
	REQUIRE(fd >= 0, "no file in the working directory");
	CHECK_EQ(ftruncate(fd, 5000), 0);
	if (direct < 0) {
		batchio_close(bio);
		close(fd);
		SKIP("no O_DIRECT in the working directory");
	}
	CHECK_EQ(posix_memalign((void **)&buf, 4096, 16384), 0);
	op = (struct batchio_op){buf, 16384, 0, -1};
	CHECK_EQ(batchio_pread_batch(bio, direct, &op, 1), BATCHIO_EOF);
	CHECK_EQ(op.result, 5000);
	free(buf);
	batchio_close(bio);
	close(direct);
	close(fd);
}

TEST(first_error_in_op_order_and_every_op_tried)
{
	char a[4] = "abcd", b[4];
	struct batchio_op ops[3] = {{a, 4, 0, -1}, {NULL, 4, 4, -1}, {b, 4, 8, -1}};
	int fd = scratch_file();
	HANDLE(bio);

	/* The second's buffer is not mapped. */
	CHECK_EQ(pwrite(fd, "0123456789ab", 12, 0), 12);
	CHECK_EQ(batchio_pread_batch(bio, fd, ops, 3), -EFAULT);
	CHECK_EQ(ops[0].result, 4);
	CHECK_EQ(ops[1].result, -EFAULT);
	CHECK_EQ(ops[2].result, 4);
	CHECK_EQ(batchio_pread_batch(bio, -1, ops, 3), -EBADF);
	CHECK_EQ(batchio_fsync(bio, -1), -EBADF);
	CHECK_EQ(batchio_pwrite_batch(bio, -1, ops, 1), -EBADF);
	CHECK(counters_of(bio).errors >= 5);
	batchio_close(bio);
	close(fd);
}

/* A pipe has nothing to sync: who asks the kernel is told so. */
TEST(a_sync_is_asked_of_the_kernel)
{
	int ends[2];
	HANDLE(bio);

	REQUIRE(pipe(ends) == 0, "no pipe");
	CHECK_EQ(batchio_fsync(bio, ends[1]), -EINVAL);
	CHECK_EQ(batchio_fsync_full(bio, ends[1]), -EINVAL);
	batchio_close(bio);
	close(ends[0]);
	close(ends[1]);
}

TEST(bad_arguments_do_nothing)
{
	char a[4] = "abcd";
	struct batchio_op ops[2] = {{a, 4, 0, 77}, {a, 4, -1, 77}};
	int fd = scratch_file();
	struct stat st;
	HANDLE(bio);

	CHECK_EQ(batchio_pwrite_batch(bio, fd, ops, 2), -EINVAL);
	CHECK_EQ(batchio_pwrite_batch(bio, fd, NULL, 1), -EINVAL);
	CHECK_EQ(batchio_pread_batch(bio, fd, NULL, 0), 0);
	CHECK_EQ(batchio_linked_write_fsync(bio, fd, a, 4, -1), -EINVAL);
	CHECK_EQ(batchio_linked_write_fsync(bio, fd, a, SIZE_MAX, 0), -EINVAL);
	CHECK_EQ(ops[0].result, 77);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 0);
	batchio_close(bio);
	close(fd);
}

TEST(zero_length_ops_succeed)
{
	char a[1];
	struct batchio_op op = {a, 0, 5, -1};
	int fd = scratch_file();
	HANDLE(bio);

	CHECK_EQ(batchio_pwrite_batch(bio, fd, &op, 1), 0);
	CHECK_EQ(op.result, 0);
	CHECK_EQ(batchio_pread_batch(bio, fd, &op, 1), 0);
	CHECK_EQ(op.result, 0);
	batchio_close(bio);
	close(fd);
}

TEST(submit_refuses_what_breaks_the_rules)
{
	static struct iovec many[IOV_MAX + 1];
	struct noted n, sync;
	char a[4] = "abcd";
	int fd = scratch_file();
	HANDLE(bio);

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		noted_io(&n, BATCHIO_WRITE, fd, a, 4, 0);                                          \
		change;                                                                            \
		CHECK_EQ(batchio_submit(bio, &n.req), -EINVAL);                                    \
	} while (0)

	REFUSED(n.req.iovcnt = 0);
	REFUSED((n.req.iov = many, n.req.iovcnt = IOV_MAX + 1));
	REFUSED(n.req.iov = NULL);
	REFUSED(n.req.offset = -1);
	REFUSED(n.req.done = NULL);
	REFUSED(n.req.kind = 99);
	REFUSED(n.req.flags = 1u << 30);
	REFUSED(n.iov.iov_len = SIZE_MAX);
	REFUSED(n.req.flags = BATCHIO_EXCLUSIVE);
	REFUSED(n.req.flags = BATCHIO_LINK | BATCHIO_STREAM);
	REFUSED((n.req.kind = BATCHIO_READ, n.req.flags = BATCHIO_LINK));
	REFUSED((n.req.kind = BATCHIO_READ, n.req.flags = BATCHIO_DSYNC));
	CHECK_EQ(batchio_inflight(bio), 0);

	/* A link needs a sync behind it; anything else is refused, the sync then still fits. */
	noted_io(&n, BATCHIO_WRITE, fd, a, 4, 0);
	n.req.flags = BATCHIO_LINK;
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	noted_io(&sync, BATCHIO_READ, fd, a, 4, 0);
	CHECK_EQ(batchio_submit(bio, &sync.req), -EINVAL);
	CHECK_EQ(batchio_reap(bio, 1, -1), 0); /* nothing that could end */
	noted_sync(&sync, BATCHIO_FSYNC, fd);
	CHECK_EQ(batchio_submit(bio, &sync.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(n.result, 4);
	CHECK_EQ(sync.result, 0);
	CHECK_EQ(n.calls, 1);
	batchio_close(bio);
	close(fd);
}

TEST(vectored_requests_move_everything)
{
	char out[3][100], in[300];
	struct iovec iov[3] = {{out[0], 100}, {out[1], 0}, {out[2], 100}};
	struct noted w, r;
	int fd = scratch_file();
	HANDLE(bio);

	fill_pattern(out, sizeof(out), 3);
	noted_io(&w, BATCHIO_WRITE, fd, NULL, 0, 7);
	w.req.iov = iov;
	w.req.iovcnt = 3;
	w.req.flags = BATCHIO_DSYNC;
	CHECK_EQ(batchio_submit(bio, &w.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(w.result, 200);
	CHECK_EQ(w.req.moved, 200);
	noted_io(&r, BATCHIO_READ, fd, in, sizeof(in), 7);
	CHECK_EQ(batchio_submit(bio, &r.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(r.result, 200); /* fewer than wanted: end of file */
	CHECK(!memcmp(in, out[0], 100) && !memcmp(in + 100, out[2], 100));
	batchio_close(bio);
	close(fd);
}

/* done() only from reap; each once; inflight counts down. */
TEST(done_is_called_by_reap_only_and_once)
{
	enum { N = 200 };
	static struct noted n[N];
	static char buf[N][16];
	int fd = scratch_file(), ended = 0;
	HANDLE(bio);

	for (int i = 0; i < N; i++) {
		noted_io(&n[i], BATCHIO_WRITE, fd, buf[i], 16, i * 16);
		n[i].req.flags = i % 2 ? BATCHIO_MAYINLINE : 0;
		CHECK_EQ(batchio_submit(bio, &n[i].req), 0);
		CHECK_EQ(n[i].calls, 0);
		CHECK_EQ(batchio_inflight(bio), i + 1);
	}
	CHECK_EQ(batchio_flush(bio), 0);
	for (int i = 0; i < N; i++)
		CHECK_EQ(n[i].calls, 0);
	while (ended < N) {
		int got = batchio_reap(bio, 1, 5000);

		REQUIRE(got > 0, "requests got lost");
		ended += got;
		CHECK_EQ(batchio_inflight(bio), N - ended);
	}
	for (int i = 0; i < N; i++) {
		CHECK_EQ(n[i].calls, 1);
		CHECK_EQ(n[i].result, 16);
	}
	CHECK_EQ(batchio_reap(bio, 1, -1), 0);
	batchio_close(bio);
	close(fd);
}

TEST(reap_waits_for_min)
{
	enum { N = 100 };
	static struct noted n[N];
	static char buf[N][512];
	int fd = scratch_file();
	HANDLE(bio);

	for (int i = 0; i < N; i++) {
		noted_io(&n[i], BATCHIO_WRITE, fd, buf[i], 512, i * 512);
		CHECK_EQ(batchio_submit(bio, &n[i].req), 0);
	}
	CHECK_EQ(batchio_reap(bio, N + 7, -1), N);
	batchio_close(bio);
	close(fd);
}

struct chained {
	struct noted n;
	struct batchio *bio;
	int left;
};

static void chained_done(struct batchio_request *req, ssize_t result)
{
	struct chained *c = (struct chained *)req;

	c->n.calls++;
	c->n.result = result;
	/* Not from within reap, and the same request may go out again. */
	if (batchio_reap(c->bio, 0, 0) != -EDEADLK)
		c->left = -1000;
	if (--c->left > 0) {
		req->offset += 4;
		batchio_submit(c->bio, req);
	}
}

TEST(done_may_submit_the_request_again)
{
	struct chained c = {.left = 50};
	char buf[4] = "wxyz";
	struct stat st;
	int fd = scratch_file();
	HANDLE(bio);

	c.bio = bio;
	noted_io(&c.n, BATCHIO_WRITE, fd, buf, 4, 0);
	c.n.req.done = chained_done;
	CHECK_EQ(batchio_submit(bio, &c.n.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(c.n.calls, 50);
	CHECK_EQ(c.left, 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 200);
	batchio_close(bio);
	close(fd);
}

static void freeing_done(struct batchio_request *req, ssize_t result)
{
	int *sum = req->user;

	*sum += (int)result;
	free(req);
}

TEST(done_may_free_the_request)
{
	struct iovec iov = {(char *)"hello", 5};
	int fd = scratch_file(), sum = 0;
	HANDLE(bio);

	for (int i = 0; i < 40; i++) {
		struct batchio_request *req = calloc(1, sizeof(*req));

		/* Pairs: the write is gone when its sync ends. */
		req->kind = i % 2 ? BATCHIO_FDATASYNC : BATCHIO_WRITE;
		req->flags = i % 2 ? 0 : BATCHIO_LINK;
		req->fd = fd;
		req->iov = &iov;
		req->iovcnt = 1;
		req->offset = i * 5;
		req->done = freeing_done;
		req->user = &sum;
		CHECK_EQ(batchio_submit(bio, req), 0);
	}
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(sum, 100);
	batchio_close(bio);
	close(fd);
}

TEST(close_ends_what_was_submitted)
{
	struct noted w[20], p, held;
	char buf[8] = "1234567";
	int fd = scratch_file(), pipes[2];
	struct stat st;
	HANDLE(bio);

	CHECK_EQ(pipe(pipes), 0);
	noted_poll(&p, pipes[0], 1 /* POLLIN */);
	CHECK_EQ(batchio_submit(bio, &p.req), 0);
	CHECK_EQ(batchio_flush(bio), 0);
	for (int i = 0; i < 20; i++) {
		noted_io(&w[i], BATCHIO_WRITE, fd, buf, 8, i * 8);
		CHECK_EQ(batchio_submit(bio, &w[i].req), 0);
	}
	noted_io(&held, BATCHIO_WRITE, fd, buf, 8, 160);
	held.req.flags = BATCHIO_LINK;
	CHECK_EQ(batchio_submit(bio, &held.req), 0);
	batchio_close(bio);
	for (int i = 0; i < 20; i++)
		CHECK(w[i].calls == 1 && w[i].result == 8);
	CHECK(held.calls == 1 && held.result == 8);
	CHECK(p.calls == 1 && p.result == -ECANCELED);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 168);
	batchio_close(NULL);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

/* Blocking calls and submitted requests on one handle don't mix up. */
TEST(blocking_calls_leave_done_of_others_to_reap)
{
	struct noted n;
	char a[4] = "abcd", b[4];
	struct batchio_op op = {b, 4, 100, -1};
	int fd = scratch_file();
	HANDLE(bio);

	CHECK_EQ(pwrite(fd, "wxyz", 4, 100), 4);
	noted_io(&n, BATCHIO_WRITE, fd, a, 4, 0);
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	CHECK_EQ(batchio_pread_batch(bio, fd, &op, 1), 0);
	CHECK_EQ(batchio_fsync(bio, fd), 0);
	CHECK_EQ(n.calls, 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(n.calls, 1);
	CHECK_EQ(n.result, 4);
	CHECK(!memcmp(b, "wxyz", 4));
	batchio_close(bio);
	close(fd);
}

TEST(stream_writes_are_one_writev_each)
{
	struct noted a, b;
	char first[6] = "first", second[7] = "second", got[20];
	int pipes[2], bad;
	HANDLE(bio);

	CHECK_EQ(pipe(pipes), 0);
	noted_io(&a, BATCHIO_WRITE, pipes[1], first, 5, 0);
	a.req.flags = BATCHIO_STREAM;
	CHECK_EQ(batchio_submit(bio, &a.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	noted_io(&b, BATCHIO_WRITE, pipes[1], second, 6, 0);
	b.req.flags = BATCHIO_STREAM | BATCHIO_MAYINLINE;
	CHECK_EQ(batchio_submit(bio, &b.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(a.result, 5);
	CHECK_EQ(b.result, 6);
	CHECK_EQ(read(pipes[0], got, sizeof(got)), 11);
	CHECK(!memcmp(got, "firstsecond", 11));
	bad = open("/dev/null", O_RDONLY);
	noted_io(&a, BATCHIO_WRITE, bad, first, 5, 0);
	a.req.flags = BATCHIO_STREAM;
	CHECK_EQ(batchio_submit(bio, &a.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(a.result, -EBADF);
	CHECK_EQ(counters_of(bio).writes, 0);
	batchio_close(bio);
	close(bad);
	close(pipes[0]);
	close(pipes[1]);
}

TEST(counters_say_which_way_requests_went)
{
	char buf[64];
	struct batchio_op op = {buf, 64, 0, -1};
	int fd = scratch_file();
	struct batchio_counters c;
	HANDLE(bio);

	if (!strncmp(test_variant, "shuffled", 8)) {
		batchio_close(bio);
		close(fd);
		SKIP("the inner handle does the counting");
	}
	CHECK_EQ(batchio_pwrite_batch(bio, fd, &op, 1), 0);
	CHECK_EQ(batchio_fsync(bio, fd), 0);
	c = counters_of(bio);
	CHECK_EQ(c.ring_ops, is_ring() ? 2 : 0);
	CHECK_EQ(c.inline_ops, is_ring() ? 0 : 2);
	CHECK_EQ(c.enters, is_ring() ? 2 : 0);
	CHECK_EQ(c.syscalls, is_ring() ? 0 : 2);
	batchio_close(bio);
	close(fd);
}

TEST(names_and_texts)
{
	char text[100], one[1] = "x";
	HANDLE(bio);

	if (strncmp(test_variant, "shuffled", 8))
		CHECK(!strcmp(batchio_backend_name(bio), is_ring() ? "uring" : "standard"));
	CHECK(strstr(batchio_strerror(-ENOSPC, text, sizeof(text)), "space"));
	CHECK(strstr(batchio_strerror(BATCHIO_EOF, text, sizeof(text)), "end of file"));
	CHECK(strstr(batchio_strerror(BATCHIO_EURINGUNAVAILABLE, text, sizeof(text)), "io_uring"));
	CHECK(strstr(batchio_strerror(-4000, text, sizeof(text)), "unknown"));
	CHECK(batchio_strerror(-EIO, one, 1)[0] == '\0');
	batchio_close(bio);
}

TEST_MATRIX(HANDLE_VARIANTS)
