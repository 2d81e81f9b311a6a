/* SPDX-License-Identifier: MIT */
/*
 * A backend that does nothing, at once: every request succeeds whole, buffers are not touched. For
 * tests, and for benchmarks of everything but the I/O. Anyone under tests/ may include it.
 */
#ifndef NULL_BACKEND_H
#define NULL_BACKEND_H

#include "batchio/batchio.h"

/* New handle, to be freed by batchio_close(). NULL and *error (may be NULL) when memory ran out. */
struct batchio *null_backend_new(struct batchio_error *error);

#endif
