# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the bats file that cuts the power. Sourced after helpers.bash by `load ../support/power`.
#
# A file system on a loop device, whose image a faultfs serves and records (faultfs_tool.c); batchiofs over it; a program that
# puts a mark in the record after each acknowledgement. Then, for each instant of a cut that power_tool.c plans, the image as
# it is after it: mounted, which recovers, looked at by the file's check, and checked as a file system.
#
# From the environment:
#   CUTS         how many cuts each record is good for, drawn anew each time, or `all` (and XFS, too)
#   RANDOM_CUTS  random parts of what is pending, for each instant (1)
#   POWER_TABLE  a file that takes a line for each record
#   POWER_KEEP   a directory that takes record and base where something failed, for power_tool by hand

POWER_TOOL=$BUILD/tests/power_tool

power_setup() {
	default_setup
	requires_root
	RAM=$WORK/ram DISK=$WORK/disk AFTER=$WORK/after
	CONTROL=$DISK/.faultfs
	FS=''
}

# What has just let go of it (a loop device of its image, a program that was killed) may take a moment to.
power_umount() { # PATH
	for _ in {1..50}; do
		if within 30 umount "$1" 2>"$WORK/umount.err"; then return; fi
		sleep 0.1
	done
	cat "$WORK/umount.err"
	return 1
}

# Latest first, which is the order in which they can go.
power_down() { # [KEPT TYPE]
	local type path
	while read -r type path; do
		if [[ $type == "${1:-}" ]]; then
			continue
		elif [[ $type == fuse.batchiofs ]]; then
			within 30 "$BATCHIOFS" umount "$path" || return
		else
			power_umount "$path" || return
		fi
	done < <(mounts_below "$WORK")
}

power_teardown() {
	local status=0
	power_down || status=1
	default_teardown || status=1
	return $status
}

# A device with a file system in which FILL has put what the program finds there.
power_device() { # ext4|xfs SIZE FILL
	FS=$1
	requires "mkfs.$FS" losetup
	mkdir -p "$RAM" "$DISK" "$AFTER"
	# In memory: what a disk takes for a flush is told to faultfs below.
	mount -t tmpfs -o size=3g none "$RAM"
	mkdir "$RAM/behind"
	truncate -s "$2" "$RAM/behind/image"
	case $FS in
	ext4) mkfs.ext4 -q -b 4096 -E lazy_itable_init=0,lazy_journal_init=0,nodiscard "$RAM/behind/image" ;;
	xfs) mkfs.xfs -q -K "$RAM/behind/image" ;;
	esac
	mount -t "$FS" -o loop "$RAM/behind/image" "$AFTER"
	"$3" "$AFTER"
	umount "$AFTER"
	cp --sparse=always "$RAM/behind/image" "$RAM/base"
	within 10 "$BUILD/tests/faultfs_tool" "$RAM/behind" "$DISK" 3>&- 4>&- </dev/null
	echo 'fsync OK delay=1' >"$CONTROL"
}

# The device, recorded from here on, and batchiofs over it.
power_on() {
	echo "record $RAM/record" >"$CONTROL"
	within 30 mount -t "$FS" -o loop "$DISK/image" "$SRC"
	mount_fs --over "sharing=${SHARING:-shared}"
}

# The record ends: what the unmount will write is not part of it.
power_off() {
	local what
	echo record >"$CONTROL"
	SYNCS=
	for what in fsyncs.asked fsyncs.clean fsyncs.joined fsyncs.early backend_calls.write_fsync; do
		SYNCS+="${SYNCS:+, }${what##*.} $(stat_of "$what")"
	done
}

# The device as a cut leaves it, recovered and looked at. Says what is wrong. A shell of its own, and the same for the sweep, goes
# without bats' trap, which before each command takes longer than the command.
power_cut() ( # CHECK AT WHAT...
	trap - DEBUG
	check=$1 status=0
	shift
	"$POWER_TOOL" image "$RAM/record" "$RAM/base" "$RAM/cut" "$@" >"$WORK/marks" || return
	within 60 mount -t "$FS" -o loop "$RAM/cut" "$AFTER" 2>&1 || return
	"$check" "$AFTER" || status=1
	power_umount "$AFTER" || return
	case $FS in
	ext4) within 60 e2fsck -fn "$RAM/cut" >"$WORK/fsck" 2>&1 ;;
	xfs) within 60 xfs_repair -n "$RAM/cut" >"$WORK/fsck" 2>&1 ;;
	esac || {
		cat "$WORK/fsck"
		return 1
	}
	return $status
)

# Cuts at all instants, or at N drawn ones; where those of all would take too long, at ALL.
power_sweep() ( # NAME N [ALL]
	trap - DEBUG
	begin=$SECONDS cuts=${CUTS:-$2} n=0 failed=0 drawn=()
	if [[ $cuts == all ]]; then cuts=${3:-all}; fi
	if [[ $cuts != all ]]; then drawn=("$cuts" "$RANDOM"); fi
	"$POWER_TOOL" plan "$RAM/record" "${RANDOM_CUTS:-1}" "${drawn[@]}" >"$WORK/plan"
	while read -r at what <&9; do
		n=$((n + 1))
		why=$(power_cut "check_$1" "$at" "$what" 9<&-) && continue
		failed=$((failed + 1))
		((failed > 5)) || echo "cut after $at records, $what: $why"
	done 9<"$WORK/plan"
	echo "$1 | $FS | $BACKEND | ${SHARING:-shared} | $("$POWER_TOOL" count "$RAM/record") | $SYNCS | $n | $failed" |
		tee -a "${POWER_TABLE:-/dev/null}"
	echo "$((SECONDS - begin)) seconds"
	((failed == 0 && n > 0)) || {
		if [[ ${POWER_KEEP:-} ]]; then cp "$RAM/record" "$RAM/base" "$WORK/plan" "$POWER_KEEP"; fi
		return 1
	}
)

# What must be seen: a device that has lost the second half of what it had said was safe, and one whose flushes did nothing.
power_control() { # NAME
	local writes end seed why
	writes=$("$POWER_TOOL" count "$RAM/record")
	end=$("$POWER_TOOL" plan "$RAM/record" 0 | tail -n 1)
	if why=$(power_cut "check_$1" "${end% *}" late $((${writes%% *} / 2))) || [[ $why != *acknowledged* ]]; then
		echo "half of it is lost, and what is said of it is: ${why:-nothing}"
		return 1
	fi
	for seed in {1..8}; do
		power_cut "check_$1" "${end% *}" lie "$seed" >"$WORK/lie" || return 0
	done
	echo "nothing seen of flushes that did nothing"
	return 1
}

# Of the bats file, for each NAME: fill_NAME DIR, before batchiofs and record; run_NAME, whose acknowledgements are marked;
# end_NAME, if it has left anything running; check_NAME DIR, with the marks in $WORK/marks.
power_test() { # NAME SIZE N [ALL]
	local fs kinds=ext4
	if [[ ${CUTS:-} == all ]]; then kinds+=' xfs'; fi
	for fs in $kinds; do
		power_device "$fs" "$2" "fill_$1"
		power_on
		"run_$1"
		power_off
		if declare -F "end_$1" >/dev/null; then "end_$1"; fi
		power_down tmpfs
		power_control "$1"
		power_sweep "$1" "${@:3}"
		power_down
	done
}
