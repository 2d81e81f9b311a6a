/* SPDX-License-Identifier: MIT */
/* Claims: where a directory lies by the mount table, which two are in each other's way, and a
 * claim's form in a file. */
#include <errno.h>
#include <unistd.h>

#include "control/claim_record.h"
#include "test.h"

/* A machine: / and /data of two disks, a bind mount of a part of /data, a file system inside it and
 * one with a blank in its name, a batchiofs mount with a file system on it. */
static const char table[] = "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
			    "21 20 8:2 / /data rw shared:1 - ext4 /dev/sdb1 rw\n"
			    "22 20 8:2 /db /srv/db rw - ext4 /dev/sdb1 rw\n"
			    "23 21 0:30 / /data/scratch rw - tmpfs none rw\n"
			    "24 23 0:31 / /data/scratch/deep rw - tmpfs none rw\n"
			    "25 20 0:32 / /with\\040blank\\134 rw - tmpfs none rw\n"
			    "26 20 0:40 / /mnt rw - fuse.batchiofs /data/db rw,user_id=0\n"
			    "27 26 0:41 / /mnt/on rw - tmpfs none rw\n"
			    "28 20 8:3 /@home /home rw - btrfs /dev/sdc rw\n"
			    "29 20 8:2 /db/part /srv/www/part rw - ext4 /dev/sdb1 rw\n"
			    "30 20 8:2 / /data rw - ext4 /dev/sdb1 rw\n";

/* The places, by the table; the caller's to free. */
static struct places find(unsigned mount, const char *path)
{
	char file[] = "/tmp/claim-test-XXXXXX";
	struct places places = {0};
	int fd = mkstemp(file);

	CHECK(fd >= 0 && write(fd, table, sizeof(table) - 1) == sizeof(table) - 1);
	CHECK_EQ(places_find(&places, file, mount, path), 0);
	close(fd);
	unlink(file);
	return places;
}

static void check_place(const struct places *places, size_t i, enum place_kind kind, unsigned major,
	unsigned minor, const char *path)
{
	REQUIRE(i < places->n, "fewer places");
	CHECK_EQ(places->list[i].kind, kind);
	CHECK_EQ(places->list[i].major, major);
	CHECK_EQ(places->list[i].minor, minor);
	CHECK(!strcmp(places->list[i].path, path));
}

TEST(a_path_is_within_another_by_whole_components)
{
	CHECK(path_within("/a/b", "/a"));
	CHECK(path_within("/a", "/a"));
	CHECK(path_within("/a", "/"));
	CHECK(path_within("/", "/"));
	CHECK(!path_within("/ab", "/a"));
	CHECK(!path_within("/a", "/ab"));
	CHECK(!path_within("/a", "/a/b"));
	CHECK(!path_within("/", "/a"));
}

TEST(a_directory_has_its_own_place_and_those_above)
{
	struct places places = find(24, "/data/scratch/deep/er");

	CHECK_EQ(places.n, 4);
	check_place(&places, 0, PLACE_OWN, 0, 31, "/er");
	check_place(&places, 1, PLACE_ABOVE, 0, 30, "/deep");
	check_place(&places, 2, PLACE_ABOVE, 8, 2, "/scratch");
	check_place(&places, 3, PLACE_ABOVE, 8, 1, "/data");
	places_free(&places);
	CHECK_EQ(places.n, 0);
}

TEST(the_root_of_a_mount_and_of_everything_is_a_slash)
{
	struct places places = find(20, "/");

	check_place(&places, 0, PLACE_OWN, 8, 1, "/");
	places_free(&places);
	places = find(25, "/with blank\\");
	CHECK_EQ(places.n, 2);
	check_place(&places, 0, PLACE_OWN, 0, 32, "/");
	check_place(&places, 1, PLACE_ABOVE, 8, 1, "/with blank\\");
	places_free(&places);
}

TEST(the_mounts_inside_belong_to_it_those_hidden_or_beside_do_not)
{
	struct places places = find(21, "/data");

	CHECK_EQ(places.n, 4);
	check_place(&places, 0, PLACE_OWN, 8, 2, "/");
	check_place(&places, 1, PLACE_ABOVE, 8, 1, "/data");
	check_place(&places, 2, PLACE_INSIDE, 0, 30, "/");
	check_place(&places, 3, PLACE_INSIDE, 0, 31, "/");
	places_free(&places);
	places = find(30, "/data"); /* mounted over 21 and what is in it */
	CHECK_EQ(places.n, 2);
	places_free(&places);
}

TEST(above_a_batchiofs_mount_is_not_looked)
{
	struct places places = find(27, "/mnt/on/x");

	CHECK_EQ(places.n, 2);
	check_place(&places, 0, PLACE_OWN, 0, 41, "/x");
	check_place(&places, 1, PLACE_ABOVE, 0, 40, "/on");
	places_free(&places);
}

TEST(a_mount_that_is_not_in_the_table_is_said)
{
	struct places places = {0};

	CHECK_EQ(places_find(&places, "/dev/null", 20, "/"), -ENOENT);
	CHECK_EQ(places_find(&places, "/dev/null/none", 20, "/"), -ENOTDIR);
	CHECK_EQ(places.n, 0);
}

static enum place_relation relation(
	unsigned mount_a, const char *path_a, unsigned mount_b, const char *path_b)
{
	struct places a = find(mount_a, path_a);
	struct places b = find(mount_b, path_b);
	enum place_relation result = places_relation(&a, &b);

	places_free(&a);
	places_free(&b);
	return result;
}

TEST(directories_are_compared_through_bind_mounts)
{
	CHECK_EQ(relation(21, "/data/db", 22, "/srv/db"), PLACES_SAME);
	CHECK_EQ(relation(21, "/data/db/x", 22, "/srv/db"), PLACES_BELOW);
	CHECK_EQ(relation(22, "/srv/db", 21, "/data/db/x"), PLACES_CONTAIN);
	CHECK_EQ(relation(22, "/srv/db/x", 21, "/data/dbx"), PLACES_APART);
	CHECK_EQ(relation(21, "/data/scratch", 22, "/srv/db"), PLACES_APART);
	CHECK_EQ(relation(28, "/home/me", 20, "/home"), PLACES_BELOW);
}

TEST(a_file_system_inside_lies_below)
{
	CHECK_EQ(relation(24, "/data/scratch/deep", 21, "/data"), PLACES_BELOW);
	CHECK_EQ(relation(21, "/data", 23, "/data/scratch/x"), PLACES_CONTAIN);
	CHECK_EQ(relation(20, "/", 28, "/home/me"), PLACES_CONTAIN);
	CHECK_EQ(relation(24, "/data/scratch/deep", 22, "/srv/db"), PLACES_APART);
}

TEST(a_mount_inside_one_that_shows_a_part_of_the_other_is_an_overlap)
{
	/* /srv/www has /data/db/part attached inside. */
	CHECK_EQ(relation(20, "/srv/www", 21, "/data/db"), PLACES_OVERLAP);
	CHECK_EQ(relation(21, "/data/db", 20, "/srv/www"), PLACES_OVERLAP);
	CHECK_EQ(relation(20, "/srv/www", 21, "/data/db/part/x"), PLACES_CONTAIN);
	CHECK_EQ(relation(20, "/srv/www", 21, "/data/scratch"), PLACES_APART);
}

static struct claim_record record(bool exclusive, unsigned mount, const char *path)
{
	return (struct claim_record){
		.exclusive = exclusive,
		.pid = 123,
		.source = strdup(path),
		.mountpoint = strdup("/mount\nhere\\040"),
		.places = find(mount, path),
	};
}

TEST(a_claim_reads_as_it_was_written)
{
	struct claim_record was = record(true, 25, "/with blank\\");
	struct claim_record is = {0};
	FILE *file = tmpfile();

	REQUIRE(file, "no temporary file");
	claim_record_write(file, &was);
	rewind(file);
	CHECK_EQ(claim_record_read(file, &is), 0);
	CHECK(is.exclusive);
	CHECK_EQ(is.pid, 123);
	CHECK(!strcmp(is.source, was.source));
	CHECK(!strcmp(is.mountpoint, was.mountpoint));
	CHECK_EQ(is.places.n, 2);
	check_place(&is.places, 0, PLACE_OWN, 0, 32, "/");
	check_place(&is.places, 1, PLACE_ABOVE, 8, 1, "/with blank\\");
	fclose(file);
	claim_record_free(&was);
	claim_record_free(&is);
}

static int read_text(const char *text)
{
	struct claim_record is = {0};
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	int error = claim_record_read(file, &is);

	fclose(file);
	claim_record_free(&is);
	return error;
}

TEST(what_is_no_claim_or_half_of_one_is_refused)
{
	CHECK_EQ(read_text("source /a\nmountpoint /b\nplace 8:1 /a\nend\n"), 0);
	CHECK_EQ(read_text("source /a\nmountpoint /b\nnew word\nplace 8:1 /a\nend\n"), 0);
	CHECK_EQ(read_text("source /a\nmountpoint /b\nplace 8:1 /a\n"), -EINVAL);
	CHECK_EQ(read_text("source /a\nmountpoint /b\nend\n"), -EINVAL);
	CHECK_EQ(read_text("source /a\nplace 8:1 /a\nend\n"), -EINVAL);
	CHECK_EQ(read_text("source /a\nmountpoint /b\nplace 8 /a\nend\n"), -EINVAL);
	CHECK_EQ(read_text("source /a\nmountpoint /b\nplace 8:1\nend\n"), -EINVAL);
	CHECK_EQ(read_text("source /a\nmountpoint /b\nplace 8:1 a\nend\n"), -EINVAL);
	CHECK_EQ(read_text("\n"), -EINVAL);
}

TEST(claims_conflict_unless_both_are_shared_and_say_why)
{
	struct claim_record data = record(false, 21, "/data");
	struct claim_record db = record(false, 22, "/srv/db");
	char text[256] = "";

	CHECK(!claim_record_conflict(&db, &data, text, sizeof(text)));
	CHECK(!*text);
	db.exclusive = true;
	CHECK(claim_record_conflict(&db, &data, text, sizeof(text)));
	CHECK(strstr(text, "it lies below /data, which batchiofs mounts with sharing=shared on "));
	CHECK(strstr(text, "(pid 123)"));
	CHECK(claim_record_conflict(&data, &db, text, sizeof(text)));
	CHECK(strstr(text, "it contains /srv/db, which batchiofs mounts exclusively on "));
	claim_record_free(&data);
	claim_record_free(&db);
}

TEST_MAIN()
