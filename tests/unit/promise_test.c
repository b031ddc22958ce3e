/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reserved subvolume on a pool that a thin one has filled to the last block. All that it has can be written again, in any way: compressed or
 * not, direct or not, shared with its snapshots or between its files; nothing of that is refused. The seed is printed (NVFS_TEST_SEED).
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "meta/data_internal.h"
#include "meta/snapshot.h"
#include "meta/sweep.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)
#define SIZE (24 * MIB) /* of the file */
#define SNAPSHOTS 4u

static struct rig rig;
static struct subvol *thin, *reserved;
static uint64_t seed, filler, filled; /* the thin one's file, and what it has */
static unsigned fillers;
static bool snapshots[SNAPSHOTS];
static uint8_t *buf;

static unsigned rnd(unsigned n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(seed >> 33) % n;
}

/* The sweep may ask the reactor for help, and who has the lock then must not be this thread. */
static void settled(void)
{
	for (unsigned i = 0; i < 20000; i++) {
		for (unsigned k = 0; k < 20; k++)
			reactor_run_once(rig.reactor, 100000);
		if (!subvol_sweeps_left(rig.pool))
			return;
	}
	ck_abort_msg("the sweep does not end");
}

static void make_data(bool compressible, uint64_t bytes)
{
	for (uint64_t i = 0; i < bytes / 8; i++)
		((uint64_t *)buf)[i] = compressible ? i / 700 : ((uint64_t)rnd(1u << 30) << 32) ^ rnd(1u << 30);
}

static void overwrite(uint64_t ino, uint64_t from, uint64_t to, bool compressible)
{
	static const unsigned flags[] = { 0, 0, DATA_DIRECT, DATA_DSYNC };

	while (from < to) {
		const unsigned f = flags[rnd(4)];
		uint64_t n = (rnd(3) ? 1 + rnd(64) : 256) * BLOCK;
		ssize_t r;

		n = n < to - from ? n : to - from;
		make_data(compressible, n);
		r = rig_write(&rig, ino, from, buf, n, f);
		ck_assert_msg(r == (ssize_t)n, "at %llu: %zd of %llu (flags %u)", (unsigned long long)from, r, (unsigned long long)n, f);
		from += n;
	}
}

/* Until nothing more goes in. */
static void fill(void)
{
	char name[32];

	rig.sv = thin;
	snprintf(name, sizeof(name), "fill%u", fillers++);
	filler = rig_create(&rig, name);
	filled = 0;
	for (unsigned refused = 0; refused < 20;) {
		const uint64_t n = refused ? BLOCK : (1 + rnd(200)) * BLOCK;
		ssize_t r;

		make_data(false, n);
		r = rig_write(&rig, filler, filled, buf, n, rnd(2) ? 0 : DATA_DIRECT);
		ck_assert_msg(r > 0 || r == -ENOSPC, "%zd", r);
		if (r < 0)
			refused++;
		else
			filled += (uint64_t)r;
	}
	rig.sv = reserved;
}

/* Room for a snapshot, perhaps. */
static void give_back(void)
{
	rig.sv = thin;
	ck_assert_int_eq(rig_truncate(&rig, filler, filled > 30 * MIB ? filled - 30 * MIB : 0), 0);
	ck_assert_int_eq(rig_sync(&rig), 0);
	rig.sv = reserved;
}

static void change_snapshot(unsigned i)
{
	const struct snapshot_name n = { "vol", (char[]){ 's', (char)('0' + i), 0 } };
	char why[1024] = "";
	int r;

	settled();
	r = snapshots[i] ? snapshot_delete(rig.pool, &n, why, sizeof(why)) : snapshot_create(rig.pool, &n, 1, why, sizeof(why));
	ck_assert_msg(!r || (r == -ENOSPC && !snapshots[i]), "%s", why);
	snapshots[i] ^= !r;
}

static void share(uint64_t ino)
{
	const unsigned last = (unsigned)(SIZE / BLOCK) - 200;

	for (unsigned i = 0; i < 20; i++) {
		const uint64_t from = rnd(last) * BLOCK, to = rnd(last) * BLOCK, len = (1 + rnd(200)) * BLOCK;
		ssize_t r;

		if (from < to + len && to < from + len)
			continue;
		r = rig_copy(&rig, ino, from, ino, to, len);
		ck_assert_msg(r > 0 || r == -EOPNOTSUPP, "%zd", r);
	}
}

static void round_of(uint64_t ino)
{
	if (rnd(3))
		give_back();
	switch (rnd(5)) {
	case 0:
		share(ino);
		break;
	case 1:
		ck_assert_int_eq(rig_fallocate(&rig, ino, FALLOC_FL_ZERO_RANGE, 0, SIZE / 2), 0);
		break;
	default:
		change_snapshot(rnd(SNAPSHOTS));
	}
	fill();
	if (rnd(2)) {
		overwrite(ino, 0, SIZE, rnd(2));
		ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	}
	for (unsigned i = 0; i < 50; i++) {
		const uint64_t from = rnd((unsigned)(SIZE / BLOCK) - 80) * BLOCK;

		overwrite(ino, from, from + (1 + rnd(80)) * BLOCK, rnd(2));
	}
}

START_TEST(all_of_it_again)
{
	struct rig_options options = {
		.device_bytes = 160 * MIB, .size_bytes = SIZE + MIB, .compress = _i & 1, .dirty_bytes = 3 * MIB, .commit_ms = _i & 2 ? 5 : 0,
	};
	const struct subvol_options so = { .size_bytes = 200 * MIB, .thin = true };
	const char *first = getenv("NVFS_TEST_SEED");
	char why[1024] = "";
	uint64_t ino;

	seed = (first ? strtoull(first, NULL, 0) : 1) * 100 + (uint64_t)_i;
	printf("promise: seed %llu, variant %d\n", (unsigned long long)(seed / 100), _i);
	fflush(stdout);
	buf = aligned_alloc(BLOCK, MIB);
	rig_make(&rig, &options);
	reserved = rig.sv;
	ck_assert_msg(!subvol_create(rig.pool, "thin", &so, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(subvol_open(rig.pool, "thin", false, &thin), 0);
	ino = rig_create(&rig, "a");
	overwrite(ino, 0, SIZE, true);
	change_snapshot(0);
	fill();
	for (unsigned i = 0; i < 8; i++)
		round_of(ino);
	ck_assert_int_eq(rig_sync(&rig), 0);
	settled();
	ck_assert_int_eq(subvol_close(thin), 0);
	ck_assert_int_eq(rig_close(&rig), 0);
	cut_check(rig.dev[0], "at the end");
	rig_free(&rig);
	free(buf);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("promise");

	unit_add(suite, "all_of_it_again", all_of_it_again, 4);
	return unit_run_suite(suite);
}
