/* SPDX-License-Identifier: MIT */
/*
 * Writes that are handed out again after a process has died. Called by data.c and calls.c.
 *
 * Most are done once more. Of one past the page cache the first try may still be on its way to the
 * device, and must not arrive after what the program writes there next.
 *
 * An appending one, done twice, would be there twice. The kernel sends one at a time for a file,
 * and others may append to the source as well. Each is noted with the size that the file had
 * before. One that comes again was done if what it writes lies there; if a part of it does, the
 * rest follows here.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/data_op.h"
#include "fs/fs.h"
#include "fs/journal.h"
#include "transport/abi.h"

/* How many bytes of it are in the file from where it ended before; -1: others' are. */
static ssize_t landed(struct data_op *d, off_t before)
{
	const char *bytes = d->request->payload;
	char there[4096];
	size_t n = 0;
	int fd = file_read_fd(d->fs, d->opener.handle, (int)(d->op.klass & FD_DIRECT));

	/* What was opened for appending alone cannot be read. */
	fd = fd < 0 ? fd : file_reopen(d->fs, fd, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && n < d->op.len) {
		size_t most = d->op.len - n < sizeof(there) ? d->op.len - n : sizeof(there);
		ssize_t got = pread(fd, there, most, before + (off_t)n);

		if (got <= 0)
			break;
		if (memcmp(there, bytes + n, (size_t)got) != 0) {
			close(fd);
			return -1;
		}
		n += (size_t)got;
	}
	if (fd >= 0)
		close(fd);
	return (ssize_t)n;
}

/* The rest of one that landed in part. */
static ssize_t append_rest(struct data_op *d, size_t done)
{
	while (done < d->op.len) {
		ssize_t n = write(d->fd, d->request->payload + done, d->op.len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

bool data_note_append(struct data_op *d)
{
	struct change change;
	struct stat attr;
	ssize_t done;

	if (fstat(d->fd, &attr))
		return false;
	journal_begin_with(d->fs, &change, &attr);
	d->note = change.note;
	d->op.result = change.result;
	if (change.past != PAST_BEGUN)
		return change.past == PAST_ENDED;
	done = landed(d, change.size);
	if (done <= 0)
		return false;
	d->op.result = append_rest(d, (size_t)done);
	return true;
}

void data_await_former(const struct data_op *d)
{
	/* Allocating what is there already changes nothing, but waits for such writes of the file.
	 * Where the source has no fallocate, none that is known has writes that go on by
	 * themselves. */
	if (d->request->unique & ABI_UNIQUE_RESEND && d->op.klass & FD_DIRECT)
		fallocate(d->fd, FALLOC_FL_KEEP_SIZE, (off_t)d->op.offset, 1);
}

void data_append_ended(struct data_op *d)
{
	struct change change = {.note = d->note};

	journal_end(&change, (int)d->op.result);
}
