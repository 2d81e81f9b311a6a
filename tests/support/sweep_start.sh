#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Starts the daemon of tests/mount/sweeps.bats again and again: each time the next of what a start asks for fails, or there
# is room for one descriptor more. A mount that comes serves and ends; a start that fails has said why, and left no mount
# and no process. Called by that file (its own shell is slow at loops), with its BATCHIOFS, BUILD, FAULTY_PLAN, SRC and MNT.
#
#   sweep_start.sh OPTIONS MOST memory|descriptor ERROR    OPTIONS for -o; about MOST numbers, 0: every one
#   sweep_start.sh OPTIONS MOST descriptor limit
#
# Prints a row as sweep_tool does: what, error, numbers, mounted, refused. Status 1: it was not so.
set -uo pipefail

# shellcheck source=tests/support/cleanup.sh
source "$(dirname "$0")/cleanup.sh"

OPTIONS=$1 MOST=$2 WHAT=$3 ERROR=$4
ERR=$FAULTY_PLAN.err

plan() { # N
	"$BUILD/tests/sweep_tool" plan "$FAULTY_PLAN" "$WHAT" "$ERROR" "$1"
}

seen() {
	"$BUILD/tests/sweep_tool" seen "$FAULTY_PLAN"
}

start() {
	timeout -k 5 20 "$BATCHIOFS" "$SRC" "$MNT" -o "$OPTIONS" </dev/null 2>"$ERR"
}

wrong() { # WHAT
	echo "$1, status $status: $(<"$ERR")"
	exit 1
}

# TIGHT: it may be told that there are no descriptors.
serves() {
	is_mounted "$MNT" || return
	if [[ $TIGHT ]] && ! timeout 10 cp "$0" "$MNT/file" 2>"$ERR"; then
		grep -q 'Too many open files' "$ERR" && timeout 30 "$BATCHIOFS" umount "$MNT"
		return
	fi
	TIGHT=
	timeout 10 cp "$0" "$MNT/file" && timeout 10 cmp "$0" "$MNT/file" && timeout 10 rm "$MNT/file" &&
		timeout 30 "$BATCHIOFS" umount "$MNT"
}

mounted=0 refused=0 TIGHT=
# Of the last start, which ended with status.
check() { # HOW
	if ((status == 0)); then
		serves || wrong "$1: the mount does not serve"
		mounted=$((mounted + 1))
	else
		[[ -s $ERR ]] || wrong "$1: no message"
		if ((status == 99)); then wrong "$1: the plan is missing"; fi
		if ((status >= 124)) || grep -q 'killed by signal' "$ERR"; then wrong "$1: it hangs or crashes"; fi
		refused=$((refused + 1))
	fi
	[[ -z $(mounts_below "$MNT") ]] || wrong "$1: a mount is left"
	wait_no_daemon "$MNT" 5 || wrong "$1: a process is left"
}

each_in_turn() {
	local n=1 last=0 step=1 misses=0 counted hits call status
	plan 0
	start
	status=$?
	read -r counted hits call < <(seen)
	check 'nothing fails'
	mounted=0
	if ((status || counted < 10)); then wrong "only $counted were counted"; fi
	if ((MOST && counted > MOST)); then step=$((counted / MOST)); fi
	while ((misses < 2)); do
		plan "$n"
		start
		status=$?
		read -r counted hits call < <(seen)
		check "number $n, $call"
		if ((hits)); then last=$n misses=0; else misses=$((misses + 1)) mounted=$((mounted - 1)); fi
		n=$((n + step))
	done
	echo "| start: $WHAT | $ERROR | 1-$last$( ((step == 1)) || echo ', some') | $mounted | $refused |"
}

with_room() {
	local limit=4 step=1 status=1
	"$BUILD/tests/sweep_tool" plan "$FAULTY_PLAN" "$WHAT" EMFILE 0
	if ((MOST)); then step=9; fi
	TIGHT=1
	while [[ $TIGHT ]] && ((limit < 1000)); do
		(ulimit -n "$limit" && start)
		status=$?
		check "ulimit -n $limit"
		limit=$((limit + step))
	done
	if [[ $TIGHT ]]; then wrong "no mount with $limit descriptors"; fi
	echo "| start: $WHAT | $ERROR | 4-$((limit - step))$( ((step == 1)) || echo ', some') | $mounted | $refused |"
}

if [[ $ERROR == limit ]]; then with_room; else each_in_turn; fi
