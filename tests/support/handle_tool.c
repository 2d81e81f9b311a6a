/* SPDX-License-Identifier: MIT */
/*
 * File handles, for tests/mount/export.bats.
 *
 *	handle_tool make PATH		prints the handle of PATH (not of what a symlink names)
 *	handle_tool open DIR HANDLE	opens it on the file system of DIR: prints inode number,
 *type in octal, and what the object holds (a file's bytes, a directory's path) handle_tool stat DIR
 *HANDLE	inode number and type only, opening it with O_PATH
 *
 * Exit status 1 with the error's text where the handle does not open.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static union {
	struct file_handle handle;
	char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
} u;

static int fail(void)
{
	printf("%s\n", strerror(errno));
	return 1;
}

static int make(const char *path)
{
	int mount;

	u.handle.handle_bytes = MAX_HANDLE_SZ;
	if (name_to_handle_at(AT_FDCWD, path, &u.handle, &mount, 0) < 0)
		return fail();
	printf("%d:", u.handle.handle_type);
	for (unsigned i = 0; i < u.handle.handle_bytes; i++)
		printf("%02x", u.handle.f_handle[i]);
	printf("\n");
	return 0;
}

static int parse(const char *text)
{
	char *at;
	unsigned byte;

	u.handle.handle_type = (int)strtol(text, &at, 10);
	if (*at++ != ':')
		return -1;
	while (u.handle.handle_bytes < MAX_HANDLE_SZ && sscanf(at, "%2x", &byte) == 1) {
		u.handle.f_handle[u.handle.handle_bytes++] = (unsigned char)byte;
		at += 2;
	}
	return *at ? -1 : 0;
}

static void show(int fd, const struct stat *st)
{
	char text[PATH_MAX] = "";

	if (S_ISDIR(st->st_mode)) {
		if (fchdir(fd) == 0 && getcwd(text, sizeof(text)))
			printf("%s\n", text);
	} else if (read(fd, text, sizeof(text) - 1) >= 0) {
		printf("%s\n", text);
	}
}

static int open_handle(const char *dir, const char *text, int flags)
{
	int mount = open(dir, O_RDONLY | O_DIRECTORY);
	struct stat st;
	int fd;

	if (mount < 0 || parse(text) < 0)
		return 2;
	fd = open_by_handle_at(mount, &u.handle, flags);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail();
	printf("%llu %o\n", (unsigned long long)st.st_ino, st.st_mode & S_IFMT);
	if (!(flags & O_PATH))
		show(fd, &st);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "make"))
		return make(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "open"))
		return open_handle(argv[2], argv[3], O_RDONLY);
	if (argc == 4 && !strcmp(argv[1], "stat"))
		return open_handle(argv[2], argv[3], O_PATH);
	return 2;
}
