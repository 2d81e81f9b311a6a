/* SPDX-License-Identifier: MIT */
/*
 * Processes that append records to one file, and a look whether each record is there whole and
 * once. For tests/mount.
 *
 * append_tool append FILE PROCESSES RECORDS LOG [HOW [MARKS]]
 *     Each process opens FILE with O_APPEND and appends RECORDS records, a write(2) each, of 32
 *     bytes to 2 MiB. HOW is direct (O_DIRECT, and multiples of 4 KiB), sync, both with a comma, or
 *     nosync. LOG takes, per process, how many were acknowledged: written (sync: and after that
 *     synced); MARKS, which is faultfs_tool's control, a line `mark PROCESS NUMBER` each time. Ends
 *     at the first error, or at SIGTERM after the current write; RECORDS 0 means until then. Exit
 *     status 0 unless a write failed.
 *
 * append_tool acknowledged LOG
 *     Makes LOG of lines `PROCESS NUMBER` from the standard input; of a process, the last counts.
 *
 * append_tool verify FILE LOG [torn|lost]
 *     FILE holds nothing but whole records, those of each process in order, each once, and all that
 *     were acknowledged; one more of each process may be there (written, and its acknowledgement
 *     lost). With torn, part of an unacknowledged one may be at the end: a large write(2) is
 *     several requests, and something died between them. With lost, what follows the acknowledged
 *     ones may be anything: it was on its way when all ended. Prints the number of whole records.
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
#include <unistd.h>

#define MAGIC         0x6170706e
#define MAX_PROCESSES 64
#define MAX_RECORD    (2u << 20)

struct record {
	uint32_t magic;
	uint32_t process;
	uint64_t number; /* of the process's records, from 0 */
	uint32_t len; /* with this header */
	uint32_t unused;
	uint64_t sum; /* of header and payload, taken as 0 */
};

struct log {
	uint64_t acknowledged[MAX_PROCESSES];
};

static _Alignas(4096) char buffer[MAX_RECORD];
static struct record *const record = (struct record *)buffer;
static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 29;
}

static uint64_t sum_of(void)
{
	const unsigned char *bytes = (const unsigned char *)(record + 1);
	uint64_t sum = record->process * 31 + record->number * 17 + record->len;

	for (size_t i = 0; i < record->len - sizeof(*record); i++)
		sum = (sum ^ bytes[i]) * 1099511628211u;
	return sum;
}

/* Mostly small, some of many pages, a few larger than one request can carry. */
static uint32_t size_of(uint64_t random, bool direct)
{
	uint32_t kind = random % 128;
	uint32_t max = kind == 0 ? MAX_RECORD : kind < 8 ? 128u << 10 : 4096;
	uint32_t len = (uint32_t)sizeof(struct record) +
		       (uint32_t)(random / 128) % (max - sizeof(struct record));

	return direct ? (len + 4095) & ~4095u : len;
}

static void fill(uint32_t process, uint64_t number, bool direct)
{
	uint64_t random = (uint64_t)process << 32 | number;
	unsigned char *bytes = (unsigned char *)(record + 1);

	next_random(&random);
	*record = (struct record){
		MAGIC, process, number, size_of(next_random(&random), direct), 0, 0};
	for (size_t i = 0; i < record->len - sizeof(*record); i++)
		bytes[i] = (unsigned char)next_random(&random);
	record->sum = sum_of();
}

static struct log *map_log(const char *path, bool create)
{
	int fd = open(path, create ? O_RDWR | O_CREAT | O_TRUNC : O_RDWR, 0600);
	void *log;

	if (fd < 0 || (create && ftruncate(fd, sizeof(struct log))))
		return NULL;
	log = mmap(NULL, sizeof(struct log), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return log == MAP_FAILED ? NULL : log;
}

struct way {
	bool direct, sync;
	const char *marks;
};

static int mark(const char *path, uint32_t process, uint64_t number)
{
	FILE *out = fopen(path, "w");

	if (!out)
		return 1;
	fprintf(out, "mark %u %llu\n", process, (unsigned long long)number);
	return fclose(out) != 0;
}

static int append(
	const char *path, uint32_t process, uint64_t records, struct way way, struct log *log)
{
	int fd = open(path, O_WRONLY | O_APPEND | (way.direct ? O_DIRECT : 0));

	if (fd < 0) {
		fprintf(stderr, "append: %s: %s\n", path, strerror(errno));
		return 1;
	}
	for (uint64_t i = 0; !stop && (!records || i < records); i++) {
		ssize_t n;

		fill(process, i, way.direct);
		n = write(fd, record, record->len);
		if (n != (ssize_t)record->len) {
			fprintf(stderr, "append: process %u, record %llu: %zd of %u bytes (%s)\n",
				process, (unsigned long long)i, n, record->len,
				n < 0 ? strerror(errno) : "short");
			return 1;
		}
		/* With marks there are pauses, in which the others' flushes begin and end. */
		if (way.marks && i % 2)
			usleep((unsigned)(record->sum % 4000));
		if (way.sync && fdatasync(fd)) {
			fprintf(stderr, "append: process %u: fdatasync: %s\n", process,
				strerror(errno));
			return 1;
		}
		__atomic_store_n(&log->acknowledged[process], i + 1, __ATOMIC_RELEASE);
		if (way.marks && mark(way.marks, process, i + 1)) {
			perror(way.marks);
			return 1;
		}
	}
	return close(fd) != 0;
}

static int cmd_append(char **argv, struct way way)
{
	unsigned processes = (unsigned)atoi(argv[1]);
	struct sigaction action = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	struct log *log = map_log(argv[3], true);
	pid_t children[MAX_PROCESSES];
	int failed = 0;
	int status;

	if (!log || processes < 1 || processes > MAX_PROCESSES)
		return 2;
	sigaction(SIGTERM, &action, NULL);
	for (uint32_t i = 0; i < processes; i++) {
		children[i] = fork();
		if (children[i] == 0)
			_exit(append(argv[0], i, strtoull(argv[2], NULL, 10), way, log));
	}
	for (unsigned i = 0; i < processes;) {
		bool stopping = stop;

		if (stopping)
			for (unsigned j = i; j < processes; j++)
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

static int cmd_acknowledged(const char *path)
{
	struct log *log = map_log(path, true);
	unsigned process;
	unsigned long long number;

	if (!log)
		return 2;
	while (scanf("%u %llu", &process, &number) == 2 && process < MAX_PROCESSES)
		log->acknowledged[process] = number;
	return !feof(stdin);
}

enum found { WHOLE, END, CUT, BAD };

/* The next record of the file; CUT: the file ends within it. */
static enum found read_record(FILE *in)
{
	size_t n = fread(record, 1, sizeof(*record), in);
	size_t rest;

	if (n < sizeof(*record))
		return n ? CUT : END;
	if (record->magic != MAGIC || record->process >= MAX_PROCESSES ||
		record->len < sizeof(*record) || record->len > MAX_RECORD)
		return BAD;
	rest = record->len - sizeof(*record);
	if (fread(record + 1, 1, rest, in) != rest)
		return feof(in) ? CUT : BAD;
	return record->sum == sum_of() ? WHOLE : BAD;
}

static int cmd_verify(const char *path, const char *log_path, bool torn, bool lost)
{
	const struct log *log = map_log(log_path, false);
	uint64_t seen[MAX_PROCESSES] = {0};
	FILE *in = fopen(path, "r");
	unsigned long long at = 0, total = 0;
	enum found found;
	int failed = 0;

	if (!log || !in) {
		perror(path);
		return 2;
	}
	while ((found = read_record(in)) == WHOLE) {
		if (record->number != seen[record->process]) {
			fprintf(stderr, "verify: at %llu process %u's record %llu, not %llu\n", at,
				record->process, (unsigned long long)record->number,
				(unsigned long long)seen[record->process]);
			return 1;
		}
		seen[record->process]++;
		at += record->len;
		total++;
	}
	if (found != END && !(found == CUT && torn) && !lost) {
		fprintf(stderr, "verify: no whole record at %llu\n", at);
		return 1;
	}
	for (unsigned i = 0; i < MAX_PROCESSES; i++) {
		if (seen[i] >= log->acknowledged[i] &&
			(lost || seen[i] <= log->acknowledged[i] + 1))
			continue;
		fprintf(stderr, "verify: process %u: %llu records, %llu acknowledged\n", i,
			(unsigned long long)seen[i], (unsigned long long)log->acknowledged[i]);
		failed = 1;
	}
	printf("%llu\n", total);
	return failed;
}

int main(int argc, char **argv)
{
	const char *how = argc >= 7 ? argv[6] : "";
	struct way way = {
		.direct = !strncmp(how, "direct", 6),
		.sync = !strcmp(how, "sync") || !strcmp(how, "direct,sync"),
		.marks = argc >= 8 ? argv[7] : NULL,
	};

	if (argc >= 6 && !strcmp(argv[1], "append"))
		return cmd_append(argv + 2, way);
	if (argc == 3 && !strcmp(argv[1], "acknowledged"))
		return cmd_acknowledged(argv[2]);
	how = argc >= 5 ? argv[4] : "";
	if (argc >= 4 && !strcmp(argv[1], "verify"))
		return cmd_verify(argv[2], argv[3], !strcmp(how, "torn"), !strcmp(how, "lost"));
	fprintf(stderr, "usage: append_tool append FILE PROCESSES RECORDS LOG [direct|sync|nosync "
			"[MARKS]]\n"
			"       append_tool acknowledged LOG\n"
			"       append_tool verify FILE LOG [torn|lost]\n");
	return 2;
}
