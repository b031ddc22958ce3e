/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "tests/unit/unit.h"

#define WORKS 2000u

struct job {
	struct work w;
	struct workers *pool;
	unsigned value;
	unsigned rounds;
	pthread_t ran_on;
};

static unsigned answered;
static atomic_uint unanswered;

static void job_run(struct work *w)
{
	struct job *j = (struct job *)w;

	j->value *= 2;
	j->ran_on = pthread_self();
}

static void job_done(struct work *w)
{
	struct job *j = (struct job *)w;

	ck_assert_ptr_eq(reactor_current(), w->reactor);
	ck_assert(!pthread_equal(j->ran_on, pthread_self()));
	if (--j->rounds) {
		workers_submit(j->pool, w);
		return;
	}
	ck_assert_uint_eq(j->value % 8, 0);
	if (++answered == WORKS)
		reactor_stop(w->reactor);
}

START_TEST(results_come_back_to_the_reactor)
{
	static struct job jobs[WORKS];
	struct workers *pool;
	struct reactor *r;

	answered = 0;
	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	ck_assert_int_eq(workers_create(3, "test", &pool), 0);
	for (unsigned i = 0; i < WORKS; i++) {
		jobs[i] = (struct job){ .w = { .fn = job_run, .done = job_done, .reactor = r },
					.pool = pool, .value = i, .rounds = 3 };
		workers_submit(pool, &jobs[i].w);
	}
	ck_assert_int_eq(reactor_run(r), 0);
	ck_assert_uint_eq(workers_backlog(pool), 0);
	workers_destroy(pool);
	reactor_destroy(r);
}
END_TEST

static void free_itself(struct work *w)
{
	free(w);
	atomic_fetch_add(&unanswered, 1);
}

START_TEST(destroy_runs_what_was_submitted)
{
	struct workers *pool;

	atomic_store(&unanswered, 0);
	ck_assert_int_eq(workers_create(2, "test", &pool), 0);
	for (unsigned i = 0; i < WORKS; i++) {
		struct work *w = calloc(1, sizeof(*w));

		w->fn = free_itself;
		workers_submit(pool, w);
	}
	workers_destroy(pool);
	ck_assert_uint_eq(atomic_load(&unanswered), WORKS);
	workers_destroy(NULL);
	ck_assert_int_eq(workers_create(0, "none", &pool), -EINVAL);
}
END_TEST

int main(void)
{
	return unit_run("workers", results_come_back_to_the_reactor,
			destroy_runs_what_was_submitted, NULL);
}
