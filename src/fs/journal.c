/* SPDX-License-Identifier: MIT */
/* Notes for a successor, see journal.h. */
#include "fs/journal.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/reserve.h"
#include "fs/fs.h"
#include "transport/abi.h"

/* The loops that were asked for, and those beside them. */
#define LOOPS (64 + LOOP_EXTRA)

struct journal_note {
	_Atomic uint64_t unique; /* of the request; 0: none. Written last */
	_Atomic uint32_t ended;
	int32_t result;
	int64_t at;
	uint64_t dev, ino;
	int64_t size;
};

struct journal {
	_Atomic uint32_t init_length;
	char init[JOURNAL_INIT_MAX];
	_Atomic uint32_t high; /* loops that ever noted anything: those below */
	uint32_t next[LOOPS];
	struct journal_note notes[LOOPS][JOURNAL_EACH];
};

struct journal *journal_new(void)
{
	return reserve_shared("journal", sizeof(struct journal));
}

void journal_free(struct journal *journal)
{
	if (journal)
		munmap(journal, sizeof(*journal));
}

void journal_keep_init(struct journal *journal, const void *message, size_t length)
{
	if (!journal || length > sizeof(journal->init))
		return;
	memcpy(journal->init, message, length);
	atomic_store(&journal->init_length, (uint32_t)length);
}

size_t journal_get_init(const struct journal *journal, void *message, size_t size)
{
	size_t length = atomic_load(&journal->init_length);

	if (length > size || length > sizeof(journal->init))
		return 0;
	memcpy(message, journal->init, length);
	return length;
}

/* As the source's file system stamps its files: by the tick. */
static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME_COARSE, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A request may have been tried more than once: what was done was done by the first that did. */
static void add_past(struct change *change, const struct journal_note *note)
{
	if (atomic_load(&note->ended)) {
		change->past = PAST_ENDED;
		change->result = note->result;
	} else if (change->past == PAST_NONE ||
		   (change->past == PAST_BEGUN && note->at < change->at)) {
		change->past = PAST_BEGUN;
		change->at = note->at;
		change->dev = note->dev;
		change->ino = note->ino;
		change->size = note->size;
	}
}

static void look_back(const struct journal *journal, struct change *change, uint64_t unique)
{
	uint32_t loops = atomic_load(&journal->high);

	for (uint32_t loop = 0; loop < loops; loop++)
		for (unsigned n = 0; n < JOURNAL_EACH; n++)
			if (atomic_load(&journal->notes[loop][n].unique) == unique)
				add_past(change, &journal->notes[loop][n]);
}

static struct journal_note *next_note(struct journal *journal)
{
	unsigned loop = loop_self()->number;
	uint32_t high = atomic_load_explicit(&journal->high, memory_order_relaxed);

	if (loop >= LOOPS)
		return NULL;
	while (high <= loop && !atomic_compare_exchange_weak(&journal->high, &high, loop + 1))
		;
	return &journal->notes[loop][journal->next[loop]++ % JOURNAL_EACH];
}

void journal_begin_with(struct fs *fs, struct change *change, const struct stat *attr)
{
	struct journal *journal = fs->journal;
	uint64_t unique;

	*change = (struct change){.past = PAST_NONE};
	if (!journal)
		return;
	unique = loop_current()->unique;
	if (unique & ABI_UNIQUE_RESEND)
		look_back(journal, change, unique & ~ABI_UNIQUE_RESEND);
	change->note = next_note(journal);
	if (!change->note)
		return;
	atomic_store(&change->note->unique, 0);
	atomic_store(&change->note->ended, 0);
	/* Of one that was begun, what it was begun with. */
	change->note->at = change->past == PAST_BEGUN ? change->at : now();
	change->note->dev = change->past == PAST_BEGUN ? change->dev : attr ? attr->st_dev : 0;
	change->note->ino = change->past == PAST_BEGUN ? change->ino : attr ? attr->st_ino : 0;
	change->note->size = change->past == PAST_BEGUN ? change->size : attr ? attr->st_size : 0;
	atomic_store(&change->note->unique, unique & ~ABI_UNIQUE_RESEND);
}

void journal_begin(struct fs *fs, struct change *change)
{
	journal_begin_with(fs, change, NULL);
}

void journal_end(struct change *change, int result)
{
	if (!change->note)
		return;
	change->note->result = result;
	atomic_store(&change->note->ended, 1);
}

bool journal_made(const struct change *change, int dir_fd, const char *name, mode_t type)
{
	const struct statx_timestamp *born;
	struct statx stx;

	if (change->past != PAST_BEGUN ||
		statx(dir_fd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &stx) ||
		(stx.stx_mode & S_IFMT) != type)
		return false;
	/* Where the source does not tell, the last change has to do: nobody has had it since. */
	born = stx.stx_mask & STATX_BTIME ? &stx.stx_btime : &stx.stx_ctime;
	return born->tv_sec * INT64_C(1000000000) + born->tv_nsec >= change->at;
}

bool journal_is_there(const struct change *change, int dir_fd, const char *name)
{
	struct stat attr;

	return change->past == PAST_BEGUN && change->ino &&
	       fstatat(dir_fd, name, &attr, AT_SYMLINK_NOFOLLOW) == 0 &&
	       attr.st_dev == change->dev && attr.st_ino == change->ino;
}
