#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# File handles of the mount stay good after the kernel has forgotten the objects, as an NFS server needs them; a deleted
# object's are stale, whatever its inode number is used for later.

load ../support/helpers

setup() {
	default_setup
	requires_root
	make_loop ext4 64M
}

handle() { # VERB…
	within 10 "$BUILD/tests/handle_tool" "$@"
}

# Lets the kernel drop what nobody uses, until the daemon has heard of it.
forget() {
	local i
	for ((i = 0; i < 100; i++)); do
		echo 2 >/proc/sys/vm/drop_caches
		[ "$(stat_of inodes.known)" -gt 1 ] || return 0
		sleep 0.1
	done
	echo "the kernel still knows $(stat_of inodes.known) objects"
	return 1
}

# An object of each kind, in $SRC/part.
make_objects() {
	mkdir -p "$SRC/part/dir/sub"
	echo hello >"$SRC/part/dir/sub/file"
	ln -s target "$SRC/part/link"
	mkfifo "$SRC/part/pipe"
}

# Their handles and what they are, of the mount's directory $1 …
note_objects() {
	local object
	declare -gA handles types
	for object in dir/sub/file dir/sub link pipe; do
		handles[$object]=$(handle make "$1/$object")
		types[$object]=$(within 5 stat -c '%i %f' "$1/$object")
	done
}

# … by which they are found again, the directory now $1.
find_objects() {
	local object
	for object in "${!handles[@]}"; do
		run -0 handle stat "$MNT" "${handles[$object]}"
		[ "${lines[0]% *}" = "${types[$object]% *}" ]
		[ "$((8#${lines[0]#* }))" = "$((0x${types[$object]#* } & 0xf000))" ]
	done
	forget
	run -0 handle open "$MNT" "${handles[dir/sub/file]}"
	[ "${lines[1]}" = hello ]
	forget
	# Its parents, too, were forgotten, and are asked for.
	run -0 handle open "$MNT" "${handles[dir/sub]}"
	[ "${lines[1]}" = "$1/dir/sub" ]
}

@test "objects of all kinds are opened by handle after they were forgotten" {
	make_objects
	mount_fs
	note_objects "$MNT/part"
	forget
	[ "$(find "/proc/$DAEMON/fd" -lname "$SRC/*" | wc -l)" = 0 ]
	find_objects "$MNT/part"
}

@test "so they are where the source is a part of a file system" {
	make_objects
	mount_fs --source "$SRC/part" --at "$MNT"
	note_objects "$MNT"
	forget
	[ "$(stat_of inodes.forgotten)" -ge 5 ]
	[ "$(find "/proc/$DAEMON/fd" -lname "$SRC/*" | wc -l)" = 0 ]
	find_objects "$MNT"
}

# Over $SRC, or elsewhere: `$@` is for mount_fs.
outlive() {
	make_objects
	mount_fs "$@"
	note_objects "$MNT/part"
	umount_fs
	mv "$SRC/part" "$SRC/moved"
	echo other >"$SRC/first"
	mount_fs "$@"
	[ "$(within 5 cat "$MNT/first")" = other ]
	find_objects "$MNT/moved"
	[ "$(handle make "$MNT/moved/link")" = "${handles[link]}" ]
	within 5 rm "$MNT/moved/dir/sub/file"
	forget
	run -1 handle open "$MNT" "${handles[dir/sub/file]}"
	[[ $output == *"Stale file handle"* ]]
	umount_fs
	mount_fs "$@"
	run -1 handle open "$MNT" "${handles[dir/sub/file]}"
	[[ $output == *"Stale file handle"* ]]
}

@test "handles outlive the mount where the source is a whole file system (ext4)" {
	outlive
}

@test "handles outlive the mount where the source is a whole file system (ext4, over itself)" {
	outlive --over
}

@test "handles outlive the mount where the source is a whole file system (XFS)" {
	umount "$SRC"
	make_loop xfs 300M
	outlive
}

@test "handles of an earlier mount are stale, where the source is a part of a file system" {
	local a outside part
	mkdir "$SRC/part"
	echo one >"$SRC/part/a"
	echo outside >"$SRC/outside"
	mount_fs
	outside=$(handle make "$MNT/outside")
	umount_fs
	part=$SRC/part
	mount_fs --source "$part" --at "$MNT"
	a=$(handle make "$MNT/a")
	run -1 handle open "$MNT" "$outside"
	[[ $output == *"Stale file handle"* ]]
	umount_fs
	mount_fs --source "$part" --at "$MNT"
	within 5 cat "$MNT/a"
	run -1 handle open "$MNT" "$a"
	[[ $output == *"Stale file handle"* ]]
	run -1 handle open "$MNT" "$outside"
	[[ $output == *"Stale file handle"* ]]
}

@test "names made, linked, moved and copied in a whole file system are what they seem" {
	mount_fs
	within 5 mkdir "$MNT/a" "$MNT/b"
	within 5 sh -c 'echo text >"$1/a/one"' - "$MNT"
	within 5 ln "$MNT/a/one" "$MNT/b/two"
	within 5 mv "$MNT/a/one" "$MNT/b/three"
	within 5 mv -T "$MNT/a" "$MNT/b/a"
	within 5 xfs_io -f -c "copy_range $MNT/b/two" "$MNT/b/a/copy"
	within 5 cmp "$MNT/b/three" "$MNT/b/a/copy"
	[ "$(within 5 stat -c %i "$MNT/b/two")" = "$(within 5 stat -c %i "$MNT/b/three")" ]
	[ "$(cd "$SRC" && find b | sort | tr '\n' ' ')" = 'b b/a b/a/copy b/three b/two ' ]
	within 10 find "$MNT" -ls
	forget
}

@test "a handle follows its file through renames, and is the same when the file is found again by name" {
	local a
	mkdir "$SRC/d"
	echo one >"$SRC/a"
	mount_fs
	a=$(handle make "$MNT/a")
	forget
	mv "$SRC/a" "$SRC/d/b"
	echo two >"$SRC/a"
	run -0 handle open "$MNT" "$a"
	[ "${lines[1]}" = one ]
	[ "$(handle make "$MNT/d/b")" = "$a" ]
	[ "$(handle make "$MNT/a")" != "$a" ]
	within 5 mv "$MNT/d/b" "$MNT/d/c"
	forget
	run -0 handle open "$MNT" "$a"
	[ "${lines[1]}" = one ]
}

@test "a deleted file's handle is stale, also when its inode number is another's" {
	local a b number new i
	echo old >"$SRC/a"
	echo old >"$SRC/b"
	mount_fs
	a=$(handle make "$MNT/a")
	b=$(handle make "$MNT/b")
	number=$(stat -c %i "$SRC/a")
	forget
	rm "$SRC/a"
	for ((i = 0; i < 50; i++)); do
		echo new >"$SRC/new$i"
		[ "$(stat -c %i "$SRC/new$i")" != "$number" ] || break
	done
	new=new$i
	[ "$(stat -c %i "$SRC/$new")" = "$number" ]
	run -1 handle open "$MNT" "$a"
	[[ $output == *"Stale file handle"* ]]
	# Known by its new owner.
	[ "$(within 5 cat "$MNT/$new")" = new ]
	run -1 handle open "$MNT" "$a"
	[[ $output == *"Stale file handle"* ]]
	within 5 rm "$MNT/b"
	run -1 handle open "$MNT" "$b"
	[[ $output == *"Stale file handle"* ]]
}

@test "a directory that was moved out of the source leads nowhere" {
	local sub
	mkdir -p "$SRC/in/dir/sub" "$SRC/out"
	mount_fs --source "$SRC/in" --at "$MNT"
	sub=$(handle make "$MNT/dir/sub")
	forget
	mv "$SRC/dir" "$SRC/../out/dir"
	run -1 handle open "$MNT" "$sub"
	[[ $output == *"Stale file handle"* ]]
}

@test "over the source itself, handles open what they are of" {
	local a
	mkdir "$SRC/d"
	echo one >"$SRC/d/a"
	mount_fs --over
	a=$(handle make "$MNT/d/a")
	forget
	run -0 handle open "$MNT" "$a"
	[ "${lines[1]}" = one ]
}
