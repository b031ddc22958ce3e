/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the size. What lies behind a new end is dropped at once when at most STEP_CHUNKS records have
 * to be read for it; else a cut hides it, whose record enters RocksDB with the new size, and the reaper (cuts.c) drops the records
 * in batches.
 *
 * Invariant: in the last block of a file, what lies behind the end is zeros. So growing needs nothing but the size.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "meta/data_internal.h"

int data_writable(const struct subvol *sv)
{
	return sv->read_only ? -EROFS : atomic_load_explicit(&sv->pool->failed, memory_order_relaxed);
}

/* A chunk that lies wholly in the cut. */
static int chunk_cut(void *arg, struct chunk *c)
{
	struct file *f = c->file;

	(void)arg;
	if (c->changed || !c->map.mapped) {
		chunk_clear(c, BLOCKMAP_ALL);
		return 0;
	}
	if (c->hidden)
		return 0;
	/* What is mapped stays counted until the reaper comes. */
	uint64_t only_dirty = chunk_dirty(c) & ~c->map.mapped;

	front_drop(c, c->front_mask);
	file_uncharge(f, mask_count(only_dirty));
	c->hidden = true;
	return 0;
}

static void cut_do(struct file *f, struct cut *cut, uint64_t first)
{
	bool had = f->cuts;

	each_chunk(f, first, CHUNK_LAST + 1, chunk_cut, NULL);
	*cut = (struct cut){ .sequence = file_changed(f), .first = first, .end = CUT_TO_END, .next = f->cuts };
	f->cuts = cut;
	if (!had)
		cuts_enter(f);
}

static void size_changed(struct file *f, uint64_t size)
{
	f->size = size;
	file_touch(f);
	file_changed(f);
}

/* More records than one handler reads: the first chunk in part as usual, the rest by a cut. */
static int shrink_with_cut(struct op *op, struct file *f, uint64_t size)
{
	uint64_t first = (size + CHUNK_BYTES - 1) / CHUNK_BYTES;
	struct cut *cut;
	int r = clear_inputs(op, f, size, first * CHUNK_BYTES);

	if (r)
		return r;
	cut = malloc(sizeof(*cut));
	if (!cut)
		return -ENOMEM;
	clear_do(op, f, size, first * CHUNK_BYTES);
	cut_do(f, cut, first);
	size_changed(f, size);
	return 0;
}

static int shrink(struct op *op, struct file *f, uint64_t size)
{
	uint64_t next;
	int r = chunk_load(op, f, size / CHUNK_BYTES, CHUNK_LAST + 1, STEP_CHUNKS, &next);

	if (r)
		return r;
	if (next != CHUNK_LAST + 1)
		return shrink_with_cut(op, f, size);
	r = clear_inputs(op, f, size, UINT64_MAX);
	if (r)
		return r;
	clear_do(op, f, size, UINT64_MAX);
	size_changed(f, size);
	return 0;
}

int data_truncate(struct op *op, uint64_t ino, uint64_t size)
{
	struct file *f;
	int r = data_writable(op->sv);

	if (size > FILE_BYTES_MAX)
		return -EFBIG;
	if (!r)
		r = file_get(op, ino, &f);
	if (!r)
		r = file_exclusive(op, f);
	if (r)
		return r;
	/* Truncating to the size that it has gives back what fallocate promised behind the end. */
	if (size < f->size || (size == f->size && f->charged))
		return shrink(op, f, size);
	size_changed(f, size);
	return 0;
}
