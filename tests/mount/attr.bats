#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Attributes: every field that can be set, on every kind of object, and the ioctls for inode flags.

load ../support/helpers
load ../support/compare

@test "mode: all twelve bits, on files, directories, FIFOs and sockets" {
	mount_fs
	same_as_bare '
		touch f; mkdir d; mkfifo p
		for m in 0 777 4755 2755 1777 6711 644; do chmod $m f d p && stat -c "%n %a" f d p; done
		ln -s f l; chmod 600 l; stat -c "%n %a" l f'
}

@test "owner: of files, symlinks and special files; set-id bits go with it" {
	requires_root
	mount_fs
	same_as_bare '
		touch f; mkdir d; ln -s f l; mkfifo p
		chmod 6755 f; chown 12:34 f; stat -c "%n %a %u:%g" f
		chmod 2755 d; chown 12 d; chgrp 34 d; stat -c "%n %a %u:%g" d
		chown -h 5:6 l; stat -c "%n %u:%g" l f
		chown 7:8 p; stat -c "%n %u:%g" p
		chown :9 f; chown 10 f; stat -c "%n %u:%g" f
		chown 4294967294:4294967294 f; stat -c "%u:%g" f'
}

@test "times: access and modification, apart and together, to the nanosecond, before 1970, now" {
	mount_fs
	same_as_bare '
		touch f; ln -s f l; mkfifo p; mkdir d
		for o in f p d; do
			touch -d "@1234567890.123456789" $o && stat -c "%n %x %y" $o
			touch -a -d "@-5.5" $o && stat -c "%n %x %y" $o
			touch -m -d "@4000000000" $o && stat -c "%n %x %y" $o
		done
		touch -h -d "@77.000000001" l && stat -c "%n %x %y" l && stat -c "%n %y" f
		touch f p d; touch -h l
		for o in f p d l; do [ $(($(date +%s) - $(stat -c %Y $o))) -le 2 ] && echo now; done'
}

@test "a change of attributes or of content moves ctime, and mtime as it should" {
	mount_fs
	same_as_bare '
		echo a >f; touch -d @1000 f; c=$(stat -c %z f); sleep 0.05
		chmod 600 f; [ "$(stat -c %z f)" != "$c" ] && stat -c %Y f
		echo b >>f; [ "$(stat -c %Y f)" -gt 1000 ] && echo mtime moved
		touch -d @1000 f; : >f; [ "$(stat -c %Y f)" -gt 1000 ] && echo truncation too
		mkdir d; touch -d @1000 d; touch d/x; [ "$(stat -c %Y d)" -gt 1000 ] && echo directories too'
}

@test "size: grown and cut, by path and by descriptor, sparse; refused elsewhere" {
	mount_fs
	same_as_bare '
		t() { perl -e "truncate(\$ARGV[0], \$ARGV[1]) ? print qq(ok\n) : print qq(\$!\n)" "$@"; }
		echo 123456789 >f; t f 4; cat f; echo; t f 1000000; stat -c %s f; t f 0; stat -c "%s %b" f
		t f 1099511627776; stat -c %s f; t f -1; t d 0; mkdir d; t d 0; ln -s f l; t l 3; stat -c %s f
		perl -e "open(F, q(+<), q(f)); truncate(F, 7) or die; print -s F, qq(\n); close F; print -s q(f), qq(\n)"
		mkfifo p; t p 0
		chmod 400 f; perl -e "open(F, q(>), q(g)); chmod(0, q(g)); truncate(F, 9) or die; print -s F, qq(\n)"'
}

@test "a file open for reading only is truncated by path, and the reader sees it" {
	mount_fs
	same_as_bare 'echo 123456789 >f; exec 3<f; truncate -s 4 f; cat <&3; echo; stat -L -c %s /proc/self/fd/3'
}

@test "stat through the mount is stat of the source" {
	requires_root
	mount_fs sharing=shared # changed beside the mount
	mkdir "$SRC/d"
	echo x >"$SRC/f"
	ln -s f "$SRC/l"
	mknod "$SRC/c" c 5 9
	truncate -s 1G "$SRC/sparse"
	chown 3:4 "$SRC/f"
	sleep 1.2 # what the kernel kept of the root
	for o in d f l c sparse .; do
		[ "$(stat -c '%f %h %u %g %s %b %t %T %i %x %y %z' "$SRC/$o")" = \
			"$(within 10 stat -c '%f %h %u %g %s %b %t %T %i %x %y %z' "$MNT/$o")" ]
	done
}

@test "free space and limits are the source's" {
	make_loop ext4 64M
	mount_fs
	[ "$(stat -f -c '%b %c %d %s %S %l' "$SRC")" = "$(within 10 stat -f -c '%b %c %d %s %S %l' "$MNT")" ]
	within 10 dd if=/dev/zero of="$MNT/f" bs=1M count=8 conv=fsync status=none
	[ "$(stat -f -c '%f %a' "$SRC")" = "$(within 10 stat -f -c '%f %a' "$MNT")" ]
}

@test "chattr and lsattr: flags are set, shown and obeyed" {
	requires_root
	requires chattr lsattr
	make_loop ext4 64M
	mount_fs
	within 10 sh -c 'echo x >"$1/f"; mkdir "$1/d"' - "$MNT"
	within 10 chattr +i "$MNT/f"
	[ "$(lsattr "$SRC/f" | cut -d' ' -f1)" = "$(within 10 lsattr "$MNT/f" | cut -d' ' -f1)" ]
	run -1 within 10 rm -f "$MNT/f"
	run -1 rm -f "$SRC/f"
	within 10 chattr -i "$MNT/f"
	within 10 chattr +a "$MNT/f"
	within 10 sh -c 'echo y >>"$1/f"' - "$MNT"
	run ! within 10 sh -c 'echo z >"$1/f"' - "$MNT"
	within 10 chattr -a "$MNT/f"
	within 10 chattr +dS "$MNT/d"
	[[ $(lsattr -d "$SRC/d") == *S*d* ]]
	[ "$(lsattr -v "$SRC/f" | cut -d' ' -f1)" = "$(within 10 lsattr -v "$MNT/f" | cut -d' ' -f1)" ]
	[ "$(cat "$SRC/f")" = $'x\ny' ]
}

@test "project ids go both ways" {
	requires_root
	requires chattr lsattr
	make_loop xfs 300M
	mount_fs
	within 10 touch "$MNT/f"
	within 10 chattr -p 4711 "$MNT/f"
	[ "$(within 10 lsattr -p "$MNT/f" | awk '{print $1}')" = 4711 ]
	[ "$(lsattr -p "$SRC/f" | awk '{print $1}')" = 4711 ]
}

@test "an ordinary user may not set flags of others' files" {
	requires_root
	requires chattr setpriv
	make_loop ext4 64M
	let_users_in
	mount_fs
	within 10 touch "$MNT/f"
	run -1 as_user timeout 10 chattr +d "$MNT/f"
	[[ $(lsattr "$SRC/f" | cut -d' ' -f1) != *d* ]]
}

@test "ioctls that are not about inode flags do not reach the source" {
	requires_root
	make_loop ext4 64M
	mount_fs
	within 10 touch "$MNT/f"
	# EXT4_IOC_SHUTDOWN, FITRIM's neighbour EXT4_IOC_RESIZE_FS, FS_IOC_FIEMAP, BLKGETSIZE64.
	for number in 0x8004587d 0x40086610 0xc020660b 0x80081272; do
		run within 10 perl -e 'open(F, "+<", $ARGV[0]) or die; $b = "\0" x 64;
			ioctl(F, hex $ARGV[1], $b) ? print "done\n" : print "$!\n"' "$MNT/f" "$number"
		[[ $output == *"Inappropriate ioctl"* || $output == *"not supported"* ]]
	done
	within 10 sh -c 'echo alive >"$1/f" && sync "$1/f"' - "$MNT"
	[ "$(cat "$SRC/f")" = alive ]
}

@test "the time of birth is the source's, and the inode number as well" {
	[ "$(stat -c %W "$SRC")" != 0 ] || skip "the source's file system keeps no time of birth"
	: >"$SRC/file"
	mkdir "$SRC/dir"
	ln -s file "$SRC/link"
	mount_fs
	for name in file dir link; do
		[ "$(within 5 stat -c '%W %i %F' "$MNT/$name")" = "$(stat -c '%W %i %F' "$SRC/$name")" ]
	done
	within 5 sh -c 'echo new >"$1/new"' - "$MNT"
	[ "$(within 5 stat -c '%w' "$MNT/new")" = "$(stat -c '%w' "$SRC/new")" ]
}
