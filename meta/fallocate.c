/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fallocate(2). What is punched or zeroed is cleared in one handler. Space is promised in steps of STEP_CHUNKS: each leaves a file that
 * is right as it is.
 *
 * What is refused changes nothing: before anything is cleared or promised, all that the range lacks is counted, in steps too, and taken for
 * the op (file_take_ahead()). Whoever changes the range meanwhile can only be a write, and then less is needed.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "meta/data_internal.h"

/* In op->steps. */
#define STEP_CLEARED 1u
#define STEP_ZEROING 2u /* by a cut */
#define STEP_CHANGED 4u /* something of the file is not as it was */

/* The step that begins at `from`: its end in bytes. */
static uint64_t step_end(uint64_t from, uint64_t to)
{
	uint64_t end = (from / CHUNK_BYTES + STEP_CHUNKS) * CHUNK_BYTES;

	return end < to ? end : to;
}

/* ---- Promising space ---- */

/* What a hidden chunk gives back is for what comes in its place. */
static int unhide(struct file *f, struct chunk *c)
{
	const uint64_t blocks = mask_count(c->map.mapped), own = mask_count(chunk_map_own(c));
	int r;

	if (!c->hidden)
		return 0;
	f->kept += blocks;
	f->kept_own += own;
	r = chunk_unhide(c);
	if (r) {
		f->kept -= blocks;
		f->kept_own -= own;
	}
	return r;
}

/* The blocks of the range that are to be charged; their chunks are ready to be changed. */
static int allocate_inputs(struct op *op, struct file *f, uint64_t first, uint64_t end, uint64_t *fresh)
{
	struct span s = span_blocks(first, end);
	struct chunk *c;
	int r;

	while (span_next(&s)) {
		r = chunk_get(op, f, s.chunk, &c);
		if (r)
			return r;
	}
	s = span_blocks(first, end);
	*fresh = 0;
	while (span_next(&s)) {
		uint64_t lacks;

		c = chunk_peek(f, s.chunk);
		r = unhide(f, c);
		if (r)
			return r;
		lacks = span_mask(&s) & ~chunk_charged(c);
		if (!lacks)
			continue;
		*fresh += mask_count(lacks);
		file_changed(f);
		r = chunk_edit(c);
		if (r)
			return r;
	}
	return 0;
}

static int allocate_step(struct op *op, struct file *f, uint64_t first, uint64_t end)
{
	struct span s = span_blocks(first, end);
	uint64_t fresh;
	int r = allocate_inputs(op, f, first, end, &fresh);

	if (!r)
		r = file_charge(op, f, fresh, fresh);
	if (r)
		return r;
	while (span_next(&s)) {
		struct chunk *c = chunk_peek(f, s.chunk);
		uint64_t lacks = span_mask(&s) & ~chunk_charged(c);

		if (lacks)
			blockmap_set_unwritten(&c->map, lacks);
	}
	f->mapped += fresh;
	return 0;
}

/* Inline data becomes a dirty block, of which [from, to) will be cleared: a file with mapped blocks has none. */
static int spill(struct op *op, struct file *f, uint64_t from, uint64_t to)
{
	unsigned slots = 0;
	int r;

	if (!f->is_inline)
		return 0;
	if (!op_io_get(op))
		return -ENOMEM;
	r = inline_need(op, f, from, to, &slots);
	if (!r)
		r = slots_take(op, slots);
	if (!r)
		inline_spill(f, op->io);
	return r;
}

/* ---- Taking all that is needed ---- */

/* An early answer where the range cannot fit, however much of it there is: without a look at any chunk. */
static int keep_check(struct op *op, const struct file *f, uint64_t blocks)
{
	const int64_t least = blocks > f->taken ? (int64_t)(blocks - f->taken) : 0;
	const struct charge charge = { .blocks = least, .own_blocks = least };
	const struct charge back = { .blocks = -least, .own_blocks = -least };
	int r = least ? subvol_charge_op(op, &charge) : 0;

	if (!r && least)
		subvol_charge(op->sv, &back);
	return r;
}

/* What becomes the file's own where others have it, too: zeroing takes the rest of compressed extents with it. */
static uint64_t keep_own(const struct chunk *c, bool zero, uint64_t mask)
{
	return zero ? (mask | chunk_companions(c, mask)) & ~chunk_charged_own(c) : mask & ~chunk_charged(c);
}

/* One step of the count: what will be charged. */
static int keep_count(struct op *op, struct file *f, bool zero, uint64_t first, uint64_t end)
{
	struct span s = span_blocks(first, end);
	struct chunk *c;

	while (span_next(&s)) {
		int r = chunk_get(op, f, s.chunk, &c);

		if (r)
			return r;
	}
	s = span_blocks(first, end);
	while (span_next(&s)) {
		c = chunk_peek(f, s.chunk);
		op->blocks += mask_count(span_mask(&s) & ~chunk_charged(c));
		op->own_blocks += mask_count(keep_own(c, zero, span_mask(&s)));
	}
	return 0;
}

static void count_again(struct op *op)
{
	op->blocks = op->own_blocks = op->moment = 0;
}

/* Inline data of another node becomes an own block, where the range has not counted that. */
static bool inline_besides(const struct file *f, bool zero, uint64_t from)
{
	return f->is_inline && !f->inline_taken && !file_put_own(f) && !(zero && from < NVFS_BLOCK_SIZE);
}

static int keep(struct op *op, struct file *f, bool zero, uint64_t from, uint64_t end)
{
	uint64_t at, to;
	int r = 0;

	if (f->keeper)
		return op_wait(op, &f->data->sync_waiters);
	if (op->counted_node != op->sv->node)
		count_again(op); /* a snapshot was made, and what was the file's own is not any more */
	op->counted_node = op->sv->node;
	at = op->moment ? op->moment : from;
	to = step_end(at, end);
	if (!op->moment)
		r = keep_check(op, f, block_up(end) - block_down(from));
	if (!r)
		r = keep_count(op, f, zero, block_down(at), block_up(to));
	if (r)
		return r;
	if (to < end) {
		op->moment = to;
		return op_again(op, 0);
	}
	r = file_take_ahead(op, f, op->blocks, op->own_blocks + inline_besides(f, zero, from));
	count_again(op); /* it may have waited for what was counted to change */
	return r;
}

/* ---- The steps ---- */

/* What punching and zeroing have of their own. Once in an op: what is written to the range between later steps stays. */
static int clear(struct op *op, struct file *f, int mode, uint64_t from, uint64_t to)
{
	bool zero = !(mode & FALLOC_FL_PUNCH_HOLE);
	int r = zero ? spill(op, f, from, to) : 0;

	if (!r)
		r = range_clear(op, f, from, to, zero);
	if (r < 0)
		return r;
	op->steps |= STEP_CLEARED | STEP_CHANGED;
	if (zero && r == RANGE_CUT) {
		op->steps |= STEP_ZEROING;
		f->zeroing++;
	}
	file_touch(f);
	return 0;
}

/* The op ends: the reaper may have what is left of the cut, and others what was not needed. */
static void steps_end(struct op *op)
{
	struct file *f = op->keeps;

	if (op->steps & STEP_ZEROING) {
		f->zeroing--;
		cutter_wake(f->data);
	}
	if (f)
		file_ahead_end(f);
	op->steps = 0;
}

static int promise(struct op *op, struct file *f, int mode, uint64_t from, uint64_t to)
{
	int r = spill(op, f, UINT64_MAX, UINT64_MAX);

	if (!r)
		r = allocate_step(op, f, block_down(from), block_up(to));
	if (r)
		return r;
	op->steps |= STEP_CHANGED;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && f->size < to)
		f->size = to;
	file_touch(f);
	file_changed(f);
	if (f->changed_count >= CHANGED_MAX)
		writeback_flush(f->data, f->since);
	return 0;
}

static int check_arguments(int mode, uint64_t offset, uint64_t len)
{
	int kind = mode & ~FALLOC_FL_KEEP_SIZE;

	if (kind && kind != FALLOC_FL_ZERO_RANGE && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!len)
		return -EINVAL;
	return offset > FILE_BYTES_MAX || len > FILE_BYTES_MAX - offset ? -EFBIG : 0;
}

/* Behind a closed gate what was begun is brought to its end; else nothing is kept from those who wait for that. */
static int may_go_on(struct op *op)
{
	if (op->steps & STEP_CHANGED)
		return 0;
	if (op->sv->gated) {
		steps_end(op);
		count_again(op);
		op->stage = STAGE_START;
	}
	return data_writable(op);
}

static int punch(struct op *op, struct file *f, int mode, uint64_t from, uint64_t end)
{
	int r = inline_take(op, f);

	return r ? r : clear(op, f, mode, from, end);
}

static int allocate(struct op *op, struct file *f, int mode, uint64_t offset, uint64_t end)
{
	const bool zero = mode & FALLOC_FL_ZERO_RANGE;
	uint64_t from, to;
	int r = op->keeps ? 0 : keep(op, f, zero, offset, end);

	if (!r && !(op->steps & STEP_CHANGED))
		r = inline_take(op, f);
	if (!r && zero && !(op->steps & STEP_CLEARED))
		r = clear(op, f, mode, offset, end);
	if (r)
		return r;
	from = op->stage == STAGE_STEPS ? op->moment : offset;
	to = step_end(from, end);
	r = promise(op, f, mode, from, to);
	if (r || to == end)
		return r;
	op->stage = STAGE_STEPS;
	op->moment = to;
	return op_again(op, 0);
}

int data_fallocate(struct op *op, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	struct file *f;
	int r = check_arguments(mode, offset, len);

	if (!r)
		r = may_go_on(op);
	if (!r)
		r = file_get(op, ino, &f);
	if (!r)
		r = file_exclusive(op, f);
	if (!r)
		r = mode & FALLOC_FL_PUNCH_HOLE ? punch(op, f, mode, offset, offset + len) : allocate(op, f, mode, offset, offset + len);
	if (r != META_WAIT)
		steps_end(op);
	return r;
}
