#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Processors are kept awake while requests come one after another, and left alone otherwise.
#
# alone
# ring

load ../support/helpers

DRIVER=/sys/devices/system/cpu/cpuidle/current_driver

setup() {
	default_setup
	requires_root
	[ -c /dev/cpu_dma_latency ] || skip "this kernel has no /dev/cpu_dma_latency"
	[[ $(cat "$DRIVER" 2>&1) == [a-z]* && $(<"$DRIVER") != none ]] || skip "this kernel has no driver for idle processors"
	BEFORE=$(latency)
	((BEFORE > 1000)) || skip "something else keeps the processors awake (latency asked for: $BEFORE us)"
	dd if=/dev/zero of="$SRC/file" bs=1M count=64 status=none
}

# Microseconds that the kernel lets a processor take to wake up. Opened for reading it asks for nothing.
latency() {
	od -An -td4 -N4 /dev/cpu_dma_latency | tr -d ' '
}

# What is asked for while processors are to stay awake.
awake() {
	if [[ $(<"$DRIVER") == haltpoll ]]; then echo 0; else echo 3; fi
}

# Requests one after another, each from the source's page cache, until the file `stop` is there.
read_on() {
	until [[ -e $WORK/stop ]]; do
		within 60 dd if="$MNT/file" of=/dev/null bs=4k status=none || return
	done
}

becomes() { # LATENCY
	local i
	for ((i = 0; i < 300; i++)); do
		if [[ $(latency) == "$1" ]]; then return; fi
		sleep 0.01
	done
	echo "latency $(latency), not $1"
	return 1
}

@test "while requests come one after another processors stay awake, and sleep soon after" {
	local reader
	mount_fs cache=none
	[ "$(latency)" = "$BEFORE" ]
	read_on &
	reader=$!
	becomes "$(awake)"
	: >"$WORK/stop"
	wait "$reader"
	becomes "$BEFORE"
	[ "$(stat_of awake.times)" -ge 1 ]
	[ "$(stat_of awake.milliseconds)" -ge 1 ]
}

@test "a request now and then keeps nothing awake" {
	local i
	mount_fs cache=none
	for i in {1..60}; do
		within 10 dd if="$MNT/file" of=/dev/null bs=4k count=1 status=none
		sleep 0.01
	done
	[ "$(latency)" = "$BEFORE" ]
	[ "$(stat_of awake.times)" = 0 ]
}

@test "idle=sleep leaves processors to the kernel" {
	mount_fs cache=none,idle=sleep
	within 60 dd if="$MNT/file" of=/dev/null bs=4k status=none
	[ "$(stat_of awake.times)" = 0 ]
	[ "$(latency)" = "$BEFORE" ]
}

@test "a daemon that is killed meanwhile takes its wish with it" {
	local reader
	mount_fs cache=none nosupervise
	read_on &
	reader=$!
	becomes "$(awake)"
	kill -KILL "$DAEMON"
	becomes "$BEFORE"
	: >"$WORK/stop"
	wait "$reader" || true
	within 30 "$BATCHIOFS" umount "$MNT"
}
