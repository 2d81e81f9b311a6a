/* SPDX-License-Identifier: MIT */
/*
 * The system calls that are left, and with which arguments. For confine.c only.
 *
 * Everything else fails with EPERM. Nothing is killed: a call that a C library makes one day, and
 * does without, must not take a mount down. Built with CFLAGS=-DCONFINE_LOG the kernel's log tells
 * what was refused.
 *
 * A plain list: for calls that no argument decides about the kernel (5.11) keeps a bitmap and runs
 * nothing. Names of calls that an architecture does not have are left out there.
 */
#include "confine/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "transport/abi.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
/* The other numbering, of the same architecture by its name. */
#define X32_BIT 0x40000000u
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#endif

#ifdef ARCH

static const int allowed[] = {
	/* the source's objects */
	SYS_openat,
	SYS_openat2,
	SYS_close,
	SYS_close_range,
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_preadv,
	SYS_pwritev,
	SYS_preadv2,
	SYS_pwritev2,
	SYS_lseek,
	SYS_fsync,
	SYS_fdatasync,
	SYS_ftruncate,
	SYS_fallocate,
	SYS_copy_file_range,
	SYS_fadvise64,
	SYS_sync_file_range,
	SYS_fstat,
	SYS_newfstatat,
	SYS_statx,
	SYS_statfs,
	SYS_fstatfs,
	SYS_getdents64,
	SYS_readlinkat,
	SYS_mkdirat,
	SYS_mknodat,
	SYS_unlinkat,
	SYS_symlinkat,
	SYS_linkat,
	SYS_renameat2,
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fchownat,
	SYS_utimensat,
	SYS_faccessat,
	SYS_setxattr,
	SYS_getxattr,
	SYS_listxattr,
	SYS_removexattr,
	SYS_lsetxattr,
	SYS_lgetxattr,
	SYS_llistxattr,
	SYS_lremovexattr,
	SYS_fsetxattr,
	SYS_fgetxattr,
	SYS_flistxattr,
	SYS_fremovexattr,
	SYS_truncate,
	SYS_name_to_handle_at,
	SYS_open_by_handle_at,
	SYS_flock,
	SYS_fcntl,
	SYS_umask,
	SYS_fchdir,
	SYS_fanotify_init,
	SYS_fanotify_mark,
	/* in the caller's name */
	SYS_setfsuid,
	SYS_setfsgid,
	SYS_capget,
	SYS_capset,
	/* waiting */
	SYS_ppoll,
	SYS_epoll_create1,
	SYS_epoll_ctl,
	SYS_epoll_pwait,
	SYS_eventfd2,
	SYS_futex,
	SYS_nanosleep,
	SYS_clock_nanosleep,
	SYS_sched_yield,
	SYS_wait4,
	/* the control socket, and the process outside: none is made */
	SYS_accept4,
	SYS_recvfrom,
	SYS_sendto,
	SYS_recvmsg,
	SYS_sendmsg,
	SYS_getsockopt,
	/* memory, threads, the C library's own */
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_brk,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_rt_sigtimedwait,
	SYS_sigaltstack,
	SYS_restart_syscall,
	SYS_exit,
	SYS_exit_group,
	SYS_set_robust_list,
	SYS_set_tid_address,
	SYS_rseq,
	SYS_getpid,
	SYS_gettid,
	SYS_getppid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_uname,
	SYS_getrandom,
	SYS_clock_gettime,
	SYS_clock_getres,
	SYS_gettimeofday,
	SYS_sched_getaffinity,
	SYS_sched_getattr,
	SYS_sched_setattr,
	SYS_getcpu,
	SYS_sysinfo,
	SYS_prlimit64,
	SYS_dup,
	SYS_dup3,
	SYS_getcwd,
	SYS_getrusage,
	SYS_timer_create,
	SYS_timer_settime,
	SYS_timer_delete,
#ifdef SYS_fchmodat2
	SYS_fchmodat2,
#endif
#ifdef SYS_faccessat2
	SYS_faccessat2,
#endif
#ifdef SYS_epoll_pwait2
	SYS_epoll_pwait2,
#endif
#ifdef SYS_renameat
	SYS_renameat,
#endif
/* Older forms of the same. */
#ifdef SYS_poll
	SYS_poll,
	SYS_dup2,
	SYS_epoll_wait,
	SYS_open,
	SYS_stat,
	SYS_lstat,
	SYS_readlink,
	SYS_time,
	SYS_chmod,
	SYS_pause,
#endif
};

static const int rings[] = {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register};

static const uint32_t commands[] = {
	FS_IOC_GETFLAGS,
	FS_IOC_SETFLAGS,
	FS_IOC_GETVERSION,
	FS_IOC_FSGETXATTR,
	FS_IOC_FSSETXATTR,
	FUSE_DEV_IOC_CLONE,
	ABI_IOC_BACKING_OPEN,
	ABI_IOC_BACKING_CLOSE,
};

/* For whoever adds a call. Not always: each start of a thread would be logged, for clone3(). */
#ifdef CONFINE_LOG
#define LOG_REFUSED SECCOMP_FILTER_FLAG_LOG
#else
#define LOG_REFUSED 0
#endif
/* We run no code of others, which kernels before 5.16 would slow us down for. */
#define FILTER_FLAGS (LOG_REFUSED | SECCOMP_FILTER_FLAG_SPEC_ALLOW)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- the program ---- */

struct program {
	struct sock_filter code[768];
	unsigned short length;
};

static void add(struct program *program, struct sock_filter step)
{
	if (program->length < COUNT(program->code))
		program->code[program->length] = step;
	program->length++;
}

static void answer(struct program *program, uint32_t action)
{
	add(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static void refuse(struct program *program)
{
	answer(program, SECCOMP_RET_ERRNO | EPERM);
}

/* The lower half of an argument: what the calls below take is no longer. */
static void load_argument(struct program *program, unsigned n)
{
	uint32_t at = (uint32_t)offsetof(struct seccomp_data, args) + n * 8;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	at += 4;
#endif
	add(program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at));
}

static void allow(struct program *program, int call)
{
	add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1));
	answer(program, SECCOMP_RET_ALLOW);
}

/* Where the call is this one, what is added until end_call() decides about it. */
static unsigned begin_call(struct program *program, int call)
{
	add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 0));
	return program->length;
}

static void end_call(struct program *program, unsigned begin)
{
	refuse(program);
	if (program->length <= COUNT(program->code))
		program->code[begin - 1].jf = (uint8_t)(program->length - begin);
}

/* Where the argument loaded is this value. */
static void allow_value(struct program *program, uint32_t value)
{
	allow(program, (int)value);
}

/* Where the argument loaded has one of these bits, and where it has none. */
static void allow_bits(struct program *program, uint32_t bits, bool set)
{
	add(program, (struct sock_filter)BPF_JUMP(
			     BPF_JMP | BPF_JSET | BPF_K, bits, set ? 0 : 1, set ? 1 : 0));
	answer(program, SECCOMP_RET_ALLOW);
}

/* Calls of which an argument decides. */
static void add_decided(struct program *program)
{
	unsigned begin;

	/* No code but the program's own. */
	begin = begin_call(program, SYS_mmap);
	load_argument(program, 2);
	allow_bits(program, PROT_EXEC, false);
	end_call(program, begin);
	begin = begin_call(program, SYS_mprotect);
	load_argument(program, 2);
	allow_bits(program, PROT_EXEC, false);
	end_call(program, begin);
	/* Threads, no processes. What clone3() is to make cannot be seen: the C library does
	 * without. */
	begin = begin_call(program, SYS_clone);
	load_argument(program, 0);
	allow_bits(program, CLONE_THREAD, true);
	end_call(program, begin);
	begin = begin_call(program, SYS_clone3);
	answer(program, SECCOMP_RET_ERRNO | ENOSYS);
	end_call(program, begin);
	/* A umask of each loop's own, descriptors of the watch's own. */
	begin = begin_call(program, SYS_unshare);
	load_argument(program, 0);
	allow_value(program, CLONE_FS);
	allow_value(program, CLONE_FILES);
	end_call(program, begin);
	begin = begin_call(program, SYS_ioctl);
	load_argument(program, 1);
	for (size_t i = 0; i < COUNT(commands); i++)
		allow_value(program, commands[i]);
	end_call(program, begin);
	begin = begin_call(program, SYS_prctl);
	load_argument(program, 0);
	allow_value(program, PR_SET_NAME);
	/* Who has crashed says so, and leaves a core where that is wanted. */
	allow_value(program, PR_GET_NAME);
	allow_value(program, PR_SET_DUMPABLE);
	end_call(program, begin);
	/* abort(), and a crash that goes its way. */
	begin = begin_call(program, SYS_tgkill);
	load_argument(program, 0);
	allow_value(program, (uint32_t)getpid());
	end_call(program, begin);
}

static void write_program(struct program *program, bool uring)
{
	add(program, (struct sock_filter)BPF_STMT(
			     BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0));
	refuse(program);
	add(program, (struct sock_filter)BPF_STMT(
			     BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
#ifdef X32_BIT
	add(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
	refuse(program);
#endif
	for (size_t i = 0; uring && i < COUNT(rings); i++)
		allow(program, rings[i]);
	for (size_t i = 0; i < COUNT(allowed); i++)
		allow(program, allowed[i]);
	add_decided(program);
	refuse(program);
}

int confine_seccomp(bool uring)
{
	struct program program = {.length = 0};
	struct sock_fprog whole = {.filter = program.code};

	write_program(&program, uring);
	if (program.length > COUNT(program.code))
		return -E2BIG;
	whole.len = program.length;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, FILTER_FLAGS, &whole) ? -errno : 0;
}

#else

int confine_seccomp(bool uring)
{
	(void)uring;
	return -ENOSYS;
}

#endif
