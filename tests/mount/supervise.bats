#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# -o supervise: the process that serves the mount is killed, and another takes over. Programs see a pause and nothing else:
# no error, nothing lost, nothing done twice.
#
# ci: exclusive
# limit: 900
# test-limit: 240

load ../support/helpers
load ../support/compare
load ../support/postgres
load ../support/faulty

setup() {
	default_setup
	requires_root
	[ -z "$TRANSPORT" ] || skip "there is no supervision of FUSE over io_uring"
	LOAD='' KILLER='' FROZEN=''
}

teardown() {
	: >"$WORK/stop"
	[[ ! $FROZEN ]] || fsfreeze -u "$FROZEN"
	for pid in $LOAD $KILLER; do kill "$pid" 2>/dev/null || true; done
	stop_postgres
	if mounts_below "$WORK" | grep -q '^fuse.faultfs '; then faulty_teardown; else default_teardown; fi
}

mount_supervised() {
	mount_fs supervise
	SUPERVISOR=$(stat_of supervisor_pid)
	[ "$(stat_of worker_restarts)" = 0 ]
}

# A signal for the worker; returns when another one answers.
kill_worker() { # [SIGNAL]
	local before
	before=$(stat_of worker_restarts)
	kill "-${1:-KILL}" "$(stat_of worker_pid)"
	taken_over "$((before + 1))"
}

taken_over() { # RESTARTS
	for _ in {1..200}; do
		[[ $(stat_of worker_restarts 2>/dev/null) != "$1" ]] || return 0
		sleep 0.01
	done
	echo "no other worker has taken over, or more than one: $(stat_of worker_restarts) restarts, not $1"
	return 1
}

# Runs a command that changes the source while that is frozen, and kills the worker that waits there: as soon as it can it does
# what it was at, and dies before it can answer. The command must not see it.
done_by_the_dying() { # COMMAND...
	local worker before at_it=''
	worker=$(stat_of worker_pid)
	before=$(stat_of worker_restarts)
	FROZEN=$SRC
	fsfreeze -f "$SRC"
	within 20 "$@" <&0 3>&- 4>&- &
	LOAD=$!
	for _ in {1..200}; do
		# A thread in a wait that no signal ends.
		if grep -qs ') D ' /proc/"$worker"/task/*/stat; then at_it=1 && break; fi
		sleep 0.02
	done
	kill -KILL "$worker"
	sleep 0.05
	fsfreeze -u "$SRC"
	FROZEN=''
	[[ $at_it ]] || { echo "no thread of the worker was at it: $*" && return 1; }
	wait "$LOAD" || { echo "failed: $*" && return 1; }
	LOAD=''
	taken_over "$((before + 1))"
}

mount_freezing() {
	requires fsfreeze
	make_loop ext4 64M
	mount_supervised
}

# Kills the worker so many times, half of that in CI, or as KILLS says, each after 5 to 150 ms, while the command runs again and again. It must never fail.
survives() { # KILLS COMMAND...
	local kills=$1 i
	shift
	if [[ ${CI:-} == true ]]; then kills=$(((kills + 1) / 2)); fi
	kills=${KILLS:-$kills}
	rm -f "$WORK/stop"
	(
		until [[ -e $WORK/stop ]]; do "$@" || exit 1; done
	) >"$WORK/load.out" 2>&1 3>&- 4>&- &
	LOAD=$!
	for ((i = 0; i < kills; i++)); do
		sleep "0.$(printf %03d "$((RANDOM % 145 + 5))")"
		kill_worker
	done
	: >"$WORK/stop"
	wait "$LOAD" || {
		tail -n 20 "$WORK/load.out"
		return 1
	}
	LOAD=
	[ "$(stat_of worker_restarts)" -ge "$kills" ]
}

# One round of every kind of change of names, with a look at each.
names_round() {
	within 60 bash -ec '
		d=$1/names
		mkdir "$d"
		echo a >"$d/a"
		ln "$d/a" "$d/b"
		mv "$d/b" "$d/c"
		ln -s nowhere "$d/l"
		[ "$(ls "$d" | xargs)" = "a c l" ]
		mv "$d/a" "$d/z"
		[ "$(stat -c %h "$d/z")" = 2 ]
		rm "$d/z"
		[ "$(cat "$d/c")" = a ] && [ "$(stat -c %h "$d/c")" = 1 ]
		mkdir "$d/sub"
		rmdir "$d/sub"
		(set -C && echo new >"$d/excl")
		setfattr -n user.a -v 1 "$d/c"
		setfattr -x user.a "$d/c"
		mknod "$d/fifo" p
		rm "$d/fifo"
		truncate -s 10000 "$d/c"
		[ "$(stat -c %s "$d/c")" = 10000 ]
		rm -r "$d"
		[ ! -e "$d" ]' - "$MNT"
}

verify_round() { # FIO-OPTION...
	within 120 fio --name=verify --directory="$MNT" --size=4M --bs=4k --rw=randwrite --verify=crc32c --do_verify=1 \
		--verify_fatal=1 --verify_state_save=0 --output="$WORK/fio" "$@"
}

insert_round() {
	local n
	n=$(($(cat "$WORK/rows") + 1))
	within 60 sqlite3 "$MNT/db" "PRAGMA synchronous=FULL; INSERT INTO t VALUES($n)" || return
	echo "$n" >"$WORK/rows"
}

append_round() {
	local n
	n=$(($(cat "$WORK/lines") + 1))
	within 60 sh -c 'printf "%06d\n" "$2" >>"$1/log"' - "$MNT" "$n" || return
	echo "$n" >"$WORK/lines"
}

tree_round() {
	within 60 tar -xf "$WORK/tree.tar" -C "$MNT" && within 60 diff -r "$WORK/tree" "$MNT/tree" && within 60 rm -r "$MNT/tree"
}

@test "open files, deleted ones too, and working directories outlive the worker" {
	local text
	mount_supervised
	within 10 sh -c 'mkdir "$1/dir" && echo kept >"$1/file" && echo gone >"$1/deleted"' - "$MNT"
	exec 7<>"$MNT/file" 8<>"$MNT/deleted"
	rm "$MNT/deleted"
	cd "$MNT/dir"
	kill_worker
	kill_worker
	read -r -t 10 text <&7
	[ "$text" = kept ]
	read -r -t 10 text <&8
	[ "$text" = gone ]
	echo more >&8
	echo more >&7
	within 10 sync "$MNT/file"
	[ "$(within 10 cat "$MNT/file" | xargs)" = 'kept more' ]
	within 10 sh -c 'echo here >file && [ "$(cat file)" = here ] && [ "$(cat /proc/self/fd/8 | xargs)" = "gone more" ]'
	cd /
	exec 7>&- 8>&-
	umount_fs
	[ "$(cat "$SRC/file" | xargs)" = 'kept more' ]
	[ "$(cat "$SRC/dir/file")" = here ]
	[ ! -e "$SRC/deleted" ]
}

@test "a directory that is being listed is listed whole" {
	local names=()
	mount_supervised
	within 20 sh -c 'mkdir "$1/d" && cd "$1/d" && seq -f "name-%g" 3000 | xargs touch' - "$MNT"
	# find reads a part, waits for who reads what it writes, and goes on after the worker has gone.
	within 60 find "$MNT/d" -type f -printf '%f\n' | {
		for _ in {1..10}; do
			read -r name
			names+=("$name")
		done
		kill_worker
		mapfile -t -O 10 names
		printf '%s\n' "${names[@]}"
	} >"$WORK/names"
	[ "$(sort -u "$WORK/names" | wc -l)" = 3000 ]
	[ "$(wc -l <"$WORK/names")" = 3000 ]
}

git_round() {
	local i
	for i in {1..3}; do
		head -c 20000 /dev/urandom | base64 >"$WORK/text"
		within 20 sh -c 'cp "$1" "$2/$3" && cd "$2" && git add -A && git commit -qm "$3"' - "$WORK/text" "$MNT/repo" "$RANDOM" || return
		echo >>"$WORK/commits"
	done
	within 60 sh -c 'cd "$1" && git gc -q --prune=now && git fsck --strict' - "$MNT/repo"
}

@test "git commits, packs and checks while workers are killed: every commit is there" {
	requires git
	export GIT_CONFIG_NOSYSTEM=1 HOME=$WORK GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
	mount_supervised
	within 20 git init -q "$MNT/repo"
	: >"$WORK/commits"
	survives 7 git_round
	[ "$(within 20 git -C "$MNT/repo" rev-list --count HEAD)" = "$(wc -l <"$WORK/commits")" ]
	[ -z "$(within 20 git -C "$MNT/repo" status --porcelain)" ]
}

bench_round() {
	within 100 "${PG[@]}" pgbench -n -c 4 -j 2 -T 3 >"$WORK/bench" 2>&1 || { cat "$WORK/bench" && return 1; }
	sed -n 's/.*actually processed: \([0-9]*\).*/\1/p' "$WORK/bench" >>"$WORK/processed"
}

@test "PostgreSQL works on while workers are killed: every transaction is there once" {
	requires_postgres
	make_postgres
	within 100 "${PG[@]}" pgbench -q -i -s 1 2>/dev/null
	survives 14 bench_round
	[ "$(check_accounts)" = "$(awk '{ n += $1 } END { print n }' "$WORK/processed")" ]
	end_postgres fast
	within 60 "${PG[@]}" pg_checksums --check
	run ! grep -E 'PANIC|could not (read|write|fsync|open)' "$WORK/s/log"
}

@test "a crash leaves a back trace in the log" {
	local daemon pid
	within 30 "$BATCHIOFS" -f "$SRC" "$MNT" -o "backend=$BACKEND" </dev/null >"$WORK/log" 2>&1 3>&- 4>&- &
	daemon=$!
	for _ in {1..100}; do
		if grep -q 'is mounted' "$WORK/log"; then break; fi
		sleep 0.05
	done
	pid=$(stat_of worker_pid)
	kill_worker ABRT
	within 10 touch "$MNT/file"
	umount_fs
	wait "$daemon"
	cat "$WORK/log"
	if grep -qs -e -fsanitize "$BUILD/flags"; then return; fi
	grep -q "worker $pid crashed in thread [0-9]* ([^)]\+), signal 6 (Aborted)" "$WORK/log"
	grep -q '  [0-9]*: .*batchiofs(+0x[0-9a-f]*)' "$WORK/log"
	grep -q "worker $pid was killed by signal 6 (Aborted); another one takes over" "$WORK/log"
}

@test "written and verified while workers are killed: buffered with fsync, direct by libaio" {
	mount_supervised
	survives 7 verify_round --numjobs=2 --fsync=4
	survives 7 verify_round --numjobs=2 --direct=1 --ioengine=libaio --iodepth=16
}

@test "names are made, moved and taken away once while workers are killed" {
	mount_supervised
	survives 14 names_round
	[ -z "$(within 10 ls -A "$MNT")" ]
}

@test "beside others who change the source, whose changes the dead worker was about to tell" {
	mount_fs supervise sharing=shared
	(until [[ -e $WORK/stop ]]; do touch "$SRC/other" "$SRC/another" && rm "$SRC/other" "$SRC/another"; done) 3>&- 4>&- &
	KILLER=$!
	survives 14 names_round
	wait "$KILLER"
	KILLER=
	[ -z "$(within 10 ls -A "$MNT")" ]
	touch "$SRC/new"
	for _ in {1..100}; do
		if within 10 test -e "$MNT/new"; then return 0; fi
		sleep 0.05
	done
	false
}

@test "a tree is unpacked, compared and removed while workers are killed" {
	mkdir -p "$WORK/tree/sub"
	for i in {1..60}; do head -c "$((i * 700))" /dev/urandom >"$WORK/tree/sub/$i"; done
	tar -C "$WORK" -cf "$WORK/tree.tar" tree
	mount_supervised
	survives 7 tree_round
}

@test "every acknowledged transaction is there, and every line once" {
	mount_supervised
	within 20 sqlite3 "$MNT/db" 'PRAGMA journal_mode=WAL; CREATE TABLE t(i INTEGER PRIMARY KEY)'
	echo 0 >"$WORK/rows"
	survives 7 insert_round
	[ "$(within 20 sqlite3 "$MNT/db" 'SELECT count(*) FROM t; PRAGMA integrity_check' | xargs)" = "$(cat "$WORK/rows") ok" ]
	echo 0 >"$WORK/lines"
	survives 7 append_round
	seq -f %06g "$(cat "$WORK/lines")" | cmp - "$MNT/log"
}

@test "what a worker did when it died is done once, answered or not" {
	mount_freezing
	cd "$MNT"
	within 10 sh -c 'echo a >a && echo b >b && mkdir old && echo c >c && ls -l' >/dev/null
	done_by_the_dying mkdir dir
	done_by_the_dying rmdir old
	done_by_the_dying ln -s nowhere link
	done_by_the_dying mknod fifo p
	done_by_the_dying ln a hard
	done_by_the_dying mv c moved
	done_by_the_dying "$BUILD/tests/posix_tool" <<<"rename a b exchange" >"$WORK/exchanged"
	[ "$(cat "$WORK/exchanged")" = ok ]
	done_by_the_dying rm hard
	# shellcheck disable=SC2016 # the script's own
	done_by_the_dying bash -c 'set -C && echo new >excl'
	done_by_the_dying truncate -s 1 moved
	done_by_the_dying setfattr -n user.a -v 1 moved
	cd /
	umount_fs
	[ "$(find "$SRC" -mindepth 1 -printf '%f %y\n' | sort | xargs)" = 'a f b f dir d excl f fifo p link l moved f' ]
	[ "$(cat "$SRC/a" "$SRC/b" "$SRC/moved" "$SRC/excl" | xargs)" = 'b a cnew' ]
	[ "$(stat -c %h "$SRC/b")" = 1 ]
}

@test "what was being appended when the worker died is appended once" {
	local i
	mount_freezing
	for i in 1 2 3; do done_by_the_dying dd of="$MNT/log" oflag=append conv=notrunc,fsync status=none <<<"line $i"; done
	for i in 4 5; do
		head -c 4096 /dev/zero | tr '\0' "$i" >"$WORK/block"
		done_by_the_dying dd if="$WORK/block" of="$MNT/blocks" bs=4096 oflag=append,direct conv=notrunc status=none
	done
	[ "$(within 10 cat "$MNT/log")" = $'line 1\nline 2\nline 3' ]
	umount_fs
	[ "$(cat "$SRC/log")" = $'line 1\nline 2\nline 3' ]
	[ "$(fold -w 4096 "$SRC/blocks" | cut -c 1 | xargs)" = '4 5' ]
}

@test "a failed file stays failed whoever serves it" {
	local held
	faulty_source
	mount_supervised
	exec {held}<>"$MNT/f"
	fault 'fsync EIO file=f count=1'
	echo x >&"$held"
	run -1 within 10 sync "$MNT/f"
	kill_worker
	run -1 within 10 sync "$MNT/f"
	[[ $output == *'Input/output error'* ]]
	kill_worker
	run -1 within 10 sync "$MNT/f"
	# Asked once: what the source would have said later is a lie.
	[ "$(within 10 grep -c 'sync f ' "$SRC/.faultfs")" = 1 ]
	exec {held}>&-
}

@test "stats tell of it, and the daemon is the supervisor" {
	mount_supervised
	[ "$(stat_of pid)" = "$SUPERVISOR" ]
	[ "$(stat_of worker_pid)" != "$SUPERVISOR" ]
	kill_worker
	[ "$(stat_of supervisor_pid)" = "$SUPERVISOR" ]
	[ "$(stat_of worker_restarts)" = 1 ]
	[ "$(stat_of takeover.longest_microseconds)" -gt 0 ]
}

@test "a signal ends both, after a take-over too" {
	mount_supervised
	kill_worker
	kill -TERM "$SUPERVISOR"
	wait_no_daemon "$MNT" 20
	run ! is_mounted "$MNT"
}

@test "a worker that crashes again and again is given up, and the mount taken down" {
	mount_supervised
	within 10 touch "$MNT/file"
	for _ in {1..5}; do kill_worker SEGV; done
	kill -SEGV "$(stat_of worker_pid)"
	wait_no_daemon "$MNT" 20
	run ! is_mounted "$MNT"
	[ -e "$SRC/file" ]
}

@test "without its supervisor the worker goes on, and ends with the mount" {
	mount_supervised
	kill -KILL "$SUPERVISOR"
	within 10 sh -c 'echo x >"$1/file" && [ "$(cat "$1/file")" = x ]' - "$MNT"
	within 30 umount "$MNT"
	wait_no_daemon "$MNT" 20
	[ "$(cat "$SRC/file")" = x ]
}

lock() { # VERB...
	within 20 "$BUILD/tests/lock_tool" "$@"
}

@test "locks taken in the source outlive the worker, and so do those who wait for them" {
	local kind holder
	mount_fs supervise posix_locks flock
	within 10 touch "$MNT/file"
	for kind in flock posix ofd; do
		# Not what those of the kind before have said.
		rm -f "$WORK/held" "$WORK/waiter"
		"$BUILD/tests/lock_tool" hold "$kind" w "$MNT/file" >"$WORK/held" 2>&1 3>&- 4>&- &
		holder=$!
		until grep -qs held "$WORK/held"; do sleep 0.02; done
		"$BUILD/tests/lock_tool" wait "$kind" w "$MNT/file" >"$WORK/waiter" 2>&1 3>&- 4>&- &
		LOAD=$!
		until grep -qs waiting "$WORK/waiter"; do sleep 0.02; done
		sleep 0.1
		kill_worker
		run -1 lock try "${kind/posix/ofd}" w "$SRC/file"
		run -1 lock try "$kind" w "$MNT/file"
		kill_worker
		run -1 lock try "$kind" w "$MNT/file"
		[ "$(cat "$WORK/waiter")" = waiting ]
		kill -KILL "$holder"
		wait "$LOAD"
		grep -q got "$WORK/waiter"
		for _ in {1..100}; do
			if lock try "$kind" w "$MNT/file"; then continue 2; fi
			sleep 0.05
		done
		false
	done
}
