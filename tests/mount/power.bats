#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Power is cut: the device keeps what it has flushed, and of the rest any part. After each cut the file system is whole once it
# has recovered, and all that a program was told is safe is there. Each mount is over the source, shared or exclusive.
#
#     CUTS=all make test T=mount/power    # every instant, and XFS as well
#
# ci: exclusive
# limit: 7200
# test-limit: 3600

load ../support/helpers
load ../support/power

setup() {
	power_setup
}

teardown() {
	end_postgres
	power_teardown
}

# ---- A log that four processes append to ----

fill_append() {
	: >"$1/log"
}

append() { # HOW
	within 100 "$BUILD/tests/append_tool" append "$MNT/log" 4 15 "$WORK/log" "$1" "$CONTROL"
}

run_append() {
	append sync
}

check_append() {
	"$BUILD/tests/append_tool" acknowledged "$WORK/log" <"$WORK/marks" &&
		within 20 "$BUILD/tests/append_tool" verify "$1/log" "$WORK/log" lost 2>&1
}

@test "a log of four processes: every record that was synced is there" {
	power_test append 320M 15
}

fill_direct() {
	fill_append "$1"
}

run_direct() {
	append direct,sync
}

check_direct() {
	check_append "$1"
}

# One's writes come between another's write and its sync.
@test "the same past the page cache" {
	power_test direct 320M 15
}

# Of the check.
@test "what was not synced is seen to be missing" {
	local end
	power_device ext4 64M fill_append
	power_on
	append nosync
	power_off
	power_down tmpfs
	end=$("$POWER_TOOL" plan "$RAM/record" 0 | tail -n 1)
	run ! power_cut check_append "${end% *}" flushed
	[[ $output == *' 15 acknowledged'* ]]
}

# ---- Blocks past the page cache ----

fill_slots() {
	fallocate -l 256K "$1/slots"
}

# A sync that comes while writes wait goes out as a pair with the last of them; how soon it does is chance.
run_slots() {
	local from
	for from in 0 40 80 120 160 200; do
		within 100 "$BUILD/tests/slots_tool" write "$MNT/slots" "$from" $((from + 40)) "$CONTROL"
		if (($(stat_of backend_calls.write_fsync) > 0)); then return; fi
	done
	echo "no write and sync went out as a pair"
	return 1
}

check_slots() {
	local safe
	safe=$(tail -n 1 "$WORK/marks")
	within 20 "$BUILD/tests/slots_tool" verify "$1/slots" "${safe:-0}" 2>&1
}

@test "asynchronous writes past the page cache, synced on the way: what was written before the sync is there" {
	power_test slots 320M 15
}

# ---- Files that are replaced ----

fill_replace() {
	mkdir "$1/d"
}

# Written, synced, renamed over the old one, and the directory synced; and made, linked and removed likewise.
REPLACER='use IO::Handle; chdir $ARGV[0] or die;
sub safe { open(M, ">", $ARGV[1]) && print(M "mark $_[0]\n") && close(M) or die "mark: $!" }
sub settle { open(S, "<", ".") && S->sync or die "sync: $!" }
for my $i (1 .. 20) {
	open(F, ">", "new") && print(F "$i\n" x ($i * 397 % 5000 + 1)) && F->flush && F->sync && close(F) or die "new: $!";
	rename("new", "file") or die; settle; safe("file $i");
	open(F, ">", "f$i") && print(F "f$i\n") && F->flush && F->sync && close(F) or die "f$i: $!";
	settle; safe("made $i");
	link("f$i", "l$i") or die; settle; safe("linked $i");
	next if $i % 2;
	unlink("f$i") or die; settle; safe("removed $i") }'

# What may be there is what was acknowledged, or what may have come after it.
REPLACED='chdir $ARGV[0] or die; my %last; while (<STDIN>) { my ($what, $i) = split; $last{$what} = $i; $did{$what}[$i] = 1 }
sub slurp { open(my $f, "<", $_[0]) or return ""; local $/; my $text = <$f>; defined $text ? $text : "" }
my $text = slurp("file"); my ($i) = $text =~ /^(\d+)/; my $n = $last{file} || 0; $i ||= 0;
$i == $n || $i == $n + 1 or die "file: $i, acknowledged $n\n";
!$i || $text eq "$i\n" x ($i * 397 % 5000 + 1) or die "file: not whole\n";
for my $i (1 .. $last{made} || 0) {
	my $removed = $did{removed}[$i];
	slurp("l$i") eq "f$i\n" or die "l$i: acknowledged, not there\n" if $did{linked}[$i];
	!-e "f$i" or die "f$i: its removal was acknowledged\n" if $removed;
	-e "f$i" or die "f$i: acknowledged, not there\n" if $i % 2 || !$did{linked}[$i];
	slurp("f$i") eq "f$i\n" or die "f$i: acknowledged, not whole\n" if -e "f$i" }'

run_replace() {
	within 100 perl -e "$REPLACER" "$MNT/d" "$CONTROL"
}

check_replace() {
	within 20 perl -e "$REPLACED" "$1/d" <"$WORK/marks" 2>&1
}

@test "files replaced, made, linked and removed: once the directory is synced, that stays" {
	requires perl
	power_test replace 320M 15
}

# ---- SQLite ----

# The text of transaction n.
SQL_TEXT="printf('%.*c', (n * n * 731) % 9000 + 10, char(65 + n % 26))"

fill_sqlite() { # DIR JOURNAL
	sqlite3 -bail "$1/db" "PRAGMA journal_mode=$2; CREATE TABLE t(n INTEGER PRIMARY KEY, text); CREATE INDEX i ON t(text);
		CREATE TABLE total(done); INSERT INTO total VALUES(0)" >/dev/null
}

# synchronous=EXTRA: with FULL, the removal of a rollback journal may be undone by a cut, and the transaction with it.
run_sqlite() { # TRANSACTIONS
	local n
	{
		echo "PRAGMA synchronous=EXTRA; PRAGMA wal_autocheckpoint=20;"
		for ((n = 1; n <= $1; n++)); do
			echo "BEGIN; INSERT INTO t SELECT n, $SQL_TEXT FROM (SELECT $n AS n); UPDATE total SET done = done + 1;"
			printf '%s\n' "COMMIT;" ".output $CONTROL" ".print mark $n" .output
		done
	} >"$WORK/script"
	within 100 sqlite3 -bail "$MNT/db" <"$WORK/script" >/dev/null
}

check_sqlite() {
	local safe got
	safe=$(tail -n 1 "$WORK/marks")
	got=$(within 20 sqlite3 -bail -separator ' ' "$1/db" "PRAGMA integrity_check;
		SELECT count(n), ifnull(max(n), 0), done, ifnull(sum(text <> $SQL_TEXT), 0) FROM total LEFT JOIN t" 2>&1)
	case $got in
	$'ok\n'"${safe:=0} $safe $safe 0" | $'ok\n'"$((safe + 1)) $((safe + 1)) $((safe + 1)) 0") ;;
	*) echo "$safe were acknowledged, and there is: $got" && return 1 ;;
	esac
}

fill_wal() {
	fill_sqlite "$1" wal
}

run_wal() {
	run_sqlite 40
}

check_wal() {
	check_sqlite "$1"
}

@test "SQLite with a write-ahead log: every acknowledged transaction is there" {
	requires sqlite3
	power_test wal 320M 15
}

fill_delete() {
	fill_sqlite "$1" delete
}

run_delete() {
	run_sqlite 20
}

check_delete() {
	check_sqlite "$1"
}

@test "SQLite with a rollback journal: every acknowledged transaction is there" {
	requires sqlite3
	power_test delete 320M 15
}

# ---- PostgreSQL ----

PG_CLIENTS=3
PG_TRANSACTIONS=12
PG_TEXT="repeat(chr(65 + n % 26), (n * n * 731) % 5000 + 10)"

# Sets PG, for a server in DIR.
in_postgres() { # DIR
	PG=(setpriv --reuid=postgres --regid=postgres --init-groups env "PATH=$PG_BIN:$PATH" LC_ALL=C
		"PGDATA=$1/pg" "PGHOST=$WORK/s" PGDATABASE=postgres HOME="$WORK/s")
}

requires_postgres() {
	local bin
	requires setpriv
	for bin in /usr/lib/postgresql/*/bin; do
		if [[ -x $bin/initdb ]]; then PG_BIN=$bin; fi
	done
	[[ -n ${PG_BIN:-} ]] || skip "PostgreSQL's server is not installed"
	getent passwd postgres >/dev/null || skip "no user postgres"
	chmod a+x "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" "$(dirname "$WORK")" "$WORK"
	mkdir -m 777 "$WORK/s"
}

start_postgres() {
	within 60 "${PG[@]}" pg_ctl start -w -t 50 -l "$WORK/s/log" >/dev/null 3>&- 4>&- || {
		tail -n 20 "$WORK/s/log"
		return 1
	}
}

# Wherever one runs.
end_postgres() {
	local dir
	for dir in "$SRC" "$AFTER"; do
		if [[ -n ${PG_BIN:-} && -e $dir/pg/postmaster.pid ]]; then
			in_postgres "$dir"
			within 60 "${PG[@]}" pg_ctl stop -m immediate -w >/dev/null || true
		fi
	done
}

query() { # SQL
	within 60 "${PG[@]}" psql -XAtqF ' ' -c "$1" 2>&1
}

fill_postgres() {
	in_postgres "$1"
	chmod 777 "$1"
	within 60 "${PG[@]}" initdb -N -k -A trust --wal-segsize=1 >"$WORK/initdb" || { cat "$WORK/initdb" && return 1; }
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$WORK/s'" "wal_sync_method = fdatasync" \
		"shared_buffers = 16MB" "min_wal_size = 2MB" "max_wal_size = 8MB" "log_min_messages = warning" >>"$1/pg/postgresql.conf"
	start_postgres
	query "CREATE EXTENSION amcheck; CREATE TABLE t(client int, n int, text text, PRIMARY KEY(client, n));
		CREATE TABLE total(client int PRIMARY KEY, done int); INSERT INTO total SELECT generate_series(1, $PG_CLIENTS), 0"
	within 60 "${PG[@]}" pg_ctl stop -m fast -w >/dev/null
}

postgres_script() { # CLIENT
	local n
	for ((n = 1; n <= PG_TRANSACTIONS; n++)); do
		echo "BEGIN; INSERT INTO t SELECT $1, n, $PG_TEXT FROM (SELECT $n AS n) one;"
		echo "UPDATE total SET done = done + 1 WHERE client = $1; COMMIT;"
		printf '%s\n' "\\o $CONTROL" "\\qecho mark $1 $n" '\o'
		if (($1 == 1 && n == PG_TRANSACTIONS / 2)); then echo 'CHECKPOINT;'; fi
	done
}

run_postgres() {
	local client
	in_postgres "$MNT"
	start_postgres
	for ((client = 1; client <= PG_CLIENTS; client++)); do
		# As root, who alone may write to the control.
		postgres_script "$client" | timeout 100 psql -XAtq -v ON_ERROR_STOP=1 -h "$WORK/s" -U postgres postgres 3>&- 4>&- &
	done
	wait
}

check_postgres() {
	local client safe got status=0
	in_postgres "$1"
	rm -f "$1/pg/postmaster.pid" # after a cut of power its process is not there; here its number may be another's
	start_postgres || {
		end_postgres
		return 1
	}
	[ "$(query "SELECT count(*) FROM verify_heapam('t'); SELECT bt_index_check('t_pkey', true)")" = 0 ] || status=1
	for ((client = 1; client <= PG_CLIENTS; client++)); do
		safe=$(sed -n "s/^$client //p" "$WORK/marks" | tail -n 1)
		got=$(query "SELECT count(n), coalesce(max(n), 0), done, count(*) FILTER (WHERE text <> $PG_TEXT)
			FROM total LEFT JOIN t USING (client) WHERE client = $client GROUP BY done")
		case $got in
		"${safe:=0} $safe $safe 0" | "$((safe + 1)) $((safe + 1)) $((safe + 1)) 0") ;;
		*) echo "of client $client $safe were acknowledged, and there is: $got" && status=1 ;;
		esac
	done
	within 60 "${PG[@]}" pg_ctl stop -m immediate -w >/dev/null || status=1
	return $status
}

@test "PostgreSQL with three clients: every acknowledged transaction is there" {
	requires_postgres
	power_test postgres 400M 4 120
}
