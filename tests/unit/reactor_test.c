/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/reactor_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/unit/unit.h"

#define MS 1000000ull

static struct reactor *new_reactor(void)
{
	struct reactor *r;

	ck_assert_int_eq(reactor_create(NULL, &r), 0);
	return r;
}

/* ---- Messages ---- */

#define SENDERS 4u
#define PER_SENDER 20000u

struct numbered {
	struct reactor_msg msg;
	unsigned sender, number;
};

struct counting {
	struct reactor *r;
	unsigned next[SENDERS];
	unsigned total;
};

static struct counting counting;

static void count_one(struct reactor *r, struct reactor_msg *msg)
{
	struct numbered *n = (struct numbered *)msg;

	ck_assert_ptr_eq(reactor_current(), r);
	ck_assert(reactor_on_thread(r));
	ck_assert_uint_eq(counting.next[n->sender]++, n->number);
	if (++counting.total == SENDERS * PER_SENDER)
		reactor_stop(r);
	free(n);
}

static void *send_many(void *arg)
{
	unsigned sender = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < PER_SENDER; i++) {
		struct numbered *n = calloc(1, sizeof(*n));

		n->msg.fn = count_one;
		n->sender = sender;
		n->number = i;
		reactor_post(counting.r, &n->msg);
		if (i % 1000 == 0)
			usleep(100); /* let it fall asleep now and then */
	}
	return NULL;
}

START_TEST(mailbox_from_four_threads)
{
	struct reactor_stats stats;
	pthread_t thread[SENDERS];

	counting = (struct counting){ .r = new_reactor() };
	ck_assert_int_eq(reactor_start_thread(counting.r, "mailbox"), 0);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_create(&thread[i], NULL, send_many, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_int_eq(reactor_join(counting.r), 0);
	ck_assert_uint_eq(counting.total, SENDERS * PER_SENDER);
	reactor_stats(counting.r, &stats);
	ck_assert_uint_le(stats.wakeups, stats.sleeps);
	reactor_destroy(counting.r);
}
END_TEST

struct pingpong {
	struct reactor_msg msg;
	struct reactor *to[2];
	unsigned hops;
};

static void hop(struct reactor *r, struct reactor_msg *msg)
{
	struct pingpong *p = (struct pingpong *)msg;

	if (--p->hops)
		reactor_post(p->to[r == p->to[0]], msg);
	else
		for (unsigned i = 0; i < 2; i++)
			reactor_stop(p->to[i]);
}

static uint64_t play_pingpong(unsigned spin_max_us, unsigned hops)
{
	struct reactor_options opts = { .spin_max_us = spin_max_us };
	struct pingpong p = { .msg.fn = hop, .hops = hops };
	uint64_t start;

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(reactor_create(&opts, &p.to[i]), 0);
		ck_assert_int_eq(reactor_start_thread(p.to[i], "pingpong"), 0);
	}
	start = monotonic_now_ns();
	reactor_post(p.to[0], &p.msg);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(reactor_join(p.to[i]), 0);
	start = monotonic_now_ns() - start;
	for (unsigned i = 0; i < 2; i++)
		reactor_destroy(p.to[i]);
	return start;
}

/* Each hop races with the receiver's way to sleep. A lost wake-up hangs here. */
START_TEST(no_wakeup_is_lost)
{
	play_pingpong(0, 20000);
	play_pingpong(10, 20000);
	play_pingpong(200, 20000);
}
END_TEST

START_TEST(stop_before_run_and_twice)
{
	struct reactor *r = new_reactor();

	reactor_stop(r);
	reactor_stop(r);
	ck_assert_int_eq(reactor_run(r), 0);
	reactor_stop(r);
	ck_assert_int_eq(reactor_run(r), 0);
	ck_assert_ptr_null(reactor_current());
	reactor_destroy(r);
}
END_TEST

struct trace {
	struct reactor_msg msg;
	char *text;
	char letter;
	struct trace *again;
};

static void trace_fn(struct reactor *r, struct reactor_msg *msg)
{
	struct trace *t = (struct trace *)msg;
	size_t n = strlen(t->text);

	t->text[n] = t->letter;
	t->text[n + 1] = '\0';
	if (t->again)
		reactor_defer(r, &t->again->msg);
	t->again = NULL;
}

START_TEST(deferred_in_order_and_in_the_next_iteration)
{
	struct reactor *r = new_reactor();
	char text[8] = "";
	struct trace c = { .msg.fn = trace_fn, .text = text, .letter = 'c' };
	struct trace a = { .msg.fn = trace_fn, .text = text, .letter = 'a', .again = &c };
	struct trace b = { .msg.fn = trace_fn, .text = text, .letter = 'b' };

	reactor_defer(r, &a.msg);
	reactor_defer(r, &b.msg);
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	ck_assert_str_eq(text, "ab");
	ck_assert_int_eq(reactor_run_once(r, REACTOR_NEVER_NS), 1); /* does not sleep over c */
	ck_assert_str_eq(text, "abc");
	ck_assert_int_eq(reactor_run_once(r, 0), 0);
	reactor_destroy(r);
}
END_TEST

/* ---- Timers ---- */

#define TIMERS 500u

struct timed {
	struct reactor_timer t;
	unsigned fired;
	bool cancelled;
};

static uint64_t last_deadline;
static unsigned fired_count;

static void timed_fn(struct reactor *r, struct reactor_timer *t)
{
	struct timed *x = (struct timed *)t;

	ck_assert(!t->armed);
	ck_assert_uint_ge(reactor_now_ns(r), t->deadline_ns);
	ck_assert_uint_ge(t->deadline_ns, last_deadline);
	last_deadline = t->deadline_ns;
	x->fired++;
	fired_count++;
}

static void run_until(struct reactor *r, const unsigned *counter, unsigned target)
{
	uint64_t limit = monotonic_now_ns() + 120000 * MS;

	while (*counter < target) {
		ck_assert_int_ge(reactor_run_once(r, 100 * MS), 0);
		ck_assert_uint_lt(monotonic_now_ns(), limit);
	}
}

START_TEST(timers_fire_in_order)
{
	struct reactor *r = new_reactor();
	static struct timed timed[TIMERS];
	uint64_t now = monotonic_now_ns();
	unsigned expected = 0;

	memset(timed, 0, sizeof(timed));
	last_deadline = fired_count = 0;
	srand(1);
	for (unsigned i = 0; i < TIMERS; i++) {
		timed[i].t.fn = timed_fn;
		reactor_timer_add(r, &timed[i].t, now + (uint64_t)rand() % (30 * MS));
	}
	for (unsigned i = 0; i < TIMERS; i++) {
		if (i % 3 == 0)
			reactor_timer_cancel(r, &timed[i].t);
		else if (i % 5 == 0)
			reactor_timer_add(r, &timed[i].t, now + (uint64_t)rand() % (30 * MS));
		expected += i % 3 != 0;
	}
	run_until(r, &fired_count, expected);
	for (unsigned i = 0; i < TIMERS; i++)
		ck_assert_uint_eq(timed[i].fired, i % 3 != 0);
	ck_assert_int_eq(reactor_run_once(r, 2 * MS), 0);
	reactor_timer_cancel(r, &timed[1].t); /* not armed: nothing happens */
	reactor_destroy(r);
}
END_TEST

static void again_fn(struct reactor *r, struct reactor_timer *t)
{
	((struct timed *)t)->fired++;
	reactor_timer_add(r, t, 0);
}

/* A timer that is always due lets everything else run. */
START_TEST(timer_does_not_starve_the_rest)
{
	struct reactor *r = new_reactor();
	struct timed x = { .t.fn = again_fn };
	char text[4] = "";
	struct trace a = { .msg.fn = trace_fn, .text = text, .letter = 'a' };

	reactor_timer_add(r, &x.t, 0);
	reactor_post(r, &a.msg);
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	ck_assert_str_eq(text, "a");
	ck_assert_uint_eq(x.fired, 1);
	reactor_run_once(r, 0);
	ck_assert_uint_ge(x.fired, 2);
	reactor_timer_cancel(r, &x.t);
	reactor_destroy(r);
}
END_TEST

START_TEST(sleep_ends_with_timer_and_timeout)
{
	struct reactor *r = new_reactor();
	struct timed x = { .t.fn = timed_fn };
	uint64_t start = monotonic_now_ns();

	last_deadline = 0;
	ck_assert_int_eq(reactor_run_once(r, 20 * MS), 0);
	ck_assert_uint_ge(monotonic_now_ns() - start, 20 * MS);
	reactor_timer_add(r, &x.t, monotonic_now_ns() + 20 * MS);
	ck_assert_int_eq(reactor_run_once(r, REACTOR_NEVER_NS), 1);
	ck_assert_uint_eq(x.fired, 1);
	reactor_destroy(r);
}
END_TEST

/* ---- Polls and sources ---- */

struct reading {
	struct reactor_poll p;
	int fd;
	unsigned calls, bytes;
	bool remove;
};

static void read_one(struct reactor *r, struct reactor_poll *p, unsigned revents)
{
	struct reading *x = (struct reading *)p;
	char c;

	x->calls++;
	if (revents & POLLIN)
		x->bytes += read(x->fd, &c, 1) == 1;
	if (x->remove)
		reactor_poll_remove(r, p);
}

START_TEST(poll_is_level_triggered)
{
	struct reactor *r = new_reactor();
	struct reading x = { 0 };
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	x.fd = fds[0];
	ck_assert_int_eq(reactor_poll_add(r, &x.p, fds[0], POLLIN, read_one), 0);
	ck_assert_int_eq(reactor_poll_add(r, &x.p, fds[0], POLLIN, read_one), -EBUSY);
	ck_assert_int_eq(write(fds[1], "hello", 5), 5);
	run_until(r, &x.bytes, 5);
	ck_assert_int_eq(reactor_run_once(r, 2 * MS), 0);
	ck_assert_uint_eq(x.calls, 5);
	x.remove = true;
	ck_assert_int_eq(write(fds[1], "xy", 2), 2);
	run_until(r, &x.bytes, 6);
	reactor_run_once(r, 2 * MS);
	reactor_run_once(r, 2 * MS);
	ck_assert_uint_eq(x.bytes, 6);
	close(fds[0]);
	close(fds[1]);
	reactor_destroy(r);
}
END_TEST

START_TEST(poll_removed_while_armed)
{
	struct reactor *r = new_reactor();
	struct reading x = { 0 };
	int fds[2];

	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(pipe(fds), 0);
		x.fd = fds[0];
		ck_assert_int_eq(reactor_poll_add(r, &x.p, fds[0], POLLIN, read_one), 0);
		if (i % 2)
			reactor_run_once(r, 0);
		if (i % 3 == 0)
			ck_assert_int_eq(write(fds[1], "a", 1), 1);
		reactor_poll_remove(r, &x.p);
		reactor_poll_remove(r, &x.p);
		close(fds[0]);
		close(fds[1]);
	}
	reactor_run_once(r, 2 * MS);
	ck_assert_uint_eq(x.calls, 0);
	reactor_destroy(r); /* one that is still armed goes with it */
}
END_TEST

START_TEST(poll_reports_hangup)
{
	struct reactor *r = new_reactor();
	struct reading x = { .remove = true };
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	x.fd = fds[0];
	ck_assert_int_eq(reactor_poll_add(r, &x.p, fds[0], POLLIN, read_one), 0);
	reactor_run_once(r, 0);
	close(fds[1]);
	run_until(r, &x.calls, 1);
	ck_assert_uint_eq(x.bytes, 0);
	close(fds[0]);
	reactor_destroy(r);
}
END_TEST

#define MANY_POLLS 3000u

static unsigned many_called;

static void count_and_remove(struct reactor *r, struct reactor_poll *p, unsigned revents)
{
	many_called += revents & POLLIN;
	reactor_poll_remove(r, p);
}

/* All of them fire at once: more than both queues of the ring hold. */
START_TEST(more_polls_than_the_ring_holds)
{
	static struct reactor_poll polls[MANY_POLLS];
	struct reactor_options opts = { .entries = 32 };
	struct reactor *r;
	int fds[2];

	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	ck_assert_int_eq(pipe(fds), 0);
	for (unsigned i = 0; i < MANY_POLLS; i++)
		reactor_poll_add(r, &polls[i], fds[0], POLLIN, count_and_remove);
	ck_assert_int_eq(reactor_run_once(r, 2 * MS), 0);
	ck_assert_int_eq(write(fds[1], "a", 1), 1);
	run_until(r, &many_called, MANY_POLLS);
	ck_assert_uint_eq(many_called, MANY_POLLS);
	close(fds[0]);
	close(fds[1]);
	reactor_destroy(r);
}
END_TEST

struct pipe_source {
	struct reactor_source s;
	unsigned bytes, asked;
	bool remove;
};

static bool pipe_source_poll(struct reactor *r, struct reactor_source *s)
{
	struct pipe_source *x = (struct pipe_source *)s;
	char c;

	x->asked++;
	if (read(s->fd, &c, 1) != 1)
		return false;
	x->bytes++;
	if (x->remove)
		reactor_source_remove(r, s);
	return true;
}

struct writer {
	struct reactor *r;
	int fd;
};

/* The last byte when the reader has slept at least once. */
static void *write_slowly(void *arg)
{
	const struct writer *w = arg;
	struct reactor_stats stats;

	for (unsigned i = 0; i < 199; i++) {
		ck_assert_int_eq(write(w->fd, "a", 1), 1);
		usleep(i % 7 * 30);
	}
	do {
		usleep(100);
		reactor_stats(w->r, &stats);
	} while (!stats.sleeps);
	ck_assert_int_eq(write(w->fd, "a", 1), 1);
	return NULL;
}

START_TEST(source_wakes_a_sleeping_reactor)
{
	struct reactor *r = new_reactor();
	struct pipe_source x = { .s = { .poll = pipe_source_poll, .events = POLLIN } };
	struct pipe_source idle = { .s = { .poll = pipe_source_poll, .fd = -1 } };
	struct writer writer = { .r = r };
	pthread_t thread;
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
	x.s.fd = fds[0];
	ck_assert_int_eq(reactor_source_add(r, &x.s), 0);
	ck_assert_int_eq(reactor_source_add(r, &idle.s), 0);
	writer.fd = fds[1];
	pthread_create(&thread, NULL, write_slowly, &writer);
	while (x.bytes < 200)
		ck_assert_int_ge(reactor_run_once(r, REACTOR_NEVER_NS), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_gt(idle.asked, 0);

	x.remove = true;
	ck_assert_int_eq(write(fds[1], "ab", 2), 2);
	run_until(r, &x.bytes, 201);
	reactor_run_once(r, 2 * MS);
	ck_assert_uint_eq(x.bytes, 201);
	reactor_source_remove(r, &idle.s);
	close(fds[0]);
	close(fds[1]);
	reactor_destroy(r);
}
END_TEST

/* An iteration with work in it. */
static void one_more(struct reactor *r, struct reactor_msg *msg)
{
	(void)r;
	(void)msg;
}

static void busy_iterations(struct reactor *r, unsigned n)
{
	struct reactor_msg msg = { .fn = one_more };

	for (unsigned i = 0; i < n; i++) {
		reactor_post(r, &msg);
		ck_assert_int_eq(reactor_run_once(r, REACTOR_NEVER_NS), 1);
	}
}

#define RESTING 300u

static unsigned times_asked(const struct pipe_source *sources)
{
	unsigned n = 0;

	for (unsigned i = 0; i < RESTING; i++)
		n += sources[i].asked;
	return n;
}

/* More of them than the ring has room for completions, while others keep the reactor awake. */
START_TEST(source_without_work_is_not_asked)
{
	static struct pipe_source sources[RESTING];
	struct reactor_options opts = { .entries = 32 };
	struct pipe_source *last = &sources[RESTING - 1];
	struct reactor *r;
	int fds[2], empty[2];
	unsigned asked;

	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
	ck_assert_int_eq(pipe2(empty, O_NONBLOCK), 0);
	for (unsigned i = 0; i < RESTING; i++) {
		sources[i] = (struct pipe_source){ .s = { .poll = pipe_source_poll, .fd = empty[0], .events = POLLIN } };
		if (&sources[i] == last)
			last->s.fd = fds[0];
		ck_assert_int_eq(reactor_source_add(r, &sources[i].s), 0);
	}
	usleep(2000);
	busy_iterations(r, 2);
	asked = times_asked(sources);
	busy_iterations(r, 50);
	ck_assert_uint_eq(times_asked(sources), asked);

	/* It has work, and the reactor may be awake or asleep when that comes. */
	for (unsigned i = 1; i <= 4; i++) {
		ck_assert_int_eq(write(fds[1], "a", 1), 1);
		if (i % 2) {
			run_until(r, &last->bytes, i);
		} else {
			busy_iterations(r, 3);
			ck_assert_uint_eq(last->bytes, i);
		}
		usleep(2000);
		busy_iterations(r, 2);
		ck_assert(last->s.resting);
	}
	for (unsigned i = 0; i < RESTING; i++)
		reactor_source_remove(r, &sources[i].s);
	busy_iterations(r, 5);
	close(fds[0]);
	close(fds[1]);
	close(empty[0]);
	close(empty[1]);
	reactor_destroy(r);
}
END_TEST

/* ---- Parties ---- */

struct party_source {
	struct reactor_source s;
	unsigned asked;
	bool has_work, until_over, leaves;
};

static bool party_poll(struct reactor *r, struct reactor_source *s)
{
	struct party_source *x = (struct party_source *)s;

	x->asked++;
	while (x->until_over && !reactor_turn_is_over(r))
		;
	if (x->leaves)
		reactor_source_remove(r, s);
	return x->has_work;
}

static void asked_are(const struct party_source *x, unsigned a, unsigned b, unsigned c)
{
	ck_assert_uint_eq(x[0].asked, a);
	ck_assert_uint_eq(x[1].asked, b);
	ck_assert_uint_eq(x[2].asked, c);
}

START_TEST(parties_take_turns)
{
	struct party_source x[3] = { 0 };
	struct reactor *r = new_reactor();

	/* Two of one party, and none that rests. */
	for (unsigned i = 0; i < 3; i++) {
		x[i].s = (struct reactor_source){ .poll = party_poll, .fd = -1, .party = &x[i / 2] };
		x[i].has_work = true;
	}
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(reactor_source_add(r, &x[i].s), 0);
	ck_assert_uint_eq(reactor_meter(r), 0);
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	asked_are(x, 1, 1, 0);
	ck_assert(!reactor_turn_is_over(r));
	ck_assert_int_eq(reactor_source_add(r, &x[2].s), 0);
	ck_assert_uint_ne(reactor_meter(r), 0);

	/* Who used more is not asked while the other one works, and is when it does not. */
	for (int i = 0; i < 2; i++) /* more than any turn counts */
		reactor_charge(r, &x[0], 1);
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	asked_are(x, 1, 1, 1);
	x[2].has_work = false;
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	ck_assert_uint_eq(x[2].asked, 2);
	ck_assert_uint_gt(x[0].asked + x[1].asked, 2);

	/* A turn that one source has used is not the next one's: that has the next turn. */
	for (unsigned i = 0; i < 3; i++)
		x[i] = (struct party_source){ .s = x[i].s, .has_work = i < 2, .until_over = i < 2 };
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	ck_assert_uint_eq(x[0].asked + x[1].asked, 1);
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	asked_are(x, 1, 1, 2);

	reactor_source_remove(r, &x[2].s);
	ck_assert_uint_eq(reactor_meter(r), 0);
	for (unsigned i = 0; i < 2; i++)
		reactor_source_remove(r, &x[i].s);
	reactor_destroy(r);
}
END_TEST

/* The party of the source that removes itself is at its turn still; then nothing is left of it. */
START_TEST(parties_leave_in_their_turn)
{
	struct party_source x[2] = { 0 };
	struct reactor *r = new_reactor();

	for (unsigned i = 0; i < 2; i++) {
		x[i].s = (struct reactor_source){ .poll = party_poll, .fd = -1, .party = &x[i] };
		x[i].has_work = true;
		ck_assert_int_eq(reactor_source_add(r, &x[i].s), 0);
	}
	for (int i = 0; i < 2; i++) /* x[1] is first */
		reactor_charge(r, &x[0], 1);
	x[1].leaves = true;
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	ck_assert_uint_eq(x[1].asked, 1);
	ck_assert_uint_eq(reactor_meter(r), 0);
	ck_assert_int_eq(reactor_run_once(r, 0), 1);
	ck_assert_uint_eq(x[0].asked, 1);
	ck_assert_ptr_null(turns_find(&r->turns, &x[1]));
	ck_assert_ptr_nonnull(turns_find(&r->turns, &x[0]));
	reactor_source_remove(r, &x[0].s);
	reactor_destroy(r);
}
END_TEST

/* ---- The scheduler ---- */

struct stay_awake {
	struct reactor_msg msg;
	sem_t begun, end;
};

static void stay_awake(struct reactor *r, struct reactor_msg *msg)
{
	struct stay_awake *s = (struct stay_awake *)msg;

	(void)r;
	sem_post(&s->begun);
	while (sem_wait(&s->end))
		;
}

static void wait_for_awake(unsigned n)
{
	while (reactors_awake() != n)
		usleep(1000);
}

START_TEST(those_awake_are_counted)
{
	struct stay_awake s[2];
	struct reactor *r[2];

	ck_assert_uint_eq(reactors_awake(), 0);
	for (unsigned i = 0; i < 2; i++) {
		s[i] = (struct stay_awake){ .msg.fn = stay_awake };
		sem_init(&s[i].begun, 0, 0);
		sem_init(&s[i].end, 0, 0);
		r[i] = new_reactor();
		ck_assert_int_eq(reactor_start_thread(r[i], "awake"), 0);
		sem_post(&s[i].end);
		reactor_post(r[i], &s[i].msg);
		while (sem_wait(&s[i].begun))
			;
	}
	wait_for_awake(0); /* both run, and sleep */
	for (unsigned i = 0; i < 2; i++) {
		reactor_post(r[i], &s[i].msg);
		while (sem_wait(&s[i].begun))
			;
		ck_assert_uint_eq(reactors_awake(), i + 1);
	}
	sem_post(&s[0].end);
	wait_for_awake(1);
	sem_post(&s[1].end);
	for (unsigned i = 0; i < 2; i++) {
		reactor_stop(r[i]);
		ck_assert_int_eq(reactor_join(r[i]), 0);
		reactor_destroy(r[i]);
	}
	ck_assert_uint_eq(reactors_awake(), 0);
}
END_TEST

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void tick(struct reactor *r, struct reactor_timer *t)
{
	((struct timed *)t)->fired++;
	reactor_timer_add(r, t, reactor_now_ns(r) + 10 * MS);
}

/* Whether half a second of it costs next to nothing, sanitizers included. */
static bool idles_cheaply(struct reactor *r, struct timed *x)
{
	struct reactor_stats before, after;
	uint64_t used = cpu_ns();

	reactor_stats(r, &before);
	run_until(r, &x->fired, x->fired + 50);
	reactor_stats(r, &after);
	used = cpu_ns() - used;
	return after.spin_ns - before.spin_ns < 5 * MS && used < 100 * MS;
}

/* With a timer of 100 Hz and a source. The time that it spun is one by the clock on the wall: a machine that took the processor
 * away in the middle of it is given other chances. */
START_TEST(idle_reactor_uses_no_cpu)
{
	struct reactor_options opts = { .spin_max_us = 200 };
	struct timed x = { .t.fn = tick };
	struct pipe_source src = { .s = { .poll = pipe_source_poll, .events = POLLIN } };
	struct reactor *r;
	bool cheap = false;
	int fds[2];

	ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
	src.s.fd = fds[0];
	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	ck_assert_int_eq(reactor_source_add(r, &src.s), 0);
	reactor_timer_add(r, &x.t, 0);
	for (unsigned i = 0; i < 20 && !cheap; i++)
		cheap = idles_cheaply(r, &x);
	ck_assert(cheap);
	reactor_timer_cancel(r, &x.t);
	reactor_source_remove(r, &src.s);
	close(fds[0]);
	close(fds[1]);
	reactor_destroy(r);
}
END_TEST

/*
 * What a source leaves behind when it says that it did nothing, such as the end of its session. It does so in the last
 * look around before a sleep: after many short pauses the reactor spins, and the source takes longer than any spin.
 */
struct leaving {
	struct reactor_source s;
	struct reactor_timer pause; /* keeps the pauses short for a while */
	struct reactor_msg again, left;
	struct reactor_timer later;
	bool by_timer;
	unsigned pauses;
	uint64_t iteration;
	_Atomic bool posted, done;
};

static void short_pause(struct reactor *r, struct reactor_timer *t)
{
	struct leaving *l = (struct leaving *)((char *)t - offsetof(struct leaving, pause));

	if (--l->pauses)
		reactor_timer_add(r, t, reactor_now_ns(r) + 20000);
}

static void pauses_again(struct reactor *r, struct reactor_msg *msg)
{
	struct leaving *l = (struct leaving *)((char *)msg - offsetof(struct leaving, again));

	atomic_store(&l->posted, false);
	if (l->pauses)
		return;
	l->pauses = 200;
	reactor_timer_add(r, &l->pause, 0);
}

static void what_was_left(struct reactor *r, struct reactor_msg *msg)
{
	(void)msg;
	reactor_stop(r);
}

static void what_was_left_for_later(struct reactor *r, struct reactor_timer *t)
{
	(void)t;
	reactor_stop(r);
}

static bool leave_in_a_spin(struct reactor *r, struct reactor_source *s)
{
	struct leaving *l = (struct leaving *)s;
	struct reactor_stats stats;
	bool spinning;

	reactor_stats(r, &stats);
	spinning = stats.iterations == l->iteration;
	l->iteration = stats.iterations;
	if (!spinning || l->pauses || atomic_load(&l->done))
		return false;
	atomic_store(&l->done, true);
	usleep(5000);
	if (l->by_timer)
		reactor_timer_add(r, &l->later, monotonic_now_ns() + MS);
	else
		reactor_defer(r, &l->left);
	return false;
}

static void leave_something(bool by_timer)
{
	struct leaving l = { .s = { .poll = leave_in_a_spin, .fd = -1 },
			     .pause.fn = short_pause,
			     .again.fn = pauses_again,
			     .left.fn = what_was_left,
			     .later.fn = what_was_left_for_later,
			     .by_timer = by_timer };
	struct reactor_options opts = { .spin_max_us = 1000 };
	struct reactor *r;

	ck_assert_int_eq(reactor_create(&opts, &r), 0);
	ck_assert_int_eq(reactor_source_add(r, &l.s), 0);
	ck_assert_int_eq(reactor_start_thread(r, "leaving"), 0);
	/* Busy machines have pauses that are not short: other chances. */
	while (!atomic_load(&l.done)) {
		if (!atomic_exchange(&l.posted, true))
			reactor_post(r, &l.again);
		usleep(10000);
	}
	ck_assert_int_eq(reactor_join(r), 0);
	reactor_destroy(r);
}

START_TEST(what_a_source_left_in_a_spin_is_not_slept_on)
{
	leave_something(false);
	leave_something(true);
}
END_TEST

int main(void)
{
	struct reactor *r;
	int rc = reactor_create(NULL, &r);

	if (rc == -ENOSYS || rc == -EPERM)
		unit_skip("io_uring is not available");
	reactor_destroy(r);
	return unit_run("reactor", mailbox_from_four_threads, no_wakeup_is_lost,
			stop_before_run_and_twice, deferred_in_order_and_in_the_next_iteration,
			timers_fire_in_order, timer_does_not_starve_the_rest,
			sleep_ends_with_timer_and_timeout, poll_is_level_triggered,
			poll_removed_while_armed, poll_reports_hangup, more_polls_than_the_ring_holds,
			source_wakes_a_sleeping_reactor, source_without_work_is_not_asked, parties_take_turns, parties_leave_in_their_turn,
			those_awake_are_counted, idle_reactor_uses_no_cpu,
			what_a_source_left_in_a_spin_is_not_slept_on, NULL);
}
