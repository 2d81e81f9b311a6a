/* SPDX-License-Identifier: MIT */
/* What made a loop wait is expected to again, until so many of the kind were quick. */
#include "loop/slow.h"

#include "base/clock.h"
#include "loop/loop.h"
#include "test.h"

enum { LONG_NS = 10 * 1000 * 1000, KIND = 16, OTHER = 15 };

static struct loop_group group;
static struct loop loop = {.group = &group};

static void one(unsigned opcode, int64_t took)
{
	slow_begin(&loop, opcode);
	slow_end(&loop, opcode, clock_ns() - took);
}

/* Quick ones until the kind is trusted, at most `most`. */
static int until_trusted(unsigned opcode, int most)
{
	int n = 0;

	while (slow_expected(&loop, opcode) && n < most) {
		one(opcode, 0);
		n++;
	}
	return n;
}

TEST(nothing_is_expected_of_what_was_quick)
{
	for (int i = 0; i < 100; i++)
		one(KIND, 0);
	/* On a busy machine one may have been interrupted. */
	until_trusted(KIND, 10000);
	CHECK(!slow_expected(&loop, KIND));
}

TEST(one_that_took_long_tells_so_and_marks_its_kind_only)
{
	slow_begin(&loop, KIND);
	CHECK(slow_end(&loop, KIND, clock_ns() - LONG_NS));
	CHECK(slow_expected(&loop, KIND));
	CHECK(!slow_expected(&loop, OTHER));
	CHECK_EQ(stat_read(&loop.stats.waits) > 0, true);
}

TEST(quick_ones_win_the_trust_back_but_not_a_few)
{
	int n;

	one(KIND, LONG_NS);
	for (int i = 0; i < 8; i++)
		one(KIND, 0);
	CHECK(slow_expected(&loop, KIND));
	n = until_trusted(KIND, 10000);
	CHECK(n >= 8 && n < 10000);
	CHECK(!slow_expected(&loop, KIND));
}

TEST(opcodes_beyond_the_table_share_its_last_place)
{
	one(5000, LONG_NS);
	CHECK(slow_expected(&loop, 6000));
	CHECK(!slow_expected(&loop, OTHER));
}

TEST_MAIN()
