/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/throttle.h"

#define EACH_LEVEL(ts, i, t) \
	for (unsigned i = 0; i < THROTTLE_LEVELS; i++) \
		for (struct throttle *t = (ts)->level[i]; t; t = NULL)

static uint64_t get(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static void add(_Atomic uint64_t *v, uint64_t n)
{
	atomic_fetch_add_explicit(v, n, memory_order_relaxed);
}

static void set(_Atomic uint64_t *v, uint64_t value)
{
	atomic_store_explicit(v, value, memory_order_relaxed);
}

void throttle_init(struct throttle *t)
{
	*t = (struct throttle){ 0 };
	for (unsigned kind = 0; kind < 2; kind++) {
		bucket_init(&t->ops[kind]);
		bucket_init(&t->bytes[kind]);
	}
}

static void set_rate(_Atomic uint64_t *rate, struct bucket *b, uint64_t value)
{
	set(rate, value);
	if (!value)
		bucket_lift(b);
}

void throttle_set(struct throttle *t, const struct rates *rates)
{
	set_rate(&t->ops_rate[THROTTLE_READ], &t->ops[THROTTLE_READ], rates->read_iops);
	set_rate(&t->ops_rate[THROTTLE_WRITE], &t->ops[THROTTLE_WRITE], rates->write_iops);
	set_rate(&t->bytes_rate[THROTTLE_READ], &t->bytes[THROTTLE_READ], rates->read_bytes_per_s);
	set_rate(&t->bytes_rate[THROTTLE_WRITE], &t->bytes[THROTTLE_WRITE], rates->write_bytes_per_s);
}

void throttle_get(struct throttle *t, struct rates *out)
{
	*out = (struct rates){
		.read_iops = get(&t->ops_rate[THROTTLE_READ]),
		.write_iops = get(&t->ops_rate[THROTTLE_WRITE]),
		.read_bytes_per_s = get(&t->bytes_rate[THROTTLE_READ]),
		.write_bytes_per_s = get(&t->bytes_rate[THROTTLE_WRITE]),
	};
}

void throttle_stats(struct throttle *t, struct throttle_stats *out)
{
	*out = (struct throttle_stats){
		.waiting = get(&t->waiting),
		.delayed_ops = get(&t->delayed_ops),
		.delayed_ns = get(&t->delayed_ns),
	};
	for (unsigned level = 0; level < THROTTLE_LEVELS; level++)
		for (unsigned limit = 0; limit < THROTTLE_LIMITS; limit++)
			out->held[level][limit] = (struct throttle_held){ .ops = get(&t->held[level][limit].ops),
									  .ns = get(&t->held[level][limit].ns) };
}

bool throttles_limit(const struct throttles *ts, enum throttle_kind kind)
{
	if (kind == THROTTLE_NONE)
		return false;
	EACH_LEVEL(ts, i, t) {
		if (get(&t->ops_rate[kind]) || get(&t->bytes_rate[kind]))
			return true;
	}
	return false;
}

/* And of which limit that is: of the first of those that are equal. */
static uint64_t longest_wait(const struct throttles *ts, const struct throttle_claim *c, uint64_t now_ns, uint8_t *level, uint8_t *limit)
{
	uint64_t longest = 0, wait;

	*level = *limit = 0;
	EACH_LEVEL(ts, i, t) {
		const uint64_t ops_rate = get(&t->ops_rate[c->kind]), bytes_rate = get(&t->bytes_rate[c->kind]);

		/* A limit that was taken away holds nobody. */
		wait = ops_rate && (c->ops_taken & 1u << i) ? bucket_wait_ns(&t->ops[c->kind], ops_rate, c->ops_place[i], now_ns) : 0;
		if (wait > longest) {
			longest = wait;
			*level = (uint8_t)i;
			*limit = c->kind == THROTTLE_READ ? THROTTLE_READ_IOPS : THROTTLE_WRITE_IOPS;
		}
		wait = bytes_rate && (c->bytes_taken & 1u << i) ?
			       bucket_wait_ns(&t->bytes[c->kind], bytes_rate, c->bytes_place[i], now_ns) :
			       0;
		if (wait > longest) {
			longest = wait;
			*level = (uint8_t)i;
			*limit = c->kind == THROTTLE_READ ? THROTTLE_READ_BPS : THROTTLE_WRITE_BPS;
		}
	}
	return longest;
}

uint64_t throttles_claim(const struct throttles *ts, enum throttle_kind kind, uint64_t bytes, uint64_t now_ns, struct throttle_claim *c)
{
	*c = (struct throttle_claim){ .bytes = bytes, .since_ns = now_ns, .kind = (uint8_t)kind };
	EACH_LEVEL(ts, i, t) {
		const uint64_t ops_rate = get(&t->ops_rate[kind]), bytes_rate = bytes ? get(&t->bytes_rate[kind]) : 0;

		if (ops_rate) {
			c->ops_place[i] = bucket_reserve(&t->ops[kind], ops_rate, 1, now_ns);
			c->ops_taken |= (uint8_t)(1u << i);
		}
		if (bytes_rate) {
			c->bytes_place[i] = bucket_reserve(&t->bytes[kind], bytes_rate, bytes, now_ns);
			c->bytes_taken |= (uint8_t)(1u << i);
		}
	}
	return longest_wait(ts, c, now_ns, &c->held_level, &c->held_limit);
}

uint64_t throttles_wait_ns(const struct throttles *ts, const struct throttle_claim *c, uint64_t now_ns)
{
	uint8_t level, limit;

	return longest_wait(ts, c, now_ns, &level, &limit);
}

void throttles_cancel(const struct throttles *ts, const struct throttle_claim *c)
{
	EACH_LEVEL(ts, i, t) {
		if (c->ops_taken & 1u << i)
			bucket_cancel(&t->ops[c->kind], 1);
		if (c->bytes_taken & 1u << i)
			bucket_cancel(&t->bytes[c->kind], c->bytes);
	}
}

void throttles_hold(const struct throttles *ts)
{
	EACH_LEVEL(ts, i, t)
		add(&t->waiting, 1);
}

void throttles_abandon(const struct throttles *ts)
{
	EACH_LEVEL(ts, i, t)
		add(&t->waiting, (uint64_t)-1);
}

void throttles_release(const struct throttles *ts, const struct throttle_claim *c, uint64_t now_ns)
{
	const uint64_t waited = now_ns > c->since_ns ? now_ns - c->since_ns : 0;

	throttles_abandon(ts);
	EACH_LEVEL(ts, i, t) {
		add(&t->delayed_ops, 1);
		add(&t->delayed_ns, waited);
		add(&t->held[c->held_level][c->held_limit].ops, 1);
		add(&t->held[c->held_level][c->held_limit].ns, waited);
	}
}
