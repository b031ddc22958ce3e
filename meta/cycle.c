/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One cycle of a file: from moment T to the end of its batch. file.h says what a cycle is; put.c puts it.
 *
 * The data goes out in pieces of up to 1 MiB, a few at a time, over chunk boundaries where the file is
 * dirty without a gap, so that a sequential writer's file lies in long runs. With compression a piece is a part of
 * one chunk, and goes to a worker first.
 *
 * Requests go first: a cycle of more than a little data begins when the replies of the batch are out, and at the beginning the
 * reactor looks at requests after each large piece (checksums, submission) of a file; then what ended is replaced at once.
 *
 * When the allocator has blocks that only wait for a commit, the cycle has everything put and committed and
 * tries again.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "io/crc.h"
#include "io/log.h"
#include "meta/commit.h"
#include "meta/data_internal.h"

#define CYCLE_WINDOW 8u
#define TURN_BLOCKS 64u
#define SPACE_RETRY_NS UINT64_C(2000000)
#define COMPRESS_MIN_BLOCKS 2u
#define WRITINGS_KEPT 256u /* for reuse */

static void cycle_pump(struct cycle *c);

/* ---- Begin ---- */

static int chunk_order(const void *a, const void *b)
{
	const struct chunk *x = *(struct chunk *const *)a, *y = *(struct chunk *const *)b;

	return (x->no > y->no) - (x->no < y->no);
}

/* What the cycle needs, before anything changes. */
static int cycle_prepare(struct cycle *c, struct file *f)
{
	struct chunk *chunk;
	unsigned n = 0;

	DL_FOREACH2(f->dirty_chunks, chunk, dirty_next) {
		if (!chunk->out)
			chunk->out = calloc(1, sizeof(*chunk->out));
		if (!chunk->out)
			return -ENOMEM;
		n++;
	}
	if (!f->inline_data && c->to_inline)
		f->inline_data = malloc(INLINE_BYTES_MAX);
	c->chunks = malloc((n + 1) * sizeof(struct chunk *));
	return c->chunks && (f->inline_data || !c->to_inline) ? 0 : -ENOMEM;
}

/* Small files, all of whose data is block 0, live in their `S` record. */
static bool fits_inline(const struct file *f)
{
	const struct chunk *c = f->dirty_chunks;

	if (!f->size || f->mapped || f->cuts || f->direct)
		return false;
	if (!c)
		return f->is_inline;
	return f->size <= INLINE_BYTES_MAX && c->no == 0 && !c->dirty_next && c->front_mask == 1;
}

static void cycle_take(struct cycle *c, struct file *f)
{
	struct chunk *chunk;

	c->T = pool_sequence(data_pool(f->data));
	c->size = f->size;
	c->mtime = f->mtime;
	c->ctime = f->ctime;
	DL_FOREACH2(f->dirty_chunks, chunk, dirty_next)
		c->chunks[c->nchunks++] = chunk;
	qsort(c->chunks, c->nchunks, sizeof(struct chunk *), chunk_order);
	c->sent_blocks = f->front_blocks < TURN_BLOCKS ? 0 : TURN_BLOCKS;
	for (unsigned i = 0; i < c->nchunks; i++) {
		front_to_back(c->chunks[i]);
		c->chunks[i]->taken = c->chunks[i]->plain = 0;
	}
	if (c->to_inline)
		c->inline_len = c->nchunks ? (uint16_t)c->size : f->inline_len;
	c->since = f->since;
	f->since = 0;
	f->cycle = c;
	file_move(f, FILE_RUNNING);
}

int cycle_start(struct file *f)
{
	struct cycle *c = calloc(1, sizeof(*c));
	int r;

	assert(!f->cycle && f->list != FILE_CLEAN);
	if (!c)
		return -ENOMEM;
	c->file = f;
	c->to_inline = fits_inline(f);
	r = cycle_prepare(c, f);
	if (r) {
		free(c->chunks);
		free(c);
		return r;
	}
	cycle_take(c, f);
	if (c->to_inline || !c->nchunks)
		put_add(c);
	else
		cycle_pump(c);
	return 0;
}

void cycle_hurry(struct file *f)
{
	struct cycle *c = f->cycle;

	if (!c || c->hurried)
		return;
	c->hurried = true;
	commit_hint(data_pool(f->data), COMMIT_SOON);
}

/* ---- The data ---- */

static struct writing *writing_get(struct cycle *c)
{
	struct shared *shared = c->file->data->sv->shared;
	struct writing *w = shared->free_writings;

	if (w) {
		shared->free_writings = w->next;
		shared->free_writing_count--;
	} else {
		w = malloc(sizeof(*w));
	}
	if (w) {
		w->cycle = c;
		w->packed = NULL;
	}
	return w;
}

static void writing_put(struct writing *w)
{
	struct shared *shared = w->cycle->file->data->sv->shared;

	compress_drop(w);
	if (shared->free_writing_count == WRITINGS_KEPT) {
		free(w);
		return;
	}
	w->next = shared->free_writings;
	shared->free_writings = w;
	shared->free_writing_count++;
}

void writings_free(struct shared *shared)
{
	while (shared->free_writings) {
		struct writing *w = shared->free_writings;

		shared->free_writings = w->next;
		free(w);
	}
}

static void cycle_piece_ended(struct cycle *c)
{
	c->pending--;
	cycle_pump(c);
}

static void writing_done(struct io_request *req, int res)
{
	struct writing *w = (struct writing *)((char *)req - offsetof(struct writing, req));
	struct cycle *c = w->cycle;
	struct data *d = c->file->data;

	if (res) {
		report_bad_block(c->file, EVENT_DEVICE_ERROR, c->chunks[w->chunk]->no * CHUNK_BLOCKS + w->block,
				 blockmap_at(w->extent.vdev, w->extent.block), "a write failed");
		atomic_fetch_add_explicit(&data_pool(d)->io_errors, 1, memory_order_relaxed);
		c->error = -EIO;
	}
	c->sent_blocks -= w->extent.blocks < c->sent_blocks ? w->extent.blocks : c->sent_blocks;
	writing_put(w);
	cycle_piece_ended(c);
}

static void writing_submit(struct writing *w)
{
	struct subvol *sv = w->cycle->file->data->sv;

	w->req.device = sv->pool->devices[w->extent.vdev];
	w->req.done = writing_done;
	w->cycle->pending++;
	device_submit(sv->reactor, &w->req);
}

static bool cycle_compresses(const struct cycle *c)
{
	return c->file->data->sv->rec.compression != DISK_COMPRESSION_OFF;
}

/* What of a chunk is still to be sent. */
static uint64_t chunk_left(const struct chunk *chunk)
{
	return chunk->back_mask & ~chunk->out->mapped & ~chunk->taken;
}

static bool cycle_next(struct cycle *c, unsigned *block)
{
	for (; c->at_chunk < c->nchunks; c->at_chunk++) {
		uint64_t left = chunk_left(c->chunks[c->at_chunk]);

		if (left) {
			*block = (unsigned)__builtin_ctzll(left);
			return true;
		}
	}
	return false;
}

/* Blocks of the file without a gap from here on, at most WRITE_BLOCKS_MAX. */
static unsigned cycle_run(const struct cycle *c, unsigned at, unsigned block)
{
	unsigned n = 0;

	for (;;) {
		unsigned piece = mask_run(chunk_left(c->chunks[at]), block);

		n += piece;
		if (n >= WRITE_BLOCKS_MAX)
			return WRITE_BLOCKS_MAX;
		if (block + piece < CHUNK_BLOCKS || cycle_compresses(c) || at + 1 == c->nchunks ||
		    c->chunks[at + 1]->no != c->chunks[at]->no + 1 || !(chunk_left(c->chunks[at + 1]) & 1))
			return n;
		at++;
		block = 0;
	}
}

/* Note where the blocks go, and gather them. */
static void writing_fill(struct writing *w)
{
	struct cycle *c = w->cycle;
	struct dirty *slots = data_pool(c->file->data)->dirty;
	unsigned at = w->chunk, block = w->block, niov = 0;

	for (unsigned i = 0; i < w->extent.blocks; i++, block++) {
		struct chunk *chunk;
		uint8_t *data;

		if (block == CHUNK_BLOCKS) {
			block = 0;
			at++;
		}
		chunk = c->chunks[at];
		data = dirty_data(slots, chunk->back->slot[block]);
		blockmap_set(chunk->out, block, blockmap_at(w->extent.vdev, w->extent.block + i),
			     crc32c(0, data, NVFS_BLOCK_SIZE));
		if (niov && (uint8_t *)w->iov[niov - 1].iov_base + w->iov[niov - 1].iov_len == data)
			w->iov[niov - 1].iov_len += NVFS_BLOCK_SIZE;
		else
			w->iov[niov++] = (struct iovec){ .iov_base = data, .iov_len = NVFS_BLOCK_SIZE };
	}
	blocks_request(&w->req, IO_WRITE, NULL, w->extent.block);
	w->req.iov = w->iov;
	w->req.iovcnt = niov;
}

/* ---- Waiting for space ---- */

static void cycle_retry(struct reactor *r, struct reactor_timer *t)
{
	struct cycle *c = (struct cycle *)((char *)t - offsetof(struct cycle, timer));

	(void)r;
	c->stuck = false;
	cycle_piece_ended(c);
}

static void cycle_committed(struct commit_ticket *ticket, int error)
{
	struct cycle *c = (struct cycle *)((char *)ticket - offsetof(struct cycle, ticket));

	if (error)
		c->error = error;
	c->stuck = false;
	cycle_piece_ended(c);
}

static void cycle_wait_for_space(struct cycle *c)
{
	struct subvol *sv = c->file->data->sv;

	c->stuck = true;
	c->pending++;
	writeback_flush(c->file->data, c->T);
	if (c->waits++ & 1) { /* every second time leave other cycles some time */
		c->timer.fn = cycle_retry;
		reactor_timer_add(sv->reactor, &c->timer, reactor_now_ns(sv->reactor) + SPACE_RETRY_NS);
		return;
	}
	c->ticket.done = cycle_committed;
	c->ticket.reactor = sv->reactor;
	pool_commit(sv->pool, &c->ticket);
}

static int cycle_alloc(struct cycle *c, unsigned want, unsigned min, struct extent *out)
{
	struct subvol *sv = c->file->data->sv;

	return space_alloc(sv->pool->space, sv->reactor_index, want, min, SPACE_RESERVE, out);
}

/* ---- Pieces ---- */

/* Send one piece to a worker. False: it is not one to be compressed. */
static bool piece_compress(struct cycle *c, unsigned block)
{
	struct chunk *chunk = c->chunks[c->at_chunk];
	uint64_t left = chunk_left(chunk) & ~chunk->plain;
	unsigned n = left & block_bit(block) ? mask_run(left, block) : 0;
	struct writing *w;

	if (n < COMPRESS_MIN_BLOCKS || chunk->busy) /* a direct write may replace a part of it */
		return false;
	w = writing_get(c);
	if (!w) {
		c->error = -ENOMEM;
		return true;
	}
	w->chunk = c->at_chunk;
	w->block = block;
	w->count = n;
	chunk->taken |= block_mask(block, n);
	c->pending++;
	compress_start(w);
	return true;
}

static void piece_write(struct cycle *c, unsigned block)
{
	unsigned want = cycle_run(c, c->at_chunk, block);
	struct writing *w = writing_get(c);
	int r;

	if (!w) {
		c->error = -ENOMEM;
		return;
	}
	w->chunk = c->at_chunk;
	w->block = block;
	r = cycle_alloc(c, want, 1, &w->extent);
	if (!r) {
		c->sent_blocks += w->extent.blocks;
		writing_fill(w);
		writing_submit(w);
		return;
	}
	writing_put(w);
	if (r == -EAGAIN)
		cycle_wait_for_space(c);
	else
		c->error = r;
}

static int packed_place(struct writing *w)
{
	struct cycle *c = w->cycle;
	struct chunk *chunk = c->chunks[w->chunk];
	unsigned stored = (w->packed_bytes + NVFS_BLOCK_SIZE - 1) / NVFS_BLOCK_SIZE;
	struct compressed_extent e = { .bytes = w->packed_bytes, .crc = w->packed_crc, .raw = (uint8_t)w->count,
				       .stored = (uint8_t)stored };
	int r = cycle_alloc(c, stored, stored, &w->extent);

	if (r)
		return r;
	e.at = blockmap_at(w->extent.vdev, w->extent.block);
	r = blockmap_set_compressed(chunk->out, w->block, &e);
	if (r)
		space_release_unused(data_pool(c->file->data)->space, &w->extent);
	return r;
}

void cycle_compressed(struct writing *w)
{
	struct cycle *c = w->cycle;
	struct chunk *chunk = c->chunks[w->chunk];
	uint64_t mask = block_mask(w->block, w->count);

	chunk->taken &= ~mask;
	if (!c->error && w->packed && packed_place(w) == 0) {
		blocks_request(&w->req, IO_WRITE, NULL, w->extent.block);
		w->req.buf = w->packed;
		w->req.len = (uint64_t)w->extent.blocks << NVFS_BLOCK_SHIFT;
		writing_submit(w);
	} else { /* as it is */
		chunk->plain |= mask;
		if (c->at_chunk > w->chunk)
			c->at_chunk = w->chunk;
		writing_put(w);
	}
	cycle_piece_ended(c);
}

/* Where more is being written, the flush would not be the last one before the commit. */
static void cycle_written(struct cycle *c)
{
	struct data *d = c->file->data;

	if (c->hurried && d->running == 1)
		commit_hint(data_pool(d), COMMIT_WRITTEN);
	put_add(c);
}

static void cycle_turn(struct reactor *r, struct reactor_msg *msg)
{
	struct cycle *c = (struct cycle *)((char *)msg - offsetof(struct cycle, turn));
	const void *party = subvol_party(c->file->data->sv);
	const uint64_t since = reactor_meter(r);

	c->yielded = false;
	c->sent_blocks = 0;
	cycle_piece_ended(c);
	reactor_charge(r, party, since);
}

static void cycle_yield(struct cycle *c)
{
	if (c->yielded)
		return;
	c->yielded = true;
	c->pending++;
	c->turn.fn = cycle_turn;
	reactor_defer(c->file->data->sv->reactor, &c->turn);
}

static void cycle_pump(struct cycle *c)
{
	unsigned block;

	while (!c->error && !c->stuck && c->pending < CYCLE_WINDOW && cycle_next(c, &block)) {
		if (c->sent_blocks >= TURN_BLOCKS) {
			cycle_yield(c);
			break;
		}
		if (!cycle_compresses(c) || !piece_compress(c, block))
			piece_write(c, block);
	}
	if (c->pending)
		return;
	if (c->error)
		cycle_end(c, c->error);
	else
		cycle_written(c);
}

/* ---- The end ---- */

int cycle_apply(struct cycle *c)
{
	struct file *f = c->file;

	if (c->to_inline)
		return 0;
	for (unsigned i = 0; i < c->nchunks; i++) {
		struct chunk *chunk = c->chunks[i];
		uint64_t mask;
		int r;

		if (!chunk->out)
			continue;
		mask = chunk->out->mapped;
		r = chunk_edit(chunk);
		if (r)
			return r;
		chunk_unmap(chunk, mask);
		r = blockmap_move(&chunk->map, chunk->out);
		if (r) /* the back layer still has it all */
			return r;
		f->mapped += mask_count(mask);
		if (chunk->no == 0 && mask & 1)
			file_drop_inline(f);
		free(chunk->out);
		chunk->out = NULL;
	}
	return 0;
}

static int release_one(void *arg, const struct extent *extent, int delta)
{
	(void)delta;
	space_release_unused(arg, extent);
	return 0;
}

/*
 * What was written while the cycle ran (or is being written directly) may be a part of what the cycle compressed. The rest of such an extent
 * stays dirty, with the bytes that it has, so that the next cycle rewrites all of it.
 */
static void keep_companions(struct chunk *chunk)
{
	uint64_t newer = chunk->front_mask | chunk->busy;
	uint64_t keep = blockmap_companions(&chunk->map, newer) & chunk->back_mask;

	if (!keep)
		return;
	file_changed(chunk->file);
	back_keep(chunk, keep);
}

/*
 * A file that went into its record while a block of it was written has blocks beside the inline data, which no record can say: block 0
 * stays dirty, so that the next cycle makes a block of it.
 */
static void keep_first_block(struct cycle *c)
{
	struct file *f = c->file;

	if (!c->to_inline || !c->nchunks || !(f->front_blocks || f->direct))
		return;
	file_changed(f);
	back_keep(c->chunks[0], block_bit(0));
}

static void chunk_end(struct chunk *chunk, int error)
{
	if (!error)
		keep_companions(chunk);
	if (!error || !chunk->out) {
		back_drop(chunk);
	} else {
		blockmap_each(chunk->out, release_one, data_pool(chunk->file->data)->space);
		back_to_front(chunk);
	}
	if (chunk->out) {
		blockmap_clear(chunk->out);
		free(chunk->out);
		chunk->out = NULL;
	}
}

static void file_failed(struct file *f, int error)
{
	if (!f->error)
		log_error("pool %s, subvolume %s, inode %llu: its dirty data cannot be written back now: %s",
			  pool_name(data_pool(f->data)), subvol_name(f->data->sv),
			  (unsigned long long)f->inode->ino, strerror(-error));
	f->error = error;
}

void cycle_not_begun(struct file *f, int error)
{
	file_failed(f, error);
	file_move(f, FILE_FAILED);
}

void cycle_end(struct cycle *c, int error)
{
	struct file *f = c->file;
	struct data *d = f->data;

	if (!error)
		keep_first_block(c);
	for (unsigned i = 0; i < c->nchunks; i++)
		chunk_end(c->chunks[i], error);
	f->cycle = NULL;
	if (error) {
		f->since = c->since;
		f->failed_T = c->T;
		file_failed(f, error);
	} else {
		f->error = 0;
	}
	while (f->apply) {
		struct op_io *io = f->apply;

		f->apply = io->next;
		direct_apply(io);
	}
	op_wake_all(&f->put_waiters);
	file_move(f, error ? FILE_FAILED : f->since ? FILE_DIRTY : FILE_CLEAN);
	free(c->chunks);
	free(c);
	writeback_progress(d);
}
