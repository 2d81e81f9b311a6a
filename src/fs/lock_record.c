/* SPDX-License-Identifier: MIT */
/* See lock_record.h. For lock.c only. */
#include "fs/lock_record.h"

#include <sys/mman.h>

#include "base/reserve.h"

struct lock_records *lock_records_new(void)
{
	struct lock_records *records = reserve_shared("locks", sizeof(*records));

	if (records)
		pthread_mutex_init(&records->lock, NULL);
	return records;
}

void lock_records_free(struct lock_records *records)
{
	if (records)
		munmap(records, sizeof(*records));
}

/* A free one, or NULL. The lock is held. */
static struct lock_record *take(struct lock_records *records)
{
	uint32_t high = atomic_load(&records->high);
	struct lock_record *record;

	if (!records->free) {
		if (high == LOCK_RECORDS)
			return NULL;
		atomic_store(&records->high, high + 1);
		return &records->all[high];
	}
	record = &records->all[records->free - 1];
	records->free = record->next_free;
	return record;
}

struct lock_record *lock_record_add(
	struct lock_records *records, fuse_ino_t ino, uint64_t id, int fd)
{
	struct lock_record *record;

	pthread_mutex_lock(&records->lock);
	record = take(records);
	pthread_mutex_unlock(&records->lock);
	if (!record)
		return NULL;
	record->id = id;
	record->fd = fd;
	/* Last: who finds it finds it whole. */
	atomic_store(&record->ino, ino);
	return record;
}

static void give(struct lock_records *records, struct lock_record *record)
{
	record->next_free = records->free;
	records->free = (uint32_t)(record - records->all) + 1;
}

void lock_record_remove(struct lock_records *records, struct lock_record *record)
{
	if (!record)
		return;
	atomic_store(&record->ino, 0);
	pthread_mutex_lock(&records->lock);
	give(records, record);
	pthread_mutex_unlock(&records->lock);
}

void lock_records_recover(struct lock_records *records)
{
	pthread_mutex_init(&records->lock, NULL);
	records->free = 0;
	for (uint32_t n = atomic_load(&records->high); n-- > 0;)
		if (!atomic_load(&records->all[n].ino))
			give(records, &records->all[n]);
}
