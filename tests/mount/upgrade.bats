#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# `batchiofs upgrade`: another program serves the mount from now on, and whoever uses it sees a pause and nothing else.
#
# ci: exclusive
# limit: 900
# test-limit: 300

load ../support/helpers

setup() {
	default_setup
	requires_root
	[ -z "$TRANSPORT" ] || skip "there is no supervision of FUSE over io_uring"
	LOAD=
	NEXT=$WORK/batchiofs-next
	cp "$BATCHIOFS" "$NEXT"
}

teardown() {
	: >"$WORK/stop"
	if [[ $LOAD ]]; then kill "$LOAD" 2>/dev/null || true; fi
	default_teardown
}

served_by() { # PROGRAM
	[ "$(readlink "/proc/$DAEMON/exe")" = "$1" ] && [ "$(readlink "/proc/$(stat_of worker_pid)/exe")" = "$1" ]
}

upgrade() { # PROGRAM
	within 60 "$1" upgrade "$MNT"
}

refused() { # WORDS COMMAND...
	local words=$1 before after
	shift
	before=$(stat_of worker_pid)
	run -2 --separate-stderr within 60 "$@"
	echo "$stderr"
	[[ $stderr == *"not upgraded"*$words* ]]
	after=$(stat_of worker_pid)
	within 10 sh -c 'echo x >"$1/still" && [ "$(cat "$1/still")" = x ]' - "$MNT"
	[ "$(stat_of upgrades)" = 0 ]
	[ "$KEPT" = no ] || [ "$before" = "$after" ]
}

@test "another program serves the mount, in the same process; files, locks and listings go on" {
	local text names
	mount_fs
	within 10 sh -c 'mkdir "$1/d" && echo kept >"$1/file" && echo gone >"$1/deleted" && seq -f "$1/d/%g" 500 | xargs touch' - "$MNT"
	exec 5<>"$MNT/file" 6<>"$MNT/deleted"
	within 10 rm "$MNT/deleted"
	within 10 flock -n 5
	# A listing that is half read.
	perl -e 'opendir(D, $ARGV[0]) or die; push @n, readdir(D) // die for 1 .. 50; $| = 1; print "half\n"; <STDIN>;
		while (defined(my $n = readdir(D))) { push @n, $n } print join("\n", sort @n), "\n"' \
		"$MNT/d" < <(until [[ -e $WORK/go ]]; do sleep 0.05; done; echo) >"$WORK/names" 3>&- 4>&- 5>&- 6>&- &
	LOAD=$!
	until grep -q half "$WORK/names"; do sleep 0.05; done
	run -0 upgrade "$NEXT"
	echo "$output"
	[[ $output == *"goes on in place of"*ms* ]]
	served_by "$NEXT"
	[ "$(stat_of upgrades)" = 1 ]
	[ "$(stat_of worker_restarts)" = 0 ]
	[ "$(stat_of supervisor_pid)" = "$DAEMON" ]
	read -r -t 5 text <&5
	[ "$text" = kept ]
	read -r -t 5 text <&6
	[ "$text" = gone ]
	within 10 sh -c 'echo more >&6 && sync /dev/fd/6'
	run ! within 10 flock -n "$MNT/file" true
	: >"$WORK/go"
	wait "$LOAD"
	LOAD=
	names=$(printf '%s\n' half . .. $(seq 500) | LC_ALL=C sort)
	[ "$(LC_ALL=C sort "$WORK/names")" = "$names" ]
	exec 5>&- 6>&-
	# And back again, and once more after a worker's death.
	upgrade "$BATCHIOFS"
	served_by "$(realpath "$BATCHIOFS")"
	kill -KILL "$(stat_of worker_pid)"
	within 10 ls "$MNT" >/dev/null
	upgrade "$NEXT"
	served_by "$NEXT"
	[ "$(stat_of upgrades)" = 3 ]
	umount_fs
	[ "$(cat "$SRC/file")" = kept ]
}

@test "upgrades under fio --verify: no error, and how long the longest pause was" {
	local n count=${UPGRADES:-8} worst=0 ms programs=("$NEXT" "$(realpath "$BATCHIOFS")") fds
	mount_fs
	(
		until [[ -e $WORK/stop ]]; do
			within 120 fio --name=verify --directory="$MNT" --size=8M --bs=4k --rw=randwrite --verify=crc32c --do_verify=1 \
				--verify_fatal=1 --verify_state_save=0 --fsync=8 --output="$WORK/fio" || exit 1
			within 120 fio --name=direct --directory="$MNT" --size=8M --bs=4k --rw=randwrite --verify=crc32c --do_verify=1 \
				--verify_fatal=1 --verify_state_save=0 --direct=1 --ioengine=libaio --iodepth=16 --output="$WORK/fio" || exit 1
		done
	) >"$WORK/load.out" 2>&1 3>&- 4>&- &
	LOAD=$!
	fds=
	for ((n = 1; n <= count; n++)); do
		sleep "0.$(printf %03d "$((RANDOM % 200 + 5))")"
		upgrade "${programs[n % 2]}" >"$WORK/upgraded"
		ms=$(sed 's/.*paused for \([0-9]*\).*/\1/' "$WORK/upgraded")
		((ms <= worst)) || worst=$ms
		: "${fds:=$(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l)}"
	done
	: >"$WORK/stop"
	wait "$LOAD" || {
		cat "$WORK/load.out" "$WORK/fio"
		return 1
	}
	LOAD=
	echo "$count upgrades, the longest pause $worst ms" | tee -a "$WORK/../upgrades" >&3
	[ "$(stat_of upgrades)" = "$count" ]
	served_by "${programs[count % 2]}"
	# None leaves descriptors behind.
	echo "descriptors: $fds after the first, $(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l) now"
	[ "$(find "/proc/$DAEMON/fd" -mindepth 1 | wc -l)" -le $((fds + 10)) ]
	umount_fs
}

@test "what cannot go on is refused, and the old program goes on" {
	mount_fs
	KEPT=yes
	# Another form of the state, as of another version.
	sed 's/batchiofs-state %d/batchiofs-stale %d/g' "$NEXT" >"$WORK/stale"
	chmod 755 "$WORK/stale"
	refused "its state has the form" "$BATCHIOFS" upgrade --to "$WORK/stale" "$MNT"
	refused "when asked whether it can go on" "$BATCHIOFS" upgrade --to "$(realpath /bin/true)" "$MNT"
	printf 'no program' >"$WORK/text"
	chmod 755 "$WORK/text"
	refused "$WORK/text" "$BATCHIOFS" upgrade --to "$WORK/text" "$MNT"
	run -1 --separate-stderr within 10 "$BATCHIOFS" upgrade --to "$WORK/nowhere" "$MNT"
	[[ $stderr == *"$WORK/nowhere"* ]]
	run -1 --separate-stderr within 10 "$BATCHIOFS" upgrade --to "$SRC" "$MNT" extra
	[[ $stderr == *usage* ]]
	run -1 --separate-stderr within 10 "$BATCHIOFS" upgrade "$WORK"
	[[ $stderr == *"no batchiofs mount"* ]]
	# It still can.
	upgrade "$NEXT"
	served_by "$NEXT"
}

@test "a program whose workers die before they have taken over is given back for the former one" {
	requires gcc
	mount_fs
	KEPT=no
	gcc -shared -fPIC -o "$WORK/die.so" -x c - <<-'END'
		#include <stdlib.h>
		/* Not for the program that comes after it. */
		__attribute__((constructor)) static void begin(void)
		{
			unsetenv("LD_PRELOAD");
		}
		void fuse_session_process_buf(void)
		{
			__builtin_trap();
		}
	END
	cat >"$WORK/dies" <<-END
		#!/bin/sh
		case \$BATCHIOFS_STATE in
		*,trial) ;;
		*) export LD_PRELOAD="$WORK/die.so" ;;
		esac
		exec "$NEXT" "\$@"
	END
	chmod 755 "$WORK/dies"
	refused "died before they had taken over" "$BATCHIOFS" upgrade --to "$WORK/dies" "$MNT"
	served_by "$(realpath "$BATCHIOFS")"
}

@test "a mount without supervision says so" {
	mount_fs nosupervise
	run -2 --separate-stderr within 20 "$BATCHIOFS" upgrade "$MNT"
	[[ $stderr == *"not supervised"* ]]
	within 10 touch "$MNT/file"
}

@test "requests that the source has not answered yet are not lost" {
	local i
	requires mkfs.ext4
	mkdir "$WORK/behind" "$WORK/disk"
	within 10 "$BUILD/tests/faultfs_tool" "$WORK/behind" "$WORK/disk" 3>&- 4>&- </dev/null
	truncate -s 64M "$WORK/behind/image"
	mkfs.ext4 -q -F "$WORK/behind/image"
	within 20 mount -o loop "$WORK/disk/image" "$SRC"
	mount_fs
	for i in {1..4}; do within 10 sh -c 'echo before >"$1/$2"' - "$MNT" "$i"; done
	echo 'fsync OK delay=400' >"$WORK/disk/.faultfs"
	for i in {1..4}; do
		timeout 60 sh -c 'echo "line $2" >>"$1/$2" && sync "$1/$2" && mkdir "$1/d$2" && sync "$1"' - "$MNT" "$i" 3>&- 4>&- &
	done
	sleep 0.3
	run -0 upgrade "$NEXT"
	echo "$output"
	wait
	echo clear >"$WORK/disk/.faultfs"
	for i in {1..4}; do
		[ "$(within 10 cat "$MNT/$i")" = "before"$'\n'"line $i" ]
		[ -d "$MNT/d$i" ]
	done
	umount_fs
	within 20 umount "$SRC"
	within 20 umount "$WORK/disk"
}

@test "the service's reload upgrades" {
	local command
	requires systemd-analyze
	within 60 make -s -C "$HELPERS_DIR/../.." install B="$BUILD" DESTDIR="$WORK/root" PREFIX=/usr >/dev/null
	# The manual is not installed where it looks.
	sed "s|/usr/bin/batchiofs|$NEXT|; /^Documentation/d" "$WORK/root/usr/lib/systemd/system/batchiofs@.service" >"$WORK/batchiofs@.service"
	run systemd-analyze verify "$WORK/batchiofs@.service"
	echo "$output"
	[[ $output != *batchiofs@* ]]
	mount_fs
	command=$(sed -n 's/^ExecReload=//p' "$WORK/batchiofs@.service")
	run -0 within 60 sh -c "${command//%f/$MNT}"
	served_by "$NEXT"
}
