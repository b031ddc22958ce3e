/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a session holds of requests beyond its limits, under a clock of our own; requests come through a file. */
#include "config.h"

#include <sys/mman.h>
#include <unistd.h>

#include "fs/held.h"
#include "tests/unit/unit.h"

#define T0 UINT64_C(5000000000)
#define SEC UINT64_C(1000000000)
#define SESSIONS 8u

static struct reactor *reactor;
static struct request_pool *pool;
static struct throttle throttle;
static const struct throttles throttles = { { NULL, &throttle } };
static struct held held[SESSIONS];
static int fd;
static uint64_t next_unique;

static void begin(struct rates rates)
{
	ck_assert_int_eq(reactor_create(NULL, &reactor), 0);
	ck_assert_int_eq(request_pool_create(reactor, NULL, 0, &pool), 0);
	fd = memfd_create("requests", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	throttle_init(&throttle);
	throttle_set(&throttle, &rates);
	for (unsigned i = 0; i < SESSIONS; i++)
		held_init(&held[i], pool, &throttles);
}

static uint64_t waiting(void)
{
	struct throttle_stats s;

	throttle_stats(&throttle, &s);
	return s.waiting;
}

static void end(void)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		held_drop(&held[i]);
		ck_assert_uint_eq(held_next_look(&held[i], T0), REACTOR_NEVER_NS);
	}
	ck_assert_uint_eq(waiting(), 0);
	ck_assert_uint_eq(request_pool_used(pool), 0);
	ck_assert(request_pool_may_hold(pool));
	close(fd);
	request_pool_destroy(pool);
	reactor_destroy(reactor);
}

static struct request *request_of(uint32_t pid, size_t len)
{
	struct fuse_in_header head = { .len = (uint32_t)len, .opcode = FUSE_WRITE, .unique = ++next_unique, .pid = pid };
	struct request *r;

	ck_assert_int_eq(ftruncate(fd, (off_t)len), 0);
	ck_assert_int_eq(pwrite(fd, &head, sizeof(head), 0), sizeof(head));
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(request_get(pool, fd, 1, &r), 0);
	return r;
}

static struct request *request(void)
{
	return request_of(0, sizeof(struct fuse_in_header));
}

static bool admit(struct held *h, struct request *r)
{
	return held_admit(h, r, THROTTLE_WRITE, 1, T0);
}

START_TEST(waits_for_its_moment_in_order)
{
	struct request *a, *b;

	begin((struct rates){ .write_iops = 1 });
	request_put(pool, request());
	ck_assert(admit(&held[0], a = request()));
	request_put(pool, a);
	ck_assert_uint_eq(held_next_look(&held[0], T0), REACTOR_NEVER_NS);
	ck_assert(!admit(&held[0], a = request()));
	ck_assert(!admit(&held[0], b = request()));
	ck_assert_uint_eq(waiting(), 2);
	/* What is not limited goes past them. */
	ck_assert(held_admit(&held[0], b, THROTTLE_READ, 4096, T0));
	ck_assert(held_admit(&held[0], b, THROTTLE_NONE, 0, T0));
	ck_assert_ptr_null(held_due(&held[0], T0 + SEC - 1));
	ck_assert_ptr_eq(held_due(&held[0], T0 + SEC), a);
	ck_assert_ptr_null(held_due(&held[0], T0 + 2 * SEC - 1));
	ck_assert_ptr_eq(held_due(&held[0], T0 + 2 * SEC), b);
	ck_assert_uint_eq(waiting(), 0);
	request_put(pool, a);
	request_put(pool, b);
	end();
}
END_TEST

START_TEST(looks_when_one_is_due_or_soon)
{
	begin((struct rates){ .write_iops = 20 });
	for (int i = 0; i < 2; i++) {
		struct request *r = request();

		ck_assert(admit(&held[0], r));
		request_put(pool, r);
	}
	ck_assert(!admit(&held[0], request()));
	ck_assert_uint_eq(held_next_look(&held[0], T0), T0 + SEC / 20);
	throttle_set(&throttle, &(struct rates){ .write_iops = 1 });
	ck_assert_uint_eq(held_next_look(&held[0], T0), T0 + HELD_LOOK_NS);
	throttle_set(&throttle, &(struct rates){ 0 });
	ck_assert_uint_eq(held_next_look(&held[0], T0), T0);
	request_put(pool, held_due(&held[0], T0));
	end();
}
END_TEST

START_TEST(a_session_holds_a_few)
{
	struct request *r;

	begin((struct rates){ .write_iops = 1 });
	ck_assert(admit(&held[0], r = request()));
	request_put(pool, r);
	for (unsigned i = 0; i < HELD_MAX; i++) {
		ck_assert(held_room(&held[0]));
		ck_assert(!admit(&held[0], request()));
	}
	ck_assert(!held_room(&held[0]));
	ck_assert(held_room(&held[1]));
	request_put(pool, held_due(&held[0], T0 + SEC));
	ck_assert(held_room(&held[0]));
	end();
}
END_TEST

START_TEST(a_session_holds_fewer_large_ones)
{
	const size_t large = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in) + REQUEST_DATA_MAX;
	struct request *r;

	begin((struct rates){ .write_iops = 1 });
	ck_assert(admit(&held[0], r = request()));
	request_put(pool, r);
	for (unsigned i = 0; i < REQUEST_LARGE / 4; i++) {
		struct held *h = &held[i / HELD_LARGE_MAX];

		ck_assert(held_room(h));
		r = request_of(0, large);
		ck_assert(request_is_large(r));
		ck_assert(!admit(h, r));
		if (i < HELD_LARGE_MAX)
			ck_assert(held_room(h) == (i + 1 < HELD_LARGE_MAX));
	}
	for (unsigned i = 0; i < REQUEST_LARGE / 4 / HELD_LARGE_MAX; i++)
		ck_assert(!held_room(&held[i]));
	ck_assert(!request_pool_may_hold(pool));
	end();
}
END_TEST

/* The sessions of a pool hold a quarter of it; another one's request goes ahead, and the next is not read before that one's moment. */
START_TEST(a_full_pool_has_a_session_owe)
{
	struct held *last = &held[SESSIONS - 1];
	struct request *r;
	unsigned n = 0;

	begin((struct rates){ .write_iops = 1 });
	ck_assert(admit(&held[0], r = request()));
	request_put(pool, r);
	while (request_pool_may_hold(pool))
		ck_assert(!admit(&held[n++ / HELD_MAX], request()));
	ck_assert_uint_eq(n, REQUEST_SLOTS / 4);
	ck_assert(held_room(last));
	ck_assert(admit(last, r = request()));
	request_put(pool, r);
	ck_assert(!held_room(last));
	ck_assert_uint_eq(waiting(), n + 1);
	ck_assert_ptr_null(held_due(last, T0 + n * SEC));
	ck_assert(!held_room(last));
	ck_assert_uint_eq(held_next_look(last, T0 + n * SEC), T0 + n * SEC + HELD_LOOK_NS);
	ck_assert_ptr_null(held_due(last, T0 + (n + 1) * SEC));
	ck_assert(held_room(last));
	ck_assert_uint_eq(waiting(), n);
	end();
}
END_TEST

/* What was dropped does not count against those who stay. */
START_TEST(what_is_dropped_costs_nothing)
{
	struct request *r;

	begin((struct rates){ .write_bytes_per_s = 1000 });
	ck_assert(held_admit(&held[0], r = request(), THROTTLE_WRITE, 100, T0));
	request_put(pool, r);
	ck_assert(!held_admit(&held[0], request(), THROTTLE_WRITE, 1u << 30, T0));
	ck_assert(!held_admit(&held[1], r = request(), THROTTLE_WRITE, 1, T0));
	ck_assert_ptr_null(held_due(&held[1], T0 + 1000 * SEC));
	held_drop(&held[0]);
	ck_assert_ptr_eq(held_due(&held[1], T0 + SEC), r);
	request_put(pool, r);
	end();
}
END_TEST

/* Those with another signal, or that nobody knows, wait on; session_limits_test.c kills one. */
START_TEST(only_the_killed_go_early)
{
	struct request *r;

	begin((struct rates){ .write_iops = 1 });
	ck_assert(admit(&held[0], r = request()));
	request_put(pool, r);
	r = request_of((uint32_t)getpid(), sizeof(struct fuse_in_header));
	ck_assert(!admit(&held[0], r));
	held_interrupt(&held[0], r->unique);
	ck_assert_ptr_null(held_killed(&held[0]));
	r = request_of(0x7fffffff, sizeof(struct fuse_in_header)); /* nobody */
	ck_assert(!admit(&held[0], r));
	held_interrupt(&held[0], r->unique);
	ck_assert_ptr_null(held_killed(&held[0]));
	ck_assert_uint_eq(waiting(), 2);
	end();
}
END_TEST

int main(void)
{
	return unit_run("held", waits_for_its_moment_in_order, looks_when_one_is_due_or_soon, a_session_holds_a_few,
			a_session_holds_fewer_large_ones, a_full_pool_has_a_session_owe, what_is_dropped_costs_nothing,
			only_the_killed_go_early, NULL);
}
