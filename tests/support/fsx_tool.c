/* SPDX-License-Identifier: MIT */
/*
 * Random operations on two files, each checked against a model in memory. For tests/mount.
 *
 * fsx_tool [--seed N] [--ops N] [--mode buffered|direct|mixed] [--size BYTES] [--source DIR]
 *          [--model DIR] [--verbose] DIR
 *
 * The files are DIR/a and DIR/b, made anew. In mixed mode each has two descriptors, one of them
 * direct: what is done through one must be seen through the other at once. With --source, where the
 * same directory is seen without the mount, it is looked at there after syncs. With --model, what
 * the files should hold in the end is written to that directory. The same seed and mode give the
 * same operations. The first difference ends the run: it is told with the operations before it and
 * the command that does it again.
 */
#include "support/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- operations: each answers whether it could be done ---- */

static bool do_read(struct fsx_file *f)
{
	int which = fsx_pick_fd();
	struct fsx_range r = fsx_pick(f, fsx.max, fsx_align(f, which));

	fsx_say("read      %s %s %zu+%zu", f->name, fsx_fd_name(f, which), r.at, r.len);
	if (r.len == 0)
		return false;
	fsx_read(f, f->fd[which], r.at, r.len, "read");
	return true;
}

static bool do_write(struct fsx_file *f)
{
	int which = fsx_pick_fd();
	struct fsx_range r = fsx_pick(f, fsx.max, fsx_align(f, which));
	bool append = f->flags[which] & O_APPEND;
	unsigned char *from = fsx.buf + (fsx_is_direct(f, which) ? 0 : fsx_below(FSX_PAGE));
	ssize_t written;

	if (append)
		r.at = f->size;
	fsx_say("write     %s %s%s %zu+%zu", f->name, fsx_fd_name(f, which),
		append ? " append" : "", r.at, r.len);
	if (r.len == 0 || r.at + r.len > fsx.max || r.at % fsx_align(f, which))
		return false;
	fsx_fill(from, r.len);
	/* An appending descriptor takes no offset, whatever it is given. */
	written = append && fsx_one_in(2)
			  ? write(f->fd[which], from, r.len)
			  : pwrite(f->fd[which], from, r.len, append ? 0 : (off_t)r.at);
	fsx_need(written >= 0, "write");
	if ((size_t)written != r.len)
		fsx_fail("write: %zd of %zu bytes", written, r.len);
	memcpy(f->model + r.at, from, r.len);
	fsx_grow(f, r.at + r.len);
	fsx_look(f, r.at, r.len);
	return true;
}

/* The file's mapping, or one for this operation only. */
static unsigned char *get_map(struct fsx_file *f, int which)
{
	void *map = f->map;

	if (!map) {
		map = mmap(NULL, fsx.max, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd[which], 0);
		fsx_need(map != MAP_FAILED, "mmap");
	}
	return map;
}

static void put_map(const struct fsx_file *f, unsigned char *map)
{
	if (map != f->map)
		munmap(map, fsx.max);
}

static bool do_map_read(struct fsx_file *f)
{
	int which = fsx_pick_fd();
	struct fsx_range r = fsx_pick(f, fsx.max, 1);
	size_t end = (f->size + FSX_PAGE - 1) / FSX_PAGE * FSX_PAGE;
	unsigned char *map;

	fsx_say("map read  %s %s%s %zu+%zu", f->name, fsx_fd_name(f, which), f->map ? " kept" : "",
		r.at, r.len);
	if (r.at >= end)
		return false;
	map = get_map(f, which);
	/* The last page beyond the end reads as zeros, as the model has it. */
	fsx_compare(f, map + r.at, r.at, fsx_min(r.len, end - r.at), "mapping");
	put_map(f, map);
	return true;
}

static void sync_map(struct fsx_file *f, unsigned char *map)
{
	fsx_need(msync(map, fsx.max, MS_SYNC) == 0, "msync");
	f->stored = false;
}

static bool do_map_write(struct fsx_file *f)
{
	int which = fsx_pick_fd();
	struct fsx_range r = fsx_pick(f, fsx.max, 1);
	bool sync = fsx_one_in(3);
	unsigned char *map;

	fsx_say("map write %s %s%s %zu+%zu%s", f->name, fsx_fd_name(f, which),
		f->map ? " kept" : "", r.at, r.len, sync ? " msync" : "");
	if (r.at >= f->size)
		return false;
	r.len = fsx_min(r.len, f->size - r.at);
	map = get_map(f, which);
	fsx_fill(f->model + r.at, r.len);
	memcpy(map + r.at, f->model + r.at, r.len);
	f->stored = true;
	if (sync)
		sync_map(f, map);
	put_map(f, map);
	fsx_look(f, r.at, r.len);
	return true;
}

static bool do_truncate(struct fsx_file *f)
{
	size_t size = fsx_one_in(2) ? fsx_below(fsx.max + 1)
				    : fsx_min(fsx.max, f->size + fsx_below(2 * FSX_PAGE));
	bool by_name = fsx_one_in(4);

	/* Appending direct writers need an aligned end. */
	if (fsx.mode != FSX_BUFFERED && !fsx_one_in(4))
		size -= size % fsx.align;
	fsx_say("truncate  %s %s from %zu to %zu", f->name, by_name ? "by name" : "", f->size,
		size);
	fsx_need((by_name ? truncate(f->path, (off_t)size)
			  : ftruncate(f->fd[fsx_pick_fd()], (off_t)size)) == 0,
		"truncate");
	fsx_set_size(f, size);
	fsx_look(f, size - fsx_min(size, FSX_PAGE), FSX_PAGE);
	return true;
}

static void model_fallocate(struct fsx_file *f, int how, size_t at, size_t len)
{
	size_t end = at + len;

	if (how & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(f->model + at, 0, len);
	if (how & FALLOC_FL_COLLAPSE_RANGE) {
		memmove(f->model + at, f->model + end, f->size - end);
		fsx_set_size(f, f->size - len);
	} else if (how & FALLOC_FL_INSERT_RANGE) {
		memmove(f->model + end, f->model + at, f->size - at);
		memset(f->model + at, 0, len);
		f->size += len;
	} else if (!(how & FALLOC_FL_KEEP_SIZE)) {
		fsx_grow(f, end);
	}
}

static bool do_fallocate(struct fsx_file *f)
{
	static const struct {
		const char *name;
		int how;
	} kinds[] = {
		{"plain", 0},
		{"keep", FALLOC_FL_KEEP_SIZE},
		{"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
		{"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE},
		{"zero", FALLOC_FL_ZERO_RANGE},
		{"zero keep", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE},
		{"collapse", FALLOC_FL_COLLAPSE_RANGE},
		{"insert", FALLOC_FL_INSERT_RANGE},
	};
	size_t kind = fsx_below(sizeof(kinds) / sizeof(kinds[0]));
	int how = kinds[kind].how;
	bool moves = how & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
	struct fsx_range r = fsx_pick(f, fsx.max, moves ? FSX_PAGE : 1);

	fsx_say("fallocate %s %s %zu+%zu", f->name, kinds[kind].name, r.at, r.len);
	if (r.len == 0 || fsx.refused & 1u << kind)
		return false;
	if ((how & FALLOC_FL_COLLAPSE_RANGE && r.at + r.len >= f->size) ||
		(how & FALLOC_FL_INSERT_RANGE && (r.at >= f->size || f->size + r.len > fsx.max)))
		return false;
	if (fallocate(f->fd[fsx_pick_fd()], how, (off_t)r.at, (off_t)r.len)) {
		fsx_need(errno == EOPNOTSUPP, "fallocate");
		fprintf(stderr, "fallocate %s: %s\n", kinds[kind].name, strerror(errno));
		fsx.refused |= 1u << kind;
		return false;
	}
	model_fallocate(f, how, r.at, r.len);
	fsx_look(f, r.at, moves ? fsx.max - r.at : r.len);
	return true;
}

/* Copies all of [from, from + len), in as many calls as it takes. */
static void copy_all(int in, size_t from, int out, size_t to, size_t len)
{
	off_t off_in = (off_t)from, off_out = (off_t)to;
	size_t left = len;

	while (left) {
		ssize_t n = copy_file_range(in, &off_in, out, &off_out, left, 0);

		fsx_need(n >= 0, "copy_file_range");
		if (n == 0 || (size_t)n > left)
			fsx_fail("copy_file_range: %zd with %zu of %zu bytes left", n, left, len);
		left -= (size_t)n;
	}
}

static void refuse_copy(int in, int out, size_t len)
{
	off_t off_in = 0, off_out = 0;

	if (copy_file_range(in, &off_in, out, &off_out, len, 0) != -1 || errno != EBADF)
		fsx_fail("copy_file_range to an appending descriptor is not EBADF");
}

static bool do_copy(struct fsx_file *f)
{
	struct fsx_file *to = fsx_one_in(2) ? f : &fsx.file[f == &fsx.file[0]];
	int in = fsx_pick_fd(), out = fsx_pick_fd();
	bool aligned = fsx_is_direct(f, in) || fsx_is_direct(to, out);
	struct fsx_range r = fsx_pick(f, fsx.max, aligned ? fsx.align : 1);
	struct fsx_range target = fsx_pick(to, fsx.max, aligned ? fsx.align : 1);
	size_t apart = r.at < target.at ? target.at - r.at : r.at - target.at;

	fsx_say("copy      %s %s %zu+%zu to %s %s %zu", f->name, fsx_fd_name(f, in), r.at, r.len,
		to->name, fsx_fd_name(to, out), target.at);
	if (r.at >= f->size || (aligned && f->size % fsx.align))
		return false;
	r.len = fsx_min(fsx_min(r.len, f->size - r.at), fsx.max - target.at);
	if (r.len == 0 || (to == f && apart < r.len))
		return false;
	if (to->flags[out] & O_APPEND) {
		refuse_copy(f->fd[in], to->fd[out], r.len);
		return true;
	}
	copy_all(f->fd[in], r.at, to->fd[out], target.at, r.len);
	memmove(to->model + target.at, f->model + r.at, r.len);
	fsx_grow(to, target.at + r.len);
	fsx_look(to, target.at, r.len);
	fsx_look_at_size(to);
	return true;
}

static bool do_sync(struct fsx_file *f)
{
	bool data = fsx_one_in(2);
	int fd = f->fd[fsx_pick_fd()];

	fsx_say("%s %s", data ? "fdatasync" : "fsync    ", f->name);
	fsx_need((data ? fdatasync(fd) : fsync(fd)) == 0, "fsync");
	f->stored = false;
	if (fsx_one_in(4))
		fsx_look_at_source(f);
	return true;
}

static bool all_zero(const struct fsx_file *f, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		if (f->model[i])
			return false;
	return true;
}

/* What is said to be a hole must read as zeros. The converse need not hold. */
static bool do_seek(struct fsx_file *f)
{
	size_t at = fsx_below(f->size + FSX_PAGE);
	int fd = f->fd[fsx_pick_fd()];
	off_t data, hole;

	fsx_say("seek      %s %zu", f->name, at);
	/* The kernel's FUSE asks the daemon, who can't know what only stands in a mapping. */
	if (f->stored)
		fsx_need(fdatasync(fd) == 0, "fdatasync");
	f->stored = false;
	data = lseek(fd, (off_t)at, SEEK_DATA);
	fsx_need(data >= 0 || errno == ENXIO, "SEEK_DATA");
	if (data >= 0 && ((size_t)data < at || (size_t)data >= f->size))
		fsx_fail("SEEK_DATA from %zu: %lld of %zu", at, (long long)data, f->size);
	if (!all_zero(f, at, data < 0 ? f->size : (size_t)data))
		fsx_fail("SEEK_DATA from %zu: %lld, but there is data before it", at,
			(long long)data);
	hole = lseek(fd, (off_t)at, SEEK_HOLE);
	if (at >= f->size) {
		if (hole >= 0 || errno != ENXIO)
			fsx_fail("SEEK_HOLE beyond the end: %lld", (long long)hole);
		return true;
	}
	fsx_need(hole >= 0, "SEEK_HOLE");
	if ((size_t)hole < at || (size_t)hole > f->size || f->model[hole])
		fsx_fail("SEEK_HOLE from %zu: %lld of %zu", at, (long long)hole, f->size);
	return true;
}

static void open_file(struct fsx_file *f, int which, int more)
{
	f->flags[which] = O_RDWR | O_CLOEXEC | more;
	if (fsx.mode == FSX_DIRECT || which == 1)
		f->flags[which] |= O_DIRECT;
	f->fd[which] = open(f->path, f->flags[which], 0600);
	fsx_need(f->fd[which] >= 0, f->path);
}

static bool do_reopen(struct fsx_file *f)
{
	int more = (fsx_one_in(4) ? O_APPEND : 0) | (fsx_one_in(16) ? O_DSYNC : 0);
	bool forget = fsx_one_in(2), map = fsx_one_in(2);
	int which = fsx_pick_fd();

	fsx_say("reopen    %s %s%s%s%s%s", f->name, fsx_fd_name(f, which),
		more & O_APPEND ? " append" : "", more & O_DSYNC ? " dsync" : "",
		forget ? " forget" : "", map ? " map" : "");
	if (f->map)
		munmap(f->map, fsx.max);
	f->map = NULL;
	if (forget)
		fsx_need(posix_fadvise(f->fd[which], 0, 0, POSIX_FADV_DONTNEED) == 0, "fadvise");
	fsx_need(close(f->fd[which]) == 0, "close");
	open_file(f, which, more);
	/* A mapping that stays over many operations, as databases have them. */
	if (map)
		f->map = get_map(f, which);
	return true;
}

static struct op {
	const char *name;
	unsigned weight;
	bool (*run)(struct fsx_file *f);
	uint64_t done;
} ops[] = {
	{"read", 16, do_read, 0},
	{"write", 24, do_write, 0},
	{"map_read", 10, do_map_read, 0},
	{"map_write", 10, do_map_write, 0},
	{"truncate", 8, do_truncate, 0},
	{"fallocate", 16, do_fallocate, 0},
	{"copy", 8, do_copy, 0},
	{"sync", 2, do_sync, 0},
	{"seek", 4, do_seek, 0},
	{"reopen", 2, do_reopen, 0},
};

/* ---- a run ---- */

static void on_bus_error(int sig)
{
	fsx_fail("signal %d at a mapping", sig);
}

static void one_operation(void)
{
	struct fsx_file *f = &fsx.file[fsx_one_in(4)];
	size_t ticket = fsx_below(100);
	struct op *op = ops;

	while (ticket >= op->weight)
		ticket -= op++->weight;
	if (op->run(f))
		op->done++;
	fsx_look_at_size(f);
	if (fsx.done % 512 == 511)
		fsx_look(f, 0, fsx.max);
}

static void set_up(struct fsx_file *f, const char *name)
{
	int descriptors = fsx.mode == FSX_MIXED ? 2 : 1;

	f->name = name;
	snprintf(f->path, sizeof(f->path), "%s/%s", fsx.dir, name);
	if (fsx.source)
		snprintf(f->source, sizeof(f->source), "%s/%s", fsx.source, name);
	f->model = calloc(1, fsx.max + 2 * FSX_PAGE);
	fsx_need(f->model != NULL, "calloc");
	for (int which = 0; which < descriptors; which++)
		open_file(f, which, which ? 0 : O_CREAT | O_TRUNC);
	f->flags[0] &= ~(O_CREAT | O_TRUNC);
}

/* 512 where the device and the file system know such sectors. */
static void find_alignment(const struct fsx_file *f)
{
	int last = fsx.mode == FSX_MIXED;

	fsx.align = 512;
	if (pwrite(f->fd[last], fsx.buf, 512, 512) != 512)
		fsx.align = FSX_PAGE;
	fsx_need(ftruncate(f->fd[last], 0) == 0, "ftruncate");
}

static void tear_down(struct fsx_file *f)
{
	char path[PATH_MAX];
	FILE *out;

	fsx_need(fsync(f->fd[0]) == 0, "fsync");
	f->stored = false;
	fsx_look(f, 0, fsx.max);
	fsx_look_at_source(f);
	if (!fsx.model)
		return;
	snprintf(path, sizeof(path), "%s/%s", fsx.model, f->name);
	out = fopen(path, "w");
	fsx_need(out && fwrite(f->model, 1, f->size, out) == f->size && fclose(out) == 0, path);
}

static void parse(int argc, char **argv)
{
	static const struct option options[] = {{"seed", 1, NULL, 's'}, {"ops", 1, NULL, 'o'},
		{"mode", 1, NULL, 'm'}, {"size", 1, NULL, 'z'}, {"source", 1, NULL, 'S'},
		{"model", 1, NULL, 'M'}, {"verbose", 0, NULL, 'v'}, {0}};
	bool good = true;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			fsx.seed = strtoull(optarg, NULL, 0);
		else if (c == 'o')
			fsx.ops = strtoull(optarg, NULL, 0);
		else if (c == 'z')
			fsx.max = strtoull(optarg, NULL, 0) / FSX_PAGE * FSX_PAGE;
		else if (c == 'S')
			fsx.source = optarg;
		else if (c == 'M')
			fsx.model = optarg;
		else if (c == 'v')
			fsx.verbose = true;
		else if (c == 'm' && !strcmp(optarg, "direct"))
			fsx.mode = FSX_DIRECT;
		else if (c == 'm' && !strcmp(optarg, "mixed"))
			fsx.mode = FSX_MIXED;
		else if (c != 'm' || strcmp(optarg, "buffered") != 0)
			good = false;
	}
	if (!good || optind + 1 != argc || fsx.max == 0) {
		fprintf(stderr, "usage: fsx_tool [OPTIONS] DIR; its source says more\n");
		exit(2);
	}
	fsx.dir = argv[optind];
	fsx.random = fsx.seed * 3 + fsx.mode;
}

int main(int argc, char **argv)
{
	struct timespec began, ended;
	double seconds;

	parse(argc, argv);
	signal(SIGBUS, on_bus_error);
	fsx.buf = aligned_alloc(FSX_PAGE, fsx.max + 4 * FSX_PAGE);
	fsx_need(fsx.buf != NULL, "aligned_alloc");
	set_up(&fsx.file[0], "a");
	set_up(&fsx.file[1], "b");
	find_alignment(&fsx.file[0]);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (; fsx.done < fsx.ops; fsx.done++)
		one_operation();
	tear_down(&fsx.file[0]);
	tear_down(&fsx.file[1]);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	seconds = (double)(ended.tv_sec - began.tv_sec) +
		  (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
	printf("%llu operations (%s, seed %llu) in %.1f s, %.0f a second:",
		(unsigned long long)fsx.ops, fsx_mode_names[fsx.mode], (unsigned long long)fsx.seed,
		seconds, (double)fsx.ops / seconds);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		printf(" %s %llu", ops[i].name, (unsigned long long)ops[i].done);
	printf("\n");
	if (fsx.source_fails)
		printf("%u direct reads that fail in the source, too\n", fsx.source_fails);
	return 0;
}
