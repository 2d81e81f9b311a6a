/* SPDX-License-Identifier: MIT */
/*
 * What lies beside the slots of the inode table, made anew from what a process that died has left;
 * see slots.h. For inode_again.c only.
 *
 * It may have died anywhere: between two stores to a slot, with a name stored and not yet noted.
 * Nothing here relies on more than single stores.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "fs/slots.h"

uint32_t slot_sum(const struct slot *slot)
{
	uint64_t h = slot->dev * UINT64_C(0x9e3779b97f4a7c15);

	h = (h ^ slot->ino) * UINT64_C(0xd6e8feb86659fd93);
	h = (h ^ h >> 32 ^ slot->generation) * UINT64_C(0x9e3779b97f4a7c15);
	h = (h ^ h >> 32 ^ slot->type) * UINT64_C(0xd6e8feb86659fd93);
	return (uint32_t)(h >> 32) | 1; /* never that of a slot that is all zero */
}

static void forget_all(struct slots *slots)
{
	memset(slots->index, 0, slots->index_size * sizeof(*slots->index));
	slots->indexed = slots->n_held = slots->n_forgotten = 0;
	slots->newest = slots->oldest = slots->first_free = 0;
	slots->spare = UINT32_MAX;
	slots->used = 0;
}

static void take(struct slots *slots, uint32_t n)
{
	struct slot_chunk *chunk = &slots->chunks[n / CHUNK_SLOTS];

	chunk->taken[n % CHUNK_SLOTS / 64] |= UINT64_C(1) << n % 64;
	chunk->used++;
	slots->used++;
}

/* Back into the lists that its flags name, as a slot that nobody uses now. */
static int enlist(struct slots *slots, struct slot *slot)
{
	unsigned flags = slot->flags;
	int fd = slot->fd;

	slot->pins = slot->children = slot->openers = 0;
	if (slot->sum != slot_sum(slot))
		slot->flags |= SLOT_DAMAGED;
	slot->flags &= ~(SLOT_INDEXED | SLOT_FORGOTTEN);
	if (flags & SLOT_INDEXED && !(slot->flags & SLOT_DAMAGED))
		index_add(slots, slot);
	if (flags & SLOT_FORGOTTEN)
		forgotten_add(slots, slot);
	slot->fd = -1;
	if (fd >= 0 && held_reserve(slots) < 0)
		return -ENOMEM;
	if (fd >= 0)
		hold(slots, slot, fd);
	return 0;
}

/* Its name and its parent count only together, and if both can be. */
static void claim_place(struct slots *slots, struct slot *slot)
{
	struct slot *parent =
		slot->parent && slot->parent <= slots->head->high ? slot_parent(slots, slot) : NULL;

	if (parent && parent != slot && parent->flags & SLOT_USED && slot->name &&
		names_claim(&slots->names, slot->name)) {
		parent->children++;
		return;
	}
	slot->name = 0;
	slot->parent = 0;
}

int slots_recover(struct slots *slots)
{
	uint32_t high = slots->head->high;
	int result = names_recover(&slots->names);
	bool names = result == 0;

	if (high > slots->capacity)
		return -EUCLEAN;
	forget_all(slots);
	memset(slots->chunks, 0, (high + CHUNK_SLOTS - 1) / CHUNK_SLOTS * sizeof(*slots->chunks));
	for (uint32_t n = 0; n < high; n++) {
		struct slot *slot = &slots->slot[n];

		/* Taken and not filled yet, or given back. */
		if (!(slot->flags & SLOT_USED)) {
			memset(slot, 0, sizeof(*slot));
			continue;
		}
		take(slots, n);
		if (enlist(slots, slot) < 0)
			return -ENOMEM;
	}
	for (uint32_t n = 0; n < high; n++) {
		struct slot *slot = &slots->slot[n];

		if (slot->parent && names)
			claim_place(slots, slot);
		else
			slot->name = slot->parent = 0;
	}
	if (names)
		names_claimed(&slots->names);
	return 0;
}
