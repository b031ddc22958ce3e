/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a backend implements, and what it finds: for io/ only. */
#ifndef NVFS_IO_DEVICE_OPS_H
#define NVFS_IO_DEVICE_OPS_H

#include "io/device.h"

struct io_uring_cqe;
struct io_uring_sqe;

/* What of a request is to be transferred next; iov points into the request or its caller's array. */
struct device_part {
	const struct iovec *iov;
	unsigned iovcnt;
	uint64_t offset;
	uint64_t len;
};

/*
 * A backend. Ranges and alignment were checked before any of these is called,
 * and DEVICE_READONLY as well.
 */
struct device_ops {
	const char *name;
	enum device_kind kind;

	/* Free what the backend holds. Nothing is in flight. */
	void (*close)(struct device *dev);

	/* flock() or NULL, see device_lock(). */
	int (*lock)(struct device *dev, bool wait);

	/*
	 * Any thread, may sleep. Bytes transferred, at least one of them (fewer
	 * than asked for is fine: it is called again), 0 at the end of the
	 * medium, or -errno.
	 */
	ssize_t (*read)(struct device *dev, void *buf, size_t len, uint64_t offset);
	ssize_t (*write)(struct device *dev, const void *buf, size_t len, uint64_t offset,
			 unsigned flags);

	/* Any thread, may sleep. 0 or -errno. */
	int (*flush)(struct device *dev);
	int (*discard)(struct device *dev, uint64_t offset, uint64_t len);

	/*
	 * Exactly one of prepare and submit is there. Both on the thread of
	 * req->reactor, both must not sleep, and each call leads to exactly one
	 * completion.
	 *
	 * prepare: fill the SQE for this part of the request, of any opcode
	 * (with the second half of an SQE128 when the ring has wide entries).
	 * fd is the device's, or its index in the ring's file table; the
	 * caller sets IOSQE_FIXED_FILE and user_data afterwards. buf_index is
	 * the registered buffer that contains the part's only iovec, or -1.
	 * The CQE's res, as result() translates it when that is there, is the
	 * bytes transferred, 0 for flush and discard, or -errno.
	 *
	 * submit: start it, and later call device_part_done() from an iteration
	 * of the reactor, never from here.
	 */
	void (*prepare)(struct device *dev, struct io_request *req, const struct device_part *part,
			int fd, int buf_index, struct io_uring_sqe *sqe);
	void (*submit)(struct device *dev, struct io_request *req, const struct device_part *part);
	int (*result)(struct device *dev, struct io_request *req, const struct io_uring_cqe *cqe);
};

/* As struct device_health; any thread. */
struct device_counters {
	atomic_uint_fast64_t ops[4], errors[4], bytes[4]; /* by enum io_op */
	atomic_uint_fast64_t short_ios;
};

/* The beginning of every backend's own struct. */
struct device {
	const struct device_ops *ops;
	char *name;
	int fd;        /* -1: none */
	unsigned slot; /* place in the rings' file tables; REACTOR_FILES: none was left */
	uint64_t id;   /* over the life of the process */
	bool readonly;
	struct device_geometry geometry;
	struct device_counters count;
};

/*
 * Fill in the beginning: ops, a copy of name, slot and id. The backend sets
 * geometry, fd and readonly. 0 or -ENOMEM. device_close() undoes it.
 */
int device_init(struct device *dev, const struct device_ops *ops, const char *name);

/* 0, -EROFS or -EINVAL. */
int device_check_range(const struct device *dev, enum io_op op, uint64_t offset, uint64_t len);

/* Count an operation that was answered with res, or a transfer that has to go on. */
void device_count(struct device *dev, enum io_op op, uint64_t bytes, int res);
void device_count_short(struct device *dev);

/* The reactor's thread: the part given to prepare or submit ended with res. */
void device_part_done(struct io_request *req, int res);

/* Geometry of a block device, from its descriptor and sysfs. 0 or -errno. */
int device_block_geometry(int fd, const char *name, struct device_geometry *g);

#endif
