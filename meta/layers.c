/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The dirty blocks of chunks, and room for them.
 *
 * Who may take how many of the pool's slots is in room.h.
 *
 * Who waits for room, slots or a charge, holds none: neither slots nor the epoch of what it read, which keeps blocks from
 * being reused. So all slots that are taken are dirty blocks, which write-back frees without the help of any op, and it finds blocks.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "meta/data_internal.h"
#include "meta/room.h"

#define ROOM_RETRY_NS UINT64_C(2000000)

static struct dirty *slots_of(const struct chunk *c)
{
	return data_pool(c->file->data)->dirty;
}

int front_need(struct chunk *c)
{
	if (!c->front)
		c->front = calloc(1, sizeof(*c->front));
	return c->front ? 0 : -ENOMEM;
}

static void chunk_list_dirty(struct chunk *c)
{
	struct file *f = c->file;
	bool dirty = chunk_dirty(c) != 0;

	if (dirty != c->in_dirty) {
		if (dirty)
			DL_APPEND2(f->dirty_chunks, c, dirty_prev, dirty_next);
		else
			DL_DELETE2(f->dirty_chunks, c, dirty_prev, dirty_next);
		c->in_dirty = dirty;
	}
	chunk_list(c);
}

void front_set(struct chunk *c, unsigned block, uint32_t slot)
{
	assert(!(c->front_mask & block_bit(block)));
	c->front->slot[block] = slot;
	c->front_mask |= block_bit(block);
	c->file->front_blocks++;
	if (!c->in_dirty)
		chunk_list_dirty(c);
}

static void layer_free_slots(struct chunk *c, const struct layer *layer, uint64_t mask)
{
	uint32_t slots[CHUNK_BLOCKS];
	unsigned n = 0;

	for (; mask; mask &= mask - 1)
		slots[n++] = layer->slot[__builtin_ctzll(mask)];
	slots_give_back(c->file->data, slots, n);
}

void front_drop(struct chunk *c, uint64_t mask)
{
	mask &= c->front_mask;
	if (!mask)
		return;
	layer_free_slots(c, c->front, mask);
	c->front_mask &= ~mask;
	c->file->front_blocks -= mask_count(mask);
	chunk_list_dirty(c);
}

void *front_data(struct chunk *c, unsigned block)
{
	assert(c->front_mask & block_bit(block));
	return dirty_data(slots_of(c), c->front->slot[block]);
}

void front_seal(struct chunk *c, unsigned block, uint64_t sequence)
{
	struct file *f = c->file;
	struct dirty_header *h = dirty_header(slots_of(c), c->front->slot[block]);

	h->subvol = subvol_id(f->data->sv);
	h->incarnation = f->data->sv->rec.incarnation;
	h->ino = f->inode->ino;
	h->block = c->no * CHUNK_BLOCKS + block;
	h->size = f->size;
	h->mtime_sec = f->mtime.tv_sec;
	h->mtime_nsec = (uint32_t)f->mtime.tv_nsec;
	h->sequence = sequence;
	__atomic_store_n(&h->state, DIRTY_VALID, __ATOMIC_RELEASE);
}

const void *dirty_content(const struct chunk *c, unsigned block)
{
	const struct layer *layer = c->front_mask & block_bit(block) ? c->front : c->back;

	assert(chunk_dirty(c) & block_bit(block));
	return dirty_data(slots_of(c), layer->slot[block]);
}

void front_to_back(struct chunk *c)
{
	struct layer *spare = c->back;

	assert(!c->back_mask);
	c->back = c->front;
	c->back_mask = c->front_mask;
	c->front = spare;
	c->front_mask = 0;
	c->file->front_blocks -= mask_count(c->back_mask);
}

void back_to_front(struct chunk *c)
{
	uint64_t newer = c->front_mask & c->back_mask, kept = c->back_mask & ~newer;

	if (!c->front) {
		c->front = c->back;
		c->back = NULL;
		c->front_mask = kept;
	} else {
		layer_free_slots(c, c->back, newer);
		for (uint64_t left = kept; left; left &= left - 1) {
			unsigned b = (unsigned)__builtin_ctzll(left);

			c->front->slot[b] = c->back->slot[b];
		}
		c->front_mask |= kept;
	}
	c->back_mask = 0;
	c->file->front_blocks += mask_count(kept);
	chunk_list_dirty(c);
}

void back_keep(struct chunk *c, uint64_t mask)
{
	mask &= c->back_mask & ~c->front_mask;
	if (!mask)
		return;
	layer_free_slots(c, c->back, c->back_mask & ~mask);
	c->back_mask = mask;
	back_to_front(c);
}

void back_drop(struct chunk *c)
{
	layer_free_slots(c, c->back, c->back_mask);
	c->back_mask = 0;
	chunk_list_dirty(c);
}

/* ---- Slots ---- */

void slots_give_back(struct data *d, const uint32_t *slots, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		dirty_put(data_pool(d)->dirty, slots[i]);
	room_count(d->sv, -(int64_t)n);
	if (n)
		op_wake_all(&d->room_waiters);
}

uint32_t slot_next(struct op_io *io)
{
	assert(io->nslots);
	return io->slots[--io->nslots];
}

static void room_retry(struct reactor *r, struct reactor_timer *t)
{
	struct data *d = (struct data *)((char *)t - offsetof(struct data, room_timer));

	(void)r;
	op_wake_all(&d->room_waiters);
}

static int room_wait(struct op *op)
{
	struct data *d = op->sv->data;

	if (d->lists[FILE_FAILED] && !d->lists[FILE_DIRTY] && !d->lists[FILE_RUNNING])
		return d->lists[FILE_FAILED]->error;
	writeback_kick(d);
	d->room_timer.fn = room_retry;
	if (!d->room_timer.armed)
		reactor_timer_add(d->sv->reactor, &d->room_timer, reactor_now_ns(d->sv->reactor) + ROOM_RETRY_NS);
	return op_wait(op, &d->room_waiters);
}

static unsigned take_nslots(struct op_io *io)
{
	unsigned n = io->nslots;

	io->nslots = 0;
	return n;
}

void room_let_go(struct op_io *io)
{
	struct data *d = io->data;

	slots_give_back(d, io->slots, take_nslots(io));
	wants_drop(io);
}

int slots_take(struct op *op, unsigned n)
{
	struct data *d = op->sv->data;
	struct op_io *io = op_io_get(op);

	if (!io || GROW(io->slots, io->slot_cap, n))
		return -ENOMEM;
	if (n <= io->nslots)
		return 0;
	if (n > dirty_slots(data_pool(d)->dirty))
		return -ENOMEM;
	if (!room_is_there(d->sv, n - io->nslots)) {
		room_let_go(io);
		return room_wait(op);
	}
	while (io->nslots < n) {
		int64_t slot = dirty_get(data_pool(d)->dirty);

		if (slot < 0) { /* another reactor was faster */
			room_let_go(io);
			return room_wait(op);
		}
		io->slots[io->nslots++] = (uint32_t)slot;
		room_count(d->sv, 1);
	}
	return 0;
}

int slots_charge(struct op *op, struct file *f, uint64_t blocks, uint64_t own)
{
	int r = file_charge(op, f, blocks, own);

	if (r == META_WAIT)
		room_let_go(op->io);
	return r;
}
