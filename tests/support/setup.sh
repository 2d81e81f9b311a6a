#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Installs the Debian packages that building, testing, checking, the demo or the benchmark need and that are missing.
# Called by the Makefile: setup.sh [--check] GROUP... [URING=0]
#
# GROUP: build, test, check, demo, bench, peers (what bench compares with, and can do without). With --check
# nothing is installed: what is missing is named and the exit status is 1. A package counts as there when the
# thing it is wanted for is there (a program, a pkg-config module, a header), so systems other than Debian pass
# as well when they are complete.
set -eu

# group package probe, in the order in which they are installed
packages='
build gcc           cmd:gcc
build libc6-dev     file:/usr/include/stdio.h
build make          cmd:make
build pkg-config    cmd:pkg-config
build libfuse3-dev  pc:fuse3
build liburing-dev  pc:liburing
build fuse3         cmd:fusermount3
demo  sqlite3       cmd:sqlite3
demo  fio           cmd:fio
demo  git           cmd:git
test  bats          cmd:bats
test  fio           cmd:fio
test  sqlite3       cmd:sqlite3
test  strace        cmd:strace
test  git           cmd:git
test  attr          cmd:setfattr
test  acl           cmd:setfacl
test  libcap2-bin   cmd:setcap
test  python3       cmd:python3
test  e2fsprogs     cmd:mkfs.ext4
test  xfsprogs      cmd:mkfs.xfs
test  btrfs-progs   cmd:mkfs.btrfs
test  rsync         cmd:rsync
test  patch         cmd:patch
test  procps        cmd:pkill
test  stress-ng     cmd:stress-ng
test  postgresql    file:/usr/lib/postgresql/*/bin/initdb
bench fio           cmd:fio
bench sqlite3       cmd:sqlite3
bench git           cmd:git
bench postgresql    file:/usr/lib/postgresql/*/bin/initdb
peers bindfs        cmd:bindfs
peers mergerfs      cmd:mergerfs
peers rocksdb-tools cmd:db_bench
check clang         cmd:clang
check clang-format  cmd:clang-format
check cppcheck      cmd:cppcheck
check shellcheck    cmd:shellcheck
check binutils      cmd:nm
check patch         cmd:patch
'

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# shellcheck disable=SC2086 # a pattern
is_there() {
	case $1 in
	cmd:*) command -v "${1#cmd:}" >/dev/null 2>&1 ;;
	pc:*) pkg-config --exists "${1#pc:}" 2>/dev/null ;;
	file:*) ls -d ${1#file:} >/dev/null 2>&1 ;;
	esac
}

check_only=
uring=1
groups=
for arg; do
	case $arg in
	--check) check_only=1 ;;
	URING=*) uring=${arg#URING=} ;;
	build | test | check | demo | bench | peers) groups="$groups $arg " ;;
	*)
		echo "setup.sh: unknown argument '$arg' (known: --check build test check demo bench peers URING=0)" >&2
		exit 2
		;;
	esac
done

missing=
while read -r group package probe; do
	case $groups in
	*" $group "*) ;;
	*) continue ;;
	esac
	if [ "$package" = liburing-dev ] && [ "$uring" = 0 ]; then continue; fi
	case " $missing " in
	*" $package "*) continue ;;
	esac
	is_there "$probe" || missing="$missing${missing:+ }$package"
done <<END
$(echo "$packages" | sed '/^$/d')
END

[ -n "$missing" ] || exit 0

if [ -n "$check_only" ]; then
	echo "Missing packages: $missing. \`make setup\` installs them." >&2
	exit 1
fi

if ! command -v apt-get >/dev/null 2>&1; then
	echo "Missing: $missing (Debian's package names). There is no apt-get here; please install them." >&2
	exit 1
fi

as_root=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "Missing packages: $missing. Installing them takes root or sudo: there is neither." >&2
		echo "As root: apt-get install $missing" >&2
		exit 1
	fi
	as_root=sudo
fi

echo "Installing missing packages: $missing"
log=$(mktemp)
no_cluster=
trap 'rm -f "$log"; allow_cluster' EXIT

# PostgreSQL's package makes a cluster and starts a server on it, unless told not to: the tests make their own.
forbid_cluster() {
	no_cluster=/etc/postgresql-common/createcluster.d/batchiofs-tests.conf
	$as_root mkdir -p "${no_cluster%/*}"
	echo 'create_main_cluster = false' | $as_root tee "$no_cluster" >/dev/null
}

allow_cluster() {
	[ -n "$no_cluster" ] || return 0
	$as_root rm -f "$no_cluster"
	$as_root rmdir --ignore-fail-on-non-empty "${no_cluster%/*}"
	no_cluster=
}

# Quiet unless it fails.
apt() {
	if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null; then
		cat "$log" >&2
		echo "apt-get $1 failed (its output is above); wanted: $missing" >&2
		return 1
	fi
}

# A stale or partly unreachable index may still do.
apt update || echo "Going on with the package lists that are there." >&2
case " $missing " in
*" postgresql "*) forbid_cluster ;;
esac
# shellcheck disable=SC2086 # a list
apt install --no-install-recommends $missing
echo "Installed: $missing"
