/* SPDX-License-Identifier: MIT */
/*
 * What we need of the FUSE protocol beyond libfuse 3.14: the kernel's structs, and flags younger
 * than the system's headers. For transport/ and fs/.
 */
#ifndef TRANSPORT_ABI_H
#define TRANSPORT_ABI_H

#include <linux/fuse.h>
#include <linux/ioctl.h>
#include <stddef.h>
#include <stdint.h>

/* Room before the payload: READ's and WRITE's header and argument are 80 bytes both. */
#define FUSE_HEADER_SPACE (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

_Static_assert(FUSE_HEADER_SPACE == 80, "WRITE header");
_Static_assert(sizeof(struct fuse_in_header) + sizeof(struct fuse_read_in) == 80, "READ header");

/* FOPEN_… of kernels younger than the headers. */
#define ABI_FOPEN_PARALLEL_DIRECT_WRITES (1u << 6)
/* INIT flags from bit 32 on, as they stand in flags2. */
#define ABI_INIT2_DIRECT_IO_ALLOW_MMAP (1u << (36 - 32))
#define ABI_INIT2_OVER_IO_URING        (1u << (41 - 32))
#define ABI_INIT2_PASSTHROUGH          (1u << (37 - 32))

/* Of an open that the kernel serves itself: its number is in the answer's last word. */
#define ABI_FOPEN_PASSTHROUGH (1u << 7)

struct abi_backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define ABI_IOC_BACKING_OPEN  _IOW(229, 1, struct abi_backing_map)
#define ABI_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* The kernel can hand out again what was not answered; such a request has this bit in its number.
 */
#define ABI_INIT2_HAS_RESEND (1u << (39 - 32))
#define ABI_UNIQUE_RESEND    (UINT64_C(1) << 63)
#define ABI_NOTIFY_RESEND    7

/* Notifications younger than the headers, and the protocol's minor version that brought them. */
#define ABI_NOTIFY_INC_EPOCH 8
#define ABI_MINOR_INC_EPOCH  44

/* FUSE over io_uring: the commands of /dev/fuse, ... */
#define ABI_RING_REGISTER         1
#define ABI_RING_COMMIT_AND_FETCH 2

/* ... their argument, ... */
struct abi_ring_command {
	uint64_t flags;
	uint64_t commit_id; /* COMMIT_AND_FETCH: as it came with the request */
	uint16_t queue;
	uint8_t padding[6];
};

/* ... and what stands beside the payload of a request that came so, and of its answer. */
struct abi_ring_header {
	union {
		struct fuse_in_header in;
		struct fuse_out_header out;
		char space[128];
	};
	char argument[128]; /* of the request: what comes before names and data */
	uint64_t flags;
	uint64_t commit_id;
	uint32_t payload_size; /* in bytes, both ways */
	uint32_t padding;
	uint64_t reserved;
};

_Static_assert(sizeof(struct abi_ring_command) == 24, "argument of a command");
_Static_assert(sizeof(struct abi_ring_header) == 288, "header of a ring entry");

#define ABI_OP_TMPFILE 51
#define ABI_OP_STATX   52

struct abi_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct abi_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct abi_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0;
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct abi_sx_time atime;
	struct abi_sx_time btime;
	struct abi_sx_time ctime;
	struct abi_sx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t spare2[14];
};

struct abi_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct abi_statx stat;
};

_Static_assert(sizeof(struct abi_statx_in) == 24, "STATX argument");
_Static_assert(sizeof(struct abi_statx_out) == 288, "STATX answer");

/*
 * Is the message (length bytes) whole and sane: lengths agree, names end inside it, sizes fit? 0,
 * or -errno to answer with; -EPROTO when not even the header can be trusted. Never reads past
 * length. libfuse 3.14 takes the kernel's word for all of this.
 */
int abi_check(const void *message, size_t length, size_t max_payload);

/* Bytes of data in a checked message, or wanted in its answer: whichever it has. */
size_t abi_payload(const void *message);

#endif
