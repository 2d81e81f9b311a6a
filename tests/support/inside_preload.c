/* SPDX-License-Identifier: MIT */
/*
 * Foreign code in the daemon, for tests/mount/confine.bats: preloaded, it starts a thread with the
 * daemon's first one, behind the same walls; when a byte comes by the FIFO $INSIDE.go it tries what
 * a daemon that was taken over would, and writes a line for each try to $INSIDE.log: NAME and
 * "possible" or "refused", at the end "done".
 *
 * "Possible" is also what fails for a reason of its own, with nonsense as arguments: it was not
 * refused. $INSIDE.outside is a directory with a file `secret`; $INSIDE.port a TCP port of
 * 127.0.0.1 where somebody listens.
 */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_MOST 256
#define FREEZE   _IOWR('X', 119, int)

static int go_fd = -1, log_fd = -1;
static char secret[4096], outside[4096];
static unsigned short port;

static void tell(const char *name, bool possible)
{
	dprintf(log_fd, "%s %s\n", name, possible ? "possible" : "refused");
}

/* A try that fails as `fails` where nothing refuses it (0: it works). */
static void tried(const char *name, long result, int fails)
{
	tell(name, result >= 0 || errno == fails);
}

/* ---- ways out of the source ---- */

static bool opens(int dir, const char *path, int flags)
{
	int fd = openat(dir, path, flags | O_CLOEXEC, 0600);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* By "..", from every directory that is open here. */
static bool climbs(void)
{
	char path[sizeof(secret) + 64] = "";
	bool any = false;

	for (int up = 0; up < 16; up++)
		strcat(path, "../");
	strcat(path, secret + 1);
	for (int fd = 0; fd < FDS_MOST; fd++) {
		struct stat st;

		if (!fstat(fd, &st) && S_ISDIR(st.st_mode))
			any |= opens(fd, path, O_RDONLY);
	}
	return any || opens(AT_FDCWD, path, O_RDONLY);
}

/* By the links of /proc, as far as a directory of it is open here. */
static bool by_proc(void)
{
	static const char *const links[] = {
		"../root", "../cwd", "../../1/root", "/proc/1/root", "/proc/self/root"};
	bool any = false;

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		char path[sizeof(secret) + 64];

		snprintf(path, sizeof(path), "%s%s", links[i], secret);
		for (int fd = 0; fd < FDS_MOST; fd++)
			any |= opens(fd, path, O_RDONLY);
	}
	return any;
}

static bool openat2_opens(void)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC};

	return syscall(SYS_openat2, AT_FDCWD, secret, &how, sizeof(how)) >= 0;
}

static void try_paths(void)
{
	char made[sizeof(outside) + 16];

	tell("open", opens(AT_FDCWD, secret, O_RDONLY));
	tell("openat2", openat2_opens());
	tell("dotdot", climbs());
	tell("proc", by_proc());
	snprintf(made, sizeof(made), "%s/made", outside);
	tell("create", opens(AT_FDCWD, made, O_RDWR | O_CREAT));
	snprintf(made, sizeof(made), "%s/dir", outside);
	tell("mkdir", mkdir(made, 0700) == 0);
	snprintf(made, sizeof(made), "%s/moved", outside);
	tell("rename", rename(secret, made) == 0);
	if (!rename(made, secret))
		errno = 0;
	snprintf(made, sizeof(made), "%s/victim", outside);
	tell("unlink", unlink(made) == 0);
}

/* ---- the network ---- */

static void try_network(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int pair[2];

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	tell("socket", fd >= 0);
	tell("connect", fd >= 0 && !connect(fd, (struct sockaddr *)&to, sizeof(to)));
	tell("unix_socket", socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
	tell("socketpair", !socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

/* ---- a ring of one's own ---- */

static int run_one(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int result;

	if (io_uring_submit_and_wait(ring, 1) < 0 || io_uring_wait_cqe(ring, &cqe) < 0)
		return -EIO;
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

/* With the standard backend there is none to be had; else it leads as far as the thread itself. */
static void try_ring(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	int fd = -1, connected = -1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (io_uring_queue_init(4, &ring, 0) < 0) {
		tell("ring_open", false);
		tell("ring_connect", false);
		return;
	}
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, secret, O_RDONLY, 0);
	tell("ring_open", run_one(&ring) >= 0);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_rw(IORING_OP_SOCKET, sqe, AF_INET, NULL, 0, SOCK_STREAM);
	fd = run_one(&ring);
	if (fd >= 0) {
		sqe = io_uring_get_sqe(&ring);
		io_uring_prep_connect(sqe, fd, (struct sockaddr *)&to, sizeof(to));
		connected = run_one(&ring);
	}
	tell("ring_connect", connected >= 0);
	io_uring_queue_exit(&ring);
}

/* ---- calls ---- */

static bool forks(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid((pid_t)pid, NULL, 0);
	return pid > 0;
}

static void try_calls(void)
{
	char *nothing[] = {NULL};
	void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	tried("execve", execve("/nonexistent", nothing, nothing), ENOENT);
	tell("fork", forks());
	tried("clone3", syscall(SYS_clone3, NULL, 0), EINVAL);
	tried("mount", mount("none", "/nonexistent", "tmpfs", 0, NULL), ENOENT);
	tried("umount", umount2("/nonexistent", 0), ENOENT);
	tried("pivot_root", syscall(SYS_pivot_root, "/nonexistent", "/nonexistent"), ENOENT);
	tried("chroot", chroot("/nonexistent"), ENOENT);
	tried("open_tree", syscall(SYS_open_tree, AT_FDCWD, "/nonexistent", 0), ENOENT);
	tried("setns", setns(-1, 0), EBADF);
	tried("unshare", unshare(CLONE_NEWUTS), 0);
	tried("ptrace", syscall(SYS_ptrace, 16, -1, 0, 0), ESRCH);
	tried("process_vm_readv", syscall(SYS_process_vm_readv, getppid(), 0, 0, 0, 0, 0), 0);
	tried("kill", kill(getppid(), 0), 0);
	tried("pidfd_open", syscall(SYS_pidfd_open, getpid(), 0), 0);
	tried("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0), EFAULT);
	tried("keyctl", syscall(SYS_keyctl, 0, -3, 0, 0, 0), ENOKEY);
	tried("memfd_create", syscall(SYS_memfd_create, "x", 0), 0);
	tried("setuid", syscall(SYS_setresuid, -1, -1, -1), 0);
	tried("setgroups", syscall(SYS_setgroups, 0, (void *)1), 0);
	tried("swapon", syscall(SYS_swapon, "/nonexistent", 0), ENOENT);
	tried("ioctl", ioctl(-1, FREEZE, 0), EBADF);
	tell("mmap_exec", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
				  0) != MAP_FAILED);
	tell("mprotect_exec", !mprotect(code, 4096, PROT_READ | PROT_EXEC));
}

static void *try_all(void *arg)
{
	char byte;

	(void)arg;
	if (read(go_fd, &byte, 1) != 1)
		return NULL;
	try_paths();
	try_network();
	try_ring();
	try_calls();
	dprintf(log_fd, "done\n");
	return NULL;
}

/* ---- getting in ---- */

__attribute__((constructor)) static void prepare(void)
{
	const char *prefix = getenv("INSIDE");
	char path[4096];
	FILE *file;

	if (!prefix)
		return;
	snprintf(outside, sizeof(outside), "%s.outside", prefix);
	snprintf(secret, sizeof(secret), "%.4000s/secret", outside);
	snprintf(path, sizeof(path), "%s.port", prefix);
	file = fopen(path, "re");
	if (!file || fscanf(file, "%hu", &port) != 1)
		abort();
	fclose(file);
	snprintf(path, sizeof(path), "%s.go", prefix);
	go_fd = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s.log", prefix);
	log_fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (go_fd < 0 || log_fd < 0)
		abort();
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	static atomic_flag begun = ATOMIC_FLAG_INIT;
	pthread_t own;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	if (go_fd >= 0 && !atomic_flag_test_and_set(&begun) && real(&own, NULL, try_all, NULL))
		abort();
	return real(thread, attr, start, arg);
}
