#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Real programs do on the mount what they do on the bare directory. PROGRAMS_FULL=1 in the environment makes
# them work for longer, git with 20,000 objects.
#
# limit: 1800
# test-limit: 900

load ../support/helpers
load ../support/postgres
load ../support/compare

# One of two values: for a usual run, and for PROGRAMS_FULL=1.
size() { # USUAL FULL
	if [[ ${PROGRAMS_FULL:-} == 1 ]]; then echo "$2"; else echo "$1"; fi
}

setup() {
	default_setup
	# shellcheck disable=SC2034 # for same_as_bare
	COMPARE_SECONDS=$(size 120 400)
}

teardown() {
	stop_postgres
	default_teardown
}

# ---- git ----

@test "git: a repository is filled, cloned, merged, packed and checked" {
	requires git
	mount_fs
	# shellcheck disable=SC2016 # the script's own
	same_as_bare '
		set -e
		export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 LC_ALL=C TZ=UTC
		for who in AUTHOR COMMITTER; do
			export GIT_${who}_NAME=me GIT_${who}_EMAIL=me@example.org GIT_${who}_DATE="1700000000 +0000"
		done
		git config --global init.defaultBranch main
		git config --global pack.threads 1
		git config --global gc.auto 0
		# Each commit is four objects: a blob, two trees, the commit itself.
		git init -q packed
		for ((i = 1; i <= $1 / 4; i++)); do
			printf "commit refs/heads/main\ncommitter me <me@example.org> %d +0000\ndata 2\nc\n" $((1700000000 + i))
			printf "M 644 inline d%d/f%d\ndata <<END\nfile %d\n%0*d\nEND\n\n" $((i % 20)) $i $i $((i % 700)) $i
		done | git -C packed fast-import --quiet
		# The same as loose objects, a file each.
		git init -q loose
		git -C loose unpack-objects -q <"$(echo packed/.git/objects/pack/*.pack)"
		git -C loose update-ref refs/heads/main "$(git -C packed rev-parse main)"
		git -C loose reset -q --hard
		git -C loose count-objects
		git clone -q --no-local loose far
		git clone -q loose near
		git -C near branch -q side HEAD~10
		git -C near checkout -q side
		echo more >near/d3/new
		git -C near add . && git -C near commit -q -m side
		git -C near merge -q -m merge main
		git -C near push -q origin HEAD:refs/heads/merged
		git -C far fetch -q && git -C far merge -q origin/merged
		for at in loose far near; do
			git -C $at gc -q --prune=now
			git -C $at fsck --full --strict 2>&1
			git -C $at count-objects -v | grep -v size
			git -C $at rev-parse HEAD
			git -C $at status --porcelain
			git -C $at ls-files | wc -l
		done
		git -C far worktree add -q -b elsewhere ../tree HEAD~5
		git -C tree status --porcelain
		git -C far grep -c "file 123" | head -n 3
	' "$(size 2000 20000)"
	# Nothing is lost: the merge and the change added six.
	[ "$(grep -cx "in-pack: $(($(size 2000 20000) + 6))" "$WORK/mounted.out")" = 3 ]
}

# ---- copies with everything ----

# A tree of all that the copying programs know how to keep.
make_tree() { # DIR
	local i dir=$1
	mkdir -p "$dir"/{empty,private,sgid,sticky}
	for i in {1..20}; do
		mkdir -p "$dir/many/$i"
		for j in {1..25}; do echo "$i $j" >"$dir/many/$i/$j"; done
	done
	head -c 3000001 /dev/urandom >"$dir/large"
	truncate -s 10M "$dir/sparse"
	echo end | dd of="$dir/sparse" bs=1 seek=5000000 conv=notrunc status=none
	ln "$dir/large" "$dir/private/another name"
	ln "$dir/many/1/1" "$dir/many/2/linked"
	ln -s large "$dir/symlink"
	ln -s /nowhere/at/all "$dir/dangling"
	mkfifo "$dir/fifo"
	echo odd >"$dir"/$'odd \n\t\xff name'
	echo long >"$dir/$(printf '%0255d' 0)"
	chmod 700 "$dir/private"
	chmod 2775 "$dir/sgid"
	chmod 1777 "$dir/sticky"
	chmod 4755 "$dir/many/3/3"
	setfacl -m u:daemon:rw,g:bin:r "$dir/many/4/4"
	setfacl -m u:daemon:rwx -d -m u:daemon:rwx,g:bin:rx,m::rx "$dir/many/5"
	setfattr -n user.text -v "a value" "$dir/many/6/6"
	setfattr -n user.bytes -v 0x00ff0a00 "$dir/many"
	if [[ $(id -u) == 0 ]]; then
		setfattr -n trusted.mine -v 1 "$dir/many/7/7"
		setfattr -h -n trusted.of.link -v 2 "$dir/symlink"
		setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 "$dir/many/8/8"
		chown -h 1:2 "$dir/many/9/9" "$dir/dangling"
		mknod "$dir/null" c 1 3
		mknod "$dir/block" b 7 200
	fi
	touch -h -d '1999-12-31 23:59:59.123456789' "$dir/symlink" "$dir/large" "$dir/many/10"
	touch -d '2038-01-20 00:00:00.000000001' "$dir/sparse"
	touch -d '1901-12-14 00:00:00' "$dir/empty"
}

# All that can be told of a tree, as text.
manifest() { # DIR
	(
		cd "$1" || exit
		find . -printf '%P %y %m %U %G %T@ %l\n' | LC_ALL=C sort
		find . -type f -printf '%P %s %n\n' | LC_ALL=C sort
		# Who is linked to whom.
		find . -type f -links +1 -printf '%i %P\n' | LC_ALL=C sort -k 2 |
			awk '{ inode = $1; $1 = ""; if (inode in first) print first[inode] " =" $0; else first[inode] = $0 }'
		getfacl -R -P -n . 2>&1
		find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - -e hex
		find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
		find . \( -type b -o -type c \) -exec stat -c '%n %t %T' {} + | LC_ALL=C sort
	) 2>&1
}

# The first directory against each of the others.
expect_same() { # DIR DIR...
	local dir
	within 100 bash -c "$(declare -f manifest); manifest \"\$1\"" - "$1" >"$WORK/want"
	[ "$(wc -l <"$WORK/want")" -gt 1500 ]
	for dir in "${@:2}"; do
		within 100 bash -c "$(declare -f manifest); manifest \"\$1\"" - "$dir" >"$WORK/got"
		diff -u "$WORK/want" "$WORK/got" || {
			echo "$1 (-) and $dir (+) differ"
			return 1
		}
	done
}

# Times are compared to the nanosecond (-@-1).
@test "rsync -aHAX to the mount and back: nothing is lost, and nothing is left to do" {
	requires rsync setfacl setfattr
	make_tree "$WORK/tree"
	mount_fs
	within 100 rsync -@-1 -aHAXS "$WORK/tree/" "$MNT/in/"
	within 100 rsync -@-1 -aHAXS "$MNT/in/" "$WORK/out/"
	expect_same "$WORK/tree" "$MNT/in" "$SRC/in" "$WORK/out"
	run -0 within 100 rsync -@-1 -aHAXSni --checksum --delete "$WORK/tree/" "$MNT/in/"
	[ "$output" = "" ]
	run -0 within 100 rsync -@-1 -aHAXSni --checksum --delete "$MNT/in/" "$WORK/tree/"
	[ "$output" = "" ]
	# Changes, in place too.
	rm -r "$WORK/tree/many/11" "$WORK/tree/symlink"
	echo changed >>"$WORK/tree/large"
	setfattr -x user.text "$WORK/tree/many/6/6"
	setfacl -b "$WORK/tree/many/4/4"
	mv "$WORK/tree/many/12" "$WORK/tree/empty/"
	within 100 rsync -@-1 -aHAX --delete --inplace --no-whole-file "$WORK/tree/" "$MNT/in/"
	expect_same "$WORK/tree" "$MNT/in" "$SRC/in"
}

@test "tar with ACLs and xattrs: packed from the mount, unpacked on the mount" {
	local tar=(tar --acls --xattrs --xattrs-include='*' --numeric-owner --sparse --format=posix)
	requires tar setfacl setfattr
	make_tree "$WORK/tree"
	mkdir "$WORK/out"
	mount_fs
	mkdir "$SRC/in" "$SRC/again"
	(cd "$WORK/tree" && "${tar[@]}" -cf "$WORK/bare.tar" .)
	within 100 "${tar[@]}" -C "$MNT/in" -xpf "$WORK/bare.tar"
	within 100 "${tar[@]}" -C "$MNT/in" -cf "$MNT/mounted.tar" .
	within 100 "${tar[@]}" -C "$WORK/out" -xpf "$MNT/mounted.tar"
	within 100 "${tar[@]}" -C "$MNT/again" -xpf "$MNT/mounted.tar"
	expect_same "$WORK/tree" "$MNT/in" "$SRC/in" "$WORK/out" "$MNT/again"
	within 100 "${tar[@]}" -C "$MNT/in" --compare -f "$WORK/bare.tar"
}

# ---- a build ----

@test "this project is built with make -j2; a second make finds nothing to do" {
	requires make gcc
	mkdir "$WORK/project"
	cp -a "$HELPERS_DIR"/../../{Makefile,src,tests,mount} "$WORK/project"
	mount_fs
	# shellcheck disable=SC2016 # the script's own
	same_as_bare '
		set -e
		cp -a "$1"/. .
		# Without debugging information, which names the directory.
		make -s -j2 URING="$2" CFLAGS=-g0 OPT=-O1 all | sort
		[[ -z $(make -s URING="$2" CFLAGS=-g0 OPT=-O1 all) ]] && echo done
		sha256sum build/batchiofs build/*.a build/libbatchio.so
		build/batchiofs --version
		touch src/main.c
		make -s URING="$2" CFLAGS=-g0 OPT=-O1 all
		make -s clean && ls
	' "$WORK/project" "${URING:-1}"
	grep -qx "done" "$WORK/mounted.out"
}

# ---- sqlite ----

sqlite_by_many() { # JOURNAL
	requires sqlite3
	mount_fs
	# shellcheck disable=SC2016 # the script's own
	same_as_bare '
		sqlite3 db "PRAGMA journal_mode=$1; CREATE TABLE counter(n); INSERT INTO counter VALUES(0);
			CREATE TABLE log(writer, i, what); CREATE INDEX by_what ON log(what);" || exit
		writer() {
			for ((i = 1; i <= $2; i++)); do
				echo "BEGIN IMMEDIATE; UPDATE counter SET n = n + 1;"
				echo "INSERT INTO log VALUES($1, $i, hex(randomblob($i % 50 * 20)));"
				((i % 10)) || echo "UPDATE log SET what = what || i WHERE writer = $1 AND i > $((i - 30));"
				if ((i % 25)); then echo "COMMIT;"; else echo "ROLLBACK;"; fi
			done | sqlite3 -bail -cmd ".timeout 60000" db
		}
		reader() {
			for ((i = 1; i <= 20; i++)); do
				# Of any one moment, the counter and the log agree.
				sqlite3 -bail -cmd ".timeout 60000" db \
					"SELECT n = (SELECT count(*) FROM log) FROM counter; PRAGMA quick_check;"
			done | sort | uniq -c
		}
		pids=
		for writer in 1 2 3 4; do writer $writer $2 & pids+=" $!"; done
		reader
		for pid in $pids; do wait $pid || echo "a writer failed"; done
		sqlite3 db "PRAGMA integrity_check; SELECT n FROM counter; SELECT count(*), count(DISTINCT writer),
			sum(i) FROM log; PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA integrity_check;"
		sqlite3 db "PRAGMA journal_mode"
		ls
	' "$1" "$(size 100 1000)"
	[ "$(grep -cx ok "$WORK/mounted.out")" = 2 ]
}

@test "sqlite with a rollback journal, four writers and a reader" {
	sqlite_by_many delete
}

@test "sqlite with a write-ahead log, four writers and a reader" {
	sqlite_by_many wal
	grep -qx wal "$WORK/mounted.out"
}

# ---- PostgreSQL ----

@test "PostgreSQL: initdb, pgbench, a crash in the middle of work, recovery, checksums" {
	local bench before after
	requires_postgres
	make_postgres
	within 100 "${PG[@]}" pgbench -q -i -s "$(size 2 20)" 2>/dev/null
	run -0 --separate-stderr within 100 "${PG[@]}" pgbench -n -c 8 -j 2 -T "$(size 5 60)"
	echo "$output"
	[[ $output =~ processed:\ ([0-9]+) ]]
	before=${BASH_REMATCH[1]}
	((before > 100))
	[ "$(check_accounts)" = "$before" ]

	# The server's processes end at once, without a checkpoint; what was committed is in its log.
	"${PG[@]}" pgbench -n -c 8 -j 2 -T 60 -P 1 >/dev/null 2>"$WORK/s/bench" 3>&- 4>&- &
	bench=$!
	for _ in {1..200}; do
		if [ "$(query "SELECT count(*) FROM pgbench_history")" -gt $((before + 300)) ]; then break; fi
		sleep 0.1
	done
	after=$(query "SELECT count(*) FROM pgbench_history")
	end_postgres immediate
	wait "$bench" || true
	((after > before))
	start_postgres
	grep -q "automatic recovery in progress" "$WORK/s/log"
	[ "$(check_accounts)" -ge "$after" ]

	# And through another mount, the source alone, after an orderly end.
	query "VACUUM FULL"
	after=$(check_accounts)
	end_postgres fast
	within 60 "${PG[@]}" pg_checksums --check
	umount_fs
	within 60 "${PG[@]}" PGDATA="$SRC/pg" pg_checksums --check
	mount_fs
	start_postgres
	[ "$(check_accounts)" = "$after" ]
	end_postgres fast
	run ! grep -E 'PANIC|could not (read|write|fsync|open)' "$WORK/s/log"
}

# ---- stress-ng ----

# Not among them: getdent and fstat, which go through all of the machine.
STRESSORS=(access aio aiol chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate
	fanotify fcntl file-ioctl filename flock fpunch fsize handle hdd inode-flags inotify iomix io-uring lease
	link locka lockf lockofd mknod mmap msync readahead rename seek sendfile splice symlink sync-file touch
	utime xattr)

stress() { # DIR SECONDS STRESSOR...
	local dir=$1 seconds=$2
	shift 2
	mkdir -p "$dir"
	(cd "$dir" && within $((seconds + 90)) stress-ng --temp-path . --verify --timeout "$seconds" \
		"${@/#/--}" 2>&1)
}

@test "stress-ng's file system stressors, all at once and verified" {
	local stressor arguments=() failed=()
	requires stress-ng
	for stressor in "${STRESSORS[@]}"; do arguments+=("$stressor=1"); done
	mount_fs
	if stress "$MNT/work" "$(size 8 60)" "${arguments[@]}" >"$WORK/stress"; then
		[ "$(grep -c 'successful run completed' "$WORK/stress")" = 1 ]
		return
	fi
	cat "$WORK/stress"
	# One by one: what the bare directory can't do either is none of ours.
	for stressor in "${STRESSORS[@]}"; do
		stress "$MNT/work" 2 "$stressor=1" >"$WORK/stress" && continue
		cat "$WORK/stress"
		if stress "$SRC/bare" 2 "$stressor=1" >/dev/null; then failed+=("$stressor"); fi
	done
	echo "on the mount only: ${failed[*]:-none by itself, but some with the others}"
	return 1
}
