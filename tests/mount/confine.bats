#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The daemon's walls, from inside: foreign code in it (support/inside_preload.c) reaches nothing outside of the
# source, no network, no program, no system call that the daemon has no use for; and without the walls it would.

load ../support/helpers

PATHS="open openat2 dotdot proc create mkdir rename unlink"
CALLS="execve fork clone3 mount umount pivot_root chroot open_tree setns unshare ptrace process_vm_readv kill pidfd_open
	perf_event_open keyctl memfd_create setuid setgroups swapon ioctl mmap_exec mprotect_exec"
NETWORK="socket connect unix_socket socketpair ring_connect"

setup() {
	default_setup
	LISTENER=
	[[ -e $BUILD/tests/inside_preload.so ]] || skip "built without io_uring"
	! grep -qs -e -fsanitize "$BUILD/flags" || skip "sanitizers need what the walls keep away"
}

teardown() {
	[[ -z $LISTENER ]] || kill "$LISTENER" 2>/dev/null || true
	default_teardown
}

# What the foreign code is to reach: files beside the source, a port. Sets INSIDE.
outside() {
	INSIDE=$WORK/inside
	mkdir "$INSIDE.outside"
	echo secret >"$INSIDE.outside/secret"
	echo victim >"$INSIDE.outside/victim"
	mkfifo "$INSIDE.go"
	: >"$INSIDE.log"
	python3 -c '
import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(16)
open(sys.argv[1] + ".new", "w").write(str(s.getsockname()[1]))
import os; os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(200)' "$INSIDE.port" 3>&- 4>&- &
	LISTENER=$!
	until [[ -e $INSIDE.port ]]; do sleep 0.05; done
	chmod -R a+rwX "$INSIDE.outside" "$INSIDE.go" "$INSIDE.log" "$INSIDE.port"
}

mount_with_it() { # OPTIONS...
	outside
	export INSIDE LD_PRELOAD=$BUILD/tests/inside_preload.so
	mount_fs "$@"
	unset LD_PRELOAD
}

# Has the foreign code try everything.
go_inside() {
	local i
	echo >"$INSIDE.go"
	for ((i = 0; i < 200; i++)); do
		grep -qx "done" "$INSIDE.log" && return
		sleep 0.05
	done
	cat "$INSIDE.log"
	return 1
}

# Each of the tries ended so.
all_are() { # possible|refused NAME...
	local name expected=$1 failed=0
	shift
	for name; do
		grep -qx "$name $expected" "$INSIDE.log" || {
			echo "not $expected: $(grep "^$name " "$INSIDE.log" || echo "$name, which was not tried")"
			failed=1
		}
	done
	return $failed
}

nothing_happened() {
	[ "$(cd "$INSIDE.outside" && grep -r . | sort | xargs)" = "secret:secret victim:victim" ]
}

still_serves() {
	within 10 sh -c 'cd "$1" && echo hello >file && mkdir d && mv file d/ && [ "$(cat d/file)" = hello ] &&
		setfattr -n user.a -v b d/file && getfattr -n user.a d/file >/dev/null && rm -r d' - "$MNT"
}

@test "root's daemon: everything is refused, on each thread; without the walls it is possible" {
	requires_root
	local stand
	mount_with_it
	stand=$(stat_of confined)
	[[ $stand == *namespace,root,*capabilities,seccomp* ]]
	if [[ $BACKEND == uring ]]; then [[ $stand == *network,* && $stand == *,ring ]]; fi
	go_inside
	# shellcheck disable=SC2086
	all_are refused $PATHS $NETWORK $CALLS ring_open
	nothing_happened
	still_serves
	# All threads alike: no capability but those of the table, none to be had, the filter, and no new rights.
	for status in /proc/"$WORKER"/task/*/status; do
		[ "$(grep -c -e '^NoNewPrivs:.1$' -e '^Seccomp:.2$' "$status")" = 2 ]
		(( (0x$(awk '/^CapPrm/ { print $2 }' "$status") & ~(1<<0|1<<1|1<<2|1<<3|1<<4|1<<6|1<<7|1<<9|1<<14|1<<21|1<<27|1<<31|1<<33)) == 0 ))
		(( (0x$(awk '/^CapBnd/ { print $2 }' "$status") & ~(1<<0|1<<1|1<<2|1<<3|1<<4|1<<6|1<<7|1<<9|1<<14|1<<21|1<<27|1<<31|1<<33)) == 0 ))
	done
	[ "$(readlink "/proc/$WORKER/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]
	[ "$(wc -l <"/proc/$WORKER/mountinfo")" -le 1 ]
	umount_fs
}

@test "confine=none: what is refused otherwise is possible, so that the test above says something" {
	requires_root
	mount_with_it confine=none
	[[ $(stat_of confined) != *seccomp* && $(stat_of confined) != *root* ]]
	go_inside
	# shellcheck disable=SC2086
	all_are possible $PATHS $NETWORK $CALLS ring_open
	umount_fs
}

@test "the worker of a supervised mount is behind the walls, and so is its successor" {
	requires_root
	local worker
	mount_with_it supervise
	go_inside
	# shellcheck disable=SC2086
	all_are refused $PATHS $NETWORK $CALLS ring_open
	nothing_happened
	worker=$(stat_of worker_pid)
	kill -KILL "$worker"
	still_serves
	[ "$(stat_of worker_pid)" != "$worker" ]
	worker=$(stat_of worker_pid)
	[[ $(stat_of confined) == *namespace,root,*capabilities,seccomp* ]]
	[ "$(cat /proc/"$worker"/task/*/status | grep -c '^Seccomp:.2$')" = "$(find "/proc/$worker/task" -mindepth 1 -maxdepth 1 | wc -l)" ]
	umount_fs
}

@test "an ordinary user's daemon: nothing outside of the source, no call, no connection" {
	requires_root
	requires_user_mounts
	chown 65534:65534 "$SRC" "$MNT"
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$(dirname "$WORK")"
	outside
	chown -R 65534:65534 "$INSIDE.outside"
	cp "$BUILD/tests/inside_preload.so" "$WORK/"
	within 30 as_user env INSIDE="$INSIDE" LD_PRELOAD="$WORK/inside_preload.so" "$BATCHIOFS" "$SRC" "$MNT" \
		-o "backend=$BACKEND" 3>&- 4>&- </dev/null
	[[ $(as_user "$BATCHIOFS" stats "$MNT" --json | grep '"confined"') == *capabilities,landlock,seccomp* ]]
	go_inside
	# shellcheck disable=SC2086
	all_are refused $PATHS $NETWORK $CALLS ring_open
	nothing_happened
	within 10 as_user sh -c 'cd "$1" && mkdir d e && echo hello >d/file && mv d/file e/file && ln e/file d/other &&
		[ "$(cat d/other)" = hello ] && setfattr -n user.a -v b d/other && rm -r d e' - "$MNT"
	# It unmounts itself, though it may start no program.
	kill -TERM "$(daemons_below "$MNT" | tail -n 1)"
	wait_no_daemon "$MNT" 10
	run ! is_mounted "$MNT"
}

@test "no mount and no namespace is kept busy: what others mount and unmount comes and goes" {
	requires_root
	mkdir "$WORK/busy" "$SRC/inside"
	mount -t tmpfs tmpfs "$WORK/busy"
	mount_fs
	within 10 umount "$WORK/busy"
	mount -t tmpfs tmpfs "$SRC/inside"
	echo there >"$SRC/inside/file"
	within 10 sh -c 'for i in $(seq 100); do [ "$(cat "$1" 2>&1)" = there ] && exit; sleep 0.05; done; exit 1' - "$MNT/inside/file"
	umount_fs
	within 10 umount "$SRC/inside"
}

@test "the process outside ends with the daemon, however that ends, and leaves nothing in /run" {
	requires_root
	local outside sockets
	mount_fs
	outside=$(pgrep -P "$DAEMON" | grep -vx "$WORKER")
	[ "$(tr -d '\0' <"/proc/$outside/cmdline")" = "batchiofs: outside" ]
	# It holds nothing but its socket.
	[ "$(find "/proc/$outside/fd" -mindepth 1 | wc -l)" = 4 ]
	sockets=$(find /run/batchiofs -type s -o -name 'claim-*' | wc -l)
	((sockets >= 2))
	umount_fs
	[ ! -d "/proc/$outside" ]
	mount_fs nosupervise
	outside=$(pgrep -P "$DAEMON")
	kill -KILL "$DAEMON"
	for _ in {1..100}; do
		[[ -d /proc/$outside ]] || break
		sleep 0.05
	done
	[ ! -d "/proc/$outside" ]
	within 30 "$BATCHIOFS" umount "$MNT"
}
