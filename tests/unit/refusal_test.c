/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is refused for want of room leaves a file as it was, or ends where the room does: ranges that are promised and zeroed, in one step or
 * many, by the subvolume's size or the tenant's limit; what a snapshot shares; and what others do between the steps.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "meta/data_internal.h"
#include "meta/snapshot.h"
#include "meta/tenant.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define BLOCK ((uint64_t)NVFS_BLOCK_SIZE)
#define STEP ((uint64_t)STEP_CHUNKS * CHUNK_BLOCKS) /* blocks */
#define ROOT 1u                                      /* block of the root directory */
#define ZERO FALLOC_FL_ZERO_RANGE
#define KEEP FALLOC_FL_KEEP_SIZE
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)

static uint8_t content[4 * MIB] __attribute__((aligned(4096))), back[4 * MIB];
static const uint8_t zeros[4 * MIB];
static struct rig rig;
static char why[256];

static void begin(uint64_t device_bytes, uint64_t blocks)
{
	const struct rig_options options = { .device_bytes = device_bytes, .size_bytes = blocks * BLOCK };

	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(1 + (i * 7 + i / BLOCK) % 251);
	rig_make(&rig, &options);
}

/* What is counted in memory is what the records say. */
static void end(void)
{
	int64_t tenant, loose;

	ck_assert_int_eq(rig_sync(&rig), 0);
	tenant = atomic_load(&rig.sv->tenant->used_blocks);
	loose = atomic_load(&rig.pool->loose_blocks);
	rig_reopen(&rig);
	ck_assert_int_eq(atomic_load(&rig.sv->tenant->used_blocks), tenant);
	ck_assert_int_eq(atomic_load(&rig.pool->loose_blocks), loose);
	ck_assert_int_eq(rig_close(&rig), 0);
	cut_check(rig.dev[0], "at the end");
	rig_free(&rig);
}

static void put(uint64_t ino, uint64_t block, uint64_t blocks)
{
	ck_assert_int_eq(rig_write(&rig, ino, block * BLOCK, content, blocks * BLOCK, 0), (ssize_t)(blocks * BLOCK));
}

static void reads(uint64_t ino, uint64_t block, uint64_t blocks, const uint8_t *want)
{
	ck_assert_int_eq(rig_read(&rig, ino, block * BLOCK, back, blocks * BLOCK), (ssize_t)(blocks * BLOCK));
	ck_assert_mem_eq(back, want, blocks * BLOCK);
}

/* What is used, by the subvolume, its tenant and the pool; and the file. */
struct state {
	uint64_t used;
	int64_t tenant, loose;
	struct inode_attr attr;
};

static struct state now(uint64_t ino)
{
	struct state s = {
		.used = rig_used(&rig),
		.tenant = atomic_load(&rig.sv->tenant->used_blocks),
		.loose = atomic_load(&rig.pool->loose_blocks),
	};

	rig_attr(&rig, ino, &s.attr);
	return s;
}

static void is_as_it_was(uint64_t ino, const struct state *was)
{
	const struct state is = now(ino);

	ck_assert_uint_eq(is.used, was->used);
	ck_assert_int_eq(is.tenant, was->tenant);
	ck_assert_int_eq(is.loose, was->loose);
	ck_assert_uint_eq(is.attr.size_bytes, was->attr.size_bytes);
	ck_assert_uint_eq(is.attr.blocks512, was->attr.blocks512);
	ck_assert_int_eq(is.attr.mtime.tv_sec, was->attr.mtime.tv_sec);
	ck_assert_int_eq(is.attr.mtime.tv_nsec, was->attr.mtime.tv_nsec);
}

static void limit_tenant(uint64_t blocks)
{
	const struct tenant_settings set = { .limits.used_blocks = blocks };

	ck_assert_int_eq(tenant_set(rig.pool, "default", &set, TENANT_USED, why, sizeof(why)), 0);
}

static void snapshot(const char *name)
{
	const struct snapshot_name n = { "vol", name };

	ck_assert_msg(!snapshot_create(rig.pool, &n, 1, why, sizeof(why)), "%s", why);
}

static const int modes[] = { ZERO, ZERO | KEEP, KEEP, 0 };

/* One block too many, of which a part of the range is there already; and then just enough. */
START_TEST(range_is_promised_whole_or_not_at_all)
{
	const int mode = modes[_i];
	struct state was;
	uint64_t a, b;

	begin(0, ROOT + 200);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	put(a, 0, 40);
	put(a, 70, 30); /* another chunk */
	put(b, 0, 50);
	if (_i % 2)
		ck_assert_int_eq(rig_sync(&rig), 0);
	was = now(a);
	/* 80 are left. [10, 181) lacks 70 - 40, and 81 behind 100. */
	ck_assert_int_eq(rig_fallocate(&rig, a, mode, 10 * BLOCK + 17, 141 * BLOCK), -ENOSPC);
	is_as_it_was(a, &was);
	reads(a, 0, 40, content);
	reads(a, 40, 30, zeros);
	reads(a, 70, 30, content);
	put(b, 50, 80);
	ck_assert_int_eq(rig_write(&rig, b, 130 * BLOCK, content, 1, 0), -ENOSPC);
	ck_assert_int_eq(rig_truncate(&rig, b, 50 * BLOCK), 0);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_int_eq(rig_fallocate(&rig, a, mode, 10 * BLOCK + 17, 140 * BLOCK - 17), 0);
	ck_assert_uint_eq(rig_used(&rig), ROOT + 200);
	reads(a, 0, 10, content);
	if (mode & ZERO)
		reads(a, 11, 50, zeros);
	else
		reads(a, 70, 30, content);
	end();
}
END_TEST

/* What a snapshot has, too, becomes the file's own when it is zeroed: that is the tenant's. */
START_TEST(shared_range_is_zeroed_whole_or_not_at_all)
{
	struct state was;
	uint64_t a;

	begin(0, 1000);
	a = rig_create(&rig, "a");
	put(a, 0, 100);
	snapshot("s");
	limit_tenant((uint64_t)atomic_load(&rig.sv->tenant->used_blocks) + 60);
	was = now(a);
	ck_assert_int_eq(rig_fallocate(&rig, a, ZERO, 20 * BLOCK, 61 * BLOCK), -EDQUOT);
	is_as_it_was(a, &was);
	ck_assert_int_eq(rig_fallocate(&rig, a, ZERO, 90 * BLOCK, 61 * BLOCK), -EDQUOT); /* 10 shared, 51 new */
	is_as_it_was(a, &was);
	reads(a, 0, 100, content);
	ck_assert_int_eq(rig_fallocate(&rig, a, ZERO, 90 * BLOCK, 60 * BLOCK), 0);
	reads(a, 0, 90, content);
	reads(a, 90, 60, zeros);
	ck_assert_int_eq(rig_write(&rig, a, 0, content, 1, 0), -EDQUOT);
	/* Punching whole blocks takes nothing. */
	ck_assert_int_eq(rig_fallocate(&rig, a, PUNCH, 0, 90 * BLOCK), 0);
	reads(a, 0, 90, zeros);
	limit_tenant(0);
	end();
}
END_TEST

/* More chunks than one handler changes: the refusal is known before the first, though only the last step lacks anything. */
struct wide {
	uint64_t range, ino, other;
};

#define WIDE_CHUNKS 1500u /* more than a handler reads: what is zeroed is cut */
#define WIDE_BESIDE 20000u
#define WIDE_END 100u

static void begin_wide(struct wide *w)
{
	w->range = 2 * STEP + 500;
	begin(2560 * MIB, ROOT + w->range + WIDE_BESIDE);
	w->ino = rig_create(&rig, "a");
	w->other = rig_create(&rig, "b");
	for (uint64_t chunk = 0; chunk < WIDE_CHUNKS; chunk++)
		put(w->ino, chunk * CHUNK_BLOCKS, 1);
	put(w->ino, w->range - WIDE_END, WIDE_END);
	ck_assert_int_eq(rig_fallocate(&rig, w->ino, KEEP, (w->range + 10) * BLOCK, WIDE_BESIDE * BLOCK), 0);
	ck_assert_int_eq(rig_sync(&rig), 0);
}

static void wide_reads(const struct wide *w, const uint8_t *want)
{
	for (uint64_t chunk = 0; chunk < WIDE_CHUNKS; chunk += 37)
		reads(w->ino, chunk * CHUNK_BLOCKS, 1, want);
	reads(w->ino, w->range - WIDE_END, WIDE_END, want);
}

START_TEST(many_steps_are_refused_before_the_first)
{
	const int mode = modes[_i];
	struct state was;
	struct wide w;

	begin_wide(&w);
	put(w.other, 0, 1);
	was = now(w.ino);
	ck_assert_int_eq(rig_fallocate(&rig, w.ino, mode, 0, w.range * BLOCK), -ENOSPC);
	is_as_it_was(w.ino, &was);
	wide_reads(&w, content);
	ck_assert_int_eq(rig_truncate(&rig, w.other, 0), 0);
	ck_assert_int_eq(rig_sync(&rig), 0);
	ck_assert_int_eq(rig_fallocate(&rig, w.ino, mode, 0, w.range * BLOCK), 0);
	ck_assert_uint_eq(rig_used(&rig), ROOT + w.range + WIDE_BESIDE);
	wide_reads(&w, mode & ZERO ? zeros : content);
	end();
}
END_TEST

static void turn_to_a_later_step(const struct rig_call *c)
{
	for (unsigned i = 0; i < 100 && !rig.sv->data->keepers; i++)
		rig_turn(&rig, 1);
	ck_assert(!c->done && rig.sv->data->keepers);
}

/* Who comes between the steps, in the same file too, gets what is left beside them, and no more; what was begun is never refused. */
START_TEST(steps_keep_what_they_need)
{
	const int mode = modes[_i / 2];
	struct rig_call c = { 0 };
	struct wide w;

	begin_wide(&w);
	rig_start_fallocate(&rig, &c, w.ino, mode, 0, (w.range - WIDE_END - 30) * BLOCK);
	turn_to_a_later_step(&c);
	ck_assert_int_eq(rig_write(&rig, _i % 2 ? w.ino : w.other, 4 * w.range * BLOCK, content, 40 * BLOCK, 0), (ssize_t)(30 * BLOCK));
	ck_assert_int_eq(rig_wait(&rig, &c), 0);
	ck_assert_uint_eq(rig_used(&rig), ROOT + w.range + WIDE_BESIDE);
	end();
}
END_TEST

/* A snapshot between the steps has the file as it was, or as it is after the last one; and all of it ends. */
START_TEST(snapshot_comes_before_or_after_the_steps)
{
	struct rig_call c = { 0 };
	struct subvol *live;
	struct wide w;

	begin_wide(&w);
	limit_tenant((uint64_t)atomic_load(&rig.sv->tenant->used_blocks) + 2 * w.range);
	rig_start_fallocate(&rig, &c, w.ino, ZERO, 0, w.range * BLOCK);
	if (_i == 0)
		turn_to_a_later_step(&c);
	rig_turn(&rig, (unsigned)_i);
	snapshot("s");
	ck_assert_int_eq(rig_wait(&rig, &c), 0);
	wide_reads(&w, zeros);
	live = rig.sv;
	ck_assert_int_eq(subvol_open(rig.pool, "vol@s", true, &rig.sv), 0);
	ck_assert_int_eq(rig_read(&rig, w.ino, 0, back, BLOCK), (ssize_t)BLOCK);
	wide_reads(&w, memcmp(back, zeros, BLOCK) ? content : zeros);
	ck_assert_int_eq(subvol_close(rig.sv), 0);
	rig.sv = live;
	limit_tenant(0);
	end();
}
END_TEST

/* ---- What ends where the room does ---- */

START_TEST(write_ends_where_the_room_does)
{
	uint64_t a;

	begin(0, ROOT + 300);
	a = rig_create(&rig, "a");
	put(a, 20, 100);
	/* 200 are left: [0, 20), and 180 behind 120. */
	ck_assert_int_eq(rig_write(&rig, a, 0, content, 400 * BLOCK, 0), (ssize_t)(300 * BLOCK));
	ck_assert_uint_eq(rig_used(&rig), ROOT + 300);
	reads(a, 0, 300, content);
	ck_assert_int_eq(rig_write(&rig, a, 300 * BLOCK, content, BLOCK, 0), -ENOSPC);
	ck_assert_int_eq(rig_sync(&rig), 0);
	snapshot("s");
	limit_tenant((uint64_t)atomic_load(&rig.sv->tenant->used_blocks) + 50);
	ck_assert_int_eq(rig_write(&rig, a, 10 * BLOCK, content + BLOCK, 100 * BLOCK, 0), (ssize_t)(50 * BLOCK));
	reads(a, 10, 50, content + BLOCK);
	ck_assert_int_eq(rig_read(&rig, a, 60 * BLOCK, back, BLOCK), (ssize_t)BLOCK);
	ck_assert_mem_eq(back, content + 60 * BLOCK, BLOCK);
	ck_assert_int_eq(rig_write(&rig, a, 60 * BLOCK, content, BLOCK, 0), -EDQUOT);
	limit_tenant(0);
	end();
}
END_TEST

/* The kernel makes EIO of a short answer to a direct write: each request is done or not. */
START_TEST(direct_write_is_done_or_not)
{
	struct state was;
	uint64_t a;

	begin(0, ROOT + 300);
	a = rig_create(&rig, "a");
	put(a, 20, 100);
	ck_assert_int_eq(rig_sync(&rig), 0);
	was = now(a);
	ck_assert_int_eq(rig_write(&rig, a, 100 * BLOCK, content, 221 * BLOCK, DATA_DIRECT), -ENOSPC);
	is_as_it_was(a, &was);
	reads(a, 20, 100, content);
	ck_assert_int_eq(rig_write(&rig, a, 100 * BLOCK, content + 80 * BLOCK, 220 * BLOCK, DATA_DIRECT), (ssize_t)(220 * BLOCK));
	ck_assert_uint_eq(rig_used(&rig), ROOT + 300);
	snapshot("s");
	limit_tenant((uint64_t)atomic_load(&rig.sv->tenant->used_blocks) + 50);
	was = now(a);
	ck_assert_int_eq(rig_write(&rig, a, 100 * BLOCK, content, 51 * BLOCK, DATA_DIRECT), -EDQUOT);
	is_as_it_was(a, &was);
	reads(a, 20, 300, content);
	ck_assert_int_eq(rig_write(&rig, a, 100 * BLOCK, content, 50 * BLOCK, DATA_DIRECT), (ssize_t)(50 * BLOCK));
	reads(a, 100, 50, content);
	limit_tenant(0);
	end();
}
END_TEST

START_TEST(copy_ends_where_the_room_does)
{
	struct state was;
	uint64_t a, b;

	begin(0, ROOT + 300);
	a = rig_create(&rig, "a");
	b = rig_create(&rig, "b");
	put(a, 0, 200);
	ck_assert_int_eq(rig_copy(&rig, a, 0, b, 0, 200 * BLOCK), (ssize_t)(100 * BLOCK));
	ck_assert_uint_eq(rig_used(&rig), ROOT + 300);
	reads(b, 0, 100, content);
	was = now(b);
	ck_assert_int_eq(rig_copy(&rig, a, 100 * BLOCK, b, 100 * BLOCK, 100 * BLOCK), -ENOSPC);
	is_as_it_was(b, &was);
	/* Over what is there it takes nothing, unless a snapshot has that, too. */
	ck_assert_int_eq(rig_copy(&rig, a, 100 * BLOCK, b, 0, 100 * BLOCK), (ssize_t)(100 * BLOCK));
	ck_assert_int_eq(rig_sync(&rig), 0);
	snapshot("s");
	limit_tenant((uint64_t)atomic_load(&rig.sv->tenant->used_blocks) + 30);
	ck_assert_int_eq(rig_copy(&rig, a, 0, b, 0, 100 * BLOCK), (ssize_t)(30 * BLOCK));
	reads(b, 0, 30, content);
	was = now(b);
	ck_assert_int_eq(rig_copy(&rig, a, 0, b, 30 * BLOCK, 70 * BLOCK), -EDQUOT);
	is_as_it_was(b, &was);
	limit_tenant(0);
	end();
}
END_TEST

/* A part of a block that a snapshot has, too, is written anew. */
START_TEST(refused_truncation_changes_nothing)
{
	struct state was;
	uint64_t a;

	begin(0, 1000);
	a = rig_create(&rig, "a");
	put(a, 0, 100);
	snapshot("s");
	limit_tenant((uint64_t)atomic_load(&rig.sv->tenant->used_blocks));
	was = now(a);
	ck_assert_int_eq(rig_truncate(&rig, a, 50 * BLOCK + 1), -EDQUOT);
	is_as_it_was(a, &was);
	ck_assert_int_eq(rig_fallocate(&rig, a, PUNCH, 50 * BLOCK + 1, BLOCK), -EDQUOT);
	is_as_it_was(a, &was);
	reads(a, 0, 100, content);
	ck_assert_int_eq(rig_truncate(&rig, a, 200 * BLOCK), 0);
	ck_assert_int_eq(rig_truncate(&rig, a, 50 * BLOCK), 0);
	reads(a, 0, 50, content);
	limit_tenant(0);
	end();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("refusal");

	unit_add(suite, "promised", range_is_promised_whole_or_not_at_all, 4);
	unit_add(suite, "shared", shared_range_is_zeroed_whole_or_not_at_all, 1);
	unit_add(suite, "steps", many_steps_are_refused_before_the_first, 4);
	unit_add(suite, "between", steps_keep_what_they_need, 8);
	unit_add(suite, "snapshot", snapshot_comes_before_or_after_the_steps, 8);
	unit_add(suite, "write", write_ends_where_the_room_does, 1);
	unit_add(suite, "direct", direct_write_is_done_or_not, 1);
	unit_add(suite, "copy", copy_ends_where_the_room_does, 1);
	unit_add(suite, "truncation", refused_truncation_changes_nothing, 1);
	return unit_run_suite(suite);
}
