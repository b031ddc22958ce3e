/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Timers are a pairing heap (Fredman, Sedgewick, Sleator, Tarjan, 1986) that
 * lives in the timers themselves: adding never allocates, cancelling is cheap,
 * and most timers of a filesystem are cancelled or re-armed. prev is the parent
 * for a first child and the left sibling for the others; a root has none.
 */

#include "io/reactor_ring.h"

static struct reactor_timer *heap_merge(struct reactor_timer *a, struct reactor_timer *b)
{
	struct reactor_timer *swap = a;

	if (!a || !b)
		return a ? a : b;
	if (b->deadline_ns < a->deadline_ns) {
		a = b;
		b = swap;
	}
	b->prev = a;
	b->sibling = a->child;
	if (a->child)
		a->child->prev = b;
	a->child = b;
	a->prev = a->sibling = NULL;
	return a;
}

/* One heap out of a list of siblings: in pairs from the left, then from the right. */
static struct reactor_timer *heap_merge_list(struct reactor_timer *first)
{
	struct reactor_timer *pairs = NULL, *heap = NULL;

	while (first) {
		struct reactor_timer *a = first, *b = a->sibling;

		first = b ? b->sibling : NULL;
		a->prev = a->sibling = NULL;
		if (b)
			b->prev = b->sibling = NULL;
		a = heap_merge(a, b);
		a->sibling = pairs;
		pairs = a;
	}
	while (pairs) {
		struct reactor_timer *next = pairs->sibling;

		pairs->sibling = NULL;
		heap = heap_merge(heap, pairs);
		pairs = next;
	}
	return heap;
}

static void heap_remove(struct reactor *r, struct reactor_timer *t)
{
	struct reactor_timer *below = heap_merge_list(t->child);

	if (r->timers == t) {
		r->timers = below;
	} else {
		if (t->prev->child == t)
			t->prev->child = t->sibling;
		else
			t->prev->sibling = t->sibling;
		if (t->sibling)
			t->sibling->prev = t->prev;
		r->timers = heap_merge(r->timers, below);
	}
	t->child = t->sibling = t->prev = NULL;
	t->armed = false;
}

void reactor_timer_add(struct reactor *r, struct reactor_timer *t, uint64_t deadline_ns)
{
	ASSERT_ON_REACTOR(r);
	if (t->armed)
		heap_remove(r, t);
	/* The timer phase runs everything up to now_ns, and must come to an end. */
	if (r->firing && deadline_ns <= r->now_ns)
		deadline_ns = r->now_ns + 1;
	t->deadline_ns = deadline_ns;
	t->child = t->sibling = t->prev = NULL;
	t->armed = true;
	r->timers = heap_merge(r->timers, t);
}

void reactor_timer_cancel(struct reactor *r, struct reactor_timer *t)
{
	ASSERT_ON_REACTOR(r);
	if (t->armed)
		heap_remove(r, t);
}

uint64_t reactor_next_deadline(const struct reactor *r)
{
	return r->timers ? r->timers->deadline_ns : REACTOR_NEVER_NS;
}

bool reactor_run_timers(struct reactor *r)
{
	bool any = false;

	r->firing = true;
	while (r->timers && r->timers->deadline_ns <= r->now_ns) {
		struct reactor_timer *t = r->timers;

		heap_remove(r, t);
		t->fn(r, t);
		any = true;
	}
	r->firing = false;
	return any;
}
