/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clearing ranges of a file: what truncation, punching and zeroing have in common. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <utlist.h>

#include "meta/data_internal.h"

int each_chunk(struct file *f, uint64_t first, uint64_t end, int (*fn)(void *arg, struct chunk *c), void *arg)
{
	struct chunk *c, *next;
	int r = 0;

	if (end > first && end - first <= STEP_CHUNKS) {
		for (uint64_t no = first; no < end && !r; no++) {
			c = chunk_peek(f, no);
			r = c ? fn(arg, c) : 0;
		}
		return r;
	}
	DL_FOREACH_SAFE(f->chunks, c, next) {
		if (c->no >= first && c->no < end)
			r = fn(arg, c);
		if (r)
			return r;
	}
	return 0;
}

/* A range of bytes as blocks: whole ones, and the parts at its ends. */
struct clear {
	struct file *f;
	struct op_io *io;
	uint64_t from, to;
	uint64_t first, end; /* whole blocks */
	unsigned slots;
};

static struct clear clear_of(struct op *op, struct file *f, uint64_t from, uint64_t to)
{
	struct clear cl = { .f = f, .io = op->io, .from = from, .to = to };

	cl.first = block_up(from);
	cl.end = to >= f->size ? block_up(to) : block_down(to); /* beyond the end of the file there is nothing to keep */
	if (cl.end < cl.first)
		cl.end = cl.first;
	return cl;
}

static uint64_t clear_mask(const struct clear *cl, const struct chunk *c)
{
	uint64_t start = c->no * CHUNK_BLOCKS;
	uint64_t from = cl->first > start ? cl->first : start;
	uint64_t to = cl->end < start + CHUNK_BLOCKS ? cl->end : start + CHUNK_BLOCKS;

	return from < to ? block_mask((unsigned)(from - start), (unsigned)(to - from)) : 0;
}

/* The blocks of which a part is cleared: at most two; returns their number. */
static unsigned clear_partial(const struct clear *cl, uint64_t blocks[2])
{
	unsigned n = 0;

	if (cl->from % NVFS_BLOCK_SIZE && cl->from < cl->f->size)
		blocks[n++] = block_down(cl->from);
	if (cl->to % NVFS_BLOCK_SIZE && cl->to < cl->f->size && (!n || blocks[0] != block_down(cl->to)))
		blocks[n++] = block_down(cl->to);
	return n;
}

static bool has_content(const struct chunk *c, unsigned block)
{
	return (chunk_dirty(c) | chunk_stored(c)) & block_bit(block);
}

static uint64_t partial_mask(const struct clear *cl, const struct chunk *c)
{
	uint64_t blocks[2], mask = 0;
	unsigned n = clear_partial(cl, blocks);

	for (unsigned i = 0; i < n; i++)
		if (blocks[i] >> CHUNK_SHIFT == c->no && has_content(c, blocks[i] % CHUNK_BLOCKS))
			mask |= block_bit(blocks[i] % CHUNK_BLOCKS);
	return mask;
}

static int clear_chunk_inputs(void *arg, struct chunk *c)
{
	struct clear *cl = arg;
	uint64_t whole = clear_mask(cl, c), part = partial_mask(cl, c);
	uint64_t others = chunk_companions(c, whole | part) & ~(whole | part);
	int r = 0;

	if (c->hidden)
		return 0;
	for (uint64_t left = part; left && r >= 0; left &= left - 1) {
		const void *data;

		r = block_content(cl->io, c, (unsigned)__builtin_ctzll(left), &data);
	}
	if (r >= 0)
		r = want_companions(cl->io, c, whole | part);
	cl->slots += mask_count(part & ~c->front_mask) + mask_count(others);
	if (r >= 0 && (part || others))
		r = front_need(c);
	if (r >= 0 && c->map.mapped & whole) {
		file_changed(c->file);
		r = chunk_edit(c);
	}
	return r < 0 ? r : 0;
}

int clear_inputs(struct op *op, struct file *f, uint64_t from, uint64_t to)
{
	struct clear cl;
	int r;

	if (from >= to)
		return 0;
	if (!op_io_get(op))
		return -ENOMEM;
	wants_restart(op->io);
	cl = clear_of(op, f, from, to);
	r = each_chunk(f, block_down(from) >> CHUNK_SHIFT, to == UINT64_MAX ? CHUNK_LAST + 1 : (to - 1) / CHUNK_BYTES + 1,
		       clear_chunk_inputs, &cl);
	if (!r)
		r = fetch_start(op, f);
	return r ? r : slots_take(op, cl.slots);
}

void chunk_clear(struct chunk *c, uint64_t mask)
{
	struct file *f = c->file;
	uint64_t charged = chunk_charged(c) & mask;

	if (c->hidden || !charged)
		return;
	front_drop(c, mask);
	if (c->map.mapped & mask)
		chunk_unmap(c, mask);
	if (c->no == 0 && mask & 1 && f->is_inline)
		file_drop_inline(f);
	file_uncharge(f, mask_count(charged));
}

/* Zero what of the range falls into one block, which is or becomes dirty. */
static void clear_part(struct clear *cl, struct chunk *c, unsigned block)
{
	uint64_t start = (c->no * CHUNK_BLOCKS + block) << NVFS_BLOCK_SHIFT;
	uint64_t from = cl->from > start ? cl->from - start : 0;
	uint64_t to = cl->to - start < NVFS_BLOCK_SIZE ? cl->to - start : NVFS_BLOCK_SIZE;
	uint8_t *data = front_open(c, block, cl->io, true);

	memset(data + from, 0, to - from);
	front_seal(c, block, file_changed(c->file));
}

static int clear_chunk(void *arg, struct chunk *c)
{
	struct clear *cl = arg;
	uint64_t whole = clear_mask(cl, c), part = partial_mask(cl, c);

	if (c->hidden)
		return 0;
	front_companions(c, whole | part, cl->io);
	for (uint64_t left = part; left; left &= left - 1)
		clear_part(cl, c, (unsigned)__builtin_ctzll(left));
	chunk_clear(c, whole);
	return 0;
}

/* Inline data that is not dirty is changed where it is: no cycle runs. */
static void clear_inline(struct clear *cl)
{
	struct file *f = cl->f;
	struct chunk *zero = chunk_peek(f, 0);

	if (!f->is_inline || (zero && chunk_dirty(zero) & 1) || cl->from >= f->inline_len)
		return;
	if (cl->to >= f->inline_len)
		f->inline_len = (uint16_t)cl->from;
	else
		memset(f->inline_data + cl->from, 0, cl->to - cl->from);
	if (f->inline_len)
		return;
	file_drop_inline(f);
	file_uncharge(f, 1);
}

void clear_do(struct op *op, struct file *f, uint64_t from, uint64_t to)
{
	struct clear cl = clear_of(op, f, from, to);

	if (from >= to)
		return;
	file_changed(f);
	clear_inline(&cl);
	each_chunk(f, block_down(from) >> CHUNK_SHIFT, to == UINT64_MAX ? CHUNK_LAST + 1 : (to - 1) / CHUNK_BYTES + 1,
		   clear_chunk, &cl);
}
