#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# A thousand mounts and unmounts, one after the other, leave nothing behind; 150 in CI, whose time is bounded.
#
# limit: 400
# test-limit: 300
# sharing: shared

load ../support/helpers

# Where the daemon of a mount listens. By what the kernel says: it is asked a thousand times.
socket_of() { # MOUNTPOINT
	local dir=/run/batchiofs fields
	[[ $(id -u) == 0 ]] || dir=${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/batchiofs
	while read -ra fields; do
		if [[ ${fields[4]} == "$1" ]]; then echo "$dir/${fields[2]}.sock"; fi
	done < <(cat /proc/self/mountinfo)
}

mount_fs_quickly() {
	within 30 "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$BACKEND" 3>&- 4>&- </dev/null
}

# Not there, but for moments at which the next mount on this machine has the same number.
gone() { # PATH
	local i
	for ((i = 0; i < 100; i++)); do
		if [[ ! -e $1 ]]; then return; fi
		sleep 0.05
	done
	return 1
}

CYCLES=1000
if [[ ${CI:-} == true ]]; then CYCLES=150; fi

@test "$CYCLES mounts and unmounts leave no process, mount or socket" {
	local i device socket inode
	echo hello >"$SRC/file"
	for ((i = 1; i <= CYCLES; i++)); do
		mount_fs_quickly
		socket=$(socket_of "$MNT")
		[ -S "$socket" ]
		inode=$(stat -c '%i %z' "$socket")
		if ((i % 100 == 0)); then
			[ "$(within 10 cat "$MNT/file")" = hello ]
			device=$(within 10 stat -c %Hd:%Ld "$MNT")
		fi
		within 30 "$BATCHIOFS" umount "$MNT"
		# The next mount on this machine, by whomever, may have its name.
		[ "$(stat -c '%i %z' "$socket" 2>/dev/null)" != "$inode" ]
		if ((i % 100 == 0)); then
			gone "/sys/class/bdi/$device"
			[ -z "$(left_below "$WORK")" ]
		fi
	done
	[ -z "$(left_below "$WORK")" ]
	[ "$(cat "$SRC/file")" = hello ]
}
