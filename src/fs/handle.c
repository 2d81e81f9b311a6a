/* SPDX-License-Identifier: MIT */
/*
 * The handle table, see handle.h. For src/fs only.
 *
 * Slots lie in one reservation of address space and never move, so that finding one takes no lock.
 */
#include "fs/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/reserve.h"
#include "fs/share.h"

enum {
	SLOTS_WANTED = 4 << 20,
	SLOTS_LEAST = 64 << 10,
};

struct slot {
	struct handle handle;
	uint32_t next_free; /* slot number + 1, or 0 */
	uint32_t uses;
};

/* Shared, as the slots are. */
struct handle_head {
	_Atomic uint32_t high; /* slots ever given out: those below may be looked at */
	_Atomic uint64_t count;
	uint32_t free; /* slot number + 1 of the slot freed last, or 0 */
	_Atomic uint64_t opened; /* handles, ever */
};

struct handle_table {
	struct slot *slots;
	uint32_t capacity;
	pthread_mutex_t lock; /* of the free list, and of high's growth */
	struct shares shares; /* lock */
	struct handle_head *head;
};

int handle_table_new(struct handle_table **out)
{
	struct handle_table *table = calloc(1, sizeof(*table));

	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	table->head = reserve_shared("handles-head", sizeof(*table->head));
	for (uint32_t n = SLOTS_WANTED; n >= SLOTS_LEAST && !table->slots; n /= 2) {
		table->slots = reserve_shared("handles", n * sizeof(struct slot));
		table->capacity = n;
	}
	if (!table->slots || !table->head) {
		handle_table_free(table);
		return -ENOMEM;
	}
	*out = table;
	return 0;
}

/* Closes what a handle has, with nobody able to find it any more. */
void handle_close(struct handle *handle)
{
	for (int i = 0; i < FD_VARIANTS; i++) {
		int fd = atomic_exchange(&handle->fd[i], -1);

		if (fd >= 0)
			close(fd);
	}
	pthread_mutex_destroy(&handle->dir_lock);
}

void handle_table_free(struct handle_table *table)
{
	uint32_t high = table && table->head ? table->head->high : 0;

	if (!table)
		return;
	for (uint32_t i = 0; i < high; i++) {
		if (table->slots[i].handle.ino)
			handle_close(&table->slots[i].handle);
	}
	if (table->slots)
		munmap(table->slots, table->capacity * sizeof(struct slot));
	if (table->head)
		munmap(table->head, sizeof(*table->head));
	pthread_mutex_destroy(&table->lock);
	free(table);
}

static struct slot *slot_alloc(struct handle_table *table)
{
	struct slot *slot = NULL;
	uint32_t high;

	pthread_mutex_lock(&table->lock);
	high = atomic_load_explicit(&table->head->high, memory_order_relaxed);
	if (table->head->free) {
		slot = &table->slots[table->head->free - 1];
		table->head->free = slot->next_free;
	} else if (high < table->capacity) {
		slot = &table->slots[high];
		slot->handle.index = high;
		atomic_store_explicit(&table->head->high, high + 1, memory_order_release);
	}
	pthread_mutex_unlock(&table->lock);
	return slot;
}

/* What means something to this process alone. */
static void init_own(struct handle *handle)
{
	list_init(&handle->node);
	pthread_mutex_init(&handle->dir_lock, NULL);
}

static void handle_init(struct handle *handle, int access, int first)
{
	handle->access = access;
	handle->first = first;
	for (int i = 0; i < FD_VARIANTS; i++)
		atomic_store_explicit(&handle->fd[i], -1, memory_order_relaxed);
	handle->cached = false;
	handle->damaged = false;
	handle->owned = false;
	handle->dir_offset = 0;
	init_own(handle);
}

void handle_init_own(struct handle *handle, fuse_ino_t ino)
{
	handle_init(handle, O_RDWR, -1);
	atomic_store_explicit(&handle->ino, ino, memory_order_release);
}

struct handle *handle_new(
	struct handle_table *table, fuse_ino_t ino, int fd, int variant, int access)
{
	struct slot *slot = slot_alloc(table);
	struct handle *handle;

	if (!slot) {
		close(fd);
		return NULL;
	}
	handle = &slot->handle;
	handle_init(handle, access, variant);
	handle->fh = (uint64_t)++slot->uses << 32 | handle->index;
	handle->opened = atomic_fetch_add(&table->head->opened, 1);
	atomic_store_explicit(&handle->fd[variant], fd, memory_order_relaxed);
	atomic_fetch_add_explicit(&table->head->count, 1, memory_order_relaxed);
	/* Last: who finds it sees all of the above. */
	atomic_store_explicit(&handle->ino, ino, memory_order_release);
	return handle;
}

void handle_bound(struct handle_table *table, uint32_t most)
{
	table->shares.most = most;
}

bool handle_own(struct handle_table *table, struct handle *handle, uid_t uid)
{
	pthread_mutex_lock(&table->lock);
	handle->owner = uid;
	handle->owned = share_take(&table->shares, uid);
	pthread_mutex_unlock(&table->lock);
	return handle->owned;
}

struct handle *handle_find(struct handle_table *table, uint64_t fh, fuse_ino_t ino)
{
	uint32_t index = (uint32_t)fh;
	struct handle *handle;

	if (ino == 0 || index >= atomic_load_explicit(&table->head->high, memory_order_acquire))
		return NULL;
	handle = &table->slots[index].handle;
	return atomic_load_explicit(&handle->ino, memory_order_acquire) == ino && handle->fh == fh
		       ? handle
		       : NULL;
}

void handle_free(struct handle_table *table, struct handle *handle)
{
	struct slot *slot = &table->slots[handle->index];

	atomic_store_explicit(&handle->ino, 0, memory_order_release);
	handle_close(handle);
	atomic_fetch_sub_explicit(&table->head->count, 1, memory_order_relaxed);
	pthread_mutex_lock(&table->lock);
	if (handle->owned)
		share_give(&table->shares, handle->owner);
	slot->next_free = table->head->free;
	table->head->free = handle->index + 1;
	pthread_mutex_unlock(&table->lock);
}

uint64_t handle_count(struct handle_table *table)
{
	return atomic_load_explicit(&table->head->count, memory_order_relaxed);
}

int handle_some_fd(const struct handle *handle)
{
	for (int i = 0; i < FD_VARIANTS; i++) {
		int fd = atomic_load(&handle->fd[i]);

		if (fd >= 0)
			return fd;
	}
	return -1;
}

/* ---- after a predecessor's death ---- */

/* A handle whose first descriptor is not its own cannot be used; another one is opened again. */
static void check(
	struct handle *handle, bool (*is_right)(int fd, fuse_ino_t ino, void *arg), void *arg)
{
	if (handle->first < 0 || handle->first >= FD_VARIANTS || handle->fd[handle->first] < 0)
		handle->damaged = true;
	for (int i = 0; i < FD_VARIANTS; i++) {
		int fd = handle->fd[i];

		if (fd >= 0 && !is_right(fd, handle->ino, arg)) {
			/* It may be somebody else's: not closed. */
			handle->fd[i] = -1;
			handle->damaged |= i == handle->first;
		}
	}
}

void handle_recover(
	struct handle_table *table, bool (*is_right)(int fd, fuse_ino_t ino, void *arg), void *arg)
{
	pthread_mutex_init(&table->lock, NULL);
	table->head->free = 0;
	table->head->count = 0;
	table->shares.n = 0;
	for (uint32_t n = table->head->high; n-- > 0;) {
		struct slot *slot = &table->slots[n];

		slot->handle.index = n;
		if (!slot->handle.ino) {
			slot->next_free = table->head->free;
			table->head->free = n + 1;
			continue;
		}
		table->head->count++;
		if (slot->handle.owned)
			share_take(&table->shares, slot->handle.owner);
		init_own(&slot->handle);
		/* Who has read through the cache is not known any more, nor how far a stream has
		   moved since that was noted. */
		slot->handle.cached = true;
		slot->handle.dir_offset = HANDLE_NOWHERE;
		check(&slot->handle, is_right, arg);
	}
}

struct handle *handle_at(struct handle_table *table, uint32_t n)
{
	struct handle *handle = &table->slots[n].handle;

	return handle->ino ? handle : NULL;
}

uint32_t handle_slots(const struct handle_table *table)
{
	return table->head->high;
}
