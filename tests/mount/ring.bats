#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# FUSE over io_uring: what is special of it. What else a mount does is tested by it too, in the files marked `# ring`.
#
# once
# alone
# limit: 240

load ../support/helpers

SWITCH=/sys/module/fuse/parameters/enable_uring

setup() {
	default_setup
	requires_root
	[ -w "$SWITCH" ] || skip "no FUSE over io_uring: $SWITCH is not there, or not ours to write"
	[ "$BACKEND" = uring ] || skip 'no io_uring'
	BEFORE=$(<"$SWITCH")
	echo Y >"$SWITCH"
	export TRANSPORT=ring
}

teardown() {
	if [ -n "${BEFORE:-}" ]; then echo "$BEFORE" >"$SWITCH"; fi
	default_teardown
}

# Requests come as soon as all entries are with the kernel, which the first one waits for.
transport() {
	within 10 stat "$MNT/." >"$WORK/stat"
	stat_of transport
}

falls_back() { # REASON OPTIONS
	run -0 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" -o "transport=ring,$2" 3>&- 4>&-
	[[ $stderr == *transport=ring:*"$1"*/dev/fuse* ]]
	[ "$(transport)" = dev ]
	within 10 sh -c 'echo hello >"$1/file"' - "$MNT"
	[ "$(cat "$SRC/file")" = hello ]
	umount_fs
}

@test "requests come by the ring where it is asked for, by /dev/fuse else" {
	mount_fs
	[ "$(transport)" = ring ]
	umount_fs
	mount_fs transport=dev
	[ "$(transport)" = dev ]
}

@test "where there is none the mount goes by /dev/fuse, and says why" {
	falls_back standard backend=standard
	falls_back locks posix_locks
	falls_back locks flock
	echo N >"$SWITCH"
	falls_back "$SWITCH" backend=uring
}

@test "mounted and unmounted 25 times, a request each time" {
	for _ in {1..25}; do
		mount_fs
		[ "$(transport)" = ring ]
		umount_fs
	done
}

@test "more requests at once than there are entries" {
	mount_fs queue_depth=4
	within 60 fio --name=many --directory="$MNT" --size=1M --bs=4k --rw=randrw --numjobs=24 --fsync=8 \
		--verify=crc32c --do_verify=1 --verify_state_save=0 --output="$WORK/fio"
	[ "$(transport)" = ring ]
}

@test "programs on every processor share a file: each is answered, and nothing is lost" {
	local cpu jobs=()
	mount_fs
	for cpu in $(seq 0 "$(($(nproc) - 1))"); do
		within 60 taskset -c "$cpu" fio --name="cpu$cpu" --filename="$MNT/file" --offset="$((cpu * 4))M" --size=4M \
			--bs=4k --rw=randwrite --direct=1 --ioengine=libaio --iodepth=16 --verify=crc32c --do_verify=1 --verify_state_save=0 \
			--output="$WORK/fio$cpu" 3>&- &
		jobs+=($!)
	done
	for cpu in "${jobs[@]}"; do wait "$cpu"; done
	within 30 taskset -c 0 cat "$MNT/file" | cmp - "$SRC/file"
	[ "$(transport)" = ring ]
}

@test "answers that are given beside the loops arrive: SEEK_DATA on a writeback mount" {
	mount_fs sharing=exclusive
	within 20 sh -c 'truncate -s 1M "$1/file" && printf x | dd of="$1/file" seek=512k bs=1 conv=notrunc status=none' - "$MNT"
	[ "$(within 20 python3 -c 'import os, sys
f = os.open(sys.argv[1], os.O_RDONLY)
print(os.lseek(f, 0, os.SEEK_DATA))' "$MNT/file")" = 524288 ]
	[ "$(transport)" = ring ]
}

@test "a frozen source holds up those who write, on all processors, and nobody who reads" {
	local i writers=()
	make_loop ext4 64M
	head -c 1M /dev/urandom >"$SRC/other"
	head -c 65536 /dev/zero >"$SRC/file"
	sync -f "$SRC"
	mount_fs sharing=shared
	[ "$(transport)" = ring ]
	within 10 cat "$MNT/other" >/dev/null
	fsfreeze -f "$SRC"
	for i in 0 1 2 3 4 5; do
		timeout 60 taskset -c $((i % $(nproc))) dd if=/dev/zero of="$MNT/file" bs=4k seek="$i" count=1 conv=notrunc status=none 3>&- &
		writers+=($!)
	done
	sleep 0.3
	for i in $(seq 0 "$(($(nproc) - 1))"); do
		within 5 taskset -c "$i" sh -c 'for n in 1 2 3 4 5; do cmp "$1/other" "$2/other" && ls -l "$1" && stat -f "$1"; done' - \
			"$MNT" "$SRC" >/dev/null || {
			fsfreeze -u "$SRC"
			return 1
		}
	done
	for i in "${writers[@]}"; do [ -d "/proc/$i" ]; done
	fsfreeze -u "$SRC"
	for i in "${writers[@]}"; do wait "$i"; done
	cmp "$MNT/file" "$SRC/file"
}

@test "an interrupted process goes, and its request with it" {
	mount_fs
	mkfifo "$SRC/pipe"
	within 20 sh -c 'for i in $(seq 50); do dd if=/dev/zero of="$1/file" bs=1M count=64 conv=fsync status=none & p=$!; sleep 0.02; kill -KILL $p; wait $p; done; true' - "$MNT"
	within 10 sh -c 'echo hello >"$1/after"' - "$MNT"
	[ "$(cat "$SRC/after")" = hello ]
}
