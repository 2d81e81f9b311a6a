/* SPDX-License-Identifier: MIT */
/*
 * Processes that overwrite overlapping ranges of one file, and a look whether each block is one
 * that somebody wrote last. For tests/mount.
 *
 * overlap_tool write FILE BLOCKS PROCESSES WRITES LOG [direct]
 *     Each process writes WRITES runs of 1 to 16 blocks of 4 KiB at random places of FILE (which is
 *     filled first); WRITES 0 means until SIGTERM. Each block says who wrote it with which of his
 *     writes. LOG takes what was begun and acknowledged when. With direct, runs are also read
 *     meanwhile: each block must be whole.
 *
 * overlap_tool verify FILE LOG
 *     Each block of FILE is whole, it is its writer's last write of that block, and nobody began
 *     another write of it after that one had ended. (Those that overlap in time may have come in
 *     any order.) A write without an acknowledgement counts as not ended: it may be there or not.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK         4096
#define MAX_RUN       16
#define MAX_PROCESSES 16

/* What a block holds; the words after it repeat `stamp`. */
struct block {
	uint64_t number; /* of the block */
	uint64_t writer;
	uint64_t write; /* of the writer's, from 1; 0: the first filling */
	uint64_t words[BLOCK / 8 - 3];
};

/* A writer's last write of a block, and that before it, should the last never have been
 * acknowledged. */
struct entry {
	uint64_t write, begun, ended; /* monotonic nanoseconds; ended 0: not acknowledged */
	uint64_t before, before_ended;
};

struct log {
	uint64_t blocks, processes;
	struct entry entries[]; /* [process][block] */
};

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t stamp(const struct block *b)
{
	return (b->number << 40 ^ b->writer << 32 ^ b->write) * 0x9e3779b97f4a7c15u;
}

static void fill(struct block *b, uint64_t number, uint64_t writer, uint64_t write)
{
	b->number = number;
	b->writer = writer;
	b->write = write;
	for (size_t i = 0; i < BLOCK / 8 - 3; i++)
		b->words[i] = stamp(b) + i;
}

static bool whole(const struct block *b, uint64_t number)
{
	for (size_t i = 0; i < BLOCK / 8 - 3; i++)
		if (b->words[i] != stamp(b) + i)
			return false;
	return b->number == number;
}

static struct log *map_log(const char *path, uint64_t blocks, uint64_t processes)
{
	size_t size = sizeof(struct log) + blocks * processes * sizeof(struct entry);
	int fd = open(path, O_RDWR | O_CREAT | (blocks ? O_TRUNC : 0), 0600);
	struct log *log;

	if (fd < 0)
		return NULL;
	if (!blocks)
		size = (size_t)lseek(fd, 0, SEEK_END);
	else if (ftruncate(fd, (off_t)size))
		return NULL;
	log = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return log == MAP_FAILED ? NULL : log;
}

static int fail(const char *what, uint64_t block, ssize_t result)
{
	fprintf(stderr, "overlap: %s at block %llu: %s\n", what, (unsigned long long)block,
		result < 0 ? strerror(errno) : "short or torn");
	return 1;
}

static int read_run(int fd, struct block *run, uint64_t first, uint64_t n)
{
	ssize_t got = pread(fd, run, n * BLOCK, (off_t)(first * BLOCK));

	if (got != (ssize_t)(n * BLOCK))
		return fail("read", first, got);
	for (uint64_t i = 0; i < n; i++)
		if (!whole(&run[i], first + i))
			return fail("read", first + i, 0);
	return 0;
}

static int write_run(int fd, struct block *run, uint64_t first, uint64_t n, struct entry *entries,
	uint64_t writer, uint64_t write)
{
	uint64_t begun = now();
	ssize_t put;

	for (uint64_t i = 0; i < n; i++) {
		struct entry *e = &entries[first + i];

		fill(&run[i], first + i, writer, write);
		*e = (struct entry){write, begun, 0, e->write, e->ended};
	}
	put = pwrite(fd, run, n * BLOCK, (off_t)(first * BLOCK));
	if (put != (ssize_t)(n * BLOCK))
		return fail("write", first, put);
	for (uint64_t i = 0; i < n; i++)
		entries[first + i].ended = now();
	return 0;
}

static int writer(const char *path, uint64_t me, uint64_t writes, bool direct, struct log *log)
{
	struct entry *entries = &log->entries[me * log->blocks];
	struct block *run = aligned_alloc(BLOCK, MAX_RUN * BLOCK);
	int fd = open(path, O_RDWR | (direct ? O_DIRECT : 0));

	if (fd < 0 || !run)
		return fail("open", 0, -1);
	srandom((unsigned)me + 1);
	for (uint64_t i = 1; !stop && (!writes || i <= writes); i++) {
		uint64_t n = 1 + (uint64_t)random() % MAX_RUN;
		uint64_t first = (uint64_t)random() % (log->blocks - n + 1);

		if (write_run(fd, run, first, n, entries, me, i))
			return 1;
		/* Buffered readers of any file system may see a block half written. */
		if (direct && i % 4 == 0 && read_run(fd, run, first, n))
			return 1;
	}
	return close(fd) != 0;
}

static int fill_file(const char *path, uint64_t blocks)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct block block;

	for (uint64_t i = 0; i < blocks; i++) {
		fill(&block, i, 0, 0);
		if (write(fd, &block, BLOCK) != BLOCK)
			return fail("fill", i, -1);
	}
	return fsync(fd) || close(fd);
}

static int cmd_write(char **argv, bool direct)
{
	struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	uint64_t blocks = strtoull(argv[1], NULL, 10), processes = strtoull(argv[2], NULL, 10);
	struct log *log;
	pid_t children[MAX_PROCESSES];
	int failed = 0;
	int status;

	if (blocks < MAX_RUN || processes < 1 || processes > MAX_PROCESSES)
		return 2;
	log = map_log(argv[4], blocks, processes);
	if (!log || fill_file(argv[0], blocks))
		return 2;
	log->blocks = blocks;
	log->processes = processes;
	sigaction(SIGTERM, &action, NULL);
	for (uint64_t i = 0; i < processes; i++) {
		children[i] = fork();
		if (children[i] == 0)
			_exit(writer(argv[0], i, strtoull(argv[3], NULL, 10), direct, log));
	}
	for (uint64_t i = 0; i < processes;) {
		bool stopping = stop;

		if (stopping)
			for (uint64_t j = i; j < processes; j++)
				kill(children[j], SIGTERM);
		if (waitpid(children[i], &status, stopping ? 0 : WNOHANG) == children[i]) {
			failed |= status != 0;
			i++;
		} else {
			usleep(10000);
		}
	}
	return failed;
}

/* When the write that the block holds had ended; UINT64_MAX: it is not known to have. 0: it can't
 * be there. */
static uint64_t ended(const struct log *log, const struct block *b, uint64_t number)
{
	const struct entry *e;

	if (b->write == 0)
		return 1;
	if (b->writer >= log->processes)
		return 0;
	e = &log->entries[b->writer * log->blocks + number];
	if (b->write == e->write)
		return e->ended ? e->ended : UINT64_MAX;
	return !e->ended && b->write == e->before ? e->before_ended : 0;
}

/* Is there an acknowledged write of the block that began after `end`? */
static bool overwritten(const struct log *log, uint64_t number, uint64_t end)
{
	for (uint64_t w = 0; w < log->processes; w++) {
		const struct entry *e = &log->entries[w * log->blocks + number];

		if (e->write && e->ended && e->begun > end)
			return true;
	}
	return false;
}

static int cmd_verify(const char *path, const char *log_path)
{
	const struct log *log = map_log(log_path, 0, 0);
	int fd = open(path, O_RDONLY);
	struct block b;
	int bad = 0;

	if (!log || fd < 0)
		return fail("open", 0, -1);
	for (uint64_t i = 0; i < log->blocks; i++) {
		uint64_t end;

		if (pread(fd, &b, BLOCK, (off_t)(i * BLOCK)) != BLOCK || !whole(&b, i)) {
			bad = fail("verify", i, 0);
			continue;
		}
		end = ended(log, &b, i);
		if (end && !overwritten(log, i, end))
			continue;
		fprintf(stderr, "verify: block %llu holds write %llu of process %llu, which %s\n",
			(unsigned long long)i, (unsigned long long)b.write,
			(unsigned long long)b.writer, end ? "was overwritten" : "is not its last");
		bad = 1;
	}
	return bad;
}

int main(int argc, char **argv)
{
	if (argc >= 7 && !strcmp(argv[1], "write"))
		return cmd_write(argv + 2, argc > 7 && !strcmp(argv[7], "direct"));
	if (argc == 4 && !strcmp(argv[1], "verify"))
		return cmd_verify(argv[2], argv[3]);
	fprintf(stderr, "usage: overlap_tool write FILE BLOCKS PROCESSES WRITES LOG [direct]\n"
			"       overlap_tool verify FILE LOG\n");
	return 2;
}
