/* SPDX-License-Identifier: MIT */
/*
 * What fsx_tool's operations stand on: the run's state, chance, and the files against their model.
 * For fsx_tool.c only. Every difference found ends the process by fsx_fail().
 */
#ifndef FSX_H
#define FSX_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FSX_PAGE    4096u
#define FSX_HISTORY 60u

enum fsx_mode { FSX_BUFFERED, FSX_DIRECT, FSX_MIXED };
extern const char *const fsx_mode_names[];

struct fsx_file {
	const char *name;
	char path[PATH_MAX];
	char source[PATH_MAX]; /* "": not known */
	int fd[2]; /* the second in mixed mode, direct */
	int flags[2];
	unsigned char *model; /* zero from size on */
	size_t size;
	unsigned char *map; /* all of the file and beyond, or NULL */
	bool stored; /* through a mapping, and not synced since */
};

/* How the run is asked for, and where it has got to. */
struct fsx_run {
	uint64_t seed, ops, done;
	enum fsx_mode mode;
	size_t max; /* no file becomes larger; whole pages */
	size_t align; /* of direct operations */
	const char *dir, *source, *model;
	bool verbose;
	uint64_t random;
	struct fsx_file file[2];
	unsigned char *buf; /* page-aligned, of max and some pages */
	unsigned char next; /* bytes written differ from those written before */
	unsigned source_fails; /* direct reads that the source itself answered with EIO */
	unsigned refused; /* bits of fallocate's modes that this file system does not know */
	char history[FSX_HISTORY][160];
};
extern struct fsx_run fsx;

struct fsx_range {
	size_t at, len;
};

/* Tells the last operations, what is wrong and how to come here again; exits. */
void fsx_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Fails with errno. */
void fsx_need(bool good, const char *what);
/* What is done now, for the history. */
void fsx_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* 0 to n - 1. */
size_t fsx_below(size_t n);
bool fsx_one_in(size_t n);
size_t fsx_min(size_t a, size_t b);
/* A range within [0, end) of aligned ends, mostly short, often at the file's end or about a page's
 * edge. May be empty. */
struct fsx_range fsx_pick(const struct fsx_file *f, size_t end, size_t align);
/* One of the file's descriptors: an index into fd and flags. */
int fsx_pick_fd(void);
bool fsx_is_direct(const struct fsx_file *f, int which);
const char *fsx_fd_name(const struct fsx_file *f, int which);
/* What offset and length have to be multiples of. */
size_t fsx_align(const struct fsx_file *f, int which);

/* Bytes that tell where they are from. */
void fsx_fill(unsigned char *p, size_t len);
void fsx_set_size(struct fsx_file *f, size_t size);
void fsx_grow(struct fsx_file *f, size_t size);

/* got should be what the model has at `at`. */
void fsx_compare(
	const struct fsx_file *f, const unsigned char *got, size_t at, size_t len, const char *how);
/* Reads from fd and compares, also how much there is. */
void fsx_read(const struct fsx_file *f, int fd, size_t at, size_t len, const char *how);
/* Reads the range and a little around it through a descriptor, whichever. */
void fsx_look(const struct fsx_file *f, size_t at, size_t len);
void fsx_look_at_size(const struct fsx_file *f);
/* The file, whole, where it is without the mount, unless something may stand only in a mapping. */
void fsx_look_at_source(const struct fsx_file *f);

#endif
