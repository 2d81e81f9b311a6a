/* SPDX-License-Identifier: MIT */
/*
 * A read, a write or a sync between its message and its answer: what data.c (requests) and calls.c
 * (calls to the backend) share. For these only.
 *
 * A request lives in its message buffer until it is answered: the operation in its scratch, the
 * vector of a merged call in the area of the request that heads it. So nothing is allocated.
 */
#ifndef FS_DATA_OP_H
#define FS_DATA_OP_H

#include <fuse_lowlevel.h>
#include <limits.h>
#include <stdbool.h>

#include "batchio/batchio.h"
#include "coalesce/coalesce.h"
#include "fs/aside.h"
#include "fs/file.h"
#include "transport/request.h"

/* Classes: requests of different ones are never merged. The lower bits are the descriptor's
 * variant. */
#define CLASS_DSYNC FD_VARIANTS

struct data_op {
	struct co_op op;
	fuse_req_t req;
	struct request *request;
	struct fs *fs;
	struct opener opener;
	struct file *file; /* opener.file */
	int fd;
	bool written_back; /* a WRITE of the kernel's own, from its page cache */
	bool fills_pages; /* a READ of the kernel's own, into its page cache */
	struct journal_note *note; /* of one that appends, or NULL */
	/* Of the call that this operation heads. */
	struct list start; /* on a list of calls to start */
	unsigned waiting; /* backend requests not ended */
	struct co_outcome outcome;
	struct batchio_request io;
	struct batchio_request sync_io;
	int sync_fd;
	struct aside_job drop; /* a write beside cached pages */
	bool drop_all;
};

_Static_assert(sizeof(struct data_op) <= REQUEST_SCRATCH, "scratch holds an operation");
_Static_assert(IOV_MAX * sizeof(struct iovec) + FUSE_HEADER_SPACE <= REQUEST_AREA,
	"the area holds a full vector and the header");

/*
 * One that appends, done twice, would be there twice: it is noted. True: a process that has died
 * did it; op.result is what it came to. In resent.c.
 */
bool data_note_append(struct data_op *d);
/* Waits for what a process that has died may have begun of a write. */
void data_await_former(const struct data_op *d);
/* It has ended with op.result. */
void data_append_ended(struct data_op *d);

/* Answers it with op.result. It is another request's afterwards. */
void data_answer(struct data_op *d);

/* What else than writes a sync has to see to. The file's lock is held. */
void data_note_changes(struct data_op *d);

/* Quicker than a hand-over to the ring's workers, where nobody else has to wait for it: flags of a
 * flush. */
unsigned data_may_wait(void);

/* Hands it to the backend. */
void data_submit(struct batchio_request *io);

#endif
