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
#include <sys/random.h>

#include "base/cleanup.h"
#include "fs/file_id.h"
#include "fs/inode_table.h"

/* ---- known objects ---- */

static int64_t ctime_of(const struct stat *attr)
{
	return (int64_t)attr->st_ctim.tv_sec * 1000000000 + attr->st_ctim.tv_nsec;
}

static struct slot *slot_new(struct inode_table *table, int fd, const struct stat *attr)
{
	fuse_ino_t lasting = lasting_of(table, fd, attr);
	struct slot *slot = slot_alloc(&table->slots);

	if (!slot)
		return NULL;
	slot->dev = attr->st_dev;
	slot->ino = attr->st_ino;
	slot->generation = lasting ? lasting >> 32 : ++table->generation;
	slot->fd = -1;
	slot->type = (attr->st_mode & S_IFMT) >> 12;
	slot->changed = ctime_of(attr);
	slot->sum = slot_sum(slot);
	/* Last: before it, it is nobody's for who comes after us. */
	atomic_signal_fence(memory_order_seq_cst);
	slot->flags = lasting ? SLOT_USED | SLOT_LASTING : SLOT_USED;
	if (table->root_fickle && slot->dev == table->root_dev)
		slot->flags |= SLOT_FICKLE;
	index_add(&table->slots, slot);
	return slot;
}

/*
 * The slot of the object behind fd, or NULL. An inode number cannot be recycled while a descriptor
 * is held; without one, the ids tell a recycled number: then the old slot keeps its node id (it
 * answers ESTALE) and loses its place in the index.
 */
static struct slot *slot_find(struct inode_table *table, int fd, const struct stat *attr)
{
	struct slot *slot = index_find(&table->slots, attr->st_dev, attr->st_ino);

	if (!slot)
		return NULL;
	if (slot->type == (attr->st_mode & S_IFMT) >> 12) {
		if (slot->fd >= 0)
			return slot;
		if (file_id_matches(&slot->id, fd)) {
			forgotten_remove(&table->slots, slot);
			return slot;
		}
	}
	if (slot->flags & SLOT_FORGOTTEN) {
		forgotten_remove(&table->slots, slot);
		index_remove(&table->slots, slot);
		slot_free(&table->slots, slot);
	} else
		index_oust(&table->slots, slot);
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

/* Whether a slot that nobody knows or uses stays, for who asks again by number. One out of the
 * index is a recycled inode number's former owner; a number that lasts needs no slot. */
static bool worth_keeping(struct inode_table *table, struct slot *slot)
{
	if (!table->max_forgotten || !table->handles || !(slot->flags & SLOT_INDEXED) ||
		slot->flags & SLOT_LASTING)
		return false;
	if (slot->fd < 0)
		return !(slot->flags & SLOT_BY_NAME);
	return !(slot->flags & SLOT_KEEP) && way_back(table, slot) == BY_HANDLE;
}

/*
 * Lets go of a slot if nobody knows or uses it. Returns a descriptor to be closed, or -1. *parent:
 * as place_clear() gives it.
 */
static int slot_settle(struct inode_table *table, struct slot *slot, struct slot **parent)
{
	bool keep;
	int fd;

	*parent = NULL;
	if (slot->nlookup || slot->pins || slot->children)
		return -1;
	keep = worth_keeping(table, slot);
	fd = unhold(&table->slots, slot);
	*parent = place_clear(&table->slots, slot);
	if (keep) {
		slot_keep(table, slot);
		return fd;
	}
	index_remove(&table->slots, slot);
	slot_free(&table->slots, slot);
	return fd;
}

void settle_and_unlock(struct inode_table *table, struct slot *slot)
{
	while (slot) {
		struct slot *parent;
		int fd = slot_settle(table, slot, &parent);

		pthread_mutex_unlock(&table->lock);
		if (fd >= 0)
			close(fd);
		slot = parent;
		if (!slot)
			return;
		pthread_mutex_lock(&table->lock);
		slot->children--;
	}
	pthread_mutex_unlock(&table->lock);
}

/* What place_clear() returned; NULL is nothing. */
static void release_parent(struct inode_table *table, struct slot *parent)
{
	if (!parent)
		return;
	pthread_mutex_lock(&table->lock);
	parent->children--;
	settle_and_unlock(table, parent);
}

static struct slot *usable_parent(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *parent = slot_of(table, ino);

	return parent && !(parent->flags & SLOT_FORGOTTEN) ? parent : NULL;
}

/* Stores the place where handles may not do. Returns the former parent, for release_parent(). */
static struct slot *place_learn(
	struct inode_table *table, struct slot *slot, const struct inode_place *place)
{
	struct slot *parent = usable_parent(table, place->parent);
	struct slot *former;

	if (!parent || node_id(table, slot) == FUSE_ROOT_ID)
		return NULL;
	if (table->handles && slot->dev == table->root_dev && !place->crossed &&
		!(parent->flags & SLOT_NAMED))
		return NULL;
	slot->flags |= SLOT_NAMED;
	if (place_is(&table->slots, slot, parent, place->name))
		return NULL;
	former = place_clear(&table->slots, slot);
	place_set(&table->slots, slot, parent, place->name);
	atomic_store_explicit(&table->named, true, memory_order_release);
	return former;
}

/* Of an object on another device than the source's, found at place: the first one of a device
 * decides for all. */
static bool is_fickle(
	struct inode_table *table, const struct stat *attr, const struct inode_place *place)
{
	struct slot *like;
	bool known, fickle;

	pthread_mutex_lock(&table->lock);
	like = index_find(&table->slots, attr->st_dev, attr->st_ino);
	if (!like)
		like = usable_parent(table, place->parent);
	known = like && like->dev == attr->st_dev;
	fickle = known && like->flags & SLOT_FICKLE;
	pthread_mutex_unlock(&table->lock);
	return known ? fickle : device_is_fickle(attr->st_dev);
}

int inode_learn(struct inode_table *table, int fd, const struct stat *attr,
	const struct inode_place *place, struct fuse_entry_param *entry)
{
	bool fickle = place && attr->st_dev != table->root_dev && is_fickle(table, attr, place);
	struct closing closing = {0};
	struct slot *slot, *former = NULL;
	_cleanup_fd int own = fd;

	pthread_mutex_lock(&table->lock);
	slot = slot_find(table, own, attr);
	if (slot)
		slot->flags |= SLOT_REFERENCED;
	else if (held_reserve(&table->slots) == 0)
		slot = slot_new(table, own, attr);
	if (!slot) {
		pthread_mutex_unlock(&table->lock);
		return -ENOMEM;
	}
	if (slot->fd < 0 && held_reserve(&table->slots) == 0)
		hold(&table->slots, slot, steal_fd(&own));
	if (fickle)
		slot->flags |= SLOT_FICKLE;
	/* It may have had no name, or none that was known. */
	if (attr->st_nlink > 0)
		slot->flags &= ~SLOT_KEEP;
	if (place)
		former = place_learn(table, slot, place);
	/* Nobody has cached anything of it. */
	if (slot->nlookup == 0)
		slot->changed = ctime_of(attr);
	slot->nlookup++;
	entry->ino = node_id(table, slot);
	/* One that lasts names this object alone. */
	entry->generation = slot->flags & SLOT_LASTING ? 0 : slot->generation;
	evict(table, table->max_fds, &closing);
	pthread_mutex_unlock(&table->lock);

	close_all(&closing);
	release_parent(table, former);
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

void inode_moved(struct inode_table *table, fuse_ino_t ino, const struct inode_place *from,
	const struct inode_place *to)
{
	struct slot *slot, *parent, *former = NULL;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	parent = usable_parent(table, from->parent);
	/* Not if it is known by another of its names. */
	if (slot && (!slot->parent || place_is(&table->slots, slot, parent, from->name))) {
		former = place_clear(&table->slots, slot);
		if (to) {
			place_learn(table, slot, to);
			slot->flags &= ~SLOT_KEEP;
		}
	}
	pthread_mutex_unlock(&table->lock);
	release_parent(table, former);
}

bool inode_dropped(struct inode_table *table)
{
	return atomic_load_explicit(&table->dropped, memory_order_acquire);
}

bool inode_named(struct inode_table *table)
{
	return atomic_load_explicit(&table->named, memory_order_acquire);
}

bool inode_forget(struct inode_table *table, fuse_ino_t ino, uint64_t nlookup)
{
	bool unknown = false;
	struct slot *slot;

	if (ino == FUSE_ROOT_ID)
		return false;
	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && (slot->flags & SLOT_FORGOTTEN || nlookup > slot->nlookup))
		slot = NULL;
	if (slot)
		slot->nlookup -= nlookup;
	unknown = slot && slot->nlookup == 0;
	settle_and_unlock(table, slot);
	return unknown;
}

/* Not counted while no object has a place: a count too low does no harm. */
static void count_openers(struct inode_table *table, fuse_ino_t ino, int change)
{
	struct slot *slot;

	if (!inode_named(table))
		return;
	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && (change > 0 || slot->openers))
		slot->openers += change;
	pthread_mutex_unlock(&table->lock);
}

void inode_opened(struct inode_table *table, fuse_ino_t ino)
{
	count_openers(table, ino, 1);
}

void inode_closed(struct inode_table *table, fuse_ino_t ino)
{
	count_openers(table, ino, -1);
}

void inode_changed(struct inode_table *table, fuse_ino_t ino, int64_t at)
{
	struct slot *slot;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && slot->changed < at)
		slot->changed = at;
	pthread_mutex_unlock(&table->lock);
}

bool inode_news(struct inode_table *table, fuse_ino_t ino, int64_t ctime)
{
	struct slot *slot;
	bool news;

	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	news = slot && slot->changed < ctime;
	if (news)
		slot->changed = ctime;
	pthread_mutex_unlock(&table->lock);
	return news;
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

/* Not a slot that its children or users alone keep. */
static bool is_known(const struct slot *slot)
{
	return slot && !(slot->flags & SLOT_FORGOTTEN) && slot->nlookup;
}

fuse_ino_t inode_find(struct inode_table *table, dev_t dev, ino_t ino)
{
	struct slot *slot;
	fuse_ino_t found = 0;

	pthread_mutex_lock(&table->lock);
	slot = index_find(&table->slots, dev, ino);
	if (is_known(slot))
		found = node_id(table, slot);
	pthread_mutex_unlock(&table->lock);
	return found;
}

bool inode_known(struct inode_table *table, fuse_ino_t ino)
{
	bool known;

	pthread_mutex_lock(&table->lock);
	known = is_known(slot_of(table, ino));
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
	while (n != SLOTS_END && !is_known(&slots->slot[n]) && ++n);
	pthread_mutex_unlock(&table->lock);
	return n == SLOTS_END ? 0 : n + (fuse_ino_t)FUSE_ROOT_ID;
}

void inode_number(struct inode_table *table, struct stat *attr)
{
	devices_number(&table->devices, attr);
}

/* ---- the table ---- */

void inode_get_usage(struct inode_table *table, struct inode_usage *out)
{
	pthread_mutex_lock(&table->lock);
	out->inodes = table->slots.used - table->slots.n_forgotten;
	out->forgotten = table->slots.n_forgotten;
	out->fds = table->slots.n_held;
	out->reopened = table->reopened;
	out->reopened_by_name = table->reopened_by_name;
	/* The slot, its bit, at most two index entries and two places among the held; names. */
	out->bytes_per_inode =
		sizeof(struct slot) + sizeof(struct slot_chunk) / CHUNK_SLOTS +
		4 * sizeof(uint32_t) +
		(table->slots.names.bytes + table->slots.used - 1) / table->slots.used;
	pthread_mutex_unlock(&table->lock);
}

/* Whether a handle of the root opens: needs a file system with handles, and CAP_DAC_READ_SEARCH. */
static void probe_handles(struct inode_table *table)
{
	struct file_id id;
	_cleanup_fd int fd = -1;

	if (file_id_of(table->root_fd, &id, &table->root_mount) < 0)
		return;
	fd = file_id_open(table->root_fd, &id);
	table->handles = fd >= 0;
	if (table->handles)
		table->lasting = lasting_form(table->root_fd, &id, table->root_mount);
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
	table->root_dev = table->devices.root = st.st_dev;
	table->root_fickle = device_is_fickle(st.st_dev);
	root = slot_new(table, fd, &st);
	root->generation = 0; /* what the kernel takes for granted */
	root->sum = slot_sum(root);
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
	table->root_fd = root_fd;
	table->max_fds = max_fds;
	table->max_forgotten = max_forgotten;
	/* From anywhere, so that node id and generation of an earlier mount name nothing in this
	 * one. */
	if (getrandom(&table->generation, sizeof(table->generation), GRND_NONBLOCK) < 0)
		table->generation = 0;
	result = devices_init(&table->devices);
	if (result == 0)
		result = slots_init(&table->slots);
	if (result == 0)
		result = add_root(table);
	if (result < 0) {
		inode_table_free(table);
		return result;
	}
	probe_handles(table);
	*out = table;
	return 0;
}

void inode_table_free(struct inode_table *table)
{
	if (!table)
		return;
	slots_free(&table->slots);
	devices_free(&table->devices);
	pthread_mutex_destroy(&table->lock);
	free(table);
}
