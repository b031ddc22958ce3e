/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <uthash.h>

#include "meta/data.h"
#include "meta/inode.h"
#include "meta/names.h"
#include "meta/op.h"
#include "meta/pool.h"
#include "tests/fake/fake_meta.h"

#define FILE_MAX (UINT64_C(1) << 30) /* of data that is kept */
#define ZEROS (1u << 20)

struct entry {
	char *name;
	struct node *node;
	uint64_t cookie;
	UT_hash_handle hh;
};

struct fake_xattr {
	char *name;
	void *value;
	size_t size;
	UT_hash_handle hh;
};

struct node {
	struct inode_attr attr;
	struct node *parent;    /* of a directory */
	struct entry *entries;
	struct entry **order;   /* by cookie - 3 */
	size_t order_len, order_room;
	char *target;
	uint8_t *data;
	size_t room;
	struct fake_xattr *xattrs;
	uint64_t lookups;
};

struct subvol {
	struct reactor *reactor;
	struct fake_options options;
	struct node **nodes; /* by number */
	_Atomic uint64_t count, lookups; /* read by other threads */
	uint64_t room;
	unsigned calls;
	uint64_t iteration;  /* of the last create */
	unsigned creates, most_creates; /* in it, and in any one */
	uint8_t *zeros;
	struct timespec now;
	struct throttle throttle;
};

/* ---- ops ---- */

void op_init(struct op *op, struct subvol *sv, void (*run)(struct op *op))
{
	memset(op, 0, sizeof(*op));
	op->sv = sv;
	op->run = run;
}

void op_finish(struct op *op)
{
	if (op->io_release)
		op->io_release(op);
	op->io_release = NULL;
}

static void run_again(struct reactor *r, struct reactor_msg *msg)
{
	struct op *op = (void *)((char *)msg - offsetof(struct op, msg));

	(void)r;
	op->run(op);
}

static void run_late(struct reactor *r, struct reactor_timer *t)
{
	struct op *op = (void *)((char *)t - offsetof(struct op, timer));

	(void)r;
	op->run(op);
}

/* Whether op shall be seen to wait; called first in each function. */
static bool waits(struct op *op)
{
	struct subvol *sv = op->sv;

	clock_gettime(CLOCK_REALTIME_COARSE, &sv->now);
	if (!sv->options.wait_every || op->restarts || ++sv->calls % sv->options.wait_every)
		return false;
	op->restarts++;
	if (sv->options.wait_us) {
		op->timer.fn = run_late;
		reactor_timer_add(sv->reactor, &op->timer,
				  reactor_now_ns(sv->reactor) + sv->options.wait_us * 1000ull);
	} else {
		op->msg.fn = run_again;
		reactor_defer(sv->reactor, &op->msg);
	}
	return true;
}

static void take_turn(struct subvol *sv)
{
	struct reactor_stats stats;

	reactor_stats(sv->reactor, &stats);
	if (stats.iterations != sv->iteration)
		sv->creates = 0;
	sv->iteration = stats.iterations;
	if (++sv->creates > sv->most_creates)
		sv->most_creates = sv->creates;
	while (sv->options.slow_creates && reactor_meter(sv->reactor) && !reactor_turn_is_over(sv->reactor))
		;
}

unsigned fake_most_creates(const struct subvol *sv)
{
	return sv->most_creates;
}

/* ---- nodes ---- */

static struct node *find(struct subvol *sv, uint64_t ino)
{
	return ino < sv->count ? sv->nodes[ino] : NULL;
}

static struct node *new_node(struct subvol *sv, uint32_t mode, uint32_t uid, uint32_t gid)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	if (sv->count == sv->room) {
		struct node **grown = realloc(sv->nodes, (sv->room * 2 + 64) * sizeof(*grown));

		if (!grown) {
			free(n);
			return NULL;
		}
		sv->nodes = grown;
		sv->room = sv->room * 2 + 64;
	}
	n->attr = (struct inode_attr){ .ino = sv->count, .mode = mode, .uid = uid, .gid = gid,
		.nlink = S_ISDIR(mode) ? 2 : 1, .generation = 1, .atime = sv->now,
		.mtime = sv->now, .ctime = sv->now, .btime = sv->now };
	sv->nodes[sv->count++] = n;
	return n;
}

static void free_node(struct subvol *sv, struct node *n)
{
	struct fake_xattr *x, *next_x;
	struct entry *e, *next_e;

	HASH_ITER(hh, n->xattrs, x, next_x) {
		HASH_DEL(n->xattrs, x);
		free(x->name);
		free(x->value);
		free(x);
	}
	HASH_ITER(hh, n->entries, e, next_e) {
		HASH_DEL(n->entries, e);
		free(e->name);
		free(e);
	}
	sv->nodes[n->attr.ino] = NULL;
	free(n->order);
	free(n->target);
	free(n->data);
	free(n);
}

static void reap(struct subvol *sv, struct node *n)
{
	if (n->attr.nlink == 0 && n->lookups == 0)
		free_node(sv, n);
}

void lookup_add(struct subvol *sv, uint64_t ino, uint64_t n)
{
	struct node *node = find(sv, ino);

	assert(node);
	node->lookups += n;
	sv->lookups += n;
}

void lookup_forget(struct subvol *sv, uint64_t ino, uint64_t n)
{
	struct node *node = find(sv, ino);

	if (!node || ino == INO_ROOT)
		return;
	assert(node->lookups >= n);
	node->lookups -= n;
	sv->lookups -= n;
	reap(sv, node);
}

uint64_t fake_lookups(const struct subvol *sv)
{
	return sv->lookups;
}

bool fake_attr(struct subvol *sv, uint64_t ino, struct inode_attr *out)
{
	struct node *n = find(sv, ino);

	if (n)
		*out = n->attr;
	return n;
}

struct subvol *fake_new(struct reactor *r, const struct fake_options *options)
{
	struct subvol *sv = calloc(1, sizeof(*sv));

	if (!sv)
		return NULL;
	sv->reactor = r;
	sv->options = *options;
	sv->zeros = calloc(1, ZEROS);
	throttle_init(&sv->throttle);
	clock_gettime(CLOCK_REALTIME, &sv->now);
	new_node(sv, 0, 0, 0);
	new_node(sv, S_IFDIR | 0755, 0, 0);
	sv->nodes[INO_ROOT]->parent = sv->nodes[INO_ROOT];
	sv->nodes[INO_ROOT]->lookups = 1;
	sv->lookups = 0;
	return sv;
}

void fake_free(struct subvol *sv)
{
	for (uint64_t i = 0; i < sv->count; i++) {
		if (sv->nodes[i])
			free_node(sv, sv->nodes[i]);
	}
	free(sv->nodes);
	free(sv->zeros);
	free(sv);
}

/* ---- names ---- */

static struct entry *find_entry(struct node *dir, const char *name, size_t len)
{
	struct entry *e;

	HASH_FIND(hh, dir->entries, name, len, e);
	return e;
}

static int add_entry(struct subvol *sv, struct node *dir, const char *name, size_t len,
		     struct node *node)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (dir->order_len == dir->order_room) {
		size_t room = dir->order_room * 2 + 16;
		struct entry **grown = realloc(dir->order, room * sizeof(*grown));

		if (!grown || !e) {
			free(e);
			return -ENOMEM;
		}
		dir->order = grown;
		dir->order_room = room;
	}
	e->name = strndup(name, len);
	e->node = node;
	e->cookie = dir->order_len + 3;
	dir->order[dir->order_len++] = e;
	HASH_ADD_KEYPTR(hh, dir->entries, e->name, len, e);
	dir->attr.mtime = dir->attr.ctime = sv->now;
	dir->attr.size_bytes = HASH_COUNT(dir->entries) * 32;
	if (S_ISDIR(node->attr.mode)) {
		dir->attr.nlink++;
		node->parent = dir;
	}
	return 0;
}

static void remove_entry(struct subvol *sv, struct node *dir, struct entry *e)
{
	HASH_DEL(dir->entries, e);
	dir->order[e->cookie - 3] = NULL;
	if (HASH_COUNT(dir->entries) == 0)
		dir->order_len = 0;
	dir->attr.mtime = dir->attr.ctime = sv->now;
	dir->attr.size_bytes = HASH_COUNT(dir->entries) * 32;
	if (S_ISDIR(e->node->attr.mode))
		dir->attr.nlink--;
	free(e->name);
	free(e);
}

int names_lookup(struct op *op, uint64_t dir, const char *name, size_t name_len,
		 struct inode_attr *out)
{
	struct node *d;
	struct entry *e;

	if (waits(op))
		return META_WAIT;
	d = find(op->sv, dir);
	if (!d)
		return -ENOENT;
	if (name_len > 255)
		return -ENAMETOOLONG;
	e = find_entry(d, name, name_len);
	if (!e)
		return -ENOENT;
	*out = e->node->attr;
	return 0;
}

int names_parent(struct op *op, uint64_t dir, struct inode_attr *out)
{
	struct node *d;

	if (waits(op))
		return META_WAIT;
	d = find(op->sv, dir);
	if (!d || !d->parent)
		return -ENOENT;
	*out = d->parent->attr;
	return 0;
}

static struct node *make(struct op *op, struct node *dir, const struct names_new *what)
{
	struct node *n;
	uint32_t mode = what->mode & ~what->umask;
	bool inherit = dir->attr.mode & S_ISGID;

	if (inherit && S_ISDIR(mode))
		mode |= S_ISGID;
	n = new_node(op->sv, mode, op->uid, inherit ? dir->attr.gid : op->gid);
	if (!n)
		return NULL;
	n->attr.rdev = what->rdev;
	if (what->target) {
		n->target = strdup(what->target);
		n->attr.size_bytes = strlen(what->target);
	}
	return n;
}

int names_create(struct op *op, uint64_t dir, const char *name, size_t name_len,
		 const struct names_new *what, struct inode_attr *out)
{
	struct node *d, *n;

	if (waits(op))
		return META_WAIT;
	take_turn(op->sv);
	d = find(op->sv, dir);
	if (!d || d->attr.nlink == 0)
		return -ENOENT;
	if (name_len > 255)
		return -ENAMETOOLONG;
	if (find_entry(d, name, name_len))
		return -EEXIST;
	n = make(op, d, what);
	if (!n || add_entry(op->sv, d, name, name_len, n))
		return -ENOMEM;
	*out = n->attr;
	return 0;
}

int names_tmpfile(struct op *op, uint64_t dir, const struct names_new *what, struct inode_attr *out)
{
	struct node *d, *n;

	if (waits(op))
		return META_WAIT;
	d = find(op->sv, dir);
	n = d ? make(op, d, what) : NULL;
	if (!n)
		return -ENOENT;
	n->attr.nlink = 0;
	*out = n->attr;
	return 0;
}

int names_link(struct op *op, uint64_t ino, uint64_t new_dir, const char *name, size_t name_len,
	       struct inode_attr *out)
{
	struct node *d, *n;

	if (waits(op))
		return META_WAIT;
	d = find(op->sv, new_dir);
	n = find(op->sv, ino);
	if (!d || !n || d->attr.nlink == 0)
		return -ENOENT;
	if (find_entry(d, name, name_len))
		return -EEXIST;
	if (add_entry(op->sv, d, name, name_len, n))
		return -ENOMEM;
	n->attr.nlink++;
	n->attr.ctime = op->sv->now;
	*out = n->attr;
	return 0;
}

static void drop_link(struct subvol *sv, struct node *n)
{
	n->attr.ctime = sv->now;
	n->attr.nlink -= S_ISDIR(n->attr.mode) ? 2 : 1;
	reap(sv, n);
}

static int removable(struct entry *e, bool want_dir)
{
	if (!e)
		return -ENOENT;
	if (want_dir && !S_ISDIR(e->node->attr.mode))
		return -ENOTDIR;
	if (!want_dir && S_ISDIR(e->node->attr.mode))
		return -EISDIR;
	return HASH_COUNT(e->node->entries) ? -ENOTEMPTY : 0;
}

static int remove_name(struct op *op, uint64_t dir, const char *name, size_t name_len, bool is_dir)
{
	struct node *d = find(op->sv, dir), *n;
	struct entry *e = d ? find_entry(d, name, name_len) : NULL;
	int err = removable(e, is_dir);

	if (err)
		return err;
	n = e->node;
	remove_entry(op->sv, d, e);
	drop_link(op->sv, n);
	return 0;
}

int names_unlink(struct op *op, uint64_t dir, const char *name, size_t name_len)
{
	return waits(op) ? META_WAIT : remove_name(op, dir, name, name_len, false);
}

int names_rmdir(struct op *op, uint64_t dir, const char *name, size_t name_len)
{
	return waits(op) ? META_WAIT : remove_name(op, dir, name, name_len, true);
}

static int exchange(struct subvol *sv, struct node *a, struct entry *ea, struct node *b,
		    struct entry *eb)
{
	struct node *na = ea->node, *nb = eb->node;

	if (S_ISDIR(na->attr.mode)) {
		na->parent = b;
		a->attr.nlink--;
		b->attr.nlink++;
	}
	if (S_ISDIR(nb->attr.mode)) {
		nb->parent = a;
		b->attr.nlink--;
		a->attr.nlink++;
	}
	ea->node = nb;
	eb->node = na;
	na->attr.ctime = nb->attr.ctime = sv->now;
	a->attr.mtime = a->attr.ctime = b->attr.mtime = b->attr.ctime = sv->now;
	return 0;
}

static bool inside(const struct node *dir, const struct node *tree)
{
	for (; dir != dir->parent; dir = dir->parent) {
		if (dir == tree)
			return true;
	}
	return false;
}

int names_rename(struct op *op, uint64_t dir, const char *name, size_t name_len, uint64_t new_dir,
		 const char *new_name, size_t new_len, unsigned flags)
{
	struct subvol *sv = op->sv;
	struct node *d, *to, *n;
	struct entry *e, *old;
	int err;

	if (waits(op))
		return META_WAIT;
	d = find(sv, dir);
	to = find(sv, new_dir);
	e = d ? find_entry(d, name, name_len) : NULL;
	if (!e || !to)
		return -ENOENT;
	n = e->node;
	old = find_entry(to, new_name, new_len);
	if (S_ISDIR(n->attr.mode) && inside(to, n))
		return -EINVAL;
	if (flags & RENAME_EXCHANGE)
		return old ? exchange(sv, d, e, to, old) : -ENOENT;
	if (old && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	if (old && old->node == n)
		return 0;
	err = old ? removable(old, S_ISDIR(n->attr.mode)) : 0;
	if (err)
		return err;
	if (old) {
		struct node *gone = old->node;

		remove_entry(sv, to, old);
		drop_link(sv, gone);
	}
	remove_entry(sv, d, e);
	n->attr.ctime = sv->now;
	return add_entry(sv, to, new_name, new_len, n);
}

int names_readlink(struct op *op, uint64_t ino, const char **out)
{
	struct node *n;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n || !n->target)
		return n ? -EINVAL : -ENOENT;
	*out = n->target;
	return 0;
}

int names_readdir(struct op *op, uint64_t dir, uint64_t after, const struct names_emit *emit)
{
	struct node *d;

	if (waits(op))
		return META_WAIT;
	emit->reset(emit->arg);
	d = find(op->sv, dir);
	if (!d)
		return -ENOENT;
	if (after < 1 && !emit->emit(emit->arg, ".", 1, dir, S_IFDIR, 1, NULL))
		return 0;
	if (after < 2 && !emit->emit(emit->arg, "..", 2, d->parent->attr.ino, S_IFDIR, 2, NULL))
		return 0;
	for (size_t i = after < 2 ? 0 : after - 2; i < d->order_len; i++) {
		struct entry *e = d->order[i];

		if (e && !emit->emit(emit->arg, e->name, strlen(e->name), e->node->attr.ino,
				     e->node->attr.mode, e->cookie,
				     emit->attrs ? &e->node->attr : NULL))
			return 0;
	}
	return 0;
}

/* ---- attributes ---- */

int attr_get(struct op *op, uint64_t ino, struct inode_attr *out)
{
	struct node *n;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	*out = n->attr;
	return 0;
}

static void kill_suidgid(struct node *n)
{
	if ((n->attr.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		n->attr.mode &= ~(uint32_t)S_ISGID;
	n->attr.mode &= ~(uint32_t)S_ISUID;
}

static void changed(struct subvol *sv, struct node *n)
{
	n->attr.mtime = n->attr.ctime = sv->now;
	n->attr.blocks512 = (n->attr.size_bytes + 4095) / 4096 * 8;
}

static int resize(struct subvol *sv, struct node *n, uint64_t size)
{
	uint64_t old = n->attr.size_bytes;

	if (!sv->options.discard) {
		if (size > FILE_MAX)
			return -EFBIG;
		if (size > n->room) {
			uint8_t *grown = realloc(n->data, size);

			if (!grown)
				return -ENOMEM;
			n->data = grown;
			n->room = size;
		}
		if (size > old)
			memset(n->data + old, 0, size - old);
	}
	n->attr.size_bytes = size;
	changed(sv, n);
	return 0;
}

int attr_set(struct op *op, uint64_t ino, unsigned set, const struct inode_attr *in,
	     struct inode_attr *out)
{
	struct node *n;
	int err;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	err = set & ATTR_SIZE ? resize(op->sv, n, in->size_bytes) : 0;
	if (err)
		return err;
	if (set & ATTR_MODE)
		n->attr.mode = (n->attr.mode & S_IFMT) | (in->mode & ~(uint32_t)S_IFMT);
	if (set & ATTR_UID)
		n->attr.uid = in->uid;
	if (set & ATTR_GID)
		n->attr.gid = in->gid;
	if (set & ATTR_KILL_SUIDGID)
		kill_suidgid(n);
	n->attr.ctime = set & ATTR_CTIME ? in->ctime : op->sv->now;
	if (set & (ATTR_ATIME | ATTR_ATIME_NOW))
		n->attr.atime = set & ATTR_ATIME ? in->atime : op->sv->now;
	if (set & (ATTR_MTIME | ATTR_MTIME_NOW))
		n->attr.mtime = set & ATTR_MTIME ? in->mtime : op->sv->now;
	*out = n->attr;
	return 0;
}

/* ---- xattrs ---- */

static struct fake_xattr *find_xattr(struct node *n, const char *name)
{
	struct fake_xattr *x;

	HASH_FIND_STR(n->xattrs, name, x);
	return x;
}

int xattr_set(struct op *op, uint64_t ino, const char *name, const void *value, size_t size,
	      int flags, bool kill_sgid)
{
	struct fake_xattr *x;
	struct node *n;
	void *copy;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	x = find_xattr(n, name);
	if (x && (flags & XATTR_CREATE))
		return -EEXIST;
	if (!x && (flags & XATTR_REPLACE))
		return -ENODATA;
	copy = malloc(size + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, value, size);
	if (!x) {
		x = calloc(1, sizeof(*x));
		x->name = strdup(name);
		HASH_ADD_KEYPTR(hh, n->xattrs, x->name, strlen(x->name), x);
	}
	free(x->value);
	x->value = copy;
	x->size = size;
	if (kill_sgid)
		n->attr.mode &= ~(uint32_t)S_ISGID;
	n->attr.ctime = op->sv->now;
	return 0;
}

ssize_t xattr_get(struct op *op, uint64_t ino, const char *name, void *buf, size_t size)
{
	struct fake_xattr *x;
	struct node *n;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	x = n ? find_xattr(n, name) : NULL;
	if (!x)
		return n ? -ENODATA : -ENOENT;
	if (size && size < x->size)
		return -ERANGE;
	if (size)
		memcpy(buf, x->value, x->size);
	return (ssize_t)x->size;
}

ssize_t xattr_list(struct op *op, uint64_t ino, void *buf, size_t size)
{
	struct fake_xattr *x, *next;
	struct node *n;
	size_t len = 0;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	HASH_ITER(hh, n->xattrs, x, next) {
		size_t bytes = strlen(x->name) + 1;

		if (size && len + bytes > size)
			return -ERANGE;
		if (size)
			memcpy((char *)buf + len, x->name, bytes);
		len += bytes;
	}
	return (ssize_t)len;
}

int xattr_remove(struct op *op, uint64_t ino, const char *name)
{
	struct fake_xattr *x;
	struct node *n;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	x = n ? find_xattr(n, name) : NULL;
	if (!x)
		return n ? -ENODATA : -ENOENT;
	HASH_DEL(n->xattrs, x);
	free(x->name);
	free(x->value);
	free(x);
	n->attr.ctime = op->sv->now;
	return 0;
}

/* ---- data ---- */

/* The one piece of a read lies in the op: nothing to be released. */
_Static_assert(sizeof(struct iovec) <= sizeof(struct reactor_timer), "room for an iovec");

ssize_t data_read(struct op *op, uint64_t ino, uint64_t offset, size_t len, unsigned flags,
		  struct iovec **iov, unsigned *iovcnt)
{
	struct iovec *one = (struct iovec *)&op->timer;
	struct node *n;

	(void)flags;
	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	if (offset >= n->attr.size_bytes)
		return 0;
	if (len > n->attr.size_bytes - offset)
		len = n->attr.size_bytes - offset;
	one->iov_base = op->sv->options.discard ? op->sv->zeros : n->data + offset;
	one->iov_len = len;
	*iov = one;
	*iovcnt = 1;
	return (ssize_t)len;
}

ssize_t data_write(struct op *op, uint64_t ino, uint64_t offset, const void *buf, size_t len,
		   unsigned flags)
{
	struct timespec mtime, ctime;
	struct node *n;
	int err;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	mtime = n->attr.mtime;
	ctime = n->attr.ctime;
	err = offset + len > n->attr.size_bytes ? resize(op->sv, n, offset + len) : 0;
	if (err)
		return err;
	if (!op->sv->options.discard)
		memcpy(n->data + offset, buf, len);
	if (flags & DATA_KILL_SUIDGID)
		kill_suidgid(n);
	changed(op->sv, n);
	if (flags & DATA_KEEP_TIMES) {
		n->attr.mtime = mtime;
		n->attr.ctime = ctime;
	}
	return (ssize_t)len;
}

int data_fallocate(struct op *op, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	struct node *n;
	uint64_t end = offset + len;
	int err = 0;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > n->attr.size_bytes)
		err = resize(op->sv, n, end);
	if (err || op->sv->options.discard)
		return err;
	if (end > n->attr.size_bytes)
		end = n->attr.size_bytes;
	if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && end > offset)
		memset(n->data + offset, 0, end - offset);
	changed(op->sv, n);
	return 0;
}

int64_t data_seek(struct op *op, uint64_t ino, uint64_t offset, int whence)
{
	struct node *n;

	if (waits(op))
		return META_WAIT;
	n = find(op->sv, ino);
	if (!n)
		return -ENOENT;
	if (offset >= n->attr.size_bytes)
		return -ENXIO;
	return (int64_t)(whence == SEEK_DATA ? offset : n->attr.size_bytes);
}

ssize_t data_copy_range(struct op *op, uint64_t ino_in, uint64_t offset_in, uint64_t ino_out,
			uint64_t offset_out, size_t len)
{
	struct node *in, *out;
	int err;

	if (waits(op))
		return META_WAIT;
	in = find(op->sv, ino_in);
	out = find(op->sv, ino_out);
	if (!in || !out)
		return -ENOENT;
	if (offset_in >= in->attr.size_bytes)
		return 0;
	if (len > in->attr.size_bytes - offset_in)
		len = in->attr.size_bytes - offset_in;
	err = offset_out + len > out->attr.size_bytes ? resize(op->sv, out, offset_out + len) : 0;
	if (err)
		return err;
	if (!op->sv->options.discard)
		memmove(out->data + offset_out, in->data + offset_in, len);
	changed(op->sv, out);
	return (ssize_t)len;
}

int data_fsync(struct op *op, uint64_t ino, bool datasync)
{
	(void)datasync;
	if (waits(op))
		return META_WAIT;
	return find(op->sv, ino) ? 0 : -ENOENT;
}

int data_sync_all(struct op *op)
{
	return waits(op) ? META_WAIT : 0;
}

/* ---- numbers ---- */

void subvol_throttles(struct subvol *sv, struct throttles *out)
{
	*out = (struct throttles){ { &sv->throttle, NULL } };
}

const void *subvol_party(const struct subvol *sv)
{
	return sv;
}

void subvol_stats(struct subvol *sv, struct subvol_stats *out)
{
	*out = (struct subvol_stats){ .size_blocks = 1u << 20, .used_blocks = 1000,
		.inodes_max = 1u << 20, .used_inodes = sv->count, .known_inodes = sv->lookups };
}

void subvol_df(struct subvol *sv, struct subvol_df *out)
{
	*out = (struct subvol_df){ .blocks = 1u << 20, .free_blocks = (1u << 20) - 1000, .available_blocks = (1u << 20) - 1000,
		.inodes = 1u << 20, .free_inodes = (1u << 20) - sv->count };
}
