/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a sync of metafs does to the devices: which flushes, which writes, and what an error means for those that follow. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/metafs.h"
#include "tests/unit/metafs_rig.h"

/* A log with a durable beginning. */
static struct metafs_file *make_log(struct rig *rig)
{
	struct metafs_file *f;

	rig_make(rig, 1, 64 * MIB, NULL);
	rig_open(rig);
	f = create(rig, "000003.log");
	append_stream(f, 1000, 0);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	return f;
}

/* As the data path does: not durable before a flush. */
static void write_data(struct rig *rig)
{
	static const uint8_t data[4096] __attribute__((aligned(4096))) = { 1 };

	ck_assert_int_eq(device_write(rig->dev[0], data, sizeof(data), 40 * MIB, 0), 0);
}

struct counts {
	uint64_t writes, flushes;
};

static struct counts counts(const struct rig *rig)
{
	struct device_health health;

	device_health(rig->dev[0], &health);
	return (struct counts){ health.writes, health.flushes };
}

START_TEST(errors_are_final)
{
	struct sim_faults faults = { .seed = 1 };

	for (unsigned i = 0; i < 2; i++) {
		struct rig rig;
		struct metafs_file *f = make_log(&rig);

		append_stream(f, 1000, 1000);
		faults.fail_flush_at = i == 0;
		faults.fail_write_at = i == 1;
		sim_set_faults(rig.dev[0], &faults);
		/* With the write failing first there is nothing to flush before it: write something. */
		ck_assert_int_eq(device_discard(rig.dev[0], 32 * MIB, 4096), 0);
		if (i == 0) {
			struct metafs_file *g = create(&rig, "x");

			append_stream(g, 10, 0);
			ck_assert_int_eq(metafs_file_sync(g), -EIO);
			metafs_file_close(g);
		}
		ck_assert_int_eq(metafs_file_sync(f), -EIO);
		ck_assert_int_eq(metafs_file_sync(f), -EIO);
		ck_assert_int_eq(metafs_sync(rig.mf), -EIO);
		ck_assert_int_eq(metafs_append(f, "x", 1), -EIO);
		metafs_file_close(f);
		rig_close(&rig);
		rig_open(&rig);
		rig_free(&rig);
	}
}
END_TEST

START_TEST(flushes)
{
	struct sim_options through = { .write_through = true };
	struct metafs_stats before, after;
	struct rig rig;
	struct metafs_file *f = make_log(&rig);

	metafs_stats(rig.mf, &before);
	for (unsigned i = 0; i < 10; i++) {
		const struct counts was = counts(&rig);

		append_stream(f, 100, 0);
		if (i & 1)
			write_data(&rig);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		/* One block, with FUA; a flush before it only when there was data. */
		ck_assert_uint_eq(counts(&rig).writes - was.writes, 1 + (i & 1));
		ck_assert_uint_eq(counts(&rig).flushes - was.flushes, i & 1);
	}
	metafs_stats(rig.mf, &after);
	ck_assert_uint_eq(after.switches, before.switches);
	metafs_file_close(f);
	rig_free(&rig);

	rig_make(&rig, 1, 64 * MIB, &through);
	rig_open(&rig);
	metafs_stats(rig.mf, &after);
	ck_assert_uint_eq(after.flushes, 0);
	rig_free(&rig);
}
END_TEST

/* What is flushed ahead is not flushed again; what was written after that is. */
START_TEST(flushed_ahead)
{
	struct rig rig;
	struct metafs_file *f = make_log(&rig);

	for (unsigned late = 0; late < 2; late++) {
		const struct counts was = counts(&rig);

		write_data(&rig);
		ck_assert_int_eq(metafs_flush_ahead(rig.mf), 0);
		ck_assert_uint_eq(counts(&rig).flushes - was.flushes, 1);
		ck_assert_int_eq(metafs_flush_ahead(rig.mf), 0);
		append_stream(f, 100, 0);
		if (late)
			write_data(&rig);
		ck_assert_int_eq(metafs_file_sync(f), 0);
		ck_assert_uint_eq(counts(&rig).flushes - was.flushes, 1 + late);
		ck_assert_uint_eq(counts(&rig).writes - was.writes, 2 + late);
	}
	metafs_file_close(f);
	rig_free(&rig);
}
END_TEST

/* After an error the devices are left alone: one that answers late, or never, would hold up who comes next. */
START_TEST(failed_ahead)
{
	struct sim_faults faults = { .fail_flush_ppm = 1000000 };
	struct rig rig;
	struct metafs_file *f = make_log(&rig);
	struct counts was;

	write_data(&rig);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_eq(metafs_flush_ahead(rig.mf), -EIO);
	sim_set_faults(rig.dev[0], NULL);
	was = counts(&rig);
	ck_assert_int_eq(metafs_flush_ahead(rig.mf), -EIO);
	ck_assert_int_eq(metafs_sync(rig.mf), -EIO);
	ck_assert_uint_eq(counts(&rig).flushes, was.flushes);
	metafs_file_close(f);
	rig_free(&rig);
}
END_TEST

int main(void)
{
	rig_set_up();
	return unit_run("metafs_sync", errors_are_final, flushes, flushed_ahead, failed_ahead, NULL);
}
