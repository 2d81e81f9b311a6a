#!/bin/bash
# SPDX-License-Identifier: MIT
#
# Runs tests of a built xfstests tree on batchiofs, or on the bare directory to compare with: tests/README.md has the figures.
# The whole run lives in mount and process namespaces of its own, where the program is installed and the sources are loop
# images; nothing of it is left. Needs root, what xfstests needs (users fsgqa, fsgqa2, 123456-fsgqa; xfsprogs, ...), and 8 GiB
# at most below DIR.
#
# usage: [B=BUILD] xfstests.sh [-b uring|standard|bare] [-f ext4|xfs] [-w DIR] [-t SECONDS] TREE [TEST... | -g GROUP]
#   -b   the backend, or none at all (uring)        -f   the source's file system (ext4)
#   -w   where images and results go (a new one below /var/tmp, which is told)
#   -t   the time of one test (120)                 B    the build directory (build), as for make
# Without tests: the generic ones of the group "quick".
set -eu

usage() {
	sed -n 's/^# \(usage.*\|  -.*\)/\1/p' "$0" >&2
	exit 2
}

backend=uring type=ext4 work='' limit=120
while getopts b:f:w:t: option; do
	case $option in
	b) backend=$OPTARG ;;
	f) type=$OPTARG ;;
	w) work=$OPTARG ;;
	t) limit=$OPTARG ;;
	*) usage ;;
	esac
done
shift $((OPTIND - 1))
[[ $# -ge 1 && $backend =~ ^(uring|standard|bare)$ && $type =~ ^(ext4|xfs)$ ]] || usage
tree=$(realpath "$1")
shift
[[ -x $tree/check ]] || usage
[[ $(id -u) == 0 ]] || { echo 'xfstests.sh: needs root' >&2; exit 2; }
if (($# == 0)); then set -- -g quick; fi
root=$(cd "$(dirname "$0")/../.." && pwd)

if [[ -z ${INSIDE-} ]]; then
	work=${work:-$(mktemp -d /var/tmp/xfstests-XXXXXX)}
	mkdir -p "$work"
	work=$(realpath "$work")
	echo "results: $work/results"
	status=0
	INSIDE=1 unshare --mount --pid --fork --mount-proc --kill-child \
		bash "$0" -b "$backend" -f "$type" -w "$work" -t "$limit" "$tree" "$@" || status=$?
	for image in "$work"/*.img; do
		for device in $(losetup -n -O NAME -j "$image"); do losetup -d "$device"; done
		rm -f "$image"
	done
	exit $status
fi

mount --make-rprivate /
mkdir -p "$work"/{over,results,image1,image2,mnt/test,mnt/scratch}
mount -t tmpfs none "$work/over"
# Files there have process ids in their names, and the ids here are not ours alone.
mount -t tmpfs none /tmp
# /usr/local for the program, the real /sbin for the helpers, /etc for the library cache
for dir in /usr/local "$(realpath /sbin)" /etc; do
	mkdir -p "$work/over$dir/up" "$work/over$dir/work"
	mount -t overlay none -o "lowerdir=$dir,upperdir=$work/over$dir/up,workdir=$work/over$dir/work" "$dir"
done

for name in image1 image2; do
	truncate -s 4G "$work/$name.img"
	"mkfs.$type" -q "$work/$name.img"
done
if [[ $backend == bare ]]; then
	test_dev=$(losetup -f --show "$work/image1.img")
	scratch_dev=$(losetup -f --show "$work/image2.img")
	fs=(FSTYP="$type")
else
	make -s -C "$root" install ${B:+B="$B"} >/dev/null
	for name in image1 image2; do mount -o loop "$work/$name.img" "$work/$name"; done
	# xfstests unmounts by the source's name, which umount(8) finds only where it isn't a path.
	rm /sbin/mount.fuse.batchiofs
	cat >/sbin/mount.fuse.batchiofs <<-END
		#!/bin/sh
		source=\$1 target=\$2
		shift 2
		exec /sbin/mount.batchiofs "$work/\$source" "\$target" "\$@" -o "fsname=\$source"
	END
	chmod +x /sbin/mount.fuse.batchiofs
	test_dev=image1
	scratch_dev=image2
	fs=(FSTYP=fuse FUSE_SUBTYP=.batchiofs "MOUNT_OPTIONS='-o backend=$backend'" "TEST_FS_MOUNT_OPTS='-o backend=$backend'")
fi
printf 'export %s\n' "${fs[@]}" "TEST_DEV=$test_dev" "TEST_DIR=$work/mnt/test" "SCRATCH_DEV=$scratch_dev" \
	"SCRATCH_MNT=$work/mnt/scratch" "RESULT_BASE=$work/results" >"$work/config"
export HOST_OPTIONS=$work/config
# xfstests knows the type as it is without a subtype.
cat >/usr/local/bin/df <<'END'
#!/bin/sh
/bin/df "$@" | sed 's/fuse\.batchiofs/fuse/'
END
chmod +x /usr/local/bin/df
export PATH=/usr/local/bin:$PATH

cd "$tree"
./check -n "$@" >"$work/results/list" 2>&1 || { cat "$work/results/list" >&2; exit 1; }
mapfile -t tests < <(grep -o "^generic/[0-9]*" "$work/results/list")
log=$work/results/log
: >"$log"

# Everything in this namespace but ourselves.
end_all() {
	local proc pid
	for proc in /proc/[0-9]*; do
		pid=${proc#/proc/}
		[[ $pid == 1 || $pid == "$BASHPID" ]] || kill -KILL "$pid" 2>/dev/null || true
	done
}

# Checks all tests, and goes on behind one that hangs or takes the check down with it.
while ((${#tests[@]})); do
	start=$(wc -l <"$log")
	./check "${tests[@]}" >>"$log" 2>&1 </dev/null &
	check=$!
	last='' since=$SECONDS
	while kill -0 "$check" 2>/dev/null; do
		sleep 1
		now=$(grep -o '^generic/[0-9]*' "$log" | tail -n 1)
		if [[ $now != "$last" ]]; then last=$now since=$SECONDS; fi
		if ((SECONDS - since > limit)); then
			echo "[no end after $limit s]" >>"$log"
			for name in scratch test; do timeout 10 umount -i -f "$work/mnt/$name" || true; done 2>/dev/null
			end_all
			break
		fi
	done
	wait "$check" || true
	for name in scratch test; do
		while umount -i -l "$work/mnt/$name" 2>/dev/null; do :; done
	done
	last=$(tail -n "+$((start + 1))" "$log" | grep -o '^generic/[0-9]*' | tail -n 1)
	[[ $last ]] || { tail -n 5 "$log" >&2; exit 1; }
	while ((${#tests[@]})) && [[ ${tests[0]} != "$last" ]]; do tests=("${tests[@]:1}"); done
	tests=("${tests[@]:1}")
done

# One line a test in the log, what went wrong below it.
awk '/^generic\/[0-9]+ / {
	if (/\[not run\]/) notrun++
	else if (/ [0-9]+s$/ && !/failed|mismatch/) passed++
	else { failed++; names = names " " $1 }
}
END { printf "%d passed, %d not run, %d failed%s%s\n", passed, notrun, failed, failed ? ":" : "", names }' "$log" |
	tee "$work/results/summary"
