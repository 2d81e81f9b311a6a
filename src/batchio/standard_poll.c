/* SPDX-License-Identifier: MIT */
/*
 * Polls of the standard backend, on one epoll descriptor. For standard.c only.
 *
 * A registration outlives the one-shot poll it was made for, so that a descriptor polled again and
 * again costs no epoll_ctl. Two things follow. An event that nobody awaits takes the registration
 * away, or a level-triggered one would come for ever. And the kernel forgets a registration when
 * its file is closed, without telling: a poll of a new file under the same number would wait in
 * vain. So before a long wait all registrations awaited are made once more (EEXIST being the
 * good answer). A busy handle, whose waits end within CHECK_AFTER_MS, does it once in
 * CHECK_AFTER_WAITS.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "batchio/standard.h"

#define CHECK_AFTER_MS    5
#define CHECK_AFTER_WAITS 256
#define EVENTS_A_WAIT     32

/* poll(2) and epoll(7) share these values on Linux, so masks are passed through. */
_Static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLERR == EPOLLERR &&
		       POLLHUP == EPOLLHUP && POLLPRI == EPOLLPRI && POLLRDHUP == EPOLLRDHUP,
	"poll and epoll masks differ");

#define ALWAYS       (POLLERR | POLLHUP)
#define EXCLUSIVE_OK (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET)

/* One descriptor with a registration or polls. */
struct watch {
	struct watch *next; /* of the bucket */
	struct batchio_request *polls; /* awaited, chained through priv.next */
	int fd;
	uint32_t mask; /* registered; 0: not registered */
};

static struct watch **find(struct standard *std, int fd)
{
	struct watch **at = &std->buckets[(unsigned)fd % POLL_BUCKETS];

	while (*at && (*at)->fd != fd)
		at = &(*at)->next;
	return at;
}

static void forget(struct watch **at)
{
	struct watch *w = *at;

	*at = w->next;
	free(w);
}

static int ctl(struct batchio *bio, int op, const struct watch *w, uint32_t mask)
{
	struct standard *std = bio->backend;
	struct epoll_event ev = {.events = mask, .data.fd = w->fd};

	batchio_count(&bio->tally.syscalls, 1);
	return epoll_ctl(std->epfd, op, w->fd, &ev) ? -errno : 0;
}

/* What the awaited polls of w want together. */
static uint32_t wanted(const struct watch *w)
{
	const struct batchio_request *req;
	uint32_t mask = 0, exclusive = EPOLLEXCLUSIVE;

	for (req = w->polls; req; req = req->priv.next) {
		mask |= (unsigned short)req->events;
		if (!(req->flags & BATCHIO_EXCLUSIVE))
			exclusive = 0;
	}
	/* The kernel allows few events with EPOLLEXCLUSIVE; without it more waiters wake. */
	return mask & ~EXCLUSIVE_OK ? mask : mask | exclusive;
}

/* Registers w for just what is awaited. Returns 0 or -errno. */
static int sign_up(struct batchio *bio, struct watch *w)
{
	uint32_t mask = wanted(w);
	int ret = w->mask ? ctl(bio, EPOLL_CTL_DEL, w, 0) : 0;

	/* DEL and ADD, because MOD is refused with EPOLLEXCLUSIVE. A file closed meanwhile: ENOENT.
	 */
	(void)ret;
	ret = ctl(bio, EPOLL_CTL_ADD, w, mask);
	if (ret == -EEXIST) { /* ours, under a number that was closed and came back */
		ctl(bio, EPOLL_CTL_DEL, w, 0);
		ret = ctl(bio, EPOLL_CTL_ADD, w, mask);
	}
	/* An empty mask registers for errors and hang-ups; the mark that it is there is EPOLLERR.
	 */
	w->mask = ret ? 0 : mask | EPOLLERR;
	return ret;
}

/* Ends those polls of w that events concern. Returns how many. */
static int deliver(struct batchio *bio, struct watch *w, uint32_t events)
{
	struct standard *std = bio->backend;
	struct batchio_request **at = &w->polls, *req;
	int n = 0;

	while ((req = *at)) {
		int ready = (int)events & ((unsigned short)req->events | ALWAYS | POLLNVAL);

		if (!ready) {
			at = &req->priv.next;
			continue;
		}
		*at = req->priv.next;
		std->npolls--;
		n++;
		batchio_request_result(bio, req, ready);
	}
	return n;
}

/* epoll has no say on w's descriptor: ends all its polls. */
static int deliver_error(struct batchio *bio, struct watch *w, int error)
{
	struct standard *std = bio->backend;
	struct batchio_request *req;
	int n = 0;

	/* A regular file or directory: always ready, as poll(2) has it. */
	if (error == -EPERM)
		n = deliver(bio, w, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
	while ((req = w->polls)) {
		w->polls = req->priv.next;
		std->npolls--;
		n++;
		batchio_request_result(bio, req, error);
	}
	return n;
}

static int open_epoll(struct batchio *bio)
{
	struct standard *std = bio->backend;

	if (std->epfd < 0) {
		batchio_count(&bio->tally.syscalls, 1);
		std->epfd = epoll_create1(EPOLL_CLOEXEC);
	}
	return std->epfd < 0 ? -errno : 0;
}

void batchio_poll_start(struct batchio *bio, struct batchio_request *req)
{
	struct standard *std = bio->backend;
	struct watch **at = find(std, req->fd), *w = *at;
	int ret = open_epoll(bio);

	if (!ret && !w) {
		w = *at = calloc(1, sizeof(*w));
		ret = w ? 0 : -ENOMEM;
	}
	if (ret) {
		batchio_request_result(bio, req, ret);
		return;
	}
	w->fd = req->fd;
	req->priv.next = w->polls;
	w->polls = req;
	std->npolls++;
	std->checked = false;
	/* A wider registration does: events nobody awaits narrow it when they come. */
	if (w->mask && !(wanted(w) & ~w->mask) && !((wanted(w) ^ w->mask) & EPOLLEXCLUSIVE))
		return;
	ret = sign_up(bio, w);
	if (ret) {
		deliver_error(bio, w, ret);
		forget(at);
	}
}

/* Starts over with an epoll descriptor that knows only what is awaited. Returns polls ended. */
static int rebuild(struct batchio *bio)
{
	struct standard *std = bio->backend;
	int n = 0, ret;

	close(std->epfd);
	std->epfd = -1;
	ret = open_epoll(bio);
	for (int i = 0; i < POLL_BUCKETS; i++) {
		struct watch **at = &std->buckets[i];

		while (*at) {
			struct watch *w = *at;
			int error = ret;

			w->mask = 0;
			if (!error && w->polls)
				error = sign_up(bio, w);
			if (error)
				n += deliver_error(bio, w, error);
			if (w->mask)
				at = &w->next;
			else
				forget(at);
		}
	}
	return n;
}

/* Registers anew what the kernel has forgotten because its file was closed. Returns polls ended. */
static int check_registrations(struct batchio *bio)
{
	struct standard *std = bio->backend;
	int n = 0;

	std->checked = true;
	std->waits = 0;
	for (int i = 0; i < POLL_BUCKETS; i++) {
		struct watch **at = &std->buckets[i];

		while (*at) {
			struct watch *w = *at;
			int ret = w->polls ? ctl(bio, EPOLL_CTL_ADD, w, w->mask) : -EEXIST;

			if (!ret || ret == -EEXIST) {
				at = &w->next;
				continue;
			}
			n += deliver_error(bio, w, ret);
			forget(at);
		}
	}
	return n;
}

static int take_event(struct batchio *bio, const struct epoll_event *ev, bool *stale)
{
	struct standard *std = bio->backend;
	struct watch **at = find(std, ev->data.fd), *w = *at;
	int n = w ? deliver(bio, w, ev->events) : 0;

	if (n)
		return n;
	if (w && w->polls) { /* not for what is awaited: narrow it */
		*stale = sign_up(bio, w) != 0;
		return 0;
	}
	/*
	 * A file that was closed under this number lives on under another and can't be taken off
	 * by number any more.
	 */
	if (!w || ctl(bio, EPOLL_CTL_DEL, w, 0))
		*stale = true;
	if (w)
		forget(at);
	return 0;
}

/* One epoll_wait. Returns polls ended, or -errno; *woken says whether anything came at all. */
static int wait_once(struct batchio *bio, int timeout_ms, bool *woken)
{
	struct standard *std = bio->backend;
	struct epoll_event ev[EVENTS_A_WAIT];
	bool stale = false;
	int n, ended = 0;

	batchio_count(&bio->tally.syscalls, 1);
	n = epoll_wait(std->epfd, ev, EVENTS_A_WAIT, timeout_ms);
	*woken = n != 0;
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		ended += take_event(bio, &ev[i], &stale);
	if (stale)
		ended += rebuild(bio);
	return ended;
}

int batchio_poll_wait(struct batchio *bio, int timeout_ms)
{
	struct standard *std = bio->backend;
	bool woken;
	int ret, left = timeout_ms;

	if (++std->waits >= CHECK_AFTER_WAITS) {
		ret = check_registrations(bio);
		if (ret)
			return ret;
	}
	if (!std->checked && (timeout_ms < 0 || timeout_ms > CHECK_AFTER_MS)) {
		ret = wait_once(bio, CHECK_AFTER_MS, &woken);
		if (ret || woken)
			return ret;
		ret = check_registrations(bio);
		if (ret)
			return ret;
		left = timeout_ms < 0 ? -1 : timeout_ms - CHECK_AFTER_MS;
	}
	return wait_once(bio, left, &woken);
}

void batchio_poll_cancel(struct batchio *bio)
{
	struct standard *std = bio->backend;

	for (int i = 0; i < POLL_BUCKETS; i++)
		for (struct watch *w = std->buckets[i]; w; w = w->next)
			deliver_error(bio, w, -ECANCELED);
}

void batchio_poll_free(struct batchio *bio)
{
	struct standard *std = bio->backend;

	for (int i = 0; i < POLL_BUCKETS; i++)
		while (std->buckets[i])
			forget(&std->buckets[i]);
	if (std->epfd >= 0)
		close(std->epfd);
}
