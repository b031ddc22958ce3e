/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * The file and block backends: both are a descriptor with O_DIRECT, and differ
 * in how they are opened, in geometry and in how they discard.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/device_ops.h"
#include "io/log.h"
#include "io/reactor_ring.h"

#define FILE_MAX_IO_BYTES (1u << 20)
/* A transfer's length is 32 bits in an SQE; more comes back as a short one. */
#define SQE_MAX_BYTES (1u << 30)
/* linux/blkdev.h of Linux 6.12 */
#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static void fd_close(struct device *dev)
{
	close(dev->fd);
	free(dev);
}

static int flock_exclusive(int fd, bool wait)
{
	if (!TEMP_FAILURE_RETRY(flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB)))
		return 0;
	return errno == EWOULDBLOCK ? -EBUSY : -errno;
}

static int fd_lock(struct device *dev, bool wait)
{
	return flock_exclusive(dev->fd, wait);
}

/* ---- Synchronous ---- */

static ssize_t fd_read(struct device *dev, void *buf, size_t len, uint64_t offset)
{
	ssize_t n = TEMP_FAILURE_RETRY(pread(dev->fd, buf, len, (off_t)offset));

	return n < 0 ? -errno : n;
}

static ssize_t fd_write(struct device *dev, const void *buf, size_t len, uint64_t offset,
			unsigned flags)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	ssize_t n = TEMP_FAILURE_RETRY(
		pwritev2(dev->fd, &iov, 1, (off_t)offset, flags & IO_FUA ? RWF_DSYNC : 0));

	return n < 0 ? -errno : n;
}

static int fd_flush(struct device *dev)
{
	/* No retry on EINTR: fdatasync() has none, and an error may be told only once. */
	return fdatasync(dev->fd) ? -errno : 0;
}

static int file_discard(struct device *dev, uint64_t offset, uint64_t len)
{
	return TEMP_FAILURE_RETRY(fallocate(dev->fd, PUNCH, (off_t)offset, (off_t)len)) ? -errno : 0;
}

static int block_discard(struct device *dev, uint64_t offset, uint64_t len)
{
	uint64_t range[2] = { offset, len };

	return ioctl(dev->fd, BLKDISCARD, range) ? -errno : 0;
}

/* ---- Asynchronous ---- */

static void fd_prepare_read(const struct device_part *part, int fd, int buf_index,
			    struct io_uring_sqe *sqe)
{
	unsigned len = part->len < SQE_MAX_BYTES ? (unsigned)part->len : SQE_MAX_BYTES;

	if (buf_index >= 0)
		io_uring_prep_read_fixed(sqe, fd, part->iov->iov_base, len, part->offset, buf_index);
	else if (part->iovcnt == 1)
		io_uring_prep_read(sqe, fd, part->iov->iov_base, len, part->offset);
	else
		io_uring_prep_readv(sqe, fd, part->iov, part->iovcnt, part->offset);
}

static void fd_prepare_write(const struct device_part *part, int fd, int buf_index,
			     struct io_uring_sqe *sqe)
{
	unsigned len = part->len < SQE_MAX_BYTES ? (unsigned)part->len : SQE_MAX_BYTES;

	if (buf_index >= 0)
		io_uring_prep_write_fixed(sqe, fd, part->iov->iov_base, len, part->offset, buf_index);
	else if (part->iovcnt == 1)
		io_uring_prep_write(sqe, fd, part->iov->iov_base, len, part->offset);
	else
		io_uring_prep_writev(sqe, fd, part->iov, part->iovcnt, part->offset);
}

static void fd_prepare(struct device *dev, struct io_request *req, const struct device_part *part,
		       int fd, int buf_index, struct io_uring_sqe *sqe)
{
	(void)dev;
	switch (req->op) {
	case IO_READ:
		fd_prepare_read(part, fd, buf_index, sqe);
		break;
	case IO_WRITE:
		fd_prepare_write(part, fd, buf_index, sqe);
		if (req->flags & IO_FUA)
			sqe->rw_flags = RWF_DSYNC;
		break;
	case IO_FLUSH:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case IO_DISCARD:
		io_uring_prep_fallocate(sqe, fd, PUNCH, (off_t)part->offset, (off_t)part->len);
		break;
	}
}

/*
 * A block device discards by a command of the ring since Linux 6.12. Before
 * that there is PUNCH_HOLE, which asks for zeros that the device unmaps for;
 * it fails where the device can't do that by itself, so it never turns into
 * writing zeros, but some devices that can discard can't do it. The first
 * discard finds out which: a kernel that does not know the command refuses it,
 * and the request is tried again the other way.
 */
struct block_device {
	struct device dev; /* first */
	atomic_bool punch;
};

static atomic_bool *block_punch(struct device *dev)
{
	return &((struct block_device *)dev)->punch;
}

static void block_prepare(struct device *dev, struct io_request *req,
			  const struct device_part *part, int fd, int buf_index,
			  struct io_uring_sqe *sqe)
{
	if (req->op != IO_DISCARD || atomic_load(block_punch(dev))) {
		req->cookie = 0;
		fd_prepare(dev, req, part, fd, buf_index, sqe);
		return;
	}
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
	sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
	sqe->addr = part->offset;
	sqe->addr3 = part->len;
	req->cookie = BLOCK_URING_CMD_DISCARD;
}

static int block_result(struct device *dev, struct io_request *req, const struct io_uring_cqe *cqe)
{
	int res = cqe->res;

	if (req->cookie && (res == -EOPNOTSUPP || res == -EINVAL || res == -ENOTTY)) {
		atomic_store(block_punch(dev), true);
		return -EAGAIN;
	}
	return res;
}

/*
 * A file in memory (tmpfs) is transferred at once: it does not wait for a device, and has no
 * way not to block that the ring could use, which would hand every transfer to a thread.
 */
static void memory_part_done(struct reactor *r, struct reactor_msg *msg)
{
	struct io_request *req =
		(struct io_request *)((char *)msg - offsetof(struct io_request, msg));

	(void)r;
	device_part_done(req, req->result);
}

static ssize_t memory_transfer(struct device *dev, const struct io_request *req,
			       const struct device_part *part)
{
	ssize_t n;

	if (req->op == IO_READ && part->iovcnt == 1)
		n = pread(dev->fd, part->iov->iov_base, part->iov->iov_len, (off_t)part->offset);
	else if (req->op == IO_READ)
		n = preadv(dev->fd, part->iov, (int)part->iovcnt, (off_t)part->offset);
	else if (part->iovcnt == 1 && !(req->flags & IO_FUA))
		n = pwrite(dev->fd, part->iov->iov_base, part->iov->iov_len, (off_t)part->offset);
	else
		n = pwritev2(dev->fd, part->iov, (int)part->iovcnt, (off_t)part->offset,
			     req->flags & IO_FUA ? RWF_DSYNC : 0);
	return n < 0 ? -errno : n;
}

static void memory_submit(struct device *dev, struct io_request *req, const struct device_part *part)
{
	switch (req->op) {
	case IO_READ:
	case IO_WRITE:
		req->result = (int)memory_transfer(dev, req, part); /* at most MAX_RW_COUNT, which fits */
		break;
	case IO_FLUSH:
		req->result = fd_flush(dev);
		break;
	case IO_DISCARD:
		req->result = file_discard(dev, part->offset, part->len);
		break;
	}
	req->msg.fn = memory_part_done;
	reactor_defer(req->reactor, &req->msg);
}

static const struct device_ops file_ops = {
	.name = "file",
	.kind = DEVICE_FILE,
	.close = fd_close,
	.lock = fd_lock,
	.read = fd_read,
	.write = fd_write,
	.flush = fd_flush,
	.discard = file_discard,
	.prepare = fd_prepare,
};

static const struct device_ops memory_ops = {
	.name = "file",
	.kind = DEVICE_FILE,
	.close = fd_close,
	.lock = fd_lock,
	.read = fd_read,
	.write = fd_write,
	.flush = fd_flush,
	.discard = file_discard,
	.submit = memory_submit,
};

static const struct device_ops block_ops = {
	.name = "block",
	.kind = DEVICE_BLOCK,
	.close = fd_close,
	.lock = fd_lock,
	.read = fd_read,
	.write = fd_write,
	.flush = fd_flush,
	.discard = block_discard,
	.prepare = block_prepare,
	.result = block_result,
};

/* ---- Opening ---- */

static void file_geometry(const struct stat *st, const char *name, struct device_geometry *g)
{
	*g = (struct device_geometry){
		.size_bytes = (uint64_t)st->st_size / DEVICE_ALIGN_BYTES * DEVICE_ALIGN_BYTES,
		/* What is below is not known: the smallest unit that any disk tears at. */
		.logical_block_bytes = 512,
		.max_io_bytes = FILE_MAX_IO_BYTES,
		.volatile_cache = true,
		.discard = true,
	};
	strncat(g->identity, name, sizeof(g->identity) - 1);
}

/* O_DIRECT, where there is such a thing: tmpfs before Linux 6.6 has none. */
static int fd_make_direct(int fd, const char *name)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0)
		return -errno;
	if (fl & O_DIRECT)
		return 0;
	if (!fcntl(fd, F_SETFL, fl | O_DIRECT))
		return 0;
	if (errno != EINVAL)
		return -errno;
	log_warn("%s: no direct I/O on this filesystem; the page cache stays in between", name);
	return 0;
}

static bool fd_in_memory(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

static int fd_kind(int fd, struct stat *st, const struct device_ops **ops)
{
	if (fstat(fd, st))
		return -errno;
	if (S_ISREG(st->st_mode))
		*ops = fd_in_memory(fd) ? &memory_ops : &file_ops;
	else if (S_ISBLK(st->st_mode))
		*ops = &block_ops;
	else
		return -ENOTBLK;
	return 0;
}

static int fd_geometry(int fd, const struct stat *st, const char *name, struct device_geometry *g)
{
	int rc = 0;

	if (S_ISREG(st->st_mode))
		file_geometry(st, name, g);
	else
		rc = device_block_geometry(fd, name, g);
	if (rc)
		return rc;
	if (!g->size_bytes)
		return -ENXIO;
	if (g->logical_block_bytes > DEVICE_ALIGN_BYTES) {
		log_error("%s: logical blocks of %u bytes; 4096 is the most that works", name,
			  g->logical_block_bytes);
		return -EOPNOTSUPP;
	}
	return 0;
}

int device_open_fd(int fd, const char *name, unsigned flags, struct device **out)
{
	const struct device_ops *ops = NULL;
	struct device *dev;
	struct stat st;
	int rc = fd_kind(fd, &st, &ops);

	if (!rc)
		rc = fd_make_direct(fd, name);
	if (rc)
		return rc;
	dev = calloc(1, ops == &block_ops ? sizeof(struct block_device) : sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	rc = fd_geometry(fd, &st, name, &dev->geometry);
	if (!rc && flags & DEVICE_EXCLUSIVE && S_ISREG(st.st_mode))
		rc = flock_exclusive(fd, false);
	if (!rc)
		rc = device_init(dev, ops, name);
	if (rc) {
		free(dev);
		return rc;
	}
	dev->fd = fd;
	dev->readonly = flags & DEVICE_READONLY;
	*out = dev;
	return 0;
}

int device_open(const char *path, unsigned flags, struct device **out)
{
	int mode = (flags & DEVICE_READONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	cleanup_fd int fd = -1;
	struct stat st;
	int rc;

	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -ENOTBLK;
	if (S_ISBLK(st.st_mode) && flags & DEVICE_EXCLUSIVE)
		mode |= O_EXCL;
	fd = open(path, mode);
	if (fd < 0)
		return -errno;
	/* Only so that a fifo put there in between could not hang open(2). */
	if (fcntl(fd, F_SETFL, 0))
		return -errno;
	rc = device_open_fd(fd, path, flags, out);
	if (!rc)
		take_fd(&fd);
	return rc;
}

/* ---- New files ---- */

static int sync_parent(const char *path)
{
	cleanup_free char *dir = strdup(path);
	cleanup_fd int fd = -1;
	char *slash;

	if (!dir)
		return -ENOMEM;
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) ? -errno : 0;
}

static int file_allocate(int fd, uint64_t size_bytes)
{
	int rc;

	do
		rc = posix_fallocate(fd, 0, (off_t)size_bytes);
	while (rc == EINTR);
	if (rc)
		return -rc;
	return fsync(fd) ? -errno : 0;
}

int device_create_file(const char *path, uint64_t size_bytes)
{
	cleanup_fd int fd = -1;
	int rc;

	size_bytes -= size_bytes % DEVICE_ALIGN_BYTES;
	if (!size_bytes || size_bytes > INT64_MAX)
		return -EINVAL;
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = file_allocate(fd, size_bytes);
	if (!rc)
		rc = sync_parent(path);
	if (rc)
		unlink(path);
	return rc;
}
