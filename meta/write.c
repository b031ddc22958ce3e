/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Buffered writes: into dirty blocks, answered at once. All inputs come first: the chunk maps, the old
 * content of blocks that are written in part, slots, and the charge, which is the last thing that can refuse.
 *
 * Where there is not room for all of it, it is charged unit by unit, and ends before the first one without; of the kernel's cached pages,
 * which are not asked for again, each unit that has room, or needs none, is kept.
 *
 * A compressed extent is never mapped in part: a write to a part of one makes dirty what else is mapped of it
 * (its companions), so that the same cycle rewrites all of it.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/data_internal.h"
#include "meta/names.h"

/* A buffered file starts a cycle by itself when this much is dirty. */
#define EARLY_BLOCKS (4 * CHUNK_BLOCKS)

uint64_t chunk_companions(const struct chunk *c, uint64_t mask)
{
	return c->hidden ? 0 : blockmap_companions(&c->map, mask) & ~chunk_dirty(c);
}

/* Whether the write must wait for something in the chunk. */
static int chunk_ready(struct op *op, struct chunk *c, uint64_t mask)
{
	if (c->busy & (mask | chunk_companions(c, mask)))
		return op_wait(op, &c->file->busy_waiters);
	if (c->file->cycle && (c->hidden || chunk_packs(c, mask)))
		return op_wait(op, &c->file->put_waiters);
	return chunk_unhide(c); /* what it gives back may be what is missing for the charge */
}

struct write_needs {
	uint64_t fresh, own; /* blocks to charge */
	unsigned slots;
};

struct write_plan {
	uint64_t offset, end; /* bytes; the end may come nearer */
	bool whole;           /* all of it or nothing */
	bool keep_any;        /* what has no room is left out, and the rest is written */
	int refusal;          /* the units are not charged yet: keep_any */
};

int want_companions(struct op_io *io, const struct chunk *c, uint64_t mask)
{
	for (uint64_t left = chunk_companions(c, mask); left; left &= left - 1) {
		const void *data;
		int r = block_content(io, c, (unsigned)__builtin_ctzll(left), &data);

		if (r < 0)
			return r;
	}
	return 0;
}

static int needs_of_range(struct op *op, struct file *f, uint64_t first, uint64_t end, struct write_needs *needs)
{
	struct span s = span_blocks(first, end);

	while (span_next(&s)) {
		uint64_t mask = span_mask(&s);
		struct chunk *c;
		int r = chunk_get(op, f, s.chunk, &c);

		if (!r)
			r = chunk_ready(op, c, mask);
		if (!r)
			r = want_companions(op_io_get(op), c, mask);
		if (r)
			return r;
		needs->fresh += mask_count(mask & ~chunk_charged(c));
		needs->own += mask_count((mask | chunk_companions(c, mask)) & ~chunk_charged_own(c));
		needs->slots += mask_count(mask & ~c->front_mask) + mask_count(chunk_companions(c, mask));
	}
	return 0;
}

/* The ends of the range, when only a part of their block is written. */
static int want_partial(struct op_io *io, struct file *f, uint64_t offset, uint64_t end)
{
	uint64_t blocks[2] = { block_down(offset), block_down(end) };
	bool partial[2] = { offset % NVFS_BLOCK_SIZE || end < (blocks[0] + 1) << NVFS_BLOCK_SHIFT,
			    end % NVFS_BLOCK_SIZE && blocks[1] != blocks[0] };

	for (int i = 0; i < 2; i++) {
		const void *data;
		int r = !partial[i] ? 0 : block_content(io, chunk_peek(f, blocks[i] >> CHUNK_SHIFT),
							blocks[i] % CHUNK_BLOCKS, &data);

		if (r < 0)
			return r;
	}
	return 0;
}

int inline_need(struct op *op, struct file *f, uint64_t from, uint64_t to, unsigned *slots)
{
	struct chunk *zero;
	int r;

	if (!f->is_inline)
		return 0;
	r = chunk_get(op, f, 0, &zero);
	if (r || chunk_dirty(zero) & 1)
		return r;
	*slots += 1;
	r = from || to < f->inline_len ? inline_check(f) : 0;
	return r ? r : front_need(zero);
}

void inline_spill(struct file *f, struct op_io *io)
{
	struct chunk *zero = f->is_inline ? chunk_peek(f, 0) : NULL;

	if (zero && !(chunk_dirty(zero) & 1))
		file_spill_inline(f, zero, slot_next(io));
}

static int fronts_need(struct file *f, uint64_t first, uint64_t end)
{
	struct span s = span_blocks(first, end);
	int r = 0;

	while (!r && span_next(&s))
		r = front_need(chunk_peek(f, s.chunk));
	return r;
}

uint64_t unit_next(const struct chunk *c, uint64_t *left)
{
	uint64_t unit = *left & -*left;

	if (c->map.compressed & unit)
		while (unit << 1 & c->map.compressed & *left & ~unit)
			unit |= unit << 1 & c->map.compressed & *left;
	*left &= ~unit;
	return unit;
}

int unit_charge(struct chunk *c, uint64_t unit, uint64_t filled, uint64_t *fresh, uint64_t *own)
{
	const uint64_t blocks = mask_count(filled & ~chunk_charged(c));
	const uint64_t own_blocks = mask_count((filled | chunk_companions(c, unit)) & ~chunk_charged_own(c));
	int r = blocks || own_blocks ? file_charge_now(c->file, blocks, own_blocks) : 0;

	if (r)
		return r;
	*fresh += blocks;
	*own += own_blocks;
	return 0;
}

/* After a refusal of the whole: 0 when a part of it can be written, which the plan then says. */
static int write_less(struct file *f, struct write_plan *p, int refusal)
{
	struct span s = span_blocks(block_down(p->offset), block_up(p->end));
	uint64_t fresh = 0, own = 0, start;
	int r = 0;

	p->refusal = refusal;
	while (!p->keep_any && span_next(&s)) {
		struct chunk *c = chunk_peek(f, s.chunk);

		for (uint64_t left = span_mask(&s), unit; (unit = unit_next(c, &left)) != 0;) {
			r = unit_charge(c, unit, unit, &fresh, &own);
			if (!r)
				continue;
			start = (c->no * CHUNK_BLOCKS + (unsigned)__builtin_ctzll(unit)) << NVFS_BLOCK_SHIFT;
			if (start <= p->offset)
				return r;
			p->end = start;
			return 0;
		}
	}
	return 0;
}

static int write_inputs(struct op *op, struct file *f, struct write_plan *p)
{
	const uint64_t offset = p->offset, end = p->end;
	struct op_io *io = op_io_get(op);
	struct write_needs needs = { 0 };
	int r;

	if (!io)
		return -ENOMEM;
	wants_restart(io);
	r = needs_of_range(op, f, block_down(offset), block_up(end), &needs);
	if (!r)
		r = inline_need(op, f, offset, end, &needs.slots);
	if (!r)
		r = want_partial(io, f, offset, end);
	if (!r)
		r = fetch_start(op, f);
	if (!r)
		r = fronts_need(f, block_down(offset), block_up(end));
	if (!r)
		r = slots_take(op, needs.slots);
	if (!r)
		r = slots_charge(op, f, needs.fresh, needs.own);
	return is_refusal(r) && !p->whole ? write_less(f, p, r) : r;
}

uint8_t *front_open(struct chunk *c, unsigned block, struct op_io *io, bool keep)
{
	const void *old = NULL;
	uint8_t *data;

	if (c->front_mask & block_bit(block))
		return front_data(c, block);
	if (keep && block_content(io, c, block, &old) != 0)
		assert(!"an input is missing");
	front_set(c, block, slot_next(io));
	data = front_data(c, block);
	if (keep && old)
		memcpy(data, old, NVFS_BLOCK_SIZE);
	else if (keep)
		memset(data, 0, NVFS_BLOCK_SIZE);
	return data;
}

void front_companions(struct chunk *c, uint64_t mask, struct op_io *io)
{
	uint64_t companions = chunk_companions(c, mask);

	for (uint64_t left = companions; left; left &= left - 1) {
		unsigned block = (unsigned)__builtin_ctzll(left);

		front_open(c, block, io, true);
		front_seal(c, block, file_changed(c->file));
	}
}

/* Copy what of the write falls into one block. */
static void write_block(struct chunk *c, unsigned block, struct op_io *io, uint64_t offset, const uint8_t *buf,
			size_t len, uint64_t sequence)
{
	uint64_t start = (c->no * CHUNK_BLOCKS + block) << NVFS_BLOCK_SHIFT;
	uint64_t from = offset > start ? offset : start;
	uint64_t to = offset + len < start + NVFS_BLOCK_SIZE ? offset + len : start + NVFS_BLOCK_SIZE;
	uint8_t *data = front_open(c, block, io, to - from < NVFS_BLOCK_SIZE);

	memcpy(data + (from - start), buf + (from - offset), to - from);
	front_seal(c, block, sequence);
}

static void write_unit(struct op_io *io, struct chunk *c, uint64_t unit, const struct write_plan *p, const void *buf,
		       uint64_t sequence)
{
	front_companions(c, unit, io);
	for (; unit; unit &= unit - 1)
		write_block(c, (unsigned)__builtin_ctzll(unit), io, p->offset, buf, p->end - p->offset, sequence);
}

/* What of the part of a chunk has room. */
static void write_any(struct op_io *io, struct chunk *c, uint64_t mask, const struct write_plan *p, const void *buf,
		      uint64_t sequence)
{
	uint64_t fresh = 0, own = 0;

	for (uint64_t unit; (unit = unit_next(c, &mask)) != 0;)
		if (!unit_charge(c, unit, unit, &fresh, &own))
			write_unit(io, c, unit, p, buf, sequence);
}

static void write_change(struct op_io *io, struct file *f, const struct write_plan *p, const void *buf, unsigned flags)
{
	struct span s = span_blocks(block_down(p->offset), block_up(p->end));
	uint64_t sequence = file_changed(f);

	inline_spill(f, io);
	if (f->size < p->end)
		f->size = p->end;
	if (!(flags & DATA_KEEP_TIMES))
		file_touch(f);
	while (span_next(&s)) {
		struct chunk *c = chunk_peek(f, s.chunk);

		if (p->keep_any && p->refusal)
			write_any(io, c, span_mask(&s), p, buf, sequence);
		else
			write_unit(io, c, span_mask(&s), p, buf, sequence);
	}
}

/* The bytes written: fewer than len only where no more has room. */
static ssize_t write_buffered(struct op *op, struct file *f, uint64_t offset, const void *buf, size_t len, unsigned flags)
{
	/* Of a short answer to a direct write the kernel makes EIO. */
	struct write_plan p = { .offset = offset, .end = offset + len, .whole = flags & DATA_DIRECT, .keep_any = flags & DATA_CACHED };
	int r = write_inputs(op, f, &p);

	if (r)
		return r;
	write_change(op->io, f, &p, buf, flags);
	op->io->end_bytes = p.end;
	if (f->front_blocks >= EARLY_BLOCKS && !f->cycle && !f->put_waiters.head)
		cycle_start(f); /* without memory the timer will */
	else if (slots_are_scarce(f->data))
		writeback_kick(f->data);
	return p.keep_any && p.refusal ? p.refusal : (ssize_t)(p.end - offset);
}

static void count_write(struct op *op, size_t len)
{
	atomic_fetch_add_explicit(&op->sv->stats.writes, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&op->sv->stats.written_bytes, len, memory_order_relaxed);
}

/* The data is accepted; what is left is to wait until it is where the flags want it. */
static ssize_t write_settle(struct op *op, struct file *f, uint64_t offset, unsigned flags)
{
	int r = data_put_and_commit(op, f->inode, flags & (DATA_SYNC | DATA_DSYNC));

	return r ? r : (ssize_t)(op->io->end_bytes - offset);
}

static bool can_be_direct(const struct file *f, uint64_t offset, size_t len)
{
	return len <= DIRECT_BYTES_MAX && !((offset | len) & (NVFS_BLOCK_SIZE - 1)) && !f->is_inline;
}

/* By the direct way where that is asked for and possible. *settle: there is more to wait for. */
static ssize_t write_some_way(struct op *op, struct file *f, uint64_t offset, const void *buf, size_t len,
			      unsigned flags, bool *settle)
{
	ssize_t r = -EOPNOTSUPP;

	*settle = flags & (DATA_SYNC | DATA_DSYNC);
	if (op->stage == STAGE_WRITING)
		return direct_write(op, f, offset, buf, len);
	if (flags & DATA_KILL_SUIDGID || f->inode->rec.flags & INODE_CAPABILITY) {
		r = attr_kill_privs(op, f->inode);
		if (r)
			return r;
		r = -EOPNOTSUPP;
	}
	if (flags & (DATA_DIRECT | DATA_SYNC | DATA_DSYNC) && can_be_direct(f, offset, len))
		r = direct_write(op, f, offset, buf, len);
	/* By way of dirty blocks a part of it may have room. */
	if (r != -EOPNOTSUPP && (!is_refusal(r) || flags & DATA_DIRECT))
		return r;
	*settle = flags & (DATA_DIRECT | DATA_SYNC | DATA_DSYNC);
	return write_buffered(op, f, offset, buf, len, flags);
}

ssize_t data_write(struct op *op, uint64_t ino, uint64_t offset, const void *buf, size_t len, unsigned flags)
{
	struct file *f;
	bool settle;
	ssize_t r;

	if (offset > FILE_BYTES_MAX || len > FILE_BYTES_MAX - offset)
		return -EFBIG;
	if (!len)
		return 0;
	r = op->stage == STAGE_START ? data_writable(op) : 0;
	if (r)
		return r;
	r = file_get(op, ino, &f);
	if (r == -ENOENT && op->stage >= STAGE_PUT)
		return (ssize_t)(op->io->end_bytes - offset); /* reaped meanwhile: nothing is left to be durable */
	if (r)
		return r;
	if (op->stage >= STAGE_PUT)
		return write_settle(op, f, offset, flags);
	if (op->stage == STAGE_START)
		r = inline_take(op, f);
	if (r)
		return r;
	r = write_some_way(op, f, offset, buf, len, flags, &settle);
	if (r < 0)
		return r;
	count_write(op, (size_t)r);
	if (!settle)
		return r;
	op->moment = 0;
	op->stage = STAGE_PUT;
	return write_settle(op, f, offset, flags);
}
