/* SPDX-License-Identifier: MIT */
/*
 * The other verbs of the one binary. For main.c.
 *
 * Each takes the words from its own name on and returns the exit status; messages are logged.
 */
#ifndef CMD_CMD_H
#define CMD_CMD_H

#include "base/mountinfo.h"

/* Exit statuses, as mount(8) has them. */
enum {
	EXIT_OK = 0,
	EXIT_USAGE = 1,
	EXIT_SYSTEM = 2,
	EXIT_MOUNT = 32,
};

int cmd_stats(int argc, char **argv);
int cmd_umount(int argc, char **argv);
int cmd_upgrade(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_cleanup(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_bench(int argc, char **argv);

/* The batchiofs mount at path. An exit status: EXIT_OK, or another with a message logged. */
int cmd_find_mount(const char *path, struct mount_entry *out);

#endif
