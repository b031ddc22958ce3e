/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commit thread. What waits when it looks is one commit: it takes the tickets and the space operands of
 * the batches that were put so far, syncs, applies the operands to the durable counts, and answers. What arrives
 * meanwhile makes the next one. So however many fsyncs run at the same time, there are at most two commits for
 * each to wait for, the one under way and its own.
 *
 * What one fsync alone takes is mostly waiting for threads to wake up, each some tens of microseconds. So the thread is told
 * of an fsync when its data begins to be written, and looks around for the ticket instead of being woken by it; it flushes the devices
 * while the reactor makes the batch; and before it writes the log it wakes the reactor that is going to get the answer.
 *
 * The operands are taken before the sync begins: a batch whose operands are in the list was written before.
 */
#include "config.h"

#include "meta/commit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "io/priority.h"
#include "io/spin.h"
#include "meta/pool_internal.h"

#define WATCH_NS UINT64_C(1000000000)
#define SPIN_MAX_NS UINT64_C(200000) /* about what a write to a disk takes */

struct put_ops {
	struct space_ops *ops;
	struct put_ops *next;
};

struct committer {
	struct pool *pool;
	uint64_t watched; /* commit thread: when the room was looked at */
	pthread_t thread;
	pthread_mutex_t lock;           /* leaf; protects what follows */
	pthread_cond_t work;
	struct commit_ticket *tickets, **tickets_end;
	struct put_ops *put, **put_end; /* in the order of their batches */
	struct put_ops *spare;
	bool stopping;
	bool soon;                      /* somebody's ticket is on its way */
	bool written;                   /* and the data before it is on the devices */
	uint64_t soon_at_ns;            /* 0: nobody waits for a ticket */
	struct spin spin;
	_Atomic unsigned calls;         /* of the thread */
};

/* Something for the thread. Under the lock. */
static void call(struct committer *c)
{
	atomic_fetch_add_explicit(&c->calls, 1, memory_order_release);
	pthread_cond_signal(&c->work);
}

static void ticket_answer(struct reactor *r, struct reactor_msg *msg)
{
	struct commit_ticket *t = (struct commit_ticket *)((char *)msg - offsetof(struct commit_ticket, msg));

	(void)r;
	t->done(t, t->error);
}

static void answer(struct commit_ticket *t, int error)
{
	while (t) {
		struct commit_ticket *next = t->next;

		t->error = error;
		t->msg.fn = ticket_answer;
		if (t->reactor)
			reactor_post(t->reactor, &t->msg);
		else
			t->done(t, error);
		t = next;
	}
}

static int pool_sync(struct pool *pool)
{
	int none = 0, error = atomic_load(&pool->failed);

	if (error || pool_read_only(pool))
		return error;
	error = db_sync(pool->db);
	if (error && atomic_compare_exchange_strong(&pool->failed, &none, error)) {
		log_error("pool %s: a commit failed: %s. It takes no more writes: what was not yet committed may be lost; "
			  "unmount, check the devices and start the pool again",
			  pool_name(pool), strerror(-error));
		event_add(pool->events, &(struct event_about){ .kind = EVENT_POOL_FAILED, .severity = EVENT_ERROR },
			  "a commit failed: %s; the pool takes no more writes", strerror(-error));
	}
	if (!error)
		atomic_fetch_add_explicit(&pool->commits, 1, memory_order_relaxed);
	return error;
}

/* Says it when less than a twentieth is free, and again only after a fourteenth was. */
static void watch_free(struct pool *pool, bool *said, uint64_t free, uint64_t total, const char *what)
{
	if (*said && free >= total / 14)
		*said = false;
	if (*said || free >= total / 20)
		return;
	*said = true;
	log_warn("pool %s: %u %% of its room for %s is free", pool_name(pool), (unsigned)(free * 100 / total), what);
	event_add(pool->events, &(struct event_about){ .kind = EVENT_POOL_NEARLY_FULL, .severity = EVENT_WARNING },
		  "%u %% of the room for %s is free", (unsigned)(free * 100 / total), what);
}

/*
 * What may still be written: what is free beside the headroom; where thin subvolumes or snapshots use any, not more than what no claim
 * has.
 */
static uint64_t data_room(struct pool *pool, const struct space_stats *space)
{
	const uint64_t free = space->free + space->waiting, capacity = pool_capacity(pool), headroom = pool->data_blocks - capacity;
	const uint64_t room = free > headroom ? free - headroom : 0;
	const int64_t loose = atomic_load(&pool->loose_blocks);
	const int64_t unclaimed = (int64_t)capacity - (int64_t)atomic_load(&pool->reserved_blocks) - loose;

	if (loose <= 0 || unclaimed >= (int64_t)room)
		return room;
	return unclaimed > 0 ? (uint64_t)unclaimed : 0;
}

/* After a commit, once in a second at most. */
static void watch_room(struct committer *c)
{
	struct pool *pool = c->pool;
	const uint64_t now = monotonic_now_ns();
	struct space_stats space;
	struct metafs_stats meta;

	if (now < c->watched + WATCH_NS)
		return;
	c->watched = now;
	space_get_stats(pool->space, &space);
	metafs_stats(pool->metafs, &meta);
	watch_free(pool, &pool->nearly_full, data_room(pool, &space), pool_capacity(pool), "data");
	watch_free(pool, &pool->meta_nearly_full, meta.free_bytes + meta.pending_bytes, meta.share_bytes, "metadata");
}

/* After a failed commit the operands stay: whether the batches are durable is not known. */
static void put_committed(struct committer *c, struct put_ops *put, int error)
{
	struct put_ops *last = NULL;

	for (struct put_ops *p = put; p; last = p, p = p->next) {
		if (!error)
			space_ops_committed(p->ops);
		space_ops_free(p->ops);
		p->ops = NULL;
	}
	if (!last)
		return;
	pthread_mutex_lock(&c->lock);
	last->next = c->spare;
	c->spare = put;
	pthread_mutex_unlock(&c->lock);
}

static void awake(struct reactor *r, struct reactor_msg *msg)
{
	(void)r;
	(void)msg;
}

/* While the devices are busy: to be woken takes a reactor as long as a device's write. */
static void wake_reactor(struct commit_ticket *t)
{
	if (!t->reactor)
		return;
	t->wake.fn = awake;
	reactor_post(t->reactor, &t->wake);
}

static void commit_once(struct committer *c, struct commit_ticket *tickets, struct put_ops *put)
{
	int error;

	wake_reactor(tickets);
	error = pool_sync(c->pool);
	put_committed(c, put, error);
	answer(tickets, error);
	watch_room(c);
}

/* Until there is a call, or for as long as that pays; others go first. The lock is held, but not meanwhile. */
static void look_out(struct committer *c)
{
	const uint64_t begin = monotonic_now_ns(), budget = spin_budget(&c->spin, begin);
	const unsigned calls = atomic_load_explicit(&c->calls, memory_order_relaxed);
	uint64_t spent = 0;

	if (!budget)
		return;
	pthread_mutex_unlock(&c->lock);
	while (spent < budget && atomic_load_explicit(&c->calls, memory_order_acquire) == calls) {
		sched_yield();
		spent = monotonic_now_ns() - begin;
	}
	pthread_mutex_lock(&c->lock);
	if (c->tickets || c->written)
		spin_hit(&c->spin, spent);
	else
		spin_missed(&c->spin, spent);
}

/* No ticket is there: wait for one. The lock is held, but not meanwhile. */
static void wait_for_ticket(struct committer *c)
{
	if (c->written) {
		c->written = false;
		c->soon = true;
		pthread_mutex_unlock(&c->lock);
		db_flush_ahead(c->pool->db); /* an error is the next sync's, too */
		pthread_mutex_lock(&c->lock);
	} else if (c->soon) {
		c->soon = false;
		look_out(c);
	} else {
		pthread_cond_wait(&c->work, &c->lock);
	}
}

static void ticket_came(struct committer *c)
{
	if (c->soon_at_ns)
		spin_woken(&c->spin, monotonic_now_ns() - c->soon_at_ns);
	c->soon_at_ns = 0;
	c->soon = c->written = false;
}

static void *commit_thread(void *arg)
{
	struct committer *c = arg;

	priority_raise();
	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct commit_ticket *tickets = c->tickets;
		struct put_ops *put = c->put;

		if (!tickets && c->stopping)
			break;
		if (!tickets) {
			wait_for_ticket(c);
			continue;
		}
		ticket_came(c);
		c->tickets = NULL;
		c->tickets_end = &c->tickets;
		c->put = NULL;
		c->put_end = &c->put;
		pthread_mutex_unlock(&c->lock);
		commit_once(c, tickets, put);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

static int start_thread(struct committer *c)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = -pthread_create(&c->thread, NULL, commit_thread, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!r)
		pthread_setname_np(c->thread, "commit");
	return r;
}

int committer_start(struct pool *pool, struct committer **out)
{
	struct committer *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->pool = pool;
	c->tickets_end = &c->tickets;
	c->put_end = &c->put;
	spin_init(&c->spin, SPIN_MAX_NS, monotonic_now_ns());
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->work, NULL);
	r = start_thread(c);
	if (r) {
		pthread_cond_destroy(&c->work);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

static void put_ops_free(struct put_ops *p)
{
	while (p) {
		struct put_ops *next = p->next;

		space_ops_free(p->ops);
		free(p);
		p = next;
	}
}

void committer_stop(struct committer *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stopping = true;
	pthread_cond_signal(&c->work);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	put_ops_free(c->put);
	put_ops_free(c->spare);
	pthread_cond_destroy(&c->work);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void pool_commit(struct pool *pool, struct commit_ticket *ticket)
{
	struct committer *c = pool->committer;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&c->lock);

	ticket->next = NULL;
	*c->tickets_end = ticket;
	c->tickets_end = &ticket->next;
	call(c);
}

void commit_hint(struct pool *pool, enum commit_hint hint)
{
	struct committer *c = pool->committer;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&c->lock);

	if (hint == COMMIT_WRITTEN) {
		c->written = true;
		call(c);
		return;
	}
	if (!c->soon_at_ns)
		c->soon_at_ns = monotonic_now_ns();
	c->soon = true;
	if (c->spin.now_ns)
		pthread_cond_signal(&c->work);
}

static struct put_ops *put_ops_get(struct committer *c)
{
	struct put_ops *p = c->spare;

	if (p)
		c->spare = p->next;
	else
		p = malloc(sizeof(*p));
	return p;
}

void commit_put_space(struct pool *pool, struct space_ops *ops)
{
	struct committer *c = pool->committer;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&c->lock);
	struct put_ops *p = put_ops_get(c);

	if (!p) {
		/* What the batch drops stays counted as durable until the next mount: space, not safety. */
		space_ops_free(ops);
		return;
	}
	p->ops = ops;
	p->next = NULL;
	*c->put_end = p;
	c->put_end = &p->next;
}

/* ---- For callers that may sleep ---- */

struct sleeper {
	struct commit_ticket ticket;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int error;
};

static void sleeper_done(struct commit_ticket *ticket, int error)
{
	struct sleeper *s = (struct sleeper *)((char *)ticket - offsetof(struct sleeper, ticket));

	pthread_mutex_lock(&s->lock);
	s->error = error;
	s->done = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

int pool_commit_wait(struct pool *pool)
{
	struct sleeper s = { .ticket = { .done = sleeper_done } };

	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.cond, NULL);
	pool_commit(pool, &s.ticket);
	pthread_mutex_lock(&s.lock);
	while (!s.done)
		pthread_cond_wait(&s.cond, &s.lock);
	pthread_mutex_unlock(&s.lock);
	pthread_cond_destroy(&s.cond);
	pthread_mutex_destroy(&s.lock);
	return s.error;
}
