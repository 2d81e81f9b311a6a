#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# A source that does not answer, or a part of it, stops those who touch it and nobody else; when it answers again
# everything goes on.

load ../support/helpers
load ../support/faulty

setup() {
	default_setup
	requires_root
	SLOW='' FROZEN='' WAITERS=()
}

teardown() {
	thaw
	[[ -z $FROZEN ]] || fsfreeze -u "$FROZEN" || true
	faulty_teardown umount -l
}

# A FUSE file system at DIR with 24 files, whose daemon can be stopped. Sets SLOW to its process id.
slow_source() { # DIR
	mkdir -p "$WORK/behind" "$1"
	(cd "$WORK/behind" && for i in $(seq 24); do echo "$i" >"f$i"; done)
	within 10 "$BUILD/tests/faultfs_tool" "$WORK/behind" "$1" 3>&- 4>&- </dev/null
	SLOW=$(pgrep -f "^$BUILD/tests/faultfs_tool $WORK/behind")
}

freeze() {
	kill -STOP "$SLOW"
}

thaw() {
	[[ -z $SLOW ]] || kill -CONT "$SLOW" 2>/dev/null || true
}

# Runs a command that will hang, in the background; its end is waited for by all_end.
hanging() { # COMMAND…
	timeout 60 "$@" >>"$WORK/hanging.out" 2>&1 3>&- 4>&- &
	WAITERS+=("$!")
}

none_ended() {
	local pid
	for pid in "${WAITERS[@]}"; do kill -0 "$pid" || return 1; done
}

all_end() {
	local pid
	for pid in "${WAITERS[@]}"; do builtin wait "$pid" || return 1; done
	WAITERS=()
}

# What others do meanwhile.
others_go_on() {
	local i
	for i in 1 2 3; do
		within 5 sh -c 'echo "$2" >"$1/new$2" && mkdir "$1/d$2" && mv "$1/new$2" "$1/d$2/" && ls "$1" >/dev/null &&
			[ "$(cat "$1/d$2/new$2")" = "$2" ] && sync "$1/d$2/new$2" && rm -r "$1/d$2"' - "$MNT" "$i"
	done
	within 5 "$BATCHIOFS" stats "$MNT" >/dev/null
}

@test "a frozen file system inside the source stops only those who touch it, however many" {
	local i
	slow_source "$SRC/slow"
	mount_fs loops=2
	within 5 stat "$MNT/slow" >/dev/null
	freeze
	for i in $(seq 20); do hanging stat "$MNT/slow/f$i"; done
	others_go_on
	for i in 21 22 23 24; do hanging sh -c 'echo more >>"$1"' - "$MNT/slow/f$i"; done
	others_go_on
	none_ended
	[ "$(stat_of loops_extra)" -gt 0 ]
	thaw
	all_end
	[ "$(cat "$WORK/behind/f24")" = $'24\nmore' ]
	# They go when they are not needed any more.
	for ((i = 0; i < 100; i++)); do
		[ "$(stat_of loops_extra)" != 0 ] || break
		sleep 0.1
	done
	[ "$(stat_of loops_extra)" = 0 ]
	others_go_on
}

@test "reads and syncs that the source delays stop nobody else" {
	slow_source "$SRC/slow"
	mount_fs loops=2
	printf '%s\n' 'read OK delay=4000' 'fsync OK delay=4000' >"$SRC/slow/.faultfs"
	hanging cat "$MNT/slow/f1"
	hanging cat "$MNT/slow/f2"
	hanging sync "$MNT/slow/f3"
	hanging sync "$MNT/slow/f4"
	sleep 0.3
	others_go_on
	none_ended
	all_end
}

# Each write a request of its own.
write_synced() { # FILE COUNT
	within 20 perl -MIO::Handle -e 'open(my $f, "+<", $ARGV[0]) or die "$!";
		for (1..$ARGV[1]) { sysseek($f, 0, 0); syswrite($f, "x" x 4096) == 4096 && $f->sync or die "$!" }' "$MNT/$1" "$2"
}

@test "where writes made a loop wait, another looks for requests beside the next" {
	slow_source "$SRC/slow"
	mount_fs loops=2
	echo 'write OK delay=20' >"$SRC/slow/.faultfs"
	write_synced slow/f1 12
	[ "$(stat_of waits.seen)" -ge 12 ]
	[ "$(stat_of waits.expected)" -ge 8 ]
}

@test "a frozen source answers stats, is detached at once, and is done with when it answers again" {
	slow_source "$SRC"
	mount_fs
	within 5 cat "$MNT/f1"
	freeze
	hanging stat "$MNT/f2"
	hanging stat "$MNT/f3"
	hanging stat "$MNT/f4"
	sleep 0.3
	within 5 "$BATCHIOFS" stats "$MNT" >/dev/null
	within 5 umount -l "$MNT"
	run ! is_mounted "$MNT"
	none_ended
	thaw
	all_end
	wait_no_daemon "$MNT" 10
}

@test "a disk file system that is frozen (fsfreeze) lets readers go on, and writers later" {
	local i
	requires fsfreeze
	make_loop ext4 64M
	mkdir "$SRC/w" "$SRC/r"
	echo hello >"$SRC/r/f"
	mount_fs loops=2
	# A FUSE mount's directory is locked by who waits in it.
	within 5 ls "$MNT/w" "$MNT/r" >/dev/null
	FROZEN=$SRC
	fsfreeze -f "$SRC"
	for i in $(seq 6); do hanging mkdir "$MNT/w/d$i"; done
	sleep 0.3
	[ "$(within 5 cat "$MNT/r/f")" = hello ]
	within 5 ls "$MNT/r" >/dev/null
	within 5 "$BATCHIOFS" stats "$MNT" >/dev/null
	none_ended
	fsfreeze -u "$SRC"
	FROZEN=''
	all_end
	[ "$(within 5 ls -d "$MNT"/w/d? | wc -l)" = 6 ]
}

@test "large writes that are stuck in a frozen file system inside the source leave room for others" {
	# With system calls each keeps a loop, of which there are 64 more.
	local i n=100
	[ "$BACKEND" = uring ] || n=50
	requires fsfreeze
	mkdir "$SRC/slow"
	make_loop ext4 300M "$SRC/slow"
	for i in $(seq "$n"); do dd if=/dev/zero of="$SRC/slow/f$i" bs=1M count=1 status=none; done
	mount_fs sharing=shared
	within 20 ls -l "$MNT/slow" "$MNT" >/dev/null
	# They are open when it freezes: what waits is data.
	mkfifo "$WORK/gate"
	for i in $(seq "$n"); do
		hanging sh -c '{ cat "$2" && head -c 1M /dev/zero; } | dd of="$1" bs=1M iflag=fullblock oflag=direct conv=notrunc' - \
			"$MNT/slow/f$i" "$WORK/gate"
	done
	for ((i = 0; i < 100; i++)); do
		[ "$(stat_of handles.open)" -lt "$n" ] || break
		sleep 0.1
	done
	[ "$(stat_of handles.open)" = "$n" ]
	FROZEN=$SRC/slow
	fsfreeze -f "$FROZEN"
	: >"$WORK/gate"
	sleep 2
	others_go_on
	none_ended
	fsfreeze -u "$FROZEN"
	FROZEN=''
	all_end
}
