/* SPDX-License-Identifier: MIT */
/*
 * The watch's mark and thread, see watch.h.
 *
 * The thread has a descriptor table of its own, with a clone of /dev/fuse in it. To drop a name
 * waits, without an end by any signal, for who holds the directory's lock, and that one waits for
 * an answer of ours; when we are killed just then, the loops' descriptors of /dev/fuse must be
 * closed for his request to fail and let go of the lock. In a shared table the waiting thread would
 * keep them open, and both would wait for ever. Hence also no logging here: syslog(3)'s socket is
 * a number in the other table.
 *
 * With io_uring that is not enough: the thread keeps the address space too, which keeps the rings'
 * mappings, and a ring with deferred task work lets go of the device that it polls with its last
 * mapping only. There it takes `umount -f`, which ends the connection.
 */
#include "fs/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/terminal.h"
#include "fs/fs.h"
#include "fs/remote.h"
#include "fs/stale.h"
#include "fs/watch_event.h"
#include "fs/watch_mounts.h"

enum {
	/* Between two looks at the queue: what comes meanwhile is merged by the kernel, so that a
	   busy file system, or our own writing, wakes the thread so many times a second at most. */
	NAP_MS = 5,
	BUFFER = 64 << 10,
	ROUND = 16, /* buffers read before the kernel is told */
};

#define MASK                                                                                       \
	(FAN_MODIFY | FAN_CLOSE_WRITE | FAN_ATTRIB | FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM |    \
		FAN_MOVED_TO | FAN_ONDIR)

/* What kernels can report, the best first. Without the target in a move's event, the moved object
 * tells of it itself; a removed directory, as long as it is in use, does not. */
static const struct {
	unsigned flags;
	uint64_t mask;
} ways[] = {
	{FAN_REPORT_DFID_NAME_TARGET, MASK}, /* Linux 5.17 */
	{FAN_REPORT_DFID_NAME | FAN_REPORT_FID, MASK | FAN_MOVE_SELF}, /* Linux 5.9 */
};

struct watch {
	struct watch_events events;
	struct stale stale;
	struct watch_mounts mounts;
	int root_fd; /* the file system's */
	int fanotify_fd;
	int stop_fd; /* eventfd */
	int device; /* a clone of /dev/fuse */
	bool can_forget_all; /* the kernel: all names at once */
	atomic_bool active;
	atomic_bool stop;
	_Atomic uint64_t overflows;
	atomic_bool overflow_new, failed_new; /* not logged yet */
	bool overflow_logged;
	pthread_t thread;
	bool started;
	bool taken_over; /* what happened before is not known */
	char buffer[BUFFER] __attribute__((aligned(8)));
};

/* ---- setting the mark ---- */

/* A descriptor that reports what happens on the file system of root_fd, or -errno. */
static int mark(int root_fd, unsigned queue)
{
	int error = 0;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		_cleanup_fd int fd = fanotify_init(
			FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | ways[i].flags | queue,
			O_RDONLY | O_CLOEXEC);

		if (fd >= 0 && fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, ways[i].mask,
				       root_fd, NULL) == 0)
			return steal_fd(&fd);
		error = -errno;
	}
	return error;
}

/* Events name objects by handles: they must open here, and lead to the device that we know. */
static int probe_handles(int root_fd, dev_t dev)
{
	_cleanup_fd int fd = -1;
	struct file_id id;
	struct stat st;
	int mount;
	int result = file_id_of(root_fd, &id, &mount);

	if (result < 0)
		return result;
	fd = file_id_open(root_fd, &id);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_dev == dev ? 0 : -EXDEV;
}

static const char *reason(int error)
{
	switch (error) {
	case -EPERM:
	case -EACCES:
		return "it takes root (CAP_SYS_ADMIN)";
	case -ENOSYS:
	case -EINVAL:
		return "this kernel's fanotify cannot report names (Linux 5.9)";
	case -EOPNOTSUPP:
	case -ENODEV:
	case -EXDEV:
		return "fanotify cannot mark this file system";
	default:
		return strerror(-error);
	}
}

static const char *const of_others = "others may change it without this kernel's knowledge";

const char *watch_missing(int root_fd)
{
	_cleanup_fd int fd = -1;
	struct stat st;
	int error;

	if (remote_source(root_fd))
		return of_others;
	if (fstat(root_fd, &st) < 0)
		return strerror(errno);
	fd = mark(root_fd, 0);
	error = fd < 0 ? fd : probe_handles(root_fd, st.st_dev);
	return error < 0 ? reason(error) : NULL;
}

static void say_none(const struct fs *fs, const char *why)
{
	log_warning("no watch on the source, so changes made behind the mount are seen after %g s: "
		    "%s",
		fs->config.attr_timeout, why);
}

static int set_up(struct watch *watch, const struct fs *fs)
{
	struct watch_events *events = &watch->events;
	struct stat st;
	int result;

	if (fstat(fs->root_fd, &st) < 0)
		return -errno;
	*events = (struct watch_events){
		.mount_fd = fs->root_fd,
		.dev = st.st_dev,
		.self = getpid(),
		.inodes = fs->inodes,
		.stale = &watch->stale,
	};
	watch->fanotify_fd = mark(fs->root_fd, 0);
	if (watch->fanotify_fd < 0)
		return watch->fanotify_fd;
	result = probe_handles(fs->root_fd, st.st_dev);
	if (result < 0)
		return result;
	watch->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (watch->stop_fd < 0)
		return -errno;
	return watch_mounts_open(&watch->mounts, fs->root_fd, fs->inodes);
}

struct watch *watch_new(const struct fs *fs)
{
	struct watch *watch;
	int error;

	if (remote_source(fs->root_fd)) {
		say_none(fs, of_others);
		return NULL;
	}
	watch = calloc(1, sizeof(*watch));
	if (!watch)
		return NULL;
	watch->root_fd = fs->root_fd;
	watch->fanotify_fd = watch->stop_fd = watch->device = watch->mounts.fd = -1;
	error = set_up(watch, fs);
	if (error) {
		say_none(fs, reason(error));
		watch_free(watch);
		return NULL;
	}
	return watch;
}

/* ---- the thread ---- */

static void all_is_stale(struct watch *watch)
{
	/* What is looked at from here on is put into the table before it is searched, or looked at
	 * again. */
	atomic_fetch_add(&watch->events.generation, 1);
	stale_tell_everything(&watch->stale, watch->can_forget_all);
}

/* Without events nothing may be kept for long. The thread ends. */
static void give_up(struct watch *watch)
{
	atomic_store(&watch->active, false);
	all_is_stale(watch);
	atomic_store(&watch->failed_new, true);
	atomic_store(&watch->stop, true);
}

static void read_events(struct watch *watch)
{
	bool clear = true;

	for (int i = 0; i < ROUND && !atomic_load(&watch->stop); i++) {
		ssize_t got = read(watch->fanotify_fd, watch->buffer, BUFFER);

		if (got < 0 && errno != EAGAIN && errno != EINTR) {
			give_up(watch);
			return;
		}
		if (got <= 0)
			break;
		clear &= watch_events_take(&watch->events, watch->buffer, (size_t)got);
	}
	stale_tell(&watch->stale);
	if (clear)
		return;
	all_is_stale(watch);
	atomic_fetch_add(&watch->overflows, 1);
	atomic_store(&watch->overflow_new, true);
}

/*
 * All descriptors but our own. The standard three, too, which the daemon gives up when the mount
 * answers: whoever reads its messages waits for their end.
 */
static void leave_descriptors(struct watch *watch)
{
	int keep[] = {watch->fanotify_fd, watch->stop_fd, watch->device, watch->mounts.fd,
		watch->root_fd};
	unsigned from = 3;

	if (unshare(CLONE_FILES) < 0)
		return;
	if (!terminal_leave())
		close_range(0, 2, 0);
	/* In ascending order, the gaps between them. */
	for (int last = 2; last >= 0;) {
		int next = -1;

		for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++)
			if (keep[i] > last && (next < 0 || keep[i] < next))
				next = keep[i];
		if (next < 0 || from < (unsigned)next)
			close_range(from, next < 0 ? ~0u : (unsigned)next - 1, 0);
		from = (unsigned)next + 1;
		last = next;
	}
}

static void *watch_main(void *user)
{
	struct watch *watch = user;
	bool again = false;

	pthread_setname_np(pthread_self(), "watch");
	leave_descriptors(watch);
	if (watch->taken_over) {
		watch_mounts_look(&watch->mounts, &watch->stale);
		all_is_stale(watch);
	}
	while (!atomic_load(&watch->stop)) {
		struct pollfd fds[3] = {
			{.fd = watch->stop_fd, .events = POLLIN},
			{.fd = watch->fanotify_fd, .events = POLLIN},
			{.fd = watch->mounts.fd, .events = POLLPRI},
		};

		poll(fds, 3, again ? STALE_AGAIN_MS : -1);
		if (fds[2].revents)
			watch_mounts_look(&watch->mounts, &watch->stale);
		if (fds[1].revents || fds[2].revents)
			read_events(watch);
		again = stale_tell_again(&watch->stale);
		poll(fds, 1, NAP_MS);
	}
	return NULL;
}

/* Closes what only the thread may go on using. */
static void close_own(struct watch *watch)
{
	int *fds[] = {&watch->fanotify_fd, &watch->stop_fd, &watch->device};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
}

/* Opened by number: no path may lead to /dev any more. */
static int clone_device(int device, int proc_fd)
{
	_cleanup_fd int fd = -1;
	uint32_t source = (uint32_t)device;
	char number[16];

	snprintf(number, sizeof(number), "%d", device);
	fd = openat(proc_fd, number, O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, FUSE_DEV_IOC_CLONE, &source) < 0)
		return -errno;
	return steal_fd(&fd);
}

/*
 * A kernel that cannot be told to forget all names must never lose an event: it keeps as many as
 * come, at the cost of its memory while we are behind.
 */
static int lose_nothing(struct watch *watch)
{
	int fd = mark(watch->root_fd, FAN_UNLIMITED_QUEUE);

	if (fd < 0)
		return fd;
	close(watch->fanotify_fd);
	watch->fanotify_fd = fd;
	return 0;
}

static int start_thread(struct watch *watch, int device, int proc_fd)
{
	int error = watch->can_forget_all ? 0 : lose_nothing(watch);

	if (error)
		return error;
	watch->device = clone_device(device, proc_fd);
	if (watch->device < 0)
		return watch->device;
	stale_init(&watch->stale, watch->device, watch->events.inodes, &watch->stop);
	return -pthread_create(&watch->thread, NULL, watch_main, watch);
}

void watch_taken_over(struct watch *watch)
{
	if (watch)
		watch->taken_over = true;
}

void watch_start(struct watch *watch, int device, int proc_fd, unsigned minor)
{
	int error;

	if (!watch)
		return;
	watch->can_forget_all = minor >= ABI_MINOR_INC_EPOCH;
	watch->events.self = getpid();
	error = start_thread(watch, device, proc_fd);
	if (error) {
		log_warning("no watch on the source: %s", strerror(-error));
		return;
	}
	watch->started = true;
	atomic_store(&watch->active, true);
}

void watch_free(struct watch *watch)
{
	if (!watch)
		return;
	atomic_store(&watch->active, false);
	atomic_store(&watch->stop, true);
	if (watch->started) {
		eventfd_write(watch->stop_fd, 1);
		pthread_join(watch->thread, NULL);
	}
	stale_free(&watch->stale);
	watch_mounts_close(&watch->mounts);
	close_own(watch);
	free(watch);
}

/* ---- for the others ---- */

bool watch_covers(const struct fs *fs, dev_t dev)
{
	const struct watch *watch = fs->watch;

	return watch && dev == watch->events.dev &&
	       atomic_load_explicit(&watch->active, memory_order_relaxed);
}

double watch_attr_timeout(const struct fs *fs, dev_t dev)
{
	return watch_covers(fs, dev) ? fs->config.attr_watched : fs->config.attr_timeout;
}

double watch_entry_timeout(const struct fs *fs, dev_t dev)
{
	return watch_covers(fs, dev) ? fs->config.entry_watched : fs->config.entry_timeout;
}

uint64_t watch_generation(const struct fs *fs)
{
	return fs->watch ? atomic_load(&fs->watch->events.generation) : 0;
}

void watch_log(struct watch *watch)
{
	if (!watch)
		return;
	if (atomic_load_explicit(&watch->failed_new, memory_order_relaxed) &&
		atomic_exchange(&watch->failed_new, false))
		log_warning("the watch on the source has failed: changes made behind the mount are "
			    "seen late from here on");
	if (atomic_load_explicit(&watch->overflow_new, memory_order_relaxed) &&
		atomic_exchange(&watch->overflow_new, false) && !watch->overflow_logged) {
		watch->overflow_logged = true;
		log_warning("changes in the source's file system came too quickly for fanotify's "
			    "queue, so the kernel was told to forget all that it kept; "
			    "fs.fanotify.max_queued_events is the queue's size. Said once; see "
			    "'batchiofs stats'");
	}
}

void watch_get_usage(const struct watch *watch, struct watch_usage *out)
{
	*out = (struct watch_usage){0};
	if (!watch)
		return;
	out->active = atomic_load(&watch->active);
	out->events = atomic_load(&watch->events.count);
	out->own = atomic_load(&watch->events.own);
	out->elsewhere = atomic_load(&watch->events.elsewhere);
	out->invalidations = atomic_load(&watch->stale.told);
	out->overflows = atomic_load(&watch->overflows);
}
