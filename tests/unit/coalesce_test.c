/* SPDX-License-Identifier: MIT */
/*
 * The coalescer's rules by example. All orders and mixtures are the simulation's business
 * (tests/sim).
 */
#include <errno.h>
#include <string.h>

#include "coalesce/coalesce.h"
#include "test.h"

#define K 1024

static const struct co_limits limits = {.max_ops = 8, .max_bytes = 64 * K};
static struct co_file file;
static struct co_op ops[16];
static struct list answered;

static void fresh(void)
{
	co_file_init(&file, &limits);
	list_init(&answered);
	memset(ops, 0, sizeof(ops));
}

/* Op i is a read or write that arrives now. */
static void data(unsigned i, enum co_kind kind, uint64_t offset, size_t len)
{
	ops[i] = (struct co_op){.kind = kind, .offset = offset, .len = len};
	CHECK(co_push(&file, &ops[i]));
}

static void append(unsigned i, uint64_t offset, size_t len)
{
	ops[i] = (struct co_op){.kind = CO_WRITE, .append = true, .offset = offset, .len = len};
	CHECK(co_push(&file, &ops[i]));
}

static bool sync_op(unsigned i, bool full)
{
	ops[i] = (struct co_op){.kind = CO_SYNC, .full = full};
	return co_push(&file, &ops[i]);
}

/* Takes a call and compares; NULL where it is another one. */
static struct co_call *take(enum co_kind kind, uint64_t offset, size_t len, unsigned n)
{
	struct co_call *call = co_take(&file);

	CHECK(call != NULL);
	if (!call)
		return NULL;
	CHECK_EQ(call->kind, kind);
	CHECK_EQ(call->offset, offset);
	CHECK_EQ(call->len, len);
	CHECK_EQ(call->n, n);
	return call;
}

static void done(struct co_call *call, size_t moved, int error, int sync)
{
	const struct co_outcome outcome = {.moved = moved, .error = error, .sync = sync};

	if (call)
		co_done(&file, call, &outcome, &answered);
}

static bool was_answered(unsigned i)
{
	struct list *pos;

	list_for_each (pos, &answered)
		if (pos == &ops[i].node)
			return true;
	return false;
}

/* Op i was answered, with this result. */
#define CHECK_ANSWER(i, want)                                                                      \
	do {                                                                                       \
		CHECK(was_answered(i));                                                            \
		CHECK_EQ(ops[i].result, want);                                                     \
	} while (0)

static unsigned length(const struct list *list)
{
	const struct list *pos;
	unsigned n = 0;

	list_for_each (pos, list)
		n++;
	return n;
}

/* A flush of its own, with one sync, ends so. */
static void flush_alone(int result)
{
	struct co_call *call = take(CO_SYNC, 0, 0, 0);

	done(call, 0, 0, result);
}

/* ---- rule 3: merging ---- */

TEST(a_lone_request_goes_at_once)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 4096, 4096);
	call = take(CO_WRITE, 4096, 4096, 1);
	CHECK(!co_take(&file));
	CHECK(!co_idle(&file));
	done(call, 4096, 0, 0);
	CHECK_ANSWER(0, 4096);
	CHECK(co_idle(&file));
}

TEST(adjacent_writes_merge_forward)
{
	struct co_call *call;

	fresh();
	for (unsigned i = 0; i < 4; i++)
		data(i, CO_WRITE, i * 4096, 4096);
	call = take(CO_WRITE, 0, 4 * 4096, 4);
	CHECK(!co_take(&file));
	done(call, 4 * 4096, 0, 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK_ANSWER(i, 4096);
}

TEST(adjacent_reads_merge_backward_in_the_order_of_the_file)
{
	struct co_call *call;

	fresh();
	data(0, CO_READ, 8192, 4096);
	data(1, CO_READ, 4096, 4096);
	data(2, CO_READ, 0, 4096);
	call = take(CO_READ, 0, 3 * 4096, 3);
	CHECK(call && call->ops.next == &ops[2].node);
	CHECK(call && call->ops.prev == &ops[0].node);
	done(call, 3 * 4096, 0, 0);
	CHECK_ANSWER(0, 4096);
}

TEST(a_gap_is_not_bridged)
{
	fresh();
	data(0, CO_WRITE, 0, 4096);
	data(1, CO_WRITE, 4097, 4096);
	take(CO_WRITE, 0, 4096, 1);
	take(CO_WRITE, 4097, 4096, 1);
}

TEST(kinds_and_classes_do_not_mix)
{
	fresh();
	data(0, CO_WRITE, 0, 4096);
	data(1, CO_READ, 4096, 4096);
	ops[2] = (struct co_op){.kind = CO_READ, .klass = 1, .offset = 8192, .len = 4096};
	CHECK(co_push(&file, &ops[2]));
	take(CO_WRITE, 0, 4096, 1);
	take(CO_READ, 4096, 4096, 1);
	take(CO_READ, 8192, 4096, 1);
}

TEST(a_call_has_at_most_max_ops)
{
	fresh();
	for (unsigned i = 0; i < 10; i++)
		data(i, CO_READ, i * K, K);
	take(CO_READ, 0, 8 * K, 8);
	take(CO_READ, 8 * K, 2 * K, 2);
}

TEST(a_call_has_at_most_max_bytes_but_a_larger_request_goes)
{
	fresh();
	data(0, CO_READ, 0, 40 * K);
	data(1, CO_READ, 40 * K, 30 * K);
	data(2, CO_READ, 200 * K, 100 * K);
	data(3, CO_READ, 300 * K, 1);
	take(CO_READ, 0, 40 * K, 1);
	take(CO_READ, 40 * K, 30 * K, 1);
	take(CO_READ, 200 * K, 100 * K, 1);
	take(CO_READ, 300 * K, 1, 1);
}

TEST(an_empty_request_goes_alone)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 4096, 0);
	data(1, CO_WRITE, 4096, 4096);
	call = take(CO_WRITE, 4096, 0, 1);
	take(CO_WRITE, 4096, 4096, 1);
	done(call, 0, 0, 0);
	CHECK_ANSWER(0, 0);
}

TEST(the_far_end_of_the_file_does_not_overflow)
{
	const uint64_t end = INT64_MAX;

	fresh();
	data(0, CO_WRITE, end - 4096, 4096);
	data(1, CO_WRITE, 0, 4096);
	data(2, CO_READ, end - 1, 1);
	data(3, CO_READ, end, INT64_MAX);
	take(CO_WRITE, end - 4096, 4096, 1);
	take(CO_WRITE, 0, 4096, 1);
	take(CO_READ, end, INT64_MAX, 1);
	CHECK(!co_take(&file));
}

/* ---- rule 2: order ---- */

TEST(a_read_waits_for_the_write_it_overlaps)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 4096);
	data(1, CO_READ, 4095, 10);
	data(2, CO_READ, 4096, 10);
	call = take(CO_WRITE, 0, 4096, 1);
	take(CO_READ, 4096, 10, 1);
	CHECK(!co_take(&file));
	done(call, 4096, 0, 0);
	take(CO_READ, 4095, 10, 1);
}

TEST(overlapping_writes_keep_arrival_order)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 8192);
	data(1, CO_WRITE, 4096, 8192);
	data(2, CO_WRITE, 8192, 8192);
	call = take(CO_WRITE, 0, 8192, 1);
	/* the third is adjacent to the first, but must not overtake the second */
	CHECK(!co_take(&file));
	done(call, 8192, 0, 0);
	call = take(CO_WRITE, 4096, 8192, 1);
	CHECK(!co_take(&file));
	done(call, 8192, 0, 0);
	take(CO_WRITE, 8192, 8192, 1);
}

TEST(overlapping_reads_do_not_wait)
{
	fresh();
	data(0, CO_READ, 0, 4096);
	data(1, CO_READ, 0, 4096);
	take(CO_READ, 0, 4096, 1);
	take(CO_READ, 0, 4096, 1);
}

TEST(an_append_waits_for_all_before_and_holds_all_behind)
{
	struct co_call *read, *write;

	fresh();
	data(0, CO_READ, 0, 10);
	append(1, 9000, 10);
	data(2, CO_WRITE, 500, 10);
	read = take(CO_READ, 0, 10, 1);
	CHECK(!co_take(&file));
	done(read, 10, 0, 0);
	write = take(CO_WRITE, 9000, 10, 1);
	CHECK(write && write->append);
	CHECK(!co_take(&file));
	done(write, 10, 0, 0);
	take(CO_WRITE, 500, 10, 1);
}

TEST(appends_in_a_row_merge)
{
	struct co_call *call;

	fresh();
	append(0, 100, 10);
	append(1, 110, 10);
	append(2, 120, 10);
	data(3, CO_WRITE, 130, 10);
	append(4, 130, 10);
	call = take(CO_WRITE, 100, 30, 3);
	CHECK(!co_take(&file));
	done(call, 30, 0, 0);
	take(CO_WRITE, 130, 10, 1);
	CHECK(!co_take(&file));
}

/* ---- rule 4: syncs ---- */

TEST(waiting_syncs_share_a_flush_and_later_ones_the_next)
{
	struct co_call *call;

	fresh();
	sync_op(0, false);
	sync_op(1, false);
	call = take(CO_SYNC, 0, 0, 0);
	CHECK(call && !call->full);
	sync_op(2, false);
	sync_op(3, false);
	CHECK(!co_take(&file));
	done(call, 0, 0, 0);
	CHECK_ANSWER(0, 0);
	CHECK_ANSWER(1, 0);
	CHECK(!was_answered(2));
	call = take(CO_SYNC, 0, 0, 0);
	CHECK_EQ(call ? length(&call->syncs) : 0, 2);
}

TEST(one_full_sync_makes_the_flush_full)
{
	struct co_call *call;

	fresh();
	sync_op(0, false);
	sync_op(1, true);
	sync_op(2, false);
	call = take(CO_SYNC, 0, 0, 0);
	CHECK(call && call->full);
}

/* ---- rule 5: pairs ---- */

TEST(a_sync_behind_a_write_goes_out_with_it)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 4096);
	data(1, CO_WRITE, 4096, 4096);
	sync_op(2, true);
	call = take(CO_WRITE_SYNC, 0, 8192, 2);
	CHECK(call && call->full);
	CHECK(!co_take(&file));
	done(call, 8192, 0, 0);
	CHECK_ANSWER(0, 4096);
	CHECK_ANSWER(1, 4096);
	CHECK_ANSWER(2, 0);
}

TEST(the_pair_is_with_the_last_write)
{
	fresh();
	data(0, CO_WRITE, 0, 4096);
	data(1, CO_WRITE, 16384, 4096);
	sync_op(2, false);
	take(CO_WRITE, 0, 4096, 1);
	take(CO_WRITE_SYNC, 16384, 4096, 1);
}

TEST(a_sync_does_not_wait_for_a_write_behind_it)
{
	fresh();
	sync_op(0, false);
	data(1, CO_WRITE, 0, 4096);
	take(CO_WRITE, 0, 4096, 1);
	take(CO_SYNC, 0, 0, 0);
}

TEST(a_cancelled_pair_flushes_again)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 4096);
	sync_op(1, false);
	call = take(CO_WRITE_SYNC, 0, 4096, 1);
	done(call, 0, -ENOSPC, -ECANCELED);
	CHECK_ANSWER(0, -ENOSPC);
	CHECK(!was_answered(1));
	flush_alone(0);
	CHECK_ANSWER(1, 0);
}

/* ---- rule 1: errors and ends ---- */

TEST(an_error_in_a_merged_call_reaches_its_own_request)
{
	struct co_call *call;

	fresh();
	for (unsigned i = 0; i < 3; i++)
		data(i, CO_WRITE, i * 4096, 4096);
	call = take(CO_WRITE, 0, 3 * 4096, 3);
	done(call, 5000, -EIO, 0);
	CHECK_ANSWER(0, 4096);
	CHECK_EQ(length(&answered), 1);
	/* the others are tried again, each alone */
	call = take(CO_WRITE, 4096, 4096, 1);
	done(call, 0, -EIO, 0);
	call = take(CO_WRITE, 8192, 4096, 1);
	done(call, 4096, 0, 0);
	CHECK_ANSWER(1, -EIO);
	CHECK_ANSWER(2, 4096);
}

TEST(a_request_that_runs_again_keeps_its_place)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 4096);
	data(1, CO_WRITE, 4096, 4096);
	data(2, CO_READ, 4096, 4096);
	call = take(CO_WRITE, 0, 8192, 2);
	done(call, 4096, -EIO, 0);
	call = take(CO_WRITE, 4096, 4096, 1);
	CHECK(!co_take(&file));
	done(call, 4096, 0, 0);
	take(CO_READ, 4096, 4096, 1);
}

TEST(a_lone_request_cut_short_is_answered_with_what_moved)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 4096);
	call = take(CO_WRITE, 0, 4096, 1);
	done(call, 1000, -ENOSPC, 0);
	CHECK_ANSWER(0, 1000);
}

TEST(an_append_that_landed_in_part_is_not_repeated)
{
	struct co_call *call;

	fresh();
	append(0, 0, 100);
	append(1, 100, 100);
	append(2, 200, 100);
	call = take(CO_WRITE, 0, 300, 3);
	done(call, 130, -ENOSPC, 0);
	CHECK_ANSWER(0, 100);
	CHECK_ANSWER(1, 30);
	CHECK(!was_answered(2));
	take(CO_WRITE, 200, 100, 1);
}

TEST(the_end_of_file_splits_a_merged_read)
{
	struct co_call *call;

	fresh();
	for (unsigned i = 0; i < 3; i++)
		data(i, CO_READ, i * 4096, 4096);
	call = take(CO_READ, 0, 3 * 4096, 3);
	done(call, 5000, 0, 0);
	CHECK_ANSWER(0, 4096);
	CHECK_ANSWER(1, 5000 - 4096);
	CHECK_ANSWER(2, 0);
	CHECK(co_idle(&file));
}

/* ---- rule 6: clean files ---- */

static void write_and_sync(bool full)
{
	data(0, CO_WRITE, 0, K);
	done(take(CO_WRITE, 0, K, 1), K, 0, 0);
	CHECK(sync_op(1, full));
	done(take(CO_SYNC, 0, 0, 0), 0, 0, 0);
	CHECK_ANSWER(1, 0);
}

TEST(a_clean_file_answers_its_syncs_at_once)
{
	fresh();
	file.exclusive = true;
	/* Who knows what was written before. */
	CHECK(sync_op(0, false));
	done(take(CO_SYNC, 0, 0, 0), 0, 0, 0);
	CHECK(!sync_op(1, false));
	CHECK_EQ(ops[1].result, 0);
	write_and_sync(true);
	CHECK(!sync_op(2, true));
	CHECK(!sync_op(3, false));
	CHECK(co_take(&file) == NULL);
}

TEST(a_shared_file_is_never_clean)
{
	fresh();
	write_and_sync(true);
	CHECK(sync_op(2, true));
}

TEST(a_data_flush_leaves_a_full_one_to_do)
{
	fresh();
	file.exclusive = true;
	write_and_sync(false);
	CHECK(!sync_op(2, false));
	CHECK(sync_op(3, true));
}

TEST(every_change_makes_a_clean_file_dirty)
{
	fresh();
	file.exclusive = true;
	write_and_sync(true);
	co_changed(&file);
	CHECK(sync_op(2, false));
	done(take(CO_SYNC, 0, 0, 0), 0, 0, 0);
	data(3, CO_WRITE, 0, K);
	/* Nobody has been told yet that it is written. */
	CHECK(!sync_op(4, false));
	done(take(CO_WRITE, 0, K, 1), 0, -EIO, 0);
	CHECK(sync_op(5, false));
}

TEST(a_flush_does_not_cover_what_ends_while_it_runs)
{
	struct co_call *flush, *write;

	fresh();
	file.exclusive = true;
	data(0, CO_WRITE, 0, K);
	write = take(CO_WRITE, 0, K, 1);
	CHECK(sync_op(1, true));
	flush = take(CO_SYNC, 0, 0, 0);
	done(write, K, 0, 0);
	done(flush, 0, 0, 0);
	CHECK(sync_op(2, true));
}

/* Of an exclusive file with one write: the flush that sync 1 has begun, and that sync 2 shares. */
static struct co_call *shared_flush(void)
{
	struct co_call *flush;

	fresh();
	file.exclusive = true;
	data(0, CO_WRITE, 0, K);
	done(take(CO_WRITE, 0, K, 1), K, 0, 0);
	CHECK(sync_op(1, false));
	flush = take(CO_SYNC, 0, 0, 0);
	CHECK(sync_op(2, false) && ops[2].taken);
	return flush;
}

TEST(a_sync_shares_the_flush_in_flight_if_that_covers_all)
{
	struct co_call *flush = shared_flush();

	/* A full one is more than that, and a write or a change since is not in it. */
	CHECK(sync_op(3, true) && !ops[3].taken);
	data(4, CO_WRITE, K, K);
	done(take(CO_WRITE, K, K, 1), K, 0, 0);
	CHECK(sync_op(5, false) && !ops[5].taken);
	done(flush, 0, 0, 0);
	CHECK_ANSWER(2, 0);
	CHECK(!was_answered(3) && !was_answered(5));
	done(take(CO_SYNC, 0, 0, 0), 0, 0, 0);
	CHECK_ANSWER(3, 0);
	CHECK_ANSWER(5, 0);
}

TEST(who_shares_a_flush_shares_its_failure)
{
	done(shared_flush(), 0, 0, -EIO);
	CHECK_ANSWER(1, -EIO);
	CHECK_ANSWER(2, -EIO);
}

/* n writes and a sync. Whether a flush was wanted when so many had ended. */
static bool round_of(unsigned n)
{
	bool wanted = false;

	list_init(&answered);
	for (unsigned i = 0; i < n; i++) {
		data(i, CO_WRITE, i * K, K);
		done(take(CO_WRITE, i * K, K, 1), K, 0, 0);
		wanted |= co_wants_flush(&file);
	}
	CHECK(sync_op(n, false));
	done(take(CO_SYNC, 0, 0, 0), 0, 0, 0);
	return wanted;
}

TEST(a_flush_is_wanted_where_syncs_come_after_as_many_writes_each_time)
{
	fresh();
	CHECK(!round_of(1) && !round_of(1) && !round_of(1) && !round_of(1));
	fresh();
	file.exclusive = true;
	CHECK(!round_of(1));
	CHECK(!round_of(1));
	CHECK(!round_of(1));
	CHECK(round_of(1));
	/* It was one too early this time, and two are to be seen first. */
	CHECK(round_of(2));
	CHECK(!round_of(2));
	CHECK(!round_of(2));
	CHECK(round_of(2));
	co_fail(&file, -EIO);
	data(0, CO_WRITE, 0, K);
	done(take(CO_WRITE, 0, K, 1), K, 0, 0);
	CHECK(!co_wants_flush(&file));
}

TEST(the_flush_of_a_pair_covers_its_write_and_no_other)
{
	struct co_call *pair, *write;

	fresh();
	file.exclusive = true;
	data(0, CO_WRITE, 0, K);
	CHECK(sync_op(1, true));
	done(take(CO_WRITE_SYNC, 0, K, 1), K, 0, 0);
	CHECK(!sync_op(2, true));
	data(3, CO_WRITE, 8 * K, K);
	write = take(CO_WRITE, 8 * K, K, 1);
	data(4, CO_WRITE, 0, K);
	CHECK(sync_op(5, true) == false);
	co_changed(&file);
	CHECK(sync_op(5, true));
	pair = take(CO_WRITE_SYNC, 0, K, 1);
	done(write, K, 0, 0);
	done(pair, K, 0, 0);
	CHECK(sync_op(6, true));
}

TEST(a_failed_file_is_not_clean_when_all_who_had_it_open_are_gone)
{
	fresh();
	file.exclusive = true;
	co_open(&file);
	write_and_sync(true);
	co_fail(&file, -EIO);
	CHECK(!sync_op(2, true));
	CHECK_EQ(ops[2].result, -EIO);
	co_close(&file);
	CHECK(sync_op(3, true));
}

/* ---- rule 7: failure ---- */

TEST(a_failed_flush_is_told_to_all_who_wait)
{
	struct co_call *call;

	fresh();
	co_open(&file);
	sync_op(0, false);
	sync_op(1, false);
	call = take(CO_SYNC, 0, 0, 0);
	sync_op(2, false);
	done(call, 0, 0, -EIO);
	for (unsigned i = 0; i < 3; i++)
		CHECK_ANSWER(i, -EIO);
	CHECK(co_idle(&file));
}

TEST(a_file_stays_failed_until_nobody_has_it_open)
{
	fresh();
	co_open(&file);
	co_open(&file);
	sync_op(0, false);
	flush_alone(-EIO);

	/* at once, without a flush, and not retried into success */
	CHECK(!sync_op(1, false));
	CHECK_EQ(ops[1].result, -EIO);
	co_open(&file);
	co_close(&file);
	CHECK(!sync_op(2, false));
	CHECK_EQ(ops[2].result, -EIO);

	/* nor for one who came later, and was told */
	co_close(&file);
	CHECK(!sync_op(3, false));
	CHECK_EQ(ops[3].result, -EIO);

	co_close(&file);
	co_open(&file);
	CHECK(sync_op(4, false));
	flush_alone(0);
	CHECK_ANSWER(4, 0);
	co_close(&file);
}

TEST(of_two_failures_the_first_is_told)
{
	fresh();
	co_open(&file);
	co_fail(&file, -EIO);
	co_fail(&file, -ENOSPC);
	CHECK(!sync_op(0, false));
	CHECK_EQ(ops[0].result, -EIO);
	co_close(&file);
	CHECK(sync_op(1, false));
}

TEST(a_failure_that_nobody_saw_is_kept_for_the_next_opener)
{
	fresh();
	co_fail(&file, -EIO);
	co_open(&file);
	CHECK(!sync_op(0, false));
	CHECK_EQ(ops[0].result, -EIO);
	co_close(&file);
	CHECK(sync_op(1, false));
}

TEST(a_good_flush_does_not_hide_a_failure_in_between)
{
	struct co_call *call;

	fresh();
	co_open(&file);
	sync_op(0, false);
	call = take(CO_SYNC, 0, 0, 0);
	sync_op(1, false);
	co_fail(&file, -EIO);
	co_close(&file);
	done(call, 0, 0, 0);
	CHECK_ANSWER(0, -EIO);
	flush_alone(0);
	CHECK_ANSWER(1, -EIO);
	CHECK(sync_op(2, false));
}

TEST(a_failed_flush_leaves_its_write_good)
{
	struct co_call *call;

	fresh();
	data(0, CO_WRITE, 0, 4096);
	sync_op(1, false);
	call = take(CO_WRITE_SYNC, 0, 4096, 1);
	done(call, 4096, 0, -EIO);
	CHECK_ANSWER(0, 4096);
	CHECK_ANSWER(1, -EIO);
}

TEST_MAIN()
