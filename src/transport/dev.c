/* SPDX-License-Identifier: MIT */
/*
 * The /dev/fuse transport: requests are read from the device, answers written to it through the
 * loop's batchio handle.
 *
 * Requests are read by plain read(2): a read that would wait is of no use to a loop that has other
 * work. All loops read the same descriptor, so any of them may answer any request.
 */
#include "transport/transport.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/log.h"

static void poll_done(struct batchio_request *poll, ssize_t result)
{
	struct transport *t = poll->user;

	t->armed = false;
	/* An error is for receive() to meet, except the cancellation at the end. */
	if (result != -ECANCELED)
		t->ready = true;
}

static int dev_arm(struct transport *t)
{
	int error;

	if (t->armed)
		return 0;
	t->poll = (struct batchio_request){
		.kind = BATCHIO_POLL,
		.flags = BATCHIO_EXCLUSIVE,
		.fd = t->fd,
		.events = POLLIN,
		.done = poll_done,
		.user = t,
	};
	error = batchio_submit(t->bio, &t->poll);
	t->armed = !error;
	return error;
}

/* Answers a message that failed its check; nothing else has seen it. */
static void refuse(struct transport *t, const struct fuse_in_header *in, int error)
{
	struct fuse_out_header out = {
		.len = sizeof(out),
		.error = error,
		.unique = in->unique,
	};

	stat_add(&t->stats->refused, 1);
	log_warning("request %llu of opcode %u and %u bytes is malformed; answered with error %d",
		(unsigned long long)in->unique, in->opcode, in->len, -error);
	if (write(t->fd, &out, sizeof(out)) < 0 && errno != ENOENT)
		log_warning("cannot answer request %llu: error %d", (unsigned long long)in->unique,
			errno);
}

static int dev_receive(struct transport *t, struct request *req)
{
	for (;;) {
		const struct fuse_in_header *in = request_message(req);
		ssize_t n = read(
			t->fd, request_message(req), FUSE_HEADER_SPACE + t->pool->payload_size);
		int error;

		if (n < 0) {
			/* ENOENT: the request was interrupted before we had it. */
			if (errno == EINTR || errno == ENOENT)
				continue;
			return errno == EAGAIN ? 0 : -errno;
		}
		error = abi_check(in, (size_t)n, t->pool->payload_size);
		if (!error) {
			req->length = (size_t)n;
			req->unique = in->unique;
			req->opcode = in->opcode;
			return 1;
		}
		if (error == -EPROTO)
			return error;
		refuse(t, in, error);
	}
}

static void send_done(struct batchio_request *reply, ssize_t result)
{
	struct request *req = reply->user;

	req->sender->sending--;
	/* ENOENT: the requester was interrupted and is gone; ENODEV: so is the mount. */
	if (result < 0 && result != -ENOENT && result != -ENODEV && result != -ECANCELED)
		log_error("answer to request %llu was not taken: error %zd",
			(unsigned long long)req->unique, -result);
	request_give(req->pool, req);
}

static void dev_send(struct transport *t, struct request *req, int iovcnt)
{
	int error;

	req->sender = t;
	t->sending++;
	req->reply = (struct batchio_request){
		.kind = BATCHIO_WRITE,
		.flags = BATCHIO_STREAM | (t->at_once ? BATCHIO_MAYWAIT : 0),
		.fd = t->fd,
		.iov = req->reply_iov,
		.iovcnt = iovcnt,
		.done = send_done,
		.user = req,
	};
	error = batchio_submit(t->bio, &req->reply);
	if (error)
		send_done(&req->reply, error);
}

const struct transport_ops transport_dev = {
	.name = "dev",
	.arm = dev_arm,
	.receive = dev_receive,
	.send = dev_send,
};
