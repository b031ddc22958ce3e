/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_NAMES_INTERNAL_H
#define NVFS_META_NAMES_INTERNAL_H

#include "meta/change.h"
#include "meta/known.h"
#include "meta/names.h"

#define NLINK_MAX UINT32_C(0x7fffffff)
#define PROBE_MAX 255u

/* 0, -EINVAL, -ENAMETOOLONG. */
int names_check(const char *name, size_t len);

/* A directory that takes names: -ENOENT, -ENOTDIR, -EIO, META_WAIT. */
int names_dir(struct op *op, uint64_t ino, struct inode **out);

/* 0, -ENOENT (cookie and probe say where it would go), -EIO, META_WAIT. */
int names_find(struct op *op, const struct inode *dir, const char *name, size_t len, struct names_entry *out);

/* The place for a name that is not there: 0, or -EEXIST, -ENOSPC (too many collisions), -EIO, META_WAIT. */
int names_place(struct op *op, const struct inode *dir, const char *name, size_t len, struct names_entry *out);

/* Put a new entry into a place found by names_place(). */
void names_add(struct change *c, struct inode *dir, const struct names_entry *place, const char *name, size_t len,
	       const struct inode *inode);

/* One link less; the last one makes it an orphan. */
void names_drop_link(struct change *c, struct inode *inode);

/* When the change was written: what became of an inode that lost a link. */
void names_dropped(struct inode *inode);

#endif
