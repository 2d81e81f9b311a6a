/* SPDX-License-Identifier: MIT */
/*
 * What we need of the FUSE protocol beyond libfuse 3.14: the kernel's structs, and flags younger
 * than the system's headers. For transport/ and fs/.
 */
#ifndef TRANSPORT_ABI_H
#define TRANSPORT_ABI_H

#include <linux/fuse.h>
#include <stddef.h>

/* Room before the payload: READ's and WRITE's header and argument are 80 bytes both. */
#define FUSE_HEADER_SPACE (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

_Static_assert(FUSE_HEADER_SPACE == 80, "WRITE header");
_Static_assert(sizeof(struct fuse_in_header) + sizeof(struct fuse_read_in) == 80, "READ header");

/* FOPEN_… of kernels younger than the headers. */
#define ABI_FOPEN_PARALLEL_DIRECT_WRITES (1u << 6)
/* INIT flags from bit 32 on, as they stand in flags2. */
#define ABI_INIT2_DIRECT_IO_ALLOW_MMAP (1u << (36 - 32))

#define ABI_OP_TMPFILE 51
#define ABI_OP_STATX   52

/*
 * Is the message (length bytes) whole and sane: lengths agree, names end inside it, sizes fit? 0,
 * or -errno to answer with; -EPROTO when not even the header can be trusted. Never reads past
 * length. libfuse 3.14 takes the kernel's word for all of this.
 */
int abi_check(const void *message, size_t length, size_t max_payload);

#endif
