/* SPDX-License-Identifier: MIT */
/* Reading /proc/self/mountinfo; see mountinfo.h. */
#include "base/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

void mountinfo_unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

static void copy_field(char *to, size_t size, char *from)
{
	mountinfo_unescape(from);
	snprintf(to, size, "%s", from);
}

/* id parent major:minor root point options … - type source super-options. False where the line has
 * another form. */
static bool parse_line(char *line, struct mount_entry *out)
{
	char *fields[6];
	char *save = NULL;
	char *word = strtok_r(line, " \n", &save);
	char *user;
	int n = 0;

	for (; word && n < 6; word = strtok_r(NULL, " \n", &save))
		fields[n++] = word;
	while (word && strcmp(word, "-"))
		word = strtok_r(NULL, " \n", &save);
	if (n < 6 || !word || sscanf(fields[0], "%u", &out->id) != 1 ||
		sscanf(fields[1], "%u", &out->parent) != 1 ||
		sscanf(fields[2], "%u:%u", &out->major, &out->minor) != 2)
		return false;
	copy_field(out->root, sizeof(out->root), fields[3]);
	copy_field(out->point, sizeof(out->point), fields[4]);
	word = strtok_r(NULL, " \n", &save);
	if (!word)
		return false;
	copy_field(out->type, sizeof(out->type), word);
	word = strtok_r(NULL, " \n", &save);
	copy_field(out->source, sizeof(out->source), word ? word : (char[]){""});
	word = strtok_r(NULL, "\n", &save);
	user = word ? strstr(word, "user_id=") : NULL;
	out->user = user ? (uid_t)strtoul(user + strlen("user_id="), NULL, 10) : 0;
	return true;
}

/* -1: none. */
static int held_fd = -1;

int mountinfo_hold(void)
{
	if (held_fd < 0)
		held_fd = open(MOUNTINFO, O_RDONLY | O_CLOEXEC);
	return held_fd < 0 ? -errno : 0;
}

static int each_line(FILE *in, mountinfo_visit *visit, void *user)
{
	_cleanup_free struct mount_entry *entry = malloc(sizeof(*entry));
	_cleanup_free char *line = NULL;
	size_t size = 0;

	if (!entry)
		return -ENOMEM;
	while (getline(&line, &size, in) >= 0)
		if (parse_line(line, entry))
			visit(entry, user);
	return 0;
}

/* All of it, with its length in *length; NULL and errno where it cannot be read. By position, since
 * several threads may read it. */
static char *read_whole(int fd, size_t *length)
{
	size_t room = 1 << 14;
	char *text = malloc(room);
	ssize_t n = 1;

	*length = 0;
	while (text && n > 0) {
		char *grown = *length + 4096 > room ? realloc(text, room *= 2) : text;

		if (!grown)
			break;
		text = grown;
		n = pread(fd, text + *length, room - *length, (off_t)*length);
		*length += n > 0 ? (size_t)n : 0;
	}
	if (text && n == 0)
		return text;
	free(text);
	return NULL;
}

int mountinfo_each_fd(int fd, mountinfo_visit *visit, void *user)
{
	size_t length;
	_cleanup_free char *text = read_whole(fd, &length);
	FILE *in = text && length ? fmemopen(text, length, "r") : NULL;
	int error;

	if (!in)
		return text && !length ? 0 : -errno;
	error = each_line(in, visit, user);
	fclose(in);
	return error;
}

int mountinfo_each(const char *file, mountinfo_visit *visit, void *user)
{
	FILE *in;
	int error;

	if (held_fd >= 0 && !strcmp(file, MOUNTINFO))
		return mountinfo_each_fd(held_fd, visit, user);
	in = fopen(file, "re");
	if (!in)
		return -errno;
	error = each_line(in, visit, user);
	fclose(in);
	return error;
}

/* What is looked for, and what was found: later lines lie on top of earlier ones. */
struct search {
	const char *point; /* NULL: by the device of *out */
	const unsigned *id; /* not NULL: by it alone */
	struct mount_entry *out;
	bool found;
};

static bool matches(const struct mount_entry *entry, const struct search *search)
{
	if (search->id)
		return entry->id == *search->id;
	if (search->point)
		return !strcmp(entry->point, search->point);
	return entry->major == search->out->major && entry->minor == search->out->minor;
}

static void compare(const struct mount_entry *entry, void *user)
{
	struct search *search = user;

	if (matches(entry, search)) {
		*search->out = *entry;
		search->found = true;
	}
}

static int find(const char *file, struct search *search)
{
	int error = mountinfo_each(file, compare, search);

	return error ? error : search->found ? 0 : -ENOENT;
}

int mountinfo_find(const char *point, struct mount_entry *out)
{
	return find(MOUNTINFO, &(struct search){.point = point, .out = out});
}

int mountinfo_find_id(const char *file, unsigned id, struct mount_entry *out)
{
	return find(file, &(struct search){.id = &id, .out = out});
}

uint64_t mountinfo_unique_id(const char *point)
{
	/* Headers may be older than the kernel. */
	const unsigned unique = 0x4000; /* STATX_MNT_ID_UNIQUE */
	struct statx stat;

	if (statx(AT_FDCWD, point, AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		    unique, &stat) ||
		!(stat.stx_mask & unique))
		return 0;
	return stat.stx_mnt_id;
}

bool mountinfo_elsewhere(const struct mount_entry *mount)
{
	struct mount_entry found;

	return mountinfo_of_device(mount->major, mount->minor, &found) == 0;
}

int mountinfo_of_device(unsigned major, unsigned minor, struct mount_entry *out)
{
	out->major = major;
	out->minor = minor;
	return find(MOUNTINFO, &(struct search){.out = out});
}

bool mountinfo_is_batchiofs(const struct mount_entry *entry)
{
	return !strcmp(entry->type, "fuse.batchiofs");
}

int mountinfo_resolve(const char *path, char *out)
{
	_cleanup_free char *copy = strdup(path);
	_cleanup_free char *parent = NULL;
	size_t length;
	char *last;

	if (!copy)
		return -ENOMEM;
	for (length = strlen(copy); length > 1 && copy[length - 1] == '/'; length--)
		copy[length - 1] = '\0';
	last = strrchr(copy, '/');
	/* No name of its own to take as it is ("/", ".", ".."). */
	if (!strcmp(last ? last + 1 : copy, ".") || !strcmp(last ? last + 1 : copy, "..") ||
		(last && !last[1]))
		return realpath(path, out) ? 0 : -errno;
	if (last && last != copy)
		*last = '\0';
	parent = realpath(last ? (last == copy ? "/" : copy) : ".", NULL);
	if (!parent)
		return -errno;
	if (snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") ? parent : "",
		    last ? last + 1 : copy) >= PATH_MAX)
		return -ENAMETOOLONG;
	return 0;
}
