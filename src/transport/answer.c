/* SPDX-License-Identifier: MIT */
/* What the transports share of answering; see transport.h. */
#include "transport/transport.h"

#include <string.h>

#include "base/log.h"

bool answer_in_payload(const struct request *req, const void *base, size_t length)
{
	const char *start = base;

	return start >= req->payload && start + length <= req->payload + req->pool->payload_size;
}

size_t answer_gather(char *to, const struct iovec *iov, int count)
{
	size_t done = 0;

	for (int i = 0; i < count; i++) {
		memmove(to + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return done;
}

void answer_refused(struct transport *t, const struct fuse_in_header *in,
	struct fuse_out_header *out, int error)
{
	stat_add(&t->stats->refused, 1);
	log_warning("request %llu of opcode %u and %u bytes is malformed; answered with error %d",
		(unsigned long long)in->unique, in->opcode, in->len, -error);
	*out = (struct fuse_out_header){
		.len = sizeof(*out),
		.error = error,
		.unique = in->unique,
	};
}
