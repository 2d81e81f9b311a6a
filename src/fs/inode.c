/* SPDX-License-Identifier: MIT */
/*
 * The inode table, see inode.h. For src/fs only.
 *
 * One mutex for all. Closing happens outside it: the last close of an unlinked file frees its
 * blocks.
 */
#include "fs/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "fs/file_id.h"
#include "fs/slots.h"

enum {
	DEVICES = 1 << 16,
	EVICT_STEPS = 64, /* of the clock hand, a call */
	EVICT_MOST = 16, /* descriptors closed, a call */
};

struct inode_table {
	int root_fd;
	int root_mount; /* mount id, as name_to_handle_at() gives it */
	uint64_t root_dev;
	unsigned max_fds;
	unsigned max_forgotten;
	bool can_drop; /* open_by_handle_at() works here */
	_Atomic bool dropped; /* some descriptor was, ever */

	pthread_mutex_t lock; /* of the following */
	struct slots slots;
	uint32_t hand; /* the clock's, in slots.held */
	uint32_t generation;
	uint64_t reopened;

	pthread_mutex_t device_lock; /* to add one */
	_Atomic uint64_t
		*devices; /* seen, without root_dev; its place + 1 goes into inode numbers */
	_Atomic uint32_t n_devices;
};

/* Descriptors to be closed once the lock is let go. */
struct closing {
	int n;
	int fds[EVICT_MOST];
};

static void close_all(struct closing *closing)
{
	for (int i = 0; i < closing->n; i++)
		close(closing->fds[i]);
	closing->n = 0;
}

/* ---- slots ---- */

static fuse_ino_t node_id(struct inode_table *table, const struct slot *slot)
{
	return slot_number(&table->slots, slot) + (fuse_ino_t)FUSE_ROOT_ID;
}

static struct slot *slot_of(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;

	if (ino < FUSE_ROOT_ID || ino - FUSE_ROOT_ID >= table->slots.capacity)
		return NULL;
	slot = &table->slots.slot[ino - FUSE_ROOT_ID];
	return slot->flags & SLOT_USED ? slot : NULL;
}

/* ---- dropping descriptors ---- */

/*
 * Whether the object comes back by its handle, which is stored. A deleted one would not: its
 * descriptor is what keeps it. One on another mount would come back on the wrong one.
 */
static bool droppable(struct inode_table *table, struct slot *slot)
{
	struct stat st;
	int mount;

	if (slot->pins || slot->flags & SLOT_KEEP)
		return false;
	if (slot->dev == table->root_dev && fstat(slot->fd, &st) == 0 && st.st_nlink > 0 &&
		file_id_of(slot->fd, &slot->id, &mount) == 0 && mount == table->root_mount)
		return true;
	slot->flags |= SLOT_KEEP;
	return false;
}

/* Clock: passes over what was used since the last round. Bounded work, so the bound may be passed
 * for a while. */
static void evict(struct inode_table *table, uint32_t bound, struct closing *closing)
{
	int steps = EVICT_STEPS;

	while (table->can_drop && table->slots.n_held > bound && closing->n < EVICT_MOST &&
		steps--) {
		struct slot *slot;

		if (table->hand >= table->slots.n_held)
			table->hand = 0;
		slot = &table->slots.slot[table->slots.held[table->hand]];
		if (slot->flags & SLOT_REFERENCED)
			slot->flags &= ~SLOT_REFERENCED;
		else if (droppable(table, slot)) {
			closing->fds[closing->n++] = unhold(&table->slots, slot);
			atomic_store_explicit(&table->dropped, true, memory_order_release);
		}
		table->hand++;
	}
}

bool inode_relieve(struct inode_table *table)
{
	struct closing closing = {0};
	bool any = false;

	/* A whole round at most, in portions: referenced ones fall in the second. */
	for (int round = 0; round < 64 && !any; round++) {
		pthread_mutex_lock(&table->lock);
		evict(table, 0, &closing);
		pthread_mutex_unlock(&table->lock);
		any = closing.n > 0;
		close_all(&closing);
	}
	return any;
}

/* ---- known objects ---- */

static struct slot *slot_new(struct inode_table *table, const struct stat *attr)
{
	struct slot *slot = slot_alloc(&table->slots);

	if (!slot)
		return NULL;
	slot->dev = attr->st_dev;
	slot->ino = attr->st_ino;
	slot->generation = ++table->generation;
	slot->fd = -1;
	slot->flags = SLOT_USED;
	slot->type = (attr->st_mode & S_IFMT) >> 12;
	index_add(&table->slots, slot);
	return slot;
}

/*
 * The slot of the object behind fd, or NULL. An inode number cannot be recycled while a descriptor
 * is held; without one, the handles tell a recycled number: then the old slot keeps its node id (it
 * answers ESTALE) and loses its place in the index.
 */
static struct slot *slot_find(struct inode_table *table, int fd, const struct stat *attr)
{
	struct slot *slot = index_find(&table->slots, attr->st_dev, attr->st_ino);
	struct file_id id;
	int mount;

	if (!slot)
		return NULL;
	if (slot->type == (attr->st_mode & S_IFMT) >> 12) {
		if (slot->fd >= 0)
			return slot;
		if (file_id_of(fd, &id, &mount) == 0 && file_id_equal(&id, &slot->id)) {
			forgotten_remove(&table->slots, slot);
			return slot;
		}
	}
	index_remove(&table->slots, slot);
	if (slot->flags & SLOT_FORGOTTEN) {
		forgotten_remove(&table->slots, slot);
		slot_free(&table->slots, slot);
	}
	return NULL;
}

/* A forgotten object that a handle brings back keeps its number; the one forgotten first makes room
 * for it. */
static void slot_keep(struct inode_table *table, struct slot *slot)
{
	struct slots *slots = &table->slots;

	forgotten_add(slots, slot);
	if (slots->n_forgotten > table->max_forgotten) {
		struct slot *oldest = forgotten_oldest(slots);

		forgotten_remove(slots, oldest);
		index_remove(slots, oldest);
		slot_free(slots, oldest);
	}
}

/* Lets go of a slot that nobody knows or uses. Returns a descriptor to be closed, or -1. */
static int slot_settle(struct inode_table *table, struct slot *slot)
{
	bool keep;
	int fd;

	if (slot->nlookup || slot->pins)
		return -1;
	/* One out of the index is a recycled inode number's former owner. */
	keep = table->max_forgotten && table->can_drop && slot->flags & SLOT_INDEXED &&
	       (slot->fd < 0 || droppable(table, slot));
	fd = unhold(&table->slots, slot);
	if (keep) {
		slot_keep(table, slot);
		return fd;
	}
	index_remove(&table->slots, slot);
	slot_free(&table->slots, slot);
	return fd;
}

int inode_learn(
	struct inode_table *table, int fd, const struct stat *attr, struct fuse_entry_param *entry)
{
	struct closing closing = {0};
	_cleanup_fd int own = fd;
	struct slot *slot;

	pthread_mutex_lock(&table->lock);
	slot = slot_find(table, own, attr);
	if (slot)
		slot->flags |= SLOT_REFERENCED;
	else if (held_reserve(&table->slots) == 0)
		slot = slot_new(table, attr);
	if (!slot) {
		pthread_mutex_unlock(&table->lock);
		return -ENOMEM;
	}
	if (slot->fd < 0 && held_reserve(&table->slots) == 0)
		hold(&table->slots, slot, steal_fd(&own));
	slot->nlookup++;
	entry->ino = node_id(table, slot);
	entry->generation = slot->generation;
	evict(table, table->max_fds, &closing);
	pthread_mutex_unlock(&table->lock);

	close_all(&closing);
	entry->attr = *attr;
	inode_number(table, &entry->attr);
	return 0;
}

fuse_ino_t inode_hold(struct inode_table *table, int fd, const struct stat *attr)
{
	_cleanup_fd int own = fd;
	fuse_ino_t ino = 0;
	struct slot *slot;

	pthread_mutex_lock(&table->lock);
	slot = slot_find(table, own, attr);
	if (slot) {
		if (slot->fd < 0 && held_reserve(&table->slots) == 0)
			hold(&table->slots, slot, steal_fd(&own));
		slot->pins++;
		ino = node_id(table, slot);
	}
	pthread_mutex_unlock(&table->lock);
	return ino;
}

bool inode_dropped(struct inode_table *table)
{
	return atomic_load_explicit(&table->dropped, memory_order_acquire);
}

void inode_forget(struct inode_table *table, fuse_ino_t ino, uint64_t nlookup)
{
	struct slot *slot;
	int fd = -1;

	if (ino == FUSE_ROOT_ID)
		return;
	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && !(slot->flags & SLOT_FORGOTTEN) && nlookup <= slot->nlookup) {
		slot->nlookup -= nlookup;
		fd = slot_settle(table, slot);
	}
	pthread_mutex_unlock(&table->lock);
	if (fd >= 0)
		close(fd);
}

/* ---- descriptors on demand ---- */

/* Opens what a handle names, and makes sure that it is what it was. */
static int reopen(struct inode_table *table, const struct slot *was)
{
	_cleanup_fd int fd = file_id_open(table->root_fd, &was->id);
	struct stat st;

	if ((fd == -EMFILE || fd == -ENFILE) && inode_relieve(table))
		fd = file_id_open(table->root_fd, &was->id);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != was->dev || st.st_ino != was->ino ||
		(st.st_mode & S_IFMT) >> 12 != was->type)
		return -ESTALE;
	return steal_fd(&fd);
}

/* slot is pinned, so it stays what it is while the lock is not held. */
static int slot_reopen(struct inode_table *table, struct slot *slot, const struct slot *was)
{
	struct closing closing = {0};
	_cleanup_fd int own = reopen(table, was);
	int fd = own;

	if (own < 0)
		return own;
	pthread_mutex_lock(&table->lock);
	if (slot->fd < 0) {
		fd = held_reserve(&table->slots);
		if (fd == 0) {
			hold(&table->slots, slot, steal_fd(&own));
			table->reopened++;
		}
	}
	if (fd >= 0)
		fd = slot->fd;
	evict(table, table->max_fds, &closing);
	pthread_mutex_unlock(&table->lock);
	close_all(&closing);
	return fd;
}

int inode_get(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot, was;
	int fd;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot) {
		forgotten_remove(&table->slots, slot);
		slot->pins++;
		slot->flags |= SLOT_REFERENCED;
		if (slot->fd < 0)
			was = *slot;
		fd = slot->fd;
	}
	pthread_mutex_unlock(&table->lock);

	if (!slot)
		return -ESTALE;
	if (fd < 0) {
		fd = slot_reopen(table, slot, &was);
		if (fd < 0)
			inode_put(table, ino);
	}
	return fd;
}

void inode_put(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;
	int fd = -1;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && slot->pins) {
		slot->pins--;
		fd = slot_settle(table, slot);
	}
	pthread_mutex_unlock(&table->lock);
	if (fd >= 0)
		close(fd);
}

mode_t inode_type(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;
	mode_t type;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	type = slot ? (mode_t)slot->type << 12 : 0;
	pthread_mutex_unlock(&table->lock);
	return type;
}

dev_t inode_device(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;
	dev_t dev;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	dev = slot ? slot->dev : 0;
	pthread_mutex_unlock(&table->lock);
	return dev;
}

fuse_ino_t inode_find(struct inode_table *table, dev_t dev, ino_t ino)
{
	struct slot *slot;
	fuse_ino_t found = 0;

	pthread_mutex_lock(&table->lock);
	slot = index_find(&table->slots, dev, ino);
	if (slot && !(slot->flags & SLOT_FORGOTTEN))
		found = node_id(table, slot);
	pthread_mutex_unlock(&table->lock);
	return found;
}

bool inode_known(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;
	bool known;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	known = slot && !(slot->flags & SLOT_FORGOTTEN);
	pthread_mutex_unlock(&table->lock);
	return known;
}

fuse_ino_t inode_next(struct inode_table *table, fuse_ino_t ino)
{
	struct slots *slots = &table->slots;
	uint32_t n = ino - FUSE_ROOT_ID;

	pthread_mutex_lock(&table->lock);
	do
		n = slots_next(slots, n);
	while (n != SLOTS_END && slots->slot[n].flags & SLOT_FORGOTTEN && ++n);
	pthread_mutex_unlock(&table->lock);
	return n == SLOTS_END ? 0 : n + (fuse_ino_t)FUSE_ROOT_ID;
}

/* ---- inode numbers of several devices ---- */

/* 1 and up; the last one is shared by whatever does not fit. */
static uint32_t device_place(struct inode_table *table, uint64_t dev)
{
	uint32_t n = atomic_load_explicit(&table->n_devices, memory_order_acquire);
	uint32_t i = 0;

	while (i < n && atomic_load_explicit(&table->devices[i], memory_order_relaxed) != dev)
		i++;
	if (i < n)
		return i + 1;
	pthread_mutex_lock(&table->device_lock);
	n = atomic_load_explicit(&table->n_devices, memory_order_relaxed);
	while (i < n && atomic_load_explicit(&table->devices[i], memory_order_relaxed) != dev)
		i++;
	if (i == n && n < DEVICES - 2) {
		atomic_store_explicit(&table->devices[n], dev, memory_order_relaxed);
		atomic_store_explicit(&table->n_devices, n + 1, memory_order_release);
	}
	pthread_mutex_unlock(&table->device_lock);
	return i + 1;
}

void inode_number(struct inode_table *table, struct stat *attr)
{
	if (attr->st_dev != table->root_dev)
		attr->st_ino ^= (uint64_t)device_place(table, attr->st_dev) << 48;
}

/* ---- the table ---- */

void inode_get_usage(struct inode_table *table, struct inode_usage *out)
{
	pthread_mutex_lock(&table->lock);
	out->inodes = table->slots.used - table->slots.n_forgotten;
	out->forgotten = table->slots.n_forgotten;
	out->fds = table->slots.n_held;
	out->reopened = table->reopened;
	pthread_mutex_unlock(&table->lock);
	/* The slot, its bit, and at most two index entries and two places among the held. */
	out->bytes_per_inode = sizeof(struct slot) + sizeof(struct slot_chunk) / CHUNK_SLOTS +
			       4 * sizeof(uint32_t);
}

/* Whether a handle of the root opens: needs a file system with handles, and CAP_DAC_READ_SEARCH. */
static bool probe_handles(struct inode_table *table)
{
	struct file_id id;
	_cleanup_fd int fd = -1;

	if (file_id_of(table->root_fd, &id, &table->root_mount) < 0)
		return false;
	fd = file_id_open(table->root_fd, &id);
	return fd >= 0;
}

/* Address space only: most mounts have one device. */
static int reserve_devices(struct inode_table *table)
{
	void *p = mmap(NULL, DEVICES * sizeof(*table->devices), PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	table->devices = p;
	return 0;
}

static int add_root(struct inode_table *table)
{
	struct stat st;
	struct slot *root;
	int fd;

	if (held_reserve(&table->slots) < 0)
		return -ENOMEM;
	if (fstat(table->root_fd, &st) < 0)
		return -errno;
	fd = openat(table->root_fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	table->root_dev = st.st_dev;
	root = slot_new(table, &st);
	root->generation = 0; /* what the kernel takes for granted */
	root->nlookup = 1;
	root->pins = 1;
	hold(&table->slots, root, fd);
	return 0;
}

int inode_table_new(int root_fd, unsigned max_fds, unsigned max_forgotten, struct inode_table **out)
{
	struct inode_table *table = calloc(1, sizeof(*table));
	int result;

	if (!table)
		return -ENOMEM;
	pthread_mutex_init(&table->lock, NULL);
	pthread_mutex_init(&table->device_lock, NULL);
	table->root_fd = root_fd;
	table->max_fds = max_fds;
	table->max_forgotten = max_forgotten;
	/* From anywhere, so that node id and generation of an earlier mount name nothing in this
	 * one. */
	if (getrandom(&table->generation, sizeof(table->generation), GRND_NONBLOCK) < 0)
		table->generation = 0;
	result = slots_init(&table->slots);
	if (result == 0)
		result = reserve_devices(table);
	if (result == 0)
		result = add_root(table);
	if (result < 0) {
		inode_table_free(table);
		return result;
	}
	table->can_drop = probe_handles(table);
	*out = table;
	return 0;
}

void inode_table_free(struct inode_table *table)
{
	if (!table)
		return;
	slots_free(&table->slots);
	if (table->devices)
		munmap((void *)table->devices, DEVICES * sizeof(*table->devices));
	pthread_mutex_destroy(&table->device_lock);
	pthread_mutex_destroy(&table->lock);
	free(table);
}
