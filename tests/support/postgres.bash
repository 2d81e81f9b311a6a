# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# PostgreSQL's server on a mount, for bats files that have loaded helpers and compare: requires_postgres, then make_postgres; stop_postgres in
# the teardown.

requires_postgres() {
	local bin
	requires_root
	requires setpriv
	for bin in /usr/lib/postgresql/*/bin; do
		if [[ -x $bin/pgbench || -x $bin/initdb ]]; then PG_BIN=$bin; fi
	done
	[[ -n ${PG_BIN:-} ]] || skip "PostgreSQL's server is not installed"
	getent passwd postgres >/dev/null || skip "no user postgres"
	PG=(setpriv --reuid=postgres --regid=postgres --init-groups env "PATH=$PG_BIN:$PATH" LC_ALL=C
		"PGDATA=$MNT/pg" "PGHOST=$WORK/s" PGDATABASE=postgres HOME="$WORK/s")
}

start_postgres() {
	within 60 "${PG[@]}" pg_ctl start -w -t 50 -l "$WORK/s/log" >/dev/null 3>&- 4>&- || {
		tail -n 20 "$WORK/s/log"
		return 1
	}
}

# Ends the server, and waits for its process: pg_ctl waits for its lock file only, which goes before.
end_postgres() { # immediate|fast
	local pid
	pid=$(within 10 head -n 1 "$MNT/pg/postmaster.pid") || return
	within 60 "${PG[@]}" pg_ctl stop -m "$1" -w >/dev/null
	for _ in {1..200}; do
		readlink "/proc/$pid/cwd" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	echo "the server, process $pid, does not end"
	return 1
}

stop_postgres() {
	if [[ -e $SRC/pg/postmaster.pid ]]; then
		end_postgres immediate || true
	fi
}

query() { # SQL
	within 60 "${PG[@]}" psql -XAtqc "$1"
}

# All that a TPC-B run must keep true; prints how many transactions have left their mark.
check_accounts() {
	[ "$(query "SELECT count(DISTINCT n) FROM (SELECT sum(abalance) n FROM pgbench_accounts UNION ALL
		SELECT sum(tbalance) FROM pgbench_tellers UNION ALL SELECT sum(bbalance) FROM pgbench_branches
		UNION ALL SELECT coalesce(sum(delta), 0) FROM pgbench_history) sums")" = 1 ] &&
		within 60 "${PG[@]}" pg_amcheck --heapallindexed >&2 && query "SELECT count(*) FROM pgbench_history"
}

# A data directory in the mount, and a server of it.
make_postgres() {
	let_users_in
	mkdir -m 777 "$WORK/s"
	mount_fs
	within 60 "${PG[@]}" initdb -k -A trust >"$WORK/initdb" || { cat "$WORK/initdb" && return 1; }
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$WORK/s'" "wal_sync_method = fdatasync" \
		"shared_buffers = 16MB" "max_wal_size = 32MB" "checkpoint_timeout = 30s" >"$WORK/settings"
	# shellcheck disable=SC2016 # of the shell that is called
	within 10 sh -c 'cat "$1" >>"$2"' - "$WORK/settings" "$MNT/pg/postgresql.conf"
	start_postgres
	query "CREATE EXTENSION amcheck"
}
