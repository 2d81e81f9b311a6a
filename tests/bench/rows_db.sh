# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# The rows of the benchmark that are databases with their own benchmarks: PostgreSQL's pgbench, RocksDB's db_bench.
# Sourced by rows.sh, which tells how a row is written.

# ---- PostgreSQL ----

PG_BIN=$(find /usr/lib/postgresql/*/bin -maxdepth 0 2>/dev/null | sort -V | tail -n 1)

# The server does not run as root: as the package's user then.
as_postgres() { # COMMAND...
	local user=()
	if [[ $(id -u) == 0 ]]; then user=(setpriv --reuid=postgres --regid=postgres --init-groups); fi
	"${user[@]}" env "PATH=$PG_BIN:$PATH" PGHOST="$OUT" PGDATABASE=postgres HOME="$OUT" "$@"
}

row pgbench tps 'PostgreSQL: TPC-B, scale 20, 8 clients'
pgbench_needs() {
	if [[ ! -x $PG_BIN/initdb || ! -x $PG_BIN/pgbench && ! -x /usr/bin/pgbench ]]; then
		echo 'PostgreSQL is not installed (package postgresql)'
	elif [[ $(id -u) == 0 ]] && ! getent passwd postgres >/dev/null; then
		echo 'no user postgres, and the server does not run as root'
	fi
}
pgbench_setup() {
	mkdir -p "$KEEP/pg.new"
	if [[ $(id -u) == 0 ]]; then chown postgres: "$KEEP/pg.new"; fi
	as_postgres initdb -A trust -D "$KEEP/pg.new" >/dev/null
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$OUT'" >>"$KEEP/pg.new/postgresql.conf"
	start_postgres "$KEEP/pg.new"
	as_postgres pgbench -q -i -s "$(scaled 20)" 2>/dev/null
	stop_postgres "$KEEP/pg.new"
	mv "$KEEP/pg.new" "$KEEP/pg"
}
start_postgres() { # DIR
	as_postgres pg_ctl start -w -t 60 -D "$1" -l "$OUT/postgres.log" >/dev/null || {
		tail -n 3 "$OUT/postgres.log"
		return 1
	}
	head -n 1 "$1/postmaster.pid" >"$OUT/servers"
}
stop_postgres() { # DIR
	as_postgres pg_ctl stop -m fast -w -t 60 -D "$1" >/dev/null
	rm "$OUT/servers"
}
pgbench_before() {
	rm -rf "$SRC/pg"
	cp -a "$KEEP/pg" "$SRC/pg"
}
pgbench_warm() { start_postgres "$D/pg"; }
pgbench_run() {
	as_postgres pgbench -n -c 8 -j 2 -T "$SECS" | tee "$OUT/pgbench"
	# shellcheck disable=SC2046 # two words
	figure $(sed -nE -e 's/^number of transactions actually processed: ([0-9]+).*/\1/p' \
		-e 's/^tps = ([0-9.]+) .*/\1/p' "$OUT/pgbench")
}
pgbench_finish() { stop_postgres "$D/pg"; }
pgbench_after() {
	"$PG_BIN/pg_controldata" "$SRC/pg" | grep -q 'cluster state: *shut down$'
	rm -rf "$SRC/pg"
}

# ---- RocksDB ----

rocks_missing() {
	if ! command -v db_bench >/dev/null; then echo 'db_bench is not installed (package rocksdb-tools)'; fi
}
rocks() { # BENCHMARK DIR OPTION...
	db_bench --benchmarks="$1" --db="$2" --num="$(scaled 1000000)" --compression_type=none "${@:3}" 2>&1 |
		tee "$OUT/db_bench"
}
# fillsync : 167.5 micros/op 5968 ops/sec 1.001 seconds 5973 operations; ...
rocks_figure() { # BENCHMARK
	# shellcheck disable=SC2046 # two words
	figure $(awk -v name="$1" '$1 == name { print $9, $5 }' "$OUT/db_bench")
}

row rocks_fillsync ops/s 'RocksDB: db_bench fillsync'
rocks_fillsync_needs() { rocks_missing; }
rocks_fillsync_before() { rm -rf "$SRC/rocks"; }
rocks_fillsync_run() {
	rocks fillsync "$D/rocks" --duration="$SECS"
	rocks_figure fillsync
}
rocks_fillsync_after() { rm -r "$SRC/rocks"; }

row rocks_readrandom ops/s 'RocksDB: db_bench readrandom, 1,000,000 keys, 4 threads, block cache of 8 MB'
rocks_readrandom_needs() { rocks_missing; }
rocks_readrandom_setup() { rocks fillrandom,compact "$KEEP/rocks" >/dev/null; }
rocks_readrandom_before() {
	rm -rf "$SRC/rocks"
	cp -a "$KEEP/rocks" "$SRC/rocks"
}
rocks_readrandom_warm() { cat "$D"/rocks/*.sst >/dev/null; }
rocks_readrandom_run() {
	rocks readrandom "$D/rocks" --use_existing_db=1 --threads=4 --cache_size=8388608 --duration="$SECS"
	rocks_figure readrandom
}
rocks_readrandom_after() { rm -r "$SRC/rocks"; }
