#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# batchiofs stats: the figures are those of what was done, in a table and as JSON, over a socket that only root and the
# mounting user can reach, and that answers also when the mount does not.

load ../support/helpers

socket_of() {
	local device
	device=$(findmnt -n -o MAJ:MIN "$MNT" | tr -d ' ')
	echo "/run/batchiofs/$device.sock"
}

@test "reads, writes, syncs and bytes are counted" {
	mount_fs cache=none
	within 20 dd if=/dev/zero of="$MNT/f" bs=4096 count=100 conv=fsync status=none
	within 20 dd if="$MNT/f" of=/dev/null bs=8192 status=none
	[ "$(stat_of requests.write)" -eq 100 ]
	[ "$(stat_of bytes.written)" -eq 409600 ]
	[ "$(stat_of bytes.read)" -eq 409600 ]
	[ "$(stat_of requests.fsync)" -eq 1 ]
	[ "$(stat_of fsyncs.asked)" -eq 1 ]
	[ "$(stat_of fsyncs.issued)" -eq 1 ]
	[ "$(stat_of errors)" -eq 0 ]
	[ "$(stat_of backend_calls.write)" -eq 100 ]
	umount_fs
}

@test "the histogram of operations a call adds up to the calls, the operations to the requests" {
	requires fio
	mount_fs
	within 60 fio --name=j --directory="$MNT" --size=8m --rw=randwrite --bs=4k --direct=1 --ioengine=libaio \
		--iodepth=32 --minimal >/dev/null
	within 10 "$BATCHIOFS" stats "$MNT" --json >"$WORK/s.json"
	run -0 sqlite3 :memory: "
		WITH s AS (SELECT readfile('$WORK/s.json') AS j)
		SELECT (SELECT sum(value) FROM s, json_each(j, '\$.operations_per_call'))
		     = json_extract(j, '\$.backend_calls.read') + json_extract(j, '\$.backend_calls.write')
		       + json_extract(j, '\$.backend_calls.write_fsync')
		FROM s"
	[ "$output" = 1 ]
	umount_fs
}

@test "an error of the source is counted" {
	requires_root
	make_loop ext4 16M
	mount_fs
	run ! within 60 dd if=/dev/zero of="$MNT/f" bs=1M count=64 conv=fsync
	[[ $output == *"No space left"* ]]
	[ "$(stat_of errors)" -ge 1 ]
	umount_fs
}

@test "the table says the same as the JSON" {
	mount_fs
	within 10 sh -c 'echo x >"$1/f" && sync "$1/f"' - "$MNT"
	run -0 within 10 "$BATCHIOFS" stats "$MNT"
	[[ $output == *backend*"$BACKEND"* ]]
	[[ $output =~ asked\ +1 ]]
	[[ $output =~ write\ +1 ]]
	[ "$(stat_of mountpoint)" = "$MNT" ]
	umount_fs
}

@test "the socket is root's and the mounting user's only, outside the mount, and gone with it" {
	requires_root
	requires setpriv
	mount_fs
	socket=$(socket_of)
	[ -S "$socket" ]
	[ "$(stat -c '%a %u' "$socket")" = "600 0" ]
	inode=$(stat -c '%i %z' "$socket")
	run ! as_user "$BATCHIOFS" stats "$MNT"
	[[ $output == *"cannot ask its daemon"* ]]
	run -0 within 10 "$BATCHIOFS" stats "$MNT"
	umount_fs
	# The next mount on this machine, by whomever, may have its name.
	[ "$(stat -c '%i %z' "$socket" 2>/dev/null)" != "$inode" ]
}

@test "stats answers while the daemon's loops are stuck" {
	requires_root
	requires fsfreeze
	make_loop ext4 64M
	mount_fs
	fsfreeze -f "$SRC"
	within 20 sh -c 'echo x >"$1/f"' - "$MNT" 3>&- 4>&- &
	writer=$!
	sleep 0.5
	run within 5 "$BATCHIOFS" stats "$MNT"
	fsfreeze -u "$SRC"
	[ "$status" -eq 0 ]
	[[ $output == *requests* ]]
	wait "$writer"
	umount_fs
}

@test "not a mount, a mount of something else, a dead daemon: said clearly" {
	requires_root
	run -1 --separate-stderr within 5 "$BATCHIOFS" stats "$MNT"
	[[ $stderr == *"$MNT"*"no batchiofs mount"* ]]
	run -1 --separate-stderr within 5 "$BATCHIOFS" stats /proc
	[[ $stderr == *"/proc"*"no batchiofs mount"* ]]
	run -1 --separate-stderr within 5 "$BATCHIOFS" stats
	[[ $stderr == *usage* ]]
	mount_fs nosupervise
	kill -KILL "$DAEMON"
	wait_no_daemon "$WORK" 10
	run -2 --separate-stderr within 5 "$BATCHIOFS" stats "$MNT"
	[[ $stderr == *dead* ]]
	umount -l "$MNT"
}
