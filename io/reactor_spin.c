/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Going to sleep and being woken costs tens of microseconds of latency, more
 * than many a request. So a reactor without work looks around for a while
 * before it sleeps, as long as that pays (as KVM's halt polling does):
 *
 *   - when work came within spin_max of going idle, the next spin is twice as
 *     long, from 10 us up to spin_max; when it came later, half as long. An
 *     idle reactor is down to zero after a few timer ticks.
 *   - spinning in vain may use an eighth of the time, with a burst of 2 ms: a
 *     load whose pauses are just too long cannot burn a core.
 *
 * Spinning that finds work is free of charge: it is the load's own latency.
 */

#include "io/reactor_ring.h"

#define SPIN_START_NS 10000u
#define SPIN_SHARE 8u
#define SPIN_CREDIT_MAX_NS 2000000u

uint64_t reactor_spin_budget(struct reactor_spin *s, uint64_t now_ns)
{
	s->credit_ns += (now_ns - s->credit_at_ns) / SPIN_SHARE;
	if (s->credit_ns > SPIN_CREDIT_MAX_NS)
		s->credit_ns = SPIN_CREDIT_MAX_NS;
	s->credit_at_ns = now_ns;
	return s->credit_ns >= s->now_ns ? s->now_ns : 0;
}

void reactor_spin_missed(struct reactor_spin *s, uint64_t spent_ns)
{
	s->credit_ns -= spent_ns < s->credit_ns ? spent_ns : s->credit_ns;
}

void reactor_spin_woken(struct reactor_spin *s, uint64_t idle_ns)
{
	if (idle_ns > s->max_ns)
		s->now_ns = s->now_ns / 2 < SPIN_START_NS ? 0 : s->now_ns / 2;
	else if (!s->now_ns)
		s->now_ns = s->max_ns < SPIN_START_NS ? s->max_ns : SPIN_START_NS;
	else
		s->now_ns = s->now_ns > s->max_ns / 2 ? s->max_ns : s->now_ns * 2;
}
