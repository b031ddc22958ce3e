/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Groups of snapshots: what many names cost, and what the nodes that are there say to them. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/subvol_internal.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define MANY SNAPSHOT_GROUP_MAX

static struct meta_fixture fx;
static struct snapshot_name names[SNAPSHOT_GROUP_MAX + 1];
static char volumes[SNAPSHOT_GROUP_MAX + 1][16];

static void setup(void)
{
	fixture_make(&fx, 512 * MIB, 64 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

static void make_volumes(unsigned n)
{
	const struct subvol_options so = { .size_bytes = 16 * NVFS_BLOCK_SIZE, .thin = true, .inodes_max = 16 };

	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(subvol_create(fx.pool, volumes[i], &so, fx.why, sizeof(fx.why)), 0);
}

static void name_them(unsigned n, const char *snapshot)
{
	for (unsigned i = 0; i < n; i++) {
		snprintf(volumes[i], sizeof(volumes[i]), "v%u", i);
		names[i] = (struct snapshot_name){ volumes[i], snapshot };
	}
}

static int create(unsigned n)
{
	fx.why[0] = 0;
	return snapshot_create(fx.pool, names, n, fx.why, sizeof(fx.why));
}

static uint64_t visited(void)
{
	static uint64_t before;
	const uint64_t now = atomic_load(&fx.pool->nodes_visited), since = now - before;

	before = now;
	return since;
}

struct seen {
	unsigned count;
	uint32_t group;
};

static int see(const struct snapshot_info *info, void *arg)
{
	struct seen *s = arg;

	ck_assert_str_eq(info->subvol, volumes[s->count++]);
	if (!s->group)
		s->group = info->group;
	ck_assert_uint_eq(info->group, s->group);
	ck_assert_uint_eq(info->view, 1);
	return 0;
}

/* It takes a few walks over all nodes, and not one for each name. */
START_TEST(many_names_walk_no_more)
{
	struct seen s = { 0 };

	name_them(MANY, "s");
	make_volumes(MANY);
	visited();
	ck_assert_msg(create(MANY) == 0, "%s", fx.why);
	ck_assert_uint_le(visited(), 4 * (MANY + 1));
	ck_assert_int_eq(snapshot_infos(fx.pool, names, MANY, see, &s), 0);
	ck_assert_uint_eq(s.count, MANY);
	ck_assert_uint_ne(s.group, 0);
	ck_assert_uint_le(visited(), 4 * (2 * MANY + 1));
	/* And is refused as quickly. */
	ck_assert_int_eq(create(MANY), -EEXIST);
	ck_assert_uint_le(visited(), 4 * (2 * MANY + 1));
}
END_TEST

START_TEST(too_many_names)
{
	name_them(SNAPSHOT_GROUP_MAX + 1, "s");
	ck_assert_int_eq(create(SNAPSHOT_GROUP_MAX + 1), -EINVAL);
	ck_assert_str_eq(fx.why, "a group has at most 1500 snapshots, and these are 1501; make several groups");
	ck_assert_int_eq(create(SNAPSHOT_GROUP_MAX), -ENOENT);
}
END_TEST

static void is_there(unsigned i, const char *snapshot, int expected)
{
	const struct snapshot_name name = { volumes[i], snapshot };
	struct snapshot_info info;

	ck_assert_int_eq(snapshot_info(fx.pool, &name, &info), expected);
	if (!expected) {
		ck_assert_str_eq(info.subvol, volumes[i]);
		ck_assert_str_eq(info.name, snapshot);
	}
}

/* One name that cannot be: nothing is made of the others. */
START_TEST(one_name_is_taken)
{
	name_them(5, "s");
	make_volumes(5);
	/* Of another subvolume, and another name of the same one: both say nothing. */
	names[0] = (struct snapshot_name){ volumes[4], "s" };
	names[1] = (struct snapshot_name){ volumes[2], "t" };
	ck_assert_int_eq(create(2), 0);
	name_them(4, "s");
	ck_assert_int_eq(create(4), 0);
	for (unsigned i = 0; i < 5; i++)
		is_there(i, "s", 0);
	name_them(4, "t");
	ck_assert_int_eq(create(4), -EEXIST);
	ck_assert_str_eq(fx.why, "there is a snapshot v2@t already; take another name, or delete that one");
	is_there(1, "t", -ENOENT);
	is_there(2, "t", 0);
	is_there(3, "t", -ENOENT);
	names[2] = (struct snapshot_name){ volumes[1], "u" };
	ck_assert_int_eq(create(4), -EINVAL);
	ck_assert_str_eq(fx.why, "a group has one snapshot of a subvolume, and v1 is there twice");
}
END_TEST

/* The same, by the snapshot of a subvolume that was deleted and whose name another has now. */
START_TEST(name_of_a_deleted_one)
{
	name_them(2, "s");
	make_volumes(2);
	ck_assert_int_eq(create(1), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, volumes[0], fx.why, sizeof(fx.why)), 0);
	make_volumes(1);
	ck_assert_int_eq(create(2), -EEXIST);
	ck_assert_str_eq(fx.why, "there is a snapshot v0@s already; take another name, or delete that one");
	name_them(2, "t");
	ck_assert_int_eq(create(2), 0);
}
END_TEST

static unsigned snapshots_of(const char *tenant)
{
	struct tenant_info info;

	ck_assert_int_eq(tenant_info(fx.pool, tenant, &info), 0);
	return (unsigned)info.snapshots;
}

/* Each tenant of a group may have so many, and gets as many as are its own. */
START_TEST(tenants_of_a_group)
{
	const struct tenant_settings two = { .limits = { .snapshots = 2 } };
	struct subvol_options so = { .size_bytes = MIB, .thin = true, .inodes_max = 16 };

	ck_assert_int_eq(tenant_create(fx.pool, "a", &two, NULL, 0), 0);
	ck_assert_int_eq(tenant_create(fx.pool, "b", &two, NULL, 0), 0);
	name_them(5, "s");
	for (unsigned i = 0; i < 5; i++) {
		so.tenant = i % 2 ? "b" : "a"; /* three are of a */
		ck_assert_int_eq(subvol_create(fx.pool, volumes[i], &so, NULL, 0), 0);
	}
	ck_assert_int_eq(create(5), -EDQUOT);
	ck_assert_ptr_nonnull(strstr(fx.why, "tenant a has 0 snapshots and may have 2"));
	ck_assert_int_eq(create(4), 0);
	ck_assert_uint_eq(snapshots_of("a"), 2);
	ck_assert_uint_eq(snapshots_of("b"), 2);
	name_them(1, "t");
	ck_assert_int_eq(create(1), -EDQUOT);
}
END_TEST

static int count_one(const struct snapshot_info *info, void *arg)
{
	(void)info;
	++*(unsigned *)arg;
	return 0;
}

/* As often as it is asked for. */
START_TEST(asked_twice)
{
	unsigned seen = 0;

	name_them(2, "s");
	make_volumes(2);
	ck_assert_int_eq(create(1), 0);
	names[2] = names[3] = names[0];
	ck_assert_int_eq(snapshot_infos(fx.pool, names, 4, count_one, &seen), 0);
	ck_assert_uint_eq(seen, 3);
}
END_TEST

static uint16_t view_of(unsigned i, const char *snapshot)
{
	const struct snapshot_name name = { volumes[i], snapshot };
	struct snapshot_info info;

	ck_assert_int_eq(snapshot_info(fx.pool, &name, &info), 0);
	return info.view;
}

static void set_view(unsigned i, const char *snapshot, uint16_t view)
{
	const struct snapshot_name name = { volumes[i], snapshot };
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	char buf[SUBVOL_NAME_MAX + 1];
	struct snapshot_info info;
	struct node_rec rec;

	ck_assert_int_eq(snapshot_info(fx.pool, &name, &info), 0);
	ck_assert_int_eq(sysrec_node(fx.pool->db, info.tree, info.node, &rec, buf), 0);
	rec.view = view;
	sysrec_put_node(fx.pool->db, batch, info.tree, info.node, &rec);
	ck_assert_int_eq(db_write(fx.pool->db, batch, 0), 0);
}

static void create_all(unsigned n, const char *snapshot)
{
	name_them(n, snapshot);
	ck_assert_msg(create(n) == 0, "%s", fx.why);
}

/* Numbers below .snapshots go up, and when the last one is taken they fill what is free below; of each subvolume by itself. */
START_TEST(numbers_are_free)
{
	name_them(3, "a");
	make_volumes(3);
	create_all(3, "a");
	create_all(2, "b");
	create_all(3, "c");
	ck_assert_uint_eq(view_of(0, "c"), 3);
	ck_assert_uint_eq(view_of(2, "c"), 2);
	set_view(0, "a", 65533);
	create_all(3, "d");
	ck_assert_uint_eq(view_of(0, "d"), 65534);
	ck_assert_uint_eq(view_of(1, "d"), 4);
	ck_assert_uint_eq(view_of(2, "d"), 3);
	set_view(1, "d", 65534);
	set_view(1, "b", 7);
	create_all(3, "e");
	ck_assert_uint_eq(view_of(0, "e"), 1);
	ck_assert_uint_eq(view_of(1, "e"), 2);
	ck_assert_uint_eq(view_of(2, "e"), 4);
	create_all(2, "f");
	ck_assert_uint_eq(view_of(0, "f"), 4);
	ck_assert_uint_eq(view_of(1, "f"), 4);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("group");
	TCase *tcase = tcase_create("group");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_test(tcase, many_names_walk_no_more);
	tcase_add_test(tcase, too_many_names);
	tcase_add_test(tcase, one_name_is_taken);
	tcase_add_test(tcase, name_of_a_deleted_one);
	tcase_add_test(tcase, tenants_of_a_group);
	tcase_add_test(tcase, asked_twice);
	tcase_add_test(tcase, numbers_are_free);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
