/* SPDX-License-Identifier: MIT */
/*
 * What the kernel keeps and shall keep no longer: collected without doubles, told in one go, told
 * again where it may have been too early. For watch.c and watch_event.c, on the watch's thread.
 *
 * Too early: an answer to a request may be on its way to the kernel, made from what the source was
 * before. An inode of the table that the kernel keeps nothing of is certain to come to it, or to
 * leave the table, so it is told until one of both has happened. Of a name nothing is certain, and
 * the answer for one that is asked for again may renew what was told to be old: so each name is
 * told twice more, or, where there are too many, dropped.
 */
#ifndef FS_STALE_H
#define FS_STALE_H

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/inode.h"

enum stale_what {
	STALE_ATTR = 1, /* attributes, access control lists */
	STALE_DATA = 2, /* these and the data, or a directory's listing */
	STALE_ENTRY = 4, /* a name in the directory */
};

enum {
	STALE_ITEMS = 1024,
	STALE_NAMES = 64 << 10,
	STALE_INDEX = 2048,
	/* Names kept to be told again: beyond it they have been told once. */
	STALE_AGAIN_NAMES = 16384,
	STALE_AGAIN_MS = 20, /* how often stale_tell_again() is due while there is something */
};

struct stale_item {
	fuse_ino_t ino;
	uint32_t name; /* its place in names; of an entry */
	uint16_t length;
	uint16_t next; /* item number + 1, or 0 */
	uint8_t what;
};

/* Something to be told again. */
struct stale_again {
	fuse_ino_t ino;
	int64_t due; /* milliseconds of the monotonic clock */
	char *name; /* of an entry, else NULL */
	uint8_t what;
	uint8_t times;
};

struct stale {
	int device; /* where notifications go */
	struct inode_table *inodes;
	const atomic_bool *stop; /* nothing is told any more */
	_Atomic uint64_t told; /* notifications that the kernel had use for */
	struct stale_item items[STALE_ITEMS];
	uint16_t index[STALE_INDEX]; /* heads of chains: item number + 1, or 0 */
	unsigned n_items;
	char names[STALE_NAMES];
	uint32_t names_used;
	struct stale_again *again;
	size_t n_again, again_size, again_names;
};

/* stale is zeroed before. */
void stale_init(
	struct stale *stale, int device, struct inode_table *inodes, const atomic_bool *stop);
void stale_free(struct stale *stale);

/* ino 0 is ignored. What does not fit makes the rest be told first. */
void stale_inode(struct stale *stale, fuse_ino_t ino, enum stale_what what);
void stale_entry(struct stale *stale, fuse_ino_t parent, const char *name);

/* Tells the kernel what was collected. May wait for who uses it, see notify.h. */
void stale_tell(struct stale *stale);

/* Everything that the kernel knows, whatever was collected. all_entries: it can forget all names at
 * once. */
void stale_tell_everything(struct stale *stale, bool all_entries);

/* Tells again what is due. False when there is nothing left to tell. */
bool stale_tell_again(struct stale *stale);

#endif
