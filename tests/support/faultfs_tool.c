/* SPDX-License-Identifier: MIT */
/*
 * faultfs: a FUSE file system that passes a directory through, fails or delays what it is told to,
 * and logs the reads, writes and syncs that it sees. The source under batchiofs in tests/mount;
 * called by bats files only.
 *
 * faultfs_tool DIRECTORY MOUNTPOINT
 *     In the background, until it is unmounted. Nothing is cached: every read and write comes here.
 *
 * The file .faultfs in its root (not listed) is the control. Written to, a line each:
 *   read|write|fsync ERROR [offset=N] [len=N] [count=N] [delay=MS] [file=NAME] [whole]
 *       The next `count` calls (all, unless given) that touch these bytes (any, unless given) fail.
 *       What lies before them is moved first, unless `whole`. ERROR "OK": only the delay.
 *       fsync is fdatasync as well.
 *   clear
 *       Forgets rules and log.
 *   record FILE
 *       From now on, what a device would have to know of a power cut goes to FILE, in order, all
 *       under one lock; power_tool.c makes the image of the instant of the cut from it. Without
 *       FILE: no longer.
 *   mark TEXT
 *       Puts TEXT in that file: something that was acknowledged before this instant.
 * Read from, it is the log, a line a call: KIND NAME OFFSET LENGTH RESULT, where KIND is read,
 * write, write_dsync (O_DSYNC or O_SYNC), fsync or fdatasync, and RESULT bytes moved, 0, or the
 * error's name.
 *
 * The recorded file: a line a record, and the bytes written behind that of a write.
 *   write OFFSET LENGTH  when the bytes were written, before the caller knew
 *   zero OFFSET LENGTH   likewise (fallocate)
 *   flush N              a sync has ended; when it came, there were N records
 *   mark TEXT
 * Files are not told apart: there should be one.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define CONTROL    "/.faultfs"
#define CONTROL_FH UINT64_MAX
#define MAX_RULES  32

struct rule {
	char kind[8];
	char file[64]; /* "" for all */
	int error; /* 0: only the delay */
	long long offset, len; /* len 0: all bytes */
	long long count; /* -1: for good */
	long delay_ms;
	bool whole;
};

static int root;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below */
static struct rule rules[MAX_RULES];
static int n_rules;
static char *log_text;
static size_t log_size, log_used;

static pthread_mutex_t record_lock = PTHREAD_MUTEX_INITIALIZER; /* of both; taken after `lock` */
static FILE *record;
static unsigned long records;

static const struct {
	const char *name;
	int error;
} errors[] = {{"OK", 0}, {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}};

/* ---- the record of a device ---- */

/* Under record_lock. What could not be recorded would be a cut that nobody looks at: the end. */
static void put_record(const char *data, size_t len, const char *format, ...)
{
	va_list args;

	if (!record)
		return;
	va_start(args, format);
	vfprintf(record, format, args);
	va_end(args);
	if (len)
		fwrite(data, 1, len, record);
	if (fflush(record))
		abort();
	records++;
}

/* What is recorded has the order in which it came to the file. */
static ssize_t recorded_write(int fd, const char *buf, size_t len, off_t offset)
{
	ssize_t n;

	pthread_mutex_lock(&record_lock);
	n = pwrite(fd, buf, len, offset);
	if (n == -1)
		n = -errno;
	else
		put_record(buf, (size_t)n, "write %lld %zd\n", (long long)offset, n);
	pthread_mutex_unlock(&record_lock);
	return n;
}

static int recorded_fallocate(int fd, int mode, off_t offset, off_t len)
{
	int result;

	pthread_mutex_lock(&record_lock);
	result = fallocate(fd, mode, offset, len) ? -errno : 0;
	if (!result && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		put_record(NULL, 0, "zero %lld %lld\n", (long long)offset, (long long)len);
	pthread_mutex_unlock(&record_lock);
	return result;
}

static unsigned long records_now(void)
{
	unsigned long n;

	pthread_mutex_lock(&record_lock);
	n = records;
	pthread_mutex_unlock(&record_lock);
	return n;
}

static void record_flush(unsigned long before)
{
	pthread_mutex_lock(&record_lock);
	put_record(NULL, 0, "flush %lu\n", before);
	pthread_mutex_unlock(&record_lock);
}

static int record_to(const char *path)
{
	int result = 0;

	pthread_mutex_lock(&record_lock);
	if (record && fclose(record))
		abort();
	record = path ? fopen(path, "we") : NULL;
	if (path && !record)
		result = -errno;
	records = 0;
	pthread_mutex_unlock(&record_lock);
	return result;
}

static int mark(const char *text)
{
	int result;

	pthread_mutex_lock(&record_lock);
	result = record ? 0 : -EINVAL;
	put_record(NULL, 0, "mark %s\n", text);
	pthread_mutex_unlock(&record_lock);
	return result;
}

/* ---- control ---- */

static bool set_word(struct rule *rule, const char *word)
{
	return sscanf(word, "offset=%lld", &rule->offset) == 1 ||
	       sscanf(word, "len=%lld", &rule->len) == 1 ||
	       sscanf(word, "count=%lld", &rule->count) == 1 ||
	       sscanf(word, "delay=%ld", &rule->delay_ms) == 1 ||
	       sscanf(word, "file=%63s", rule->file) == 1 ||
	       (!strcmp(word, "whole") && (rule->whole = true));
}

static bool set_error(struct rule *rule, const char *name)
{
	for (size_t i = 0; name && i < sizeof(errors) / sizeof(errors[0]); i++) {
		rule->error = errors[i].error;
		if (!strcmp(errors[i].name, name))
			return true;
	}
	return false;
}

/* Under the lock. */
static int command(char *line)
{
	struct rule rule = {.count = -1};
	char *rest, *word = strtok_r(line, " ", &rest);

	if (!word)
		return 0;
	if (!strcmp(word, "clear")) {
		n_rules = 0;
		log_used = 0;
		return 0;
	}
	if (!strcmp(word, "record"))
		return record_to(strtok_r(NULL, " ", &rest));
	if (!strcmp(word, "mark"))
		return mark(rest);
	if ((strcmp(word, "read") && strcmp(word, "write") && strcmp(word, "fsync")) ||
		n_rules == MAX_RULES)
		return -EINVAL;
	strcpy(rule.kind, word);
	if (!set_error(&rule, strtok_r(NULL, " ", &rest)))
		return -EINVAL;
	while ((word = strtok_r(NULL, " ", &rest)))
		if (!set_word(&rule, word))
			return -EINVAL;
	rules[n_rules++] = rule;
	return 0;
}

static int control_write(const char *buf, size_t size)
{
	char *text = strndup(buf, size);
	char *line, *rest;
	int result = text ? 0 : -ENOMEM;

	pthread_mutex_lock(&lock);
	for (line = text ? strtok_r(text, "\n", &rest) : NULL; line && !result;
		line = strtok_r(NULL, "\n", &rest))
		result = command(line);
	pthread_mutex_unlock(&lock);
	free(text);
	return result ? result : (int)size;
}

static int control_read(char *buf, size_t size, off_t offset)
{
	size_t n = 0;

	pthread_mutex_lock(&lock);
	if ((size_t)offset < log_used) {
		n = log_used - (size_t)offset < size ? log_used - (size_t)offset : size;
		memcpy(buf, log_text + offset, n);
	}
	pthread_mutex_unlock(&lock);
	return (int)n;
}

static void log_call(const char *kind, const char *path, off_t offset, size_t len, int result)
{
	char line[PATH_MAX + 128];
	int n = snprintf(
		line, sizeof(line), "%s %s %lld %zu ", kind, path + 1, (long long)offset, len);

	if (result < 0)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%s\n", strerrorname_np(-result));
	else
		n += snprintf(line + n, sizeof(line) - (size_t)n, "%d\n", result);
	pthread_mutex_lock(&lock);
	if (log_used + (size_t)n > log_size) {
		log_size = 2 * log_size + sizeof(line);
		log_text = realloc(log_text, log_size);
		if (!log_text)
			abort();
	}
	memcpy(log_text + log_used, line, (size_t)n);
	log_used += (size_t)n;
	pthread_mutex_unlock(&lock);
}

/*
 * What the rules have for a call: waits for their delays; returns 0 or -errno. *good is set to the
 * bytes that may be moved before the error.
 */
static int judge(const char *kind, const char *path, off_t offset, size_t len, size_t *good)
{
	struct timespec pause;
	long delay_ms = 0;
	int error = 0;

	*good = len;
	pthread_mutex_lock(&lock);
	for (int i = 0; i < n_rules && !error; i++) {
		struct rule *rule = &rules[i];

		if (strcmp(rule->kind, kind) || rule->count == 0 ||
			(rule->file[0] && strcmp(rule->file, path + 1)) ||
			(rule->len && (offset >= rule->offset + rule->len ||
					      offset + (off_t)len <= rule->offset)))
			continue;
		delay_ms += rule->delay_ms;
		error = -rule->error;
		*good = !rule->error ? len
			: rule->whole || !rule->len || offset > rule->offset
				? 0
				: (size_t)(rule->offset - offset);
		/* A call cut short was not told yet: the next one of these bytes will be. */
		if (rule->count > 0 && (!error || *good == 0))
			rule->count--;
	}
	pthread_mutex_unlock(&lock);
	pause = (struct timespec){delay_ms / 1000, delay_ms % 1000 * 1000000};
	nanosleep(&pause, NULL);
	return error;
}

/* ---- what is failed and logged ---- */

static int fault_read(
	const char *path, char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	size_t good;
	ssize_t n;
	int error;

	if (fi->fh == CONTROL_FH)
		return control_read(buf, size, offset);
	error = judge("read", path, offset, size, &good);
	n = error && !good ? error : pread((int)fi->fh, buf, good, offset);
	if (n == -1)
		n = -errno;
	log_call("read", path, offset, size, (int)n);
	return (int)n;
}

static int fault_write(
	const char *path, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	size_t good;
	ssize_t n;
	int error;

	if (fi->fh == CONTROL_FH)
		return control_write(buf, size);
	error = judge("write", path, offset, size, &good);
	n = error && !good ? error : recorded_write((int)fi->fh, buf, good, offset);
	/* RWF_DSYNC of the call comes as a flag, too. */
	log_call(fi->flags & O_DSYNC ? "write_dsync" : "write", path, offset, size, (int)n);
	return (int)n;
}

static int fault_fsync(const char *path, int datasync, struct fuse_file_info *fi)
{
	unsigned long before = records_now();
	size_t good;
	int error;

	if (fi->fh == CONTROL_FH)
		return 0;
	error = judge("fsync", path, 0, 0, &good);
	if (!error && fsync((int)fi->fh))
		error = -errno;
	if (!error)
		record_flush(before);
	log_call(datasync ? "fdatasync" : "fsync", path, 0, 0, error);
	return error;
}

/* ---- passed through ---- */

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static int status(int result)
{
	return result < 0 ? -errno : 0;
}

static int pass_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	if (!strcmp(path, CONTROL)) {
		*st = (struct stat){.st_mode = S_IFREG | 0600, .st_nlink = 1, .st_ino = UINT32_MAX};
		return 0;
	}
	return status(
		fi ? fstat((int)fi->fh, st) : fstatat(root, below(path), st, AT_SYMLINK_NOFOLLOW));
}

static int pass_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t offset,
	struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	DIR *dir = fdopendir(openat(root, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	(void)offset;
	(void)fi;
	(void)flags;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		struct stat st = {.st_ino = entry->d_ino, .st_mode = DTTOIF(entry->d_type)};

		fill(buf, entry->d_name, &st, 0, 0);
	}
	closedir(dir);
	return 0;
}

/* Offsets are the kernel's, so an appending descriptor would put bytes elsewhere than it says. */
static int open_flags(const struct fuse_file_info *fi)
{
	return (fi->flags & ~(O_DIRECT | O_APPEND | O_SYNC)) | O_CLOEXEC;
}

static int pass_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	int fd = openat(root, below(path), open_flags(fi) | O_CREAT, mode);

	fi->fh = (uint64_t)fd;
	return status(fd);
}

static int pass_open(const char *path, struct fuse_file_info *fi)
{
	int fd;

	if (!strcmp(path, CONTROL)) {
		fi->fh = CONTROL_FH;
		return 0;
	}
	fd = openat(root, below(path), open_flags(fi));
	fi->fh = (uint64_t)fd;
	return status(fd);
}

static int pass_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	return fi->fh == CONTROL_FH ? 0 : status(close((int)fi->fh));
}

static int pass_mkdir(const char *path, mode_t mode)
{
	return status(mkdirat(root, below(path), mode));
}

static int pass_unlink(const char *path)
{
	return status(unlinkat(root, below(path), 0));
}

static int pass_rmdir(const char *path)
{
	return status(unlinkat(root, below(path), AT_REMOVEDIR));
}

static int pass_rename(const char *from, const char *to, unsigned flags)
{
	return status(renameat2(root, below(from), root, below(to), flags));
}

static int pass_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	int fd = fi ? (int)fi->fh : openat(root, below(path), O_WRONLY | O_CLOEXEC);
	int result;

	if (!strcmp(path, CONTROL))
		return 0;
	result = fd < 0 ? -errno : status(ftruncate(fd, size));
	if (!fi && fd >= 0)
		close(fd);
	return result;
}

static int pass_fallocate(
	const char *path, int mode, off_t offset, off_t len, struct fuse_file_info *fi)
{
	(void)path;
	return recorded_fallocate((int)fi->fh, mode, offset, len);
}

static int pass_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
	(void)fi;
	return status(utimensat(root, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static int pass_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)fi;
	return status(fchmodat(root, below(path), mode, 0));
}

static int pass_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	(void)fi;
	return status(fchownat(root, below(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int pass_statfs(const char *path, struct statvfs *out)
{
	(void)path;
	return status(fstatvfs(root, out));
}

static void *init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	/*
	 * FUSE_CAP_ASYNC_DIO stays on. With it, the kernel makes EIO of a short direct write
	 * through io_uring; without it, it writes the rest at the wrong offset (seen on 6.18,
	 * without batchiofs).
	 */
	(void)conn;
	config->use_ino = 1;
	config->direct_io = 1;
	config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
	return NULL;
}

static const struct fuse_operations operations = {
	.init = init,
	.getattr = pass_getattr,
	.readdir = pass_readdir,
	.create = pass_create,
	.open = pass_open,
	.release = pass_release,
	.read = fault_read,
	.write = fault_write,
	.fsync = fault_fsync,
	.mkdir = pass_mkdir,
	.unlink = pass_unlink,
	.rmdir = pass_rmdir,
	.rename = pass_rename,
	.truncate = pass_truncate,
	.fallocate = pass_fallocate,
	.utimens = pass_utimens,
	.chmod = pass_chmod,
	.chown = pass_chown,
	.statfs = pass_statfs,
};

int main(int argc, char **argv)
{
	char *args[] = {argv[0], argv[argc - 1], "-o", "fsname=faultfs,subtype=faultfs", NULL};

	if (argc != 3) {
		fprintf(stderr, "usage: faultfs_tool DIRECTORY MOUNTPOINT\n");
		return 1;
	}
	root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0) {
		perror(argv[1]);
		return 1;
	}
	umask(0);
	return fuse_main(4, args, &operations, NULL);
}
