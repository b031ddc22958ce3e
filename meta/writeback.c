/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When files are written back. Dirty files stand in a list by the age of their oldest change. Cycles are
 * started from its front, a limited number at a time, up to the moment that somebody asked for (the timer, a sync), and
 * further while slots of dirty blocks are scarce. fsync starts the cycle of its file by itself.
 *
 * A file whose cycle failed, or could not begin for want of memory, goes to a list of its own, keeps its data dirty, and is
 * tried again by the next timer or sync. Whoever waits for it is told: the timer's own sync waits like any other, so nobody
 * else would come.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <utlist.h>

#include "io/log.h"
#include "meta/data_internal.h"

#define CYCLES_MAX 64u
#define BUCKETS_FIRST 1024u
#define COMMIT_MS_DEFAULT 4000u
#define MAP_CACHE_DEFAULT ((uint64_t)64 << 20)

/* ---- Which files ---- */

bool slots_are_scarce(const struct data *d)
{
	const struct dirty *slots = data_pool(d)->dirty;

	return atomic_load_explicit(&d->sv->dirty_blocks, memory_order_relaxed) &&
	       dirty_free_slots(slots) < dirty_slots(slots) / 2;
}

static void kick(struct reactor *r, struct reactor_msg *msg)
{
	struct data *d = (struct data *)((char *)msg - offsetof(struct data, kick_msg));
	bool failed = false;

	(void)r;
	d->kicked = false;
	while (d->lists[FILE_DIRTY] && d->running < CYCLES_MAX) {
		struct file *f = d->lists[FILE_DIRTY];
		int error;

		if (f->since > d->flush_until && !slots_are_scarce(d))
			break;
		error = cycle_start(f);
		if (error) {
			cycle_not_begun(f, error);
			failed = true;
		}
	}
	if (failed)
		writeback_progress(d);
}

void writeback_kick(struct data *d)
{
	if (d->kicked || !d->lists[FILE_DIRTY])
		return;
	d->kicked = true;
	d->kick_msg.fn = kick;
	reactor_defer(d->sv->reactor, &d->kick_msg);
}

void writeback_flush(struct data *d, uint64_t moment)
{
	if (d->flush_until < moment)
		d->flush_until = moment;
	writeback_kick(d);
}

void writeback_progress(struct data *d)
{
	op_wake_all(&d->sync_waiters);
	if (d->room_waiters.head && !d->lists[FILE_DIRTY] && !d->lists[FILE_RUNNING])
		op_wake_all(&d->room_waiters); /* they may have to be told of the failure */
	writeback_kick(d);
}

static void retry_failed(struct data *d)
{
	while (d->lists[FILE_FAILED])
		file_move(d->lists[FILE_FAILED], FILE_DIRTY);
}

/* ---- Syncing ---- */

static bool put_up_to(const struct data *d, uint64_t moment)
{
	const struct file *f = d->lists[FILE_DIRTY];

	if (f && f->since <= moment)
		return false;
	DL_FOREACH(d->lists[FILE_RUNNING], f)
		if (f->cycle->since <= moment || (f->since && f->since <= moment))
			return false;
	return true;
}

int data_room_wait(struct op *op, int refusal)
{
	struct data *d = op->sv->data;

	if (!op->room_moment)
		op->room_moment = pool_sequence(op->sv->pool);
	if (!cuts_under_way(d, op->room_moment) &&
	    (!atomic_load_explicit(&op->sv->held_blocks, memory_order_relaxed) || put_up_to(d, op->room_moment)))
		return refusal;
	writeback_flush(d, op->room_moment);
	return op_wait(op, &d->sync_waiters);
}

static void op_committed(struct commit_ticket *ticket, int error)
{
	struct op_io *io = (struct op_io *)((char *)ticket - offsetof(struct op_io, ticket));

	if (error && !io->error)
		io->error = error;
	op_release(io->op);
}

/* One commit; the error of it, or of what was before it, is in io->error. */
static int op_commit(struct op *op)
{
	struct op_io *io = op_io_get(op);
	int r;

	if (!io)
		return -ENOMEM;
	r = gather_settle(op);
	if (r)
		return r;
	op->stage = STAGE_COMMIT;
	io->ticket.done = op_committed;
	io->ticket.reactor = op->sv->reactor;
	pool_commit(op->sv->pool, &io->ticket);
	return op_hold(op);
}

int data_put_and_commit(struct op *op, struct inode *inode, bool commit)
{
	int r;

	if (op->stage == STAGE_COMMIT)
		return op->io->error;
	op->stage = STAGE_PUT;
	r = file_put_all(op, inode);
	if (r == META_WAIT && commit)
		cycle_hurry(inode->file);
	if (r || !commit)
		return r;
	return op_commit(op);
}

int data_sync_all(struct op *op)
{
	struct data *d = op->sv->data;

	if (op->stage == STAGE_COMMIT)
		return op->io->error;
	if (op->stage == STAGE_START) {
		if (!op_io_get(op))
			return -ENOMEM;
		op->moment = pool_sequence(op->sv->pool);
		op->stage = STAGE_PUT;
		retry_failed(d);
		writeback_flush(d, op->moment);
	}
	if (!put_up_to(d, op->moment))
		return op_wait(op, &d->sync_waiters);
	if (d->lists[FILE_FAILED])
		op->io->error = d->lists[FILE_FAILED]->error;
	return op_commit(op);
}

int data_freeze(struct op *op)
{
	struct data *d = op->sv->data;

	assert(op->sv->gated);
	if (op->stage == STAGE_START) {
		op->stage = STAGE_PUT;
		retry_failed(d);
	}
	if (d->directs || d->keepers || d->lists[FILE_DIRTY] || d->lists[FILE_RUNNING]) {
		writeback_flush(d, pool_sequence(op->sv->pool));
		return op_wait(op, &d->sync_waiters);
	}
	return d->lists[FILE_FAILED] ? d->lists[FILE_FAILED]->error : 0;
}

bool data_frozen(const struct subvol *sv)
{
	const struct data *d = sv->data;

	return !d->directs && !d->keepers && !d->running && !d->lists[FILE_DIRTY] && !d->lists[FILE_FAILED] && !put_busy(d);
}

int data_fsync(struct op *op, uint64_t ino, bool datasync)
{
	struct inode *inode;
	int r;

	(void)datasync;
	if (op->stage == STAGE_START)
		atomic_fetch_add_explicit(&op->sv->stats.fsyncs, 1, memory_order_relaxed);
	if (op->stage == STAGE_COMMIT)
		return op->io->error;
	r = inode_get(op, ino, &inode);
	if (r)
		return r == -ENOENT && op->stage != STAGE_START ? 0 : r;
	if (S_ISDIR(inode->rec.mode))
		return data_sync_all(op);
	return data_put_and_commit(op, inode, true);
}

/* ---- The timer ---- */

static void timer_arm(struct data *d)
{
	uint32_t ms = data_pool(d)->options.commit_ms;
	uint64_t now = reactor_now_ns(d->sv->reactor);
	uint64_t next = d->timer_began_ns + (uint64_t)(ms ? ms : COMMIT_MS_DEFAULT) * 1000000;

	if (!d->stopping)
		reactor_timer_add(d->sv->reactor, &d->timer, next > now ? next : now);
}

static void timer_step(struct op *op)
{
	struct data *d = op->sv->data;
	int r;

	if (op->stage != STAGE_COMMIT)
		d->timer_epoch = op->sv->epoch; /* what is written after the commit began may miss it */
	r = data_sync_all(op);
	if (r == META_WAIT)
		return;
	op_finish(op);
	if (!r && !d->lists[FILE_FAILED])
		d->synced_epoch = d->timer_epoch;
	d->timer_busy = false;
	timer_arm(d);
}

void writeback_changed(struct subvol *sv)
{
	struct data *d = sv->data;

	if (!d || d->timer.armed || d->timer_busy)
		return;
	d->timer_began_ns = reactor_now_ns(sv->reactor);
	timer_arm(d);
}

static bool anything_to_commit(const struct data *d)
{
	return d->lists[FILE_DIRTY] || d->lists[FILE_RUNNING] || d->lists[FILE_FAILED] || d->synced_epoch != d->sv->epoch;
}

static void timer_fired(struct reactor *r, struct reactor_timer *timer)
{
	struct data *d = (struct data *)((char *)timer - offsetof(struct data, timer));

	d->timer_began_ns = reactor_now_ns(r);
	chunks_trim(d);
	space_reap(data_pool(d)->space);
	cutter_wake(d);
	if (!anything_to_commit(d)) {
		/* Once more after the last change: by then what it freed can be reaped. */
		if (!d->timer_quiet || cutter_waits(d))
			timer_arm(d);
		d->timer_quiet = true;
		return;
	}
	d->timer_quiet = false;
	d->timer_busy = true;
	op_init(&d->timer_op, d->sv, timer_step);
	timer_step(&d->timer_op);
}

/* ---- Start and stop ---- */

static void data_free(struct data *d)
{
	put_destroy(d);
	cutter_destroy(d);
	free(d->buckets);
	free(d->left);
	free(d);
}

static int data_create(struct subvol *sv)
{
	struct data *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->sv = sv;
	d->buffers = sv->shared->buffers;
	d->map_cap_bytes = sv->pool->options.map_cache_bytes ? sv->pool->options.map_cache_bytes : MAP_CACHE_DEFAULT;
	d->buckets = calloc(BUCKETS_FIRST, sizeof(*d->buckets));
	d->bucket_count = BUCKETS_FIRST;
	if (!d->buckets || put_create(d) || cutter_create(d)) {
		data_free(d);
		return -ENOMEM;
	}
	sv->data = d;
	return 0;
}

void data_destroy(struct subvol *sv)
{
	struct data *d = sv->data;

	if (!d)
		return;
	assert(!d->chunk_count && !d->running);
	sv->data = NULL;
	data_free(d);
}

int writeback_start(struct subvol *sv)
{
	struct data *d;
	int r = data_create(sv);

	if (r)
		return r;
	d = sv->data;
	d->timer.fn = timer_fired;
	d->timer_began_ns = reactor_now_ns(sv->reactor);
	d->synced_epoch = sv->epoch;
	if (sv->read_only)
		return 0;
	r = takeup_find(d);
	if (!r)
		r = cutter_start(d);
	if (!r)
		timer_arm(d);
	return r;
}

static void drop_dirty(struct file *f)
{
	struct chunk *c, *next;

	DL_FOREACH_SAFE2(f->dirty_chunks, c, next, dirty_next)
		front_drop(c, c->front_mask);
	f->since = 0;
	file_move(f, FILE_CLEAN);
}

bool data_idle(const struct subvol *sv)
{
	const struct data *d = sv->data;

	return !d->timer_busy && !d->lists[FILE_RUNNING] && !d->kicked && !cutter_busy(d);
}

void writeback_stop(struct subvol *sv)
{
	struct data *d = sv->data;

	d->stopping = true;
	assert(data_idle(sv));
	reactor_timer_cancel(sv->reactor, &d->timer);
	reactor_timer_cancel(sv->reactor, &d->room_timer);
	cutter_stop(d);
	retry_failed(d);
	while (d->lists[FILE_DIRTY])
		drop_dirty(d->lists[FILE_DIRTY]);
}
