/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/db.h"

#include <errno.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/device.h"
#include "io/sim.h"
#include "meta/label.h"
#include "meta/metafs.h"
#include "tests/unit/unit.h"

#define MIB (1ull << 20)

struct rig {
	struct device *dev[4];
	unsigned devices;
	struct label labels[LABEL_DEVICES_MAX];
	struct metafs *mf;
	struct db *db;
};

static void rig_make(struct rig *rig, unsigned devices, uint64_t size)
{
	struct label_plan plan = { .name = "tank", .devices = devices, .inodes_max = 1000 };
	struct label_share share;
	char why[200] = "";

	memset(rig, 0, sizeof(*rig));
	rig->devices = devices;
	for (unsigned i = 0; i < devices; i++) {
		plan.size_bytes[i] = size;
		ck_assert_int_eq(device_sim_create(size, NULL, &rig->dev[i]), 0);
	}
	ck_assert_msg(!label_layout(&plan, rig->labels, &share, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(metafs_format(rig->dev, rig->labels, &share), 0);
}

static int rig_open(struct rig *rig, bool create)
{
	struct metafs_options options = { .devices = rig->dev, .labels = rig->labels };
	struct db_options dbo = { .create = create };
	int err = metafs_open(&options, &rig->mf);

	return err ? err : db_open(rig->mf, &dbo, &rig->db);
}

static void rig_shut(struct rig *rig)
{
	db_close(rig->db);
	metafs_close(rig->mf);
	rig->db = NULL;
	rig->mf = NULL;
}

static void rig_free(struct rig *rig)
{
	rig_shut(rig);
	for (unsigned i = 0; i < rig->devices; i++)
		device_close(rig->dev[i]);
}

static void put(struct rig *rig, enum db_cf cf, const char *key, const char *value)
{
	cleanup_db_batch struct db_batch *b = db_batch_new();

	db_batch_put(rig->db, b, cf, key, strlen(key), value, strlen(value));
	ck_assert_int_eq(db_write(rig->db, b, 0), 0);
}

static void expect(struct rig *rig, enum db_cf cf, const char *key, const char *value)
{
	cleanup_db_value struct db_value v = { 0 };
	int err = db_get(rig->db, cf, key, strlen(key), 0, &v);

	if (!value) {
		ck_assert_int_eq(err, -ENOENT);
		return;
	}
	ck_assert_int_eq(err, 0);
	ck_assert_uint_eq(v.len, strlen(value));
	ck_assert_mem_eq(v.data, value, v.len);
}

START_TEST(opens_and_keeps)
{
	struct rig rig;

	rig_make(&rig, 1, 64 * MIB);
	ck_assert_int_eq(rig_open(&rig, true), 0);
	put(&rig, DB_NS, "a", "1");
	put(&rig, DB_MAP, "b", "2");
	put(&rig, DB_SYS, "c", "3");
	expect(&rig, DB_NS, "a", "1");
	expect(&rig, DB_MAP, "a", NULL);
	ck_assert_int_eq(db_sync(rig.db), 0);
	rig_shut(&rig);
	ck_assert_int_eq(rig_open(&rig, false), 0);
	expect(&rig, DB_NS, "a", "1");
	expect(&rig, DB_MAP, "b", "2");
	expect(&rig, DB_SYS, "c", "3");
	rig_free(&rig);
}
END_TEST

int main(void)
{
	return unit_run("db", opens_and_keeps, NULL);
}
