/* SPDX-License-Identifier: MIT */
/* See fuse_probe.h. For doctor.c. */
#include "cmd/fuse_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The kernel sends it with the mount. */
#define INIT_MS 2000

struct answer {
	int error; /* 0 or -errno */
	struct fuse_probe probe;
};

static int write_file(const char *path, const char *text)
{
	_cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Root of a user namespace, for the user that we are. */
static int become_root(void)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER))
		return -errno;
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if (write_file("/proc/self/uid_map", map))
		return -EPERM;
	snprintf(map, sizeof(map), "0 %u 1", gid);
	return write_file("/proc/self/gid_map", map);
}

static int mount_somewhere(int device)
{
	char options[128];

	if (geteuid() != 0) {
		int error = become_root();

		if (error)
			return error;
	}
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", device);
	/* Over something that is a directory everywhere, and gone with this process. */
	return mount("batchiofs-doctor", "/proc", "fuse", MS_NOSUID | MS_NODEV, options) ? -errno
											 : 0;
}

static int read_init(int device, struct fuse_probe *out)
{
	static _Alignas(8) char message[FUSE_MIN_READ_BUFFER];
	const struct fuse_in_header *header = (const void *)message;
	const struct fuse_init_in *init = (const void *)(header + 1);
	struct pollfd fds = {.fd = device, .events = POLLIN};
	ssize_t n;

	if (poll(&fds, 1, INIT_MS) != 1)
		return -ETIMEDOUT;
	n = read(device, message, sizeof(message));
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(*header) + offsetof(struct fuse_init_in, flags) + 4 ||
		header->opcode != FUSE_INIT)
		return -EPROTO;
	out->major = init->major;
	out->minor = init->minor;
	out->flags = init->flags;
	/* The upper half came with 7.36. */
	if ((size_t)n >= sizeof(*header) + offsetof(struct fuse_init_in, flags) + 8)
		out->flags |= (uint64_t)((const uint32_t *)&init->flags)[1] << 32;
	return 0;
}

static void probe_in_child(int pipe)
{
	struct answer answer = {.error = -EIO};
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	answer.error = device < 0 ? -errno : mount_somewhere(device);
	if (!answer.error)
		answer.error = read_init(device, &answer.probe);
	_exit(write(pipe, &answer, sizeof(answer)) == sizeof(answer) ? 0 : 1);
}

int fuse_probe(struct fuse_probe *out)
{
	struct answer answer;
	int fds[2], status;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		probe_in_child(fds[1]);
	close(fds[1]);
	n = pid < 0 ? -1 : read(fds[0], &answer, sizeof(answer));
	close(fds[0]);
	if (pid < 0)
		return -EAGAIN;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(answer))
		return -EIO;
	*out = answer.probe;
	return answer.error;
}
