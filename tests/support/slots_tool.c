/* SPDX-License-Identifier: MIT */
/*
 * A store that writes past the page cache by io_submit(2), and syncs while writes are under way.
 * For tests/mount/power.bats.
 *
 * slots_tool write FILE FROM TO MARKS
 *     FILE is of 8 regions of 8 blocks of 4 KiB. Round r, of FROM to TO - 1, writes the blocks of
 * region r % 8, each by itself, and calls fdatasync before it knows how these have ended: what that
 * makes safe is the rounds before. Then a line `mark r` goes to MARKS, faultfs_tool's control.
 *
 * slots_tool verify FILE SAFE
 *     With SAFE rounds acknowledged, each block is that of the last safe round of its region, or of
 *     one of the two that may have been under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BLOCK = 4096, BLOCKS = 8, REGIONS = 8 };

static _Alignas(BLOCK) uint64_t blocks[BLOCKS][BLOCK / sizeof(uint64_t)];

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "slots_tool: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t word_of(uint64_t round, uint64_t block, uint64_t i)
{
	return i == 0 ? round + 1 : ((round + 1) * 1000003 + block * 8191 + i) * 0x9e3779b97f4a7c15;
}

static off_t place_of(uint64_t round, uint64_t block)
{
	return (off_t)((round % REGIONS * BLOCKS + block) * BLOCK);
}

static void submit(aio_context_t aio, int fd, uint64_t round)
{
	struct iocb calls[BLOCKS], *list[BLOCKS];

	for (uint64_t b = 0; b < BLOCKS; b++) {
		for (uint64_t i = 0; i < BLOCK / sizeof(uint64_t); i++)
			blocks[b][i] = word_of(round, b, i);
		calls[b] = (struct iocb){
			.aio_fildes = (uint32_t)fd,
			.aio_lio_opcode = IOCB_CMD_PWRITE,
			.aio_buf = (uintptr_t)blocks[b],
			.aio_nbytes = BLOCK,
			.aio_offset = place_of(round, b),
		};
		list[b] = &calls[b];
	}
	need(syscall(SYS_io_submit, aio, BLOCKS, list) == BLOCKS, "io_submit");
}

static void reap(aio_context_t aio)
{
	struct io_event events[BLOCKS];

	need(syscall(SYS_io_getevents, aio, BLOCKS, BLOCKS, events, NULL) == BLOCKS,
		"io_getevents");
	for (int b = 0; b < BLOCKS; b++)
		need(events[b].res == BLOCK, "a write");
}

static void mark(const char *path, uint64_t safe)
{
	FILE *out = fopen(path, "w");

	need(out && fprintf(out, "mark %llu\n", (unsigned long long)safe) > 0 && fclose(out) == 0,
		path);
}

static int cmd_write(const char *path, uint64_t from, uint64_t to, const char *marks)
{
	int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	aio_context_t aio = 0;

	need(fd >= 0, path);
	need(syscall(SYS_io_setup, BLOCKS, &aio) == 0, "io_setup");
	for (uint64_t round = from; round < to; round++) {
		submit(aio, fd, round);
		need(fdatasync(fd) == 0, "fdatasync");
		mark(marks, round);
		reap(aio);
	}
	need(fdatasync(fd) == 0, "fdatasync");
	mark(marks, to);
	return 0;
}

/* The round that a block is of, plus 1; 0 where it was never written. */
static bool read_block(int fd, uint64_t region, uint64_t b, uint64_t *found)
{
	uint64_t *words = blocks[0];

	need(pread(fd, words, BLOCK, place_of(region, b)) == BLOCK, "read");
	*found = words[0];
	for (uint64_t i = 1; i < BLOCK / sizeof(uint64_t); i++)
		if (words[i] != (*found ? word_of(*found - 1, b, i) : 0))
			return false;
	return true;
}

static int cmd_verify(const char *path, uint64_t safe)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int failed = 0;

	need(fd >= 0, path);
	for (uint64_t region = 0; region < REGIONS; region++) {
		/* Of the rounds 1 .. safe, the last of this region; 0: none. */
		uint64_t least = safe > region ? safe - (safe - 1 - region) % REGIONS : 0;

		for (uint64_t b = 0; b < BLOCKS; b++) {
			uint64_t found;
			bool whole = read_block(fd, region, b, &found);
			bool later = found == safe + 1 || found == safe + 2;

			if (whole && (found == least || (later && (found - 1) % REGIONS == region)))
				continue;
			fprintf(stderr,
				"verify: region %d, block %d: round %lld%s, acknowledged %lld\n",
				(int)region, (int)b, (long long)found - 1, whole ? "" : " in part",
				(long long)least - 1);
			failed = 1;
		}
	}
	return failed;
}

int main(int argc, char **argv)
{
	if (argc == 6 && !strcmp(argv[1], "write"))
		return cmd_write(
			argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), argv[5]);
	if (argc == 4 && !strcmp(argv[1], "verify"))
		return cmd_verify(argv[2], strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: slots_tool write FILE FROM TO MARKS\n"
			"       slots_tool verify FILE SAFE\n");
	return 2;
}
