/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "fs/ops.h"
#include "io/log.h"

/* File data. The kernel sends the flags of the open file with each read and write. */

static unsigned data_flags(int open_flags)
{
	unsigned flags = 0;

	if (open_flags & O_DIRECT)
		flags |= DATA_DIRECT;
	if ((open_flags & O_SYNC) == O_SYNC)
		flags |= DATA_SYNC;
	else if (open_flags & O_DSYNC)
		flags |= DATA_DSYNC;
	return flags;
}

static void read_run(struct op *op)
{
	struct call *c = call_of(op);
	struct iovec *iov;
	unsigned iovcnt = 0;
	ssize_t n = data_read(op, c->ino, c->offset, c->len, c->flags, &iov, &iovcnt);

	if (n == META_WAIT)
		return;
	if (n > 0 && iovcnt > SESSION_IOV_MAX) {
		log_error("%s: inode %llu: a read of %zu bytes came in %u pieces",
			  session_name(c->request->session), (unsigned long long)c->ino, c->len,
			  iovcnt);
		n = -EIO;
	}
	session_reply(c->request, n < 0 ? (int)n : 0, iov, n > 0 ? iovcnt : 0);
	op_finish(op);
}

/* ---- Access times ---- */

static bool older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec <= b->tv_nsec);
}

/* The kernel's own rule of relatime (mount(8)). */
static bool atime_is_stale(const struct inode_attr *attr)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return older(&attr->atime, &attr->mtime) || older(&attr->atime, &attr->ctime) ||
	       now.tv_sec - attr->atime.tv_sec >= 86400;
}

/* Looks at a file once a second at most: random reads of one file do not pay for it. */
static bool atime_is_due(struct ops_volume *v, uint64_t ino)
{
	struct timespec now;

	if (!v->relatime)
		return false;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (v->touched_ino == ino && v->touched_at == now.tv_sec)
		return false;
	v->touched_ino = ino;
	v->touched_at = now.tv_sec;
	return true;
}

/*
 * Before the read, whose answer waits for it (once a day): so the op never outlives its request. It must not
 * fail the read, and is no request that could be replayed.
 */
static void touch_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	uint32_t session = op->session;
	int err = attr_get(op, c->ino, &attr);

	if (!err && atime_is_stale(&attr)) {
		op->session = 0;
		/* ctime as it is: a read does not change the file. */
		err = attr_set(op, c->ino, ATTR_ATIME_NOW | ATTR_CTIME, &attr, &attr);
		op->session = session;
	}
	if (err == META_WAIT)
		return;
	op_finish(op);
	call_again(c, read_run);
	read_run(op);
}

bool ops_read(struct session *s, struct request *r)
{
	const struct fuse_read_in *in = request_arg(r);
	bool touch = !r->hold && atime_is_due(session_arg(s), r->in->nodeid);
	struct call *c = call_early(s, touch ? touch_run : read_run);

	if (request_arg_len(r) < sizeof(*in)) {
		call_done(c, -EINVAL);
		return true;
	}
	c->offset = in->offset;
	c->len = in->size;
	c->flags = data_flags((int)in->flags);
	call_run(c);
	return true;
}

static void reply_count(struct call *c, ssize_t n)
{
	struct fuse_write_out out = { .size = n > 0 ? (uint32_t)n : 0 };

	if (n < 0)
		call_done(c, (int)n);
	else
		call_reply(c, &out, sizeof(out));
}

static void write_run(struct op *op)
{
	struct call *c = call_of(op);
	const struct fuse_write_in *in;
	ssize_t n = data_write(op, c->ino, c->offset, c->u.data, c->len, c->flags);

	if (n == META_WAIT)
		return;
	in = request_arg(c->request);
	if (op->killed_setid && !(in->write_flags & FUSE_WRITE_CACHE))
		session_attr_changed(c->request->session, c->ino);
	reply_count(c, n);
}

bool ops_write(struct session *s, struct request *r)
{
	const struct fuse_write_in *in = request_arg(r);
	struct call *c = call_early(s, write_run);

	if (request_arg_len(r) < sizeof(*in) || request_arg_len(r) - sizeof(*in) < in->size) {
		call_done(c, -EINVAL);
		return true;
	}
	c->u.data = in + 1;
	c->offset = in->offset;
	c->len = in->size;
	c->flags = data_flags((int)in->flags);
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		c->flags |= DATA_KILL_SUIDGID;
	/* Pages of the cache, written back by the kernel: whose flags these are is chance. */
	if (in->write_flags & FUSE_WRITE_CACHE)
		c->flags = (c->flags & ~(unsigned)(DATA_DIRECT | DATA_SYNC | DATA_DSYNC)) | DATA_CACHED;
	/* With its write-back cache the kernel keeps the times and sends them by itself. */
	if ((in->write_flags & FUSE_WRITE_CACHE) && session_writeback(s))
		c->flags |= DATA_KEEP_TIMES;
	call_run(c);
	return true;
}

static void fsync_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = data_fsync(op, c->ino, c->flags != 0);

	if (err != META_WAIT)
		call_done(c, err);
}

/* Of files and directories alike. */
void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct call *c = call_new(req, fsync_run, ino);

	(void)fi;
	c->flags = datasync != 0;
	call_run(c);
}

static void syncfs_run(struct op *op)
{
	int err = data_sync_all(op);

	if (err != META_WAIT)
		call_done(call_of(op), err);
}

bool ops_syncfs(struct session *s, struct request *r)
{
	(void)r;
	call_run(call_early(s, syncfs_run));
	return true;
}

/*
 * As with a write, set-id bits do not survive the change of a file by its user. For fallocate and copy_file_range the kernel leaves
 * that to us without saying whether the caller may keep them (CAP_FSETID): root may.
 */
static int kill_setid(struct op *op, struct call *c, uint64_t ino)
{
	struct inode_attr attr;
	int err = attr_get(op, ino, &attr);

	if (err || !(attr.mode & (S_ISUID | S_ISGID)))
		return err;
	err = attr_set(op, ino, ATTR_KILL_SUIDGID, &attr, &attr);
	if (!err)
		session_attr_changed(c->request->session, ino);
	return err;
}

static void kill_setid_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = kill_setid(op, c, c->ino);

	if (err != META_WAIT)
		call_done(c, err);
}

/* Now that the file is changed; run ends with its answer. */
static void kill_setid_then(struct call *c, void (*run)(struct op *op))
{
	op_finish(&c->op);
	call_again(c, run);
	c->op.session = 0; /* a part of the request: no result of its own */
	call_run(c);
}

static void fallocate_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = data_fallocate(op, c->ino, (int)c->flags, c->offset, c->len);

	if (err == META_WAIT)
		return;
	if (err || op->uid == 0) {
		call_done(c, err);
		return;
	}
	kill_setid_then(c, kill_setid_run);
}

void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
		   struct fuse_file_info *fi)
{
	struct call *c = call_new(req, fallocate_run, ino);

	(void)fi;
	c->flags = (unsigned)mode;
	c->offset = (uint64_t)offset;
	c->len = (size_t)length;
	call_run(c);
}

/* ---- lseek ---- */

/*
 * What was stored through a mapping stays in the kernel's cache, and the kernel asks for data and holes without writing it back: cp(1) would
 * leave it out of its copy. So before a hole is passed over, the kernel is made to write back what it has there.
 *
 * That needs requests, of which a session has a limited number: when too many seeks wait, all is said to be data, which is always right.
 */
#define FLUSHING_MAX 64u

static void lseek_run(struct op *op);

static void hole_flush(struct work *w)
{
	struct call *c = (struct call *)((char *)w - offsetof(struct call, work));

	session_write_back(c->request->session, c->ino, c->offset, c->offset2);
}

static void hole_flushed(struct work *w)
{
	struct call *c = (struct call *)((char *)w - offsetof(struct call, work));

	c->volume->flushing--;
	c->flushed = true;
	call_again(c, lseek_run);
	call_run(c);
}

static void reply_offset(struct call *c, int64_t at)
{
	struct fuse_lseek_out out = { .offset = (uint64_t)at };

	if (at < 0)
		call_done(c, (int)at);
	else
		call_reply(c, &out, sizeof(out));
}

static void all_is_data_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = attr_get(op, c->ino, &attr);

	if (err != META_WAIT)
		reply_offset(c, err ? err : c->offset < attr.size_bytes ? (int64_t)c->offset : -ENXIO);
}

/* Whether the answer `at` waits for a write-back of the hole that it passes over. */
static bool hole_is_flushed_first(struct call *c, int64_t at)
{
	struct ops_volume *v = c->volume;

	if (c->flags != SEEK_DATA || c->flushed || !v->flushers || c->view || at == (int64_t)c->offset || (at < 0 && at != -ENXIO))
		return false;
	op_finish(&c->op);
	if (v->flushing >= FLUSHING_MAX) {
		call_again(c, all_is_data_run);
		call_run(c);
		return true;
	}
	v->flushing++;
	c->offset2 = at < 0 ? 0 : (uint64_t)at - c->offset;
	c->work = (struct work){ .fn = hole_flush, .done = hole_flushed, .reactor = session_reactor(c->request->session) };
	workers_submit(v->flushers, &c->work);
	return true;
}

static void lseek_run(struct op *op)
{
	struct call *c = call_of(op);
	int64_t at = data_seek(op, c->ino, c->offset, (int)c->flags);

	if (at != META_WAIT && !hole_is_flushed_first(c, at))
		reply_offset(c, at);
}

void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct call *c = call_new(req, lseek_run, ino);

	(void)fi;
	c->offset = (uint64_t)off;
	c->flags = (unsigned)whence;
	c->flushed = false;
	/*
	 * The kernel asks without writing back what it holds: with its write-back cache, what was just
	 * written would be called a hole, and cp(1) would leave it out. ENOSYS makes it answer by the size.
	 */
	if (session_writeback(c->request->session))
		call_done(c, -ENOSYS);
	else if (whence == SEEK_DATA || whence == SEEK_HOLE)
		call_run(c);
	else
		call_done(c, -EINVAL);
}

static void copy_kill_setid_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = kill_setid(op, c, c->ino2);

	if (err != META_WAIT)
		reply_count(c, err ? err : (ssize_t)c->len);
}

static void copy_run(struct op *op)
{
	struct call *c = call_of(op);
	ssize_t n = data_copy_range(op, c->ino, c->offset, c->ino2, c->offset2, c->len);

	if (n == META_WAIT)
		return;
	if (n <= 0 || op->uid == 0) {
		reply_count(c, n);
		return;
	}
	c->len = (size_t)n;
	kill_setid_then(c, copy_kill_setid_run);
}

void ops_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			 struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			 struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct call *c = call_new(req, copy_run, ino_in);

	(void)fi_in;
	(void)fi_out;
	c->offset = (uint64_t)off_in;
	c->ino2 = ino_out & VIEW_INO_MASK;
	c->offset2 = (uint64_t)off_out;
	c->len = len < UINT32_MAX ? len : UINT32_MAX; /* the answer has 32 bits */
	if (flags)
		call_done(c, -EINVAL);
	else
		call_run(c);
}

/*
 * -o parallel_dio: only what is opened with O_DIRECT bypasses the cache, and then its writers need
 * not wait for each other.
 */
bool ops_open_parallel(struct session *s, struct request *r)
{
	const struct fuse_open_in *in = request_arg(r);
	struct fuse_open_out out = { .open_flags = FOPEN_KEEP_CACHE };

	if (request_arg_len(r) >= sizeof(*in) && (in->flags & O_DIRECT))
		out.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	session_reply_buf(session_take(s, NULL), &out, sizeof(out));
	return true;
}
