/* SPDX-License-Identifier: MIT */
/* Back traces of dead workers, see crash.h. */
#include "supervise/crash.h"

#include <execinfo.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OTHERS_TELL true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define OTHERS_TELL true
#endif
#endif
#ifndef OTHERS_TELL
#define OTHERS_TELL false
#endif

static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};

/* For the handler, which is told nothing else. */
static struct crash *noted;
static bool core_wanted;

/* Only what may be done in a signal handler. */
static void handle(int signal, siginfo_t *info, void *context)
{
	int none = 0;

	(void)context;
	if (atomic_compare_exchange_strong(&noted->signal, &none, signal)) {
		noted->thread = (pid_t)syscall(SYS_gettid);
		prctl(PR_GET_NAME, noted->name);
		noted->address =
			signal == SIGSEGV || signal == SIGBUS ? (uintptr_t)info->si_addr : 0;
		noted->depth = backtrace(noted->frames, CRASH_FRAMES);
	}
	/* A process that has acted for others writes no core unless it says so, and then root's. */
	if (core_wanted) {
		syscall(SYS_setresuid, -1, 0, -1);
		prctl(PR_SET_DUMPABLE, 1);
	}
	/* On return, the usual way. */
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
}

void crash_watch(struct crash *crash)
{
	struct sigaction action = {
		.sa_sigaction = handle, .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND)};
	struct rlimit limit;
	void *frame;

	if (OTHERS_TELL)
		return;
	/* Loads what it needs now. */
	backtrace(&frame, 1);
	noted = crash;
	atomic_store(&crash->signal, 0);
	core_wanted = geteuid() == 0 && !getrlimit(RLIMIT_CORE, &limit) && limit.rlim_cur > 0;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
}

void crash_tell(struct crash *crash, pid_t worker)
{
	int signal = atomic_exchange(&crash->signal, 0);
	int depth = crash->depth < CRASH_FRAMES ? crash->depth : CRASH_FRAMES;
	char **lines;

	if (!signal || depth <= 0)
		return;
	log_error("worker %d crashed in thread %d (%.15s), signal %d (%s), address 0x%lx; back "
		  "trace:",
		worker, crash->thread, crash->name, signal, strsignal(signal),
		(unsigned long)crash->address);
	lines = backtrace_symbols(crash->frames, depth);
	for (int i = 0; lines && i < depth; i++)
		log_error("  %d: %s", i, lines[i]);
	free(lines);
}
