#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Listing directories: large ones, while they change, by position.
#
# ring

load ../support/helpers
load ../support/compare

@test "20,000 entries: each listed once, plain and with attributes" {
	mkdir "$SRC/d"
	(cd "$SRC/d" && seq -f 'entry-%g' 20000 | xargs touch)
	mount_fs
	ls -f "$SRC/d" | sort >"$WORK/want"
	within 60 ls -f "$MNT/d" | sort | cmp - "$WORK/want"
	within 60 ls -l "$MNT/d" | awk 'NR > 1 {print $9}' | sort >"$WORK/long"
	grep -v '^\.\.*$' "$WORK/want" | cmp - "$WORK/long"
	[ "$(within 60 find "$MNT/d" -type f -newermt 2000-01-01 | wc -l)" = 20000 ]
	# Inode numbers and types are the source's.
	(cd "$SRC/d" && find . -printf '%i %y %p\n' | sort) >"$WORK/want"
	(cd "$MNT/d" && within 60 find . -printf '%i %y %p\n' | sort) | cmp - "$WORK/want"
	within 60 rm -r "$MNT/d"
	[ ! -e "$SRC/d" ]
}

@test "the order and positions of the source: telldir and seekdir lead back to the same entry" {
	mount_fs
	same_as_bare '
		seq -f "%05g" 3000 | xargs touch
		perl -e "opendir(D, q(.)); while (1) { push @at, telldir(D); defined(\$n = readdir(D)) or last; push @n, \$n }
			for (\$i = 0; \$i < @n; \$i += 37) { seekdir(D, \$at[\$i]); \$bad++ if readdir(D) ne \$n[\$i] }
			seekdir(D, \$at[2999]); \$bad++ if readdir(D) ne \$n[2999]; rewinddir(D); @all = readdir(D);
			print scalar(@n), q( ), scalar(@all), q( ), \$bad + 0, qq(\n)"'
}

@test "entries that come and go while listing: those that stay are seen exactly once" {
	mount_fs
	same_as_bare '
		seq -f "stay-%g" 2000 | xargs touch; seq -f "go-%g" 2000 | xargs touch
		perl -e "opendir(D, q(.)); for (1..500) { \$seen{readdir(D)}++ }
			unlink(glob(q(go-*))); for (1..2000) { open(F, q(>), qq(come-\$_)); close F }
			while (defined(\$n = readdir(D))) { \$seen{\$n}++ }
			for (1..2000) { \$bad++ if \$seen{qq(stay-\$_)} != 1 } \$twice = grep { \$_ > 1 } values %seen;
			print q(wrong ), \$bad + 0, q( twice ), \$twice, qq(\n)"
		ls | wc -l'
}

@test "a directory changed after rewinddir is listed as it is then" {
	mount_fs
	same_as_bare '
		touch a b; perl -e "opendir(D, q(.)); @x = readdir(D); open(F, q(>), q(c)); close F; unlink(q(a));
			rewinddir(D); print join(q( ), sort(readdir(D))), qq(\n)"'
}

@test "empty, removed and unreadable directories" {
	mount_fs
	same_as_bare '
		mkdir e; ls -a e; find e
		mkdir r; exec 3<r; rmdir r; ls -a /proc/self/fd/3/ | sort; exec 3<&-
		touch f; perl -e "opendir(D, q(f)) or print qq(\$!\n); opendir(D, q(none)) or print qq(\$!\n)"'
}

@test "the longest names fill answers without a gap" {
	mkdir "$SRC/d"
	(cd "$SRC/d" && seq -f '%0255.0f' 700 | xargs touch)
	mount_fs
	[ "$(within 30 ls "$MNT/d" | sort | md5sum)" = "$(ls "$SRC/d" | sort | md5sum)" ]
	[ "$(within 30 ls -l "$MNT/d" | wc -l)" = 701 ]
}

@test "200 directories deep" {
	mount_fs
	same_as_bare '
		p=$(printf "d/%.0s" $(seq 200)); mkdir -p "$p"; echo deep >"$p/f"; cat "$p/f"
		find . | wc -l; (cd "$p" && pwd -P | tr -cd / | wc -c) >/dev/null; rm -r d; ls -A'
}

@test "four processes list one directory at once" {
	mkdir "$SRC/d"
	(cd "$SRC/d" && seq 5000 | xargs touch)
	mount_fs
	ls "$SRC/d" | sort | md5sum >"$WORK/want"
	for i in 1 2 3 4; do
		(within 60 ls -l "$MNT/d" | awk 'NR > 1 {print $9}' | sort | md5sum >"$WORK/got.$i") &
		pids+=($!)
	done
	wait "${pids[@]}"
	for i in 1 2 3 4; do cmp "$WORK/want" "$WORK/got.$i"; done
}
