# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The rows of the benchmark that wait for the disk: fsync, direct I/O, cold reads. Sourced by rows.sh, which tells
# how a row is written.

# ---- fsync ----

row fsync16one IOPS '16 writers of one file: 4 KiB random write, fsync each'
fsync16one_setup() { need_file sync "$(mebi 256)"; }
fsync16one_run() {
	# shellcheck disable=SC2046 # words
	fio_row write IOPS --filename="$D/sync" --size="$(mebi 256)" --rw=randwrite --bs=4k --fsync=1 --numjobs=16 \
		--norandommap $(timed)
}
