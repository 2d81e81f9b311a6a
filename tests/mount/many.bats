#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# More objects than descriptors: the daemon closes those of objects that it can find again, by file handle or,
# where it may not use these (ordinary users, mounts inside the source), by name; and takes nothing for what
# it is not.

load ../support/helpers

# Descriptors for all that the daemon does; half of them are for known objects.
limit() { # N
	ulimit -S -n "$1"
	ulimit -H -n "$1"
}

# Mounts as an ordinary user, who owns all of it.
mount_as_user() { # [OPTIONS]
	requires_root
	requires_user_mounts
	chown -R 65534:65534 "$SRC" "$MNT"
	within 30 as_user "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND${1:+,$1}" 3>&- 4>&- </dev/null
	is_mounted "$MNT"
	find_daemon
}

# DIRS directories below DIR, of FILES files each, whose contents are their paths.
make_tree() { # DIR DIRS FILES
	local d i
	for ((d = 0; d < $2; d++)); do
		mkdir -p "$1/d$((d % 2))/sub$d"
		for ((i = 0; i < $3; i++)); do
			echo "d$((d % 2))/sub$d/a-file-of-20-bytes-$i" >"$1/d$((d % 2))/sub$d/a-file-of-20-bytes-$i"
		done
	done
}

# Walks the tree as nobody or root, then reads each file and compares it with its path: prints how many are right.
read_all() { # as_user|env DIR
	within 100 "$1" find "$2" -type f -size +0 -printf '' || return
	within 100 "$1" perl -e '
		use File::Find;
		my ($root, $right) = ($ARGV[0], 0);
		find({no_chdir => 1, wanted => sub {
			return unless -f $_;
			open(my $f, "<", $_) or die "$_: $!\n";
			chomp(my $line = <$f>);
			substr($_, length($root) + 1) eq $line ? $right++ : print "$_: $line\n";
		}}, $root);
		print "$right\n"' "$2"
}

# Drops the descriptors of all that is known: others come, more than there are descriptors.
crowd_out() {
	within 60 as_user sh -c 'ls -lR "$1" >/dev/null; ls -lR "$1" >/dev/null' - "$MNT/crowd"
}

bounded() { # LIMIT
	[ "$(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l)" -lt "$1" ]
	[ "$(stat_of inodes.descriptors)" -le $(($1 / 2)) ]
	[ "$(stat_of inodes.bytes_each)" -lt 256 ]
}

@test "an ordinary user under ulimit -n 200 walks, stats and reads 2,400 files, twice" {
	make_tree "$SRC" 12 200
	limit 200
	mount_as_user
	[ "$(read_all as_user "$MNT")" = 2400 ]
	bounded 200
	[ "$(stat_of inodes.known)" -gt 2400 ]
	[ "$(read_all as_user "$MNT")" = 2400 ]
	bounded 200
	[ "$(stat_of inodes.reopened_by_name)" -gt 2000 ]
	within 60 as_user rm -r "$MNT/d0"
	[ "$(find "$SRC" -type f | wc -l)" = 1200 ]
}

@test "what others rename and replace behind an ordinary user's mount is seen as it is" {
	local i
	mkdir -p "$SRC/crowd" "$SRC/dir/sub" "$SRC/other"
	(cd "$SRC/crowd" && touch $(seq 300))
	for i in a b c d e; do echo "$i" >"$SRC/dir/sub/$i"; done
	limit 100
	mount_as_user attr_timeout=0,entry_timeout=0
	[ "$(within 5 as_user sh -c 'cat "$1"/dir/sub/*' - "$MNT" | xargs)" = "a b c d e" ]
	# One is open all the while, and one is somebody's working directory.
	cat >"$WORK/user" <<-'END'
		exec 3<"$1/dir/sub/e"
		cd "$1/dir/sub"
		touch "$2/ready"
		until [ -e "$2/go" ]; do sleep 0.1; done
		cat *
		cat <&3
		stat -L -c %h /proc/self/fd/3
	END
	mkdir -m 777 "$WORK/signs"
	as_user timeout 60 sh "$WORK/user" "$MNT" "$WORK/signs" >"$WORK/seen" 2>&1 3>&- 4>&- &
	until [ -e "$WORK/signs/ready" ]; do sleep 0.1; done
	crowd_out
	mv "$SRC/dir" "$SRC/dir2"
	mv "$SRC/dir2/sub/a" "$SRC/dir2/sub/a2"
	mv "$SRC/dir2/sub/b" "$SRC/dir2/sub/x"
	mv "$SRC/dir2/sub/c" "$SRC/dir2/sub/b"
	mv "$SRC/dir2/sub/x" "$SRC/dir2/sub/c"
	rm "$SRC/dir2/sub/d"
	echo new >"$SRC/dir2/sub/d"
	rm "$SRC/dir2/sub/e"
	mkdir -p "$SRC/dir/sub"
	echo wrong >"$SRC/dir/sub/a2"
	chown -R 65534:65534 "$SRC/dir" "$SRC/dir2"
	touch "$WORK/signs/go"
	wait
	[ "$(xargs <"$WORK/seen")" = "a c b new e 0" ]
	[ "$(within 5 as_user sh -c 'cat "$1"/dir/sub/*' - "$MNT" | xargs)" = wrong ]
	[ "$(within 5 as_user sh -c 'cat "$1"/dir2/sub/*' - "$MNT" | xargs)" = "a c b new" ]
	# To another directory, by way of which it is seen again.
	crowd_out
	mv "$SRC/dir2/sub" "$SRC/other/sub"
	[ "$(within 5 as_user sh -c 'cat "$1"/other/sub/*' - "$MNT" | xargs)" = "a c b new" ]
	run ! within 5 as_user cat "$MNT/dir2/sub/a2"
	bounded 100
}

@test "what an ordinary user moves, exchanges, links and unlinks stays what it is" {
	mkdir -p "$SRC/crowd" "$SRC/dir/sub" "$SRC/to"
	(cd "$SRC/crowd" && touch $(seq 300))
	for i in a b c d; do echo "$i" >"$SRC/dir/sub/$i"; done
	ln "$SRC/dir/sub/d" "$SRC/dir/link"
	limit 100
	mount_as_user
	cat >"$WORK/user" <<-'END'
		crowd() { ls -lR "$1/crowd" >/dev/null; ls -lR "$1/crowd" >/dev/null; }
		cd "$1"
		cat dir/sub/* dir/link
		exec 3<dir/sub/a 4<dir/sub/b 5<dir/sub/d
		crowd "$1"
		# With what is known in it, while it is somebody's working directory.
		cd dir/sub
		mv ../../dir ../../to/moved
		crowd "$1"
		cat a b c d
		perl -e 'my ($a, $b) = ("a", "b"); syscall(316, -100, $a, -100, $b, 2) == 0 or die "exchange: $!\n"'
		crowd "$1"
		cat a b
		mv c b
		crowd "$1"
		cat a b
		# The name that it was known by.
		rm d
		crowd "$1"
		cat ../link
		stat -c %h ../link
		ln ../link again
		rm ../link
		crowd "$1"
		cat again
		cat <&3
		cat <&4
		cat <&5
		stat -L -c %h /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5
	END
	within 60 as_user sh "$WORK/user" "$MNT" >"$WORK/seen"
	xargs <"$WORK/seen"
	[ "$(xargs <"$WORK/seen")" = "a b c d d a b c d b a b c d 1 d a b d 0 1 1" ]
	bounded 100
	[ "$(stat_of inodes.reopened_by_name)" -gt 20 ]
	[ "$(cd "$SRC/to/moved/sub" && cat a b again | xargs)" = "b c d" ]
}

@test "an unnamed file that is given a name, and trees of 300 levels, under an ordinary user's ulimit" {
	mkdir -p "$SRC/crowd"
	(cd "$SRC/crowd" && touch $(seq 300))
	limit 100
	mount_as_user
	within 100 as_user perl -e '
		use Fcntl;
		chdir($ARGV[0]) or die;
		for (1 .. 300) { mkdir("level") and chdir("level") or die "level $_: $!\n" }
		open(my $f, ">", "bottom") or die "$!\n";
		print($f "bottom\n");
		close($f);
		sub crowd { system("ls -lR \"$ARGV[0]/crowd\" >/dev/null") == 0 or die for 1 .. 2 }
		crowd();
		open($f, "<", "bottom") or die "bottom: $!\n";
		print(<$f>);
		sysopen(my $unnamed, $ARGV[0], O_RDWR | 020200000, 0600) or die "O_TMPFILE: $!\n";
		syswrite($unnamed, "unnamed\n");
		crowd();
		my ($old, $new) = ("/proc/self/fd/" . fileno($unnamed), "$ARGV[0]/named");
		syscall(265, -100, $old, -100, $new, 0x400) == 0 or die "link: $!\n";
		close($unnamed);
		crowd();
		open($f, "<", "$ARGV[0]/named") or die "named: $!\n";
		print(<$f>)' "$MNT" >"$WORK/seen"
	[ "$(xargs <"$WORK/seen")" = "bottom unnamed" ]
	bounded 100
}

@test "under ulimit -n 200, mounts inside the source of more files than that: tmpfs, bind mount, overlay" {
	requires_root
	local kind kinds="tmpfs bind"
	mkdir "$SRC/tmpfs" "$SRC/bind" "$SRC/overlay" "$WORK/bound" "$WORK/upper" "$WORK/work"
	mount -t tmpfs tmpfs "$SRC/tmpfs"
	mount --bind "$WORK/bound" "$SRC/bind"
	mount --make-private "$SRC/bind"
	mkdir "$WORK/lower"
	if mount -t overlay -o "lowerdir=$WORK/lower,upperdir=$WORK/upper,workdir=$WORK/work" overlay "$SRC/overlay"; then
		kinds+=" overlay"
	fi
	for kind in $kinds; do make_tree "$SRC/$kind" 4 150; done
	limit 200
	mount_fs
	for kind in $kinds $kinds; do
		[ "$(read_all env "$MNT/$kind")" = 600 ]
		bounded 200
	done
	[ "$(stat_of inodes.reopened_by_name)" -gt 1000 ]
	# Still the same after a move, and gone when gone.
	within 10 mv "$MNT/tmpfs/d0" "$MNT/tmpfs/moved"
	[ "$(within 10 cat "$MNT/tmpfs/moved/sub0/a-file-of-20-bytes-7")" = d0/sub0/a-file-of-20-bytes-7 ]
	[ "$(within 60 sh -c 'exec 3<"$1/bind/d1/sub1/a-file-of-20-bytes-9"; find "$1" -size +0 >/dev/null
		rm "$1/bind/d1/sub1/a-file-of-20-bytes-9"; find "$1" -size +0 >/dev/null
		stat -L -c %h /proc/self/fd/3; cat <&3' - "$MNT")" = $'0\nd1/sub1/a-file-of-20-bytes-9' ]
	umount_fs
	for kind in $kinds; do within 10 umount "$SRC/$kind"; done
}

@test "root under ulimit -n 1024: 30,000 files are walked, stated, opened and read" {
	requires_root
	(cd "$SRC" && perl -e '
		for my $d (0 .. 29) {
			mkdir("d$d");
			for (0 .. 999) { open(my $f, ">", "d$d/a-file-of-20-bytes-$_"); print($f "d$d/a-file-of-20-bytes-$_\n") }
		}')
	limit 1024
	mount_fs
	[ "$(read_all env "$MNT")" = 30000 ]
	bounded 1024
	[ "$(stat_of inodes.known)" -gt 30000 ]
	[ "$(stat_of inodes.reopened_by_name)" = 0 ]
}
