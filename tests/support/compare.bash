# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the bats files that hold the mount against the bare directory. Sourced after helpers.bash by
# `load ../support/compare`.

# Opens the way to $WORK for as_user: bats makes its directories for their owner alone.
let_users_in() {
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$(dirname "$WORK")" "$WORK"
	chmod 777 "$SRC"
}

# Runs SCRIPT (bash, with the arguments after it) in an empty directory on the mount and in one beside the
# source, and expects the same output and exit status. Each command's own exit status is best printed by the
# script: `|| echo $?`. COMPARE_SECONDS is how long each may take (120).
same_as_bare() { # SCRIPT [ARG...]
	local script=$1 bare mounted status=0
	shift
	bare=$(mktemp -d "$SRC/bare.XXXXXX")
	mounted=$(mktemp -d "$SRC/mounted.XXXXXX")
	chmod 777 "$bare" "$mounted"
	(cd "$bare" && within "${COMPARE_SECONDS:-120}" bash -c "$script" - "$@") >"$WORK/bare.out" 2>&1 || status=$?
	echo "exit status $status" >>"$WORK/bare.out"
	status=0
	(cd "$MNT/${mounted##*/}" && within "${COMPARE_SECONDS:-120}" bash -c "$script" - "$@") >"$WORK/mounted.out" 2>&1 ||
		status=$?
	echo "exit status $status" >>"$WORK/mounted.out"
	if ! diff -u "$WORK/bare.out" "$WORK/mounted.out"; then
		echo "the bare directory (-) and the mount (+) differ"
		return 1
	fi
	# A script that could not run at all would be the same on both.
	if [[ $status != 0 ]]; then
		cat "$WORK/mounted.out"
		return 1
	fi
}

# System call numbers that perl needs: syscall_number NAME. Skips on other processors.
syscall_number() { # NAME
	case $(uname -m):$1 in
	x86_64:renameat2) echo 316 ;;
	x86_64:setxattr) echo 188 ;;
	x86_64:getxattr) echo 191 ;;
	aarch64:renameat2) echo 276 ;;
	aarch64:setxattr) echo 5 ;;
	aarch64:getxattr) echo 8 ;;
	*) return 1 ;;
	esac
}
