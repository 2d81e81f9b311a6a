#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Locks: flock(2), POSIX and OFD. By default the kernel's own, among the users of the mount; with posix_locks and flock
# they are taken in the source too, and whoever locks there directly sees them.

load ../support/helpers

setup() {
	default_setup
	touch "$SRC/f"
	HELD=()
}

teardown() {
	release_all
	default_teardown
}

lock() { # VERB…
	within 20 "$BUILD/tests/lock_tool" "$@"
}

# Keeps a lock until release_all. Sets HOLDER.
hold() { # KIND TYPE FILE
	local out=$WORK/held.${#HELD[@]}
	: >"$out" # of an earlier holder
	"$BUILD/tests/lock_tool" hold "$@" >"$out" 2>&1 3>&- 4>&- &
	HOLDER=$!
	HELD+=("$HOLDER")
	until_true 10 grep -q held "$out"
}

# Waits for a lock in the background, its words in $WORK/waiter. Sets WAITER.
start_waiter() { # KIND TYPE FILE [SECONDS]
	: >"$WORK/waiter"
	"$BUILD/tests/lock_tool" wait "$@" >"$WORK/waiter" 2>&1 3>&- 4>&- &
	WAITER=$!
	HELD+=("$WAITER")
	until_true 10 grep -q waiting "$WORK/waiter"
	sleep 0.2
}

release_all() {
	local pid
	for pid in "${HELD[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
		builtin wait "$pid" 2>/dev/null || true
	done
	HELD=()
}

until_true() { # SECONDS COMMAND…
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		((SECONDS <= end)) || return 1
		sleep 0.02
	done
}

# The lock of KIND can be had by now: the end of a file's last user is told to the daemon in the background.
comes_free() { # KIND FILE
	until_true 10 lock try "$1" w "$2"
}

# What a waiter sees, in any mode: a turn, a signal, an alarm, the end of the owner.
waits_like_a_local_file() {
	local kind
	for kind in flock posix ofd; do
		hold "$kind" r "$MNT/f"
		lock try "$kind" r "$MNT/f"
		run -1 lock try "$kind" w "$MNT/f"

		start_waiter "$kind" w "$MNT/f"
		kill -INT "$WAITER"
		until_true 5 grep -q Interrupted "$WORK/waiter"

		run -0 lock wait "$kind" w "$MNT/f" 1
		[[ $output == *Interrupted* ]]

		start_waiter "$kind" w "$MNT/f"
		kill -KILL "$WAITER"
		until_true 5 eval "! kill -0 $WAITER 2>/dev/null"

		start_waiter "$kind" w "$MNT/f"
		[ "$(cat "$WORK/waiter")" = waiting ]
		kill -KILL "$HOLDER"
		until_true 5 grep -q got "$WORK/waiter"
		release_all
		comes_free "$kind" "$MNT/f"
	done
	run lock close posix "$MNT/f"
	[ "$output" = lost ]
	for kind in flock ofd; do
		run lock close "$kind" "$MNT/f"
		[ "$output" = kept ]
	done
	[ "$(lock reopen "$MNT/f")" = locked ]
	comes_free posix "$MNT/f"
	[ "$(lock test w "$MNT/f")" = free ]
	hold posix w "$MNT/f"
	[ "$(lock test r "$MNT/f")" = "$HOLDER" ]
}

@test "the kernel's locks: exclusion, waiting, signals, the end of an owner" {
	mount_fs
	waits_like_a_local_file
}

@test "forwarded locks: exclusion, waiting, signals, the end of an owner" {
	mount_fs posix_locks flock
	waits_like_a_local_file
}

@test "by default a lock in the source and one in the mount know nothing of each other" {
	mount_fs
	for kind in flock posix ofd; do
		hold "$kind" w "$MNT/f"
		lock try "$kind" w "$SRC/f"
		release_all
	done
}

@test "forwarded locks exclude who locks in the source, and the other way round" {
	mount_fs posix_locks flock
	for kind in flock posix ofd; do
		hold "$kind" w "$MNT/f"
		run -1 lock try "$kind" r "$SRC/f"
		release_all
		comes_free "$kind" "$SRC/f"

		hold "$kind" w "$SRC/f"
		run -1 lock try "$kind" r "$MNT/f"
		start_waiter "$kind" w "$MNT/f"
		[ "$(cat "$WORK/waiter")" = waiting ]
		kill -KILL "$HOLDER"
		until_true 5 grep -q got "$WORK/waiter"
		release_all
		comes_free "$kind" "$SRC/f"
	done
	# Whose it is can be asked, too.
	hold posix w "$SRC/f"
	[ "$(lock test r "$MNT/f")" = "$HOLDER" ]
}

@test "one of the options forwards its own kind only" {
	mount_fs flock
	hold flock w "$MNT/f"
	run -1 lock try flock w "$SRC/f"
	hold posix w "$MNT/f"
	lock try posix w "$SRC/f"
	release_all
	umount_fs
	mount_fs posix_locks
	hold posix w "$MNT/f"
	run -1 lock try posix w "$SRC/f"
	hold flock w "$MNT/f"
	lock try flock w "$SRC/f"
}

@test "a lock is gone with its file's last handle although the file was synced meanwhile" {
	mount_fs posix_locks flock
	within 20 perl -e 'use IO::Handle; use Fcntl ":flock"; open(F, "+<", $ARGV[0]) or die; flock(F, LOCK_EX) or die;
		print F "x" or die; F->flush; F->sync or die' "$MNT/f"
	comes_free flock "$SRC/f"
}

@test "waiting locks take no loop and no room from others, however many" {
	mount_fs posix_locks flock loops=1 queue_depth=8
	local kind out
	for kind in flock posix; do
		out=$WORK/many.$kind
		hold "$kind" w "$MNT/f"
		"$BUILD/tests/lock_tool" many "$kind" 200 "$MNT/f" >"$out" 2>&1 3>&- 4>&- &
		HELD+=("$!")
		until_true 20 eval '[ "$(stat_of locks.waiting)" = 200 ]'
		within 10 sh -c 'echo more >"$1/g"; cat "$1/g"; ls "$1"' - "$MNT"
		kill -KILL "$HOLDER"
		until_true 20 grep -qx 'got 200' "$out"
		release_all
		comes_free "$kind" "$SRC/f"
		[ "$(stat_of locks.waiting)" = 0 ]
		within 10 rm "$MNT/g"
	done
}

@test "the daemon ends although somebody waits for a lock" {
	mount_fs posix_locks flock
	hold flock w "$MNT/f"
	start_waiter flock w "$MNT/f"
	hold posix w "$MNT/f"
	start_waiter posix w "$MNT/f"
	kill -TERM "$DAEMON"
	until_true 10 eval '! is_mounted "$MNT"'
	kill -TERM "$DAEMON"
	until_true 10 eval '! kill -0 "$DAEMON" 2>/dev/null'
	until_true 5 grep -qv waiting "$WORK/waiter"
}
