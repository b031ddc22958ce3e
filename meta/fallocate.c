/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fallocate(2). What is punched or zeroed is cleared in one handler. Space is promised in steps of STEP_CHUNKS: each leaves a file that
 * is right as it is. A refusal for space is given before the first step where the whole range could not fit.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "meta/data_internal.h"

/* In op->steps. */
#define STEP_CLEARED 1u
#define STEP_ZEROING 2u /* by a cut */

/* The step that begins at `from`: its end in bytes. */
static uint64_t step_end(uint64_t from, uint64_t to)
{
	uint64_t end = (from / CHUNK_BYTES + STEP_CHUNKS) * CHUNK_BYTES;

	return end < to ? end : to;
}

/* ---- Promising space ---- */

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
	/* From here on without a wait until it is charged: what a hidden chunk gives back is for those in its place. */
	while (span_next(&s)) {
		uint64_t lacks;

		c = chunk_peek(f, s.chunk);
		r = chunk_unhide(c);
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

/* An early answer where the range cannot fit. */
static int allocate_check(struct op *op, const struct file *f, uint64_t blocks)
{
	const int64_t least = blocks > f->taken ? (int64_t)(blocks - f->taken) : 0;
	const struct charge charge = { .blocks = least, .own_blocks = least };
	const struct charge back = { .blocks = -least, .own_blocks = -least };
	int r = least ? subvol_charge_op(op, &charge) : 0;

	if (!r && least)
		subvol_charge(op->sv, &back);
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
	op->steps |= STEP_CLEARED;
	if (zero && r == RANGE_CUT) {
		op->steps |= STEP_ZEROING;
		f->zeroing++;
	}
	file_touch(f);
	return 0;
}

/* The op ends: the reaper may have what is left of the cut. */
static void zeroing_end(struct op *op, struct file *f)
{
	if (!(op->steps & STEP_ZEROING))
		return;
	op->steps &= ~STEP_ZEROING;
	f->zeroing--;
	cutter_wake(f->data);
}

static int promise(struct op *op, struct file *f, int mode, uint64_t from, uint64_t to)
{
	int r = spill(op, f, UINT64_MAX, UINT64_MAX);

	if (!r)
		r = allocate_step(op, f, block_down(from), block_up(to));
	if (r)
		return r;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && f->size < to)
		f->size = to;
	file_touch(f);
	file_changed(f);
	if (f->changed_count >= CHANGED_MAX)
		writeback_flush(f->data, f->since);
	return 0;
}

static int check_arguments(struct op *op, int mode, uint64_t offset, uint64_t len)
{
	int kind = mode & ~FALLOC_FL_KEEP_SIZE;

	if (kind && kind != FALLOC_FL_ZERO_RANGE && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (!len)
		return -EINVAL;
	if (offset > FILE_BYTES_MAX || len > FILE_BYTES_MAX - offset)
		return -EFBIG;
	return op->stage == STAGE_START || op->sv->gated ? data_writable(op) : 0;
}

int data_fallocate(struct op *op, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len, from, to;
	struct file *f;
	int r = check_arguments(op, mode, offset, len);

	if (!r)
		r = file_get(op, ino, &f);
	if (!r)
		r = file_exclusive(op, f);
	if (!r && op->stage == STAGE_START)
		r = inline_take(op, f);
	if (!r && op->stage == STAGE_START && !op->steps && !(mode & FALLOC_FL_PUNCH_HOLE))
		r = allocate_check(op, f, block_up(end) - block_down(offset));
	if (!r && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && !(op->steps & STEP_CLEARED))
		r = clear(op, f, mode, offset, end);
	if (r || mode & FALLOC_FL_PUNCH_HOLE)
		return r;
	from = op->stage == STAGE_STEPS ? op->moment : offset;
	to = step_end(from, end);
	r = promise(op, f, mode, from, to);
	if (r == META_WAIT)
		return r;
	if (r || to == end) {
		zeroing_end(op, f);
		return r;
	}
	op->stage = STAGE_STEPS;
	op->moment = to;
	return op_again(op, 0);
}
