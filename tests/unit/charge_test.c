/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several charges at one moment, of which not all fit: those that fit are never refused for one that does not, and what is refused takes
 * nothing. For each sum that several threads charge. (Of a subvolume's own size and inodes only its reactor takes any; what a tenant may have
 * promised, its subvolumes and snapshots are counted under the administration lock.)
 */
#include "config.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "meta/subvol_internal.h"
#include "meta/tenant.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define ROUNDS 30000u
#define LEFT 10 /* of each sum; who wants some wants 7 */
#define WANT 7
#define MOST 3u
#define SPINS 2000u

static struct meta_fixture fx;
static struct pool_tenant *tenant;

struct charger {
	bool (*charge)(int64_t sign); /* or give back */
	bool has;
	unsigned had;
	pthread_t thread;
};

static struct charger chargers[MOST];
static unsigned count;
static const struct contest *contest;
static _Atomic unsigned arrived;

/* ---- What is charged ---- */

static bool used(int64_t sign)
{
	return !tenant_charge(tenant, sign * WANT, 0);
}

static bool inodes(int64_t sign)
{
	return !tenant_charge(tenant, 0, sign * WANT);
}

static bool both(int64_t sign)
{
	return !tenant_charge(tenant, sign * WANT, sign * WANT);
}

static bool too_many_inodes(int64_t sign)
{
	return !tenant_charge(tenant, sign * WANT, sign * (LEFT + 1));
}

static bool loose(int64_t sign)
{
	return pool_take_loose(fx.pool, sign * WANT);
}

static bool too_much_loose(int64_t sign)
{
	return pool_take_loose(fx.pool, sign * (LEFT + 1));
}

static bool too_much_claimed(int64_t sign)
{
	return pool_claim(fx.pool, sign * (LEFT + 1));
}

static bool claim(int64_t sign)
{
	return pool_claim(fx.pool, sign * WANT);
}

static bool thin(int64_t sign)
{
	return !tenant_charge_for(tenant, sign * WANT, 0, true);
}

/* ---- What may come of it ---- */

static bool one(void)
{
	return chargers[0].has + chargers[1].has == 1;
}

static bool the_first(void)
{
	return chargers[0].has && !chargers[1].has;
}

/* The second needs what the others need together. */
static bool second_or_others(void)
{
	return chargers[0].has == chargers[2].has && chargers[0].has != chargers[1].has;
}

static const struct contest {
	const char *name;
	bool (*charge[MOST])(int64_t sign);
	bool (*is_right)(void);
} contests[] = {
	{ "used", { used, used }, one },
	{ "inodes", { inodes, inodes }, one },
	{ "loose", { loose, loose }, one },
	{ "claim", { claim, claim }, one },
	{ "claim, loose", { claim, loose }, one },
	{ "thin", { thin, thin }, one },
	{ "thin, used", { thin, used }, one },
	{ "thin, loose", { thin, loose }, one },
	{ "loose, one that never fits", { loose, too_much_loose }, the_first },
	{ "claim, one that never fits", { claim, too_much_claimed }, the_first },
	{ "loose, a claim that never fits", { loose, too_much_claimed }, the_first },
	{ "used, one that never fits", { used, too_many_inodes }, the_first },
	{ "used, both, inodes", { used, both, inodes }, second_or_others },
};

/* ---- Rounds ---- */

static void meet(unsigned turn)
{
	atomic_fetch_add(&arrived, 1);
	for (unsigned i = 1; atomic_load(&arrived) < turn * count; i++)
		if (i % SPINS == 0)
			sched_yield();
}

/* Some are a little earlier than others, by another time in each round. */
static void tarry(unsigned *seed)
{
	for (volatile unsigned i = (unsigned)rand_r(seed) % 200; i; i--)
		;
}

static void *run(void *arg)
{
	struct charger *c = arg;
	unsigned seed = (unsigned)(c - chargers);

	for (unsigned round = 0; round < ROUNDS; round++) {
		meet(3 * round + 1);
		tarry(&seed);
		c->has = c->charge(1);
		c->had += c->has;
		meet(3 * round + 2);
		if (c == chargers)
			ck_assert_msg(contest->is_right(), "%s, round %u: %d, %d, %d", contest->name, round, chargers[0].has,
				      chargers[1].has, chargers[2].has);
		meet(3 * round + 3);
		if (c->has)
			ck_assert(c->charge(-1));
	}
	return NULL;
}

/* Of each sum that is charged LEFT are left. */
static int64_t leave_some(void)
{
	const struct tenant_settings set = { .limits = { .used_blocks = LEFT, .inodes = LEFT } };
	struct pool_stats stats;
	int64_t others;

	fixture_make(&fx, 256 * MIB, 32 * MIB, NULL);
	ck_assert_int_eq(tenant_create(fx.pool, "t", &set, fx.why, sizeof(fx.why)), 0);
	tenant = tenant_find_name(fx.pool, "t");
	pool_stats(fx.pool, &stats);
	others = (int64_t)stats.unclaimed_blocks - LEFT;
	pool_count_promised(fx.pool, others, 0);
	return others;
}

START_TEST(what_fits_is_not_refused)
{
	const int64_t others = leave_some();

	atomic_store(&arrived, 0);
	contest = &contests[_i];
	for (count = 0; count < MOST && contest->charge[count]; count++)
		chargers[count] = (struct charger){ .charge = contest->charge[count] };
	for (unsigned i = 1; i < count; i++)
		ck_assert_int_eq(pthread_create(&chargers[i].thread, NULL, run, &chargers[i]), 0);
	run(&chargers[0]);
	for (unsigned i = 1; i < count; i++)
		pthread_join(chargers[i].thread, NULL);
	printf("%s: %u, %u, %u\n", contest->name, chargers[0].had, chargers[1].had, chargers[2].had);
	ck_assert_int_eq(atomic_load(&tenant->used_blocks), 0);
	ck_assert_int_eq(atomic_load(&tenant->used_inodes), 0);
	ck_assert(pool_has_loose(fx.pool, LEFT) && !pool_has_loose(fx.pool, LEFT + 1));
	pool_count_promised(fx.pool, -others, 0);
	fixture_end(&fx);
}
END_TEST

static _Atomic bool answered;

static void *charge_once(void *arg)
{
	struct charger *c = arg;

	c->has = used(1);
	atomic_store(&answered, true);
	return NULL;
}

/* Another charge has all that is left, and finds no inode for it. */
START_TEST(what_comes_back_is_waited_for)
{
	const int64_t others = leave_some();

	atomic_store(&answered, false);
	chargers[0].has = false;
	atomic_fetch_add(&tenant->trying, 1);
	atomic_fetch_add(&tenant->used_blocks, LEFT);
	ck_assert_int_eq(pthread_create(&chargers[0].thread, NULL, charge_once, &chargers[0]), 0);
	for (unsigned i = 0; i < 10000 && !atomic_load(&answered); i++)
		sched_yield();
	ck_assert(!atomic_load(&answered));
	atomic_fetch_sub(&tenant->used_blocks, LEFT);
	atomic_fetch_add(&tenant->undone, 1);
	atomic_fetch_sub(&tenant->trying, 1);
	pthread_join(chargers[0].thread, NULL);
	ck_assert(chargers[0].has);
	ck_assert(used(-1));
	pool_count_promised(fx.pool, -others, 0);
	fixture_end(&fx);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("charge");

	unit_add(suite, "charge", what_fits_is_not_refused, sizeof(contests) / sizeof(*contests));
	unit_add(suite, "comes_back", what_comes_back_is_waited_for, 1);
	return unit_run_suite(suite);
}
