/* SPDX-License-Identifier: MIT */
/*
 * Commands of a device's own, through the ring (IORING_OP_URING_CMD): how transport/ shares a
 * handle's ring with the backend. Not installed: only io_uring handles made with BATCHIO_COMMANDS
 * take them.
 *
 * A command may wait for ever, as a poll does: it takes no room from reads and writes, and
 * batchio_close() ends it with -ECANCELED; its memory is to stay until that returns.
 */
#ifndef BATCHIO_COMMAND_H
#define BATCHIO_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "batchio/batchio.h"

/* Of batchio_new_uring(): Linux 5.19 or later, else BATCHIO_EURINGUNAVAILABLE. */
#define BATCHIO_COMMANDS (1u << 16)

#define BATCHIO_ARGUMENT_MAX 80

struct batchio_command {
	/* Its fd, done and user, and iov and iovcnt where the command takes buffers; filled by the
	 * caller, save for the kind. done() gets what the device said. */
	struct batchio_request request;
	uint32_t op;
	uint32_t length; /* of argument */
	_Alignas(8) unsigned char argument[BATCHIO_ARGUMENT_MAX];
};

/* As batchio_submit(). -ENOTSUP where the handle takes none. */
int batchio_submit_command(struct batchio *bio, struct batchio_command *command);

/*
 * Something has ended, or may have: batchio_reap() has something to look at. Makes no system call.
 * False where that cannot be told.
 */
bool batchio_has_news(struct batchio *bio);

/* The handle's ring refuses whatever the backend does not use. */
bool batchio_is_restricted(const struct batchio *bio);

#endif
