/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who holds what: exact numbers, and random trees, where what is called exclusive is what really comes back when it is deleted.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/subvol_internal.h"
#include "meta/usage.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK NVFS_BLOCK_SIZE
#define ROOT INO_ROOT
#define ROWS_MAX 64

static struct meta_fixture fx;
static uint8_t data[4 * MIB];

struct row {
	struct usage u;
	char name[600];
};

static struct row rows[ROWS_MAX];
static unsigned nrows;
static struct usage_total total;

static void setup(void)
{
	fixture_make(&fx, 512 * MIB, 64 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

/* ---- Calls ---- */

static void put(uint64_t ino, uint64_t offset, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)random();
	ck_assert_int_eq(fx_write(&fx, ino, offset, data, bytes, 0), (int64_t)bytes);
}

static uint64_t find(const char *name)
{
	struct inode_attr attr;

	return fx_lookup(&fx, ROOT, name, &attr) ? 0 : attr.ino;
}

static uint64_t make(const char *name, size_t bytes)
{
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0644, &attr), 0);
	if (bytes)
		put(attr.ino, 0, bytes);
	return attr.ino;
}

/* Until nothing is on its way to be freed. */
static void settled(void)
{
	if (fx.sv) {
		ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
		fixture_settle(&fx, 50);
		ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	}
	for (unsigned i = 0; i < 6000; i++) {
		reactor_run_once(fx.reactor, 0);
		pool_commit_wait(fx.pool);
		if (!subvol_sweeps_left(fx.pool))
			return;
		usleep(10000);
	}
	ck_abort_msg("the sweep does not end");
}

static uint64_t held(void)
{
	struct space_stats stats;

	space_get_stats(fx.pool->space, &stats);
	return stats.held;
}

/* ---- Counting ---- */

static int add_row(void *arg, const struct usage *u)
{
	struct row *r = &rows[nrows++];

	(void)arg;
	ck_assert_uint_lt(nrows, ROWS_MAX);
	r->u = *u;
	snprintf(r->name, sizeof(r->name), "%s%s%s", u->subvol, u->snapshot ? "@" : "", u->snapshot ? u->snapshot : "");
	return 0;
}

static void count(void)
{
	uint64_t stored = 0, exclusive = 0;

	nrows = 0;
	fx.why[0] = 0;
	ck_assert_msg(usage_count(fx.pool, NULL, NULL, add_row, NULL, &total, fx.why, sizeof(fx.why)) == 0, "%s", fx.why);
	for (unsigned i = 0; i < nrows; i++) {
		const struct usage *u = &rows[i].u;

		ck_assert_uint_eq(u->data - u->saved_by_compression - u->saved_by_sharing, u->stored);
		ck_assert_uint_le(u->exclusive, u->stored);
		ck_assert_uint_eq(u->referenced, u->data + u->promised + u->meta);
		stored += u->stored;
		exclusive += u->exclusive;
	}
	ck_assert_uint_eq(total.data - total.saved_by_compression - total.saved_by_sharing, total.held - total.leaving);
	ck_assert_uint_le(exclusive, total.held - total.leaving);
	ck_assert_uint_ge(stored, total.held - total.leaving);
}

static const struct usage *row(const char *name)
{
	for (unsigned i = 0; i < nrows; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i].u;
	ck_abort_msg("%s is not listed", name);
}

static void is(const char *name, uint64_t dat, uint64_t stored, uint64_t exclusive)
{
	const struct usage *u = row(name);

	ck_assert_msg(u->data == dat && u->stored == stored && u->exclusive == exclusive,
		      "%s has %llu, stored %llu, exclusive %llu", name, (unsigned long long)u->data, (unsigned long long)u->stored,
		      (unsigned long long)u->exclusive);
}

/* ---- Exact numbers ---- */

START_TEST(chain)
{
	const uint64_t f = make("f", 100 * BLOCK);
	struct subvol_stats stats;

	count();
	is("sv", 100, 100, 100);
	ck_assert_uint_eq(total.held, 100);
	ck_assert_uint_eq(held(), 100);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s1"), 0);
	count();
	is("sv", 100, 100, 0);
	is("sv@s1", 100, 100, 0);
	ck_assert_uint_eq(total.saved_by_sharing, 100);
	put(f, 10 * BLOCK, 10 * BLOCK);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s2"), 0);
	put(f, 15 * BLOCK, 10 * BLOCK);
	count();
	ck_assert_int_eq(nrows, 3);
	ck_assert_str_eq(rows[0].name, "sv@s1");
	ck_assert_str_eq(rows[1].name, "sv@s2");
	ck_assert_str_eq(rows[2].name, "sv");
	is("sv@s1", 100, 100, 10); /* 10 to 19; 20 to 24 are also of s2 */
	is("sv@s2", 100, 100, 5);  /* 15 to 19 */
	is("sv", 100, 100, 10);
	ck_assert_uint_eq(total.held, 120);
	settled();
	ck_assert_uint_eq(held(), 120);
	subvol_stats(fx.sv, &stats);
	ck_assert_uint_eq(row("sv")->referenced, stats.used_blocks);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s2"), 0);
	settled();
	ck_assert_uint_eq(held(), 115);
	count();
	is("sv@s1", 100, 100, 15);
	is("sv", 100, 100, 15);
}
END_TEST

/* What is gone in the volume, and what of a file is only promised. */
START_TEST(deleted_and_promised)
{
	const uint64_t p = make("p", 0);

	make("f", 30 * BLOCK);
	ck_assert_int_eq(fx_fallocate(&fx, p, 0, 0, 20 * BLOCK), 0);
	put(p, 0, BLOCK);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f"), 0);
	settled();
	count();
	is("sv", 1, 1, 0);
	is("sv@s", 31, 31, 30);
	ck_assert_uint_eq(row("sv")->promised, 19);
	ck_assert_uint_eq(row("sv@s")->promised, 19);
	/* A deleted subvolume's snapshot has all that it had. */
	fx_use(&fx, NULL);
	ck_assert_int_eq(subvol_delete(fx.pool, "sv", fx.why, sizeof(fx.why)), 0);
	settled();
	count();
	ck_assert_uint_eq(nrows, 1);
	is("sv@s", 31, 31, 31);
	ck_assert(rows[0].u.deleted);
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), 0);
	settled();
	count();
	ck_assert_uint_eq(nrows, 0);
	ck_assert_uint_eq(total.held, 0);
	ck_assert_uint_eq(held(), 0);
}
END_TEST

/* Blocks that several files share, within one volume and over snapshots. */
START_TEST(reflinks)
{
	const uint64_t a = make("a", 64 * BLOCK), b = make("b", 0), c = make("c", 0);

	ck_assert_int_eq(fx_copy(&fx, a, b, 0, 0, 64 * BLOCK), 64 * BLOCK);
	ck_assert_int_eq(fx_copy(&fx, a, c, 0, 100 * BLOCK, 32 * BLOCK), 32 * BLOCK);
	count();
	is("sv", 160, 64, 64);
	ck_assert_uint_eq(row("sv")->saved_by_sharing, 96);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	put(a, 0, 16 * BLOCK);
	put(c, 100 * BLOCK, 4 * BLOCK);
	count();
	is("sv@s", 160, 64, 0); /* b still has all */
	is("sv", 160, 84, 20);
	put(b, 0, 8 * BLOCK);
	count();
	is("sv@s", 160, 64, 4); /* 4 to 7 are still in c */
	is("sv", 160, 88, 28);
	settled();
	ck_assert_uint_eq(total.held, held());
	ck_assert_int_eq(fx_drop(&fx, "sv", "s"), 0);
	settled();
	ck_assert_uint_eq(held(), total.held - 4);
}
END_TEST

START_TEST(compressed)
{
	const struct subvol_options so = { .size_bytes = 16 * MIB, .compression = COMPRESSION_LZ4 };
	struct inode_attr attr;
	uint64_t before;

	ck_assert_int_eq(subvol_create(fx.pool, "z", &so, fx.why, sizeof(fx.why)), 0);
	fx_use(&fx, "z");
	ck_assert_int_eq(fx_create(&fx, ROOT, "f", S_IFREG | 0644, &attr), 0);
	memset(data, 'x', MIB);
	ck_assert_int_eq(fx_write(&fx, attr.ino, 0, data, MIB, 0), (int64_t)MIB);
	count();
	ck_assert_uint_eq(row("z")->data, 256);
	ck_assert_uint_lt(row("z")->stored, 128);
	ck_assert_uint_eq(row("z")->saved_by_compression, 256 - row("z")->stored);
	ck_assert_uint_eq(row("z")->exclusive, row("z")->stored);
	ck_assert_uint_eq(total.held, held());
	ck_assert_int_eq(fx_snapshot(&fx, "z", "s"), 0);
	put(attr.ino, 3 * BLOCK, BLOCK);
	put(attr.ino, 200 * BLOCK, 30 * BLOCK);
	settled();
	count();
	ck_assert_uint_eq(total.held, held());
	ck_assert_uint_eq(row("z")->data, 256);
	ck_assert_uint_gt(row("z")->exclusive, 31);
	ck_assert_uint_gt(row("z@s")->exclusive, 0);
	before = held();
	ck_assert_int_eq(fx_drop(&fx, "z", "s"), 0);
	settled();
	ck_assert_uint_eq(before - held(), row("z@s")->exclusive);
	fx_use(&fx, "sv");
}
END_TEST

START_TEST(one_of_many)
{
	const struct snapshot_name vol = { "sv", NULL }, one = { "sv", "s" }, no = { "sv", "t" }, other = { "no", NULL };

	make("f", 10 * BLOCK);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s"), 0);
	ck_assert_int_eq(fx_clone(&fx, "sv", "s", "c", true), 0);
	nrows = 0;
	ck_assert_int_eq(usage_count(fx.pool, &vol, NULL, add_row, NULL, NULL, fx.why, sizeof(fx.why)), 0);
	ck_assert_uint_eq(nrows, 2);
	is("sv@s", 10, 10, 0);
	nrows = 0;
	ck_assert_int_eq(usage_count(fx.pool, &one, NULL, add_row, NULL, NULL, fx.why, sizeof(fx.why)), 0);
	ck_assert_uint_eq(nrows, 1);
	ck_assert_int_eq(usage_count(fx.pool, &no, NULL, add_row, NULL, NULL, fx.why, sizeof(fx.why)), -ENOENT);
	ck_assert_msg(strstr(fx.why, "no snapshot sv@t") != NULL, "%s", fx.why);
	ck_assert_int_eq(usage_count(fx.pool, &other, NULL, add_row, NULL, NULL, fx.why, sizeof(fx.why)), -ENOENT);
	ck_assert_msg(strstr(fx.why, "no subvolume no") != NULL, "%s", fx.why);
}
END_TEST

static int end_at_second(void *arg, uint64_t done, uint64_t all)
{
	ck_assert_uint_le(done, all);
	return ++*(unsigned *)arg == 2 ? -ECANCELED : 0;
}

START_TEST(can_be_ended)
{
	unsigned calls = 0;
	const struct progress progress = { end_at_second, &calls };

	make("f", BLOCK);
	nrows = 0;
	ck_assert_int_eq(usage_count(fx.pool, NULL, &progress, add_row, NULL, &total, fx.why, sizeof(fx.why)), -ECANCELED);
	ck_assert_uint_eq(calls, 2);
	ck_assert_uint_eq(nrows, 0);
}
END_TEST

/* ---- Random trees ---- */

static char volumes[12][16];
static unsigned nvolumes, nsnaps;
static struct { char volume[16], name[16]; } snaps[40];

static void change_files(unsigned steps)
{
	for (unsigned i = 0; i < steps; i++) {
		char name[8], other[8];
		uint64_t ino, from;

		sprintf(name, "f%ld", random() % 12);
		sprintf(other, "f%ld", random() % 12);
		ino = find(name);
		from = find(other);
		if (!ino)
			ino = make(name, BLOCK * (size_t)(random() % 90));
		switch (random() % 5) {
		case 0:
			put(ino, BLOCK * (uint64_t)(random() % 80), 1 + (size_t)random() % (10 * BLOCK));
			break;
		case 1:
			if (from && from != ino)
				fx_copy(&fx, from, ino, BLOCK * (uint64_t)(random() % 20), BLOCK * (uint64_t)(random() % 70),
				     BLOCK * (1 + (size_t)random() % 40));
			break;
		case 2:
			fx_fallocate(&fx, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK * (uint64_t)(random() % 60), 7 * BLOCK);
			break;
		case 3:
			if (random() % 2)
				ck_assert_int_eq(fx_unlink(&fx, ROOT, name), 0);
			break;
		default:
			put(ino, 0, 5 * BLOCK);
		}
	}
}

static void grow_tree(unsigned steps)
{
	static unsigned number;

	for (unsigned i = 0; i < steps; i++) {
		const unsigned v = (unsigned)random() % nvolumes;

		fx_use(&fx, volumes[v]);
		change_files(8);
		if (random() % 3 && nsnaps < 40) {
			strcpy(snaps[nsnaps].volume, volumes[v]);
			sprintf(snaps[nsnaps].name, "s%u", number++);
			ck_assert_msg(fx_snapshot(&fx, volumes[v], snaps[nsnaps].name) == 0, "%s", fx.why);
			nsnaps++;
		} else if (nvolumes < 12) {
			const unsigned s = nsnaps ? (unsigned)random() % nsnaps : 0;

			sprintf(volumes[nvolumes], "v%u", number++);
			if (nsnaps && random() % 2)
				ck_assert_msg(fx_clone(&fx, snaps[s].volume, snaps[s].name, volumes[nvolumes], true) == 0, "%s", fx.why);
			else
				ck_assert_msg(fx_clone(&fx, volumes[v], NULL, volumes[nvolumes], true) == 0, "%s", fx.why);
			nvolumes++;
		}
	}
}

/* Delete one, and see that just what was exclusive to it comes back. */
static void delete_one(void)
{
	const bool volume = nvolumes > 1 && (!nsnaps || random() % 3 == 0);
	char name[40];
	uint64_t had, exclusive;

	if (volume) {
		strcpy(name, volumes[--nvolumes]);
	} else {
		const unsigned s = (unsigned)random() % nsnaps;

		sprintf(name, "%s@%s", snaps[s].volume, snaps[s].name);
		snaps[s] = snaps[--nsnaps];
	}
	fx_use(&fx, "sv");
	settled();
	count();
	ck_assert_uint_eq(total.held, held());
	had = total.held - total.leaving;
	exclusive = row(name)->exclusive;
	if (volume)
		ck_assert_msg(subvol_delete(fx.pool, name, fx.why, sizeof(fx.why)) == 0, "%s", fx.why);
	else
		*strchr(name, '@') = 0, ck_assert_msg(fx_drop(&fx, name, strchr(name, 0) + 1) == 0, "%s", fx.why);
	settled();
	count();
	ck_assert_uint_eq(total.held, held());
	had -= total.held - total.leaving;
	ck_assert_msg(had == exclusive, "%s: %llu came back, and %llu were exclusive", name, (unsigned long long)had,
		      (unsigned long long)exclusive);
}

START_TEST(what_is_exclusive_comes_back)
{
	srandom((unsigned)_i + 1);
	strcpy(volumes[0], "sv");
	nvolumes = 1;
	nsnaps = 0;
	for (unsigned round = 0; round < 3; round++) {
		grow_tree(10);
		for (unsigned i = 0; i < 5 && nsnaps + nvolumes > 1; i++)
			delete_one();
		if (round == 1) {
			fixture_power_cut(&fx, (uint64_t)_i);
			settled();
		}
	}
	while (nsnaps + nvolumes > 1)
		delete_one();
	ck_assert_uint_eq(total.leaving, 0);
	is("sv", total.data, total.held, total.held);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = { chain, deleted_and_promised, reflinks, compressed, one_of_many, can_be_ended };
	Suite *suite = suite_create("usage");
	TCase *tcase = tcase_create("usage");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tcase, tests[i]);
	tcase_add_loop_test(tcase, what_is_exclusive_comes_back, 0, 3);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
