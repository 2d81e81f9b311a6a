#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# A mount's life: a long one costs no more than a short one; however it ends (unmounted, lazily, by a signal, killed, aborted)
# and whatever load it is under, what was acknowledged is in the source.
#
# limit: 400
# test-limit: 200
# ring

load ../support/helpers

APPEND=$BUILD/tests/append_tool
OVERLAP=$BUILD/tests/overlap_tool

setup() {
	default_setup
	LOAD=()
}

teardown() {
	local pid
	for pid in "${LOAD[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
	default_teardown
}

# Four appenders, and four who overwrite the same blocks with direct I/O, at $MNT until end_load or load_fails. What was
# acknowledged is in $WORK/appended and $WORK/overwritten. What an exclusive mount's kernel gathers is lost with the daemon, as
# with a machine, unless it was synced: where the end is to come suddenly, the appenders sync there.
start_load() { # [sudden]
	HOW=() END=torn
	if [[ ${1:-} == sudden && $(stat_of sharing) == exclusive ]]; then HOW=(sync) END=lost; fi
	# LeakSanitizer waits for ever when a signal comes while it stops its process: end_load sends one.
	local ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0
	export ASAN_OPTIONS
	touch "$SRC/log"
	timeout 120 "$APPEND" append "$MNT/log" 4 0 "$WORK/appended" "${HOW[@]}" 2>"$WORK/append.err" 3>&- 4>&- &
	LOAD+=("$!")
	timeout 120 "$OVERLAP" write "$MNT/blocks" 64 4 0 "$WORK/overwritten" direct 2>"$WORK/overlap.err" 3>&- 4>&- &
	LOAD+=("$!")
	for _ in {1..100}; do
		if [[ $(stat -c %s "$SRC/log") -gt 100000 && $(stat -c %s "$SRC/blocks" 2>/dev/null) == 262144 ]]; then break; fi
		sleep 0.05
	done
	sleep 0.5
}

# Asks the writers to stop after their current write; fails if one of them had an error.
end_load() {
	local pid status=0
	for pid in "${LOAD[@]}"; do kill -TERM "$pid"; done
	wait_load || status=1
	cat "$WORK"/append.err "$WORK"/overlap.err
	return $status
}

wait_load() {
	local pid status=0
	for pid in "${LOAD[@]}"; do wait "$pid" || status=1; done
	LOAD=()
	return $status
}

# Waits for the writers, each of which must end with an error of its own (and not by a signal).
load_fails() {
	local pid status
	for pid in "${LOAD[@]}"; do
		status=0
		wait "$pid" || status=$?
		[[ $status == 1 ]] || return
	done
	LOAD=()
}

acknowledged_is_in_the_source() { # [torn|lost]
	local records
	records=$("$APPEND" verify "$SRC/log" "$WORK/appended" "$@")
	echo "$records records"
	[[ $records -gt 10 ]] && "$OVERLAP" verify "$SRC/blocks" "$WORK/overwritten"
}

# ---- A long life ----

# What a program asks of a file system, over and over.
use_it() { # ROUNDS
	within 100 bash -c '
		cd "$1" || exit
		for ((i = 0; i < $2; i++)); do
			echo "$i" >"file$((i % 50))"
			read -r line <"file$((i % 50))"
			[[ $line == "$i" && ! -e "none$i" ]] || exit
			for name in *; do [[ -e $name ]]; done
		done
		rm -f file*' - "$MNT" "$1"
}

keeps_nothing() { # ROUNDS MOUNT-OPTION...
	local fds rss after most=112640 rounds=$1
	shift
	mount_fs "$@"
	use_it 200
	within 60 bash -c 'for i in {1..200}; do mkdir -p "$1/d$i" && mv "$1/d$i" "$1/e$i" && rmdir "$1/e$i"; done' - "$MNT"
	within 10 "$BATCHIOFS" stats "$MNT" >/dev/null
	sleep 1
	fds=$(find "/proc/$WORKER/fd" -type l | wc -l)
	rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$WORKER/status")
	if [[ $* == nosupervise ]]; then most=$((rss + rss / 10 + 1024)); fi
	use_it "$rounds"
	for _ in {1..50}; do within 10 "$BATCHIOFS" stats "$MNT" >/dev/null; done
	for _ in {1..50}; do
		if [[ $(find "/proc/$WORKER/fd" -type l | wc -l) -le $((fds + 5)) ]]; then break; fi
		sleep 0.1
	done
	after=$(awk '/^VmRSS/ { print $2 }' "/proc/$WORKER/status")
	echo "before: $fds descriptors, $rss kB; after: $(find "/proc/$WORKER/fd" -type l | wc -l) and $after kB"
	[ "$(find "/proc/$WORKER/fd" -type l | wc -l)" -le $((fds + 5)) ]
	[ "$(stat_of handles.open)" = 0 ]
	umount_fs
	# A sanitizer keeps freed memory for a while.
	grep -qs -e -fsanitize "$BUILD/flags" || ((after <= most))
}

@test "a long-living daemon keeps neither descriptors nor memory" {
	keeps_nothing 2000 nosupervise
}

# The buffers that it has used stay: 88 MiB at most.
@test "a long-living worker keeps no descriptors, and its memory is bounded" {
	keeps_nothing 400
}

# ---- Ends ----

@test "umount under load: refused while in use; afterwards every acknowledged byte is in the source" {
	mount_fs
	start_load
	run ! within 30 "$BATCHIOFS" umount "$MNT"
	[[ $output == *busy* ]]
	is_mounted "$MNT"
	end_load
	umount_fs
	acknowledged_is_in_the_source
}

@test "umount at once after the last write: nothing is in flight any more, the file system below can go" {
	local image=$WORK/disk.img round
	requires_root
	requires mkfs.ext4
	truncate -s 64M "$image"
	mkfs.ext4 -q -F "$image"
	for round in 1 2 3; do
		mount -t ext4 -o loop "$image" "$SRC" || skip "no loop devices here"
		mount_fs
		within 30 dd if=/dev/zero of="$MNT/file$round" bs=1M count=10 status=none
		within 30 "$BATCHIOFS" umount "$MNT"
		within 30 umount "$SRC"
	done
	# The plain call as well, without our help, and mounted over itself.
	mount -t ext4 -o loop "$image" "$SRC"
	[ "$(stat -c %s "$SRC/file3")" = 10485760 ]
	within 30 "$BATCHIOFS" "$SRC" "$SRC" -o "backend=$BACKEND" 3>&- 4>&- </dev/null
	within 30 dd if=/dev/zero of="$SRC/file4" bs=1M count=10 status=none
	within 30 umount -i "$SRC"
	wait_no_daemon "$SRC" 10
	[ "$(stat -c %s "$SRC/file4")" = 10485760 ]
	within 30 umount "$SRC"
}

@test "umount -l under load: writers go on, and what they were told is in the source" {
	mount_fs
	start_load
	within 30 "$BATCHIOFS" umount -l "$MNT"
	run ! is_mounted "$MNT"
	sleep 0.5
	end_load
	wait_no_daemon "$WORK" 20
	acknowledged_is_in_the_source
}

@test "SIGTERM under load: detached at once, ended with the last writer, nothing acknowledged is lost" {
	mount_fs
	start_load
	kill -TERM "$DAEMON"
	for _ in {1..100}; do
		is_mounted "$MNT" || break
		sleep 0.1
	done
	run ! is_mounted "$MNT"
	[ -d "/proc/$DAEMON" ]
	end_load
	wait_no_daemon "$WORK" 20
	acknowledged_is_in_the_source
}

@test "SIGTERM with nobody there ends the mount" {
	mount_fs
	within 10 sh -c 'echo hello >"$1/file"' - "$MNT"
	kill -TERM "$DAEMON"
	wait_no_daemon "$WORK" 20
	run ! is_mounted "$MNT"
	[ "$(cat "$SRC/file")" = hello ]
}

@test "a second SIGTERM ends it at once: writers get an error, nothing acknowledged is lost" {
	mount_fs
	start_load sudden
	kill -TERM "$DAEMON"
	for _ in {1..100}; do
		is_mounted "$MNT" || break
		sleep 0.1
	done
	kill -TERM "$DAEMON"
	wait_no_daemon "$MNT" 20 || [ ! -d "/proc/$DAEMON" ]
	load_fails
	acknowledged_is_in_the_source "$END"
}

@test "SIGKILL under load: ENOTCONN for whoever is there, umount, and a new mount with all that was acknowledged" {
	mount_fs nosupervise
	start_load sudden
	kill -KILL "$DAEMON"
	load_fails
	run ! within 10 ls "$MNT"
	[[ $output == *'Transport endpoint is not connected'* ]]
	is_mounted "$MNT"
	within 30 "$BATCHIOFS" umount "$MNT"
	run ! is_mounted "$MNT"
	acknowledged_is_in_the_source "$END"
	mount_fs
	within 60 "$APPEND" verify "$MNT/log" "$WORK/appended" "$END"
}

@test "a connection aborted in fusectl under load leaves no mount and no daemon" {
	requires_root
	mkdir "$WORK/fusectl"
	mount -t fusectl fusectl "$WORK/fusectl"
	mount_fs
	start_load sudden
	echo 1 >"$WORK/fusectl/$(within 10 stat -c %d "$MNT")/abort"
	load_fails
	wait_no_daemon "$WORK" 20
	run ! is_mounted "$MNT"
	acknowledged_is_in_the_source "$END"
}

# The kernel gives the numbers of the first mount to the second while the first one's daemon still closes its files.
@test "a daemon that ends late leaves the next mount at its place alone" {
	local file
	for _ in {1..4}; do
		mount_fs sharing=shared
		within 10 sh -c 'mkdir -p "$1/d" && cd "$1/d" && seq 300 | xargs touch' - "$MNT"
		exec {file}>"$MNT/open"
		within 10 "$BATCHIOFS" umount -l "$MNT"
		exec {file}>&-
		mount_fs sharing=shared
		for _ in {1..100}; do
			[[ $(daemons_below "$MNT" | grep -vcFx "$WORKER") == 1 ]] && break
			sleep 0.05
		done
		is_mounted "$MNT"
		[ "$(within 10 ls "$MNT/d" | wc -l)" = 300 ]
		umount_fs
	done
}

# ---- Two at once ----

@test "two mounts of one source see each other's changes once the timeouts are over" {
	local other=$WORK/other first=$MNT
	mkdir "$other"
	mount_fs sharing=shared,attr_timeout=0.2,entry_timeout=0.2
	mount_fs --at "$other" sharing=shared,attr_timeout=0.2,entry_timeout=0.2
	within 10 sh -c 'echo one >"$1/file"; mkdir "$1/dir"' - "$first"
	[ "$(within 10 cat "$other/file")" = one ]
	[ ! -e "$first/later" ]
	within 10 sh -c 'echo two, longer >"$1/file"; mv "$1/dir" "$1/moved"; touch "$1/later"' - "$other"
	sleep 0.3
	[ "$(within 10 cat "$first/file")" = 'two, longer' ]
	[ "$(within 10 stat -c %s "$first/file")" = 12 ]
	[ "$(within 10 ls "$first")" = $'file\nlater\nmoved' ]
	[ ! -e "$first/dir" ]
	within 10 rm "$first/file"
	sleep 0.3
	run ! within 10 cat "$other/file"
	# Each has its own daemon and figures.
	[ "$(MNT=$first stat_of mountpoint)" = "$first" ]
	[ "$(MNT=$other stat_of mountpoint)" = "$other" ]
	umount_fs "$first"
	within 10 touch "$other/still"
	umount_fs "$other"
	[ -e "$SRC/still" ]
}
