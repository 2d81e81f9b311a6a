/* SPDX-License-Identifier: MIT */
/* The inode table closes descriptors, see inode.h and inode_table.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fs/file_id.h"
#include "fs/inode_table.h"

enum { EVICT_STEPS = 64 }; /* of the clock hand, a call */

/* What is mounted where a name leads is found by that name only as long as it is mounted. */
static bool is_mount_root(struct inode_table *table, const struct statx *stx, bool own_mount)
{
	if (stx->stx_attributes_mask & STATX_ATTR_MOUNT_ROOT)
		return stx->stx_attributes & STATX_ATTR_MOUNT_ROOT;
	/* Linux before 5.8 does not say. */
	return table->handles && !own_mount;
}

enum way_back way_back(struct inode_table *table, struct slot *slot)
{
	bool has_handle, own_mount;
	struct statx stx;
	int mount, born;

	if (statx(slot->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_NLINK | STATX_BTIME,
		    &stx) < 0 ||
		stx.stx_nlink == 0)
		return NO_WAY;
	has_handle = file_id_of(slot->fd, &slot->id, &mount) == 0;
	own_mount = has_handle && mount == table->root_mount && slot->dev == table->root_dev;
	if (table->handles && own_mount)
		return BY_HANDLE;
	if (!slot->parent || is_mount_root(table, &stx, own_mount))
		return NO_WAY;
	if (has_handle)
		return BY_NAME;
	born = file_id_born(&stx, &slot->id);
	return born == 0 ? BY_NAME : born == -EAGAIN ? NOT_YET : NO_WAY;
}

/* hard_pressed: there are no descriptors left. */
static bool droppable(struct inode_table *table, struct slot *slot, bool hard_pressed)
{
	enum way_back way = NO_WAY;

	if (slot->pins || slot->flags & SLOT_KEEP)
		return false;
	if (slot->openers && slot->parent && !hard_pressed)
		return false;
	if (!(slot->flags & SLOT_FICKLE))
		way = way_back(table, slot);
	if (way == NO_WAY)
		slot->flags |= SLOT_KEEP;
	slot->flags &= ~SLOT_BY_NAME;
	if (way == BY_NAME)
		slot->flags |= SLOT_BY_NAME;
	return way == BY_HANDLE || way == BY_NAME;
}

/* Clock: passes over what was used since the last round. Bounded work, so the bound may be passed
 * for a while. */
void evict(struct inode_table *table, uint32_t bound, struct closing *closing)
{
	int steps = EVICT_STEPS;

	while (table->slots.n_held > bound && closing->n < CLOSING_MOST && steps--) {
		struct slot *slot;

		if (table->hand >= table->slots.n_held)
			table->hand = 0;
		slot = &table->slots.slot[table->slots.held[table->hand]];
		if (slot->flags & SLOT_REFERENCED)
			slot->flags &= ~SLOT_REFERENCED;
		else if (droppable(table, slot, bound == 0)) {
			closing->fds[closing->n++] = unhold(&table->slots, slot);
			atomic_store_explicit(&table->dropped, true, memory_order_release);
		}
		table->hand++;
	}
}

void inode_others(struct inode_table *table, bool (*relieve)(void *arg), void *arg)
{
	table->relieve_others = relieve;
	table->others = arg;
}

bool inode_relieve(struct inode_table *table, int result)
{
	struct closing closing = {0};
	bool any = false;

	if (result != -EMFILE && result != -ENFILE)
		return false;
	/* A whole round at most, in portions: referenced ones fall in the second. */
	for (int round = 0; round < 64 && !any; round++) {
		pthread_mutex_lock(&table->lock);
		evict(table, 0, &closing);
		pthread_mutex_unlock(&table->lock);
		any = closing.n > 0;
		close_all(&closing);
	}
	return any || (table->relieve_others && table->relieve_others(table->others));
}

void close_all(struct closing *closing)
{
	for (int i = 0; i < closing->n; i++)
		close(closing->fds[i]);
	closing->n = 0;
}
