/* SPDX-License-Identifier: MIT */
/* The inode table's numbers as the kernel knows them, see inode.h and lasting.h. */
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "fs/inode_table.h"

fuse_ino_t lasting_of(struct inode_table *table, int fd, const struct stat *attr)
{
	struct file_id id;
	fuse_ino_t number;
	int mount;

	if (!table->lasting || attr->st_dev != table->root_dev || file_id_of(fd, &id, &mount) < 0 ||
		mount != table->root_mount)
		return 0;
	number = lasting_number(table->lasting, &id);
	return (uint32_t)number == attr->st_ino ? number : 0;
}

fuse_ino_t inode_told(struct inode_table *table, fuse_ino_t ino)
{
	struct slot *slot;
	fuse_ino_t told = ino;

	if (!table->lasting)
		return ino;
	pthread_mutex_lock(&table->lock);
	slot = slot_of(table, ino);
	if (slot && slot->flags & SLOT_LASTING)
		told = (fuse_ino_t)slot->generation << 32 | slot->ino;
	pthread_mutex_unlock(&table->lock);
	return told;
}

fuse_ino_t inode_of_told(struct inode_table *table, fuse_ino_t told)
{
	struct slot *slot;
	fuse_ino_t ino = told;

	if (!table->lasting)
		return told;
	pthread_mutex_lock(&table->lock);
	if (lasting_is(told)) {
		slot = index_find_lasting(
			&table->slots, table->root_dev, (uint32_t)told, told >> 32);
		if (slot)
			ino = node_id(table, slot);
	} else {
		/* Of an earlier mount: that number names another object now. */
		slot = slot_of(table, told);
		if (slot && slot->flags & SLOT_LASTING)
			ino = 0;
	}
	pthread_mutex_unlock(&table->lock);
	return ino;
}

bool inode_lasting(const struct inode_table *table)
{
	return table->lasting;
}

int inode_recall(struct inode_table *table, fuse_ino_t told, struct stat *attr)
{
	_cleanup_fd int fd = -ESTALE;
	struct file_id id;

	if (!table->lasting || !lasting_is(told))
		return -ESTALE;
	id = lasting_id(table->lasting, told);
	fd = file_id_open(table->root_fd, &id);
	while (inode_relieve(table, fd))
		fd = file_id_open(table->root_fd, &id);
	if (fd < 0)
		return fd;
	if (fstat(fd, attr) < 0)
		return -errno;
	return lasting_of(table, fd, attr) == told ? steal_fd(&fd) : -ESTALE;
}
