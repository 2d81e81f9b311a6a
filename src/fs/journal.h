/* SPDX-License-Identifier: MIT */
/*
 * What a successor has to know of the requests that were at work when its process's predecessor
 * died: the kernel sends these again. For src/fs only.
 *
 * Most may simply be done once more. Changes of names may not: made again, a directory is there
 * already, and a file that is to go is gone. So each is noted in shared memory before it is done
 * and after, by the request's number, and one that comes again answers what the first try did. If
 * that was not noted any more, the source is asked whether it was done.
 *
 * A note stays until the loop that wrote it has written JOURNAL_EACH others: long after its answer
 * has left.
 */
#ifndef FS_JOURNAL_H
#define FS_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct fs;
struct journal;

enum {
	JOURNAL_EACH = 512, /* notes of a loop: more than it has requests at work */
	JOURNAL_INIT_MAX = 512, /* bytes of the kernel's first message */
};

/* In shared memory; NULL without. */
struct journal *journal_new(void);
void journal_free(struct journal *journal);

enum past {
	PAST_NONE, /* the request is new */
	PAST_BEGUN, /* a former process may have done it */
	PAST_ENDED, /* it has, and it came to `result` */
};

/* A change of names by the request at hand, from journal_begin() to journal_end(). */
struct change {
	enum past past;
	int result;
	int64_t at; /* PAST_BEGUN: when the first try began, in nanoseconds since 1970 */
	dev_t dev; /* PAST_BEGUN: of what journal_begin_with() was told then */
	ino_t ino;
	off_t size;
	struct journal_note *note;
};

/* On a loop, in a callback. With fs->journal NULL all requests are new. */
void journal_begin(struct fs *fs, struct change *change);
/* The same; attr is of an object by which to tell later whether it was done. */
void journal_begin_with(struct fs *fs, struct change *change, const struct stat *attr);
/* It came to that: 0 or more, or -errno. */
void journal_end(struct change *change, int result);

/* Whether `name` in dir_fd is an object of that type (S_IFMT bits) that was made by the first try.
 */
bool journal_made(const struct change *change, int dir_fd, const char *name, mode_t type);

/* Whether `name` in dir_fd is the object that journal_begin_with() was told of. */
bool journal_is_there(const struct change *change, int dir_fd, const char *name);

/* The kernel's first message, INIT, is kept; and had again: its length, 0 if there was none. */
void journal_keep_init(struct journal *journal, const void *message, size_t length);
size_t journal_get_init(const struct journal *journal, void *message, size_t size);

#endif
