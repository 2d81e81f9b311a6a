/* SPDX-License-Identifier: MIT */
/*
 * batchio_linked_write_fsync() and linked pairs: one io_uring_enter (strace and counters), and no
 * sync where the write failed (full tmpfs and ext4, faulty backend). Run by `make test`; the
 * parts that mount need root and are skipped without.
 */
#define _GNU_SOURCE 1
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test.h"
#include "../support/batchio_handles.h"

static const char *self; /* argv[0] */

/* ---- counted from outside ---- */

/* What strace looks at: one linked call on a file. */
static int child_main(const char *variant, const char *path)
{
	struct batchio_error error;
	struct batchio *bio = handle_new(variant, &error);
	int fd = open(path, O_RDWR), ret;

	if (!bio || fd < 0)
		return 2;
	ret = batchio_linked_write_fsync(bio, fd, "linked", 6, 3);
	batchio_close(bio);
	close(fd);
	return ret ? 3 : 0;
}

static int run(const char *command)
{
	int status = system(command);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Lines of the file that begin with the call's name (strace -f puts a process number before it). */
static int count_calls(const char *log, const char *call)
{
	char line[1024];
	FILE *f = fopen(log, "r");
	int n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		const char *p = line + strspn(line, "0123456789 ");

		n += !strncmp(p, call, strlen(call)) && strstr(p, "resumed") == NULL;
	}
	if (f)
		fclose(f);
	return n;
}

TEST(strace_sees_one_enter)
{
	char dir[] = "/tmp/batchio-strace-XXXXXX", file[64], log[64], cmd[1024], got[16] = {0};
	bool ring = !strncmp(test_variant, "uring", 5);
	int fd;

	if (run("command -v strace >/dev/null"))
		SKIP("no strace");
	HANDLE(bio); /* skips where there is no ring */
	batchio_close(bio);
	REQUIRE(mkdtemp(dir), "no scratch directory");
	snprintf(file, sizeof(file), "%s/file", dir);
	snprintf(log, sizeof(log), "%s/log", dir);
	fd = open(file, O_RDWR | O_CREAT, 0600);
	CHECK(fd >= 0);
	/* LeakSanitizer can't run under a tracer. */
	snprintf(cmd, sizeof(cmd),
		"BATCHIO_LINKED_CHILD=%s ASAN_OPTIONS=detect_leaks=0 timeout 60 strace -f -o %s "
		"-e "
		"trace=io_uring_setup,io_uring_enter,io_uring_register,pwrite64,pwritev,pwritev2,"
		"fsync,fdatasync %s %s",
		test_variant, log, self, file);
	CHECK_EQ(run(cmd), 0);
	CHECK_EQ(count_calls(log, "io_uring_enter("), ring ? 1 : 0);
	if (!ring)
		CHECK_EQ(count_calls(log, "io_uring_"), 0);
	CHECK_EQ(count_calls(log, "pwrite"), ring ? 0 : 1);
	CHECK_EQ(count_calls(log, "fdatasync("), ring ? 0 : 1);
	CHECK_EQ(count_calls(log, "fsync("), 0);
	CHECK_EQ(pread(fd, got, 6, 3), 6);
	CHECK(!memcmp(got, "linked", 6));
	close(fd);
	unlink(file);
	unlink(log);
	rmdir(dir);
}

TEST(counters_see_one_enter)
{
	enum { N = 20 };
	int fd = scratch_file();
	char buf[512];
	struct batchio_counters c;
	HANDLE(bio);

	fill_pattern(buf, sizeof(buf), 1);
	for (int i = 0; i < N; i++)
		CHECK_EQ(batchio_linked_write_fsync(bio, fd, buf, sizeof(buf), i * 512), 0);
	c = counters_of(bio);
	CHECK_EQ(c.linked, N);
	CHECK_EQ(c.writes, N);
	CHECK_EQ(c.syncs, N);
	CHECK_EQ(c.continued, 0);
	CHECK_EQ(c.enters, !strncmp(test_variant, "uring", 5) ? N : 0);
	batchio_close(bio);
	close(fd);
}

/* ---- the write fails ---- */

static char mounted[64];

static void unmount_scratch(void)
{
	if (!mounted[0])
		return;
	umount2(mounted, MNT_DETACH);
	rmdir(mounted);
	mounted[0] = '\0';
}

/*
 * A small file system under `mounted`, seen by this process only, so that it is gone with it in
 * any case. Returns NULL or the reason why not.
 */
static const char *mount_scratch(const char *type)
{
	static bool private;
	char cmd[512];

	if (geteuid() != 0)
		return "mounting needs root";
	if (!private && (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)))
		return "no private mount namespace";
	private = true;
	strcpy(mounted, "/tmp/batchio-full-XXXXXX");
	if (!mkdtemp(mounted)) {
		mounted[0] = '\0';
		return "no scratch directory";
	}
	atexit(unmount_scratch);
	if (!strcmp(type, "tmpfs") && !mount("tmpfs", mounted, "tmpfs", 0, "size=256k"))
		return NULL;
	/* The image has no name once it is mounted, and goes with the mount. */
	snprintf(cmd, sizeof(cmd),
		"i=%s.img; truncate -s 2M $i && mkfs.ext4 -q -F $i >/dev/null 2>&1 && "
		"mount -o loop $i %s 2>/dev/null; r=$?; rm -f $i; exit $r",
		mounted, mounted);
	if (!strcmp(type, "ext4") && !run(cmd))
		return NULL;
	rmdir(mounted);
	mounted[0] = '\0';
	return "this file system can't be mounted here";
}

/* Pairs far larger than the file system. */
static void full_disk(const char *type)
{
	const size_t len = 8 << 20;
	const char *why = mount_scratch(type);
	struct noted w, s;
	char path[100], *buf;
	int fd;

	if (why)
		SKIP(why);
	buf = malloc(len);
	fill_pattern(buf, len, 9);
	snprintf(path, sizeof(path), "%s/file", mounted);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	REQUIRE(fd >= 0, "no file on the scratch file system");
	{
		struct batchio *bio = handle_new(test_variant, &handle_error);

		REQUIRE(bio, handle_error.text);
		CHECK_EQ(batchio_linked_write_fsync(bio, fd, buf, len, 0), -ENOSPC);
		CHECK_EQ(counters_of(bio).syncs, 0);
		CHECK_EQ(ftruncate(fd, 0), 0);
		noted_io(&w, BATCHIO_WRITE, fd, buf, len, 0);
		w.req.flags = BATCHIO_LINK;
		noted_sync(&s, BATCHIO_FSYNC, fd);
		CHECK_EQ(batchio_submit(bio, &w.req), 0);
		CHECK_EQ(batchio_submit(bio, &s.req), 0);
		CHECK_EQ(reap_all(bio), 0);
		CHECK_EQ(w.result, -ENOSPC);
		CHECK(w.req.moved < len);
		/* What went in before it was full. ext4 may not have freed what was truncated. */
		CHECK(w.req.moved > 0 || !strcmp(type, "ext4"));
		CHECK_EQ(s.result, -ECANCELED);
		CHECK_EQ(counters_of(bio).syncs, 0);
		/* Where there is room it works on the same handle. */
		CHECK_EQ(ftruncate(fd, 0), 0);
		CHECK_EQ(fsync(fd), 0);
		CHECK_EQ(batchio_linked_write_fsync(bio, fd, buf, 4096, 0), 0);
		CHECK_EQ(counters_of(bio).syncs, 1);
		batchio_close(bio);
	}
	close(fd);
	free(buf);
	unmount_scratch();
}

TEST(full_tmpfs_no_sync_and_the_writes_error)
{
	HANDLE(bio);
	batchio_close(bio);
	full_disk("tmpfs");
}

TEST(full_ext4_no_sync_and_the_writes_error)
{
	HANDLE(bio);
	batchio_close(bio);
	full_disk("ext4");
}

/* ---- injected ---- */

static struct batchio *with_fault(struct faulty_nth *nth)
{
	struct faulty_config config = {.judge = faulty_judge_nth, .user = nth};

	config.inner = handle_new(test_variant, &handle_error);
	return config.inner ? faulty_backend_new(&config, &handle_error) : NULL;
}

#define FAULTY_HANDLE(bio, nth)                                                                    \
	struct batchio *bio = with_fault(nth);                                                     \
	if (!bio && handle_error.code == BATCHIO_EURINGUNAVAILABLE)                                \
		SKIP(handle_error.text);                                                           \
	REQUIRE(bio, handle_error.text)

TEST(failed_write_means_no_sync)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.first = 1,
		.count = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EDQUOT}};
	int fd = scratch_file();
	struct stat st;
	FAULTY_HANDLE(bio, &nth);

	CHECK_EQ(batchio_linked_write_fsync(bio, fd, "x", 1, 0), -EDQUOT);
	CHECK_EQ(counters_of(bio).syncs, 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(st.st_size, 0);
	CHECK_EQ(batchio_linked_write_fsync(bio, fd, "x", 1, 0), 0);
	CHECK_EQ(counters_of(bio).syncs, 1);
	batchio_close(bio);
	close(fd);
}

TEST(short_write_is_finished_and_then_synced)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.first = 1,
		.count = 3,
		.verdict = FAULTY_SHORT,
		.fault = {.bytes = 5}};
	int fd = scratch_file();
	char out[100], in[100];
	FAULTY_HANDLE(bio, &nth);

	fill_pattern(out, sizeof(out), 4);
	CHECK_EQ(batchio_linked_write_fsync(bio, fd, out, sizeof(out), 0), 0);
	CHECK_EQ(nth.seen, 4);
	CHECK_EQ(counters_of(bio).continued, 3);
	CHECK_EQ(counters_of(bio).syncs, 1);
	CHECK_EQ(pread(fd, in, 100, 0), 100);
	CHECK(!memcmp(out, in, 100));
	batchio_close(bio);
	close(fd);
}

/* Short at first, then failing: still no sync. */
TEST(short_write_that_then_fails_means_no_sync)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.from = 40,
		.to = 1000,
		.first = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EIO}};
	struct faulty_nth cut = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.first = 1,
		.count = 1,
		.verdict = FAULTY_SHORT,
		.fault = {.bytes = 40}};
	struct faulty_config outer = {.judge = faulty_judge_nth, .user = &cut};
	int fd = scratch_file();
	char out[100] = {1};
	struct batchio *bio;
	struct noted w, s;

	/* Two deep: the outer cuts the first attempt, the inner fails what is left. */
	outer.inner = with_fault(&nth);
	if (!outer.inner)
		SKIP(handle_error.text);
	bio = faulty_backend_new(&outer, &handle_error);
	REQUIRE(bio, handle_error.text);
	noted_io(&w, BATCHIO_WRITE, fd, out, 100, 0);
	w.req.flags = BATCHIO_LINK;
	noted_sync(&s, BATCHIO_FDATASYNC, fd);
	CHECK_EQ(batchio_submit(bio, &w.req), 0);
	CHECK_EQ(batchio_submit(bio, &s.req), 0);
	CHECK_EQ(reap_all(bio), 0);
	CHECK_EQ(w.result, -EIO);
	CHECK_EQ(w.req.moved, 40);
	CHECK_EQ(s.result, -ECANCELED);
	CHECK_EQ(counters_of(bio).syncs, 0);
	batchio_close(bio);
	close(fd);
}

TEST(failed_sync_is_the_error_when_the_write_went_well)
{
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_FDATASYNC,
		.fd = -1,
		.first = 1,
		.count = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EIO}};
	int fd = scratch_file();
	FAULTY_HANDLE(bio, &nth);

	CHECK_EQ(batchio_linked_write_fsync(bio, fd, "x", 1, 0), -EIO);
	CHECK_EQ(nth.seen, 1); /* never retried into success */
	CHECK_EQ(counters_of(bio).syncs, 1);
	batchio_close(bio);
	close(fd);
}

/* A fault in one pair harms no other. */
TEST(pairs_are_independent)
{
	enum { N = 40 };
	static struct noted w[N], s[N];
	static char buf[N][64];
	struct faulty_nth nth = {.kinds = 1u << BATCHIO_WRITE,
		.fd = -1,
		.from = 7 * 64,
		.to = 8 * 64,
		.first = 1,
		.verdict = FAULTY_FAIL,
		.fault = {.error = -EIO}};
	int fd = scratch_file();
	FAULTY_HANDLE(bio, &nth);

	for (int i = 0; i < N; i++) {
		noted_io(&w[i], BATCHIO_WRITE, fd, buf[i], 64, i * 64);
		w[i].req.flags = BATCHIO_LINK;
		noted_sync(&s[i], BATCHIO_FDATASYNC, fd);
		CHECK_EQ(batchio_submit(bio, &w[i].req), 0);
		CHECK_EQ(batchio_submit(bio, &s[i].req), 0);
	}
	CHECK_EQ(reap_all(bio), 0);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(w[i].result, i == 7 ? -EIO : 64);
		CHECK_EQ(s[i].result, i == 7 ? -ECANCELED : 0);
		CHECK(w[i].order < s[i].order);
	}
	batchio_close(bio);
	close(fd);
}

int main(int argc, char **argv)
{
	static const char *const variants[] = {
		"standard", "uring", "uring-single", "uring-tiny", NULL};
	const char *child = getenv("BATCHIO_LINKED_CHILD");

	self = argv[0];
	if (child)
		return argc == 2 ? child_main(child, argv[1]) : 4;
	return test_run_all(argc, argv, variants);
}
