# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# Finds and takes away what a test left below a directory: mounts, daemons, loop devices.
# Sourced by tests/run, tests/demo.sh and helpers.bash. Keeps no state: what is there is read from
# /proc and /sys, so nothing is forgotten when a test dies half-way, and nothing outside the
# directory is ever touched. A stuck mount hangs whoever touches it, so paths on mounts are never looked at.

# Mount points at or below a directory, innermost (latest) first: `FSTYPE PATH` a line. The shell's own reading goes back in
# the file after each line, and would miss some when others mount meanwhile.
mounts_below() { # DIR
	local dir=$1 line fields path
	while IFS= read -r line; do
		read -ra fields <<<"${line%% - *}"
		path=$(printf '%b' "${fields[4]}")
		if [[ $path == "$dir" || $path == "$dir"/* ]]; then
			line=${line#* - }
			printf '%s %s\n' "${line%% *}" "$path"
		fi
	done < <(cat /proc/self/mountinfo) | tac
}

is_mounted() { # PATH
	mounts_below "$1" | grep -qxF -e "fuse.batchiofs $1" -e "fuse $1"
}

# Process ids of batchiofs daemons, and of the tests' own tools, that were told a path at or below a
# directory. Without a fork per process, since it is polled; and in a subshell without bats' trap, which before each command
# takes longer than the command.
daemons_below() ( # DIR
	trap - DEBUG
	for proc in /proc/[0-9]*; do
		mapfile -d '' -t words 2>/dev/null <"$proc/cmdline" || continue
		case ${words[0]-} in
		batchiofs | */batchiofs | */*_tool) ;;
		*) continue ;;
		esac
		for word in "${words[@]:1}"; do
			if [[ $word == "$1" || $word == "$1"/* ]]; then
				echo "${proc#/proc/}"
				break
			fi
		done
	done
)

# Loop devices whose image lies below a directory.
loops_below() { # DIR
	local file backing
	for file in /sys/block/loop*/loop/backing_file; do
		backing=$(cat "$file" 2>/dev/null) || continue
		if [[ $backing == "$1"/* ]]; then
			file=${file#/sys/block/}
			echo "/dev/${file%%/*}"
		fi
	done
}

# Names everything that is left, one thing a line; nothing when all is clean.
left_below() { # DIR
	mounts_below "$1" | sed 's/^/mount: /'
	daemons_below "$1" | sed 's/^/daemon: pid /'
	loops_below "$1" | sed 's/^/loop device: /'
}

# Waits up to SECONDS until no daemon is left. 1 if one still is.
wait_no_daemon() { # DIR SECONDS
	local end=$((SECONDS + $2))
	while [[ -n $(daemons_below "$1") ]]; do
		((SECONDS < end)) || return 1
		sleep 0.1
	done
}

# Takes everything away, by force where needed. umount -f makes the kernel end a FUSE connection,
# which frees the programs that hang on it.
clean_below() { # DIR
	local dir=$1 type path pid device
	[[ $dir == /?* ]] || return 2
	while read -r type path; do
		if [[ $(id -u) != 0 ]]; then
			timeout 10 fusermount3 -u "$path" 2>/dev/null ||
				timeout 10 fusermount3 -u -z "$path" || true
			continue
		fi
		if [[ $type == fuse* ]]; then
			timeout 10 umount -i -f "$path" 2>/dev/null || true
		else
			timeout 30 umount -i "$path" 2>/dev/null || true
		fi
		if mounts_below "$dir" | grep -qxF "$type $path"; then
			timeout 10 umount -i -l "$path" || true
		fi
	done < <(mounts_below "$dir")

	if ! wait_no_daemon "$dir" 5; then
		for pid in $(daemons_below "$dir"); do kill -TERM "$pid" 2>/dev/null || true; done
		if ! wait_no_daemon "$dir" 5; then
			for pid in $(daemons_below "$dir"); do kill -KILL "$pid" 2>/dev/null || true; done
			wait_no_daemon "$dir" 5 || true
		fi
	fi
	for device in $(loops_below "$dir"); do timeout 10 losetup -d "$device" || true; done
}

# Removes a test's directory once nothing is mounted below it; never crosses into another file system. Files that a
# program made immutable and left (stress-ng's chattr) are made mutable again.
remove_tree() { # DIR
	[[ $1 == /?* && -z $(mounts_below "$1") ]] || return 1
	timeout 60 rm -rf --one-file-system "$1" 2>/dev/null && return
	timeout 60 chattr -R -f -ai "$1" || true
	timeout 60 rm -rf --one-file-system "$1"
}
