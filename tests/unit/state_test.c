/* SPDX-License-Identifier: MIT */
/* What one program tells the next: its text, and its tables for those of the next. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/reserve.h"
#include "state.h"
#include "test.h"

static char why[128];

/* Reads the text as a state. */
static int read_text(const char *text, struct state *state)
{
	FILE *in = fmemopen((void *)text, strlen(text), "r");
	int result = in ? state_read(in, state, why, sizeof(why)) : -errno;

	if (in)
		fclose(in);
	return result;
}

/* A state's text, until the next one. */
static char *text_of(const struct state *state, const char *rest)
{
	static char text[32768];
	FILE *out = fmemopen(text, sizeof(text), "w");

	state_write(out, state);
	fputs(rest, out);
	fclose(out);
	return text;
}

static const struct state sample = {
	.program = "1.2",
	.source = "/a\nb\\n c",
	.mountpoint = "/a\nb\\n c\\",
	.exclusive = 1,
	.loops = 64,
	.mount_id = -2,
	.asker_fd = 19999,
	.control = "/run/x",
};

TEST(what_is_written_is_read)
{
	static struct state state;
	char *text = text_of(&sample, "table inodes 4096 8192\ntable names 1 0\n");

	CHECK_EQ(read_text(text, &state), 0);
	CHECK(!strcmp(state.source, sample.source));
	CHECK(!strcmp(state.mountpoint, sample.mountpoint));
	CHECK(!strcmp(state.program, "1.2") && !strcmp(state.control, "/run/x"));
	CHECK_EQ(state.exclusive, 1);
	CHECK_EQ(state.loops, 64);
	CHECK_EQ(state.mount_id, -2);
	CHECK_EQ(state.asker_fd, 19999);
	REQUIRE(state.n_tables == 2, "tables");
	CHECK(!strcmp(state.tables[0].name, "inodes"));
	CHECK_EQ(state.tables[0].size, 4096);
	CHECK_EQ(state.tables[0].offset, 8192);
}

TEST(another_version_something_unknown_or_missing_is_refused)
{
	static struct state state;
	char *text = text_of(&sample, "");
	char *line = strstr(text, "loops ");

	CHECK_EQ(read_text("batchiofs-state 0\n", &state), -EPROTO);
	CHECK(strstr(why, "form") != NULL);
	CHECK_EQ(read_text("nonsense", &state), -EPROTO);
	memcpy(line, "loopy ", 6);
	CHECK_EQ(read_text(text, &state), -EPROTO);
	CHECK(strstr(why, "loopy") != NULL);
	memcpy(line, "major ", 6);
	CHECK_EQ(read_text(text, &state), -EPROTO);
	CHECK(strstr(why, "loops") != NULL);
}

TEST(too_many_tables_are_refused)
{
	static struct state state;
	char rest[32 * (STATE_TABLES + 1)] = "";
	char *text;

	for (int i = 0; i <= STATE_TABLES; i++)
		strcat(rest, "table a 1 0\n");
	text = text_of(&sample, rest);
	CHECK_EQ(read_text(text, &state), -EPROTO);
}

TEST(tables_of_another_program_take_the_place_of_ours)
{
	int fd = memfd_create("other", MFD_CLOEXEC);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *first, *second, *text = NULL;
	size_t size;
	FILE *out;

	REQUIRE(fd >= 0 && ftruncate(fd, (off_t)(4 * page)) == 0, "no file in memory");
	CHECK_EQ(pwrite(fd, "theirs", 7, (off_t)(2 * page)), 7);
	REQUIRE(reserve_keep() >= 0, "no tables");
	first = reserve_shared("first", page);
	second = reserve_shared("second", page + 1);
	REQUIRE(first && second, "no memory");
	strcpy(first, "ours");
	CHECK_EQ(reserve_inherit(fd, "third", page, 0), -ENOENT);
	CHECK_EQ(reserve_inherit(fd, "first", page + 1, 0), -EINVAL);
	CHECK(!strcmp(first, "ours"));
	CHECK_EQ(reserve_inherit(fd, "first", page, (off_t)(2 * page)), 0);
	CHECK(!strcmp(first, "theirs"));
	CHECK_EQ(reserve_inherit(fd, "first", page, 0), -EINVAL);
	CHECK_EQ(reserve_inherited(fd), -ENOENT);
	CHECK_EQ(reserve_inherit(fd, "second", page + 1, 0), 0);
	CHECK_EQ(reserve_inherit(fd, "first", page, (off_t)(2 * page)), 0);
	CHECK_EQ(reserve_inherited(fd), 0);
	out = open_memstream(&text, &size);
	reserve_describe(out);
	fclose(out);
	CHECK(strstr(text, "table first ") && strstr(text, "table second "));
	free(text);
	/* What comes later lies behind. */
	CHECK(reserve_shared("third", page) != NULL);
	CHECK(lseek(fd, 0, SEEK_END) >= (off_t)(4 * page));
}

TEST_MAIN()
