/* SPDX-License-Identifier: MIT */
/*
 * Large tables of which only what is touched costs memory. Anyone may include it.
 */
#ifndef BASE_RESERVE_H
#define BASE_RESERVE_H

#include <stddef.h>
#include <sys/mman.h>

/* Zeroed address space, munmap() being its end; NULL where there is none. */
static inline void *reserve(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* The same, shared with the processes that this one forks: what one of them wrote is there when it
 * has died. */
static inline void *reserve_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Whole pages of it become zero, and cost nothing any more. */
static inline void reserve_forget(void *pages, size_t size)
{
	madvise(pages, size, MADV_REMOVE);
}

#endif
