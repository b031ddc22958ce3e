/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SEEK_DATA and SEEK_HOLE. Data is what is dirty or stored; what fallocate only promised is a hole. */
#include "config.h"

#include <errno.h>
#include <unistd.h>
#include <utlist.h>

#include "meta/data_internal.h"

#define SEEK_STEP 256u

static uint64_t data_mask(const struct chunk *c)
{
	return chunk_dirty(c) | chunk_stored(c) | (c->no == 0 && c->file->is_inline);
}

/* The first block with data in a loaded range of chunks, from block `from` on, or `end`. */
static uint64_t first_data(struct file *f, uint64_t from, uint64_t end)
{
	uint64_t best = end;
	struct chunk *c;

	if (f->is_inline && !from)
		return 0;
	DL_FOREACH(f->chunks, c) {
		uint64_t mask = data_mask(c), start = c->no * CHUNK_BLOCKS;

		if (from > start)
			mask = from - start < CHUNK_BLOCKS ? mask & UINT64_MAX << (from - start) : 0;
		if (mask && start + (unsigned)__builtin_ctzll(mask) < best)
			best = start + (unsigned)__builtin_ctzll(mask);
	}
	return best;
}

/* The first block without data. */
static uint64_t first_hole(struct file *f, uint64_t from, uint64_t end)
{
	while (from < end) {
		struct chunk *c = chunk_peek(f, from >> CHUNK_SHIFT);
		unsigned block = from % CHUNK_BLOCKS;
		uint64_t mask = c ? data_mask(c) : (from < CHUNK_BLOCKS && f->is_inline);

		if (!(mask & block_bit(block)))
			return from;
		from += mask_run(mask, block);
	}
	return end;
}

static int64_t found(const struct file *f, uint64_t offset, uint64_t block, int whence)
{
	uint64_t at = block >= block_up(f->size) ? f->size : block << NVFS_BLOCK_SHIFT;

	if (at < offset)
		at = offset;
	if (at >= f->size)
		return whence == SEEK_HOLE ? (int64_t)f->size : -ENXIO;
	return (int64_t)at;
}

int64_t data_seek(struct op *op, uint64_t ino, uint64_t offset, int whence)
{
	uint64_t from, end, next, limit;
	struct file *f;
	int r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	r = file_get(op, ino, &f);
	if (r)
		return r;
	if (offset >= f->size)
		return -ENXIO;
	end = block_up(f->size);
	from = op->stage == STAGE_STEPS && op->moment > block_down(offset) ? op->moment : block_down(offset);
	if (from >= end)
		return found(f, offset, end, whence);
	next = (end - 1) / CHUNK_BLOCKS + 1;
	if (whence == SEEK_HOLE && next > from / CHUNK_BLOCKS + SEEK_STEP)
		next = from / CHUNK_BLOCKS + SEEK_STEP;
	r = chunk_load(op, f, from / CHUNK_BLOCKS, next, SEEK_STEP, &next);
	if (r)
		return r;
	limit = next * CHUNK_BLOCKS < end ? next * CHUNK_BLOCKS : end;
	from = whence == SEEK_DATA ? first_data(f, from, limit) : first_hole(f, from, limit);
	if (from < limit || limit == end)
		return found(f, offset, from, whence);
	op->stage = STAGE_STEPS;
	op->moment = limit;
	return op_again(op, 0);
}
