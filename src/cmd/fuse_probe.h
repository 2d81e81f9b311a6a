/* SPDX-License-Identifier: MIT */
/*
 * What the running kernel's FUSE offers, from its own first request. For doctor.c.
 */
#ifndef CMD_FUSE_PROBE_H
#define CMD_FUSE_PROBE_H

#include <stdint.h>

struct fuse_probe {
	uint32_t major, minor; /* of the protocol */
	uint64_t flags; /* INIT's */
};

/*
 * Mounts an empty FUSE file system in a mount namespace of a child process, where nobody sees it,
 * and reads INIT. An ordinary user needs user namespaces for that. 0 or -errno.
 */
int fuse_probe(struct fuse_probe *out);

#endif
