/* SPDX-License-Identifier: MIT */
/* Counting by user; see share.h. */
#include "fs/share.h"

#include <stddef.h>

/* The user's entry, which comes first from here on: who has much asks often. */
static struct share *find(struct shares *shares, uid_t uid)
{
	for (uint32_t i = 0; i < shares->n; i++) {
		struct share found = shares->users[i];

		if (found.uid != uid)
			continue;
		shares->users[i] = shares->users[0];
		shares->users[0] = found;
		return &shares->users[0];
	}
	return NULL;
}

static struct share *add(struct shares *shares, uid_t uid)
{
	uint32_t at = 0;

	while (at < shares->n && shares->users[at].count)
		at++;
	if (at == SHARE_USERS)
		return NULL;
	if (at == shares->n)
		shares->n++;
	shares->users[at] = (struct share){.uid = uid};
	return &shares->users[at];
}

bool share_take(struct shares *shares, uid_t uid)
{
	struct share *share = uid ? find(shares, uid) : NULL;

	if (uid && !share)
		share = add(shares, uid);
	if (!share)
		return true;
	if (shares->most && share->count >= shares->most)
		return false;
	share->count++;
	return true;
}

void share_give(struct shares *shares, uid_t uid)
{
	struct share *share = uid ? find(shares, uid) : NULL;

	if (share && share->count)
		share->count--;
}
