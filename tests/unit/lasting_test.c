/* SPDX-License-Identifier: MIT */
/* Node ids that outlive the mount: made of a handle, and turned into it again. */
#include "fs/lasting.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

enum { SMALL = 1, BIG = 0x81 };

static struct file_id small_id(uint32_t ino, uint32_t generation)
{
	struct file_id id = {.type = SMALL, .len = 8};

	memcpy(id.bytes, &ino, 4);
	memcpy(id.bytes + 4, &generation, 4);
	return id;
}

static struct file_id big_id(uint64_t ino, uint32_t generation)
{
	struct file_id id = {.type = BIG, .len = 12};

	memcpy(id.bytes, &ino, 8);
	memcpy(id.bytes + 8, &generation, 4);
	return id;
}

TEST(a_number_leads_back_to_its_handle)
{
	struct file_id small = small_id(12, 0x89abcdef), big = big_id(4000000000, 1), back;
	fuse_ino_t number = lasting_number(SMALL, &small);

	CHECK_EQ(number, 0x89abcdef0000000c);
	CHECK(lasting_is(number));
	back = lasting_id(SMALL, number);
	CHECK(file_id_equal(&back, &small));

	number = lasting_number(BIG, &big);
	CHECK(lasting_is(number));
	back = lasting_id(BIG, number);
	CHECK(file_id_equal(&back, &big));
}

TEST(what_does_not_fit_has_no_number)
{
	struct file_id id = small_id(12, 0);

	/* It could not be told from the table's own. */
	CHECK_EQ(lasting_number(SMALL, &id), 0);
	id = big_id(UINT64_C(1) << 32, 7);
	CHECK_EQ(lasting_number(BIG, &id), 0);
	id = small_id(12, 7);
	CHECK_EQ(lasting_number(BIG, &id), 0);
}

TEST(a_part_of_a_file_system_has_none)
{
	char dir[] = "/tmp/lasting_test.XXXXXX";
	struct file_id id;
	int fd, mount;

	REQUIRE(mkdtemp(dir), "no directory");
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	REQUIRE(fd >= 0 && file_id_of(fd, &id, &mount) == 0, "no handle");
	CHECK_EQ(lasting_form(fd, &id, mount), NOT_LASTING);
	close(fd);
	rmdir(dir);
}

TEST(handles_of_another_form_make_none)
{
	/* tmpfs and btrfs have such. */
	struct file_id id = {.type = 1, .len = 12};

	CHECK_EQ(lasting_form(-1, &id, 0), NOT_LASTING);
	id = (struct file_id){.type = 0x4d, .len = 20};
	CHECK_EQ(lasting_form(-1, &id, 0), NOT_LASTING);
}

TEST_MAIN()
