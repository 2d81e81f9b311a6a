/* SPDX-License-Identifier: MIT */
/*
 * Asynchronous writes past the page cache beside readers through it, for tests/mount/data.bats.
 *
 *	aio_tool FILE ROUNDS
 *
 * Each round writes all of FILE (640 KiB) with one byte, by io_submit(2) and O_DIRECT, while two
 * threads open, look at and read the file. When the write has ended, what is read through the cache
 * has to be that byte. Exit status 1 where it is not.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SIZE = 640 << 10, READERS = 2 };

static const char *path;
static atomic_bool ending;

static void need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

static void *read_on(void *arg)
{
	char *buf = malloc(SIZE);

	(void)arg;
	need(buf != NULL, "malloc");
	while (!ending) {
		struct stat st;
		int fd = open(path, O_RDONLY);

		need(fd >= 0, "open");
		need(fstat(fd, &st) == 0, "fstat");
		need(pread(fd, buf, SIZE, 0) >= 0, "read");
		close(fd);
	}
	free(buf);
	return NULL;
}

static void write_all(aio_context_t context, int fd, void *buf)
{
	struct iocb iocb = {
		.aio_lio_opcode = IOCB_CMD_PWRITE,
		.aio_fildes = (unsigned)fd,
		.aio_buf = (uintptr_t)buf,
		.aio_nbytes = SIZE,
	};
	struct iocb *list = &iocb;
	struct io_event event;

	need(syscall(SYS_io_submit, context, 1, &list) == 1, "io_submit");
	need(syscall(SYS_io_getevents, context, 1, 1, &event, NULL) == 1, "io_getevents");
	errno = event.res < 0 ? (int)-event.res : EIO;
	need(event.res == SIZE, "the write");
}

int main(int argc, char **argv)
{
	char *buf = aligned_alloc(4096, SIZE), *got = malloc(SIZE);
	int rounds = argc == 3 ? atoi(argv[2]) : 0;
	pthread_t readers[READERS];
	aio_context_t context = 0;
	int direct, cached, bad = 0;

	need(rounds > 0 && buf && got, "usage: aio_tool FILE ROUNDS");
	path = argv[1];
	direct = open(path, O_RDWR | O_CREAT | O_DIRECT, 0644);
	cached = open(path, O_RDONLY);
	need(direct >= 0 && cached >= 0, path);
	memset(buf, 0, SIZE);
	need(pwrite(direct, buf, SIZE, 0) == SIZE, "write");
	need(syscall(SYS_io_setup, 1, &context) == 0, "io_setup");
	for (int i = 0; i < READERS; i++)
		need(pthread_create(&readers[i], NULL, read_on, NULL) == 0, "pthread_create");
	for (int n = 1; n <= rounds && !bad; n++) {
		memset(buf, n, SIZE);
		write_all(context, direct, buf);
		need(pread(cached, got, SIZE, 0) == SIZE, "read");
		for (int at = 0; at < SIZE && !bad; at++)
			if (got[at] != buf[at]) {
				printf("round %d: at %d it is %d, not %d\n", n, at, got[at],
					buf[at]);
				bad = 1;
			}
	}
	ending = true;
	for (int i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	return bad;
}
