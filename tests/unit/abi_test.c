/* SPDX-License-Identifier: MIT */
/* Malformed messages are refused before anything interprets them: transport/abi.c. Run by
 * tests/run. */
#include "transport/abi.h"

#include <errno.h>
#include <string.h>

#include "test.h"

#define PAYLOAD 65536

static char message[4096 + PAYLOAD];

/* A message of opcode with an argument and a tail; its length. */
static size_t compose(uint32_t opcode, const void *arg, size_t arg_size, const void *tail, size_t n)
{
	struct fuse_in_header *in = (struct fuse_in_header *)message;

	memset(message, 0xa5, sizeof(message));
	memset(in, 0, sizeof(*in));
	in->opcode = opcode;
	in->len = (uint32_t)(sizeof(*in) + arg_size + n);
	if (arg_size)
		memcpy(in + 1, arg, arg_size);
	if (n)
		memcpy((char *)(in + 1) + arg_size, tail, n);
	return in->len;
}

static int check(uint32_t opcode, const void *arg, size_t arg_size, const void *tail, size_t n)
{
	size_t length = compose(opcode, arg, arg_size, tail, n);

	return abi_check(message, length, PAYLOAD);
}

TEST(header_must_be_whole_and_its_length_true)
{
	struct fuse_in_header *in = (struct fuse_in_header *)message;
	size_t length = compose(FUSE_STATFS, NULL, 0, NULL, 0);

	CHECK(abi_check(message, length, PAYLOAD) == 0);
	CHECK(abi_check(message, length - 1, PAYLOAD) == -EPROTO);
	CHECK(abi_check(message, 0, PAYLOAD) == -EPROTO);
	in->len++;
	CHECK(abi_check(message, length, PAYLOAD) == -EPROTO);
}

TEST(names_must_end_within_the_message)
{
	struct fuse_rename2_in rename = {0};

	CHECK(check(FUSE_LOOKUP, NULL, 0, "name", 5) == 0);
	CHECK(check(FUSE_LOOKUP, NULL, 0, "name", 4) == -EINVAL);
	CHECK(check(FUSE_LOOKUP, NULL, 0, "", 0) == -EINVAL);
	CHECK(check(FUSE_RENAME2, &rename, sizeof(rename), "a\0b", 4) == 0);
	CHECK(check(FUSE_RENAME2, &rename, sizeof(rename), "a\0b", 3) == -EINVAL);
	CHECK(check(FUSE_RENAME2, &rename, sizeof(rename), "a", 2) == -EINVAL);
	CHECK(check(FUSE_SYMLINK, NULL, 0, "name\0target", 12) == 0);
	CHECK(check(FUSE_SYMLINK, NULL, 0, "name", 5) == -EINVAL);
}

TEST(arguments_must_be_whole)
{
	struct fuse_setattr_in setattr = {0};

	CHECK(check(FUSE_SETATTR, &setattr, sizeof(setattr), NULL, 0) == 0);
	CHECK(check(FUSE_SETATTR, &setattr, sizeof(setattr) - 1, NULL, 0) == -EINVAL);
	CHECK(check(FUSE_WRITE, &setattr, sizeof(struct fuse_write_in) - 1, NULL, 0) == -EINVAL);
	CHECK(check(FUSE_CREATE, &setattr, sizeof(struct fuse_create_in), "x", 2) == 0);
	CHECK(check(FUSE_CREATE, &setattr, sizeof(struct fuse_create_in), NULL, 0) == -EINVAL);
}

TEST(a_write_carries_its_bytes)
{
	struct fuse_write_in in = {.size = 8, .offset = 4096};

	CHECK(check(FUSE_WRITE, &in, sizeof(in), "12345678", 8) == 0);
	CHECK(check(FUSE_WRITE, &in, sizeof(in), "1234567", 7) == -EINVAL);
	in.size = PAYLOAD + 1;
	CHECK(check(FUSE_WRITE, &in, sizeof(in), "12345678", 8) == -EINVAL);
}

TEST(ranges_stay_within_what_a_file_offset_holds)
{
	struct fuse_write_in write = {.size = 8, .offset = INT64_MAX - 8};
	struct fuse_read_in read = {.size = 8, .offset = INT64_MAX - 8};
	struct fuse_fallocate_in fallocate = {.offset = 1, .length = INT64_MAX};
	struct fuse_copy_file_range_in copy = {.off_in = 0, .off_out = 2, .len = INT64_MAX - 1};

	CHECK(check(FUSE_WRITE, &write, sizeof(write), "12345678", 8) == 0);
	write.offset++;
	CHECK(check(FUSE_WRITE, &write, sizeof(write), "12345678", 8) == -EINVAL);
	write.offset = UINT64_MAX;
	CHECK(check(FUSE_WRITE, &write, sizeof(write), "12345678", 8) == -EINVAL);
	CHECK(check(FUSE_READ, &read, sizeof(read), NULL, 0) == 0);
	read.offset++;
	CHECK(check(FUSE_READ, &read, sizeof(read), NULL, 0) == -EINVAL);
	CHECK(check(FUSE_FALLOCATE, &fallocate, sizeof(fallocate), NULL, 0) == -EINVAL);
	fallocate.offset = 0;
	CHECK(check(FUSE_FALLOCATE, &fallocate, sizeof(fallocate), NULL, 0) == 0);
	CHECK(check(FUSE_COPY_FILE_RANGE, &copy, sizeof(copy), NULL, 0) == -EINVAL);
	copy.off_out = 1;
	CHECK(check(FUSE_COPY_FILE_RANGE, &copy, sizeof(copy), NULL, 0) == 0);
}

TEST(an_answer_must_fit_its_buffer)
{
	struct fuse_read_in read = {.size = PAYLOAD};
	struct fuse_getxattr_in xattr = {.size = PAYLOAD};

	CHECK(check(FUSE_READ, &read, sizeof(read), NULL, 0) == 0);
	CHECK(check(FUSE_READDIRPLUS, &read, sizeof(read), NULL, 0) == 0);
	CHECK(check(FUSE_GETXATTR, &xattr, sizeof(xattr), "user.x", 7) == 0);
	read.size++;
	xattr.size++;
	CHECK(check(FUSE_READ, &read, sizeof(read), NULL, 0) == -EINVAL);
	CHECK(check(FUSE_READDIRPLUS, &read, sizeof(read), NULL, 0) == -EINVAL);
	CHECK(check(FUSE_GETXATTR, &xattr, sizeof(xattr), "user.x", 7) == -EINVAL);
	CHECK(check(FUSE_LISTXATTR, &xattr, sizeof(xattr), NULL, 0) == -EINVAL);
}

TEST(counts_and_values_must_be_there)
{
	struct fuse_batch_forget_in forget = {.count = 2};
	struct fuse_forget_one ones[2] = {{.nodeid = 2, .nlookup = 1}, {.nodeid = 3, .nlookup = 1}};
	struct fuse_setxattr_in xattr = {.size = 5};

	CHECK(check(FUSE_BATCH_FORGET, &forget, sizeof(forget), ones, sizeof(ones)) == 0);
	CHECK(check(FUSE_BATCH_FORGET, &forget, sizeof(forget), ones, sizeof(ones) - 1) == -EINVAL);
	forget.count = UINT32_MAX;
	CHECK(check(FUSE_BATCH_FORGET, &forget, sizeof(forget), ones, sizeof(ones)) == -EINVAL);
	/* Without FUSE_SETXATTR_EXT the argument is the old, shorter one. */
	CHECK(check(FUSE_SETXATTR, &xattr, FUSE_COMPAT_SETXATTR_IN_SIZE, "user.x\0value", 12) == 0);
	CHECK(check(FUSE_SETXATTR, &xattr, FUSE_COMPAT_SETXATTR_IN_SIZE, "user.x\0valu", 11) ==
		-EINVAL);
}

TEST(the_payload_is_what_comes_or_what_is_asked_for)
{
	struct fuse_read_in read = {.size = 4096};
	struct fuse_write_in write = {.size = 100};
	char data[100] = {0};

	compose(FUSE_READ, &read, sizeof(read), NULL, 0);
	CHECK_EQ(abi_payload(message), 4096);
	compose(FUSE_READDIRPLUS, &read, sizeof(read), NULL, 0);
	CHECK_EQ(abi_payload(message), 4096);
	compose(FUSE_WRITE, &write, sizeof(write), data, sizeof(data));
	CHECK(abi_payload(message) >= 100);
	compose(FUSE_STATFS, NULL, 0, NULL, 0);
	CHECK_EQ(abi_payload(message), 0);
}

TEST(unknown_opcodes_are_libfuses_to_answer)
{
	CHECK(check(4000, NULL, 0, NULL, 0) == 0);
	CHECK(check(UINT32_MAX, NULL, 0, "anything", 8) == 0);
}

TEST_MAIN()
