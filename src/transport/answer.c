/* SPDX-License-Identifier: MIT */
/*
 * Laying out an answer in its request's own memory, for any transport; see transport.h.
 *
 * libfuse composes answers on its stack, and we send them later: headers are copied, payloads are
 * not.
 */
#include "transport/transport.h"

#include <assert.h>
#include <string.h>

static bool in_payload(const struct transport *t, const struct request *req, const struct iovec *v)
{
	const char *base = v->iov_base;

	return base >= req->payload && base + v->iov_len <= req->payload + t->pool->payload_size;
}

/* Gathers count pieces at `to`, which may be where some of them lie already. */
static size_t gather(char *to, const struct iovec *iov, int count)
{
	size_t done = 0;

	for (int i = 0; i < count; i++) {
		memmove(to + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return done;
}

void transport_answer(struct transport *t, struct request *req, const struct iovec *iov, int count)
{
	size_t total = 0;
	size_t header = iov[0].iov_len;

	assert(!req->answered && count >= 1 && header <= REQUEST_SMALL);
	req->answered = true;
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	if (total <= REQUEST_SMALL) {
		req->reply_iov[0].iov_base = req->small;
		req->reply_iov[0].iov_len = gather(req->small, iov, count);
		t->ops->send(t, req, 1);
		return;
	}
	/* The header goes right before the payload: one piece to send. */
	assert(total - header <= t->pool->payload_size);
	if (count != 2 || !in_payload(t, req, &iov[1]) || iov[1].iov_base != req->payload)
		gather(req->payload, iov + 1, count - 1);
	memcpy(req->payload - header, iov[0].iov_base, header);
	req->reply_iov[0].iov_base = req->payload - header;
	req->reply_iov[0].iov_len = total;
	t->ops->send(t, req, 1);
}
