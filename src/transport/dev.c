/* SPDX-License-Identifier: MIT */
/*
 * The /dev/fuse transport: requests are read from the device, answers written to it through the
 * loop's batchio handle.
 *
 * Requests are read by plain read(2): a read that would wait is of no use to a loop that has other
 * work. All loops read the same descriptor, so any of them may answer any request.
 */
#include "transport/transport.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static void poll_done(struct batchio_request *poll, ssize_t result)
{
	struct transport *t = poll->user;

	t->armed = 0;
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
	t->armed = error ? 0 : 1;
	return error;
}

static void refuse(struct transport *t, const struct fuse_in_header *in, int error)
{
	struct fuse_out_header out;

	answer_refused(t, in, &out, error);
	if (write(t->fd, &out, sizeof(out)) < 0 && errno != ENOENT)
		log_warning("cannot answer request %llu: error %d", (unsigned long long)in->unique,
			errno);
}

/* As receive(), into req. */
static int read_message(struct transport *t, struct request *req)
{
	request_make_ready(req);
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
			atomic_store_explicit(&req->unique, in->unique, memory_order_relaxed);
			req->opcode = in->opcode;
			request_use(req, abi_payload(in));
			return 1;
		}
		if (error == -EPROTO)
			return error;
		refuse(t, in, error);
	}
}

static int dev_receive(struct transport *t, struct request **req)
{
	int got;

	*req = request_take(t->pool);
	/* All are at work: one of them ends before there is room. */
	if (!*req)
		return 0;
	got = read_message(t, *req);
	if (got > 0)
		return got;
	request_give(t->pool, *req);
	t->ready = false;
	return got;
}

static void dev_lay_out(struct request *req, const struct iovec *iov, int count)
{
	size_t total = 0;
	size_t header = iov[0].iov_len;

	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	req->reply_iov[0].iov_len = total;
	if (total <= REQUEST_SMALL) {
		answer_gather(req->small, iov, count);
		req->reply_iov[0].iov_base = req->small;
		return;
	}
	/* The header goes right before the payload: one piece to send. */
	assert(header <= REQUEST_SMALL && total - header <= req->pool->payload_size);
	if (count != 2 || !answer_in_payload(req, iov[1].iov_base, iov[1].iov_len) ||
		iov[1].iov_base != req->payload)
		answer_gather(req->payload, iov + 1, count - 1);
	memcpy(req->payload - header, iov[0].iov_base, header);
	req->reply_iov[0].iov_base = req->payload - header;
}

/* ENOENT: the requester was interrupted and is gone, or has its answer; ENODEV: so is the mount. */
static bool is_taken(int fd, const void *answer, size_t length)
{
	ssize_t n;

	do {
		n = write(fd, answer, length);
	} while (n < 0 && errno == EINTR);
	return n >= 0 || errno == ENOENT || errno == ENODEV;
}

/* Nobody would wait for ever: the answer goes by a call of its own, or that there is none. */
static void send_again(struct request *req, ssize_t error)
{
	const struct iovec *iov = req->reply_iov;
	const struct fuse_out_header *out = iov->iov_base;
	const struct fuse_out_header none = {
		.len = sizeof(none),
		.error = -EIO,
		.unique = out->unique,
	};

	if (is_taken(req->sender->fd, out, iov->iov_len))
		return;
	log_error("answer to request %llu was not taken: error %zd",
		(unsigned long long)none.unique, -error);
	if (!is_taken(req->sender->fd, &none, sizeof(none)))
		log_error("nor that there is none: %s", strerror(errno));
}

static void send_done(struct batchio_request *reply, ssize_t result)
{
	struct request *req = reply->user;

	req->sender->sending--;
	if (result < 0 && result != -ENOENT && result != -ENODEV)
		send_again(req, result);
	request_give(req->pool, req);
}

static void dev_send(struct transport *t, struct request *req)
{
	int error;

	req->sender = t;
	t->sending++;
	req->reply = (struct batchio_request){
		.kind = BATCHIO_WRITE,
		.flags = BATCHIO_STREAM | (t->at_once ? BATCHIO_MAYWAIT : 0),
		.fd = t->fd,
		.iov = req->reply_iov,
		.iovcnt = 1,
		.done = send_done,
		.user = req,
	};
	error = batchio_submit(t->bio, &req->reply);
	if (error)
		send_done(&req->reply, error);
}

/* An answer by another thread is a message of its own. */
static void dev_leave(struct request *req)
{
	request_give(req->pool, req);
}

const struct transport_ops transport_dev = {
	.name = "dev",
	.arm = dev_arm,
	.receive = dev_receive,
	.lay_out = dev_lay_out,
	.send = dev_send,
	.leave = dev_leave,
};
