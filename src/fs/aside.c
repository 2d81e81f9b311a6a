/* SPDX-License-Identifier: MIT */
/* Work beside the loops; see aside.h. For src/fs only. */
#include "fs/aside.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "fs/file.h"
#include "fs/fs.h"

/* What is not done then waits for somebody who is gone. */
#define END_SECONDS 5

struct aside {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock; /* of the following */
	pthread_cond_t work;
	struct list jobs;
	bool ending;
	bool finishing; /* a job's done() is at work */
	bool left; /* nobody waits for the thread any more: nothing is to be touched */
};

struct job {
	struct aside_job job;
	struct fs *fs;
	fuse_req_t req; /* NULL: only drop */
	uint64_t fh;
	off_t from;
	int whence;
};

static void seek(struct fs *fs, const struct job *job)
{
	struct opener opener;
	off_t found = opener_get(fs, job->job.ino, job->fh, &opener);

	if (found == 0) {
		found = file_seek(file_any_fd(fs, opener.handle), job->from, job->whence);
		opener_put(fs, &opener);
	}
	if (found < 0)
		fs_reply(job->req, (int)found);
	else
		fuse_reply_lseek(job->req, found);
}

/*
 * With the writeback cache the kernel takes its own word for a file's size. That the file has grown
 * it learns only from the last byte, put into its cache.
 */
static void show_end(struct fs *fs, fuse_ino_t ino)
{
	struct opener opener;
	struct stat attr;
	char last;
	int fd;

	if (!S_ISREG(inode_type(fs->inodes, ino)) || opener_get(fs, ino, 0, &opener) < 0)
		return;
	fd = file_any_fd(fs, opener.handle);
	if (fd >= 0 && fstat(fd, &attr) == 0 && attr.st_size > 0 &&
		pread(fd, &last, 1, attr.st_size - 1) == 1) {
		struct fuse_bufvec end = FUSE_BUFVEC_INIT(1);

		end.buf[0].mem = &last;
		fuse_lowlevel_notify_store(
			fs->session, inode_told(fs->inodes, ino), attr.st_size - 1, &end, 0);
	}
	opener_put(fs, &opener);
}

static void dropped(struct aside_job *aside_job)
{
	struct job *job = list_entry(aside_job, struct job, job);
	struct fs *fs = job->fs;

	if (job->req)
		seek(fs, job);
	else if (fs->config.writeback && fs->config.no_opens)
		show_end(fs, job->job.ino);
	free(job);
}

/* Pages that are to be written are, before they go. */
static void drop(struct fs *fs, const struct aside_job *job)
{
	fuse_lowlevel_notify_inval_inode(
		fs->session, inode_told(fs->inodes, job->ino), job->off, job->len);
}

static void *aside_main(void *arg)
{
	struct aside *aside = arg;

	pthread_mutex_lock(&aside->lock);
	while (!aside->left) {
		struct list *node = list_pop(&aside->jobs);
		struct aside_job *job;

		if (!node && aside->ending)
			break;
		if (!node) {
			pthread_cond_wait(&aside->work, &aside->lock);
			continue;
		}
		pthread_mutex_unlock(&aside->lock);
		job = list_entry(node, struct aside_job, node);
		drop(aside->fs, job);
		pthread_mutex_lock(&aside->lock);
		if (aside->left)
			break;
		aside->finishing = true;
		pthread_mutex_unlock(&aside->lock);
		job->done(job);
		pthread_mutex_lock(&aside->lock);
		aside->finishing = false;
	}
	pthread_mutex_unlock(&aside->lock);
	return NULL;
}

int aside_new(struct fs *fs, struct aside **out)
{
	struct aside *aside = calloc(1, sizeof(*aside));
	int error;

	if (!aside)
		return -ENOMEM;
	aside->fs = fs;
	pthread_mutex_init(&aside->lock, NULL);
	pthread_cond_init(&aside->work, NULL);
	list_init(&aside->jobs);
	error = -pthread_create(&aside->thread, NULL, aside_main, aside);
	if (error) {
		free(aside);
		return error;
	}
	*out = aside;
	return 0;
}

/* Has the thread ended, or does it within so many seconds? */
static bool ends_within(struct aside *aside, int seconds)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += seconds;
	return pthread_timedjoin_np(aside->thread, NULL, &end) == 0;
}

void aside_free(struct aside *aside)
{
	if (!aside)
		return;
	pthread_mutex_lock(&aside->lock);
	aside->ending = true;
	pthread_cond_signal(&aside->work);
	pthread_mutex_unlock(&aside->lock);
	while (!ends_within(aside, END_SECONDS)) {
		bool left;

		pthread_mutex_lock(&aside->lock);
		left = aside->left = !aside->finishing;
		pthread_mutex_unlock(&aside->lock);
		if (left) {
			log_warning("the kernel still waits to drop pages; leaving it");
			return;
		}
	}
	pthread_cond_destroy(&aside->work);
	pthread_mutex_destroy(&aside->lock);
	free(aside);
}

void aside_add(struct aside *aside, struct aside_job *job)
{
	pthread_mutex_lock(&aside->lock);
	list_add_tail(&job->node, &aside->jobs);
	pthread_cond_signal(&aside->work);
	pthread_mutex_unlock(&aside->lock);
}

static int add(struct aside *aside, const struct job *what)
{
	struct job *job = malloc(sizeof(*job));

	if (!job)
		return -ENOMEM;
	*job = *what;
	job->job.done = dropped;
	job->fs = aside->fs;
	aside_add(aside, &job->job);
	return 0;
}

void aside_seek(
	struct aside *aside, fuse_req_t req, fuse_ino_t ino, uint64_t fh, off_t off, int whence)
{
	struct job job = {.job.ino = ino, .req = req, .fh = fh, .from = off, .whence = whence};

	if (add(aside, &job))
		fs_reply(req, -ENOMEM);
}

void aside_drop(struct aside *aside, fuse_ino_t ino)
{
	struct job job = {.job.ino = ino};

	add(aside, &job);
}
