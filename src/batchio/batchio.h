/* SPDX-License-Identifier: MIT */
/*
 * libbatchio: batches of pread, pwrite and fsync for a swappable backend.
 *
 * The library's only installed header. Two backends keep one contract: io_uring, and plain system
 * calls ("standard"). The same calls give the same results, errors and sync semantics on both.
 *
 * Threads: a handle is used by one thread at a time (it may move between threads unless it was made
 * with BATCHIO_SINGLE_ISSUER). Different handles are independent; the library keeps no globals.
 *
 * Errors: a call returns 0 (or a count) on success, or a negative code: -errno, or one of the
 * BATCHIO_E… codes below, which lie outside the range of errno. Nothing sets errno on purpose.
 *
 * Memory: buffers, ops, requests and iovecs belong to the caller. Blocking calls are done with them
 * on return. batchio_submit() borrows the request, its iovec array and its buffers until done() is
 * called.
 *
 * Units: lengths and offsets in bytes, timeouts in milliseconds.
 */
#ifndef BATCHIO_H
#define BATCHIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* End of file before the wanted length. */
#define BATCHIO_EOF (-5001)
/* No io_uring to be had here; struct batchio_error says why. */
#define BATCHIO_EURINGUNAVAILABLE (-5002)

#define BATCHIO_ENTRIES_DEFAULT 256
#define BATCHIO_ENTRIES_MAX     32768

/* A batch handle: one backend and, for io_uring, one ring. */
struct batchio;

/* Filled where a constructor fails. */
struct batchio_error {
	int code; /* -errno or BATCHIO_E… */
	char text[200]; /* what failed, with what, and what would be right; no newline */
};

/* One read or write of a batch. */
struct batchio_op {
	void *buf; /* caller's memory, read or written while the call runs */
	size_t len; /* bytes wanted */
	off_t offset; /* position in the file, >= 0 */
	ssize_t result; /* out: bytes moved, or -errno */
};

/*
 * New handle on the standard backend: sequential preadv, pwritev, fdatasync. Always available.
 * Returns the handle, to be freed by batchio_close(), or NULL when memory ran out (-ENOMEM in
 * error->code where error is not NULL).
 */
struct batchio *batchio_new_standard(struct batchio_error *error);

/* Flags of batchio_new_uring(). */
#define BATCHIO_SINGLE_ISSUER                                                                      \
	(1u << 0) /* only the thread that makes the handle will ever use it                        \
		   */

/*
 * New handle on io_uring (Linux 5.6 or later) with room for `entries` operations in flight at the
 * kernel; 256 (BATCHIO_ENTRIES_DEFAULT) is usual, 1 to BATCHIO_ENTRIES_MAX are allowed. Batches
 * larger than the ring go in several submissions.
 *
 * NULL with error->code = BATCHIO_EURINGUNAVAILABLE where the ring can't be made: kernel without
 * it, seccomp, kernel.io_uring_disabled, not compiled in (make URING=0), not Linux; error->text
 * says which. It is the caller's to fall back or to fail. -EINVAL: entries or flags out of range.
 * -ENOMEM: out of memory.
 */
struct batchio *batchio_new_uring(unsigned entries, unsigned flags, struct batchio_error *error);

/* Name of the compiled io_uring implementation: "liburing", or "" where built without. Static. */
const char *batchio_uring_impl(void);

/* The handle's backend: "uring", "standard" (or a test backend's name). Static. */
const char *batchio_backend_name(const struct batchio *bio);

/* Text for a negative code of this library, in buf (always terminated). Returns buf. */
char *batchio_strerror(int code, char *buf, size_t size);

/*
 * Reads every region. Each op's result is set: bytes read, or -errno. All ops are tried, whatever
 * the others do. Returns 0, or the first error in op order; an op that met the end of the file
 * before len counts as BATCHIO_EOF, its result being the bytes read. Errors: those of preadv(2);
 * -EINVAL when n > 0 and ops is NULL or an offset is negative (nothing is read).
 */
int batchio_pread_batch(struct batchio *bio, int fd, struct batchio_op *ops, size_t n);

/*
 * Writes every region, finishing short writes. Each op's result is set: len, or -errno. Regions
 * that overlap are written in no particular order. Returns 0, or the first error in op order.
 * Errors: those of pwritev(2); -EINVAL as above (nothing is written).
 */
int batchio_pwrite_batch(struct batchio *bio, int fd, struct batchio_op *ops, size_t n);

/* fdatasync(2) on both backends (fsync where a platform has no fdatasync). Returns 0 or -errno. */
int batchio_fsync(struct batchio *bio, int fd);

/* fsync(2): data and all metadata. Returns 0 or -errno. */
int batchio_fsync_full(struct batchio *bio, int fd);

/*
 * Writes len bytes at offset, then fdatasync, as a pair: on io_uring one linked chain and one
 * io_uring_enter, otherwise pwrite + fdatasync. The sync never runs when the write fell short for
 * good; the error returned is then the write's. Returns 0 or -errno.
 */
int batchio_linked_write_fsync(
	struct batchio *bio, int fd, const void *buf, size_t len, off_t offset);

/*
 * Waits for what is in flight (calling its done()), then frees the handle. NULL is allowed.
 * Requests queued by batchio_submit() and not started yet are started first. Poll requests are not
 * waited for: their done() is called with -ECANCELED. Not to be called from done().
 */
void batchio_close(struct batchio *bio);

/* ---- Submission and completion apart ---- */

enum batchio_kind {
	BATCHIO_READ, /* preadv: result is the bytes read; fewer than wanted means end of file */
	BATCHIO_WRITE, /* pwritev: result is the whole length, short writes being finished */
	BATCHIO_FDATASYNC, /* result 0 */
	BATCHIO_FSYNC, /* result 0 */
	BATCHIO_POLL, /* result is the ready poll(2) events of `events`; one shot */
};

/* Flags of a request. */
#define BATCHIO_DSYNC     (1u << 0) /* WRITE: durable when done (RWF_DSYNC) */
#define BATCHIO_DIRECT    (1u << 1) /* fd is open with O_DIRECT: a hint for choosing the way */
#define BATCHIO_MAYINLINE (1u << 2) /* may run within submit where that is quicker */
#define BATCHIO_STREAM    (1u << 3) /* WRITE without position: one writev, never continued */
#define BATCHIO_EXCLUSIVE (1u << 4) /* POLL: of several waiters wake one (EPOLLEXCLUSIVE) */
/*
 * The next request submitted starts only when this one has succeeded whole; otherwise it ends
 * with -ECANCELED. Allowed on WRITE only, and only when the next is an FDATASYNC or FSYNC. Both go
 * out in one submission.
 */
#define BATCHIO_LINK (1u << 5)
/*
 * The caller has nothing better to do: what is queued is started, then this request runs within
 * submit as plain system calls, however long the device takes. For a lone request that is quicker
 * than a hand-over to the ring's workers. Without meaning on a pair and on a POLL.
 */
#define BATCHIO_MAYWAIT (1u << 6)

struct batchio_request {
	enum batchio_kind kind;
	unsigned flags;
	int fd;
	int iovcnt; /* READ, WRITE: 1 to IOV_MAX */
	const struct iovec *iov; /* READ, WRITE */
	off_t offset; /* READ, WRITE without BATCHIO_STREAM */
	short events; /* POLL */
	/*
	 * Called from batchio_reap() or batchio_close(), never from batchio_submit(), on the
	 * calling thread, once. result: see enum batchio_kind; -errno on failure. The request may
	 * be freed or submitted again from inside.
	 */
	void (*done)(struct batchio_request *req, ssize_t result);
	void *user; /* the caller's own */
	/* Out, READ and WRITE: bytes moved, also where result is an error after some of them. */
	size_t moved;
	/* The library's own while the request is submitted; needs no initialisation. */
	struct {
		struct batchio_request *next, *pair;
		struct iovec *rest;
		size_t total;
		ssize_t result;
		int restcnt;
		unsigned state, retries;
	} priv;
};

/*
 * Queues a request. It starts at the next batchio_flush() or batchio_reap(), or at once where the
 * queue is full or BATCHIO_MAYINLINE or BATCHIO_MAYWAIT lets it. Never blocks for room: what the
 * ring cannot take yet waits in the handle. Returns 0, -EINVAL for a request that breaks the rules
 * above, or -ECANCELED from a done() that batchio_close() calls; done() will then not be called. A
 * BATCHIO_LINK write is not started before its sync has been submitted; anything else submitted in
 * between is -EINVAL.
 */
int batchio_submit(struct batchio *bio, struct batchio_request *req);

/* Starts everything queued, without waiting. Returns 0 or -errno (the requests stay queued). */
int batchio_flush(struct batchio *bio);

/*
 * Starts everything queued, waits until at least `min` requests have ended (0: does not wait) or
 * timeout_ms has passed (-1: no limit), then calls done() of each that ended. At most one
 * io_uring_enter where nothing had to be continued. Returns the number of requests ended, 0 on
 * timeout or signal (the kernel interrupts a wait for reasons of its own, too), or -errno: -EAGAIN,
 * -EBUSY, -ENOMEM may pass, -EDEADLK when called from done(), any other means that the ring is lost
 * and requests at the kernel will never end. With nothing in flight it returns 0 at once.
 */
int batchio_reap(struct batchio *bio, unsigned min, int timeout_ms);

/* Requests submitted whose done() has not been called. */
size_t batchio_inflight(const struct batchio *bio);

/* What the handle has done since it was made. May be read from any thread at any time. */
struct batchio_counters {
	uint64_t enters; /* io_uring_enter calls */
	uint64_t syscalls; /* other system calls made for requests */
	uint64_t ring_ops; /* requests that went through the ring */
	uint64_t inline_ops; /* requests that ran as a plain system call */
	uint64_t reads; /* READ requests ended */
	uint64_t writes; /* WRITE requests ended, STREAM ones excepted */
	uint64_t syncs; /* FDATASYNC and FSYNC requests ended, cancelled ones excepted */
	uint64_t linked; /* linked write + sync pairs submitted */
	uint64_t continued; /* short transfers continued */
	uint64_t errors; /* requests ended with an error */
};

void batchio_get_counters(const struct batchio *bio, struct batchio_counters *out);

#ifdef __cplusplus
}
#endif

#endif
