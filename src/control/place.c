/* SPDX-License-Identifier: MIT */
/* Where a directory lies; see place.h. */
#include "control/place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/mountinfo.h"

int places_add(struct places *places, enum place_kind kind, unsigned major, unsigned minor,
	const char *path)
{
	struct place *grown = realloc(places->list, (places->n + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	places->list = grown;
	grown += places->n;
	*grown = (struct place){kind, major, minor, strdup(path)};
	if (!grown->path)
		return -ENOMEM;
	places->n++;
	return 0;
}

void places_free(struct places *places)
{
	for (size_t i = 0; i < places->n; i++)
		free(places->list[i].path);
	free(places->list);
	*places = (struct places){0};
}

bool path_within(const char *path, const char *dir)
{
	size_t length = strlen(dir);

	/* "/" is the one name that ends in a slash. */
	if (length && dir[length - 1] == '/')
		length--;
	return !strncmp(path, dir, length) && (path[length] == '/' || path[length] == '\0');
}

/* ---- finding ---- */

/* Adds the place of path, which lies in the mount. */
static int add_in_mount(struct places *places, enum place_kind kind,
	const struct mount_entry *mount, const char *path)
{
	_cleanup_free char *within = NULL;
	size_t point = strcmp(mount->point, "/") ? strlen(mount->point) : 0;
	const char *root = strcmp(mount->root, "/") ? mount->root : "";
	const char *rest = path + point;

	if (!path_within(path, mount->point))
		return -EINVAL;
	if (!strcmp(rest, "/"))
		rest = "";
	if (asprintf(&within, "%s%s", root, *root || *rest ? rest : "/") < 0)
		return -ENOMEM;
	return places_add(places, kind, mount->major, mount->minor, within);
}

/* From the mount of the directory up to that of the root. */
static int add_upwards(
	struct places *places, const char *mountinfo, unsigned mount, const char *path)
{
	_cleanup_free struct mount_entry *entry = malloc(sizeof(*entry));
	_cleanup_free struct mount_entry *next = malloc(sizeof(*next));
	int error = entry && next ? mountinfo_find_id(mountinfo, mount, entry) : -ENOMEM;

	if (!error)
		error = add_in_mount(places, PLACE_OWN, entry, path);
	while (!error && entry->parent != entry->id && !mountinfo_is_batchiofs(entry)) {
		error = mountinfo_find_id(mountinfo, entry->parent, next);
		if (error == -ENOENT)
			return 0;
		if (!error)
			error = add_in_mount(places, PLACE_ABOVE, next, entry->point);
		/* The root mount's parent is attached nowhere that has a path of ours. */
		if (error == -EINVAL)
			return 0;
		if (!error)
			*entry = *next;
	}
	return error;
}

/* The mounts seen so far that are attached below the directory, itself the first. */
struct subtree {
	struct places *places;
	const char *path;
	unsigned *ids;
	size_t n;
	int error;
};

static int add_id(struct subtree *tree, unsigned id)
{
	unsigned *grown = realloc(tree->ids, (tree->n + 1) * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	tree->ids = grown;
	tree->ids[tree->n++] = id;
	return 0;
}

static void visit_inside(const struct mount_entry *entry, void *user)
{
	struct subtree *tree = user;
	bool attached = false;

	/* By the parent too: what hides beneath another mount has a path that leads elsewhere. */
	for (size_t i = 0; i < tree->n; i++)
		attached |= tree->ids[i] == entry->parent;
	if (tree->error || !attached || entry->id == entry->parent ||
		!path_within(entry->point, tree->path))
		return;
	tree->error = add_id(tree, entry->id);
	if (!tree->error)
		tree->error = places_add(
			tree->places, PLACE_INSIDE, entry->major, entry->minor, entry->root);
}

/* A table lists a mount after the one that it is attached to. */
static int add_inside(
	struct places *places, const char *mountinfo, unsigned mount, const char *path)
{
	struct subtree tree = {.places = places, .path = path};
	int error = add_id(&tree, mount);

	if (!error)
		error = mountinfo_each(mountinfo, visit_inside, &tree);
	free(tree.ids);
	return error ? error : tree.error;
}

int places_find(struct places *places, const char *mountinfo, unsigned mount, const char *path)
{
	int error = add_upwards(places, mountinfo, mount, path);

	return error ? error : add_inside(places, mountinfo, mount, path);
}

/* ---- comparing ---- */

static bool within(const struct place *place, const struct place *dir)
{
	return place->major == dir->major && place->minor == dir->minor &&
	       path_within(place->path, dir->path);
}

/*
 * Is a place of a's, of one kind, within one of b's, of another? What is attached inside of both is
 * no meeting of the two: every container has its own mount of the same /proc.
 */
static bool lies_in(
	const struct places *a, enum place_kind of_a, const struct places *b, enum place_kind of_b)
{
	for (size_t i = 0; i < a->n; i++)
		for (size_t j = 0; a->list[i].kind == of_a && j < b->n; j++)
			if (b->list[j].kind == of_b && within(&a->list[i], &b->list[j]))
				return true;
	return false;
}

static bool lies_below(const struct places *a, const struct places *b)
{
	return lies_in(a, PLACE_OWN, b, PLACE_OWN) || lies_in(a, PLACE_ABOVE, b, PLACE_OWN) ||
	       lies_in(a, PLACE_OWN, b, PLACE_INSIDE);
}

enum place_relation places_relation(const struct places *a, const struct places *b)
{
	if (lies_in(a, PLACE_OWN, b, PLACE_OWN) && lies_in(b, PLACE_OWN, a, PLACE_OWN))
		return PLACES_SAME;
	if (lies_below(a, b))
		return PLACES_BELOW;
	if (lies_below(b, a))
		return PLACES_CONTAIN;
	if (lies_in(a, PLACE_INSIDE, b, PLACE_OWN) || lies_in(b, PLACE_INSIDE, a, PLACE_OWN))
		return PLACES_OVERLAP;
	return PLACES_APART;
}
