/* SPDX-License-Identifier: MIT */
/* A mount namespace and a network namespace with nothing in them, and the source as the root. For
 * confine.c only. */
#include "confine/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Headers may be older than the kernel (5.2). */
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif

/*
 * A mount of /proc/self/fd that is attached nowhere: its root has no parent. The number stays the
 * same, since it is known to many.
 */
int confine_proc(int proc_fd)
{
	_cleanup_fd int tree = (int)syscall(
		SYS_open_tree, proc_fd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (tree < 0)
		return -errno;
	return dup3(tree, proc_fd, O_CLOEXEC) < 0 ? -errno : 0;
}

/* What is mounted goes, as seen from here alone. /proc is a directory that is there everywhere. */
static int leave_mounts(void)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mount("none", "/proc", "ramfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=555") ||
		chdir("/proc") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
		return -errno;
	return chdir("/") ? -errno : 0;
}

/*
 * Copies of mounts would keep busy what others unmount, so that all of them go, or we stay where we
 * are.
 */
int confine_namespace(void)
{
	_cleanup_fd int before = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int error;

	if (before < 0 || unshare(CLONE_NEWNS))
		return -errno;
	error = leave_mounts();
	if (error)
		setns(before, CLONE_NEWNS);
	return error;
}

/*
 * The directory as it was opened, in the mount namespace where it is: so mounts that others make in
 * it are there. It has no parent that a walk upwards would find.
 */
int confine_root(int root_fd)
{
	if (unshare(CLONE_FS) || fchdir(root_fd) || chroot("."))
		return -errno;
	return 0;
}

int confine_network(void)
{
	return unshare(CLONE_NEWNET) ? -errno : 0;
}
