#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# sharing=auto|exclusive|shared: what it comes to, what does not go with it, and which mounts of one source go together.
# limit: 600
# once

load ../support/helpers

# ---- what it comes to ----

@test "auto is exclusive over the source itself, else shared" {
	mount_fs
	[ "$(stat_of sharing)" = shared ]
	umount_fs
	mount_fs sharing=exclusive
	[ "$(stat_of sharing)" = exclusive ]
	umount_fs
	mount_fs --at "$SRC" sharing=shared
	[ "$(stat_of sharing)" = shared ]
	umount_fs
	mount_fs --at "$SRC"
	[ "$(stat_of sharing)" = exclusive ]
	umount_fs
}

@test "auto is exclusive over the source by another name for it" {
	ln -s "$SRC" "$WORK/link"
	mount_fs --source "$WORK/link" --at "$WORK/src"
	[ "$(stat_of sharing)" = exclusive ]
	umount_fs
}

# ---- what does not go together ----

contradiction() { # WORD... OPTIONS
	refused 1 "${@:1:$#-1}" -- "$BATCHIOFS" "$SRC" "$MNT" -o "${!#}"
}

@test "exclusive with forwarded locks" {
	contradiction posix_locks sharing=exclusive "share the source" sharing=exclusive,posix_locks
	contradiction flock sharing=exclusive "share the source" flock,sharing=exclusive
	# Who asks for them has somebody to share with.
	mount_fs --at "$SRC" posix_locks flock
	[ "$(stat_of sharing)" = shared ]
	umount_fs
}

@test "shared with cache=writeback and with opens=none" {
	contradiction cache=writeback sharing=shared sharing=shared,cache=writeback
	contradiction opens=none sharing=shared opens=none,sharing=shared
	contradiction cache=writeback "sharing=auto is shared" cache=writeback
	contradiction opens=none "sharing=auto is shared" opens=none
	mount_fs sharing=exclusive cache=writeback opens=none
	umount_fs
	mount_fs sharing=shared cache=writethrough opens=message
	umount_fs
}

@test "opens=none with forwarded locks, whatever the sharing" {
	contradiction opens=none posix_locks sharing=exclusive,opens=none,posix_locks
	contradiction opens=none flock sharing=shared,opens=none,flock
}

# ---- one source, two mounts ----

# The claims of the test's mounts, all users' that may have some.
claims() {
	local dir
	for dir in /run/batchiofs/claims /run/user/65534/batchiofs/claims /tmp/batchiofs-65534/claims; do
		[[ ! -d $dir ]] || grep -l -F -e "$WORK/" -r "$dir" || true
	done
}

# A second mount, of SOURCE on $WORK/two with OPTIONS, is refused by the name of the first.
second_refused() { # SOURCE OPTIONS WORD...
	local source=$1 options=$2 before
	mkdir -p "$WORK/two"
	before=$(claims)
	refused 32 "cannot mount $source" "${@:3}" "sharing=shared" -- \
		"$BATCHIOFS" "$source" "$WORK/two" -o "backend=$BACKEND,$options"
	[ "$(claims)" = "$before" ]
}

second_mounts() { # SOURCE OPTIONS
	local mnt=$MNT
	mkdir -p "$WORK/two"
	mount_fs --source "$1" --at "$WORK/two" "$2"
	umount_fs
	MNT=$mnt
}

@test "exclusive: the same source again is refused, by name of the first" {
	mount_fs sharing=exclusive
	second_refused "$SRC" sharing=exclusive \
		"$SRC exclusively: it is the same directory as $SRC, which batchiofs mounts exclusively on $MNT (pid $DAEMON)"
	second_refused "$SRC" sharing=shared "$SRC: it is the same directory as" "exclusively on $MNT"
	second_refused "$SRC" sharing=auto "exclusively on $MNT"
	within 10 touch "$MNT/still-works"
	umount_fs
	[ -z "$(claims)" ]
	second_mounts "$SRC" sharing=exclusive
}

@test "exclusive beside shared is refused too" {
	mount_fs sharing=shared
	second_refused "$SRC" sharing=exclusive exclusively "with sharing=shared on $MNT (pid $DAEMON)"
	refused 32 "cannot mount $SRC exclusively" "$MNT" -- "$BATCHIOFS" "$SRC" "$SRC"
	umount_fs
}

@test "a source above or below an exclusive one is refused" {
	mkdir -p "$SRC/a/b/c"
	mount_fs --source "$WORK/src/a/b" sharing=exclusive
	second_refused "$WORK/src/a/b/c" sharing=exclusive "it lies below $WORK/src/a/b"
	second_refused "$WORK/src/a/b/c" sharing=shared "it lies below $WORK/src/a/b"
	second_refused "$WORK/src/a" sharing=exclusive "it contains $WORK/src/a/b"
	second_refused "$WORK/src" sharing=shared "it contains $WORK/src/a/b"
	umount_fs
}

@test "a source by a symbolic link and by a bind mount is recognised" {
	requires_root
	mkdir -p "$SRC/a/b" "$WORK/bound" "$WORK/bound-b"
	ln -s "$SRC/a" "$WORK/link"
	mount --bind "$SRC/a" "$WORK/bound"
	mount --bind "$SRC/a/b" "$WORK/bound-b"
	mount_fs --source "$SRC/a" sharing=exclusive
	refused 32 "is the same directory as $SRC" -- "$BATCHIOFS" "$WORK/link" "$WORK/bound-b"
	refused 32 "lies below $SRC" -- "$BATCHIOFS" "$WORK/link/b" "$WORK/bound-b"
	second_refused "$WORK/bound" sharing=exclusive "is the same directory as $SRC"
	second_refused "$WORK/bound-b" sharing=exclusive "lies below $SRC"
	second_refused "$WORK/bound/b" sharing=shared "lies below $SRC"
	umount_fs
	mount_fs --source "$WORK/bound-b" sharing=exclusive
	second_refused "$WORK/src/a" sharing=shared "contains $WORK/bound-b"
	umount_fs
}

@test "beneath a mount over the source itself, a bind mount made before leads to the same source" {
	requires_root
	mount_fs --over
	second_refused "$BELOW" sharing=auto "is the same directory as $SRC" "exclusively on $SRC"
	umount_fs
}

@test "a file system inside the source belongs to it" {
	requires_root
	mkdir -p "$SRC/with blank/fs" "$WORK/elsewhere"
	mount -t tmpfs none "$SRC/with blank/fs"
	mkdir "$SRC/with blank/fs/dir"
	mount --bind "$SRC/with blank/fs" "$WORK/elsewhere"
	mount_fs sharing=exclusive
	second_refused "$SRC/with blank/fs" sharing=exclusive "lies below $SRC"
	second_refused "$SRC/with blank/fs/dir" sharing=shared "lies below $SRC"
	second_refused "$WORK/elsewhere/dir" sharing=exclusive "lies below $SRC"
	umount_fs
	mount_fs --source "$WORK/src/with blank/fs/dir" sharing=exclusive
	second_refused "$WORK/src" sharing=shared "contains $WORK/src/with blank/fs/dir"
	umount_fs
}

@test "shared mounts of one source, and of directories above and below, live together" {
	mkdir -p "$SRC/sub"
	mount_fs sharing=shared
	second_mounts "$SRC" sharing=auto
	second_mounts "$WORK/src/sub" sharing=shared
	MNT=$WORK/mnt
	umount_fs
}

@test "exclusive mounts of unrelated directories, and of neighbours with a common start of their names" {
	mkdir -p "$SRC/b" "$SRC/bc" "$SRC/a"
	mount_fs --source "$WORK/src/b" sharing=exclusive
	second_mounts "$WORK/src/bc" sharing=exclusive
	second_mounts "$WORK/src/a" sharing=exclusive
	umount_fs
}

@test "a mount of what a batchiofs mount shows: shared, never exclusive" {
	mkdir -p "$SRC/sub"
	mount_fs --over
	second_refused "$SRC" sharing=exclusive "in the batchiofs mount of $SRC on $SRC"
	refused 32 "in the batchiofs mount of $SRC on $SRC" -- "$BATCHIOFS" "$SRC/sub" "$SRC/sub"
	second_mounts "$SRC" sharing=auto
	MNT=$WORK/src
	umount_fs
}

@test "after SIGKILL the claim is stale, and gone when the next one comes" {
	requires_root
	mount_fs sharing=exclusive nosupervise
	[ "$(claims | wc -l)" -eq 1 ]
	kill -KILL "$DAEMON"
	wait_no_daemon "$WORK" 10
	umount -l "$MNT"
	# Any mount on this machine that comes next takes it away.
	[ "$(claims | wc -l)" -le 1 ]
	mount_fs sharing=exclusive
	[ "$(claims | wc -l)" -eq 1 ]
	umount_fs
	[ -z "$(claims)" ]
}

@test "after a failed mount, SIGTERM and a lazy unmount no claim is left" {
	refused 1 -- "$BATCHIOFS" "$SRC" "$MNT" -o sharing=exclusive,max_read=nonsense
	[ -z "$(claims)" ]
	mount_fs sharing=exclusive
	kill -TERM "$DAEMON"
	wait_no_daemon "$WORK" 10
	[ -z "$(claims)" ]
	mount_fs sharing=exclusive
	within 10 "$BATCHIOFS" umount -l "$MNT"
	wait_no_daemon "$WORK" 10
	[ -z "$(claims)" ]
}

@test "of two exclusive mounts started at once exactly one wins" {
	mkdir -p "$WORK/two"
	for _ in {1..20}; do
		first=0 second=0
		within 30 "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND,sharing=exclusive" 3>&- 4>&- &
		pid=$!
		within 30 "$BATCHIOFS" "$SRC" "$WORK/two" -o "backend=$BACKEND,sharing=exclusive" 3>&- 4>&- || second=$?
		wait "$pid" || first=$?
		echo "ended with $first and $second"
		[[ "$first $second" == "0 32" || "$first $second" == "32 0" ]]
		[ "$(mounts_below "$WORK" | grep -c fuse.batchiofs)" -eq 1 ]
		[ "$(claims | wc -l)" -eq 1 ]
		if ((first)); then umount_fs "$WORK/two"; else umount_fs "$MNT"; fi
	done
	[ -z "$(claims)" ]
}

@test "a second time over the source itself, at once: one wins" {
	for _ in {1..10}; do
		first=0 second=0
		within 30 "$BATCHIOFS" "$SRC" "$SRC" -o "backend=$BACKEND" 3>&- 4>&- &
		pid=$!
		within 30 "$BATCHIOFS" "$SRC" "$SRC" -o "backend=$BACKEND" 3>&- 4>&- || second=$?
		wait "$pid" || first=$?
		echo "ended with $first and $second"
		[[ "$first $second" == "0 32" || "$first $second" == "32 0" ]]
		umount_fs "$SRC"
	done
}

# ---- ordinary users ----

setup_user() {
	requires_root
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_RUN_TMPDIR/test" "$BATS_TEST_TMPDIR"
	requires_user_mounts
	mkdir -p "$SRC/sub" "$WORK/two"
	chown -R 65534:65534 "$SRC" "$MNT" "$WORK/two"
}

@test "an ordinary user's claims bind his own mounts" {
	setup_user
	within 20 as_user "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND,sharing=exclusive" 3>&- 4>&-
	[ "$(claims | wc -l)" -eq 1 ]
	refused 32 "lies below $SRC" "exclusively on $MNT" -- as_user "$BATCHIOFS" "$SRC/sub" "$WORK/two"
	within 20 as_user "$BATCHIOFS" umount "$MNT"
	[ -z "$(claims)" ]
	within 20 as_user "$BATCHIOFS" "$SRC" "$SRC" -o "backend=$BACKEND" 3>&- 4>&-
	within 20 as_user "$BATCHIOFS" umount "$SRC"
}

@test "root's claims bind an ordinary user's mounts, which can neither change nor hold them" {
	setup_user
	mount_fs sharing=exclusive
	refused 32 "lies below $SRC" "exclusively on $MNT (pid $DAEMON)" -- \
		as_user "$BATCHIOFS" "$SRC/sub" "$WORK/two"
	claim=$(claims)
	as_user test -r "$claim"
	run ! as_user sh -c ': >>"$1"' - "$claim"
	run ! as_user cat /run/batchiofs/claims/lock
	run ! as_user rm -f "$claim"
	umount_fs
	within 20 as_user "$BATCHIOFS" "$SRC/sub" "$WORK/two" -o "backend=$BACKEND" 3>&- 4>&-
	within 20 as_user "$BATCHIOFS" umount "$WORK/two"
}
