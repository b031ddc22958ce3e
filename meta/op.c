/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ops: waiting and running again, and inputs that workers read.
 *
 * An op counts what it waits for in `pending`, whatever it is; the last one to arrive has it run
 * again from the reactor's loop. So a handler may ask for several things and return META_WAIT once.
 *
 * A read that RocksDB cannot answer from memory goes to a worker, and its value is kept in the op:
 * that the block cache has it when the op runs again is likely, not certain. The value may be used
 * only while nothing was written in between (subvol->epoch). When that fails, the cache is asked
 * again (for a range, further each time: version.c); an op that was unlucky several times becomes the subvolume's `quiet` op: the writes of
 * all others wait until it ran, so that it ends however small the cache and however many the writers. It
 * stops being quiet as soon as it waits for anything but an input, so it cannot wait for
 * somebody who waits for it.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/gather.h"
#include "meta/op_internal.h"
#include "meta/subvol_internal.h"

#define OP_PATIENCE 4 /* stale inputs before an op asks for quiet */

static struct op *op_of_msg(struct reactor_msg *msg)
{
	return (struct op *)((char *)msg - offsetof(struct op, msg));
}

static struct op *op_of_timer(struct reactor_timer *t)
{
	return (struct op *)((char *)t - offsetof(struct op, timer));
}

static void run_again(struct reactor *r, struct reactor_msg *msg)
{
	struct op *op = op_of_msg(msg);
	const void *party = subvol_party(op->sv);
	const uint64_t since = reactor_meter(r);

	op->deferred = false;
	op->restarts++;
	op->run(op);
	reactor_charge(r, party, since);
}

static void timer_fired(struct reactor *r, struct reactor_timer *t)
{
	(void)r;
	op_release(op_of_timer(t));
}

void op_init(struct op *op, struct subvol *sv, void (*run)(struct op *op))
{
	memset(op, 0, sizeof(*op));
	op->sv = sv;
	op->run = run;
	op->msg.fn = run_again;
	op->timer.fn = timer_fired;
}

/* ---- quiet ---- */

static void quiet_end(struct op *op)
{
	if (op->sv->quiet != op)
		return;
	op->sv->quiet = NULL;
	op_wake_all(&op->sv->quiet_waiters);
}

int op_check_quiet(struct op *op)
{
	if (!op->sv->quiet || op->sv->quiet == op)
		return 0;
	return op_wait(op, &op->sv->quiet_waiters);
}

/* ---- waiting ---- */

static int pend(struct op *op)
{
	ASSERT_ON_REACTOR(op->sv->reactor);
	op->pending++;
	return META_WAIT;
}

int op_hold(struct op *op)
{
	quiet_end(op);
	return pend(op);
}

void op_release(struct op *op)
{
	assert(op->pending > 0);
	if (--op->pending)
		return;
	op->deferred = true;
	reactor_defer(op->sv->reactor, &op->msg);
}

int op_again(struct op *op, uint64_t delay_ns)
{
	if (op->timer.armed)
		return META_WAIT;
	op_hold(op);
	if (delay_ns)
		reactor_timer_add(op->sv->reactor, &op->timer, monotonic_now_ns() + delay_ns);
	else
		op_release(op);
	return META_WAIT;
}

int op_wait(struct op *op, struct op_queue *q)
{
	if (op->queue) /* asked twice within one run: the first reason is as good */
		return META_WAIT;
	op_hold(op);
	op->queue = q;
	op->next = NULL;
	if (q->tail)
		q->tail->next = op;
	else
		q->head = op;
	q->tail = op;
	return META_WAIT;
}

void op_wake_one(struct op_queue *q)
{
	struct op *op = q->head;

	if (!op)
		return;
	q->head = op->next;
	if (!q->head)
		q->tail = NULL;
	op->next = NULL;
	op->queue = NULL;
	op_release(op);
}

void op_wake_all(struct op_queue *q)
{
	while (q->head)
		op_wake_one(q);
}

static void leave_queue(struct op *op)
{
	struct op_queue *q = op->queue;
	struct op *prev = NULL;

	if (!q)
		return;
	for (struct op *o = q->head; o != op; o = o->next)
		prev = o;
	if (prev)
		prev->next = op->next;
	else
		q->head = op->next;
	if (q->tail == op)
		q->tail = prev;
	op->queue = NULL;
	op->next = NULL;
}

/* ---- inputs ---- */

static void input_free(struct op_input *in)
{
	in->clear(in);
	free(in);
}

static void input_fetch(struct work *w)
{
	struct op_input *in = (struct op_input *)((char *)w - offsetof(struct op_input, work));

	in->fetch(in);
}

static void input_done(struct work *w)
{
	struct op_input *in = (struct op_input *)((char *)w - offsetof(struct op_input, work));

	in->running = false;
	in->sv->inputs_running--;
	if (in->op)
		op_release(in->op);
	else
		input_free(in);
}

struct op_input *op_input_find(struct op *op, enum op_input_kind kind, enum db_cf cf, const void *key, size_t key_len)
{
	for (struct op_input *in = op->inputs; in; in = in->next)
		if (in->kind == kind && in->cf == cf && in->key_len == key_len && !memcmp(in->key, key, key_len))
			return in;
	return NULL;
}

bool op_input_fresh(const struct op *op, const struct op_input *in)
{
	return !in->running && in->epoch == op->sv->epoch;
}

void op_input_add(struct op *op, struct op_input *in)
{
	in->work.fn = input_fetch;
	in->work.done = input_done;
	in->work.reactor = op->sv->reactor;
	in->op = op;
	in->sv = op->sv;
	in->db = op->sv->pool->db;
	in->next = op->inputs;
	op->inputs = in;
}

int op_input_start(struct op *op, struct op_input *in)
{
	if (in->running)
		return META_WAIT;
	in->running = true;
	in->epoch = op->sv->epoch;
	op->sv->inputs_running++;
	pend(op);
	workers_submit(op->sv->pool->workers, &in->work);
	return META_WAIT;
}

void op_input_reset(struct op *op, struct op_input *in)
{
	in->clear(in);
	if (op->restarts >= OP_PATIENCE && in->epoch != op->sv->epoch && !op->sv->quiet)
		op->sv->quiet = op;
}

void op_finish(struct op *op)
{
	struct op_input *in, *next;

	assert(!op->deferred); /* its message is in the reactor's list: it must run before it ends */
	if (op->io_release)
		op->io_release(op);
	op->io_release = NULL;
	op->io = NULL;
	for (in = op->inputs; in; in = next) {
		next = in->next;
		in->op = NULL;
		if (!in->running)
			input_free(in);
	}
	op->inputs = NULL;
	leave_queue(op);
	if (op->timer.armed)
		reactor_timer_cancel(op->sv->reactor, &op->timer);
	op->pending = 0;
	quiet_end(op);
}

/* ---- records ---- */

struct record_input {
	struct op_input in;
	int result;
	struct db_value value;
	uint8_t key[];
};

static void record_fetch(struct op_input *in)
{
	struct record_input *rec = (struct record_input *)in;

	rec->result = db_get(in->db, in->cf, in->key, in->key_len, 0, &rec->value);
}

static void record_clear(struct op_input *in)
{
	db_value_release(&((struct record_input *)in)->value);
}

static struct op_input *record_input_new(struct op *op, enum db_cf cf, const void *key, size_t key_len)
{
	struct record_input *rec = calloc(1, sizeof(*rec) + key_len);

	if (!rec)
		return NULL;
	memcpy(rec->key, key, key_len);
	rec->in.kind = OP_INPUT_RECORD;
	rec->in.cf = cf;
	rec->in.key = rec->key;
	rec->in.key_len = key_len;
	rec->in.fetch = record_fetch;
	rec->in.clear = record_clear;
	op_input_add(op, &rec->in);
	return &rec->in;
}

/* The input's value without its pin, which stays the input's. */
static int record_result(const struct op_input *in, struct db_value *out)
{
	const struct record_input *rec = (const struct record_input *)in;

	memset(out, 0, sizeof(*out));
	if (!rec->result) {
		out->data = rec->value.data;
		out->len = rec->value.len;
	}
	return rec->result;
}

int op_get(struct op *op, enum db_cf cf, const void *key, size_t key_len, struct db_value *out)
{
	struct op_input *in = op->inputs ? op_input_find(op, OP_INPUT_RECORD, cf, key, key_len) : NULL;
	int r = gather_get(op->sv->gather, cf, key, key_len, out);

	if (r)
		return r > 0 ? 0 : r;
	if (in && op_input_fresh(op, in))
		return record_result(in, out);
	r = db_get(op->sv->pool->db, cf, key, key_len, DB_CACHED_ONLY, out);
	if (r != -EAGAIN)
		return r;
	memset(out, 0, sizeof(*out));
	if (in && !in->running)
		op_input_reset(op, in);
	if (!in)
		in = record_input_new(op, cf, key, key_len);
	return in ? op_input_start(op, in) : -ENOMEM;
}

/* ---- replay ---- */

int op_replayed(struct op *op, uint64_t *ino)
{
	uint8_t key[KEY_MAX];
	cleanup_db_value struct db_value value = { 0 };
	struct result_rec rec;
	int r;

	*ino = 0;
	if (!op->session)
		return 0;
	r = op_get(op, DB_SYS, key, key_result(key, op->session, op->slot), &value);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (result_rec_decode(value.data, value.len, &rec))
		return -EIO;
	if (rec.unique != op->unique || rec.error || rec.length != sizeof(le64_t))
		return 0;
	*ino = get_le64(rec.reply);
	return 1;
}
