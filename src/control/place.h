/* SPDX-License-Identifier: MIT */
/*
 * Where a directory lies: as file system and path within it, which bind mounts, symbolic links and
 * mount namespaces leave alone. For control/claim*.c only; the unit tests call it too.
 */
#ifndef CONTROL_PLACE_H
#define CONTROL_PLACE_H

#include <stdbool.h>
#include <stddef.h>

enum place_kind {
	PLACE_OWN, /* the directory itself */
	PLACE_ABOVE, /* where its mount is attached, and that one's, and so on up */
	PLACE_INSIDE, /* the root of a mount that is attached below it */
};

struct place {
	enum place_kind kind;
	unsigned major, minor; /* of the file system, as mountinfo has it */
	char *path; /* from the file system's root */
};

/* All of one directory. Zeroed is empty; places_free() frees what the others put in. */
struct places {
	struct place *list;
	size_t n;
};

/* Adds a place; path is copied. 0 or -ENOMEM. */
int places_add(struct places *places, enum place_kind kind, unsigned major, unsigned minor,
	const char *path);
void places_free(struct places *places);

/*
 * The places of the directory that has this absolute, resolved path, in the mount with this id, by
 * the table `mountinfo` (a path). It does not look above a batchiofs mount: what is reached through
 * one does not depend on where it is attached. 0, -ENOENT where the table does not have the mount,
 * or -errno.
 */
int places_find(struct places *places, const char *mountinfo, unsigned mount, const char *path);

enum place_relation {
	PLACES_APART,
	PLACES_SAME,
	PLACES_BELOW, /* a lies below b, or in a mount that is attached there */
	PLACES_CONTAIN, /* the other way round */
	PLACES_OVERLAP, /* a mount inside of one lies below the other */
};

/* How a lies to b. */
enum place_relation places_relation(const struct places *a, const struct places *b);

/* Is path the directory dir or below it, component by component? */
bool path_within(const char *path, const char *dir);

#endif
