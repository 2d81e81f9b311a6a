#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# What only an exclusive mount does: nothing is asked twice, opens send nothing and share one handle a file, writes are gathered
# by the kernel, and the sync of a clean file costs nothing. And what must be true all the same.
#
# sharing: exclusive
# limit: 600
# ring

load ../support/helpers
load ../support/compare
load ../support/faulty

# Lets the kernel drop what nobody uses.
drop_caches() {
	requires_root
	echo 3 >/proc/sys/vm/drop_caches
}

# ---- Messages ----

# How often each kind of request has come, a line a kind.
requests() {
	within 10 "$BATCHIOFS" stats "$MNT" --json >"$WORK/stats.json" || return
	sqlite3 :memory: "SELECT key, value FROM json_each(readfile('$WORK/stats.json'), '\$.requests') ORDER BY key"
}

# What a command makes the kernel ask once all is known, `KIND COUNT` a line. The best of some tries: on a machine short of
# memory the kernel may have dropped something.
asked_by() { # COMMAND...
	local least='' count
	for _ in {1..6}; do
		requests >"$WORK/before"
		within 30 "$@" >/dev/null
		requests >"$WORK/after"
		join -t '|' -a 2 -e 0 -o 0,1.2,2.2 "$WORK/before" "$WORK/after" |
			awk -F '|' '$2 != $3 { print $1, $3 - $2 }' >"$WORK/asked"
		count=$(awk '{ n += $2 } END { print n + 0 }' "$WORK/asked")
		if [[ -z $least || $count -lt $least ]]; then
			cp "$WORK/asked" "$WORK/least"
			least=$count
		fi
	done
	cat "$WORK/least"
}

make_files() { # DIR
	local d i
	for d in a b c d; do
		mkdir -p "$1/$d"
		for i in {1..40}; do echo "file $i of $d" >"$1/$d/f$i"; done
	done
}

@test "what is known is not asked again: stat, a walk, names that are not there, reading" {
	make_files "$SRC"
	mount_fs cache=writethrough
	[ -z "$(asked_by find "$MNT" -type f -exec stat {} +)" ] || [ "$(asked_by find "$MNT" -type f -exec stat {} +)" = "statfs 1" ]
	[ -z "$(asked_by sh -c 'cat "$1"/*/*' - "$MNT")" ]
	[ -z "$(asked_by sh -c 'ls "$1"/*' - "$MNT")" ]
	[ -z "$(asked_by sh -c '! cat "$1/none" "$1/a/none" "$1/none/none"' - "$MNT")" ]
	# fts(3) asks for the kind of file system, once; ls -l for attributes of each file that the kernel does not keep.
	[ -z "$(asked_by grep -r 'file 7' "$MNT" | grep -v '^statfs 1$')" ]
	[ -z "$(asked_by ls -lR "$MNT" | grep -vE '^(getxattr|listxattr) ')" ]
}

@test "with the writeback cache, a close makes the kernel ask for attributes once, and for nothing else" {
	local asked
	make_files "$SRC"
	mount_fs
	within 30 find "$MNT" -type f -newer "$MNT" >/dev/null
	asked=$(asked_by grep -r 'file 7' "$MNT/a" | grep -v '^statfs 1$')
	echo "$asked"
	# 40 files and a directory, file by file or by a listing (habits.bats).
	[ "$(awk '$1 == "getattr" || $1 == "statx" { n += $2 } END { print n + 0 }' <<<"$asked")" -le 41 ]
	[ -z "$(grep -vE '^(getattr|statx|readdir|readdirplus) ' <<<"$asked" | grep .)" ]
}

@test "opens, closes and new files: no message but the one that makes the file" {
	requires_root
	mount_fs
	make_files "$MNT"
	[ "$(stat_of requests.mknod)" = 160 ]
	# Asked once each, to learn that they need not be.
	[ "$(stat_of requests.open)" -le 1 ]
	[ "$(stat_of requests.create)" -le 1 ]
	[ "$(stat_of requests.release)" = '' ]
	within 10 sh -c 'cat "$1"/*/* && ls -R "$1"' - "$MNT" >/dev/null
	[ "$(stat_of requests.open)" -le 1 ]
	[ "$(stat_of requests.opendir)" -le 1 ]
	[ "$(stat_of requests.releasedir)" = '' ]
	[ "$(stat_of handles.open)" = 0 ]
}

# ---- Syncs ----

# Runs the lines of standard input, with the file f open, then a sync of f (or H): clean or issued. Counts since
# CLEAN and ISSUED, or now.
sync_after() { # fsync|fdatasync [H]
	local clean=${CLEAN:-} issued=${ISSUED:-}
	clean=${clean:-$(stat_of fsyncs.clean)} issued=${issued:-$(stat_of fsyncs.issued)}
	{ echo "open f $MNT/f rdwr" && grep . && echo "$1 ${2:-f}"; } >"$WORK/commands"
	within 30 "$BUILD/tests/posix_tool" <"$WORK/commands" >"$WORK/answers" || return
	if grep '^E' "$WORK/answers"; then return 1; fi
	case $(($(stat_of fsyncs.clean) - clean)):$(($(stat_of fsyncs.issued) - issued)) in
	1:0) echo clean ;;
	# A flush that began when the write had ended: the sync joined it, or found it done.
	0:1 | 1:1) echo issued ;;
	*) echo "$(stat_of fsyncs.clean) after $clean, $(stat_of fsyncs.issued) after $issued" ;;
	esac
}

# After each of the changes of f, made by a shell in the mount, a sync is made, and the one after it is not.
each_is_synced() { # COMMAND...
	local change
	for change; do
		echo "after $change"
		CLEAN=$(stat_of fsyncs.clean) ISSUED=$(stat_of fsyncs.issued)
		(cd "$MNT" && within 5 sh -c "$change")
		[ "$(sync_after fsync <<<"size f")" = issued ]
		unset CLEAN ISSUED
		[ "$(sync_after fsync <<<"size f")" = clean ]
	done
}

@test "the sync of a clean file is answered at once, and not after any change of it" {
	local held
	requires setfattr
	mount_fs
	within 5 sh -c 'head -c 20000 /dev/zero >"$1/f"; echo x >"$1/g"' - "$MNT"
	# A file that the kernel forgets is not known to be clean: other tests have it drop what nobody uses.
	exec {held}<"$MNT/f"
	[ "$(sync_after fsync <<<"size f")" = issued ]
	[ "$(sync_after fsync <<<"size f")" = clean ]
	[ "$(sync_after fdatasync <<<"size f")" = clean ]
	[ "$(sync_after fsync <<<"read f 0 100")" = clean ]
	while IFS= read -r change; do
		echo "after $change"
		[ "$(sync_after fsync <<<"$change")" = issued ]
		[ "$(sync_after fsync <<<"size f")" = clean ]
	done <<-END
		write f 0 100 a
		write f 20000 100 b
		truncate f 10000
		truncate f 10000
		truncate f 30000
		fallocate f keep 0 100000
		fallocate f punch 4096 4096
	END
	[ "$(sync_after fsync < <(printf '%s\n' 'map f 8192' 'store f 10 1 m'))" = issued ]
	[ "$(sync_after fsync < <(printf '%s\n' "open g $MNT/g rdwr" 'copy g 0 f 0 2'))" = issued ]
	each_is_synced 'chmod 600 f' 'touch -d @5 f' 'touch -m -d @7 f' 'ln f l' 'rm l' 'mv f e && mv e f' 'echo z >>f' \
		'setfattr -n user.a -v b f' 'setfattr -x user.a f' 'chgrp 0 f'
	# A flush of data alone does not make names and rights clean.
	within 5 chmod 644 "$MNT/f"
	[ "$(sync_after fdatasync <<<"size f")" = issued ]
	[ "$(sync_after fdatasync <<<"size f")" = clean ]
	[ "$(sync_after fsync <<<"size f")" = issued ]
	# A new file with a new name is not clean before its first sync.
	[ "$(sync_after fsync n <<<"open n $MNT/n rdwr,creat")" = issued ]
	# Known for our own, and not found out as others'.
	[ "$(stat_of outside_changes)" = 0 ]
	exec {held}<&-
}

# With gathered writes the kernel itself tells of a file's new times, so that such changes are noticed anyhow.
@test "the sync of a clean file is made after changes of its names and its space where the kernel writes through" {
	local held
	mount_fs cache=writethrough
	within 5 sh -c 'echo x >"$1/f"' - "$MNT"
	exec {held}<"$MNT/f"
	[ "$(sync_after fsync <<<"size f")" = issued ]
	each_is_synced 'ln f l' 'rm l' 'mv f e && mv e f' 'fallocate -n -l 100000 f' 'truncate -s 9000 f' 'fallocate -p -o 0 -l 4096 f'
	[ "$(stat_of outside_changes)" = 0 ]
	exec {held}<&-
}

# ---- What is left after the unmount ----

# Name, size, links, mode and contents of all files.
told() { # DIR
	(cd "$1" && within 60 find . -type f -printf '%p %s %n %m\n' | sort && within 60 find . -type f -exec sha256sum {} + | sort -k 2)
}

@test "size, content, links and mode are the same after a remount, whatever changed them" {
	make_files "$SRC"
	head -c 30000 /dev/urandom >"$SRC/a/f1"
	head -c 30000 /dev/urandom >"$SRC/a/f2"
	head -c 30000 /dev/urandom >"$SRC/a/f3"
	head -c 30000 /dev/urandom >"$SRC/a/f4"
	mount_fs
	expect <<-END
		open a $MNT/a/f1 wronly,append -> ok
		write a - 10 a -> 10
		open p $MNT/a/f2 wronly -> ok
		write p 5000 10 p -> 10
		open t $MNT/a/f3 rdwr -> ok
		truncate t 10001 -> ok
		truncate t 20001 -> ok
		write t 15000 1 t -> 1
		truncate t 15000 -> ok
		truncate t 40000 -> ok
		open m $MNT/a/f4 rdwr -> ok
		map m 30000 -> ok
		store m 29999 1 m -> ok
		msync m -> ok
		store m 8000 9000 n -> ok
		unmap m -> ok
		open f $MNT/a/f5 rdwr -> ok
		fallocate f plain 4096 100000 -> ok
		fallocate f keep 300000 5000 -> ok
		write f 200000 3 f -> 3
		open c $MNT/a/f6 rdwr -> ok
		copy a 0 c 5 7 -> EBADF
		copy m 0 c 5 20000 -> 20000
		write c 0 1 c -> 1
		open n $MNT/new rdwr,creat -> ok
		write n 100 100 n -> 100
	END
	(
		cd "$MNT"
		within 60 cp -a a a.copy
		within 60 cp -r b b.copy
		for i in {1..200}; do echo "$i" >"many$i"; done
		touch -d '2001-02-03 04:05:06.123456789' many1
		touch -m -d '2001-02-03 04:05:06.123456789' many2
		touch -a -d '2001-02-03 04:05:06' many3
		chmod 4711 many4
		ln many5 linked
		mv many6 many7
		truncate -s 1 many8
	)
	told "$MNT" >"$WORK/mounted"
	umount_fs
	told "$SRC" >"$WORK/source"
	mount_fs
	told "$MNT" >"$WORK/again"
	diff "$WORK/mounted" "$WORK/source"
	diff "$WORK/mounted" "$WORK/again"
}

@test "times: set ones stay to the nanosecond, those of writes as the mount showed them; ctime does not go back" {
	mount_fs
	within 10 sh -c 'cd "$1" && for f in set both appended mapped kept allocated copied cut grown over direct; do
		head -c 8192 /dev/zero >$f; done' - "$MNT"
	umount_fs
	sleep 0.05
	mount_fs
	within 10 touch -m -d '1999-12-31 23:59:59.123456789' "$MNT/set"
	within 10 touch -d '@4000000000.000000001' "$MNT/both"
	within 10 sh -c 'echo more >>"$1"' - "$MNT/appended"
	expect <<-END
		open m $MNT/mapped rdwr -> ok
		map m 4096 -> ok
		store m 0 1 m -> ok
		msync m -> ok
		unmap m -> ok
		open a $MNT/allocated rdwr -> ok
		fallocate a plain 0 100000 -> ok
		open c $MNT/copied rdwr -> ok
		copy a 0 c 100 1000 -> 1000
		open t $MNT/cut rdwr -> ok
		truncate t 10 -> ok
		open g $MNT/grown rdwr -> ok
		truncate g 100000 -> ok
		open o $MNT/over wronly -> ok
		write o 100 1 o -> 1
		open d $MNT/direct rdwr,direct -> ok
		write d 4096 4096 d -> 4096
	END
	# After the bytes, which are still gathered, a time that is to stay.
	within 10 sh -c 'exec 3>>"$1"; echo more >&3; touch -d @77.5 "$1"; exec 3>&-' - "$MNT/kept"
	within 10 stat -c '%n %y' "$MNT"/* >"$WORK/mounted"
	within 10 stat -c %.9Z "$MNT"/* >"$WORK/mounted.ctime"
	[ "$(within 10 stat -c %.1Y "$MNT/kept")" = 77.5 ]
	umount_fs
	mount_fs
	within 10 stat -c '%n %y' "$MNT"/* | diff "$WORK/mounted" -
	# No ctime is older than what was shown.
	within 10 stat -c %.9Z "$MNT"/* | paste "$WORK/mounted.ctime" - | awk '$2 < $1 - 0.02 { print; bad = 1 } END { exit bad }'
}

@test "a time that a program sets is the source's at once, and not lost with the daemon" {
	requires_root
	mount_fs nosupervise
	within 5 sh -c 'echo text >"$1/f" && touch -m -d @1000.5 "$1/f"' - "$MNT"
	[ "$(stat -c %.1Y "$SRC/f")" = 1000.5 ]
	kill -KILL "$DAEMON"
	wait_no_daemon "$WORK" 10
	umount -l "$MNT"
	mount_fs
	[ "$(within 5 stat -c %.1Y "$MNT/f")" = 1000.5 ]
	umount_fs
}

# Makes files on the mount by SCRIPT; their sizes and times are the same when the kernel has forgotten them.
times_survive_forgetting() { # SCRIPT
	requires_root
	mount_fs
	within 10 sh -c "cd \"\$1\" && $1" - "$MNT"
	within 10 stat -c '%n %s %.9Y' "$MNT"/* >"$WORK/before"
	drop_caches
	same_times
}

same_times() {
	within 10 stat -c '%n %s %.9Y' "$MNT"/* | diff "$WORK/before" -
}

@test "what a file's times are does not change when the kernel forgets it" {
	times_survive_forgetting 'for i in 1 2 3 4; do echo $i >f$i; sleep 0.05; echo more >>f$i; done'
}

@test "a file written as soon as it is made has the same time after a remount" {
	times_survive_forgetting 'for i in $(seq 40); do echo $i >f$i; done'
	umount_fs
	mount_fs
	same_times
}

@test "more files than are kept: all that was written is there, and descriptors are bounded" {
	requires_root
	ulimit -S -n 300
	ulimit -H -n 300
	mount_fs
	within 100 perl -e 'for (1..2000) { open(F, ">", "$ARGV[0]/$_") or die "$_: $!"; print F "$_\n" x ($_ % 50 + 1); close F or die }' \
		"$MNT"
	[ "$(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l)" -lt 300 ]
	within 60 perl -e 'for (1..2000) { open(F, "<", "$ARGV[0]/$_") or die; local $/; <F> eq "$_\n" x ($_ % 50 + 1) or die $_ }' "$MNT"
	# Many open at the same time, changed, synced and read.
	within 60 perl -e 'use IO::Handle; for (1..250) { open(my $f, "+<", "$ARGV[0]/$_") or die "$_: $!"; push @f, $f }
		for (@f) { syswrite($_, "Z") == 1 or die } for (@f) { $_->sync or die "$!" }
		for (@f) { sysseek($_, 0, 0); sysread($_, $b, 1); $b eq "Z" or die }' "$MNT"
	[ "$(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l)" -lt 300 ]
	checksums "$MNT" >"$WORK/sums"
	umount_fs
	checksums "$SRC" | diff "$WORK/sums" -
	mount_fs
	checksums "$MNT" | diff "$WORK/sums" -
	[ "$(wc -l <"$WORK/sums")" = 2000 ]
}

@test "out of descriptors, with files that wait for the device: whoever wants more waits, and none fails" {
	local writers=() i
	requires_root
	ulimit -S -n 80
	ulimit -H -n 80
	mount_fs
	for i in 1 2 3 4 5 6 7 8; do
		timeout 100 perl -e 'for (1..200) { open(F, ">", "$ARGV[0]/$ARGV[1].$_") or die "$_: $!"; print F "$_\n" x ($_ % 50 + 1); close F or die "$_: $!" }' \
			"$MNT" "$i" &
		writers+=($!)
	done
	for i in $(seq 20); do
		within 20 sync -f "$MNT"
	done
	for i in "${writers[@]}"; do
		wait "$i"
	done
	within 60 perl -e 'for $w (1..8) { for (1..200) { open(F, "<", "$ARGV[0]/$w.$_") or die "$w.$_: $!"; local $/; <F> eq "$_\n" x ($_ % 50 + 1) or die "$w.$_" } }' \
		"$MNT"
}

# ---- Holes ----

@test "SEEK_DATA and SEEK_HOLE see what is not written back yet; cp keeps a fresh file sparse" {
	mount_fs
	expect <<-END
		open f $MNT/f rdwr,creat -> ok
		truncate f 4194304 -> ok
		data f 0 -> ENXIO
		write f 1048576 4096 a -> 4096
		data f 0 -> 1048576
		hole f 1048576 -> 1052672
		write f 3145728 65536 b -> 65536
		data f 1052672 -> 3145728
		map f 8192 -> ok
		store f 0 1 m -> ok
		data f 0 -> 0
		hole f 0 -> 4096
		data f 4194303 -> ENXIO
	END
	within 10 cp --sparse=auto "$MNT/f" "$MNT/copy"
	within 10 cmp "$MNT/f" "$MNT/copy"
	[ "$(within 10 stat -c %b "$MNT/copy")" -le 200 ]
}

# ---- Files in use ----

@test "an open file goes on when it is unlinked, renamed over, truncated, closed to its owner; a directory when it is removed" {
	mount_fs
	same_as_bare '
		echo one >f; exec 3<>f; rm f; echo two >&3; cat /proc/self/fd/3; stat -L -c "%h %s" /proc/self/fd/3
		sync /proc/self/fd/3; echo three >&3; cat /proc/self/fd/3; exec 3<&-
		echo old >f; exec 4<>f; echo new >g; mv g f; echo more >&4; cat /proc/self/fd/4; cat f; exec 4<&-
		exec 5>>f; : >f; echo tail >&5; cat f; exec 5>&-
		mkdir d; touch d/a d/b; exec 6<d; rm -r d; ls -a /proc/self/fd/6/; touch /proc/self/fd/6/x || echo $?; exec 6<&-
		mkdir d; echo another >d/a; cat d/a'
	expect <<-END
		open t $MNT rdwr,tmpfile -> ok
		write t 0 100000 t -> 100000
		fsync t -> ok
		write t 100000 10 u -> 10
		link t $MNT/linked -> ok
		write t 100010 10 v -> 10
	END
	[ "$(within 5 tail -c 20 "$MNT/linked")" = uuuuuuuuuuvvvvvvvvvv ]
	umount_fs
	[ "$(stat -c '%s %h' "$SRC/linked")" = "100020 1" ]
	[ "$(tail -c 20 "$SRC/linked")" = uuuuuuuuuuvvvvvvvvvv ]
}

@test "unlinked while open, and its descriptors long given to others: still the same file" {
	requires_root
	mkdir "$SRC/many"
	(cd "$SRC/many" && for i in $(seq 1000); do echo "$i" >"$i"; done)
	ulimit -S -n 200
	ulimit -H -n 200
	mount_fs
	within 60 sh -c 'cd "$1" && exec 3<>many/7 && rm many/7 && echo more >&3 && cat many/* >/dev/null && echo again >&3 &&
		cat many/* >/dev/null && sync /proc/self/fd/3 && cat /proc/self/fd/3' - "$MNT" >"$WORK/out"
	[ "$(cat "$WORK/out")" = $'more\nagain' ]
	# And where they were others' already when it was unlinked (without a look at it before, as rm has it). The kernel keeps what it
	# has read, and would not ask again.
	umount_fs
	mount_fs
	within 60 sh -c 'cd "$1" && exec 3<>many/8 && echo more >&3 && cat many/9* many/[1-6]* >/dev/null && unlink many/8 &&
		echo again >&3 && sync /proc/self/fd/3 && cat /proc/self/fd/3' - "$MNT" >"$WORK/out"
	[ "$(cat "$WORK/out")" = $'more\nagain' ]
}

@test "an ordinary user writes on through what he opened before the rights went, and opens nothing after" {
	requires_root
	requires setpriv
	let_users_in
	mount_fs
	# shellcheck disable=SC2016 # the script's own
	as_user timeout 10 sh -c 'cd "$1" && echo one >f && exec 3>>f && chmod 000 f && echo two >&3 && sync /proc/self/fd/3 2>/dev/null
		echo three >&3 && exec 3>&-; ! cat f && ! sh -c ": >>f" && chmod 600 f && cat f' - "$MNT" >"$WORK/out" 2>/dev/null
	[ "$(cat "$WORK/out")" = $'one\ntwo\nthree' ]
	umount_fs
	[ "$(cat "$SRC/f")" = $'one\ntwo\nthree' ]
}

# ---- What may only be read ----

only_reads() { # SOURCE
	mount_fs --source "$1"
	[ "$(within 5 cat "$MNT/f")" = text ]
	within 5 ls "$MNT" >/dev/null
	within 5 sync "$MNT/f"
	run -1 within 5 touch "$MNT/new"
	[[ $output == *"Read-only file system"* ]]
	umount_fs
}

@test "what nobody may write is read: an immutable file, a read-only mount of ours and of the source" {
	requires_root
	requires chattr
	make_loop ext4 64M
	echo text >"$SRC/f"
	echo text >"$SRC/i"
	chattr +i "$SRC/i"
	mount_fs
	[ "$(within 5 cat "$MNT/i")" = text ]
	within 5 dd if="$MNT/i" of=/dev/null iflag=direct status=none
	within 5 sync "$MNT/i"
	run ! within 5 sh -c ': >"$1/i"' - "$MNT"
	within 5 chattr -i "$MNT/i"
	within 5 sh -c 'echo more >>"$1/i"' - "$MNT"
	[ "$(within 5 cat "$MNT/i")" = $'text\nmore' ]
	umount_fs
	[ "$(cat "$SRC/i")" = $'text\nmore' ]

	mount_fs ro
	[ "$(within 5 cat "$MNT/f" "$MNT/i")" = $'text\ntext\nmore' ]
	within 5 sync "$MNT/f"
	run -1 within 5 touch "$MNT/f"
	[[ $output == *"Read-only file system"* ]]
	umount_fs

	# A bind mount that is read-only, of a file system that is not, and then of one that is.
	mkdir "$WORK/bound"
	mount --bind "$SRC" "$WORK/bound"
	mount -o remount,bind,ro "$WORK/bound"
	only_reads "$WORK/bound"
	umount "$WORK/bound"
	mount -o remount,ro "$WORK/src"
	only_reads "$WORK/src"
}

# ---- Errors ----

@test "an error of writing back is told by the close, and by the next sync to each other who has the file open" {
	faulty_source
	mount_fs
	fault 'write EIO file=f count=1'
	expect <<-END
		open a $MNT/f rdwr,creat -> ok
		open b $MNT/f rdwr -> ok
		open g $MNT/g rdwr,creat -> ok
		write a 0 4096 a -> 4096
		write g 0 4096 g -> 4096
		close a -> EIO
		fsync b -> EIO
		fsync g -> ok
	END
	fault clear 'write ENOSPC file=h'
	head -c 100000 /dev/zero >"$WORK/data"
	run -1 within 10 cp "$WORK/data" "$MNT/h"
	[[ $output == *"No space left"* ]]
	run -1 within 10 dd if="$WORK/data" of="$MNT/h" bs=4k conv=fsync status=none
	[[ $output == *"No space left"* ]]
}

@test "a failed sync, by one descriptor for all, is told to each opener; the file stays failed until it is forgotten" {
	requires_root
	faulty_source
	mount_fs
	fault 'fsync EIO file=f count=1'
	expect <<-END
		open a $MNT/f rdwr,creat -> ok
		open b $MNT/f rdwr -> ok
		open g $MNT/g rdwr,creat -> ok
		write a 0 4096 a -> 4096
		write b 4096 4096 b -> 4096
		write g 0 4096 g -> 4096
		fsync a -> EIO
		fsync b -> EIO
		fdatasync b -> EIO
		fsync a -> EIO
		fsync g -> ok
		close a -> ok
		close b -> ok
		open c $MNT/f rdwr -> ok
		fsync c -> EIO
		write c 0 4096 c -> 4096
		fsync c -> EIO
	END
	[ "$(within 5 grep -c 'sync f ' "$SRC/.faultfs")" = 1 ]
	[ "$(stat_of fsyncs.refused_failed_file)" = 5 ]
	for _ in {1..100}; do
		drop_caches
		[ "$(stat_of inodes.known)" -gt 1 ] || break
		sleep 0.1
	done
	expect <<-END
		open c $MNT/f rdwr -> ok
		read c 0 8192 -> c*4096 b*4096
		write c 0 4096 d -> 4096
		fsync c -> ok
	END
	[ "$(within 5 grep -c 'sync f .* 0$' "$SRC/.faultfs")" = 1 ]
}

@test "a failed write-back is told to each opener, and the file stays failed" {
	requires_root
	faulty_source
	mount_fs
	fault 'write EIO file=f count=1'
	expect <<-END
		open a $MNT/f rdwr,creat -> ok
		open b $MNT/f rdwr -> ok
		write a 0 4096 a -> 4096
		fsync a -> EIO
		fsync a -> EIO
		fsync b -> EIO
		write b 0 4096 b -> 4096
		fsync b -> EIO
	END
}

# ---- A full source ----

# The kernel takes any answer to its writing back for all of it; a call that fell short must not get one.
@test "a source that is full amidst a write-back: fsync and close say so" {
	requires_root
	mount -t tmpfs -o size=600k none "$SRC"
	mount_fs
	run -1 within 20 dd if=/dev/zero of="$MNT/f" bs=1M count=1 conv=fsync status=none
	[[ $output == *'No space left'* ]]
	within 10 rm "$MNT/f"
	run -1 within 20 dd if=/dev/zero of="$MNT/f" bs=1M count=1 status=none
	[[ $output == *'No space left'* ]]
	within 10 rm "$MNT/f"
	within 20 dd if=/dev/zero of="$MNT/f" bs=400k count=1 conv=fsync status=none
}

@test "a source that fills up under appenders who sync: every acknowledged record is there" {
	requires_root
	make_loop ext4 12M # of blocks smaller than a page
	mount_fs
	touch "$SRC/log"
	run ! within 100 "$BUILD/tests/append_tool" append "$MNT/log" 4 0 "$WORK/log" sync
	[[ $output == *'No space left'* ]]
	umount_fs
	"$BUILD/tests/append_tool" verify "$SRC/log" "$WORK/log" lost
}

# ---- A cut of power ----

# Files made, filled, synced and renamed, one after the other; each line of the output is the name of one that is safe.
RENAMER='use IO::Handle; $| = 1; chdir $ARGV[0] or die;
for ($i = 1; ; $i++) {
	open(F, ">", "tmp") or die; print F "$i\n" x ($i % 2000 + 1); F->flush or die; F->sync or die if $i % 2;
	$i % 3 ? close F : 0; rename("tmp", "f$i") or die; $i % 3 ? open(F, "<", "f$i") || die : 0; F->sync or die; close F;
	print "f$i\n" }'

@test "power is cut at some instant: all that was synced is there" {
	local image copy round writers=()
	requires_root
	make_loop ext4 2G
	image=$(echo "$WORK"/ext4-*.img)
	touch "$SRC/log"
	mkdir "$SRC/d"
	mount_fs
	timeout 100 "$BUILD/tests/append_tool" append "$MNT/log" 4 0 "$WORK/log" sync 3>&- 4>&- &
	writers+=("$!")
	timeout 100 perl -e "$RENAMER" "$MNT/d" >"$WORK/names" 3>&- 4>&- &
	writers+=("$!")
	mkdir "$WORK/after"
	for round in 1 2 3 4 5; do
		sleep "$round.$((RANDOM % 1000))"
		# Nothing is acknowledged while the daemon is stopped, so that the image, which is what the device has been given, may
		# take its time to be copied. What the source's file system still holds in memory is not in it.
		kill -STOP "$WORKER"
		sleep 0.1
		cp "$WORK/log" "$WORK/log.$round"
		cp "$WORK/names" "$WORK/names.$round"
		copy=$WORK/image.$round
		cp --sparse=always "$image" "$copy"
		kill -CONT "$WORKER"
		within 30 mount -t ext4 -o loop "$copy" "$WORK/after"
		"$BUILD/tests/append_tool" verify "$WORK/after/log" "$WORK/log.$round" lost
		wc -l <"$WORK/names.$round"
		perl -e 'chdir $ARGV[0] or die; while (<STDIN>) { chomp; /f(\d+)/; local $/; open(F, "<", $_) or die "$_ is lost";
			<F> eq "$1\n" x ($1 % 2000 + 1) or die "$_ is not whole" }' "$WORK/after/d" <"$WORK/names.$round"
		umount "$WORK/after"
		rm "$copy"
	done
	[ "$(wc -l <"$WORK/names.$round")" -gt 20 ]
	kill "${writers[@]}"
	builtin wait "${writers[@]}" || true
}
