#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# The watch: the kernel keeps names, attributes and data for good, and a change that somebody else makes in the source
# is seen at once all the same. Where there is no watch, the program says so and the timeouts are short.
#
# limit: 600
# sharing: shared

load ../support/helpers

# The command gives WANT through the mount within 100 ms from now. So long as it takes several times that without the
# watch (the short timeout is a second, and what is looked at is warm), a slow machine gets a second and third chance.
seen() { # WANT COMMAND...
	local want=$1 start=${EPOCHREALTIME/./} got
	shift
	while :; do
		got=$(timeout 10 "$@" 2>&1) || got="failed: $got"
		[[ $got == "$want" ]] && return
		((${EPOCHREALTIME/./} - start < 100000)) || break
	done
	echo "not seen in 100 ms: $*: '$got' instead of '$want'"
	return 1
}

# Three times at most: warms WATCHED (a command), makes the change, and wants to see it.
change() { # CHANGE WANT COMMAND...
	local attempt change=$1
	shift
	for attempt in 1 2 3; do
		timeout 10 "${@:2}" >/dev/null 2>&1 || :
		timeout 10 "${@:2}" >/dev/null 2>&1 || :
		(cd "$SRC" && attempt=$attempt eval "$change") || return
		seen "${1//ATTEMPT/$attempt}" "${@:2}" && return
	done
	return 1
}

# All requests but those that open and close, which a shared mount always sends.
requests() {
	within 10 "$BATCHIOFS" stats "$MNT" --json >"$WORK/stats.json" || return
	sqlite3 :memory: "SELECT coalesce(sum(value), 0) FROM json_each(readfile('$WORK/stats.json'), '\$.requests')
		WHERE key NOT IN ('open', 'release', 'opendir', 'releasedir', 'flush', 'statfs', 'forget', 'batch_forget')"
}

watched() {
	requires_root
	requires sqlite3
	mount_fs "$@"
	[ "$(stat_of watch)" = fanotify ] || skip "no fanotify for this file system here"
}

# ---- seen at once ----

@test "changes of a file in the source are seen within 100 ms: data, size, mode, owner, times, attributes, ACL" {
	requires setfattr setfacl
	echo one >"$SRC/file"
	watched
	change 'echo $attempt two >file' 'ATTEMPT two' cat "$MNT/file"
	# As long and in the same tick: neither size nor mtime need tell.
	change 'printf "%s tri\n" $attempt >file' 'ATTEMPT tri' cat "$MNT/file"
	change 'printf %s $attempt | dd of=file conv=notrunc status=none' 'ATTEMPT tri' cat "$MNT/file"
	change 'truncate -s $attempt file' ATTEMPT stat -c %s "$MNT/file"
	change 'chmod 60$attempt file' 60ATTEMPT stat -c %a "$MNT/file"
	change 'chown 100$attempt:200$attempt file' 100ATTEMPT:200ATTEMPT stat -c %u:%g "$MNT/file"
	change 'touch -d @$attempt file' ATTEMPT stat -c %Y "$MNT/file"
	change 'ln -f file link && ln file link$attempt' "$((3))" stat -c %h "$MNT/file"
	change 'setfattr -n user.x -v $attempt file' ATTEMPT getfattr --absolute-names --only-values -n user.x "$MNT/file"
	acl() { getfacl -n --omit-header --absolute-names "$1" | grep ^user:1234; }
	export -f acl
	change 'setfacl -m u:1234:r,u:500$attempt:r file' 'user:1234:r--' bash -c 'acl "$1"' - "$MNT/file"
}

# What is told late, of a directory that is used by then, must not take it away.
@test "a directory that somebody else makes, entered at once, stays where it is" {
	local i
	watched
	for i in {1..30}; do
		mkdir "$SRC/d$i"
		(cd "$MNT/d$i" && sleep 0.06 && [[ $(within 5 readlink /proc/self/cwd) == "$PWD" ]]) || { echo "d$i" && return 1; }
	done
	mkdir "$SRC/e"
	(cd "$MNT/e" && sleep 1.5 && [[ $(within 5 readlink /proc/self/cwd) == "$PWD" ]])
	# Gone is gone, also told so.
	change 'rm -rf x; mkdir x; rmdir x' "gone" sh -c 'test -e "$1" || echo gone' - "$MNT/x"
}

@test "an access control list changed in the source counts at once" {
	requires setfacl setpriv
	echo secret >"$SRC/file"
	chmod 600 "$SRC/file"
	chmod 755 "$SRC"
	watched
	run ! within 10 as_user cat "$MNT/file"
	setfacl -m u:65534:r "$SRC/file"
	seen secret "${AS_USER[@]}" cat "$MNT/file"
	setfacl -b "$SRC/file"
	seen no "${AS_USER[@]}" sh -c 'cat "$1" 2>/dev/null || echo no' - "$MNT/file"
}

@test "names that come, go and move in the source are seen within 100 ms, listed and looked up" {
	mkdir -p "$SRC/a/sub" "$SRC/b"
	echo old >"$SRC/a/old"
	watched
	exists='[ -e "$1" ] && cat "$1" || echo none'
	change 'echo $attempt >a/new' ATTEMPT sh -c "$exists" - "$MNT/a/new"
	change 'rm a/new' none sh -c "$exists" - "$MNT/a/new"
	change 'echo $attempt >a/new' ATTEMPT sh -c "$exists" - "$MNT/a/new"
	[ "$(within 10 ls "$MNT/a")" = $'new\nold\nsub' ]
	change 'mv -f a/new a/newer 2>/dev/null || touch a/newer' $'newer\nold\nsub' ls "$MNT/a"
	seen none sh -c "$exists" - "$MNT/a/new"
	change 'mv -f a/newer b/newer 2>/dev/null || touch b/newer' newer ls "$MNT/b"
	seen $'old\nsub' ls "$MNT/a"
	change 'echo $attempt replaced >b/tmp && mv b/tmp a/old' 'ATTEMPT replaced' cat "$MNT/a/old"
	change 'mkdir b/dir$attempt && touch b/dir$attempt/in' in ls "$MNT/b/dir1"
	within 10 ls "$MNT/a/sub" "$MNT/b/dir1"
	change 'mv b/dir1 a/sub/moved 2>/dev/null || touch a/sub/moved/in' in ls "$MNT/a/sub/moved"
	seen none sh -c "$exists" - "$MNT/b/dir1"
	change 'rm -r a/sub/moved' '' ls "$MNT/a/sub"
	change 'ln -sfn target$attempt a/link' targetATTEMPT readlink "$MNT/a/link"
}

@test "a file that is open and mapped is seen as it is changed in the source, at the next look" {
	requires perl
	head -c 8192 /dev/zero | tr '\0' a >"$SRC/file"
	watched
	within 20 perl -e '
		my ($seen, $source) = @ARGV;
		open my $f, "<", $seen or die; my $got;
		sysread $f, $got, 8192; die "first" if $got ne "a" x 8192;
		# A slow machine gets a second and third chance, as above.
		for my $new ("b", "c", "d") {
			open my $s, "+<", $source or die; syswrite $s, $new x 8192; close $s;
			select undef, undef, undef, 0.1;
			sysseek $f, 0, 0; sysread $f, $got, 8192; exit if $got eq $new x 8192;
		}
		die "not seen: " . substr $got, 0, 1;
	' "$MNT/file" "$SRC/file"
}

@test "what is written through a mapping in the source is seen once the file is closed" {
	head -c 4096 /dev/zero | tr '\0' a >"$SRC/file"
	watched
	[ "$(within 10 head -c 1 "$MNT/file")" = a ]
	requires python3
	cat >"$WORK/through_mapping.py" <<-'EOF'
		import mmap, sys
		with open(sys.argv[1], "r+b") as f:
		    m = mmap.mmap(f.fileno(), 4096)
		    m[0] = ord(sys.argv[2])
		    m.close()
	EOF
	change 'python3 "$WORK/through_mapping.py" file "$attempt"' ATTEMPT head -c 1 "$MNT/file"
}

@test "over the source itself, changes beneath are seen as well, and two mounts see each other's at once" {
	echo one >"$SRC/file"
	watched --over sharing=shared
	[ "$(within 10 cat "$MNT/file")" = one ]
	echo two, longer >"$BELOW/file"
	seen 'two, longer' cat "$MNT/file"
	mkdir "$WORK/other"
	first=$MNT
	mount_fs --source "$BELOW" --at "$WORK/other"
	run ! within 10 cat "$WORK/other/new"
	within 10 sh -c 'echo new >"$1/new"' - "$first"
	seen new cat "$WORK/other/new"
	umount_fs "$WORK/other"
	umount_fs "$first"
}

# ---- and otherwise kept ----

@test "a warm tree is found, listed, looked at and read without a request" {
	cp -r "$HELPERS_DIR/../../src" "$SRC/tree"
	ln -s tree "$SRC/link"
	sleep 0.2
	watched
	look() {
		within 60 find "$MNT" -ls >/dev/null
		within 60 find "$MNT" -exec stat {} + >/dev/null
		within 60 grep -r 'no such text' "$MNT" || :
		within 60 readlink "$MNT/link" >/dev/null
		run ! within 10 cat "$MNT/nothing"
	}
	# Somebody may have the machine's caches dropped meanwhile.
	for attempt in 1 2 3; do
		look
		look
		before=$(requests)
		cp "$WORK/stats.json" "$WORK/before.json"
		look
		# Also when the short timeouts would be over.
		sleep 1.5
		look
		after=$(requests)
		[ "$before" -ne "$after" ] || break
		echo "attempt $attempt: $before requests, then $after:"
		diff "$WORK/before.json" "$WORK/stats.json" || :
	done
	[ "$before" -eq "$after" ]
	umount_fs
}

@test "own changes make nothing invalid" {
	make_loop ext4 64M
	requires fio
	watched
	was=$(stat_of watched.invalidations)
	within 60 sh -c '
		cd "$1" && mkdir d && echo x >d/f && cat d/f && echo y >>d/f && chmod 600 d/f && mv d/f d/g && ln d/g d/h &&
		setfattr -n user.x -v y d/g; truncate -s 1 d/g; rm d/h && cp d/g d/i && ls -lR . && rm -r d' - "$MNT"
	within 60 fio --name=j --directory="$MNT" --size=4m --rw=randrw --bs=4k --direct=1 --ioengine=libaio \
		--iodepth=16 --fsync=8 --minimal >/dev/null
	within 60 fio --name=k --directory="$MNT" --size=4m --rw=randrw --bs=4k --ioengine=psync --fsync=8 \
		--minimal >/dev/null
	sleep 0.1
	[ "$(stat_of watched.own)" -gt 0 ]
	[ "$(stat_of watched.invalidations)" -eq "$was" ]
	[ "$(stat_of watched.elsewhere)" -eq 0 ]
	umount_fs
}

# ---- when it is too much ----

@test "when events are lost, all is invalid, once said and counted" {
	local limit=/proc/sys/fs/fanotify/max_queued_events was lock
	requires_root
	requires perl flock
	[ -w "$limit" ] || skip "no $limit here"
	make_loop ext4 64M
	mkdir "$SRC/d"
	for i in $(seq 500); do echo "$i" >"$SRC/d/$i"; done
	# The machine's, so one test at a time lowers it, for as short as can be.
	exec {lock}>/tmp/batchiofs-test-fanotify.lock
	within 60 flock "$lock"
	was=$(cat "$limit")
	[ "$was" -gt 16 ] || was=16384
	echo 16 >"$limit"
	mount_fs {lock}>&- || :
	echo "$was" >"$limit"
	exec {lock}>&-
	is_mounted "$MNT"
	[ "$(stat_of watch)" = fanotify ] || skip "no fanotify here"
	within 20 sh -c 'cat "$1"/d/* >/dev/null; ls "$1/d" >/dev/null; cat "$1/d/new" 2>/dev/null' - "$MNT" || :
	# In one process, so that it is quicker than the watch looks.
	within 60 perl -e '
		for my $i (2 .. 500) { open my $f, ">", "$ARGV[0]/d/$i" or die; print $f "$i changed\n"; }
		unlink "$ARGV[0]/d/1"; open my $f, ">", "$ARGV[0]/d/new" or die; print $f "new\n";' "$SRC"
	for _ in {1..50}; do
		if [ "$(stat_of watched.overflows)" -gt 0 ]; then break; fi
		sleep 0.1
	done
	[ "$(stat_of watched.overflows)" -gt 0 ]
	seen new cat "$MNT/d/new"
	[ ! -e "$MNT/d/1" ]
	[ "$(within 10 ls "$MNT/d" | wc -l)" -eq 500 ]
	for i in $(seq 2 500); do echo "$i changed"; done | sort >"$WORK/want"
	within 20 sh -c 'find "$1/d" -name "[0-9]*" -exec cat {} +' - "$MNT" | sort >"$WORK/got"
	cmp "$WORK/want" "$WORK/got"
	umount_fs
}

@test "unmounted while the source's file system is busy, it ends at once and leaves nothing" {
	watched
	mkdir "$SRC/d"
	timeout 60 sh -c 'cd "$1"; i=0; while [ -e go ] || [ $i = 0 ]; do : >go; echo $i >f; mv f g; rm g; i=$((i+1)); done' \
		- "$SRC/d" 3>&- 4>&- &
	writer=$!
	sleep 0.2
	for i in 1 2 3 4 5; do
		within 10 ls "$MNT/d" >/dev/null
		umount_fs
		mount_fs
	done
	umount -l "$MNT"
	wait_no_daemon "$WORK" 10
	mount_fs
	within 10 ls "$MNT/d" >/dev/null
	kill -TERM "$DAEMON"
	wait_no_daemon "$WORK" 10
	kill "$writer"
	wait "$writer" || :
}

# A name that changes in a directory that somebody has locked in the mount: the watch waits for him, he for the daemon,
# and the daemon for the disk.
@test "a notification that has to wait holds nobody up: not its daemon's end, killed or not" {
	local sync
	requires_root
	requires mkfs.ext4 perl
	mkdir "$WORK/behind" "$WORK/disk"
	within 10 "$BUILD/tests/faultfs_tool" "$WORK/behind" "$WORK/disk" 3>&- 4>&- </dev/null
	truncate -s 64M "$WORK/behind/image"
	mkfs.ext4 -q -F "$WORK/behind/image"
	within 20 mount -o loop "$WORK/disk/image" "$SRC" || skip "no loop devices here"
	mkdir "$SRC/d" "$SRC/e"
	for end in TERM KILL; do
		mount_fs nosupervise
		[ "$(stat_of watch)" = fanotify ] || skip "no fanotify here"
		within 10 ls "$MNT/d" "$MNT/e" >/dev/null
		touch "$SRC/d/dirty$end"
		echo 'fsync OK delay=2000' >"$WORK/disk/.faultfs"
		timeout 60 sync "$MNT/d" 3>&- 4>&- &
		sync=$!
		sleep 0.3
		within 20 touch "$SRC/d/new$end"
		sleep 0.1
		grep -lq fuse_reverse_inval_entry "/proc/$DAEMON"/task/*/wchan || echo "it does not wait; a slow machine"
		kill "-$end" "$DAEMON"
		if [[ $end == KILL && $BACKEND == uring ]]; then within 20 umount -f "$MNT" || :; fi
		wait "$sync" || [ "$end" = KILL ]
		wait_no_daemon "$MNT" 20
		! is_mounted "$MNT" || umount -l "$MNT"
	done
	echo clear >"$WORK/disk/.faultfs"
	# A ring is taken down after its process.
	for _ in $(seq 100); do
		! within 20 umount "$SRC" 2>/dev/null || break
		sleep 0.1
	done
	within 10 umount "$WORK/disk"
}

# ---- where there is none ----

@test "an ordinary user's mount falls back to short timeouts, and says so" {
	requires_root
	requires_user_mounts
	chown 65534:65534 "$SRC" "$MNT"
	echo one >"$SRC/file"
	run -0 --separate-stderr as_user timeout 20 "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND" 3>&- 4>&-
	[[ $stderr == *"no watch on the source"*"after 1 s"*root* ]]
	[ "$(as_user timeout 10 "$BATCHIOFS" stats "$MNT" | awk '$1 == "watch" { print $2 }')" = none ]
	[ "$(as_user timeout 5 cat "$MNT/file")" = one ]
	echo three >"$SRC/file"
	touch "$SRC/new"
	sleep 1.2
	[ "$(as_user timeout 5 cat "$MNT/file")" = three ]
	as_user timeout 5 test -e "$MNT/new"
	as_user timeout 20 "$BATCHIOFS" umount "$MNT"
}

@test "on a source that a daemon serves there is none, and it is said" {
	requires_root
	mkdir "$WORK/behind"
	within 10 "$BUILD/tests/faultfs_tool" "$WORK/behind" "$SRC" 3>&- 4>&- </dev/null
	run -0 --separate-stderr within 20 "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND" 3>&- 4>&-
	[[ $stderr == *"no watch on the source"*"without this kernel's knowledge"* ]]
	[ "$(stat_of watch)" = none ]
	umount_fs
	umount "$SRC"
}

@test "mounts inside the source keep the short timeouts; the source itself has long ones" {
	mkdir -p "$SRC/tmp" "$SRC/bound" "$WORK/elsewhere/dir"
	requires_root
	mount -t tmpfs tmpfs "$SRC/tmp"
	mount --bind "$WORK/elsewhere" "$SRC/bound"
	echo one >"$SRC/tmp/file"
	echo one >"$SRC/file"
	watched
	[ "$(within 10 cat "$MNT/tmp/file")" = one ]
	[ "$(within 10 stat -c %s "$MNT/file" "$MNT/tmp/file" | xargs)" = '4 4' ]
	echo three >"$SRC/tmp/file"
	touch "$SRC/tmp/new"
	sleep 1.2
	[ "$(within 10 cat "$MNT/tmp/file")" = three ]
	within 10 test -e "$MNT/tmp/new"
	before=$(requests)
	within 10 stat -c %s "$MNT/file"
	[ "$(requests)" -eq "$before" ]
	sleep 1.2
	within 10 stat -c %s "$MNT/tmp/file"
	[ "$(requests)" -gt "$before" ]
	# Of the same file system, so watched, but an unmount is no event.
	within 10 ls "$MNT/bound/dir"
	umount -l "$SRC/bound"
	sleep 1.2
	run -2 within 10 ls "$MNT/bound/dir"
	umount_fs
	umount "$SRC/tmp"
}

@test "a file system mounted in the source is seen within 100 ms, with a blank in its path too" {
	mkdir -p "$SRC/a b/at" "$SRC/kept"
	echo below >"$SRC/a b/at/file"
	requires_root
	watched
	[ "$(within 10 cat "$MNT/a b/at/file")" = below ]
	# One of ours, in the mount, stays.
	within 10 mount -t tmpfs tmpfs "$MNT/kept"
	mount -t tmpfs tmpfs "$SRC/a b/at"
	echo above >"$SRC/a b/at/file"
	seen above cat "$MNT/a b/at/file"
	mountpoint -q "$MNT/kept"
	within 10 umount "$MNT/kept"
	umount -l "$SRC/a b/at"
	sleep 1.2
	[ "$(within 10 cat "$MNT/a b/at/file")" = below ]
	umount_fs
}

@test "watch=none and given timeouts are honoured; an exclusive mount watches nothing" {
	requires_root
	echo one >"$SRC/file"
	mount_fs watch=none
	[ "$(stat_of watch)" = none ]
	within 10 stat "$MNT/file"
	sleep 1.2
	before=$(requests)
	within 10 stat -c %s "$MNT/file"
	[ "$(requests)" -gt "$before" ]
	umount_fs
	mount_fs attr_timeout=0.2,entry_timeout=0.2
	within 10 stat "$MNT/file"
	sleep 0.4
	before=$(requests)
	within 10 stat -c %s "$MNT/file"
	[ "$(requests)" -gt "$before" ]
	umount_fs
	mount_fs sharing=exclusive
	[ "$(stat_of watch)" = none ]
	umount_fs
}
