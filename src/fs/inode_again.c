/* SPDX-License-Identifier: MIT */
/* The inode table after the death of the process that used it; see inode.h. For src/fs only. */
#include <errno.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "fs/inode_table.h"

/* Whether fd is what the slot says. */
static bool is_its_own(const struct slot *slot, int fd)
{
	struct stat attr;

	return fstat(fd, &attr) == 0 && attr.st_dev == slot->dev && attr.st_ino == slot->ino &&
	       (attr.st_mode & S_IFMT) >> 12 == slot->type;
}

/* A descriptor that is not the slot's own may be somebody else's: it is not closed here. What the
 * dead process changed last it may not have noted. */
static void check(struct inode_table *table, struct slot *slot, int64_t now)
{
	if (slot->fd >= 0 && !(slot->flags & SLOT_DAMAGED) && !is_its_own(slot, slot->fd))
		slot->flags |= SLOT_DAMAGED;
	if (slot->flags & SLOT_DAMAGED)
		unhold(&table->slots, slot);
	if (slot->changed < now)
		slot->changed = now;
	if (slot->fd < 0)
		atomic_store(&table->dropped, true);
	if (slot->parent)
		atomic_store(&table->named, true);
}

static bool is_unknown(const struct slot *slot)
{
	return !slot->nlookup && !slot->children && !slot->pins && !(slot->flags & SLOT_FORGOTTEN);
}

int inode_recover(struct inode_table *table)
{
	struct slots *slots = &table->slots;
	struct slot *root = slots->slot;
	int result = slots_recover(slots);
	struct timespec t;
	int64_t now;
	uint32_t n;

	clock_gettime(CLOCK_REALTIME, &t);
	now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
	if (result < 0)
		return result;
	if (!(root->flags & SLOT_USED))
		return -EUCLEAN;
	for (n = 0; (n = slots_next(slots, n)) != SLOTS_END; n++)
		check(table, &slots->slot[n], now);
	if (root->flags & SLOT_DAMAGED)
		return -EUCLEAN;
	root->pins = 1;
	/* Not one that was given out. */
	if (getrandom(&table->generation, sizeof(table->generation), GRND_NONBLOCK) < 0)
		table->generation += 1u << 30;
	for (n = 1; (n = slots_next(slots, n)) != SLOTS_END; n++) {
		pthread_mutex_lock(&table->lock);
		settle_and_unlock(table, is_unknown(&slots->slot[n]) ? &slots->slot[n] : NULL);
	}
	return 0;
}

bool inode_is(struct inode_table *table, fuse_ino_t ino, int fd)
{
	struct slot *slot;
	bool is;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	is = slot && is_its_own(slot, fd);
	pthread_mutex_unlock(&table->lock);
	return is;
}

uint64_t inode_damaged(struct inode_table *table)
{
	uint64_t count = 0;

	pthread_mutex_lock(&table->lock);
	for (uint32_t n = 0; (n = slots_next(&table->slots, n)) != SLOTS_END; n++)
		count += (table->slots.slot[n].flags & SLOT_DAMAGED) != 0;
	pthread_mutex_unlock(&table->lock);
	return count;
}

void inode_each_fd(struct inode_table *table, void (*use)(int fd, void *arg), void *arg)
{
	const struct slots *slots = &table->slots;

	for (uint32_t n = 0; n < slots->n_held; n++)
		use(slots->slot[slots->held[n]].fd, arg);
}
