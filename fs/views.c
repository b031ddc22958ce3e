/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "fs/ops.h"
#include "fs/views.h"

/* Well below the numbers that there are. */
#define VIEWS_MAX 32768u

/* ---- Views ---- */

static uint16_t number_of(uint64_t node)
{
	return (uint16_t)(node >> VIEW_SHIFT);
}

static struct ops_view *by_number(struct ops_volume *v, uint16_t number)
{
	struct ops_view *view;

	DL_FOREACH(v->views.list, view) {
		if (view->number == number)
			return view;
	}
	return NULL;
}

struct ops_view *view_find(struct ops_volume *v, uint64_t node)
{
	return number_of(node) ? by_number(v, number_of(node)) : NULL;
}

static struct ops_view *by_name(struct ops_volume *v, const char *name)
{
	struct ops_view *view;

	DL_FOREACH(v->views.list, view) {
		if (!view->dead && !strcmp(view->name, name))
			return view;
	}
	return NULL;
}

static bool is_banned(const struct ops_volume *v, const char *name)
{
	const struct view_ban *ban;

	DL_FOREACH(v->views.bans, ban) {
		if (!strcmp(ban->name, name))
			return true;
	}
	return false;
}

static void free_view(struct ops_view *view)
{
	DL_DELETE(view->volume->views.list, view);
	free(view);
}

static void close_work(struct work *w)
{
	struct ops_view *view = (struct ops_view *)((char *)w - offsetof(struct ops_view, work));

	view->volume->views.source->close(view->sv);
}

static bool is_open(const struct ops_volume *v, const char *name)
{
	const struct ops_view *view;

	DL_FOREACH(v->views.list, view) {
		if (view->sv && !strcmp(view->name, name))
			return true;
	}
	return false;
}

static void tell_bans(struct ops_volume *v)
{
	struct view_ban *ban;

	DL_FOREACH(v->views.bans, ban) {
		if (!ban->told && !is_open(v, ban->name)) {
			ban->told = true;
			ban->done(ban);
		}
	}
}

static void closed(struct work *w)
{
	struct ops_view *view = (struct ops_view *)((char *)w - offsetof(struct ops_view, work));
	struct ops_volume *v = view->volume;

	view->sv = NULL;
	view->closing = false;
	tell_bans(v);
	if (!view->lookups && !view->uses)
		free_view(view);
	v->views.source->unhold(v);
}

/* Nobody uses it any more, or nobody may: close it, and free it when the kernel has forgotten its numbers. */
static void settle(struct ops_view *view)
{
	struct ops_volume *v = view->volume;

	if (view->uses || view->closing)
		return;
	if (view->sv && (view->dead || !view->lookups)) {
		view->dead = view->closing = true;
		v->views.source->hold(v);
		view->work = (struct work){ .fn = close_work, .done = closed, .reactor = view->reactor };
		workers_submit(v->views.workers, &view->work);
	} else if (!view->sv && !view->lookups) {
		free_view(view);
	}
}

void view_use(struct ops_view *view)
{
	view->uses++;
}

void view_unuse(struct ops_view *view)
{
	view->uses--;
	settle(view);
}

void view_lookups(struct ops_view *view, uint64_t n)
{
	view->lookups += n;
}

void view_forget(struct ops_view *view, uint64_t ino, uint64_t n)
{
	view->lookups -= n < view->lookups ? n : view->lookups;
	if (view->sv && !view->closing)
		lookup_forget(view->sv, ino, n);
	settle(view);
}

static uint16_t free_number(struct ops_volume *v, uint16_t wanted)
{
	uint16_t number = wanted;

	if (number && number != VIEWS_DIR && !by_number(v, number))
		return number;
	number = VIEWS_DIR - 1;
	while (number && by_number(v, number))
		number--;
	return number;
}

/* One that can be opened: afterwards nothing may fail, because only a worker could close it again. NULL: no memory, or too many. */
static struct ops_view *new_view(const struct call *c)
{
	struct ops_volume *v = c->volume;
	struct ops_view *view, *other;
	unsigned count;

	DL_COUNT(v->views.list, other, count);
	view = count < VIEWS_MAX ? calloc(1, sizeof(*view)) : NULL;
	if (!view)
		return NULL;
	view->volume = v;
	view->reactor = session_reactor(c->request->session);
	strncpy(view->name, c->name, sizeof(view->name) - 1);
	return view;
}

/* An opened one into the list, used once. dead: it is there to be closed. */
static void add_view(struct ops_view *view, uint16_t number, struct subvol *sv, bool dead)
{
	view->sv = sv;
	view->number = free_number(view->volume, number);
	view->dead = dead;
	view->uses = 1;
	DL_APPEND(view->volume->views.list, view);
}

/* ---- Entering a view ---- */

/* The attributes of its root. */
static void root_run(struct op *op)
{
	struct call *c = call_of(op);
	struct inode_attr attr;
	int err = attr_get(op, 1, &attr);

	if (err != META_WAIT)
		call_reply_entry(c, err, &attr, NULL, 0);
}

static void enter(struct call *c, struct ops_view *view)
{
	c->view = view;
	c->sv = view->sv;
	c->request->hold = view; /* in use already */
	call_again(c, root_run);
	call_run(c);
}

static void open_work(struct work *w)
{
	struct call *c = (struct call *)((char *)w - offsetof(struct call, work));

	c->u.view.err = c->volume->views.source->open(c->volume, c->name, &c->u.view.number, &c->u.view.sv);
}

static void opened(struct work *w)
{
	struct call *c = (struct call *)((char *)w - offsetof(struct call, work));
	struct ops_volume *v = c->volume;
	struct ops_view *view = by_name(v, c->name), *mine = c->u.view.view;
	const int err = c->u.view.err;
	const bool unwanted = err || view || is_banned(v, c->name); /* opened by somebody else meanwhile, or about to be deleted */

	call_again(c, root_run);
	if (err)
		free(mine);
	else
		add_view(mine, c->u.view.number, c->u.view.sv, unwanted);
	if (!err && unwanted)
		view_unuse(mine);
	if (view)
		view_use(view);
	if (view || !unwanted)
		enter(c, view ? view : mine);
	else
		call_done(c, err ? err : -ENOENT);
}

static void look_up(struct session *s, struct request *r)
{
	struct call *c = call_early(s, root_run);
	struct ops_view *view;

	c->name = request_arg(r);
	view = by_name(c->volume, c->name);
	if (is_banned(c->volume, c->name)) {
		call_done(c, -ENOENT);
	} else if (view) {
		view_use(view);
		enter(c, view);
	} else if (!(c->u.view.view = new_view(c))) {
		call_done(c, -ENOMEM);
	} else {
		op_finish(&c->op);
		c->work = (struct work){ .fn = open_work, .done = opened, .reactor = session_reactor(s) };
		workers_submit(c->volume->views.workers, &c->work);
	}
}

/* ---- The directory ---- */

static void fill_dir(struct ops_volume *v, struct inode_attr *attr)
{
	*attr = (struct inode_attr){
		.ino = VIEWS_DIR_NODE,
		.mode = S_IFDIR | 0555,
		.nlink = 2,
		.atime = v->views.since,
		.mtime = v->views.since,
		.ctime = v->views.since,
		.btime = v->views.since,
	};
}

/* .snapshots of the root. */
static void enter_dir(struct session *s)
{
	struct call *c = call_early(s, NULL);
	struct inode_attr attr;

	fill_dir(c->volume, &attr);
	ops_reply_uncounted_entry(c, &attr);
}

static void dir_attr(struct session *s)
{
	struct call *c = call_early(s, NULL);
	struct inode_attr attr;

	fill_dir(c->volume, &attr);
	call_reply_attr(c, 0, &attr);
}

static void list_work(struct work *w)
{
	struct call *c = (struct call *)((char *)w - offsetof(struct call, work));

	c->u.list.err = c->volume->views.source->list(c->volume, &c->u.list.entries, &c->u.list.count);
}

static void listed(struct work *w)
{
	struct call *c = (struct call *)((char *)w - offsetof(struct call, work));
	struct view_entry *entries = c->u.list.entries;
	int err = c->u.list.err;

	call_again(c, NULL);
	if (err)
		call_done(c, err);
	else
		ops_reply_views(c, entries, c->u.list.count);
	free(entries);
}

static void list(struct session *s, struct request *r)
{
	const struct fuse_read_in *in = request_arg(r);
	struct call *c = call_early(s, NULL);

	if (request_arg_len(r) < sizeof(*in)) {
		call_done(c, -EINVAL);
		return;
	}
	c->offset = in->offset;
	c->len = in->size;
	c->flags = r->in->opcode == FUSE_READDIRPLUS;
	c->u.list.entries = NULL;
	op_finish(&c->op);
	c->work = (struct work){ .fn = list_work, .done = listed, .reactor = session_reactor(s) };
	workers_submit(c->volume->views.workers, &c->work);
}

static void refuse(struct session *s, int err)
{
	session_reply(session_take(s, NULL), err, NULL, 0);
}

static void no_xattrs(struct session *s, struct request *r)
{
	const struct fuse_getxattr_in *in = request_arg(r);
	const struct fuse_getxattr_out none = { 0 };

	if (r->in->opcode == FUSE_GETXATTR)
		refuse(s, -ENODATA);
	else
		session_reply_buf(session_take(s, NULL), &none, request_arg_len(r) >= sizeof(*in) && in->size ? 0 : sizeof(none));
}

/* Of a newer kernel's requests nobody knows what they do; it has others for when they are not there. */
static int no_reading(uint32_t opcode)
{
	return opcode > ABI_STATX ? -ENOSYS : -EROFS;
}

/* A request for .snapshots itself. */
static bool dir_request(struct session *s, struct request *r)
{
	switch (r->in->opcode) {
	case FUSE_LOOKUP:
		look_up(s, r);
		return true;
	case FUSE_GETATTR:
		dir_attr(s);
		return true;
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
		list(s, r);
		return true;
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
		no_xattrs(s, r);
		return true;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
	case FUSE_STATFS:
	case FUSE_ACCESS:
		return false;
	case FUSE_FSYNCDIR:
		refuse(s, 0);
		return true;
	case ABI_STATX:
		refuse(s, -ENOSYS);
		return true;
	default:
		refuse(s, no_reading(r->in->opcode));
		return true;
	}
}

/* ---- What may be done where ---- */

static bool only_reads(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_GETATTR:
	case FUSE_READLINK:
	case FUSE_OPEN:
	case FUSE_READ:
	case FUSE_STATFS:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_OPENDIR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_ACCESS:
	case FUSE_LSEEK:
	case ABI_STATX:
		return true;
	default:
		return false;
	}
}

/* The other node of a request that has two, else its own. */
static uint64_t other_node(const struct request *r)
{
	const void *arg = request_arg(r);

	switch (r->in->opcode) {
	case FUSE_RENAME:
		return ((const struct fuse_rename_in *)arg)->newdir;
	case FUSE_RENAME2:
		return ((const struct fuse_rename2_in *)arg)->newdir;
	case FUSE_LINK:
		return ((const struct fuse_link_in *)arg)->oldnodeid;
	case FUSE_COPY_FILE_RANGE:
		return ((const struct fuse_copy_file_range_in *)arg)->nodeid_out;
	default:
		return r->in->nodeid;
	}
}

/* The name that a request in a directory begins with; NULL: it has none. */
static const char *name_of(const struct request *r)
{
	const char *arg = request_arg(r);

	switch (r->in->opcode) {
	case FUSE_LOOKUP:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_SYMLINK:
		return arg;
	case FUSE_MKNOD:
		return arg + sizeof(struct fuse_mknod_in);
	case FUSE_MKDIR:
		return arg + sizeof(struct fuse_mkdir_in);
	case FUSE_LINK:
		return arg + sizeof(struct fuse_link_in);
	case FUSE_RENAME:
		return arg + sizeof(struct fuse_rename_in);
	case FUSE_RENAME2:
		return arg + sizeof(struct fuse_rename2_in);
	default:
		return NULL;
	}
}

/* The second name of a rename that goes into the root. */
static const char *new_name_of(const struct request *r)
{
	const char *name = name_of(r);

	if ((r->in->opcode != FUSE_RENAME && r->in->opcode != FUSE_RENAME2) || other_node(r) != 1)
		return NULL;
	return name + strlen(name) + 1;
}

static bool is_views_name(const char *name)
{
	return name && !strcmp(name, VIEWS_NAME);
}

/* In the live tree: the name .snapshots of its root is ours. */
static bool live_request(struct session *s, struct request *r)
{
	const bool in_root = r->in->nodeid == 1 && is_views_name(name_of(r));

	if (in_root && r->in->opcode == FUSE_LOOKUP) {
		enter_dir(s);
		return true;
	}
	if (!in_root && !is_views_name(new_name_of(r)))
		return false;
	refuse(s, -EPERM);
	return true;
}

static bool view_request(struct session *s, struct request *r)
{
	struct ops_view *view = view_find(session_arg(s), r->in->nodeid);

	if (!view || view->dead) {
		refuse(s, -ESTALE);
		return true;
	}
	if (r->in->opcode == FUSE_FSYNC || r->in->opcode == FUSE_FSYNCDIR) {
		refuse(s, 0); /* nothing of it is dirty */
		return true;
	}
	if (!only_reads(r->in->opcode)) {
		refuse(s, no_reading(r->in->opcode));
		return true;
	}
	view_use(view);
	r->hold = view;
	return false;
}

bool views_early(struct session *s, struct request *r)
{
	struct ops_volume *v = session_arg(s);
	const uint64_t node = r->in->nodeid;

	if (!v->views.source) {
		if (number_of(node))
			refuse(s, -ESTALE);
		return number_of(node);
	}
	if (number_of(other_node(r)) != number_of(node)) {
		refuse(s, -EXDEV);
		return true;
	}
	if (!number_of(node))
		return live_request(s, r);
	return number_of(node) == VIEWS_DIR ? dir_request(s, r) : view_request(s, r);
}

/* ---- Deleted snapshots ---- */

void views_ban(struct ops_volume *v, struct view_ban *ban)
{
	struct ops_view *view, *next;

	ban->told = false;
	DL_APPEND(v->views.bans, ban);
	DL_FOREACH_SAFE(v->views.list, view, next) {
		if (!strcmp(view->name, ban->name)) {
			view->dead = true;
			settle(view);
		}
	}
	tell_bans(v);
}

void views_unban(struct ops_volume *v, struct view_ban *ban)
{
	DL_DELETE(v->views.bans, ban);
}

void views_end(struct ops_volume *v)
{
	struct ops_view *view, *next;

	DL_FOREACH_SAFE(v->views.list, view, next) {
		if (view->sv)
			v->views.source->close(view->sv);
		free_view(view);
	}
}
