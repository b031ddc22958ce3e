/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/ops.h"

/* Names and links. The directory is call->ino, the name call->name. */

static struct call *named_call(fuse_req_t req, void (*run)(struct op *op), fuse_ino_t dir,
			       const char *name)
{
	struct call *c = call_new(req, run, dir);

	c->name = name;
	c->name_len = strlen(name);
	return c;
}

/* ---- lookup ---- */

/* No such name: an entry without a node, which the kernel remembers, too. */
static void reply_negative(struct call *c)
{
	struct fuse_entry_out out = { .entry_valid = ops_entry_valid(c) };

	call_reply(c, &out, sizeof(out));
}

static void lookup_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = names_lookup(op, c->ino, c->name, c->name_len, &attr);

	if (err == META_WAIT)
		return;
	if (err == -ENOENT)
		reply_negative(c);
	else
		call_reply_entry(c, err, &attr, NULL, 0);
}

/*
 * "." and "..", which only file handles ask for, and only for inodes that the kernel does not know: one without a
 * name has no user any more and waits for its reaper.
 */
static void lookup_self_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = attr_get(op, c->ino, &attr);

	if (!err && attr.nlink == 0)
		err = -ESTALE;
	if (err != META_WAIT)
		call_reply_entry(c, err, &attr, NULL, 0);
}

static void lookup_parent_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = names_parent(op, c->ino, &attr);

	if (err != META_WAIT)
		call_reply_entry(c, err, &attr, NULL, 0);
}

void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	void (*run)(struct op *op) = lookup_run;

	if (!strcmp(name, "."))
		run = lookup_self_run;
	else if (!strcmp(name, ".."))
		run = lookup_parent_run;
	call_run(named_call(req, run, parent, name));
}

/* ---- create ---- */

static void create_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = names_create(op, c->ino, c->name, c->name_len, &c->u.create, &attr);

	if (err != META_WAIT)
		call_reply_entry(c, err, &attr, NULL, 0);
}

static void create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		   const char *target)
{
	struct call *c = named_call(req, create_run, parent, name);

	c->u.create = (struct names_new){
		.mode = mode,
		.umask = target ? 0 : fuse_req_ctx(req)->umask,
		.rdev = (uint32_t)rdev,
		.target = target,
	};
	call_run(c);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	create(req, parent, name, mode, rdev, NULL);
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	create(req, parent, name, (mode & ~(mode_t)S_IFMT) | S_IFDIR, 0, NULL);
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	create(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void tmpfile_run(struct op *op)
{
	struct call *c = call_of(op);
	struct fuse_open_out open = { .open_flags = FOPEN_KEEP_CACHE };
	struct inode_attr attr;
	int err = names_tmpfile(op, c->ino, &c->u.create, &attr);

	if (err == META_WAIT)
		return;
	if (session_parallel_dio(c->request->session) && (c->flags & O_DIRECT))
		open.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
	call_reply_entry(c, err, &attr, &open, sizeof(open));
}

bool ops_tmpfile(struct session *s, struct request *r)
{
	const struct fuse_create_in *in = request_arg(r);
	struct call *c = call_early(s, tmpfile_run);

	if (request_arg_len(r) < sizeof(*in)) {
		call_done(c, -EINVAL);
		return true;
	}
	c->flags = in->flags;
	c->u.create = (struct names_new){
		.mode = (in->mode & ~(uint32_t)S_IFMT) | S_IFREG,
		.umask = in->umask,
	};
	call_run(c);
	return true;
}

/* ---- link, unlink, rename, readlink ---- */

static void link_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = names_link(op, c->ino2, c->ino, c->name, c->name_len, &attr);

	if (err != META_WAIT)
		call_reply_entry(c, err, &attr, NULL, 0);
}

void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct call *c = named_call(req, link_run, parent, name);

	c->ino2 = ino & VIEW_INO_MASK;
	call_run(c);
}

static void unlink_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = names_unlink(op, c->ino, c->name, c->name_len);

	if (err != META_WAIT)
		call_done(c, err);
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	call_run(named_call(req, unlink_run, parent, name));
}

static void rmdir_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = names_rmdir(op, c->ino, c->name, c->name_len);

	if (err != META_WAIT)
		call_done(c, err);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	call_run(named_call(req, rmdir_run, parent, name));
}

static void rename_run(struct op *op)
{
	struct call *c = call_of(op);
	int err = names_rename(op, c->ino, c->name, c->name_len, c->ino2, c->u.to.name,
			       c->u.to.len, c->flags);

	if (err != META_WAIT)
		call_done(c, err);
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to,
		const char *to_name, unsigned flags)
{
	struct call *c = named_call(req, rename_run, parent, name);

	c->ino2 = to & VIEW_INO_MASK;
	c->u.to.name = to_name;
	c->u.to.len = strlen(to_name);
	c->flags = flags;
	call_run(c);
}

static void readlink_run(struct op *op)
{
	struct call *c = call_of(op);
	const char *target;
	int err = names_readlink(op, c->ino, &target);

	if (err == META_WAIT)
		return;
	if (err)
		call_done(c, err);
	else
		call_reply(c, target, strlen(target));
}

void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	call_run(call_new(req, readlink_run, ino));
}
