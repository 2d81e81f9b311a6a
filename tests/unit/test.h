/* SPDX-License-Identifier: MIT */
/*
 * Tiny TAP harness for the unit tests. Anyone under tests/ may include it, once per program.
 *
 *	#include "test.h"
 *
 *	TEST(reads_what_was_written)
 *	{
 *		REQUIRE(fd >= 0, "no scratch file");
 *		CHECK(n == 5);
 *		CHECK_EQ(n, 5);
 *	}
 *
 *	TEST_MAIN()
 *
 * A failing CHECK is reported with its place and the test goes on; REQUIRE skips the rest of the
 * test as failed; SKIP ends it as skipped with a reason. Tests run in the order of the file. With
 * arguments, only tests whose name contains one of them run. TEST_MATRIX runs each test once per
 * variant (a backend, say), see there. The exit code is 0 when nothing failed.
 */
#ifndef TEST_H
#define TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test_case {
	const char *name;
	void (*run)(void);
	struct test_case *next;
};

static struct test_case *test_first, *test_last;
static bool test_failed;
static const char *test_skip_reason;
static const char *test_variant; /* of TEST_MATRIX; NULL without */

static inline void test_add(struct test_case *t)
{
	if (test_last)
		test_last->next = t;
	else
		test_first = t;
	test_last = t;
}

#define TEST(id)                                                                                   \
	static void test_##id(void);                                                               \
	static struct test_case test_case_##id = {#id, test_##id, NULL};                           \
	__attribute__((constructor)) static void test_register_##id(void)                          \
	{                                                                                          \
		test_add(&test_case_##id);                                                         \
	}                                                                                          \
	static void test_##id(void)

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			test_failed = true;                                                        \
			printf("# %s:%d: CHECK(%s)\n", __FILE__, __LINE__, #cond);                 \
		}                                                                                  \
	} while (0)

/* Integers of any kind; prints both. */
#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		long long test_got = (long long)(got), test_want = (long long)(want);              \
		if (test_got != test_want) {                                                       \
			test_failed = true;                                                        \
			printf("# %s:%d: %s is %lld, want %s = %lld\n", __FILE__, __LINE__, #got,  \
				test_got, #want, test_want);                                       \
		}                                                                                  \
	} while (0)

/* For what the rest of the test can't do without. In a helper it leaves the helper only. */
#define REQUIRE(cond, why)                                                                         \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			test_failed = true;                                                        \
			printf("# %s:%d: REQUIRE(%s): %s\n", __FILE__, __LINE__, #cond, why);      \
			return;                                                                    \
		}                                                                                  \
	} while (0)

#define SKIP(reason)                                                                               \
	do {                                                                                       \
		test_skip_reason = (reason);                                                       \
		return;                                                                            \
	} while (0)

static inline bool test_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strstr(name, argv[i]))
			return true;
	return argc < 2;
}

static inline bool test_run_one(struct test_case *t, unsigned number)
{
	const char *sep = test_variant ? ": " : "", *variant = test_variant ? test_variant : "";

	test_failed = false;
	test_skip_reason = NULL;
	t->run();
	if (!test_failed && test_skip_reason)
		printf("ok %u - %s%s%s # SKIP %s\n", number, variant, sep, t->name,
			test_skip_reason);
	else
		printf("%sok %u - %s%s%s\n", test_failed ? "not " : "", number, variant, sep,
			t->name);
	fflush(stdout);
	return !test_failed;
}

/* variants: NULL-terminated names, or NULL for one run without a variant. */
static inline int test_run_all(int argc, char **argv, const char *const *variants)
{
	static const char *const none[] = {"", NULL};
	unsigned count = 0, number = 0, failed = 0;
	const char *const *v;

	for (v = variants ? variants : none; *v; v++)
		for (struct test_case *t = test_first; t; t = t->next)
			count += test_wanted(t->name, argc, argv);
	printf("1..%u\n", count);
	fflush(stdout); /* a test may fork */
	for (v = variants ? variants : none; *v; v++) {
		test_variant = variants ? *v : NULL;
		for (struct test_case *t = test_first; t; t = t->next)
			if (test_wanted(t->name, argc, argv))
				failed += !test_run_one(t, ++number);
	}
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define TEST_MAIN()                                                                                \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		return test_run_all(argc, argv, NULL);                                             \
	}

/* TEST_MATRIX("uring", "standard"): every test once for each; the test reads test_variant. */
#define TEST_MATRIX(...)                                                                           \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		static const char *const variants[] = {__VA_ARGS__, NULL};                         \
		return test_run_all(argc, argv, variants);                                         \
	}

#endif
