#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# What the other verbs say: doctor, status, cleanup, and the forms of stats for other programs.
#
# once

load ../support/helpers

json() { # FILE EXPRESSION
	sqlite3 :memory: "SELECT json_extract(readfile('$1'), '$2')"
}

@test "doctor: what this machine and a source offer, as a table and as JSON" {
	local finding
	run -0 --separate-stderr within 20 "$BATCHIOFS" doctor "$SRC"
	echo "$output"
	for finding in rights fuse io_uring descriptors memory source fanotify "over the source itself" elsewhere; do
		[[ $output == *"$finding"* ]]
	done
	[[ $output == *"$SRC on "* ]]
	within 20 "$BATCHIOFS" doctor "$SRC" --json >"$WORK/json"
	[ "$(sqlite3 :memory: "SELECT json_valid(readfile('$WORK/json')), json_array_length(readfile('$WORK/json')) > 10")" = '1|1' ]
	run -1 --separate-stderr within 5 "$BATCHIOFS" doctor "$WORK/nowhere"
	[[ $stderr == *"$WORK/nowhere"* ]]
	run -1 --separate-stderr within 5 "$BATCHIOFS" doctor "$SRC" extra
	[[ $stderr == *usage* ]]
	# It leaves nothing mounted.
	[ -z "$(mounts_below "$WORK")" ]
	run ! grep batchiofs-doctor /proc/self/mountinfo
}

@test "doctor tells what a mount would choose" {
	local choice
	requires_root
	choice=$(within 20 "$BATCHIOFS" doctor "$SRC" | sed -n 's/^elsewhere  *yes *//p')
	within 30 "$BATCHIOFS" "$SRC" "$MNT" 3>&- 4>&- </dev/null
	[[ $choice == "backend=$(stat_of backend),sharing=$(stat_of sharing),transport=$(stat_of transport)"* ]]
	[[ $choice != *,supervise* ]] || [ "$(stat_of worker_pid)" -gt 0 ]
	[[ $choice == *", watched"* ]] || [ "$(stat_of watch)" = none ]
	[[ $choice == *", not watched"* ]] || [ "$(stat_of watch)" = fanotify ]
	umount_fs
	choice=$(within 20 "$BATCHIOFS" doctor "$SRC" | sed -n 's/^over the source itself  *yes *//p')
	mount_fs auto --over
	[[ $choice == "backend=$(stat_of backend),sharing=$(stat_of sharing),transport=$(stat_of transport)"* ]]
}

@test "status: mounts and how they are; cleanup takes away the dead ones, and no other" {
	local living=$WORK/living
	requires_root
	mkdir "$living"
	mount_fs --at "$living" sharing=shared
	mount_fs --at "$WORK/mnt" sharing=shared nosupervise
	run -0 --separate-stderr within 20 "$BATCHIOFS" status "$MNT"
	echo "$output"
	[[ $output == "$MNT"$'\n'*"$SRC"*"health    well"*"sharing=shared"* ]]
	within 20 "$BATCHIOFS" status "$living" --json >"$WORK/json"
	[ "$(json "$WORK/json" '$[0].mountpoint')|$(json "$WORK/json" '$[0].health')" = "$living|well" ]
	[ "$(json "$WORK/json" '$[0].worker_restarts')" = 0 ]
	kill -KILL "$DAEMON"
	until ! kill -0 "$DAEMON" 2>/dev/null; do sleep 0.05; done
	run -2 --separate-stderr within 20 "$BATCHIOFS" status "$MNT"
	[[ $output == *"health    dead"* ]]
	within 20 "$BATCHIOFS" status --all --json >"$WORK/json" || [ $? = 2 ]
	[ "$(sqlite3 :memory: "SELECT json_extract(value, '\$.health') FROM json_each(readfile('$WORK/json'))
		WHERE json_extract(value, '\$.mountpoint') = '$MNT'")" = dead ]
	run -0 --separate-stderr within 20 "$BATCHIOFS" cleanup
	echo "$output"
	[[ $output == *"$MNT was dead, and is unmounted"* ]]
	[[ $output != *"$living"* ]]
	run ! is_mounted "$MNT"
	is_mounted "$living"
	within 10 touch "$living/file"
	umount_fs "$living"
	run -1 --separate-stderr within 5 "$BATCHIOFS" cleanup now
	[[ $stderr == *usage* ]]
}

@test "status says so when the daemon answers and the mount does not" {
	requires_root
	mount_fs nosupervise
	within 10 touch "$MNT/file"
	kill -STOP "$DAEMON"
	run -2 --separate-stderr within 30 "$BATCHIOFS" status "$MNT"
	kill -CONT "$DAEMON"
	echo "$output"
	[[ $output == *"does not answer"* ]]
	run -0 --separate-stderr within 30 "$BATCHIOFS" status "$MNT"
}

@test "stats for Prometheus: every line a metric of a type that was told, with its mount" {
	mount_fs
	within 10 sh -c 'echo x >"$1/file" && sync "$1/file" && cat "$1/file"' - "$MNT"
	within 10 "$BATCHIOFS" stats "$MNT" --prometheus >"$WORK/metrics"
	awk -v mount="mountpoint=\"$MNT\"" '
		/^# TYPE [a-z_]+ (counter|gauge)$/ { if (type[$3]++) { print "twice: " $3; exit 1 } next }
		/^[a-z_]+\{.*\} [0-9]+$/ { name = $0; sub(/\{.*/, "", name)
			if (!type[name]) { print "no type: " $0; exit 1 }
			if (!index($0, mount)) { print "no mount: " $0; exit 1 }
			next }
		{ print "neither: " $0; exit 1 }' "$WORK/metrics"
	grep -q '^batchiofs_requests_total{.*kind="write"} [1-9]' "$WORK/metrics"
	grep -q '^batchiofs_fsyncs_total{.*kind="asked"} 1' "$WORK/metrics"
	grep -q '^batchiofs_info{.*backend="'"$BACKEND"'"' "$WORK/metrics"
}

@test "stats --watch: a line a second, until the mount is gone" {
	local watch
	mount_fs
	within 30 "$BATCHIOFS" stats "$MNT" --watch=1 >"$WORK/lines" 2>&1 3>&- 4>&- &
	watch=$!
	for _ in {1..15}; do
		within 10 sh -c 'head -c 65536 /dev/zero >"$1/file" && sync "$1/file"' - "$MNT"
		sleep 0.2
	done
	umount_fs
	wait "$watch"
	cat "$WORK/lines"
	[ "$(grep -c '^[0-9][0-9]:' "$WORK/lines")" -ge 2 ]
	awk '/^[0-9][0-9]:/ && $7 > 0 { found = 1 } END { exit !found }' "$WORK/lines"
	run -1 --separate-stderr within 5 "$BATCHIOFS" stats "$MNT" --watch=0
	[[ $stderr == *usage* ]]
}
