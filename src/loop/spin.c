/* SPDX-License-Identifier: MIT */
/* Looking again before going to sleep; see spin.h. */
#include "loop/spin.h"

#include <sys/resource.h>

#include "base/clock.h"
#include "loop/loop.h"

#define SPIN_NS 25000
/* Between two looks, each a system call. */
#define PAUSES     24
#define CREDIT_MAX 8
/* Sleeps without a try, after it did not pay, and after the processor was wanted by others. */
#define REST       32
#define REST_LONG  512
#define LOOK_EVERY 16

static void pause_a_little(void)
{
	for (int i = 0; i < PAUSES; i++) {
#if defined(__x86_64__) || defined(__i386__)
		__builtin_ia32_pause();
#else
		__asm__ volatile("" ::: "memory");
#endif
	}
}

/* Has somebody else taken the processor from us since we last looked? */
static bool unwelcome(struct spin *spin)
{
	struct rusage usage;
	bool taken;

	if (++spin->since_look < LOOK_EVERY)
		return false;
	spin->since_look = 0;
	getrusage(RUSAGE_THREAD, &usage);
	taken = usage.ru_nivcsw > spin->preempted;
	spin->preempted = usage.ru_nivcsw;
	return taken;
}

static bool may_spin(struct loop *loop)
{
	struct spin *spin = &loop->spin;

	if (spin->resting) {
		spin->resting--;
		return false;
	}
	if (unwelcome(spin)) {
		spin->resting = REST_LONG;
		return false;
	}
	/* One for a mount. */
	return !atomic_exchange_explicit(&loop->group->spinning, true, memory_order_acquire);
}

static void settle(struct spin *spin, bool found)
{
	if (found && spin->credit < CREDIT_MAX)
		spin->credit++;
	if (!found && --spin->credit < 0) {
		spin->credit = 0;
		spin->resting = REST;
	}
}

/* Looks until something is found or it has been long enough. Counts the looks. What look() said. */
static int spin_until(struct loop *loop, int (*look)(struct loop *), unsigned *looks)
{
	int64_t end = clock_ns() + SPIN_NS;
	int got;

	do {
		pause_a_little();
		got = look(loop);
		(*looks)++;
	} while (got == 0 && clock_ns() < end);
	atomic_store_explicit(&loop->group->spinning, false, memory_order_release);
	settle(&loop->spin, got > 0);
	return got;
}

bool spin_for_request(struct loop *loop)
{
	unsigned looks = 0;
	int got;

	if (!may_spin(loop))
		return false;
	got = spin_until(loop, loop_receive_one, &looks);
	/* One that was there already may have company; who waits for its answer first has none. */
	loop->transport.ready = got != 0 && looks == 1;
	return got > 0;
}

static int has_news(struct loop *loop)
{
	return batchio_has_news(loop->bio);
}

bool spin_for_news(struct loop *loop)
{
	unsigned looks = 0;

	return may_spin(loop) && spin_until(loop, has_news, &looks) > 0;
}
