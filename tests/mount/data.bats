#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Data: what programs write is what they read, in the mount and in the source, however it is written; what they
# sync is synced; and requests really travel in batches.
#
# limit: 400
# ring

load ../support/helpers

# settle within such a script, which has H open on the mount.
settled() { # H
	[[ $(stat_of sharing) == shared ]] || echo "fsync $1 -> ok"
}

# ---- Many writers ----

fio_verify() { # ENGINE DIRECT(0|1) [OPTIONS...]
	local engine=$1 direct=$2 run
	shift 2
	run=(fio --name=verify --numjobs=8 --size=8M --rw=randwrite --verify=crc32c --verify_fatal=1
		--bssplit=512/20:1k/10:4k/30:20k/10:64k/15:256k/10:1M/5 --ioengine="$engine" --direct="$direct"
		--iodepth=16 --fsync=64 --randrepeat=1 --fallocate=none --group_reporting --verify_state_save=0
		--minimal)
	mount_fs
	within 100 "${run[@]}" --directory="$MNT" "$@" >/dev/null
	umount_fs
	# And so it is in the source.
	within 100 "${run[@]}" --directory="$SRC" "$@" --verify_only >/dev/null
	[ "$(du -cm "$SRC"/* | tail -n 1 | cut -f 1)" -ge 64 ]
}

@test "fio verifies 8 jobs of mixed block sizes: psync, buffered" {
	fio_verify psync 0
}

@test "fio verifies 8 jobs of mixed block sizes: psync, direct" {
	fio_verify psync 1
}

@test "fio verifies 8 jobs of mixed block sizes in one file: libaio, buffered" {
	fio_verify libaio 0 --filename=shared --offset_increment=8M
}

@test "fio verifies 8 jobs of mixed block sizes in one file: libaio, direct" {
	fio_verify libaio 1 --filename=shared --offset_increment=8M
}

aio_beside_readers() { # OPTIONS...
	local told
	mount_fs "$@"
	within 100 "$BUILD/tests/aio_tool" "$MNT/file" 300
	told=$(within 5 stat -c '%y %s' "$MNT/file")
	[ "$(stat_of cache.dropped)" -gt 0 ]
	# With gathered writes the time is the kernel's until then.
	umount_fs
	[ "$(stat -c '%y %s' "$SRC/file")" = "$told" ]
}

@test "an asynchronous direct write is read through the cache when it has ended, whoever reads meanwhile" {
	aio_beside_readers
}

@test "the same where the kernel need not ask for attributes, and where direct writers run in parallel" {
	local mode=sharing=shared,attr_timeout=1000
	[ "$SHARING" != exclusive ] || mode=sharing=exclusive,opens=message,cache=writethrough
	aio_beside_readers "$mode"
}

@test "a tree of 10,000 files: the same in the mount, in the source, after a remount" {
	local d dir
	for d in {1..100}; do
		dir=$WORK/tree/$((d % 10))/$d
		mkdir -p "$dir"
		head -c $((d * 9700)) /dev/urandom | split -a 3 -b $((d * 97)) - "$dir/file-"
	done
	head -c 5000001 /dev/urandom >"$WORK/tree/large"
	touch "$WORK/tree/empty"
	[ "$(find "$WORK/tree" -type f | wc -l)" -ge 10000 ]
	checksums "$WORK/tree" >"$WORK/sums"

	mount_fs
	within 100 cp -a "$WORK/tree" "$MNT/"
	(cd "$MNT/tree" && within 100 sha256sum --quiet -c "$WORK/sums")
	diff "$WORK/sums" <(checksums "$SRC/tree")
	umount_fs
	mount_fs
	(cd "$MNT/tree" && within 100 sha256sum --quiet -c "$WORK/sums")
	[ "$(within 60 find "$MNT/tree" -type f | wc -l)" = "$(wc -l <"$WORK/sums")" ]
}

append_and_verify() { # RECORDS [direct]
	local tool=$BUILD/tests/append_tool
	mount_fs
	touch "$SRC/log"
	within 100 "$tool" append "$MNT/log" 8 "$1" "$WORK/acknowledged" "${@:2}"
	[ "$(within 60 "$tool" verify "$MNT/log" "$WORK/acknowledged")" = $((8 * $1)) ]
	[ "$("$tool" verify "$SRC/log" "$WORK/acknowledged")" = $((8 * $1)) ]
	umount_fs
	[ "$("$tool" verify "$SRC/log" "$WORK/acknowledged")" = $((8 * $1)) ]
}

@test "8 processes append: every record whole and once" {
	append_and_verify 400
}

@test "8 processes append with direct I/O: every record whole and once" {
	append_and_verify 400 direct
}

@test "what is appended stands behind what others have appended in the source, though the kernel does not know of it" {
	local direct
	mount_fs sharing=shared watch=none attr_timeout=1000
	for direct in '' ,direct; do
		expect <<-END
			open f $MNT/log$direct wronly,creat,append$direct -> ok
			open s $SRC/log$direct rdwr,append -> ok
			write f - 4096 a -> 4096
			write s - 4096 b -> 4096
			write f - 4096 c -> 4096
			write s - 4096 d -> 4096
			write f - 4096 e -> 4096
			read s 0 30000 -> a*4096 b*4096 c*4096 d*4096 e*4096
		END
	done
}

overlap_and_verify() { # WRITES [direct]
	local tool=$BUILD/tests/overlap_tool
	mount_fs
	within 100 "$tool" write "$MNT/file" 64 8 "$1" "$WORK/log" "${@:2}"
	within 60 "$tool" verify "$MNT/file" "$WORK/log"
	"$tool" verify "$SRC/file" "$WORK/log"
	umount_fs
	mount_fs
	within 60 "$tool" verify "$MNT/file" "$WORK/log"
}

@test "8 processes overwrite the same blocks with direct I/O: each block is one that somebody wrote last" {
	overlap_and_verify 2000 direct
}

@test "8 processes overwrite the same blocks buffered: each block is one that somebody wrote last" {
	overlap_and_verify 2000
}

# ---- Syncs ----

# Flushes that the block device below $SRC has been asked for.
flushes() {
	local device
	device=$(findmnt -n -o SOURCE -M "$SRC")
	awk '{ print $16 }' "/sys/block/${device#/dev/}/stat"
}

# Runs posix_tool over the lines of standard input; prints how many flushes reached the device meanwhile.
flushes_of() {
	local before
	before=$(flushes)
	within 60 "$BUILD/tests/posix_tool" >"$WORK/answers" || return
	if grep -q '^E' "$WORK/answers"; then return 1; fi
	echo $(($(flushes) - before))
}

writes() { # FLAGS COMMAND-AFTER-EACH
	local i
	echo "open f $MNT/file rdwr$1"
	for i in {0..19}; do
		echo "write f $((i * 4096)) 4096 $((i % 10))"
		if [[ ${2-} ]]; then echo "$2 f"; fi
	done
	echo "close f"
}

setup_flushes() {
	make_loop ext4 64M
	[ -n "$(flushes)" ] || skip "this kernel does not count flushes"
	head -c 131072 /dev/zero >"$SRC/file"
	sync -f "$SRC/file"
	mount_fs
}

@test "plain writes are not synced one by one" {
	local flags
	setup_flushes
	for flags in '' ,direct; do
		run -0 flushes_of < <(writes "$flags")
		((output < 10))
	done
}

@test "writes of O_SYNC and O_DSYNC, buffered and direct, are each on the device when they return" {
	local flags
	setup_flushes
	for flags in ,sync ,dsync ,direct,sync ,direct,dsync; do
		run -0 flushes_of < <(writes "$flags")
		echo "rdwr$flags: $output flushes"
		((output >= 20))
	done
}

@test "O_DSYNC set on the source's write costs no request of its own" {
	# Where opens send no message, the kernel sends an FSYNC after each such write.
	mount_fs opens=message
	within 30 "$BUILD/tests/posix_tool" < <(echo "open f $MNT/file rdwr,creat,direct,dsync" && writes ,direct,dsync)
	[ "$(stat_of requests.write)" = 20 ]
	[ "$(stat_of fsyncs.asked)" = 0 ]
}

@test "fsync and fdatasync reach the device each time" {
	local call
	setup_flushes
	for call in fsync fdatasync; do
		run -0 flushes_of < <(writes '' "$call")
		echo "$call: $output flushes"
		((output >= 20))
	done
	[ "$(stat_of fsyncs.asked)" = 40 ]
	[ "$(stat_of fsyncs.issued)" = 40 ]
}

# ---- mmap ----

@test "a shared mapping: stored bytes are read, msync puts them into the source" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat -> ok
		truncate f 65536 -> ok
		map f 65536 -> ok
		store f 5000 3 x -> ok
		read f 4999 6 -> 0*1 x*3 0*2
		msync f -> ok
		open s $SRC/file rdonly -> ok
		read s 4999 6 -> 0*1 x*3 0*2
		write f 5001 1 y -> 1
		load f 5000 3 -> x*1 y*1 x*1
		store f 65535 1 z -> ok
		unmap f -> ok
		fsync f -> ok
		read s 65534 5 -> 0*1 z*1
	END
	umount_fs
	[ "$(tail -c 1 "$SRC/file")" = z ]
}

@test "a shared mapping of an appending descriptor writes in place" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat,append -> ok
		write f - 8192 a -> 8192
		map f 8192 -> ok
		store f 100 1 m -> ok
		msync f -> ok
		size f -> 8192
		write f - 10 b -> 10
		unmap f -> ok
		close f -> ok
		open s $SRC/file rdonly -> ok
		size s -> 8202
		read s 99 3 -> a*1 m*1 a*1
		read s 8190 100 -> a*2 b*10
	END
}

@test "a shared mapping of a direct descriptor" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat,direct -> ok
		write f 0 8192 a -> 8192
		map f 8192 -> ok
		store f 4096 2 m -> ok
		msync f -> ok
		read f 4096 4096 -> m*2 a*4094
		unmap f -> ok
		open s $SRC/file rdonly -> ok
		read s 4094 4 -> a*2 m*2
	END
}

# ---- The shape of files ----

@test "holes: SEEK_DATA, SEEK_HOLE, punched ones, and cp --sparse" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat -> ok
		write f 0 65536 a -> 65536
		write f 1048576 65536 b -> 65536
		fsync f -> ok
		hole f 0 -> 65536
		data f 65536 -> 1048576
		hole f 1048576 -> 1114112
		data f 1114112 -> ENXIO
		fallocate f punch 16384 16384 -> ok
		hole f 0 -> 16384
		data f 16384 -> 32768
		read f 16380 8 -> a*4 0*4
		size f -> 1114112
	END
	within 10 fallocate -p -o 0 -l 4096 "$MNT/file"
	within 30 cp --sparse=always "$MNT/file" "$MNT/copy"
	within 30 cmp "$MNT/file" "$MNT/copy"
	[ "$(within 10 stat -c %b "$MNT/copy")" -lt 400 ]
	cmp "$SRC/file" "$SRC/copy"
	[ "$(stat -c %b "$SRC/file")" = "$(within 10 stat -c %b "$MNT/file")" ]
}

@test "fallocate: plain, keeping the size, zeroing; what FUSE does not know is refused" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat -> ok
		fallocate f plain 0 65536 -> ok
		size f -> 65536
		fallocate f keep 65536 65536 -> ok
		size f -> 65536
		write f 0 65536 a -> 65536
		fallocate f zero 4096 8192 -> ok
		read f 4094 8196 -> a*2 0*8192 a*2
		fallocate f zero,keep 65536 4096 -> ok
		size f -> 65536
		fallocate f collapse 0 4096 -> EOPNOTSUPP
		fallocate f insert 0 4096 -> EOPNOTSUPP
		fallocate f plain 0 0 -> EINVAL
		open r $MNT/file rdonly -> ok
		fallocate r plain 0 4096 -> EBADF
	END
	[ "$(stat -c '%s %b' "$SRC/file")" = "$(within 10 stat -c '%s %b' "$MNT/file")" ]
}

@test "truncation, by name, by descriptor and with O_TRUNC" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat -> ok
		write f 0 10000 a -> 10000
		truncate f 5000 -> ok
		read f 4998 10000 -> a*2
		truncate f 6000 -> ok
		read f 4998 10000 -> a*2 0*1000
		truncate f -1 -> EINVAL
	END
	within 10 truncate -s 100 "$MNT/file"
	[ "$(stat -c %s "$SRC/file")" = 100 ]
	within 10 sh -c ': >"$1"' - "$MNT/file"
	[ "$(stat -c %s "$SRC/file")" = 0 ]
}

@test "bytes beyond 2^40" {
	local at=$(((1 << 41) + 4095))
	if ! truncate -s $((at + 10)) "$SRC/probe"; then skip "the source's file system has no such files"; fi
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat -> ok
		write f $at 10 a -> 10
		size f -> $((at + 10))
		read f $((at - 2)) 100 -> 0*2 a*10
		data f 0 -> $((1 << 41))
		open d $MNT/file rdwr,direct -> ok
		write d $((1 << 41)) 4096 b -> 4096
		read f $((at - 1)) 3 -> b*2 a*1
		truncate f $((at + 1)) -> ok
		open s $SRC/file rdonly -> ok
		size s -> $((at + 1))
		read s $((at - 1)) 3 -> b*2
	END
}

@test "copy_file_range and cp --reflink=auto" {
	mount_fs
	head -c 3000000 /dev/urandom >"$WORK/data"
	within 30 cp "$WORK/data" "$MNT/a"
	within 30 cp --reflink=auto "$MNT/a" "$MNT/b"
	within 30 cmp "$WORK/data" "$MNT/b"
	expect <<-END
		open a $MNT/a rdonly -> ok
		open c $MNT/c rdwr,creat -> ok
		write c 0 10 x -> 10
		copy a 1000 c 5 2000000 -> 2000000
		copy a 3000000 c 0 10 -> 0
		size c -> 2000005
		read c 0 5 -> x*5
	END
	cmp -n 2000000 <(tail -c +1001 "$WORK/data") <(within 30 tail -c +6 "$MNT/c")
	cmp -n 2000000 <(tail -c +1001 "$WORK/data") <(tail -c +6 "$SRC/c")
}

# ---- Unusual ways to open and to name ----

@test "O_TMPFILE: a file without a name, linked later" {
	mount_fs
	expect <<-END
		open t $MNT rdwr,tmpfile -> ok
		write t 0 6000 t -> 6000
		link t $MNT/linked -> ok
		$(settled t)
		open s $SRC/linked rdonly -> ok
		read s 0 10000 -> t*6000
		open x $MNT rdwr,tmpfile,excl -> ok
		write x 0 10 t -> 10
		link x $MNT/never -> ENOENT
	END
	[ "$(ls "$SRC")" = linked ]
}

@test "O_DIRECT and O_APPEND set after the open" {
	mount_fs
	expect <<-END
		open f $MNT/file rdwr,creat -> ok
		write f 0 8192 a -> 8192
		setfl f direct -> ok
		write f 4096 4096 b -> 4096
		read f 0 8192 -> a*4096 b*4096
		setfl f append -> ok
		write f - 100 c -> 100
		write f 0 100 c -> 100
		setfl f none -> ok
		write f 0 1 d -> 1
		size f -> 8392
		read f 0 10000 -> d*1 a*4095 b*4096 c*200
		$(settled f)
		open s $SRC/file rdonly -> ok
		read s 0 10000 -> d*1 a*4095 b*4096 c*200
	END
}

@test "rename with flags" {
	mount_fs
	expect <<-END
		open a $MNT/a rdwr,creat -> ok
		write a 0 1 a -> 1
		open b $MNT/b rdwr,creat -> ok
		write b 0 1 b -> 1
		rename $MNT/a $MNT/b noreplace -> EEXIST
		rename $MNT/a $MNT/b exchange -> ok
		rename $MNT/a $MNT/c noreplace -> ok
		rename $MNT/b $MNT/c plain -> ok
		read a 0 1 -> a*1
		rename $MNT/b $MNT/c exchange -> ENOENT
	END
	[ "$(ls "$SRC")" = c ]
	[ "$(cat "$SRC/c")" = a ]
}

# ---- Batches ----

@test "8 neighbours that arrive together become one call" {
	requires_root
	head -c 65536 /dev/zero >"$SRC/file"
	mkdir "$WORK/fusectl"
	mount -t fusectl fusectl "$WORK/fusectl"
	# Without a message for the open, direct writers of one file take turns.
	mount_fs loops=1 opens=message
	waiting=$WORK/fusectl/$(within 10 stat -c %d "$MNT")/waiting
	expect <<-END
		together $WORKER $waiting write $MNT/file 4096 4096 8 -> 4096 4096 4096 4096 4096 4096 4096 4096
	END
	[ "$(tr -s '\0a-z' <"$SRC/file" | tr '\0' 0)" = 0abcdefgh0 ]
	# The ring hands over what has come by then, which need not be all.
	if [[ $TRANSPORT == ring ]]; then return; fi
	[ "$(stat_of 'operations_per_call."8-15"')" = 1 ]
	[ "$(stat_of backend_calls.write)" = 1 ]
	[ "$(stat_of backend_calls.read)" = 0 ]
	expect <<-END
		together $WORKER $waiting read $MNT/file 4096 4096 8 -> 4096 4096 4096 4096 4096 4096 4096 4096
	END
	[ "$(stat_of 'operations_per_call."8-15"')" = 2 ]
	[ "$(stat_of backend_calls.read)" = 1 ]
}

# Direct random writes, 64 at once, to one file; prints how many there were.
random_writes() {
	within 60 fio --name=random --filename="$MNT/file" --size=32M --rw=randwrite --bs=4k --direct=1 \
		--ioengine=libaio --iodepth=64 --norandommap --time_based --runtime=4 --fallocate=none \
		--output-format=json --output="$WORK/fio.json"
	sqlite3 :memory: "SELECT json_extract(readfile('$WORK/fio.json'), '\$.jobs[0].write.total_ios')"
}

@test "direct random writes at depth 64: four operations and more an io_uring_enter" {
	local count enters strace
	requires_backend uring
	requires strace
	head -c 33554432 /dev/zero >"$SRC/file"
	sync "$SRC/file"
	# Opens without a message give no leave for parallel direct writes, so that fewer arrive together.
	mount_fs opens=message
	strace -f -c -p "$WORKER" -o "$WORK/calls" 3>&- 4>&- &
	strace=$!
	for _ in {1..100}; do
		if ! grep -Hs '^TracerPid:.0$' /proc/"$WORKER"/task/*/status; then break; fi
		sleep 0.1
	done
	count=$(random_writes)
	kill -INT "$strace"
	wait "$strace" || true
	cat "$WORK/calls"
	enters=$(awk '$NF == "io_uring_enter" { print $4 }' "$WORK/calls")
	echo "$count writes and as many replies in $enters io_uring_enter"
	((enters > 0 && 2 * count >= 4 * enters))
}

@test "the standard backend makes no io_uring call, from the mount to the unmount" {
	local strace
	requires_backend standard
	requires strace
	head -c 33554432 /dev/zero >"$SRC/file"
	# A leak check at the end cannot be made while traced.
	ASAN_OPTIONS=${ASAN_OPTIONS-}:detect_leaks=0 strace -f -o "$WORK/calls" -e trace=io_uring_setup,io_uring_enter,io_uring_register,pwritev,pwritev2 \
		"$BATCHIOFS" "$SRC" "$MNT" -o backend=standard 3>&- 4>&- &
	strace=$!
	for _ in {1..100}; do
		if is_mounted "$MNT" && [[ $(within 10 stat -c %s "$MNT/file") ]]; then break; fi
		sleep 0.1
	done
	[ "$(random_writes)" -gt 0 ]
	umount_fs
	wait "$strace"
	grep -q pwritev "$WORK/calls" # it was traced
	run ! grep io_uring "$WORK/calls"
}
