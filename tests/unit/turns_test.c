/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turns under a clock of our own. */
#include "config.h"

#include "io/turns.h"
#include "tests/unit/unit.h"

#define US UINT64_C(1000)
#define MS (1000 * US)
#define PARTIES 5u

/* Who works when it is asked, and for how long; 0: it has no work. */
struct worker {
	struct turns_party *p;
	uint64_t piece_ns, worked_ns;
	unsigned turns;
};

static struct turns turns;
static struct worker worker[PARTIES];

static void begin(unsigned parties, const uint64_t *pieces)
{
	turns = (struct turns){ 0 };
	for (unsigned i = 0; i < parties; i++) {
		worker[i] = (struct worker){ .p = turns_get(&turns, &worker[i]), .piece_ns = pieces[i] };
		turns_join(&turns, worker[i].p);
	}
}

/* As a reactor does: whoever has work goes, the least used first. NULL: nobody has any. */
static struct worker *next_turn(void)
{
	for (struct turns_party *p = turns.active; p; p = p->next) {
		struct worker *w = (struct worker *)p->key;

		if (!w->piece_ns)
			continue;
		w->worked_ns += w->piece_ns;
		w->turns++;
		turns_worked(&turns, p, w->piece_ns);
		return w;
	}
	return NULL;
}

static void run(unsigned n)
{
	while (n--)
		ck_assert_ptr_nonnull(next_turn());
}

START_TEST(large_pieces_get_no_more_time)
{
	begin(3, (const uint64_t[]){ 10 * US, 1 * MS, 70 * US });
	run(20000);
	for (unsigned i = 1; i < 3; i++) {
		ck_assert_uint_le(worker[i].worked_ns, worker[0].worked_ns + MS);
		ck_assert_uint_ge(worker[i].worked_ns + MS, worker[0].worked_ns);
	}
	turns_free(&turns);
}
END_TEST

START_TEST(many_sources_get_no_more_time)
{
	begin(2, (const uint64_t[]){ 50 * US, 50 * US });
	for (int i = 0; i < 9; i++)
		turns_join(&turns, worker[0].p);
	run(1000);
	ck_assert_uint_eq(worker[0].turns, 500);
	ck_assert_uint_eq(worker[1].turns, 500);
	for (int i = 0; i < 9; i++)
		turns_leave(&turns, worker[0].p);
	ck_assert(turns_contended(&turns));
	turns_leave(&turns, worker[0].p);
	ck_assert(!turns_contended(&turns));
	turns_free(&turns);
}
END_TEST

/* A piece of work now and then, beside one who always has some: it never waits for more than what is being done. */
START_TEST(little_work_goes_first)
{
	begin(2, (const uint64_t[]){ 50 * US, 0 });
	for (int i = 0; i < 1000; i++) {
		ck_assert_ptr_eq(next_turn(), &worker[0]);
		worker[1].piece_ns = 30 * US;
		ck_assert_ptr_eq(next_turn(), &worker[1]);
		worker[1].piece_ns = 0;
	}
	turns_free(&turns);
}
END_TEST

START_TEST(nothing_is_idle_while_there_is_work)
{
	begin(2, (const uint64_t[]){ 50 * US, 0 });
	turns_spent(&turns, worker[0].p, 1000 * MS);
	ck_assert_ptr_eq(next_turn(), &worker[0]);
	turns_free(&turns);
}
END_TEST

/* How much one that comes with much work gets before the other's next turn. */
static uint64_t ahead(void)
{
	const uint64_t before = worker[1].worked_ns;

	worker[1].piece_ns = 10 * US;
	while (next_turn() != &worker[0])
		;
	return worker[1].worked_ns - before;
}

START_TEST(rest_is_not_saved)
{
	begin(2, (const uint64_t[]){ 50 * US, 0 });
	run(100000); /* 5 s */
	ck_assert_uint_le(ahead(), TURNS_SAVED_NS + 50 * US);

	/* Nor while it is not even asked. */
	worker[1].piece_ns = 0;
	turns_leave(&turns, worker[1].p);
	run(100000);
	turns_join(&turns, worker[1].p);
	ck_assert_uint_le(ahead(), TURNS_SAVED_NS + 50 * US);
	turns_free(&turns);
}
END_TEST

/* What was done beside the turns is paid for, and one that came back does not pay for ever. */
START_TEST(work_beside_turns_counts)
{
	begin(2, (const uint64_t[]){ 50 * US, 10 * US });
	turns_spent(&turns, worker[0].p, 1 * MS);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_ptr_eq(next_turn(), &worker[1]);
	ck_assert_uint_eq(worker[0].turns, 0);
	run(2);
	ck_assert_uint_eq(worker[0].turns, 1);

	turns_leave(&turns, worker[0].p);
	for (int i = 0; i < 1000; i++)
		turns_spent(&turns, worker[0].p, 1 * MS);
	turns_join(&turns, worker[0].p);
	for (unsigned i = 0; i < TURNS_SAVED_NS / (10 * US); i++)
		ck_assert_ptr_eq(next_turn(), &worker[1]);
	ck_assert_ptr_eq(next_turn(), &worker[0]);
	turns_free(&turns);
}
END_TEST

/* The one who worked may have left in its turn. */
START_TEST(parties_come_and_go)
{
	begin(PARTIES, (const uint64_t[]){ 1 * US, 2 * US, 3 * US, 4 * US, 5 * US });
	turns_leave(&turns, worker[2].p);
	turns_worked(&turns, worker[2].p, 7 * US);
	run(1000);
	ck_assert_uint_eq(worker[2].turns, 0);
	turns_join(&turns, worker[2].p);
	run(1000);
	for (unsigned i = 0; i < PARTIES; i++)
		ck_assert_uint_gt(worker[i].turns, 0);
	ck_assert_ptr_eq(turns_find(&turns, &worker[2]), worker[2].p);
	ck_assert_ptr_eq(turns_get(&turns, &worker[2]), worker[2].p);
	ck_assert_ptr_null(turns_find(&turns, NULL));
	turns_free(&turns);
}
END_TEST

/* Who nobody uses is there until the turn is over, and not longer. */
START_TEST(parties_that_left_are_forgotten)
{
	static const char keys[1000];
	const void *const shared = &keys[1];
	struct turns_party *p = NULL;

	turns = (struct turns){ 0 };
	for (unsigned i = 0; i < sizeof(keys); i++) {
		p = turns_get(&turns, &keys[i]);
		turns_join(&turns, p);
	}
	ck_assert_ptr_eq(turns_get(&turns, shared), turns_find(&turns, shared));
	for (unsigned i = 0; i < sizeof(keys); i++) {
		turns_leave(&turns, turns_find(&turns, &keys[i]));
		turns_put(&turns, turns_find(&turns, &keys[i]));
	}
	turns_worked(&turns, p, 7 * US);
	/* One comes back in time, and one has another user. */
	ck_assert_ptr_eq(turns_get(&turns, p->key), p);
	turns_forget(&turns);
	ck_assert_uint_eq(HASH_COUNT(turns.parties), 2);
	ck_assert_ptr_eq(turns_find(&turns, p->key), p);
	turns_put(&turns, turns_find(&turns, shared));
	turns_put(&turns, p);
	turns_forget(&turns);
	ck_assert_uint_eq(HASH_COUNT(turns.parties), 0);
	ck_assert_ptr_null(turns_find(&turns, shared));
	turns_free(&turns);
}
END_TEST

int main(void)
{
	return unit_run("turns", large_pieces_get_no_more_time, many_sources_get_no_more_time, little_work_goes_first,
			nothing_is_idle_while_there_is_work, rest_is_not_saved, work_beside_turns_counts, parties_come_and_go,
			parties_that_left_are_forgotten, NULL);
}
