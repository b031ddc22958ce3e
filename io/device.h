/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_DEVICE_H
#define NVFS_IO_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "io/reactor.h"

/*
 * A device is a flat range of bytes that is read, written, flushed and
 * discarded. What kind it is (file, block, sim, later nvme) shows only in its
 * ops table (device_ops.h) and geometry.
 *
 * Durability: a write is durable when a flush that was *started after it was
 * answered* has been answered, or at once with IO_FUA. Between two flushes the
 * device may persist any part of what it was given, in any order, torn at its
 * logical blocks. Where geometry.volatile_cache is false an answered write is
 * durable.
 *
 * Alignment: offset, length and every buffer are multiples of
 * DEVICE_ALIGN_BYTES, and a range lies within the device; anything else is
 * -EINVAL. A length of zero is -EINVAL too.
 */

#define DEVICE_ALIGN_BYTES 4096u

enum device_open_flags {
	DEVICE_READONLY = 1u << 0,  /* writes, flushes and discards are -EROFS */
	DEVICE_EXCLUSIVE = 1u << 1, /* block: O_EXCL; file: flock(LOCK_EX) on its own description */
};

enum io_flags {
	IO_FUA = 1u << 0, /* a write: durable when it is answered */
};

enum io_op { IO_READ, IO_WRITE, IO_FLUSH, IO_DISCARD };

enum device_kind { DEVICE_FILE, DEVICE_BLOCK, DEVICE_SIM };

struct device;
struct io_request;

struct device_geometry {
	uint64_t size_bytes;          /* whole blocks of DEVICE_ALIGN_BYTES */
	uint32_t logical_block_bytes; /* the unit of tearing; divides DEVICE_ALIGN_BYTES */
	uint32_t max_io_bytes;        /* larger requests work, but are split below us */
	bool volatile_cache;          /* a flush is needed for durability */
	bool discard;                 /* discard may do something */
	char identity[96];            /* tells devices apart for people: model, serial, WWN, or the path */
};

struct device_health {
	uint64_t reads, writes, flushes, discards; /* answered, errors included */
	uint64_t read_bytes, written_bytes, discarded_bytes;
	uint64_t read_errors, write_errors, flush_errors, discard_errors;
	uint64_t short_ios; /* transfers that had to be resumed */
};

/*
 * Open path as a file or block device, by what stat(2) says. 0 and *out, the
 * caller's until device_close(), or -errno: -EBUSY when somebody else holds it
 * (DEVICE_EXCLUSIVE), -ENOTBLK for other kinds of file, -ENXIO for one without
 * a single block, -EOPNOTSUPP for logical blocks above 4096 bytes. Any thread.
 */
int device_open(const char *path, unsigned flags, struct device **out);

/*
 * The same for an open descriptor, made O_DIRECT if it is not. name is for
 * messages and identity, and is copied. The device owns fd from success on; on
 * failure the caller keeps it. With DEVICE_EXCLUSIVE on a block device
 * only what the description already holds counts: open(2) took it or not.
 */
int device_open_fd(int fd, const char *name, unsigned flags, struct device **out);

/*
 * flock(LOCK_EX) the description of a file or block device. With wait it
 * sleeps until the holder is gone, which includes the last of its I/O in the
 * kernel; without, -EBUSY. On sim always 0. Any thread.
 */
int device_lock(struct device *dev, bool wait);

/*
 * Close and free. No I/O may be in flight, and each reactor that used the
 * device has called device_detach() (or was destroyed) before, else the kernel
 * keeps it open and locked. NULL is fine.
 */
void device_close(struct device *dev);

/*
 * Make r forget the device: its ring holds a reference of its own. Nothing of
 * the device may be in flight on r. Reactor thread.
 */
void device_detach(struct reactor *r, struct device *dev);

/*
 * Make a new file of size_bytes (rounded down to whole blocks), mode 0600, its
 * space allocated, and make its name durable. -EEXIST when there is one,
 * -ENOSPC and nothing left behind when there is no room.
 */
int device_create_file(const char *path, uint64_t size_bytes);

enum device_kind device_kind(const struct device *dev);
const char *device_name(const struct device *dev); /* the path it was opened by */
bool device_readonly(const struct device *dev);

/* Constant while the device is open. */
const struct device_geometry *device_geometry(const struct device *dev);

/* A moment's counters. Any thread. */
void device_health(const struct device *dev, struct device_health *out);

/* ---- Synchronous: any thread, but a reactor's should not ---- */

/* All of it or -errno (-EIO, -ENODATA past a truncated file, -EINVAL, -EROFS). */
int device_read(struct device *dev, void *buf, size_t len_bytes, uint64_t offset_bytes);
int device_write(struct device *dev, const void *buf, size_t len_bytes, uint64_t offset_bytes,
		 unsigned flags);

/*
 * Make durable what was answered before. After an error nothing is known of
 * those writes, and a later success says nothing about them: the caller must
 * treat the first error as final.
 */
int device_flush(struct device *dev);

/*
 * Tell the device that the range is not needed. Advisory: what a read gives
 * afterwards is not defined. -EOPNOTSUPP where there is no such thing.
 */
int device_discard(struct device *dev, uint64_t offset_bytes, uint64_t len_bytes);

/* ---- Asynchronous: reactor thread ---- */

/*
 * The caller owns it and what it points to, and leaves both alone from
 * device_submit() until done is called. It needs no initialisation beyond
 * these fields, and can be used again, from done as well.
 */
struct io_request {
	struct device *device;
	enum io_op op;
	unsigned flags;     /* enum io_flags */
	uint64_t offset;    /* bytes; unused by IO_FLUSH */
	void *buf;          /* read, write: with iovcnt 0 */
	uint64_t len;       /* bytes; read, write with iovcnt 0, and discard */
	const struct iovec *iov; /* read, write: with iovcnt > 0, at most IOV_MAX */
	unsigned iovcnt;
	/*
	 * Called once, on the thread of the reactor, never from within
	 * device_submit(). res is 0 (all of it done: short transfers were
	 * resumed) or -errno. May free the request.
	 */
	void (*done)(struct io_request *req, int res);

	/* Private to io/ from here on, but reactor may be read from done. */
	struct reactor *reactor;
	struct reactor_op ring_op;
	struct reactor_msg msg;
	struct reactor_timer timer;
	uint64_t total, transferred;
	uint64_t cookie;
	struct iovec part;
	unsigned retries;
	int result;
};

/* Start it. Never fails here, allocates nothing; errors go to done. Reactor thread. */
void device_submit(struct reactor *r, struct io_request *req);

/* Requests of this reactor that were submitted and not answered. Reactor thread. */
unsigned device_inflight(const struct reactor *r);

#endif
