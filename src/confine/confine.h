/* SPDX-License-Identifier: MIT */
/*
 * The walls around the process that serves a mount: what it will never need again it can no longer
 * do, whatever a message makes of it. For serve.c.
 *
 *   namespace     a mount namespace of its own with nothing in it, so that nothing can be mounted
 *                 or unmounted; what is open goes on as it was, and mounts that others make in the
 *                 source appear
 *   root          no path and no ".." leads out of the source
 *   network       a network namespace of its own with nothing in it, where rings can be made:
 *                 seccomp does not see what they do
 *   capabilities  those of the table in capabilities.c; nor can others be had
 *   landlock      instead of namespace and root, for an ordinary user's daemon: nothing outside of
 *                 the source is opened, made, renamed or removed, nothing is connected by TCP
 *   seccomp       only the system calls in seccomp.c; no process, no program, no socket
 *
 * Rings refuse foreign operations themselves, see batchio/uring_setup.c. What has to be done
 * outside all the same is done by a process that stays there, see outside.h.
 *
 * Sanitizers read and write outside at any time: programs built with one stay out of namespace,
 * root, landlock and seccomp.
 */
#ifndef CONFINE_CONFINE_H
#define CONFINE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

enum confine_wall {
	CONFINE_NAMESPACE = 1 << 0,
	CONFINE_ROOT = 1 << 1,
	CONFINE_NETWORK = 1 << 2,
	CONFINE_CAPABILITIES = 1 << 3,
	CONFINE_LANDLOCK = 1 << 4,
	CONFINE_SECCOMP = 1 << 5,
};

struct confine_wish {
	int root_fd; /* the source */
	int proc_fd; /* of /proc/self/fd: the same afterwards, but ".." leads nowhere from it */
	bool uring; /* makes rings */
};

/*
 * Builds what walls this kernel and our rights allow, around the calling thread and those that it
 * starts: call it before there are others. Returns those that stand, of enum confine_wall. What a
 * process of root's lacks is logged.
 */
unsigned confine(const struct confine_wish *wish);

/* Their names, with a comma between, into text. Returns text. */
char *confine_names(unsigned walls, char *text, size_t size);

/* ---- for the files of this folder: 0 or -errno ---- */

/* room.c. Either all of it or nothing. */
int confine_proc(int proc_fd);
int confine_namespace(void);
int confine_root(int root_fd);
int confine_network(void);
/* capabilities.c */
bool capability_held(int capability);
int confine_capabilities(void);
/* landlock.c */
int confine_landlock(int root_fd, int proc_fd);
/* seccomp.c */
int confine_seccomp(bool uring);

#endif
