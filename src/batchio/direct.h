/* SPDX-License-Identifier: MIT */
/*
 * A request run as plain system calls on the calling thread. For standard.c, and for uring.c where
 * inline is quicker than the ring.
 */
#ifndef BATCHIO_DIRECT_H
#define BATCHIO_DIRECT_H

#include "batchio/backend.h"

/*
 * Attempts a READ, WRITE, FDATASYNC or FSYNC until it has ended (batchio_request_result() has said
 * so). May block in the device.
 */
void batchio_run_direct(struct batchio *bio, struct batchio_request *req);

#endif
