/* SPDX-License-Identifier: MIT */
/* Storage of the inode table, see slots.h. For inode.c only. */
#include "fs/slots.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/reserve.h"

enum {
	SLOTS_WANTED = 64 << 20,
	SLOTS_LEAST = 1 << 20,
	INDEX_LEAST = 1024,
};

#define NO_CHUNK UINT32_MAX

int slots_init(struct slots *slots)
{
	slots->spare = NO_CHUNK;
	for (uint32_t n = SLOTS_WANTED; n >= SLOTS_LEAST && !slots->slot; n /= 2) {
		slots->slot = reserve_shared("inodes", n * sizeof(struct slot));
		slots->capacity = n;
	}
	slots->head = reserve_shared("inodes-head", sizeof(*slots->head));
	if (!slots->slot || !slots->head)
		return -ENOMEM;
	slots->chunks = reserve(slots->capacity / CHUNK_SLOTS * sizeof(struct slot_chunk));
	slots->index_size = INDEX_LEAST;
	slots->index = calloc(INDEX_LEAST, sizeof(*slots->index));
	return slots->chunks && slots->index ? names_init(&slots->names) : -ENOMEM;
}

void slots_free(struct slots *slots)
{
	for (uint32_t i = 0; i < slots->n_held; i++)
		close(slots->slot[slots->held[i]].fd);
	if (slots->slot)
		munmap(slots->slot, slots->capacity * sizeof(struct slot));
	if (slots->head)
		munmap(slots->head, sizeof(*slots->head));
	if (slots->chunks)
		munmap(slots->chunks, slots->capacity / CHUNK_SLOTS * sizeof(struct slot_chunk));
	names_free(&slots->names);
	free(slots->index);
	free(slots->held);
}

/* ---- slots: given out from the lowest number up, so that used ones stay close together ---- */

struct slot *slot_alloc(struct slots *slots)
{
	uint32_t c = slots->first_free, chunks = slots->capacity / CHUNK_SLOTS;
	struct slot_chunk *chunk;
	unsigned word = 0, bit;
	uint32_t n;

	while (c < chunks && slots->chunks[c].used == CHUNK_SLOTS)
		c++;
	slots->first_free = c;
	if (c == chunks)
		return NULL;
	chunk = &slots->chunks[c];
	while (chunk->taken[word] == UINT64_MAX)
		word++;
	bit = __builtin_ctzll(~chunk->taken[word]);
	chunk->taken[word] |= UINT64_C(1) << bit;
	chunk->used++;
	if (c == slots->spare)
		slots->spare = NO_CHUNK;
	slots->used++;
	n = c * CHUNK_SLOTS + word * 64 + bit;
	if (slots->head->high <= n)
		slots->head->high = n + 1;
	return &slots->slot[n];
}

/* Of two empty chunks one keeps its memory, so that a program at the border does not fault at each
 * step. */
static void chunk_emptied(struct slots *slots, uint32_t c)
{
	uint32_t giving = c;

	if (slots->spare == NO_CHUNK) {
		slots->spare = c;
		return;
	}
	if (slots->spare > c) {
		giving = slots->spare;
		slots->spare = c;
	}
	reserve_forget(
		&slots->slot[(size_t)giving * CHUNK_SLOTS], CHUNK_SLOTS * sizeof(struct slot));
}

void slot_free(struct slots *slots, struct slot *slot)
{
	uint32_t n = slot_number(slots, slot), c = n / CHUNK_SLOTS;
	struct slot_chunk *chunk = &slots->chunks[c];

	/* First, for who finds it half done. */
	slot->flags = 0;
	atomic_signal_fence(memory_order_seq_cst);
	memset(slot, 0, sizeof(*slot));
	chunk->taken[n % CHUNK_SLOTS / 64] &= ~(UINT64_C(1) << n % 64);
	if (c < slots->first_free)
		slots->first_free = c;
	slots->used--;
	if (--chunk->used == 0)
		chunk_emptied(slots, c);
}

uint32_t slots_next(const struct slots *slots, uint32_t n)
{
	/* Beyond, none was ever taken. */
	uint32_t chunks = (slots->head->high + CHUNK_SLOTS - 1) / CHUNK_SLOTS;

	for (uint32_t c = n / CHUNK_SLOTS; c < chunks; c++) {
		const struct slot_chunk *chunk = &slots->chunks[c];
		uint32_t bit = c == n / CHUNK_SLOTS ? n % CHUNK_SLOTS : 0;

		for (; chunk->used && bit < CHUNK_SLOTS; bit++)
			if (chunk->taken[bit / 64] & UINT64_C(1) << bit % 64)
				return c * CHUNK_SLOTS + bit;
	}
	return SLOTS_END;
}

/* ---- places in the tree ---- */

bool place_is(const struct slots *slots, const struct slot *slot, const struct slot *parent,
	const char *name)
{
	return slot->parent && slot_parent(slots, slot) == parent &&
	       names_equal(&slots->names, slot->name, name);
}

/* A slot without children is above none: most need no walk. */
static bool is_above(const struct slots *slots, const struct slot *slot, const struct slot *below)
{
	if (slot != below && !slot->children)
		return false;
	while (below && below != slot)
		below = slot_parent(slots, below);
	return below != NULL;
}

void place_set(struct slots *slots, struct slot *slot, struct slot *parent, const char *name)
{
	if (is_above(slots, slot, parent))
		return;
	slot->name = names_add(&slots->names, name);
	if (!slot->name)
		return;
	slot->parent = slot_number(slots, parent) + 1;
	parent->children++;
}

struct slot *place_clear(struct slots *slots, struct slot *slot)
{
	struct slot *parent = slot_parent(slots, slot);

	if (!parent)
		return NULL;
	names_remove(&slots->names, slot->name);
	slot->name = 0;
	slot->parent = 0;
	return parent;
}

/* ---- index by device and inode number ---- */

static uint32_t *index_head(struct slots *slots, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xd6e8feb86659fd93);

	return &slots->index[(h >> 32) & (slots->index_size - 1)];
}

struct slot *index_find(struct slots *slots, uint64_t dev, uint64_t ino)
{
	uint32_t n = *index_head(slots, dev, ino);

	while (n) {
		struct slot *slot = &slots->slot[n - 1];

		if (slot->ino == ino && slot->dev == dev && !(slot->flags & SLOT_OUSTED))
			return slot;
		n = slot->next;
	}
	return NULL;
}

struct slot *index_find_lasting(
	struct slots *slots, uint64_t dev, uint64_t ino, uint32_t generation)
{
	uint32_t n = *index_head(slots, dev, ino);

	while (n) {
		struct slot *slot = &slots->slot[n - 1];

		if (slot->ino == ino && slot->dev == dev && slot->flags & SLOT_LASTING &&
			slot->generation == generation)
			return slot;
		n = slot->next;
	}
	return NULL;
}

static void index_link(struct slots *slots, struct slot *slot)
{
	uint32_t *head = index_head(slots, slot->dev, slot->ino);

	slot->next = *head;
	*head = slot_number(slots, slot) + 1;
}

/* Without memory the old index goes on with longer chains. */
static void index_resize(struct slots *slots, uint32_t size)
{
	uint32_t *old = slots->index, old_size = slots->index_size;
	uint32_t *grown = calloc(size, sizeof(*grown));

	if (!grown)
		return;
	slots->index = grown;
	slots->index_size = size;
	for (uint32_t i = 0; i < old_size; i++) {
		uint32_t n = old[i];

		while (n) {
			struct slot *slot = &slots->slot[n - 1];

			n = slot->next;
			index_link(slots, slot);
		}
	}
	free(old);
}

void index_add(struct slots *slots, struct slot *slot)
{
	if (slots->indexed >= slots->index_size && slots->index_size < UINT32_MAX / 2)
		index_resize(slots, slots->index_size * 2);
	index_link(slots, slot);
	slot->flags |= SLOT_INDEXED;
	slots->indexed++;
}

void index_remove(struct slots *slots, struct slot *slot)
{
	uint32_t *link = index_head(slots, slot->dev, slot->ino);
	uint32_t n = slot_number(slots, slot) + 1;

	if (!(slot->flags & SLOT_INDEXED))
		return;
	while (*link != n)
		link = &slots->slot[*link - 1].next;
	*link = slot->next;
	slot->flags &= ~SLOT_INDEXED;
	slots->indexed--;
	if (slots->index_size > INDEX_LEAST && slots->indexed < slots->index_size / 8)
		index_resize(slots, slots->index_size / 2);
}

void index_oust(struct slots *slots, struct slot *slot)
{
	if (slot->flags & SLOT_LASTING)
		slot->flags |= SLOT_OUSTED;
	else
		index_remove(slots, slot);
}

/* ---- forgotten ones ---- */

void forgotten_add(struct slots *slots, struct slot *slot)
{
	uint32_t n = slot_number(slots, slot) + 1;

	slot->flags |= SLOT_FORGOTTEN;
	slot->newer = 0;
	slot->older = slots->newest;
	if (slots->newest)
		slots->slot[slots->newest - 1].newer = n;
	else
		slots->oldest = n;
	slots->newest = n;
	slots->n_forgotten++;
}

void forgotten_remove(struct slots *slots, struct slot *slot)
{
	if (!(slot->flags & SLOT_FORGOTTEN))
		return;
	if (slot->newer)
		slots->slot[slot->newer - 1].older = slot->older;
	else
		slots->newest = slot->older;
	if (slot->older)
		slots->slot[slot->older - 1].newer = slot->newer;
	else
		slots->oldest = slot->newer;
	slots->n_forgotten--;
	slot->nlookup = 0;
	slot->flags &= ~SLOT_FORGOTTEN;
}

struct slot *forgotten_oldest(struct slots *slots)
{
	return &slots->slot[slots->oldest - 1];
}

/* ---- held descriptors ---- */

int held_reserve(struct slots *slots)
{
	uint32_t size = slots->held_size ? slots->held_size * 2 : 256;
	uint32_t *grown;

	if (slots->n_held < slots->held_size)
		return 0;
	grown = realloc(slots->held, size * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	slots->held = grown;
	slots->held_size = size;
	return 0;
}

void hold(struct slots *slots, struct slot *slot, int fd)
{
	slot->fd = fd;
	slot->held = slots->n_held;
	slots->held[slots->n_held++] = slot_number(slots, slot);
}

int unhold(struct slots *slots, struct slot *slot)
{
	int fd = slot->fd;
	uint32_t last;

	if (fd < 0)
		return -1;
	last = slots->held[--slots->n_held];
	slots->held[slot->held] = last;
	slots->slot[last].held = slot->held;
	slot->fd = -1;
	return fd;
}
