/* SPDX-License-Identifier: MIT */
/*
 * What stands for the io_uring backend where it is not compiled in (make URING=0). Public calls.
 */
#include "batchio/backend.h"

#if !BATCHIO_URING

const char *batchio_uring_impl(void)
{
	return "";
}

struct batchio *batchio_new_uring(unsigned entries, unsigned flags, struct batchio_error *error)
{
	(void)entries;
	(void)flags;
	return batchio_fail(error, BATCHIO_EURINGUNAVAILABLE,
		"io_uring is not available: built without io_uring (make URING=0)");
}

#endif
