/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fs/ops.h"
#include "meta/pool.h"

/* Attributes, statfs, extended attributes. */

/* ---- getattr, statx ---- */

static void getattr_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = attr_get(op, c->ino, &attr);

	if (err != META_WAIT)
		call_reply_attr(c, err, &attr);
}

void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	call_run(call_new(req, getattr_run, ino));
}

static struct abi_sx_time sx_time(const struct timespec *t)
{
	return (struct abi_sx_time){ .tv_sec = t->tv_sec, .tv_nsec = (uint32_t)t->tv_nsec };
}

static void statx_run(struct op *op)
{
	struct call *c = call_of(op);
	struct abi_statx_out out = { 0 };
	struct inode_attr a;
	int err = attr_get(op, c->ino, &a);

	if (err == META_WAIT)
		return;
	if (err) {
		call_done(c, err);
		return;
	}
	out.attr_valid = ops_attr_valid(c, &a);
	out.stat = (struct abi_statx){
		.mask = STATX_BASIC_STATS | STATX_BTIME,
		.blksize = 4096,
		.nlink = a.nlink,
		.uid = a.uid,
		.gid = a.gid,
		.mode = (uint16_t)a.mode,
		.ino = call_node(c, a.ino),
		.size = a.size_bytes,
		.blocks = ops_attr_blocks(c->request->session, &a),
		.atime = sx_time(&a.atime),
		.btime = sx_time(&a.btime),
		.ctime = sx_time(&a.ctime),
		.mtime = sx_time(&a.mtime),
		.rdev_major = major(a.rdev),
		.rdev_minor = minor(a.rdev),
	};
	call_reply(c, &out, sizeof(out));
}

bool ops_statx(struct session *s, struct request *r)
{
	(void)r;
	call_run(call_early(s, statx_run));
	return true;
}

/* ---- setattr ---- */

static void setattr_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = attr_set(op, c->ino, c->u.setattr.set, &c->u.setattr.attr, &attr);

	if (err != META_WAIT)
		call_reply_attr(c, err, &attr);
}

static unsigned setattr_what(uint32_t valid)
{
	static const struct {
		uint32_t fuse;
		unsigned set;
	} map[] = {
		{ FATTR_MODE, ATTR_MODE },
		{ FATTR_UID, ATTR_UID },
		{ FATTR_GID, ATTR_GID },
		{ FATTR_SIZE, ATTR_SIZE },
		{ FATTR_ATIME, ATTR_ATIME },
		{ FATTR_MTIME, ATTR_MTIME },
		{ FATTR_ATIME_NOW, ATTR_ATIME_NOW },
		{ FATTR_MTIME_NOW, ATTR_MTIME_NOW },
		{ FATTR_CTIME, ATTR_CTIME },
		{ FATTR_KILL_SUIDGID, ATTR_KILL_SUIDGID },
	};
	unsigned set = 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
		if (valid & map[i].fuse)
			set |= map[i].set;
	}
	/* The kernel sets both bits of a "now". */
	if (set & ATTR_ATIME_NOW)
		set &= ~(unsigned)ATTR_ATIME;
	if (set & ATTR_MTIME_NOW)
		set &= ~(unsigned)ATTR_MTIME;
	return set;
}

/* Before libfuse, which drops FATTR_KILL_SUIDGID. */
bool ops_setattr(struct session *s, struct request *r)
{
	const struct fuse_setattr_in *in = request_arg(r);
	struct call *c = call_early(s, setattr_run);

	if (request_arg_len(r) < sizeof(*in)) {
		call_done(c, -EINVAL);
		return true;
	}
	c->u.setattr.set = setattr_what(in->valid);
	c->u.setattr.attr = (struct inode_attr){
		.mode = in->mode,
		.uid = in->uid,
		.gid = in->gid,
		.size_bytes = in->size,
		.atime = { .tv_sec = (time_t)in->atime, .tv_nsec = in->atimensec },
		.mtime = { .tv_sec = (time_t)in->mtime, .tv_nsec = in->mtimensec },
		.ctime = { .tv_sec = (time_t)in->ctime, .tv_nsec = in->ctimensec },
	};
	call_run(c);
	return true;
}

/* ---- statfs ---- */

/* The claim is the disk: df in a pod shows it. */
void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct call *c = call_new(req, NULL, ino);
	struct fuse_statfs_out out = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 255 } };
	struct subvol_df df;

	subvol_df(c->sv, &df);
	out.st.blocks = df.blocks;
	out.st.bfree = df.free_blocks;
	out.st.bavail = df.available_blocks;
	out.st.files = df.inodes;
	out.st.ffree = df.free_inodes;
	call_reply(c, &out, sizeof(out));
}

/* ---- xattrs ---- */

static void setxattr_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = xattr_set(op, c->ino, c->name, c->u.data, c->len, (int)c->flags,
			    c->offset != 0);

	if (err != META_WAIT)
		call_done(c, err);
}

/* What the kernel's handlers do for other filesystems: FUSE passes any name on. */
static int check_xattr_name(const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		size_t len = strlen(spaces[i]);

		if (!strncmp(name, spaces[i], len))
			return name[len] ? 0 : -EINVAL;
	}
	return !strcmp(name, "system.posix_acl_access") ||
			       !strcmp(name, "system.posix_acl_default")
		       ? 0
		       : -EOPNOTSUPP;
}

/*
 * Before libfuse, which takes the longer form of FUSE_SETXATTR_EXT for the old one. Without that
 * flag the struct ends before setxattr_flags.
 */
bool ops_setxattr(struct session *s, struct request *r)
{
	const struct fuse_setxattr_in *in = request_arg(r);
	struct call *c = call_early(s, setxattr_run);
	size_t fixed = session_setxattr_ext(s) ? sizeof(*in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	size_t len = request_arg_len(r);
	const char *name = (const char *)in + fixed;
	size_t name_room = len > fixed ? len - fixed : 0;
	size_t name_len = strnlen(name, name_room);
	int err;

	if (name_len == name_room || in->size > name_room - name_len - 1) {
		call_done(c, -EINVAL);
		return true;
	}
	err = check_xattr_name(name);
	if (err) {
		call_done(c, err);
		return true;
	}
	c->name = name;
	c->u.data = name + name_len + 1;
	c->len = in->size;
	c->flags = in->flags;
	c->offset = fixed == sizeof(*in) && (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);
	call_run(c);
	return true;
}

static void reply_xattr(struct call *c, ssize_t n)
{
	struct fuse_getxattr_out out = { 0 };

	if (n < 0) {
		call_done(c, (int)n);
	} else if (c->len == 0) {
		out.size = (uint32_t)n;
		call_reply(c, &out, sizeof(out));
	} else {
		call_reply(c, c->volume->scratch, (size_t)n);
	}
}

static size_t xattr_room(const struct call *c)
{
	return c->len < OPS_SCRATCH_BYTES ? c->len : OPS_SCRATCH_BYTES;
}

static void getxattr_run(struct op *op)
{
	struct call *c = call_of(op);
	ssize_t n = xattr_get(op, c->ino, c->name, c->volume->scratch, xattr_room(c));

	if (n != META_WAIT)
		reply_xattr(c, n);
}

void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct call *c = call_new(req, getxattr_run, ino);
	int err = check_xattr_name(name);

	c->name = name;
	c->len = size;
	if (err)
		call_done(c, err);
	else
		call_run(c);
}

static void listxattr_run(struct op *op)
{
	struct call *c = call_of(op);
	ssize_t n = xattr_list(op, c->ino, c->volume->scratch, xattr_room(c));

	if (n != META_WAIT)
		reply_xattr(c, n);
}

void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct call *c = call_new(req, listxattr_run, ino);

	c->len = size;
	call_run(c);
}

static const char acl_prefix[] = "system.posix_acl_";

static void removexattr_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = xattr_remove(op, c->ino, c->name);

	if (err == META_WAIT)
		return;
	/* To take away an ACL that is not there is no error (as in ext4 and XFS). */
	if (err == -ENODATA && !strncmp(c->name, acl_prefix, sizeof(acl_prefix) - 1))
		err = 0;
	call_done(c, err);
}

void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct call *c = call_new(req, removexattr_run, ino);
	int err = check_xattr_name(name);

	c->name = name;
	if (err)
		call_done(c, err);
	else
		call_run(c);
}
