/* SPDX-License-Identifier: MIT */
/* Names of objects, see names.h. For slots.c only. */
#include "fs/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/reserve.h"

enum {
	UNIT = 16, /* a reference is a place in the arena in units, + 1 */
	CHUNK = 64 << 10,
	CHUNKS_WANTED = 1 << 18, /* 16 GiB: 64 million of the longest names */
	CHUNKS_LEAST = 1 << 12,
};

/* What a place holds: the length, then the name without a NUL. */
struct name {
	uint8_t length;
	char text[];
};

int names_init(struct names *names)
{
	for (uint32_t n = CHUNKS_WANTED; n >= CHUNKS_LEAST && !names->arena; n /= 2) {
		names->arena = reserve_shared("names", (size_t)n * CHUNK);
		names->capacity = n;
	}
	if (!names->arena)
		return -ENOMEM;
	names->chunks = reserve(names->capacity * sizeof(struct name_chunk));
	return names->chunks ? 0 : -ENOMEM;
}

void names_free(struct names *names)
{
	if (names->arena)
		munmap(names->arena, (size_t)names->capacity * CHUNK);
	if (names->chunks)
		munmap(names->chunks, names->capacity * sizeof(struct name_chunk));
}

/* ---- places in chunks ---- */

static unsigned size_of(unsigned class)
{
	return UNIT << class;
}

static unsigned class_of(size_t size)
{
	unsigned class = 0;

	while (size_of(class) < size)
		class ++;
	return class;
}

static char *place(const struct names *names, uint32_t c, unsigned at)
{
	return names->arena + (size_t)c * CHUNK + (size_t)at * size_of(names->chunks[c].class);
}

static struct name *name_at(const struct names *names, uint32_t ref)
{
	return (struct name *)(names->arena + (size_t)(ref - 1) * UNIT);
}

static void list_add(struct names *names, uint32_t c)
{
	struct name_chunk *chunk = &names->chunks[c];
	uint32_t *head = &names->with_room[chunk->class];

	chunk->previous = 0;
	chunk->next = *head;
	if (*head)
		names->chunks[*head - 1].previous = c + 1;
	*head = c + 1;
	chunk->listed = true;
}

static void list_remove(struct names *names, uint32_t c)
{
	struct name_chunk *chunk = &names->chunks[c];

	if (chunk->previous)
		names->chunks[chunk->previous - 1].next = chunk->next;
	else
		names->with_room[chunk->class] = chunk->next;
	if (chunk->next)
		names->chunks[chunk->next - 1].previous = chunk->previous;
	chunk->listed = false;
}

/* An empty chunk for names of class. False when all of the arena is in use. */
static bool chunk_begin(struct names *names, unsigned class)
{
	uint32_t c = names->empty ? names->empty - 1 : names->begun;

	if (c >= names->capacity)
		return false;
	if (names->empty)
		names->empty = names->chunks[c].next;
	else
		names->begun++;
	names->chunks[c] = (struct name_chunk){.class = (uint8_t) class};
	list_add(names, c);
	return true;
}

static void chunk_end(struct names *names, uint32_t c)
{
	list_remove(names, c);
	reserve_forget(names->arena + (size_t)c * CHUNK, CHUNK);
	names->chunks[c].next = names->empty;
	names->empty = c + 1;
}

/* A free place of a chunk that has one: its number there. */
static unsigned place_take(struct names *names, uint32_t c)
{
	struct name_chunk *chunk = &names->chunks[c];
	unsigned at = chunk->fresh;

	if (chunk->freed) {
		at = chunk->freed - 1u;
		memcpy(&chunk->freed, place(names, c, at), sizeof(chunk->freed));
	} else
		chunk->fresh++;
	chunk->used++;
	if (chunk->used == CHUNK / size_of(chunk->class))
		list_remove(names, c);
	return at;
}

/* ---- names ---- */

uint32_t names_add(struct names *names, const char *name)
{
	size_t length = strlen(name);
	unsigned class = class_of(length + 1);
	struct name *stored;
	uint32_t c;

	if (!names->with_room[class] && !chunk_begin(names, class))
		return 0;
	c = names->with_room[class] - 1;
	stored = (struct name *)place(names, c, place_take(names, c));
	stored->length = (uint8_t)length;
	memcpy(stored->text, name, length);
	names->bytes += size_of(class);
	return (uint32_t)(((char *)stored - names->arena) / UNIT) + 1;
}

void names_remove(struct names *names, uint32_t ref)
{
	uint32_t c = (ref - 1) / (CHUNK / UNIT);
	struct name_chunk *chunk = &names->chunks[c];
	unsigned at = (ref - 1) % (CHUNK / UNIT) >> chunk->class;

	memcpy(place(names, c, at), &chunk->freed, sizeof(chunk->freed));
	chunk->freed = (uint16_t)(at + 1);
	chunk->used--;
	names->bytes -= size_of(chunk->class);
	if (!chunk->listed)
		list_add(names, c);
	/* The last one with room stays, so that a program at the border does not fault at each
	 * step. */
	if (chunk->used == 0 && (chunk->next || chunk->previous))
		chunk_end(names, c);
}

bool names_equal(const struct names *names, uint32_t ref, const char *name)
{
	const struct name *stored = name_at(names, ref);
	size_t length = strlen(name);

	return stored->length == length && memcmp(stored->text, name, length) == 0;
}

void names_copy(const struct names *names, uint32_t ref, char out[NAME_MAX + 1])
{
	const struct name *stored = name_at(names, ref);

	memcpy(out, stored->text, stored->length);
	out[stored->length] = '\0';
}

/* ---- after a predecessor's death ---- */

int names_recover(struct names *names)
{
	memset(names->with_room, 0, sizeof(names->with_room));
	names->begun = names->empty = 0;
	names->bytes = 0;
	/* Of the whole arena: address space, but for what is touched. */
	names->claimed = reserve((size_t)names->capacity * (CHUNK / UNIT / 8));
	return names->claimed ? 0 : -ENOMEM;
}

static bool bit_of(const struct names *names, uint32_t unit)
{
	return names->claimed[unit / 64] >> unit % 64 & 1;
}

bool names_claim(struct names *names, uint32_t ref)
{
	uint32_t unit = ref - 1, c = unit / (CHUNK / UNIT);
	struct name_chunk *chunk = &names->chunks[c];
	const struct name *name;
	unsigned class;

	if (!ref || c >= names->capacity)
		return false;
	name = name_at(names, ref);
	class = class_of(name->length + 1u);
	if (!name->length || unit % (1u << class) || bit_of(names, unit) ||
		(chunk->used && chunk->class != class))
		return false;
	/* Those between were empty. */
	while (names->begun <= c)
		names->chunks[names->begun++] = (struct name_chunk){0};
	names->claimed[unit / 64] |= UINT64_C(1) << unit % 64;
	chunk->class = (uint8_t) class;
	chunk->used++;
	names->bytes += size_of(class);
	return true;
}

/* What is not claimed of a chunk is free. */
static void free_rest(struct names *names, uint32_t c)
{
	struct name_chunk *chunk = &names->chunks[c];
	unsigned places = CHUNK / size_of(chunk->class);

	for (unsigned at = places; at-- > 0;) {
		if (bit_of(names, c * (CHUNK / UNIT) + (at << chunk->class)))
			continue;
		memcpy(place(names, c, at), &chunk->freed, sizeof(chunk->freed));
		chunk->freed = (uint16_t)(at + 1);
	}
	chunk->fresh = (uint16_t)places;
	if (chunk->used < places)
		list_add(names, c);
}

void names_claimed(struct names *names)
{
	for (uint32_t c = 0; c < names->begun; c++) {
		if (names->chunks[c].used) {
			free_rest(names, c);
			continue;
		}
		reserve_forget(names->arena + (size_t)c * CHUNK, CHUNK);
		names->chunks[c].next = names->empty;
		names->empty = c + 1;
	}
	munmap(names->claimed, (size_t)names->capacity * (CHUNK / UNIT / 8));
	names->claimed = NULL;
}
