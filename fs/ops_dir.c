/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/ops.h"

/*
 * readdir and readdirplus. A restart builds the reply anew, so the one buffer
 * of the volume is enough: it is filled and sent within one run.
 */

struct listing {
	uint8_t *buf;
	size_t len, room;
	bool plus;
	bool hides_views_name; /* a file of that name is not to be reached: the name is ours */
	struct call *call;
};

static void reset(void *arg)
{
	struct listing *l = arg;

	l->len = 0;
}

static void put_dirent(uint8_t *at, const char *name, size_t name_len, uint64_t ino, uint32_t mode,
		       uint64_t cookie)
{
	struct fuse_dirent d = {
		.ino = ino,
		.off = cookie,
		.namelen = (uint32_t)name_len,
		.type = (mode & 0170000) >> 12,
	};

	memcpy(at, &d, FUSE_NAME_OFFSET);
	memcpy(at + FUSE_NAME_OFFSET, name, name_len);
	memset(at + FUSE_NAME_OFFSET + name_len, 0,
	       FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_len) - FUSE_NAME_OFFSET - name_len);
}

/* Without attributes ("." and ".."): a node number of 0, of which the kernel makes no dentry. */
static void put_entry(const struct call *c, uint8_t *at, const struct inode_attr *attr)
{
	struct fuse_entry_out out = { 0 };

	if (attr)
		ops_fill_entry(c, &out, attr);
	memcpy(at, &out, sizeof(out));
}

static bool emit(void *arg, const char *name, size_t name_len, uint64_t ino, uint32_t mode,
		 uint64_t cookie, const struct inode_attr *attr)
{
	struct listing *l = arg;
	size_t entry = l->plus ? sizeof(struct fuse_entry_out) : 0;
	size_t need = entry + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + name_len);

	if (l->hides_views_name && name_len == strlen(VIEWS_NAME) && !memcmp(name, VIEWS_NAME, name_len))
		return true;
	if (l->room - l->len < need)
		return false;
	if (l->plus)
		put_entry(l->call, l->buf + l->len, attr);
	put_dirent(l->buf + l->len + entry, name, name_len, call_node(l->call, ino), mode, cookie);
	l->len += need;
	return true;
}

/* Each entry with a node is a lookup. */
static void count_lookups(const struct listing *l, void (*count)(struct call *c, uint64_t ino, uint64_t n))
{
	for (size_t at = 0; at < l->len;) {
		struct fuse_entry_out entry;
		struct fuse_dirent dirent;

		memcpy(&entry, l->buf + at, sizeof(entry));
		memcpy(&dirent, l->buf + at + sizeof(entry), FUSE_NAME_OFFSET);
		if (entry.nodeid)
			count(l->call, entry.nodeid & VIEW_INO_MASK, 1);
		at += sizeof(entry) + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + dirent.namelen);
	}
}

static void list_run(struct op *op)
{
	struct call *c = call_of(op);
	struct ops_volume *v = c->volume;
	struct listing l = {
		.buf = v->scratch,
		.room = c->len < OPS_SCRATCH_BYTES ? c->len : OPS_SCRATCH_BYTES,
		.plus = c->flags != 0,
		.hides_views_name = v->views.source && !c->view && c->ino == 1,
		.call = c,
	};
	const struct names_emit to = {
		.reset = reset, .emit = emit, .arg = &l, .attrs = l.plus,
	};
	int err = names_readdir(op, c->ino, c->offset, &to);

	if (err == META_WAIT)
		return;
	if (err < 0) {
		call_done(c, err);
		return;
	}
	if (l.plus)
		count_lookups(&l, call_add_lookups);
	if (call_reply(c, l.buf, l.len) == -ENOENT && l.plus)
		count_lookups(&l, call_drop_lookups);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	struct call *c = call_new(req, list_run, ino);

	c->len = size;
	c->offset = (uint64_t)off;
	c->flags = plus;
	call_run(c);
}

void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}

/* Behind "." and "..", and in the order of their nodes. */
#define FIRST_COOKIE 3u

static bool emit_view(struct listing *l, const char *name, uint64_t node, uint64_t cookie)
{
	return cookie <= l->call->offset || emit(l, name, strlen(name), node, S_IFDIR, cookie, NULL);
}

/* Without attributes: who wants those of a view enters it. */
void ops_reply_views(struct call *c, const struct view_entry *entries, unsigned count)
{
	struct listing l = {
		.buf = c->volume->scratch,
		.room = c->len < OPS_SCRATCH_BYTES ? c->len : OPS_SCRATCH_BYTES,
		.plus = c->flags != 0,
		.call = c,
	};
	bool room = emit_view(&l, ".", VIEWS_DIR_NODE, 1) && emit_view(&l, "..", 1, 2);

	for (unsigned i = 0; i < count && room; i++)
		room = emit_view(&l, entries[i].name, (uint64_t)entries[i].number << VIEW_SHIFT | 1, FIRST_COOKIE + entries[i].node);
	call_reply(c, l.buf, l.len);
}
