/* SPDX-License-Identifier: MIT */
/* Messages for people; see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <syslog.h>

static atomic_bool to_syslog;

void log_to_syslog(void)
{
	openlog("batchiofs", LOG_PID, LOG_DAEMON);
	atomic_store(&to_syslog, true);
}

void log_message(enum log_level level, const char *format, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (atomic_load(&to_syslog))
		syslog((int)level, "%s", line);
	else
		fprintf(stderr, "batchiofs: %s\n", line);
}
