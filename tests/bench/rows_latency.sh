# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The rows of the benchmark that tell how long the slowest of a hundred reads takes, with nothing else going on and
# beside programs that keep the file system busy. Sourced by rows.sh, which tells how a row is written.

# 99 of 100 reads of 4 KiB are as quick as the figure. One each millisecond, so that it is latency that is measured.
latency_on() { # FILE FIO-OPTION...
	local file=$1
	shift
	fio --name=row --minimal --randrepeat=1 --invalidate=0 --ioengine=psync --filename="$D/$file" --rw=randread \
		--bs=4k --norandommap --rate_iops=1000 --time_based --runtime="$SECS" "$@" >"$OUT/fio" 2>&1 || {
		tail -n 1 "$OUT/fio"
		return 1
	}
	# Of the terse output, version 3: 5 error, 8 and 9 IOPS and ms; the first percentiles are those of reading, in us.
	awk -F';' -v out="$OUT/figure" '
		$1 == 3 && $5 == 0 {
			for (i = 10; i <= NF; i++)
				if ($i ~ /^99\.0+%=/) {
					printf "%.0f %s\n", $8 * $9 / 1000, substr($i, index($i, "=") + 1) >out
					exit found = 1
				}
		}
		END { exit !found }' "$OUT/fio" || {
		echo "fio: no percentile in its output: $(head -c 300 "$OUT/fio")"
		return 1
	}
}

# ---- The others ----

# What they want: files to write and sync, a tree of 60,000 files to look through, a file of 20 GiB to delete.
need_others() {
	local part
	need_jobs storm 4 "$(mebi 32)"
	[[ -e $SRC/wide ]] && return
	mkdir "$SRC/wide.new"
	for ((part = 0; part < $(scaled 600); part++)); do
		mkdir "$SRC/wide.new/part$part"
		touch "$SRC/wide.new/part$part/file"{1..100}
	done
	sync -f "$SRC"
	mv "$SRC/wide.new" "$SRC/wide"
}
fresh_for_others() {
	rm -f "$SRC/large"
	fallocate -l "$(mebi 20480)" "$SRC/large"
	sync -f "$SRC"
}

# Names and attributes are forgotten each time, where that may be asked for; contents of open files are not.
look_through() {
	while [[ ! -e $OUT/enough ]]; do
		if [[ -w /proc/sys/vm/drop_caches ]]; then echo 2 >/proc/sys/vm/drop_caches; fi
		find "$D/wide" -newer "$D/wide/part0" >/dev/null
	done
}

# latency_on, with the others about. The file stays open, or would be forgotten with its contents.
among_others() { # FILE FIO-OPTION...
	local result=0 held looking storming deleting other
	exec {held}<"$D/$1"
	rm -f "$OUT/enough"
	look_through &
	looking=$!
	# shellcheck disable=SC2016 # fio's own variable
	fio --name=storm --minimal --randrepeat=1 --invalidate=0 --ioengine=psync --directory="$D" \
		--filename_format='storm.$jobnum' --numjobs=4 --size="$(mebi 32)" --overwrite=1 --rw=randwrite --bs=4k \
		--fsync=1 --norandommap --time_based --runtime=$((SECS + 1)) >"$OUT/storm" 2>&1 &
	storming=$!
	(sleep 1 && rm "$D/large") &
	deleting=$!
	latency_on "$@" || result=$?
	: >"$OUT/enough"
	for other in "$looking" "$storming" "$deleting"; do
		wait "$other" || result=$?
	done
	exec {held}<&-
	return "$result"
}
others_are_done() {
	if [[ -e $SRC/large ]]; then
		echo 'the large file is there still'
		return 1
	fi
}

# ---- Rows ----

latency_rows() { # NAME TEXT FILE PREPARE FIO-OPTION...
	local name=$1 text=$2 file=$3 prepare=$4
	shift 4
	row "calm_$name" us "99th percentile of $text, one each ms, nothing else going on"
	row "busy_$name" us "the same beside a large file's deletion, a cold find and four writers who sync"
	eval "calm_${name}_setup() { need_file $file \"\$(mebi 256)\"; }
		calm_${name}_before() { $prepare; }
		calm_${name}_run() { latency_on $file $*; }
		busy_${name}_setup() { need_file $file \"\$(mebi 256)\"; need_others; }
		busy_${name}_before() { $prepare; fresh_for_others; }
		busy_${name}_run() { among_others $file $*; }
		busy_${name}_after() { others_are_done; }"
}

# shellcheck disable=SC2016 # for eval
latency_rows direct '4 KiB direct random reads' paced 'drop_file "$SRC/paced"' --direct=1
latency_rows cached '4 KiB cached random reads' sync :
# shellcheck disable=SC2034
calm_cached_warm() { cat "$D/sync" >/dev/null; }
busy_cached_warm() { calm_cached_warm; }
