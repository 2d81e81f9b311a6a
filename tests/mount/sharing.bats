#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# sharing=auto|exclusive|shared: what it comes to, and what does not go with it.

load ../support/helpers

# Expects a refusal: STATUS, one line that has all of the given words, and no more mounts and daemons than before.
refused() { # STATUS WORD... -- COMMAND...
	local expected=$1 words=() word before
	shift
	while [[ $1 != -- ]]; do
		words+=("$1")
		shift
	done
	shift
	before=$(mounts_below "$WORK" && daemons_below "$WORK")
	run -"$expected" --separate-stderr within 20 "$@" 3>&- 4>&-
	[ -z "$output" ]
	[ "${#stderr_lines[@]}" -eq 1 ] || { echo "not one line: $stderr" && false; }
	for word in "${words[@]}"; do
		[[ $stderr == *"$word"* ]] || { echo "'$word' is not in: $stderr" && false; }
	done
	[ "$(mounts_below "$WORK" && daemons_below "$WORK")" = "$before" ]
}

# ---- what it comes to ----

@test "auto is exclusive over the source itself, else shared" {
	mount_fs
	[ "$(stat_of sharing)" = shared ]
	umount_fs
	mount_fs sharing=exclusive
	[ "$(stat_of sharing)" = exclusive ]
	umount_fs
	mount_fs --at "$SRC" sharing=shared
	[ "$(stat_of sharing)" = shared ]
	umount_fs
	mount_fs --at "$SRC"
	[ "$(stat_of sharing)" = exclusive ]
	umount_fs
}

@test "auto is exclusive over the source by another name for it" {
	ln -s "$SRC" "$WORK/link"
	mount_fs --source "$WORK/link" --at "$WORK/src"
	[ "$(stat_of sharing)" = exclusive ]
	umount_fs
}

# ---- what does not go together ----

contradiction() { # WORD... OPTIONS
	refused 1 "${@:1:$#-1}" -- "$BATCHIOFS" "$SRC" "$MNT" -o "${!#}"
}

@test "exclusive with forwarded locks" {
	contradiction posix_locks sharing=exclusive "share the source" sharing=exclusive,posix_locks
	contradiction flock sharing=exclusive "share the source" flock,sharing=exclusive
	refused 1 posix_locks "over the source itself" -- "$BATCHIOFS" "$SRC" "$SRC" -o posix_locks
	mount_fs --at "$SRC" posix_locks flock sharing=shared
	umount_fs
}

@test "shared with cache=writeback and with opens=none" {
	contradiction cache=writeback sharing=shared sharing=shared,cache=writeback
	contradiction opens=none sharing=shared opens=none,sharing=shared
	contradiction cache=writeback "sharing=auto is shared" cache=writeback
	contradiction opens=none "sharing=auto is shared" opens=none
	mount_fs sharing=exclusive cache=writeback opens=none
	umount_fs
	mount_fs sharing=shared cache=writethrough opens=message
	umount_fs
}

@test "opens=none with forwarded locks, whatever the sharing" {
	contradiction opens=none posix_locks sharing=exclusive,opens=none,posix_locks
	contradiction opens=none flock sharing=shared,opens=none,flock
}
