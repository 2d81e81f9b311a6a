/* SPDX-License-Identifier: MIT */
/*
 * What an event of fanotify means for what the kernel keeps. For watch.c, on the watch's thread.
 *
 * The mark sees the whole file system, which may be busy with other things: events of objects that
 * nobody knows here cost a search in two tables, or one open by handle the first time.
 */
#ifndef FS_WATCH_EVENT_H
#define FS_WATCH_EVENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/file_id.h"
#include "fs/inode.h"
#include "fs/stale.h"

enum { SEEN_SIZE = 1024 };

/* A handle and its inode number, which belong together for ever. */
struct seen {
	struct file_id id;
	ino_t ino;
};

struct watch_events {
	int mount_fd; /* of the watched file system */
	dev_t dev;
	pid_t self;
	struct inode_table *inodes;
	struct stale *stale; /* where it goes */
	_Atomic uint64_t generation; /* see watch.h */
	_Atomic uint64_t count, own, elsewhere;
	struct seen seen[SEEN_SIZE];
};

/*
 * Takes what one read of the fanotify descriptor has given, aligned as events are. False when
 * events were lost, or told of an object that cannot be found out: everything is stale then.
 */
bool watch_events_take(struct watch_events *events, const char *buffer, size_t length);

#endif
