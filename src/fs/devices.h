/* SPDX-License-Identifier: MIT */
/* The devices of the source, as st_dev says them. For inode.c only. Thread-safe. */
#ifndef FS_DEVICES_H
#define FS_DEVICES_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* In shared memory: a successor of a process that died goes on with it. */
struct device_list {
	_Atomic uint32_t n;
	_Atomic uint64_t seen[];
};

struct devices {
	uint64_t root; /* its numbers stay as they are */
	struct device_list *others; /* the place + 1 goes into inode numbers */
	pthread_mutex_t lock; /* to add one */
};

/* 0 or -ENOMEM; devices_free() is due in both cases. devices is zeroed before. */
int devices_init(struct devices *devices);
void devices_free(struct devices *devices);

/* Replaces attr->st_ino by a number that is distinct also across devices. */
void devices_number(struct devices *devices, struct stat *attr);

/*
 * Whether an object of the device may come back under another inode number or handle once nobody
 * holds it: both are of the client's or daemon's own making there. Reads mountinfo, asks no file
 * system.
 */
bool device_is_fickle(uint64_t dev);

#endif
