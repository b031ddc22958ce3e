/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "meta/admin.h"
#include "meta/event.h"
#include "meta/mkfs.h"
#include "meta/snapshot.h"
#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"
#include "meta/usage.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK 4096u
#define NS INT64_C(1000000000)

static struct meta_fixture fx;
static char why[1024];
static const uint8_t data[64 * BLOCK];

static void setup(void)
{
	fixture_make(&fx, 256 * MIB, 32 * MIB, NULL);
}

static void teardown(void)
{
	tenant_act_as(NULL);
	fixture_end(&fx);
}

static void reopen(void)
{
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
}

static int make(const char *name, struct tenant_settings set)
{
	why[0] = 0;
	return tenant_create(fx.pool, name, &set, why, sizeof(why));
}

static int change(const char *name, unsigned fields, struct tenant_settings set)
{
	strcpy(why, "untouched");
	return tenant_set(fx.pool, name, &set, fields, why, sizeof(why));
}

static struct tenant_info info_of(const char *name)
{
	struct tenant_info info;

	ck_assert_int_eq(tenant_info(fx.pool, name, &info), 0);
	return info;
}

static int make_subvol(const char *name, const char *tenant, uint64_t blocks)
{
	const struct subvol_options opts = { .tenant = tenant, .size_bytes = blocks * BLOCK };

	why[0] = 0;
	return subvol_create(fx.pool, name, &opts, why, sizeof(why));
}

static uint64_t new_file(const char *name)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, INO_ROOT, name, S_IFREG | 0644, &attr), 0);
	return attr.ino;
}

/* The subvolume of the fixture is the default tenant's. */
static int64_t grow(uint64_t ino, uint64_t block, unsigned blocks)
{
	return fx_write(&fx, ino, block * BLOCK, data, blocks * BLOCK, 0);
}

static int add_text(const struct tenant_info *info, void *arg)
{
	strcat(strcat(arg, info->name), " ");
	return 0;
}

static const char *listed(void)
{
	static char text[1024];

	text[0] = 0;
	ck_assert_int_eq(tenant_each(fx.pool, add_text, text), 0);
	return text;
}

START_TEST(create_list_delete)
{
	const struct tenant_settings set = { .limits = { .used_blocks = 100, .read_iops = 7 }, .uid_count = 3, .uids = { 5, 6, 5 } };
	struct tenant_info info;
	uint32_t id;

	ck_assert_str_eq(listed(), "default ");
	ck_assert_int_eq(make("red", set), 0);
	ck_assert_int_eq(make("blue", (struct tenant_settings){ 0 }), 0);
	ck_assert_str_eq(listed(), "blue default red ");
	info = info_of("red");
	id = info.id;
	ck_assert_uint_eq(info.set.limits.used_blocks, 100);
	ck_assert_uint_eq(info.set.uid_count, 2);
	ck_assert_int_gt(info.created_ns, 0);
	ck_assert_int_eq(make("red", set), -EEXIST);
	ck_assert_ptr_nonnull(strstr(why, "with just these settings"));
	ck_assert_int_eq(make("red", (struct tenant_settings){ 0 }), -EEXIST);
	ck_assert_ptr_nonnull(strstr(why, "nvfs tenant set test/red"));
	ck_assert_int_eq(make("", set), -EINVAL);
	ck_assert_int_eq(make("a/b", set), -EINVAL);
	ck_assert_int_eq(make("r\xc3\xb6t", set), -EINVAL);
	reopen();
	ck_assert_str_eq(listed(), "blue default red ");
	info = info_of("red");
	ck_assert_uint_eq(info.set.limits.read_iops, 7);
	ck_assert_uint_eq(info.set.uids[1], 6);
	ck_assert_int_eq(tenant_delete(fx.pool, "red", true, why, sizeof(why)), 0);
	ck_assert_int_eq(tenant_delete(fx.pool, "red", false, why, sizeof(why)), 0);
	ck_assert_int_eq(tenant_delete(fx.pool, "red", false, why, sizeof(why)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(why, "there is no tenant red"));
	ck_assert_int_eq(tenant_delete(fx.pool, "default", false, why, sizeof(why)), -EPERM);
	ck_assert_int_eq(change("red", TENANT_USED, set), -ENOENT);
	ck_assert_str_eq(listed(), "blue default ");
	reopen();
	ck_assert_str_eq(listed(), "blue default ");
	ck_assert_int_eq(make("red", set), 0);
	ck_assert_uint_ne(info_of("red").id, id);
}
END_TEST

/* Durable when it returns: nothing but the call itself between it and the cut. */
START_TEST(changes_outlive_a_power_cut)
{
	ck_assert_int_eq(make("red", (struct tenant_settings){ .limits = { .inodes = 3 } }), 0);
	fixture_power_cut(&fx, 1);
	ck_assert_uint_eq(info_of("red").set.limits.inodes, 3);
	ck_assert_int_eq(change("red", TENANT_INODES, (struct tenant_settings){ .limits = { .inodes = 4 } }), 0);
	ck_assert_str_eq(why, "");
	fixture_power_cut(&fx, 2);
	ck_assert_uint_eq(info_of("red").set.limits.inodes, 4);
	ck_assert_int_eq(tenant_delete(fx.pool, "red", false, why, sizeof(why)), 0);
	fixture_power_cut(&fx, 3);
	ck_assert_str_eq(listed(), "default ");
}
END_TEST

START_TEST(settings_that_make_no_sense)
{
	const struct tenant_settings soft = { .limits = { .used_blocks = 10 }, .soft_blocks = 10 };
	struct tenant_settings many = { .uid_count = 33 };

	ck_assert_int_eq(make("t", soft), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .grace_s = 5 }), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .limits = { .used_blocks = UINT64_MAX } }), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .limits = { .read_iops = RATE_MAX + 1 } }), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .limits = { .write_bytes_per_s = RATE_MAX + 1 } }), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .default_inodes = 1u << 30 }), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .default_claim = 3 }), -EINVAL);
	ck_assert_int_eq(make("t", (struct tenant_settings){ .uid_count = 1, .uids = { UINT32_MAX } }), -EINVAL);
	ck_assert_int_eq(make("t", many), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "at most 32"));
	ck_assert_str_eq(listed(), "default ");
	many.uid_count = many.gid_count = 32;
	for (unsigned i = 0; i < 32; i++)
		many.uids[i] = many.gids[i] = i;
	ck_assert_int_eq(make("t", many), 0);
	reopen();
	ck_assert_uint_eq(info_of("t").set.gids[31], 31);
	/* A soft limit alone lasts a week; without it there is no grace, and a change of one leaves the other. */
	ck_assert_int_eq(change("t", TENANT_SOFT, (struct tenant_settings){ .soft_blocks = 9 }), 0);
	ck_assert_uint_eq(info_of("t").set.grace_s, 7 * 86400);
	ck_assert_int_eq(change("t", TENANT_GRACE, (struct tenant_settings){ .grace_s = 60 }), 0);
	ck_assert_uint_eq(info_of("t").set.soft_blocks, 9);
	ck_assert_int_eq(change("t", TENANT_USED, (struct tenant_settings){ .limits = { .used_blocks = 9 } }), -EINVAL);
	ck_assert_int_eq(change("t", TENANT_SOFT, (struct tenant_settings){ 0 }), 0);
	ck_assert_uint_eq(info_of("t").set.grace_s, 0);
	ck_assert_uint_eq(info_of("t").set.gid_count, 32);
}
END_TEST

/* At the very block, at once, up and down; what is there can be overwritten and deleted. */
START_TEST(used_limit_of_an_open_subvolume)
{
	const uint64_t ino = new_file("f");
	const uint64_t base = info_of("default").used_blocks;
	struct tenant_settings set = { .limits = { .used_blocks = base + 8 } };

	ck_assert_int_eq(change("default", TENANT_USED, set), 0);
	ck_assert_str_eq(why, "");
	ck_assert_int_eq(grow(ino, 0, 8), 8 * BLOCK);
	ck_assert_int_eq(grow(ino, 8, 1), -EDQUOT);
	ck_assert_uint_eq(info_of("default").used_blocks, base + 8);
	set.limits.used_blocks++;
	ck_assert_int_eq(change("default", TENANT_USED, set), 0);
	ck_assert_int_eq(grow(ino, 8, 2), BLOCK); /* what there is room for */
	ck_assert_int_eq(grow(ino, 9, 1), -EDQUOT);
	ck_assert_uint_eq(info_of("default").used_blocks, base + 9);
	set.limits.used_blocks = base + 4;
	ck_assert_int_eq(change("default", TENANT_USED, set), 0);
	ck_assert_msg(strstr(why, "more than it may now: ") && strstr(why, "KiB used; nothing of that grows"), "%s", why);
	ck_assert_int_eq(grow(ino, 9, 1), -EDQUOT);
	ck_assert_int_eq(grow(ino, 0, 9), 9 * BLOCK);
	reopen();
	ck_assert_uint_eq(info_of("default").used_blocks, base + 9);
	ck_assert_int_eq(grow(ino, 9, 1), -EDQUOT);
	ck_assert_int_eq(fx_unlink(&fx, INO_ROOT, "f"), 0);
	lookup_forget_all(fx.sv);
	fixture_settle(&fx, 2000);
	ck_assert_int_eq(grow(new_file("g"), 0, 4), 4 * BLOCK);
	set.limits.used_blocks = 0;
	ck_assert_int_eq(change("default", TENANT_USED, set), 0);
	ck_assert_int_eq(grow(new_file("h"), 0, 64), 64 * BLOCK);
}
END_TEST

START_TEST(inode_limit_of_an_open_subvolume)
{
	struct tenant_settings set = { .limits = { .inodes = 3 } };
	struct inode_attr attr;

	ck_assert_int_eq(change("default", TENANT_INODES, set), 0);
	new_file("a");
	new_file("b");
	ck_assert_int_eq(fx_create(&fx, INO_ROOT, "c", S_IFREG | 0644, &attr), -EDQUOT);
	set.limits.inodes = 2;
	ck_assert_int_eq(change("default", TENANT_INODES, set), 0);
	ck_assert_ptr_nonnull(strstr(why, ": 3 of 2 inodes;"));
	set.limits.inodes = 4;
	ck_assert_int_eq(change("default", TENANT_INODES, set), 0);
	new_file("c");
	ck_assert_int_eq(fx_create(&fx, INO_ROOT, "d", S_IFREG | 0644, &attr), -EDQUOT);
}
END_TEST

START_TEST(subvolumes_and_provisioned)
{
	ck_assert_int_eq(make("t", (struct tenant_settings){ .limits = { .provisioned_blocks = 1000, .subvolumes = 2 } }), 0);
	ck_assert_int_eq(make_subvol("a", "t", 1001), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "0 KiB of the 4000 KiB"));
	ck_assert_int_eq(make_subvol("a", "t", 600), 0);
	ck_assert_int_eq(make_subvol("b", "t", 401), -EDQUOT);
	ck_assert_int_eq(make_subvol("b", "t", 400), 0);
	ck_assert_int_eq(make_subvol("c", "t", 1), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "has 2 subvolumes and may have 2"));
	ck_assert_int_eq(make_subvol("c", NULL, 1), 0);
	ck_assert_int_eq(make_subvol("d", "none", 1), -ENOENT);
	ck_assert_int_eq(subvol_resize(fx.pool, "b", 401 * BLOCK, 0, why, sizeof(why)), -EDQUOT);
	ck_assert_int_eq(subvol_resize(fx.pool, "a", 599 * BLOCK, 0, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_resize(fx.pool, "b", 401 * BLOCK, 0, why, sizeof(why)), 0);
	ck_assert_int_eq(tenant_delete(fx.pool, "t", false, why, sizeof(why)), -EBUSY);
	ck_assert_ptr_nonnull(strstr(why, "has 2 subvolumes and 0 snapshots: delete them first: a, b"));
	reopen();
	ck_assert_uint_eq(info_of("t").provisioned_blocks, 1000);
	ck_assert_uint_eq(info_of("t").subvolumes, 2);
	ck_assert_uint_eq(info_of("t").used_inodes, 2);
	ck_assert_uint_eq(info_of("default").subvolumes, 2);
	ck_assert_int_eq(change("t", TENANT_PROVISIONED, (struct tenant_settings){ .limits = { .provisioned_blocks = 512 } }), 0);
	ck_assert_ptr_nonnull(strstr(why, "4000 KiB of 2 MiB provisioned"));
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), 0);
	ck_assert_uint_eq(info_of("t").provisioned_blocks, 401);
	ck_assert_int_eq(make_subvol("c2", "t", 112), -EDQUOT);
	ck_assert_int_eq(make_subvol("c2", "t", 111), 0);
}
END_TEST

static int any_snapshot(const struct snapshot_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 1;
}

START_TEST(snapshots_are_counted)
{
	const struct snapshot_name group[] = { { "a", "g" }, { "b", "g" } }, first = { "a", "s1" };
	const struct clone_options clone = { 0 };
	const struct tenant_user stranger = { .uid = 1001 };
	struct snapshot_info info;

	ck_assert_int_eq(make("t", (struct tenant_settings){ .limits = { .provisioned_blocks = 30, .snapshots = 3 } }), 0);
	ck_assert_int_eq(make_subvol("a", "t", 10), 0);
	ck_assert_int_eq(make_subvol("b", "t", 10), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "a", "s1"), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "a", "s2"), 0);
	ck_assert_int_eq(snapshot_create(fx.pool, group, 2, why, sizeof(why)), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "has 2 snapshots and may have 3"));
	ck_assert_int_eq(fx_snapshot(&fx, "b", "s1"), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "b", "s2"), -EDQUOT);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s1"), 0);
	ck_assert_int_eq(snapshot_clone(fx.pool, &first, "c", &clone, why, sizeof(why)), 0);
	ck_assert_int_eq(snapshot_clone(fx.pool, &first, "d", &clone, why, sizeof(why)), -EDQUOT);
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), 0);
	reopen();
	ck_assert_uint_eq(info_of("t").snapshots, 3);
	ck_assert_uint_eq(info_of("t").subvolumes, 2);
	ck_assert_uint_eq(info_of("t").provisioned_blocks, 20);
	ck_assert_uint_eq(info_of("default").snapshots, 1);
	do {
		usleep(1000);
		ck_assert_int_eq(snapshot_info(fx.pool, &(struct snapshot_name){ "a", "s2" }, &info), 0);
	} while (info.children); /* that was the live node of the deleted subvolume */
	ck_assert_int_eq(snapshot_delete(fx.pool, &(struct snapshot_name){ "a", "s2" }, why, sizeof(why)), 0);
	ck_assert_uint_eq(info_of("t").snapshots, 2);
	ck_assert_int_eq(fx_snapshot(&fx, "b", "s2"), 0);
	ck_assert_int_eq(tenant_delete(fx.pool, "t", false, why, sizeof(why)), -EBUSY);
	ck_assert_msg(strstr(why, "has 2 subvolumes and 3 snapshots: delete them first: b, c, a@s1, b@s1, b@s2"), "%s", why);
	tenant_act_as(&stranger);
	ck_assert_int_eq(snapshot_info(fx.pool, &group[0], &info), -ENOENT);
	ck_assert_int_eq(snapshot_delete(fx.pool, &(struct snapshot_name){ "b", "s1" }, why, sizeof(why)), -ENOENT);
	ck_assert_int_eq(fx_snapshot(&fx, "b", "s9"), -ENOENT);
	ck_assert_int_eq(snapshot_clone(fx.pool, &(struct snapshot_name){ "b", "s1" }, "x", &clone, why, sizeof(why)), -ENOENT);
	ck_assert_int_eq(snapshot_clone(fx.pool, &(struct snapshot_name){ "b", NULL }, "x", &clone, why, sizeof(why)), -ENOENT);
	ck_assert_int_eq(snapshot_rollback(fx.pool, &(struct snapshot_name){ "b", "s1" }, why, sizeof(why)), -ENOENT);
	ck_assert_int_eq(snapshot_each(fx.pool, NULL, any_snapshot, NULL), 0);
	tenant_act_as(NULL);
	ck_assert_int_eq(snapshot_each(fx.pool, NULL, any_snapshot, NULL), 1);
}
END_TEST

START_TEST(defaults_of_new_subvolumes)
{
	const struct tenant_settings set = { .default_size_blocks = 300, .default_inodes = 77, .default_claim = TENANT_CLAIM_THIN,
					     .default_compression = TENANT_COMPRESSION_LZ4 };
	struct subvol_options opts = { .tenant = "t" };
	struct subvol_info info;

	ck_assert_int_eq(make("t", set), 0);
	ck_assert_int_eq(subvol_create(fx.pool, "a", &opts, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_info(fx.pool, "a", &info), 0);
	ck_assert_uint_eq(info.rec.size_blocks, 300);
	ck_assert_uint_eq(info.rec.inodes_max, 77);
	ck_assert_uint_eq(info.rec.flags, 0);
	ck_assert_uint_eq(info.rec.compression, COMPRESSION_LZ4);
	ck_assert_str_eq(info.tenant, "t");
	opts = (struct subvol_options){ .tenant = "t", .size_bytes = BLOCK, .inodes_max = 9, .reserved = true, .compression_given = true };
	ck_assert_int_eq(subvol_create(fx.pool, "b", &opts, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_info(fx.pool, "b", &info), 0);
	ck_assert_uint_eq(info.rec.size_blocks, 1);
	ck_assert_uint_eq(info.rec.inodes_max, 9);
	ck_assert_uint_eq(info.rec.flags, SUBVOL_RESERVED);
	ck_assert_uint_eq(info.rec.compression, COMPRESSION_OFF);
	opts.thin = true;
	ck_assert_int_eq(subvol_create(fx.pool, "c", &opts, why, sizeof(why)), -EINVAL);
	opts = (struct subvol_options){ 0 };
	ck_assert_int_eq(subvol_create(fx.pool, "c", &opts, why, sizeof(why)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "needs a size"));
}
END_TEST

/* ---- soft limits ---- */

/* What the record says, under the lock of administration; it is written by a thread of the pool. */
static int64_t stored_since(struct pool_tenant *t)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&fx.pool->admin_lock);

	return t->stored_since_ns;
}

static void wait_stored(struct pool_tenant *t)
{
	for (unsigned i = 0; stored_since(t) != atomic_load(&t->soft_since_ns); i++) {
		ck_assert_uint_lt(i, 30000);
		usleep(1000);
	}
}

/* The tenant whose soft limit the newest event is about. */
static const char *newest_event(void)
{
	static struct event e;

	ck_assert(event_next(fx.pool->events, events_last(fx.pool->events) - 1, &e));
	return e.kind == EVENT_SOFT_LIMIT && e.severity == EVENT_WARNING ? e.tenant : e.text;
}

static int64_t cut_to_four(struct op *op, void *arg)
{
	return data_truncate(op, *(const uint64_t *)arg, 4 * BLOCK);
}

START_TEST(soft_limit_has_a_grace)
{
	struct pool_tenant *t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	const uint64_t ino = new_file("f"), base = info_of("default").used_blocks;
	const struct tenant_settings set = { .soft_blocks = base + 4, .grace_s = 1000 };
	int64_t since;

	ck_assert_int_eq(change("default", TENANT_SOFT | TENANT_GRACE, set), 0);
	ck_assert_int_eq(grow(ino, 0, 4), 4 * BLOCK);
	ck_assert_int_eq(t->soft_since_ns, 0);
	ck_assert_int_eq(grow(ino, 4, 1), BLOCK);
	since = t->soft_since_ns;
	ck_assert_int_gt(since, 0);
	ck_assert_int_eq(grow(ino, 5, 1), BLOCK);
	ck_assert_int_eq(t->soft_since_ns, since);
	wait_stored(t);
	ck_assert_str_eq(newest_event(), "default");
	ck_assert_int_eq(fx_fsync(&fx, ino), 0);
	fixture_power_cut(&fx, 5);
	t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	ck_assert_int_eq(t->soft_since_ns, since);
	/* One second is left, then none. */
	atomic_store(&t->soft_since_ns, tenant_now_ns() - 999 * NS);
	ck_assert_int_eq(grow(ino, 6, 1), BLOCK);
	atomic_store(&t->soft_since_ns, tenant_now_ns() - 1000 * NS);
	ck_assert_int_eq(grow(ino, 7, 1), -EDQUOT);
	ck_assert_int_eq(grow(ino, 0, 7), 7 * BLOCK);
	wait_stored(t);
	ck_assert_int_eq(fx_fsync(&fx, ino), 0);
	fixture_power_cut(&fx, 6);
	t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	ck_assert_int_eq(grow(ino, 7, 1), -EDQUOT);
	/* More of it is in time again. */
	ck_assert_int_eq(change("default", TENANT_GRACE, (struct tenant_settings){ .grace_s = 2000 }), 0);
	ck_assert_int_eq(grow(ino, 7, 1), BLOCK);
	ck_assert_int_eq(change("default", TENANT_GRACE, (struct tenant_settings){ .grace_s = 1 }), 0);
	ck_assert_int_eq(grow(ino, 8, 1), -EDQUOT);
	/* At the limit it is over, and the next time begins anew. */
	ck_assert_int_eq(run_op(&fx, cut_to_four, (void *)&ino), 0);
	ck_assert_int_eq(fx_fsync(&fx, ino), 0);
	ck_assert_uint_eq(info_of("default").used_blocks, base + 4);
	ck_assert_int_eq(t->soft_since_ns, 0);
	ck_assert_int_eq(change("default", TENANT_GRACE, (struct tenant_settings){ .grace_s = 1000 }), 0);
	ck_assert_int_eq(grow(ino, 4, 1), BLOCK);
	ck_assert_int_gt(t->soft_since_ns, since);
	ck_assert_int_eq(change("default", TENANT_SOFT, (struct tenant_settings){ 0 }), 0);
	ck_assert_int_eq(t->soft_since_ns, 0);
	ck_assert_int_eq(grow(ino, 5, 64 - 5), 59 * BLOCK);
}
END_TEST

/* A limit that is set below what is used begins its grace there; a clock that was set back makes none longer. */
START_TEST(soft_limit_below_use)
{
	struct pool_tenant *t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	const uint64_t ino = new_file("f");

	ck_assert_int_eq(grow(ino, 0, 10), 10 * BLOCK);
	ck_assert_int_eq(change("default", TENANT_SOFT, (struct tenant_settings){ .soft_blocks = 5 }), 0);
	ck_assert_int_gt(t->soft_since_ns, 0);
	wait_stored(t);
	atomic_store(&t->soft_since_ns, tenant_now_ns() + 1000 * NS);
	ck_assert_int_eq(grow(ino, 10, 1), BLOCK);
	ck_assert_int_le(t->soft_since_ns, tenant_now_ns());
	reopen();
	t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	ck_assert_int_gt(t->soft_since_ns, 0);
	ck_assert_int_eq(stored_since(t), t->soft_since_ns);
}
END_TEST

/* ---- several at once ---- */

#define CHARGERS 4

static pthread_barrier_t together;

struct charger {
	pthread_t thread;
	struct pool_tenant *t;
	int64_t got;
	unsigned seed;
};

/* Takes and gives back; at the end takes what is left, block by block. */
static void *charge_some(void *arg)
{
	struct charger *c = arg;

	pthread_barrier_wait(&together);
	for (unsigned i = 0; i < 100000; i++) {
		const int64_t n = 1 + rand_r(&c->seed) % 7;

		if (c->got >= n && rand_r(&c->seed) % 3 == 0) {
			ck_assert_int_eq(tenant_charge(c->t, -n, 0), 0);
			c->got -= n;
		} else if (!tenant_charge(c->t, n, 0)) {
			c->got += n;
		}
		ck_assert_int_le(atomic_load(&c->t->used_blocks), 1000);
	}
	while (!tenant_charge(c->t, 1, 0))
		c->got++;
	return NULL;
}

START_TEST(several_reach_the_limit_exactly)
{
	struct charger c[CHARGERS] = { 0 };
	int64_t sum = 0;

	ck_assert_int_eq(make("t", (struct tenant_settings){ .limits = { .used_blocks = 1000 }, .soft_blocks = 500 }), 0);
	ck_assert_int_eq(pthread_barrier_init(&together, NULL, CHARGERS), 0);
	for (unsigned i = 0; i < CHARGERS; i++) {
		c[i].t = tenant_find_name(fx.pool, "t");
		c[i].seed = i;
		ck_assert_int_eq(pthread_create(&c[i].thread, NULL, charge_some, &c[i]), 0);
	}
	for (unsigned i = 0; i < CHARGERS; i++) {
		pthread_join(c[i].thread, NULL);
		sum += c[i].got;
	}
	ck_assert_int_eq(sum, 1000);
	ck_assert_int_eq(atomic_load(&c[0].t->used_blocks), 1000);
	ck_assert_int_gt(c[0].t->soft_since_ns, 0);
	tenant_charge(c[0].t, -1000, 0);
	ck_assert_int_eq(c[0].t->soft_since_ns, 0);
}
END_TEST

static _Atomic bool looking, enough;

static void *look_around(void *arg)
{
	const struct tenant_user user = { .uid = 77 };
	uint64_t *found = arg;

	while (!enough) {
		*found += tenant_find(fx.pool, NVFS_TENANT_DEFAULT) != NULL;
		*found += tenant_find(fx.pool, 1u << 30) != NULL;
		*found += tenant_owns_any(fx.pool, &user) ? 1u << 20 : 0;
		looking = true;
	}
	return NULL;
}

/* Who walks the list while others make and delete finds what is there all the time. */
START_TEST(list_changes_under_readers)
{
	uint64_t found = 0;
	pthread_t thread;

	ck_assert_int_eq(make("mine", (struct tenant_settings){ .uid_count = 1, .uids = { 77 } }), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, look_around, &found), 0);
	while (!looking)
		sched_yield();
	for (unsigned i = 0; i < 60; i++) {
		ck_assert_int_eq(make("t", (struct tenant_settings){ .uid_count = 1, .uids = { 5 } }), 0);
		ck_assert_int_eq(tenant_delete(fx.pool, "t", false, why, sizeof(why)), 0);
	}
	enough = true;
	pthread_join(thread, NULL);
	ck_assert_uint_gt(found, 1u << 20);
	ck_assert_uint_eq(found % ((1u << 20) + 1), 0);
}
END_TEST

/* ---- owners ---- */

static int add_subvol(const struct subvol_info *info, void *arg)
{
	strcat(strcat(arg, info->name), " ");
	return 0;
}

static const char *seen(void)
{
	static char text[1024];

	text[0] = 0;
	ck_assert_int_eq(subvol_each(fx.pool, add_subvol, text), 0);
	return text;
}

START_TEST(owner_sees_its_own)
{
	const gid_t groups[] = { 100, 200 };
	struct tenant_user user = { .uid = 1000, .gids = groups, .gid_count = 2 }, other = { .uid = 1001 };
	struct subvol_info info;
	struct tenant_info tinfo;

	ck_assert_int_eq(make("red", (struct tenant_settings){ .limits = { .subvolumes = 2 }, .uid_count = 1, .uids = { 1000 } }), 0);
	ck_assert_int_eq(make("blue", (struct tenant_settings){ .gid_count = 1, .gids = { 200 } }), 0);
	ck_assert_int_eq(make_subvol("r", "red", 10), 0);
	ck_assert_int_eq(make_subvol("b", "blue", 10), 0);
	ck_assert_int_eq(make_subvol("d", NULL, 10), 0);
	ck_assert(tenant_owns_any(fx.pool, &user));
	ck_assert(!tenant_owns_any(fx.pool, &other));
	tenant_act_as(&user);
	ck_assert_str_eq(seen(), "b r ");
	ck_assert_str_eq(listed(), "blue red ");
	ck_assert_int_eq(make_subvol("x", NULL, 1), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "--tenant"));
	user.gid_count = 1;
	ck_assert_str_eq(seen(), "r ");
	ck_assert_str_eq(listed(), "red ");
	ck_assert_int_eq(tenant_info(fx.pool, "blue", &tinfo), -ENOENT);
	ck_assert_int_eq(subvol_info(fx.pool, "b", &info), -ENOENT);
	ck_assert_int_eq(subvol_delete(fx.pool, "b", why, sizeof(why)), -ENOENT);
	ck_assert_int_eq(subvol_resize(fx.pool, "d", BLOCK, 0, why, sizeof(why)), -ENOENT);
	ck_assert_str_eq(why, "there is no subvolume d; nvfs subvolume list test shows them");
	ck_assert_int_eq(make_subvol("x", "blue", 1), -ENOENT);
	ck_assert_int_eq(make_subvol("b", "red", 1), -EEXIST);
	ck_assert_str_eq(why, "the name b is taken; take another one");
	ck_assert_int_eq(make_subvol("x", "red", 1u << 30), -ENOSPC);
	ck_assert_str_eq(why, "the pool cannot promise 4 TiB more; take a smaller size, or ask its administrator");
	ck_assert_int_eq(make_subvol("x", NULL, 7), 0);
	ck_assert_int_eq(subvol_info(fx.pool, "x", &info), 0);
	ck_assert_str_eq(info.tenant, "red");
	ck_assert_int_eq(subvol_resize(fx.pool, "x", 9 * BLOCK, 0, why, sizeof(why)), 0);
	ck_assert_int_eq(make_subvol("y", NULL, 7), -EDQUOT);
	ck_assert_int_eq(subvol_delete(fx.pool, "x", why, sizeof(why)), 0);
	tenant_act_as(NULL);
	ck_assert_str_eq(seen(), "b d r sv ");
	/* What it owned last it owns no more. */
	ck_assert_int_eq(change("red", TENANT_UIDS, (struct tenant_settings){ 0 }), 0);
	ck_assert(!tenant_owns_any(fx.pool, &user));
	tenant_act_as(&user);
	ck_assert_str_eq(seen(), "");
}
END_TEST

static int note_total(void *arg, uint64_t done, uint64_t all)
{
	(void)done;
	*(uint64_t *)arg = all;
	return 0;
}

static int no_row(void *arg, const struct usage *u)
{
	(void)arg;
	(void)u;
	return 0;
}

static uint64_t usage_total(void)
{
	uint64_t all = 0;
	const struct progress progress = { note_total, &all };
	struct usage_total total;

	ck_assert_int_eq(usage_count(fx.pool, NULL, &progress, no_row, NULL, &total, why, sizeof(why)), 0);
	return all;
}

static unsigned sweeps(void)
{
	struct pool_usage u;

	ck_assert_int_eq(pool_sweeps(fx.pool, &u), 0);
	return u.sweeps;
}

/* Neither by progress, nor by what is swept, nor by a refusal. */
START_TEST(owner_learns_no_numbers_of_others)
{
	const struct tenant_user user = { .uid = 1000 };
	const struct snapshot_name old = { "b", "s" };
	uint64_t all;

	ck_assert_int_eq(make("red", (struct tenant_settings){ .uid_count = 1, .uids = { 1000 } }), 0);
	ck_assert_int_eq(make("blue", (struct tenant_settings){ 0 }), 0);
	ck_assert_int_eq(make_subvol("r", "red", 10), 0);
	ck_assert_int_eq(make_subvol("b", "blue", 10), 0);
	all = usage_total();
	tenant_act_as(&user);
	ck_assert_uint_gt(usage_total(), 0);
	ck_assert_uint_lt(usage_total(), all);
	ck_assert_int_eq(subvol_resize(fx.pool, "r", 0, 1u << 30, why, sizeof(why)), -EINVAL);
	ck_assert_str_eq(why, "1073741824 inodes are more than the pool was made for; take fewer, or ask its administrator");
	/* A snapshot's name may be taken by one that cannot be seen, of a subvolume that was deleted. */
	tenant_act_as(NULL);
	sweeper_stop(take_ptr(fx.pool->sweeper));
	ck_assert_int_eq(snapshot_create(fx.pool, &old, 1, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, "b", why, sizeof(why)), 0);
	ck_assert_uint_eq(sweeps(), 1);
	tenant_act_as(&user);
	ck_assert_uint_eq(sweeps(), 0);
	ck_assert_int_eq(make_subvol("b", NULL, 10), 0);
	ck_assert_int_eq(snapshot_create(fx.pool, &old, 1, why, sizeof(why)), -EEXIST);
	ck_assert_str_eq(why, "the name b@s is taken; take another one");
	ck_assert_int_eq(subvol_delete(fx.pool, "b", why, sizeof(why)), 0);
	ck_assert_uint_eq(sweeps(), 1);
}
END_TEST

/* A node that waits to be swept outlives its tenant; nothing is charged for it, and nobody misses the tenant. */
START_TEST(tenant_is_gone_before_its_nodes)
{
	struct subvol *sv;
	uint64_t ino;

	ck_assert_int_eq(make("t", (struct tenant_settings){ 0 }), 0);
	ck_assert_int_eq(make_subvol("a", "t", 2000), 0);
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "a", false, &fx.sv), 0);
	ino = new_file("f");
	for (unsigned i = 0; i < 16; i++)
		ck_assert_int_eq(grow(ino, i * 64, 64), 64 * BLOCK);
	sv = fx.sv;
	fx.sv = NULL;
	ck_assert_int_eq(subvol_close(sv), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), 0);
	ck_assert_int_eq(tenant_delete(fx.pool, "t", false, why, sizeof(why)), 0);
	ck_assert_int_eq(pool_close(fx.pool), 0);
	fx.pool = NULL;
	fixture_check(fx.dev);
	ck_assert_int_eq(fixture_open(&fx), 0);
	ck_assert_uint_eq(info_of("default").used_blocks, 0);
	while (subvol_sweeps_left(fx.pool))
		usleep(1000);
}
END_TEST

/* A node without a name that clones had in common is not to be swept before they are gone: it, too, may be there when its tenant is not. */
START_TEST(tenant_is_gone_before_what_clones_shared)
{
	const struct snapshot_name from = { "a", NULL };
	const struct clone_options opts = { 0 };

	ck_assert_int_eq(make("t", (struct tenant_settings){ 0 }), 0);
	ck_assert_int_eq(make_subvol("a", "t", 100), 0);
	sweeper_stop(take_ptr(fx.pool->sweeper));
	ck_assert_int_eq(snapshot_clone(fx.pool, &from, "b", &opts, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, "b", why, sizeof(why)), 0);
	ck_assert_int_eq(tenant_delete(fx.pool, "t", false, why, sizeof(why)), 0);
	fixture_close(&fx);
	fixture_check(fx.dev);
	ck_assert_int_eq(fixture_open(&fx), 0);
	while (subvol_sweeps_left(fx.pool))
		usleep(1000);
	ck_assert_uint_eq(atomic_load(&fx.pool->loose_blocks), 0);
}
END_TEST

/* The same for certain: the record of a node to be swept names a tenant that never was. */
START_TEST(node_of_no_tenant_is_swept)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct node_rec node = { .state = NODE_SWEEP, .subvol = 90, .tenant = 90, .first_ino = INO_ROOT };
	const struct subvol_rec sv = { .flags = SUBVOL_DELETING, .tree = 1, .tenant = 90, .incarnation = 1, .size_blocks = 1,
				       .inodes_max = 1, .name = "gone", .name_len = 4 };
	uint32_t tree, id;

	pthread_mutex_lock(&fx.pool->admin_lock);
	struct pool_rec pr = fx.pool->rec;
	id = node.subvol = pr.next_subvol++;
	tree = pr.next_tree++;
	sysrec_put_tree(fx.pool->db, batch, tree, INO_ROOT + 1);
	sysrec_put_node(fx.pool->db, batch, tree, pr.next_node++, &node);
	sysrec_put_subvol(fx.pool->db, batch, id, &(struct subvol_rec){ .flags = sv.flags, .tree = tree, .tenant = sv.tenant,
			  .incarnation = 1, .size_blocks = 1, .inodes_max = 1, .name = sv.name, .name_len = 4 });
	ck_assert_int_eq(pool_write_rec(fx.pool, &pr, batch), 0);
	fx.pool->rec = pr;
	pthread_mutex_unlock(&fx.pool->admin_lock);
	fixture_power_cut(&fx, 3);
	while (subvol_sweeps_left(fx.pool))
		usleep(1000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tenant");
	TCase *tcase = tcase_create("tenant");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_test(tcase, create_list_delete);
	tcase_add_test(tcase, changes_outlive_a_power_cut);
	tcase_add_test(tcase, settings_that_make_no_sense);
	tcase_add_test(tcase, used_limit_of_an_open_subvolume);
	tcase_add_test(tcase, inode_limit_of_an_open_subvolume);
	tcase_add_test(tcase, subvolumes_and_provisioned);
	tcase_add_test(tcase, snapshots_are_counted);
	tcase_add_test(tcase, defaults_of_new_subvolumes);
	tcase_add_test(tcase, soft_limit_has_a_grace);
	tcase_add_test(tcase, soft_limit_below_use);
	tcase_add_test(tcase, several_reach_the_limit_exactly);
	tcase_add_test(tcase, list_changes_under_readers);
	tcase_add_test(tcase, owner_sees_its_own);
	tcase_add_test(tcase, owner_learns_no_numbers_of_others);
	tcase_add_test(tcase, tenant_is_gone_before_its_nodes);
	tcase_add_test(tcase, tenant_is_gone_before_what_clones_shared);
	tcase_add_test(tcase, node_of_no_tenant_is_swept);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
