/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/ops.h"
#include "io/log.h"

void call_again(struct call *c, void (*run)(struct op *op))
{
	const struct request *r = c->request;

	op_init(&c->op, c->sv, run);
	c->op.uid = r->in->uid;
	c->op.gid = r->in->gid;
	c->op.session = session_number(r->session);
	c->op.slot = r->slot;
	c->op.unique = r->unique;
}

static struct call *start(struct session *s, fuse_req_t req, void (*run)(struct op *op),
			  uint64_t ino)
{
	struct request *r = session_take(s, req);
	struct call *c = r->priv;

	c->request = r;
	c->volume = session_arg(s);
	c->view = r->hold;
	c->sv = c->view ? c->view->sv : c->volume->sv;
	call_again(c, run);
	c->ino = ino & VIEW_INO_MASK;
	return c;
}

struct call *call_new(fuse_req_t req, void (*run)(struct op *op), uint64_t ino)
{
	return start(fuse_req_userdata(req), req, run, ino);
}

struct call *call_early(struct session *s, void (*run)(struct op *op))
{
	struct call *c = start(s, NULL, run, 0);

	c->ino = c->request->in->nodeid & VIEW_INO_MASK;
	return c;
}

/* ---- Answers ---- */

void call_done(struct call *c, int err)
{
	session_reply(c->request, err, NULL, 0);
	op_finish(&c->op);
}

int call_reply(struct call *c, const void *buf, size_t len)
{
	int err = session_reply_buf(c->request, buf, len);

	op_finish(&c->op);
	return err;
}

/*
 * What is written through a mapping, or held in the kernel's write-back cache, has no blocks here yet, and tar -S takes a file of some
 * size without blocks for one hole. So a regular file has at least one when it has a size, which with the write-back cache is not known.
 */
uint64_t ops_attr_blocks(const struct session *s, const struct inode_attr *attr)
{
	if (S_ISREG(attr->mode) && !attr->blocks512 && (attr->size_bytes || session_writeback(s)))
		return 8;
	return attr->blocks512;
}

static void fill_attr(const struct call *c, struct fuse_attr *out, const struct inode_attr *attr)
{
	const struct session *s = c->request->session;

	*out = (struct fuse_attr){
		.ino = call_node(c, attr->ino),
		.size = attr->size_bytes,
		.blocks = ops_attr_blocks(s, attr),
		.atime = (uint64_t)attr->atime.tv_sec,
		.mtime = (uint64_t)attr->mtime.tv_sec,
		.ctime = (uint64_t)attr->ctime.tv_sec,
		.atimensec = (uint32_t)attr->atime.tv_nsec,
		.mtimensec = (uint32_t)attr->mtime.tv_nsec,
		.ctimensec = (uint32_t)attr->ctime.tv_nsec,
		.mode = attr->mode,
		.nlink = attr->nlink,
		.uid = attr->uid,
		.gid = attr->gid,
		.rdev = attr->rdev,
		.blksize = 4096,
	};
}

/*
 * With its write-back cache the kernel does not drop the attributes of a file that it writes, because it keeps size and times
 * itself. The number of blocks would stay what it was before.
 */
uint64_t ops_attr_valid(const struct call *c, const struct inode_attr *attr)
{
	return session_writeback(c->request->session) && S_ISREG(attr->mode) && !c->view ? 0 : ops_entry_valid(c);
}

uint64_t ops_entry_valid(const struct call *c)
{
	return c->view ? OPS_VIEW_VALID_SECONDS : OPS_VALID_SECONDS;
}

void ops_fill_entry(const struct call *c, struct fuse_entry_out *out, const struct inode_attr *attr)
{
	*out = (struct fuse_entry_out){
		.nodeid = call_node(c, attr->ino),
		.generation = attr->generation,
		.entry_valid = ops_entry_valid(c),
		.attr_valid = ops_attr_valid(c, attr),
	};
	fill_attr(c, &out->attr, attr);
}

void call_reply_attr(struct call *c, int err, const struct inode_attr *attr)
{
	struct fuse_attr_out out = { 0 };

	if (err) {
		call_done(c, err);
		return;
	}
	out.attr_valid = ops_attr_valid(c, attr);
	fill_attr(c, &out.attr, attr);
	call_reply(c, &out, sizeof(out));
}

void call_add_lookups(struct call *c, uint64_t ino, uint64_t n)
{
	lookup_add(c->sv, ino, n);
	if (c->view)
		view_lookups(c->view, n);
}

void call_drop_lookups(struct call *c, uint64_t ino, uint64_t n)
{
	if (c->view)
		view_forget(c->view, ino, n);
	else
		lookup_forget(c->sv, ino, n);
}

void call_reply_entry(struct call *c, int err, const struct inode_attr *attr, const void *extra,
		      size_t extra_len)
{
	struct fuse_entry_out out;
	struct iovec iov[2] = { { &out, sizeof(out) }, { (void *)extra, extra_len } };

	if (err) {
		call_done(c, err);
		return;
	}
	ops_fill_entry(c, &out, attr);
	call_add_lookups(c, attr->ino, 1);
	/* A reply that the kernel did not take counts nothing. */
	if (session_reply(c->request, 0, iov, extra_len ? 2 : 1) == -ENOENT)
		call_drop_lookups(c, attr->ino, 1);
	op_finish(&c->op);
}

void ops_reply_uncounted_entry(struct call *c, const struct inode_attr *attr)
{
	struct fuse_entry_out out;

	ops_fill_entry(c, &out, attr);
	call_reply(c, &out, sizeof(out));
}

/* ---- Before libfuse ---- */

static void forget_node(struct ops_volume *v, uint64_t node, uint64_t n)
{
	struct ops_view *view = view_find(v, node);

	if (view)
		view_forget(view, node & VIEW_INO_MASK, n);
	else if (node <= VIEW_INO_MASK)
		lookup_forget(v->sv, node, n);
}

static bool forget(struct session *s, struct request *r)
{
	const struct fuse_forget_in *in = request_arg(r);

	if (request_arg_len(r) >= sizeof(*in))
		forget_node(session_arg(s), r->in->nodeid, in->nlookup);
	return true;
}

static bool batch_forget(struct session *s, struct request *r)
{
	const struct fuse_batch_forget_in *in = request_arg(r);
	const struct fuse_forget_one *one = (const void *)(in + 1);
	struct ops_volume *v = session_arg(s);

	if (request_arg_len(r) < sizeof(*in) + (size_t)in->count * sizeof(*one))
		return true;
	for (uint32_t i = 0; i < in->count; i++)
		forget_node(v, one[i].nodeid, one[i].nlookup);
	return true;
}

/*
 * INTERRUPT asks to hurry; every wait here ends by itself, and no answer to it is expected.
 */
static bool early(struct session *s, struct request *r)
{
	switch (r->in->opcode) {
	case FUSE_INTERRUPT:
		return true;
	case FUSE_FORGET:
		return forget(s, r);
	case FUSE_BATCH_FORGET:
		return batch_forget(s, r);
	}
	if (views_early(s, r))
		return true;
	switch (r->in->opcode) {
	case FUSE_READ:
		return ops_read(s, r);
	case FUSE_WRITE:
		return ops_write(s, r);
	case FUSE_SETATTR:
		return ops_setattr(s, r);
	case FUSE_SETXATTR:
		return ops_setxattr(s, r);
	case ABI_STATX:
		return ops_statx(s, r);
	case FUSE_TMPFILE:
		return ops_tmpfile(s, r);
	case FUSE_SYNCFS:
		return ops_syncfs(s, r);
	case FUSE_OPEN:
		return session_parallel_dio(s) && ops_open_parallel(s, r);
	default:
		return false;
	}
}

/*
 * What counts against which limit (docs/architecture.md, section 7): everything that reaches us is work, so the operations on names and
 * attributes count as reads or writes, by whether they change something. What gives back, ends or makes durable is free: who waits for
 * it is not served by its waiting. Of data, what was asked for.
 */
static enum throttle_kind cost(const struct request *r, uint64_t *bytes)
{
	switch (r->in->opcode) {
	case FUSE_READ:
		if (request_arg_len(r) >= sizeof(struct fuse_read_in))
			*bytes = ((const struct fuse_read_in *)request_arg(r))->size;
		return THROTTLE_READ;
	case FUSE_WRITE:
		if (request_arg_len(r) >= sizeof(struct fuse_write_in))
			*bytes = ((const struct fuse_write_in *)request_arg(r))->size;
		return THROTTLE_WRITE;
	case FUSE_LOOKUP:
	case FUSE_GETATTR:
	case ABI_STATX:
	case FUSE_READLINK:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_LSEEK:
		return THROTTLE_READ;
	case FUSE_SETATTR:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_TMPFILE:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return THROTTLE_WRITE;
	default:
		return THROTTLE_NONE;
	}
}

/*
 * ENOSYS once, and the kernel never sends it again: files and directories have no open state here,
 * pages and directory contents stay cached over a close. CREATE is left out for the same reason: without it
 * the kernel sends one MKNOD and no RELEASE.
 */
static void no_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	fuse_reply_err(req, ENOSYS);
}

static const struct fuse_lowlevel_ops fuse_ops = {
	.lookup = ops_lookup,
	.getattr = ops_getattr,
	.readlink = ops_readlink,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.symlink = ops_symlink,
	.rename = ops_rename,
	.link = ops_link,
	.open = no_open,
	.opendir = no_open,
	.fsync = ops_fsync,
	.fsyncdir = ops_fsync,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.statfs = ops_statfs,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
	.fallocate = ops_fallocate,
	.lseek = ops_lseek,
	.copy_file_range = ops_copy_file_range,
};

static void release(struct session *s, void *hold)
{
	(void)s;
	view_unuse(hold);
}

const struct session_ops ops_session = {
	.fuse = &fuse_ops,
	.priv_bytes = sizeof(struct call),
	.early = early,
	.release = release,
	.cost = cost,
};
