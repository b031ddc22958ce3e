/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/bucket.h"
#include "io/cleanup.h"

#define SECOND UINT64_C(1000000000)

__extension__ typedef unsigned __int128 u128;

static uint64_t burst(uint64_t rate)
{
	return rate >= 20 ? rate / 10 : 1;
}

static void issue(struct bucket *b, uint64_t now_ns)
{
	const u128 cap = (u128)b->reserved + burst(b->rate);
	u128 fresh, issued;

	if (now_ns <= b->at_ns) /* reactors' clocks are those of their iterations */
		return;
	fresh = (u128)(now_ns - b->at_ns) * b->rate + b->rest;
	issued = b->issued + fresh / SECOND;
	b->issued = (uint64_t)(issued < cap ? issued : cap);
	b->rest = issued < cap ? (uint64_t)(fresh % SECOND) : 0;
	b->at_ns = now_ns;
}

static void limit(struct bucket *b)
{
	if (b->issued > b->reserved + burst(b->rate))
		b->issued = b->reserved + burst(b->rate);
}

/* The state at this moment and rate. */
static void advance(struct bucket *b, uint64_t rate, uint64_t now_ns)
{
	if (b->rate) {
		issue(b, now_ns);
	} else {
		b->issued = b->reserved + burst(rate);
		b->at_ns = now_ns;
	}
	b->rate = rate;
	limit(b);
}

void bucket_init(struct bucket *b)
{
	*b = (struct bucket){ .lock = PTHREAD_MUTEX_INITIALIZER };
}

uint64_t bucket_reserve(struct bucket *b, uint64_t rate, uint64_t n, uint64_t now_ns)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&b->lock);
	uint64_t place;

	advance(b, rate, now_ns);
	place = b->reserved;
	b->reserved += n;
	return place;
}

uint64_t bucket_wait_ns(struct bucket *b, uint64_t rate, uint64_t place, uint64_t now_ns)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&b->lock);
	u128 missing;

	advance(b, rate, now_ns);
	if (b->issued > place)
		return 0;
	missing = (u128)(place + 1 - b->issued) * SECOND - b->rest;
	missing = (missing + rate - 1) / rate + (b->at_ns > now_ns ? b->at_ns - now_ns : 0);
	return missing < UINT64_MAX ? (uint64_t)missing : UINT64_MAX;
}

void bucket_lift(struct bucket *b)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&b->lock);

	b->rate = 0;
	b->rest = 0;
}

void bucket_cancel(struct bucket *b, uint64_t n)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&b->lock);

	/* Places stay what they are: what was meant for this one is there for the others. */
	b->issued += n;
	limit(b);
}
