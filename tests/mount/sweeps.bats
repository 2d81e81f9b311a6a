#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Everything that a daemon asks of the kernel and the C library fails once, each in its turn, while a program works on
# the mount: completions and inline calls, answers, polls, commands of the ring, memory, descriptors. The program is told
# that error and no other, or nothing; its data are right; the mount goes on, ends when it is told to, and nothing is left
# open. A start that fails leaves a message and no mount.
#
# Some of the numbers and errors, or with SWEEP=all in the environment every one; tests/README.md has that table.
#
# ring
# limit: 5400
# test-limit: 2700

load ../support/helpers

setup() {
	default_setup
	requires_root
	# The program with what can be made to fail; see tests/support/faulty.
	BATCHIOFS=$BUILD/faulty/batchiofs
	export BATCHIOFS FAULTY_PLAN=$WORK/plan
	MOST=3 OTHERS=()
	if [[ ${SWEEP:-} == all ]]; then MOST=0 OTHERS=(ENOSPC EAGAIN EINTR); fi
	plan data short 0
	seen >/dev/null
}

plan() { # WHAT ERROR N
	"$BUILD/tests/sweep_tool" plan "$FAULTY_PLAN" "$@"
}

seen() {
	"$BUILD/tests/sweep_tool" seen "$FAULTY_PLAN"
}

tell() { # ROW...
	sed 's/^/# /' <<<"$*" >&3
}

# Of one kind, with each error.
sweep() { # WHAT ERROR...
	local what=$1 error rows
	for error in "${@:2}"; do
		rows=$(within 800 "$BUILD/tests/sweep_tool" run "$FAULTY_PLAN" "$MNT" "$SRC" "$DAEMON" "$what" "$error" "$MOST") || {
			echo "$rows"
			return 1
		}
		tell "$rows"
	done
}

# Each in turn of what a start asks for.
sweep_start() { # WHAT ERROR
	local options=backend=$BACKEND rows
	if [[ $SHARING ]]; then options+=,sharing=$SHARING; fi
	if [[ $TRANSPORT == ring ]]; then options+=,transport=ring; fi
	export SRC MNT
	rows=$(within 800 "$HELPERS_DIR/sweep_start.sh" "$options" $((MOST * 3)) "$@" 3>&- 4>&-) || {
		echo "$rows"
		return 1
	}
	tell "$rows"
}

# ---- The tests ----

@test "completions that fall short, are interrupted or come too early are tried again, unseen" {
	mount_fs
	sweep data short EAGAIN EINTR
	umount_fs
}

@test "completions that fail are told to the program whose bytes they were for, and to nobody else" {
	mount_fs
	sweep data EIO ENOSPC ECANCELED
	umount_fs
}

@test "an answer that is not taken is given again" {
	mount_fs
	if [[ $TRANSPORT == ring ]]; then
		sweep command EIO ECANCELED "${OTHERS[@]}"
	else
		sweep answer EIO ECANCELED "${OTHERS[@]}"
	fi
	umount_fs
}

@test "a poll that fails is made again" {
	mount_fs
	[[ $BACKEND == uring ]] || skip 'the standard backend has none that could'
	sweep poll EIO ECANCELED "${OTHERS[@]}"
	umount_fs
}

@test "memory runs out" {
	mount_fs
	sweep memory ENOMEM
	umount_fs
}

@test "descriptors run out" {
	local rows
	mount_fs
	sweep descriptor EMFILE ENFILE
	rows=$(within 300 "$BUILD/tests/sweep_tool" starve "$MNT" "$SRC" "$DAEMON" $((MOST ? MOST : 30))) || {
		echo "$rows"
		return 1
	}
	tell "$rows"
	umount_fs
}

@test "memory runs out at the start" {
	sweep_start memory ENOMEM
}

@test "descriptors run out at the start" {
	sweep_start descriptor EMFILE
	sweep_start descriptor limit
}
