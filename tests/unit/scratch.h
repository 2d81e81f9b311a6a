/* SPDX-License-Identifier: MIT */
/* A directory of its own for a test, open as `root`. Once per program, after test.h. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

static char dir[64];
static int root = -1;

static int scratch_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

static bool scratch_make(void)
{
	strcpy(dir, "/tmp/unit_test.XXXXXX");
	if (!mkdtemp(dir))
		return false;
	root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return root >= 0;
}

static void scratch_remove(void)
{
	close(root);
	nftw(dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
