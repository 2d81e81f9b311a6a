/* SPDX-License-Identifier: MIT */
/* Reading /proc/self/mountinfo; see mountinfo.h. */
#include "base/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

int mountinfo_each(const char *file, mountinfo_visit *visit, void *user)
{
	FILE *in = fopen(file, "re");
	_cleanup_free struct mount_entry *entry = malloc(sizeof(*entry));
	_cleanup_free char *line = NULL;
	size_t size = 0;

	if (!in || !entry) {
		int error = in ? -ENOMEM : -errno;

		if (in)
			fclose(in);
		return error;
	}
	while (getline(&line, &size, in) >= 0)
		if (parse_line(line, entry))
			visit(entry, user);
	fclose(in);
	return 0;
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
