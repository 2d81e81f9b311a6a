/* SPDX-License-Identifier: MIT */
/*
 * The inode table: every object that the kernel knows, as a numbered slot. For src/fs only.
 *
 * A node id is a slot's number + 1, so the root is FUSE_ROOT_ID. Slots hold no process pointers and
 * never move, so that they can live in shared memory. Thread-safe.
 *
 * A slot keeps an O_PATH descriptor of its object while that is affordable. Over the bound,
 * descriptors of objects with a file handle are closed, least recently used first, and reopened by
 * handle on demand; a handle names exactly one object, so a renamed or replaced file is never
 * mistaken for another.
 *
 * What the kernel has forgotten may be asked for again by number: an NFS server's clients keep it.
 * So the slots of such objects stay, with the handle and without a descriptor, up to a bound; over
 * it those go that were forgotten first, and their numbers, given out anew with another generation,
 * are stale.
 */
#ifndef FS_INODE_H
#define FS_INODE_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct fs;
struct inode_table;

/*
 * Makes the table with the root in it. root_fd: O_RDONLY directory, stays the caller's and open.
 * max_fds: bound of descriptors held for slots. max_forgotten: of slots kept after they were
 * forgotten. *out is the caller's, freed by inode_table_free().
 * 0 or -errno.
 */
int inode_table_new(
	int root_fd, unsigned max_fds, unsigned max_forgotten, struct inode_table **out);
void inode_table_free(struct inode_table *table);

/*
 * An O_PATH descriptor of ino, valid until inode_put(). Returns the descriptor, or -errno: -ESTALE
 * for an object that is gone or a number that was never given out.
 */
int inode_get(struct inode_table *table, fuse_ino_t ino);
void inode_put(struct inode_table *table, fuse_ino_t ino);

/* S_IFMT bits of the object, 0 for an unknown ino. They never change for a slot in use. */
mode_t inode_type(struct inode_table *table, fuse_ino_t ino);

/* st_dev of the object, 0 for an unknown ino. */
dev_t inode_device(struct inode_table *table, fuse_ino_t ino);

/* ---- for the watch: what the kernel knows, never what it has forgotten ---- */

/* The node id of an object, or 0. */
fuse_ino_t inode_find(struct inode_table *table, dev_t dev, ino_t ino);
bool inode_known(struct inode_table *table, fuse_ino_t ino);
/* The first known node id from ino on, or 0. */
fuse_ino_t inode_next(struct inode_table *table, fuse_ino_t ino);

/*
 * The object behind fd (O_PATH or not; with its attributes) becomes known, or known once more: its
 * lookup count rises by one. Takes over fd in every case (it may be closed at once when the slot
 * has one already). Fills entry: ino, generation, attr (with our inode number), timeouts are left
 * alone. 0 or -errno.
 */
int inode_learn(
	struct inode_table *table, int fd, const struct stat *attr, struct fuse_entry_param *entry);

/* The kernel forgets nlookup references. A count too large or an unknown ino is ignored. */
void inode_forget(struct inode_table *table, fuse_ino_t ino, uint64_t nlookup);

/* Replaces attr->st_ino by the number that the mount shows: distinct also across devices of the
 * source. */
void inode_number(struct inode_table *table, struct stat *attr);

/*
 * Before a name may go away (unlink, rmdir, rename over it): where inode_dropped(), the object
 * behind fd, if it is known, gets a descriptor for good as long as it has no name, so that those
 * who still use it go on. Takes over fd. Returns its node id, pinned until inode_put() after the
 * removal, or 0 for an unknown object.
 */
fuse_ino_t inode_hold(struct inode_table *table, int fd, const struct stat *attr);

/* Whether any descriptor was ever dropped. While not, inode_hold() is not needed. */
bool inode_dropped(struct inode_table *table);

/* The process ran out of descriptors: closes some. False when there are none to close. */
bool inode_relieve(struct inode_table *table);

struct inode_usage {
	uint64_t inodes; /* known to the kernel */
	uint64_t forgotten; /* kept besides, for who asks again by number */
	uint64_t fds; /* O_PATH descriptors held */
	uint64_t bytes_per_inode;
	uint64_t reopened; /* descriptors reopened by handle */
};

void inode_get_usage(struct inode_table *table, struct inode_usage *out);

#endif
