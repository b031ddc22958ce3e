/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * The loop.
 *
 *	step:    completions -> mailbox -> timers -> sources -> deferred -> room
 *	submit:  arm and cancel polls, one io_uring_enter for all SQEs
 *	idle:    nothing done in the step: spin a while, then sleep
 *
 * The ring is made with DEFER_TASKRUN where the kernel has it: completions are
 * then posted only inside our own io_uring_enter, with no interrupt of the
 * loop, and the TASKRUN flag in the shared ring tells when there is a reason
 * to enter. The ring is created disabled and enabled by the thread that runs
 * it first, which the kernel takes for its single issuer.
 *
 * No wake-up is lost. There are four things to sleep on:
 *
 *   - Completions and polls: the sleep is in io_uring_enter itself, which
 *     returns at once when the CQ has something.
 *   - Timers: only the reactor's own thread adds them, so the earliest is
 *     known when the sleep's timeout is set.
 *   - Sources: asked last in the step, and in each round of a spin; what they
 *     deferred there is looked for before the sleep. Then their poll is armed in the same
 *     io_uring_enter that sleeps, and arming looks at the descriptor's state,
 *     so what came in between completes the poll at once.
 *   - The mailbox: one atomic word, NULL (empty), a list of messages, or
 *     MAILBOX_ASLEEP. The reactor goes to sleep only if a compare-exchange
 *     turns NULL into MAILBOX_ASLEEP: so every message posted before is seen,
 *     and it does not sleep. A sender swaps the word for its message; the one
 *     who replaced MAILBOX_ASLEEP, and nobody else, writes the eventfd. A read
 *     of that eventfd is in the ring whenever the reactor sleeps, and the
 *     eventfd keeps the count if it is written before the read gets there.
 *     There is no pair of flags whose order has to be argued about.
 *
 * The mailbox is a stack; the reactor takes all of it by one exchange and
 * turns it round, which gives each sender's order.
 */

#include "io/reactor.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "io/log.h"
#include "io/reactor_ring.h"
#include "io/priority.h"

#define DEFAULT_ENTRIES 256u
#define DEFAULT_SPIN_US 100u
#define MAX_SPIN_US 200u
#define CQ_PER_SQ 4u
#define NS_PER_S 1000000000ull

static struct reactor_msg mailbox_asleep;
#define MAILBOX_ASLEEP (&mailbox_asleep)

static _Thread_local struct reactor *current_reactor;
static _Atomic unsigned awake; /* of those in reactor_run() */

uint64_t monotonic_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

struct reactor *reactor_current(void)
{
	return current_reactor;
}

bool reactor_on_thread(const struct reactor *r)
{
	uintptr_t owner = atomic_load_explicit(&r->owner, memory_order_relaxed);

	return !owner || owner == (uintptr_t)pthread_self();
}

uint64_t reactor_now_ns(const struct reactor *r)
{
	return r->iterating ? r->now_ns : monotonic_now_ns();
}

/* ---- Making and freeing ---- */

static int ring_create(struct reactor *r, const struct reactor_options *opts)
{
	/* From the newest kernels to the oldest; each is refused with EINVAL where unknown. */
	static const unsigned modes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		0,
	};
	unsigned entries = opts->entries ? opts->entries : DEFAULT_ENTRIES;
	unsigned base = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
	int rc = -EINVAL;

	if (opts->wide_entries)
		base |= IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]) && rc == -EINVAL; i++) {
		struct io_uring_params p = {
			.flags = base | modes[i],
			.cq_entries = entries * CQ_PER_SQ,
		};

		rc = io_uring_queue_init_params(entries, &r->ring, &p);
		if (!rc)
			r->inflight_limit = p.cq_entries;
	}
	return rc;
}

static void reactor_wake_read(struct reactor *r, struct reactor_op *op,
			      const struct io_uring_cqe *cqe)
{
	(void)op;
	(void)cqe;
	r->wake_armed = false;
}

static void reactor_stop_here(struct reactor *r, struct reactor_msg *msg)
{
	(void)msg;
	atomic_store(&r->stop_posted, false);
	r->stopping = true;
}

static void reactor_init(struct reactor *r, const struct reactor_options *opts)
{
	unsigned spin_us = opts->spin_max_us < MAX_SPIN_US ? opts->spin_max_us : MAX_SPIN_US;

	r->wake_op.complete = reactor_wake_read;
	r->stop_msg.fn = reactor_stop_here;
	msg_list_init(&r->deferred);
	msg_list_init(&r->room_waiters);
	spin_init(&r->spin, (uint64_t)spin_us * 1000, monotonic_now_ns());
}

int reactor_create(const struct reactor_options *opts, struct reactor **out)
{
	static const struct reactor_options defaults = { .spin_max_us = DEFAULT_SPIN_US };
	struct reactor *r;
	int rc;

	if (!opts)
		opts = &defaults;
	r = aligned_alloc(_Alignof(struct reactor), sizeof(*r));
	if (!r)
		return -ENOMEM;
	memset(r, 0, sizeof(*r));
	reactor_init(r, opts);
	r->wake_fd = eventfd(0, EFD_CLOEXEC);
	rc = r->wake_fd < 0 ? -errno : ring_create(r, opts);
	if (rc) {
		log_error("cannot make an io_uring: %s%s", strerror(-rc),
			  rc == -EPERM ? " (see sysctl kernel.io_uring_disabled, and the "
					 "container's seccomp profile)" : "");
		if (r->wake_fd >= 0)
			close(r->wake_fd);
		free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void reactor_destroy(struct reactor *r)
{
	if (!r)
		return;
	assert(!r->thread_started && !r->iterating && !r->ios);
	if (reactor_on_thread(r))
		reactor_forget_files(r);
	io_uring_queue_exit(&r->ring);
	reactor_free_polls(r);
	turns_free(&r->turns);
	close(r->wake_fd);
	free(r);
}

/* ---- SQEs ---- */

static int reactor_submit(struct reactor *r)
{
	int n;

	counter_add(&r->count.submit_calls, 1);
	n = io_uring_submit_and_get_events(&r->ring);
	if (n > 0)
		counter_add(&r->count.submitted, (uint64_t)n);
	/* Full for the moment, or a signal: the SQEs stay for the next time. */
	if (n == -EBUSY || n == -EAGAIN || n == -EINTR)
		return 0;
	return n < 0 ? n : 0;
}

static bool reactor_enabled(const struct reactor *r)
{
	return atomic_load_explicit(&r->owner, memory_order_relaxed);
}

struct io_uring_sqe *reactor_get_sqe(struct reactor *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);

	if (!sqe && reactor_enabled(r) && !reactor_submit(r))
		sqe = io_uring_get_sqe(&r->ring);
	return sqe;
}

unsigned reactor_prepared(const struct reactor *r)
{
	return io_uring_sq_ready(&r->ring);
}

void reactor_start_sqe(struct reactor *r, struct io_uring_sqe *sqe, struct reactor_op *op)
{
	io_uring_sqe_set_data(sqe, op);
	r->inflight++;
}

bool reactor_has_room(struct reactor *r)
{
	return !r->room_waiters.head && r->inflight - r->armed_polls < r->inflight_limit &&
	       (io_uring_sq_space_left(&r->ring) || reactor_enabled(r));
}

void reactor_await_room(struct reactor *r, struct reactor_msg *msg)
{
	counter_add(&r->count.queued_ios, 1);
	msg_list_push(&r->room_waiters, msg);
}

/* Waiters take their SQE from in here, so they must not count as waiting. */
static bool reactor_serve_waiters(struct reactor *r)
{
	struct msg_list waiters = r->room_waiters;
	struct reactor_msg *msg;
	bool any = false;

	if (!waiters.head)
		return false;
	msg_list_init(&r->room_waiters);
	while (reactor_has_room(r) && (msg = msg_list_pop(&waiters))) {
		msg->fn(r, msg);
		any = true;
	}
	if (waiters.head) {
		*waiters.tail = r->room_waiters.head;
		if (r->room_waiters.head)
			waiters.tail = r->room_waiters.tail;
		r->room_waiters = waiters;
	}
	return any;
}

/* ---- The step ---- */

static bool reactor_run_completions(struct reactor *r)
{
	unsigned ready = io_uring_cq_ready(&r->ring);

	/* One by one: a callback may submit, and the CQ has to have room for that. */
	for (unsigned i = 0; i < ready; i++) {
		struct io_uring_cqe *cqe;
		struct reactor_op *op;

		if (io_uring_peek_cqe(&r->ring, &cqe))
			break;
		op = io_uring_cqe_get_data(cqe);
		if (cqe->user_data != LIBURING_UDATA_TIMEOUT) {
			r->inflight -= !(cqe->flags & IORING_CQE_F_MORE);
			if (op)
				op->complete(r, op, cqe);
		}
		io_uring_cqe_seen(&r->ring, cqe);
	}
	counter_add(&r->count.completions, ready);
	return ready > 0;
}

static struct reactor_msg *msg_reverse(struct reactor_msg *msg)
{
	struct reactor_msg *first = NULL;

	while (msg) {
		struct reactor_msg *next = msg->next;

		msg->next = first;
		first = msg;
		msg = next;
	}
	return first;
}

static bool reactor_run_mailbox(struct reactor *r)
{
	struct reactor_msg *msg;

	if (!atomic_load_explicit(&r->mailbox, memory_order_relaxed))
		return false;
	msg = msg_reverse(atomic_exchange(&r->mailbox, NULL));
	while (msg) {
		struct reactor_msg *next = msg->next;

		msg->fn(r, msg);
		msg = next;
	}
	return true;
}

static bool reactor_run_deferred(struct reactor *r)
{
	struct reactor_msg *msg = r->deferred.head;
	bool any = msg != NULL;

	msg_list_init(&r->deferred);
	while (msg) {
		struct reactor_msg *next = msg->next;

		msg->fn(r, msg);
		msg = next;
	}
	return any;
}

static bool reactor_step(struct reactor *r)
{
	bool any = false;

	counter_add(&r->count.iterations, 1);
	r->now_ns = monotonic_now_ns();
	any |= reactor_run_completions(r);
	any |= reactor_run_mailbox(r);
	any |= reactor_run_timers(r);
	any |= reactor_run_sources(r);
	any |= reactor_run_deferred(r);
	any |= reactor_serve_waiters(r);
	return any;
}

/* ---- Submitting and sleeping ---- */

static void reactor_arm_wake(struct reactor *r)
{
	struct io_uring_sqe *sqe;

	if (r->wake_armed)
		return;
	sqe = reactor_get_sqe(r);
	if (!sqe)
		return;
	io_uring_prep_read(sqe, r->wake_fd, &r->wake_value, sizeof(r->wake_value), 0);
	reactor_start_sqe(r, sqe, &r->wake_op);
	r->wake_armed = true;
}

static bool ring_wants_entry(const struct reactor *r)
{
	unsigned flags = __atomic_load_n(r->ring.sq.kflags, __ATOMIC_RELAXED);

	return flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
}

static int reactor_flush(struct reactor *r)
{
	reactor_prepare_polls(r);
	if (io_uring_sq_ready(&r->ring) || ring_wants_entry(r))
		return reactor_submit(r);
	return 0;
}

/* Something that the next step can take. Sources are not asked here. */
static bool reactor_has_work(struct reactor *r, uint64_t now_ns)
{
	return io_uring_cq_ready(&r->ring) || r->deferred.head ||
	       atomic_load_explicit(&r->mailbox, memory_order_relaxed) ||
	       reactor_next_deadline(r) <= now_ns;
}

/* The same, or a reason to enter the kernel; without a system call. */
static bool reactor_has_news(struct reactor *r, uint64_t now_ns)
{
	return ring_wants_entry(r) || reactor_has_work(r, now_ns);
}

static void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

unsigned reactors_awake(void)
{
	return atomic_load_explicit(&awake, memory_order_relaxed);
}

/*
 * Where other reactors work, too, they and those that they work for may want this processor. Where none does, a yield only costs: it gives
 * away a part of the thread's next turn.
 */
static void spin_wait(void)
{
	if (reactors_awake() > 1)
		sched_yield();
	else
		spin_pause();
}

/* Look around until something comes (true), or until the budget is spent. */
static bool reactor_spin(struct reactor *r, uint64_t idle_since_ns, uint64_t until_ns)
{
	uint64_t now = idle_since_ns;
	uint64_t budget = spin_budget(&r->spin, now);

	if (until_ns - now < budget)
		budget = until_ns - now;
	while (now - idle_since_ns < budget) {
		if (reactor_has_news(r, now) || reactor_run_sources(r)) {
			counter_add(&r->count.spin_hits, 1);
			spin_hit(&r->spin, now - idle_since_ns);
			return true;
		}
		spin_wait();
		now = monotonic_now_ns();
	}
	if (now != idle_since_ns) {
		spin_missed(&r->spin, now - idle_since_ns);
		counter_add(&r->count.spin_ns, now - idle_since_ns);
	}
	return false;
}

static int ring_sleep(struct reactor *r, uint64_t until_ns)
{
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;
	uint64_t now = monotonic_now_ns(), wait_ns = until_ns > now ? until_ns - now : 0;
	int rc;

	ts.tv_sec = (long long)(wait_ns / NS_PER_S);
	ts.tv_nsec = (long long)(wait_ns % NS_PER_S);
	counter_add(&r->count.sleeps, 1);
	counter_add(&r->count.submit_calls, 1);
	rc = io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1,
					      until_ns == REACTOR_NEVER_NS ? NULL : &ts, NULL);
	if (rc > 0)
		counter_add(&r->count.submitted, (uint64_t)rc);
	if (rc == -ETIME || rc == -EINTR || rc == -EBUSY || rc == -EAGAIN)
		return 0;
	return rc < 0 ? rc : 0;
}

static uint64_t reactor_wait_until(struct reactor *r, uint64_t limit_ns)
{
	uint64_t deadline = reactor_next_deadline(r);

	return deadline < limit_ns ? deadline : limit_ns;
}

static int reactor_sleep(struct reactor *r, uint64_t limit_ns)
{
	struct reactor_msg *expected = NULL;
	uint64_t until_ns = reactor_wait_until(r, limit_ns);
	int rc;

	/* A source that was asked while we spun may have deferred something, and still have done no work. */
	if (r->deferred.head)
		return 0;
	reactor_arm_wake(r);
	reactor_arm_sources(r);
	reactor_prepare_polls(r);
	if (!r->wake_armed || r->poll_todo)
		return reactor_submit(r); /* no room in the ring for what has to wake us */
	if (!atomic_compare_exchange_strong(&r->mailbox, &expected, MAILBOX_ASLEEP))
		return 0;
	if (r->running)
		atomic_fetch_sub_explicit(&awake, 1, memory_order_relaxed);
	rc = ring_sleep(r, until_ns);
	if (r->running)
		atomic_fetch_add_explicit(&awake, 1, memory_order_relaxed);
	expected = MAILBOX_ASLEEP;
	atomic_compare_exchange_strong(&r->mailbox, &expected, NULL);
	return rc;
}

/* Nothing was done in this step: wait for something, until limit_ns at the latest. */
static int reactor_idle(struct reactor *r, uint64_t limit_ns)
{
	uint64_t since = monotonic_now_ns(), until = reactor_wait_until(r, limit_ns);
	int rc;

	/* What the last step prepared must be under way while we spin. */
	rc = reactor_flush(r);
	if (rc || until <= since || reactor_has_work(r, since))
		return rc;
	/*
	 * The kernel queues work and then sets TASKRUN; when we ran the work in between, the flag stays behind
	 * until there is more. It would keep us awake for nothing, so after a flush only a sleep, which looks
	 * at the work itself, can tell.
	 */
	if (ring_wants_entry(r) || !reactor_spin(r, since, until))
		rc = reactor_sleep(r, limit_ns);
	spin_woken(&r->spin, monotonic_now_ns() - since);
	return rc;
}

/* ---- Running ---- */

/* liburing 2.3 declares io_uring_enable_rings() but does not export it. */
static int ring_enable(struct reactor *r)
{
	long rc = syscall(__NR_io_uring_register, r->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
			  NULL, 0);

	return rc < 0 ? -errno : 0;
}

static int reactor_bind(struct reactor *r)
{
	int rc;

	if (reactor_enabled(r))
		return 0;
	rc = ring_enable(r);
	if (rc) {
		log_error("cannot enable the io_uring: %s", strerror(-rc));
		return rc;
	}
	atomic_store(&r->owner, (uintptr_t)pthread_self());
	return 0;
}

/* One iteration that may sleep until limit_ns (an absolute time). 1: something was done. */
static int reactor_iterate(struct reactor *r, uint64_t limit_ns)
{
	int rc, done;

	r->iterating = true;
	done = reactor_step(r);
	rc = done ? reactor_flush(r) : reactor_idle(r, limit_ns);
	r->iterating = false;
	if (rc)
		log_error("io_uring failed: %s", strerror(-rc));
	return rc ? rc : done;
}

int reactor_run(struct reactor *r)
{
	struct reactor *outer = current_reactor;
	int rc = reactor_bind(r);

	ASSERT_ON_REACTOR(r);
	current_reactor = r;
	r->running = true;
	atomic_fetch_add_explicit(&awake, 1, memory_order_relaxed);
	while (rc >= 0 && !r->stopping)
		rc = reactor_iterate(r, REACTOR_NEVER_NS);
	atomic_fetch_sub_explicit(&awake, 1, memory_order_relaxed);
	r->running = false;
	r->stopping = false;
	if (!r->ios)
		reactor_forget_files(r);
	current_reactor = outer;
	return rc < 0 ? rc : 0;
}

int reactor_run_once(struct reactor *r, uint64_t timeout_ns)
{
	struct reactor *outer = current_reactor;
	uint64_t limit = monotonic_now_ns();
	int rc = reactor_bind(r);

	ASSERT_ON_REACTOR(r);
	if (rc)
		return rc;
	limit = timeout_ns > REACTOR_NEVER_NS - limit ? REACTOR_NEVER_NS : limit + timeout_ns;
	current_reactor = r;
	rc = reactor_iterate(r, limit);
	/* What ended the wait is done in this call, not left for the next. */
	if (!rc && timeout_ns)
		rc = reactor_iterate(r, 0);
	current_reactor = outer;
	return rc;
}

static void *reactor_thread_main(void *arg)
{
	struct reactor *r = arg;
	int rc;

	pthread_setname_np(pthread_self(), r->thread_name);
	priority_raise();
	rc = reactor_bind(r);
	sem_post(&r->thread_bound);
	return (void *)(intptr_t)(rc ? rc : reactor_run(r));
}

int reactor_start_thread(struct reactor *r, const char *name)
{
	sigset_t all, old;
	int rc;

	snprintf(r->thread_name, sizeof(r->thread_name), "%s", name);
	sem_init(&r->thread_bound, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&r->thread, NULL, reactor_thread_main, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	r->thread_started = !rc;
	/* Until it is the thread's, anybody who asks would take it for his own. */
	while (!rc && sem_wait(&r->thread_bound))
		;
	sem_destroy(&r->thread_bound);
	return rc;
}

int reactor_join(struct reactor *r)
{
	void *result = NULL;

	pthread_join(r->thread, &result);
	r->thread_started = false;
	return (int)(intptr_t)result;
}

void reactor_stop(struct reactor *r)
{
	if (!atomic_exchange(&r->stop_posted, true))
		reactor_post(r, &r->stop_msg);
}

/* ---- Messages ---- */

static void reactor_wake(struct reactor *r)
{
	uint64_t one = 1;
	ssize_t n;

	atomic_fetch_add_explicit(&r->count.wakeups, 1, memory_order_relaxed);
	do
		n = write(r->wake_fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

void reactor_post(struct reactor *r, struct reactor_msg *msg)
{
	struct reactor_msg *head = atomic_load_explicit(&r->mailbox, memory_order_relaxed);

	do
		msg->next = head == MAILBOX_ASLEEP ? NULL : head;
	while (!atomic_compare_exchange_weak(&r->mailbox, &head, msg));
	if (head == MAILBOX_ASLEEP)
		reactor_wake(r);
}

void reactor_defer(struct reactor *r, struct reactor_msg *msg)
{
	ASSERT_ON_REACTOR(r);
	msg_list_push(&r->deferred, msg);
}

/* ---- Registered files and buffers ---- */

int reactor_fixed_file(struct reactor *r, unsigned slot, uint64_t id, int fd)
{
	int none[REACTOR_FILES];

	if (slot >= REACTOR_FILES)
		return -1;
	if (r->file_owner[slot] == id)
		return (int)slot;
	if (!r->files_registered) {
		memset(none, -1, sizeof(none));
		if (io_uring_register_files(&r->ring, none, REACTOR_FILES))
			return -1;
		r->files_registered = true;
	}
	r->file_owner[slot] = 0;
	if (io_uring_register_files_update(&r->ring, slot, &fd, 1) != 1)
		return -1;
	r->file_owner[slot] = id;
	return (int)slot;
}

void reactor_forget_file(struct reactor *r, unsigned slot, uint64_t id)
{
	int none = -1;

	if (slot >= REACTOR_FILES || r->file_owner[slot] != id)
		return;
	r->file_owner[slot] = 0;
	io_uring_register_files_update(&r->ring, slot, &none, 1);
}

void reactor_forget_files(struct reactor *r)
{
	if (!r->files_registered)
		return;
	io_uring_unregister_files(&r->ring);
	memset(r->file_owner, 0, sizeof(r->file_owner));
	r->files_registered = false;
}

int reactor_fixed_buffer(const struct reactor *r, const void *base, size_t len_bytes)
{
	uintptr_t p = (uintptr_t)base;

	for (unsigned i = 0; i < r->buffers; i++) {
		uintptr_t off = p - r->buffer[i].base;

		if (off < r->buffer[i].bytes && len_bytes <= r->buffer[i].bytes - off)
			return (int)i;
	}
	return -1;
}

static int ring_register_stretch(struct reactor *r, void *base, size_t bytes)
{
	struct iovec iov = { .iov_base = base, .iov_len = bytes };
	int rc;

	if (!r->buffers_registered) {
		rc = io_uring_register_buffers_sparse(&r->ring, REACTOR_BUFFERS);
		if (rc)
			return rc;
		r->buffers_registered = true;
	}
	rc = io_uring_register_buffers_update_tag(&r->ring, r->buffers, &iov, NULL, 1);
	if (rc < 0)
		return rc;
	r->buffer[r->buffers].base = (uintptr_t)base;
	r->buffer[r->buffers].bytes = bytes;
	r->buffers++;
	return 0;
}

int reactor_register_buffers(struct reactor *r, void *base, size_t len_bytes)
{
	char *p = base;

	ASSERT_ON_REACTOR(r);
	if (!len_bytes || (uintptr_t)base % 4096 || len_bytes % 4096)
		return -EINVAL;
	if ((len_bytes - 1) / REACTOR_BUFFER_BYTES + 1 > REACTOR_BUFFERS - r->buffers)
		return -ENOSPC;
	while (len_bytes && !r->buffers_refused) {
		size_t step = len_bytes < REACTOR_BUFFER_BYTES ? len_bytes : REACTOR_BUFFER_BYTES;
		int rc = ring_register_stretch(r, p, step);

		if (rc) {
			log_warn("I/O buffers cannot be locked in memory (%s): I/O costs a little "
				 "more CPU; raise LimitMEMLOCK or grant CAP_IPC_LOCK",
				 strerror(-rc));
			r->buffers_refused = true;
		}
		p += step;
		len_bytes -= step;
	}
	return 0;
}

/* ---- Counters ---- */

void reactor_stats(const struct reactor *r, struct reactor_stats *out)
{
	const struct reactor_counters *c = &r->count;

#define COPY(field) out->field = atomic_load_explicit(&c->field, memory_order_relaxed)
	COPY(iterations);
	COPY(sleeps);
	COPY(wakeups);
	COPY(submit_calls);
	COPY(submitted);
	COPY(completions);
	COPY(spin_ns);
	COPY(spin_hits);
	COPY(fixed_ios);
	COPY(queued_ios);
#undef COPY
}
