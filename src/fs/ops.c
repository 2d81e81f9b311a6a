/* SPDX-License-Identifier: MIT */
/*
 * Between the loops and libfuse: the table of callbacks, the way in (messages to libfuse) and the
 * way out (its answers to the transport), and what libfuse 3.14 does not know of INIT. Called by
 * main.c and the loops.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/aside.h"
#include "fs/cred.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/journal.h"
#include "fs/lock.h"
#include "fs/relist.h"
#include "fs/watch.h"

/* Objects that stay known after the kernel forgot them, at about 120 bytes each. */
#define FORGOTTEN_MAX (1u << 20)

int fs_check_name(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EINVAL;
	return length > NAME_MAX ? -ENAMETOOLONG : 0;
}

void *fs_answer_buffer(fuse_req_t req)
{
	(void)req;
	return loop_current()->payload;
}

static void want(struct fuse_conn_info *conn, unsigned capability, bool wanted)
{
	conn->want &= ~capability;
	if (wanted)
		conn->want |= conn->capable & capability;
}

/* What the kernel may keep, and need not ask. */
static void want_caches(struct fs *fs, struct fuse_conn_info *conn)
{
	const struct fs_config *config = &fs->config;

	/* Without an OPEN truncation comes as a SETATTR. */
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, !config->no_opens);
	/* Of a file that nobody else changes no change of size or time says that its data went
	 * stale. */
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, !config->exclusive);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA, config->exclusive);
	want(conn, FUSE_CAP_WRITEBACK_CACHE, config->writeback);
	want(conn, FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT, config->no_opens);
}

static void fs_init_callback(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	conn->max_write = (unsigned)fs->config.max_write;
	conn->max_background = fs->config.max_background;
	conn->congestion_threshold = fs->config.max_background / 4 * 3;
	conn->time_gran = 1;
	/* libfuse would splice through pipes of its own; our transport reads and writes. */
	conn->want &=
		~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
			    FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_LOCKS);
	conn->want |= conn->capable & (FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO |
					      FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
					      FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_IOCTL_DIR |
					      FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPORT_SUPPORT);
	want_caches(fs, conn);
	if (fs->config.posix_locks)
		conn->want |= conn->capable & FUSE_CAP_POSIX_LOCKS;
	if (fs->config.flock)
		conn->want |= conn->capable & FUSE_CAP_FLOCK_LOCKS;
	/* The source's file system applies umask or default ACL itself, as the caller (cred.h). */
	conn->want |= conn->capable & FUSE_CAP_DONT_MASK;
	if (fs->config.privileged)
		conn->want |= conn->capable & FUSE_CAP_POSIX_ACL;
}

static const struct fuse_lowlevel_ops operations = {
	.init = fs_init_callback,
	.lookup = fs_lookup,
	.getattr = fs_getattr,
	.setattr = fs_setattr,
	.readlink = fs_readlink,
	.mknod = fs_mknod,
	.mkdir = fs_mkdir,
	.unlink = fs_unlink,
	.rmdir = fs_rmdir,
	.symlink = fs_symlink,
	.rename = fs_rename,
	.link = fs_link,
	.open = fs_open,
	.create = fs_create,
	.read = fs_read,
	.write = fs_write,
	.flush = fs_flush,
	.fsync = fs_fsync,
	.opendir = fs_opendir,
	.readdir = fs_readdir,
	.readdirplus = fs_readdirplus,
	.fsyncdir = fs_fsyncdir,
	.statfs = fs_statfs,
	.setxattr = fs_setxattr,
	.getxattr = fs_getxattr,
	.listxattr = fs_listxattr,
	.removexattr = fs_removexattr,
	.getlk = fs_getlk,
	.setlk = fs_setlk,
	.flock = fs_flock,
	.fallocate = fs_fallocate,
	.lseek = fs_lseek,
	.copy_file_range = fs_copy_file_range,
	.ioctl = fs_ioctl,
};

const struct fuse_lowlevel_ops *fs_operations(void)
{
	return &operations;
}

/* Does the kernel offer what this flag of flags2 stands for? */
static bool offers(const struct fuse_init_in *in, uint32_t length, uint32_t flag)
{
	return length >= sizeof(struct fuse_in_header) + sizeof(*in) &&
	       (in->flags & FUSE_INIT_EXT) && (in->flags2 & flag);
}

/*
 * Adds to the answer of INIT what libfuse 3.14 cannot say. What the kernel offered is in the
 * message. True: requests are to come by FUSE over io_uring.
 */
static bool extend_init(
	struct fs *fs, const struct fuse_in_header *header, const struct iovec *iov, int count)
{
	const struct fuse_init_in *in = (const struct fuse_init_in *)(header + 1);
	struct fuse_init_out *out;
	bool ring =
		loop_group_has_ring(&fs->loops) && offers(in, header->len, ABI_INIT2_OVER_IO_URING);

	if (count < 2 || iov[1].iov_len < sizeof(*out))
		return false;
	out = iov[1].iov_base;
	/* An upper bound; what is read ahead is the mount's read_ahead_kb. */
	if (out->max_readahead < fs->config.max_write)
		out->max_readahead = (uint32_t)fs->config.max_write;
	if (offers(in, header->len, ABI_INIT2_DIRECT_IO_ALLOW_MMAP)) {
		out->flags |= FUSE_INIT_EXT;
		out->flags2 |= ABI_INIT2_DIRECT_IO_ALLOW_MMAP;
		atomic_store(&fs->direct_io_mmap, true);
	}
	atomic_store(&fs->resends, offers(in, header->len, ABI_INIT2_HAS_RESEND));
	if (fs->config.passthrough && offers(in, header->len, ABI_INIT2_PASSTHROUGH)) {
		out->flags |= FUSE_INIT_EXT;
		out->flags2 |= ABI_INIT2_PASSTHROUGH;
		/* In younger headers max_stack_depth: the source is no such file system itself. */
		out->unused[0] = 1;
		atomic_store(&fs->passthrough, true);
	}
	if (ring) {
		out->flags |= FUSE_INIT_EXT;
		out->flags2 |= ABI_INIT2_OVER_IO_URING;
	}
	/* libfuse 3.14 forgets to say that lookups in one directory may come together. */
	/* We take set-id bits and capabilities away ourselves (priv.c): else every write asks for
	 * an xattr first. */
	if (header->len >= sizeof(*header) + 16)
		out->flags |= in->flags & (FUSE_HANDLE_KILLPRIV_V2 | FUSE_PARALLEL_DIROPS);
	watch_start(fs->watch, fuse_session_fd(fs->session), fs->proc_fd, in->minor);
	atomic_store(&fs->answering, true);
	return ring;
}

/* At once, for the ring is opened when the kernel has read it. */
static ssize_t answer_init(
	struct fs *fs, const struct request *req, int fd, struct iovec *iov, int count)
{
	bool ring = extend_init(fs, request_message(req), iov, count);
	ssize_t n = writev(fd, iov, count);

	loop_group_open_ring(&fs->loops, ring && n >= 0);
	return n;
}

/*
 * libfuse's answers. Those to the request at hand leave with the loop's next turn; the rare others
 * (to an INTERRUPT whose request is gone) at once.
 */
static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	const struct fuse_out_header *out = iov[0].iov_base;
	struct request *req = loop_current();
	struct fs *fs = userdata;

	if (fs->init_again) {
		extend_init(fs, fs->init_again, iov, count);
		return out->len;
	}
	if (!req || out->unique != req->unique || req->answered)
		return loop_answer_late(&fs->loops, iov, count) ? (ssize_t)out->len
								: writev(fd, iov, count);
	if (req->opcode == FUSE_INIT && !out->error)
		return answer_init(fs, req, fd, iov, count);
	loop_answer(iov, count);
	return out->len;
}

/* Messages are read by the transport and given to libfuse whole. */
static ssize_t session_read(int fd, void *buf, size_t size, void *userdata)
{
	(void)fd;
	(void)buf;
	(void)size;
	(void)userdata;
	errno = ENOSYS;
	return -1;
}

int fs_attach(struct fs *fs, struct fuse_session *session)
{
	static const struct fuse_custom_io io = {
		.writev = session_writev,
		.read = session_read,
	};

	int error;

	fs->session = session;
	error = fuse_session_custom_io(session, &io, fuse_session_fd(session));
	return error ? error : aside_new(fs, &fs->aside);
}

static void take_number(struct fs *fs, uint64_t *ino)
{
	*ino = inode_of_told(fs->inodes, *ino);
}

/* The node ids of a message become the table's own. It was checked to be whole. */
static void take_numbers(struct fs *fs, struct request *req)
{
	struct fuse_in_header *header = request_message(req);
	void *body = header + 1;
	struct fuse_batch_forget_in *batch = body;
	struct fuse_forget_one *one = (struct fuse_forget_one *)(batch + 1);

	switch (req->opcode) {
	case FUSE_LINK:
		take_number(fs, &((struct fuse_link_in *)body)->oldnodeid);
		break;
	case FUSE_RENAME:
		take_number(fs, &((struct fuse_rename_in *)body)->newdir);
		break;
	case FUSE_RENAME2:
		take_number(fs, &((struct fuse_rename2_in *)body)->newdir);
		break;
	case FUSE_COPY_FILE_RANGE:
		take_number(fs, &((struct fuse_copy_file_range_in *)body)->nodeid_out);
		break;
	case FUSE_BATCH_FORGET:
		for (uint32_t i = 0; i < batch->count; i++)
			take_number(fs, &one[i].nodeid);
		break;
	default:
		break;
	}
	if (header->nodeid)
		take_number(fs, &header->nodeid);
}

void fs_dispatch(struct loop *loop, struct request *req, void *user)
{
	struct fs *fs = user;
	struct fuse_buf buf = {.size = req->length, .mem = request_message(req)};
	struct fuse_in_header *header = request_message(req);

	(void)loop;
	watch_log(fs->watch);
	if (req->opcode == FUSE_INIT)
		journal_keep_init(fs->journal, header, req->length);
	if (inode_lasting(fs->inodes))
		take_numbers(fs, req);
	if (req->opcode == ABI_OP_STATX) {
		fs_statx(fs, req);
		return;
	}
	if (fs_let_go(fs, req))
		return;
	/* We retrieve nothing, and libfuse never frees what answers nothing. */
	if (req->opcode == FUSE_NOTIFY_REPLY)
		return;
	/* The same message and the same answer as CREATE; fs_create() looks at req->opcode. */
	if (req->opcode == ABI_OP_TMPFILE)
		header->opcode = FUSE_CREATE;
	fuse_session_process_buf(fs->session, &buf);
}

/* Half of the descriptors for open files, half for known inodes. */
static unsigned inode_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 256;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur > 1u << 20 ? 1u << 19 : (unsigned)limit.rlim_cur / 2;
}

static int open_source(struct fs *fs, const char *source)
{
	fs->root_fd = fs->config.inherited_fd > 0
			      ? fs->config.inherited_fd
			      : open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs->root_fd < 0) {
		int error = -errno;

		log_error("cannot open source %s: %s", source, strerror(-error));
		return error;
	}
	if (chdir("/proc")) {
		int error = -errno;

		log_error("cannot change to /proc: %s; it must be mounted", strerror(-error));
		return error;
	}
	return fs_open_proc(fs);
}

int fs_open_proc(struct fs *fs)
{
	int fd = open("self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int error = fd < 0 ? -errno : 0;

	/* In the place of the one before, whose number each successor knows from the start:
	 * elsewhere that would be somebody else's by then. */
	if (fd >= 0 && fs->proc_fd >= 0) {
		error = dup3(fd, fs->proc_fd, O_CLOEXEC) < 0 ? -errno : 0;
		close(fd);
	} else if (fd >= 0) {
		fs->proc_fd = fd;
	}
	if (!error)
		return 0;
	log_error("cannot open /proc/self/fd: %s; /proc must be mounted", strerror(-error));
	return error;
}

static int make_tables(struct fs *fs)
{
	int error = inode_table_new(fs->root_fd, inode_fds(), FORGOTTEN_MAX, &fs->inodes);

	/* After the limits were raised. */
	cred_give_up_resources();
	if (!error)
		error = handle_table_new(&fs->handles);
	/* Of the half that is for open files. A mount of one user's is that user's. */
	if (!error && fs->config.privileged)
		handle_bound(fs->handles, inode_fds() / 2);
	if (!error)
		error = file_table_new(fs, inode_fds() / 2, &fs->files);
	if (!error)
		inode_others(fs->inodes, file_relieve, fs->files);
	if (!error)
		error = locks_new(fs, &fs->locks);
	if (!error && fs->config.supervised && !(fs->journal = journal_new()))
		error = -ENOMEM;
	if (error)
		log_error("cannot set up the tables of files: %s", strerror(-error));
	return error;
}

int fs_init(struct fs *fs, const char *source, const struct fs_config *config)
{
	int error;

	fs->config = *config;
	fs->root_fd = fs->proc_fd = -1;
	error = open_source(fs, source);
	if (!error)
		error = make_tables(fs);
	if (error) {
		fs_destroy(fs);
		return error;
	}
	if (fs->config.writeback && fs->config.no_opens)
		fs->relist = relist_new(fs);
	return 0;
}

void fs_watch(struct fs *fs)
{
	if (fs->config.watch)
		fs->watch = watch_new(fs);
}

void fs_end(struct fs *fs)
{
	watch_free(fs->watch);
	fs->watch = NULL;
	aside_free(fs->aside);
	fs->aside = NULL;
	locks_end(fs->locks);
}

void fs_destroy(struct fs *fs)
{
	watch_free(fs->watch);
	relist_free(fs->relist);
	file_table_free(fs->files);
	handle_table_free(fs->handles);
	inode_table_free(fs->inodes);
	locks_free(fs->locks);
	if (fs->proc_fd >= 0)
		close(fs->proc_fd);
	if (fs->root_fd >= 0)
		close(fs->root_fd);
	journal_free(fs->journal);
	fs->files = NULL;
	fs->handles = NULL;
	fs->inodes = NULL;
	fs->locks = NULL;
	fs->watch = NULL;
	fs->relist = NULL;
	fs->journal = NULL;
	fs->root_fd = fs->proc_fd = -1;
}
