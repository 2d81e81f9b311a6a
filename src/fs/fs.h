/* SPDX-License-Identifier: MIT */
/*
 * The file system: what its files share, and what main.c calls.
 *
 * Every libfuse callback runs on a loop thread, which has its own umask (unshare(CLONE_FS)) and may
 * be one of several: what they share is locked or atomic. Convention of all functions here: they
 * return 0 or a count, or -errno; only the libfuse reply functions take a positive errno.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "fs/handle.h"
#include "fs/inode.h"
#include "loop/loop.h"

/* What the options say, in the file system's terms. Filled by main.c before the mount. */
struct fs_config {
	double attr_timeout; /* seconds */
	double entry_timeout; /* seconds */
	double attr_watched; /* the same for what is watched, see watch.h */
	double entry_watched;
	bool watch; /* where it can be had */
	bool fsync_data; /* fsync=data: a full fsync becomes fdatasync */
	bool posix_locks; /* record locks are forwarded to the source */
	bool flock; /* so are flock(2)'s */
	bool keep_atime; /* ro, noatime: reading leaves no trace in the source */
	bool direct_io_all; /* cache=none: no page cache for any file */
	bool no_statx; /* allow_root: libfuse keeps others out, and never sees STATX */
	bool privileged; /* we act for other users: effective uid 0 */
	bool exclusive; /* only this mount touches the source: what the kernel caches is true */
	bool writeback; /* the kernel gathers writes in its page cache */
	bool no_opens; /* opens and closes send no message */
	bool read_only;
	bool passthrough; /* the kernel reads and writes the source itself, if it can */
	bool supervised; /* another process goes on should this one die */
	bool apart; /* this process is in a mount namespace of its own, without the source's mounts
		     */
	int inherited_fd; /* > 0: the source, as another program that served the mount opened it */
	/* Of a thread of a program's; how many there are, or -errno. NULL: libfuse knows. */
	int (*groups_of)(pid_t tid, gid_t *groups, int most);
	unsigned max_background;
	size_t max_write;
};

struct aside;
struct journal;
struct locks;
struct relist;
struct watch;

struct fs {
	struct fs_config config;
	struct fuse_session *session;
	struct inode_table *inodes;
	struct handle_table *handles;
	struct file_table *files;
	struct locks *locks;
	struct aside *aside;
	struct relist *relist; /* opens without a message; NULL: none */
	struct watch *watch; /* shared mounts; NULL: none */
	struct journal *journal; /* for who succeeds this process; NULL: nobody will */
	struct loop_group loops;
	int root_fd; /* O_RDONLY | O_DIRECTORY of the source, opened before the mount */
	/* O_PATH of /proc/self/fd, to reopen descriptors by number; the loops' working directory.
	 */
	int proc_fd;
	const struct fuse_in_header *init_again; /* INIT, while it is not the kernel who sends it */
	_Atomic uint64_t
		own_dev; /* st_dev of our own mount, 0 before it is known: never to be entered */
	_Atomic bool direct_io_mmap; /* the kernel allows shared mmap with FOPEN_DIRECT_IO */
	_Atomic bool passthrough; /* the kernel has agreed to config.passthrough, */
	_Atomic bool backing_refused; /* and yet refused a file */
	_Atomic bool answering; /* FUSE_INIT was answered */
	_Atomic bool resends; /* the kernel can hand out again what was not answered */
	/* Exclusive mounts; outside.c's. */
	_Atomic uint64_t names_changed; /* names made, moved and taken away, */
	_Atomic int64_t names_changed_at; /* and when last */
	_Atomic unsigned changing; /* changes under way */
	_Atomic uint64_t outside; /* changes by others */
	_Atomic uint64_t new_file_habit; /* of files just made, packed; habit.c's */
	bool initialised; /* fs_init() done */
};

/* The file system of a request. */
static inline struct fs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/*
 * Answers with errno -result where result is negative, with success otherwise. For the calls that
 * return nothing but success.
 */
static inline void fs_reply(fuse_req_t req, int result)
{
	fuse_reply_err(req, result < 0 ? -result : 0);
}

/*
 * Memory for building an answer: the payload area of the request's own message buffer,
 * page-aligned, config.max_write bytes. Names and other arguments that came in the message lie
 * elsewhere only up to the first 80 bytes of it: a callback that still needs its name must be done
 * with it first. NULL never.
 */
void *fs_answer_buffer(fuse_req_t req);

/* A name from the kernel is one component: not empty, no slash, not "." or "..", at most NAME_MAX
 * bytes. 0 or -errno. */
int fs_check_name(const char *name);

/*
 * Looks name up in parent, as LOOKUP does: the child becomes known once more, entry is filled,
 * timeouts included. In namespace.c. 0 or -errno.
 */
int fs_lookup_child(
	struct fs *fs, fuse_ino_t parent, const char *name, struct fuse_entry_param *entry);

/* ---- main.c's: ops.c ---- */

/*
 * Opens the source directory and makes the tables. Before the mount: nothing of the source is
 * reached by path after. The working directory becomes /proc. 0, or -errno with a message logged.
 */
int fs_init(struct fs *fs, const char *source, const struct fs_config *config);
/* Watches the source, where that is wanted and can be had. Once it is ours to mount, before that.
 */
void fs_watch(struct fs *fs);
/*
 * This process is to serve requests: of several forked one after another, one at a time, from the
 * one that called fs_init(); its working directory is still /proc. 0 or -errno, logged.
 */
int fs_open_proc(struct fs *fs);

/*
 * take_over.c: the process that served requests has died, and this one goes on; the loops do not
 * run yet. keep: those descriptors of the process's parent that are nobody's of the tables;
 * what else is open is what the dead one left, and is closed. 0, or -errno with a message logged:
 * then nothing can be saved.
 */
int fs_take_over(struct fs *fs, const int *keep, size_t count);
/* The loops have ended: answers what still waits beside them. The session is still there. */
void fs_end(struct fs *fs);
/* Frees what fs_init() made. The loops have ended. */
void fs_destroy(struct fs *fs);
/* libfuse's callbacks, for fuse_session_new(); its userdata is the struct fs. */
const struct fuse_lowlevel_ops *fs_operations(void);
/* Lets libfuse answer through the loops. Once the session is mounted. 0 or -errno. */
int fs_attach(struct fs *fs, struct fuse_session *session);
/* The loops' hooks. */
void fs_dispatch(struct loop *loop, struct request *req, void *fs);
void fs_turn_end(struct loop *loop, void *fs); /* data.c */

/* ---- callbacks, one family a file; see fuse_lowlevel.h for the arguments ---- */

/* namespace.c */
void fs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void fs_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void fs_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void fs_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned flags);
void fs_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);
void fs_readlink(fuse_req_t req, fuse_ino_t ino);

/* attr.c */
void fs_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_setattr(
	fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void fs_statfs(fuse_req_t req, fuse_ino_t ino);

/* ---- messages that libfuse does not see ---- */

/* statx.c */
void fs_statx(struct fs *fs, struct request *req);

/* let_go.c: false where it is none of those. */
bool fs_let_go(struct fs *fs, struct request *req);
void fs_forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup); /* lookup.c */
int fs_release(struct fs *fs, fuse_ino_t ino, uint64_t fh); /* file.c */
int fs_releasedir(struct fs *fs, fuse_ino_t ino, uint64_t fh); /* dir.c */

/* xattr.c */
void fs_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
	int flags);
void fs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fs_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* dir.c */
void fs_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_readdir(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void fs_readdirplus(
	fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);

/* file.c */
void fs_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	struct fuse_file_info *fi);
void fs_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
	struct fuse_file_info *fi);
void fs_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void fs_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
	struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags);
void fs_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
	unsigned flags, const void *in_buf, size_t in_bufsz, size_t out_bufsz);

/* lock.c: only with posix_locks, flock */
void fs_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock);
void fs_setlk(
	fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep);
void fs_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op);

/* data.c */
void fs_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void fs_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	struct fuse_file_info *fi);
void fs_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fs_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

#endif
