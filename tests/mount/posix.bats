#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Finer points of file system behaviour that the public suites watch over, each against the bare directory.
#
# ring

load ../support/helpers
load ../support/compare

# ---- Times ----

# When the source's file and directory were last read, after both were read through a mount; before, it was in 1970.
last_read() { # [OPTION]
	touch -a -d @1000 "$SRC/file" "$SRC/dir"
	mount_fs "$@"
	within 10 cat "$MNT/file" >"$WORK/out"
	within 10 ls "$MNT/dir" >"$WORK/out"
	umount_fs
	stat -c %X "$SRC/file" "$SRC/dir" | xargs
}

@test "reading moves the source's time of access, but not where the mount has noatime or ro" {
	local option
	echo data >"$SRC/file"
	mkdir "$SRC/dir"
	for option in noatime ro; do
		run -0 last_read "$option"
		[ "$output" = "1000 1000" ]
	done
	touch -a -d @1000 "$SRC/file"
	cat "$SRC/file" >"$WORK/out"
	if [[ $(stat -c %X "$SRC/file") == 1000 ]]; then skip "the source keeps no time of access itself"; fi
	run -0 last_read
	[[ $output != *1000* ]]
}

@test "files made and written with noatime are like any other" {
	mount_fs noatime
	same_as_bare 'echo a >f; cat f; echo b >>f; cat f; cp f g; mkdir d; touch -d @5 f g; cat f g; stat -c %Y f g; ls d'
}

@test "a change of flags moves ctime, at once" {
	requires_root
	requires chattr
	# With the writeback cache the kernel keeps a file's ctime itself, and knows nothing of its flags.
	mount_fs cache=writethrough
	same_as_bare '
		touch f; chattr +d f || echo no
		for flag in +S +A -S; do
			before=$(stat -c %z f); sleep 0.02; chattr $flag f
			[ "$(stat -c %z f)" != "$before" ] && echo moved
		done; lsattr f | cut -d" " -f1'
}

# posix_tool's answers to the commands of standard input, @ being a directory beside the source, then one on the mount.
same_answers() {
	local commands
	commands=$(cat)
	mkdir "$SRC/bare" "$SRC/mounted"
	within 30 "$BUILD/tests/posix_tool" <<<"${commands//@/$SRC/bare}" >"$WORK/bare.out"
	within 30 "$BUILD/tests/posix_tool" <<<"${commands//@/$MNT/mounted}" >"$WORK/mounted.out"
	diff -u "$WORK/bare.out" "$WORK/mounted.out"
}

@test "what moves mtime and ctime: writes, mappings, allocations, truncation to the same length, not a read nor an empty write" {
	mount_fs
	same_answers <<-END
		open f @/f rdwr,creat
		write f 0 8192 a
		moved f
		write f 100 10 b
		moved f
		write f 100 0 b
		moved f
		read f 0 100
		moved f
		truncate f 8192
		moved f
		fallocate f keep 8192 8192
		moved f
		fallocate f punch 0 4096
		moved f
		map f 8192
		moved f
		load f 0 10
		moved f
		store f 10 10 c
		msync f
		moved f
		store f 10 10 d
		unmap f
		fsync f
		moved f
		fsync f
		moved f
		open d @/f rdwr,direct
		write d 4096 4096 e
		moved f
		open a @/f wronly,append
		write a - 10 g
		moved f
		open t @/f wronly,trunc
		moved f
		open t @/f wronly,trunc
		moved f
	END
	[ "$(grep -cx 'both' "$WORK/mounted.out")" -ge 6 ]
}

# ---- Data ----

@test "direct reads beside buffered writes and mappings, and the other way round" {
	mount_fs
	same_answers <<-END
		open b @/f rdwr,creat
		write b 0 16384 a
		open d @/f rdwr,direct
		read d 0 16384
		write b 5000 10 b
		read d 4096 4096
		write d 8192 4096 c
		read b 8000 9000
		map b 16384
		store b 100 10 m
		read d 0 4096
		write d 0 4096 n
		load b 90 30
		store b 12300 4 p
		truncate d 12302
		read d 12288 4096
		read b 12288 4096
		write b 12302 1000 q
		read d 12288 4096
		write d 16384 4096 r
		read b 12288 9000
		close b
		read d 0 20480
	END
}

# ---- Mounts ----

@test "unmounting a bind mount of a file or directory on the mount ends that alone, at once" {
	requires_root
	mount_fs
	within 10 mkdir "$MNT/d" "$MNT/at"
	within 10 touch "$MNT/f" "$MNT/at/f"
	touch "$WORK/f"
	within 10 mount --bind "$MNT/f" "$WORK/f"
	within 10 mount --bind "$MNT/d" "$MNT/at"
	within 10 sh -c 'echo through >"$1"' - "$WORK/f"
	within 10 "$BATCHIOFS" umount "$MNT/at"
	within 10 "$BATCHIOFS" umount "$WORK/f"
	[ "$(within 10 cat "$MNT/f")" = through ]
	umount_fs
}

@test "a chown that changes nothing moves ctime all the same, and takes set-id bits" {
	requires_root
	requires perl
	mount_fs
	same_as_bare '
		touch f; mkdir d; ln -s f l; mkfifo p; chmod 6755 f; chmod 2755 d
		for o in f d p; do
			before=$(stat -c %z $o); sleep 0.02; perl -e "chown(-1, -1, \$ARGV[0]) or print qq(\$!\n)" $o
			[ "$(stat -c %z $o)" != "$before" ] && echo "$o moved $(stat -c %a $o)"
		done'
}

# ---- Set-id bits ----

@test "set-id bits after others' writes, truncations and allocations, by mode and by membership of the group" {
	requires_root
	requires setpriv fallocate
	mount_fs
	let_users_in
	same_as_bare '
		for groups in --clear-groups --groups=0; do for mode in 6666 2666 4666 6676 6777 2767; do
			for change in "dd if=/dev/zero of=f bs=1 count=1 conv=notrunc status=none" \
				"truncate -s 5000 f" "fallocate -l 4096 f" "fallocate -p -o 0 -l 4096 f" "cp /dev/null f"; do
				rm -f f; head -c 10000 /dev/zero >f; chmod $mode f
				setpriv --reuid=65534 --regid=65534 $groups $change || echo $?
				echo "$groups $mode ${change%% *} $(stat -c %a f)"
			done
		done; done'
}
