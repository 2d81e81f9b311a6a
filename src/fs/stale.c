/* SPDX-License-Identifier: MIT */
/* What the kernel shall keep no longer, see stale.h. On the watch's thread. */
#include "fs/stale.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fs/notify.h"

/* An inode that neither comes to the kernel nor leaves the table in this time never will. */
#define INODE_TIMES 40
#define ENTRY_TIMES 2

void stale_init(
	struct stale *stale, int device, struct inode_table *inodes, const atomic_bool *stop)
{
	stale->device = device;
	stale->inodes = inodes;
	stale->stop = stop;
}

void stale_free(struct stale *stale)
{
	for (size_t i = 0; i < stale->n_again; i++)
		free(stale->again[i].name);
	free(stale->again);
	stale->again = NULL;
	stale->n_again = stale->again_size = stale->again_names = 0;
}

/* ---- collecting ---- */

static uint16_t *index_head(struct stale *stale, fuse_ino_t ino, const char *name, size_t length)
{
	uint64_t h = ino * UINT64_C(0x9e3779b97f4a7c15);

	for (size_t i = 0; i < length; i++)
		h = (h ^ (uint8_t)name[i]) * UINT64_C(0x100000001b3);
	return &stale->index[h >> 32 & (STALE_INDEX - 1)];
}

/* name "" is the inode itself, not one of its entries. */
static void add(struct stale *stale, fuse_ino_t ino, const char *name, enum stale_what what)
{
	size_t length = strlen(name);
	uint16_t *head = index_head(stale, ino, name, length);
	struct stale_item *item;

	for (unsigned i = *head; i; i = item->next) {
		item = &stale->items[i - 1];
		if (item->ino == ino && item->length == length &&
			!memcmp(stale->names + item->name, name, length)) {
			item->what |= what;
			return;
		}
	}
	if (stale->n_items == STALE_ITEMS || stale->names_used + length + 1 > STALE_NAMES)
		stale_tell(stale);
	item = &stale->items[stale->n_items++];
	*item = (struct stale_item){
		.ino = ino,
		.name = stale->names_used,
		.length = (uint16_t)length,
		.next = *head,
		.what = what,
	};
	*head = (uint16_t)stale->n_items;
	memcpy(stale->names + stale->names_used, name, length + 1);
	stale->names_used += (uint32_t)length + 1;
}

void stale_inode(struct stale *stale, fuse_ino_t ino, enum stale_what what)
{
	if (ino)
		add(stale, ino, "", what);
}

void stale_entry(struct stale *stale, fuse_ino_t parent, const char *name)
{
	if (parent && *name)
		add(stale, parent, name, STALE_ENTRY);
}

/* ---- telling ---- */

static int64_t now_ms(void)
{
	return clock_ns() / 1000000;
}

static bool stopped(const struct stale *stale)
{
	return atomic_load_explicit(stale->stop, memory_order_relaxed);
}

/* Soon at first, when the answer on its way is likely to have come; later for the delayed ones. */
static int64_t delay(enum stale_what what, unsigned times)
{
	if (what == STALE_ENTRY)
		return times ? 1000 : STALE_AGAIN_MS;
	return times < 5 ? STALE_AGAIN_MS : 1000;
}

/* False: there is no room for it. */
static bool again(struct stale *stale, fuse_ino_t ino, const char *name, enum stale_what what)
{
	char *copy = NULL;

	if (what == STALE_ENTRY && stale->again_names == STALE_AGAIN_NAMES)
		return false;
	if (stale->n_again == stale->again_size) {
		size_t size = stale->again_size ? 2 * stale->again_size : 64;
		void *grown = realloc(stale->again, size * sizeof(*stale->again));

		if (!grown)
			return false;
		stale->again = grown;
		stale->again_size = size;
	}
	if (what == STALE_ENTRY) {
		copy = strdup(name);
		if (!copy)
			return false;
		stale->again_names++;
	}
	stale->again[stale->n_again++] = (struct stale_again){
		.ino = ino,
		.due = now_ms() + delay(what, 0),
		.name = copy,
		.what = what,
	};
	return true;
}

static int send(struct stale *stale, fuse_ino_t ino, const char *name, enum stale_what what)
{
	fuse_ino_t told = inode_told(stale->inodes, ino);
	int result;

	if (what == STALE_ENTRY)
		result = notify_entry(stale->device, told, name, strlen(name), false);
	else if (what == STALE_DATA)
		result = notify_data(stale->device, told);
	else
		result = notify_attr(stale->device, told);
	if (result == 0)
		atomic_fetch_add_explicit(&stale->told, 1, memory_order_relaxed);
	return result;
}

static void tell(struct stale *stale, fuse_ino_t ino, const char *name, enum stale_what what)
{
	bool absent = send(stale, ino, name, what) == -ENOENT;

	/* An answer on its way may bring a name back, there or not. */
	if (what == STALE_ENTRY && !again(stale, ino, name, what))
		notify_entry(
			stale->device, inode_told(stale->inodes, ino), name, strlen(name), true);
	else if (what != STALE_ENTRY && absent && inode_known(stale->inodes, ino))
		again(stale, ino, name, what);
}

/*
 * What waits for nobody first: with its attributes a file that is read asks for them, and is read
 * anew when they have changed, already before its pages go.
 */
void stale_tell(struct stale *stale)
{
	static const enum stale_what order[] = {STALE_ATTR, STALE_ENTRY, STALE_DATA};

	for (size_t pass = 0; pass < sizeof(order) / sizeof(order[0]); pass++) {
		enum stale_what what = order[pass];

		for (unsigned i = 0; i < stale->n_items && !stopped(stale); i++) {
			struct stale_item *item = &stale->items[i];
			bool due = item->what & what ||
				   (what == STALE_ATTR && item->what & STALE_DATA);

			if (due)
				tell(stale, item->ino, stale->names + item->name, what);
		}
	}
	stale->n_items = 0;
	stale->names_used = 0;
	memset(stale->index, 0, sizeof(stale->index));
}

static void tell_all_inodes(struct stale *stale, enum stale_what what)
{
	fuse_ino_t ino = FUSE_ROOT_ID;

	while (!stopped(stale) && (ino = inode_next(stale->inodes, ino)))
		tell(stale, ino++, "", what);
}

void stale_tell_everything(struct stale *stale, bool all_entries)
{
	stale_tell(stale);
	if (all_entries && notify_all_entries(stale->device) == 0)
		atomic_fetch_add_explicit(&stale->told, 1, memory_order_relaxed);
	tell_all_inodes(stale, STALE_ATTR);
	tell_all_inodes(stale, STALE_DATA);
}

/* One that is due. Whether it is to stay. */
static bool tell_once_more(struct stale *stale, struct stale_again *item)
{
	int result;

	if (item->what != STALE_ENTRY && !inode_known(stale->inodes, item->ino))
		return false;
	result = send(stale, item->ino, item->name, item->what);
	item->times++;
	item->due = now_ms() + delay(item->what, item->times);
	if (item->what == STALE_ENTRY)
		return item->times < ENTRY_TIMES;
	return result == -ENOENT && item->times < INODE_TIMES;
}

bool stale_tell_again(struct stale *stale)
{
	int64_t now = stale->n_again ? now_ms() : 0;
	size_t kept = 0;

	for (size_t i = 0; i < stale->n_again; i++) {
		struct stale_again *item = &stale->again[i];

		if (stopped(stale) || item->due > now || tell_once_more(stale, item)) {
			stale->again[kept++] = *item;
			continue;
		}
		stale->again_names -= item->name != NULL;
		free(item->name);
	}
	stale->n_again = kept;
	return kept > 0;
}
