#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Errors of the source reach whose bytes failed and nobody else; a failed sync is told to everyone it concerns and
# never turned into a success.
#
# ci: exclusive

load ../support/helpers
load ../support/faulty

setup() {
	default_setup
	declare -gA ACTORS=() TO=() FROM=()
}

teardown() {
	local pid
	for pid in "${ACTORS[@]}"; do kill "$pid" 2>/dev/null || true; done
	faulty_teardown
}

# What the source has seen so far, a line a call.
seen() {
	within 10 cat "$SRC/.faultfs"
}

# Processes that hold files open, and what they answer to a command of posix_tool's.
actors() { # NAME...
	local name to from
	for name; do
		mkfifo "$WORK/$name.to" "$WORK/$name.from"
		exec {to}<>"$WORK/$name.to" {from}<>"$WORK/$name.from"
		timeout 100 "$BUILD/tests/posix_tool" <"$WORK/$name.to" >"$WORK/$name.from" 3>&- 4>&- &
		ACTORS[$name]=$! TO[$name]=$to FROM[$name]=$from
	done
}

answer() { # NAME COMMAND EXPECTED
	local got=
	echo "$2" >&"${TO[$1]}"
	read -r -t 30 got <&"${FROM[$1]}" || true
	if [[ $got != "$3" ]]; then
		echo "$1: $2: ${got:-no answer}, not $3"
		return 1
	fi
}

# Where opens send no message, direct writers of one file take turns: no neighbours would arrive together.
mount_neighbourly() {
	mount_fs loops=1 opens=message
}

# Writes that reach the source before they are answered; of those that the kernel gathers, syncs and closes tell.
mount_through() {
	mount_fs cache=writethrough
}

# 8 neighbours, requests of which arrive together, so that they travel in one call: what each gets.
together() { # read|write FILE
	[[ -d $WORK/fusectl ]] || { mkdir "$WORK/fusectl" && mount -t fusectl fusectl "$WORK/fusectl"; } || return
	within 60 "$BUILD/tests/posix_tool" <<-END
		together $WORKER $WORK/fusectl/$(within 10 stat -c %d "$MNT")/waiting $1 $2 4096 4096 8
	END
}

# Whose bytes stand in the neighbours' places: a to h, 0 for nobody's.
pieces() { # FILE
	tail -c +4097 "$1" | head -c 32768 | tr '\0' 0 | fold -w 4096 | cut -c 1 | tr -d '\n'
}

handles_closed() {
	for _ in {1..100}; do
		if [[ $(stat_of handles.open) == 0 ]]; then return; fi
		sleep 0.05
	done
	echo "handles.open: $(stat_of handles.open)"
	return 1
}

# Waits for a process of this shell's, which must fail by itself.
fails() { # PID
	local status=0
	wait "$1" || status=$?
	[[ $status == 1 ]]
}

# ---- Data ----

@test "ENOSPC: of 8 neighbours in one call only the one whose bytes find no room fails" {
	requires_root
	make_loop ext4 16M
	head -c 65536 /dev/zero >"$SRC/file"
	sync "$SRC/file"
	fallocate -p -o 16384 -l 4096 "$SRC/file"
	dd if=/dev/zero of="$SRC/filler" bs=64k status=none || true
	sync -f "$SRC"
	dd if=/dev/zero of="$SRC/filler2" bs=1k status=none || true
	sync -f "$SRC"
	mount_neighbourly
	[ "$(together write "$MNT/file")" = "4096 4096 4096 ENOSPC 4096 4096 4096 4096" ]
	[ "$(stat_of 'operations_per_call."8-15"')" = 1 ]
	[ "$(pieces "$SRC/file")" = abc0efgh ]
	umount_fs
	[ "$(pieces "$SRC/file")" = abc0efgh ]
}

@test "ENOSPC: writers that extend fail, those that overwrite meanwhile do not" {
	local i writers=() extender
	requires_root
	make_loop ext4 16M
	for i in 1 2 3; do head -c 1048576 /dev/zero >"$SRC/old$i"; done
	sync -f "$SRC"
	mount_through
	timeout 60 dd if=/dev/zero of="$MNT/new" bs=64k 2>"$WORK/new.err" 3>&- &
	extender=$!
	for i in 1 2 3; do
		timeout 60 dd if=<(tr '\0' "$i" </dev/zero) of="$MNT/old$i" bs=16k count=64 iflag=fullblock conv=notrunc,fsync \
			status=none 3>&- &
		writers+=("$!")
	done
	for i in "${writers[@]}"; do wait "$i"; done
	fails "$extender"
	grep -q 'No space left on device' "$WORK/new.err"
	for i in 1 2 3; do [ "$(tr -d "$i" <"$SRC/old$i" | wc -c)" = 0 ]; done
	# What was acknowledged is there, up to the byte.
	[ "$(stat -c %s "$SRC/new")" = "$(sed -nE 's/^([0-9]+) bytes.*/\1/p' "$WORK/new.err")" ]
}

@test "EIO: of 8 neighbours in one call only the one whose bytes failed is told, the others' are written" {
	local how
	requires_root
	faulty_source
	head -c 65536 /dev/zero >"$WORK/behind/file"
	mount_neighbourly
	# The source may have written what lies before the bad bytes, or nothing.
	for how in '' whole; do
		fault clear "write EIO offset=16384 len=4096 delay=50 $how"
		[ "$(together write "$MNT/file")" = "4096 4096 4096 EIO 4096 4096 4096 4096" ]
		seen
		seen | grep -q '^write file 4096 32768 '
		[ "$(pieces "$WORK/behind/file")" = abc0efgh ]
		head -c 65536 /dev/zero >"$WORK/behind/file"
	done
	fault clear
	[ "$(together write "$MNT/file")" = "4096 4096 4096 4096 4096 4096 4096 4096" ]
}

@test "EDQUOT and EIO: two of 8 neighbours fail, each with its own error" {
	requires_root
	faulty_source
	head -c 65536 /dev/zero >"$WORK/behind/file"
	mount_neighbourly
	fault "write EDQUOT offset=8192 len=1" "write EIO offset=32768 len=4096 whole"
	[ "$(together write "$MNT/file")" = "4096 EDQUOT 4096 4096 4096 4096 4096 EIO" ]
	[ "$(pieces "$WORK/behind/file")" = a0cdefg0 ]
}

@test "EIO on reading: of 8 neighbours in one call only the one whose bytes failed is told" {
	local how
	requires_root
	faulty_source
	head -c 65536 /dev/zero >"$WORK/behind/file"
	mount_neighbourly
	[ "$(together write "$MNT/file")" = "4096 4096 4096 4096 4096 4096 4096 4096" ]
	for how in '' whole; do
		fault clear "read EIO offset=20480 len=4096 $how"
		[ "$(together read "$MNT/file")" = "4096 4096 4096 4096 EIO 4096 4096 4096" ]
		seen | grep -q '^read file 4096 32768 '
	done
}

@test "EIO in the middle of what is read through the page cache: neither zeros nor an end of the file in its place" {
	faulty_source
	tr '\0' a </dev/zero | head -c 262144 >"$WORK/behind/file"
	mount_fs
	fault 'read EIO offset=139264 len=4096'
	run within 10 sh -c 'cat "$1" >"$2"' - "$MNT/file" "$WORK/got"
	[ "$status" -ne 0 ]
	# All up to the bad page is there, and nothing else is.
	[ "$(tr -d a <"$WORK/got" | wc -c)" = 0 ]
	[ "$(stat -c %s "$WORK/got")" = 139264 ]
	[ "$(within 10 stat -c %s "$MNT/file")" = 262144 ]
	within 10 dd if="$MNT/file" of="$WORK/got" bs=4096 skip=35 status=none
	[ "$(tr -d a <"$WORK/got" | wc -c)" = 0 ]
	[ "$(stat -c %s "$WORK/got")" = 118784 ]
	fault clear
	within 10 cmp "$MNT/file" "$WORK/behind/file"
}

@test "a lone write's error is told, not tried again; the next write goes" {
	local flags
	faulty_source
	mount_through
	actors a
	for flags in rdwr,creat rdwr,creat,direct rdwr,creat,dsync rdwr,creat,direct,dsync; do
		fault clear "write EIO count=1"
		answer a "open f $MNT/file $flags" ok
		answer a 'write f 0 4096 a' EIO
		[ "$(seen | grep -c '^write')" = 1 ]
		answer a 'write f 0 4096 b' 4096
		answer a 'read f 0 4096' 'b*4096'
		answer a 'close f' ok
	done
}

@test "a write that the source takes in part is answered with that part" {
	faulty_source
	mount_through
	actors a
	fault "write ENOSPC offset=8192 len=4096"
	answer a "open f $MNT/file rdwr,creat" ok
	answer a 'write f 0 16384 a' 8192
	answer a 'write f 8192 4096 a' ENOSPC
	answer a 'write f 12288 4096 a' 4096
	answer a 'size f' 16384
}

@test "one file fails, its neighbours in the directory do not" {
	local i pids=()
	faulty_source
	mount_through
	fault 'write EIO file=3 offset=500000 len=1' 'write OK delay=5'
	for i in 1 2 3 4 5; do
		timeout 60 dd if=/dev/zero of="$MNT/$i" bs=16k count=40 status=none 2>"$WORK/$i.err" 3>&- &
		pids[i]=$!
	done
	for i in 1 2 4 5; do
		wait "${pids[i]}"
		[ "$(stat -c %s "$WORK/behind/$i")" = 655360 ]
	done
	fails "${pids[3]}"
	grep -q 'Input/output error' "$WORK/3.err"
}

@test "nothing is answered before the source has done it: writes, buffered and direct, and their syncs" {
	local flags
	faulty_source
	mount_through
	actors a
	for flags in rdwr,creat rdwr,creat,direct; do
		fault clear 'write OK delay=300' 'fsync OK delay=300'
		answer a "open f $MNT/file $flags" ok
		answer a 'write f 0 4096 a' 4096
		# Noted when it is done.
		[ "$(seen | grep -c '^write')" = 1 ]
		answer a 'fsync f' ok
		[ "$(seen | grep -c sync)" = 1 ]
		answer a 'close f' ok
	done
}

# ---- Syncs ----

@test "a failed fsync is told to all who have the file open, until all of them have closed it" {
	faulty_source
	mount_fs opens=message # closes say who is still owed the error
	actors a b c
	answer a "open f $MNT/file rdwr,creat" ok
	answer b "open f $MNT/file rdwr" ok
	answer a "open g $MNT/other rdwr,creat" ok
	answer a 'write f 0 4096 a' 4096
	answer b 'write f 4096 4096 b' 4096
	answer a 'write g 0 4096 g' 4096

	fault 'fsync EIO file=file count=1'
	answer a 'fsync f' EIO
	answer b 'fsync f' EIO
	answer b 'fdatasync f' EIO
	answer a 'fsync f' EIO
	answer a 'fsync g' ok
	# New bytes don't make good for the lost ones.
	answer a 'write f 0 4096 c' 4096
	answer a 'fsync f' EIO
	answer c "open f $MNT/file rdwr" ok
	answer c 'fsync f' EIO
	answer a 'close f' ok
	answer b 'fsync f' EIO
	answer c 'fsync f' EIO
	# Asked once: what the source would have said later is a lie.
	[ "$(seen | grep -c 'sync file')" = 1 ]

	answer b 'close f' ok
	answer c 'close f' ok
	answer a 'close g' ok
	handles_closed
	answer c "open f $MNT/file rdwr" ok
	answer c 'read f 0 8192' 'c*4096 b*4096'
	answer c 'write f 0 4096 d' 4096
	answer c 'fsync f' ok
	[ "$(seen | grep -c '^fsync file .* 0$')" = 1 ]
}

@test "a failed fdatasync, and the sync of an O_SYNC write, likewise" {
	local flags
	faulty_source
	mount_fs opens=message # closes say who is still owed the error
	actors a b
	fault 'fsync EIO count=1'
	answer a "open f $MNT/one rdwr,creat" ok
	answer a 'write f 0 4096 a' 4096
	answer a 'fdatasync f' EIO
	answer a 'fsync f' EIO
	answer a 'close f' ok

	fault clear 'fsync EDQUOT count=1'
	answer a "open f $MNT/two rdwr,creat,sync" ok
	answer b "open f $MNT/two rdwr" ok
	answer a 'write f 0 4096 a' EDQUOT
	answer b 'fsync f' EDQUOT
	[ "$(seen | grep -c sync)" = 1 ]
	answer a 'close f' ok
	answer b 'close f' ok
	handles_closed
	answer b "open f $MNT/two rdwr" ok
	answer b 'fsync f' ok
}

@test "files synced at the same time: only the one that fails is failed" {
	local i pids=()
	faulty_source
	mount_fs
	fault 'fsync EIO file=3' 'fsync OK delay=100'
	for i in 1 2 3 4 5; do
		timeout 60 dd if=/dev/zero of="$MNT/$i" bs=4k count=4 conv=fsync status=none 2>"$WORK/$i.err" 3>&- &
		pids[i]=$!
	done
	for i in 1 2 4 5; do wait "${pids[i]}"; done
	fails "${pids[3]}"
	grep -q 'fsync failed.*Input/output error' "$WORK/3.err"
	[ "$(stat -c %s "$WORK/behind/3")" = 16384 ]
}

@test "a lost device under the source: writers and syncers get EIO, the unmount goes" {
	faulty_source
	mount_through
	actors a
	answer a "open f $MNT/file rdwr,creat" ok
	answer a "open d $MNT/file rdwr,direct" ok
	answer a 'write f 0 4096 a' 4096
	fault 'write EIO' 'read EIO' 'fsync EIO'
	answer a 'write f 4096 4096 a' EIO
	answer a 'write d 0 4096 a' EIO
	answer a 'read d 0 4096' EIO
	answer a 'fsync f' EIO
	answer a 'close f' ok
	answer a 'close d' ok
	umount_fs
}
