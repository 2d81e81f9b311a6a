# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For the bats files in tests/mount: temporary directories, mounts, loop images; all taken away after each test.
# A file starts with `load ../support/helpers`; tests/README.md shows one.
#
# The runner calls each file once for each backend, with its name in BACKEND. Set for every test:
#   BATCHIOFS  the program             BUILD  the build directory (tools are in $BUILD/tests)
#   SRC        an empty source         MNT    where mount_fs mounts (SRC itself after mount_fs --over)
#   WORK       the test's directory, for everything else that it writes

bats_require_minimum_version 1.5.0

HELPERS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/support/cleanup.sh
source "$HELPERS_DIR/cleanup.sh"

: "${BUILD:=$(cd "$HELPERS_DIR/../.." && pwd)/build}"
: "${BATCHIOFS:=$BUILD/batchiofs}"
: "${BACKEND:=uring}"
: "${SHARING:=}"
: "${TRANSPORT:=}"
shopt -s extglob
export BUILD BATCHIOFS BACKEND SHARING TRANSPORT

# A file with a setup or teardown of its own calls these from it.
default_setup() {
	WORK=$BATS_TEST_TMPDIR
	SRC=$WORK/src
	MNT=$WORK/mnt
	BELOW=
	mkdir -p "$SRC" "$MNT"
	chmod 755 "$WORK"
}

# Unmounts what the test left mounted, and fails the test if that takes force or a daemon stays.
default_teardown() {
	local type path failed=0
	cd / || return 1
	while read -r type path; do
		[[ $type == fuse.batchiofs ]] || continue
		timeout -k 5 30 "$BATCHIOFS" umount "$path" || {
			echo "teardown: $path could not be unmounted"
			failed=1
		}
	done < <(mounts_below "$WORK")
	if ! wait_no_daemon "$WORK" 10; then
		echo "teardown: the daemon is still there after the unmount: pid $(daemons_below "$WORK" | xargs)"
		what_daemons_do
		failed=1
	fi
	clean_below "$WORK"
	return $failed
}

# Where each thread of the daemons is, for a test that has failed.
what_daemons_do() {
	local pid task
	for pid in $(daemons_below "$WORK"); do
		for task in "/proc/$pid/task"/*; do
			echo "thread ${task##*/}: $(cat "$task/syscall" 2>&1)"
			cat "$task/stack" 2>/dev/null || true
		done
		ls -l "/proc/$pid/fd" 2>&1 || true
		grep -l fuse.batchiofs /proc/[0-9]*/mountinfo 2>/dev/null | xargs -r ls -l || true
	done
}

setup() {
	default_setup
}

teardown() {
	default_teardown
}

# Runs a command that must end within SECONDS: everything that touches a mount goes through it, for
# a dead daemon would hang it for ever. `within 10 as_user COMMAND` works too.
within() { # SECONDS COMMAND...
	local seconds=$1 status=0
	shift
	if [[ $1 == as_user ]]; then
		shift
		set -- "${AS_USER[@]}" HOME="$WORK" "$@"
	fi
	timeout -k 5 "$seconds" "$@" || status=$?
	if [[ $status == 124 || $status == 137 ]]; then
		echo "within: no end after $seconds s: $*"
	fi
	return "$status"
}

# Without arguments: waits for all that the test has put in the background, and fails if any of it failed. The
# shell's own would wait for bats' watchdog of the test too, which is to say until the test's time is over.
wait() { # [PID...]
	local job status=0
	if (($#)); then
		builtin wait "$@"
		return
	fi
	for job in $(jobs -p); do
		[[ $job == "${BATS_killer_pid:-}" ]] || builtin wait "$job" || status=$?
	done
	return $status
}

# Mounts $SRC at $MNT with $BACKEND, in the background, as a user would; the mount answers on return.
#   --over         over the source itself; MNT is SRC then, and BELOW shows the source beneath (root)
#   --source DIR, --at DIR   instead of $SRC, $MNT (and set them)
#   uring | standard | auto  instead of $BACKEND
#   anything else            options for -o
# With SHARING in the environment the mount is shared or exclusive by that, unless the options say so themselves.
# With TRANSPORT=ring requests come by FUSE over io_uring, where the options allow it.
# Sets DAEMON to the process id of the daemon, who is to be signalled, and WORKER to that of the process that serves the mount:
# another one, unless the options are without supervision.
mount_fs() {
	local backend=$BACKEND over='' options=''
	while (($#)); do
		case $1 in
		--over) over=1 ;;
		--source) SRC=$2 && shift ;;
		--at) MNT=$2 && shift ;;
		-o) ;;
		uring | standard | auto) backend=$1 ;;
		*) options+=,$1 ;;
		esac
		shift
	done
	if [[ -n $SHARING && ",$options," != *[,]@(sharing=*|posix_locks|flock)[,]* ]]; then
		options+=,sharing=$SHARING
	fi
	local ring=''
	if [[ $TRANSPORT == ring && $backend == uring && ",$options," != *[,]@(transport=*|posix_locks|flock)[,]* ]]; then
		options+=,transport=ring
		ring=1
	fi
	if [[ $over ]]; then
		MNT=$SRC
		if [[ $(id -u) == 0 && -z $BELOW ]]; then see_below; fi
	fi
	# Descriptors 3 and 4 are bats' own: a daemon that kept them would keep bats waiting.
	within 30 "$BATCHIOFS" "$SRC" "$MNT" -o "backend=$backend$options" 3>&- 4>&- </dev/null 2>"$WORK/mount.err" || {
		local status=$?
		cat "$WORK/mount.err" >&2
		return $status
	}
	cat "$WORK/mount.err" >&2
	# A source that is another daemon's has to.
	if [[ $ring ]] && grep -v 'another host' "$WORK/mount.err" | grep -q 'by /dev/fuse'; then
		echo 'mount_fs: the test is of FUSE over io_uring, and the mount goes without'
		return 1
	fi
	if ! is_mounted "$MNT"; then
		echo "mount_fs: batchiofs returned 0, but nothing is mounted at $MNT"
		return 1
	fi
	find_daemon
}

# Sets DAEMON and WORKER by $MNT.
find_daemon() {
	local pid name
	DAEMON='' WORKER=''
	for pid in $(daemons_below "$MNT"); do
		{ read -r name <"/proc/$pid/comm"; } 2>/dev/null || continue
		if [[ $name == batchiofs-work ]]; then WORKER=$pid; else DAEMON=$pid; fi
	done
	# shellcheck disable=SC2034 # for the tests
	: "${WORKER:=$DAEMON}"
}

# Unmounts $MNT (or the given mount point) and expects the daemon to end with it (a sanitizer looks for
# leaks at that moment, which takes a while).
umount_fs() { # [MOUNTPOINT]
	local mnt=${1:-$MNT}
	if ! within 30 "$BATCHIOFS" umount "$mnt"; then
		echo "umount_fs: who uses $mnt:"
		timeout 10 fuser -vm "$mnt" 2>&1 || true
		return 1
	fi
	if is_mounted "$mnt"; then
		echo "umount_fs: $mnt is still mounted"
		return 1
	fi
	if ! wait_no_daemon "$mnt" 10; then
		echo "umount_fs: the daemon outlived the unmount of $mnt"
		return 1
	fi
}

# Before a look at the source beside the mount: an exclusive one may still hold back what was written to files that are open
# (a close writes it back). Of sync(2) the kernel does not wait for the answers. A shared mount never holds back, so that nothing
# is waited for there.
settle() {
	[[ $(stat_of sharing) == shared ]] || within 60 find "$MNT" -xdev -type f -exec sync {} +
}

# Makes the source visible at $BELOW as it is without batchiofs, also while mounted over. Root only.
see_below() {
	BELOW=$WORK/below
	mkdir -p "$BELOW"
	mount --bind "$SRC" "$BELOW"
	mount --make-private "$BELOW"
}

# A file system of its own, in an image of SIZE (64M, 1G), mounted at $SRC (or DIR). Root only.
# xfs takes 300M at least; the image is sparse. Gone after the test.
make_loop() { # ext4|xfs SIZE [DIR]
	local type=$1 size=$2 dir=${3:-$SRC} image
	requires_root
	requires "mkfs.$type" losetup
	image=$(mktemp "$WORK/$type-XXXXXX.img")
	truncate -s "$size" "$image"
	case $type in
	ext4) mkfs.ext4 -q -F "$image" ;;
	xfs) mkfs.xfs -q "$image" ;;
	*) echo "make_loop: '$type' is neither ext4 nor xfs" && return 1 ;;
	esac
	mkdir -p "$dir"
	# mount -o loop lets go of the device by itself at the unmount.
	if ! within 60 mount -t "$type" -o loop "$image" "$dir"; then
		[[ -e /dev/loop-control ]] || skip "no loop devices here"
		return 1
	fi
	rm -rf "$dir/lost+found"
}

# Skips the test where a program is missing.
requires() { # COMMAND...
	local command
	for command; do
		PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || skip "needs $command"
	done
}

requires_root() {
	[[ $(id -u) == 0 ]] || skip "needs root"
}

# For tests of one backend in a file that runs for both.
requires_backend() { # uring|standard
	[[ $BACKEND == "$1" ]] || skip "for the $1 backend only"
}

# Runs a command as an ordinary user (nobody), when the tests run as root. HOME is $WORK.
AS_USER=(env)
if [[ $(id -u) == 0 ]]; then
	AS_USER=(setpriv --reuid=65534 --regid=65534 --clear-groups env)
fi
as_user() { # COMMAND...
	"${AS_USER[@]}" HOME="$WORK" "$@"
}

# Skips where an ordinary user can't mount: no right on /dev/fuse or no set-user-id fusermount3.
requires_user_mounts() {
	requires fusermount3 setpriv
	as_user sh -c ': <>/dev/fuse' 2>/dev/null || skip "/dev/fuse is not open to ordinary users here"
	[[ -u $(command -v fusermount3) ]] || skip "fusermount3 is not set-user-id here"
}

# One figure of `batchiofs stats --json`, for instance: stat_of requests.write
stat_of() { # PATH
	within 10 "$BATCHIOFS" stats "$MNT" --json >"$WORK/stats.json" || return
	sqlite3 :memory: "SELECT json_extract(readfile('$WORK/stats.json'), '\$.$1')"
}

# Checksums of all files below a directory, with names: equal trees give equal text.
checksums() { # DIR
	(cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
}

# Runs posix_tool over lines `COMMAND -> ANSWER` and compares the answers.
expect() {
	local script line
	script=$(grep .)
	while IFS= read -r line; do echo "${line%% -> *}"; done <<<"$script" >"$WORK/commands"
	within 60 "$BUILD/tests/posix_tool" <"$WORK/commands" >"$WORK/answers" || return
	diff <(echo "$script") <(paste -d '\t' "$WORK/commands" "$WORK/answers" | sed 's/\t/ -> /')
}

# A command that must end with STATUS and one line on standard error that holds each WORD, and leave no mount and no
# daemon behind that were not there before.
# shellcheck disable=SC2154 # bats sets stderr and stderr_lines
refused() { # STATUS WORD... -- COMMAND...
	local expected=$1 words=() word before
	shift
	while [[ $1 != -- ]]; do
		words+=("$1")
		shift
	done
	shift
	before=$(mounts_below "$WORK" && daemons_below "$WORK")
	run -"$expected" --separate-stderr within 20 "$@" 3>&- 4>&-
	[ -z "$output" ]
	[ "${#stderr_lines[@]}" -eq 1 ] || { echo "not one line: $stderr" && false; }
	for word in "${words[@]}"; do
		[[ $stderr == *"$word"* ]] || { echo "'$word' is not in: $stderr" && false; }
	done
	[ "$(mounts_below "$WORK" && daemons_below "$WORK")" = "$before" ]
}
