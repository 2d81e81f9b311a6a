#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# Extended attributes: of all name spaces and kinds of objects, sizes and flags, and who sees what.
#
# ring

load ../support/helpers
load ../support/compare

setup() {
	default_setup
	requires setfattr getfattr
}

@test "set, read, listed and removed on files and directories" {
	mount_fs
	same_as_bare '
		touch f; mkdir d
		for o in f d; do
			setfattr -n user.text -v hello $o && setfattr -n user.empty -v "" $o
			setfattr -n user.bytes -v 0x00ff0a00 $o
			getfattr -d -m - -e hex $o | sort
			setfattr -n user.text -v again $o; getfattr -n user.text $o
			setfattr -x user.text $o && getfattr -m user. $o | sort
			setfattr -x user.text $o || echo $?; getfattr -n user.none $o || echo $?
		done'
}

@test "values and names of the largest size, and a buffer that is too small" {
	local get
	get=$(syscall_number getxattr) || skip "no system call number for $(uname -m)"
	make_loop xfs 300M
	mount_fs
	same_as_bare '
		touch f; name=user.$(printf "%0250d" 0)
		setfattr -n "$name" -v x f && getfattr -m - f
		setfattr -n "${name}1" -v x f || echo $?
		perl -e "print q(0x), q(ab) x 50000" >v; setfattr -n user.big -v "$(cat v)" f
		[ "0x$(getfattr --only-values -n user.big f | od -An -v -tx1 | tr -d " \n")" = "$(cat v)" ] && echo same
		g() { perl -e "(\$n, \$s) = @ARGV; \$b = qq(\0) x (\$s + 1); (\$f, \$a) = (q(f), q(user.big));
			\$r = syscall(\$n + 0, \$f, \$a, \$b, \$s + 0); print \$r < 0 ? qq(\$!\n) : qq(\$r\n)" '"$get"' $1; }
		g 0; g 10; g 49999; g 50000; g 60000'
}

@test "the flags XATTR_CREATE and XATTR_REPLACE" {
	local set
	set=$(syscall_number setxattr) || skip "no system call number for $(uname -m)"
	mount_fs
	same_as_bare '
		s() { perl -e "(\$n, \$v, \$f) = @ARGV; (\$p, \$a) = (q(f), q(user.a));
			print syscall(\$n + 0, \$p, \$a, \$v, length \$v, \$f + 0) ? qq(\$!\n) : qq(ok\n)" '"$set"' $1 $2; }
		touch f; s one 2; s two 1; s three 1; s four 2; getfattr -d f'
}

@test "symlinks and special files: trusted goes, user is refused, the target is left alone" {
	requires_root
	mount_fs
	same_as_bare '
		touch f; ln -s f l; mkfifo p; mknod c c 1 3; ln -s none dangling
		for o in l p c dangling; do
			setfattr -h -n trusted.x -v "$o" $o && getfattr -h -d -m trusted $o
			setfattr -h -n user.x -v y $o || echo $?
			setfattr -h -x trusted.x $o && getfattr -h -d -m trusted $o
		done
		getfattr -d -m - f'
}

@test "trusted attributes are for root: others neither see nor list them" {
	requires_root
	requires setpriv
	let_users_in
	mount_fs
	touch "$SRC/f"
	chmod 666 "$SRC/f"
	setfattr -n trusted.secret -v x "$SRC/f"
	setfattr -n user.open -v y "$SRC/f"
	[[ $(within 10 getfattr -m - "$MNT/f") == *trusted.secret* ]]
	run -0 as_user timeout 10 getfattr --absolute-names -m - "$MNT/f"
	[[ $output == *user.open* ]]
	[[ $output != *trusted* ]]
	run -1 as_user timeout 10 getfattr -n trusted.secret "$MNT/f"
	run -1 as_user timeout 10 setfattr -n trusted.secret -v z "$MNT/f"
	[ "$(getfattr --only-values -n trusted.secret "$SRC/f")" = x ]
	as_user timeout 10 setfattr -n user.mine -v z "$MNT/f"
	[ "$(getfattr --only-values -n user.mine "$SRC/f")" = z ]
}

@test "a file capability is kept, and goes when the file is written" {
	requires_root
	requires setcap getcap
	mount_fs
	same_as_bare '
		cp /bin/true f; setcap cap_net_raw=ep f; getcap f; cat f >/dev/null; getcap f
		echo >>f; getcap f; echo end'
}

@test "access lists: set and shown as on the bare directory, default lists are inherited" {
	requires_root
	requires setfacl getfacl
	mount_fs
	same_as_bare '
		umask 022; mkdir d; setfacl -m u:12:rwx,g:34:r-x d; getfacl -n d
		setfacl -d -m u:56:rw-,o::--- d; touch d/f; mkdir d/e; mkfifo d/p; getfacl -n d/f d/e d/p
		chmod 640 d/f; getfacl -n d/f; setfacl -b d/f; getfacl -n d/f; setfacl -k d; getfacl -n d
		stat -c "%n %a" d d/f d/e d/p'
}
