#!/bin/bash
# SPDX-License-Identifier: MIT
#
# `make check`: format, warnings, static analysis and the rules of the house, a function a check.
# Called by the Makefile and, as one suite among the tests, by tests/run (hence TAP).
#
# With names as arguments only those checks run: tests/support/check.sh imports lengths
set -uo pipefail

ROOT=$(cd "$(dirname "$0")/../.." && pwd)
cd "$ROOT" || exit 1
B=${B:-build}
URING=${URING:-1}
unset MAKEFLAGS MAKELEVEL MFLAGS
shopt -s nullglob globstar

C_FILES=(src/**/*.[ch] tests/**/*.[ch])
SHELL_FILES=(.ci/run mount/mount.batchiofs mount/umount.batchiofs tests/run tests/mutants/run tests/*.sh tests/support/*.sh
	tests/support/*.bash tests/bench/run tests/bench/step tests/bench/*.sh)
BATS_FILES=(tests/mount/*.bats)
MAX_LINES=600

# The order of imports, top to bottom: a folder may include itself and what stands after it ...
LAYERS=(main serve plan hand_over server walls mountpoint report options state cmd control supervise confine fs loop transport coalesce stats batchio base)
# ... except these, which may include only what is named.
declare -A ONLY=(
	[batchio]='base'                  # a library of its own
	[coalesce]='base'                 # pure: a simulation drives it
	[transport]='batchio stats base'  # knows nothing of what requests mean
)
# Single exceptions, `FILE HEADER`, each with its reason.
EXCEPTIONS=(
)

# ---- The checks ----

check_format() {
	local file bad=0
	for file in "${C_FILES[@]}"; do
		if ! clang-format --dry-run -Werror "$file" 2>/dev/null; then
			echo "$file is not as .clang-format has it: make format"
			bad=1
		fi
	done
	return $bad
}

build_quietly() { # MAKE ARGUMENTS...
	make --no-print-directory -O -j"$(nproc)" "$@" >/dev/null
}

check_gcc() {
	build_quietly CC=gcc B=build/gcc URING="$URING" objects
}

check_clang() {
	build_quietly CC=clang B=build/clang URING="$URING" objects
}

check_without_uring() {
	build_quietly B=build/nouring URING=0 all && ! ldd build/nouring/batchiofs | grep liburing
}

check_cppcheck() {
	cppcheck --quiet -j "$(nproc)" --error-exitcode=1 --inline-suppr --std=c11 \
		--enable=warning,performance,portability --suppress=missingIncludeSystem \
		-Isrc -Itests -D_GNU_SOURCE -DFUSE_USE_VERSION=314 -DBATCHIO_URING=1 \
		-DBATCHIOFS_VERSION='"0"' src tests 2>&1
}

check_shellcheck() {
	shellcheck -x "${SHELL_FILES[@]}" &&
		# bats sets stderr and stderr_lines, which this shellcheck doesn't know of yet.
		{ ((${#BATS_FILES[@]} == 0)) || shellcheck -s bats -S warning -e SC2154 "${BATS_FILES[@]}"; }
}

layer_of() { # FILE
	local path=${1#src/}
	if [[ $path == */* ]]; then
		echo "${path%%/*}"
	else
		echo "${path%.*}"
	fi
}

rank_of() { # LAYER
	local i
	for i in "${!LAYERS[@]}"; do
		if [[ ${LAYERS[i]} == "$1" ]]; then echo "$i"; fi
	done
}

# Does FILE break the order by including HEADER (as written in the source)?
import_allowed() { # FILE HEADER
	local from to
	if [[ $2 != */* && -e ${1%/*}/$2 ]]; then return 0; fi
	from=$(layer_of "$1")
	to=$(layer_of "src/$2")
	[[ -n $(rank_of "$from") && -n $(rank_of "$to") ]] || return 1
	if [[ $from == "$to" || " ${EXCEPTIONS[*]} " == *" $1 $2 "* ]]; then return 0; fi
	if [[ -n ${ONLY[$from]-} ]]; then
		[[ " ${ONLY[$from]} " == *" $to "* ]]
	else
		(($(rank_of "$from") < $(rank_of "$to")))
	fi
}

check_imports() {
	local file header bad=0
	for file in src/**/*.[ch]; do
		while read -r header; do
			if ! import_allowed "$file" "$header"; then
				echo "$file includes \"$header\": not allowed by the order ${LAYERS[*]}"
				bad=1
			fi
		done < <(sed -nE 's/^#[ \t]*include[ \t]*"([^"]+)".*/\1/p' "$file")
	done
	return $bad
}

check_lengths() {
	local file lines bad=0
	for file in src/**/*.[ch]; do
		lines=$(wc -l <"$file")
		if ((lines > MAX_LINES)); then
			echo "$file has $lines lines; at most $MAX_LINES"
			bad=1
		fi
	done
	return $bad
}

# A licence line, then a comment that says what the file is for.
check_comments() {
	local file bad=0
	for file in "${C_FILES[@]}"; do
		if ! head -n 1 "$file" | grep -qxF '/* SPDX-License-Identifier: MIT */' ||
			! sed -n '2,3p' "$file" | tr -d '\n' | grep -qE '^/\*.*[A-Za-z]'; then
			echo "$file does not start with the SPDX line and a comment that says what it is for"
			bad=1
		fi
	done
	for file in Makefile "${SHELL_FILES[@]}" "${BATS_FILES[@]}"; do
		if ! head -n 3 "$file" | grep -qxF '# SPDX-License-Identifier: MIT' ||
			! sed -n '2,5p' "$file" | grep -v SPDX | grep -qE '^# *[A-Za-z`]'; then
			echo "$file does not start with the SPDX line and a comment that says what it is for"
			bad=1
		fi
	done
	return $bad
}

# What the shared library offers is what batchio.h declares, no more and no less; and the static one
# brings no other name into a program than batchio_....
check_exports() {
	local names
	build_quietly B="$B" URING="$URING" "$B/libbatchio.so" "$B/libbatchio.a" || return
	names=$(nm -g --defined-only "$B/libbatchio.a" | awk 'NF == 3 && $3 !~ /^batchio_/ { print $3 }')
	if [[ $names ]]; then
		echo "libbatchio.a defines names without the prefix batchio_: $names"
		return 1
	fi
	[[ -n $(nm -D --defined-only "$B/libbatchio.so") ]] && diff --label batchio.h --label libbatchio.so -u \
		<(gcc -E -P src/batchio/batchio.h | grep -oE '\bbatchio_[a-z_]+\(' | tr -d '(' | sort -u) \
		<(nm -D --defined-only "$B/libbatchio.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort -u)
}

# The manual page names every option that --help lists.
check_manual() {
	local option options bad=0
	build_quietly B="$B" URING="$URING" all || return
	options=$("$B/batchiofs" --help | sed -nE \
		-e 's/^  ([a-z_]+)(=[^ ]*)?( .*)?$/\1/p' \
		-e '/^and as mount\(8\)/ { s/^[^:]*: //; s/, /\n/g; p }')
	[[ $options == *backend* ]] || { echo 'no options found in --help' && return 1; }
	for option in $options; do
		if ! grep -qE "^\.B.*\b$option\b" mount/batchiofs.8; then
			echo "mount/batchiofs.8 does not describe -o $option"
			bad=1
		fi
	done
	return $bad
}

# Each deliberate fault still applies to the sources, and compiles; and is in the table of tests/README.md.
check_mutants() {
	local patch name bad=0
	for patch in tests/mutants/*.patch; do
		name=$(basename "$patch" .patch)
		if ! grep -qF "| \`$name\` |" tests/README.md; then
			echo "tests/README.md does not tell of the mutant $name"
			bad=1
		fi
	done
	B="$B" URING="$URING" tests/mutants/run --check && return $bad
}

# ---- Running them ----

ALL=(format imports lengths comments shellcheck gcc clang without_uring cppcheck exports manual mutants)
if (($#)); then chosen=("$@"); else chosen=("${ALL[@]}"); fi

number=0 failed=0
echo "1..${#chosen[@]}"
for name in "${chosen[@]}"; do
	number=$((number + 1))
	if ! declare -F "check_$name" >/dev/null; then
		echo "not ok $number - $name: no such check (there are: ${ALL[*]})"
		failed=$((failed + 1))
	elif output=$("check_$name" 2>&1); then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		echo "# ${output//$'\n'/$'\n'# }"
		failed=$((failed + 1))
	fi
done
echo "$((number - failed)) passed, $failed failed, 0 skipped"
((failed == 0))
