/* SPDX-License-Identifier: MIT */
/*
 * What only the io_uring backend does: when it is not to be had, submissions counted, inline
 * requests, large batches over small rings. Run by `make test`.
 */
#define _GNU_SOURCE 1
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "batchio/backend.h"
#if BATCHIO_URING
#include "batchio/uring.h"
#endif
#include "test.h"
#include "../support/batchio_handles.h"

/* ---- nothing but what the backend uses ---- */

#if BATCHIO_URING

/* What the ring says to an operation, with nothing but zeros for its arguments. */
static int try_operation(struct io_uring *ring, int opcode, unsigned flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int result;

	if (!sqe)
		return -EIO;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)opcode;
	sqe->flags = (uint8_t)flags;
	sqe->fd = -1;
	sqe->user_data = 1;
	if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_wait_cqe(ring, &cqe) < 0)
		return -EIO;
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

static bool is_ours(int opcode)
{
	return opcode == IORING_OP_READV || opcode == IORING_OP_WRITEV ||
	       opcode == IORING_OP_FSYNC || opcode == IORING_OP_POLL_ADD ||
	       opcode == IORING_OP_POLL_REMOVE;
}

TEST(foreign_operations_are_refused_by_the_ring)
{
	struct batchio_error e;
	struct batchio *bio = batchio_new_uring(8, 0, &e);
	struct io_uring plain, *ring;
	int tried = 0;

	if (!bio)
		SKIP("no io_uring here");
	if (!batchio_is_restricted(bio)) {
		batchio_close(bio);
		SKIP("a kernel before 5.10 cannot restrict a ring");
	}
	ring = &((struct uring *)bio->backend)->ring;
	CHECK(io_uring_queue_init(8, &plain, 0) == 0);
	for (int opcode = 0; opcode < IORING_OP_LAST; opcode++) {
		/* A ring without restrictions says that of no operation, so the answer is theirs;
		 * one that would wait is not tried there. */
		if (opcode != IORING_OP_TIMEOUT)
			CHECK(try_operation(&plain, opcode, 0) != -EACCES);
		if (is_ours(opcode))
			CHECK(try_operation(ring, opcode, 0) != -EACCES);
		else
			CHECK_EQ(try_operation(ring, opcode, 0), -EACCES);
		tried++;
	}
	CHECK(tried > 30);
	/* Nor flags that the backend does not use, nor resources for the ring. */
	CHECK_EQ(try_operation(ring, IORING_OP_FSYNC, IOSQE_FIXED_FILE), -EACCES);
	CHECK_EQ(io_uring_register_files_sparse(ring, 4), -EACCES);
	CHECK_EQ(io_uring_register_personality(ring), -EACCES);
	io_uring_queue_exit(&plain);
	batchio_close(bio);
}

#endif

/* ---- when it can't be had ---- */

TEST(arguments_out_of_range)
{
	struct batchio_error e;

	if (!*batchio_uring_impl())
		SKIP("built without io_uring");
	CHECK(!batchio_new_uring(0, 0, &e));
	CHECK_EQ(e.code, -EINVAL);
	CHECK(!batchio_new_uring(BATCHIO_ENTRIES_MAX + 1, 0, &e));
	CHECK_EQ(e.code, -EINVAL);
	CHECK(strstr(e.text, "32769") && strstr(e.text, "32768"));
	CHECK(!batchio_new_uring(8, 1u << 9, &e));
	CHECK_EQ(e.code, -EINVAL);
	CHECK(!batchio_new_uring(0, 0, NULL));
}

TEST(built_without_says_so)
{
	struct batchio_error e;

	if (*batchio_uring_impl()) {
		CHECK(!strcmp(batchio_uring_impl(), "liburing"));
		return;
	}
	CHECK(!batchio_new_uring(256, 0, &e));
	CHECK_EQ(e.code, BATCHIO_EURINGUNAVAILABLE);
	CHECK(strstr(e.text, "URING=0"));
}

/* Makes io_uring_setup end with an error, in this process for good. */
static int refuse_setup(unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = 4, .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* Has this process alone see another value of kernel.io_uring_disabled. */
static int fake_sysctl(const char *value)
{
	static const char real[] = "/proc/sys/kernel/io_uring_disabled";
	char path[] = "/tmp/batchio-sysctl-XXXXXX";
	int fd = mkstemp(path), ret;

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		return -1;
	ret = unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	      mount(path, real, NULL, MS_BIND, NULL);
	unlink(path);
	close(fd);
	return ret;
}

/*
 * In a child: what the constructor says when the kernel says `error` (and the sysctl `disabled`,
 * where not NULL). 0 when code and word fit, 77 when it can't be tried.
 */
static int refused_as(unsigned error, const char *disabled, const char *word)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct batchio_error e = {0};

		if ((disabled && fake_sysctl(disabled)) || refuse_setup(error))
			_exit(77);
		if (batchio_new_uring(256, 0, &e) || e.code != BATCHIO_EURINGUNAVAILABLE)
			_exit(1);
		_exit(strstr(e.text, word) ? 0 : 2);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST(refusals_are_explained)
{
	if (!*batchio_uring_impl())
		SKIP("built without io_uring");
	if (refused_as(EPERM, NULL, "") == 77)
		SKIP("no seccomp filters here");
	HANDLE_OF(bio, "uring"); /* with the sysctl set, the text would be the sysctl's */
	batchio_close(bio);
	CHECK_EQ(refused_as(EPERM, NULL, "seccomp"), 0);
	CHECK_EQ(refused_as(EACCES, NULL, "seccomp"), 0);
	CHECK_EQ(refused_as(ENOSYS, NULL, "kernel"), 0);
	CHECK_EQ(refused_as(EINVAL, NULL, "5.6"), 0);
	CHECK_EQ(refused_as(ENOMEM, NULL, "ulimit -l"), 0);
}

TEST(the_sysctl_is_named_with_its_value)
{
	if (!*batchio_uring_impl())
		SKIP("built without io_uring");
	if (refused_as(EPERM, "0\n", "") == 77)
		SKIP("needs root and seccomp filters");
	CHECK_EQ(refused_as(EPERM, "2\n", "kernel.io_uring_disabled=2"), 0);
	CHECK_EQ(refused_as(EPERM, "2\n", "`sysctl kernel.io_uring_disabled=0`"), 0);
	CHECK_EQ(refused_as(EPERM, "1\n", "kernel.io_uring_disabled=1"), 0);
	CHECK_EQ(refused_as(EPERM, "1\n", "`sysctl kernel.io_uring_disabled=0`"), 0);
	CHECK_EQ(refused_as(EPERM, "0\n", "seccomp"), 0);
}

/* ---- submissions ---- */

static void fill_ops(struct batchio_op *ops, int n, char *buf, size_t len)
{
	for (int i = 0; i < n; i++)
		ops[i] = (struct batchio_op){buf + (size_t)i * len, len, (off_t)i * (off_t)len, -1};
}

TEST(a_batch_that_fits_is_one_enter)
{
	static char buf[256 * 64];
	struct batchio_op ops[256];
	int fd = scratch_file();
	HANDLE_OF(bio, "uring");

	fill_ops(ops, 256, buf, 64);
	CHECK_EQ(batchio_pwrite_batch(bio, fd, ops, 256), 0);
	CHECK_EQ(counters_of(bio).enters, 1);
	CHECK_EQ(counters_of(bio).ring_ops, 256);
	CHECK_EQ(batchio_pread_batch(bio, fd, ops, 64), 0);
	CHECK_EQ(counters_of(bio).enters, 2);
	CHECK_EQ(batchio_fsync(bio, fd), 0);
	CHECK_EQ(counters_of(bio).enters, 3);
	batchio_close(bio);
	close(fd);
}

TEST(a_turn_of_submit_and_reap_is_one_enter)
{
	static char buf[32 * 64];
	struct noted n[32];
	int fd = scratch_file();
	HANDLE_OF(bio, "uring-single");

	for (int i = 0; i < 32; i++) {
		noted_io(&n[i], BATCHIO_WRITE, fd, buf + i * 64, 64, i * 64);
		CHECK_EQ(batchio_submit(bio, &n[i].req), 0);
	}
	CHECK_EQ(counters_of(bio).enters, 0);
	CHECK_EQ(batchio_reap(bio, 32, 5000), 32);
	CHECK_EQ(counters_of(bio).enters, 1);
	batchio_close(bio);
	close(fd);
}

/* Rings of 1 to 8 places, pairs and lone requests mixed; nothing may be lost or parted. */
TEST(small_rings_take_everything)
{
	enum { N = 500 };
	static struct noted w[N], s[N];
	static char buf[N][32], in[N * 32];
	int fd = scratch_file();

	for (unsigned entries = 1; entries <= 8; entries++) {
		struct batchio *bio = batchio_new_uring(entries, 0, &handle_error);

		if (!bio)
			SKIP(handle_error.text);
		for (int i = 0; i < N; i++) {
			fill_pattern(buf[i], 32, (unsigned)i + entries);
			noted_io(&w[i], BATCHIO_WRITE, fd, buf[i], 32, i * 32);
			if (i % 3 == 0)
				w[i].req.flags = BATCHIO_LINK;
			noted_sync(&s[i], BATCHIO_FDATASYNC, fd);
			CHECK_EQ(batchio_submit(bio, &w[i].req), 0);
			if (i % 3 == 0)
				CHECK_EQ(batchio_submit(bio, &s[i].req), 0);
		}
		CHECK_EQ(reap_all(bio), 0);
		for (int i = 0; i < N; i++) {
			CHECK(w[i].calls == 1 && w[i].result == 32);
			CHECK(i % 3 || (s[i].calls == 1 && s[i].result == 0));
		}
		CHECK_EQ(counters_of(bio).continued, 0);
		batchio_close(bio);
		CHECK_EQ(pread(fd, in, sizeof(in), 0), sizeof(in));
		CHECK(!memcmp(in, buf, sizeof(in)));
	}
	close(fd);
}

/* ---- inline ---- */

static void run_one(struct batchio *bio, struct noted *n, unsigned flags)
{
	n->req.flags = flags;
	CHECK_EQ(batchio_submit(bio, &n->req), 0);
	CHECK_EQ(n->calls, 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(n->calls, 1);
}

TEST(cached_reads_and_buffered_writes_go_inline)
{
	static char out[8192], in[8192];
	int fd = scratch_file();
	struct batchio_counters c;
	struct noted n;
	HANDLE_OF(bio, "uring");

	fill_pattern(out, sizeof(out), 5);
	for (int i = 0; i < 10; i++) {
		noted_io(&n, BATCHIO_WRITE, fd, out, sizeof(out), 0);
		run_one(bio, &n, BATCHIO_MAYINLINE);
		CHECK_EQ(n.result, sizeof(out));
	}
	noted_io(&n, BATCHIO_READ, fd, in, sizeof(in), 0);
	run_one(bio, &n, BATCHIO_MAYINLINE);
	CHECK_EQ(n.result, sizeof(in));
	CHECK(!memcmp(out, in, sizeof(in)));
	noted_io(&n, BATCHIO_READ, fd, in, sizeof(in), 5000);
	run_one(bio, &n, BATCHIO_MAYINLINE);
	CHECK_EQ(n.result, 3192);
	c = counters_of(bio);
	CHECK_EQ(c.enters, 0);
	CHECK_EQ(c.ring_ops, 0);
	CHECK_EQ(c.inline_ops, 12);
	/* 10 writes, one refused RWF_NOWAIT at most; reads: one, and two for the end of file. */
	CHECK(c.syscalls >= 13 && c.syscalls <= 14);
	batchio_close(bio);
	close(fd);
}

TEST(what_waits_for_the_device_goes_through_the_ring)
{
	char buf[512] = {1};
	int fd = scratch_file();
	struct noted n;
	HANDLE_OF(bio, "uring");

	noted_io(&n, BATCHIO_WRITE, fd, buf, 512, 0);
	run_one(bio, &n, BATCHIO_MAYINLINE | BATCHIO_DSYNC);
	CHECK_EQ(n.result, 512);
	noted_io(&n, BATCHIO_WRITE, fd, buf, 512, 0);
	run_one(bio, &n, BATCHIO_MAYINLINE | BATCHIO_DIRECT);
	noted_io(&n, BATCHIO_READ, fd, buf, 512, 0);
	run_one(bio, &n, BATCHIO_MAYINLINE | BATCHIO_DIRECT);
	noted_sync(&n, BATCHIO_FSYNC, fd);
	run_one(bio, &n, BATCHIO_MAYINLINE);
	/* Not in the cache: handed to the ring, not waited for in submit. */
	CHECK_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	CHECK_EQ(counters_of(bio).ring_ops, 4);
	noted_io(&n, BATCHIO_READ, fd, buf, 512, 0);
	run_one(bio, &n, BATCHIO_MAYINLINE);
	CHECK_EQ(n.result, 512);
	CHECK_EQ(counters_of(bio).ring_ops + counters_of(bio).inline_ops, 5);
	batchio_close(bio);
	close(fd);
}

/* What has ended inline keeps reap from waiting for anything else. */
TEST(reap_does_not_wait_when_something_ended_inline)
{
	char buf[4] = "abcd";
	int fd = scratch_file(), pipes[2];
	struct noted poll, n;
	HANDLE_OF(bio, "uring-single");

	CHECK_EQ(pipe(pipes), 0);
	noted_poll(&poll, pipes[0], 1);
	CHECK_EQ(batchio_submit(bio, &poll.req), 0);
	noted_io(&n, BATCHIO_WRITE, fd, buf, 4, 0);
	n.req.flags = BATCHIO_MAYINLINE;
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	CHECK_EQ(batchio_reap(bio, 1, -1), 1);
	CHECK_EQ(counters_of(bio).enters, 1); /* the poll was started */
	CHECK_EQ(batchio_reap(bio, 0, 0), 0);
	CHECK_EQ(counters_of(bio).enters, 1); /* nothing to submit, nothing to see */
	batchio_close(bio);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
}

static void note_result(struct batchio_request *req, ssize_t result)
{
	*(ssize_t *)req->user = result;
}

/* Commands are for handles that were made for them; what the device says comes back as it is. */
TEST(commands_are_passed_on)
{
	char buf[4] = "abcd";
	struct batchio_op op = {buf, 4, 0, -1};
	ssize_t result = 1;
	int fd = scratch_file();
	struct batchio_command command = {
		.request = {.fd = fd, .done = note_result, .user = &result},
		.op = 1,
		.length = 8,
	};
	struct batchio_error error;
	HANDLE_OF(plain, "uring");
	struct batchio *bio =
		batchio_new_uring(8, BATCHIO_SINGLE_ISSUER | BATCHIO_COMMANDS, &error);

	CHECK_EQ(batchio_submit_command(plain, &command), -ENOTSUP);
	batchio_close(plain);
	CHECK(bio != NULL || error.code == BATCHIO_EURINGUNAVAILABLE);
	if (!bio)
		return;
	/* A file has none. */
	CHECK_EQ(batchio_submit_command(bio, &command), 0);
	CHECK_EQ(batchio_reap(bio, 1, -1), 1);
	CHECK_EQ(result, -EOPNOTSUPP);
	/* Its entries are of double size; all else is as it was. */
	for (int i = 0; i < 20; i++)
		CHECK_EQ(batchio_pwrite_batch(bio, fd, &op, 1), 0);
	command.length = BATCHIO_ARGUMENT_MAX + 1;
	CHECK_EQ(batchio_submit_command(bio, &command), -EINVAL);
	batchio_close(bio);
	close(fd);
}

/* A ring whose descriptor is gone: errors, no hang, no touch of freed requests. */
TEST(a_lost_ring_fails_and_does_not_hang)
{
	char buf[4] = "abcd";
	struct batchio_op op = {buf, 4, 0, -1};
	int fd = scratch_file();
	HANDLE_OF(bio, "uring");

	for (int i = 3; i < 64; i++) {
		char path[64], link[64] = {0};

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		if (readlink(path, link, 63) > 0 && strstr(link, "io_uring"))
			close(i);
	}
	CHECK_EQ(batchio_pwrite_batch(bio, fd, &op, 1), -EBADF);
	CHECK_EQ(batchio_fsync(bio, fd), -EBADF);
	CHECK_EQ(batchio_reap(bio, 1, -1), -EBADF);
	batchio_close(bio);
	close(fd);
}

TEST_MAIN()
