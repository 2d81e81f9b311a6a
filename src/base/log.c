/* SPDX-License-Identifier: MIT */
/* Messages for people; see log.h. */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>

static atomic_bool to_syslog;
static void (*by)(int level, const char *line);

/* For syslog(3). */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void log_to_syslog(void)
{
	atomic_store(&to_syslog, true);
}

bool log_is_to_syslog(void)
{
	return atomic_load(&to_syslog);
}

void log_by(void (*sink)(int level, const char *line))
{
	by = sink;
}

/* Its socket is open no longer than that: processes that share their descriptors cannot share what
 * each remembers of one. */
static void send_to_syslog(enum log_level level, const char *line)
{
	pthread_mutex_lock(&lock);
	openlog("batchiofs", LOG_PID, LOG_DAEMON);
	syslog((int)level, "%s", line);
	closelog();
	pthread_mutex_unlock(&lock);
}

void log_message(enum log_level level, const char *format, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (atomic_load(&to_syslog) && by)
		by((int)level, line);
	else if (atomic_load(&to_syslog))
		send_to_syslog(level, line);
	else
		fprintf(stderr, "batchiofs: %s\n", line);
}
