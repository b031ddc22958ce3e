/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Going to sleep and being woken costs tens of microseconds of latency, more
 * than many a request. So a thread without work looks around for a while
 * before it sleeps, as long as that pays (as KVM's halt polling does):
 *
 *   - when work came within spin_max of going idle, the next spin is twice as
 *     long, from 10 us up to spin_max; when it came later, half as long. An
 *     idle thread is down to zero after a few timer ticks.
 *   - that rule alone is fooled by a load whose pauses are mostly just too
 *     long. So spinning in vain is paid for from a credit: a 32nd of the time
 *     that passes, and four times what was spent on each spin that found
 *     work, 2 ms at most. Where spinning never finds anything it costs 3 %.
 */

#include "io/spin.h"

#define SPIN_START_NS 10000u
#define SPIN_SHARE 32u
#define SPIN_REWARD 4u
#define SPIN_CREDIT_MAX_NS 2000000u

void spin_init(struct spin *s, uint64_t max_ns, uint64_t now_ns)
{
	*s = (struct spin){ .max_ns = max_ns, .credit_at_ns = now_ns };
}

static void spin_earn(struct spin *s, uint64_t ns)
{
	s->credit_ns += ns;
	if (s->credit_ns > SPIN_CREDIT_MAX_NS)
		s->credit_ns = SPIN_CREDIT_MAX_NS;
}

uint64_t spin_budget(struct spin *s, uint64_t now_ns)
{
	spin_earn(s, (now_ns - s->credit_at_ns) / SPIN_SHARE);
	s->credit_at_ns = now_ns;
	return s->credit_ns >= s->now_ns ? s->now_ns : 0;
}

void spin_missed(struct spin *s, uint64_t spent_ns)
{
	s->credit_ns -= spent_ns < s->credit_ns ? spent_ns : s->credit_ns;
}

void spin_hit(struct spin *s, uint64_t spent_ns)
{
	spin_earn(s, spent_ns * SPIN_REWARD);
}

void spin_woken(struct spin *s, uint64_t idle_ns)
{
	if (idle_ns > s->max_ns)
		s->now_ns = s->now_ns / 2 < SPIN_START_NS ? 0 : s->now_ns / 2;
	else if (!s->now_ns)
		s->now_ns = s->max_ns < SPIN_START_NS ? s->max_ns : SPIN_START_NS;
	else
		s->now_ns = s->now_ns > s->max_ns / 2 ? s->max_ns : s->now_ns * 2;
}
