/* SPDX-License-Identifier: MIT */
/* The plan of failures; see plan.h. For programs of tests that are linked with it. */
#define _GNU_SOURCE 1
#include "plan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct faulty_plan own;
static struct faulty_plan *plan = &own;

/* Before main(), and by raw calls: those of the C library may be counted. */
__attribute__((constructor)) static void find_plan(void)
{
	const char *path = getenv("FAULTY_PLAN");
	void *map;
	int fd;

	if (!path)
		return;
	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	map = fd < 0 ? MAP_FAILED
		     : (void *)syscall(SYS_mmap, NULL, FAULTY_PLAN_SIZE, PROT_READ | PROT_WRITE,
			       MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		fprintf(stderr, "FAULTY_PLAN %s cannot be mapped\n", path);
		_exit(99);
	}
	syscall(SYS_close, fd);
	plan = map;
}

struct faulty_plan *faulty_plan(void)
{
	return plan;
}

bool faulty_now(unsigned what, const char *call, void *caller)
{
	uint64_t number, at;

	if (!(atomic_load_explicit(&plan->what, memory_order_relaxed) & what))
		return false;
	number = atomic_fetch_add(&plan->seen, 1) + 1;
	at = atomic_load(&plan->at);
	if (!at || number < at || number - at >= atomic_load(&plan->count))
		return false;
	for (unsigned i = 0; i < sizeof(plan->call) - 1; i++) {
		plan->call[i] = *call;
		call += *call != '\0';
	}
	plan->caller = caller;
	atomic_fetch_add(&plan->hits, 1);
	return true;
}
