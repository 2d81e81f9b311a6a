/* SPDX-License-Identifier: MIT */
/*
 * Large tables of which only what is touched costs memory. Anyone may include it.
 *
 * Shared ones are known by a name, and may lie in a file in memory that a program which takes the
 * place of this one maps again (reserve_keep(), reserve_inherit()). These two and reserve_shared()
 * are for the time before any thread is started.
 */
#ifndef BASE_RESERVE_H
#define BASE_RESERVE_H

#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>

/* Zeroed address space, munmap() being its end; NULL where there is none. */
static inline void *reserve(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The same, shared with the processes that this one forks: what one of them wrote is there when it
 * has died. name is a literal, once in a process that keeps its tables. */
void *reserve_shared(const char *name, size_t size);

/* Whole pages of it become zero, and cost nothing any more. */
static inline void reserve_forget(void *pages, size_t size)
{
	madvise(pages, size, MADV_REMOVE);
}

/* ---- for another program in the same process ---- */

/* From now on what reserve_shared() gives lies in a file in memory. Its descriptor, or -errno. */
int reserve_keep(void);

/* One line a table: "table NAME SIZE OFFSET". Nothing where none are kept. */
void reserve_describe(FILE *out);

/* Such a line's table of the other program takes the place of ours, at the same address; fd is that
 * one's file. 0; -ENOENT, -EINVAL where it is not one of ours, or has another size; or -errno. */
int reserve_inherit(int fd, const char *name, size_t size, off_t offset);
/* All tables were: fd is ours, and the file of reserve_keep() is closed. -ENOENT where one was not.
 */
int reserve_inherited(int fd);

#endif
