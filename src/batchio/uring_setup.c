/* SPDX-License-Identifier: MIT */
/*
 * Makes the ring of the io_uring backend, with what this kernel offers, or finds out why it can't.
 * For uring.c only.
 */
#include "batchio/backend.h"

#if BATCHIO_URING

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "batchio/uring.h"

/*
 * Completions overflow into kernel memory where the CQ is full, and old kernels then refuse to
 * submit. Polls come on top of the operations, so small rings get a margin for them.
 */
#define CQ_MIN 256

/* fsync and buffered writes are punted to workers, of which there are few by default; those that a
 * part of the source keeps waiting are not to be all. They are made as they are needed. */
#define BOUNDED_WORKERS 256

/* From best to plainest; a kernel that doesn't know a flag says EINVAL. */
static const unsigned setup_ladder[] = {
	/* 6.1: completions are run when we ask, on our thread, never in its way */
	IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		IORING_SETUP_TASKRUN_FLAG,
	/* 5.19: no interrupt of the running thread to run completions */
	IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
	/* 5.18: a bad request doesn't keep those behind it from being submitted */
	IORING_SETUP_SUBMIT_ALL,
	0,
};

#define LADDER_STEPS (sizeof(setup_ladder) / sizeof(setup_ladder[0]))

/* disabled: IORING_SETUP_R_DISABLED, or 0. */
static int try_ring(struct uring *u, unsigned entries, unsigned flags, unsigned disabled)
{
	struct io_uring_params p;
	/* A command takes the room of two submission entries. */
	unsigned wide = flags & BATCHIO_COMMANDS ? IORING_SETUP_SQE128 : 0;
	size_t step = flags & BATCHIO_SINGLE_ISSUER ? 0 : 1;
	int ret;

	do {
		memset(&p, 0, sizeof(p));
		p.flags = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | wide | setup_ladder[step] |
			  disabled;
		p.cq_entries = 2 * entries > CQ_MIN ? 2 * entries : CQ_MIN;
		ret = io_uring_queue_init_params(entries, &u->ring, &p);
	} while (ret == -EINVAL && ++step < LADDER_STEPS);
	if (ret < 0)
		return ret;
	u->getevents = p.flags & IORING_SETUP_DEFER_TASKRUN;
	u->depth = p.sq_entries;
	u->restricted = disabled;
	return 0;
}

/* Kernels before 5.10 cannot restrict a ring. */
static int init_ring(struct uring *u, unsigned entries, unsigned flags)
{
	int ret = try_ring(u, entries, flags, IORING_SETUP_R_DISABLED);

	return ret == -EINVAL ? try_ring(u, entries, flags, 0) : ret;
}

/* Value of kernel.io_uring_disabled (6.6+), -1 where there is none. */
static int disabled_sysctl(void)
{
	char c = 0;
	int fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	if (read(fd, &c, 1) != 1)
		c = 0;
	close(fd);
	return c >= '0' && c <= '2' ? c - '0' : -1;
}

static void unavailable(struct batchio_error *error, const char *why)
{
	batchio_fail(error, BATCHIO_EURINGUNAVAILABLE, "io_uring is not available: %s", why);
}

/* EPERM and EACCES: the sysctl, or else a security policy. */
static void explain_refusal(struct batchio_error *error)
{
	int disabled = disabled_sysctl();

	if (disabled == 2)
		unavailable(error, "switched off by kernel.io_uring_disabled=2; "
				   "`sysctl kernel.io_uring_disabled=0` switches it on");
	else if (disabled == 1)
		unavailable(error, "kernel.io_uring_disabled=1 keeps it from users outside "
				   "kernel.io_uring_group; `sysctl kernel.io_uring_disabled=0` "
				   "switches it on");
	else
		unavailable(error, "io_uring_setup is refused, by seccomp (a container's profile?) "
				   "or another security policy");
}

static int explain(int err, struct batchio_error *error)
{
	switch (-err) {
	case EPERM:
	case EACCES:
		explain_refusal(error);
		break;
	case ENOSYS:
		unavailable(error,
			"the kernel has no io_uring_setup (older than 5.6, built without "
			"CONFIG_IO_URING, or hidden by seccomp)");
		break;
	case EINVAL:
		unavailable(
			error, "the kernel knows too little of it (Linux 5.6 or later is needed)");
		break;
	case ENOMEM:
		unavailable(error, "no memory for the ring; before Linux 5.12 it counts as locked "
				   "memory (`ulimit -l`); try fewer entries");
		break;
	default:
		batchio_fail(error, err, "io_uring_setup: %s", strerror(-err));
		return err;
	}
	return BATCHIO_EURINGUNAVAILABLE;
}

static bool has_opcodes(struct io_uring *ring, unsigned flags)
{
	static const int needed[] = {
		IORING_OP_READV,
		IORING_OP_WRITEV,
		IORING_OP_FSYNC,
		IORING_OP_POLL_ADD,
		IORING_OP_POLL_REMOVE,
	};
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool all = probe != NULL;

	for (size_t i = 0; all && i < sizeof(needed) / sizeof(needed[0]); i++)
		all = io_uring_opcode_supported(probe, needed[i]);
	if (flags & BATCHIO_COMMANDS)
		all = all && io_uring_opcode_supported(probe, IORING_OP_URING_CMD);
	io_uring_free_probe(probe);
	return all;
}

/* What liburing declares, but does not export everywhere. 0 or -errno. */
static int register_by_hand(const struct uring *u, unsigned opcode, const void *arg, unsigned count)
{
	return syscall(__NR_io_uring_register, u->ring.ring_fd, opcode, arg, count) < 0 ? -errno
											: 0;
}

/*
 * What the backend uses, and nothing else, for good: who gets at the ring by an error of ours finds
 * no open, no connect. Filters of system calls do not see a ring's operations.
 */
static int restrict_ring(struct uring *u, unsigned flags)
{
	static const int operations[] = {
		IORING_OP_READV,
		IORING_OP_WRITEV,
		IORING_OP_FSYNC,
		IORING_OP_POLL_ADD,
		IORING_OP_POLL_REMOVE,
		IORING_OP_TIMEOUT, /* liburing's, before Linux 5.11 */
		IORING_OP_URING_CMD,
	};
	struct io_uring_restriction list[8] = {0};
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if ((operations[i] == IORING_OP_URING_CMD && !(flags & BATCHIO_COMMANDS)) ||
			(operations[i] == IORING_OP_TIMEOUT &&
				u->ring.features & IORING_FEAT_EXT_ARG))
			continue;
		list[n].opcode = IORING_RESTRICTION_SQE_OP;
		list[n++].sqe_op = (uint8_t)operations[i];
	}
	list[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	list[n++].sqe_flags = IOSQE_IO_LINK;
	/* At its end. */
	list[n].opcode = IORING_RESTRICTION_REGISTER_OP;
	list[n++].register_op = IORING_UNREGISTER_RING_FDS;
	return register_by_hand(u, IORING_REGISTER_RESTRICTIONS, list, n);
}

/* All are improvements; a kernel without them works as well. */
static void tune(struct uring *u, bool single)
{
	unsigned workers[2] = {0, 0};

	/* Saves looking up the ring's descriptor; valid on the registering thread alone. */
	if (single)
		io_uring_register_ring_fd(&u->ring);
	if (io_uring_register_iowq_max_workers(&u->ring, workers) < 0)
		return;
	if (workers[0] >= BOUNDED_WORKERS)
		return;
	workers[0] = BOUNDED_WORKERS;
	workers[1] = 0; /* as it is */
	io_uring_register_iowq_max_workers(&u->ring, workers);
}

int batchio_uring_setup(
	struct uring *u, unsigned entries, unsigned flags, struct batchio_error *error)
{
	bool single = flags & BATCHIO_SINGLE_ISSUER;
	/* A linked pair needs two places at once. */
	int ret = init_ring(u, entries < 2 ? 2 : entries, flags);

	if (ret < 0)
		return explain(ret, error);
	if (!has_opcodes(&u->ring, flags)) {
		io_uring_queue_exit(&u->ring);
		unavailable(error,
			"the kernel lacks operations that are needed (Linux 5.6 or later "
			"is), or seccomp hides io_uring_register");
		return BATCHIO_EURINGUNAVAILABLE;
	}
	tune(u, single);
	if (!u->restricted)
		return 0;
	ret = restrict_ring(u, flags);
	if (!ret)
		ret = register_by_hand(u, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (!ret)
		return 0;
	io_uring_queue_exit(&u->ring);
	batchio_fail(error, ret, "restricting the ring: %s", strerror(-ret));
	return ret;
}

#endif
