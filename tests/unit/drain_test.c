/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <stdlib.h>

#include "fs/drain.h"
#include "tests/unit/unit.h"

/* When all that was queued for a session has been answered. */

struct waiter {
	struct session_drain drain; /* first */
	int done;                   /* 0, 1 drained, -1 cancelled */
};

static void on_done(struct session_drain *d, bool drained)
{
	((struct waiter *)d)->done = drained ? 1 : -1;
}

#define WAITER { .drain.done = on_done }

START_TEST(nothing_in_hand_is_all_answered)
{
	struct drains drains = { .read = 7 };
	struct waiter w = WAITER;

	drain_start(&drains, &w.drain);
	ck_assert_int_eq(w.done, 0);
	drain_idle(&drains, 0);
	ck_assert_int_eq(w.done, 1);
	ck_assert_ptr_null(drains.list);
}
END_TEST

START_TEST(waits_for_what_was_read_before_twice)
{
	struct drains drains = { .read = 10 };
	struct waiter w = WAITER;

	drain_start(&drains, &w.drain);
	/* What is answered before the queue was seen empty counts nothing. */
	ck_assert(!drain_answered(&drains, 8));
	drain_idle(&drains, 2);
	drains.read = 12;
	ck_assert(!drain_answered(&drains, 11)); /* read later */
	ck_assert(!drain_answered(&drains, 9));
	ck_assert(drain_answered(&drains, 10));
	ck_assert(!drain_answered(&drains, 12));
	ck_assert_int_eq(w.done, 0);
	drains.read = 14;
	drain_idle(&drains, 1);
	drain_idle(&drains, 5); /* it has its mark */
	ck_assert(!drain_answered(&drains, 14));
	ck_assert_int_eq(w.done, 1);
}
END_TEST

START_TEST(several_wait_on_their_own)
{
	struct drains drains = { .read = 3 };
	struct waiter first = WAITER, second = WAITER;

	drain_start(&drains, &first.drain);
	drain_idle(&drains, 1);
	drain_start(&drains, &second.drain);
	ck_assert(drain_answered(&drains, 3));
	drains.read = 4;
	drain_idle(&drains, 1);
	ck_assert(drain_answered(&drains, 4));
	ck_assert_int_eq(first.done, 1);
	ck_assert_int_eq(second.done, 0);
	drain_cancel_all(&drains);
	ck_assert_int_eq(second.done, -1);
	ck_assert_ptr_null(drains.list);
}
END_TEST

int main(void)
{
	return unit_run("drain", nothing_in_hand_is_all_answered, waits_for_what_was_read_before_twice, several_wait_on_their_own, NULL);
}
