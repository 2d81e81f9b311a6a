/* SPDX-License-Identifier: MIT */
/* Chance, telling, and two files against their model; see fsx.h. For fsx_tool.c only. */
#include "support/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARGIN 64u /* bytes around a change that are read again too */

const char *const fsx_mode_names[] = {"buffered", "direct", "mixed"};

struct fsx_run fsx = {.seed = 1, .ops = 10000, .max = 256 << 10};

/* ---- telling ---- */

static void print_history(void)
{
	uint64_t first = fsx.done >= FSX_HISTORY ? fsx.done - FSX_HISTORY + 1 : 0;

	for (uint64_t i = first; i <= fsx.done && i < fsx.ops; i++)
		fprintf(stderr, "%8llu %s\n", (unsigned long long)i, fsx.history[i % FSX_HISTORY]);
}

void fsx_fail(const char *format, ...)
{
	va_list args;

	print_history();
	fprintf(stderr, "operation %llu: ", (unsigned long long)fsx.done);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nagain: fsx_tool --seed %llu --ops %llu --mode %s --size %zu%s%s DIR\n",
		(unsigned long long)fsx.seed, (unsigned long long)fsx.done + 1,
		fsx_mode_names[fsx.mode], fsx.max, fsx.source ? " --source " : "",
		fsx.source ? fsx.source : "");
	exit(1);
}

void fsx_say(const char *format, ...)
{
	char *line = fsx.history[fsx.done % FSX_HISTORY];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(fsx.history[0]), format, args);
	va_end(args);
	if (fsx.verbose)
		fprintf(stderr, "%8llu %s\n", (unsigned long long)fsx.done, line);
}

void fsx_need(bool good, const char *what)
{
	if (!good)
		fsx_fail("%s: %s", what, strerror(errno));
}

/* ---- chance ---- */

static uint64_t next_random(void)
{
	uint64_t z = fsx.random += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

size_t fsx_below(size_t n)
{
	return next_random() % n;
}

bool fsx_one_in(size_t n)
{
	return fsx_below(n) == 0;
}

size_t fsx_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

struct fsx_range fsx_pick(const struct fsx_file *f, size_t end, size_t align)
{
	struct fsx_range r = {.len = 1 + fsx_below((size_t)1 << fsx_below(17))};
	size_t choice = fsx_below(4);

	r.len = fsx_min(r.len, end);
	if (choice == 0 && f->size)
		r.at = f->size - fsx_min(f->size, fsx_below(2 * r.len));
	else if (choice == 1)
		r.at = fsx_below(end / FSX_PAGE) * FSX_PAGE - (fsx_one_in(2) ? 0 : fsx_below(16));
	else
		r.at = fsx_below(end);
	if (r.at >= end)
		r.at = 0;
	r.at -= r.at % align;
	r.len += (align - r.len % align) % align;
	if (r.at + r.len > end)
		r.len = end - r.at - (end - r.at) % align;
	return r;
}

bool fsx_is_direct(const struct fsx_file *f, int which)
{
	return f->flags[which] & O_DIRECT;
}

int fsx_pick_fd(void)
{
	return fsx.mode == FSX_MIXED ? (int)fsx_below(2) : 0;
}

size_t fsx_align(const struct fsx_file *f, int which)
{
	return fsx_is_direct(f, which) ? fsx.align : 1;
}

const char *fsx_fd_name(const struct fsx_file *f, int which)
{
	return fsx_is_direct(f, which) ? "direct" : "buffered";
}

/* ---- the model, and the file against it ---- */

void fsx_compare(
	const struct fsx_file *f, const unsigned char *got, size_t at, size_t len, const char *how)
{
	const unsigned char *want = f->model + at;
	size_t bad = 0, end;

	if (memcmp(got, want, len) == 0)
		return;
	while (got[bad] == want[bad])
		bad++;
	for (end = len; got[end - 1] == want[end - 1];)
		end--;
	fsx_fail("%s %s of %zu+%zu: from %zu to %zu it is %02x %02x..., not %02x %02x...", how,
		f->name, at, len, at + bad, at + end - 1, got[bad], got[fsx_min(bad + 1, len - 1)],
		want[bad], want[fsx_min(bad + 1, len - 1)]);
}

/*
 * Whether a direct read of the source itself fails in the same way. XFS (Linux 6.18) does so across
 * the end of a file, where a buffered write has set space aside beyond it and fallocate has filled
 * what is before it: "Direct I/O collision with buffered writes!", says the kernel.
 */
static bool fails_in_source(const struct fsx_file *f, size_t at, size_t len)
{
	int fd = f->source[0] ? open(f->source, O_RDONLY | O_DIRECT | O_CLOEXEC) : -1;
	bool fails = fd >= 0 && pread(fd, fsx.buf, len, (off_t)at) < 0 && errno == EIO;

	if (fd >= 0)
		close(fd);
	return fails;
}

void fsx_read(const struct fsx_file *f, int fd, size_t at, size_t len, const char *how)
{
	size_t want = at < f->size ? fsx_min(len, f->size - at) : 0;
	ssize_t got = pread(fd, fsx.buf, len, (off_t)at);

	if (got < 0 && errno == EIO && fails_in_source(f, at, len)) {
		fsx.source_fails++;
		return;
	}
	fsx_need(got >= 0, how);
	if ((size_t)got != want)
		fsx_fail("%s %s of %zu+%zu: %zd bytes, not %zu", how, f->name, at, len, got, want);
	fsx_compare(f, fsx.buf, at, want, how);
}

void fsx_look(const struct fsx_file *f, size_t at, size_t len)
{
	int which = fsx_pick_fd();
	size_t align = fsx_align(f, which);
	size_t from = at - fsx_min(at, MARGIN);
	size_t to = at + len + MARGIN;

	from -= from % align;
	to += (align - to % align) % align;
	fsx_read(f, f->fd[which], from, to - from,
		fsx_is_direct(f, which) ? "afterwards, direct read" : "afterwards, read");
}

void fsx_look_at_size(const struct fsx_file *f)
{
	struct stat st;

	fsx_need((fsx_one_in(4) ? stat(f->path, &st) : fstat(f->fd[fsx_pick_fd()], &st)) == 0,
		"stat");
	if ((size_t)st.st_size != f->size)
		fsx_fail("size of %s: %lld, not %zu", f->name, (long long)st.st_size, f->size);
}

void fsx_look_at_source(const struct fsx_file *f)
{
	struct stat st;
	int fd;

	if (!f->source[0] || f->stored)
		return;
	fd = open(f->source, O_RDONLY | O_CLOEXEC);
	fsx_need(fd >= 0 && fstat(fd, &st) == 0, f->source);
	if ((size_t)st.st_size != f->size)
		fsx_fail("size of %s in the source: %lld, not %zu", f->name, (long long)st.st_size,
			f->size);
	fsx_read(f, fd, 0, fsx.max, "in the source");
	close(fd);
}

void fsx_set_size(struct fsx_file *f, size_t size)
{
	if (size < f->size)
		memset(f->model + size, 0, f->size - size);
	f->size = size;
}

void fsx_grow(struct fsx_file *f, size_t size)
{
	if (size > f->size)
		f->size = size;
}

void fsx_fill(unsigned char *p, size_t len)
{
	fsx.next = (unsigned char)(fsx.next % 251 + 1);
	for (size_t i = 0; i < len; i++)
		p[i] = (unsigned char)(fsx.next + i / 256 % 4 * 61 + (i & 1)) | 1;
}
