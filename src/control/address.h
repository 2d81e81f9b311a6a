/* SPDX-License-Identifier: MIT */
/* Where control sockets and claims lie. For control/ only. */
#ifndef CONTROL_ADDRESS_H
#define CONTROL_ADDRESS_H

#include <sys/types.h>
#include <sys/un.h>

/* Places where the socket of a user's mounts may lie; the daemon takes the first that it can use.
 */
#define CONTROL_PLACES 3

/* Place number `place` for the mounts of uid. 0, or -ENOENT where there is no such place, or
 * -ENAMETOOLONG. */
int control_place(int place, uid_t uid, char *dir, size_t size);

/* Makes such a directory, or takes the one that is there when it is ours alone to write in. 0 or
 * -errno: -EPERM where it is not. */
int control_make_dir(const char *dir);

/* The socket of a mount in dir. 0 or -ENAMETOOLONG. */
int control_address(struct sockaddr_un *address, const char *dir, unsigned major, unsigned minor);

#endif
