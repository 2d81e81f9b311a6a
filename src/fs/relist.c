/* SPDX-License-Identifier: MIT */
/* Directories whose listing had better not be kept; see relist.h. */
#include "fs/relist.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/reserve.h"
#include "fs/aside.h"
#include "fs/fs.h"

/* As many as the inode table can number; untouched pages cost nothing. */
#define PLACES (64u << 20)
/* So many questions since the last listing are a reason to drop it. */
#define ASKS 3
/* One listing in so many is kept. */
#define TRY_EVERY 4

/* By node id. Guesses all of them: a wrong one costs a message. */
struct place {
	_Atomic uint32_t parent; /* node id, 0 while unknown */
	_Atomic uint8_t asks; /* a directory's: since it was last listed */
	_Atomic uint8_t drops; /* how often its listing is still to be dropped */
};

struct relist {
	struct fs *fs;
	struct place *places;
};

struct relist *relist_new(struct fs *fs)
{
	struct relist *relist = calloc(1, sizeof(*relist));

	if (!relist)
		return NULL;
	relist->fs = fs;
	relist->places = reserve(PLACES * sizeof(*relist->places));
	if (!relist->places) {
		free(relist);
		return NULL;
	}
	return relist;
}

void relist_free(struct relist *relist)
{
	if (!relist)
		return;
	munmap(relist->places, PLACES * sizeof(*relist->places));
	free(relist);
}

static struct place *place_of(struct relist *relist, fuse_ino_t ino)
{
	return relist && ino < PLACES ? &relist->places[ino] : NULL;
}

void relist_found(struct relist *relist, fuse_ino_t parent, fuse_ino_t child)
{
	struct place *place = place_of(relist, child);

	if (place && parent < PLACES)
		atomic_store_explicit(&place->parent, (uint32_t)parent, memory_order_relaxed);
}

void relist_asked(struct relist *relist, fuse_ino_t ino)
{
	struct place *file = place_of(relist, ino);
	uint32_t parent = file ? atomic_load_explicit(&file->parent, memory_order_relaxed) : 0;
	struct place *dir = place_of(relist, parent);
	uint8_t asks;

	if (!parent)
		return;
	asks = atomic_load_explicit(&dir->asks, memory_order_relaxed);
	if (asks >= ASKS)
		return;
	atomic_store_explicit(&dir->asks, asks + 1, memory_order_relaxed);
	if (asks + 1 < ASKS)
		return;
	atomic_store_explicit(&dir->drops, TRY_EVERY, memory_order_relaxed);
	aside_drop(relist->fs->aside, parent);
}

void relist_listed(struct relist *relist, fuse_ino_t dir, bool ends)
{
	struct place *place = place_of(relist, dir);
	uint8_t drops = place ? atomic_load_explicit(&place->drops, memory_order_relaxed) : 0;

	if (!place || !ends)
		return;
	atomic_store_explicit(&place->asks, 0, memory_order_relaxed);
	if (!drops)
		return;
	atomic_store_explicit(&place->drops, drops - 1, memory_order_relaxed);
	if (drops > 1)
		aside_drop(relist->fs->aside, dir);
}
