/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * copy_file_range(2): the target's records map the source's blocks, which gain a holder. It works on whole
 * blocks; where that cannot be (offsets that do not fit each other, an end within a block that is not the source's last,
 * compressed extents, inline data), the answer is -EOPNOTSUPP and the kernel copies. The source's dirty data is written
 * back first.
 */
#include "config.h"

#include <errno.h>

#include "meta/data_internal.h"

#define COPY_CHUNKS 128u

struct copy {
	struct op *op;
	struct file *in, *out;
	uint64_t in_block, out_block, blocks;
	uint64_t fresh, own;
	unsigned slots;
};

/* The source's content of one block of the target. */
static struct chunk *source_of(const struct copy *cp, uint64_t out_block, unsigned *block)
{
	uint64_t in_block = cp->in_block + (out_block - cp->out_block);

	*block = in_block % CHUNK_BLOCKS;
	return chunk_peek(cp->in, in_block >> CHUNK_SHIFT);
}

/* Write the source back: up to the op's moment, then, when it is dirty again, up to now. A failure ends it. */
static int source_put(struct copy *cp)
{
	int r = file_put_all(cp->op, cp->in->inode);

	if (r)
		return r;
	cp->op->moment = 0;
	r = file_put_all(cp->op, cp->in->inode);
	return r ? r : -EIO;
}

static int source_inputs(struct copy *cp)
{
	struct span s = span_blocks(cp->in_block, cp->in_block + cp->blocks);

	while (span_next(&s)) {
		uint64_t mask = span_mask(&s);
		struct chunk *c;
		int r = chunk_get(cp->op, cp->in, s.chunk, &c);

		if (r)
			return r;
		if (c->busy & mask)
			return op_wait(cp->op, &cp->in->busy_waiters);
		if (chunk_dirty(c) & mask)
			return source_put(cp);
		if (!c->hidden && c->map.compressed & mask)
			return -EOPNOTSUPP;
	}
	return 0;
}

/* Whether the source has something for that block of the target's chunk. */
static bool is_filled(const struct copy *cp, const struct chunk *c, unsigned block)
{
	unsigned from;
	const struct chunk *in = source_of(cp, c->no * CHUNK_BLOCKS + block, &from);

	return chunk_stored(in) & block_bit(from);
}

static uint64_t filled_mask(const struct copy *cp, const struct span *s)
{
	const struct chunk *c = chunk_peek(cp->out, s->chunk);
	uint64_t mask = 0;

	for (unsigned b = s->block; b < s->block + s->count; b++)
		mask |= is_filled(cp, c, b) ? block_bit(b) : 0;
	return mask;
}

static int target_inputs(struct copy *cp)
{
	struct span s = span_blocks(cp->out_block, cp->out_block + cp->blocks);

	cp->fresh = cp->own = cp->slots = 0;
	while (span_next(&s)) {
		uint64_t mask = span_mask(&s), filled;
		struct chunk *c;
		int r = chunk_get(cp->op, cp->out, s.chunk, &c);

		if (!r)
			r = chunk_unhide(c);
		if (!r)
			r = want_companions(cp->op->io, c, mask);
		if (!r)
			r = front_need(c);
		if (!r)
			r = chunk_edit(c);
		file_changed(cp->out);
		if (r)
			return r;
		cp->slots += mask_count(chunk_companions(c, mask));
		filled = filled_mask(cp, &s);
		cp->fresh += mask_count(filled & ~chunk_charged(c));
		cp->own += mask_count((filled | chunk_companions(c, mask)) & ~chunk_charged_own(c));
	}
	return 0;
}

/* Not all of it has room: the copy ends before the first unit that has none. */
static int copy_less(struct copy *cp)
{
	struct span s = span_blocks(cp->out_block, cp->out_block + cp->blocks);

	cp->fresh = cp->own = 0;
	while (span_next(&s)) {
		struct chunk *c = chunk_peek(cp->out, s.chunk);
		const uint64_t filled = filled_mask(cp, &s);

		for (uint64_t left = span_mask(&s), unit; (unit = unit_next(c, &left)) != 0;) {
			const uint64_t first = c->no * CHUNK_BLOCKS + (unsigned)__builtin_ctzll(unit);
			int r = unit_charge(c, unit, unit & filled, &cp->fresh, &cp->own);

			if (!r)
				continue;
			cp->blocks = first - cp->out_block;
			return cp->blocks ? 0 : r;
		}
	}
	return 0;
}

static int copy_inputs(struct copy *cp)
{
	int r;

	if (cp->in->is_inline)
		return -EOPNOTSUPP;
	if (!op_io_get(cp->op))
		return -ENOMEM;
	wants_restart(cp->op->io);
	r = file_exclusive(cp->op, cp->out);
	if (!r)
		r = inline_take(cp->op, cp->out);
	if (!r)
		r = source_inputs(cp);
	if (!r)
		r = target_inputs(cp);
	if (!r)
		r = inline_need(cp->op, cp->out, cp->out_block << NVFS_BLOCK_SHIFT,
				(cp->out_block + cp->blocks) << NVFS_BLOCK_SHIFT, &cp->slots);
	if (!r)
		r = fetch_start(cp->op, cp->out);
	if (!r)
		r = slots_take(cp->op, cp->slots);
	if (!r)
		r = slots_charge(cp->op, cp->out, cp->fresh, cp->own);
	return is_refusal(r) ? copy_less(cp) : r;
}

/* One block; the charge of what is fresh was made. -ENOMEM: nothing of it was changed. */
static int copy_block(struct copy *cp, struct chunk *c, unsigned block)
{
	unsigned from;
	const struct chunk *in = source_of(cp, c->no * CHUNK_BLOCKS + block, &from);
	uint64_t bit = block_bit(block), charged = chunk_charged(c) & bit, own = chunk_charged_own(c) & bit;
	struct extent e;
	int r;

	if (!(chunk_stored(in) & block_bit(from))) {
		chunk_clear(c, bit);
		return 0;
	}
	e = (struct extent){ .block = at_block(in->map.at[from]), .blocks = 1, .vdev = at_vdev(in->map.at[from]) };
	r = space_hold(data_pool(cp->out->data)->space, &e);
	if (r)
		return r;
	uint64_t at = in->map.at[from];
	uint32_t crc = in->map.crc[from];
	bool nosum = in->map.nosum & block_bit(from);

	front_drop(c, bit);
	if (c->map.mapped & bit)
		chunk_unmap(c, bit);
	if (c->no == 0 && bit & 1 && c->file->is_inline)
		file_drop_inline(c->file);
	blockmap_set(&c->map, block, at, crc);
	c->map.nosum |= nosum ? bit : 0;
	cp->out->mapped++;
	cp->fresh -= !charged;
	cp->own -= !own;
	return 0;
}

/* Returns the blocks done. */
static uint64_t copy_do(struct copy *cp)
{
	struct span s = span_blocks(cp->out_block, cp->out_block + cp->blocks);
	uint64_t done = 0;

	inline_spill(cp->out, cp->op->io);
	while (span_next(&s)) {
		struct chunk *c = chunk_peek(cp->out, s.chunk);

		cp->own -= mask_count(chunk_companions(c, span_mask(&s)) & ~chunk_charged_own(c));
		front_companions(c, span_mask(&s), cp->op->io);
		for (unsigned b = s.block; b < s.block + s.count; b++, done++)
			if (copy_block(cp, c, b))
				goto out;
	}
out:
	file_uncharge(cp->out, cp->fresh, cp->own); /* of blocks that were not reached */
	return done;
}

/* How much of the range goes by whole blocks: bytes, or 0. */
static uint64_t whole_blocks(const struct file *in, const struct file *out, uint64_t offset_in, uint64_t offset_out,
			     uint64_t len)
{
	if ((offset_in | offset_out) % NVFS_BLOCK_SIZE)
		return 0;
	if (len > COPY_CHUNKS * CHUNK_BYTES)
		len = COPY_CHUNKS * CHUNK_BYTES;
	/* The last block of the source has zeros behind its end, so it can be the last one of the target. */
	if (offset_in + len == in->size && offset_out + len >= out->size)
		return len;
	return len / NVFS_BLOCK_SIZE * NVFS_BLOCK_SIZE;
}

static int copy_files(struct op *op, struct copy *cp, uint64_t ino_in, uint64_t ino_out)
{
	int r = data_writable(op);

	if (!r)
		r = file_get(op, ino_in, &cp->in);
	if (!r)
		r = file_get(op, ino_out, &cp->out);
	return r;
}

ssize_t data_copy_range(struct op *op, uint64_t ino_in, uint64_t offset_in, uint64_t ino_out, uint64_t offset_out,
			size_t len)
{
	struct copy cp = { .op = op };
	uint64_t bytes = len, done;
	int r;

	if (offset_in > FILE_BYTES_MAX || offset_out > FILE_BYTES_MAX || len > FILE_BYTES_MAX - offset_out)
		return -EFBIG;
	r = copy_files(op, &cp, ino_in, ino_out);
	if (r)
		return r;
	if (offset_in >= cp.in->size || !len)
		return 0;
	if (bytes > cp.in->size - offset_in)
		bytes = cp.in->size - offset_in;
	if (cp.in == cp.out && offset_in < offset_out + bytes && offset_out < offset_in + bytes)
		return -EINVAL;
	bytes = whole_blocks(cp.in, cp.out, offset_in, offset_out, bytes);
	if (!bytes)
		return -EOPNOTSUPP;
	cp.in_block = block_down(offset_in);
	cp.out_block = block_down(offset_out);
	cp.blocks = block_up(bytes);
	r = copy_inputs(&cp);
	if (r)
		return r;
	done = copy_do(&cp) << NVFS_BLOCK_SHIFT;
	if (!done)
		return -ENOMEM;
	done = done < bytes ? done : bytes;
	if (cp.out->size < offset_out + done)
		cp.out->size = offset_out + done;
	file_touch(cp.out);
	file_changed(cp.out);
	return (ssize_t)done;
}
