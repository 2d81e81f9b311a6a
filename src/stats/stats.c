/* SPDX-License-Identifier: MIT */
/* Merging and printing of counters; see stats.h. */
#include "stats/stats.h"

#include <inttypes.h>

/* Names of FUSE opcodes, as the protocol numbers them. */
static const char *const opcode_names[STATS_OPCODES] = {
	[1] = "lookup",
	[2] = "forget",
	[3] = "getattr",
	[4] = "setattr",
	[5] = "readlink",
	[6] = "symlink",
	[8] = "mknod",
	[9] = "mkdir",
	[10] = "unlink",
	[11] = "rmdir",
	[12] = "rename",
	[13] = "link",
	[14] = "open",
	[15] = "read",
	[16] = "write",
	[17] = "statfs",
	[18] = "release",
	[20] = "fsync",
	[21] = "setxattr",
	[22] = "getxattr",
	[23] = "listxattr",
	[24] = "removexattr",
	[25] = "flush",
	[26] = "init",
	[27] = "opendir",
	[28] = "readdir",
	[29] = "releasedir",
	[30] = "fsyncdir",
	[31] = "getlk",
	[32] = "setlk",
	[33] = "setlkw",
	[34] = "access",
	[35] = "create",
	[36] = "interrupt",
	[37] = "bmap",
	[38] = "destroy",
	[39] = "ioctl",
	[40] = "poll",
	[41] = "notify_reply",
	[42] = "batch_forget",
	[43] = "fallocate",
	[44] = "readdirplus",
	[45] = "rename2",
	[46] = "lseek",
	[47] = "copy_file_range",
	[48] = "setupmapping",
	[49] = "removemapping",
	[50] = "syncfs",
	[51] = "tmpfile",
	[52] = "statx",
};

void stats_add_io(struct batchio_counters *sum, const struct batchio_counters *io)
{
	sum->enters += io->enters;
	sum->syscalls += io->syscalls;
	sum->ring_ops += io->ring_ops;
	sum->inline_ops += io->inline_ops;
	sum->reads += io->reads;
	sum->writes += io->writes;
	sum->syncs += io->syncs;
	sum->linked += io->linked;
	sum->continued += io->continued;
	sum->errors += io->errors;
}

void stats_add_loop(
	struct stats_sum *sum, const struct loop_stats *loop, const struct batchio_counters *io)
{
	const stat_counter *from = (const stat_counter *)loop;
	stat_counter *to = (stat_counter *)&sum->counters;

	/* The struct is nothing but counters, so a new one is merged without being named here. */
	for (size_t i = 0; i < sizeof(*loop) / sizeof(stat_counter); i++)
		stat_add(&to[i], stat_read(&from[i]));
	stats_add_io(&sum->io, io);
}

static void print_buckets(const char *name, const stat_counter *buckets, FILE *out)
{
	for (unsigned i = 0; i < STATS_BUCKETS; i++) {
		uint64_t low = 1ull << i;

		if (!stat_read(&buckets[i]))
			continue;
		fprintf(out, "%s.%" PRIu64, name, low);
		if (i == STATS_BUCKETS - 1)
			fprintf(out, "+");
		else if (i > 0)
			fprintf(out, "-%" PRIu64, 2 * low - 1);
		fprintf(out, " %" PRIu64 "\n", stat_read(&buckets[i]));
	}
}

void stats_print(const struct stats_sum *sum, FILE *out)
{
	const struct loop_stats *c = &sum->counters;
	const struct {
		const char *name;
		uint64_t value;
	} lines[] = {
		{"backend_calls.read", stat_read(&c->calls_read)},
		{"backend_calls.write", stat_read(&c->calls_write)},
		{"backend_calls.write_fsync", stat_read(&c->calls_write_sync)},
		{"backend_calls.fsync", stat_read(&c->calls_sync)},
		{"fsyncs.asked", stat_read(&c->syncs_asked)},
		{"fsyncs.issued", stat_read(&c->calls_sync) + stat_read(&c->calls_write_sync)},
		{"fsyncs.refused_failed_file", stat_read(&c->syncs_failed_file)},
		{"fsyncs.clean", stat_read(&c->syncs_clean)},
		{"fsyncs.joined", stat_read(&c->syncs_joined)},
		{"fsyncs.early", stat_read(&c->syncs_early)},
		{"cache.dropped", stat_read(&c->writes_dropped)},
		{"waits.seen", stat_read(&c->waits)},
		{"waits.expected", stat_read(&c->waits_expected)},
		{"waits.by_ring", stat_read(&c->waits_by_ring)},
		{"bytes.read", stat_read(&c->bytes_read)},
		{"bytes.written", stat_read(&c->bytes_written)},
		{"io.uring_enters", sum->io.enters},
		{"io.system_calls", sum->io.syscalls},
		{"io.ring_operations", sum->io.ring_ops},
		{"io.inline_operations", sum->io.inline_ops},
		{"io.continued", sum->io.continued},
		{"turns", stat_read(&c->turns)},
		{"errors", stat_read(&c->errors)},
		{"refused", stat_read(&c->refused)},
	};

	for (unsigned i = 0; i < STATS_OPCODES; i++)
		if (stat_read(&c->requests[i]))
			fprintf(out, "requests.%s %" PRIu64 "\n",
				opcode_names[i] ? opcode_names[i] : "other",
				stat_read(&c->requests[i]));
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		fprintf(out, "%s %" PRIu64 "\n", lines[i].name, lines[i].value);
	print_buckets("operations_per_call", c->call_ops, out);
	print_buckets("requests_per_turn", c->turn_size, out);
}
