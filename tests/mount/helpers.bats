#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The scripts that mount(8) and umount(8) call: what they make of a command line. Nothing is mounted here:
# mount.batchiofs -f -v says what it would run, and a stand-in takes the place of the program otherwise.
# once

load ../support/helpers

setup() {
	default_setup
	MOUNT=$HELPERS_DIR/../../mount/mount.batchiofs
	UMOUNT=$HELPERS_DIR/../../mount/umount.batchiofs
	# What stands for the program prints its arguments, one a line.
	mkdir "$WORK/bin"
	printf '#!/bin/sh\nprintf "%%s\\n" "$@"\nexit 32\n' >"$WORK/bin/batchiofs"
	chmod +x "$WORK/bin/batchiofs"
	PATH=$WORK/bin:$PATH
}

# The options that are passed on for the given -o list.
passed_on() { # OPTIONS
	"$MOUNT" /src /mnt -o "$1" | sed -n 4p
}

@test "source, mount point and options go to the program, its exit status comes back" {
	run -32 "$MOUNT" "/a b" "/c d" -o backend=uring,ro
	[ "$output" = $'/a b\n/c d\n-o\nbackend=uring,ro' ]
}

@test "without options the program gets none" {
	run -32 "$MOUNT" /src /mnt
	[ "$output" = $'/src\n/mnt' ]
	run -32 "$MOUNT" /src /mnt -o defaults,noauto
	[ "$output" = $'/src\n/mnt' ]
}

@test "options of mount(8) and systemd are taken out, whatever their order" {
	[ "$(passed_on 'rw,defaults,noauto,backend=standard')" = 'rw,backend=standard' ]
	[ "$(passed_on 'user,users,owner,group,user=joe,noatime,nofail,_netdev')" = noatime ]
	[ "$(passed_on 'x-systemd.automount,x-a=b,comment=text,fsname=data')" = fsname=data ]
	[ "$(passed_on 'relatime,async,queue_depth=8,,exec')" = 'queue_depth=8,exec' ]
}

@test "an option the helper does not know is the program's to refuse" {
	[ "$(passed_on 'bakend=uring')" = bakend=uring ]
}

@test "options with wildcards are passed on as they are" {
	cd "$WORK"
	touch fsname=abc
	[ "$(passed_on 'fsname=*')" = 'fsname=*' ]
}

@test "-r is read-only; -o may come twice; -s -n -t are accepted" {
	run -32 "$MOUNT" /src /mnt -s -n -r -o loops=2 -t fuse.batchiofs -o atime
	[ "$output" = $'/src\n/mnt\n-o\nro,loops=2,atime' ]
}

@test "-f does nothing, -v says what would be done" {
	run -0 "$MOUNT" /src /mnt -fv -o loops=2
	[[ $output == *"/bin/batchiofs /src /mnt -o loops=2" ]]
}

@test "remount passes only the kernel's own flags, to mount -i" {
	run -0 "$MOUNT" /src /mnt -fv -o remount,ro,backend=uring,user_id=0,noexec
	[[ $output == *": mount -i -o remount,ro,noexec /mnt" ]]
}

@test "-N runs the program in that mount namespace" {
	run -0 "$MOUNT" /src /mnt -fv -N 12
	[[ $output == *"nsenter --mount=/proc/12/ns/mnt "*"/bin/batchiofs /src /mnt" ]]
	run -0 "$MOUNT" /src /mnt -fv -N /run/netns/x
	[[ $output == *"nsenter --mount=/run/netns/x "* ]]
}

@test "a wrong command line is named, with the usage, and exit status 1" {
	run -1 "$MOUNT" /src
	[[ $output == "mount.batchiofs: MOUNTPOINT is missing"* ]]
	run -1 "$MOUNT" /src /mnt /more
	[[ $output == "mount.batchiofs: '/more' is one argument too many"* ]]
	run -1 "$MOUNT" /src /mnt -q
	[[ $output == "mount.batchiofs: unknown option -q"* ]]
	run -1 "$MOUNT" /src /mnt -o
	[[ $output == "mount.batchiofs: -o needs a value"* ]]
}

@test "without the program: one line, and exit status 2" {
	rm "$WORK/bin/batchiofs"
	PATH=$WORK/bin:/usr/sbin:/usr/bin:/sbin:/bin
	if command -v batchiofs; then skip "batchiofs is installed here"; fi
	run -2 "$MOUNT" /src /mnt
	[[ $output == *"neither where it was installed nor in PATH"* ]]
	run -2 "$UMOUNT" /mnt
	[[ $output == *"neither where it was installed nor in PATH"* ]]
}

@test "umount calls the program, with -l if asked; -f goes to the kernel and waits for nobody" {
	run -32 "$UMOUNT" "/a b" -n -r -t fuse.batchiofs
	[ "$output" = $'umount\n/a b' ]
	run -32 "$UMOUNT" /mnt -l
	[ "$output" = $'umount\n-l\n/mnt' ]
	printf '#!/bin/sh\necho umount "$@"\n' >"$WORK/bin/umount"
	chmod +x "$WORK/bin/umount"
	run -0 "$UMOUNT" /mnt -f -l
	[ "$output" = 'umount -i -f -l /mnt' ]
}
