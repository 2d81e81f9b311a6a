/* SPDX-License-Identifier: MIT */
/* The work that `batchiofs bench` measures; see bench_rows.h. */
#include "cmd/bench_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "batchio/batchio.h"

#define BLOCK  4096
#define RECORD 512
#define CHUNK  (128u << 10)
#define JOBS   16
#define DEPTH  32

static double now(void)
{
	return (double)clock_ns() / 1e9;
}

/* xorshift: quick, and the same in each run. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static off_t random_block(uint64_t *state, size_t size)
{
	return (off_t)(next_random(state) % (size / BLOCK) * BLOCK);
}

static int open_in(const char *dir, const char *name, int flags)
{
	char path[4096];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, flags | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

int bench_prepare(const struct bench_work *work)
{
	static uint64_t chunk[CHUNK / sizeof(uint64_t)];
	_cleanup_fd int fd = open_in(work->dir, BENCH_FILE, O_WRONLY | O_CREAT);
	uint64_t state = 1;

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < CHUNK / sizeof(chunk[0]); i++)
		chunk[i] = next_random(&state);
	for (size_t at = 0; at < work->size; at += CHUNK)
		if (pwrite(fd, chunk, CHUNK, (off_t)at) != CHUNK)
			return errno ? -errno : -ENOSPC;
	return fsync(fd) ? -errno : 0;
}

/* ---- jobs: threads that do the same, each in its own way ---- */

struct job {
	const struct bench_work *work;
	unsigned number;
	double end;
	uint64_t done;
	int error;
	/* One operation: 0 or -errno. */
	int (*operate)(struct job *job);
	int fd;
	uint64_t random;
	off_t at;
	char *buffer;
	pthread_t thread;
	bool started;
};

static void *job_main(void *arg)
{
	struct job *job = arg;

	while (!job->error && now() < job->end) {
		job->error = job->operate(job);
		job->done += !job->error;
	}
	return NULL;
}

/* Opens the job's own file, or BENCH_FILE where own is NULL. 0 or -errno. */
static int job_open(struct job *job, const char *own, int flags)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%u", own ? own : "", job->number);
	job->fd = open_in(job->work->dir, own ? name : BENCH_FILE, flags);
	job->random = 88172645463325252u + job->number;
	if (posix_memalign((void **)&job->buffer, BLOCK, BLOCK)) {
		job->buffer = NULL;
		return -ENOMEM;
	}
	memset(job->buffer, 'b', BLOCK);
	return job->fd < 0 ? job->fd : 0;
}

static double run_jobs(const struct bench_work *work, unsigned count, const char *own, int flags,
	int (*operate)(struct job *job))
{
	struct job jobs[JOBS];
	double start;
	uint64_t done = 0;
	int error = 0;

	for (unsigned n = 0; n < count; n++) {
		jobs[n] = (struct job){.work = work, .number = n, .operate = operate, .fd = -1};
		if (!error)
			error = job_open(&jobs[n], own, flags);
	}
	start = now();
	for (unsigned n = 0; n < count && !error; n++) {
		jobs[n].end = start + work->seconds;
		error = -pthread_create(&jobs[n].thread, NULL, job_main, &jobs[n]);
		jobs[n].started = !error;
	}
	for (unsigned n = 0; n < count; n++) {
		if (jobs[n].started)
			pthread_join(jobs[n].thread, NULL);
		done += jobs[n].done;
		error = error ? error : jobs[n].error;
		free(jobs[n].buffer);
		if (jobs[n].fd >= 0)
			close(jobs[n].fd);
	}
	return error ? error : (double)done / (now() - start);
}

/* ---- operations ---- */

static int result_of(ssize_t moved, size_t wanted)
{
	return moved == (ssize_t)wanted ? 0 : moved < 0 ? -errno : -EIO;
}

static int write_and_sync(struct job *job)
{
	off_t at = random_block(&job->random, job->work->size);
	int error = result_of(pwrite(job->fd, job->buffer, BLOCK, at), BLOCK);

	return error ? error : fsync(job->fd) ? -errno : 0;
}

static int append_and_sync(struct job *job)
{
	int error = result_of(pwrite(job->fd, job->buffer, RECORD, job->at), RECORD);

	job->at += RECORD;
	return error ? error : fdatasync(job->fd) ? -errno : 0;
}

static int read_block(struct job *job)
{
	off_t at = random_block(&job->random, job->work->size);

	return result_of(pread(job->fd, job->buffer, BLOCK, at), BLOCK);
}

static int make_and_remove(struct job *job)
{
	char path[4096];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/small%u", job->work->dir, job->number);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (write(fd, job->buffer, RECORD) != RECORD) {
		close(fd);
		return -EIO;
	}
	close(fd);
	return stat(path, &st) || unlink(path) ? -errno : 0;
}

static double row_sync1(const struct bench_work *work)
{
	return run_jobs(work, 1, "sync", O_RDWR | O_CREAT, write_and_sync);
}

static double row_sync16(const struct bench_work *work)
{
	return run_jobs(work, JOBS, "sync", O_RDWR | O_CREAT, write_and_sync);
}

static double row_sync16one(const struct bench_work *work)
{
	return run_jobs(work, JOBS, NULL, O_RDWR, write_and_sync);
}

static double row_log16(const struct bench_work *work)
{
	return run_jobs(work, JOBS, "log", O_WRONLY | O_CREAT | O_TRUNC, append_and_sync);
}

static double row_dread1(const struct bench_work *work)
{
	return run_jobs(work, 1, NULL, O_RDONLY | O_DIRECT, read_block);
}

/* What is cached is read once before. */
static double row_cached4(const struct bench_work *work)
{
	_cleanup_fd int fd = open_in(work->dir, BENCH_FILE, O_RDONLY);
	static char chunk[CHUNK];
	ssize_t n = 1;

	for (off_t at = 0; fd >= 0 && n > 0; at += n)
		n = pread(fd, chunk, sizeof(chunk), at);
	if (fd < 0 || n < 0)
		return fd < 0 ? fd : -errno;
	return run_jobs(work, 4, NULL, O_RDONLY, read_block);
}

static double row_files(const struct bench_work *work)
{
	return run_jobs(work, 1, "files", O_RDONLY | O_CREAT, make_and_remove);
}

/* ---- many at once, by libbatchio ---- */

struct deep {
	const struct bench_work *work;
	struct batchio *bio;
	double end;
	uint64_t random;
	uint64_t done;
	int error;
};

struct deep_request {
	struct batchio_request io;
	struct iovec iov;
	struct deep *deep;
};

static void deep_done(struct batchio_request *io, ssize_t result)
{
	struct deep_request *request = io->user;
	struct deep *deep = request->deep;

	if (result != BLOCK)
		deep->error = result < 0 ? (int)result : -EIO;
	else
		deep->done++;
	if (deep->error || now() >= deep->end)
		return;
	io->offset = random_block(&deep->random, deep->work->size);
	deep->error = batchio_submit(deep->bio, io);
}

static void deep_start(struct deep *deep, struct deep_request *request, enum batchio_kind kind,
	int fd, char *buffer)
{
	request->deep = deep;
	request->iov = (struct iovec){.iov_base = buffer, .iov_len = BLOCK};
	request->io = (struct batchio_request){
		.kind = kind,
		.flags = BATCHIO_DIRECT,
		.fd = fd,
		.iov = &request->iov,
		.iovcnt = 1,
		.offset = random_block(&deep->random, deep->work->size),
		.done = deep_done,
		.user = request,
	};
	deep->error = batchio_submit(deep->bio, &request->io);
}

static double run_deep(const struct bench_work *work, enum batchio_kind kind)
{
	_cleanup_fd int fd = open_in(work->dir, BENCH_FILE, O_RDWR | O_DIRECT);
	struct deep deep = {.work = work, .random = 88172645463325252u};
	struct deep_request requests[DEPTH];
	struct batchio_error reason;
	char *buffers = NULL;
	double start = now();

	if (fd < 0)
		return fd;
	if (posix_memalign((void **)&buffers, BLOCK, DEPTH * BLOCK))
		return -ENOMEM;
	memset(buffers, 'b', DEPTH * BLOCK);
	deep.bio = batchio_new_uring(DEPTH, BATCHIO_SINGLE_ISSUER, &reason);
	if (!deep.bio) {
		free(buffers);
		return -ENOSYS;
	}
	deep.end = start + work->seconds;
	for (int n = 0; n < DEPTH && !deep.error; n++)
		deep_start(&deep, &requests[n], kind, fd, buffers + n * BLOCK);
	while (batchio_inflight(deep.bio))
		if (batchio_reap(deep.bio, 1, -1) < 0)
			break;
	batchio_close(deep.bio);
	free(buffers);
	return deep.error ? deep.error : (double)deep.done / (now() - start);
}

static double row_dread32(const struct bench_work *work)
{
	return run_deep(work, BATCHIO_READ);
}

static double row_dwrite32(const struct bench_work *work)
{
	return run_deep(work, BATCHIO_WRITE);
}

/* ---- streams ---- */

/* In MiB a second: the file written once, and synced. */
static double row_seqwrite(const struct bench_work *work)
{
	_cleanup_fd int fd = open_in(work->dir, "stream", O_WRONLY | O_CREAT | O_TRUNC);
	double start = now();
	char block[BLOCK];

	if (fd < 0)
		return fd;
	memset(block, 's', sizeof(block));
	for (size_t at = 0; at < work->size; at += BLOCK)
		if (pwrite(fd, block, BLOCK, (off_t)at) != BLOCK)
			return errno ? -errno : -EIO;
	if (fsync(fd))
		return -errno;
	return (double)(work->size >> 20) / (now() - start);
}

const struct bench_row bench_rows[] = {
	{"sync1", "4 KiB random write + fsync, 1 writer (a second)", row_sync1},
	{"sync16", "the same, 16 writers of a file each", row_sync16},
	{"sync16one", "the same, 16 writers of one file", row_sync16one},
	{"log16", "512 B append + fdatasync, 16 logs", row_log16},
	{"dread1", "direct 4 KiB random read, one at a time", row_dread1},
	{"dread32", "the same, 32 at once", row_dread32},
	{"dwrite32", "direct 4 KiB random write, 32 at once", row_dwrite32},
	{"cached4", "4 KiB random read of cached data, 4 readers", row_cached4},
	{"files", "a small file made, written, looked at, removed", row_files},
	{"seqwrite", "4 KiB sequential writes, one fsync (MiB/s)", row_seqwrite},
};

const size_t bench_rows_count = sizeof(bench_rows) / sizeof(bench_rows[0]);
