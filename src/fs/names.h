/* SPDX-License-Identifier: MIT */
/*
 * Names of objects, stored compactly: for slots.c only, under the inode table's lock.
 *
 * A name is known by a number, its reference. Names lie in one reservation of address space, cut
 * into chunks; each chunk holds names of one size class (16 to 256 bytes), and is memory only as
 * long as one of them is in use. The names themselves are in shared memory, and hold all that a
 * successor needs to make the rest anew from the references that are in use.
 */
#ifndef FS_NAMES_H
#define FS_NAMES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum { NAME_CLASSES = 5 };

struct name_chunk {
	uint16_t used; /* names in it */
	uint16_t fresh; /* places never used so far begin here */
	uint16_t freed; /* place + 1 of the first one given back, or 0: a list */
	uint8_t class;
	bool listed; /* among those of its class that have room */
	uint32_t next, previous; /* there, or among the empty ones (next only): number + 1, or 0 */
};

struct names {
	char *arena;
	struct name_chunk *chunks;
	uint32_t capacity, begun; /* chunks: in all, and so many were ever used */
	uint32_t empty; /* used once, without memory now: number + 1, or 0 */
	uint32_t with_room[NAME_CLASSES]; /* number + 1, or 0 */
	uint64_t *claimed; /* while names are claimed: a bit for each unit */
	uint64_t bytes; /* of the places in use */
};

/* 0 or -ENOMEM; names_free() is due in both cases. names is zeroed before. */
int names_init(struct names *names);
void names_free(struct names *names);

/* Stores a name of 1 to NAME_MAX bytes. Its reference, or 0 without memory. */
uint32_t names_add(struct names *names, const char *name);
void names_remove(struct names *names, uint32_t ref);

bool names_equal(const struct names *names, uint32_t ref, const char *name);
/* Copies the name out, with a NUL at its end. */
void names_copy(const struct names *names, uint32_t ref, char out[NAME_MAX + 1]);

/* ---- after a predecessor's death ---- */

/*
 * Begins anew with nothing in use. Then names_claim() of each reference that is, then
 * names_claimed(). Or -ENOMEM, with which none of them is.
 */
int names_recover(struct names *names);
/* False for what cannot be a name's reference. */
bool names_claim(struct names *names, uint32_t ref);
void names_claimed(struct names *names);

#endif
