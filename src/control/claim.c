/* SPDX-License-Identifier: MIT */
/* The claim of a mount on its source; see claim.h. */
#include "control/claim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "control/address.h"
#include "control/claim_record.h"

#define PREFIX "claim-"
/* So long a daemon may take from the end of its mount to its own. */
#define ENDING_SECONDS 10

/* ---- directories ---- */

static int claims_dir(int place, uid_t uid, char *dir, size_t size)
{
	char parent[PATH_MAX - 16];
	int error = control_place(place, uid, parent, sizeof(parent));

	if (error)
		return error;
	return snprintf(dir, size, "%s/claims", parent) < (int)size ? 0 : -ENAMETOOLONG;
}

/* Makes the first directory of ours that can be made; its path goes to dir (PATH_MAX). */
static int make_claims_dir(char *dir)
{
	int error = -ENOENT;

	for (int place = 0; place < CONTROL_PLACES; place++) {
		char parent[PATH_MAX - 16];

		if (control_place(place, geteuid(), parent, sizeof(parent)) ||
			claims_dir(place, geteuid(), dir, PATH_MAX))
			continue;
		error = control_make_dir(parent);
		if (!error)
			error = control_make_dir(dir);
		if (!error)
			return 0;
	}
	return error;
}

/* ---- locks ---- */

/*
 * Open-file-description locks, not flock(2)'s: a writer's takes a descriptor open for writing, so
 * that a user who may read root's claims can neither hold one up nor make a stale one look alive.
 */
static int lock_file(int fd, int command)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int result;

	while ((result = fcntl(fd, command, &lock)) < 0 && errno == EINTR)
		;
	return result < 0 ? -errno : 0;
}

/* Does a daemon hold it? */
static bool is_held(int fd)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) || lock.l_type != F_UNLCK;
}

/* The lock of a directory of claims: held for as long as the descriptor is open. It or -errno. */
static int lock_dir(const char *dir)
{
	char path[PATH_MAX + 8];
	_cleanup_fd int fd = -1;
	int error;

	snprintf(path, sizeof(path), "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	error = lock_file(fd, F_OFD_SETLKW);
	return error ? error : steal_fd(&fd);
}

/* ---- other claims ---- */

/* Reads the claim if a daemon holds it: 0 and the record, -ESTALE where none does, or -errno. */
static int read_claim(const char *path, struct claim_record *record)
{
	_cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	FILE *in;
	int error;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	/* In /tmp the directory may be somebody else's. */
	if (!S_ISREG(st.st_mode) || (st.st_uid != 0 && st.st_uid != geteuid()))
		return -EPERM;
	if (!is_held(fd))
		return -ESTALE;
	in = fdopen(fd, "r");
	if (!in)
		return -errno;
	steal_fd(&fd);
	error = claim_record_read(in, record);
	fclose(in);
	return error;
}

/* Is a batchiofs mounted where the claim says? Not yet, perhaps, or not any more. */
static bool is_there(const struct claim_record *record)
{
	struct mount_entry entry;

	return !mountinfo_find(record->mountpoint, &entry) && mountinfo_is_batchiofs(&entry);
}

/*
 * Looks at one file of another claim. 0; or -EBUSY, with the reason in text; -EAGAIN where that one
 * is about to end, or to begin.
 */
static int check_claim(const char *path, const struct claim_record *mine, char *text, size_t size)
{
	struct claim_record other = {0};
	int error = read_claim(path, &other);
	int conflict = 0;

	if (!error && claim_record_conflict(mine, &other, text, size))
		conflict = is_there(&other) ? -EBUSY : -EAGAIN;
	claim_record_free(&other);
	/* Only its owner can, and needs to. */
	if (error == -ESTALE)
		unlink(path);
	else if (error && error != -ENOENT)
		log_warning("passing over the claim %s: %s", path, strerror(-error));
	return conflict;
}

/* All claims of a directory but `except` (a path). As check_claim(). */
static int check_dir(const char *dir, const char *except, const struct claim_record *mine,
	char *text, size_t size)
{
	DIR *stream = opendir(dir);
	struct dirent *entry;
	int error = 0;

	if (!stream) {
		if (errno != ENOENT && errno != ENOTDIR)
			log_warning("passing over the claims in %s: %s", dir, strerror(errno));
		return 0;
	}
	while (!error && (entry = readdir(stream))) {
		char path[PATH_MAX + 256];

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (strcmp(path, except))
			error = check_claim(path, mine, text, size);
	}
	closedir(stream);
	return error;
}

/* Ours, wherever they may lie, and root's. */
static int check_all(const char *except, const struct claim_record *mine, char *text, size_t size)
{
	char dir[PATH_MAX];
	int error = 0;

	for (int place = 0; place < CONTROL_PLACES && !error; place++)
		if (!claims_dir(place, geteuid(), dir, sizeof(dir)))
			error = check_dir(dir, except, mine, text, size);
	if (!error && geteuid() != 0 && !claims_dir(0, 0, dir, sizeof(dir)))
		error = check_dir(dir, except, mine, text, size);
	return error;
}

/* ---- our own ---- */

static int write_claim(int fd, const struct claim_record *record)
{
	_cleanup_free char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	ssize_t n;

	if (!out)
		return -ENOMEM;
	claim_record_write(out, record);
	if (fclose(out))
		return -ENOMEM;
	n = write(fd, text, size);
	return n < 0 ? -errno : (size_t)n < size ? -ENOSPC : 0;
}

/*
 * Puts the claim into the directory, whose lock we hold. It gets its name when all of it is there
 * and locked: others read it without that lock. The name is the file's own number, which no other
 * can have while we hold it open; process ids may come twice, from containers.
 */
static int publish(struct claim *claim, const char *dir, const struct claim_record *record)
{
	char path[PATH_MAX + 8];
	_cleanup_fd int fd = -1;
	struct stat st;
	int error;

	snprintf(path, sizeof(path), "%s/new", dir);
	/* Left by one that was killed here. */
	unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	error = lock_file(fd, F_OFD_SETLK);
	if (!error)
		error = write_claim(fd, record);
	if (!error && (fstat(fd, &st) || fchmod(fd, geteuid() == 0 ? 0644 : 0600)))
		error = -errno;
	if (!error && snprintf(claim->path, sizeof(claim->path), "%s/" PREFIX "%" PRIuMAX, dir,
			      (uintmax_t)st.st_ino) >= (int)sizeof(claim->path))
		error = -ENAMETOOLONG;
	if (!error && rename(path, claim->path))
		error = -errno;
	if (error) {
		unlink(path);
		return error;
	}
	claim->fd = steal_fd(&fd);
	return 0;
}

void claim_unlink(const struct claim *claim)
{
	if (claim->path[0])
		unlink(claim->path);
}

void claim_leave(struct claim *claim)
{
	claim->path[0] = '\0';
}

void claim_release(struct claim *claim)
{
	if (claim->fd < 0)
		return;
	/* First the name, so that nobody sees it without a lock. */
	claim_unlink(claim);
	close(claim->fd);
	claim->fd = -1;
}

/* ---- the source ---- */

/* The id of the mount that the descriptor's file lies in. 0 or -errno. */
static int mount_of(int fd, unsigned *id)
{
	_cleanup_free char *line = NULL;
	char path[64];
	size_t size = 0;
	int error = -ENOENT;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	in = fopen(path, "re");
	if (!in)
		return -errno;
	while (error && getline(&line, &size, in) > 0)
		if (sscanf(line, "mnt_id: %u", id) == 1)
			error = 0;
	fclose(in);
	return error;
}

/* From the descriptor, not from the path it was opened by: that may lead elsewhere by now. */
static int find_places(const struct claim_wish *wish, unsigned mount, struct places *places)
{
	char link[64];
	char path[PATH_MAX];
	struct stat st;
	ssize_t n;
	int error;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", wish->source_fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0 || fstat(wish->source_fd, &st))
		return -errno;
	path[n] = '\0';
	error = places_find(places, MOUNTINFO, mount, path);
	/* In a chroot the table lacks the mount of the root. */
	if ((error == -ENOENT || error == -EINVAL) && !places->n)
		error = places_add(places, PLACE_OWN, major(st.st_dev), minor(st.st_dev), path);
	return error;
}

/* A source inside a batchiofs mount: 0, or -EBUSY where it is wished exclusively; logged. */
static int check_stacking(const struct claim_wish *wish, unsigned mount)
{
	_cleanup_free struct mount_entry *entry = malloc(sizeof(*entry));

	if (!entry) {
		log_error("out of memory for what %s lies in", wish->source);
		return -ENOMEM;
	}
	if (!wish->exclusive || mountinfo_find_id(MOUNTINFO, mount, entry) ||
		!mountinfo_is_batchiofs(entry))
		return 0;
	log_error("cannot mount %s exclusively: it lies in the batchiofs mount of %s on %s, which "
		  "programs use too; unmount that, or mount this with sharing=shared",
		wish->source, entry->source, entry->point);
	return -EBUSY;
}

/*
 * Publishes first and looks then: of two that have different directories, too, one sees the other.
 * 0, or -errno: all is logged but -EAGAIN, with the reason in text.
 */
static int try(struct claim *claim, const struct claim_wish *wish,
	const struct claim_record *record, char *text, size_t size)
{
	char dir[PATH_MAX] = "";
	_cleanup_fd int lock = -1;
	int error = make_claims_dir(dir);

	if (!error)
		error = lock = lock_dir(dir);
	if (error >= 0)
		error = publish(claim, dir, record);
	if (error && wish->exclusive) {
		log_error("cannot mount %s exclusively: no place for its claim in %s: %s; "
			  "sharing=shared goes without",
			wish->source, dir, strerror(-error));
		return error;
	}
	if (error)
		log_warning("no claim on %s, so exclusive mounts of it are not kept off: %s",
			wish->source, strerror(-error));
	error = check_all(claim->path, record, text, size);
	if (error)
		claim_release(claim);
	return error;
}

/* A daemon whose mount was just taken away still writes and closes: that is waited for. */
static int publish_and_check(
	struct claim *claim, const struct claim_wish *wish, const struct claim_record *record)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	char text[2 * PATH_MAX + 128];
	int error = try(claim, wish, record, text, sizeof(text));

	for (int i = 0; error == -EAGAIN && i < ENDING_SECONDS * 50; i++) {
		nanosleep(&pause, NULL);
		error = try(claim, wish, record, text, sizeof(text));
	}
	if (error == -EAGAIN || error == -EBUSY)
		log_error("cannot mount %s%s: %s; unmount that, or mount both with sharing=shared",
			wish->source, wish->exclusive ? " exclusively" : "", text);
	return error == -EAGAIN ? -EBUSY : error;
}

int claim_take(struct claim *claim, const struct claim_wish *wish)
{
	struct claim_record record = {
		.exclusive = wish->exclusive,
		.pid = getpid(),
		.source = strdup(wish->source),
		.mountpoint = strdup(wish->mountpoint),
	};
	unsigned mount = 0;
	int error = mount_of(wish->source_fd, &mount);

	claim->fd = -1;
	claim->path[0] = '\0';
	if (!error && (!record.source || !record.mountpoint))
		error = -ENOMEM;
	if (!error)
		error = find_places(wish, mount, &record.places);
	if (error)
		log_error("cannot find where %s lies: %s", wish->source, strerror(-error));
	if (!error)
		error = check_stacking(wish, mount);
	if (!error)
		error = publish_and_check(claim, wish, &record);
	claim_record_free(&record);
	return error;
}
