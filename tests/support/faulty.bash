# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the bats files whose source fails when it is told to. Sourced after helpers.bash by `load ../support/faulty`.

# Makes $SRC a source that fails what it is told to; see faultfs_tool.c.
faulty_source() {
	mkdir "$WORK/behind"
	within 10 "$BUILD/tests/faultfs_tool" "$WORK/behind" "$SRC" 3>&- 4>&- </dev/null
}

fault() { # RULE...
	printf '%s\n' "$@" >"$SRC/.faultfs"
}

# The faulty source below only goes when batchiofs has gone. A file with a teardown of its own calls this from it.
# COMMAND unmounts a faultfs.
faulty_teardown() { # [COMMAND...]
	local type path
	(($#)) || set -- fusermount3 -u
	while read -r type path; do
		case $type in
		fuse.batchiofs) within 30 "$BATCHIOFS" umount "$path" || true ;;
		fuse.faultfs) within 30 "$@" "$path" || true ;;
		esac
	done < <(mounts_below "$WORK")
	default_teardown
}

teardown() {
	if mounts_below "$WORK" | grep -q '^fuse.faultfs '; then faulty_teardown; else default_teardown; fi
}
