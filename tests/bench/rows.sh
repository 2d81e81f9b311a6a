# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The rows of the benchmark: what is done on each target. Sourced by tests/bench/run (for the list) and by
# tests/bench/step (for one phase of one row). Further rows are in rows_disk.sh and rows_db.sh.
#
# A row is a line `row NAME UNIT TEXT` and functions of its name, all but _run optional:
#   NAME_setup    once for all targets: data that every measurement uses          } in $SRC, nothing is
#   NAME_before   before each measurement: what has to be fresh, or out of memory } mounted
#   NAME_warm     untimed, in $D: fill caches, start servers
#   NAME_run      timed, in $D
#   NAME_finish   untimed, in $D: stop servers
#   NAME_after    in $SRC, nothing is mounted: is what was written there? Then take it away
#   NAME_needs    prints why the row cannot be had on this machine; nothing when it can
# UNIT is `s` (the time of _run counts, less is better), `us` (a latency, less is better) or a rate, more is better; these
# _run gives to `figure`, which in all cases says for how many operations it was, for the processor time per operation.
#
# Set: SRC (the source), D (where programs work: the mount, or SRC itself), KEEP (a directory beside the source
# for archives and templates), SECS (seconds of the rows that run for a time), SCALE (percent of the usual sizes),
# OUT (what `figure` and the servers' ids are written to), TOOLS (programs of our own).
# shellcheck disable=SC2034 # for those who source it

ROWS_ORDER=()
declare -A ROW_UNIT ROW_TEXT

row() { # NAME UNIT TEXT
	ROWS_ORDER+=("$1")
	ROW_UNIT[$1]=$2
	ROW_TEXT[$1]=$3
}

# What a row has to say: how many operations, and for a rate or a latency its value.
figure() { # OPERATIONS [VALUE]
	echo "$1 ${2:--}" >"$OUT/figure"
}

scaled() { # NUMBER
	echo $((($1 * SCALE + 99) / 100))
}

# Sizes stay multiples of 1 MiB.
mebi() { # MEBIBYTES
	echo "$(scaled "$1")M"
}

# A file of the given size whose blocks are all on disk, made once.
need_file() { # FILE SIZE
	[[ -e $SRC/$1 ]] && return
	head -c "$2" /dev/urandom >"$SRC/$1.new"
	sync "$SRC/$1.new"
	mv "$SRC/$1.new" "$SRC/$1"
}

# 9,000 files of 120 MB together, in $SRC/tree and as an archive beside the source.
need_tree() {
	[[ -e $KEEP/tree.tar ]] && return
	rm -rf "$SRC/tree"
	awk -v dir="$SRC/tree" -v files="$(scaled 9000)" -v bytes="$(scaled 120000000)" \
		-f "$HERE/tree.awk" >"$KEEP/tree.files"
	tar -C "$SRC" -cf "$KEEP/tree.tar.new" tree
	mv "$KEEP/tree.tar.new" "$KEEP/tree.tar"
}

tree_files() {
	cat "$KEEP/tree.files"
}

# What was made is put aside, not deleted, as long as the row runs: ext4 gives out no inode number that was in use a
# minute ago, and looks at each of them again for every new file. A row that makes files would measure that.
bury() { # DIR
	[[ ! -e $1 ]] || mv "$1" "$KEEP/grave.$RANDOM$RANDOM$RANDOM"
}

# Before the first round of such a row: deletes what is buried, and lets the minute pass.
dig_graves() {
	local grave deleted
	for grave in "$KEEP"/grave.*; do
		[[ -e $grave ]] || continue
		rm -rf "$grave"
		: >"$KEEP/deleted"
	done
	[[ -e $KEEP/deleted ]] || return 0
	deleted=$(stat -c %Y "$KEEP/deleted")
	while ((EPOCHSECONDS < deleted + 65)); do sleep 1; done
	rm -f "$KEEP/deleted"
}

# Takes a file out of the page cache, without right or need to empty that of the whole machine.
drop_file() { # FILE
	sync "$1"
	dd if="$1" iflag=nocache count=0 status=none
	local cached
	cached=$(fincore -nbo RES "$1")
	if ((cached > 1 << 20)); then
		echo "$cached bytes of $1 stay in memory: something else has it open?"
		return 1
	fi
}

# fio, its figure (IOPS or MiB/s) to `figure`.
fio_row() { # read|write IOPS|MiB/s OPTION...
	local kind=$1 unit=$2
	shift 2
	fio --name=row --minimal --group_reporting --fallocate=none --randrepeat=1 --invalidate=0 \
		--ioengine=psync "$@" >"$OUT/fio" 2>&1 || {
		grep -m 1 'error=' "$OUT/fio" || tail -n 1 "$OUT/fio"
		return 1
	}
	# Version 3 of the terse output: 5 error, 6 KiB read, 7 KiB/s, 8 IOPS, 9 ms; 47 to 50 written.
	awk -F';' -v kind="$kind" -v unit="$unit" -v out="$OUT/figure" '
		$1 == 3 {
			base = kind == "read" ? 6 : 47
			if ($5 != 0 || $(base + 2) == 0) exit 1
			value = unit == "IOPS" ? $(base + 2) : $(base + 1) / 1024
			printf "%.0f %s\n", $(base + 2) * $(base + 3) / 1000, value >out
			found = 1
		}
		END { if (!found) exit 1 }' "$OUT/fio" || {
		echo "fio: no figure in its output: $(head -c 300 "$OUT/fio")"
		return 1
	}
}

# ---- Large files ----

row seqwrite s '4 KiB sequential buffered writes of 1 GiB, one fsync at the end'
seqwrite_before() { rm -f "$SRC/seqwrite"; }
seqwrite_run() {
	dd if=/dev/zero of="$D/seqwrite" bs=4k count="$(scaled 262144)" conv=fsync status=none
	figure "$(scaled 262144)"
}
seqwrite_after() {
	[[ $(stat -c %s "$SRC/seqwrite") == $(($(scaled 262144) * 4096)) ]]
	rm "$SRC/seqwrite"
}

row rewrite IOPS '4 KiB sequential buffered writes over 256 MiB that exist'
rewrite_setup() { need_file rewrite "$(mebi 256)"; }
rewrite_run() { fio_on rewrite write IOPS --rw=write --bs=4k; }

# ---- Trees of small files ----

row untar s 'tar -x: 9,000 files, 120 MB'
untar_setup() {
	need_tree
	dig_graves
}
untar_before() {
	bury "$SRC/untar"
	mkdir "$SRC/untar"
	cat "$KEEP/tree.tar" >/dev/null
}
untar_run() {
	tar -C "$D/untar" -xf "$KEEP/tree.tar"
	figure "$(tree_files)"
}
untar_after() {
	[[ $(find "$SRC/untar" -type f | wc -l) == $(tree_files) ]]
	bury "$SRC/untar"
}

row find s 'find -newer, 10 times over 9,000 files, warm'
find_setup() { need_tree; }
find_pass() { [[ $(find "$D/tree" -newer "$D/tree/part0" -name '*.c' | wc -l) -gt 0 ]]; }
find_warm() { find_pass; }
find_run() {
	local i
	for i in {1..10}; do find_pass; done
	figure $(($(tree_files) * i))
}

row grep s 'grep -r over 120 MB, warm'
grep_setup() { need_tree; }
grep_pass() { [[ $(grep -r -l 'file 7[0-9]* \*/' "$D/tree" | wc -l) -gt 0 ]]; }
grep_warm() { grep_pass; }
grep_run() {
	grep_pass
	figure "$(tree_files)"
}

row cp s 'cp -r of the tree beside itself'
cp_setup() {
	need_tree
	dig_graves
}
cp_before() {
	bury "$SRC/copy"
	find "$SRC/tree" -type f -exec cat {} + >/dev/null
}
cp_run() {
	cp -r "$D/tree" "$D/copy"
	figure "$(tree_files)"
}
cp_after() {
	diff -r "$SRC/tree" "$SRC/copy"
	bury "$SRC/copy"
}

row git s 'git add and commit of the tree'
git_setup() {
	need_tree
	dig_graves
}
git_before() {
	bury "$SRC/repository"
	mkdir "$SRC/repository"
	git init -q -b main "$SRC/repository"
	git -C "$SRC/repository" config gc.auto 0
	cp -r "$SRC/tree" "$SRC/repository/"
}
git_run() {
	git -C "$D/repository" add .
	git -C "$D/repository" -c user.name=bench -c user.email=bench@localhost commit -q -m tree
	figure "$(tree_files)"
}
git_after() {
	[[ $(git -C "$SRC/repository" ls-tree -r --name-only HEAD | wc -l) == $(tree_files) ]]
	[[ -z $(git -C "$SRC/repository" status --porcelain) ]]
	bury "$SRC/repository"
}

row rm s 'rm -r of the tree, just looked at'
rm_setup() { need_tree; }
rm_before() {
	rm -rf "$SRC/copy"
	cp -r "$SRC/tree" "$SRC/copy"
}
rm_warm() { find "$D/copy" -newer "$D" >/dev/null; }
rm_run() {
	rm -r "$D/copy"
	figure "$(tree_files)"
}
rm_after() {
	: >"$KEEP/deleted"
	[[ ! -e $SRC/copy ]]
}

# ---- SQLite ----

sqlite_script() { # JOURNAL TRANSACTIONS
	echo "PRAGMA journal_mode = $1; PRAGMA synchronous = FULL; CREATE TABLE note (n INT, text TEXT);"
	seq "$2" | sed "s/.*/INSERT INTO note VALUES (&, hex(randomblob(50)));/"
}
sqlite_run() { # TRANSACTIONS
	sqlite3 "$D/sqlite.db" <"$KEEP/sqlite.sql" >/dev/null
	figure "$1"
}
sqlite_after() { # TRANSACTIONS
	[[ $(sqlite3 "$SRC/sqlite.db" 'PRAGMA integrity_check' 'SELECT count(*) FROM note') == $'ok\n'"$1" ]]
	rm -f "$SRC"/sqlite.db*
}

row sqlite_wal s 'SQLite: 3,000 one-row transactions, WAL, synchronous=FULL'
sqlite_wal_before() {
	rm -f "$SRC"/sqlite.db*
	sqlite_script wal "$(scaled 3000)" >"$KEEP/sqlite.sql"
}
sqlite_wal_run() { sqlite_run "$(scaled 3000)"; }
sqlite_wal_after() { sqlite_after "$(scaled 3000)"; }

row sqlite_delete s 'SQLite: 1,000 one-row transactions, DELETE journal, synchronous=FULL'
sqlite_delete_before() {
	rm -f "$SRC"/sqlite.db*
	sqlite_script delete "$(scaled 1000)" >"$KEEP/sqlite.sql"
}
sqlite_delete_run() { sqlite_run "$(scaled 1000)"; }
sqlite_delete_after() { sqlite_after "$(scaled 1000)"; }

# shellcheck source=tests/bench/rows_disk.sh
source "${BASH_SOURCE[0]%/*}/rows_disk.sh"
# shellcheck source=tests/bench/rows_db.sh
source "${BASH_SOURCE[0]%/*}/rows_db.sh"
# shellcheck source=tests/bench/rows_latency.sh
source "${BASH_SOURCE[0]%/*}/rows_latency.sh"
