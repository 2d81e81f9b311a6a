/* SPDX-License-Identifier: MIT */
/* FUSE over io_uring; see ring.h. */
#include "transport/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "base/log.h"

/* So often a command is given again. */
#define TRIES_MOST 3

#define PARAMETER "/sys/module/fuse/parameters/enable_uring"

const char *ring_missing(void)
{
	FILE *file = fopen(PARAMETER, "re");
	int value = file ? fgetc(file) : EOF;

	if (file)
		fclose(file);
	if (value == 'Y' || value == '1')
		return NULL;
	if (value == EOF)
		return "this kernel has no FUSE over io_uring (Linux 6.14 or later, built with "
		       "CONFIG_FUSE_IO_URING, has)";
	return "FUSE over io_uring is switched off; `echo Y >" PARAMETER "` switches it on";
}

unsigned ring_queues(void)
{
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	unsigned first = 0;
	unsigned last = 0;
	int found = file ? fscanf(file, "%u-%u", &first, &last) : 0;

	if (file)
		fclose(file);
	if (found < 1)
		return (unsigned)get_nprocs_conf();
	return (found == 2 ? last : first) + 1;
}

/* Puts the message together before its payload, where libfuse wants it. 0 or -errno. */
static int compose(struct request *req)
{
	struct abi_ring_header *header = request_ring_header(req);
	size_t before = sizeof(header->in);
	size_t argument = header->in.len - before - header->payload_size;

	if (header->in.len < before || header->payload_size > req->pool->payload_size ||
		argument > sizeof(header->argument))
		return -EPROTO;
	req->message = req->payload - argument - before;
	memcpy(req->message, &header->in, before);
	memcpy(req->message + before, header->argument, argument);
	req->length = header->in.len;
	req->opcode = header->in.opcode;
	atomic_store_explicit(&req->unique, header->in.unique, memory_order_relaxed);
	return abi_check(req->message, req->length, req->pool->payload_size);
}

/* What is not whole is not to be trusted for more than its number. */
static void refuse(struct transport *t, struct request *req, int error)
{
	struct abi_ring_header *header = request_ring_header(req);
	struct fuse_in_header in = header->in;

	answer_refused(t, &in, &header->out, error == -EPROTO ? -EIO : error);
	header->payload_size = 0;
	t->ops->send(t, req);
}

static bool is_end(ssize_t result)
{
	return result == -ENOTCONN || result == -ECONNABORTED || result == -ENODEV;
}

/*
 * It failed. The kernel may have had no memory for it, and has then done nothing; what it has done
 * it refuses. At the end of the handle (-ECANCELED) none is taken any more, and as the kernel may
 * still have it, it stays as it is.
 */
static void command_failed(struct transport *t, struct request *req, int result)
{
	if (req->tries++ < TRIES_MOST && batchio_submit_command(t->bio, &req->command) == 0) {
		t->armed++;
		return;
	}
	if (req->command.op == ABI_RING_REGISTER)
		t->refused = result;
	else if (result != -ECANCELED)
		log_error("an answer was not taken, and its place in the ring is lost: error %d",
			-result);
}

static void command_done(struct batchio_request *command, ssize_t result)
{
	struct request *req = command->user;
	struct transport *t = req->holder;
	int error;

	t->armed--;
	if (is_end(result)) {
		t->ended = (int)result;
		t->ready = true;
		return;
	}
	if (result < 0) {
		command_failed(t, req, (int)result);
		return;
	}
	req->answered = false;
	req->tries = 0;
	error = compose(req);
	if (error) {
		refuse(t, req, error);
		return;
	}
	list_add_tail(&req->node, &t->arrived);
	t->ready = true;
}

static int submit(struct transport *t, struct request *req, uint32_t op)
{
	struct abi_ring_command argument = {
		.commit_id = request_ring_header(req)->commit_id,
		.queue = req->queue,
	};
	int error;

	req->holder = t;
	req->command.request = (struct batchio_request){
		.fd = t->fd,
		.iov = op == ABI_RING_REGISTER ? req->reply_iov : NULL,
		.iovcnt = op == ABI_RING_REGISTER ? 2 : 0,
		.done = command_done,
		.user = req,
	};
	req->command.op = op;
	req->command.length = sizeof(argument);
	memcpy(req->command.argument, &argument, sizeof(argument));
	error = batchio_submit_command(t->bio, &req->command);
	t->armed += !error;
	return error;
}

int ring_register(struct transport *t, struct request *entry, unsigned queue)
{
	entry->queue = (uint16_t)queue;
	entry->tries = 0;
	entry->reply_iov[0] = (struct iovec){
		.iov_base = request_ring_header(entry),
		.iov_len = sizeof(struct abi_ring_header),
	};
	entry->reply_iov[1] = (struct iovec){
		.iov_base = entry->payload,
		.iov_len = entry->pool->payload_size,
	};
	return submit(t, entry, ABI_RING_REGISTER);
}

struct request *ring_find(struct request_pool *pool, uint64_t unique)
{
	for (unsigned n = 0; unique && n < pool->count; n++)
		if (atomic_load_explicit(&pool->requests[n].unique, memory_order_relaxed) == unique)
			return &pool->requests[n];
	return NULL;
}

/* Nothing is to be done: the entries wait by themselves. */
static int ring_arm(struct transport *t)
{
	(void)t;
	return 0;
}

static int ring_receive(struct transport *t, struct request **req)
{
	struct list *node = list_pop(&t->arrived);

	if (node) {
		*req = list_entry(node, struct request, node);
		return 1;
	}
	t->ready = false;
	return t->ended ? -ENODEV : 0;
}

static void ring_lay_out(struct request *req, const struct iovec *iov, int count)
{
	struct abi_ring_header *header = request_ring_header(req);
	struct iovec first = {
		.iov_base = (char *)iov[0].iov_base + sizeof(header->out),
		.iov_len = iov[0].iov_len - sizeof(header->out),
	};
	size_t done = 0;

	assert(iov[0].iov_len >= sizeof(header->out));
	memcpy(&header->out, iov[0].iov_base, sizeof(header->out));
	if (first.iov_len)
		done = answer_gather(req->payload, &first, 1);
	if (!done && count == 2 && iov[1].iov_base == req->payload)
		done = iov[1].iov_len;
	else
		done += answer_gather(req->payload + done, iov + 1, count - 1);
	assert(done <= req->pool->payload_size);
	header->payload_size = (uint32_t)done;
}

static void ring_send(struct transport *t, struct request *req)
{
	atomic_store_explicit(&req->unique, 0, memory_order_relaxed);
	/* At the end of the handle nobody waits for the answer any more. */
	submit(t, req, ABI_RING_COMMIT_AND_FETCH);
}

/* It stays the entry's until the answer comes, whoever gives it. */
static void ring_leave(struct request *req)
{
	(void)req;
}

const struct transport_ops transport_ring = {
	.name = "ring",
	.arm = ring_arm,
	.receive = ring_receive,
	.lay_out = ring_lay_out,
	.send = ring_send,
	.leave = ring_leave,
};
