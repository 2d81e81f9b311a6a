/* SPDX-License-Identifier: MIT */
/* The store of names: sizes, reuse, memory that goes back. */
#include "fs/names.h"

#include "test.h"

enum { MANY = 20000 };

static struct names names;

static bool start(void)
{
	memset(&names, 0, sizeof(names));
	return names_init(&names) == 0;
}

/* A name of `length` bytes that differs from those of other numbers where it is long enough. */
static const char *make(unsigned number, size_t length)
{
	static char text[NAME_MAX + 1];

	memset(text, 'a' + (int)(number % 26), length);
	text[length] = '\0';
	for (size_t i = 0; number && i < length; number /= 10)
		text[i++] = (char)('0' + number % 10);
	return text;
}

static bool holds(uint32_t ref, const char *want)
{
	char got[NAME_MAX + 1];

	names_copy(&names, ref, got);
	return strcmp(got, want) == 0 && names_equal(&names, ref, want);
}

TEST(names_of_all_lengths_come_back_whole)
{
	uint32_t refs[NAME_MAX + 1];

	REQUIRE(start(), "no names");
	for (unsigned n = 1; n <= NAME_MAX; n++) {
		refs[n] = names_add(&names, make(n, n));
		CHECK(refs[n] != 0);
	}
	for (unsigned n = 1; n <= NAME_MAX; n++) {
		CHECK(holds(refs[n], make(n, n)));
		CHECK(!names_equal(&names, refs[n], make(n, n - 1)));
		CHECK(!names_equal(&names, refs[n], make(n + 1, n)));
	}
	names_free(&names);
}

TEST(bytes_are_those_of_the_size_classes)
{
	uint32_t a, b, c;

	REQUIRE(start(), "no names");
	a = names_add(&names, make(1, 15));
	CHECK_EQ(names.bytes, 16);
	b = names_add(&names, make(1, 16));
	CHECK_EQ(names.bytes, 16 + 32);
	c = names_add(&names, make(1, 255));
	CHECK_EQ(names.bytes, 16 + 32 + 256);
	names_remove(&names, b);
	names_remove(&names, a);
	CHECK_EQ(names.bytes, 256);
	names_remove(&names, c);
	CHECK_EQ(names.bytes, 0);
	names_free(&names);
}

/* Lengths of all classes, removed and added in another order, so that places change hands. */
TEST(names_do_not_disturb_each_other)
{
	static uint32_t refs[MANY];
	static unsigned short lengths[MANY];
	unsigned seed = 1;

	REQUIRE(start(), "no names");
	for (unsigned i = 0; i < MANY; i++) {
		lengths[i] = (unsigned short)(5 + rand_r(&seed) % 251);
		refs[i] = names_add(&names, make(i, lengths[i]));
	}
	for (unsigned round = 0; round < 5 * MANY; round++) {
		unsigned i = (unsigned)rand_r(&seed) % MANY;

		CHECK(holds(refs[i], make(i, lengths[i])));
		names_remove(&names, refs[i]);
		lengths[i] = (unsigned short)(5 + rand_r(&seed) % 251);
		refs[i] = names_add(&names, make(i, lengths[i]));
	}
	for (unsigned i = 0; i < MANY; i++)
		CHECK(holds(refs[i], make(i, lengths[i])));
	names_free(&names);
}

TEST(chunks_are_used_again_for_other_sizes)
{
	static uint32_t refs[MANY];
	REQUIRE(start(), "no names");
	for (unsigned round = 0; round < 6; round++) {
		size_t length = round % 2 ? 200 : 100;
		unsigned count = round % 2 ? MANY / 2 : MANY;

		for (unsigned i = 0; i < count; i++)
			refs[i] = names_add(&names, make(i, length));
		for (unsigned i = 0; i < count; i++)
			CHECK(holds(refs[i], make(i, length)));
		for (unsigned i = 0; i < count; i++)
			names_remove(&names, refs[(i * 7) % count]);
		CHECK_EQ(names.bytes, 0);
		/* 20,000 times 128 bytes; one of each size stays. */
		CHECK(names.begun <= 40 + 2);
	}
	names_free(&names);
}

TEST(a_full_store_says_so)
{
	uint32_t last = 0, ref, capacity;

	REQUIRE(start(), "no names");
	capacity = names.capacity;
	names.capacity = 1;
	while ((ref = names_add(&names, make(1, 255))) != 0)
		last = ref;
	CHECK(last != 0);
	CHECK_EQ(names_add(&names, "short"), 0);
	names_remove(&names, last);
	CHECK_EQ(names_add(&names, make(2, 255)), last);
	CHECK(holds(last, make(2, 255)));
	names.capacity = capacity;
	names_free(&names);
}

TEST_MAIN()
