/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clearing ranges of a file: what truncation, punching and zeroing have in common. One handler does all of it, so it is whole after any
 * crash. When more than STEP_CHUNKS records would have to be read for that, the whole chunks of the range get a *cut*: it hides their
 * records, enters RocksDB with the file's next batch, and the reaper (cuts.c) drops the records in batches.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
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
	uint64_t first_chunk, end_chunk; /* with blocks of the range */
	bool keep;           /* what is charged of the range stays so, as promised blocks */
	struct cut *cut;     /* of these chunks, or NULL */
	unsigned slots;
	uint64_t own;        /* inherited blocks that become the live node's: to be charged */
};

static struct clear clear_of(struct file *f, uint64_t from, uint64_t to)
{
	struct clear cl = { .f = f, .from = from, .to = to };

	cl.first = block_up(from);
	cl.end = to >= f->size ? block_up(to) : block_down(to); /* beyond the end of the file there is nothing to keep */
	if (cl.end < cl.first)
		cl.end = cl.first;
	cl.first_chunk = from / CHUNK_BYTES;
	cl.end_chunk = to == UINT64_MAX ? CHUNK_LAST + 1 : (to - 1) / CHUNK_BYTES + 1;
	return cl;
}

static bool in_cut(const struct clear *cl, const struct chunk *c)
{
	return cl->cut && c->no >= cl->cut->first && c->no < cl->cut->end;
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
	if (in_cut(cl, c)) {
		if (cl->keep && (c->changed || chunk_dirty(c)))
			cl->own += mask_count(chunk_charged(c) & ~chunk_charged_own(c));
		return cl->keep && chunk_dirty(c) ? chunk_edit(c) : 0;
	}
	for (uint64_t left = part; left && r >= 0; left &= left - 1) {
		const void *data;

		r = block_content(cl->io, c, (unsigned)__builtin_ctzll(left), &data);
	}
	if (r >= 0)
		r = want_companions(cl->io, c, whole | part);
	cl->slots += mask_count(part & ~c->front_mask) + mask_count(others);
	cl->own += mask_count((part | others | (cl->keep ? whole & chunk_charged(c) : 0)) & ~chunk_charged_own(c));
	if (r >= 0 && (part || others))
		r = front_need(c);
	if (r >= 0 && (cl->keep ? chunk_charged(c) : c->map.mapped) & whole) {
		file_changed(c->file);
		r = chunk_edit(c);
	}
	return r < 0 ? r : 0;
}

/* A cut for the whole chunks of the range; those at its ends are in memory then. */
static int clear_cut(struct op *op, struct clear *cl)
{
	struct chunk *c;
	int r = cl->from % CHUNK_BYTES ? chunk_get(op, cl->f, cl->first_chunk, &c) : 0;

	if (!r && cl->to != UINT64_MAX && cl->to % CHUNK_BYTES)
		r = chunk_get(op, cl->f, cl->end_chunk - 1, &c);
	if (r)
		return r;
	cl->cut = malloc(sizeof(*cl->cut));
	if (!cl->cut)
		return -ENOMEM;
	*cl->cut = (struct cut){
		.first = cl->first_chunk + !!(cl->from % CHUNK_BYTES),
		.end = cl->to == UINT64_MAX ? CUT_TO_END : cl->to / CHUNK_BYTES,
	};
	return 0;
}

/* All that the change needs: 0, META_WAIT, -errno. */
static int clear_inputs(struct op *op, struct clear *cl)
{
	uint64_t next;
	int r = chunk_load(op, cl->f, cl->first_chunk, cl->end_chunk, STEP_CHUNKS, &next);

	if (!r && next != cl->end_chunk)
		r = clear_cut(op, cl);
	if (r)
		return r;
	cl->io = op_io_get(op);
	if (!cl->io)
		return -ENOMEM;
	wants_restart(cl->io);
	r = each_chunk(cl->f, cl->first_chunk, cl->end_chunk, clear_chunk_inputs, cl);
	if (!r)
		r = fetch_start(op, cl->f);
	if (!r)
		r = slots_take(op, cl->slots);
	return r ? r : slots_charge(op, cl->f, 0, cl->own);
}

void chunk_clear(struct chunk *c, uint64_t mask)
{
	struct file *f = c->file;
	uint64_t charged = chunk_charged(c) & mask, own = chunk_charged_own(c) & mask;

	if (c->hidden || !charged)
		return;
	front_drop(c, mask);
	if (c->map.mapped & mask)
		chunk_unmap(c, mask);
	if (c->no == 0 && mask & 1 && f->is_inline)
		file_drop_inline(f);
	file_uncharge(f, mask_count(charged), mask_count(own));
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

/* Blocks that are charged become promised ones. chunk_edit() was called. */
static void chunk_zero(struct chunk *c, uint64_t mask)
{
	uint64_t charged = c->hidden ? 0 : chunk_charged(c) & mask;

	if (!charged)
		return;
	front_drop(c, mask);
	chunk_unmap(c, mask);
	if (c->no == 0 && mask & 1 && c->file->is_inline)
		file_drop_inline(c->file);
	blockmap_set_unwritten(&c->map, charged);
	c->file->mapped += mask_count(charged);
}

static void clear_whole(const struct clear *cl, struct chunk *c, uint64_t mask)
{
	if (cl->keep)
		chunk_zero(c, mask);
	else
		chunk_clear(c, mask);
}

/* A chunk that lies wholly in the cut. */
static void cut_chunk(const struct clear *cl, struct chunk *c)
{
	uint64_t only_dirty = chunk_dirty(c) & ~c->map.mapped, own_dirty = chunk_dirty(c) & ~chunk_map_own(c);

	if (c->changed || !c->map.mapped) {
		clear_whole(cl, c, BLOCKMAP_ALL);
	} else if (!c->hidden) {
		/* What is mapped stays counted until the reaper comes. */
		front_drop(c, c->front_mask);
		file_uncharge(c->file, mask_count(only_dirty), mask_count(own_dirty));
		c->hidden = true;
	}
}

static int clear_chunk(void *arg, struct chunk *c)
{
	struct clear *cl = arg;
	uint64_t whole = clear_mask(cl, c), part = partial_mask(cl, c);

	if (in_cut(cl, c))
		cut_chunk(cl, c);
	if (c->hidden || in_cut(cl, c))
		return 0;
	front_companions(c, whole | part, cl->io);
	for (uint64_t left = part; left; left &= left - 1)
		clear_part(cl, c, (unsigned)__builtin_ctzll(left));
	clear_whole(cl, c, whole);
	return 0;
}

/* Inline data that is not dirty is changed where it is: no cycle runs. */
static void clear_inline(struct clear *cl)
{
	struct file *f = cl->f;
	struct chunk *zero = chunk_peek(f, 0);
	bool own;

	if (!f->is_inline || (zero && chunk_dirty(zero) & 1) || cl->from >= f->inline_len)
		return;
	if (cl->to >= f->inline_len)
		f->inline_len = (uint16_t)cl->from;
	else
		memset(f->inline_data + cl->from, 0, cl->to - cl->from);
	if (f->inline_len)
		return;
	own = file_put_own(f) || f->inline_taken;
	file_drop_inline(f);
	file_uncharge(f, 1, own);
}

/* Older cuts of nothing but these chunks say no more than the new one: the batch that puts it deletes them. */
static void cut_replaces(struct file *f, const struct cut *cut)
{
	for (struct cut **at = &f->cuts, *old; (old = *at);) {
		const bool covered = old->first >= cut->first && old->end <= cut->end;

		if (covered && !old->put) {
			*at = old->next;
			free(old);
			continue;
		}
		old->done |= covered;
		at = &old->next;
	}
}

static void cut_enter(struct file *f, struct cut *cut)
{
	bool had = f->cuts;

	cut_replaces(f, cut);
	cut->sequence = file_changed(f);
	cut->next = f->cuts;
	f->cuts = cut;
	if (!had)
		cuts_enter(f);
}

int range_clear(struct op *op, struct file *f, uint64_t from, uint64_t to, bool keep)
{
	struct clear cl = clear_of(f, from, to);
	int r;

	cl.keep = keep;
	r = clear_inputs(op, &cl);
	if (r) {
		free(cl.cut);
		return r;
	}
	file_changed(f);
	clear_inline(&cl);
	each_chunk(f, cl.first_chunk, cl.end_chunk, clear_chunk, &cl);
	if (cl.cut)
		cut_enter(f, cl.cut);
	return cl.cut ? RANGE_CUT : 0;
}
