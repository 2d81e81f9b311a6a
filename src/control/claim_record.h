/* SPDX-License-Identifier: MIT */
/*
 * What a claim says, and its form in a file. For control/claim.c only; the unit tests call it too.
 *
 * Lines "name value", values escaped as in mountinfo; names that are not known are passed over.
 */
#ifndef CONTROL_CLAIM_RECORD_H
#define CONTROL_CLAIM_RECORD_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "control/place.h"

struct claim_record {
	bool exclusive;
	pid_t pid;
	char *source; /* resolved */
	char *mountpoint;
	struct places places; /* of the source, before it was mounted over */
};

/* Errors of writing are the stream's, to be looked for when it is closed. */
void claim_record_write(FILE *out, const struct claim_record *record);
/* Fills a zeroed record. 0, -EINVAL where it is no claim or not all of one, or -ENOMEM.
 * claim_record_free() after either. */
int claim_record_read(FILE *in, struct claim_record *record);
void claim_record_free(struct claim_record *record);

/*
 * "it lies below /data, which batchiofs mounts exclusively on /mnt (pid 123)": why a mount with the
 * record `mine` can't be beside `other`. False, and no text, where it can.
 */
bool claim_record_conflict(
	const struct claim_record *mine, const struct claim_record *other, char *text, size_t size);

#endif
