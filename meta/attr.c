/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * stat and what changes it. A regular file's size and mtime belong to its data (file.h); everything else is the inode's record, written
 * at once.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/acl.h"
#include "meta/data.h"
#include "meta/file.h"
#include "meta/names.h"
#include "meta/subvol_internal.h"
#include "meta/xattr.h"

#define STEP_TRUNCATED 1u
#define ATTR_ATIMES (ATTR_ATIME | ATTR_ATIME_NOW)
#define ATTR_MTIMES (ATTR_MTIME | ATTR_MTIME_NOW)
#define OWN_ATTRS (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_ATIMES | ATTR_MTIMES | ATTR_CTIME | ATTR_KILL_SUIDGID)

int attr_get(struct op *op, uint64_t ino, struct inode_attr *out)
{
	struct inode *inode;
	int r = inode_get(op, ino, &inode);

	if (!r)
		inode_attr(inode, out);
	return r;
}

static uint32_t without_privs(uint32_t mode)
{
	mode &= ~(uint32_t)S_ISUID;
	if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

/* Into the change: take security.capability away. 0, META_WAIT, -EIO. */
static int drop_capability(struct op *op, struct change *c, struct inode *inode)
{
	cleanup_db_value struct db_value value = { 0 };
	const void *data;
	size_t size;
	int r;

	if (!(inode->rec.flags & INODE_CAPABILITY))
		return 0;
	r = xattr_read(op, inode->ino, CAPABILITY_NAME, &value, &data, &size);
	if (r && r != -ENODATA)
		return r;
	xattr_change(c, inode, CAPABILITY_NAME, NULL, 0, r ? -1 : (ssize_t)size);
	return 0;
}

/* Into the change: the access ACL follows the new mode. */
static int follow_mode(struct op *op, struct change *c, struct inode *inode, uint32_t mode)
{
	cleanup_db_value struct db_value value = { 0 };
	uint8_t acl[XATTR_BYTES_MAX];
	const void *data;
	size_t size;
	int r;

	if (!(inode->rec.flags & INODE_ACCESS_ACL))
		return 0;
	r = xattr_read(op, inode->ino, ACL_ACCESS_NAME, &value, &data, &size);
	if (r)
		return r == -ENODATA ? 0 : r;
	if (acl_validate(data, size) || size <= sizeof(le32_t))
		return -EIO;
	memcpy(acl, data, size);
	acl_chmod(acl, size, mode);
	xattr_change(c, inode, ACL_ACCESS_NAME, acl, size, (ssize_t)size);
	return 0;
}

static bool has_privs(const struct inode *inode)
{
	return without_privs(inode->rec.mode) != inode->rec.mode || (inode->rec.flags & INODE_CAPABILITY);
}

int attr_kill_privs(struct op *op, struct inode *inode)
{
	const uint32_t session = op->session;
	struct change c;
	bool kills;
	int r;

	if (!has_privs(inode))
		return 0;
	change_begin(&c, op);
	r = drop_capability(op, &c, inode);
	if (r)
		return r;
	kills = without_privs(inode->rec.mode) != inode->rec.mode;
	change_inode(&c, inode)->mode = without_privs(inode->rec.mode);
	change_inode(&c, inode)->ctime = change_now(&c);
	/* Part of a write, which is replayed as a whole and leaves no result. */
	op->session = 0;
	r = change_write(&c, 0, CHANGE_GROWS);
	op->session = session;
	op->killed_setid |= !r && kills;
	return r;
}

static struct rec_time to_rec(const struct timespec *t)
{
	return (struct rec_time){ .sec = t->tv_sec, .nsec = (uint32_t)t->tv_nsec };
}

/* The values that the inode's own record gets. */
static int fill(struct op *op, struct change *c, struct inode *inode, unsigned set, const struct inode_attr *in)
{
	struct inode_rec *rec = change_inode(c, inode);
	const bool kills = !S_ISDIR(rec->mode) && (set & (ATTR_UID | ATTR_GID | ATTR_KILL_SUIDGID));
	int r = 0;

	if (set & ATTR_UID)
		rec->uid = in->uid;
	if (set & ATTR_GID)
		rec->gid = in->gid;
	if (kills) {
		rec->mode = without_privs(rec->mode);
		r = drop_capability(op, c, inode);
	}
	if (!r && (set & ATTR_MODE)) {
		rec->mode = (rec->mode & S_IFMT) | (in->mode & 07777);
		r = follow_mode(op, c, inode, rec->mode);
	}
	if (set & ATTR_ATIMES)
		rec->atime = set & ATTR_ATIME_NOW ? change_now(c) : to_rec(&in->atime);
	if ((set & ATTR_MTIMES) && !inode->file)
		rec->mtime = set & ATTR_MTIME_NOW ? change_now(c) : to_rec(&in->mtime);
	rec->ctime = set & ATTR_CTIME ? to_rec(&in->ctime) : change_now(c);
	return r;
}

static void set_file_times(struct inode *inode, unsigned set, const struct inode_attr *in)
{
	const struct timespec now = subvol_now(inode->sv);

	if (inode->file && (set & ATTR_MTIMES))
		file_set_times(inode->file, set & ATTR_MTIME_NOW ? &now : &in->mtime, set & ATTR_CTIME ? &in->ctime : &now);
}

static int truncate(struct op *op, struct inode *inode, uint64_t size)
{
	int r;

	if (S_ISDIR(inode->rec.mode))
		return -EISDIR;
	if (!inode->file)
		return -EINVAL;
	if (op->steps & STEP_TRUNCATED)
		return 0;
	r = data_truncate(op, inode->ino, size);
	if (!r)
		op->steps |= STEP_TRUNCATED; /* again would cut off what was written since */
	return r;
}

int attr_set(struct op *op, uint64_t ino, unsigned set, const struct inode_attr *in, struct inode_attr *out)
{
	struct inode *inode;
	struct change c;
	int r = inode_get(op, ino, &inode);

	if (!r && (set & ATTR_SIZE))
		r = truncate(op, inode, in->size_bytes);
	if (r)
		return r;
	if ((set & ATTR_SIZE) && !(set & (OWN_ATTRS & ~ATTR_KILL_SUIDGID)) && !has_privs(inode))
		set &= ~(unsigned)ATTR_KILL_SUIDGID;
	if (set & OWN_ATTRS) {
		change_begin(&c, op);
		r = fill(op, &c, inode, set, in);
		if (!r)
			r = change_write(&c, ino, CHANGE_REPLACES); /* values in place of others: on a full pool, too */
		if (r)
			return r;
		set_file_times(inode, set, in);
	}
	inode_attr(inode, out);
	return 0;
}
