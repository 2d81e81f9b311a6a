/* SPDX-License-Identifier: MIT */
/*
 * Tells whoever has started us that we are ready, as systemd's Type=notify wants it (sd_notify(3):
 * one datagram). For main.c.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

/* Nothing happens where nobody asked for it. */
void notify_ready(void);

#endif
