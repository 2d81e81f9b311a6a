#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Random operations of every kind on two files, each checked against a model (support/fsx_tool.c). 100,000 for each
# backend over all modes (half of it in CI); FSX_OPS=1000000 in the environment makes it more, FSX_SEED another sequence.
#
# limit: 1800
# test-limit: 900
# ring

load ../support/helpers

# Runs OPERATIONS of MODE on a mount with OPTIONS, and looks at the source after the unmount.
fsx() { # MODE OPERATIONS [OPTION...]
	local mode=$1 operations=$2 name
	shift 2
	mount_fs "$@"
	mkdir "$WORK/model"
	within $((60 + operations / 400)) "$BUILD/tests/fsx_tool" --mode "$mode" --ops "$operations" \
		--seed "${FSX_SEED:-$operations}" --source "$SRC" --model "$WORK/model" "$MNT" >"$WORK/fsx"
	cat "$WORK/fsx"
	umount_fs
	for name in a b; do cmp "$WORK/model/$name" "$SRC/$name"; done
	# It did what it is for.
	for name in read write map_read map_write truncate fallocate copy sync seek reopen; do
		grep -qE " $name [1-9]" "$WORK/fsx"
	done
}

share() { # PERCENT
	echo $((${FSX_OPS:-$([[ ${CI:-} == true ]] && echo 50000 || echo 100000)} * $1 / 100))
}

@test "buffered" {
	fsx buffered "$(share 35)"
}

@test "direct" {
	fsx direct "$(share 30)"
}

@test "mixed: what one descriptor does directly, another sees at once, and the reverse" {
	fsx mixed "$(share 25)"
}

@test "without a page cache" {
	fsx mixed "$(share 5)" cache=none
}

@test "on an XFS source" {
	make_loop xfs 400M
	fsx mixed "$(share 5)"
}

@test "a byte that somebody else changes is noticed" {
	local tool result=0
	within 60 "$BUILD/tests/fsx_tool" --ops 10000000 "$SRC" 2>"$WORK/told" 3>&- 4>&- &
	tool=$!
	for _ in {1..1000}; do
		if ! kill -0 "$tool" 2>/dev/null; then break; fi
		printf '\0' | dd of="$SRC/a" bs=1 seek=$((RANDOM * 4)) conv=notrunc status=none
	done
	wait "$tool" || result=$?
	[ "$result" = 1 ]
	grep -qE '^operation [0-9]+: (size|read|afterwards|mapping)' "$WORK/told"
	grep -q '^again: fsx_tool --seed 1 --ops ' "$WORK/told"
}
