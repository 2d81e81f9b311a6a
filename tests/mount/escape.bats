#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Names that change between directories, links out of the source, special files and nothing, beside the mount and
# through it, while programs use them: nothing outside is ever reached, and no special file is opened.
#
# TRIES=100000 is the long form; TRIES in the environment says how many are made.
#
# limit: 900
# test-limit: 600

load ../support/helpers

TRIES=${TRIES:-20000}

setup() {
	default_setup
	requires_root
	OUTSIDE=$WORK/outside
	mkdir "$OUTSIDE"
	for file in secret made moved linked symlink only-outside; do echo SECRET >"$OUTSIDE/$file"; done
	find "$OUTSIDE" -exec touch -d '2001-02-03 04:05:06' {} +
	BEFORE=$(state)
}

# Everything that a touch would change: of the directory all but its time of access, for we list it.
state() {
	find "$OUTSIDE" -type f -printf '%P %i %m %s %n %A@ %T@ %C@\n' -o -printf 'itself %i %m %s %n %T@ %C@\n' | sort
}

race() { # TRIES [follow]
	within 550 "$BUILD/tests/swap_tool" "$SRC" "$MNT" "$OUTSIDE" "$@"
}

untouched() {
	diff <(echo "$BEFORE") <(state)
}

@test "names that change while they are used lead nowhere else" {
	mount_fs sharing=shared
	race "$TRIES" | tee "$WORK/said"
	[[ $(tail -n 1 "$WORK/said") =~ ^$TRIES\ tries,\ of\ which\ ([0-9]+)\ worked,\ beside\ ([0-9]+)\ exchanges:\ 0\ escapes$ ]]
	# Neither did all of it fail, nor was there nothing to race with.
	((BASH_REMATCH[1] > TRIES / 20 && BASH_REMATCH[2] > TRIES / 100))
	untouched
	within 10 sh -c 'echo hello >"$1/file" && cat "$1/file"' - "$MNT"
}

@test "programs that follow the links themselves are seen, so that the test above says something" {
	mount_fs sharing=shared
	run ! race 5000 follow
	[[ $output == *ESCAPE* ]]
}
