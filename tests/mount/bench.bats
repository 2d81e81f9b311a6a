#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# `batchiofs bench DIR`: it measures, and leaves nothing behind.
#
# once

load ../support/helpers

nothing_left() {
	[ -z "$(ls -A "$SRC")" ]
	[ -z "$(mounts_below "$SRC")" ]
	wait_no_daemon "$SRC" 10
}

@test "rows on the bare directory and on mounts, as a table and as JSON" {
	run -0 --separate-stderr within 100 "$BATCHIOFS" bench "$SRC" --rounds=1 --seconds=1 --mib=4 --json --rows=sync1,files,seqwrite
	echo "$output" >"$WORK/bench.json"
	for target in bare standard; do
		for row in sync1 files seqwrite; do
			[ "$(sqlite3 :memory: "SELECT json_extract(readfile('$WORK/bench.json'), '\$.rows.$row.$target') > 0")" = 1 ]
		done
	done
	nothing_left
}

@test "ended half-way it takes away its mounts and its directory" {
	timeout -k 5 60 "$BATCHIOFS" bench "$SRC" --rounds=9 --rows=sync1,files --seconds=1 --mib=4 >"$WORK/out" 2>&1 3>&- &
	pid=$!
	for _ in {1..300}; do
		[ -z "$(mounts_below "$SRC")" ] || break
		sleep 0.1
	done
	[ -n "$(mounts_below "$SRC")" ]
	kill -TERM "$pid"
	wait "$pid" || true
	nothing_left
}

@test "what it cannot do it says" {
	run -1 --separate-stderr "$BATCHIOFS" bench
	[[ $stderr == *usage* ]]
	run -1 --separate-stderr "$BATCHIOFS" bench "$WORK/nowhere"
	[[ $stderr == *"$WORK/nowhere"* ]]
	run -1 --separate-stderr "$BATCHIOFS" bench "$SRC" --rounds=many
	[[ $stderr == *--rounds=many*1*100* ]]
	run -1 --separate-stderr "$BATCHIOFS" bench "$SRC" --rows=sync1,nonsense
	[[ $stderr == *nonsense*sync16one* ]]
	run -1 --separate-stderr "$BATCHIOFS" bench "$SRC" --mib=1000000
	[[ $stderr == *"$SRC"*MiB* ]]
	nothing_left
}
