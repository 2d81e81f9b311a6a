/* SPDX-License-Identifier: MIT */
/*
 * The script; see sweep_script.h. Of each file it is known which bytes it has to have: all that
 * were written and not since then touched by a call that failed; after a sync that failed, none of
 * those that it was for.
 */
#include "sweep_script.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE  131072
#define BLOCK 4096

/* Of a byte of a file. */
enum { KNOWN, UNSYNCED, UNKNOWN };

struct file {
	const char *name;
	int fd, direct; /* -1: not open */
	char bytes[SIZE];
	char state[SIZE];
	off_t size; /* -1: not known */
	bool made;
};

static struct sweep_script *script;
static struct file files[3];
static char *buffer; /* aligned, SIZE bytes */
static unsigned char seed; /* other bytes in each run */

/* ---- judging ---- */

__attribute__((format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	script->wrong = true;
}

/* True: the call has succeeded. False: it was told what it may be told, or is wrong. */
static bool good(const char *call, const char *name, long long result, long long want)
{
	int error = errno;

	if (result == want)
		return true;
	if (result >= 0) {
		wrong("%s %s: %lld, not %lld", call, name, result, want);
	} else if (!script->error || error != script->error) {
		wrong("%s %s: %s", call, name, strerrorname_np(error));
	} else {
		script->told++;
	}
	return false;
}

static const char *path_of(const char *root, const char *name)
{
	static char paths[4][4096];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, 4096, "%s/sweep%s%s", root, *name ? "/" : "", name);
	return path;
}

static const char *in_mount(const char *name)
{
	return path_of(script->mount, name);
}

/* ---- calls on a file ---- */

static int file_open(struct file *f, int flags)
{
	int fd = open(in_mount(f->name), flags, 0644);

	good("open", f->name, fd < 0 ? -1 : 0, 0);
	return fd;
}

/* What failed has made nothing, and goes when it is tried again, should there be enough by then. */
static int file_make(struct file *f, int flags)
{
	int fd = -1;

	for (int i = 0; i < 2 && fd < 0; i++)
		fd = file_open(f, flags | O_CREAT | O_EXCL);
	f->made = fd >= 0;
	return fd;
}

static bool directory_made(const char *name)
{
	for (int i = 0; i < 2; i++)
		if (good("mkdir", name, mkdir(in_mount(name), 0755), 0))
			return true;
	return false;
}

static void set_state(struct file *f, off_t from, off_t to, char state)
{
	for (off_t i = from; i < to && i < SIZE; i++)
		f->state[i] = state;
}

/* append: at the end, and nothing of it is there twice. */
static void file_write(struct file *f, int fd, off_t offset, size_t len, bool append)
{
	ssize_t n;

	if (fd < 0 || (append && f->size < 0))
		return;
	offset = append ? f->size : offset;
	for (size_t i = 0; i < len; i++)
		buffer[i] = (char)(seed + (unsigned)offset / 7 + i * 13 + (i >> 8));
	n = append ? write(fd, buffer, len) : pwrite(fd, buffer, len, offset);
	if (n > 0 && n < (ssize_t)len && script->error) /* the rest would be told */
		n = -1, errno = script->error;
	if (good("write", f->name, n, (ssize_t)len)) {
		memcpy(f->bytes + offset, buffer, len);
		set_state(f, offset, offset + (off_t)len, UNSYNCED);
		if (f->size >= 0 && offset + (off_t)len > f->size)
			f->size = offset + (off_t)len;
		return;
	}
	set_state(f, offset, offset + (off_t)len, UNKNOWN);
	if (offset + (off_t)len > f->size)
		f->size = -1;
}

static void look_at(struct file *f, const char *what, off_t offset, ssize_t n)
{
	for (ssize_t i = 0; i < n; i++)
		if (f->state[offset + i] != UNKNOWN && buffer[i] != f->bytes[offset + i]) {
			wrong("%s %s: at %lld of %lld byte %#x, not %#x", what, f->name,
				(long long)(offset + i), (long long)(offset + n), buffer[i] & 0xff,
				f->bytes[offset + i] & 0xff);
			return;
		}
}

static void file_read(struct file *f, int fd, off_t offset, size_t len)
{
	off_t want = f->size < offset + (off_t)len ? f->size - offset : (off_t)len;
	ssize_t n;

	if (fd < 0)
		return;
	memset(buffer, 0xee, len);
	n = pread(fd, buffer, len, offset);
	if (f->size < 0 && n >= 0)
		want = n;
	if (n > 0 && n < want && script->error) /* the next would be told */
		want = n;
	if (good("read", f->name, n, want))
		look_at(f, "read", offset, n);
}

static void file_sync(struct file *f, int fd, int (*call)(int fd), const char *name)
{
	bool synced;

	if (fd < 0)
		return;
	synced = good(name, f->name, call(fd), 0);
	for (off_t i = 0; i < SIZE; i++)
		if (f->state[i] == UNSYNCED)
			f->state[i] = synced ? KNOWN : UNKNOWN;
	if (!synced)
		f->size = -1;
}

static void file_truncate(struct file *f, int fd, off_t size)
{
	struct stat st;

	if (fd < 0)
		return;
	if (!good("truncate", f->name, ftruncate(fd, size), 0)) {
		set_state(f, 0, SIZE, UNKNOWN);
		f->size = -1;
		return;
	}
	memset(f->bytes + size, 0, (size_t)(SIZE - size));
	set_state(f, size, SIZE, UNSYNCED);
	/* Pages that could not be written before may be gone. */
	f->size = size;
	if (good("fstat", f->name, fstat(fd, &st), 0) && st.st_size != size)
		wrong("fstat %s: size %lld, not %lld", f->name, (long long)st.st_size,
			(long long)size);
}

static void file_close(struct file *f, int *fd)
{
	if (*fd >= 0)
		good("close", f->name, close(*fd), 0);
	*fd = -1;
}

static void file_rename(struct file *f, const char *name)
{
	struct stat st;

	if (!f->made)
		return;
	if (good("rename", name, rename(in_mount(f->name), in_mount(name)), 0))
		f->name = name;
	else if (lstat(path_of(script->source, name), &st) == 0)
		f->name = name;
}

/* What is in the source has to be what was written. */
static void check_source(struct file *f)
{
	int fd = open(path_of(script->source, f->name), O_RDONLY);
	struct stat st;
	ssize_t n;

	if (fd < 0) {
		if (f->made)
			wrong("source %s: %s", f->name, strerrorname_np(errno));
		return;
	}
	n = pread(fd, buffer, SIZE, 0);
	if (fstat(fd, &st) || n != st.st_size)
		wrong("source %s cannot be read", f->name);
	else if (f->size >= 0 && st.st_size != f->size)
		wrong("source %s: size %lld, not %lld", f->name, (long long)st.st_size,
			(long long)f->size);
	else
		look_at(f, "source", 0, n);
	close(fd);
}

/* ---- the script ---- */

static void begin(void)
{
	static const char *const names[] = {"mixed", "log", "durable"};

	if (!buffer)
		buffer = aligned_alloc(BLOCK, SIZE);
	if (!buffer)
		abort();
	for (unsigned i = 0; i < 3; i++) {
		struct file *f = &files[i];

		*f = (struct file){.name = names[i], .fd = -1, .direct = -1};
		set_state(f, 0, SIZE, KNOWN);
	}
	seed += 29;
}

/* Through the page cache and past it. */
static void mixed(struct file *f)
{
	f->fd = file_make(f, O_RDWR);
	if (!f->made)
		return;
	file_write(f, f->fd, 0, 10000, false);
	file_write(f, f->fd, 10000, 4096, false);
	file_write(f, f->fd, 14096, 50000, false);
	file_read(f, f->fd, 5000, 20000);
	file_sync(f, f->fd, fdatasync, "fdatasync");
	f->direct = file_open(f, O_RDWR | O_DIRECT);
	for (int i = 0; i < 4; i++)
		file_write(f, f->direct, 8192 + i * BLOCK, BLOCK, false);
	file_read(f, f->direct, 0, 32768);
	file_write(f, f->direct, 65536, 32768, false);
	file_sync(f, f->direct, fsync, "fsync");
	file_read(f, f->fd, 0, SIZE);
	file_write(f, f->fd, 3000, 3000, false);
	file_truncate(f, f->fd, 50000);
	file_sync(f, f->fd, fsync, "fsync");
	file_truncate(f, f->fd, 60000);
	file_read(f, f->fd, 40000, 30000);
	file_close(f, &f->direct);
}

/* Lines at the end, synced one by one. */
static void append(struct file *f)
{
	f->fd = file_make(f, O_WRONLY | O_APPEND);
	if (!f->made)
		return;
	for (int i = 0; i < 4; i++) {
		file_write(f, f->fd, 0, 700, true);
		file_sync(f, f->fd, fdatasync, "fdatasync");
	}
	file_close(f, &f->fd);
	f->fd = file_open(f, O_RDWR | O_APPEND);
	file_write(f, f->fd, 0, 5000, true);
	file_sync(f, f->fd, fsync, "fsync");
	file_read(f, f->fd, 0, 10000);
}

static void durable(struct file *f)
{
	f->fd = file_make(f, O_RDWR | O_SYNC);
	if (!f->made)
		return;
	file_write(f, f->fd, 0, 6000, false);
	f->direct = file_open(f, O_RDWR | O_DIRECT | O_DSYNC);
	file_write(f, f->direct, 8192, BLOCK, false);
	file_read(f, f->direct, 8192, BLOCK);
	file_close(f, &f->direct);
}

/* All three have to be there, if none has failed. */
static void list(void)
{
	DIR *dir = opendir(in_mount(""));
	unsigned n = 0;

	if (!good("opendir", "", dir ? 0 : -1, 0))
		return;
	errno = 0;
	while (readdir(dir))
		n++;
	if (good("readdir", "", errno ? -1 : 0, 0) && n != 6 && !script->told)
		wrong("readdir: %u names, not 6", n);
	closedir(dir);
}

static void names(void)
{
	struct stat st;
	bool made = directory_made("d");

	file_rename(&files[0], "moved");
	if (files[0].made)
		good("stat", "moved", stat(in_mount(files[0].name), &st), 0);
	list();
	if (good("symlink", "s", symlink("moved", in_mount("s")), 0))
		good("unlink", "s", unlink(in_mount("s")), 0);
	if (made)
		good("rmdir", "d", rmdir(in_mount("d")), 0);
}

/* A last sync, so that all that can be there is; a name that could not be made is none. */
static void finish(struct file *f)
{
	if (!f->made)
		return;
	file_sync(f, f->fd, fsync, "fsync");
	file_close(f, &f->fd);
	file_close(f, &f->direct);
	f->fd = file_open(f, O_RDONLY);
	file_read(f, f->fd, 0, SIZE);
	file_close(f, &f->fd);
}

void sweep_script_run(struct sweep_script *s)
{
	script = s;
	s->told = 0;
	s->wrong = false;
	begin();
	if (!directory_made(""))
		return;
	mixed(&files[0]);
	append(&files[1]);
	durable(&files[2]);
	names();
	for (unsigned i = 0; i < 3; i++)
		finish(&files[i]);
	for (unsigned i = 0; i < 3; i++)
		check_source(&files[i]);
}

void sweep_script_clean(struct sweep_script *s)
{
	int error = s->error;
	struct dirent *entry;
	DIR *dir;

	script = s;
	s->error = 0;
	dir = opendir(in_mount(""));
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (entry->d_type == DT_DIR)
			good("rmdir", entry->d_name, rmdir(in_mount(entry->d_name)), 0);
		else
			good("unlink", entry->d_name, unlink(in_mount(entry->d_name)), 0);
	}
	if (dir)
		closedir(dir);
	if (dir || errno != ENOENT)
		good("rmdir", "", rmdir(in_mount("")), 0);
	s->error = error;
}
