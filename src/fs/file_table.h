/* SPDX-License-Identifier: MIT */
/* Opening and releasing, as file.c does it; see file.h for the rest. For src/fs/file.c only. */
#ifndef FS_FILE_TABLE_H
#define FS_FILE_TABLE_H

#include "fs/file.h"

/* handle becomes an opener of ino's file, which is made where it is the first. 0 or -errno. */
int file_add_handle(struct file_table *table, fuse_ino_t ino, struct handle *handle);

/* What the mark of ino says; for file_again.c. */
struct file_mark *file_mark_of(struct file_table *table, fuse_ino_t ino);

/* handle was one. */
void file_remove_handle(struct file_table *table, fuse_ino_t ino, struct handle *handle);

#endif
