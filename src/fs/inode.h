/* SPDX-License-Identifier: MIT */
/*
 * The inode table: every object that the kernel knows, as a numbered slot. For src/fs only.
 *
 * A node id is a slot's number + 1, so the root is FUSE_ROOT_ID. Slots hold no process pointers and
 * never move, so that they can live in shared memory. Thread-safe. Where the source is a whole file
 * system with small handles, the kernel knows objects by other numbers, which last (lasting.h):
 * these are translated where messages come and go.
 *
 * A slot keeps an O_PATH descriptor of its object while that is affordable. Over the bound, those
 * of objects that can be found again are closed, least recently used first, and come back on
 * demand:
 *
 * - by file handle, where the daemon may use those of the source (CAP_DAC_READ_SEARCH) and the
 *   object is on the source's own mount: whatever became of its name;
 * - else by name: in the parent directory (which comes back first in the same way) the name that
 *   the object was last seen under or got by a rename through the mount; where that leads to
 *   something else by now, any name there with its inode number; else -ESTALE, and the kernel
 *   looks the path up anew. Only what has the same device, inode number, type and handle (which
 *   anybody may read), or where there are none, time of birth, is taken for the object: a replaced
 *   file is never mistaken for another.
 *
 * Descriptors stay for good, the bound notwithstanding: of objects without a name or with none that
 * is known here, of the roots of mounts inside the source (so that these stay what they are while
 * anything on them is known), and of file systems that give an object new numbers when nobody holds
 * it (FUSE and the like).
 *
 * What the kernel has forgotten may be asked for again by number: an NFS server's clients keep it.
 * A number that lasts leads to its object by itself. Else the slots of objects with a usable handle
 * stay, without a descriptor, up to a bound; over it those go that were forgotten first, and their
 * numbers, given out anew with another generation, are stale.
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

/*
 * A file or directory is opened, or closed again. Meanwhile an object that would come back by name
 * keeps its descriptor, unless they run out: others may take its name, and who has it open goes on.
 */
void inode_opened(struct inode_table *table, fuse_ino_t ino);
void inode_closed(struct inode_table *table, fuse_ino_t ino);

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

/* ---- learning and forgetting ---- */

/* Where an object is. */
struct inode_place {
	fuse_ino_t parent; /* known to the kernel */
	const char *name; /* one component, in it */
	bool crossed; /* a mount point, or may be one */
};

/*
 * The object behind fd (O_PATH or not; with its attributes) becomes known, or known once more: its
 * lookup count rises by one. Takes over fd in every case (it may be closed at once when the slot
 * has one already). place: where it was found, or NULL (asked for by number, or it has no name).
 * Fills entry: ino (the table's own), generation, attr (with our inode number), timeouts are left
 * alone. 0 or -errno.
 */
int inode_learn(struct inode_table *table, int fd, const struct stat *attr,
	const struct inode_place *place, struct fuse_entry_param *entry);

/* The kernel forgets nlookup references. A count too large or an unknown ino is ignored. True when
 * it does not know ino any more: who pins it shall let it go. */
bool inode_forget(struct inode_table *table, fuse_ino_t ino, uint64_t nlookup);

/* ino was changed by the mount, no later than `at` (nanoseconds since 1970). */
void inode_changed(struct inode_table *table, fuse_ino_t ino, int64_t at);
/* Whether a ctime is later than any that is known of ino, and it was known; now it is. */
bool inode_news(struct inode_table *table, fuse_ino_t ino, int64_t ctime);

/* ---- numbers as the kernel knows them ---- */

/* Whether any differ. */
bool inode_lasting(const struct inode_table *table);
/* The kernel's number for ino; of an unknown ino: itself. */
fuse_ino_t inode_told(struct inode_table *table, fuse_ino_t ino);
/* And back; 0, or one that is nobody's, where the object is not in the table. */
fuse_ino_t inode_of_told(struct inode_table *table, fuse_ino_t told);
/* An O_PATH descriptor, the caller's, with its attributes, of the object with this number, which is
 * not in the table. Or -errno: -ESTALE where there is none. */
int inode_recall(struct inode_table *table, fuse_ino_t told, struct stat *attr);

/* ---- after a predecessor's death ---- */

/*
 * In a process that was forked after inode_table_new() and before anything else was known, once the
 * one that used the table has died: everything that the kernel knows is known again. Each
 * descriptor is looked at; an object whose slot or descriptor is not what it should be answers -EIO
 * from now on. What nobody knows any more is let go of. 0 or -errno, with which nothing can be
 * saved.
 */
int inode_recover(struct inode_table *table);
/* Whether fd is a descriptor of ino. */
bool inode_is(struct inode_table *table, fuse_ino_t ino, int fd);
/* Objects that are damaged. */
uint64_t inode_damaged(struct inode_table *table);

/* Calls use() with each descriptor that the table holds. Nobody else uses it meanwhile. */
void inode_each_fd(struct inode_table *table, void (*use)(int fd, void *arg), void *arg);

/* Replaces attr->st_ino by the number that the mount shows: distinct also across devices of the
 * source. */
void inode_number(struct inode_table *table, struct stat *attr);

/*
 * Before a name may go away (unlink, rmdir, rename over it) or lead elsewhere (rename): the object
 * behind fd, if it is known, gets a descriptor until inode_put() at least, and for good as long as
 * it has no name, so that those who still use it go on. Takes over fd. Returns its node id, or 0
 * for an unknown object. Not needed while inode_dropped() and inode_named() are false.
 */
fuse_ino_t inode_hold(struct inode_table *table, int fd, const struct stat *attr);

/*
 * What inode_hold() returned (0: nothing happens) is no longer at `from`, but at `to`; NULL: at
 * none that is known.
 */
void inode_moved(struct inode_table *table, fuse_ino_t ino, const struct inode_place *from,
	const struct inode_place *to);

/* Whether any descriptor was ever dropped; whether the name of any object was ever stored. */
bool inode_dropped(struct inode_table *table);
bool inode_named(struct inode_table *table);

/*
 * True where result, -errno of an attempt to open something, says that the process ran out of
 * descriptors, and some were closed since: here, or else by the owner of others. The attempt is
 * then worth repeating.
 */
bool inode_relieve(struct inode_table *table, int result);
/* That owner: it closes some of its own, or returns false. */
void inode_others(struct inode_table *table, bool (*relieve)(void *arg), void *arg);

struct inode_usage {
	uint64_t inodes; /* known to the kernel */
	uint64_t forgotten; /* kept besides, for who asks again by number */
	uint64_t fds; /* O_PATH descriptors held */
	uint64_t bytes_per_inode; /* of memory, names included: the average */
	uint64_t reopened; /* descriptors that came back */
	uint64_t reopened_by_name; /* those of them that no handle brought */
};

void inode_get_usage(struct inode_table *table, struct inode_usage *out);

#endif
