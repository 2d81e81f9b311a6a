#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The choice of the backend at mount time: uring or nothing, standard without any ring, auto with a word about its choice.
#
# once
# alone

load ../support/helpers

setup() {
	default_setup
	disabled=
}

teardown() {
	if [[ $disabled ]]; then sysctl -q "kernel.io_uring_disabled=$disabled"; fi
	default_teardown
}

forbid_uring() {
	requires_root
	requires sysctl
	disabled=$(sysctl -n kernel.io_uring_disabled) || skip "this kernel has no kernel.io_uring_disabled"
	sysctl -q kernel.io_uring_disabled=2
}

@test "backend=uring where io_uring is disabled: fails with the reason, mounts nothing" {
	forbid_uring
	run -32 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" -o backend=uring 3>&- 4>&-
	[[ $stderr == *io_uring_disabled* && $stderr == *backend=standard* ]]
	[ "${#stderr_lines[@]}" -eq 1 ]
	[ -z "$(mounts_below "$WORK")" ]
	[ -z "$(daemons_below "$WORK")" ]
}

@test "backend=auto where io_uring is disabled: takes standard and says so" {
	forbid_uring
	run -0 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" 3>&- 4>&-
	[[ $stderr == *standard*io_uring_disabled* ]]
	[ "$(stat_of backend)" = standard ]
	within 10 sh -c 'echo x >"$1/f" && sync "$1/f"' - "$MNT"
	umount_fs
}

@test "backend=auto where io_uring is to be had: takes it, silently" {
	run -0 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" 3>&- 4>&-
	[ -z "$stderr" ]
	[ "$(stat_of backend)" = uring ]
	umount_fs
}

@test "backend=standard never opens a ring, nor asks for one" {
	requires strace
	# LeakSanitizer does not work under a tracer.
	ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 \
		within 60 strace -f -qq -o "$WORK/trace" -e trace=io_uring_setup,io_uring_enter,io_uring_register,mount,fsconfig \
		"$BATCHIOFS" "$SRC" "$MNT" -f -o backend=standard 3>&- 4>&- &
	tracer=$!
	for _ in $(seq 100); do
		if is_mounted "$MNT"; then break; fi
		sleep 0.1
	done
	within 20 sh -c 'dd if=/dev/zero of="$1/f" bs=64k count=50 conv=fsync status=none; cat "$1/f" | wc -c' - "$MNT"
	within 20 "$BATCHIOFS" umount "$MNT"
	wait "$tracer"
	run -0 grep -c . "$WORK/trace"
	run ! grep io_uring "$WORK/trace"
	grep -q 'mount(' "$WORK/trace" # the trace saw something
}

@test "a program built with URING=0: uring fails with the reason, auto takes standard" {
	requires make gcc
	within 240 make -s -C "$HELPERS_DIR/../.." URING=0 "B=$WORK/build" "$WORK/build/batchiofs" >/dev/null
	ldd "$WORK/build/batchiofs" >"$WORK/libs"
	run ! grep liburing "$WORK/libs"
	run -32 --separate-stderr within 20 "$WORK/build/batchiofs" "$SRC" "$MNT" -o backend=uring 3>&- 4>&-
	[[ $stderr == *"URING=0"* ]]
	run -0 --separate-stderr within 20 "$WORK/build/batchiofs" "$SRC" "$MNT" 3>&- 4>&-
	[[ $stderr == *standard*"URING=0"* ]]
	[ "$(stat_of backend)" = standard ]
	within 10 sh -c 'echo x >"$1/f" && sync "$1/f" && cat "$1/f"' - "$MNT"
	umount_fs
}
