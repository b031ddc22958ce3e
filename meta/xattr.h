/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_XATTR_H
#define NVFS_META_XATTR_H

#include "meta/change.h"
#include "meta/db.h"

#define CAPABILITY_NAME "security.capability"

/* The visible value: 0, -ENODATA, -EIO, META_WAIT. *data leads into value. */
int xattr_read(struct op *op, uint64_t ino, const char *name, struct db_value *value, const void **data, size_t *size);

/*
 * Put an xattr (data NULL: delete it) into a change, with the inode's flags and xattr bytes. old: size of the value that it has now,
 * < 0: none. False when there is no room in the inode for more.
 */
bool xattr_change(struct change *c, struct inode *inode, const char *name, const void *data, size_t size, ssize_t old);

#endif
