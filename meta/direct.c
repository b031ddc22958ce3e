/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct writes: whole blocks, from the request's buffer to newly allocated blocks, answered when
 * the device has answered and the map in memory has the new addresses. The record is put by the next
 * cycle.
 *
 * While one is under way its blocks are `busy`: no other write to them begins, so two writes of a block are
 * ordered and what is dirty there when it ends is older than it. It is applied (the map changes) only while the file
 * has no cycle, because a cycle puts the maps of its own moment; else when that cycle has ended.
 *
 * The buffer must not change until the op is finished: the checksum is of what it holds at the start.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "io/crc.h"
#include "io/log.h"
#include "meta/data_internal.h"

/* The chunks of the range, into io->chunks; nothing else may be under way there. *fresh and *own: blocks to charge. */
static int direct_chunks(struct op *op, struct file *f, uint64_t *fresh, uint64_t *own)
{
	struct op_io *io = op->io;
	struct span s = span_blocks(io->first_block, io->first_block + io->blocks);

	io->nchunks = 0;
	*fresh = *own = 0;
	while (span_next(&s)) {
		uint64_t mask = span_mask(&s);
		struct chunk *c;
		int r = chunk_get(op, f, s.chunk, &c);

		if (r)
			return r;
		if (c->busy & mask)
			return op_wait(op, &f->busy_waiters);
		if (f->cycle && (c->hidden || chunk_packs(c, mask)))
			return op_wait(op, &f->put_waiters);
		r = chunk_unhide(c);
		if (r)
			return r;
		if (c->map.compressed & mask && blockmap_companions(&c->map, mask))
			return -EOPNOTSUPP; /* a part of a compressed extent: by way of dirty blocks */
		io->chunks[io->nchunks++] = c;
		*fresh += mask_count(mask & ~chunk_charged(c));
		*own += mask_count(mask & ~chunk_charged_own(c));
	}
	return 0;
}

/* ---- Space ---- */


static void space_committed(struct commit_ticket *ticket, int error)
{
	struct op_io *io = (struct op_io *)((char *)ticket - offsetof(struct op_io, ticket));

	(void)error; /* the allocation is tried again, and the pool says what is wrong */
	op_release(io->op);
}

/* Blocks wait for a commit: put what is dirty, commit, and try again. */
static int direct_wait_for_space(struct op *op)
{
	struct op_io *io = op->io;
	struct data *d = op->sv->data;
	int failed = atomic_load_explicit(&op->sv->pool->failed, memory_order_relaxed);

	if (failed)
		return failed;
	writeback_flush(d, pool_sequence(op->sv->pool));
	if (op->moment++ & 1) /* every second time leave the cycles some time */
		return op_again(op, UINT64_C(2000000));
	io->ticket.done = space_committed;
	io->ticket.reactor = op->sv->reactor;
	pool_commit(op->sv->pool, &io->ticket);
	return op_hold(op);
}

static void direct_free_space(struct op_io *io)
{
	for (unsigned i = 0; i < io->nparts; i++)
		space_release_unused(data_pool(io->data)->space, &io->parts[i].extent);
	io->nparts = 0;
}

/*
 * Blocks for the whole range. Where there are none, others that write hold what is free: an accepted write finds room by way of
 * dirty blocks, for which the reserve is (-EOPNOTSUPP).
 */
static int direct_alloc(struct op *op)
{
	struct op_io *io = op->io;
	uint64_t have = 0;

	for (unsigned i = 0; i < io->nparts; i++)
		have += io->parts[i].extent.blocks;
	while (have < io->blocks) {
		struct part *part;
		int r;

		if (GROW(io->parts, io->part_cap, io->nparts + 1))
			return -ENOMEM;
		part = &io->parts[io->nparts];
		r = space_alloc(op->sv->pool->space, op->sv->reactor_index, (uint32_t)(io->blocks - have), 1, 0,
				&part->extent);
		if (r == -EAGAIN)
			return direct_wait_for_space(op);
		if (r == -ENOSPC) {
			direct_free_space(io);
			return -EOPNOTSUPP;
		}
		if (r)
			return r;
		io->nparts++;
		have += part->extent.blocks;
	}
	return 0;
}

void direct_release(struct op_io *io)
{
	assert(!io->submitted || io->applied);
	if (!io->applied)
		direct_free_space(io);
	buffers_put(io->data->buffers, io->bounce, io->bounce_bytes);
}

/* ---- The end ---- */

static uint64_t chunk_range(const struct op_io *io, const struct chunk *c, unsigned *block)
{
	uint64_t start = c->no * CHUNK_BLOCKS, end = start + CHUNK_BLOCKS;
	uint64_t from = io->first_block > start ? io->first_block : start;
	uint64_t to = io->first_block + io->blocks < end ? io->first_block + io->blocks : end;

	*block = (unsigned)(from - start);
	return block_mask(*block, (unsigned)(to - from));
}

/* The write is over, whether it was applied or not. */
static void direct_ended(struct op_io *io, struct file *f)
{
	for (unsigned i = 0; i < io->nchunks; i++) {
		unsigned block;

		io->chunks[i]->busy &= ~chunk_range(io, io->chunks[i], &block);
		chunk_unpin(io->chunks[i]);
	}
	io->applied = true;
	f->direct--;
	if (!--f->data->directs && f->data->sv->gated)
		op_wake_all(&f->data->sync_waiters);
	op_wake_all(&f->busy_waiters);
	inode_unpin(f->inode);
	op_release(io->op);
}

/* What it alone was charged for: a sweep may have made blocks of it the live node's own since, and has given back what was taken for that. */
static void direct_uncharge(struct op_io *io, struct file *f)
{
	uint64_t blocks = 0, own = 0;

	for (unsigned i = 0; i < io->nchunks; i++) {
		struct chunk *c = io->chunks[i];
		const uint64_t charged = chunk_charged(c), charged_own = chunk_charged_own(c);
		unsigned block;

		c->busy &= ~chunk_range(io, c, &block);
		blocks += mask_count(charged & ~chunk_charged(c));
		own += mask_count(charged_own & ~chunk_charged_own(c));
	}
	file_uncharge(f, blocks, own);
}

static void direct_failed(struct op_io *io, struct file *f)
{
	direct_free_space(io);
	direct_uncharge(io, f);
	direct_ended(io, f);
}

/* The address of each block in turn. */
struct cursor {
	const struct part *part;
	uint32_t at;
};

static uint64_t cursor_next(struct cursor *cursor)
{
	const struct extent *e = &cursor->part->extent;
	uint64_t at = blockmap_at(e->vdev, e->block + cursor->at);

	if (++cursor->at == e->blocks) {
		cursor->part++;
		cursor->at = 0;
	}
	return at;
}

static void direct_map(struct op_io *io, struct file *f)
{
	struct cursor cursor = { .part = io->parts };
	const uint32_t *crc = io->crcs;

	for (unsigned i = 0; i < io->nchunks; i++) {
		struct chunk *c = io->chunks[i];
		unsigned block;
		uint64_t mask = chunk_range(io, c, &block);

		chunk_unmap(c, mask);
		front_drop(c, mask);
		if (c->no == 0 && mask & 1)
			file_drop_inline(f);
		f->mapped += mask_count(mask);
		for (; mask & (block < CHUNK_BLOCKS ? block_bit(block) : 0); block++)
			blockmap_set(&c->map, block, cursor_next(&cursor), *crc++);
	}
}

void direct_apply(struct op_io *io)
{
	struct file *f = io->inode->file;

	for (unsigned i = 0; i < io->nchunks && !io->error; i++)
		io->error = chunk_edit(io->chunks[i]);
	if (io->error) {
		direct_failed(io, f);
		return;
	}
	direct_map(io, f);
	if (f->size < io->end_bytes)
		f->size = io->end_bytes;
	file_touch(f);
	file_changed(f);
	if (f->changed_count >= CHANGED_MAX && !f->cycle)
		writeback_flush(f->data, f->since);
	direct_ended(io, f);
}

static void direct_done(struct io_request *req, int res)
{
	struct part *part = (struct part *)((char *)req - offsetof(struct part, req));
	struct op_io *io = part->io;
	struct file *f = io->inode->file;

	if (res) {
		report_bad_block(f, EVENT_DEVICE_ERROR, io->first_block, blockmap_at(part->extent.vdev, part->extent.block),
				 "a direct write failed");
		atomic_fetch_add_explicit(&data_pool(io->data)->io_errors, 1, memory_order_relaxed);
		io->error = -EIO;
	}
	if (--io->pending)
		return;
	if (io->error) {
		direct_failed(io, f);
	} else if (!f->cycle) {
		direct_apply(io);
	} else {
		io->next = NULL;
		*(f->apply ? &f->apply_tail->next : &f->apply) = io;
		f->apply_tail = io;
	}
}

/* ---- The start ---- */

static const uint8_t *direct_buffer(struct op_io *io, const void *buf, size_t len)
{
	if (!((uintptr_t)buf & (NVFS_BLOCK_SIZE - 1)))
		return buf;
	io->bounce = buffers_get(io->data->buffers, len);
	if (!io->bounce)
		return NULL;
	io->bounce_bytes = len;
	memcpy(io->bounce, buf, len);
	return io->bounce;
}

static int direct_submit(struct op *op, struct file *f, const uint8_t *buf)
{
	struct op_io *io = op->io;
	int wait;

	for (uint64_t i = 0; i < io->blocks; i++)
		io->crcs[i] = crc32c(0, buf + i * NVFS_BLOCK_SIZE, NVFS_BLOCK_SIZE);
	for (unsigned i = 0; i < io->nchunks; i++) {
		unsigned block;

		io->chunks[i]->busy |= chunk_range(io, io->chunks[i], &block);
		chunk_pin(io->chunks[i]);
	}
	f->direct++;
	f->data->directs++;
	inode_pin(f->inode);
	io->inode = f->inode;
	io->submitted = true;
	io->pending = io->nparts;
	wait = op_hold(op);
	for (unsigned i = 0, n = io->nparts; i < n; i++) {
		struct part *part = &io->parts[i];

		part->io = io;
		blocks_request(&part->req, IO_WRITE, op->sv->pool->devices[part->extent.vdev], part->extent.block);
		part->req.buf = (void *)buf;
		part->req.len = (uint64_t)part->extent.blocks << NVFS_BLOCK_SHIFT;
		part->req.done = direct_done;
		buf += part->req.len;
		device_submit(op->sv->reactor, &part->req);
	}
	return wait;
}

ssize_t direct_write(struct op *op, struct file *f, uint64_t offset, const void *buf, size_t len)
{
	struct op_io *io = op_io_get(op);
	const uint8_t *from;
	uint64_t fresh, own;
	int r;

	if (op->stage == STAGE_WRITING)
		return io->error ? io->error : (ssize_t)len;
	if (!io)
		return -ENOMEM;
	io->first_block = block_down(offset);
	io->blocks = block_down(len);
	io->end_bytes = offset + len;
	if (GROW(io->crcs, io->crc_cap, (unsigned)io->blocks))
		return -ENOMEM;
	r = direct_chunks(op, f, &fresh, &own);
	if (!r)
		r = direct_alloc(op);
	if (r)
		return r;
	from = io->bounce ? io->bounce : direct_buffer(io, buf, len);
	if (!from)
		return -ENOMEM;
	r = file_charge(op, f, fresh, own);
	if (is_refusal(r))
		direct_free_space(io);
	if (r)
		return r;
	op->stage = STAGE_WRITING;
	return direct_submit(op, f, from);
}
