#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# What -o passthrough does: the kernel reads and writes the source's files itself; fsyncs still come to the daemon.
#
# sharing: shared
# ring

load ../support/helpers

setup() {
	default_setup
	requires_root
}

mount_passing() {
	if ! mount_fs passthrough; then
		grep -q 'this kernel does not have it' "$WORK/mount.err" || return
		is_mounted "$MNT" && return 1
		skip 'the kernel has no FUSE passthrough'
	fi
}

@test "reads and writes send no request, and the data is the source's" {
	mount_passing
	head -c 3000000 /dev/urandom >"$WORK/data"
	within 20 cp "$WORK/data" "$MNT/new"
	cmp "$WORK/data" "$SRC/new"
	within 20 cmp "$WORK/data" "$MNT/new"
	within 20 dd if="$WORK/data" of="$MNT/new" bs=1000 seek=5000 conv=notrunc oflag=append status=none
	[ "$(within 10 stat -c %s "$MNT/new")" = 6000000 ]
	[ "$(stat -c %s "$SRC/new")" = 6000000 ]
	within 20 dd if="$MNT/new" of="$WORK/direct" bs=4096 iflag=direct status=none
	cmp "$WORK/direct" "$SRC/new"
	[ "$(stat_of passthrough)" = yes ]
	[ "$(stat_of requests.read)$(stat_of requests.write)" = "" ]
	umount_fs
	cmp "$WORK/direct" "$SRC/new"
}

@test "what others write in the source is there at once" {
	echo one >"$SRC/file"
	mount_passing
	exec {file}<"$MNT/file"
	echo three >"$SRC/file"
	[ "$(within 10 cat <&"$file")" = three ]
	exec {file}<&-
}

@test "no fsync after a write that the kernel passed on is taken for clean" {
	mount_passing
	for i in 1 2 3; do within 20 dd if=/dev/zero of="$MNT/file" bs=4k count=1 conv=notrunc,fsync status=none; done
	[ "$(stat_of fsyncs.asked)" = 3 ]
	[ "$(stat_of fsyncs.issued)" = 3 ]
	within 60 fio --name=sync --filename="$MNT/file" --size=1M --bs=4k --rw=randwrite --numjobs=16 --fsync=1 \
		--time_based --runtime=2 --output="$WORK/fio"
	[ "$(stat_of fsyncs.clean)" = 0 ]
	[ "$(stat_of requests.write)" = "" ]
}

@test "a file is passed on to all its openers, and again after the last has closed it" {
	mount_passing
	within 30 sh -c 'exec 3>"$1/file" 4<"$1/file" 5>>"$1/file"; echo one >&3; echo two >&5; cat <&4' - "$MNT" >"$WORK/out"
	[ "$(<"$WORK/out")" = $'one\ntwo' ]
	for i in {1..200}; do echo "$i" >"$MNT/file"; done
	[ "$(<"$SRC/file")" = 200 ]
	within 20 rm "$MNT/file"
	[ "$(stat_of requests.read)$(stat_of requests.write)" = "" ]
	[ "$(stat_of handles.open)" = 0 ]
}

@test "mapped, truncated, with holes, unlinked while open: as in the source" {
	mount_passing
	within 30 python3 - "$MNT/file" <<-'END'
		import mmap, os, sys
		f = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
		os.ftruncate(f, 1 << 20)
		m = mmap.mmap(f, 1 << 20)
		m[5000:5005] = b"hello"
		assert os.pread(f, 5, 5000) == b"hello"
		os.pwrite(f, b"world", 70000)
		assert m[70000:70005] == b"world"
		os.posix_fallocate(f, 1 << 20, 4096)
		assert os.fstat(f).st_size == (1 << 20) + 4096
		os.ftruncate(f, 6000)
		assert os.lseek(f, 0, os.SEEK_END) == 6000
		os.unlink(sys.argv[1])
		assert os.pread(f, 5, 5000) == b"hello"
		assert os.fstat(f).st_nlink == 0
	END
}

@test "a source that the kernel takes no files of is served by requests" {
	mkdir "$WORK/lower" "$WORK/over"
	mount -t tmpfs none "$WORK/over"
	mkdir "$WORK/over/upper" "$WORK/over/work"
	mount -t overlay overlay "$SRC" -o "lowerdir=$WORK/lower,upperdir=$WORK/over/upper,workdir=$WORK/over/work" ||
		skip 'no overlayfs here'
	mount_passing
	within 20 sh -c 'echo hello >"$1/file"' - "$MNT"
	[ "$(cat "$SRC/file")" = hello ]
	[ "$(stat_of requests.write)" = 1 ]
	umount_fs
	umount "$SRC" "$WORK/over"
}

@test "what does not go together with it is refused, with the reason" {
	for with in sharing=exclusive cache=none opens=none; do
		run -1 --separate-stderr "$BATCHIOFS" "$SRC" "$MNT" -o "passthrough,$with"
		[[ $stderr == *passthrough*"$with"* ]]
	done
	run ! is_mounted "$MNT"
	chown nobody "$SRC" "$MNT"
	run -1 --separate-stderr within 10 as_user "$BATCHIOFS" "$SRC" "$MNT" -o passthrough
	[[ $stderr == *passthrough*root* ]]
}
