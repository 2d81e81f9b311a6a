/* SPDX-License-Identifier: MIT */
/*
 * Poll requests of libbatchio, on every backend: one shot, kept registrations, reuse of descriptor
 * numbers, time limits, signals. Run by `make test`.
 */
#define _GNU_SOURCE 1
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <time.h>

#include "test.h"
#include "../support/batchio_handles.h"

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/*
 * batchio_reap() may come back early: a ring closed just before leaves task work behind, which
 * interrupts epoll_wait like a signal. So waits of a test go on until `min` ended or the time is
 * over.
 */
static int reap_for(struct batchio *bio, int min, int ms)
{
	int64_t end = now_ms() + ms;
	int got = 0;

	do {
		int n = batchio_reap(bio, (unsigned)(min - got), (int)(end - now_ms()));

		if (n < 0)
			return n;
		got += n;
	} while (got < min && now_ms() < end);
	return got;
}

static void kick(int fd)
{
	uint64_t one = 1;

	CHECK_EQ(write(fd, &one, 8), 8);
}

static void drain(int fd)
{
	uint64_t got;

	CHECK_EQ(read(fd, &got, 8), 8);
}

TEST(poll_is_one_shot_and_can_be_repeated)
{
	int fd = eventfd(0, 0);
	struct noted n;
	HANDLE(bio);

	for (int i = 0; i < 20; i++) {
		noted_poll(&n, fd, POLLIN);
		if (i % 3 == 0)
			n.req.flags = BATCHIO_EXCLUSIVE;
		CHECK_EQ(batchio_submit(bio, &n.req), 0);
		CHECK_EQ(batchio_reap(bio, 0, 0), 0);
		kick(fd);
		CHECK_EQ(reap_for(bio, 1, 5000), 1);
		CHECK_EQ(n.calls, 1);
		CHECK_EQ(n.result, POLLIN);
		/* Ready still, but nobody asks. */
		CHECK_EQ(reap_for(bio, 1, 10), 0);
		drain(fd);
	}
	batchio_close(bio);
	close(fd);
}

TEST(an_event_nobody_awaits_does_not_disturb_others)
{
	int loud = eventfd(0, 0), quiet = eventfd(0, 0);
	struct noted a, b;
	int64_t begin;
	HANDLE(bio);

	noted_poll(&a, loud, POLLIN);
	CHECK_EQ(batchio_submit(bio, &a.req), 0);
	kick(loud);
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	/* loud stays readable; a wait for quiet must last its time. */
	noted_poll(&b, quiet, POLLIN);
	CHECK_EQ(batchio_submit(bio, &b.req), 0);
	begin = now_ms();
	CHECK_EQ(reap_for(bio, 1, 60), 0);
	CHECK(now_ms() - begin >= 55);
	kick(quiet);
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	CHECK_EQ(b.result, POLLIN);
	/* And loud can be asked for again. */
	noted_poll(&a, loud, POLLIN);
	CHECK_EQ(batchio_submit(bio, &a.req), 0);
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	CHECK_EQ(a.result, POLLIN);
	batchio_close(bio);
	close(loud);
	close(quiet);
}

static void *kick_later(void *arg)
{
	usleep(100 * 1000);
	kick(*(int *)arg);
	return NULL;
}

/* A number that was closed while it was known comes back as another file. */
TEST(a_reused_descriptor_number_is_the_new_file)
{
	int fd = eventfd(0, 0), other;
	struct noted n;
	pthread_t thread;
	HANDLE(bio);

	noted_poll(&n, fd, POLLIN);
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	kick(fd);
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	for (int round = 0; round < 2; round++) {
		int keep = round ? dup(fd) : -1; /* second time: the old file lives on, ready */

		if (round)
			kick(keep);
		close(fd);
		other = eventfd(0, 0);
		REQUIRE(other == fd, "the number did not come back");
		noted_poll(&n, fd, POLLIN);
		CHECK_EQ(batchio_submit(bio, &n.req), 0);
		if (!round) {
			CHECK_EQ(pthread_create(&thread, NULL, kick_later, &fd), 0);
			CHECK_EQ(reap_for(bio, 1, 5000), 1); /* had it been lost: 0 */
			pthread_join(thread, NULL);
		} else {
			kick(fd);
			CHECK_EQ(reap_for(bio, 1, 5000), 1);
			close(keep);
		}
		CHECK_EQ(n.calls, 1);
	}
	batchio_close(bio);
	close(fd);
}

TEST(several_polls_of_one_descriptor)
{
	int p[2], fill = 0;
	char block[4096] = {0};
	struct noted in, out, both;
	HANDLE(bio);

	CHECK_EQ(pipe2(p, O_NONBLOCK), 0);
	while (write(p[1], block, sizeof(block)) > 0)
		fill++;
	noted_poll(&in, p[1], POLLPRI); /* never */
	noted_poll(&out, p[1], POLLOUT);
	noted_poll(&both, p[1], POLLOUT | POLLIN);
	CHECK_EQ(batchio_submit(bio, &in.req), 0);
	CHECK_EQ(batchio_submit(bio, &out.req), 0);
	CHECK_EQ(batchio_submit(bio, &both.req), 0);
	CHECK_EQ(reap_for(bio, 1, 20), 0);
	while (fill--)
		CHECK_EQ(read(p[0], block, sizeof(block)), sizeof(block));
	CHECK_EQ(reap_for(bio, 2, 5000), 2);
	CHECK_EQ(out.result, POLLOUT);
	CHECK_EQ(both.result, POLLOUT);
	CHECK_EQ(in.calls, 0);
	CHECK_EQ(reap_for(bio, 1, 30), 0);
	close(p[0]); /* now it is an error on the other side, which everybody is told */
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	CHECK(in.result & POLLERR);
	batchio_close(bio);
	close(p[1]);
}

TEST(bad_descriptors_and_regular_files)
{
	int fd = scratch_file();
	struct noted n;
	HANDLE(bio);

	noted_poll(&n, -1, POLLIN);
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	CHECK_EQ(n.result, -EBADF);
	noted_poll(&n, fd, POLLIN | POLLOUT);
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	CHECK_EQ(reap_for(bio, 1, 5000), 1);
	CHECK_EQ(n.result, POLLIN | POLLOUT);
	batchio_close(bio);
	close(fd);
}

TEST(io_and_polls_end_together)
{
	int fd = scratch_file(), ev = eventfd(0, 0);
	char buf[4] = "abcd";
	struct noted poll, io;
	HANDLE(bio);

	noted_poll(&poll, ev, POLLIN);
	CHECK_EQ(batchio_submit(bio, &poll.req), 0);
	for (int i = 0; i < 50; i++) {
		noted_io(&io, BATCHIO_WRITE, fd, buf, 4, i * 4);
		io.req.flags = i % 2 ? BATCHIO_MAYINLINE : 0;
		CHECK_EQ(batchio_submit(bio, &io.req), 0);
		CHECK_EQ(reap_for(bio, 1, 5000), 1);
		CHECK_EQ(io.calls, 1);
	}
	kick(ev);
	/* The loop never starves its polls, however much else ends. */
	for (int i = 0; i < 100 && !poll.calls; i++) {
		noted_io(&io, BATCHIO_WRITE, fd, buf, 4, i * 4);
		CHECK_EQ(batchio_submit(bio, &io.req), 0);
		CHECK(reap_for(bio, 1, 5000) > 0);
	}
	CHECK_EQ(poll.result, POLLIN);
	CHECK_EQ(reap_all(bio), 0);
	batchio_close(bio);
	close(fd);
	close(ev);
}

/* More polls than a tiny ring holds, and I/O besides. */
TEST(many_polls_leave_room_for_io)
{
	enum { N = 600 };
	static struct noted n[N];
	static int fds[N];
	int fd = scratch_file();
	struct noted io;
	HANDLE(bio);

	for (int i = 0; i < N; i++) {
		fds[i] = eventfd(0, 0);
		REQUIRE(fds[i] >= 0, "too few descriptors");
		noted_poll(&n[i], fds[i], POLLIN);
		CHECK_EQ(batchio_submit(bio, &n[i].req), 0);
	}
	noted_io(&io, BATCHIO_WRITE, fd, (char *)"abcd", 4, 0);
	CHECK_EQ(batchio_submit(bio, &io.req), 0);
	while (!io.calls)
		REQUIRE(reap_for(bio, 1, 5000) > 0, "the write does not end");
	for (int i = 0; i < N; i += 2) /* 300 at once: more than a small completion queue */
		kick(fds[i]);
	for (int ended = 0; ended < N / 2;) {
		int got = reap_for(bio, 1, 5000);

		REQUIRE(got > 0, "completions got lost");
		ended += got;
	}
	for (int i = 0; i < N; i++)
		CHECK_EQ(n[i].calls, i % 2 ? 0 : 1);
	batchio_close(bio);
	for (int i = 1; i < N; i += 2)
		CHECK(n[i].calls == 1 && n[i].result == -ECANCELED);
	for (int i = 0; i < N; i++)
		close(fds[i]);
	close(fd);
}

static void on_alarm(int signal)
{
	(void)signal;
}

TEST(reap_returns_on_a_signal)
{
	struct itimerval soon = {.it_value = {.tv_usec = 50000}, .it_interval = {.tv_usec = 50000}};
	struct itimerval never = {0};
	struct sigaction act = {.sa_handler = on_alarm}, old;
	int fd = eventfd(0, 0);
	struct noted n;
	HANDLE(bio);

	noted_poll(&n, fd, POLLIN);
	CHECK_EQ(batchio_submit(bio, &n.req), 0);
	sigaction(SIGALRM, &act, &old);
	setitimer(ITIMER_REAL, &soon, NULL);
	CHECK_EQ(batchio_reap(bio, 1, -1), 0);
	CHECK_EQ(batchio_reap(bio, 1, 10000), 0);
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &old, NULL);
	batchio_close(bio);
	CHECK_EQ(n.result, -ECANCELED);
	close(fd);
}

/* Ends of two handles' polls of one descriptor after one event. */
static int woken(struct batchio *one, struct batchio *two, int fd, unsigned flags)
{
	struct noted a, b;
	int n;

	noted_poll(&a, fd, POLLIN);
	noted_poll(&b, fd, POLLIN);
	a.req.flags = b.req.flags = flags;
	CHECK_EQ(batchio_submit(one, &a.req), 0);
	CHECK_EQ(batchio_submit(two, &b.req), 0);
	CHECK_EQ(batchio_reap(one, 0, 0), 0);
	CHECK_EQ(batchio_reap(two, 0, 0), 0);
	kick(fd);
	n = reap_for(one, 1, 50) + reap_for(two, 1, 50);
	batchio_close(one);
	batchio_close(two);
	drain(fd);
	CHECK(a.calls == 1 && b.calls == 1);
	return n;
}

TEST(one_event_wakes_all_plain_polls)
{
	int fd = eventfd(0, 0);
	HANDLE(one);
	HANDLE(two);

	CHECK_EQ(woken(one, two, fd, 0), 2);
	close(fd);
}

/* A ring's poll is woken or not; epoll tells whoever is not waiting yet, so "at least one". */
TEST(one_event_wakes_one_exclusive_poll)
{
	int fd = eventfd(0, 0), n;
	HANDLE(one);
	HANDLE(two);

	n = woken(one, two, fd, BATCHIO_EXCLUSIVE);
	CHECK(strstr(test_variant, "uring") ? n == 1 : n >= 1);
	close(fd);
}

TEST_MATRIX(HANDLE_VARIANTS)
