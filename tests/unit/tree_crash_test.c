/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts while the tree of nodes, or a limit, changes. At random device operations, what a cut would leave is kept; each of these states must
 * be clean without a repair; a change was made as a whole or not at all, and if it was answered it was made; snapshots are exact; each
 * file of what was being written is as before its one change or as after it; and no limit is passed by a block. Then the pool goes on: sweeps
 * end, sums are those of the model, limits refuse what they should, and when all is deleted nothing is held.
 *
 * NVFS_TEST_SEED, NVFS_TEST_ROUNDS and NVFS_TEST_STATES change what is run.
 */
#include "config.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/tree_internal.h"

#define STEPS 60u
#define STEPS_AFTER 6u
#define STATES_MAX 64u

enum phase { WRITING, CHANGING, ANSWERED, SYNCED };

static struct state {
	struct device *dev;
	enum phase phase; /* when it was kept, or before */
} states[STATES_MAX];
static _Atomic unsigned state_count, states_most;
static _Atomic int phase;
static struct tree before, written, after;
static struct tree_sums before_sums;
static int volume; /* that was written, or -1 */
static enum tree_change change;

static long env_number(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text ? atol(text) : otherwise;
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

/* ---- States ---- */

/* On whatever thread did the I/O, several at a time. */
static void maybe_keep(struct device *dev, enum io_op op, uint64_t n, void *arg)
{
	const uint64_t seed = (n * 0x9e3779b97f4a7c15u ^ (uintptr_t)arg) * UINT64_C(6364136223846793005) >> 33;
	const int now = atomic_load(&phase);
	unsigned at;

	(void)op;
	if (seed % 2)
		return;
	at = atomic_fetch_add(&state_count, 1);
	if (at >= states_most)
		return;
	states[at].phase = (enum phase)now;
	if (sim_snapshot_cut(dev, seed, &states[at].dev))
		states[at].dev = NULL;
}

/* ---- What was made of the change ---- */

static bool is_there(const struct tree_node *n)
{
	const struct snapshot_name name = { n->volume, n->name };
	struct snapshot_info snapshot;
	struct subvol_info info;

	return !(n->name[0] ? snapshot_info(tree_pool, &name, &snapshot) : subvol_info(tree_pool, n->volume, &info));
}

/* Of these nodes, some may have come or gone with the change: 1 when all that did are as after it, 0 as before, -1 when there are none. */
static int how_far(const struct tree_node *a, const struct tree_node *b, unsigned n, int so_far, unsigned state)
{
	for (unsigned i = 0; i < n; i++) {
		const bool there = is_there(a[i].there ? &a[i] : &b[i]);
		int made;

		if (!a[i].there && !b[i].there)
			continue;
		if (a[i].there == b[i].there) {
			ck_assert_msg(there, "seed %ld, state %u: %s@%s is gone", tree_opts.seed, state, a[i].volume, a[i].name);
			continue;
		}
		made = there == b[i].there;
		ck_assert_msg(so_far < 0 || so_far == made, "seed %ld, state %u: half of the change is there", tree_opts.seed, state);
		so_far = made;
	}
	return so_far;
}

static bool node_is(struct subvol *sv, const struct tree_node *n)
{
	for (unsigned f = 0; f < TREE_FILES; f++)
		if (!tree_file_is(sv, n, f))
			return false;
	return true;
}

/* The files of the volume, each before its write or after it. */
static void take_files(struct tree_node *v, bool settled)
{
	const struct tree_node *old = &before.volumes[volume], *new = &written.volumes[volume];

	tree_open(v);
	tree_settle();
	for (unsigned f = 0; f < TREE_FILES; f++) {
		if (!v->files[f].rec)
			continue; /* an orphan of the life before */
		v->files[f] = new->files[f];
		if (!settled && !tree_file_is(v->sv, v, f))
			v->files[f] = old->files[f];
	}
}

/* The change made a snapshot of what the volume has: it has that, too. */
static bool is_snapshotted(const struct tree_node *v)
{
	for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
		if (after.snapshots[i].there && !before.snapshots[i].there && !strcmp(after.snapshots[i].volume, v->volume))
			return true;
	return false;
}

/* All limits are those of this model. */
static bool limits_are(const struct tree *t)
{
	for (unsigned i = 0; i < TREE_TENANTS; i++) {
		const struct tree_tenant *m = &t->tenants[i];
		struct tenant_info info;

		ck_assert_int_eq(tenant_info(tree_pool, tree_tenant_name(i), &info), 0);
		if (info.set.limits.used_blocks != m->used || info.set.limits.inodes != m->inodes ||
		    info.set.limits.provisioned_blocks != m->provisioned || info.set.limits.subvolumes != m->subvolumes ||
		    info.set.limits.snapshots != m->snapshots || info.set.soft_blocks != m->soft)
			return false;
	}
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		const struct tree_node *v = &t->volumes[i];
		struct subvol_info info;

		if (v->there && !subvol_info(tree_pool, v->volume, &info) &&
		    (info.rec.size_blocks != v->size_blocks || info.rec.inodes_max != v->inodes_max))
			return false;
	}
	return true;
}

/* Beyond what there was before, if that was beyond it already, no limit is passed. */
static void check_limits(unsigned state)
{
	const int64_t capacity = (int64_t)pool_capacity(tree_pool);
	struct tree_sums now;

	tree_before_administration();
	tree_by_records(&now);
	now.reserved = (int64_t)atomic_load(&tree_pool->reserved_blocks);
	for (unsigned t = 0; t < TREE_TENANTS; t++) {
		const struct tree_tenant *m = &tree.tenants[t];

		TREE_ASSERT(!m->used || now.blocks[t] <= (int64_t)m->used || now.blocks[t] <= before_sums.blocks[t],
			    "state %u: tenant %s has %ld blocks of %lu", state, tree_tenant_name(t), now.blocks[t], m->used);
		TREE_ASSERT(!m->inodes || now.inodes[t] <= (int64_t)m->inodes || now.inodes[t] <= before_sums.inodes[t],
			    "state %u: tenant %s has %ld inodes of %lu", state, tree_tenant_name(t), now.inodes[t], m->inodes);
	}
	TREE_ASSERT(now.loose + now.reserved <= capacity || now.loose + now.reserved <= before_sums.loose + before_sums.reserved,
		    "state %u: the pool promises %ld and %ld of %ld", state, now.loose, now.reserved, capacity);
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		struct subvol_info info;

		if (!tree.volumes[i].there)
			continue;
		ck_assert_int_eq(subvol_info(tree_pool, tree.volumes[i].volume, &info), 0);
		TREE_ASSERT(info.used_blocks <= info.rec.size_blocks && info.used_inodes <= info.rec.inodes_max,
			    "state %u: %s has %lu blocks of %lu, %lu inodes of %lu", state, info.name, info.used_blocks, info.rec.size_blocks,
			    info.used_inodes, info.rec.inodes_max);
	}
}

/* The model of what must be there, from what is there. */
static void take_state(const struct state *st, unsigned n)
{
	int made = how_far(before.snapshots, after.snapshots, TREE_SNAPSHOTS, -1, n);
	struct tree_node *v = volume >= 0 ? &tree.volumes[volume] : NULL;
	bool frozen;

	made = how_far(before.volumes, after.volumes, TREE_VOLUMES, made, n);
	if (change == TREE_ROLLBACK && st->phase >= CHANGING && st->phase < ANSWERED) {
		/* Nothing comes or goes: contents tell. */
		made = 1;
		for (unsigned i = 0; i < TREE_VOLUMES; i++) {
			tree = after;
			if (tree.volumes[i].there && memcmp(after.volumes[i].files, written.volumes[i].files, sizeof(after.volumes[i].files))) {
				tree_open(&tree.volumes[i]);
				tree_settle();
				made = node_is(tree.volumes[i].sv, &tree.volumes[i]);
				tree_close(&tree.volumes[i]);
			}
		}
	} else if (change == TREE_LIMIT || change == TREE_RESIZE) {
		made = limits_are(&after);
		TREE_ASSERT(made || limits_are(&before), "state %u: limits that nobody set", n);
	} else if (made < 0) {
		made = st->phase >= ANSWERED;
	}
	ck_assert_msg(made || st->phase < ANSWERED, "seed %ld, state %u: the change was answered, and is not there", tree_opts.seed, n);
	tree = made ? after : before;
	if (!v || !v->there)
		return;
	/* What a snapshot, or closing, has waited for. */
	frozen = made && is_snapshotted(v);
	if (made && change == TREE_ROLLBACK && memcmp(after.volumes[volume].files, written.volumes[volume].files, sizeof(v->files)))
		return;
	take_files(v, frozen || st->phase == SYNCED);
}

/* Orphans of the life before may be gone already, or when their subvolume is opened. */
static void reap(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		struct tree_node *v = &tree.volumes[i];
		bool any = false;

		for (unsigned f = 0; v->there && f < TREE_FILES; f++)
			any |= v->files[f].gone;
		if (any)
			tree_open(v);
	}
	tree_settle();
}

static void check_state(const struct state *st, unsigned n)
{
	cut_check(st->dev, "seed %ld, change %d, state %u", tree_opts.seed, change, n);
	tree_enter(st->dev);
	take_state(st, n);
	check_limits(n);
	reap();
	if (tree_opts.limits)
		tree_take_soft();
	tree_compare(true);
	for (unsigned i = 0; i < STEPS_AFTER; i++) {
		tree_step();
		tree_follow_soft();
	}
	tree_delete_all();
	tree_leave();
	cut_check(st->dev, "seed %ld, change %d, state %u", tree_opts.seed, change, n);
	tree_drop_device(st->dev);
}

/* ---- A scenario ---- */

static void without_open(struct tree *t)
{
	*t = tree;
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		t->volumes[i].sv = NULL;
}

static void make_change(unsigned most)
{
	tree_sync();
	tree_sums_now(&before_sums);
	without_open(&before);
	atomic_store(&state_count, 0);
	atomic_store(&states_most, most);
	atomic_store(&phase, WRITING);
	sim_set_step_hook(tree_dev, maybe_keep, (void *)(uintptr_t)(tree_opts.seed * 7919 + 1));
	volume = tree_write_some();
	without_open(&written);
	atomic_store(&phase, CHANGING);
	tree_change(change);
	atomic_store(&phase, ANSWERED);
	without_open(&after);
	tree_settle();
	tree_sync();
	atomic_store(&phase, SYNCED);
	sim_set_step_hook(tree_dev, NULL, NULL);
}

/* Whether the change found something to do. */
static bool has_changed(void)
{
	bool changed = memcmp(written.tenants, after.tenants, sizeof(after.tenants));

	for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
		changed |= written.snapshots[i].there != after.snapshots[i].there;
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		const struct tree_node *a = &written.volumes[i], *b = &after.volumes[i];

		changed |= a->there != b->there || a->size_blocks != b->size_blocks || a->inodes_max != b->inodes_max ||
			   (a->there && memcmp(a->files, b->files, sizeof(a->files)));
	}
	return changed;
}

static void drop_states(void)
{
	for (unsigned i = 0; i < STATES_MAX; i++) {
		if (states[i].dev)
			device_close(states[i].dev);
		states[i].dev = NULL;
	}
}

/* What the change needs: something to delete or to go back to, or a place in the model. */
static void make_possible(void)
{
	bool full = true;

	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		full &= tree.volumes[i].there;
	if (change == TREE_CLONE && full)
		tree_change(TREE_DELETE_VOLUME);
	else if (change == TREE_SNAPSHOT || change == TREE_GROUP)
		tree_change(TREE_DELETE_SNAPSHOT);
	else if (change != TREE_CLONE)
		tree_change(TREE_SNAPSHOT);
	if (change == TREE_GROUP && !full)
		tree_change(TREE_CLONE);
	tree_step();
	tree_follow_soft();
}

static void open_some(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].there && !tree.volumes[i].sv && tree_pick(2))
			tree_open(&tree.volumes[i]);
}

static unsigned run_round(long seed, unsigned most)
{
	const struct tree_options opts = { .seed = seed, .packs = seed % 3 == 0, .stalls = seed % 5 == 0, .limits = change >= TREE_LIMIT || seed % 2 };
	struct device *dev;
	struct tree end;
	unsigned n = 0;

	tree_begin(&opts);
	for (unsigned i = 0; i < STEPS; i++) {
		tree_step();
		tree_follow_soft();
	}
	for (;;) {
		open_some();
		make_change(most);
		if (has_changed() && states[0].dev)
			break;
		drop_states();
		make_possible();
	}
	tree_compare(false);
	tree_leave();
	end = tree;
	dev = tree_dev;
	for (unsigned i = 0; i < most; i++) {
		if (!states[i].dev)
			continue;
		check_state(&states[i], i);
		states[i].dev = NULL;
		n++;
	}
	tree_enter(dev);
	tree = end;
	tree_end();
	return n;
}

START_TEST(cuts)
{
	const long rounds = env_number("NVFS_TEST_ROUNDS", 1), first = env_number("NVFS_TEST_SEED", 1);
	const unsigned most = (unsigned)env_number("NVFS_TEST_STATES", 6);
	unsigned n = 0;

	log_set_sink(drop_line, NULL);
	change = (enum tree_change)_i;
	for (long i = 0; i < rounds; i++)
		n += run_round(first + i * TREE_CHANGES + _i, most < STATES_MAX ? most : STATES_MAX);
	printf("%u states of change %d checked\n", n, _i);
	ck_assert_uint_gt(n, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree_crash");

	tcase_set_timeout(unit_add(suite, "cuts", cuts, TREE_CHANGES), 36000);
	return unit_run_suite(suite);
}
