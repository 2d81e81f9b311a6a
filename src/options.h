/* SPDX-License-Identifier: MIT */
/*
 * Mount options and the command line. For main.c only.
 *
 * One table says everything of an option: parsing, --help and the list in an error message come
 * from it.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

enum opt_backend { BACKEND_AUTO, BACKEND_URING, BACKEND_STANDARD };
enum opt_sharing { SHARING_AUTO, SHARING_EXCLUSIVE, SHARING_SHARED };
enum opt_cache { CACHE_AUTO, CACHE_WRITEBACK, CACHE_WRITETHROUGH, CACHE_NONE };
enum opt_opens { OPENS_AUTO, OPENS_NONE, OPENS_MESSAGE };
enum opt_transport { TRANSPORT_AUTO, TRANSPORT_DEV, TRANSPORT_RING };
enum opt_watch { WATCH_AUTO, WATCH_NONE };
enum opt_idle { IDLE_AUTO, IDLE_SLEEP };
enum opt_confine { CONFINE_AUTO, CONFINE_NONE };
enum opt_fsync { FSYNC_STRICT, FSYNC_DATA };

struct options {
	int backend; /* enum opt_… */
	int sharing;
	int cache;
	int opens;
	int transport;
	int fsync;
	int watch;
	int idle;
	int confine;
	unsigned queue_depth;
	unsigned loops; /* 0: the program chooses */
	double attr_timeout; /* negative: not given */
	double entry_timeout;
	bool foreground;
	bool help;
	bool version;
	bool posix_locks;
	bool flock;
	bool passthrough;
	bool supervise; /* neither: where it can be had, and it costs nothing else */
	bool nosupervise;
	bool noallow_other; /* root mounts allow others unless told not to */
	char **argv; /* all words */
	const char *source; /* of argv */
	const char *mountpoint;
	char *mount_options; /* comma-separated, for libfuse and the kernel; escaped as it wants it
			      */
};

/*
 * Fills options from the command line. 0, or -EINVAL with one line logged that names the word and
 * what would be right. Either way options_free() is to be called.
 */
int options_parse(struct options *options, int argc, char **argv);
void options_free(struct options *options);

/*
 * Do the options go together, now that sharing=auto is known to mean exclusive or shared? 0, or
 * -EINVAL with one line logged that names two that don't, and why.
 */
int options_check(const struct options *options, bool exclusive);

/* The usage text, with every option of the table. */
void options_help(FILE *out);

#endif
