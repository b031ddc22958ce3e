/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/log.h"
#include "meta/check.h"
#include "meta/mkfs.h"
#include "meta/orphan.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define SUBVOL "sv"
#define SETTLE_MAX_NS UINT64_C(60000000000)

/* ---- setting up ---- */

static void be_quiet(void)
{
	if (!getenv("NVFS_TEST_LOG"))
		log_set_level(LOG_LEVEL_ERROR);
}

static void take_options(struct meta_fixture *fx, const struct pool_options *opts)
{
	const struct reactor_options ro = { .spin_max_us = 20 };

	be_quiet();
	if (opts)
		fx->options = *opts;
	if (!fx->reactor)
		ck_assert_int_eq(reactor_create(&ro, &fx->reactor), 0);
	fx->options.reactors = 1;
	fx->options.reactor = &fx->reactor;
}

int fixture_open(struct meta_fixture *fx)
{
	int r = pool_open(&fx->dev, 1, &fx->options, &fx->pool);

	if (!r && !fx->options.read_only)
		r = pool_session_new(fx->pool, &fx->session);
	return r ? r : subvol_open(fx->pool, SUBVOL, fx->options.read_only, &fx->sv);
}

void fixture_make(struct meta_fixture *fx, uint64_t device_bytes, uint64_t subvol_bytes, const struct pool_options *opts)
{
	const struct pool_create_options po = { .name = "test" };
	struct subvol_options so = { .size_bytes = subvol_bytes };
	struct pool_stats stats;
	char why[512] = "";
	int r;

	memset(fx, 0, sizeof(*fx));
	take_options(fx, opts);
	ck_assert_int_eq(device_sim_create(device_bytes, NULL, &fx->dev), 0);
	r = pool_create(&fx->dev, 1, &po, why, sizeof(why));
	ck_assert_msg(r == 0, "pool_create: %d %s", r, why);
	ck_assert_int_eq(pool_open(&fx->dev, 1, &fx->options, &fx->pool), 0);
	pool_stats(fx->pool, &stats);
	so.inodes_max = stats.inodes_max;
	r = subvol_create(fx->pool, SUBVOL, &so, why, sizeof(why));
	ck_assert_msg(r == 0, "subvol_create: %d %s", r, why);
	ck_assert_int_eq(pool_session_new(fx->pool, &fx->session), 0);
	ck_assert_int_eq(subvol_open(fx->pool, SUBVOL, false, &fx->sv), 0);
}

void fixture_attach(struct meta_fixture *fx, struct device *dev, const struct pool_options *opts)
{
	memset(fx, 0, sizeof(*fx));
	take_options(fx, opts);
	fx->dev = dev;
	ck_assert_int_eq(fixture_open(fx), 0);
}

void fixture_close(struct meta_fixture *fx)
{
	if (fx->sv)
		ck_assert_int_eq(subvol_close(fx->sv), 0);
	if (fx->pool)
		ck_assert_int_eq(pool_close(fx->pool), 0);
	fx->sv = NULL;
	fx->pool = NULL;
}

void fixture_check(struct device *dev)
{
	const struct check_options opts = { .data = true, .out = stderr };
	struct check_result result;

	ck_assert_int_eq(check_pool(&dev, 1, &opts, &result), 0);
	ck_assert_uint_eq(result.found, 0);
}

void fixture_end(struct meta_fixture *fx)
{
	fixture_close(fx);
	fixture_check(fx->dev);
	reactor_destroy(fx->reactor);
	device_close(fx->dev);
}

void fixture_power_cut(struct meta_fixture *fx, uint64_t seed)
{
	struct device *after;

	ck_assert_int_eq(sim_snapshot_cut(fx->dev, seed, &after), 0);
	fixture_close(fx);
	device_detach(fx->reactor, fx->dev);
	device_close(fx->dev);
	fx->dev = after;
	ck_assert_int_eq(fixture_open(fx), 0);
}

void fixture_forked(const char *messages)
{
	const int own = open(messages, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char path[64], target[256];

	for (int fd = 3; own >= 0 && fd < 256; fd++) {
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (strstr(target, "/check_"))
			dup2(own, fd);
	}
}

/* ---- ops ---- */

struct fixture_op {
	struct op op;
	fixture_fn fn;
	void *arg;
	int64_t result;
	bool done;
};

static void run_step(struct op *op)
{
	struct fixture_op *fo = (struct fixture_op *)((char *)op - offsetof(struct fixture_op, op));

	fo->result = fo->fn(op, fo->arg);
	fo->done = fo->result != META_WAIT;
}

int64_t run_op(struct meta_fixture *fx, fixture_fn fn, void *arg)
{
	struct fixture_op fo = { .fn = fn, .arg = arg };

	op_init(&fo.op, fx->sv, run_step);
	fo.op.uid = fx->uid;
	fo.op.gid = fx->gid;
	fo.op.session = fx->session;
	fo.op.unique = ++fx->unique;
	run_step(&fo.op);
	while (!fo.done)
		ck_assert_int_ge(reactor_run_once(fx->reactor, REACTOR_NEVER_NS), 0);
	op_finish(&fo.op);
	/* What the op left to the end of the iteration. */
	reactor_run_once(fx->reactor, 0);
	return fo.result;
}

void fixture_settle(struct meta_fixture *fx, unsigned ms)
{
	const uint64_t begin = monotonic_now_ns(), end = begin + ms * UINT64_C(1000000), last = begin + SETTLE_MAX_NS;
	bool idle = false, busy = reaper_busy(fx->sv);

	while (busy ? monotonic_now_ns() < last : !idle && monotonic_now_ns() < end) {
		idle = !reactor_run_once(fx->reactor, 20000000);
		busy = reaper_busy(fx->sv);
	}
}

/* ---- calls ---- */

struct call {
	uint64_t ino, dir2, offset, ino2, offset2, len;
	const char *name, *name2;
	const struct names_new *what;
	struct inode_attr *attr;
	const struct inode_attr *in;
	const struct names_emit *emit;
	unsigned flags;
	const void *data;
	void *buf;
	size_t size;
};

#define CALL(function, expression)                               \
	static int64_t function(struct op *op, void *arg)        \
	{                                                        \
		struct call *c = arg;                            \
                                                                 \
		return expression;                               \
	}

CALL(do_create, names_create(op, c->ino, c->name, strlen(c->name), c->what, c->attr))
CALL(do_tmpfile, names_tmpfile(op, c->ino, c->what, c->attr))
CALL(do_lookup, names_lookup(op, c->ino, c->name, strlen(c->name), c->attr))
CALL(do_link, names_link(op, c->ino, c->dir2, c->name, strlen(c->name), c->attr))
CALL(do_unlink, names_unlink(op, c->ino, c->name, strlen(c->name)))
CALL(do_rmdir, names_rmdir(op, c->ino, c->name, strlen(c->name)))
CALL(do_rename, names_rename(op, c->ino, c->name, strlen(c->name), c->dir2, c->name2, strlen(c->name2), c->flags))
CALL(do_getattr, attr_get(op, c->ino, c->attr))
CALL(do_setattr, attr_set(op, c->ino, c->flags, c->in, c->attr))
CALL(do_setxattr, xattr_set(op, c->ino, c->name, c->data, c->size, (int)c->flags, false))
CALL(do_getxattr, xattr_get(op, c->ino, c->name, c->buf, c->size))
CALL(do_listxattr, xattr_list(op, c->ino, c->buf, c->size))
CALL(do_removexattr, xattr_remove(op, c->ino, c->name))
CALL(do_readdir, names_readdir(op, c->ino, c->offset, c->emit))
CALL(do_fsync, data_fsync(op, c->ino, false))
CALL(do_write, data_write(op, c->ino, c->offset, c->data, c->size, c->flags))
CALL(do_fallocate, data_fallocate(op, c->ino, (int)c->flags, c->offset, c->len))
CALL(do_copy, data_copy_range(op, c->ino, c->offset, c->ino2, c->offset2, c->len))

static int64_t do_readlink(struct op *op, void *arg)
{
	struct call *c = arg;
	const char *target;
	int r = names_readlink(op, c->ino, &target);

	if (!r)
		strcpy(c->buf, target);
	return r;
}

static int64_t do_read(struct op *op, void *arg)
{
	struct call *c = arg;
	struct iovec *iov;
	unsigned count;
	char *to = c->buf;
	ssize_t r = data_read(op, c->ino, c->offset, c->size, c->flags, &iov, &count);

	for (unsigned i = 0; r >= 0 && i < count; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	return r;
}

static int call(struct meta_fixture *fx, fixture_fn fn, struct call c)
{
	return (int)run_op(fx, fn, &c);
}

int fx_create_as(struct meta_fixture *fx, uint64_t dir, const char *name, const struct names_new *what, struct inode_attr *out)
{
	struct inode_attr unused;

	return call(fx, do_create, (struct call){ .ino = dir, .name = name, .what = what, .attr = out ? out : &unused });
}

int fx_create(struct meta_fixture *fx, uint64_t dir, const char *name, uint32_t mode, struct inode_attr *out)
{
	const struct names_new what = { .mode = mode, .target = S_ISLNK(mode) ? "target" : NULL };

	return fx_create_as(fx, dir, name, &what, out);
}

int fx_tmpfile(struct meta_fixture *fx, uint64_t dir, uint32_t mode, struct inode_attr *out)
{
	const struct names_new what = { .mode = mode };

	return call(fx, do_tmpfile, (struct call){ .ino = dir, .what = &what, .attr = out });
}

int fx_lookup(struct meta_fixture *fx, uint64_t dir, const char *name, struct inode_attr *out)
{
	struct inode_attr unused;

	return call(fx, do_lookup, (struct call){ .ino = dir, .name = name, .attr = out ? out : &unused });
}

int fx_link(struct meta_fixture *fx, uint64_t ino, uint64_t dir, const char *name)
{
	struct inode_attr unused;

	return call(fx, do_link, (struct call){ .ino = ino, .dir2 = dir, .name = name, .attr = &unused });
}

int fx_unlink(struct meta_fixture *fx, uint64_t dir, const char *name)
{
	return call(fx, do_unlink, (struct call){ .ino = dir, .name = name });
}

int fx_rmdir(struct meta_fixture *fx, uint64_t dir, const char *name)
{
	return call(fx, do_rmdir, (struct call){ .ino = dir, .name = name });
}

int fx_rename(struct meta_fixture *fx, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name, unsigned flags)
{
	return call(fx, do_rename,
		    (struct call){ .ino = dir, .name = name, .dir2 = new_dir, .name2 = new_name, .flags = flags });
}

int fx_getattr(struct meta_fixture *fx, uint64_t ino, struct inode_attr *out)
{
	return call(fx, do_getattr, (struct call){ .ino = ino, .attr = out });
}

int fx_setattr(struct meta_fixture *fx, uint64_t ino, unsigned set, const struct inode_attr *in, struct inode_attr *out)
{
	struct inode_attr unused;

	return call(fx, do_setattr, (struct call){ .ino = ino, .flags = set, .in = in, .attr = out ? out : &unused });
}

int fx_setxattr(struct meta_fixture *fx, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	return call(fx, do_setxattr,
		    (struct call){ .ino = ino, .name = name, .data = value, .size = size, .flags = (unsigned)flags });
}

int64_t fx_getxattr(struct meta_fixture *fx, uint64_t ino, const char *name, void *buf, size_t size)
{
	return call(fx, do_getxattr, (struct call){ .ino = ino, .name = name, .buf = buf, .size = size });
}

int64_t fx_listxattr(struct meta_fixture *fx, uint64_t ino, void *buf, size_t size)
{
	return call(fx, do_listxattr, (struct call){ .ino = ino, .buf = buf, .size = size });
}

int fx_removexattr(struct meta_fixture *fx, uint64_t ino, const char *name)
{
	return call(fx, do_removexattr, (struct call){ .ino = ino, .name = name });
}

int fx_readlink(struct meta_fixture *fx, uint64_t ino, char *buf)
{
	return call(fx, do_readlink, (struct call){ .ino = ino, .buf = buf });
}

int fx_readdir(struct meta_fixture *fx, uint64_t dir, uint64_t after, const struct names_emit *emit)
{
	return call(fx, do_readdir, (struct call){ .ino = dir, .offset = after, .emit = emit });
}

int fx_fsync(struct meta_fixture *fx, uint64_t ino)
{
	return call(fx, do_fsync, (struct call){ .ino = ino });
}

int64_t fx_write(struct meta_fixture *fx, uint64_t ino, uint64_t offset, const void *buf, size_t len, unsigned flags)
{
	return call(fx, do_write, (struct call){ .ino = ino, .offset = offset, .data = buf, .size = len, .flags = flags });
}

int64_t fx_read(struct meta_fixture *fx, uint64_t ino, uint64_t offset, void *buf, size_t len, unsigned flags)
{
	return call(fx, do_read, (struct call){ .ino = ino, .offset = offset, .buf = buf, .size = len, .flags = flags });
}

int fx_fallocate(struct meta_fixture *fx, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	return call(fx, do_fallocate, (struct call){ .ino = ino, .flags = (unsigned)mode, .offset = offset, .len = len });
}

int64_t fx_copy(struct meta_fixture *fx, uint64_t in, uint64_t out, uint64_t from, uint64_t to, uint64_t len)
{
	struct call c = { .ino = in, .offset = from, .ino2 = out, .offset2 = to, .len = len };

	return run_op(fx, do_copy, &c);
}

/* ---- snapshots ---- */

int fx_snapshot(struct meta_fixture *fx, const char *subvol, const char *name)
{
	const struct snapshot_name n = { subvol, name };

	fx->why[0] = 0;
	return snapshot_create(fx->pool, &n, 1, fx->why, sizeof(fx->why));
}

int fx_drop(struct meta_fixture *fx, const char *subvol, const char *name)
{
	const struct snapshot_name n = { subvol, name };

	fx->why[0] = 0;
	return snapshot_delete(fx->pool, &n, fx->why, sizeof(fx->why));
}

int fx_rollback(struct meta_fixture *fx, const char *subvol, const char *name)
{
	const struct snapshot_name n = { subvol, name };

	fx->why[0] = 0;
	return snapshot_rollback(fx->pool, &n, fx->why, sizeof(fx->why));
}

int fx_clone(struct meta_fixture *fx, const char *subvol, const char *snapshot, const char *name, bool thin)
{
	const struct snapshot_name n = { subvol, snapshot };
	const struct clone_options opts = { .thin = thin };

	fx->why[0] = 0;
	return snapshot_clone(fx->pool, &n, name, &opts, fx->why, sizeof(fx->why));
}

void fx_use(struct meta_fixture *fx, const char *name)
{
	if (fx->sv)
		ck_assert_int_eq(subvol_close(fx->sv), 0);
	fx->sv = NULL;
	if (name)
		ck_assert_int_eq(subvol_open(fx->pool, name, false, &fx->sv), 0);
}
