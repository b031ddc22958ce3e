/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_CHANGE_H
#define NVFS_META_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "meta/gather.h"
#include "meta/inode.h"
#include "meta/subvol.h"

/*
 * One change of the namespace: new values of inodes, entries and xattrs that
 * are written together. A handler fills it in when all of its inputs are there and calls
 * change_write(), which charges, writes, and then makes the cached inodes say the same; when it does not
 * return 0, nothing was changed.
 */

#define CHANGE_INODES 64

struct change {
	struct op *op;
	struct gather_list *list; /* its records; the subvolume's, as the batch: from change_begin() to change_write() nothing else may use them */
	struct db_batch *batch;   /* what others add: records of file data */
	struct counters_delta delta;
	unsigned count;
	struct change_inode {
		struct inode *inode;
		struct inode_rec rec;
		enum { CHANGE_KEEP, CHANGE_NEW, CHANGE_GONE } what;
	} inodes[CHANGE_INODES];
};

void change_begin(struct change *c, struct op *op);

/* The values that the inode will have: fill them in. The same inode gives the same values again. */
struct inode_rec *change_inode(struct change *c, struct inode *inode);

/* inode is new (inode_enter()): it is taken out of the cache again when the change fails. */
struct inode_rec *change_new(struct change *c, struct inode *inode);

/* The inode's record goes; its data and xattrs are the caller's. */
void change_gone(struct change *c, struct inode *inode);

/* Bytes of the entry of a name, in its directory. */
void change_add_entry(struct change *c, struct inode *dir, uint64_t cookie, const char *name, size_t name_len,
		      uint64_t ino, uint32_t mode);
void change_replace_entry(struct change *c, struct inode *dir, uint64_t cookie, const char *name, size_t name_len,
			  uint64_t ino, uint32_t mode);
void change_remove_entry(struct change *c, struct inode *dir, uint64_t cookie, size_t name_len);

/* Put or (value NULL) delete an xattr; keeping the inode's xattr bytes and flags is xattr.c's. */
void change_xattr(struct change *c, uint64_t ino, const char *name, size_t name_len, const void *value, size_t size);

/* Put the orphan record of an inode in this state, or (state < 0) delete it. is_new: it has none. */
void change_orphan(struct change *c, uint64_t ino, int state, bool is_new);

enum change_kind {
	CHANGE_GROWS,
	CHANGE_REPLACES, /* goes in although metadata's room is short */
	CHANGE_FREES,    /* and although what it copies, because a snapshot holds it, is above the tenant's or the pool's limit */
};

/* Charge and write. result is the inode that a reply is about, 0 for none. Errors: -ENOSPC, -EDQUOT, -EROFS, -EIO; META_WAIT. */
int change_write(struct change *c, uint64_t result, enum change_kind kind);

/* Bytes of its records so far; 0: nothing but, perhaps, inodes' new values. */
size_t change_bytes(const struct change *c);

/* Give up before change_write(): takes new inodes out of the cache. */
void change_abandon(struct change *c);

struct rec_time change_now(const struct change *c);

#endif
