/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool on a simulated device, with one subvolume open, for tests of meta/ without FUSE. The test's
 * thread is the reactor: run_op() loops until the op is done.
 */
#ifndef NVFS_TESTS_UNIT_META_FIXTURE_H
#define NVFS_TESTS_UNIT_META_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/device.h"
#include "io/reactor.h"
#include "io/sim.h"
#include "meta/data.h"
#include "meta/inode.h"
#include "meta/names.h"
#include "meta/pool.h"
#include "meta/snapshot.h"
#include "meta/subvol.h"

struct meta_fixture {
	struct device *dev;
	struct reactor *reactor;
	struct pool *pool;
	struct subvol *sv;
	struct pool_options options;
	uint32_t uid, gid;
	uint32_t session; /* of the ops, with unique counting up; 0: none */
	uint64_t unique;
	char why[1024]; /* what the last call that can say so was refused for */
};

/* Reads NVFS_TEST_LOG: without it only errors are logged. Makes device, pool and subvolume "sv", opens both. Ends the test when it fails. */
void fixture_make(struct meta_fixture *fx, uint64_t device_bytes, uint64_t subvol_bytes, const struct pool_options *opts);

/* Open the pool on a device that has one; and the subvolume. */
void fixture_attach(struct meta_fixture *fx, struct device *dev, const struct pool_options *opts);
int fixture_open(struct meta_fixture *fx);

/* Close subvolume and pool, cleanly. */
void fixture_close(struct meta_fixture *fx);

/* What fsck.nvfs says of a pool that is not open: nothing, or the test ends. */
void fixture_check(struct device *dev);

/* fixture_close(), fixture_check() and the rest. */
void fixture_end(struct meta_fixture *fx);

/* Cut the power now: goes on with a pool opened on what a cut leaves. */
void fixture_power_cut(struct meta_fixture *fx, uint64_t seed);

/*
 * In a forked process that will be killed: its assertions speak to a file of its own. Check's is shared with the test, and a message that a
 * kill cuts in two is the end of the whole suite.
 */
void fixture_forked(const char *messages);

/* Run fn with an op until it returns something else than META_WAIT, which is returned. */
typedef int64_t (*fixture_fn)(struct op *op, void *arg);
int64_t run_op(struct meta_fixture *fx, fixture_fn fn, void *arg);

/* Let the reactor run until nothing has happened for a while, or at most ms. */
void fixture_settle(struct meta_fixture *fx, unsigned ms);

/* ---- the calls, each with an op of its own ---- */

int fx_create(struct meta_fixture *fx, uint64_t dir, const char *name, uint32_t mode, struct inode_attr *out);
int fx_create_as(struct meta_fixture *fx, uint64_t dir, const char *name, const struct names_new *what, struct inode_attr *out);
int fx_tmpfile(struct meta_fixture *fx, uint64_t dir, uint32_t mode, struct inode_attr *out);
int fx_lookup(struct meta_fixture *fx, uint64_t dir, const char *name, struct inode_attr *out);
int fx_link(struct meta_fixture *fx, uint64_t ino, uint64_t dir, const char *name);
int fx_unlink(struct meta_fixture *fx, uint64_t dir, const char *name);
int fx_rmdir(struct meta_fixture *fx, uint64_t dir, const char *name);
int fx_rename(struct meta_fixture *fx, uint64_t dir, const char *name, uint64_t new_dir, const char *new_name, unsigned flags);
int fx_getattr(struct meta_fixture *fx, uint64_t ino, struct inode_attr *out);
int fx_setattr(struct meta_fixture *fx, uint64_t ino, unsigned set, const struct inode_attr *in, struct inode_attr *out);
int fx_setxattr(struct meta_fixture *fx, uint64_t ino, const char *name, const void *value, size_t size, int flags);
int64_t fx_getxattr(struct meta_fixture *fx, uint64_t ino, const char *name, void *buf, size_t size);
int64_t fx_listxattr(struct meta_fixture *fx, uint64_t ino, void *buf, size_t size);
int fx_removexattr(struct meta_fixture *fx, uint64_t ino, const char *name);
/* buf has 4096 bytes. */
int fx_readlink(struct meta_fixture *fx, uint64_t ino, char *buf);
int fx_readdir(struct meta_fixture *fx, uint64_t dir, uint64_t after, const struct names_emit *emit);
int fx_fsync(struct meta_fixture *fx, uint64_t ino);
int64_t fx_write(struct meta_fixture *fx, uint64_t ino, uint64_t offset, const void *buf, size_t len, unsigned flags);
/* Reads into buf, at most len. */
int64_t fx_read(struct meta_fixture *fx, uint64_t ino, uint64_t offset, void *buf, size_t len, unsigned flags);
int fx_fallocate(struct meta_fixture *fx, uint64_t ino, int mode, uint64_t offset, uint64_t len);
int64_t fx_copy(struct meta_fixture *fx, uint64_t in, uint64_t out, uint64_t from, uint64_t to, uint64_t len);

/* ---- snapshots: say in fx->why what was wrong ---- */

int fx_snapshot(struct meta_fixture *fx, const char *subvol, const char *name);
int fx_drop(struct meta_fixture *fx, const char *subvol, const char *name);
int fx_rollback(struct meta_fixture *fx, const char *subvol, const char *name);
int fx_clone(struct meta_fixture *fx, const char *subvol, const char *snapshot, const char *name, bool thin);
/* Close what is open, and open another subvolume, VOL@SNAP, or nothing (NULL). */
void fx_use(struct meta_fixture *fx, const char *name);

#endif
