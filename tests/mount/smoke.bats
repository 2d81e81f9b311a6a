#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The first thing to work: mount, write, read, unmount, and the data is in the source. Also shows that
# the helpers do what they promise.
#
# ci: exclusive
# ring: ci

load ../support/helpers

@test "mounted elsewhere: what is written arrives in the source" {
	mount_fs
	within 10 sh -c 'echo hello >"$1/file"' - "$MNT"
	[ "$(within 10 cat "$MNT/file")" = hello ]
	[ "$(cat "$SRC/file")" = hello ]
	umount_fs
	[ ! -e "$MNT/file" ]
	[ "$(cat "$SRC/file")" = hello ]
}

@test "mounted over itself: old files are there, new ones stay after the unmount" {
	echo before >"$SRC/old"
	mount_fs --over
	[ "$(within 10 cat "$MNT/old")" = before ]
	within 10 mkdir "$MNT/dir"
	within 10 sh -c 'echo after >"$1/dir/new"' - "$MNT"
	if [ -n "$BELOW" ]; then [ "$(cat "$BELOW/dir/new")" = after ]; fi
	umount_fs
	[ "$(cat "$SRC/old")" = before ]
	[ "$(cat "$SRC/dir/new")" = after ]
}

@test "a mebibyte of random bytes reads back the same, through the mount and beneath" {
	mount_fs
	head -c 1048576 /dev/urandom >"$WORK/data"
	within 30 dd if="$WORK/data" of="$MNT/data" bs=4096 conv=fsync status=none
	within 30 cmp "$WORK/data" "$MNT/data"
	cmp "$WORK/data" "$SRC/data"
	umount_fs
	cmp "$WORK/data" "$SRC/data"
}

@test "on an ext4 image: mounted over its root, unmounted with it" {
	make_loop ext4 64M
	mount_fs --over
	within 10 sh -c 'echo hello >"$1/file"' - "$MNT"
	umount_fs
	[ "$(cat "$SRC/file")" = hello ]
}

@test "the backend of the mount is the one asked for" {
	mount_fs
	run -0 within 10 "$BATCHIOFS" stats "$MNT" --json
	[[ $output == *"\"backend\""*"\"$BACKEND\""* ]]
}
