/* SPDX-License-Identifier: MIT */
/*
 * File calls that a shell cannot make, one a line: reads commands from standard input and answers
 * each with a line, so that a test can hold files open in several processes and have them act in
 * turn. For tests/mount.
 *
 * H is a letter that names an open file. The answer is "ok", a number, what was read, or the
 * error's name (EIO).
 *
 *   open H PATH FLAG,...           rdonly wronly rdwr creat excl trunc append direct sync dsync
 *   setfl H FLAG,...               tmpfile none
 *   dup H H                        the second becomes the same open file
 *   close H
 *   write H OFFSET LENGTH CHAR     pwrite; OFFSET "-" writes at the position
 *   read H OFFSET LENGTH           answers with runs, "a*4096 0*512" (0: zero bytes), or "end"
 *   fsync H
 *   fdatasync H
 *   size H
 *   moved H                        mtime, ctime, both or none: what moved since last asked
 *   truncate H LENGTH
 *   fallocate H MODE,... OFFSET LENGTH   plain keep punch zero collapse insert
 *   data H OFFSET                  lseek
 *   hole H OFFSET
 *   map H LENGTH                   shared, from offset 0
 *   store H OFFSET LENGTH CHAR     through the mapping, as the next
 *   load H OFFSET LENGTH
 *   msync H
 *   unmap H
 *   copy H OFFSET H OFFSET LENGTH  copy_file_range
 *   link H PATH                    linkat of an O_TMPFILE
 *   rename PATH PATH FLAG          plain noreplace exchange
 *   put PATH WORD,...              writes a line of words to a file that is there
 *   syncfs PATH                    of the file system on which a directory lies
 *   pause MS
 *   together PID FILE read|write PATH OFFSET LENGTH COUNT
 *       COUNT processes open PATH with O_DIRECT and read or write neighbouring pieces of LENGTH
 *       bytes from OFFSET on, the first of "a", the next of "b", ...: while the daemon PID is
 *       stopped, until FILE (`waiting` of its connection in fusectl) says that all are waiting.
 *       Answers with the result of each, in order (0: read other bytes).
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/falloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BUFFER   (4u << 20)
#define MAX_ARGS 8

struct flag {
	const char *name;
	int value;
};

static const struct flag open_flags[] = {{"rdonly", O_RDONLY}, {"wronly", O_WRONLY},
	{"rdwr", O_RDWR}, {"creat", O_CREAT}, {"excl", O_EXCL}, {"trunc", O_TRUNC},
	{"append", O_APPEND}, {"direct", O_DIRECT}, {"sync", O_SYNC}, {"dsync", O_DSYNC},
	{"tmpfile", O_TMPFILE}, {"none", 0}, {NULL, 0}};
static const struct flag allocate_flags[] = {{"plain", 0}, {"keep", FALLOC_FL_KEEP_SIZE},
	{"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE}, {"zero", FALLOC_FL_ZERO_RANGE},
	{"collapse", FALLOC_FL_COLLAPSE_RANGE}, {"insert", FALLOC_FL_INSERT_RANGE}, {NULL, 0}};
static const struct flag rename_flags[] = {
	{"plain", 0}, {"noreplace", RENAME_NOREPLACE}, {"exchange", RENAME_EXCHANGE}, {NULL, 0}};

static struct {
	int fd;
	char *map;
	size_t map_len;
	struct timespec mtime, ctime; /* when last asked */
} files[128];
static char *buffer;
static char *args[MAX_ARGS]; /* of the command at hand */

static void misuse(const char *what)
{
	fprintf(stderr, "posix_tool: bad command: %s\n", what);
	exit(2);
}

static int flags_of(const char *words, const struct flag *known)
{
	char copy[128], *rest, *word;
	int flags = 0;

	snprintf(copy, sizeof(copy), "%s", words);
	for (word = strtok_r(copy, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
		const struct flag *f = known;

		while (f->name && strcmp(f->name, word))
			f++;
		if (!f->name)
			misuse(word);
		flags |= f->value;
	}
	return flags;
}

static int handle(int i)
{
	if (args[i][0] < 'A' || args[i][0] > 'z' || args[i][1])
		misuse(args[i]);
	return args[i][0];
}

static int fd(int i)
{
	return files[handle(i)].fd;
}

static long long number(int i)
{
	char *end;
	long long n = strtoll(args[i], &end, 0);

	if (!args[i][0] || *end)
		misuse(args[i]);
	return n;
}

static size_t length(int i)
{
	if (number(i) < 0 || number(i) > BUFFER)
		misuse(args[i]);
	return (size_t)number(i);
}

/* "a*3 0*2" for the bytes aaa\0\0. */
static long long print_runs(const char *bytes, size_t n)
{
	for (size_t i = 0, j; i < n; i = j) {
		for (j = i + 1; j < n && bytes[j] == bytes[i];)
			j++;
		printf("%s%c*%zu", i ? " " : "", bytes[i] ? bytes[i] : '0', j - i);
	}
	puts(n ? "" : "end");
	return -2; /* answered */
}

static long long do_open(void)
{
	return (files[handle(1)].fd = open(args[2], flags_of(args[3], open_flags), 0644)) < 0 ? -1
											      : 0;
}

static long long do_dup(void)
{
	return (files[handle(2)].fd = dup(fd(1))) < 0 ? -1 : 0;
}

static long long do_close(void)
{
	return close(fd(1));
}

static long long do_setfl(void)
{
	return fcntl(fd(1), F_SETFL, flags_of(args[2], open_flags));
}

static long long do_write(void)
{
	size_t n = length(3);

	memset(buffer, args[4][0], n);
	return args[2][0] == '-' ? write(fd(1), buffer, n) : pwrite(fd(1), buffer, n, number(2));
}

static long long do_read(void)
{
	ssize_t n = pread(fd(1), buffer, length(3), number(2));

	return n < 0 ? -1 : print_runs(buffer, (size_t)n);
}

static long long do_fsync(void)
{
	return fsync(fd(1));
}

static long long do_fdatasync(void)
{
	return fdatasync(fd(1));
}

static long long do_size(void)
{
	struct stat st;

	return fstat(fd(1), &st) ? -1 : (long long)st.st_size;
}

static int advance(struct timespec *known, struct timespec now)
{
	int moved = known->tv_sec != now.tv_sec || known->tv_nsec != now.tv_nsec;

	*known = now;
	return moved;
}

static long long do_moved(void)
{
	static const char *const words[] = {"none", "mtime", "ctime", "both"};
	struct stat st;

	if (fstat(fd(1), &st))
		return -1;
	puts(words[advance(&files[handle(1)].mtime, st.st_mtim) +
		   2 * advance(&files[handle(1)].ctime, st.st_ctim)]);
	/* The kernel's clock of file times ticks every few milliseconds. */
	poll(NULL, 0, 20);
	return -2;
}

static long long do_truncate(void)
{
	return ftruncate(fd(1), number(2));
}

static long long do_fallocate(void)
{
	return fallocate(fd(1), flags_of(args[2], allocate_flags), number(3), number(4));
}

static long long do_data(void)
{
	return lseek(fd(1), number(2), SEEK_DATA);
}

static long long do_hole(void)
{
	return lseek(fd(1), number(2), SEEK_HOLE);
}

static long long do_map(void)
{
	size_t n = (size_t)number(2);
	char *map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd(1), 0);

	if (map == MAP_FAILED)
		return -1;
	files[handle(1)].map = map;
	files[handle(1)].map_len = n;
	return 0;
}

static long long do_msync(void)
{
	return msync(files[handle(1)].map, files[handle(1)].map_len, MS_SYNC);
}

static long long do_unmap(void)
{
	return munmap(files[handle(1)].map, files[handle(1)].map_len);
}

static long long do_store(void)
{
	memset(files[handle(1)].map + number(2), args[4][0], (size_t)number(3));
	return 0;
}

static long long do_load(void)
{
	return print_runs(files[handle(1)].map + number(2), (size_t)number(3));
}

static long long do_copy(void)
{
	off_t from = number(2), to = number(4);

	return copy_file_range(fd(1), &from, fd(3), &to, (size_t)number(5), 0);
}

static long long do_link(void)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd(1));
	return linkat(AT_FDCWD, path, AT_FDCWD, args[2], AT_SYMLINK_FOLLOW);
}

static long long do_rename(void)
{
	return renameat2(
		AT_FDCWD, args[1], AT_FDCWD, args[2], (unsigned)flags_of(args[3], rename_flags));
}

static long long do_put(void)
{
	size_t n = strlen(args[2]);
	int to = open(args[1], O_WRONLY);
	ssize_t done;

	if (to < 0)
		return -1;
	snprintf(buffer, BUFFER, "%s\n", args[2]);
	for (char *comma = buffer; (comma = strchr(comma, ','));)
		*comma = ' ';
	done = write(to, buffer, n + 1);
	close(to);
	return done < 0 ? -1 : 0;
}

static long long do_syncfs(void)
{
	int dir = open(args[1], O_RDONLY | O_DIRECTORY);
	int result = syncfs(dir);

	close(dir);
	return result;
}

static long long do_pause(void)
{
	poll(NULL, 0, (int)number(1));
	return 0;
}

/* ---- together ---- */

/* In a process of its own: opens, reports, waits until `go` is closed, acts, reports. */
static void do_piece(int i, const int ready[2], const int go[2], const int result[2])
{
	int writes = !strcmp(args[3], "write");
	int piece_fd = open(args[4], O_RDWR | O_DIRECT);
	size_t n = length(6);
	off_t offset = number(5) + (off_t)i * (off_t)n;
	char byte = (char)('a' + i), none;
	long long done = -1;

	close(go[1]);
	memset(buffer, writes ? byte : 0, n);
	if (write(ready[1], "", 1) == 1 && read(go[0], &none, 1) == 0)
		done = writes ? pwrite(piece_fd, buffer, n, offset)
			      : pread(piece_fd, buffer, n, offset);
	if (done < 0)
		done = -errno;
	for (long long k = 0; k < done; k++)
		if (buffer[k] != byte)
			done = 0;
	_exit(write(result[1], &done, sizeof(done)) < 0);
}

static int wait_for_waiting(long long count)
{
	for (int tries = 0; tries < 200; tries++, poll(NULL, 0, 25)) {
		FILE *in = fopen(args[2], "r");
		long long waiting = 0;

		if (in && fscanf(in, "%lld", &waiting) != 1)
			waiting = 0;
		if (in)
			fclose(in);
		if (waiting >= count)
			return 0;
	}
	errno = ETIME;
	return -1;
}

/* The threads of a process stop one by one, some time after kill() has returned. */
static int all_stopped(void)
{
	char path[64];
	glob_t tasks;
	int stopped = 1;

	snprintf(path, sizeof(path), "/proc/%s/task/*/stat", args[1]);
	if (glob(path, 0, NULL, &tasks))
		return 0;
	for (size_t i = 0; i < tasks.gl_pathc; i++) {
		FILE *in = fopen(tasks.gl_pathv[i], "r");
		char state = 0;

		if (in && fscanf(in, "%*d (%*[^)]) %c", &state) == 1 && state != 'T')
			stopped = 0;
		if (in)
			fclose(in);
	}
	globfree(&tasks);
	return stopped;
}

static void print_results(int results[][2], int count)
{
	for (int i = 0; i < count; i++) {
		long long done = 0;

		if (read(results[i][0], &done, sizeof(done)) != sizeof(done))
			misuse("a piece's process died");
		if (done < 0)
			printf("%s%s", i ? " " : "", strerrorname_np((int)-done));
		else
			printf("%s%lld", i ? " " : "", done);
		close(results[i][0]);
		close(results[i][1]);
	}
	puts("");
}

static long long do_together(void)
{
	int ready[2], go[2], results[16][2], count = (int)number(7), waited;
	char byte;

	if (count < 1 || count > 16)
		misuse(args[7]);
	if (pipe(ready) || pipe(go))
		return -1;
	for (int i = 0; i < count; i++) {
		if (pipe(results[i]))
			return -1;
		if (fork() == 0)
			do_piece(i, ready, go, results[i]);
	}
	for (int i = 0; i < count; i++)
		if (read(ready[0], &byte, 1) != 1)
			return -1;
	kill((pid_t)number(1), SIGSTOP);
	for (int tries = 0; tries < 1000 && !all_stopped(); tries++)
		poll(NULL, 0, 1);
	close(go[1]);
	waited = wait_for_waiting(count);
	kill((pid_t)number(1), SIGCONT);
	if (waited == 0)
		print_results(results, count);
	while (waitpid(-1, NULL, 0) > 0)
		;
	close(go[0]);
	close(ready[0]);
	close(ready[1]);
	return waited ? -1 : -2;
}

static const struct {
	const char *name;
	int args;
	long long (*run)(void); /* -1 and errno, or what to answer; -2: has answered */
	int says_number;
} commands[] = {
	{"open", 3, do_open, 0},
	{"dup", 2, do_dup, 0},
	{"close", 1, do_close, 0},
	{"setfl", 2, do_setfl, 0},
	{"write", 4, do_write, 1},
	{"read", 3, do_read, 0},
	{"fsync", 1, do_fsync, 0},
	{"fdatasync", 1, do_fdatasync, 0},
	{"size", 1, do_size, 1},
	{"moved", 1, do_moved, 0},
	{"truncate", 2, do_truncate, 0},
	{"fallocate", 4, do_fallocate, 0},
	{"data", 2, do_data, 1},
	{"hole", 2, do_hole, 1},
	{"map", 2, do_map, 0},
	{"msync", 1, do_msync, 0},
	{"unmap", 1, do_unmap, 0},
	{"store", 4, do_store, 0},
	{"load", 3, do_load, 0},
	{"copy", 5, do_copy, 1},
	{"link", 2, do_link, 0},
	{"rename", 3, do_rename, 0},
	{"put", 2, do_put, 0},
	{"syncfs", 1, do_syncfs, 0},
	{"pause", 1, do_pause, 0},
	{"together", 7, do_together, 0},
};

static void run(char *line)
{
	char *rest;
	int n = 0;

	for (char *w = strtok_r(line, " \n", &rest); w && n < MAX_ARGS;
		w = strtok_r(NULL, " \n", &rest))
		args[n++] = w;
	if (n == 0)
		return;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		long long result;

		if (strcmp(commands[i].name, args[0]) || commands[i].args != n - 1)
			continue;
		result = commands[i].run();
		if (result == -1)
			puts(strerrorname_np(errno));
		else if (result != -2 && commands[i].says_number)
			printf("%lld\n", result);
		else if (result != -2)
			puts("ok");
		return;
	}
	misuse(args[0]);
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	buffer = aligned_alloc(4096, BUFFER);
	if (!buffer)
		return 2;
	while (getline(&line, &size, stdin) > 0)
		run(line);
	free(line);
	free(buffer);
	return 0;
}
