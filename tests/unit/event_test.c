/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "meta/event.h"
#include "tests/unit/unit.h"

static const struct event_about plain = { .kind = EVENT_SUBVOLUME_CREATED, .subvolume = "web" };

START_TEST(events_are_numbered_from_1)
{
	struct events *e = events_create();
	struct event event;

	ck_assert(!event_next(e, 0, &event));
	ck_assert_uint_eq(events_last(e), 0);
	ck_assert_int_gt(events_opening(e), 0);
	event_add(e, &plain, "one");
	event_add(e, &(struct event_about){ .kind = EVENT_CHECKSUM_ERROR, .severity = EVENT_ERROR, .tenant = "t", .inode = 7, .offset = 4096 },
		  "two\n\033[2J %d", 2);
	ck_assert(event_next(e, 0, &event));
	ck_assert_uint_eq(event.number, 1);
	ck_assert_str_eq(event.text, "one");
	ck_assert_str_eq(event.subvolume, "web");
	ck_assert_str_eq(event.tenant, "");
	ck_assert_int_gt(event.time_ns, 0);
	ck_assert(event_next(e, 1, &event));
	ck_assert_uint_eq(event.number, 2);
	ck_assert_str_eq(event.text, "two\\x0a\\x1b[2J 2");
	ck_assert_uint_eq(event.inode, 7);
	ck_assert_uint_eq(event.offset, 4096);
	ck_assert_str_eq(event_kind_name(event.kind), "checksum-error");
	ck_assert_str_eq(event_severity_name(event.severity), "error");
	ck_assert(!event_next(e, 2, &event));
	events_destroy(e);
}
END_TEST

START_TEST(the_newest_are_kept)
{
	struct events *e = events_create();
	struct event event;

	for (unsigned i = 1; i <= EVENTS_KEPT + 5; i++)
		event_add(e, &plain, "event %u", i);
	ck_assert(event_next(e, 0, &event));
	ck_assert_uint_eq(event.number, 6);
	ck_assert_str_eq(event.text, "event 6");
	ck_assert(event_next(e, EVENTS_KEPT + 4, &event));
	ck_assert_uint_eq(event.number, EVENTS_KEPT + 5);
	ck_assert(!event_next(e, EVENTS_KEPT + 5, &event));
	ck_assert(!event_next(e, UINT64_MAX, &event));
	events_destroy(e);
}
END_TEST

/* Of a kind and a key one; others are not held back by it. */
START_TEST(what_repeats_is_said_once)
{
	struct event_about about = { .kind = EVENT_QUOTA_REACHED, .limited = true, .limit_key = 1 };
	struct events *e = events_create();

	for (unsigned i = 0; i < 100; i++)
		event_add(e, &about, "full");
	ck_assert_uint_eq(events_last(e), 1);
	about.limit_key = 2;
	event_add(e, &about, "full");
	ck_assert_uint_eq(events_last(e), 2);
	about.kind = EVENT_THROTTLED;
	event_add(e, &about, "slow");
	ck_assert_uint_eq(events_last(e), 3);
	about.limited = false;
	event_add(e, &about, "slow");
	event_add(e, &about, "slow");
	ck_assert_uint_eq(events_last(e), 5);
	events_destroy(e);
}
END_TEST

START_TEST(who_follows_is_woken)
{
	const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct events *e = events_create();
	uint64_t n;

	ck_assert_int_eq(events_follow(e, fd), 0);
	event_add(e, &plain, "one");
	event_add(e, &plain, "two");
	ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
	ck_assert_uint_eq(n, 2);
	/* One that never reads its counter keeps nobody from going on. */
	n = UINT64_MAX - 1;
	ck_assert_int_eq(write(fd, &n, sizeof(n)), sizeof(n));
	event_add(e, &plain, "three");
	ck_assert_uint_eq(events_last(e), 3);
	events_unfollow(e, fd);
	ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
	event_add(e, &plain, "four");
	ck_assert_int_eq(read(fd, &n, sizeof(n)), -1);
	ck_assert_int_eq(errno, EAGAIN);
	for (unsigned i = 0; i < EVENT_FOLLOWERS_MAX; i++)
		ck_assert_int_eq(events_follow(e, fd), 0);
	ck_assert_int_eq(events_follow(e, fd), -EBUSY);
	events_unfollow(e, fd);
	ck_assert_int_eq(events_follow(e, fd), 0);
	events_destroy(e);
	close(fd);
}
END_TEST

#define THREADS 4u
#define EACH 2000u

static void *add_many(void *arg)
{
	const struct event_about limited = { .kind = EVENT_QUOTA_REACHED, .limited = true, .limit_key = 9 };

	for (unsigned i = 0; i < EACH; i++) {
		event_add(arg, &plain, "many");
		event_add(arg, &limited, "full");
	}
	return NULL;
}

/* Numbers have no holes, whoever adds at the same time; what is limited is there once. */
START_TEST(threads_add_at_the_same_time)
{
	struct events *e = events_create();
	pthread_t threads[THREADS];
	uint64_t seen = 0;
	struct event event;

	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, add_many, e), 0);
	while (seen < EACH)
		if (event_next(e, seen, &event)) {
			ck_assert_uint_gt(event.number, seen);
			ck_assert(!strcmp(event.text, "many") || !strcmp(event.text, "full"));
			seen = event.number;
		}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(events_last(e), THREADS * EACH + 1);
	events_destroy(e);
}
END_TEST

/* What programs compare with. */
START_TEST(every_kind_has_a_name)
{
	for (unsigned i = 0; i < EVENT_KINDS; i++)
		for (unsigned k = 0; k < i; k++)
			ck_assert_str_ne(event_kind_name(i), event_kind_name(k));
	ck_assert_str_eq(event_kind_name(EVENT_KINDS), "unknown");
	event_add(NULL, &plain, "nowhere");
}
END_TEST

int main(void)
{
	return unit_run("event", events_are_numbered_from_1, the_newest_are_kept, what_repeats_is_said_once, who_follows_is_woken,
			threads_add_at_the_same_time, every_kind_has_a_name, NULL);
}
