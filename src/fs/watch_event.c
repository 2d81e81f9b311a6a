/* SPDX-License-Identifier: MIT */
/* The meaning of events, see watch_event.h. On the watch's thread. */
#include "fs/watch_event.h"

#include <errno.h>
#include <string.h>
#include <sys/fanotify.h>

#include "base/cleanup.h"

#define NAME_CHANGED (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
/* A file that was mapped and written to says so with its last close at the earliest. */
#define DATA_CHANGED (FAN_MODIFY | FAN_CLOSE_WRITE)
#define ATTR_CHANGED (FAN_ATTRIB | FAN_MOVE_SELF)

enum {
	OPEN_TRIES = 20,
	OPEN_PAUSE_US = 500,
};

/* What an event tells of: a directory and a name in it, and an object. */
struct subject {
	const struct file_handle *dir;
	const char *name; /* "." is the directory itself */
	const struct file_handle *object;
};

static void count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* ---- which object ---- */

static struct seen *seen_place(struct watch_events *events, const struct file_id *id)
{
	uint64_t h = (uint64_t)id->type;

	for (unsigned i = 0; i < id->len; i++)
		h = (h ^ id->bytes[i]) * UINT64_C(0x100000001b3);
	return &events->seen[(h ^ h >> 32) % SEEN_SIZE];
}

/*
 * ext4 says that it has no memory (iget_locked() finds nothing it may give) also of a number that
 * is just being given to a new object, which is then not the one of the handle: so it is asked
 * again.
 */
static int open_object(const struct watch_events *events, const struct file_id *id)
{
	int fd = file_id_open(events->mount_fd, id);

	for (int i = 0; i < OPEN_TRIES && fd == -ENOMEM; i++) {
		usleep(OPEN_PAUSE_US);
		fd = file_id_open(events->mount_fd, id);
	}
	return fd;
}

/* The inode number of the object, by opening it. 0 where it is gone; -errno where that is not
 * known. */
static int ask(const struct watch_events *events, const struct file_id *id, ino_t *ino)
{
	_cleanup_fd int fd = open_object(events, id);
	struct stat st;

	*ino = 0;
	if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
		return fd;
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == events->dev)
		*ino = st.st_ino;
	return 0;
}

/* The node id behind a handle, 0 where the kernel doesn't know the object. False: cannot be said.
 */
static bool find(struct watch_events *events, const struct file_handle *handle, fuse_ino_t *node)
{
	struct file_id id = {0};
	struct seen *seen;
	ino_t ino;

	*node = 0;
	if (!handle)
		return true;
	if (handle->handle_bytes == 0 || handle->handle_bytes > FILE_ID_BYTES)
		return false;
	id.type = handle->handle_type;
	id.len = (uint8_t)handle->handle_bytes;
	memcpy(id.bytes, handle->f_handle, id.len);
	seen = seen_place(events, &id);
	if (seen->ino && file_id_equal(&seen->id, &id)) {
		*node = inode_find(events->inodes, events->dev, seen->ino);
		return true;
	}
	if (ask(events, &id, &ino) < 0)
		return false;
	if (ino) {
		*seen = (struct seen){.id = id, .ino = ino};
		*node = inode_find(events->inodes, events->dev, ino);
	}
	return true;
}

/* ---- reading an event ---- */

static void read_record(const struct fanotify_event_info_header *header, struct subject *subject)
{
	const struct fanotify_event_info_fid *fid = (const void *)header;
	const struct file_handle *handle = (const void *)fid->handle;

	switch (header->info_type) {
	case FAN_EVENT_INFO_TYPE_FID:
		subject->object = handle;
		break;
	case FAN_EVENT_INFO_TYPE_DFID_NAME:
		subject->dir = handle;
		subject->name = (const char *)handle->f_handle + handle->handle_bytes;
		break;
	case FAN_EVENT_INFO_TYPE_DFID:
		subject->dir = handle;
		subject->name = ".";
		break;
	}
}

/* at: where the event lies, by 4 bytes aligned as they all are. */
static struct subject read_subject(const struct fanotify_event_metadata *event, const char *at)
{
	const char *end = at + event->event_len;
	struct subject subject = {.name = ""};

	at += event->metadata_len;
	while (at + sizeof(struct fanotify_event_info_header) <= end) {
		const struct fanotify_event_info_header *header = (const void *)at;

		if (header->len < sizeof(*header))
			break;
		read_record(header, &subject);
		at += header->len;
	}
	/* A directory's own events name it so. */
	if (!subject.object && !strcmp(subject.name, "."))
		subject.object = subject.dir;
	return subject;
}

/* ---- what it makes stale ---- */

/* A name came or went: the name, the directory, and what has lost or changed its name. */
static bool name_changed(
	struct watch_events *events, const struct subject *subject, uint64_t mask, bool *known)
{
	fuse_ino_t dir, object;

	if (!find(events, subject->dir, &dir))
		return false;
	if (!dir)
		return true;
	*known = true;
	stale_entry(events->stale, dir, subject->name);
	stale_inode(events->stale, dir, STALE_DATA);
	/* What is new nobody knows; a further link is an ATTRIB of the object besides. */
	if (!(mask & ~(uint64_t)FAN_CREATE & NAME_CHANGED))
		return true;
	if (!find(events, subject->object, &object))
		return false;
	stale_inode(events->stale, object, STALE_ATTR);
	return true;
}

static bool object_changed(
	struct watch_events *events, const struct subject *subject, uint64_t mask, bool *known)
{
	fuse_ino_t object;

	if (!find(events, subject->object, &object))
		return false;
	*known |= object != 0;
	stale_inode(events->stale, object, mask & DATA_CHANGED ? STALE_DATA : STALE_ATTR);
	return true;
}

static bool take(
	struct watch_events *events, const struct fanotify_event_metadata *event, const char *at)
{
	struct subject subject = read_subject(event, at);
	bool known = false, clear = true;

	if (event->mask & FAN_Q_OVERFLOW)
		return false;
	if (event->mask & NAME_CHANGED)
		clear = name_changed(events, &subject, event->mask, &known);
	if (event->mask & (DATA_CHANGED | ATTR_CHANGED))
		clear &= object_changed(events, &subject, event->mask, &known);
	if (!known)
		count(&events->elsewhere);
	return clear;
}

bool watch_events_take(struct watch_events *events, const char *buffer, size_t length)
{
	struct fanotify_event_metadata event;
	const char *end = buffer + length;
	bool clear = true, moved = false;

	for (const char *at = buffer; (size_t)(end - at) >= sizeof(event); at += event.event_len) {
		memcpy(&event, at, sizeof(event));
		if (event.event_len < sizeof(event) || event.event_len > (size_t)(end - at))
			break;
		count(&events->count);
		if (event.pid == events->self) {
			count(&events->own);
			continue;
		}
		/* Before the table is searched, see watch.h. */
		if (!moved)
			atomic_fetch_add(&events->generation, 1);
		moved = true;
		clear &= take(events, &event, at);
	}
	return clear;
}
