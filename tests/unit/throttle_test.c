/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Buckets and throttles under a clock of our own: what goes when, to the nanosecond. */
#include "config.h"

#include <pthread.h>
#include <string.h>

#include "io/throttle.h"
#include "tests/unit/unit.h"

#define MS UINT64_C(1000000)
#define SEC (1000 * MS)
#define T0 (77 * SEC + 13)
#define MIB (UINT64_C(1) << 20)

/* Reserve at `now` and go when due: the moment. */
static uint64_t go(struct bucket *b, uint64_t rate, uint64_t n, uint64_t now)
{
	uint64_t place = bucket_reserve(b, rate, n, now), wait = bucket_wait_ns(b, rate, place, now);

	if (!wait)
		return now;
	if (wait > 1)
		ck_assert_uint_gt(bucket_wait_ns(b, rate, place, now + wait - 1), 0);
	ck_assert_uint_eq(bucket_wait_ns(b, rate, place, now + wait), 0);
	return now + wait;
}

/* Who always has the next request ready gets this many through in 10 s. */
static uint64_t gone_in_10_s(uint64_t rate, uint64_t n)
{
	struct bucket b;
	uint64_t now = T0, count = 0;

	bucket_init(&b);
	while ((now = go(&b, rate, n, now)) < T0 + 10 * SEC)
		count++;
	return count;
}

START_TEST(burst_is_a_tenth_of_a_second)
{
	struct bucket b;
	uint64_t now = T0;

	bucket_init(&b);
	for (int i = 0; i < 100; i++)
		ck_assert_uint_eq(go(&b, 1000, 1, T0), T0);
	for (unsigned i = 1; i <= 50; i++) {
		now = go(&b, 1000, 1, now);
		ck_assert_uint_eq(now, T0 + i * MS);
	}
	/* After any rest it is no more than that again. */
	now += 3600 * SEC;
	for (int i = 0; i < 100; i++)
		ck_assert_uint_eq(go(&b, 1000, 1, now), now);
	ck_assert_uint_eq(go(&b, 1000, 1, now), now + MS);
}
END_TEST

START_TEST(low_rates_go_one_at_a_time)
{
	struct bucket b;

	bucket_init(&b);
	ck_assert_uint_eq(go(&b, 1, 1, T0), T0);
	ck_assert_uint_eq(go(&b, 1, 1, T0), T0 + SEC);
	ck_assert_uint_eq(go(&b, 1, 1, T0 + SEC), T0 + 2 * SEC);
	ck_assert_uint_eq(go(&b, 1, 1, T0 + 100 * SEC), T0 + 100 * SEC);
	ck_assert_uint_eq(go(&b, 1, 1, T0 + 100 * SEC), T0 + 101 * SEC);
}
END_TEST

START_TEST(large_ones_go_into_debt)
{
	struct bucket b;

	bucket_init(&b);
	ck_assert_uint_eq(go(&b, 1000000, 1000000, T0), T0);
	/* 100,000 were there: the other 900,000 are paid for first, then one more byte. */
	ck_assert_uint_eq(go(&b, 1000000, 10, T0), T0 + 900 * MS + 1000);
	ck_assert_uint_eq(go(&b, 1000000, 10, T0 + 900 * MS + 1000), T0 + 900 * MS + 11000);
}
END_TEST

START_TEST(rates_are_exact_over_10_s)
{
	/* 10 s and the burst, and what goes at its very end. */
	ck_assert_uint_eq(gone_in_10_s(1000, 1), 10099);
	ck_assert_uint_eq(gone_in_10_s(7, 1), 70);
	ck_assert_uint_eq(gone_in_10_s(10000019, 4096), (10000019 * 101 / 10 + 4095) / 4096);
	ck_assert_uint_eq(gone_in_10_s(10 * MIB, MIB), 101);
	ck_assert_uint_eq(gone_in_10_s(333333333, MIB), (UINT64_C(333333333) * 101 / 10 + MIB - 1) / MIB);
}
END_TEST

/* Rounding neither gives nor takes anything, however often it is looked at. */
START_TEST(looking_costs_nothing)
{
	struct bucket b;
	uint64_t place;

	bucket_init(&b);
	bucket_reserve(&b, 3, 300, T0);
	place = bucket_reserve(&b, 3, 1, T0);
	for (uint64_t now = T0; now < T0 + 99 * SEC; now += 7777777)
		ck_assert_uint_gt(bucket_wait_ns(&b, 3, place, now), 0);
	/* Unit 301 of 3 a second, of which one was there. */
	ck_assert_uint_eq(bucket_wait_ns(&b, 3, place, T0 + 99 * SEC), SEC);
	ck_assert_uint_eq(bucket_wait_ns(&b, 3, place, T0 + 100 * SEC - 1), 1);
	ck_assert_uint_eq(bucket_wait_ns(&b, 3, place, T0 + 100 * SEC), 0);
}
END_TEST

START_TEST(places_are_kept)
{
	struct bucket b;
	uint64_t place[10];

	bucket_init(&b);
	for (int i = 0; i < 10; i++)
		place[i] = bucket_reserve(&b, 10, 1, T0);
	/* The one that came last looks first, and gets nothing that is another's. */
	for (int i = 10; i-- > 0;)
		ck_assert_uint_eq(bucket_wait_ns(&b, 10, place[i], T0), (uint64_t)i * 100 * MS);
}
END_TEST

START_TEST(a_new_rate_is_for_those_who_wait)
{
	struct bucket b;
	uint64_t place;

	bucket_init(&b);
	bucket_reserve(&b, 1, 1000001, T0);
	place = bucket_reserve(&b, 1, 1, T0);
	ck_assert_uint_eq(bucket_wait_ns(&b, 1, place, T0), 1000001 * SEC);
	/* One second at the old rate has given one unit. */
	ck_assert_uint_eq(bucket_wait_ns(&b, 1000, place, T0 + SEC), 1000 * SEC);
	ck_assert_uint_eq(bucket_wait_ns(&b, 500, place, T0 + 2 * SEC), 1998 * SEC);
}
END_TEST

START_TEST(a_lower_rate_takes_its_burst_along)
{
	struct bucket b;

	bucket_init(&b);
	ck_assert_uint_eq(go(&b, 1000, 1, T0), T0);
	ck_assert_uint_eq(go(&b, 10, 1, T0), T0);
	ck_assert_uint_eq(go(&b, 10, 1, T0), T0 + 100 * MS);
}
END_TEST

START_TEST(what_is_cancelled_is_there_for_others)
{
	struct bucket b;
	uint64_t large, small;

	bucket_init(&b);
	bucket_reserve(&b, 1000, 100, T0);
	large = bucket_reserve(&b, 1000, 1000000, T0);
	small = bucket_reserve(&b, 1000, 1, T0);
	ck_assert_uint_eq(bucket_wait_ns(&b, 1000, large, T0), MS);
	ck_assert_uint_eq(bucket_wait_ns(&b, 1000, small, T0), 1000001 * MS);
	bucket_cancel(&b, 1000000);
	ck_assert_uint_eq(bucket_wait_ns(&b, 1000, small, T0), MS);
	ck_assert_uint_eq(bucket_wait_ns(&b, 1000, small, T0 + MS), 0);
}
END_TEST

/* Clocks of two reactors differ by a little. */
START_TEST(time_may_step_back)
{
	struct bucket b;

	bucket_init(&b);
	ck_assert_uint_eq(go(&b, 10, 1, T0), T0);
	ck_assert_uint_eq(go(&b, 10, 1, T0 - MS), T0 + 100 * MS);
	ck_assert_uint_eq(go(&b, 10, 1, T0 - MS), T0 + 200 * MS);
}
END_TEST

START_TEST(numbers_do_not_overflow)
{
	struct bucket b;

	bucket_init(&b);
	ck_assert_uint_eq(go(&b, RATE_MAX, MIB, T0), T0);
	ck_assert_uint_eq(go(&b, RATE_MAX, MIB, UINT64_MAX / 2), UINT64_MAX / 2);
	ck_assert_uint_eq(go(&b, RATE_MAX, RATE_MAX, UINT64_MAX / 2), UINT64_MAX / 2);
	bucket_init(&b);
	bucket_reserve(&b, 1, UINT64_C(1) << 60, T0);
	ck_assert_uint_eq(bucket_wait_ns(&b, 1, bucket_reserve(&b, 1, 1, T0), T0), UINT64_MAX);
}
END_TEST

/* ---- Several limits at once ---- */

static struct throttle subvolume, tenant;
static const struct throttles both = { { &subvolume, &tenant } };

static void limits(struct rates of_subvolume, struct rates of_tenant)
{
	throttle_init(&subvolume);
	throttle_init(&tenant);
	throttle_set(&subvolume, &of_subvolume);
	throttle_set(&tenant, &of_tenant);
}

static uint64_t claim(const struct throttles *ts, enum throttle_kind kind, uint64_t bytes)
{
	struct throttle_claim c;

	return throttles_claim(ts, kind, bytes, T0, &c);
}

START_TEST(without_limits_nothing_waits)
{
	limits((struct rates){ 0 }, (struct rates){ 0 });
	ck_assert(!throttles_limit(&both, THROTTLE_READ));
	ck_assert(!throttles_limit(&both, THROTTLE_NONE));
	ck_assert(!throttles_limit(&(struct throttles){ 0 }, THROTTLE_WRITE));
	for (int i = 0; i < 1000; i++)
		ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, MIB), 0);
}
END_TEST

START_TEST(each_limit_is_its_own)
{
	limits((struct rates){ .read_iops = 1 }, (struct rates){ .write_bytes_per_s = 1 });
	ck_assert(throttles_limit(&both, THROTTLE_READ));
	ck_assert(throttles_limit(&both, THROTTLE_WRITE));
	ck_assert_uint_eq(claim(&both, THROTTLE_READ, 4096), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_READ, 4096), SEC);
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 100), 0);
	/* Without bytes, bytes are no matter. */
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 0), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 1), 100 * SEC);
	limits((struct rates){ .write_iops = 1 }, (struct rates){ .read_bytes_per_s = 1 });
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 1), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 1), SEC);
	ck_assert_uint_eq(claim(&both, THROTTLE_READ, 7), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_READ, 7), 7 * SEC);
}
END_TEST

START_TEST(the_strictest_decides)
{
	limits((struct rates){ .write_iops = 10, .write_bytes_per_s = 1000 },
	       (struct rates){ .write_iops = 5, .write_bytes_per_s = 4000 });
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 100), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 4001), 200 * MS); /* the tenant's operations */
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 1), 4002 * MS);   /* the subvolume's bytes */
}
END_TEST

START_TEST(a_tenant_is_shared)
{
	struct throttle other;
	struct throttles others = { { &other, &tenant } };

	throttle_init(&other);
	limits((struct rates){ 0 }, (struct rates){ .read_iops = 2 });
	ck_assert_uint_eq(claim(&both, THROTTLE_READ, 0), 0);
	ck_assert_uint_eq(claim(&others, THROTTLE_READ, 0), 500 * MS);
	ck_assert_uint_eq(claim(&both, THROTTLE_READ, 0), 1000 * MS);
	ck_assert_uint_eq(claim(&others, THROTTLE_READ, 0), 1500 * MS);
}
END_TEST

START_TEST(a_limit_taken_away_holds_nobody)
{
	struct throttle_claim c;

	limits((struct rates){ .write_iops = 1, .write_bytes_per_s = 1 }, (struct rates){ 0 });
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, MIB), 0);
	ck_assert_uint_eq(throttles_claim(&both, THROTTLE_WRITE, 1, T0, &c), MIB * SEC);
	throttle_set(&subvolume, &(struct rates){ .write_iops = 1 });
	ck_assert_uint_eq(throttles_wait_ns(&both, &c, T0), SEC);
	throttle_set(&subvolume, &(struct rates){ 0 });
	ck_assert_uint_eq(throttles_wait_ns(&both, &c, T0), 0);
	/* Nor does it when it comes back. */
	throttle_set(&subvolume, &(struct rates){ .write_iops = 1, .write_bytes_per_s = 1 });
	ck_assert_uint_eq(throttles_wait_ns(&both, &c, T0), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 5), 0);
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 1), 5 * SEC);
}
END_TEST

START_TEST(a_cancelled_claim_is_out_of_all)
{
	struct throttle_claim c, next;

	limits((struct rates){ .write_iops = 1 }, (struct rates){ .write_bytes_per_s = 1 });
	ck_assert_uint_eq(claim(&both, THROTTLE_WRITE, 1), 0);
	ck_assert_uint_eq(throttles_claim(&both, THROTTLE_WRITE, 1000, T0, &c), SEC);
	ck_assert_uint_eq(throttles_claim(&both, THROTTLE_WRITE, 1, T0, &next), 1001 * SEC);
	throttles_cancel(&both, &c);
	ck_assert_uint_eq(throttles_wait_ns(&both, &next, T0), SEC);
}
END_TEST

START_TEST(waits_are_counted)
{
	struct throttle_claim c;
	struct throttle_stats s;

	limits((struct rates){ .write_iops = 1 }, (struct rates){ 0 });
	throttles_claim(&both, THROTTLE_WRITE, 0, T0, &c);
	throttles_hold(&both);
	throttle_stats(&tenant, &s);
	ck_assert_uint_eq(s.waiting, 1);
	ck_assert_uint_eq(s.delayed_ops, 0);
	throttles_release(&both, &c, T0 + 5 * MS);
	for (unsigned i = 0; i < THROTTLE_LEVELS; i++) {
		throttle_stats(both.level[i], &s);
		ck_assert_uint_eq(s.waiting, 0);
		ck_assert_uint_eq(s.delayed_ops, 1);
		ck_assert_uint_eq(s.delayed_ns, 5 * MS);
	}
}
END_TEST

/* For the limit that lets it go last, in both throttles. */
START_TEST(waits_are_counted_by_limit)
{
	static const struct {
		struct rates rates[THROTTLE_LEVELS];
		enum throttle_kind kind;
		unsigned level, limit;
	} cases[] = {
		{ { { .read_iops = 1, .read_bytes_per_s = 100 }, { .read_iops = 2 } }, THROTTLE_READ, 0, THROTTLE_READ_BPS },
		{ { { .read_iops = 1, .read_bytes_per_s = 1000000 }, { .read_iops = 2 } }, THROTTLE_READ, 0, THROTTLE_READ_IOPS },
		{ { { .write_iops = 5 }, { .write_iops = 2 } }, THROTTLE_WRITE, 1, THROTTLE_WRITE_IOPS },
		{ { { .write_iops = 5, .read_iops = 1 }, { .write_bytes_per_s = 10 } }, THROTTLE_WRITE, 1, THROTTLE_WRITE_BPS },
	};
	struct throttle_claim c;
	struct throttle_stats s;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		throttle_init(&subvolume);
		throttle_init(&tenant);
		limits(cases[i].rates[0], cases[i].rates[1]);
		throttles_claim(&both, cases[i].kind, 1000, T0, &c);
		ck_assert_uint_gt(throttles_claim(&both, cases[i].kind, 1000, T0, &c), 0);
		throttles_hold(&both);
		throttles_release(&both, &c, T0 + 7 * MS);
		for (unsigned l = 0; l < THROTTLE_LEVELS * THROTTLE_LIMITS; l++) {
			const bool it = l == cases[i].level * THROTTLE_LIMITS + cases[i].limit;

			for (unsigned t = 0; t < THROTTLE_LEVELS; t++) {
				throttle_stats(both.level[t], &s);
				ck_assert_uint_eq(s.held[l / THROTTLE_LIMITS][l % THROTTLE_LIMITS].ops, it);
				ck_assert_uint_eq(s.held[l / THROTTLE_LIMITS][l % THROTTLE_LIMITS].ns, it ? 7 * MS : 0);
			}
		}
	}
}
END_TEST

/* Threads that share a bucket get different places, without a gap. */
#define THREADS 4u
#define EACH 20000u
static struct bucket shared;
static uint8_t taken[THREADS * EACH];

static void *reserve_many(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < EACH; i++)
		taken[bucket_reserve(&shared, 1000, 1, T0 + i)]++;
	return NULL;
}

START_TEST(threads_share_a_bucket)
{
	pthread_t thread[THREADS];

	bucket_init(&shared);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, reserve_many, NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	for (unsigned i = 0; i < THREADS * EACH; i++)
		ck_assert_uint_eq(taken[i], 1);
}
END_TEST

int main(void)
{
	return unit_run("throttle", burst_is_a_tenth_of_a_second, low_rates_go_one_at_a_time, large_ones_go_into_debt,
			rates_are_exact_over_10_s, looking_costs_nothing, places_are_kept, a_new_rate_is_for_those_who_wait,
			a_lower_rate_takes_its_burst_along, what_is_cancelled_is_there_for_others, time_may_step_back,
			numbers_do_not_overflow, without_limits_nothing_waits, each_limit_is_its_own, the_strictest_decides,
			a_tenant_is_shared, a_limit_taken_away_holds_nobody, a_cancelled_claim_is_out_of_all, waits_are_counted,
			waits_are_counted_by_limit, threads_share_a_bucket, NULL);
}
