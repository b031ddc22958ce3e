/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of names on their way to RocksDB: nothing is lost when the worker is killed at any moment of that
 * way, none is counted twice, and what cancels out is not written.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "meta/lookups.h"
#include "meta/subvol_internal.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define PAGE 4096u
#define SEGMENT 65536u
#define SEGMENT_MAGIC UINT32_C(0x6e766731)

static const struct rig_options with_area = { .with_area = true };

/* The first page of `area` that begins a segment in use, or NULL. */
static uint8_t *segment_in(const struct rig *rig)
{
	for (size_t at = 0; at + SEGMENT <= rig->area_bytes - lookup_store_bytes(); at += PAGE) {
		uint32_t head[2];

		memcpy(head, (uint8_t *)rig->area + at, sizeof(head));
		if (head[0] == SEGMENT_MAGIC && head[1] == 1)
			return (uint8_t *)rig->area + at;
	}
	return NULL;
}

static unsigned records(struct rig *rig)
{
	cleanup_db_iter struct db_iter *iter = db_iter_new(rig->pool->db, DB_NS, NULL, 0, NULL, 0, 0);
	unsigned n = 0;

	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter))
		n++;
	ck_assert_int_eq(db_iter_error(iter), 0);
	return n;
}

static void make_names(struct rig *rig, unsigned from, unsigned to)
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		ck_assert_uint_ne(rig_create(rig, name), 0);
	}
}

static void check_names(struct rig *rig, unsigned from, unsigned to, bool there)
{
	char name[32];

	for (unsigned i = from; i < to; i++) {
		snprintf(name, sizeof(name), "file %u", i);
		ck_assert_msg(!!rig_lookup(rig, name) == there, "%s is%s there", name, there ? " not" : "");
	}
}

/* More than a group is, and some of the last one unlinked again. */
START_TEST(a_kill_loses_no_name)
{
	struct rig rig, next, third;
	uint64_t used;

	rig_make(&rig, &with_area);
	make_names(&rig, 0, 700);
	rig_unlink(&rig, "file 1");
	rig_unlink(&rig, "file 699");
	used = rig_used(&rig);
	rig_kill(&rig, &next);
	ck_assert_int_eq(rig_open(&next), 0);
	check_names(&next, 2, 699, true);
	check_names(&next, 1, 2, false);
	check_names(&next, 699, 700, false);
	ck_assert_uint_eq(rig_used(&next), used);
	make_names(&next, 800, 810);
	rig_kill(&next, &third);
	ck_assert_int_eq(rig_open(&third), 0);
	check_names(&third, 800, 810, true);
	rig_check(&third);
	rig_free(&third);
	rig_free(&next);
	rig_free(&rig);
}
END_TEST

/* The group is in RocksDB, and the memory still says that it waits. */
START_TEST(a_group_is_taken_up_once)
{
	struct rig rig, waiting, next;
	uint8_t *from, *to;
	uint64_t used;

	rig_make(&rig, &with_area);
	make_names(&rig, 0, 20);
	ck_assert_int_eq(rig_sync(&rig), 0);
	make_names(&rig, 20, 40);
	used = rig_used(&rig);
	rig_kill(&rig, &waiting);
	ck_assert_int_eq(rig_sync(&rig), 0);
	rig_kill(&rig, &next);
	from = segment_in(&waiting);
	to = segment_in(&next);
	ck_assert(from && to);
	memcpy(to, from, SEGMENT);
	ck_assert_int_eq(rig_open(&next), 0);
	check_names(&next, 0, 40, true);
	ck_assert_uint_eq(rig_used(&next), used);
	rig_check(&next);
	rig_free(&next);
	ck_assert_int_eq(rig_open(&waiting), 0);
	check_names(&waiting, 0, 40, true);
	rig_free(&waiting);
	rig_free(&rig);
}
END_TEST

/* The memory of metafs is not this pool's last worker's any more: what builds on it is not to be believed. */
START_TEST(another_life_is_ignored)
{
	struct rig rig, next, third;

	rig_make(&rig, &with_area);
	make_names(&rig, 0, 10);
	ck_assert_int_eq(rig_sync(&rig), 0);
	make_names(&rig, 10, 20);
	rig_kill(&rig, &next);
	memset(next.area, 0, PAGE);
	ck_assert_int_eq(rig_open(&next), 0);
	check_names(&next, 0, 10, true);
	check_names(&next, 10, 20, false);
	rig_kill(&next, &third);
	ck_assert_int_eq(rig_open(&third), 0);
	check_names(&third, 10, 20, false);
	rig_check(&third);
	rig_free(&third);
	rig_free(&next);
	rig_free(&rig);
}
END_TEST

START_TEST(damaged_memory_is_refused)
{
	struct rig rig, next;
	uint8_t *s;

	rig_make(&rig, &with_area);
	make_names(&rig, 0, 10);
	rig_kill(&rig, &next);
	s = segment_in(&next);
	ck_assert(s);
	switch (_i) {
	case 0:
		memset(s + 24, 0xff, 8); /* used */
		break;
	case 1:
		memset(s + 32 + 8, 0xff, 4); /* length of the first entry */
		break;
	case 2:
		memset(s + 32 + 12, 0x7f, 4); /* its ops */
		break;
	default:
		memset(s + 32, 0, 8); /* its sequence, and so the order */
	}
	ck_assert_int_eq(rig_open(&next), -EBADMSG);
	for (unsigned i = 0; i < next.devices; i++)
		device_close(next.dev[i]);
	rig_free(&rig);
}
END_TEST

START_TEST(what_cancels_out_is_not_written)
{
	struct rig rig;
	unsigned before;
	uint64_t ino;

	rig_make(&rig, NULL);
	make_names(&rig, 0, 3);
	ck_assert_int_eq(rig_sync(&rig), 0);
	before = records(&rig);
	ino = rig_create(&rig, "short");
	rig_unlink(&rig, "short");
	rig_forget(&rig, ino);
	usleep(1500); /* the reaper gathers, too */
	rig_turn(&rig, 3);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_uint_eq(records(&rig), before);
	/* One that RocksDB has is deleted there, whatever comes after. */
	rig_unlink(&rig, "file 1");
	make_names(&rig, 1, 2);
	rig_unlink(&rig, "file 1");
	ck_assert_int_eq(rig_sync(&rig), 0);
	check_names(&rig, 1, 2, false);
	rig_reopen(&rig);
	check_names(&rig, 1, 2, false);
	check_names(&rig, 0, 1, true);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* Names that were answered, and a pool that can take nothing any more: said, and nothing crashes. */
START_TEST(a_failed_pool_says_so)
{
	struct sim_faults faults = { .fail_write_ppm = 1000000 };
	struct rig rig;

	rig_make(&rig, NULL);
	make_names(&rig, 0, 5);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_ne(rig_sync(&rig), 0);
	check_names(&rig, 0, 5, true);
	ck_assert_int_ne(rig_close(&rig), 0);
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(rig_open(&rig), 0);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("gather");

	unit_add(suite, "kill", a_kill_loses_no_name, 1);
	unit_add(suite, "once", a_group_is_taken_up_once, 1);
	unit_add(suite, "life", another_life_is_ignored, 1);
	unit_add(suite, "damage", damaged_memory_is_refused, 4);
	unit_add(suite, "cancel", what_cancels_out_is_not_written, 1);
	unit_add(suite, "failed", a_failed_pool_says_so, 1);
	return unit_run_suite(suite);
}
