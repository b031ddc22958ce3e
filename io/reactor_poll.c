/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Descriptors that the reactor waits for. What the kernel knows is a
 * reactor_poll_op, allocated here, and not the caller's struct: a poll in the
 * ring ends only with its last CQE, and the caller may free his at once.
 *
 * Every poll is a one-shot that is armed again. When it is armed the kernel
 * looks at the descriptor's state, so nothing that is there already is missed
 * (a multishot poll reports changes only, and with a descriptor that its
 * callback did not empty that would be a lost event); and the SQE costs no
 * system call of its own. A poll is armed before each submission; a source,
 * which is asked in every iteration anyway, only before a sleep.
 *
 * Asking costs a system call, and of hundreds of sources few are busy: one that
 * had nothing for a while is *resting*. Its poll is in the ring, and it is not
 * asked until that completes, which the loop notices in each iteration.
 *
 * Sources of one party are all asked, in each iteration. When several parties have sources that do not rest, they take
 * turns (io/turns.h): one party works in an iteration, and whoever has used less was asked before and had nothing.
 */

#include "io/reactor_ring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <utlist.h>

#define REST_AFTER_NS UINT64_C(1000000)

struct reactor_poll_op {
	struct reactor_op op;
	struct reactor_poll *poll;     /* at most one of the two; neither: removed */
	struct reactor_source *source;
	int fd;
	unsigned events;
	bool armed;   /* in the ring */
	bool calling; /* inside poll->fn */
	bool todo;    /* on poll_todo */
	struct reactor_poll_op *todo_next;
	struct reactor_poll_op *prev, *next; /* r->polls */
};

static void poll_op_free(struct reactor *r, struct reactor_poll_op *p)
{
	if (p->next)
		p->next->prev = p->prev;
	if (p->prev)
		p->prev->next = p->next;
	else
		r->polls = p->next;
	free(p);
}

static void poll_op_todo(struct reactor *r, struct reactor_poll_op *p)
{
	if (p->todo)
		return;
	p->todo = true;
	p->todo_next = r->poll_todo;
	r->poll_todo = p;
}

static bool poll_op_removed(const struct reactor_poll_op *p)
{
	return !p->poll && !p->source;
}

/* ---- Sources: asked, or resting ---- */

static void source_link(struct reactor_source **list, struct reactor_source *s)
{
	s->prev = NULL;
	s->next = *list;
	if (s->next)
		s->next->prev = s;
	*list = s;
}

static void source_unlink(struct reactor_source **list, struct reactor_source *s)
{
	if (s->next)
		s->next->prev = s->prev;
	if (s->prev)
		s->prev->next = s->next;
	else
		*list = s->next;
	s->prev = s->next = NULL;
}

/* It is asked from now on. */
static void source_enter(struct reactor *r, struct reactor_source *s)
{
	source_link(&r->sources, s);
	DL_APPEND2(s->turn->awake, s, turn_prev, turn_next);
	turns_join(&r->turns, s->turn);
}

static void source_leave(struct reactor *r, struct reactor_source *s)
{
	source_unlink(&r->sources, s);
	DL_DELETE2(s->turn->awake, s, turn_prev, turn_next);
	turns_leave(&r->turns, s->turn);
}

static void source_rest(struct reactor *r, struct reactor_source *s)
{
	source_leave(r, s);
	source_link(&r->resting, s);
	s->resting = true;
	if (!s->op->armed)
		poll_op_todo(r, s->op);
}

static void source_wake(struct reactor *r, struct reactor_source *s)
{
	s->worked_ns = reactor_now_ns(r);
	if (!s->resting)
		return;
	source_unlink(&r->resting, s);
	source_enter(r, s);
	s->resting = false;
}

static void source_was_asked(struct reactor *r, struct reactor_source *s, bool worked)
{
	if (worked)
		s->worked_ns = r->now_ns;
	else if (s->op && r->now_ns > s->worked_ns + REST_AFTER_NS)
		source_rest(r, s);
}

/* ---- Polls in the ring ---- */

static void poll_op_complete(struct reactor *r, struct reactor_op *op,
			     const struct io_uring_cqe *cqe)
{
	struct reactor_poll_op *p = (struct reactor_poll_op *)op;

	p->armed = false;
	r->armed_polls--;
	if (p->source)
		source_wake(r, p->source);
	if (p->poll) {
		p->calling = true;
		p->poll->fn(r, p->poll, cqe->res < 0 ? POLLERR : (unsigned)cqe->res);
		p->calling = false;
	}
	/* On the todo list it is armed again, or freed there. */
	if (p->poll || p->todo)
		poll_op_todo(r, p);
	else if (poll_op_removed(p))
		poll_op_free(r, p);
}

static struct reactor_poll_op *poll_op_new(struct reactor *r, int fd, unsigned events)
{
	struct reactor_poll_op *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->op.complete = poll_op_complete;
	p->fd = fd;
	p->events = events;
	p->next = r->polls;
	if (p->next)
		p->next->prev = p;
	r->polls = p;
	return p;
}

static void poll_op_drop(struct reactor *r, struct reactor_poll_op *p)
{
	p->poll = NULL;
	p->source = NULL;
	if (p->armed)
		poll_op_todo(r, p); /* to be cancelled */
	else if (!p->calling && !p->todo)
		poll_op_free(r, p);
}

int reactor_poll_add(struct reactor *r, struct reactor_poll *p, int fd, unsigned events,
		     void (*fn)(struct reactor *r, struct reactor_poll *p, unsigned revents))
{
	ASSERT_ON_REACTOR(r);
	if (p->op)
		return -EBUSY;
	p->op = poll_op_new(r, fd, events);
	if (!p->op)
		return -ENOMEM;
	p->fn = fn;
	p->op->poll = p;
	poll_op_todo(r, p->op);
	return 0;
}

void reactor_poll_remove(struct reactor *r, struct reactor_poll *p)
{
	ASSERT_ON_REACTOR(r);
	if (!p->op)
		return;
	poll_op_drop(r, p->op);
	p->op = NULL;
}

static bool poll_op_arm(struct reactor *r, struct reactor_poll_op *p)
{
	struct io_uring_sqe *sqe = reactor_get_sqe(r);

	if (!sqe)
		return false;
	io_uring_prep_poll_add(sqe, p->fd, p->events);
	reactor_start_sqe(r, sqe, &p->op);
	p->armed = true;
	r->armed_polls++;
	return true;
}

/* The cancellation's own CQE goes nowhere; the poll's says -ECANCELED, or that it was first. */
static bool poll_op_cancel(struct reactor *r, struct reactor_poll_op *p)
{
	struct io_uring_sqe *sqe = reactor_get_sqe(r);

	if (!sqe)
		return false;
	io_uring_prep_poll_remove(sqe, (uintptr_t)&p->op);
	reactor_start_sqe(r, sqe, NULL);
	return true;
}

static bool poll_op_settle(struct reactor *r, struct reactor_poll_op *p)
{
	if (poll_op_removed(p)) {
		if (p->armed)
			return poll_op_cancel(r, p);
		poll_op_free(r, p);
		return true;
	}
	return p->armed || poll_op_arm(r, p);
}

/* What finds no room in the ring stays for the next submission. */
void reactor_prepare_polls(struct reactor *r)
{
	struct reactor_poll_op *list = r->poll_todo;

	r->poll_todo = NULL;
	while (list) {
		struct reactor_poll_op *p = list;

		list = p->todo_next;
		p->todo = false;
		if (!poll_op_settle(r, p))
			poll_op_todo(r, p);
	}
}

int reactor_source_add(struct reactor *r, struct reactor_source *s)
{
	ASSERT_ON_REACTOR(r);
	s->op = NULL;
	s->turn = turns_get(&r->turns, s->party);
	if (!s->turn)
		return -ENOMEM;
	if (s->fd >= 0) {
		s->op = poll_op_new(r, s->fd, s->events);
		if (!s->op) {
			turns_put(&r->turns, s->turn);
			return -ENOMEM;
		}
		s->op->source = s;
	}
	s->worked_ns = reactor_now_ns(r);
	s->resting = false;
	source_enter(r, s);
	return 0;
}

void reactor_source_remove(struct reactor *r, struct reactor_source *s)
{
	ASSERT_ON_REACTOR(r);
	if (r->source_next == s)
		r->source_next = s->next;
	if (r->source_asked == s)
		r->source_asked = NULL;
	if (s->resting)
		source_unlink(&r->resting, s);
	else
		source_leave(r, s);
	turns_put(&r->turns, s->turn);
	s->turn = NULL;
	if (s->op)
		poll_op_drop(r, s->op);
	s->op = NULL;
}

static bool source_ask(struct reactor *r, struct reactor_source *s)
{
	bool worked;

	r->source_asked = s;
	worked = s->poll(r, s);
	if (r->source_asked) /* it may have removed itself, and be gone */
		source_was_asked(r, s, worked);
	r->source_asked = NULL;
	return worked;
}

static bool run_all(struct reactor *r)
{
	bool any = false;

	for (struct reactor_source *s = r->sources; s; s = r->source_next) {
		r->source_next = s->next;
		any |= source_ask(r, s);
	}
	r->source_next = NULL;
	return any;
}

/* Its sources, those first that have waited longest, until its turn is over. */
static bool run_turn(struct reactor *r, struct turns_party *p)
{
	const uint64_t begin = monotonic_now_ns();
	uint64_t now = begin;
	bool any = false;

	r->turn_end_ns = begin + TURN_NS;
	for (unsigned n = p->sources; n && p->awake && now < r->turn_end_ns; n--) {
		struct reactor_source *s = p->awake;

		DL_DELETE2(p->awake, s, turn_prev, turn_next);
		DL_APPEND2(p->awake, s, turn_prev, turn_next);
		if (source_ask(r, s)) {
			any = true;
			now = monotonic_now_ns();
		}
	}
	r->turn_end_ns = 0;
	if (any)
		turns_worked(&r->turns, p, now - begin);
	return any;
}

bool reactor_run_sources(struct reactor *r)
{
	struct turns_party *next;

	turns_forget(&r->turns);
	if (!turns_contended(&r->turns))
		return run_all(r);
	for (struct turns_party *p = r->turns.active; p; p = next) {
		next = p->next;
		if (run_turn(r, p))
			return true;
	}
	return false;
}

bool reactor_turn_is_over(const struct reactor *r)
{
	return r->turn_end_ns && monotonic_now_ns() >= r->turn_end_ns;
}

uint64_t reactor_meter(const struct reactor *r)
{
	return turns_contended(&r->turns) ? monotonic_now_ns() : 0;
}

void reactor_charge(struct reactor *r, const void *party, uint64_t since)
{
	struct turns_party *p = since ? turns_find(&r->turns, party) : NULL;

	if (p)
		turns_spent(&r->turns, p, monotonic_now_ns() - since);
}

void reactor_arm_sources(struct reactor *r)
{
	for (struct reactor_source *s = r->sources; s; s = s->next)
		if (s->op && !s->op->armed)
			poll_op_todo(r, s->op);
}

void reactor_free_polls(struct reactor *r)
{
	while (r->polls)
		poll_op_free(r, r->polls);
}
