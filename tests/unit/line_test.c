/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Long lines: a subvolume with as many snapshots behind it as there may be. Their records are put together here; made one by one they would take minutes. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/cleanup.h"
#include "meta/subvol_internal.h"
#include "meta/sysrec.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define ROOT INO_ROOT

static struct meta_fixture fx;

static void setup(void)
{
	struct inode_attr attr;

	fixture_make(&fx, 512 * MIB, 64 * MIB, NULL);
	ck_assert_int_eq(fx_create(&fx, ROOT, "old", S_IFREG | 0644, &attr), 0);
	ck_assert_int_eq(fx_write(&fx, attr.ino, 0, "old", 3, 0), 3);
	fx_use(&fx, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

/* The live node of sv becomes the oldest of n snapshots s1, s2, ...; the rest of them and the new live one have nothing of their own. */
static void put_line(unsigned n)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	char subvol_name[SUBVOL_NAME_MAX + 1], node_name[SUBVOL_NAME_MAX + 1], name[32];
	struct counters_rec counters;
	struct subvol_rec rec;
	struct node_rec node;
	uint64_t next_ino;
	uint32_t id, at;

	ck_assert_int_eq(sysrec_subvol_id(fx.pool->db, "sv", &id), 0);
	ck_assert_int_eq(sysrec_subvol(fx.pool->db, id, &rec, subvol_name), 0);
	ck_assert_int_eq(sysrec_node(fx.pool->db, rec.tree, rec.node, &node, node_name), 0);
	ck_assert_int_eq(sysrec_counters(fx.pool->db, rec.tree, rec.node, &counters), 0);
	ck_assert_int_eq(sysrec_tree(fx.pool->db, rec.tree, &next_ino), 0);
	counters = (struct counters_rec){ .referenced = counters.referenced, .meta = counters.meta, .inodes = counters.inodes };
	at = rec.node;
	for (unsigned i = 1; i <= n; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		node.state = NODE_SNAPSHOT;
		node.view = (uint16_t)i;
		node.name = name;
		node.name_len = (uint8_t)strlen(name);
		sysrec_put_node(fx.pool->db, batch, rec.tree, at, &node);
		node.parent = at;
		node.first_ino = next_ino;
		at = fx.pool->rec.next_node++;
		sysrec_add_counters(fx.pool->db, batch, rec.tree, at, &counters);
	}
	node.state = NODE_LIVE;
	node.view = 0;
	node.name_len = 0;
	sysrec_put_node(fx.pool->db, batch, rec.tree, at, &node);
	rec.node = at;
	sysrec_put_subvol(fx.pool->db, batch, id, &rec);
	ck_assert_int_eq(pool_write_rec(fx.pool, &fx.pool->rec, batch), 0);
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
}

static void settled(void)
{
	for (unsigned i = 0; i < 6000; i++) {
		pool_commit_wait(fx.pool);
		while (fx.sv && reactor_run_once(fx.reactor, 0) > 0)
			;
		if (!subvol_sweeps_left(fx.pool))
			return;
		usleep(10000);
	}
	ck_abort_msg("the sweep does not end");
}

static void is_there(const char *name)
{
	struct inode_attr attr;
	char back[4] = "";

	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	ck_assert_int_eq(fx_read(&fx, attr.ino, 0, back, 3, 0), 3);
	ck_assert_str_eq(back, "old");
}

static void is_refused(int r)
{
	ck_assert_int_eq(r, -EMLINK);
	ck_assert_ptr_nonnull(strstr(fx.why, "subvolume sv has 10000 snapshots behind it"));
	ck_assert_ptr_nonnull(strstr(fx.why, "10000 are the most; delete some"));
}

/* The last one that there may be is made, and all of it can be opened; the next is refused until one of them has left the line. */
START_TEST(a_line_has_an_end)
{
	put_line(SNAPSHOT_LINE_MAX - 1);
	is_there("old");
	ck_assert_msg(fx_snapshot(&fx, "sv", "last") == 0, "%s", fx.why);
	is_refused(fx_snapshot(&fx, "sv", "more"));
	is_refused(fx_clone(&fx, "sv", NULL, "copy", true));
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	ck_assert_uint_eq(fx.sv->ancestor_count, SNAPSHOT_LINE_MAX + 1);
	is_there("old");
	is_refused(fx_snapshot(&fx, "sv", "more"));
	/* What comes of a snapshot has no more of them than the subvolume. */
	ck_assert_msg(fx_clone(&fx, "sv", "last", "copy", true) == 0, "%s", fx.why);
	fx_use(&fx, "copy");
	is_there("old");
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	fx.sv = NULL;
	ck_assert_msg(fx_rollback(&fx, "sv", "last") == 0, "%s", fx.why);
	settled();
	is_refused(fx_snapshot(&fx, "sv", "more"));
	ck_assert_int_eq(fx_drop(&fx, "sv", "s5000"), 0);
	settled();
	fx_use(&fx, "sv");
	ck_assert_msg(fx_snapshot(&fx, "sv", "more") == 0, "%s", fx.why);
	is_there("old");
	is_refused(fx_snapshot(&fx, "sv", "again"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("line");
	TCase *tcase = tcase_create("line");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_test(tcase, a_line_has_an_end);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
