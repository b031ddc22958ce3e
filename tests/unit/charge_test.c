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
#include <sys/stat.h>

#include "meta/subvol_internal.h"
#include "meta/tenant.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define ROUNDS 30000u
#define REQUESTS 300u
#define LEFT 10 /* of each sum; who wants some wants 7 */
#define WANT 7
#define BORN 6 /* blocks of a file in each subvolume */
#define SIZE (4 * MIB)
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

/* What the pool has, but for LEFT blocks. */
static int64_t fill_pool(void)
{
	struct pool_stats stats;
	int64_t others;

	pool_stats(fx.pool, &stats);
	others = (int64_t)stats.unclaimed_blocks - LEFT;
	pool_count_promised(fx.pool, others, 0);
	return others;
}

/* Of each sum that is charged LEFT are left. */
static int64_t leave_some(void)
{
	const struct tenant_settings set = { .limits = { .used_blocks = LEFT, .inodes = LEFT } };

	fixture_make(&fx, 256 * MIB, 32 * MIB, NULL);
	ck_assert_int_eq(tenant_create(fx.pool, "t", &set, fx.why, sizeof(fx.why)), 0);
	tenant = tenant_find_name(fx.pool, "t");
	return fill_pool();
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

/* ---- Administration that is refused for something else ---- */

/* A reserved subvolume with a file. */
static void make_volume(const char *name)
{
	const struct subvol_options so = { .size_bytes = SIZE, .inodes_max = 16, .reserved = true };
	struct inode_attr attr;

	ck_assert_msg(subvol_create(fx.pool, name, &so, fx.why, sizeof(fx.why)) == 0, "%s", fx.why);
	fx_use(&fx, name);
	ck_assert_int_eq(fx_create(&fx, INO_ROOT, "f", S_IFREG | 0644, &attr), 0);
}

static void write_file(const char *name)
{
	static uint8_t bytes[BORN * NVFS_BLOCK_SIZE];
	struct inode_attr attr;

	memset(bytes, 'x', sizeof(bytes));
	fx_use(&fx, name);
	ck_assert_int_eq(fx_lookup(&fx, INO_ROOT, "f", &attr), 0);
	ck_assert_int_eq(fx_write(&fx, attr.ino, 0, bytes, sizeof(bytes), 0), (int64_t)sizeof(bytes));
	fx_use(&fx, NULL);
}

/* Two of them, of which the first has a snapshot, and what it had as often again; and a tenant that may have no inode more. */
static void make_volumes(void)
{
	const struct tenant_settings set = { .limits = { .inodes = 1 } };
	const struct subvol_options so = { .size_bytes = MIB, .inodes_max = 16, .tenant = "full" };

	make_volume("a");
	make_volume("b");
	write_file("a");
	write_file("b");
	ck_assert_int_eq(fx_snapshot(&fx, "a", "old"), 0);
	write_file("a");
	ck_assert_int_eq(tenant_create(fx.pool, "full", &set, fx.why, sizeof(fx.why)), 0);
	ck_assert_int_eq(subvol_create(fx.pool, "only", &so, fx.why, sizeof(fx.why)), 0);
}

static int create_without_inodes(void)
{
	const struct subvol_options so = { .size_bytes = WANT * NVFS_BLOCK_SIZE, .inodes_max = 16, .reserved = true, .tenant = "full" };

	return subvol_create(fx.pool, "new", &so, NULL, 0);
}

static int create_without_room(void)
{
	const struct subvol_options so = { .size_bytes = (LEFT + 1) * NVFS_BLOCK_SIZE, .inodes_max = 16, .reserved = true };

	return subvol_create(fx.pool, "new", &so, NULL, 0);
}

/* More blocks, and fewer inodes than there are. */
static int resize_below_use(void)
{
	return subvol_resize(fx.pool, "a", SIZE + WANT * NVFS_BLOCK_SIZE, 1, NULL, 0);
}

/* There is room for what each of them has, and not for both. */
static int group_without_room(void)
{
	const struct snapshot_name names[] = { { "a", "s" }, { "b", "s" } };

	return snapshot_create(fx.pool, names, 2, NULL, 0);
}

static int try_clone(const char *snapshot, unsigned blocks)
{
	const struct snapshot_name from = { "a", snapshot };
	const struct clone_options co = { .size_bytes = blocks * NVFS_BLOCK_SIZE, .reserved = true };

	return snapshot_clone(fx.pool, &from, "new", &co, NULL, 0);
}

/* Room for the claim, and not for what the volume has beside its own. */
static int clone_without_room(void)
{
	return try_clone(NULL, WANT);
}

/* Smaller than what is in it. */
static int small_clone(void)
{
	return try_clone("old", BORN - 1);
}

static const struct request {
	const char *name;
	int (*fn)(void);
	const char *opens; /* a subvolume */
} requests[] = {
	{ "create without inodes", create_without_inodes, NULL },
	{ "create without room", create_without_room, NULL },
	{ "resize below use", resize_below_use, NULL },
	{ "resize of an open one", resize_below_use, "a" },
	{ "group without room", group_without_room, NULL },
	{ "group with an open one", group_without_room, "b" },
	{ "clone without room", clone_without_room, NULL },
	{ "clone of an open one", clone_without_room, "a" },
	{ "small clone", small_clone, NULL },
};

struct writer {
	_Atomic bool stop;
	unsigned wrote, refused;
	pthread_t thread;
};

/* Of a thin subvolume: some blocks, for a moment, again and again. */
static void *write_some(void *arg)
{
	struct writer *w = arg;
	unsigned seed = 1;

	while (!atomic_load(&w->stop)) {
		if (pool_take_loose(fx.pool, WANT)) {
			pool_take_loose(fx.pool, -WANT);
			w->wrote++;
		} else {
			w->refused++;
		}
		tarry(&seed);
	}
	return NULL;
}

/* What was refused had nothing, not even for a moment in which somebody else needs it. */
START_TEST(what_is_refused_takes_nothing)
{
	const struct request *request = &requests[_i];
	struct writer w = { .stop = false };
	int64_t others;

	fixture_make(&fx, 256 * MIB, 32 * MIB, NULL);
	make_volumes();
	fx_use(&fx, request->opens);
	others = fill_pool();
	ck_assert_int_eq(pthread_create(&w.thread, NULL, write_some, &w), 0);
	for (unsigned i = 0; i < REQUESTS; i++) {
		const uint64_t takes = atomic_load(&fx.pool->takes);

		ck_assert_int_ne(request->fn(), 0);
		ck_assert_uint_eq(atomic_load(&fx.pool->takes), takes);
	}
	atomic_store(&w.stop, true);
	pthread_join(w.thread, NULL);
	printf("%s: %u, %u\n", request->name, w.wrote, w.refused);
	ck_assert_uint_eq(w.refused, 0);
	ck_assert(pool_has_loose(fx.pool, LEFT) && !pool_has_loose(fx.pool, LEFT + 1));
	pool_count_promised(fx.pool, -others, 0);
	fixture_end(&fx);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("charge");

	unit_add(suite, "charge", what_fits_is_not_refused, sizeof(contests) / sizeof(*contests));
	unit_add(suite, "refused", what_is_refused_takes_nothing, sizeof(requests) / sizeof(*requests));
	unit_add(suite, "comes_back", what_comes_back_is_waited_for, 1);
	return unit_run_suite(suite);
}
