/* SPDX-License-Identifier: MIT */
/*
 * Locks, where they are forwarded to the source: flock(2), and POSIX and OFD record locks. Called
 * by libfuse through ops.c; lock.h for the rest of src/fs.
 *
 * Record locks: each of the kernel's lock owners has a descriptor of its own of a file, and locks
 * through it with OFD locks. So owners exclude one another inside this process as outside, and
 * closing the descriptor releases what an owner had. flock: the handle's own descriptor.
 *
 * A lock that has to wait gets a thread, so that no loop ever does. Its request's buffer is given
 * back meanwhile (libfuse keeps what an answer needs), so that waiting locks take nothing from
 * other requests; the answer is written by the thread itself.
 */
#include "fs/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/lock_record.h"
#include "fs/share.h"

/* More locks that wait are refused with ENOLCK. */
#define WAITERS_MAX 4096
/* A user other than root has at most so many. */
#define WAITERS_EACH (WAITERS_MAX / 2)
#define WAITER_STACK (128u << 10)
/* Ends a wait; its handler does nothing. */
#define WAKE_SIGNAL SIGUSR2
/* A signal that comes just before the system call is lost; so it comes again. */
#define WAKE_AGAIN_NS 2000000

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct locks {
	pthread_mutex_t lock; /* of the following */
	pthread_cond_t idle;
	struct lock_records *records; /* with posix_locks and supervision; else NULL */
	struct list waiting; /* struct waiter, those that have a timer */
	unsigned count; /* threads, from before they start until they have answered */
	struct shares shares; /* of them */
	bool ending;
};

/* One of the kernel's lock owners in one file: a process, or an open file. Under the file's lock.
 */
struct lock_owner {
	struct list node; /* file.lock_owners */
	uint64_t id;
	uint32_t fh; /* the handle used last: an open file's locks end with it */
	pid_t pid; /* who locked last */
	int fd;
	struct lock_record *record; /* for a successor; NULL: none */
	struct lock_records *records;
	unsigned users; /* requests at work with fd */
};

struct waiter {
	struct list node;
	struct locks *locks;
	fuse_req_t req;
	int fd;
	int flock_op; /* 0: a record lock */
	struct flock range; /* of a record lock */
	struct file *file;
	struct lock_owner *owner; /* of a record lock */
	timer_t timer;
	uid_t uid;
	atomic_bool interrupted;
};

/* ---- owners ---- */

static struct lock_owner *owner_find(struct file *file, uint64_t id)
{
	struct list *node;

	list_for_each (node, &file->lock_owners) {
		struct lock_owner *owner = list_entry(node, struct lock_owner, node);

		if (owner->id == id)
			return owner;
	}
	return NULL;
}

/*
 * A descriptor for an owner's locks. An owner may lock for reading by one handle and for writing by
 * another, so it is open for both where that is possible.
 */
static int owner_open(struct fs *fs, struct handle *handle)
{
	int own = atomic_load(&handle->fd[handle->first]);
	int fd = file_reopen(fs, own, O_RDWR | O_CLOEXEC);

	return fd < 0 ? file_reopen(fs, own, handle->access | O_CLOEXEC) : fd;
}

static void owner_add(struct locks *locks, struct file *file, struct lock_owner *owner)
{
	list_add_tail(&owner->node, &file->lock_owners);
	owner->records = locks->records;
	if (locks->records)
		owner->record = lock_record_add(locks->records, file->ino, owner->id, owner->fd);
}

/*
 * The owner, until owner_put(). One that has no locks yet is made where it wants some, else NULL;
 * NULL too when descriptors ran out.
 */
static struct lock_owner *owner_get(struct fs *fs, struct file *file, struct handle *handle,
	uint64_t id, const struct flock *lock)
{
	struct lock_owner *owner;

	pthread_mutex_lock(&file->lock);
	owner = owner_find(file, id);
	if (!owner && lock->l_type != F_UNLCK) {
		owner = calloc(1, sizeof(*owner));
		if (owner) {
			owner->id = id;
			owner->fd = owner_open(fs, handle);
		}
		if (owner && owner->fd < 0) {
			free(owner);
			owner = NULL;
		}
		if (owner)
			owner_add(fs->locks, file, owner);
	}
	if (owner) {
		owner->fh = handle->index;
		owner->pid = lock->l_pid;
		if (owner->record) {
			owner->record->fh = owner->fh;
			owner->record->pid = owner->pid;
		}
		owner->users++;
	}
	pthread_mutex_unlock(&file->lock);
	return owner;
}

/*
 * Releases all locks of owner. One that waits for another lock meanwhile keeps its descriptor: what
 * it gets later it keeps, as with a local file.
 */
static void owner_drop(struct lock_owner *owner)
{
	struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (owner->users) {
		fcntl(owner->fd, F_OFD_SETLK, &all);
		return;
	}
	list_del(&owner->node);
	lock_record_remove(owner->records, owner->record);
	close(owner->fd);
	free(owner);
}

/* nothing_left: it has just released everything. */
static void owner_put(struct file *file, struct lock_owner *owner, bool nothing_left)
{
	pthread_mutex_lock(&file->lock);
	owner->users--;
	if (nothing_left && !owner->users)
		owner_drop(owner);
	pthread_mutex_unlock(&file->lock);
}

void lock_flush(struct fs *fs, fuse_ino_t ino, uint64_t id)
{
	struct file *file = file_of(fs->files, ino);
	struct lock_owner *owner;

	if (!file)
		return;
	pthread_mutex_lock(&file->lock);
	owner = owner_find(file, id);
	if (owner)
		owner_drop(owner);
	pthread_mutex_unlock(&file->lock);
}

void lock_release(struct fs *fs, struct file *file, struct handle *handle)
{
	struct list *node, *next;

	/* Closing alone would not do where the descriptor has a duplicate (file.flush_fd). */
	if (fs->config.flock)
		flock(atomic_load(&handle->fd[handle->first]), LOCK_UN);
	if (!fs->config.posix_locks)
		return;
	pthread_mutex_lock(&file->lock);
	list_for_each_safe (node, next, &file->lock_owners) {
		struct lock_owner *owner = list_entry(node, struct lock_owner, node);

		if (owner->fh == handle->index)
			owner_drop(owner);
	}
	pthread_mutex_unlock(&file->lock);
}

void lock_drop_all(struct file *file)
{
	struct list *node, *next;

	list_for_each_safe (node, next, &file->lock_owners)
		owner_drop(list_entry(node, struct lock_owner, node));
}

/* ---- waiting ---- */

static void wake_handler(int signal)
{
	(void)signal;
}

/*
 * Makes the waiter's thread leave its system call, and go on leaving it until it has seen why.
 * Under the request's lock (libfuse), or locks->lock.
 */
static void wake(fuse_req_t req, void *data)
{
	struct waiter *w = data;
	struct itimerspec soon = {
		.it_value.tv_nsec = 1,
		.it_interval.tv_nsec = WAKE_AGAIN_NS,
	};

	(void)req;
	atomic_store(&w->interrupted, true);
	timer_settime(w->timer, 0, &soon, NULL);
}

/* A timer that sends the signal to this thread. 0 or -1. */
static int make_timer(timer_t *timer)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = WAKE_SIGNAL,
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	event.sigev_notify_thread_id = gettid();
	return timer_create(CLOCK_MONOTONIC, &event, timer);
}

static int wait_for_lock(struct waiter *w)
{
	int result;

	do {
		if (atomic_load(&w->interrupted))
			return -EINTR;
		result = w->flock_op ? flock(w->fd, w->flock_op)
				     : fcntl(w->fd, F_OFD_SETLKW, &w->range);
	} while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

/* With the timer made: waits, interruptibly from both sides. 0 or -errno. */
static int wait_interruptibly(struct waiter *w)
{
	struct locks *locks = w->locks;
	int result;

	pthread_mutex_lock(&locks->lock);
	list_add_tail(&w->node, &locks->waiting);
	if (locks->ending)
		wake(w->req, w);
	pthread_mutex_unlock(&locks->lock);
	fuse_req_interrupt_func(w->req, wake, w);

	result = wait_for_lock(w);

	/* Waits for a call of wake() that has begun; none comes after. */
	fuse_req_interrupt_func(w->req, NULL, NULL);
	pthread_mutex_lock(&locks->lock);
	list_del(&w->node);
	pthread_mutex_unlock(&locks->lock);
	return result;
}

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;
	struct locks *locks = w->locks;
	uid_t uid = w->uid;
	int result = -ENOLCK;

	if (make_timer(&w->timer) == 0) {
		result = wait_interruptibly(w);
		timer_delete(w->timer);
	}
	if (w->owner)
		owner_put(w->file, w->owner, false);
	/* The kernel keeps the handle, and so the file, until now. */
	fs_reply(w->req, result);
	free(w);

	pthread_mutex_lock(&locks->lock);
	locks->count--;
	share_give(&locks->shares, uid);
	pthread_cond_signal(&locks->idle);
	pthread_mutex_unlock(&locks->lock);
	return NULL;
}

static int start_thread(struct waiter *w)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, WAITER_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attr, waiter_main, w);
	pthread_attr_destroy(&attr);
	return error;
}

/* Waits as *what says, on a thread that answers. 0, or -errno: then nobody else answers. */
static int wait_aside(struct locks *locks, const struct waiter *what)
{
	struct waiter *w = malloc(sizeof(*w));
	bool may;

	if (!w)
		return -ENOLCK;
	*w = *what;
	w->locks = locks;
	w->uid = fuse_req_ctx(w->req)->uid;
	pthread_mutex_lock(&locks->lock);
	may = !locks->ending && locks->count < WAITERS_MAX && share_take(&locks->shares, w->uid);
	locks->count += may;
	pthread_mutex_unlock(&locks->lock);
	if (may && start_thread(w) == 0)
		return 0;
	pthread_mutex_lock(&locks->lock);
	locks->count -= may;
	if (may)
		share_give(&locks->shares, w->uid);
	free(w);
	pthread_mutex_unlock(&locks->lock);
	return -ENOLCK;
}

/* ---- callbacks ---- */

void fs_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_find(fs->handles, fi->fh, ino);
	int result = handle ? 0 : -EBADF;
	int fd = handle ? atomic_load(&handle->fd[handle->first]) : -1;

	if (handle && flock(fd, op | LOCK_NB) < 0)
		result = -errno;
	if (result == -EWOULDBLOCK && !(op & LOCK_NB)) {
		struct waiter what = {.req = req, .fd = fd, .flock_op = op};

		result = wait_aside(fs->locks, &what);
		if (result == 0)
			return;
	}
	fs_reply(req, result);
}

void fs_setlk(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_find(fs->handles, fi->fh, ino);
	struct file *file = handle ? file_of(fs->files, ino) : NULL;
	struct lock_owner *owner;
	bool all = lock->l_type == F_UNLCK && lock->l_start == 0 && lock->l_len == 0;
	int result = 0;

	if (!file) {
		fs_reply(req, -EBADF);
		return;
	}
	owner = owner_get(fs, file, handle, fi->lock_owner, lock);
	if (!owner) {
		fs_reply(req, lock->l_type == F_UNLCK ? 0 : -ENOLCK);
		return;
	}
	lock->l_pid = 0;
	if (fcntl(owner->fd, F_OFD_SETLK, lock) < 0)
		result = errno == EACCES ? -EAGAIN : -errno;
	if (result == -EAGAIN && sleep) {
		struct waiter what = {
			.req = req,
			.fd = owner->fd,
			.range = *lock,
			.file = file,
			.owner = owner,
		};

		result = wait_aside(fs->locks, &what);
		if (result == 0)
			return;
	}
	owner_put(file, owner, all);
	fs_reply(req, result);
}

/*
 * The process behind a lock found in the way of somebody else. An OFD lock names none; but if it is
 * one of ours, it is in everybody's way except its owner's.
 */
static pid_t holder(struct file *file, const struct flock *found)
{
	struct list *node;

	list_for_each (node, &file->lock_owners) {
		struct lock_owner *owner = list_entry(node, struct lock_owner, node);
		struct flock test = *found;

		test.l_type = F_WRLCK;
		test.l_pid = 0;
		if (fcntl(owner->fd, F_OFD_GETLK, &test) == 0 &&
			(test.l_type == F_UNLCK || test.l_start != found->l_start ||
				test.l_len != found->l_len))
			return owner->pid;
	}
	return found->l_pid;
}

void fs_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct fs *fs = fs_of(req);
	struct handle *handle = handle_find(fs->handles, fi->fh, ino);
	struct file *file = handle ? file_of(fs->files, ino) : NULL;
	struct lock_owner *owner;
	int result = -EBADF;

	if (file) {
		pthread_mutex_lock(&file->lock);
		owner = owner_find(file, fi->lock_owner);
		lock->l_pid = 0;
		result = fcntl(owner ? owner->fd : atomic_load(&handle->fd[handle->first]),
			F_OFD_GETLK, lock);
		result = result < 0 ? -errno : 0;
		if (result == 0 && lock->l_type != F_UNLCK && lock->l_pid <= 0)
			lock->l_pid = holder(file, lock);
		pthread_mutex_unlock(&file->lock);
	}
	if (result < 0)
		fs_reply(req, result);
	else
		fuse_reply_lock(req, lock);
}

/* ---- the start and the end ---- */

int locks_new(const struct fs *fs, struct locks **out)
{
	struct sigaction action = {.sa_handler = wake_handler};
	struct locks *locks = calloc(1, sizeof(*locks));

	if (!locks)
		return -ENOMEM;
	pthread_mutex_init(&locks->lock, NULL);
	pthread_cond_init(&locks->idle, NULL);
	list_init(&locks->waiting);
	locks->shares.most = fs->config.privileged ? WAITERS_EACH : 0;
	if (fs->config.supervised && fs->config.posix_locks) {
		locks->records = lock_records_new();
		if (!locks->records) {
			locks_free(locks);
			return -ENOMEM;
		}
	}
	/* Without SA_RESTART: system calls end with EINTR. */
	sigaction(WAKE_SIGNAL, &action, NULL);
	*out = locks;
	return 0;
}

void locks_end(struct locks *locks)
{
	struct list *node;

	pthread_mutex_lock(&locks->lock);
	locks->ending = true;
	list_for_each (node, &locks->waiting) {
		struct waiter *w = list_entry(node, struct waiter, node);

		wake(w->req, w);
	}
	while (locks->count)
		pthread_cond_wait(&locks->idle, &locks->lock);
	pthread_mutex_unlock(&locks->lock);
}

void locks_free(struct locks *locks)
{
	if (!locks)
		return;
	pthread_cond_destroy(&locks->idle);
	pthread_mutex_destroy(&locks->lock);
	lock_records_free(locks->records);
	free(locks);
}

uint64_t locks_waiting(struct locks *locks)
{
	uint64_t count;

	pthread_mutex_lock(&locks->lock);
	count = locks->count;
	pthread_mutex_unlock(&locks->lock);
	return count;
}

/* ---- after a predecessor's death ---- */

int locks_recover(struct fs *fs, void (*use)(int fd, void *arg), void *arg)
{
	struct lock_records *records = fs->locks->records;

	if (!records)
		return 0;
	lock_records_recover(records);
	for (uint32_t n = 0; n < atomic_load(&records->high); n++) {
		struct lock_record *record = &records->all[n];
		fuse_ino_t ino = atomic_load(&record->ino);
		struct file *file = ino ? file_find(fs->files, ino) : NULL;
		struct lock_owner *owner;

		if (!file || !inode_is(fs->inodes, ino, record->fd)) {
			if (ino)
				lock_record_remove(records, record);
			if (file)
				file_unref(fs->files, file);
			continue;
		}
		owner = calloc(1, sizeof(*owner));
		if (!owner)
			return -ENOMEM;
		*owner = (struct lock_owner){
			.id = record->id,
			.fh = record->fh,
			.pid = record->pid,
			.fd = record->fd,
			.record = record,
			.records = records,
		};
		list_add_tail(&owner->node, &file->lock_owners);
		use(owner->fd, arg);
		file_unref(fs->files, file);
	}
	return 0;
}
