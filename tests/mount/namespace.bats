#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Names: making, linking, moving and removing objects of every kind, mounts within the source, and
# more objects than descriptors.
#
# ring

load ../support/helpers
load ../support/compare

@test "directories: made, refused where they stand, removed only when empty" {
	mount_fs
	same_as_bare '
		mkdir a a/b && mkdir -m 1700 c && stat -c "%n %A %h" a a/b c
		mkdir a || echo $?
		rmdir a || echo $?
		rmdir a/b a c && ls -a
		rmdir none || echo $?
		touch f; rmdir f || echo $?; rm -r f; mkdir f/g || echo $?'
}

@test "FIFOs, sockets and device nodes are made and shown, and a FIFO carries data" {
	requires_root
	mount_fs
	same_as_bare '
		mkfifo fifo && mknod char c 1 3 && mknod block b 7 300 && mknod large c 300 70000
		perl -MSocket -e "socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(q(sock))) or die"
		stat -c "%n %A %t:%T" fifo char block large sock
		(echo through >fifo &) && cat fifo
		rm fifo char block large sock && ls'
}

@test "the daemon opens no FIFO, also for attributes, times and attributes of names" {
	mount_fs
	mkfifo "$SRC/fifo"
	within 10 touch -d @1000 "$MNT/fifo"
	within 10 chmod 600 "$MNT/fifo"
	within 10 ls -l "$MNT"
	within 10 setfattr -n user.a -v b "$MNT/fifo" || true
	[ "$(stat -c '%a %Y' "$SRC/fifo")" = "600 1000" ]
	# A reader would wake up for any opener, a writer would not get this far.
	run -124 timeout 1 sh -c 'cat "$1/fifo"' - "$SRC"
}

@test "symlinks: any target, never followed by the daemon" {
	mount_fs
	same_as_bare '
		ln -s nowhere dangling && ln -s /etc absolute && ln -s loop loop
		long=$(printf "%04095d" 0) && ln -s "$long" long
		readlink dangling absolute loop
		[ "$(readlink long)" = "$long" ] && stat -c "%s %A" long
		cat dangling || echo $?
		cat loop || echo $?
		touch f; readlink f || echo $?
		[ -d absolute/. ] && stat -c %F absolute && rm absolute && ls -d /etc'
}

@test "hard links: of files and symlinks, one inode, counted" {
	mount_fs
	same_as_bare '
		echo x >a && ln a b && mkdir d && ln b d/c && stat -c "%n %h" a b d/c
		[ "$(stat -c %i a)" = "$(stat -c %i d/c)" ] && echo one inode
		rm a && stat -c %h b && cat d/c
		ln -s b l && ln -P l m && readlink m && stat -c %h l
		ln d e || echo $?
		ln b d/c || echo $?
		mkfifo p && ln p q && stat -c "%F %h" q'
}

@test "rename: over files and directories, into itself, across directories" {
	mount_fs
	same_as_bare '
		r() { perl -e "rename(\$ARGV[0], \$ARGV[1]) ? print qq(ok\n) : print qq(\$!\n)" "$@"; }
		echo a >a; echo b >b; r a b; cat b; ls
		mkdir d e e/f; r d e; r e d; ls -R; r d d/x; r b d; r d b
		echo c >d/c; r d/c c; r c none/c; r none c; cat c; ls -R
		ln c c2; r c c2; ls'
}

@test "rename flags: noreplace, exchange and whiteout do what they say" {
	requires_root
	local nr
	nr=$(syscall_number renameat2) || skip "no system call number for $(uname -m)"
	mount_fs
	same_as_bare '
		r() { perl -e "(\$n, \$f, \$a, \$b) = @ARGV; syscall(\$n + 0, -100, \$a, -100, \$b, \$f + 0) == 0
			? print qq(ok\n) : print qq(\$!\n)" '"$nr"' "$@"; }
		echo a >a; echo b >b; mkdir d
		r 1 a b; cat a b; r 1 a c; ls
		r 2 b c; cat b c; r 2 b d; ls -F; cat d; r 2 b none
		r 4 d w; stat -c "%n %F %t:%T" d w; cat w
		r 3 b w; r 64 b w; r 128 b w'
}

@test "an unlinked open file and a removed working directory can still be used" {
	mount_fs
	same_as_bare '
		echo one >f; exec 3<>f; rm f; echo two >&3; stat -L -c "%h %s" /proc/self/fd/3
		exec 3<&-
		echo old >f; echo new >g; exec 3<f; mv g f; cat <&3; cat f
		mkdir d; cd d; rmdir ../d; ls -a; touch x || echo $?; stat -c %h .'
}

@test "names: 255 bytes of any kind, longer ones are refused" {
	mount_fs
	same_as_bare '
		name=$(printf "%0255d" 0); touch "$name" && rm "$name" && echo ok
		touch "${name}1" || echo $?; stat "${name}1" || echo $?; mkdir "${name}1" || echo $?
		touch " " "a
b" "$(printf "\377\376")" "*" -- -x ".hidden" "..." && ls -ab && rm -- *  && ls -A'
}

@test "what others change in the source is seen, at the latest after a second" {
	mount_fs sharing=shared
	echo one >"$SRC/a"
	[ "$(within 10 cat "$MNT/a")" = one ]
	rm "$SRC/a"
	mkdir "$SRC/d"
	sleep 1.2
	run -1 within 10 cat "$MNT/a"
	[[ $output == *"No such file"* ]]
	within 10 touch "$MNT/d/x"
	mv "$SRC/d" "$SRC/e"
	sleep 1.2
	[ "$(within 10 ls "$MNT/e")" = x ]
	# Another file of the same name is another inode.
	echo old >"$SRC/f"
	within 10 cat "$MNT/f"
	echo newer >"$SRC/g"
	mv "$SRC/g" "$SRC/f"
	sleep 1.2
	[ "$(within 10 cat "$MNT/f")" = newer ]
}

@test "a missing name is asked for again: a file made in the source appears at once" {
	# Where the source is watched it is not asked for again, but told: see mount/watch.
	mount_fs sharing=shared watch=none
	run -2 within 10 ls "$MNT/late"
	touch "$SRC/late"
	within 10 ls "$MNT/late"
}

@test "a mount point inside the source is listed there, never entered, and hangs nobody" {
	mkdir "$SRC/inner" "$SRC/other"
	echo x >"$SRC/other/file"
	mount_fs --at "$SRC/inner"
	[ "$(within 10 ls "$MNT" 2>/dev/null)" = $'inner\nother' ]
	run within 10 stat "$MNT/inner"
	[ "$status" != 0 ]
	[ "$status" != 124 ]
	[ "$(within 10 cat "$MNT/other/file")" = x ]
	run within 10 find "$MNT" -type f
	[[ $output == *"$MNT/other/file"* ]]
	[ "$status" != 124 ]
}

@test "other mounts inside the source are crossed, with inode numbers of their own" {
	requires_root
	mkdir "$SRC/tmp" "$SRC/bound" "$WORK/elsewhere"
	echo below >"$WORK/elsewhere/file"
	mount -t tmpfs tmpfs "$SRC/tmp"
	mount --bind "$WORK/elsewhere" "$SRC/bound"
	for i in 1 2 3 4 5; do
		echo "$i" >"$SRC/tmp/f$i"
		echo "$i" >"$SRC/f$i"
	done
	mount_fs
	[ "$(within 10 cat "$MNT/tmp/f3")" = 3 ]
	[ "$(within 10 cat "$MNT/bound/file")" = below ]
	within 10 sh -c 'echo new >"$1/tmp/new"' - "$MNT"
	[ "$(cat "$SRC/tmp/new")" = new ]
	[ -z "$(within 10 find "$MNT" -printf '%i\n' | sort | uniq -d)" ]
	run within 10 perl -e 'rename("$ARGV[0]/f1", "$ARGV[0]/tmp/moved") or print "$!\n"' "$MNT"
	[[ $output == *"cross-device"* ]]
	run -1 within 10 rmdir "$MNT/tmp"
	[[ $output == *"busy"* ]]
	# Nor are they moved or replaced, and a file with a mount on it neither: as in the bare directory.
	mount --bind "$WORK/elsewhere/file" "$SRC/f5"
	for script in 'mv -T "$1/tmp" "$1/away"' 'mkdir "$1/new" && mv -T "$1/new" "$1/bound"' 'rm -f "$1/f5"' 'mv -T "$1/f4" "$1/f5"'; do
		run -1 within 10 sh -c "$script" - "$MNT"
		echo "$output"
		[[ $output == *"busy"* ]]
	done
	mountpoint -q "$SRC/tmp"
	mountpoint -q "$SRC/bound"
	[ "$(cat "$SRC/f5" "$SRC/tmp/f3")" = $'below\n3' ]
}

@test "trees of real files: copied, archived, compared and removed" {
	cp -a "$HELPERS_DIR/../../src" "$SRC/tree"
	mount_fs
	within 60 cp -a "$MNT/tree" "$MNT/copy"
	diff -r "$SRC/tree" "$SRC/copy"
	within 60 tar -C "$MNT/copy" -cf "$WORK/tree.tar" .
	tar -C "$SRC/tree" -df "$WORK/tree.tar"
	within 60 mkdir "$MNT/out"
	within 60 tar -C "$MNT/out" -xf "$WORK/tree.tar"
	diff -r "$SRC/tree" "$SRC/out"
	[ "$(cd "$SRC/tree" && find . | sort)" = "$(cd "$MNT/tree" && within 60 find . | sort)" ]
	within 60 rm -r "$MNT/copy" "$MNT/tree" "$MNT/out"
	[ -z "$(ls -A "$SRC")" ]
}

@test "under ulimit -n 200 a tree of 2000 files is walked, read, renamed and unlinked while open" {
	requires_root
	mkdir "$SRC/d"
	(cd "$SRC/d" && for i in $(seq 2000); do echo "$i" >"$i"; done)
	ulimit -S -n 200
	ulimit -H -n 200
	mount_fs
	[ "$(within 60 find "$MNT" -type f -size +0 | wc -l)" = 2000 ]
	[ "$(within 60 sh -c 'cat "$1"/d/*' - "$MNT" | sort -n | tail -n 1)" = 2000 ]
	[ "$(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l)" -lt 200 ]
	# Known, dropped, then renamed: still the same file.
	within 10 mv "$MNT/d/7" "$MNT/seven"
	[ "$(within 10 cat "$MNT/seven")" = 7 ]
	# Open, its descriptor dropped by the walk, then unlinked.
	[ "$(within 60 sh -c 'exec 3<"$1/d/9"; find "$1" -size +0 >/dev/null; rm "$1/d/9"
		find "$1" -size +0 >/dev/null; stat -L -c %h /proc/self/fd/3; cat <&3' - "$MNT")" = $'0\n9' ]
	within 60 rm -r "$MNT/d"
	[ "$(ls "$SRC")" = seven ]
}
