/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_REACTOR_H
#define NVFS_IO_REACTOR_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A reactor is one thread with one io_uring. Everything that belongs to it
 * (timers, polls, sources, requests in flight) is touched by that thread only,
 * so none of it has a lock. Other threads reach it by reactor_post() and
 * reactor_stop(), which are the only functions here that any thread may call;
 * all others are "reactor thread".
 *
 * Which thread that is: the one that first calls reactor_run() or
 * reactor_run_once(), for good (the kernel binds the ring to it). Until then
 * the reactor is being set up and its creator may call everything, also
 * device_submit(); what was asked for starts with the first iteration.
 *
 * Callbacks run on the reactor thread, one at a time, and never from inside
 * the function that asked for them. They must not sleep.
 *
 * One iteration: completions, messages, due timers, sources, deferred
 * messages, and then one system call that submits whatever they prepared.
 */

struct reactor;
struct io_uring_cqe;
struct iovec;

#define REACTOR_NEVER_NS UINT64_MAX

struct reactor_options {
	unsigned entries;      /* submission queue; 0 is 256; a power of two */
	unsigned spin_max_us;  /* longest busy-poll before a sleep, at most 200; 0 never spins */
	bool wide_entries;     /* SQE128 and CQE32, for devices that speak through URING_CMD */
};

/*
 * Make a reactor. opts may be NULL: 256 entries, 100 us. 0 or -errno (ENOSYS
 * or EPERM where io_uring is not there or not allowed, ENOMEM).
 */
int reactor_create(const struct reactor_options *opts, struct reactor **out);

/*
 * Free it. Not while it runs; a thread that was started is joined before.
 * Nothing may be in flight and nobody inside reactor_post(): the caller has
 * waited for its requests, removed its timers, polls and sources, and ended
 * what posts (worker pools). NULL is fine.
 */
void reactor_destroy(struct reactor *r);

/* Run until reactor_stop(). 0, or -errno when the ring itself failed. */
int reactor_run(struct reactor *r);

/*
 * One iteration, sleeping at most timeout_ns for something to happen (0: do
 * not sleep, REACTOR_NEVER_NS: no limit). Returns 1 when anything was done, 0
 * when not, -errno when the ring failed. For tests and embedding.
 */
int reactor_run_once(struct reactor *r, uint64_t timeout_ns);

/*
 * Make reactor_run() return after its current iteration, or the next call of
 * it at once when it is not running. Any thread, any number of times.
 */
void reactor_stop(struct reactor *r);

/* reactor_run() on a new thread called name (15 characters at most), signals blocked; it owns the reactor when this returns. */
int reactor_start_thread(struct reactor *r, const char *name);

/* Wait for that thread to end (reactor_stop() ends it). What reactor_run() returned. */
int reactor_join(struct reactor *r);

/* How many are inside reactor_run() and not asleep, with work or looking for some. Any thread. */
unsigned reactors_awake(void);

/* The reactor whose iteration this thread is in, or NULL. */
struct reactor *reactor_current(void);

/* True on the reactor's thread, and for everybody until it has one. */
bool reactor_on_thread(const struct reactor *r);

#define ASSERT_ON_REACTOR(r) assert(reactor_on_thread(r))

/* Requests that are prepared and will be handed to the kernel at the end of the iteration. */
unsigned reactor_prepared(const struct reactor *r);

/* CLOCK_MONOTONIC as of the start of this iteration (outside of one: now). Reactor thread. */
uint64_t reactor_now_ns(const struct reactor *r);

/* CLOCK_MONOTONIC, any thread. */
uint64_t monotonic_now_ns(void);

/* ---- Messages ---- */

/*
 * Lives inside the caller's object. From reactor_post() or reactor_defer()
 * until fn is called it belongs to the reactor; fn may free it or send it on.
 */
struct reactor_msg {
	void (*fn)(struct reactor *r, struct reactor_msg *msg);
	struct reactor_msg *next; /* private */
};

/*
 * Run msg->fn on the reactor thread. Any thread; never blocks, never fails.
 * Messages of one sender arrive in the order in which it sent them. What the
 * sender wrote before is visible to fn. Costs a system call only when the
 * reactor sleeps.
 */
void reactor_post(struct reactor *r, struct reactor_msg *msg);

/*
 * Run msg->fn at the end of this iteration, in order, before the submission.
 * What fn defers itself runs in the next iteration. Reactor thread.
 */
void reactor_defer(struct reactor *r, struct reactor_msg *msg);

/* ---- Timers ---- */

/* Zero it, set fn. Lives inside the caller's object. */
struct reactor_timer {
	void (*fn)(struct reactor *r, struct reactor_timer *t);
	uint64_t deadline_ns;                        /* read-only for the caller */
	struct reactor_timer *child, *sibling, *prev; /* private */
	bool armed;                                  /* read-only for the caller */
};

/*
 * Call t->fn once, at deadline_ns (CLOCK_MONOTONIC) or soon after; moves an
 * armed timer. It is disarmed when fn is called, which may add it again or
 * free it. A deadline in the past fires in this iteration or the next, one that
 * fn itself adds in the next, so that nothing else starves.
 */
void reactor_timer_add(struct reactor *r, struct reactor_timer *t, uint64_t deadline_ns);

/* fn will not be called. Nothing happens when it is not armed. */
void reactor_timer_cancel(struct reactor *r, struct reactor_timer *t);

/* ---- Polled descriptors ---- */

struct reactor_poll_op;

/* Zero it. Lives inside the caller's object. */
struct reactor_poll {
	void (*fn)(struct reactor *r, struct reactor_poll *p, unsigned revents);
	struct reactor_poll_op *op; /* private */
};

/*
 * Call p->fn whenever one of events (POLLIN ...) or an error is there, until
 * it is removed. Level-triggered: what fn leaves unread makes it run again, so
 * on POLLHUP or POLLERR it has to remove the poll. fd stays the caller's and
 * stays open until the poll is removed. 0, -ENOMEM, or -EBUSY when p is in use.
 */
int reactor_poll_add(struct reactor *r, struct reactor_poll *p, int fd, unsigned events,
		     void (*fn)(struct reactor *r, struct reactor_poll *p, unsigned revents));

/* fn will not be called any more; p may be freed and fd closed at once, also from fn. */
void reactor_poll_remove(struct reactor *r, struct reactor_poll *p);

/* ---- Sources ---- */

/*
 * Something that is asked in each iteration whether it has work, such as a
 * non-blocking read of /dev/fuse. While the reactor is awake this costs no
 * poll; before it sleeps it arms one for fd (level-triggered, so what arrives
 * between the last call and the sleep ends the sleep). One that had no work for
 * a millisecond rests: it is not asked until fd has events.
 */
struct reactor_source {
	/*
	 * Do a bounded amount of work (a few dozen requests) and return
	 * whether there was any: true keeps the reactor awake. Called again in
	 * the next iteration whatever it says, unless it rests or it is others' turn. May remove the source, set timers
	 * and defer messages, also where it says false.
	 */
	bool (*poll)(struct reactor *r, struct reactor_source *s);
	const void *party; /* whose it is: parties that have work at the same time share the reactor's time; may be NULL */
	int fd;          /* what to wait for when asleep or resting; -1: it never rests, and is asked only while awake */
	unsigned events; /* POLLIN ... */
	struct reactor_source *prev, *next; /* private, as is the rest */
	struct reactor_poll_op *op;
	struct turns_party *turn;
	struct reactor_source *turn_prev, *turn_next;
	uint64_t worked_ns; /* when it last had work */
	bool resting;
};

/*
 * Start asking s, whose poll, fd and events the caller has set. A source whose
 * fd is in error (a dead FUSE connection) has to remove itself, or it keeps
 * the reactor awake. 0 or -ENOMEM.
 */
int reactor_source_add(struct reactor *r, struct reactor_source *s);

/* s will not be called any more and may be freed, its fd closed, also from its own poll. */
void reactor_source_remove(struct reactor *r, struct reactor_source *s);

/*
 * Whether the source that is being asked has used its turn, and others may have work: it returns before it begins
 * something else. Never so where one party alone has work.
 */
bool reactor_turn_is_over(const struct reactor *r);

/*
 * What is done for a party outside of its sources' polls (timers, deferred messages) counts for its turns, too:
 *
 *	uint64_t since = reactor_meter(r);
 *	...
 *	reactor_charge(r, party, since);
 *
 * Costs nothing where one party alone has work.
 */
uint64_t reactor_meter(const struct reactor *r);
void reactor_charge(struct reactor *r, const void *party, uint64_t since);

/* ---- Registered buffers ---- */

/*
 * Make [base, base + len_bytes) known to the kernel: requests on this reactor
 * whose buf lies inside use READ_FIXED and WRITE_FIXED by themselves. Both
 * multiples of 4096; at most 16 GiB in all. All of it is resident from now on,
 * whether it is used or not, and stays mapped until the reactor is destroyed. 0 also when the kernel refuses (RLIMIT_MEMLOCK): then
 * the requests are plain ones, and one line was logged. -EINVAL for alignment,
 * -ENOSPC beyond the limit. Before the first run or on the reactor thread.
 */
int reactor_register_buffers(struct reactor *r, void *base, size_t len_bytes);

/* ---- What it did ---- */

struct reactor_stats {
	uint64_t iterations;
	uint64_t sleeps;         /* waits in the kernel */
	uint64_t wakeups;        /* system calls by others to end one */
	uint64_t submit_calls;   /* io_uring_enter */
	uint64_t submitted;      /* SQEs */
	uint64_t completions;    /* CQEs */
	uint64_t spin_ns;        /* spent busy-polling in vain */
	uint64_t spin_hits;      /* work found by spinning */
	uint64_t fixed_ios;      /* with registered buffers */
	uint64_t queued_ios;     /* had to wait for room in the ring */
};

/* Reactor thread, or any other with values that may be slightly old. */
void reactor_stats(const struct reactor *r, struct reactor_stats *out);

/* ---- For those who prepare their own SQEs (io/ itself, a ring transport) ---- */

/*
 * What an SQE's user_data points to. complete is called on the reactor thread
 * with the CQE, which is gone when it returns (with wide_entries, big_cqe is
 * there). The struct is the caller's and lives until its last CQE (one without
 * IORING_CQE_F_MORE).
 */
struct reactor_op {
	void (*complete)(struct reactor *r, struct reactor_op *op, const struct io_uring_cqe *cqe);
};

#endif
