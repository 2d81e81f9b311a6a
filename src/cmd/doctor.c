/* SPDX-License-Identifier: MIT */
/*
 * batchiofs doctor [SOURCE] [--json]: what this kernel, these rights and this source offer, what a
 * mount would choose, and what turns on what is missing. Called by main.c. Changes nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mountinfo.h"
#include "batchio/batchio.h"
#include "cmd/cmd.h"
#include "cmd/fuse_probe.h"
#include "cmd/json.h"
#include "fs/file_id.h"
#include "fs/remote.h"
#include "fs/watch.h"
#include "transport/abi.h"
#include "transport/ring.h"

/* Bits of INIT's flags that are asked about. */
#define INIT_BIT(upper) ((uint64_t)(upper) << 32)

enum verdict { YES, NO, UNKNOWN };

struct finding {
	const char *name;
	enum verdict verdict;
	char text[256]; /* what it is good for, or what is wrong */
	char cure[256]; /* what turns it on; "" for nothing to be done */
};

struct doctor {
	struct finding all[24];
	size_t n;
	const char *source; /* or NULL */
	int source_fd;
	bool root;
	bool uring, ring, resends, remote, watchable;
};

__attribute__((format(printf, 4, 5))) static struct finding *add(
	struct doctor *d, const char *name, enum verdict verdict, const char *format, ...)
{
	struct finding *finding = &d->all[d->n++];
	va_list ap;

	*finding = (struct finding){.name = name, .verdict = verdict};
	va_start(ap, format);
	vsnprintf(finding->text, sizeof(finding->text), format, ap);
	va_end(ap);
	return finding;
}

__attribute__((format(printf, 2, 3))) static void cure(
	struct finding *finding, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(finding->cure, sizeof(finding->cure), format, ap);
	va_end(ap);
}

/* ---- the machine ---- */

static void look_at_uring(struct doctor *d)
{
	struct batchio_error error = {0};
	struct batchio *bio = batchio_new_uring(256, 0, &error);
	FILE *switched = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	int value = switched ? fgetc(switched) : '0';

	if (switched)
		fclose(switched);
	d->uring = bio != NULL;
	batchio_close(bio);
	if (d->uring) {
		add(d, "io_uring", YES, "backend=uring (by %s)", batchio_uring_impl());
		return;
	}
	cure(add(d, "io_uring", NO, "%s; mounts take backend=standard", error.text), "%s",
		value == '1' || value == '2' ? "sysctl kernel.io_uring_disabled=0" : "");
}

static void look_at_fuse(struct doctor *d)
{
	struct fuse_probe probe;
	struct utsname name = {0};
	int error = fuse_probe(&probe);
	const char *missing = ring_missing();
	struct finding *finding;

	uname(&name);
	if (error) {
		finding = add(d, "fuse", access("/dev/fuse", R_OK | W_OK) ? NO : UNKNOWN,
			"Linux %s; its FUSE could not be asked: %s", name.release,
			strerror(-error));
		if (error == -ENOENT || error == -ENODEV)
			cure(finding, "modprobe fuse");
		if (error == -EACCES)
			cure(finding, "chmod 666 /dev/fuse, as udev does");
		return;
	}
	add(d, "fuse", YES, "Linux %s, protocol %u.%u", name.release, probe.major, probe.minor);
	d->ring = !missing && probe.flags & INIT_BIT(ABI_INIT2_OVER_IO_URING);
	finding = add(d, "fuse over io_uring", d->ring ? YES : NO, "%s",
		d->ring ? "transport=ring: small requests with fewer switches"
			: "transport=ring is not to be had: Linux 6.14, and its switch on, are "
			  "needed");
	if (missing && strstr(missing, "echo"))
		cure(finding, "echo Y >/sys/module/fuse/parameters/enable_uring");
	d->resends = probe.flags & INIT_BIT(ABI_INIT2_HAS_RESEND);
	add(d, "resend", d->resends ? YES : NO, "%s",
		d->resends ? "mounts outlive the process that serves them (supervise)"
			   : "a mount ends with the process that serves it; Linux 6.9 has it");
	add(d, "passthrough", probe.flags & INIT_BIT(ABI_INIT2_PASSTHROUGH) ? YES : NO, "%s",
		!(probe.flags & INIT_BIT(ABI_INIT2_PASSTHROUGH))
			? "-o passthrough is not to be had; Linux 6.9 with CONFIG_FUSE_PASSTHROUGH "
			  "has it"
		: d->root ? "-o passthrough: the kernel reads and writes the source itself"
			  : "-o passthrough, for root's mounts");
	add(d, "shared mappings of direct files",
		probe.flags & INIT_BIT(ABI_INIT2_DIRECT_IO_ALLOW_MMAP) ? YES : NO, "%s",
		probe.flags & INIT_BIT(ABI_INIT2_DIRECT_IO_ALLOW_MMAP)
			? "O_DIRECT goes past the cache, in parallel"
			: "files opened with O_DIRECT go through the cache; Linux 6.6 has it");
}

static void look_at_limits(struct doctor *d)
{
	struct rlimit files = {0}, size = {0};
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	struct finding *finding;

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_FSIZE, &size);
	finding = add(d, "descriptors", files.rlim_max >= 4096 ? YES : NO,
		"%llu (ulimit -Hn): half of them for known files, others are opened again as "
		"needed",
		(unsigned long long)files.rlim_max);
	if (files.rlim_max < 4096)
		cure(finding, "ulimit -n 65536, or LimitNOFILE= of the service");
	if (size.rlim_cur != RLIM_INFINITY)
		cure(add(d, "file size", NO,
			     "a limit of %llu bytes: larger writes answer EFBIG, and the mount "
			     "cannot be "
			     "upgraded",
			     (unsigned long long)size.rlim_cur),
			"ulimit -f unlimited");
	add(d, "memory", YES, "%ld MiB; a mount takes 5 to 130 MiB, and 135 bytes a known file",
		pages / 1024 * page / 1024);
	finding = add(d, "processors kept awake", access("/dev/cpu_dma_latency", W_OK) ? NO : YES,
		"%s",
		access("/dev/cpu_dma_latency", W_OK)
			? "idle=auto does nothing: /dev/cpu_dma_latency is not there, or root's"
			: "idle=auto: quicker where requests come one by one");
	if (!d->root && access("/dev/cpu_dma_latency", F_OK) == 0)
		cure(finding, "mount as root");
}

static void look_at_user(struct doctor *d)
{
	bool helper =
		access("/usr/bin/fusermount3", X_OK) == 0 || access("/bin/fusermount3", X_OK) == 0;

	if (d->root) {
		add(d, "rights", YES, "root: all users may use the mount, by permissions");
		return;
	}
	cure(add(d, "rights", helper ? YES : NO, "%s",
		     helper ? "an ordinary user mounts directories of his own, for himself"
			    : "an ordinary user needs fusermount3"),
		"%s", helper ? "" : "apt-get install fuse3");
}

/* ---- the source ---- */

static void look_at_watch(struct doctor *d)
{
	const char *why = watch_missing(d->source_fd);

	d->watchable = !why;
	add(d, "fanotify", why ? NO : YES, "%s%s",
		why ? "shared mounts keep names and attributes for a second only: "
		    : "shared mounts keep what they know until others change it",
		why ? why : "");
}

static void look_at_handles(struct doctor *d)
{
	_cleanup_fd int fd = -1;
	struct file_id id;
	int mount;
	int error = file_id_of(d->source_fd, &id, &mount);

	if (error < 0) {
		add(d, "file handles", NO,
			"this file system has none (%s): files are found again by name",
			strerror(-error));
		return;
	}
	fd = file_id_open(d->source_fd, &id);
	add(d, "file handles", fd < 0 ? NO : YES, "%s",
		fd < 0 ? "not for this user: files are found again by name"
		       : "more files than descriptors, at no cost");
}

static void look_at_source(struct doctor *d)
{
	_cleanup_free struct mount_entry *mount = malloc(sizeof(*mount));
	struct statx stx = {0};

	statx(d->source_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &stx);
	d->remote = remote_source(d->source_fd);
	add(d, "source", YES, "%s on %s%s", d->source,
		mount && !mountinfo_of_device(stx.stx_dev_major, stx.stx_dev_minor, mount)
			? mount->type
			: "an unlisted file system",
		d->remote ? ", which another host or a daemon serves" : "");
	look_at_watch(d);
	look_at_handles(d);
}

/* What the options' "auto" would come to. */
static void tell_choice(struct doctor *d)
{
	add(d, "over the source itself", YES, "backend=%s,sharing=%s,transport=dev%s",
		d->uring ? "uring" : "standard", d->remote ? "shared" : "exclusive",
		d->root && d->resends ? ",supervise" : "");
	add(d, "elsewhere", YES, "backend=%s,sharing=shared,transport=dev%s%s",
		d->uring ? "uring" : "standard", d->root && d->resends ? ",supervise" : "",
		d->source_fd < 0 ? ""
		: d->watchable   ? ", watched"
				 : ", not watched");
}

/* ---- telling ---- */

static const char *word_of(enum verdict verdict)
{
	return verdict == YES ? "yes" : verdict == NO ? "no" : "unknown";
}

static void print_table(const struct doctor *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct finding *finding = &d->all[i];

		printf("%-32s%-8s%s\n", finding->name, word_of(finding->verdict), finding->text);
		if (*finding->cure)
			printf("%-40s-> %s\n", "", finding->cure);
	}
}

static void print_json(const struct doctor *d)
{
	printf("[");
	for (size_t i = 0; i < d->n; i++) {
		const struct finding *finding = &d->all[i];

		printf("%s\n  {\"name\": ", i ? "," : "");
		json_string(stdout, finding->name);
		printf(", \"verdict\": \"%s\", \"text\": ", word_of(finding->verdict));
		json_string(stdout, finding->text);
		printf(", \"cure\": ");
		json_string(stdout, finding->cure);
		printf("}");
	}
	printf("\n]\n");
}

static int usage(const char *word)
{
	log_error("doctor: unexpected '%s'; usage: batchiofs doctor [SOURCE] [--json]", word);
	return EXIT_USAGE;
}

int cmd_doctor(int argc, char **argv)
{
	struct doctor d = {.source_fd = -1, .root = geteuid() == 0};
	_cleanup_fd int fd = -1;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			json = true;
		else if (argv[i][0] == '-' || d.source)
			return usage(argv[i]);
		else
			d.source = argv[i];
	}
	if (d.source) {
		d.source_fd = fd = open(d.source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0) {
			log_error("%s: %s; it must be a directory that you may read", d.source,
				strerror(errno));
			return EXIT_USAGE;
		}
	}
	look_at_user(&d);
	look_at_fuse(&d);
	look_at_uring(&d);
	look_at_limits(&d);
	if (d.source)
		look_at_source(&d);
	tell_choice(&d);
	if (json)
		print_json(&d);
	else
		print_table(&d);
	return EXIT_OK;
}
