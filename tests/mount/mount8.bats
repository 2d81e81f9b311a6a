#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The mount as mount(8), fstab, umount(8) and ordinary users meet it, after `make install`. The helpers have to be where mount(8)
# looks, so the installation is real; it happens in a mount namespace whose /sbin and /usr/local are overlaid, and is gone with it.
#
# sharing: shared

load ../support/helpers

setup() {
	default_setup
	requires_root
	requires unshare make
	# bats keeps its directories to itself; ordinary users have to come through.
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$BATS_TEST_TMPDIR"
	device_mode=$(stat -c %a /dev/fuse)
}

teardown() {
	chmod "$device_mode" /dev/fuse
	default_teardown
}

# As udev sets it up on every Debian; a bare kernel leaves the device to root.
open_device() {
	chmod 666 /dev/fuse
	requires_user_mounts
}

# Runs a script with the program installed. Its words: SRC MNT WORK BACKEND.
installed() { # SCRIPT
	cat >"$WORK/script" <<'SH'
set -eu
ROOT=$1 SRC=$2 MNT=$3 WORK=$4 BACKEND=$5 BUILD=$6 script=$7
mount --make-rprivate /
mkdir -p "$WORK/over"
mount -t tmpfs none "$WORK/over"
# /usr/local for the program, the real /sbin for the helpers, /etc for fstab
for dir in /usr/local "$(realpath /sbin)" /etc; do
	mkdir -p "$WORK/over$dir/up" "$WORK/over$dir/work"
	mount -t overlay none -o "lowerdir=$dir,upperdir=$WORK/over$dir/up,workdir=$WORK/over$dir/work" "$dir"
done
make -s -C "$ROOT" install B="$BUILD" >/dev/null
status=0
sh -eu -c "$script" - "$SRC" "$MNT" "$WORK" "$BACKEND" || status=$?
for point in $(findmnt -rn -t fuse.batchiofs -o TARGET); do
	case $point in "$WORK"*) echo "left mounted: $point"; umount -l "$point"; status=1 ;; esac
done
exit $status
SH
	run -0 within 120 unshare -m bash "$WORK/script" "$HELPERS_DIR/../.." "$SRC" "$MNT" "$WORK" \
		"$BACKEND" "$BUILD" "$1" 3>&- 4>&-
}

@test "mount -t batchiofs -o backend=… SOURCE MOUNTPOINT, and umount" {
	installed '
		mount -t batchiofs -o "backend=$4,noatime" "$1" "$2"
		[ "$(findmnt -n -o FSTYPE "$2")" = fuse.batchiofs ]
		[ "$(findmnt -n -o SOURCE "$2")" = "$1" ]
		timeout 5 sh -c "echo hello >\"$2/file\""
		batchiofs stats "$2" | grep "^backend *$4"
		pid=$(batchiofs stats "$2" | sed -n "s/^pid *//p")
		umount "$2"
		! findmnt "$2"
		! kill -0 "$pid" 2>/dev/null
		[ "$(cat "$1/file")" = hello ]'
}

@test "mount -t fuse.batchiofs" {
	installed '
		mount -t fuse.batchiofs -o "backend=$4" "$1" "$2"
		timeout 5 touch "$2/file"
		umount "$2"
		[ -e "$1/file" ]'
}

@test "over the data directory itself, and over a non-empty one" {
	echo old >"$SRC/old"
	echo hidden >"$MNT/hidden"
	installed '
		mount -t batchiofs -o "backend=$4" "$1" "$1"
		[ "$(timeout 5 cat "$1/old")" = old ]
		timeout 5 sh -c "echo new >\"$1/new\""
		umount "$1"
		[ "$(cat "$1/new")" = new ]
		mount -t batchiofs -o "backend=$4" "$1" "$2"
		[ ! -e "$2/hidden" ]
		[ "$(timeout 5 cat "$2/new")" = new ]
		umount "$2"
		[ "$(cat "$2/hidden")" = hidden ]'
}

@test "a line in fstab, with mount MNT, mount -a and umount MNT" {
	installed '
		echo "$1 $2 batchiofs backend=$4,nofail,x-systemd.automount,_netdev 0 0" >>/etc/fstab
		mount "$2"
		timeout 5 touch "$2/file"
		mount -a -t batchiofs
		[ "$(findmnt -rn -t fuse.batchiofs "$2" | wc -l)" = 1 ]
		umount "$2"
		[ -e "$1/file" ]
		echo "$1 $1 fuse.batchiofs backend=$4,ro 0 0" >>/etc/fstab
		mount "$1"
		[ -e "$1/file" ]
		! timeout 5 touch "$1/other" 2>/dev/null
		umount "$1"'
}

@test "mount reports a failure: bad option, missing source; and its exit status" {
	installed '
		status=0
		mount -t batchiofs -o backend=turbo "$1" "$2" 2>"$3/err" || status=$?
		[ $status = 1 ]
		grep "turbo.*standard" "$3/err"
		status=0
		mount -t batchiofs "$3/none" "$2" 2>"$3/err" || status=$?
		[ $status != 0 ]
		grep "$3/none" "$3/err"
		! findmnt "$2"'
}

@test "umount -l, umount of a busy mount, and umount -i" {
	installed '
		mount -t batchiofs -o "backend=$4" "$1" "$2"
		exec 5>"$2/open"
		! umount "$2" 2>"$3/err"
		grep -i busy "$3/err"
		umount -l "$2"
		! findmnt "$2"
		echo still >&5
		exec 5>&-
		[ "$(cat "$1/open")" = still ]
		mount -t batchiofs -o "backend=$4" "$1" "$2"
		umount -i "$2"
		! findmnt "$2"'
}

@test "remount to read-only and back" {
	installed '
		mount -t batchiofs -o "backend=$4" "$1" "$2"
		mount -o remount,ro "$2"
		! timeout 5 touch "$2/file" 2>/dev/null
		mount -o remount,rw "$2"
		timeout 5 touch "$2/file"
		umount "$2"'
}

@test "an ordinary user mounts a directory of his own with fusermount3, and unmounts it" {
	open_device
	chown -R 65534:65534 "$SRC" "$MNT"
	chmod 755 "$WORK"
	as_user timeout 20 "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND" 3>&- 4>&-
	is_mounted "$MNT"
	as_user timeout 5 sh -c 'echo mine >"$1/file"' - "$MNT"
	[ "$(stat -c %u "$SRC/file")" = 65534 ]
	# His alone: even root has no access, the kernel's rule for mounts without allow_other.
	run ! within 5 cat "$MNT/file"
	as_user timeout 10 "$BATCHIOFS" stats "$MNT" | grep "^backend *$BACKEND"
	within 10 "$BATCHIOFS" stats "$MNT" | grep "^backend *$BACKEND"
	as_user timeout 20 "$BATCHIOFS" umount "$MNT"
	[ -z "$(mounts_below "$WORK")" ]
	[ "$(cat "$SRC/file")" = mine ]
}

@test "an ordinary user over his own directory itself; SIGTERM ends it" {
	open_device
	chown -R 65534:65534 "$SRC"
	as_user timeout 20 "$BATCHIOFS" "$SRC" "$SRC" -o "backend=$BACKEND" 3>&- 4>&-
	as_user timeout 5 sh -c 'echo mine >"$1/file"' - "$SRC"
	MNT=$SRC find_daemon
	kill -TERM "$DAEMON"
	wait_no_daemon "$WORK" 10
	[ -z "$(mounts_below "$WORK")" ]
	[ "$(cat "$SRC/file")" = mine ]
}

@test "allow_other that is not permitted is said, and nothing is mounted" {
	open_device
	if grep -qs '^user_allow_other' /etc/fuse.conf; then skip "/etc/fuse.conf permits it here"; fi
	chown -R 65534:65534 "$SRC" "$MNT"
	run ! as_user timeout 20 "$BATCHIOFS" "$SRC" "$MNT" -o allow_other 3>&- 4>&-
	[[ $output == *allow_other* && $output == *user_allow_other* ]]
	[ -z "$(mounts_below "$WORK")" ]
	[ -z "$(daemons_below "$WORK")" ]
}

@test "a root mount is open to others by permissions, noallow_other closes it" {
	requires setpriv
	chmod 755 "$SRC"
	echo open >"$SRC/open"
	echo shut >"$SRC/shut"
	chmod 600 "$SRC/shut"
	mount_fs
	[ "$(as_user timeout 5 cat "$MNT/open")" = open ]
	run ! as_user timeout 5 cat "$MNT/shut"
	run ! as_user timeout 5 touch "$MNT/new"
	umount_fs
	mount_fs noallow_other
	run ! as_user timeout 5 cat "$MNT/open"
	umount_fs
}

@test "umount does not wait for ever for a copy of the mount in another mount namespace" {
	mount_fs
	unshare -m --propagation private sleep 8 3>&- 4>&- &
	holder=$!
	sleep 0.5
	run -0 within 30 "$BATCHIOFS" umount "$MNT"
	[[ $output == *"another mount namespace"* ]]
	[ -z "$(mounts_below "$WORK" | grep fuse.batchiofs)" ]
	wait "$holder"
}
