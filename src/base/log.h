/* SPDX-License-Identifier: MIT */
/*
 * Messages for people. Anyone may include it.
 *
 * To standard error with the program's name while starting or in the foreground, to syslog once
 * log_to_syslog() was called. One line a call, no newline in the format. Thread-safe.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

/* syslog's levels that we use, so that callers need no syslog.h. */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
};

void log_to_syslog(void);
bool log_is_to_syslog(void);
/* Instead of syslog's socket, which may be out of reach: another way to it. Before there are
 * threads. */
void log_by(void (*sink)(int level, const char *line));
void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...)   log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_message(LOG_LEVEL_INFO, __VA_ARGS__)

#endif
