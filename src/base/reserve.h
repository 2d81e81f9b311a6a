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

#endif
