/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_DATA_H
#define NVFS_META_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "meta/op.h"

/*
 * The data of regular files. All functions are restartable (op.h). Offsets and
 * lengths in bytes, up to 2^63 - 1 (-EFBIG beyond).
 */

enum data_flags {
	DATA_DIRECT = 1 << 0,      /* O_DIRECT: to the device before the answer */
	DATA_SYNC = 1 << 1,        /* O_SYNC: durable with all metadata before the answer */
	DATA_DSYNC = 1 << 2,       /* O_DSYNC */
	DATA_KILL_SUIDGID = 1 << 3,
	DATA_KEEP_TIMES = 1 << 4,  /* mtime and ctime stay as they are: the kernel sets them */
	DATA_CACHED = 1 << 5,      /* pages of the kernel's cache, which it does not write again after a refusal */
};

/*
 * Read up to len bytes. The result is an iovec array of checked bytes, owned by the op until op_finish(): blocks from the device,
 * dirty blocks copied, zeros. *iov, *iovcnt; returns the bytes (0 at and beyond the end of the file), -EIO after a checksum error
 * (logged and counted).
 */
ssize_t data_read(struct op *op, uint64_t ino, uint64_t offset, size_t len, unsigned flags, struct iovec **iov,
		  unsigned *iovcnt);

/*
 * Write len bytes from buf, which stays as it is until the op is finished (direct writes go to the device from it; 4096-aligned buf
 * avoids a copy). Returns the bytes written, or an error and nothing changed. -ENOSPC and -EDQUOT are answered here, to the block: where
 * only a part has room, that part is written and counted; with DATA_DIRECT it is all or nothing; with DATA_CACHED each block that has room, or needs
 * none, is kept, and the answer is the refusal.
 */
ssize_t data_write(struct op *op, uint64_t ino, uint64_t offset, const void *buf, size_t len, unsigned flags);

/* Change the size; the tail of the last block reads as zeros from then on. Part of attr_set(). */
int data_truncate(struct op *op, uint64_t ino, uint64_t size);

/* mode: 0, FALLOC_FL_KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE [| KEEP_SIZE]; others -EOPNOTSUPP. */
int data_fallocate(struct op *op, uint64_t ino, int mode, uint64_t offset, uint64_t len);

/* whence SEEK_DATA or SEEK_HOLE: the offset, or -ENXIO. */
int64_t data_seek(struct op *op, uint64_t ino, uint64_t offset, int whence);

/*
 * Share the blocks of the aligned part; ends that are not aligned are copied. Returns the bytes done (may be fewer), -EXDEV or
 * -EOPNOTSUPP where the kernel should copy.
 */
ssize_t data_copy_range(struct op *op, uint64_t ino_in, uint64_t offset_in, uint64_t ino_out, uint64_t offset_out, size_t len);

/* Durable when it returns 0. datasync leaves out times. ino of a directory: the whole subvolume. An error of an earlier write-back is answered. */
int data_fsync(struct op *op, uint64_t ino, bool datasync);

/* For subvol_freeze(), which closed the gate: write back and put all that was accepted before. 0, META_WAIT, the error of a write-back. */
int data_freeze(struct op *op);

/* Nothing is dirty, under way, or differs from RocksDB. */
bool data_frozen(const struct subvol *sv);

/* Write back, put and commit everything of the subvolume. */
int data_sync_all(struct op *op);

#endif
