/* SPDX-License-Identifier: MIT */
/* What the control socket answers to `batchiofs stats`; see report.h. */
#include "report.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/clock.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/lock.h"
#include "fs/outside.h"
#include "fs/watch.h"
#include "supervise/supervise.h"

static void write_board(FILE *out, const struct supervise_board *board)
{
	fprintf(out,
		"supervisor_pid %d\nworker_pid %d\nworker_restarts %u\nupgrades %u\n"
		"takeover.last_microseconds %" PRId64 "\ntakeover.longest_microseconds %" PRId64
		"\n",
		atomic_load(&board->supervisor), getpid(), atomic_load(&board->restarts),
		atomic_load(&board->upgrades), atomic_load(&board->pause_ns) / 1000,
		atomic_load(&board->longest_ns) / 1000);
}

void report(FILE *out, const struct report *r)
{
	struct fs *fs = r->fs;
	struct inode_usage inodes;
	struct watch_usage watch;
	struct stats_sum sum;

	loop_group_stats(&fs->loops, &sum);
	inode_get_usage(fs->inodes, &inodes);
	watch_get_usage(fs->watch, &watch);
	fprintf(out, "version %s\nsource %s\nmountpoint %s\nbackend %s\ntransport %s\n",
		BATCHIOFS_VERSION, r->source, r->mountpoint, r->uring ? "uring" : "standard",
		loop_group_transport(&fs->loops));
	fprintf(out,
		"sharing %s\nwatch %s\nfsync %s\nloops %u\nloops_extra %u\nqueue_depth %u\n"
		"confined %s\npid %d\nuptime_seconds %" PRId64 "\n",
		r->exclusive ? "exclusive" : "shared", watch.active ? "fanotify" : "none",
		r->options->fsync == FSYNC_DATA ? "data" : "strict", r->loops,
		atomic_load(&fs->loops.extra), r->options->queue_depth, r->confined,
		r->board ? atomic_load(&r->board->supervisor) : getpid(),
		(clock_ns() - (r->board ? atomic_load(&r->board->mounted_at) : r->mounted_at)) /
			1000000000);
	if (r->board)
		write_board(out, r->board);
	fprintf(out,
		"inodes.known %" PRIu64 "\ninodes.forgotten %" PRIu64
		"\ninodes.descriptors %" PRIu64 "\ninodes.bytes_each %" PRIu64
		"\ninodes.reopened %" PRIu64 "\ninodes.reopened_by_name %" PRIu64 "\n",
		inodes.inodes, inodes.forgotten, inodes.fds, inodes.bytes_per_inode,
		inodes.reopened, inodes.reopened_by_name);
	fprintf(out, "awake.times %" PRIu64 "\nawake.milliseconds %" PRIu64 "\n",
		(uint64_t)atomic_load(&fs->loops.awake.holds),
		(uint64_t)atomic_load(&fs->loops.awake.held_ns) / 1000000);
	fprintf(out, "passthrough %s\n", atomic_load(&fs->passthrough) ? "yes" : "no");
	fprintf(out, "files.kept %" PRIu64 "\noutside_changes %" PRIu64 "\n",
		file_count_kept(fs->files), outside_count(fs));
	fprintf(out, "handles.open %" PRIu64 "\nlocks.waiting %" PRIu64 "\n",
		handle_count(fs->handles), locks_waiting(fs->locks));
	fprintf(out,
		"watched.events %" PRIu64 "\nwatched.own %" PRIu64 "\nwatched.elsewhere %" PRIu64
		"\nwatched.invalidations %" PRIu64 "\nwatched.overflows %" PRIu64 "\n",
		watch.events, watch.own, watch.elsewhere, watch.invalidations, watch.overflows);
	stats_print(&sum, out);
}
