/* SPDX-License-Identifier: MIT */
/*
 * Memory and descriptors that run out: stands before the C library's functions that give them, for
 * a whole program, the libraries that it uses included. For programs of tests, linked with plan.c.
 *
 * A sanitizer has functions of its own in these places: then memory is only refused to the
 * program's own objects (linked with --wrap), and what the C library allocates for them is not.
 */
#undef _FILE_OFFSET_BITS /* both names of a function are meant as they are written */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "batchio/backend.h"
#include "plan.h"

#if BATCHIO_URING
#include <liburing.h>
#endif

#define CALLER __builtin_return_address(0)

/* Where one is to fail: true, with errno set. */
static bool refused(unsigned what, const char *call, void *caller)
{
	if (!faulty_now(what, call, caller))
		return false;
	errno = faulty_plan()->error;
	return true;
}

/* ---- memory ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STANDING(name) __wrap_##name
#define REAL(name)     __real_##name
#else
#define STANDING(name) name
#define REAL(name)     __libc_##name
#endif

void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *old, size_t size);
void *STANDING(malloc)(size_t size);
void *STANDING(calloc)(size_t n, size_t size);
void *STANDING(realloc)(void *old, size_t size);

void *STANDING(malloc)(size_t size)
{
	return refused(FAULTY_MEMORY, "malloc", CALLER) ? NULL : REAL(malloc)(size);
}

void *STANDING(calloc)(size_t n, size_t size)
{
	return refused(FAULTY_MEMORY, "calloc", CALLER) ? NULL : REAL(calloc)(n, size);
}

void *STANDING(realloc)(void *old, size_t size)
{
	return refused(FAULTY_MEMORY, "realloc", CALLER) ? NULL : REAL(realloc)(old, size);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
void *__libc_memalign(size_t alignment, size_t size);

int posix_memalign(void **out, size_t alignment, size_t size)
{
	if (refused(FAULTY_MEMORY, "posix_memalign", CALLER))
		return ENOMEM;
	*out = __libc_memalign(alignment, size);
	return *out ? 0 : ENOMEM;
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return refused(FAULTY_MEMORY, "aligned_alloc", CALLER) ? NULL
							       : __libc_memalign(alignment, size);
}
#endif

/* The next of that name behind this one. */
#define NEXT(name) ((__typeof__(&(name)))next(#name))

static void *next(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort();
	return found;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return refused(FAULTY_MEMORY, "mmap", CALLER)
		       ? MAP_FAILED
		       : NEXT(mmap)(at, size, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
	return refused(FAULTY_MEMORY, "mmap", CALLER)
		       ? MAP_FAILED
		       : NEXT(mmap64)(at, size, protection, flags, fd, offset);
}

/* Of memory for its stack, as a rule. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
	return refused(FAULTY_MEMORY, "pthread_create", CALLER)
		       ? EAGAIN
		       : NEXT(pthread_create)(thread, attr, start, arg);
}

/* ---- descriptors ---- */

static mode_t mode_of(int flags, va_list args)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define OPEN(name)                                                                                 \
	int name(const char *path, int flags, ...)                                                 \
	{                                                                                          \
		va_list args;                                                                      \
		mode_t mode;                                                                       \
                                                                                                   \
		va_start(args, flags);                                                             \
		mode = mode_of(flags, args);                                                       \
		va_end(args);                                                                      \
		return refused(FAULTY_DESCRIPTOR, "open", CALLER) ? -1                             \
								  : NEXT(name)(path, flags, mode); \
	}

#define OPENAT(name)                                                                               \
	int name(int dir, const char *path, int flags, ...)                                        \
	{                                                                                          \
		va_list args;                                                                      \
		mode_t mode;                                                                       \
                                                                                                   \
		va_start(args, flags);                                                             \
		mode = mode_of(flags, args);                                                       \
		va_end(args);                                                                      \
		return refused(FAULTY_DESCRIPTOR, "openat", CALLER)                                \
			       ? -1                                                                \
			       : NEXT(name)(dir, path, flags, mode);                               \
	}

/* Those that duplicate. */
#define FCNTL(name)                                                                                \
	int name(int fd, int command, ...)                                                         \
	{                                                                                          \
		va_list args;                                                                      \
		void *arg;                                                                         \
                                                                                                   \
		va_start(args, command);                                                           \
		arg = va_arg(args, void *);                                                        \
		va_end(args);                                                                      \
		if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) &&                          \
			refused(FAULTY_DESCRIPTOR, "dup", CALLER))                                 \
			return -1;                                                                 \
		return NEXT(name)(fd, command, arg);                                               \
	}

/* clang-format off */
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FCNTL(fcntl)
FCNTL(fcntl64)
/* clang-format on */

FILE *fopen(const char *path, const char *mode)
{
	return refused(FAULTY_DESCRIPTOR, "fopen", CALLER) ? NULL : NEXT(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode)
{
	return refused(FAULTY_DESCRIPTOR, "fopen", CALLER) ? NULL : NEXT(fopen64)(path, mode);
}

DIR *opendir(const char *path)
{
	return refused(FAULTY_DESCRIPTOR, "opendir", CALLER) ? NULL : NEXT(opendir)(path);
}

int open_by_handle_at(int mount, struct file_handle *handle, int flags)
{
	return refused(FAULTY_DESCRIPTOR, "open_by_handle_at", CALLER)
		       ? -1
		       : NEXT(open_by_handle_at)(mount, handle, flags);
}

int dup2(int from, int to)
{
	return refused(FAULTY_DESCRIPTOR, "dup2", CALLER) ? -1 : NEXT(dup2)(from, to);
}

int eventfd(unsigned value, int flags)
{
	return refused(FAULTY_DESCRIPTOR, "eventfd", CALLER) ? -1 : NEXT(eventfd)(value, flags);
}

int epoll_create1(int flags)
{
	return refused(FAULTY_DESCRIPTOR, "epoll_create1", CALLER) ? -1
								   : NEXT(epoll_create1)(flags);
}

int signalfd(int fd, const sigset_t *set, int flags)
{
	return refused(FAULTY_DESCRIPTOR, "signalfd", CALLER) ? -1 : NEXT(signalfd)(fd, set, flags);
}

int fanotify_init(unsigned flags, unsigned event_flags)
{
	return refused(FAULTY_DESCRIPTOR, "fanotify_init", CALLER)
		       ? -1
		       : NEXT(fanotify_init)(flags, event_flags);
}

int socket(int domain, int type, int protocol)
{
	return refused(FAULTY_DESCRIPTOR, "socket", CALLER) ? -1
							    : NEXT(socket)(domain, type, protocol);
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	return refused(FAULTY_DESCRIPTOR, "accept4", CALLER)
		       ? -1
		       : NEXT(accept4)(fd, address, length, flags);
}

int pipe2(int fds[2], int flags)
{
	return refused(FAULTY_DESCRIPTOR, "pipe2", CALLER) ? -1 : NEXT(pipe2)(fds, flags);
}

#if BATCHIO_URING
/* It takes both. */
int io_uring_queue_init_params(unsigned entries, struct io_uring *ring, struct io_uring_params *p)
{
	return refused(FAULTY_MEMORY | FAULTY_DESCRIPTOR, "io_uring_setup", CALLER)
		       ? -errno
		       : NEXT(io_uring_queue_init_params)(entries, ring, p);
}
#endif

/* By which the program makes what the C library has no function for. There may be fewer arguments:
 * what is taken for the others is passed on and not looked at. */
__attribute__((no_sanitize("address"))) long syscall(long number, ...)
{
	long args[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		args[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_openat2 && refused(FAULTY_DESCRIPTOR, "openat2", CALLER))
		return -1;
	return NEXT(syscall)(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
