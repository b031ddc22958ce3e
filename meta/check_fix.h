/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The repairs of what a node sees; each adds to check->fixes. */
#ifndef NVFS_META_CHECK_FIX_H
#define NVFS_META_CHECK_FIX_H

#include "meta/check_internal.h"

/*
 * Whether a record that this node wrote can be repaired in the view: it must be the view's own node's, which
 * has neither ancestors nor children that would see the change, and all of the pool was readable.
 */
bool check_can_fix(const struct check_view *view, uint32_t from);

struct check_sums {
	uint64_t entries, entry_bytes;
	uint32_t xattr_bytes;
	uint16_t flags;
	uint8_t max_probe;
};
void check_fix_sums(struct check_view *view, uint64_t ino, const struct check_sums *sums);
void check_fix_nlink(struct check_view *view, uint64_t ino, uint32_t nlink);
/* state: an orphan_state, or -1 to remove the record. */
void check_fix_orphan(struct check_view *view, uint64_t ino, int state);
void check_fix_cuts_flag(struct check_view *view, uint64_t ino, bool cuts);
void check_fix_size_blocks(struct check_view *view, uint64_t ino, uint64_t blocks);
void check_fix_entry_type(struct check_view *view, uint64_t dir, uint64_t cookie,
			  const struct dirent_rec *rec, uint32_t mode);
/* All records of an inode, its maps too. */
void check_fix_remove(struct check_view *view, uint64_t ino);
/* Its maps only. */
void check_fix_remove_map(struct check_view *view, uint64_t ino);

#endif
