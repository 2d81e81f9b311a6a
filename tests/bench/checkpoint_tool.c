/* SPDX-License-Identifier: MIT */
/*
 * What a database's checkpoint does: rewrites N distinct random pages of 4 KiB of an existing file
 * through the page cache, the same ones every time, then one fsync. For tests/bench.
 * checkpoint_tool FILE N
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

static int fail(const char *what)
{
	fprintf(stderr, "checkpoint_tool: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	static _Alignas(PAGE) char page[PAGE];
	uint64_t state = 7, pages, wanted;
	unsigned char *taken;
	struct stat st;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: checkpoint_tool FILE PAGES\n");
		return 2;
	}
	wanted = strtoull(argv[2], NULL, 10);
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return fail(argv[1]);
	pages = (uint64_t)st.st_size / PAGE;
	if (wanted > pages / 2) {
		fprintf(stderr, "checkpoint_tool: %s has only %ju pages\n", argv[1],
			(uintmax_t)pages);
		return 2;
	}
	taken = calloc(pages, 1);
	if (!taken)
		return fail("memory");
	for (uint64_t done = 0; done < wanted;) {
		uint64_t n;

		state = state * 6364136223846793005u + 1442695040888963407u;
		n = (state >> 33) % pages;
		if (taken[n])
			continue;
		taken[n] = 1;
		memcpy(page, &state, sizeof(state));
		if (pwrite(fd, page, PAGE, (off_t)(n * PAGE)) != PAGE)
			return fail("pwrite");
		done++;
	}
	if (fsync(fd) || close(fd))
		return fail("fsync");
	free(taken);
	return 0;
}
