#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `make demo`: unmodified programs on a data directory that batchiofs is mounted over, with each backend.
# Called by the Makefile once the program is built; works as root, and as an ordinary user with fusermount3.
#
# Works on an example directory that it makes below TMPDIR and takes away again, however it ends.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=tests/support/cleanup.sh
source "$ROOT/tests/support/cleanup.sh"
B=$(realpath -m "${B:-$ROOT/build}")
BATCHIOFS=$B/batchiofs
# Seconds for a step: a dead daemon would hang it for ever.
LIMIT=60

DEMO=$(mktemp -d "${TMPDIR:-/var/tmp}/batchiofs-demo-XXXXXX")
DATA=$DEMO/data
LOG=$DEMO/log
cd "$DEMO" # for whatever a program writes beside what it is told
PATH=$PATH:/usr/sbin:/sbin
export GIT_CONFIG_NOSYSTEM=1 HOME=$DEMO

step=0 steps=0 job='' began=$SECONDS

leave() {
	local status=$?
	trap - EXIT
	cd /
	if [[ -n $job ]]; then kill -KILL -- "-$job" 2>/dev/null || true; fi
	clean_below "$DEMO"
	remove_tree "$DEMO" || echo "demo: could not remove $DEMO" >&2
	if ((status == 0)); then
		printf '\nAll good: %d steps in %d s, nothing left behind.\n' "$step" $((SECONDS - began))
	else
		printf '\nThe demo failed at step %d of %d (exit status %d).\n' "$step" "$steps" "$status" >&2
	fi
	exit "$status"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Says what comes and does it, in a process group of its own; its output is shown only when it fails.
step() { # TEXT COMMAND...
	local text=$1 status=0 start
	shift
	step=$((step + 1))
	printf '[%2d/%d] %-68s ' "$step" "$steps" "$text"
	start=$(date +%s%N)
	set -m
	"$@" >"$LOG" 2>&1 </dev/null &
	job=$!
	set +m
	while kill -0 "$job" 2>/dev/null; do
		if (($(date +%s%N) - start > LIMIT * 1000000000)); then
			echo "no end within $LIMIT s" >>"$LOG"
			kill -KILL -- "-$job"
			break
		fi
		sleep 0.05
	done
	wait "$job" 2>/dev/null || status=$?
	job=
	if ((status)); then
		echo FAILED
		tail -n 30 "$LOG" | sed 's/^/        /' >&2
		exit 1
	fi
	printf 'ok %5d ms\n' $((($(date +%s%N) - start) / 1000000))
}

# ---- The steps ----

# A small tree with files of many sizes, the same every time.
make_data() {
	mkdir -p "$DATA"
	local i
	for i in $(seq 200); do
		mkdir -p "$DATA/tree/$((i % 10))"
		seq "$i" $((i * 20)) >"$DATA/tree/$((i % 10))/file $i"
	done
	head -c 4194304 /dev/zero | tr '\0' x >"$DATA/tree/large"
	ln -s large "$DATA/tree/link"
	checksums "$DATA/tree" >"$DEMO/tree.sums"
}

checksums() { # DIR
	(cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}

mount_data() { # BACKEND
	"$BATCHIOFS" "$DATA" "$DATA" -o "backend=$1"
	is_mounted "$DATA"
}

tree_is_the_same() {
	checksums "$DATA/tree" | diff "$DEMO/tree.sums" -
}

# Four writers at once, each row a transaction of its own with its fsyncs; a checkpoint at the end.
run_sqlite() {
	local db=$DATA/notes.db i writers=()
	sqlite3 "$db" 'PRAGMA journal_mode = WAL' 'CREATE TABLE note (writer INT, n INT, text TEXT)'
	for i in 1 2 3 4; do
		{
			echo '.timeout 30000'
			echo 'PRAGMA synchronous = FULL;'
			seq 100 | sed "s/.*/INSERT INTO note VALUES ($i, &, hex(randomblob(200)));/"
		} | sqlite3 "$db" &
		writers+=($!)
	done
	for i in "${writers[@]}"; do wait "$i"; done
	sqlite3 "$db" 'PRAGMA wal_checkpoint(TRUNCATE)'
	sqlite_is_whole
}

sqlite_is_whole() {
	local answer
	answer=$(sqlite3 "$DATA/notes.db" 'PRAGMA integrity_check' 'SELECT count(*) FROM note')
	echo "$answer"
	[[ $answer == $'ok\n400' ]]
}

# Direct random writes at depth 64, with a checksum in each block that is read back and compared.
run_fio() {
	fio --name=demo --filename="$DATA/fio.data" --size=32M --rw=randwrite --bs=4k \
		--ioengine=libaio --iodepth=64 --direct=1 --fsync=256 \
		--verify=crc32c --do_verify=1 --verify_fatal=1 --randseed=7
}

# Buffered, with an fsync after every few writes, from four processes: what a mail or log server does.
run_fio_fsync() {
	fio --name=demo --directory="$DATA" --size=1M --numjobs=4 --rw=randwrite --bs=4k \
		--ioengine=psync --fsync=8 --verify=crc32c --do_verify=1 --verify_fatal=1 --group_reporting
}

run_git() {
	cd "$DATA"
	git init -q -b main repo
	cp -R tree repo/
	cd repo
	git -c core.fsync=all -c core.fsyncMethod=fsync add .
	git -c user.name=demo -c user.email=demo@localhost -c core.fsync=all commit -q -m 'A tree'
	git_is_whole
}

git_is_whole() {
	git -C "$DATA/repo" fsck --full --strict
	[[ -z $(git -C "$DATA/repo" status --porcelain) ]]
}

run_tar() {
	cd "$DATA"
	tar -cf tree.tar tree
	mkdir extracted
	tar -xf tree.tar -C extracted
	tar -df tree.tar
	diff -r --no-dereference tree extracted/tree
}

remember_sums() {
	checksums "$DATA" >"$DEMO/through-mount.sums"
}

unmount_data() {
	"$BATCHIOFS" umount "$DATA"
	! is_mounted "$DATA"
}

data_is_the_same() {
	checksums "$DATA" | diff "$DEMO/through-mount.sums" -
}

show_stats() {
	echo
	timeout -k 5 "$LIMIT" "$BATCHIOFS" stats "$DATA" | sed 's/^/        /'
	echo
}

one_backend() { # BACKEND
	local with="($1)"
	printf '\nbackend=%s\n' "$1"
	step "mount the directory over itself $with" mount_data "$1"
	step "200 old files read the same through the mount $with" tree_is_the_same
	step "sqlite3: 4 writers, 400 transactions, integrity check $with" run_sqlite
	step "fio: direct random writes, depth 64, verified $with" run_fio
	step "fio: 4 processes, an fsync every 8 writes, verified $with" run_fio_fsync
	step "git: init, add, commit, fsck $with" run_git
	step "tar: create, extract, compare $with" run_tar
	step "checksums of everything, through the mount $with" remember_sums
	show_stats
	step "unmount; the daemon is gone $with" unmount_data
	step "beneath, the same checksums $with" data_is_the_same
	step "beneath, sqlite3 finds its database whole $with" sqlite_is_whole
	step "beneath, git finds its repository whole $with" git_is_whole
	rm -rf "$DATA/notes.db" "$DATA/repo" "$DATA/tree.tar" "$DATA/extracted" "$DATA"/*fio* "$DATA"/demo.*
}

# Why a backend can't be shown here; nothing when it can.
why_without_uring() {
	if [[ ${URING:-1} == 0 ]]; then
		echo 'built with URING=0'
	elif [[ $(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null) == 2 ]]; then
		echo 'kernel.io_uring_disabled is 2'
	elif [[ $(cat /proc/sys/kernel/io_uring_disabled 2>/dev/null) == 1 && $(id -u) != 0 ]]; then
		echo 'kernel.io_uring_disabled is 1: io_uring is for root only'
	fi
}

if [[ ! -r /dev/fuse || ! -w /dev/fuse ]]; then
	echo "demo: /dev/fuse is missing or not open to this user ($(id -un)); it is needed to mount" >&2
	exit 1
fi

backends=(uring standard)
without=$(why_without_uring)
if [[ -n $without ]]; then
	echo "Without the uring backend: $without."
	backends=(standard)
fi
steps=$((1 + 12 * ${#backends[@]}))

echo "batchiofs: unmodified programs on $DATA"
step 'make an example data directory' make_data
for backend in "${backends[@]}"; do one_backend "$backend"; done
