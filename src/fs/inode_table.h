/* SPDX-License-Identifier: MIT */
/*
 * What the files of the inode table share: inode.c (what is known), inode_drop.c (closing
 * descriptors), inode_get.c (having them again), inode_told.c (numbers for the kernel). For these
 * only.
 */
#ifndef FS_INODE_TABLE_H
#define FS_INODE_TABLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/devices.h"
#include "fs/inode.h"
#include "fs/lasting.h"
#include "fs/slots.h"

struct inode_table {
	int root_fd;
	int root_mount; /* mount id, as name_to_handle_at() gives it */
	uint64_t root_dev;
	bool root_fickle; /* device_is_fickle() */
	unsigned max_fds;
	unsigned max_forgotten;
	bool handles; /* open_by_handle_at() works here */
	int lasting; /* form of handles that make node ids which last, or NOT_LASTING */
	_Atomic bool dropped; /* some descriptor was, ever */
	_Atomic bool named; /* some slot got a place, ever */
	struct devices devices;
	bool (*relieve_others)(void *arg); /* or NULL */
	void *others;

	pthread_mutex_t lock; /* of the following */
	struct slots slots;
	uint32_t hand; /* the clock's, in slots.held */
	uint32_t generation;
	uint64_t reopened;
	uint64_t reopened_by_name;
};

enum { CLOSING_MOST = 16 };

/* Descriptors to be closed once the lock is let go. */
struct closing {
	int n;
	int fds[CLOSING_MOST];
};

static inline fuse_ino_t node_id(struct inode_table *table, const struct slot *slot)
{
	return slot_number(&table->slots, slot) + (fuse_ino_t)FUSE_ROOT_ID;
}

static inline struct slot *slot_of(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;

	if (ino < FUSE_ROOT_ID || ino - FUSE_ROOT_ID >= table->slots.capacity)
		return NULL;
	slot = &table->slots.slot[ino - FUSE_ROOT_ID];
	return slot->flags & SLOT_USED ? slot : NULL;
}

/* ---- inode_drop.c ---- */

enum way_back {
	BY_HANDLE,
	BY_NAME,
	NOT_YET,
	NO_WAY,
};

/*
 * How the object of a slot with a descriptor comes back without it; its id is stored. A deleted one
 * would not: its descriptor is what keeps it. By handle, one of another mount would come back on
 * the wrong one. Nothing here waits for the source. With the lock.
 */
enum way_back way_back(struct inode_table *table, struct slot *slot);
/* Takes descriptors over the bound, to be closed by close_all(). With the lock. */
void evict(struct inode_table *table, uint32_t bound, struct closing *closing);
/* Without it. */
void close_all(struct closing *closing);

/* ---- inode_told.c ---- */

/* The number by which the kernel is to know the object behind fd for longer than this mount, or 0.
 */
fuse_ino_t lasting_of(struct inode_table *table, int fd, const struct stat *attr);

/* ---- inode.c ---- */

/* Lets go of a slot if nobody needs it, and of the parents that it was the last to need. NULL: of
 * none. Called with the lock held, returns without. */
void settle_and_unlock(struct inode_table *table, struct slot *slot);

#endif
