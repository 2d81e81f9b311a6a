/* SPDX-License-Identifier: MIT */
/*
 * The three standard descriptors. Anyone may include it.
 */
#ifndef BASE_TERMINAL_H
#define BASE_TERMINAL_H

#include <stdbool.h>

/* Opens what terminal_leave() needs, for when no path leads there any more. It stays open. */
void terminal_prepare(void);
/* They lead nowhere from now on. False, and they stay: there is no /dev/null. */
bool terminal_leave(void);

#endif
