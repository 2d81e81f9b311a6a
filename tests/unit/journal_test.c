/* SPDX-License-Identifier: MIT */
/* Notes for a successor: what a request that comes again is told of its first try. */
#include <errno.h>
#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/journal.h"
#include "loop/turn.h"
#include "transport/abi.h"
#include "test.h"
/* After it. */
#include "scratch.h"
#include "stepped.h"

static struct fs fs;
static struct loop loop;
static struct request request;

static bool start(void)
{
	fs.journal = journal_new();
	turn_set_self(&loop);
	loop_set_current(&request);
	return fs.journal;
}

static void stop(void)
{
	journal_free(fs.journal);
}

/* The request at hand has this number: begins its change. */
static struct change begin(uint64_t unique, const struct stat *attr)
{
	struct change change;

	request.unique = unique;
	journal_begin_with(&fs, &change, attr);
	return change;
}

static void done(uint64_t unique, int result)
{
	struct change change = begin(unique, NULL);

	journal_end(&change, result);
}

static struct change again(uint64_t unique)
{
	return begin(unique | ABI_UNIQUE_RESEND, NULL);
}

TEST(what_has_ended_is_answered_as_it_ended)
{
	struct change change;

	REQUIRE(start(), "no journal");
	done(7, -ENOTEMPTY);
	done(8, 0);
	change = again(7);
	CHECK_EQ(change.past, PAST_ENDED);
	CHECK_EQ(change.result, -ENOTEMPTY);
	change = again(8);
	CHECK_EQ(change.past, PAST_ENDED);
	CHECK_EQ(change.result, 0);
	stop();
}

TEST(what_was_begun_is_known_by_what_it_began_with)
{
	const struct stat attr = {.st_dev = 3, .st_ino = 1234567, .st_size = 1L << 40};
	struct change change;
	int64_t at;

	REQUIRE(start(), "no journal");
	CHECK_EQ(begin(7, &attr).past, PAST_NONE);
	change = again(7);
	CHECK_EQ(change.past, PAST_BEGUN);
	CHECK_EQ(change.dev, 3);
	CHECK_EQ(change.ino, 1234567);
	CHECK_EQ(change.size, 1L << 40);
	at = change.at;
	CHECK(at > 0);
	/* The second try dies, too: the first counts. */
	change = again(7);
	CHECK_EQ(change.past, PAST_BEGUN);
	CHECK_EQ(change.size, 1L << 40);
	CHECK_EQ(change.at, at);
	journal_end(&change, -EEXIST);
	change = again(7);
	CHECK_EQ(change.past, PAST_ENDED);
	CHECK_EQ(change.result, -EEXIST);
	stop();
}

TEST(others_know_nothing_of_it)
{
	REQUIRE(start(), "no journal");
	done(7, 0);
	CHECK_EQ(again(9).past, PAST_NONE);
	/* The kernel gives no number twice, but marks those that come again. */
	CHECK_EQ(begin(7, NULL).past, PAST_NONE);
	stop();
}

TEST(a_loop_has_as_many_notes_as_requests_at_work_and_no_more)
{
	REQUIRE(start(), "no journal");
	for (uint64_t n = 1; n <= JOURNAL_EACH + 1; n++)
		done(n * 2, 0);
	/* On another loop, so that no note goes. */
	loop.number = 5;
	CHECK_EQ(again(2).past, PAST_NONE);
	CHECK_EQ(again(4).past, PAST_ENDED);
	CHECK_EQ(again((JOURNAL_EACH + 1) * 2).past, PAST_ENDED);
	loop.number = 0;
	stop();
}

TEST(made_by_the_first_try_is_what_is_no_older)
{
	struct change change;

	REQUIRE(start() && scratch_make(), "no journal");
	CHECK_EQ(mkdirat(root, "old", 0700), 0);
	usleep(20000); /* a tick, by which files are stamped */
	begin(7, NULL);
	usleep(20000);
	CHECK_EQ(mkdirat(root, "new", 0700), 0);
	change = again(7);
	CHECK(journal_made(&change, root, "new", S_IFDIR));
	CHECK(!journal_made(&change, root, "new", S_IFREG));
	CHECK(!journal_made(&change, root, "old", S_IFDIR));
	CHECK(!journal_made(&change, root, "none", S_IFDIR));
	change = begin(8, NULL);
	CHECK(!journal_made(&change, root, "new", S_IFDIR));
	scratch_remove();
	stop();
}

static const struct stat of_seven = {.st_dev = 3, .st_ino = 77, .st_size = 777};

static void change_seven(void)
{
	struct change change = begin(7, &of_seven);

	journal_end(&change, -EPERM);
}

/* Its note is one that served before, with another's end in it. */
TEST(killed_at_any_instruction_it_is_new_or_begun_or_ended_and_never_anothers)
{
	bool was[PAST_ENDED + 1] = {false};
	long steps;

	REQUIRE(start(), "no journal");
	steps = stepped(change_seven, LONG_MAX, NULL);
	stop();
	if (steps < 0)
		SKIP("no process can be traced here");
	for (long n = 0; n <= steps && !test_failed; n++) {
		struct change change;

		REQUIRE(start(), "no journal");
		for (uint64_t other = 1; other <= JOURNAL_EACH; other++)
			done(other * 100, -ENOSPC);
		stepped(change_seven, n, NULL);
		loop.number = 1;
		change = again(7);
		loop.number = 0;
		was[change.past] = true;
		if (change.past == PAST_BEGUN)
			CHECK(change.dev == 3 && change.ino == 77 && change.size == 777 &&
				change.at > 0);
		if (change.past == PAST_ENDED)
			CHECK_EQ(change.result, -EPERM);
		if (test_failed)
			printf("# after instruction %ld of %ld\n", n, steps);
		stop();
	}
	CHECK(was[PAST_NONE] && was[PAST_BEGUN] && was[PAST_ENDED]);
}

TEST_MAIN()
