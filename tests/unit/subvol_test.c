/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/mkfs.h"
#include "meta/subvol_internal.h"
#include "meta/tenant.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define KIB UINT64_C(1024)
#define ROOT INO_ROOT

static struct meta_fixture fx;
static char why[512];

static void setup(void)
{
	fixture_make(&fx, 256 * MIB, 64 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

static int create(const char *name, uint64_t bytes, bool thin)
{
	const struct subvol_options opts = { .size_bytes = bytes, .thin = thin };

	why[0] = 0;
	return subvol_create(fx.pool, name, &opts, why, sizeof(why));
}

static int collect(const struct subvol_info *info, void *arg)
{
	strcat(arg, info->rec.name);
	strcat(arg, info->open ? "* " : " ");
	return 0;
}

START_TEST(create_list_delete)
{
	char names[200] = "";
	struct subvol_info info;

	ck_assert_int_eq(create("b", 3 * MIB + 1, false), 0);
	ck_assert_int_eq(create("a", MIB, true), 0);
	ck_assert_int_eq(create("a", MIB, true), -EEXIST);
	ck_assert_ptr_nonnull(strstr(why, "already"));
	ck_assert_int_eq(create(".a", MIB, true), -EINVAL);
	ck_assert_int_eq(create("x", 0, true), -EINVAL);
	ck_assert_int_eq(subvol_each(fx.pool, collect, names), 0);
	ck_assert_str_eq(names, "a b sv* ");
	ck_assert_int_eq(subvol_info(fx.pool, "b", &info), 0);
	ck_assert_uint_eq(info.rec.size_blocks, 3 * 256 + 1);
	ck_assert_uint_eq(info.rec.inodes_max, 1024);
	ck_assert_uint_eq(info.used_inodes, 1);
	ck_assert_int_eq(subvol_info(fx.pool, "none", &info), -ENOENT);
	ck_assert_int_eq(subvol_delete(fx.pool, "sv", why, sizeof(why)), -EBUSY);
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), -ENOENT);
	ck_assert_int_eq(create("a", MIB, true), 0);
}
END_TEST

/* A limit on inodes is one that can be reached. */
START_TEST(inodes_are_those_of_the_pool)
{
	struct subvol_options opts = { .size_bytes = 4 * KIB };
	struct subvol_info info;
	struct pool_stats st;

	pool_stats(fx.pool, &st);
	ck_assert_uint_gt(st.inodes_max, 1024);
	opts.inodes_max = INT64_MAX;
	ck_assert_int_eq(subvol_create(fx.pool, "a", &opts, why, sizeof(why)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "would work"));
	opts.inodes_max = st.inodes_max + 1;
	ck_assert_int_eq(subvol_create(fx.pool, "a", &opts, why, sizeof(why)), -EINVAL);
	opts.inodes_max = st.inodes_max;
	ck_assert_int_eq(subvol_create(fx.pool, "a", &opts, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_resize(fx.pool, "a", 0, st.inodes_max + 1, why, sizeof(why)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(why, "would work"));
	ck_assert_int_eq(subvol_resize(fx.pool, "a", 0, 5, why, sizeof(why)), 0);
	/* The default of a thin one larger than the pool. */
	ck_assert_int_eq(create("b", 300 * MIB, true), 0);
	ck_assert_int_eq(subvol_info(fx.pool, "b", &info), 0);
	ck_assert_uint_eq(info.rec.inodes_max, st.inodes_max);
}
END_TEST

/* The root directory is an inode of its tenant's, from the first moment and to the last. */
START_TEST(root_is_an_inode_of_the_tenant)
{
	struct pool_tenant *t = fx.pool->tenants;
	struct pool_stats before, after;

	ck_assert_int_eq(t->used_inodes, 1);
	t->limits.inodes = 2;
	ck_assert_int_eq(create("a", MIB, false), 0);
	ck_assert_int_eq(t->used_inodes, 2);
	pool_stats(fx.pool, &before);
	ck_assert_int_eq(create("b", MIB, false), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(why, "all 2 inodes"));
	pool_stats(fx.pool, &after);
	ck_assert_uint_eq(after.reserved_blocks, before.reserved_blocks);
	ck_assert_uint_eq(after.subvolumes, before.subvolumes);
	ck_assert_int_eq(t->used_inodes, 2);
	ck_assert_int_eq(subvol_delete(fx.pool, "a", why, sizeof(why)), 0);
	ck_assert_int_eq(t->used_inodes, 1);
	ck_assert_int_eq(create("b", MIB, false), 0);
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	ck_assert_int_eq(fx.pool->tenants->used_inodes, 2);
}
END_TEST

START_TEST(claims_are_exact)
{
	struct pool_stats st;
	uint64_t left;

	pool_stats(fx.pool, &st);
	ck_assert_uint_eq(st.reserved_blocks, 64 * 256);
	/* The numbers of the refusal are the ones that work. */
	ck_assert_int_eq(create("big", 1024 * MIB, false), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "would work"));
	for (left = 1; create("probe", left * 4 * KIB, false) == 0; left += 512)
		ck_assert_int_eq(subvol_delete(fx.pool, "probe", NULL, 0), 0);
	pool_stats(fx.pool, &st);
	ck_assert_uint_eq(st.reserved_blocks, 64 * 256);
	ck_assert_uint_gt(left, 512);
	ck_assert_int_eq(create("rest", (left - 512) * 4 * KIB, false), 0);
	ck_assert_int_eq(create("one", 4 * MIB, false), -ENOSPC);
	ck_assert_int_eq(create("thin", 4 * MIB, true), 0);
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	pool_stats(fx.pool, &st);
	ck_assert_uint_eq(st.reserved_blocks, 64 * 256 + left - 512);
	ck_assert_int_eq(create("one", 4 * MIB, false), -ENOSPC);
}
END_TEST

static void write_blocks(uint64_t ino, unsigned from, unsigned count, int expect)
{
	char block[4096];

	for (unsigned i = from; i < from + count; i++) {
		memset(block, (int)i + 1, sizeof(block));
		ck_assert_int_eq(fx_write(&fx, ino, (uint64_t)i * 4096, block, sizeof(block), 0), expect);
	}
}

START_TEST(limits_are_exact)
{
	struct inode_attr f;
	struct subvol_stats st;

	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG, &f), 0);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 100 * 4 * KIB, 0, why, sizeof(why)), 0);
	write_blocks(f.ino, 0, 99, 4096); /* and one block of the root's entries */
	write_blocks(f.ino, 99, 1, -ENOSPC);
	write_blocks(f.ino, 0, 99, 4096);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 99 * 4 * KIB, 0, why, sizeof(why)), -EBUSY);
	ck_assert_ptr_nonnull(strstr(why, "400 KiB"));
	ck_assert_int_eq(fx_fsync(&fx, f.ino), 0);
	write_blocks(f.ino, 99, 1, -ENOSPC);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 101 * 4 * KIB, 0, why, sizeof(why)), 0);
	write_blocks(f.ino, 99, 1, 4096);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 0, 2, why, sizeof(why)), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "g", S_IFREG, NULL), -ENOSPC);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 0, 1, why, sizeof(why)), -EBUSY);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 0, 3, why, sizeof(why)), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "g", S_IFREG, NULL), 0);
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.size_blocks, 101);
	ck_assert_uint_eq(st.used_blocks, 101);
	ck_assert_uint_eq(st.used_inodes, 3);
	/* What was full is writable as soon as something is gone, without a pause. */
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "h", S_IFREG, &f), 0);
	write_blocks(f.ino, 0, 90, 4096);
}
END_TEST

/* As another thread may see two counters of which the reactor changes one first. */
START_TEST(use_is_never_below_0)
{
	const int64_t used = atomic_load(&fx.sv->used_blocks);
	struct subvol_stats st;

	atomic_store(&fx.sv->held_blocks, used + 5);
	subvol_stats(fx.sv, &st);
	atomic_store(&fx.sv->held_blocks, 0);
	ck_assert_uint_eq(st.used_blocks, 0);
	subvol_stats(fx.sv, &st);
	ck_assert_uint_eq(st.used_blocks, (uint64_t)used);
}
END_TEST

START_TEST(thin_ones_share)
{
	const struct subvol_options opts = { .size_bytes = 40 * MIB, .thin = true };
	struct pool_stats st;
	struct inode_attr f;
	char data[65536];
	uint64_t written = 0, left;
	int64_t r;

	/* Most of the pool is claimed: the thin one gets what is left, and the reserved one can always be filled. */
	memset(data, 1, sizeof(data));
	ck_assert_int_eq(subvol_create(fx.pool, "thin", &opts, why, sizeof(why)), 0);
	for (uint64_t mib = 150; mib && create("claim", mib * MIB, false); mib--)
		;
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "thin", false, &fx.sv), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG, &f), 0);
	pool_stats(fx.pool, &st);
	left = st.unclaimed_blocks;
	while ((r = fx_write(&fx, f.ino, written, data, sizeof(data), 0)) > 0)
		written += (uint64_t)r;
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_lt(written, 4 * MIB);
	ck_assert_uint_eq(left, written / 4096);
	pool_stats(fx.pool, &st);
	ck_assert_uint_eq(st.unclaimed_blocks, 0);
	ck_assert_int_eq(create("more", 4 * MIB, false), -ENOSPC);
}
END_TEST

START_TEST(deleted_space_comes_back)
{
	struct pool_stats before, st;
	struct inode_attr f;
	char name[16], data[8192];

	memset(data, 7, sizeof(data));
	pool_stats(fx.pool, &before);
	for (unsigned i = 0; i < 700; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG, &f), 0);
		ck_assert_int_eq(fx_write(&fx, f.ino, 0, data, sizeof(data), 0), sizeof(data));
	}
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	fx.sv = NULL;
	pool_stats(fx.pool, &st);
	ck_assert_uint_le(st.free_blocks, before.free_blocks - 1400);
	ck_assert_int_eq(subvol_delete(fx.pool, "sv", why, sizeof(why)), 0);
	/* In the middle of it, the pool is closed and opened. */
	ck_assert_int_eq(pool_close(fx.pool), 0);
	ck_assert_int_eq(pool_open(&fx.dev, 1, &fx.options, &fx.pool), 0);
	/* Nobody else asks for a commit. */
	for (unsigned i = 0; i < 6000; i++) {
		pool_stats(fx.pool, &st);
		if (st.free_blocks == before.free_blocks && !subvol_sweeps_left(fx.pool))
			break;
		usleep(10000);
	}
	ck_assert_uint_eq(st.free_blocks, before.free_blocks);
	ck_assert_uint_eq(st.reserved_blocks, 0);
	ck_assert_uint_eq(st.subvolumes, 0);
	ck_assert_int_eq(create("sv", 64 * MIB, false), 0);
}
END_TEST

START_TEST(pool_refusals)
{
	struct pool *pool;
	struct subvol *sv;
	struct device *small, *devs[2];
	const struct pool_create_options po = { .name = "bad name" }, po2 = { .name = "two" };
	struct pool_options opts = fx.options;

	ck_assert_int_eq(device_sim_create(16 * MIB, NULL, &small), 0);
	ck_assert_int_eq(pool_create(&small, 1, &po2, why, sizeof(why)), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(why, "64 MiB"));
	device_close(small);
	ck_assert_int_eq(device_sim_create(128 * MIB, NULL, &devs[0]), 0);
	ck_assert_int_eq(device_sim_create(128 * MIB, NULL, &devs[1]), 0);
	ck_assert_int_eq(pool_create(devs, 1, &po, why, sizeof(why)), -EINVAL);
	ck_assert_int_eq(pool_open(devs, 1, &opts, &pool), -ENOENT);
	ck_assert_int_eq(pool_create(devs, 2, &po2, why, sizeof(why)), 0);
	ck_assert_int_eq(pool_open(devs, 1, &opts, &pool), -ENXIO);
	opts.dirty_bytes = 1024 * MIB;
	ck_assert_int_eq(pool_open(devs, 2, &opts, &pool), -EINVAL);
	opts.dirty_bytes = 0;
	{
		struct device *swapped[2] = { devs[1], devs[0] };

		ck_assert_int_eq(pool_open(swapped, 2, &opts, &pool), 0);
		ck_assert_int_eq(subvol_open(pool, "none", false, &sv), -ENOENT);
		ck_assert_int_eq(pool_close(pool), 0);
	}
	device_close(devs[0]);
	device_close(devs[1]);
	ck_assert_int_eq(subvol_open(fx.pool, "sv", false, &sv), -EBUSY);
}
END_TEST

static void rates_are(uint64_t read_iops, uint64_t write_iops, uint64_t read_bytes, uint64_t write_bytes)
{
	const struct rates want = { read_iops, write_iops, read_bytes, write_bytes };
	struct throttles throttles;
	struct subvol_info info;
	struct rates now;

	ck_assert_int_eq(subvol_info(fx.pool, "sv", &info), 0);
	ck_assert_mem_eq(&info.rec.rates, &want, sizeof(want));
	subvol_throttles(fx.sv, &throttles);
	throttle_get(throttles.level[0], &now);
	ck_assert_mem_eq(&now, &want, sizeof(want));
}

/* An open one has its new limits at once, and they are there the next time. */
START_TEST(rates_are_set)
{
	const struct rates rates = { 1, 2, 3, 4 };

	rates_are(0, 0, 0, 0);
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &rates, SUBVOL_READ_IOPS | SUBVOL_WRITE_BYTES, why, sizeof(why)), 0);
	rates_are(1, 0, 0, 4);
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &(struct rates){ 9, 8, 7, 0 }, SUBVOL_WRITE_IOPS | SUBVOL_READ_BYTES, why,
					  sizeof(why)), 0);
	rates_are(1, 8, 7, 4);
	ck_assert_int_eq(subvol_resize(fx.pool, "sv", 65 * MIB, 0, why, sizeof(why)), 0);
	rates_are(1, 8, 7, 4);
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &(struct rates){ RATE_MAX + 1, 0, 0, 0 }, SUBVOL_READ_IOPS, why, sizeof(why)),
			 -EINVAL);
	ck_assert_int_eq(subvol_set_rates(fx.pool, "none", &rates, SUBVOL_READ_IOPS, why, sizeof(why)), -ENOENT);
	rates_are(1, 8, 7, 4);
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	rates_are(1, 8, 7, 4);
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &(struct rates){ 0 }, SUBVOL_READ_IOPS, why, sizeof(why)), 0);
	rates_are(0, 8, 7, 4);
}
END_TEST

/* A snapshot that is mounted by itself has the limits of its subvolume, and those of today. */
START_TEST(rates_of_a_snapshot)
{
	const struct rates none = { 0 }, first = { 100, 0, 0, 0 }, second = { 10, 0, 0, 0 };
	struct throttles throttles, of_other;
	struct subvol *view, *other;
	struct rates now;

	ck_assert_int_eq(subvol_create(fx.pool, "sv2", &(struct subvol_options){ .size_bytes = MIB }, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "sv2", false, &other), 0);
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &first, SUBVOL_READ_IOPS, why, sizeof(why)), 0);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "sv@s", true, &view), 0);
	subvol_throttles(view, &throttles);
	subvol_throttles(other, &of_other);
	throttle_get(throttles.level[0], &now);
	ck_assert_mem_eq(&now, &first, sizeof(now));
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &second, SUBVOL_READ_IOPS, why, sizeof(why)), 0);
	throttle_get(throttles.level[0], &now);
	ck_assert_mem_eq(&now, &second, sizeof(now));
	ck_assert_int_eq(subvol_set_rates(fx.pool, "sv", &none, SUBVOL_READ_IOPS, why, sizeof(why)), 0);
	throttle_get(throttles.level[0], &now);
	ck_assert_mem_eq(&now, &none, sizeof(now));
	throttle_get(of_other.level[0], &now);
	ck_assert_mem_eq(&now, &none, sizeof(now));
	ck_assert_int_eq(subvol_close(view), 0);
	ck_assert_int_eq(subvol_close(other), 0);
}
END_TEST

/* Its tenant's limits are shared by all of them. */
START_TEST(rates_of_the_tenant)
{
	const struct tenant_settings set = { .limits = { .read_iops = 5, .write_bytes_per_s = 6 } };
	struct throttles throttles, other;
	struct subvol *sv;
	struct rates now;

	ck_assert_int_eq(create("b", MIB, true), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "b", false, &sv), 0);
	subvol_throttles(fx.sv, &throttles);
	subvol_throttles(sv, &other);
	ck_assert_ptr_eq(throttles.level[1], other.level[1]);
	ck_assert_ptr_ne(throttles.level[0], other.level[0]);
	ck_assert_int_eq(tenant_set(fx.pool, "default", &set, TENANT_READ_IOPS | TENANT_WRITE_BYTES, why, sizeof(why)), 0);
	throttle_get(throttles.level[1], &now);
	ck_assert_uint_eq(now.read_iops, 5);
	ck_assert_uint_eq(now.write_iops, 0);
	ck_assert_uint_eq(now.read_bytes_per_s, 0);
	ck_assert_uint_eq(now.write_bytes_per_s, 6);
	ck_assert_int_eq(subvol_close(sv), 0);
}
END_TEST

START_TEST(read_only)
{
	struct inode_attr f;

	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG, &f), 0);
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "sv", true, &fx.sv), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "f", NULL), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "g", S_IFREG, NULL), -EROFS);
	fixture_close(&fx);
	fx.options.read_only = true;
	ck_assert_int_eq(fixture_open(&fx), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "f", NULL), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), -EROFS);
	ck_assert_int_eq(create("x", MIB, false), -EROFS);
}
END_TEST

/* Metadata runs full long before the limit of inodes: that is ENOSPC, nothing else, and deleting works. */
START_TEST(metadata_runs_full)
{
	struct inode_attr attr;
	char name[32], value[16000];
	unsigned made, again = 0;
	int r = 0;

	for (size_t i = 0; i < sizeof(value); i++)
		value[i] = (char)random();
	for (made = 0; !r; made++) {
		snprintf(name, sizeof(name), "%u", made);
		r = fx_create(&fx, ROOT, name, S_IFREG, &attr);
		if (!r) {
			value[0] = (char)made;
			r = fx_setxattr(&fx, attr.ino, "user.fill", value, sizeof(value), 0);
			made += r != 0;
		}
	}
	made--;
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_gt(made, 300);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	ck_assert_int_eq(fx_setattr(&fx, ROOT, ATTR_MTIME_NOW, &attr, NULL), 0);
	for (unsigned i = 0; i < made; i++) {
		snprintf(name, sizeof(name), "%u", i);
		r = fx_unlink(&fx, ROOT, name);
		ck_assert_msg(r == 0, "unlink %u of %u: %d", i, made, r);
	}
	fixture_settle(&fx, 5000);
	/* RocksDB gives the room back in the background: that it does is what matters, not when. */
	for (unsigned i = 0; i < 2000 && fx_create(&fx, ROOT, "again", S_IFREG, &attr) == -ENOSPC; i++) {
		again++;
		usleep(50000);
	}
	ck_assert_uint_lt(again, 2000);
}
END_TEST

/* ---- reactors on threads of their own, as in nvfsd ---- */

#define CLIENTS 4u
#define CLIENT_FILES 150u

struct client {
	struct subvol *sv;
	unsigned id;
	pthread_t thread;
	int error;
};

struct file_call {
	char name[32];
	struct inode_attr attr;
	bool made;
};

static int create_and_write(struct op *op, void *arg)
{
	const struct names_new what = { .mode = S_IFREG | 0600 };
	struct file_call *c = arg;
	int64_t r;

	if (!c->made) {
		r = names_create(op, ROOT, c->name, strlen(c->name), &what, &c->attr);
		if (r)
			return (int)r;
		c->made = true;
	}
	r = data_write(op, c->attr.ino, 0, "hello", 5, 0);
	return r == 5 ? 0 : (int)r;
}

static int remove_it(struct op *op, void *arg)
{
	struct file_call *c = arg;

	return names_unlink(op, ROOT, c->name, strlen(c->name));
}

static int sync_all(struct op *op, void *arg)
{
	(void)arg;
	return data_sync_all(op);
}

static void *client_run(void *arg)
{
	struct client *c = arg;

	for (unsigned i = 0; i < CLIENT_FILES && !c->error; i++) {
		struct file_call call = { .made = false };

		snprintf(call.name, sizeof(call.name), "c%u-%u", c->id, i);
		c->error = subvol_call(c->sv, create_and_write, &call);
		if (!c->error && i % 3 == 0)
			c->error = subvol_call(c->sv, remove_it, &call);
		if (!c->error && i % 10 == 0)
			c->error = subvol_call(c->sv, sync_all, NULL);
	}
	return NULL;
}

START_TEST(threads)
{
	const struct subvol_options so = { .size_bytes = 16 * MIB };
	const struct pool_create_options po = { .name = "threads" };
	struct pool_options opts = { .reactors = 2, .commit_ms = 20 };
	struct client clients[CLIENTS] = { 0 };
	struct reactor *reactors[2];
	struct subvol *sv[2];
	struct subvol_info info;
	struct device *dev;
	struct pool *pool;

	ck_assert_int_eq(device_sim_create(256 * MIB, NULL, &dev), 0);
	ck_assert_int_eq(pool_create(&dev, 1, &po, why, sizeof(why)), 0);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(reactor_create(NULL, &reactors[i]), 0);
		ck_assert_int_eq(reactor_start_thread(reactors[i], "reactor"), 0);
	}
	opts.reactor = reactors;
	ck_assert_int_eq(pool_open(&dev, 1, &opts, &pool), 0);
	ck_assert_int_eq(subvol_create(pool, "a", &so, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_create(pool, "b", &so, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_open(pool, "a", false, &sv[0]), 0);
	ck_assert_int_eq(subvol_open(pool, "b", false, &sv[1]), 0);
	ck_assert_ptr_ne(subvol_reactor(sv[0]), subvol_reactor(sv[1]));
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i].sv = sv[i % 2];
		clients[i].id = i;
		ck_assert_int_eq(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		ck_assert_int_eq(subvol_resize(pool, "a", (16 + i % 5) * MIB, 0, why, sizeof(why)), 0);
		ck_assert_int_eq(subvol_info(pool, "b", &info), 0);
	}
	ck_assert_int_eq(subvol_create(pool, "gone", &so, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_delete(pool, "gone", why, sizeof(why)), 0);
	for (unsigned i = 0; i < CLIENTS; i++) {
		pthread_join(clients[i].thread, NULL);
		ck_assert_int_eq(clients[i].error, 0);
	}
	ck_assert_int_eq(subvol_close(sv[0]), 0);
	ck_assert_int_eq(subvol_info(pool, "a", &info), 0);
	ck_assert_uint_eq(info.used_inodes, 1 + 2 * CLIENT_FILES * 2 / 3);
	ck_assert_int_eq(subvol_close(sv[1]), 0);
	ck_assert_int_eq(pool_close(pool), 0);
	for (unsigned i = 0; i < 2; i++) {
		reactor_stop(reactors[i]);
		reactor_join(reactors[i]);
		reactor_destroy(reactors[i]);
	}
	fixture_check(dev);
	device_close(dev);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("subvol");
	TCase *tcase = tcase_create("subvol");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, create_list_delete);
	tcase_add_test(tcase, inodes_are_those_of_the_pool);
	tcase_add_test(tcase, root_is_an_inode_of_the_tenant);
	tcase_add_test(tcase, claims_are_exact);
	tcase_add_test(tcase, limits_are_exact);
	tcase_add_test(tcase, use_is_never_below_0);
	tcase_add_test(tcase, thin_ones_share);
	tcase_add_test(tcase, deleted_space_comes_back);
	tcase_add_test(tcase, pool_refusals);
	tcase_add_test(tcase, rates_are_set);
	tcase_add_test(tcase, rates_of_a_snapshot);
	tcase_add_test(tcase, rates_of_the_tenant);
	tcase_add_test(tcase, read_only);
	tcase_add_test(tcase, threads);
	tcase_add_test(tcase, metadata_runs_full);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
