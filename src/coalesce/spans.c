/* SPDX-License-Identifier: MIT */
/*
 * A set of byte ranges, searched by what they touch: see spans.h. Called by coalesce.c only.
 */
#include "coalesce/spans.h"

#include <assert.h>
#include <stddef.h>

/* splitmix64's finalizer: sequential numbers in, independent looking bits out. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static bool less(const struct span *a, const struct span *b)
{
	return a->start != b->start ? a->start < b->start : a->seq < b->seq;
}

static void refresh(struct span *node)
{
	node->max_end = node->end;
	if (node->left && node->left->max_end > node->max_end)
		node->max_end = node->left->max_end;
	if (node->right && node->right->max_end > node->max_end)
		node->max_end = node->right->max_end;
}

/* Parts a tree into what comes before `at` and what comes after it. */
static void split(
	struct span *tree, const struct span *at, struct span **before, struct span **after)
{
	if (!tree) {
		*before = *after = NULL;
		return;
	}
	if (less(tree, at)) {
		split(tree->right, at, &tree->right, after);
		*before = tree;
	} else {
		split(tree->left, at, before, &tree->left);
		*after = tree;
	}
	refresh(tree);
}

/* Everything in left comes before everything in right. */
static struct span *join(struct span *left, struct span *right)
{
	if (!left)
		return right;
	if (!right)
		return left;
	if (left->priority > right->priority) {
		left->right = join(left->right, right);
		refresh(left);
		return left;
	}
	right->left = join(left, right->left);
	refresh(right);
	return right;
}

void spans_insert(struct span_set *set, struct span *node)
{
	struct span **link = &set->root;

	assert(node->start < node->end);
	node->priority = mix(node->seq);
	while (*link && (*link)->priority >= node->priority) {
		struct span *tree = *link;

		if (tree->max_end < node->end)
			tree->max_end = node->end;
		link = less(node, tree) ? &tree->left : &tree->right;
	}
	split(*link, node, &node->left, &node->right);
	refresh(node);
	*link = node;
}

static struct span *without(struct span *tree, struct span *node)
{
	assert(tree); /* it is in the set */
	if (tree == node)
		return join(node->left, node->right);
	if (less(node, tree))
		tree->left = without(tree->left, node);
	else
		tree->right = without(tree->right, node);
	refresh(tree);
	return tree;
}

void spans_remove(struct span_set *set, struct span *node)
{
	set->root = without(set->root, node);
}

static struct span *find(
	struct span *tree, uint64_t start, uint64_t end, span_match *match, void *arg)
{
	while (tree && tree->max_end > start) {
		struct span *found = find(tree->left, start, end, match, arg);

		if (found)
			return found;
		if (tree->start >= end)
			return NULL;
		if (tree->end > start && match(tree, arg))
			return tree;
		tree = tree->right;
	}
	return NULL;
}

struct span *spans_find(
	const struct span_set *set, uint64_t start, uint64_t end, span_match *match, void *arg)
{
	return find(set->root, start, end, match, arg);
}
