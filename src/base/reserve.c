/* SPDX-License-Identifier: MIT */
/* Shared tables, see reserve.h. */
#include "base/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TABLES_MOST = 16 };

struct table {
	const char *name;
	void *at;
	size_t size;
	off_t offset;
	bool inherited;
};

/* Of the process, as memory is: written while there is one thread. */
static struct {
	int fd; /* -1: nothing is kept */
	off_t end;
	struct table all[TABLES_MOST];
	unsigned count;
} kept = {.fd = -1};

static void *map_shared(void *at, size_t size, int fd, off_t offset)
{
	int flags =
		MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0) | (at ? MAP_FIXED : 0);
	void *p = mmap(at, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	return p == MAP_FAILED ? NULL : p;
}

void *reserve_shared(const char *name, size_t size)
{
	off_t page = sysconf(_SC_PAGESIZE);
	off_t begin = (kept.end + page - 1) / page * page;
	off_t end = begin + (off_t)size;
	void *p;

	if (kept.fd < 0)
		return map_shared(NULL, size, -1, 0);
	if (kept.count == TABLES_MOST || ftruncate(kept.fd, end))
		return NULL;
	p = map_shared(NULL, size, kept.fd, begin);
	if (!p)
		return NULL;
	kept.all[kept.count++] =
		(struct table){.name = name, .at = p, .size = size, .offset = begin};
	kept.end = end;
	return p;
}

int reserve_keep(void)
{
	struct rlimit limit;

	/* It holds for such a file, too. */
	if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur != RLIM_INFINITY)
		return -EFBIG;
	kept.fd = memfd_create("batchiofs-tables", MFD_CLOEXEC);
	return kept.fd < 0 ? -errno : kept.fd;
}

void reserve_describe(FILE *out)
{
	for (unsigned i = 0; i < kept.count; i++)
		fprintf(out, "table %s %zu %lld\n", kept.all[i].name, kept.all[i].size,
			(long long)kept.all[i].offset);
}

int reserve_inherit(int fd, const char *name, size_t size, off_t offset)
{
	struct table *table = kept.all;

	while (table < kept.all + kept.count && strcmp(table->name, name) != 0)
		table++;
	if (table == kept.all + kept.count)
		return -ENOENT;
	if (table->size != size || table->inherited)
		return -EINVAL;
	if (!map_shared(table->at, size, fd, offset))
		return -errno;
	table->offset = offset;
	table->inherited = true;
	return 0;
}

int reserve_inherited(int fd)
{
	off_t end = 0;

	for (unsigned i = 0; i < kept.count; i++) {
		off_t last = kept.all[i].offset + (off_t)kept.all[i].size;

		if (!kept.all[i].inherited)
			return -ENOENT;
		end = last > end ? last : end;
		kept.all[i].inherited = false;
	}
	close(kept.fd);
	kept.fd = fd;
	kept.end = end;
	return 0;
}
