# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The targets of the benchmark: the bare directory, batchiofs in its variants, other passthrough file systems.
# Sourced by tests/bench/run. Works on SRC (the source) and MNT (a directory to mount on); one target is mounted at
# a time. Daemons run in the foreground, so their process ids are known and nobody else's are ever touched.

# shellcheck disable=SC2034 # for those who source it

# shellcheck source=tests/support/cleanup.sh
source "$ROOT/tests/support/cleanup.sh"

TARGETS_ORDER=()
declare -A TARGET_KIND TARGET_TEXT
DAEMON=   # process id of what is mounted now, or empty
AT=       # where it is mounted

target() { # NAME bare|ours|peer TEXT
	TARGETS_ORDER+=("$1")
	TARGET_KIND[$1]=$2
	TARGET_TEXT[$1]=$3
}

target bare bare 'the directory itself'
target bare-awake bare 'the directory itself, processors kept from sleeping (/dev/cpu_dma_latency)'
target uring ours 'batchiofs backend=uring,sharing=shared, mounted elsewhere'
target uring-excl ours 'batchiofs backend=uring,sharing=exclusive, over the source'
target ring ours 'the same as uring, with transport=ring'
target ring-excl ours 'the same as uring-excl, with transport=ring'
target uring-sleep ours 'the same as uring, with idle=sleep'
target uring-alone ours 'the same as uring, with nosupervise'
target passthrough ours 'the same as uring, with passthrough: the kernel reads and writes itself'
target standard ours 'batchiofs backend=standard,sharing=shared, mounted elsewhere'
target standard-excl ours 'batchiofs backend=standard,sharing=exclusive, over the source'
target bindfs peer 'bindfs --multithreaded --forward-odirect=4096'
target mergerfs peer 'mergerfs, its defaults (one branch)'
target ll peer "libfuse's example passthrough_ll, its defaults"
target ll-wb peer 'passthrough_ll -o writeback,cache=always (nobody else may change the source)'

LL_SOURCE=/usr/share/doc/libfuse3-dev/examples/passthrough_ll.c

# In microseconds, how long a processor may take to wake up, as long as who wrote it has it open.
LATENCY=/dev/cpu_dma_latency
AWAKE= # descriptor of it, or empty

# FUSE over io_uring is the whole machine's to switch on, and to switch off again.
RING_SWITCH=/sys/module/fuse/parameters/enable_uring
RING_BEFORE=

switch_ring_on() {
	if [[ ! -w $RING_SWITCH ]]; then return 1; fi
	if [[ -z $RING_BEFORE ]]; then RING_BEFORE=$(<"$RING_SWITCH"); fi
	echo Y >"$RING_SWITCH"
}

switch_ring_back() {
	if [[ -n $RING_BEFORE ]]; then echo "$RING_BEFORE" >"$RING_SWITCH"; fi
}

# Compiles the example. Prints why where that cannot be done.
build_ll() {
	[[ -x $LOGS/passthrough_ll ]] && return
	if [[ ! -e $LL_SOURCE ]]; then
		echo "no $LL_SOURCE (package libfuse3-dev; dpkg may leave documentation out here)"
		return 1
	fi
	# shellcheck disable=SC2046 # words
	gcc -O2 -o "$LOGS/passthrough_ll" "$LL_SOURCE" $(pkg-config --cflags --libs fuse3) 2>"$LOGS/passthrough_ll.log" || {
		echo "passthrough_ll.c does not compile: $(grep -m 1 error "$LOGS/passthrough_ll.log")"
		return 1
	}
}

# Sets COMMAND and AT; prints why where the target cannot be had.
target_command() { # TARGET
	local users=''
	if [[ $(id -u) == 0 ]]; then users=,allow_other; fi
	AT=$MNT
	case $1 in
	uring | standard)
		COMMAND=("$BATCHIOFS" -f "$SRC" "$AT" -o "backend=$1,sharing=shared")
		;;
	uring-excl | standard-excl)
		AT=$SRC
		COMMAND=("$BATCHIOFS" -f "$SRC" "$AT" -o "backend=${1%-excl},sharing=exclusive")
		;;
	uring-sleep | uring-alone | passthrough)
		local option=idle=sleep
		if [[ $1 == uring-alone ]]; then option=nosupervise; fi
		if [[ $1 == passthrough ]]; then option=passthrough; fi
		COMMAND=("$BATCHIOFS" -f "$SRC" "$AT" -o "backend=uring,sharing=shared,$option")
		;;
	ring)
		COMMAND=("$BATCHIOFS" -f "$SRC" "$AT" -o "backend=uring,transport=ring,sharing=shared")
		;;
	ring-excl)
		AT=$SRC
		COMMAND=("$BATCHIOFS" -f "$SRC" "$AT" -o "backend=uring,transport=ring,sharing=exclusive")
		;;
	bindfs)
		COMMAND=(bindfs -f --multithreaded --forward-odirect=4096 "$SRC" "$AT")
		if [[ $(id -u) != 0 ]]; then COMMAND+=(--no-allow-other); fi
		;;
	mergerfs)
		# Or it would make no files on a disk that has less than 4 GiB left.
		COMMAND=(mergerfs -f -o "minfreespace=0$users" "$SRC" "$AT")
		;;
	ll | ll-wb)
		build_ll || return
		COMMAND=("$LOGS/passthrough_ll" -f -o "source=$SRC$users" "$AT")
		if [[ $1 == ll-wb ]]; then COMMAND+=(-o writeback -o cache=always); fi
		;;
	esac
	if [[ $1 == @(uring|ring)* && ${URING:-1} == 0 ]]; then
		echo 'built with URING=0'
		return 1
	fi
	if [[ $1 == ring* ]] && ! switch_ring_on; then
		echo "no FUSE over io_uring: $RING_SWITCH is not there, or not ours to write"
		return 1
	fi
	if ! command -v "${COMMAND[0]}" >/dev/null; then
		echo "${COMMAND[0]} is not installed"
		return 1
	fi
}

# Asks the kernel to let no processor sleep, until let_sleep.
keep_awake() {
	if [[ ! -w $LATENCY ]]; then
		echo "$LATENCY is not there, or not ours to write"
		return 1
	fi
	exec {AWAKE}>"$LATENCY"
	printf '\0\0\0\0' >&"$AWAKE"
}

let_sleep() {
	if [[ -n $AWAKE ]]; then exec {AWAKE}>&-; fi
	AWAKE=
}

# Sets AT, where the target's programs shall work, and DAEMON. Prints why it could not.
mount_target() { # TARGET
	local log=$LOGS/daemon-$1.log i
	DAEMON='' AT=$SRC
	case $1 in
	bare)
		return
		;;
	bare-awake)
		keep_awake
		return
		;;
	esac
	target_command "$1" || return
	# In a session of its own: a terminal's Ctrl-C is for us, who then unmount.
	setsid "${COMMAND[@]}" >"$log" 2>&1 </dev/null &
	DAEMON=$!
	disown "$DAEMON" # without the shell's own remark when it is killed
	for ((i = 0; i < 1000; i++)); do
		if ! kill -0 "$DAEMON" 2>/dev/null; then
			DAEMON=
			head -n 3 "$log" | tr '\n' ' '
			return 1
		fi
		if [[ -n $(mounts_below "$AT") ]]; then
			timeout -k 5 30 ls "$AT" >/dev/null && return
			echo 'mounted, but it does not answer'
			return 1
		fi
		sleep 0.02
	done
	echo 'not mounted within 20 s'
	return 1
}

# Ends a daemon that does not answer, and frees with it whoever waits for it.
kill_daemon() {
	if [[ -n $DAEMON ]]; then kill -KILL "$DAEMON" 2>/dev/null || true; fi
}

is_target_mounted() {
	[[ -n $(mounts_below "$AT") ]]
}

# Unmounts and waits for the daemon to end. Prints what went wrong, if it took force.
unmount_target() {
	local i status=0 umount_status=0 unmount=(umount -i)
	if [[ $(id -u) != 0 ]]; then unmount=(fusermount3 -u); fi
	if [[ -n $DAEMON ]] && is_target_mounted; then
		# A server that was just stopped may keep it busy for a moment.
		for i in 1 2 3 4 5; do
			umount_status=0
			timeout -k 5 60 "${unmount[@]}" "$AT" 2>"$LOGS/umount.log" || umount_status=$?
			if ((umount_status == 0)) || ! is_target_mounted; then break; fi
			if ((umount_status >= 124)); then break; fi
			sleep 1
		done
		if is_target_mounted; then
			echo "unmounting took force (umount: $umount_status): $(head -n 1 "$LOGS/umount.log")"
			kill_daemon
			status=1
		fi
	fi
	if [[ -n $DAEMON ]]; then
		end_daemon || {
			echo 'the daemon did not end with the unmount'
			status=1
		}
	fi
	let_sleep
	clean_below "$MNT"
	clean_below "$SRC"
	return $status
}

# Waits for the daemon, then makes it end: its process id is ours.
end_daemon() {
	local i signal
	for signal in 0 TERM KILL; do
		if [[ $signal != 0 ]]; then kill "-$signal" "$DAEMON" 2>/dev/null || true; fi
		for ((i = 0; i < 500; i++)); do
			if ! kill -0 "$DAEMON" 2>/dev/null; then
				DAEMON=
				[[ $signal == 0 ]]
				return
			fi
			sleep 0.02
		done
		# What hangs on it is freed, and it with it.
		timeout 10 umount -i -l "$AT" 2>/dev/null || true
	done
	return 1
}
