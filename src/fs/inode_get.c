/* SPDX-License-Identifier: MIT */
/* The inode table gives descriptors, and brings those back that it closed; see inode.h. */
#include <errno.h>
#include <pthread.h>

#include "base/cleanup.h"
#include "fs/inode_table.h"
#include "fs/reopen.h"

/* One descriptor to be opened: what of, and how. */
struct attempt {
	struct slot *slot; /* pinned, so it stays what it is while the lock is not held */
	struct object want;
	bool by_name; /* or by handle */
	struct slot *parent; /* by name: pinned, with a descriptor; NULL where none is known */
	int dir_fd;
	char name[NAME_MAX + 1];
};

static void plan(struct inode_table *table, struct slot *slot, struct attempt *attempt)
{
	attempt->slot = slot;
	attempt->by_name = slot->flags & SLOT_BY_NAME;
	attempt->parent = attempt->by_name ? slot_parent(&table->slots, slot) : NULL;
	attempt->want = (struct object){
		.dev = slot->dev, .ino = slot->ino, .type = slot->type, .id = slot->id};
	if (!attempt->parent)
		return;
	attempt->parent->pins++;
	attempt->parent->flags |= SLOT_REFERENCED;
	attempt->dir_fd = attempt->parent->fd;
	names_copy(&table->slots.names, slot->name, attempt->name);
}

static int open_once(struct inode_table *table, struct attempt *attempt)
{
	if (attempt->parent)
		return reopen_by_name(attempt->dir_fd, attempt->name, &attempt->want);
	if (attempt->by_name)
		return -ESTALE;
	return reopen_by_handle(table->root_fd, &attempt->want);
}

/* The slot has its descriptor again. The name that led to it may be a new one, unless a rename has
 * told a newer one meanwhile. */
static void came_back(struct inode_table *table, const struct attempt *attempt, int fd)
{
	struct slot *slot = attempt->slot;

	hold(&table->slots, slot, fd);
	table->reopened++;
	if (!attempt->parent)
		return;
	table->reopened_by_name++;
	if (slot_parent(&table->slots, slot) != attempt->parent ||
		names_equal(&table->slots.names, slot->name, attempt->name))
		return;
	/* The parent is pinned, and gets the count back unless memory has run out. */
	place_clear(&table->slots, slot);
	attempt->parent->children--;
	place_set(&table->slots, slot, attempt->parent, attempt->name);
}

/* A rename has told another place since the plan was made: what was not found may well be there. */
static bool outdated(struct inode_table *table, const struct attempt *attempt)
{
	return attempt->parent &&
	       !place_is(&table->slots, attempt->slot, attempt->parent, attempt->name);
}

/* Opens and holds; unpins the parent. The descriptor; -EAGAIN: a new plan is due; or -errno. */
static int make(struct inode_table *table, struct attempt *attempt)
{
	struct slot *slot = attempt->slot;
	struct closing closing = {0};
	_cleanup_fd int own = open_once(table, attempt);
	int fd;

	while (inode_relieve(table, own))
		own = open_once(table, attempt);
	fd = own;
	pthread_mutex_lock(&table->lock);
	if (own >= 0 && slot->fd < 0) {
		fd = held_reserve(&table->slots);
		if (fd == 0)
			came_back(table, attempt, steal_fd(&own));
	}
	/* Or somebody else had one. */
	if (slot->fd >= 0)
		fd = slot->fd;
	else if (fd == -ESTALE && outdated(table, attempt))
		fd = -EAGAIN;
	evict(table, table->max_fds, &closing);
	if (attempt->parent)
		attempt->parent->pins--;
	settle_and_unlock(table, attempt->parent);
	close_all(&closing);
	return fd;
}

/* What can be opened next on the way down to slot: itself, or the one above it whose parent has a
 * descriptor or that comes back by handle. */
static struct slot *next_down(struct inode_table *table, struct slot *slot)
{
	while (slot->flags & SLOT_BY_NAME) {
		struct slot *parent = slot_parent(&table->slots, slot);

		if (!parent || parent->fd >= 0)
			break;
		slot = parent;
	}
	return slot;
}

/*
 * Of a pinned slot that comes back by name: the directories above it that have no descriptor come
 * first, from the top down, each pinned until the next one has its own. No recursion, since they
 * may be thousands.
 */
static int get_by_name(struct inode_table *table, struct slot *slot)
{
	struct slot *reached = NULL;
	int fd = -1;

	do {
		struct attempt attempt;
		struct slot *next = slot;

		pthread_mutex_lock(&table->lock);
		fd = slot->fd;
		if (fd < 0) {
			next = next_down(table, slot);
			next->pins++;
			plan(table, next, &attempt);
		}
		if (reached)
			reached->pins--;
		settle_and_unlock(table, reached);
		if (fd >= 0)
			return fd;
		fd = make(table, &attempt);
		reached = next;
	} while (fd == -EAGAIN || (fd >= 0 && reached != slot));
	inode_put(table, node_id(table, reached));
	return fd;
}

int inode_get(struct inode_table *table, fuse_ino_t ino)
{
	struct attempt attempt;
	struct slot *slot;
	bool by_name = false;
	int fd = -ESTALE;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && slot->flags & SLOT_DAMAGED) {
		fd = -EIO;
		slot = NULL;
	}
	if (slot) {
		forgotten_remove(&table->slots, slot);
		slot->pins++;
		slot->flags |= SLOT_REFERENCED;
		by_name = slot->flags & SLOT_BY_NAME;
		fd = slot->fd;
		if (fd < 0 && !by_name)
			plan(table, slot, &attempt);
	}
	pthread_mutex_unlock(&table->lock);

	if (!slot || fd >= 0)
		return fd;
	fd = by_name ? get_by_name(table, slot) : make(table, &attempt);
	if (fd < 0)
		inode_put(table, ino);
	return fd;
}

void inode_put(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && slot->pins)
		slot->pins--;
	else
		slot = NULL;
	settle_and_unlock(table, slot);
}
