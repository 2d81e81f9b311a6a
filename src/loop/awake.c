/* SPDX-License-Identifier: MIT */
/* Keeping processors awake; see awake.h. */
#include "loop/awake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/turn.h"

/* So many requests in this time are worth it: two a millisecond. */
#define LOOK_MS 4

#define IDLE_DRIVER "/sys/devices/system/cpu/cpuidle/current_driver"

/*
 * In microseconds. What a virtual processor does instead of halting has no better name than 0; real
 * ones may take their lightest sleep.
 */
#define LATENCY_VIRTUAL 0
#define LATENCY_REAL    3
/* The kernel's own, for nothing asked for. */
#define LATENCY_ANY 2000000000

/* The driver of idle processors, or "" where it is not known. */
static void idle_driver(char *name, size_t size)
{
	FILE *file = fopen(IDLE_DRIVER, "re");

	name[0] = '\0';
	if (!file)
		return;
	if (fgets(name, (int)size, file))
		name[strcspn(name, "\n")] = '\0';
	fclose(file);
}

struct awake_means awake_open(void)
{
	struct awake_means means = {.fd = -1, .latency = LATENCY_REAL};
	char driver[32];

	/* Without a driver processors halt, whatever is asked for. */
	idle_driver(driver, sizeof(driver));
	if (!strcmp(driver, "haltpoll"))
		means.latency = LATENCY_VIRTUAL;
	if (driver[0] && strcmp(driver, "none"))
		means.fd = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
	return means;
}

static void ask(const struct loop_group *group, int32_t latency)
{
	if (write(group->config.awake.fd, &latency, sizeof(latency)) < 0)
		log_error("/dev/cpu_dma_latency: %s", strerror(errno));
}

void awake_look(struct loop *loop, struct awake_looks *looks)
{
	struct awake *awake = &loop->group->awake;
	uint64_t one = 1;
	int64_t now;

	looks->requests = 0;
	if (!atomic_load_explicit(&awake->started, memory_order_relaxed))
		return;
	if (atomic_load_explicit(&awake->held, memory_order_relaxed)) {
		atomic_fetch_add_explicit(&awake->seen, 1, memory_order_relaxed);
		return;
	}
	now = clock_ns();
	if (now - looks->at < LOOK_MS * 1000000LL && !atomic_exchange(&awake->held, true) &&
		write(awake->call_fd, &one, sizeof(one)) < 0)
		log_error(
			"cannot wake the thread that keeps processors awake: %s", strerror(errno));
	looks->at = now;
}

/* As long as requests come. False when the group ends. */
static bool hold(struct loop_group *group)
{
	struct awake *awake = &group->awake;
	bool running;

	do {
		atomic_store(&awake->seen, 0);
		running = group_wait(group, -1, LOOK_MS);
	} while (running && atomic_load(&awake->seen));
	return running;
}

static void *awake_main(void *arg)
{
	struct loop_group *group = arg;
	struct awake *awake = &group->awake;
	bool running = true;
	uint64_t count;

	while (running && group_wait(group, awake->call_fd, -1)) {
		int64_t began = clock_ns();

		if (read(awake->call_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
			log_error("the thread that keeps processors awake: %s", strerror(errno));
		ask(group, group->config.awake.latency);
		atomic_fetch_add(&awake->holds, 1);
		running = hold(group);
		ask(group, LATENCY_ANY);
		atomic_fetch_add(&awake->held_ns, (uint64_t)(clock_ns() - began));
		atomic_store(&awake->held, false);
	}
	return NULL;
}

void awake_start(struct loop_group *group)
{
	struct awake *awake = &group->awake;
	int error;

	if (group->config.awake.fd < 0)
		return;
	awake->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = awake->call_fd < 0 ? errno
				   : pthread_create(&awake->thread, NULL, awake_main, group);
	if (error)
		log_warning("processors sleep between requests: %s", strerror(error));
	atomic_store(&awake->started, !error);
}

void awake_join(struct loop_group *group)
{
	struct awake *awake = &group->awake;

	if (atomic_exchange(&awake->started, false))
		pthread_join(awake->thread, NULL);
	if (awake->call_fd >= 0)
		close(awake->call_fd);
	awake->call_fd = -1;
}
