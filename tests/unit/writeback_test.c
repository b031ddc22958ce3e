/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Write-back under power cuts, device errors, damage and full subvolumes. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "io/log.h"
#include "meta/data_internal.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)

/* ---- Power cuts ---- */

#define FILE_MAX (768 * KIB)
#define STATES_MAX 400

/* A file's content at one moment. */
struct state {
	uint64_t size;
	uint8_t *data;
};

struct cuts {
	struct rig rig;
	uint64_t ino;
	struct state states[STATES_MAX];
	unsigned first, count; /* the states that a cut may show: from `first` on */
	unsigned seed;
	uint8_t *buf;

	_Atomic int countdown; /* steps of the device until the cut; < 0: none wanted, or begun */
	_Atomic bool taken;    /* the cut is whole */
	bool wanted;           /* from arming it until it was verified or given up */
	struct rig cut;
	unsigned done;
};

static unsigned rnd(struct cuts *t, unsigned n)
{
	t->seed = t->seed * 1103515245u + 12345u;
	return (t->seed >> 8) % n;
}

/* On whatever thread wrote. */
static void step_hook(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct cuts *t = arg;

	(void)dev;
	(void)op;
	if (atomic_fetch_sub(&t->countdown, 1) != 0)
		return;
	rig_cut(&t->rig, &t->cut, step);
	atomic_store(&t->taken, true);
}

static void cut_arm(struct cuts *t, unsigned steps)
{
	t->wanted = true;
	atomic_store(&t->countdown, (int)steps);
}

/* Whether the cut was taken; one that another thread is at is waited for. */
static bool cut_taken(struct cuts *t)
{
	if (!t->wanted || atomic_load(&t->countdown) >= 0)
		return false;
	while (!atomic_load(&t->taken))
		sched_yield();
	atomic_store(&t->taken, false);
	t->wanted = false;
	return true;
}

static void cut_give_up(struct cuts *t)
{
	if (atomic_exchange(&t->countdown, -1) >= 0)
		t->wanted = false;
	else if (cut_taken(t))
		rig_free(&t->cut);
}

static struct state *push_state(struct cuts *t)
{
	struct state *last = &t->states[t->count - 1], *s = &t->states[t->count];

	ck_assert_uint_lt(t->count, STATES_MAX);
	t->count++;
	s->size = last->size;
	s->data = malloc(FILE_MAX);
	memcpy(s->data, last->data, FILE_MAX);
	return s;
}

/* What was made durable: older states will not be seen again. */
static void forget_states(struct cuts *t)
{
	for (unsigned i = 0; i + 1 < t->count; i++)
		free(t->states[i].data);
	t->states[0] = t->states[t->count - 1];
	t->count = 1;
}

static void verify_cut(struct cuts *t)
{
	static uint8_t got[FILE_MAX + 1];
	struct inode_attr attr;
	uint64_t ino;
	bool found = false;

	ck_assert_int_eq(rig_open(&t->cut), 0);
	ino = rig_lookup(&t->cut, "a");
	ck_assert_uint_eq(ino, t->ino);
	rig_attr(&t->cut, ino, &attr);
	ck_assert_int_eq(rig_read(&t->cut, ino, 0, got, sizeof(got)), (ssize_t)attr.size_bytes);
	for (unsigned i = 0; i < t->count && !found; i++)
		found = t->states[i].size == attr.size_bytes && !memcmp(t->states[i].data, got, attr.size_bytes);
	ck_assert_msg(found, "cut %u: size %llu is of none of %u moments", t->done,
		      (unsigned long long)attr.size_bytes, t->count);
	rig_check(&t->cut);
	rig_free(&t->cut);
	t->done++;
}

static void cut_op(struct cuts *t)
{
	static const unsigned kinds[] = { 0, 0, 0, DATA_DIRECT, DATA_DIRECT, DATA_DSYNC };
	uint64_t offset = rnd(t, FILE_MAX - 40 * KIB), len = rnd(t, 40 * KIB) + 1;
	unsigned what = rnd(t, 20);
	struct state *s = push_state(t);
	bool sync;

	if (rnd(t, 2)) {
		offset = offset / BLOCK * BLOCK;
		len = (len + BLOCK - 1) / BLOCK * BLOCK;
	}
	if (what < 14) {
		unsigned flags = kinds[rnd(t, 6)];

		for (uint64_t i = 0; i < len; i++)
			t->buf[i] = (uint8_t)(t->seed + i * 31 + (i >> 9));
		memcpy(s->data + offset, t->buf, len);
		s->size = s->size > offset + len ? s->size : offset + len;
		sync = flags & (DATA_DSYNC | DATA_SYNC);
		ck_assert_int_eq(rig_write(&t->rig, t->ino, offset, t->buf, len, flags), (ssize_t)len);
		if (sync)
			forget_states(t);
	} else if (what < 16) {
		memset(s->data + offset, 0, FILE_MAX - offset);
		s->size = offset;
		ck_assert_int_eq(rig_truncate(&t->rig, t->ino, offset), 0);
	} else if (what < 18) {
		if (offset < s->size)
			memset(s->data + offset, 0, (offset + len < s->size ? offset + len : s->size) - offset);
		ck_assert_int_eq(rig_fallocate(&t->rig, t->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, len), 0);
	} else if (what < 19) {
		ck_assert_int_eq(rig_fsync(&t->rig, t->ino), 0);
		forget_states(t);
	} else {
		ck_assert_int_eq(rig_sync(&t->rig), 0);
		forget_states(t);
	}
}

static void cuts_run(const struct rig_options *options, unsigned seed, unsigned cuts)
{
	struct cuts *t = calloc(1, sizeof(*t));

	/* NVFS_TEST_SEED makes it another run. */
	t->seed = seed + (unsigned)strtoul(getenv("NVFS_TEST_SEED") ?: "0", NULL, 0) * 7907u;
	t->buf = aligned_alloc(4096, FILE_MAX);
	atomic_store(&t->countdown, -1);
	rig_make(&t->rig, options);
	t->ino = rig_create(&t->rig, "a");
	ck_assert_int_eq(rig_sync(&t->rig), 0);
	t->states[0].data = calloc(1, FILE_MAX);
	t->count = 1;
	for (unsigned i = 0; i < t->rig.devices; i++)
		sim_set_step_hook(t->rig.dev[i], step_hook, t);
	while (t->done < cuts) {
		struct state before[STATES_MAX];
		unsigned count = t->count;

		/* A sync in the op may drop states that the cut still shows. */
		for (unsigned i = 0; i < count; i++) {
			before[i] = t->states[i];
			before[i].data = malloc(FILE_MAX);
			memcpy(before[i].data, t->states[i].data, FILE_MAX);
		}
		if (!t->wanted && !rnd(t, 4))
			cut_arm(t, rnd(t, 12));
		cut_op(t);
		if (t->count > 60) {
			ck_assert_int_eq(rig_fsync(&t->rig, t->ino), 0);
			count = 0; /* only for a cut in the op before; too old to tell */
			cut_give_up(t);
			forget_states(t);
		}
		if (cut_taken(t)) {
			struct state kept[STATES_MAX];
			unsigned kept_count = t->count;

			memcpy(kept, t->states, kept_count * sizeof(kept[0]));
			memcpy(t->states, before, count * sizeof(before[0]));
			memcpy(t->states + count, kept, kept_count * sizeof(kept[0]));
			t->count = count + kept_count;
			verify_cut(t);
			memcpy(t->states, kept, kept_count * sizeof(kept[0]));
			t->count = kept_count;
		}
		for (unsigned i = 0; i < count; i++)
			free(before[i].data);
	}
	for (unsigned i = 0; i < t->rig.devices; i++)
		sim_set_step_hook(t->rig.dev[i], NULL, NULL);
	rig_check(&t->rig);
	rig_free(&t->rig);
	for (unsigned i = 0; i < t->count; i++)
		free(t->states[i].data);
	free(t->buf);
	free(t);
}

START_TEST(power_cuts)
{
	cuts_run(NULL, (unsigned)_i * 31 + 5, 12);
}
END_TEST

START_TEST(power_cuts_timer)
{
	struct rig_options options = { .commit_ms = 2, .devices = 2, .compress = _i & 1 };

	cuts_run(&options, (unsigned)_i * 31 + 6, 10);
}
END_TEST

/* ---- Errors ---- */

static void quiet(enum log_level level, const char *line, void *arg)
{
	unsigned *lines = arg;

	(void)line;
	if (lines && level <= LOG_LEVEL_ERROR)
		++*lines;
}

START_TEST(failed_write_stays_dirty)
{
	struct sim_faults faults = { .fail_write_at = 1 };
	struct rig rig;
	unsigned lines = 0;
	uint8_t buf[20000], got[20000];
	uint64_t ino;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	memset(buf, 0x5a, sizeof(buf));
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	log_set_sink(quiet, &lines);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_eq(rig_fsync(&rig, ino), -EIO);
	ck_assert_uint_ge(lines, 1);
	sim_set_faults(rig.dev[0], NULL);
	log_set_sink(NULL, NULL);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, sizeof(got)), sizeof(got));
	ck_assert_mem_eq(got, buf, sizeof(got));
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	rig_check(&rig);
	rig_reopen(&rig);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, sizeof(got)), sizeof(got));
	ck_assert_mem_eq(got, buf, sizeof(got));
	rig_free(&rig);
}
END_TEST

START_TEST(failed_direct_write_changes_nothing)
{
	struct sim_faults faults = { .fail_write_at = 1 };
	struct rig rig;
	uint8_t *buf = aligned_alloc(4096, 8192), got[8192];
	uint64_t ino;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	memset(buf, 1, 8192);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, 4096, DATA_DIRECT), 4096);
	memset(buf, 2, 8192);
	log_set_sink(quiet, NULL);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, 8192, DATA_DIRECT), -EIO);
	sim_set_faults(rig.dev[0], NULL);
	log_set_sink(NULL, NULL);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 8192), 4096);
	ck_assert_int_eq(got[100], 1);
	ck_assert_uint_eq(rig_used(&rig), 2);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

START_TEST(read_errors_and_damage_are_found)
{
	struct sim_faults faults = { .fail_read_at = 1 };
	struct rig rig;
	struct pool_stats stats;
	struct chunk *c;
	unsigned lines = 0;
	uint8_t buf[8192], got[8192];
	uint64_t ino, at;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	memset(buf, 7, sizeof(buf));
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	log_set_sink(quiet, &lines);
	sim_set_faults(rig.dev[0], &faults);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 4096), -EIO);
	sim_set_faults(rig.dev[0], NULL);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 4096), 4096);
	ck_assert_uint_eq(lines, 1);
	c = chunk_peek(inode_peek(rig.sv, ino)->file, 0);
	at = c->map.at[1];
	sim_flip_bit(rig.dev[0], at_block(at) * BLOCK + 1000, 3);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 4096), 4096);
	ck_assert_int_eq(rig_read(&rig, ino, 4096, got, 4096), -EIO);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 8192), -EIO);
	ck_assert_uint_eq(lines, 3);
	pool_stats(rig.pool, &stats);
	ck_assert_uint_eq(stats.checksum_errors, 2);
	/* A partial overwrite needs the old content; a whole one does not. */
	ck_assert_int_eq(rig_write(&rig, ino, 5000, buf, 10, 0), -EIO);
	log_set_sink(NULL, NULL);
	ck_assert_int_eq(rig_write(&rig, ino, 4096, buf, 4096, 0), 4096);
	ck_assert_int_eq(rig_read(&rig, ino, 0, got, 8192), 8192);
	ck_assert_mem_eq(got, buf, 8192);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* ---- Quota ---- */

#define QUOTA_BLOCKS 600u

/* A file "a" of 40 blocks with holes in blocks 10 to 12 and 20 to 21, in a subvolume that has room for `left` more. */
static uint64_t make_holes(struct rig *rig, const uint8_t *buf, uint64_t left)
{
	struct rig_options options = { .size_bytes = QUOTA_BLOCKS * BLOCK };
	uint64_t ino, other;

	rig_make(rig, &options);
	ino = rig_create(rig, "a");
	other = rig_create(rig, "b");
	ck_assert_int_eq(rig_write(rig, ino, 0, buf, 10 * BLOCK, 0), 10 * BLOCK);
	ck_assert_int_eq(rig_write(rig, ino, 13 * BLOCK, buf, 7 * BLOCK, 0), 7 * BLOCK);
	ck_assert_int_eq(rig_fsync(rig, ino), 0);
	ck_assert_int_eq(rig_write(rig, ino, 22 * BLOCK, buf, 18 * BLOCK, 0), 18 * BLOCK);
	ck_assert_int_eq(rig_fallocate(rig, other, 0, 0, (QUOTA_BLOCKS - rig_used(rig) - left) * BLOCK), 0);
	return ino;
}

static bool block_is(struct rig *rig, uint64_t ino, uint64_t block, uint8_t what)
{
	uint8_t got[BLOCK], want[BLOCK];

	memset(want, what, sizeof(want));
	return rig_read(rig, ino, block * BLOCK, got, BLOCK) == BLOCK && !memcmp(got, want, BLOCK);
}

START_TEST(a_write_ends_where_the_room_does)
{
	const bool later[2] = { false, true }; /* with blocks of a running cycle, or of a stored file */
	uint8_t *buf = aligned_alloc(4096, MIB);
	struct rig rig;
	uint64_t ino;

	memset(buf, 3, MIB);
	ino = make_holes(&rig, buf, 2);
	if (later[_i])
		ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	memset(buf, 4, MIB);
	/* From the middle of a block, over the first hole: two of its blocks. */
	ck_assert_int_eq(rig_write(&rig, ino, 5 * BLOCK + 100, buf, 30 * BLOCK, 0), 7 * BLOCK - 100);
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	for (uint64_t b = 6; b < 40; b++)
		ck_assert(block_is(&rig, ino, b, b < 12 ? 4 : b == 12 || b == 20 || b == 21 ? 0 : 3));
	ck_assert_int_eq(rig_write(&rig, ino, 12 * BLOCK + 1, buf, BLOCK, 0), -ENOSPC);
	ck_assert_int_eq(rig_write(&rig, ino, 12 * BLOCK, buf, 20 * BLOCK, DATA_SYNC), -ENOSPC);
	/* Durable, in part, is what was answered. */
	ck_assert_int_eq(rig_write(&rig, ino, 15 * BLOCK, buf, 20 * BLOCK, DATA_SYNC), 5 * BLOCK);
	ck_assert(block_is(&rig, ino, 19, 4));
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

/* Nobody asks for the kernel's cached pages again. */
START_TEST(of_cached_pages_each_that_has_room_is_kept)
{
	uint8_t *buf = aligned_alloc(4096, MIB);
	struct rig rig;
	uint64_t ino;

	memset(buf, 3, MIB);
	ino = make_holes(&rig, buf, 2);
	memset(buf, 4, MIB);
	ck_assert_int_eq(rig_write(&rig, ino, 5 * BLOCK, buf, 30 * BLOCK, DATA_CACHED), -ENOSPC);
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	for (uint64_t b = 0; b < 40; b++)
		ck_assert(block_is(&rig, ino, b, b < 5 || b >= 35 ? 3 : b == 12 || b == 20 || b == 21 ? 0 : 4));
	ck_assert_int_eq(rig_write(&rig, ino, 20 * BLOCK, buf, 2 * BLOCK, DATA_CACHED), -ENOSPC);
	ck_assert_int_eq(rig_write(&rig, ino, 18 * BLOCK, buf, 2 * BLOCK, DATA_CACHED), 2 * BLOCK);
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

START_TEST(quota_is_exact)
{
	struct rig_options options = { .size_bytes = QUOTA_BLOCKS * BLOCK };
	struct rig rig;
	uint8_t *buf = aligned_alloc(4096, MIB);
	uint64_t ino, left, small;

	memset(buf, 3, MIB);
	rig_make(&rig, &options);
	small = rig_create(&rig, "small");
	ino = rig_create(&rig, "a");
	ck_assert_int_eq(rig_write(&rig, small, 0, buf, 10, 0), 10);
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, 100 * BLOCK, 0), 100 * BLOCK);
	ck_assert_int_eq(rig_write(&rig, ino, 100 * BLOCK, buf, 100 * BLOCK, DATA_DIRECT), 100 * BLOCK);
	ck_assert_int_eq(rig_fallocate(&rig, ino, 0, 200 * BLOCK, 100 * BLOCK), 0);
	left = QUOTA_BLOCKS - rig_used(&rig);
	ck_assert_uint_eq(left, QUOTA_BLOCKS - 302);
	/* One block too many, in each way; and nothing is taken. */
	ck_assert_int_eq(rig_write(&rig, ino, 300 * BLOCK, buf, (left + 1) * BLOCK > MIB ? MIB : (left + 1) * BLOCK, 0),
			 (left + 1) * BLOCK > MIB ? (int)MIB : -ENOSPC);
	left = QUOTA_BLOCKS - rig_used(&rig);
	if (left) {
		uint64_t end = 300 * BLOCK + MIB;

		ck_assert_int_eq(rig_write(&rig, ino, end, buf, (left + 1) * BLOCK, DATA_DIRECT), -ENOSPC);
		ck_assert_int_eq(rig_fallocate(&rig, ino, 0, end, (left + 1) * BLOCK), -ENOSPC);
		ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS - left);
		/* What can be done in part gets as far as there is room. */
		ck_assert_int_eq(rig_copy(&rig, ino, 0, ino, end, (left + 1) * BLOCK), (ssize_t)(left * BLOCK));
		ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
		ck_assert_int_eq(rig_copy(&rig, ino, 0, ino, end + left * BLOCK, BLOCK), -ENOSPC);
	}
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	ck_assert_int_eq(rig_write(&rig, small, 3000, buf, 3000, 0), 1096);
	ck_assert_int_eq(rig_write(&rig, small, 4096, buf, 1, 0), -ENOSPC);
	ck_assert_int_eq(rig_write(&rig, small, 0, buf, 4096, 0), 4096);
	/* Full: overwriting goes on for ever. */
	for (unsigned i = 0; i < 40; i++) {
		ck_assert_int_eq(rig_write(&rig, ino, i * 7 * BLOCK, buf, 50 * BLOCK, i & 1 ? DATA_DIRECT : 0), 50 * BLOCK);
		if (i % 5 == 0)
			ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	}
	rig_check(&rig);
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	ck_assert_uint_eq(rig_used(&rig), QUOTA_BLOCKS);
	ck_assert_int_eq(rig_truncate(&rig, ino, 10 * BLOCK), 0);
	ck_assert_uint_eq(rig_used(&rig), 12);
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

/* The whole claim of a pool that is as full as mkfs lets it be, overwritten again and again. */
START_TEST(full_pool_can_be_overwritten)
{
	struct rig_options options = { .size_bytes = 72 * MIB, .dirty_bytes = 4 * MIB };
	struct rig rig;
	uint8_t *buf = aligned_alloc(4096, MIB);
	uint64_t ino, end = 0;
	unsigned seed = 1;

	rig_make(&rig, &options);
	ino = rig_create(&rig, "a");
	memset(buf, 1, MIB);
	while (rig_write(&rig, ino, end, buf, MIB, end & MIB ? DATA_DIRECT : 0) == (ssize_t)MIB)
		end += MIB;
	ck_assert_uint_eq(end, 71 * MIB); /* the directory has a block of the claim */
	for (unsigned i = 0; i < 300; i++) {
		uint64_t offset;

		seed = seed * 1103515245u + 12345u;
		offset = (seed >> 8) % (end / BLOCK - 64) * BLOCK;
		memset(buf, (int)i, 64 * BLOCK);
		ck_assert_int_eq(rig_write(&rig, ino, offset, buf, 64 * BLOCK, i & 1 ? DATA_DIRECT : 0), 64 * BLOCK);
	}
	rig_check(&rig);
	rig_free(&rig);
	free(buf);
}
END_TEST

/* ---- Large truncations ---- */

START_TEST(cut_hides_and_is_reaped)
{
	struct rig_options options = { .device_bytes = 256 * MIB, .size_bytes = 64 * MIB };
	struct rig rig;
	uint8_t buf[4096], got[4096], zeros[4096] = { 0 };
	uint64_t ino, chunks = 3000;

	rig_make(&rig, &options);
	ino = rig_create(&rig, "a");
	memset(buf, 9, sizeof(buf));
	for (uint64_t i = 0; i < chunks; i++) {
		ck_assert_int_eq(rig_write(&rig, ino, i * CHUNK_BYTES, buf, 4096, 0), 4096);
		if (i % 1000 == 999)
			ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	}
	rig_reopen(&rig); /* nothing of the maps is in memory */
	ino = rig_lookup(&rig, "a");
	ck_assert_int_eq(rig_truncate(&rig, ino, 5 * CHUNK_BYTES), 0);
	ck_assert_int_eq(rig_truncate(&rig, ino, chunks * CHUNK_BYTES), 0);
	ck_assert_int_eq(rig_read(&rig, ino, 4 * CHUNK_BYTES, got, 4096), 4096);
	ck_assert_mem_eq(got, buf, 4096);
	ck_assert_int_eq(rig_read(&rig, ino, 5 * CHUNK_BYTES, got, 4096), 4096);
	ck_assert_mem_eq(got, zeros, 4096);
	ck_assert_int_eq(rig_write(&rig, ino, 2000 * CHUNK_BYTES, buf, 100, 0), 100);
	if (_i)
		ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	rig_reopen(&rig);
	ino = rig_lookup(&rig, "a");
	ck_assert_int_eq(rig_read(&rig, ino, 2999 * CHUNK_BYTES, got, 4096), 4096);
	ck_assert_mem_eq(got, zeros, 4096);
	ck_assert_int_eq(rig_read(&rig, ino, 2000 * CHUNK_BYTES, got, 100), 100);
	ck_assert_mem_eq(got, buf, 100);
	for (unsigned i = 0; i < 200 && !data_idle(rig.sv); i++)
		rig_turn(&rig, 10);
	rig_check(&rig);
	ck_assert_uint_eq(rig_used(&rig), 1 + 5 + 1);
	rig_unlink(&rig, "a");
	rig_forget(&rig, ino);
	rig_reopen(&rig);
	ck_assert_uint_eq(rig_used(&rig), 0);
	rig_check(&rig);
	rig_free(&rig);
}
END_TEST

/* ---- A new worker ---- */

START_TEST(dirty_blocks_are_taken_up)
{
	struct rig_options options = { .with_area = true, .compress = _i };
	struct rig rig, next;
	uint8_t buf[50000], got[50000];
	uint64_t ino, small, used;

	rig_make(&rig, &options);
	ino = rig_create(&rig, "a");
	small = rig_create(&rig, "small");
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 7 + (i >> 8));
	ck_assert_int_eq(rig_write(&rig, ino, 0, buf, 30000, 0), 30000);
	ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	memset(buf + 9000, 5, 3000);
	ck_assert_int_eq(rig_write(&rig, ino, 9000, buf + 9000, 3000, 0), 3000);
	ck_assert_int_eq(rig_write(&rig, ino, 30000, buf + 30000, 20000, 0), 20000);
	buf[10000] = 6;
	ck_assert_int_eq(rig_write(&rig, ino, 10000, buf + 10000, 1, 0), 1);
	ck_assert_int_eq(rig_write(&rig, small, 0, buf, 77, 0), 77);
	used = rig_used(&rig);
	rig_kill(&rig, &next);
	ck_assert_int_eq(rig_open(&next), 0);
	ck_assert_uint_eq(rig_lookup(&next, "a"), ino);
	ck_assert_uint_eq(rig_used(&next), used);
	ck_assert_int_eq(rig_read(&next, ino, 0, got, sizeof(got)), sizeof(got));
	ck_assert_mem_eq(got, buf, sizeof(got));
	ck_assert_int_eq(rig_read(&next, small, 0, got, sizeof(got)), 77);
	rig_check(&next);
	rig_reopen(&next);
	ck_assert_int_eq(rig_read(&next, ino, 0, got, sizeof(got)), sizeof(got));
	ck_assert_mem_eq(got, buf, sizeof(got));
	rig_free(&next);
	rig_free(&rig);
}
END_TEST

static void add(Suite *suite, const char *name, const TTest *test, int times)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, 120);
	tcase_add_loop_test(tcase, test, 0, times);
	suite_add_tcase(suite, tcase);
}

/* ---- A sync of what is removed meanwhile ---- */

struct late_sync {
	struct reactor_timer timer;
	struct rig *rig;
	struct rig_call call;
};

static void begin_sync(struct reactor *r, struct reactor_timer *timer)
{
	struct late_sync *s = (struct late_sync *)((char *)timer - offsetof(struct late_sync, timer));

	(void)r;
	rig_start_fsync(s->rig, &s->call, INO_ROOT);
}

/*
 * The reaper takes a dirty file away after a sync began to wait for it and before its cycle begins: both timers have expired, so the
 * reaper's turn comes first. Nobody else would tell the sync.
 */
START_TEST(sync_of_what_is_removed_meanwhile)
{
	uint8_t buf[3 * 4096] = { 1 };
	struct rig rig;

	rig_make(&rig, NULL);
	for (unsigned i = 0; i < 3; i++) {
		struct late_sync s = { .timer.fn = begin_sync, .rig = &rig };
		uint64_t ino = rig_create(&rig, "a");

		ck_assert_int_eq(rig_write(&rig, ino, 0, buf, sizeof(buf), 0), sizeof(buf));
		rig_unlink(&rig, "a");
		rig_forget(&rig, ino);
		reactor_timer_add(rig.reactor, &s.timer, monotonic_now_ns() + 50000000);
		usleep(60000);
		ck_assert_int_eq(rig_wait(&rig, &s.call), 0);
	}
	rig_free(&rig);
}
END_TEST

/* ---- A cycle in turns ---- */

#define TURN_BYTES (5u << 20)

static uint64_t device_writes(const struct rig *rig)
{
	struct device_health n;

	device_health(rig->dev[0], &n);
	return n.writes;
}

static uint8_t *turns_fill(unsigned seed)
{
	uint8_t *buf = malloc(2 * TURN_BYTES);

	for (size_t i = 0; i < TURN_BYTES; i += 512)
		memset(buf + i, (int)(i / 512 + seed), 512);
	return buf;
}

static void turns_check(struct rig *rig, uint64_t ino, uint8_t *buf)
{
	ck_assert_int_eq(rig_read(rig, ino, 0, buf + TURN_BYTES, TURN_BYTES), TURN_BYTES);
	ck_assert_mem_eq(buf + TURN_BYTES, buf, TURN_BYTES);
}

/* The write that makes a file dirty enough for a cycle is answered before the first checksum of it. */
START_TEST(answers_come_before_a_cycle)
{
	struct rig_call call = { 0 };
	uint8_t *buf = turns_fill(1);
	const struct file *running;
	uint64_t ino, before;
	struct rig rig;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	before = device_writes(&rig);
	rig_start_write(&rig, &call, ino, 0, buf, TURN_BYTES, 0);
	ck_assert(call.done);
	running = rig.sv->data->lists[FILE_RUNNING];
	ck_assert(running && running->cycle->yielded);
	ck_assert_uint_eq(running->cycle->pending, 1); /* the turn; no write */
	while (device_writes(&rig) == before) /* without a sync */
		rig_turn(&rig, 1);
	rig_reopen(&rig); /* in the middle of it */
	turns_check(&rig, ino, buf);
	rig_free(&rig);
	free(buf);
}
END_TEST

/* Any of its writes may fail: nothing is lost, and the next sync writes it all. */
START_TEST(any_turn_may_fail)
{
	uint8_t *buf = turns_fill(2);
	uint64_t ino;
	struct rig rig;

	rig_make(&rig, NULL);
	ino = rig_create(&rig, "a");
	for (unsigned at = 1; at <= 4; at++) { /* a later one is the log's */
		struct sim_faults faults = { .fail_write_at = at, .latency_min_ns = 1000, .latency_max_ns = 100000 };
		struct rig_call call = { 0 };

		memset(buf + (at - 1) * 65536, (int)at, 65536);
		log_set_sink(quiet, NULL);
		sim_set_faults(rig.dev[0], &faults);
		ck_assert_int_eq(rig_write(&rig, ino, 0, buf, TURN_BYTES, 0), TURN_BYTES);
		rig_start_fsync(&rig, &call, ino);
		rig_wait(&rig, &call);
		sim_set_faults(rig.dev[0], NULL);
		log_set_sink(NULL, NULL);
		ck_assert(call.result == 0 || call.result == -EIO);
		turns_check(&rig, ino, buf);
		ck_assert_int_eq(rig_fsync(&rig, ino), 0);
	}
	rig_check(&rig);
	rig_reopen(&rig);
	turns_check(&rig, ino, buf);
	rig_free(&rig);
	free(buf);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("writeback");

	add(suite, "cuts", power_cuts, 3);
	add(suite, "cuts_timer", power_cuts_timer, 2);
	add(suite, "failed_write", failed_write_stays_dirty, 1);
	add(suite, "failed_direct", failed_direct_write_changes_nothing, 1);
	add(suite, "damage", read_errors_and_damage_are_found, 1);
	add(suite, "quota", quota_is_exact, 1);
	add(suite, "quota", a_write_ends_where_the_room_does, 2);
	add(suite, "quota", of_cached_pages_each_that_has_room_is_kept, 1);
	add(suite, "full", full_pool_can_be_overwritten, 1);
	add(suite, "takeup", dirty_blocks_are_taken_up, 2);
	add(suite, "truncation", cut_hides_and_is_reaped, 2);
	add(suite, "removed", sync_of_what_is_removed_meanwhile, 1);
	add(suite, "turns", answers_come_before_a_cycle, 1);
	add(suite, "failed_turns", any_turn_may_fail, 1);
	return unit_run_suite(suite);
}
