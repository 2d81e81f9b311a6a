#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# What an exclusive mount expects of its programs from what they did before: a sync after each write, whose flush then begins
# early; questions about each file of a directory, which a new listing then answers at once. A wrong guess costs little, and no
# error is lost by it.
#
# sharing: exclusive
# ci: exclusive
# ring

load ../support/helpers
load ../support/faulty

# Lines for posix_tool: COUNT writes to H from block FIRST on, each followed by SYNC (`true`: by none).
writes() { # H COUNT SYNC [FIRST]
	local i
	for ((i = ${4:-0}; i < ${4:-0} + $2; i++)); do
		echo "write $1 $((i * 4096)) 4096 $(printf '%b' "\\x$(printf %x $((97 + i % 26)))") -> 4096"
		[[ $3 == true ]] || echo "$3 $1 -> ok"
	done
}

@test "a file that is synced after each write: the flush begins with the write, and the sync joins it" {
	local sync
	mount_fs
	for sync in fdatasync fsync; do
		expect < <(echo "open f $MNT/$sync rdwr,creat -> ok" && writes f 40 "$sync")
	done
	[ "$(stat_of fsyncs.asked)" = 80 ]
	# The first few are needed to see the habit; on a busy machine the sync may be there before its flush has begun.
	[ "$(stat_of fsyncs.early)" -ge 10 ]
	[ "$(($(stat_of fsyncs.joined) + $(stat_of fsyncs.clean)))" -ge 10 ]
	# Nothing is flushed twice.
	[ "$(stat_of fsyncs.issued)" -le 100 ]
	[ "$(within 5 stat -c %s "$SRC/fsync")" = $((40 * 4096)) ]
	cmp "$SRC/fsync" "$SRC/fdatasync"
}

@test "a habit that is given up costs one flush" {
	local early
	mount_fs
	expect < <(echo "open f $MNT/f rdwr,creat -> ok" && writes f 20 fsync)
	early=$(stat_of fsyncs.early)
	[ "$early" -gt 0 ]
	# Each close writes back; nobody asks for a sync any more.
	for i in {1..20}; do within 5 sh -c 'echo "$2" >>"$1/f"' - "$MNT" "$i"; done
	[ "$(stat_of fsyncs.early)" -le $((early + 1)) ]
}

@test "new files that are each synced when written; new files that are not, after them" {
	local early
	mount_fs
	for i in {1..20}; do
		expect < <(echo "open j $MNT/j$i rdwr,creat -> ok" && writes j 1 fsync)
	done
	early=$(stat_of fsyncs.early)
	[ "$early" -ge 3 ]
	# Of the kind that is asked for: none is flushed a second time.
	[ "$(stat_of fsyncs.issued)" -le $((20 + early / 2)) ]
	for i in {1..50}; do echo "$i" >"$MNT/k$i"; done
	[ "$(stat_of fsyncs.early)" -le $((early + 2)) ]
}

@test "a flush that began early and failed: the sync says so, and each later one" {
	requires_root
	faulty_source
	mount_fs
	expect < <(echo "open f $MNT/f rdwr,creat -> ok" && writes f 20 fsync)
	[ "$(stat_of fsyncs.early)" -gt 0 ]
	fault 'fsync EIO file=f count=1'
	expect <<-END
		open f $MNT/f rdwr -> ok
		open g $MNT/f rdwr -> ok
		write f 0 4096 x -> 4096
		fsync f -> EIO
		fsync g -> EIO
		write g 4096 4096 y -> 4096
		fsync g -> EIO
		fsync f -> EIO
	END
}

@test "grep -r again and again asks by the directory, not by the file; then a walk asks nothing again" {
	local before d i asked
	for d in {1..5}; do
		mkdir "$SRC/d$d"
		for i in {1..50}; do echo "$i" >"$SRC/d$d/f$i"; done
	done
	mount_fs
	total() { within 10 "$BATCHIOFS" stats "$MNT" --json >"$WORK/json" && sqlite3 :memory: \
		"SELECT sum(value) FROM json_each(readfile('$WORK/json'), '\$.requests') WHERE key NOT IN ('forget', 'batch_forget', 'statfs')"; }
	# The kernel is told from another thread, after the answer.
	pass() { within 20 grep -r none "$MNT" || true; sleep 0.05; }
	pass
	# The files were read: already the next pass asks by the directory.
	before=$(total)
	pass
	asked=$(($(total) - before))
	echo "the second pass over 250 files: $asked requests"
	[ "$asked" -le 60 ]
	before=$(total)
	for _ in {1..12}; do pass; done
	asked=$(($(total) - before))
	echo "12 passes over 250 files: $asked requests"
	# One pass in four asks for each file.
	[ "$asked" -le 1500 ]
	for _ in {1..8}; do
		within 20 find "$MNT" -newer "$MNT" -type f >/dev/null
		sleep 0.05
	done
	before=$(total)
	within 20 find "$MNT" -newer "$MNT" -type f >/dev/null
	[ "$(total)" = "$before" ]
}
