/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_NAMES_H
#define NVFS_META_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "meta/inode.h"
#include "meta/op.h"

/*
 * The namespace. All functions are restartable (op.h): 0 or more, -errno, or
 * META_WAIT. Permission checks are the kernel's (default_permissions). Names are 1..255 bytes without '/' and NUL, else
 * -EINVAL / -ENAMETOOLONG. Each change is one WriteBatch: all of it or nothing after a crash.
 *
 * Those that give an attr of an inode for a new dentry do NOT count a lookup; the caller calls lookup_add().
 */

int names_lookup(struct op *op, uint64_t dir, const char *name, size_t name_len, struct inode_attr *out);

/* Parent of a directory, for ".." of NFS exports. */
int names_parent(struct op *op, uint64_t dir, struct inode_attr *out);

/*
 * Create any kind of inode: mode has the type (S_IFREG, S_IFDIR, S_IFCHR, ...), umask already applied unless the directory has a
 * default ACL, in which case umask is ignored and the ACL decides. Owner: op->uid and gid, or the directory's gid when it is
 * set-gid (then a new directory is set-gid too). target for symlinks, else NULL. -EEXIST, -ENOSPC, -EDQUOT, -EMLINK.
 */
struct names_new {
	uint32_t mode, umask, rdev;
	const char *target;
};
int names_create(struct op *op, uint64_t dir, const char *name, size_t name_len, const struct names_new *what,
		 struct inode_attr *out);

/* O_TMPFILE: a regular file without a name, an orphan until it is linked. */
int names_tmpfile(struct op *op, uint64_t dir, const struct names_new *what, struct inode_attr *out);

int names_link(struct op *op, uint64_t ino, uint64_t new_dir, const char *name, size_t name_len, struct inode_attr *out);
int names_unlink(struct op *op, uint64_t dir, const char *name, size_t name_len);
int names_rmdir(struct op *op, uint64_t dir, const char *name, size_t name_len);

/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. Over an existing file: the moved file's dirty data is put first. */
int names_rename(struct op *op, uint64_t dir, const char *name, size_t name_len, uint64_t new_dir, const char *new_name,
		 size_t new_len, unsigned flags);

/* *out points into the inode until the handler returns. */
int names_readlink(struct op *op, uint64_t ino, const char **out);

/*
 * Entries after cookie `after` (0: from the start, "." and ".." have cookies 1 and 2). emit returns false when its buffer is full: that
 * entry will come again. With attrs, attr is filled for each but "." and ".." (readdirplus). A restart calls emit anew: reset
 * is called before.
 */
struct names_emit {
	void (*reset)(void *arg);
	bool (*emit)(void *arg, const char *name, size_t name_len, uint64_t ino, uint32_t mode, uint64_t cookie,
		     const struct inode_attr *attr);
	void *arg;
	bool attrs;
};
int names_readdir(struct op *op, uint64_t dir, uint64_t after, const struct names_emit *emit);

/* ---- Attributes (attr.c) ---- */

int attr_get(struct op *op, uint64_t ino, struct inode_attr *out);

enum attr_set {
	ATTR_MODE = 1 << 0, ATTR_UID = 1 << 1, ATTR_GID = 1 << 2, ATTR_SIZE = 1 << 3,
	ATTR_ATIME = 1 << 4, ATTR_MTIME = 1 << 5, ATTR_ATIME_NOW = 1 << 6, ATTR_MTIME_NOW = 1 << 7,
	ATTR_CTIME = 1 << 8, ATTR_KILL_SUIDGID = 1 << 9,
};
/* in: the fields that `set` names. A size is a truncate (data.h). A chmod keeps the access ACL in step. */
int attr_set(struct op *op, uint64_t ino, unsigned set, const struct inode_attr *in, struct inode_attr *out);

/*
 * A write by somebody without CAP_FSETID: take set-uid, set-gid (where group execution is allowed) and security.capability
 * away, in one batch, if there are any. 0, META_WAIT, -errno.
 */
int attr_kill_privs(struct op *op, struct inode *inode);

/* ---- Extended attributes (xattr.c) ---- */

/* value NULL with size 0 is an empty value. flags XATTR_CREATE, XATTR_REPLACE. -ENODATA, -EEXIST, -ERANGE, -E2BIG, -ENOSPC. */
int xattr_set(struct op *op, uint64_t ino, const char *name, const void *value, size_t size, int flags, bool kill_sgid);
/* size 0 asks for the length; else -ERANGE when buf is too small. Returns the length. */
ssize_t xattr_get(struct op *op, uint64_t ino, const char *name, void *buf, size_t size);
ssize_t xattr_list(struct op *op, uint64_t ino, void *buf, size_t size);
int xattr_remove(struct op *op, uint64_t ino, const char *name);

#endif
