/* SPDX-License-Identifier: MIT */
/*
 * Storage of the inode table: numbered slots, their places in the tree, the index by device and
 * inode number, the list of held descriptors. For inode.c only, under its lock.
 *
 * Slots lie in one reservation of shared memory, never move and hold numbers only. Everything
 * beside them (which are taken, the index, the list of the held) is made anew from them by a
 * successor of a process that died (slots_recover()).
 */
#ifndef FS_SLOTS_H
#define FS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/file_id.h"
#include "fs/names.h"

enum {
	CHUNK_SLOTS = 512, /* memory of free slots goes back by the chunk */
};

enum slot_flag {
	SLOT_USED = 1,
	SLOT_INDEXED = 2, /* found by device and inode number */
	SLOT_REFERENCED = 4, /* used since the clock's hand passed */
	SLOT_KEEP = 8, /* nothing brings this object back: the descriptor stays */
	SLOT_FORGOTTEN = 16, /* on the list of the forgotten */
	SLOT_BY_NAME = 32, /* with fd -1: comes back by its name, not by handle */
	SLOT_NAMED = 64, /* it and all below are better known by name, too */
	SLOT_FICKLE = 128, /* of a file system that may give it another number */
	SLOT_LASTING = 256, /* the kernel knows it by a number that lasts (lasting.h) */
	SLOT_OUSTED = 512, /* another object has its inode number: found by that number only */
	SLOT_DAMAGED = 1024, /* what a dead process left of it is not to be trusted: EIO */
};

struct slot {
	uint64_t dev;
	uint64_t ino;
	int64_t changed; /* exclusive mounts: latest ctime that is known to be ours, in nanoseconds
			  */
	union {
		uint64_t nlookup;
		struct { /* forgotten: slot number + 1, or 0 */
			uint32_t newer;
			uint32_t older;
		};
	};
	uint32_t generation; /* of the node id; lasting: of the object */
	uint32_t next; /* slot number + 1 of the next one in the index's chain, or 0 */
	int32_t fd; /* O_PATH, -1 after it was dropped */
	uint32_t held; /* place in slots.held while fd >= 0 */
	uint32_t pins; /* users of fd now */
	uint32_t parent; /* where its name is: slot number + 1, or 0 */
	uint32_t name; /* reference, 0 if and only if parent is */
	uint32_t children; /* slots whose parent this is: it stays as long as they do */
	uint32_t openers; /* open files and directories */
	uint16_t flags;
	uint8_t type; /* S_IFMT >> 12 */
	uint32_t sum; /* of what never changes, slot_sum() */
	struct file_id id; /* valid while fd is -1 */
};

_Static_assert(sizeof(struct slot) <= 128, "a known inode must stay cheap");

struct slot_chunk {
	uint64_t taken[CHUNK_SLOTS / 64];
	uint32_t used;
};

/* In shared memory. */
struct slots_head {
	uint32_t high; /* slots ever taken: all below */
};

struct slots {
	struct slots_head *head;
	struct slot *slot;
	uint32_t capacity;
	uint64_t used;
	struct slot_chunk *chunks;
	uint32_t first_free; /* every chunk before it is full */
	uint32_t spare; /* an empty chunk whose memory was kept, or UINT32_MAX */

	uint32_t *index; /* heads of chains: slot number + 1, or 0 */
	uint32_t index_size; /* a power of two */
	uint32_t indexed;

	uint32_t newest, oldest; /* forgotten slots: slot number + 1, or 0 */
	uint32_t n_forgotten;

	struct names names;

	uint32_t *held; /* slots with a descriptor */
	uint32_t n_held, held_size;
};

/* 0 or -ENOMEM; slots_free() is due in both cases. slots is zeroed before. */
int slots_init(struct slots *slots);
/* Closes the held descriptors. */
void slots_free(struct slots *slots);

static inline uint32_t slot_number(const struct slots *slots, const struct slot *slot)
{
	return slot - slots->slot;
}

/* A zeroed slot, the lowest free one, or NULL. The caller sets SLOT_USED. */
struct slot *slot_alloc(struct slots *slots);
/* Out of the index, without a descriptor and a place by then. */
void slot_free(struct slots *slots, struct slot *slot);

/* Over the identity of a slot's object; in slot.sum as long as it is whole. */
uint32_t slot_sum(const struct slot *slot);

/*
 * After a predecessor's death, with nothing in use but what lies in shared memory: finds the slots
 * in use, and makes everything else anew. Counts of users are 0 then, all descriptors are held,
 * slots whose sum is wrong are damaged, and names and parents that cannot be are gone. 0 or
 * -ENOMEM.
 */
int slots_recover(struct slots *slots);

/* The first slot in use from number n on, or SLOTS_END. */
#define SLOTS_END UINT32_MAX
uint32_t slots_next(const struct slots *slots, uint32_t n);

static inline struct slot *slot_parent(const struct slots *slots, const struct slot *slot)
{
	return slot->parent ? &slots->slot[slot->parent - 1] : NULL;
}

/* Whether the slot's place is this one. */
bool place_is(const struct slots *slots, const struct slot *slot, const struct slot *parent,
	const char *name);
/*
 * Gives a slot that has no place one. Without memory, or where parent is the slot or beneath it
 * (others move things, too), it stays without.
 */
void place_set(struct slots *slots, struct slot *slot, struct slot *parent, const char *name);
/* Takes the place away. Returns the former parent, whose count of children the caller lowers (it
 * may have been all that kept it), or NULL. */
struct slot *place_clear(struct slots *slots, struct slot *slot);

/* By slot.dev and slot.ino. Removing one that is not in the index is harmless. */
void index_add(struct slots *slots, struct slot *slot);
void index_remove(struct slots *slots, struct slot *slot);
/* Another object has its number now: index_find() does not find it any more. */
void index_oust(struct slots *slots, struct slot *slot);
struct slot *index_find(struct slots *slots, uint64_t dev, uint64_t ino);
/* One with a number that lasts, ousted or not. */
struct slot *index_find_lasting(
	struct slots *slots, uint64_t dev, uint64_t ino, uint32_t generation);

/* The list of the forgotten. Removing one that is not on it is harmless. */
void forgotten_add(struct slots *slots, struct slot *slot);
void forgotten_remove(struct slots *slots, struct slot *slot);
struct slot *forgotten_oldest(struct slots *slots);

/* Room for one more descriptor, so that hold() cannot fail. 0 or -ENOMEM. */
int held_reserve(struct slots *slots);
void hold(struct slots *slots, struct slot *slot, int fd);
/* Returns the descriptor, which is the caller's now; -1 when the slot has none. */
int unhold(struct slots *slots, struct slot *slot);

#endif
