/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/metafs_table.h"
#include "tests/unit/metafs_rig.h"

#define SHORT_TAIL (64u << 10)

/* ---- Cuts: a stream over several WALs, plain files beside it ---- */

/*
 * Bytes of one stream go to WAL after WAL; old ones are deleted. What any cut leaves must be, read
 * from WAL to WAL, the stream from the oldest WAL's first byte on without a gap, at least as far as
 * the last sync that was answered.
 */
struct wal_state {
	uint64_t number, start, end; /* of the stream */
	bool deleted;
};

struct work {
	struct rig *rig;
	uint64_t seed;
	struct metafs_file *wal, *manifest;
	struct wal_state wals[64];
	unsigned n;
	uint64_t appended, synced;
	uint64_t m_appended, m_synced;
	uint64_t plain_synced, plain_next; /* files t000000... are there in full up to here */
	uint64_t current, current_synced;  /* version in CURRENT */
	uint64_t generation;               /* of the newest table on the first device */
	unsigned checks, every, takeovers, deep, torn;
	bool kill;
};

static void wal_name(char *name, uint64_t number)
{
	snprintf(name, 32, "%06" PRIu64 ".log", number);
}

static void check_wals(const struct work *w, struct rig *after, uint64_t least)
{
	bool ended = false;

	for (unsigned i = 0; i < w->n; i++) {
		const struct wal_state *wal = &w->wals[i];
		uint64_t must = least < wal->end ? least : wal->end;
		char name[32];
		size_t len;
		cleanup_free uint8_t *buf = NULL;

		wal_name(name, wal->number);
		buf = content(after, name, &len);
		if (wal->deleted && !buf)
			continue;
		ck_assert_msg(wal->start + len >= must, "%s: %zu bytes, and %" PRIu64 " are promised",
			      name, len, must - wal->start);
		ck_assert_msg(!ended || !len, "%s lies behind a hole", name);
		ck_assert(is_stream(buf, len, wal->start));
		ended = ended || wal->start + len < wal->end;
	}
}

static void check_manifest(const struct work *w, struct rig *after, uint64_t least)
{
	size_t len;
	cleanup_free uint8_t *buf = content(after, "MANIFEST-000002", &len);

	ck_assert_uint_ge(len, least);
	ck_assert_uint_le(len, w->m_appended);
	ck_assert(is_stream(buf, len, 77));
}

static void check_plain(struct rig *after, uint64_t from, uint64_t synced)
{
	for (uint64_t i = from; i < synced; i++) {
		char name[32];

		snprintf(name, sizeof(name), "t%06" PRIu64, i);
		expect_stream(after, name, 5000 + i * 100, i);
	}
}

/* A version number, then the stream from there: replaced by rename, and whole at any time. */
static void check_current(struct rig *after, uint64_t least, uint64_t most)
{
	size_t len;
	cleanup_free uint8_t *buf = content(after, "CURRENT", &len);
	uint64_t version;

	if (!buf && !least)
		return;
	ck_assert_ptr_nonnull(buf);
	ck_assert_uint_ge(len, 8);
	version = get_le64(buf);
	ck_assert_uint_ge(version, least);
	ck_assert_uint_le(version, most);
	ck_assert_uint_eq(len, 8 + 3000 * (version % 50));
	ck_assert(is_stream(buf + 8, len - 8, version));
}

static void check_state(const struct work *w, struct rig *after, bool all)
{
	check_current(after, w->current_synced, w->current + 1);
	check_wals(w, after, all ? w->appended : w->synced);
	check_manifest(w, after, all ? w->m_appended : w->m_synced);
	check_plain(after, w->plain_synced > 3 ? w->plain_synced - 3 : 0, w->plain_synced);
}

struct second {
	struct work *work;
	struct rig *rig;
	bool all;
};

/* While a recovery runs the power fails again, or the worker is killed again. */
static void second_cut(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct second *s = arg;
	struct rig after;

	(void)dev;
	(void)op;
	if (s->all)
		rig_kill(s->rig, &after);
	else
		rig_cut(s->rig, step, &after);
	rig_open(&after);
	check_state(s->work, &after, s->all);
	rig_free(&after);
	s->work->deep++;
}

static void check_now(struct work *w, uint64_t step, bool kill)
{
	struct rig after;
	struct second second = { .work = w, .rig = &after, .all = kill };

	if (kill)
		rig_kill(w->rig, &after);
	else
		rig_cut(w->rig, step ^ w->seed, &after);
	if (w->checks % 16 == 0)
		rig_hook(&after, second_cut, &second);
	rig_open(&after);
	rig_hook(&after, NULL, NULL);
	check_state(w, &after, kill);
	rig_free(&after);
	w->checks++;
}

static uint64_t newest_generation(struct device *dev, const struct label *label, unsigned *slot)
{
	uint8_t buf[4096] __attribute__((aligned(4096)));
	uint64_t newest = 0;

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(device_read(dev, buf, sizeof(buf), label_slot_offset(label, i)), 0);
		if (memcmp(buf, METAFS_TABLE_MAGIC, 8) || get_le64(buf + 16) <= newest)
			continue;
		newest = get_le64(buf + 16);
		*slot = i;
	}
	return newest;
}

/* A table was written a moment ago, and its sync has not been answered: it may as well be torn. */
static void check_torn_table(struct work *w, uint64_t step)
{
	const struct label *label = &w->rig->labels[0];
	unsigned slot = 0;
	uint64_t generation = newest_generation(w->rig->dev[0], label, &slot);
	struct rig after;

	if (generation == w->generation || w->rig->devices > 1)
		return;
	w->generation = generation;
	rig_cut(w->rig, step, &after);
	sim_flip_bit(after.dev[0], label_slot_offset(label, slot) + 100, 1);
	rig_open(&after);
	check_state(w, &after, false);
	rig_free(&after);
	w->torn++;
}

static void work_step(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct work *w = arg;

	(void)dev;
	if (op == IO_WRITE)
		check_torn_table(w, step);
	for (unsigned i = 0; i < w->every; i++)
		check_now(w, step * 8 + i, false);
	if (w->kill) {
		/* Inside of an append that waits for a sync, its bytes are not promised yet. */
		check_now(w, step, true);
		w->takeovers++;
	}
}

static void work_begin_wal(struct work *w)
{
	char name[32];

	if (w->wal)
		metafs_file_close(w->wal);
	w->wals[w->n] = (struct wal_state){ 10 + 2 * w->n, w->appended, w->appended, false };
	wal_name(name, w->wals[w->n].number);
	w->n++;
	w->wal = create(w->rig, name);
}

static void work_drop_wals(struct work *w)
{
	/* Newest first, as RocksDB does it; never the current one nor what was not synced. */
	for (unsigned i = w->n - 1; i-- > 0;) {
		char name[32];

		wal_name(name, w->wals[i].number);
		if (w->wals[i].deleted || w->wals[i].end > w->synced)
			continue;
		w->wals[i].deleted = true;
		ck_assert_int_eq(metafs_unlink(w->rig->mf, name), 0);
	}
}

static void work_append(struct work *w, size_t len)
{
	append_stream(w->wal, len, w->appended);
	w->appended += len;
	w->wals[w->n - 1].end = w->appended;
}

static void work_plain(struct work *w)
{
	struct metafs_file *f;
	char name[32];

	snprintf(name, sizeof(name), "t%06" PRIu64, w->plain_next);
	f = create(w->rig, name);
	append_stream(f, 5000 + w->plain_next * 100, w->plain_next);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	w->plain_synced = ++w->plain_next;
	if (w->plain_next > 6) {
		snprintf(name, sizeof(name), "t%06" PRIu64, w->plain_next - 6);
		metafs_unlink(w->rig->mf, name);
	}
}

static void work_current(struct work *w, bool sync)
{
	uint64_t version = w->current + 1;
	struct metafs_file *f = create(w->rig, "tmp");
	uint8_t head[8];

	put_le64(head, version);
	ck_assert_int_eq(metafs_append(f, head, sizeof(head)), 0);
	append_stream(f, 3000 * (version % 50), version);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
	ck_assert_int_eq(metafs_rename(w->rig->mf, "tmp", "CURRENT"), 0);
	w->current = version;
	if (!sync)
		return;
	ck_assert_int_eq(metafs_sync_names(w->rig->mf), 0);
	w->current_synced = version;
}

/* Leaves so little that freed blocks are wanted again at once. */
static void work_fill(struct rig *rig)
{
	static uint8_t zeros[64 << 10];
	struct metafs_file *f = create(rig, "filler");
	struct metafs_stats stats;

	do {
		ck_assert_int_eq(metafs_append(f, zeros, sizeof(zeros)), 0);
		metafs_stats(rig->mf, &stats);
	} while (stats.free_bytes > 2 * MIB);
	ck_assert_int_eq(metafs_file_sync(f), 0);
	metafs_file_close(f);
}

static void work_op(struct work *w)
{
	uint64_t r = rig_random(&w->seed), before = w->appended;

	switch (r % 16) {
	case 0:
		if (w->n < 60)
			work_begin_wal(w);
		break;
	case 1:
		work_drop_wals(w);
		break;
	case 2:
		work_plain(w);
		break;
	case 3:
		append_stream(w->manifest, 100 + r % 3000, w->m_appended + 77);
		w->m_appended += 100 + r % 3000;
		ck_assert_int_eq(metafs_file_sync(w->manifest), 0);
		w->m_synced = w->m_appended;
		break;
	case 4:
		work_current(w, r & 16);
		break;
	case 5:
	case 6:
		ck_assert_int_eq(metafs_sync(w->rig->mf), 0);
		w->synced = before;
		w->m_synced = w->m_appended;
		break;
	default:
		work_append(w, 1 + r / 16 % (r % 5 ? 500 : 20000));
	}
}

static void run_cuts(unsigned devices, uint64_t seed, unsigned ops, bool kill, bool tight)
{
	struct sim_options sim = { .sector_bytes = seed & 1 ? 512 : 4096 };
	struct rig rig;
	struct work w = { .rig = &rig, .seed = seed, .every = kill ? 0 : 2, .kill = kill };
	unsigned slot;

	rig_make(&rig, devices, 64 * MIB, &sim);
	rig.area_bytes = metafs_area_bytes(&rig.labels[0], SHORT_TAIL);
	ck_assert_int_eq(posix_memalign(&rig.area, 4096, rig.area_bytes), 0);
	memset(rig.area, 0, rig.area_bytes);
	rig_open(&rig);
	if (tight)
		work_fill(&rig);
	w.manifest = create(&rig, "MANIFEST-000002");
	work_begin_wal(&w);
	work_append(&w, 10);
	ck_assert_int_eq(metafs_sync(rig.mf), 0);
	w.synced = w.appended;
	w.generation = newest_generation(rig.dev[0], &rig.labels[0], &slot);
	rig_hook(&rig, work_step, &w);
	for (unsigned i = 0; i < ops; i++)
		work_op(&w);
	rig_hook(&rig, NULL, NULL);
	ck_assert_uint_gt(w.checks, ops / 4);
	ck_assert_uint_gt(w.deep, 0);
	ck_assert(devices > 1 || w.torn > 0);
	metafs_file_close(w.wal);
	metafs_file_close(w.manifest);
	rig_free(&rig);
}

START_TEST(cuts)
{
	run_cuts(1, 100 + (uint64_t)_i, 150, false, false);
}
END_TEST

START_TEST(cuts_when_tight)
{
	run_cuts(1, 400 + (uint64_t)_i, 150, false, true);
}
END_TEST

START_TEST(cuts_of_three)
{
	run_cuts(3, 200 + (uint64_t)_i, 60, false, false);
}
END_TEST

START_TEST(kills)
{
	run_cuts(1, 300 + (uint64_t)_i, 150, true, _i & 1);
}
END_TEST

/* A worker that is killed between two operations: nothing that was appended is lost. */
START_TEST(takeover)
{
	struct rig rig;
	struct metafs_file *f, *m;
	struct metafs_stats stats;
	size_t size = 0;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig.area_bytes = metafs_area_bytes(&rig.labels[0], 0);
	ck_assert_int_eq(posix_memalign(&rig.area, 4096, rig.area_bytes), 0);
	memset(rig.area, 0, rig.area_bytes);
	for (unsigned i = 0; i < 10; i++) {
		char wal[32], manifest[32];
		struct rig cut;

		snprintf(wal, sizeof(wal), "%06u.log", 10 + 2 * i);
		snprintf(manifest, sizeof(manifest), "MANIFEST-%06u", 11 + 2 * i);
		rig_open(&rig);
		if (i) {
			metafs_stats(rig.mf, &stats);
			ck_assert(stats.taken_over);
			snprintf(wal, sizeof(wal), "%06u.log", 8 + 2 * i);
			expect_stream(&rig, wal, size, i - 1);
			snprintf(manifest, sizeof(manifest), "MANIFEST-%06u", 9 + 2 * i);
			expect_stream(&rig, manifest, 6000, i);
			/* What was taken over is durable, the area is not needed any more. */
			rig_cut(&rig, i, &cut);
			rig_open(&cut);
			expect_stream(&cut, wal, size, i - 1);
			rig_free(&cut);
			snprintf(wal, sizeof(wal), "%06u.log", 10 + 2 * i);
			snprintf(manifest, sizeof(manifest), "MANIFEST-%06u", 11 + 2 * i);
		}
		f = create(&rig, wal);
		m = create(&rig, manifest);
		size = 0;
		for (unsigned j = 0; j < 50; j++) {
			append_stream(f, 100 * j, size + i);
			size += 100 * j;
			if (j == 20)
				append_stream(m, 6000, i + 1);
			if (i & 1 && j % 10 == 0)
				ck_assert_int_eq(metafs_file_sync(f), 0);
		}
		metafs_file_close(f);
		metafs_file_close(m);
		rig_close(&rig);
	}
	rig_free(&rig);
}
END_TEST

/* The area of another start, or of another pool, is not ours. */
START_TEST(foreign_area)
{
	struct rig rig;
	struct metafs_file *f;
	struct metafs_stats stats;
	cleanup_free void *old = NULL;

	rig_make(&rig, 1, 64 * MIB, NULL);
	rig.area_bytes = metafs_area_bytes(&rig.labels[0], 0);
	ck_assert_int_eq(posix_memalign(&rig.area, 4096, rig.area_bytes), 0);
	ck_assert_int_eq(posix_memalign(&old, 4096, rig.area_bytes), 0);
	memset(rig.area, 0, rig.area_bytes);
	rig_open(&rig);
	f = create(&rig, "000003.log");
	append_stream(f, 1000, 0);
	metafs_file_close(f);
	rig_close(&rig);
	memcpy(old, rig.area, rig.area_bytes);
	/* Somebody without the area opens the pool in between. */
	memset(rig.area, 0, rig.area_bytes);
	rig_open(&rig);
	expect_absent(&rig, "000003.log");
	rig_close(&rig);
	memcpy(rig.area, old, rig.area_bytes);
	rig_open(&rig);
	metafs_stats(rig.mf, &stats);
	ck_assert(!stats.taken_over);
	expect_absent(&rig, "000003.log");
	rig_free(&rig);
}
END_TEST

/* NVFS_TEST_SEEDS: how many seeds each goes through. */
int main(void)
{
	const char *env = getenv("NVFS_TEST_SEEDS");
	int seeds = env ? atoi(env) : 6;
	Suite *suite = suite_create("metafs_crash");
	TCase *crash = tcase_create("crash");

	tcase_set_timeout(crash, 300);
	tcase_add_checked_fixture(crash, rig_set_up, NULL);
	tcase_add_test(crash, takeover);
	tcase_add_test(crash, foreign_area);
	tcase_add_loop_test(crash, cuts, 0, seeds);
	tcase_add_loop_test(crash, cuts_when_tight, 0, seeds);
	tcase_add_loop_test(crash, cuts_of_three, 0, seeds);
	tcase_add_loop_test(crash, kills, 0, seeds);
	suite_add_tcase(suite, crash);
	return unit_run_suite(suite);
}
