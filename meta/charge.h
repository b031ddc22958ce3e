/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_CHARGE_H
#define NVFS_META_CHARGE_H

#include <stdint.h>

#include "meta/records.h"

/* What an inode costs besides its data: docs/format.md, section 4. Blocks. */

#define TARGET_FREE_BYTES 128u /* symlinks up to this are in the inode's price */

static inline int64_t bytes_charge(uint64_t bytes)
{
	return (int64_t)((bytes + NVFS_BLOCK_SIZE - 1) / NVFS_BLOCK_SIZE);
}

static inline int64_t inode_charge(const struct inode_rec *rec)
{
	return bytes_charge(rec->entry_bytes) + bytes_charge(rec->xattr_bytes) + (rec->target_len > TARGET_FREE_BYTES);
}

#endif
