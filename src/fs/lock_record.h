/* SPDX-License-Identifier: MIT */
/*
 * Which owner has locks in which file, and by which descriptor, in shared memory: for a successor
 * of a process that died. The locks themselves are the kernel's, and stay with the descriptors. For
 * lock.c only. Thread-safe.
 */
#ifndef FS_LOCK_RECORD_H
#define FS_LOCK_RECORD_H

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { LOCK_RECORDS = 1 << 20 };

struct lock_record {
	_Atomic uint64_t ino; /* 0: free */
	uint64_t id; /* the kernel's owner */
	int32_t fd;
	uint32_t fh; /* the handle used last, */
	int32_t pid; /* and who locked last */
	uint32_t next_free; /* number + 1, or 0 */
};

struct lock_records {
	pthread_mutex_t lock;
	_Atomic uint32_t high; /* ever used: those below */
	uint32_t free; /* number + 1, or 0 */
	struct lock_record all[LOCK_RECORDS];
};

/* NULL without memory. */
struct lock_records *lock_records_new(void);
void lock_records_free(struct lock_records *records);

/* NULL when there are too many: a successor will not know of it. */
struct lock_record *lock_record_add(
	struct lock_records *records, fuse_ino_t ino, uint64_t id, int fd);
/* Before its descriptor is closed. NULL is fine. */
void lock_record_remove(struct lock_records *records, struct lock_record *record);

/* After a predecessor's death: which are free is found out anew. */
void lock_records_recover(struct lock_records *records);

#endif
