/* SPDX-License-Identifier: MIT */
/* Reading /proc/self/mountinfo; see mountinfo.h. */
#include "base/mountinfo.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Undoes the kernel's octal escapes (space, tab, newline, backslash), in place. */
static void unescape(char *s)
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
	unescape(from);
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
	if (n < 6 || !word || sscanf(fields[2], "%u:%u", &out->major, &out->minor) != 2)
		return false;
	out->id = atoi(fields[0]);
	out->parent = atoi(fields[1]);
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

int mountinfo_each(void (*take)(const struct mount_entry *mount, void *user), void *user)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	_cleanup_free struct mount_entry *entry = malloc(sizeof(*entry));
	_cleanup_free char *line = NULL;
	size_t size = 0;

	if (!file || !entry) {
		int error = file ? -ENOMEM : -errno;

		if (file)
			fclose(file);
		return error;
	}
	while (getline(&line, &size, file) >= 0)
		if (parse_line(line, entry))
			take(entry, user);
	fclose(file);
	return 0;
}

struct search {
	const char *point; /* or NULL: the device of out */
	struct mount_entry *out;
	bool found;
};

static void match(const struct mount_entry *mount, void *user)
{
	struct search *search = user;

	if (search->point
			? strcmp(mount->point, search->point)
			: mount->major != search->out->major || mount->minor != search->out->minor)
		return;
	/* Later ones lie on top of earlier ones. */
	*search->out = *mount;
	search->found = true;
}

/* The last mount at the point, or (NULL) of the device of out. */
static int find(const char *point, struct mount_entry *out)
{
	struct search search = {.point = point, .out = out};
	int result = mountinfo_each(match, &search);

	return result < 0 ? result : search.found ? 0 : -ENOENT;
}

int mountinfo_find(const char *point, struct mount_entry *out)
{
	return find(point, out);
}

bool mountinfo_elsewhere(const struct mount_entry *mount)
{
	struct mount_entry found = *mount;

	return find(NULL, &found) == 0;
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
