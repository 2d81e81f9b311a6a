/* SPDX-License-Identifier: MIT */
/* The table of options; see options.h. */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

enum kind {
	CHOICE, /* =word of `words`, stored as its index */
	NUMBER, /* =whole number, min to max */
	SECONDS, /* =seconds, a decimal number */
	FLAG, /* no value; sets a bool */
	KERNEL, /* handed on to libfuse and the kernel, with its value if it has one */
	IGNORED, /* mount(8)'s and fstab's own */
};

struct option_def {
	const char *name; /* with a '*' at its end: a prefix */
	enum kind kind;
	size_t offset; /* in struct options */
	unsigned min, max;
	const char *const *words; /* CHOICE; NULL at the end */
	const char *help;
};

static const char *const backend_words[] = {"auto", "uring", "standard", NULL};
static const char *const sharing_words[] = {"auto", "exclusive", "shared", NULL};
static const char *const cache_words[] = {"auto", "writeback", "writethrough", "none", NULL};
static const char *const opens_words[] = {"auto", "none", "message", NULL};
static const char *const transport_words[] = {"auto", "dev", "ring", NULL};
static const char *const watch_words[] = {"auto", "none", NULL};
static const char *const idle_words[] = {"auto", "sleep", NULL};
static const char *const confine_words[] = {"auto", "none", NULL};
static const char *const fsync_words[] = {"strict", "data", NULL};

#define AT(field) offsetof(struct options, field)

static const struct option_def table[] = {
	{"backend", CHOICE, AT(backend), 0, 0, backend_words,
		"how the source is read and written: io_uring, system calls, or auto: io_uring "
		"where it can be had"},
	{"queue_depth", NUMBER, AT(queue_depth), 1, 4096, NULL,
		"requests at work at once, and entries of a ring (256)"},
	{"loops", NUMBER, AT(loops), 1, 64, NULL,
		"event loop threads (uring: one a processor, 2 to 4; standard: 8)"},
	{"sharing", CHOICE, AT(sharing), 0, 0, sharing_words,
		"exclusive: only this mount touches the source: caches are kept for good; shared: "
		"others may change it too (auto: exclusive over the source itself, else shared)"},
	{"cache", CHOICE, AT(cache), 0, 0, cache_words,
		"page cache of the mount: writeback: writes are gathered in it (exclusive mounts "
		"only); writethrough; none: every read and write reaches the source"},
	{"opens", CHOICE, AT(opens), 0, 0, opens_words,
		"message: each open is a request; none: opens and closes send nothing (exclusive "
		"mounts only)"},
	{"transport", CHOICE, AT(transport), 0, 0, transport_words,
		"how requests arrive: dev: by /dev/fuse; ring: by FUSE over io_uring, where the "
		"kernel has it (auto: dev)"},
	{"fsync", CHOICE, AT(fsync), 0, 0, fsync_words,
		"strict: fsync is fsync; data: fsync and fdatasync are both fdatasync"},
	{"watch", CHOICE, AT(watch), 0, 0, watch_words,
		"of shared mounts. auto: where fanotify can be had (root), the kernel keeps names, "
		"attributes and data until others change them in the source; none: for the "
		"timeouts"},
	{"idle", CHOICE, AT(idle), 0, 0, idle_words,
		"processors with nothing to do. auto: kept awake while requests come one after "
		"another (root; by /dev/cpu_dma_latency); sleep: left to the kernel"},
	{"confine", CHOICE, AT(confine), 0, 0, confine_words,
		"auto: the daemon gives up all that it does not need once it is mounted: paths out "
		"of the source, system calls, capabilities, the network; none: for debugging"},
	{"posix_locks", FLAG, AT(posix_locks), 0, 0, NULL,
		"record locks (fcntl) are taken in the source too, against those who lock there"},
	{"flock", FLAG, AT(flock), 0, 0, NULL,
		"flock(2) locks are taken in the source too, against those who lock there"},
	{"passthrough", FLAG, AT(passthrough), 0, 0, NULL,
		"the kernel reads and writes the source's files itself (Linux 6.9, root); fsyncs "
		"are "
		"still shared (not with sharing=exclusive)"},
	{"supervise", FLAG, AT(supervise), 0, 0, NULL,
		"the mount outlives the process that serves it: another one takes over (Linux "
		"6.9; root's mounts do, unless by transport=ring)"},
	{"nosupervise", FLAG, AT(nosupervise), 0, 0, NULL,
		"one process, with which the mount ends"},
	{"attr_timeout", SECONDS, AT(attr_timeout), 0, 0, NULL,
		"seconds that the kernel may keep attributes (shared: 1, for good where watched; "
		"exclusive: for good)"},
	{"entry_timeout", SECONDS, AT(entry_timeout), 0, 0, NULL,
		"seconds that the kernel may keep names (shared: 1, for good where watched; "
		"exclusive: for good)"},
	{"noallow_other", FLAG, AT(noallow_other), 0, 0, NULL,
		"only the mounting user has access; a mount by root is open to all, by "
		"permissions"},
	{"allow_other", KERNEL, 0, 0, 0, NULL, "open to other users, by permissions"},
	{"allow_root", KERNEL, 0, 0, 0, NULL, "open to root besides the mounting user"},
	{"default_permissions", KERNEL, 0, 0, 0, NULL, "the kernel checks permissions (always on)"},
	{"ro", KERNEL, 0, 0, 0, NULL, NULL},
	{"rw", KERNEL, 0, 0, 0, NULL, NULL},
	{"suid", KERNEL, 0, 0, 0, NULL, NULL},
	{"nosuid", KERNEL, 0, 0, 0, NULL, NULL},
	{"dev", KERNEL, 0, 0, 0, NULL, NULL},
	{"nodev", KERNEL, 0, 0, 0, NULL, NULL},
	{"exec", KERNEL, 0, 0, 0, NULL, NULL},
	{"noexec", KERNEL, 0, 0, 0, NULL, NULL},
	{"atime", KERNEL, 0, 0, 0, NULL, NULL},
	{"noatime", KERNEL, 0, 0, 0, NULL, NULL},
	{"sync", KERNEL, 0, 0, 0, NULL, NULL},
	{"async", KERNEL, 0, 0, 0, NULL, NULL},
	{"dirsync", KERNEL, 0, 0, 0, NULL, NULL},
	{"max_read", KERNEL, 0, 0, 0, NULL, NULL},
	{"fsname", KERNEL, 0, 0, 0, NULL, NULL},
	{"context", KERNEL, 0, 0, 0, NULL, NULL},
	{"fscontext", KERNEL, 0, 0, 0, NULL, NULL},
	{"defcontext", KERNEL, 0, 0, 0, NULL, NULL},
	{"rootcontext", KERNEL, 0, 0, 0, NULL, NULL},
	{"defaults", IGNORED, 0, 0, 0, NULL, NULL},
	{"auto", IGNORED, 0, 0, 0, NULL, NULL},
	{"noauto", IGNORED, 0, 0, 0, NULL, NULL},
	{"user", IGNORED, 0, 0, 0, NULL, NULL},
	{"nouser", IGNORED, 0, 0, 0, NULL, NULL},
	{"users", IGNORED, 0, 0, 0, NULL, NULL},
	{"owner", IGNORED, 0, 0, 0, NULL, NULL},
	{"group", IGNORED, 0, 0, 0, NULL, NULL},
	{"nofail", IGNORED, 0, 0, 0, NULL, NULL},
	{"_netdev", IGNORED, 0, 0, 0, NULL, NULL},
	/* Whose access times they are, the source's mount says. */
	{"relatime", IGNORED, 0, 0, 0, NULL, NULL},
	{"norelatime", IGNORED, 0, 0, 0, NULL, NULL},
	{"strictatime", IGNORED, 0, 0, 0, NULL, NULL},
	{"nostrictatime", IGNORED, 0, 0, 0, NULL, NULL},
	{"diratime", IGNORED, 0, 0, 0, NULL, NULL},
	{"nodiratime", IGNORED, 0, 0, 0, NULL, NULL},
	{"lazytime", IGNORED, 0, 0, 0, NULL, NULL},
	{"nolazytime", IGNORED, 0, 0, 0, NULL, NULL},
	{"comment", IGNORED, 0, 0, 0, NULL, NULL},
	{"x-*", IGNORED, 0, 0, 0, NULL, NULL},
	{"X-*", IGNORED, 0, 0, 0, NULL, NULL},
};

#define N_OPTIONS (sizeof(table) / sizeof(table[0]))

static const struct option_def *find(const char *name)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		size_t prefix = strlen(table[i].name) - 1;

		if (!strcmp(name, table[i].name) ||
			(table[i].name[prefix] == '*' && !strncmp(name, table[i].name, prefix)))
			return &table[i];
	}
	return NULL;
}

/* "a, b, c" of what is given, into text. */
static void append_word(char *text, size_t size, const char *word)
{
	size_t used = strlen(text);

	snprintf(text + used, size - used, "%s%s", used ? ", " : "", word);
}

static int unknown_option(const char *name)
{
	char known[1024] = "";

	for (size_t i = 0; i < N_OPTIONS; i++)
		if (table[i].kind != IGNORED)
			append_word(known, sizeof(known), table[i].name);
	log_error("unknown option '%s'; known are: %s", name, known);
	return -EINVAL;
}

static int set_choice(const struct option_def *def, const char *value, int *out)
{
	char words[256] = "";

	for (int i = 0; value && def->words[i]; i++) {
		if (!strcmp(value, def->words[i])) {
			*out = i;
			return 0;
		}
	}
	for (int i = 0; def->words[i]; i++)
		append_word(words, sizeof(words), def->words[i]);
	log_error("option %s: bad value '%s'; right are: %s", def->name, value ? value : "", words);
	return -EINVAL;
}

static int set_number(const struct option_def *def, const char *value, unsigned *out)
{
	char *end = NULL;
	unsigned long n = 0;

	errno = 0;
	if (value && *value >= '0' && *value <= '9')
		n = strtoul(value, &end, 10);
	if (!end || *end || errno || n < def->min || n > def->max) {
		log_error("option %s: bad value '%s'; right is a whole number from %u to %u",
			def->name, value ? value : "", def->min, def->max);
		return -EINVAL;
	}
	*out = (unsigned)n;
	return 0;
}

static int set_seconds(const struct option_def *def, const char *value, double *out)
{
	char *end = NULL;
	double n = -1;

	if (value && *value)
		n = strtod(value, &end);
	/* The largest that the kernel's clock takes without wrapping. */
	if (!end || *end || !isfinite(n) || n < 0 || n > 1e9) {
		log_error("option %s: bad value '%s'; right is a number of seconds from 0 to 1e9",
			def->name, value ? value : "");
		return -EINVAL;
	}
	*out = n;
	return 0;
}

static int no_memory(void)
{
	log_error("out of memory for the options");
	return -ENOMEM;
}

/* Hands a word on, commas and backslashes escaped as libfuse wants them. 0 or -ENOMEM. */
static int add_mount_option(struct options *options, const char *word)
{
	size_t used = options->mount_options ? strlen(options->mount_options) : 0;
	char *grown = realloc(options->mount_options, used + 2 * strlen(word) + 2);
	char *to;

	if (!grown)
		return no_memory();
	options->mount_options = grown;
	to = grown + used;
	if (used)
		*to++ = ',';
	for (; *word; word++) {
		if (*word == ',' || *word == '\\')
			*to++ = '\\';
		*to++ = *word;
	}
	*to = '\0';
	return 0;
}

/* One option, "name" or "name=value". */
static int set_option(struct options *options, char *word)
{
	char *value = strchr(word, '=');
	const struct option_def *def;
	void *field;

	if (value)
		*value++ = '\0';
	def = find(word);
	if (!def)
		return unknown_option(word);
	field = (char *)options + def->offset;
	switch (def->kind) {
	case CHOICE:
		return set_choice(def, value, field);
	case NUMBER:
		return set_number(def, value, field);
	case SECONDS:
		return set_seconds(def, value, field);
	case FLAG:
		*(bool *)field = true;
		if (!value)
			return 0;
		log_error("option %s takes no value, got '%s'", def->name, value);
		return -EINVAL;
	case KERNEL:
		if (value)
			value[-1] = '=';
		return add_mount_option(options, word);
	case IGNORED:
		break;
	}
	return 0;
}

/* The argument of -o: options between commas; a backslash takes the next character as it is. */
static int set_options(struct options *options, const char *list)
{
	char *word = malloc(strlen(list) + 1);
	int error = 0;

	if (!word)
		return no_memory();
	while (*list && !error) {
		size_t n = 0;

		for (; *list && *list != ','; list++) {
			if (*list == '\\' && list[1])
				list++;
			word[n++] = *list;
		}
		word[n] = '\0';
		list += *list == ',';
		if (n)
			error = set_option(options, word);
	}
	free(word);
	return error;
}

/* A word of the command line that begins with '-'. *next is what follows it; used where it takes an
 * argument. */
static int set_switch(struct options *options, const char *word, char ***next)
{
	if (!strncmp(word, "-o", 2)) {
		const char *list = word[2] ? word + 2 : **next ? *(*next)++ : NULL;

		if (list)
			return set_options(options, list);
		log_error("-o needs an argument: option[=value],…; see batchiofs --help");
		return -EINVAL;
	}
	if (!strcmp(word, "-f"))
		options->foreground = true;
	else if (!strcmp(word, "-h") || !strcmp(word, "--help"))
		options->help = true;
	else if (!strcmp(word, "-V") || !strcmp(word, "--version"))
		options->version = true;
	else {
		log_error(
			"unknown switch '%s'; known are: -o OPTIONS, -f, -h, --help, -V, --version",
			word);
		return -EINVAL;
	}
	return 0;
}

static int set_path(struct options *options, const char *word)
{
	if (!options->source)
		options->source = word;
	else if (!options->mountpoint)
		options->mountpoint = word;
	else {
		log_error(
			"unexpected argument '%s'; usage: batchiofs SOURCE MOUNTPOINT [-o OPTIONS]",
			word);
		return -EINVAL;
	}
	return 0;
}

int options_parse(struct options *options, int argc, char **argv)
{
	char **next = argv + 1;
	bool only_paths = false;
	int error = 0;

	(void)argc;
	memset(options, 0, sizeof(*options));
	options->argv = argv;
	options->queue_depth = 256;
	options->attr_timeout = options->entry_timeout = -1; /* not given */
	while (*next && !error) {
		const char *word = *next++;

		if (!only_paths && !strcmp(word, "--"))
			only_paths = true;
		else if (!only_paths && word[0] == '-' && word[1])
			error = set_switch(options, word, &next);
		else
			error = set_path(options, word);
	}
	if (error || options->help || options->version)
		return error;
	if (!options->mountpoint) {
		log_error("%s is missing; usage: batchiofs SOURCE MOUNTPOINT [-o OPTIONS]",
			options->source ? "MOUNTPOINT" : "SOURCE");
		return -EINVAL;
	}
	return 0;
}

void options_free(struct options *options)
{
	free(options->mount_options);
	options->mount_options = NULL;
}

/* ---- what does not go together ---- */

enum {
	HAS_EXCLUSIVE = 1 << 0,
	HAS_SHARED = 1 << 1,
	HAS_WRITEBACK = 1 << 2,
	HAS_OPENS_NONE = 1 << 3,
	HAS_POSIX_LOCKS = 1 << 4,
	HAS_FLOCK = 1 << 5,
	HAS_CACHE_NONE = 1 << 6,
	HAS_NO_ROOT = 1 << 7,
	HAS_PASSTHROUGH = 1 << 8,
	HAS_SUPERVISE = 1 << 9,
	HAS_RING = 1 << 10,
	HAS_NOSUPERVISE = 1 << 11,
};

/* The first that holds is told: those that no sharing would mend come first. */
static const struct {
	unsigned all; /* together */
	const char *message;
} contradictions[] = {
	{HAS_OPENS_NONE | HAS_POSIX_LOCKS,
		"opens=none does not go with posix_locks: without a message for each open and "
		"close there is nobody to hold a forwarded lock"},
	{HAS_OPENS_NONE | HAS_FLOCK,
		"opens=none does not go with flock: without a message for each open and close "
		"there is nobody to hold a forwarded lock"},
	{HAS_OPENS_NONE | HAS_CACHE_NONE,
		"opens=none does not go with cache=none: the answer to an open is what turns the "
		"cache off"},
	{HAS_OPENS_NONE | HAS_NO_ROOT,
		"opens=none needs root: an ordinary user's rights are checked at each open; "
		"opens=message does so"},
	{HAS_EXCLUSIVE | HAS_POSIX_LOCKS,
		"posix_locks does not go with sharing=exclusive: locks are forwarded for those who "
		"share the source"},
	{HAS_EXCLUSIVE | HAS_FLOCK,
		"flock does not go with sharing=exclusive: locks are forwarded for those who share "
		"the source"},
	{HAS_SUPERVISE | HAS_NOSUPERVISE,
		"supervise does not go with nosupervise: one of them is meant"},
	{HAS_SUPERVISE | HAS_RING,
		"supervise does not go with transport=ring: there the kernel hands out nothing "
		"again"},
	{HAS_PASSTHROUGH | HAS_NO_ROOT,
		"passthrough needs root: the kernel asks for CAP_SYS_ADMIN"},
	{HAS_PASSTHROUGH | HAS_WRITEBACK,
		"passthrough does not go with cache=writeback: its page cache is the source's"},
	{HAS_PASSTHROUGH | HAS_CACHE_NONE,
		"passthrough does not go with cache=none: its page cache is the source's"},
	{HAS_PASSTHROUGH | HAS_OPENS_NONE,
		"passthrough does not go with opens=none: the answer to an open is what passes the "
		"file on"},
	{HAS_PASSTHROUGH | HAS_EXCLUSIVE,
		"passthrough does not go with sharing=exclusive: what the kernel writes looks like "
		"changes by others there"},
	{HAS_SHARED | HAS_WRITEBACK,
		"cache=writeback does not go with sharing=shared: others would not see in the "
		"source what the page cache still gathers"},
	{HAS_SHARED | HAS_OPENS_NONE,
		"opens=none does not go with sharing=shared: changes by others are looked for when "
		"a file is opened"},
};

int options_check(const struct options *options, bool exclusive)
{
	unsigned has =
		(exclusive ? HAS_EXCLUSIVE : HAS_SHARED) |
		(options->cache == CACHE_WRITEBACK ? HAS_WRITEBACK : 0) |
		(options->opens == OPENS_NONE ? HAS_OPENS_NONE : 0) |
		(options->posix_locks ? HAS_POSIX_LOCKS : 0) | (options->flock ? HAS_FLOCK : 0) |
		(options->passthrough ? HAS_PASSTHROUGH : 0) |
		(options->supervise ? HAS_SUPERVISE : 0) |
		(options->nosupervise ? HAS_NOSUPERVISE : 0) |
		(options->transport == TRANSPORT_RING ? HAS_RING : 0) |
		(options->cache == CACHE_NONE ? HAS_CACHE_NONE : 0) | (geteuid() ? HAS_NO_ROOT : 0);

	for (size_t i = 0; i < sizeof(contradictions) / sizeof(contradictions[0]); i++) {
		unsigned all = contradictions[i].all;
		const char *because = "";

		if ((has & all) != all)
			continue;
		if (options->sharing == SHARING_AUTO && (all & HAS_SHARED))
			because = "; sharing=auto is shared unless over the source itself";
		log_error("%s%s", contradictions[i].message, because);
		return -EINVAL;
	}
	return 0;
}

/* ---- --help ---- */

static void help_option(const struct option_def *def, FILE *out)
{
	char left[64];
	char words[48] = "";

	for (int i = 0; def->words && def->words[i]; i++)
		snprintf(words + strlen(words), sizeof(words) - strlen(words), "%s%s", i ? "|" : "",
			def->words[i]);
	snprintf(left, sizeof(left), "%s%s%s", def->name,
		def->kind == CHOICE || def->kind == NUMBER || def->kind == SECONDS ? "=" : "",
		def->kind == NUMBER    ? "N"
		: def->kind == SECONDS ? "S"
				       : words);
	fprintf(out, "  %-31s %s\n", left, def->help);
}

void options_help(FILE *out)
{
	char kernel[512] = "";

	fprintf(out, "usage: batchiofs SOURCE MOUNTPOINT [-o OPTION[=VALUE],…] [-f]\n"
		     "       batchiofs stats MOUNTPOINT [--json | --prometheus | "
		     "--watch[=SECONDS]]\n"
		     "       batchiofs status [MOUNTPOINT] [--json]\n"
		     "       batchiofs doctor [SOURCE] [--json]\n"
		     "       batchiofs upgrade [--to PROGRAM] MOUNTPOINT\n"
		     "       batchiofs cleanup\n"
		     "       batchiofs umount [-l] [-f] MOUNTPOINT\n"
		     "       batchiofs bench DIR [--rounds=N] [--seconds=N] [--mib=N] "
		     "[--rows=NAME,…] [--json]\n"
		     "\n"
		     "Mounts a passthrough view of the directory SOURCE on MOUNTPOINT, which may "
		     "be SOURCE\n"
		     "itself; reads, writes and fsyncs go to it in batches.\n"
		     "\n"
		     "  -f             stay in the foreground\n"
		     "  -o OPTION,…    mount options, below\n"
		     "  -h, --help     this text\n"
		     "  -V, --version  the version\n"
		     "\n"
		     "options:\n");
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (table[i].help)
			help_option(&table[i], out);
		else if (table[i].kind == KERNEL)
			append_word(kernel, sizeof(kernel), table[i].name);
	}
	fprintf(out, "and as mount(8) and libfuse know them: %s\n", kernel);
	fprintf(out,
		"\nexit status as of mount(8): 0 success, 1 usage or permissions, 2 system error, "
		"32 mount failure\n");
}
