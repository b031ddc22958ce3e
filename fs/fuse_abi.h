/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_FUSE_ABI_H
#define NVFS_FS_FUSE_ABI_H

#include <linux/fuse.h>
#include <stddef.h>

/*
 * What of the kernel's protocol is newer than the headers of the oldest system that we build on
 * (Linux 6.1, protocol 7.38). Names of our own, so that newer headers do not collide.
 */

#define ABI_STATX 52u /* FUSE_STATX, 7.39 */

/* flags2 of FUSE_INIT: the upper half of the flags. */
#define ABI_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36) /* 7.39 */
#define ABI_ALLOW_IDMAP (UINT64_C(1) << 40)          /* 7.41 */

struct abi_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

struct abi_sx_time {
	int64_t tv_sec;
	uint32_t tv_nsec;
	int32_t reserved;
};

struct abi_statx {
	uint32_t mask;
	uint32_t blksize;
	uint64_t attributes;
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint16_t mode;
	uint16_t spare0[1];
	uint64_t ino;
	uint64_t size;
	uint64_t blocks;
	uint64_t attributes_mask;
	struct abi_sx_time atime;
	struct abi_sx_time btime;
	struct abi_sx_time ctime;
	struct abi_sx_time mtime;
	uint32_t rdev_major;
	uint32_t rdev_minor;
	uint32_t dev_major;
	uint32_t dev_minor;
	uint64_t spare2[14];
};

struct abi_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct abi_statx stat;
};

_Static_assert(sizeof(struct abi_statx) == 256, "struct fuse_statx");
_Static_assert(sizeof(struct abi_statx_out) == 288, "struct fuse_statx_out");
_Static_assert(sizeof(struct fuse_in_header) == 40, "struct fuse_in_header");
_Static_assert(sizeof(struct fuse_write_in) == 40, "struct fuse_write_in");

#endif
