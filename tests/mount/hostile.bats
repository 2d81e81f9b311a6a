#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# A user of a mount that is open to all takes whatever he can get, on all ways at once: the daemon's descriptors and
# memory stay bounded, and others go on.
#
# SECONDS_EACH=60 is a longer form.
#
# once

load ../support/helpers
load ../support/compare

SECONDS_EACH=${SECONDS_EACH:-6}

setup() {
	default_setup
	requires_root
	requires setpriv
	let_users_in
	mkdir "$SRC/his" "$SRC/mine"
	chown 65534:65534 "$SRC/his"
	chown 1001:1001 "$SRC/mine"
	cp "$HELPERS_DIR/hostile.py" "$WORK/"
	ATTACK=
}

teardown() {
	[[ -z $ATTACK ]] || kill -KILL -- "-$ATTACK" 2>/dev/null || true
	default_teardown
}

fds() {
	find "/proc/$DAEMON/fd" -mindepth 1 | wc -l
}

rss() { # in MiB
	awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$WORKER/status"
}

as_other() {
	within 120 setpriv --reuid=1001 --regid=1001 --clear-groups env python3 "$WORK/hostile.py" "$@"
}

# An attack while another user works; sets FDS and RSS to the most seen, DONE and SLOWEST to what that one says.
attack_and_work() {
	local worker
	FDS=0 RSS=0
	setsid setpriv --reuid=65534 --regid=65534 --clear-groups timeout -k 5 100 \
		python3 "$WORK/hostile.py" attack "$MNT/his" "$SECONDS_EACH" >"$WORK/attack.out" 2>&1 3>&- 4>&- &
	ATTACK=$!
	sleep 1
	as_other work "$MNT/mine" "$((SECONDS_EACH - 2))" >"$WORK/work.out" 2>&1 3>&- 4>&- &
	worker=$!
	while kill -0 "$worker" 2>/dev/null; do
		((FDS >= $(fds))) || FDS=$(fds)
		((RSS >= $(rss))) || RSS=$(rss)
		sleep 0.2
	done
	builtin wait "$worker" || { cat "$WORK/work.out" && return 1; }
	read -r DONE SLOWEST <"$WORK/work.out"
	builtin wait "$ATTACK" || { cat "$WORK/attack.out" && return 1; }
	echo "$BACKEND: $DONE rounds of another user, the slowest $SLOWEST ms; the daemon: $FDS descriptors, $RSS MiB"
	cat "$WORK/attack.out"
}

@test "shared: open files are bounded for a user, and others go on, under ulimit -n 1024" {
	ulimit -S -n 1024
	ulimit -H -n 1024
	mount_fs sharing=shared,allow_other
	ulimit -S -n 1024
	attack_and_work
	# He had a quarter, in all, and was told so.
	grep -q 'ENFILE$' "$WORK/attack.out"
	run ! grep -q EMFILE "$WORK/attack.out"
	((FDS < 1024))
	((DONE >= 10 && SLOWEST < 5000))
	grep -qs -e -fsanitize "$BUILD/flags" || ((RSS < 200))
	# What he had is given back.
	for _ in {1..100}; do
		[[ $(stat_of handles.open) == 0 ]] && break
		sleep 0.1
	done
	[ "$(stat_of handles.open)" = 0 ]
	within 10 as_user sh -c 'echo hello >"$1/again"' - "$MNT/his"
}

@test "exclusive: the same where opens send nothing" {
	ulimit -S -n 1024
	ulimit -H -n 1024
	mount_fs sharing=exclusive,allow_other
	attack_and_work
	((FDS < 1024))
	((DONE >= 10 && SLOWEST < 5000))
	grep -qs -e -fsanitize "$BUILD/flags" || ((RSS < 200))
}

@test "locks that wait are bounded for a user, and others may still wait" {
	local i
	mount_fs sharing=shared,flock,allow_other
	within 10 as_user sh -c ': >"$1/his/lock"' - "$MNT"
	mkfifo "$WORK/hold"
	setsid setpriv --reuid=65534 --regid=65534 --clear-groups timeout -k 5 100 \
		python3 "$WORK/hostile.py" locks "$MNT/his/lock" 2100 <"$WORK/hold" >"$WORK/locks.out" 2>&1 3>&- 4>&- &
	ATTACK=$!
	exec {hold}>"$WORK/hold"
	for ((i = 0; i < 800; i++)); do
		[[ -s $WORK/locks.out ]] && break
		sleep 0.1
	done
	cat "$WORK/locks.out"
	[ "$(cat "$WORK/locks.out")" = 52 ]
	[ "$(stat_of locks.waiting)" = 2048 ]
	# Another one waits for a lock, and gets it.
	within 20 setpriv --reuid=1001 --regid=1001 --clear-groups bash -c 'cd "$1" && : >lock && exec 5<>lock && flock 5 &&
		{ (exec 6<>lock; flock -w 10 6) & sleep 0.5; flock -u 5; wait $!; }' - "$MNT/mine"
	exec {hold}>&-
	builtin wait "$ATTACK"
}
