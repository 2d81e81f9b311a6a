/* SPDX-License-Identifier: MIT */
/* The devices of the source, see devices.h. For inode.c only. */
#include "fs/devices.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "base/mountinfo.h"
#include "base/reserve.h"

enum { DEVICES = 1 << 16 };

#define LIST_SIZE (sizeof(struct device_list) + DEVICES * sizeof(uint64_t))

/* Address space only: most mounts have one device. */
int devices_init(struct devices *devices)
{
	devices->others = reserve_shared("devices", LIST_SIZE);
	pthread_mutex_init(&devices->lock, NULL);
	return devices->others ? 0 : -ENOMEM;
}

void devices_free(struct devices *devices)
{
	if (devices->others)
		munmap(devices->others, LIST_SIZE);
	pthread_mutex_destroy(&devices->lock);
}

/* 1 and up; the last one is shared by whatever does not fit. */
static uint32_t device_place(struct devices *devices, uint64_t dev)
{
	struct device_list *list = devices->others;
	uint32_t n = atomic_load_explicit(&list->n, memory_order_acquire);
	uint32_t i = 0;

	while (i < n && atomic_load_explicit(&list->seen[i], memory_order_relaxed) != dev)
		i++;
	if (i < n)
		return i + 1;
	pthread_mutex_lock(&devices->lock);
	n = atomic_load_explicit(&list->n, memory_order_relaxed);
	while (i < n && atomic_load_explicit(&list->seen[i], memory_order_relaxed) != dev)
		i++;
	if (i == n && n < DEVICES - 2) {
		atomic_store_explicit(&list->seen[n], dev, memory_order_relaxed);
		atomic_store_explicit(&list->n, n + 1, memory_order_release);
	}
	pthread_mutex_unlock(&devices->lock);
	return i + 1;
}

void devices_number(struct devices *devices, struct stat *attr)
{
	if (attr->st_dev != devices->root)
		attr->st_ino ^= (uint64_t)device_place(devices, attr->st_dev) << 48;
}

bool device_is_fickle(uint64_t dev)
{
	static const char *const types[] = {"virtiofs", "9p", "cifs", "smb3"};
	struct mount_entry mount;

	/* Not there: a subvolume of btrfs. */
	if (mountinfo_of_device(major(dev), minor(dev), &mount) < 0)
		return false;
	/* fuse, fuseblk, fuse.sshfs ... */
	if (strncmp(mount.type, "fuse", strlen("fuse")) == 0)
		return true;
	for (unsigned i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (strcmp(mount.type, types[i]) == 0)
			return true;
	return false;
}
