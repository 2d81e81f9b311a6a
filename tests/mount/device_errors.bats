#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Errors of the disk. The source is a file system on a loop device, the file of which lies in faultfs.
#
# ci: exclusive
# limit: 900
# test-limit: 300

load ../support/helpers
load ../support/faulty

# Innermost first; a loop device lets go of its file a moment after the unmount.
teardown() {
	local type path
	while read -r type path; do
		if [[ $type == fuse.batchiofs ]]; then
			within 30 "$BATCHIOFS" umount "$path" || true
		else
			within 60 umount "$path" || { sleep 1 && within 60 umount "$path"; } || true
		fi
	done < <(mounts_below "$WORK")
	default_teardown
}

# ---- the disk ----

# A file system with files of 16 blocks, the fourth of which is to be the bad one, and where these lie in it: `NAME OFFSET` a
# line. Made once. btrfs would write a block elsewhere each time, but for files that are not copied on write.
make_disk() { # TYPE
	local image=$BATS_FILE_TMPDIR/$1.img dir=$WORK/fill i
	[[ ! -e $image.places ]] || return 0
	requires_root
	requires "mkfs.$1" losetup
	grep -qw "$1" /proc/filesystems || modprobe "$1" 2>/dev/null || skip "no $1 in this kernel"
	rm -f "$image"
	case $1 in
	ext4) truncate -s 32M "$image" && mkfs.ext4 -q -F -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 "$image" ;;
	xfs) truncate -s 300M "$image" && mkfs.xfs -q "$image" ;;
	btrfs) truncate -s 128M "$image" && mkfs.btrfs -q -m single -d single "$image" ;;
	esac
	mkdir -p "$dir"
	within 60 mount -t "$1" -o loop "$image" "$dir"
	for i in {0..7}; do
		: >"$dir/f$i"
		[[ $1 != btrfs ]] || chattr +C "$dir/f$i"
		{
			head -c 12288 /dev/zero
			{ echo "bad block of f$i" && head -c 4096 /dev/zero; } | head -c 4096
			head -c 49152 /dev/zero
		} | tr '\0' m >"$dir/f$i"
	done
	within 60 umount "$dir"
	perl -e 'open(F, "+<", $ARGV[0]) or die; for ($at = 0; read(F, $b, 4096); $at += 4096) {
		next if $b !~ /^bad block of (f\d)\n/; print "$1 $at\n";
		seek(F, $at, 0); print F "m" x 4096; seek(F, $at + 4096, 0) }' "$image" >"$image.new"
	[ "$(sort "$image.new" | cut -d ' ' -f 1 | xargs)" = "f0 f1 f2 f3 f4 f5 f6 f7" ]
	mv "$image.new" "$image.places"
}

# It comes to $SRC, nothing of it in any cache, and through the mount to $MNT.
attach_disk() { # TYPE bare|mount
	mkdir -p "$WORK/behind" "$WORK/faulty"
	cp --sparse=always "$BATS_FILE_TMPDIR/$1.img" "$WORK/behind/disk"
	within 10 "$BUILD/tests/faultfs_tool" "$WORK/behind" "$WORK/faulty" 3>&- 4>&- </dev/null
	within 60 mount -t "$1" -o loop "$WORK/faulty/disk" "$SRC"
	[[ $2 == mount ]] || return 0
	if [[ $SHARING == exclusive ]]; then
		mount_fs --over
	else
		mount_fs
	fi
}

detach_disk() { # bare|mount
	echo clear >"$WORK/faulty/.faultfs"
	if [[ $1 == mount ]]; then umount_fs; fi
	if [[ -n $BELOW ]]; then within 60 umount "$BELOW" && BELOW=; fi
	within 60 umount "$SRC"
	within 10 umount "$WORK/faulty" || { sleep 1 && within 10 umount "$WORK/faulty"; }
	wait_no_daemon "$WORK" 10
	MNT=$WORK/mnt
}

# ---- reading ----

@test "a read that meets a bad block gets what lies before it or the error, never zeros and never an early end" {
	local flags place
	make_disk ext4
	attach_disk ext4 mount
	place=$(sed -n "s/^f0 //p" "$BATS_FILE_TMPDIR/ext4.img.places")
	echo "read EIO offset=$place len=4096" >"$WORK/faulty/.faultfs"
	for flags in rdonly rdonly,direct; do
		within 60 "$BUILD/tests/posix_tool" >"$WORK/answers" <<-END
			open f $MNT/f0 $flags
			read f 0 65536
			read f 12288 4096
			read f 16384 4096
			read f 0 65536
			size f
			put $WORK/faulty/.faultfs clear
			read f 0 65536
			put $WORK/faulty/.faultfs read,EIO,offset=$place,len=4096
		END
		cat "$WORK/answers"
		[[ $(sed -n 2p "$WORK/answers") == @(m\*12288|EIO) ]]
		[[ $(sed -n 5p "$WORK/answers") == @(m\*12288|EIO) ]]
		[ "$(sed '2d; 5d' "$WORK/answers" | xargs)" = "ok EIO m*4096 65536 ok m*65536 ok" ]
	done
	detach_disk mount
}
