#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Whose new objects are, and who may do what: several users on one mount made by root.

load ../support/helpers
load ../support/compare

setup() {
	default_setup
	requires_root
	requires setpriv
	let_users_in
}

@test "all kinds of new objects belong to the caller" {
	mount_fs
	same_as_bare '
		u() { setpriv --reuid=65534 --regid=1234 --clear-groups "$@"; }
		u touch f; u mkdir d; u ln -s x l; u mkfifo p; u touch d/g
		u perl -MSocket -e "socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(q(s))) or die"
		setpriv --regid=77 --clear-groups touch rootfile
		setpriv --reuid=88 --clear-groups touch other
		touch mine
		stat -c "%n %u:%g %a" f d l p s d/g rootfile other mine'
}

@test "the umask is the caller's, each time" {
	mount_fs
	same_as_bare '
		u() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
		for m in 000 022 077 027 777; do
			u sh -c "umask $m; touch f$m; mkdir d$m; mkfifo p$m"
			(umask $m; touch F$m; mkdir D$m)
		done
		stat -c "%n %a" *'
}

@test "directories with set-group-id: the group is inherited, the bit only where the caller may" {
	mount_fs
	same_as_bare '
		mkdir d; chgrp 777 d; chmod 2777 d
		make() { perl -e "use Fcntl; umask 0; sysopen(F, q(d/) . \$ARGV[0], O_CREAT | O_WRONLY, 02775) or die;
			mkdir(q(d/dir-) . \$ARGV[0], 0755) or die" $1; }
		export -f make
		setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "make outsider"
		setpriv --reuid=65534 --regid=65534 --groups 777 bash -c "make member"
		setpriv --reuid=65534 --regid=777 --clear-groups bash -c "make primary"
		make root
		stat -c "%n %u:%g %a" d/*'
}

@test "supplementary groups count: a directory writable for the group only" {
	mount_fs
	same_as_bare '
		mkdir d; chgrp 777 d; chmod 770 d
		setpriv --reuid=65534 --regid=65534 --groups 777 sh -c "
			touch d/f && mkdir d/e && ln -s x d/l && mkfifo d/p && ln d/f d/h && mv d/f d/g && rm d/p && ls d"
		setpriv --reuid=65534 --regid=65534 --clear-groups touch d/x || echo $?
		setpriv --reuid=65534 --regid=65534 --clear-groups ls d || echo $?
		stat -c "%n %u:%g" d/*'
}

@test "permissions hold: reading, writing, sticky directories, owners only" {
	mount_fs
	same_as_bare '
		u() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
		echo secret >s; chmod 600 s; u cat s || echo $?; u sh -c "echo x >>s" || echo $?
		u chmod 666 s || echo $?; u chown 65534 s || echo $?; u touch -d @1 s || echo $?; u truncate -s 0 s || echo $?
		mkdir t; chmod 1777 t; touch t/root; u rm -f t/root || echo $?; u mv t/root t/x || echo $?; u touch t/own; u rm t/own
		mkdir c; chmod 700 c; touch c/f; u stat c/f || echo $?; u ls c || echo $?
		u touch own; u chmod 640 own; u chown 65534:65534 own; u chown 0 own || echo $?; u chgrp 0 own || echo $?
		stat -c "%n %u:%g %a %s" s own t/root'
}

@test "device nodes are for root" {
	mount_fs
	same_as_bare '
		setpriv --reuid=65534 --regid=65534 --clear-groups mknod c c 1 3 || echo $?
		setpriv --reuid=65534 --regid=65534 --clear-groups mknod p p
		mknod c c 1 3; stat -c "%n %F %u" *'
}

@test "set-id bits go when somebody else writes, truncates or changes the owner" {
	mount_fs
	same_as_bare '
		u() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
		for how in "echo x >>f" "truncate -s 3 f" ": >f" "chgrp 65534 f"; do
			for mode in 6777 2767 4766; do
				rm -f f; echo 12345 >f; chown 65534:65534 f; chmod $mode f
				u sh -c "$how"; stat -c "$how $mode: %a" f
			done
		done'
}

@test "default access lists decide the mode instead of the umask" {
	requires setfacl getfacl
	mount_fs
	same_as_bare '
		mkdir d; chmod 777 d; setfacl -d -m u::rwx,g::rx,o::-,u:77:rwx d
		setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "umask 077; touch d/f; mkdir d/e; mkfifo d/p"
		getfacl -n d/f d/e d/p'
}

@test "an access list or a chmod takes set-group-id where the owner is not of the group" {
	requires setfacl
	mount_fs
	same_as_bare '
		in_group() { setpriv --reuid=65534 --regid=65534 --groups 777 "$@"; }
		outside() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
		for who in in_group outside; do
			for change in "chmod 2755" "setfacl -m u:5:rwx"; do
				rm -f f; touch f; chown 65534:777 f; chmod 2755 f; $who $change f; stat -c "$who $change: %a" f
			done
		done'
}

@test "access lists are enforced" {
	requires setfacl
	mount_fs
	same_as_bare '
		echo x >f; chmod 600 f; setfacl -m u:65534:r f
		setpriv --reuid=65534 --regid=65534 --clear-groups cat f
		setpriv --reuid=65533 --regid=65533 --clear-groups cat f || echo $?
		setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "echo y >f" || echo $?
		cat f'
}

@test "many callers at once: each gets its own" {
	mount_fs
	for id in 1001 1002 1003 1004; do
		(
			cd "$MNT" || exit
			within 60 setpriv --reuid=$id --regid=$((id + 1000)) --clear-groups bash -c '
				umask '"0$((id % 8))0"'
				for i in $(seq 150); do : >"f-$0-$i"; mkdir "d-$0-$i"; done' $id
		) &
		pids+=($!)
	done
	wait "${pids[@]}"
	for id in 1001 1002 1003 1004; do
		[ "$(stat -c '%u:%g' "$SRC"/[fd]-$id-* | sort | uniq -c | xargs)" = "300 $id:$((id + 1000))" ]
		[ "$(stat -c '%a' "$SRC"/f-$id-* | sort -u)" = "$(printf '%o' $((0666 & ~((id % 8) << 3))))" ]
	done
}

@test "a whiteout belongs to whom it was made by" {
	local nr
	nr=$(syscall_number renameat2) || skip "no system call number for $(uname -m)"
	mount_fs
	same_as_bare '
		mkdir d; chmod 1777 d
		setpriv --reuid=65534 --regid=65534 --clear-groups perl -e "open(F, q(>), q(d/a)); close F;
			(\$a, \$b) = (q(d/a), q(d/b)); syscall(\$ARGV[0] + 0, -100, \$a, -100, \$b, 4) == 0 or print qq(\$!\n)" '"$nr"'
		stat -c "%n %F %u:%g" d/*'
}

# Who: by primary group, by one of a few or the last of sixty other groups, by none, and root; on directories whose group
# they may share.
@test "groups and set-group-id: every caller, directory and change as on the bare directory" {
	mount_fs
	COMPARE_SECONDS=200 same_as_bare '
		as() {
			case $1 in
			primary) setpriv --reuid=65534 --regid=777 --clear-groups "${@:2}" ;;
			member) setpriv --reuid=65534 --regid=65534 --groups 5,777 "${@:2}" ;;
			sixty) setpriv --reuid=65534 --regid=65534 --groups "$(seq -s, 2000 2058),777" "${@:2}" ;;
			outsider) setpriv --reuid=65534 --regid=65534 --groups 5,6 "${@:2}" ;;
			root) "${@:2}" ;;
			esac
		}
		make() { perl -e "use Fcntl; umask 0; for my \$m (0644, 02644, 02774, 06755) {
			my \$f = sprintf(q(f%o), \$m);
			sysopen(F, \$f, O_CREAT | O_WRONLY, \$m) or print qq(\$f: \$!\n);
			mkdir(sprintf(q(d%o), \$m), \$m) or print qq(mkdir: \$!\n) }
			system(qw(mkfifo fifo)); symlink(q(x), q(link)) or print qq(symlink: \$!\n)"; }
		export -f make
		for mode in 2777 2770 2755; do
			for who in primary member sixty outsider root; do
				mkdir "d-$mode-$who"; chgrp 777 "d-$mode-$who"; chmod "$mode" "d-$mode-$who"
				(cd "d-$mode-$who" 2>/dev/null && as "$who" bash -c "ls >/dev/null && make") 2>&1 | sed "s/^/$mode $who: /"
			done
		done
		for who in primary member sixty outsider root; do
			for change in "chgrp 777" "chgrp 5" "chgrp 99" "chmod 2770" "chmod 2755" "chmod 6711" "chown 65534:777"; do
				f=change; rm -rf f; echo x >$f; chown 65534:65534 $f; chmod 755 $f
				as $who $change $f 2>/dev/null; echo "$who $change: $? $(stat -c "%u:%g %a" $f)"
				mkdir f; chown 65534:777 f; chmod 2755 f
				as $who $change f 2>/dev/null; echo "$who $change of a directory: $? $(stat -c "%u:%g %a" f)"
			done
			for mode in 2755 2745 6777; do
				for how in "echo y >>w" "truncate -s 1 w" ": >w" "chown :777 w" "fallocate -l 9 w"; do
					rm -f w; echo 12345 >w; chown 65534:777 w; chmod $mode w
					as $who sh -c "$how" 2>/dev/null; echo "$who, $mode, $how: $? $(stat -c "%u:%g %a" w)"
				done
			done
		done
		find . -mindepth 1 -printf "%p %U:%G %m\n" | sort'
}
