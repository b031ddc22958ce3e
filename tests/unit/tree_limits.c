/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that changes limits: of tenants, of the pool, of time. Most are set near what is used, above it and below. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/tree_internal.h"

static int64_t began_ns; /* the first day */

/* ---- Tenants ---- */

/* Of a limit: none, or about what there is. */
static uint64_t some_limit(int64_t has, unsigned less, unsigned more)
{
	const int64_t limit = tree_near(has, less, more);

	return tree_pick(2) && limit > 0 ? (uint64_t)limit : 0;
}

static void choose(struct tree_tenant *to, const struct tree_sums *now, unsigned t, unsigned fields)
{
	struct tree_belongings has;

	tree_belongings(t, &has);
	if (fields & TENANT_USED)
		to->used = some_limit(now->blocks[t], 5, tree_pick(2) ? 5 : 50);
	if (fields & TENANT_PROVISIONED)
		to->provisioned = some_limit((int64_t)has.provisioned, 50, 200);
	if (fields & TENANT_INODES)
		to->inodes = tree_pick(2) ? some_limit(now->inodes[t], 1, 6) : 0;
	if (fields & TENANT_SUBVOLUMES)
		to->subvolumes = some_limit((int64_t)has.subvolumes, 1, 1);
	if (fields & TENANT_SNAPSHOTS)
		to->snapshots = some_limit((int64_t)has.snapshots, 1, 2);
	if (fields & TENANT_SOFT) {
		to->soft = tree_pick(2) ? some_limit(now->blocks[t], 1, 1) : some_limit(now->blocks[t], 20, 10);
		if (to->above_since && !tree_pick(3))
			to->soft = (uint64_t)now->blocks[t]; /* not above it any more */
		to->grace_days = to->soft ? 1 + tree_pick(2) : 0;
	}
}

static bool is_below_use(const struct tree_tenant *m, const struct tree_sums *now, unsigned t)
{
	struct tree_belongings has;

	tree_belongings(t, &has);
	return (m->used && now->blocks[t] > (int64_t)m->used) || (m->inodes && now->inodes[t] > (int64_t)m->inodes) ||
	       (m->provisioned && has.provisioned > m->provisioned) || (m->subvolumes && has.subvolumes > m->subvolumes) ||
	       (m->snapshots && has.snapshots > m->snapshots);
}

void tree_change_limit(void)
{
	tree_limit(tree_pick(TREE_TENANTS));
}

void tree_limit(unsigned t)
{
	unsigned fields = 0;
	struct tree_tenant new = tree.tenants[t];
	struct tenant_settings set = { 0 };
	const bool synced = tree_pick(2);
	struct tree_sums now;
	int r;

	for (unsigned i = 0; i < 5; i++)
		fields |= tree_pick(2) ? TENANT_USED << i : 0;
	fields |= tree_pick(2) ? TENANT_SOFT | TENANT_GRACE : 0;
	if (synced)
		tree_sync();
	tree_sums_now(&now);
	choose(&new, &now, t, fields);
	set.limits = (struct tenant_limits){ .used_blocks = new.used, .provisioned_blocks = new.provisioned, .inodes = new.inodes,
					     .subvolumes = new.subvolumes, .snapshots = new.snapshots };
	set.soft_blocks = new.soft;
	set.grace_s = new.soft ? new.grace_days * 86400 - 43200 : 0;
	tree_before_administration();
	r = tenant_set(tree_pool, tree_tenant_name(t), &set, fields, tree_why, sizeof(tree_why));
	TREE_ASSERT(r == (new.soft && new.used && new.soft >= new.used ? -EINVAL : 0), "limits of a tenant: %d: %s", r, tree_why);
	if (r)
		return;
	TREE_ASSERT(!synced || !tree_why[0] == !is_below_use(&new, &now, t), "a tenant's limits are below use, or not, and this was said: %s", tree_why);
	tree.tenants[t] = new;
	tree_follow_soft();
}

/* ---- Time ---- */

void tree_pass_time(void)
{
	tree.today++;
	atomic_fetch_add(&tenant_clock_ahead_ns, DAY_NS);
}

void tree_follow_soft(void)
{
	struct tree_sums now;

	if (!tree_opts.limits)
		return;
	tree_sync();
	tree_sums_now(&now);
	for (unsigned i = 0; i < TREE_TENANTS; i++) {
		const struct pool_tenant *t = tenant_find_name(tree_pool, tree_tenant_name(i));
		const int64_t since = atomic_load(&t->soft_since_ns);
		const unsigned day = since ? (unsigned)((since - began_ns) / DAY_NS) + 1 : 0;
		struct tree_tenant *m = &tree.tenants[i];

		if (!m->soft || now.blocks[i] <= (int64_t)m->soft)
			m->above_since = 0;
		else if (!m->above_since)
			m->above_since = tree.today;
		TREE_ASSERT(day == m->above_since, "tenant %s with %ld blocks of %lu is above its soft limit since day %u, and not %u", t->name,
			    now.blocks[i], m->soft, day, m->above_since);
	}
}

void tree_take_soft(void)
{
	struct tree_sums now;

	tree.today = (unsigned)(atomic_load(&tenant_clock_ahead_ns) / DAY_NS) + 1; /* the clock went on meanwhile */
	tree_sync();
	tree_sums_now(&now);
	for (unsigned i = 0; i < TREE_TENANTS; i++) {
		const int64_t since = atomic_load(&tenant_find_name(tree_pool, tree_tenant_name(i))->soft_since_ns);
		struct tree_tenant *m = &tree.tenants[i];

		m->above_since = since ? (unsigned)((since - began_ns) / DAY_NS) + 1 : 0;
		TREE_ASSERT(!since == !(m->soft && now.blocks[i] > (int64_t)m->soft), "tenant %s with %ld blocks of %lu is above its soft limit, or not",
			    tree_tenant_name(i), now.blocks[i], m->soft);
	}
}

/* ---- The pool ---- */

/* How much of the pool is left to others. */
struct tree_node *tree_change_ballast(void)
{
	struct tree_sums now;
	struct tree_node *v = tree_pick(2) ? tree_some_volume() : NULL;
	int64_t room, size, left;
	int r, want;

	tree_sums_now(&now);
	room = (int64_t)pool_capacity(tree_pool) - now.loose - now.reserved;
	left = tree_pick(tree_pick(2) ? 12 : 4000);
	v = v && v->reserved ? v : NULL;
	if (v)
		left = tree_near(tree_held(v), 1, 1);
	size = (int64_t)tree.ballast + room - left + (v ? 0 : tree_pick(2) * tree_pick(3));
	if (size < 1)
		return NULL;
	want = tree_passes(LIMIT_CLAIM, size - (int64_t)tree.ballast, room) ? -ENOSPC : 0;
	tree_before_administration();
	r = subvol_resize(tree_pool, TREE_BALLAST, (uint64_t)size * BLOCK, 0, tree_why, sizeof(tree_why));
	TREE_ASSERT(r == want, "a resize of the ballast gave %d, and not %d: %s", r, want, tree_why);
	if (!r)
		tree.ballast = (uint64_t)size;
	return v;
}

/* About as much as is promised already. */
void tree_change_overcommit(void)
{
	const uint64_t hundredth = pool_capacity(tree_pool) / 100, promised = tree_promised();
	const unsigned least = (unsigned)((promised + hundredth - 1) / hundredth), percent = (unsigned)tree_near(least, 1, 1);
	struct tree_sums e;
	int r;

	tree_expect(&e, NULL);
	tree_before_administration();
	r = pool_set_overcommit(tree_pool, percent, tree_why, sizeof(tree_why));
	if (percent < 100)
		TREE_ASSERT(r == -EINVAL, "an overcommit of %u gave %d", percent, r);
	else if (percent == tree.overcommit || promised <= hundredth * percent || promised <= (uint64_t)e.reserved)
		TREE_ASSERT(!r, "an overcommit of %u gave %d: %s", percent, r, tree_why);
	else
		TREE_ASSERT(r == -ENOSPC, "an overcommit of %u gave %d: %s", percent, r, tree_why);
	if (!r)
		tree.overcommit = percent;
}

void tree_limits_begin(void)
{
	const struct tenant_settings none = { 0 };
	const struct subvol_options so = { .tenant = TREE_BALLAST, .size_bytes = BLOCK, .reserved = true };

	began_ns = tenant_now_ns();
	tree.ballast = 1;
	ck_assert_int_eq(tenant_create(tree_pool, TREE_BALLAST, &none, tree_why, sizeof(tree_why)), 0);
	ck_assert_int_eq(subvol_create(tree_pool, TREE_BALLAST, &so, tree_why, sizeof(tree_why)), 0);
	tree_change_ballast();
	for (unsigned t = 1; t < TREE_TENANTS; t++)
		tree_create_volume(t);
}
