#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Bad input: one clear line that names what was wrong and what would be right, a non-zero exit, nothing mounted, no
# process left. And the words of the command line that mean something else than a mount.
#
# once

load ../support/helpers

mount_with() { # OPTIONS
	refused "${@:1:$#-1}" -- "$BATCHIOFS" "$SRC" "$MNT" -o "${!#}"
}

@test "an unknown option is named, and the known ones listed" {
	mount_with 1 "'colour'" backend queue_depth transport colour=red
}

@test "an unknown option among known ones is found" {
	mount_with 1 "'nosuchthing'" "ro,backend=$BACKEND,nosuchthing,noatime"
}

@test "a bad value of each kind is named, and the right ones listed" {
	mount_with 1 backend "'turbo'" auto uring standard backend=turbo
	mount_with 1 backend "''" auto uring standard backend
	mount_with 1 sharing "'mine'" shared sharing=mine
	mount_with 1 cache "'big'" writethrough none cache=big
	mount_with 1 transport "'pigeon'" dev transport=pigeon
	mount_with 1 fsync "'never'" strict data fsync=never
	mount_with 1 supervise transport=ring again supervise,transport=ring
	mount_with 1 supervise nosupervise supervise,nosupervise
	mount_with 1 idle "'poll'" auto sleep idle=poll
	mount_with 1 confine "'yes'" auto none confine=yes
	mount_with 1 loops "'0'" "1 to 64" loops=0
	mount_with 1 attr_timeout "'-1'" seconds attr_timeout=-1
	mount_with 1 attr_timeout "'nan'" seconds attr_timeout=nan
	mount_with 1 entry_timeout "'soon'" seconds entry_timeout=soon
	mount_with 1 noallow_other "'yes'" noallow_other=yes
}

@test "a queue depth of 0, huge, negative or no number is refused" {
	for depth in 0 4097 99999999999999999999 -1 12x '' ' 5'; do
		mount_with 1 queue_depth "'$depth'" "1 to 4096" "queue_depth=$depth"
	done
}

@test "the largest and the smallest queue depth work" {
	for backend in standard "$BACKEND"; do
		for depth in 1 4096; do
			mount_fs "$backend" "queue_depth=$depth"
			within 10 sh -c 'echo x >"$1/f" && sync "$1/f" && cat "$1/f" >/dev/null' - "$MNT"
			umount_fs
		done
	done
}

@test "a missing source" {
	refused 1 "$WORK/none" "No such file" directory -- "$BATCHIOFS" "$WORK/none" "$MNT"
}

@test "a source that is not a directory" {
	: >"$WORK/file"
	refused 1 "$WORK/file" "not a directory" -- "$BATCHIOFS" "$WORK/file" "$MNT"
}

@test "a missing mountpoint, and one that is not a directory" {
	: >"$WORK/file"
	refused 1 mountpoint "$WORK/none" "No such file" -- "$BATCHIOFS" "$SRC" "$WORK/none"
	refused 1 mountpoint "$WORK/file" "not a directory" -- "$BATCHIOFS" "$SRC" "$WORK/file"
}

@test "missing, too many and unknown words" {
	refused 1 SOURCE usage -- "$BATCHIOFS"
	refused 1 MOUNTPOINT usage -- "$BATCHIOFS" "$SRC"
	refused 1 "'third'" usage -- "$BATCHIOFS" "$SRC" "$MNT" third
	refused 1 "'-x'" "-o OPTIONS" -- "$BATCHIOFS" "$SRC" "$MNT" -x
	refused 1 -o argument -- "$BATCHIOFS" "$SRC" "$MNT" -o
}

@test "no /dev/fuse" {
	requires_root
	requires unshare
	refused 32 /dev/fuse modprobe -- unshare -m sh -c \
		'mount -t tmpfs none /dev && exec "$@"' - "$BATCHIOFS" "$SRC" "$MNT"
}

@test "no right to /dev/fuse, to the source, to the mountpoint" {
	requires_root
	requires setpriv
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$WORK"
	as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	chmod 755 "$SRC"
	chown 65534:65534 "$MNT"
	chmod 700 "$SRC"
	refused 1 "$SRC" "Permission denied" "read and search" -- "${as_nobody[@]}" "$BATCHIOFS" "$SRC" "$MNT"
	chmod 755 "$SRC"
	chown 65534:65534 "$MNT"
	device_mode=$(stat -c %a /dev/fuse)
	chmod 600 /dev/fuse
	refused 1 /dev/fuse "Permission denied" -- "${as_nobody[@]}" "$BATCHIOFS" "$SRC" "$MNT" ||
		failed=1
	chmod "$device_mode" /dev/fuse
	[ -z "${failed:-}" ]
	chown 0:0 "$MNT"
	refused 1 "$MNT" "Permission denied" write -- "${as_nobody[@]}" "$BATCHIOFS" "$SRC" "$MNT"
}

@test "mounted there already: the first mount is named and stays" {
	mount_fs
	run -32 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" 3>&- 4>&-
	[[ $stderr == *"$MNT"*already*"$SRC"* ]]
	[ "$(mounts_below "$WORK" | grep -c fuse.batchiofs)" -eq 1 ]
	within 10 touch "$MNT/still-works"
	umount_fs
}

@test "over the source twice: refused as well" {
	mount_fs --over
	run -32 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$SRC" 3>&- 4>&-
	[[ $stderr == *already* ]]
	umount_fs
}

@test "a dead mount at the mountpoint is named" {
	requires_root
	mount_fs nosupervise
	kill -KILL "$DAEMON"
	wait_no_daemon "$WORK" 10
	run -32 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" 3>&- 4>&-
	[[ $stderr == *already* || $stderr == *dead* ]]
	umount -l "$MNT"
	mount_fs
	umount_fs
}

@test "--help lists every option that an error message lists" {
	run -0 "$BATCHIOFS" --help
	help=$output
	run -1 --separate-stderr "$BATCHIOFS" "$SRC" "$MNT" -o nosuch
	for word in $(sed 's/.*known are: //; s/,//g' <<<"$stderr"); do
		[[ $help == *"$word"* ]] || { echo "$word is not in --help" && false; }
	done
	[[ $help == *"batchiofs stats"* && $help == *"exit status"* ]]
}

@test "--version names the version" {
	run -0 "$BATCHIOFS" --version
	[[ $output =~ ^batchiofs\ [0-9]+\.[0-9]+\.[0-9]+ ]]
}

@test "options of fstab and of mount(8) are accepted" {
	mount_fs "defaults,rw,noatime,nofail,_netdev,x-systemd.automount,nosuid,nodev,noexec"
	run -0 findmnt -n -o OPTIONS "$MNT"
	[[ $output == *nosuid* && $output == *nodev* && $output == *noexec* && $output == *noatime* ]]
	printf '#!/bin/sh\n' >"$SRC/script"
	chmod +x "$SRC/script"
	run ! within 5 "$MNT/script"
	umount_fs
}

@test "ro: nothing can be changed" {
	echo x >"$SRC/file"
	mount_fs ro
	[ "$(within 5 cat "$MNT/file")" = x ]
	run ! within 5 sh -c 'echo y >"$1/file"' - "$MNT"
	[[ $output == *"Read-only"* ]]
	run ! within 5 rm "$MNT/file"
	umount_fs
	[ "$(cat "$SRC/file")" = x ]
}

@test "a source whose name has a comma, a blank and a backslash" {
	odd="$WORK/a,b c\\d"
	mkdir "$odd"
	echo x >"$odd/file"
	mount_fs --source "$odd"
	[ "$(within 5 cat "$MNT/file")" = x ]
	[ "$(stat_of source)" = "$odd" ]
	umount_fs
}

@test "relative paths, paths with a slash at their end, and a mountpoint through a symlink" {
	ln -s "$MNT" "$WORK/link"
	cd "$WORK"
	within 20 "$BATCHIOFS" src/ mnt/ -o "backend=$BACKEND" 3>&- 4>&-
	is_mounted "$MNT"
	within 20 "$BATCHIOFS" umount mnt/
	within 20 "$BATCHIOFS" src link -o "backend=$BACKEND" 3>&- 4>&-
	is_mounted "$MNT"
	umount_fs
}
