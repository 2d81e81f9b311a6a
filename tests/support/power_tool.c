/* SPDX-License-Identifier: MIT */
/*
 * Cuts of power: from the record of a device (faultfs_tool.c's), the image that it holds when power
 * is cut at some instant, and what had been acknowledged until then. Called by power.bash.
 *
 * power_tool count RECORD
 *     Prints how many writes, flushes and marks there are.
 * power_tool plan RECORD RANDOM [N SEED]
 *     Prints instants to cut at, `AT WHAT` a line; with N so many of them, drawn by SEED, and
 *     always the end. AT is a number of records that came before. WHAT is
 *       all      all written so far has reached the medium (before each write, and at the end)
 *       flushed  only what a flush has covered (before the next flush, and at the end)
 *       SEED     that, and a random part of the rest; RANDOM seeds before each write and flush
 *                for which others wait
 * power_tool image RECORD BASE IMAGE AT WHAT
 *     Makes IMAGE of BASE, which is what it was when the record began, and prints the marks of
 *     the first AT records. For a test of the tests, WHAT may also be
 *       lie SEED a random part of all, as if no flush had done anything
 *       late N   all but the last N writes, flushed or not
 *
 * What is written is taken in blocks of 4 KiB: one either reaches the medium or does not, as with a
 * disk of such sectors. In which order those of a random part do is of no account: what is left in
 * a place is one of the versions that were written there, any of them, since each write is kept or
 * lost by itself.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096

enum kind { WRITE, ZERO, FLUSH, MARK };

struct record {
	enum kind kind;
	unsigned long long offset, len; /* WRITE, ZERO; of a FLUSH, offset is what it covers */
	const char *data; /* WRITE: the bytes; MARK: the text up to its newline */
};

static struct record *records;
static size_t n_records;

static void die(const char *what)
{
	fprintf(stderr, "power_tool: %s: %s\n", what, errno ? strerror(errno) : "unreadable");
	exit(2);
}

/* ---- the record ---- */

static const char *parse(struct record *to, const char *line, const char *end)
{
	const char *newline = memchr(line, '\n', (size_t)(end - line));
	unsigned long long a = 0, b = 0;
	char head[64] = "";

	if (!newline)
		return NULL;
	memcpy(head, line,
		(size_t)(newline - line) < sizeof(head) ? (size_t)(newline - line)
							: sizeof(head) - 1);
	if (sscanf(head, "write %llu %llu", &a, &b) == 2)
		*to = (struct record){WRITE, a, b, newline + 1};
	else if (sscanf(head, "zero %llu %llu", &a, &b) == 2)
		*to = (struct record){ZERO, a, b, NULL};
	else if (sscanf(head, "flush %llu", &a) == 1)
		*to = (struct record){FLUSH, a, 0, NULL};
	else if (!strncmp(head, "mark ", 5))
		*to = (struct record){MARK, 0, 0, line + 5};
	else
		return NULL;
	if (to->kind != WRITE)
		return newline + 1;
	return to->len <= (unsigned long long)(end - to->data) ? to->data + to->len : NULL;
}

static void load(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *at, *end;
	size_t room = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || st.st_size == 0)
		die(path);
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		die(path);
	close(fd);
	for (end = at + st.st_size; at < end; n_records++) {
		if (n_records == room) {
			room = 2 * room + 1024;
			records = realloc(records, room * sizeof(*records));
			if (!records)
				die("memory");
		}
		errno = 0;
		at = parse(&records[n_records], at, end);
		if (!at)
			die(path);
	}
}

static bool is_data(const struct record *record)
{
	return record->kind == WRITE || record->kind == ZERO;
}

/* Of the records before `at`, those before this one have been covered by a flush that ended. */
static size_t flushed_before(size_t at)
{
	size_t covered = 0;

	for (size_t i = 0; i < at; i++)
		if (records[i].kind == FLUSH && records[i].offset > covered)
			covered = records[i].offset;
	return covered;
}

/* ---- chance ---- */

static uint64_t chance;

static void seed_chance(uint64_t seed, uint64_t more)
{
	chance = seed * 0x9e3779b97f4a7c15u ^ more * 0xd1b54a32d192ed03u;
}

/* A number below n (splitmix64). */
static uint64_t below(uint64_t n)
{
	uint64_t z = (chance += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % n;
}

/* ---- the image ---- */

static void put(int fd, const struct record *record, unsigned long long from, size_t len)
{
	static const char zeroes[BLOCK];
	const char *data = record->kind == ZERO ? zeroes : record->data + (from - record->offset);

	while (len) {
		size_t piece = record->kind == ZERO && len > BLOCK ? BLOCK : len;

		if (pwrite(fd, data, piece, (off_t)from) != (ssize_t)piece)
			die("image");
		if (record->kind == WRITE)
			data += piece;
		from += piece;
		len -= piece;
	}
}

/* Each block with `odds` chances in 8; mostly the whole write by one throw. */
static void put_some(int fd, const struct record *record, unsigned odds)
{
	bool torn = below(4) == 0, keep = below(8) < odds;
	unsigned long long at = record->offset, end = at + record->len;

	while (at < end) {
		unsigned long long next = (at / BLOCK + 1) * BLOCK;

		if (next > end)
			next = end;
		if (torn ? below(8) < odds : keep)
			put(fd, record, at, (size_t)(next - at));
		at = next;
	}
}

static void copy_data(int to, const char *path)
{
	int from = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0, end;
	struct stat st;

	if (from < 0 || fstat(from, &st) || ftruncate(to, 0) || ftruncate(to, st.st_size))
		die(path);
	while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
		char buf[65536];
		ssize_t n;

		for (end = lseek(from, at, SEEK_HOLE); at < end; at += n) {
			n = pread(from, buf,
				(size_t)(end - at) < sizeof(buf) ? (size_t)(end - at) : sizeof(buf),
				at);
			if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
				die(path);
		}
	}
	if (errno != ENXIO)
		die(path);
	close(from);
}

/* The records from..at-1, each by chance. */
static void put_random(int fd, size_t from, size_t at)
{
	static const unsigned odds_of[] = {1, 4, 4, 7};
	unsigned odds = odds_of[below(4)];

	for (size_t i = from; i < at; i++)
		if (is_data(&records[i]))
			put_some(fd, &records[i], odds);
}

static void put_all(int fd, size_t at)
{
	for (size_t i = 0; i < at; i++)
		if (is_data(&records[i]))
			put(fd, &records[i], records[i].offset, (size_t)records[i].len);
}

static size_t without_last(size_t at, unsigned long n)
{
	while (at && n)
		if (is_data(&records[--at]))
			n--;
	return at;
}

static int cmd_image(char **argv, int argc)
{
	size_t at = strtoul(argv[2], NULL, 10), flushed;
	const char *what = argv[3];
	unsigned long number = strtoul(argc > 4 ? argv[4] : what, NULL, 10);
	int fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || at > n_records)
		die(argv[1]);
	copy_data(fd, argv[0]);
	flushed = flushed_before(at);
	seed_chance(number, at);
	if (!strcmp(what, "all")) {
		put_all(fd, at);
	} else if (!strcmp(what, "late") && argc > 4) {
		put_all(fd, without_last(at, number));
	} else if (!strcmp(what, "lie") && argc > 4) {
		put_random(fd, 0, at);
	} else if (!strcmp(what, "flushed") || isdigit((unsigned char)*what)) {
		put_all(fd, flushed);
		if (*what != 'f')
			put_random(fd, flushed, at);
	} else {
		return 2;
	}
	for (size_t i = 0; i < at; i++)
		if (records[i].kind == MARK)
			printf("%.*s\n", (int)strcspn(records[i].data, "\n"), records[i].data);
	return close(fd) || fflush(stdout) ? 2 : 0;
}

/* ---- where to cut ---- */

struct cut {
	size_t at;
	long what; /* -1 all, -2 flushed, else a seed */
};

static struct cut *cuts;
static size_t n_cuts;

static void add_cut(size_t at, long what)
{
	cuts[n_cuts++] = (struct cut){at, what};
}

static void plan_all(unsigned random)
{
	size_t flushed = 0, pending = 0;

	cuts = calloc((n_records + 1) * (random + 2), sizeof(*cuts));
	if (!cuts)
		die("memory");
	for (size_t i = 0; i <= n_records; i++) {
		bool end = i == n_records;

		/* Before a write all that could be acknowledged by now has been. */
		if (end || is_data(&records[i]))
			add_cut(i, -1);
		if ((end || records[i].kind != MARK) && pending) {
			/* Nothing is added to it meanwhile but what has been acknowledged. */
			if (end || records[i].kind == FLUSH)
				add_cut(i, -2);
			for (unsigned seed = 0; seed < random; seed++)
				add_cut(i, seed);
		}
		if (end)
			break;
		pending += is_data(&records[i]);
		if (records[i].kind == FLUSH && records[i].offset > flushed) {
			flushed = records[i].offset;
			pending = 0;
			for (size_t j = flushed; j < i; j++)
				pending += is_data(&records[j]);
		}
	}
}

static int by_place(const void *a, const void *b)
{
	const struct cut *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->what < y->what ? -1 : x->what > y->what;
}

static int cmd_plan(char **argv, int argc)
{
	plan_all((unsigned)strtoul(argv[0], NULL, 10));
	if (argc > 2) {
		size_t n = strtoul(argv[1], NULL, 10);

		seed_chance(strtoul(argv[2], NULL, 10), 0);
		/* The last one, which is of the end, comes first. */
		for (size_t i = 0; i < n_cuts && i < n; i++) {
			size_t j = i ? i + below(n_cuts - i) : n_cuts - 1;
			struct cut other = cuts[i];

			cuts[i] = cuts[j];
			cuts[j] = other;
		}
		if (n < n_cuts)
			n_cuts = n;
		qsort(cuts, n_cuts, sizeof(*cuts), by_place);
	}
	for (size_t i = 0; i < n_cuts; i++) {
		if (cuts[i].what >= 0)
			printf("%zu %ld\n", cuts[i].at, cuts[i].what);
		else
			printf("%zu %s\n", cuts[i].at, cuts[i].what == -1 ? "all" : "flushed");
	}
	return 0;
}

static int cmd_count(void)
{
	size_t n[MARK + 1] = {0};

	for (size_t i = 0; i < n_records; i++)
		n[records[i].kind]++;
	printf("%zu writes, %zu flushes, %zu marks\n", n[WRITE] + n[ZERO], n[FLUSH], n[MARK]);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 3)
		load(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "count"))
		return cmd_count();
	if ((argc == 4 || argc == 6) && !strcmp(argv[1], "plan"))
		return cmd_plan(argv + 3, argc - 3);
	if ((argc == 7 || argc == 8) && !strcmp(argv[1], "image"))
		return cmd_image(argv + 3, argc - 3);
	fprintf(stderr, "usage: power_tool count RECORD\n"
			"       power_tool plan RECORD RANDOM [N SEED]\n"
			"       power_tool image RECORD BASE IMAGE AT WHAT\n");
	return 2;
}
