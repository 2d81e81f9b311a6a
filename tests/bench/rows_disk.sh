# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The rows of the benchmark that wait for the disk: fsync, direct I/O, cold reads. Sourced by rows.sh, which tells
# how a row is written.

# fio for $SECS seconds on FILE of $SRC, which need_file has made.
fio_on() { # FILE read|write IOPS|MiB/s OPTION...
	local file=$1 kind=$2 unit=$3
	shift 3
	fio_row "$kind" "$unit" --filename="$D/$file" --filesize="$(stat -c %s "$D/$file")" --overwrite=1 \
		--time_based --runtime="$SECS" "$@"
}

# The same with a file for each job, which need_jobs has made.
fio_jobs() { # NAME JOBS write OPTION...
	local name=$1 jobs=$2 kind=$3
	shift 3
	# shellcheck disable=SC2016 # fio's own variable
	fio_row "$kind" IOPS --directory="$D" --filename_format="$name."'$jobnum' --numjobs="$jobs" \
		--time_based --runtime="$SECS" "$@"
}

need_jobs() { # NAME JOBS SIZE
	local i
	for ((i = 0; i < $2; i++)); do need_file "$1.$i" "$3"; done
}

# ---- fsync ----

row fsync16one IOPS '16 writers of one file: 4 KiB random write, fsync each'
fsync16one_setup() { need_file sync "$(mebi 256)"; }
fsync16one_run() { fio_on sync write IOPS --rw=randwrite --bs=4k --fsync=1 --numjobs=16 --norandommap; }

row seqfsync IOPS 'a new file: 4 KiB appended, fsync each'
seqfsync_before() { rm -f "$SRC/seqfsync.0"; }
seqfsync_run() { fio_jobs seqfsync 1 write --size=4G --rw=write --bs=4k --fsync=1; }
seqfsync_after() {
	[[ -s $SRC/seqfsync.0 ]]
	rm "$SRC/seqfsync.0"
}

row randfsync1 IOPS '4 KiB random write, fsync each'
randfsync1_setup() { need_file sync "$(mebi 256)"; }
randfsync1_run() { fio_on sync write IOPS --rw=randwrite --bs=4k --fsync=1 --norandommap; }

row randfsync16 IOPS '16 writers of a file each: 4 KiB random write, fsync each'
randfsync16_setup() { need_jobs randfsync 16 "$(mebi 32)"; }
randfsync16_run() {
	fio_jobs randfsync 16 write --size="$(mebi 32)" --rw=randwrite --bs=4k --fsync=1 --overwrite=1 --norandommap
}

row log16 IOPS '16 logs: 512 bytes appended, fdatasync each'
log16_before() { rm -f "$SRC"/log16.*; }
log16_run() { fio_jobs log16 16 write --size=1G --rw=write --bs=512 --fdatasync=1; }
log16_after() {
	[[ $(find "$SRC" -maxdepth 1 -name 'log16.*' -size +0 | wc -l) == 16 ]]
	rm "$SRC"/log16.*
}

row checkpoint s '4,000 random pages of 1 GiB written, then one fsync'
checkpoint_setup() { need_file big "$(mebi 1024)"; }
checkpoint_before() { cat "$SRC/big" >/dev/null; }
checkpoint_run() {
	"$TOOLS/checkpoint_tool" "$D/big" "$(scaled 4000)"
	figure "$(scaled 4000)"
}

# ---- Direct I/O ----

# A row whose O_DIRECT got lost on the way, and was served from the source's page cache, measured something else.
direct_row() { # NAME read|write IOPS|MiB/s TEXT FIO-OPTION...
	local name=$1 kind=$2 unit=$3
	row "$name" "$unit" "direct I/O: $4"
	shift 4
	eval "${name}_setup() { need_file big \"\$(mebi 1024)\"; }
		${name}_before() { drop_file \"\$SRC/big\"; }
		${name}_run() { fio_on big $kind $unit --direct=1 --ioengine=libaio --norandommap $*; }
		${name}_after() { stays_direct; }"
}

stays_direct() {
	local cached
	cached=$(fincore -nbo RES "$SRC/big")
	if ((cached > 1 << 20)); then
		echo "not direct: afterwards $((cached >> 20)) MiB of the file are in the source's page cache"
		return 1
	fi
}

direct_row dread1 read IOPS '4 KiB random reads, depth 1' --rw=randread --bs=4k --iodepth=1
direct_row dread32 read IOPS '4 KiB random reads, depth 32' --rw=randread --bs=4k --iodepth=32
direct_row dread2x32 read IOPS '4 KiB random reads, 2 jobs of depth 32' --rw=randread --bs=4k --iodepth=32 --numjobs=2
direct_row dwrite1 write IOPS '4 KiB random writes, depth 1' --rw=randwrite --bs=4k --iodepth=1
direct_row dwrite32 write IOPS '4 KiB random writes, depth 32' --rw=randwrite --bs=4k --iodepth=32
direct_row dwrite2x32 write IOPS '4 KiB random writes, 2 jobs of depth 32' --rw=randwrite --bs=4k --iodepth=32 --numjobs=2
direct_row dseqread read MiB/s '1 MiB sequential reads, depth 4' --rw=read --bs=1m --iodepth=4
direct_row dseqwrite write MiB/s '1 MiB sequential writes, depth 4' --rw=write --bs=1m --iodepth=4

# ---- Buffered reads ----

row cached4 IOPS '4 jobs: 4 KiB random reads of 256 MiB in the page cache'
cached4_setup() { need_file sync "$(mebi 256)"; }
cached4_warm() { cat "$D/sync" >/dev/null; }
cached4_run() { fio_on sync read IOPS --rw=randread --bs=4k --numjobs=4 --norandommap; }

row coldread s '1 GiB read sequentially, in no cache'
coldread_setup() { need_file big "$(mebi 1024)"; }
coldread_before() { drop_file "$SRC/big"; }
coldread_run() {
	dd if="$D/big" of=/dev/null bs=128k status=none
	figure $(($(stat -c %s "$D/big") / 131072))
}
