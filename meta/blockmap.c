/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "meta/blockmap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void blockmap_clear(struct blockmap *m)
{
	free(m->extents);
	m->extents = NULL;
	m->mapped = m->unwritten = m->compressed = m->inherited = m->nosum = 0;
}

static int extents_need(struct blockmap *m)
{
	if (!m->extents)
		m->extents = calloc(BLOCKMAP_EXTENTS_MAX, sizeof(*m->extents));
	return m->extents ? 0 : -ENOMEM;
}

int blockmap_copy(struct blockmap *dst, const struct blockmap *src)
{
	struct compressed_extent *extents = NULL;

	if (src->compressed) {
		extents = malloc(BLOCKMAP_EXTENTS_MAX * sizeof(*extents));
		if (!extents)
			return -ENOMEM;
		memcpy(extents, src->extents, BLOCKMAP_EXTENTS_MAX * sizeof(*extents));
	}
	*dst = *src;
	dst->extents = extents;
	return 0;
}

static bool extent_same(const struct compressed_extent *a, const struct compressed_extent *b)
{
	return a->raw == b->raw && a->stored == b->stored && a->bytes == b->bytes && a->crc == b->crc;
}

/* The entry of this extent, or a free one made into it; -EBADMSG when another extent is at that address. */
static int extent_enter(struct blockmap *m, uint64_t at, const struct compressed_extent *extent)
{
	int free_entry = -1;

	for (int i = 0; i < (int)BLOCKMAP_EXTENTS_MAX; i++) {
		if (m->extents[i].raw && m->extents[i].at == at)
			return extent_same(&m->extents[i], extent) ? i : -EBADMSG;
		if (!m->extents[i].raw && free_entry < 0)
			free_entry = i;
	}
	assert(free_entry >= 0); /* each has a block of the map */
	m->extents[free_entry] = *extent;
	m->extents[free_entry].at = at;
	m->extents[free_entry].runs = 0;
	return free_entry;
}

static int run_enter_compressed(struct blockmap *m, const struct map_run *run, uint32_t crc)
{
	uint64_t at = blockmap_at(run->vdev, run->address);
	struct compressed_extent extent = { .bytes = run->stored_bytes, .crc = crc,
					    .raw = run->raw_blocks, .stored = run->stored_blocks };
	int i = extent_enter(m, at, &extent);

	if (i < 0)
		return i;
	m->extents[i].runs++;
	for (unsigned b = 0; b < run->count; b++) {
		m->at[run->block + b] = at;
		m->crc[run->block + b] = (uint32_t)i << 8 | (run->skip + b);
	}
	return 0;
}

static void run_enter_plain(struct blockmap *m, const struct map_run *run, const uint32_t *crcs)
{
	for (unsigned b = 0; b < run->count; b++) {
		m->at[run->block + b] = blockmap_at(run->vdev, run->address + b);
		m->crc[run->block + b] = crcs ? crcs[b] : 0;
	}
}

static void run_enter_flags(struct blockmap *m, const struct map_run *run, bool inherited)
{
	uint64_t mask = block_mask(run->block, run->count);

	m->mapped |= mask;
	if (inherited || (run->flags & RUN_INHERITED))
		m->inherited |= mask;
	if (run->flags & RUN_UNWRITTEN)
		m->unwritten |= mask;
	if (run->flags & RUN_COMPRESSED)
		m->compressed |= mask;
	if (run->flags & RUN_NO_CHECKSUM)
		m->nosum |= mask;
}

int blockmap_from_rec(struct blockmap *m, const struct map_rec *rec, bool inherited)
{
	unsigned crc = 0;

	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];
		unsigned ncrcs = map_run_ncrcs(run);
		int r = run->address >> 48 ? -EBADMSG : 0;

		if (!r && (run->flags & RUN_COMPRESSED)) {
			r = extents_need(m);
			if (!r)
				r = run_enter_compressed(m, run, rec->crcs[crc]);
		} else if (!r) {
			run_enter_plain(m, run, ncrcs ? &rec->crcs[crc] : NULL);
		}
		if (r) {
			blockmap_clear(m);
			return r;
		}
		run_enter_flags(m, run, inherited);
		crc += ncrcs;
	}
	return 0;
}

static unsigned block_flags(const struct blockmap *m, unsigned b)
{
	uint64_t bit = block_bit(b);

	return (m->inherited & bit ? RUN_INHERITED : 0) | (m->compressed & bit ? RUN_COMPRESSED : 0) |
	       (m->unwritten & bit ? RUN_UNWRITTEN : 0) | (m->nosum & bit ? RUN_NO_CHECKSUM : 0);
}

/* Whether block b carries on the run that block b - 1 is part of. */
static bool block_continues(const struct blockmap *m, unsigned b)
{
	unsigned flags = block_flags(m, b);

	if (!(m->mapped & block_bit(b - 1)) || block_flags(m, b - 1) != flags)
		return false;
	if (flags & RUN_UNWRITTEN)
		return true;
	if (flags & RUN_COMPRESSED)
		return m->crc[b] == m->crc[b - 1] + 1; /* same extent, next block of it */
	return m->at[b] == m->at[b - 1] + 1;
}

static unsigned run_length(const struct blockmap *m, unsigned block)
{
	unsigned n = 1;

	while (block + n < CHUNK_BLOCKS && (m->mapped & block_bit(block + n)) && block_continues(m, block + n))
		n++;
	return n;
}

static struct map_run run_make(const struct blockmap *m, unsigned block, unsigned count)
{
	struct map_run run = { .block = (uint8_t)block, .count = (uint8_t)count, .raw_blocks = (uint8_t)count,
			       .stored_blocks = (uint8_t)count, .flags = (uint8_t)block_flags(m, block) };

	if (run.flags & RUN_UNWRITTEN) {
		run.raw_blocks = run.stored_blocks = 0;
		return run;
	}
	run.vdev = at_vdev(m->at[block]);
	run.address = at_block(m->at[block]);
	if (run.flags & RUN_COMPRESSED) {
		const struct compressed_extent *e = blockmap_extent(m, block);

		run.skip = (uint8_t)blockmap_raw_index(m, block);
		run.raw_blocks = e->raw;
		run.stored_blocks = e->stored;
		run.stored_bytes = e->bytes;
	}
	return run;
}

void blockmap_to_rec(const struct blockmap *m, uint64_t seq, struct map_rec *rec)
{
	unsigned crc = 0;

	rec->seq = seq;
	rec->nruns = 0;
	for (uint64_t left = m->mapped; left;) {
		unsigned block = (unsigned)__builtin_ctzll(left);
		unsigned count = run_length(m, block);
		struct map_run *run = &rec->runs[rec->nruns++];

		*run = run_make(m, block, count);
		if (run->flags & RUN_COMPRESSED)
			rec->crcs[crc++] = blockmap_extent(m, block)->crc;
		else if (map_run_ncrcs(run))
			for (unsigned b = 0; b < count; b++)
				rec->crcs[crc++] = m->crc[block + b];
		left &= ~block_mask(block, count);
	}
}

static void extent_drop_holders(const struct compressed_extent *e, blockmap_fn fn, void *arg)
{
	struct extent range = { .block = at_block(e->at), .blocks = e->stored, .vdev = at_vdev(e->at) };

	for (unsigned i = 0; i < e->runs; i++)
		fn(arg, &range, -1);
}

static void unmap_compressed(struct blockmap *m, uint64_t mask, blockmap_fn fn, void *arg)
{
	bool used[BLOCKMAP_EXTENTS_MAX] = { false };

	for (uint64_t left = m->compressed & ~mask; left; left &= left - 1)
		used[m->crc[__builtin_ctzll(left)] >> 8] = true;
	for (uint64_t left = m->compressed & mask; left; left &= left - 1) {
		struct compressed_extent *e = blockmap_extent(m, (unsigned)__builtin_ctzll(left));

		if (used[e - m->extents] || !e->raw)
			continue;
		extent_drop_holders(e, fn, arg);
		e->raw = 0;
	}
}

/* Calls fn for the runs of plain blocks in mask. */
static int each_plain(const struct blockmap *m, uint64_t mask, blockmap_fn fn, void *arg, int delta)
{
	for (uint64_t left = mask & blockmap_stored(m) & ~m->compressed; left;) {
		unsigned block = (unsigned)__builtin_ctzll(left), n = 1;
		int r;

		while (block + n < CHUNK_BLOCKS && (left & block_bit(block + n)) &&
		       m->at[block + n] == m->at[block] + n)
			n++;
		struct extent range = { .block = at_block(m->at[block]), .blocks = n, .vdev = at_vdev(m->at[block]) };
		r = fn(arg, &range, delta);
		if (r)
			return r;
		left &= ~block_mask(block, n);
	}
	return 0;
}

static int ignore_result(void *arg, const struct extent *extent, int delta)
{
	void **pair = arg;

	((blockmap_fn)pair[0])(pair[1], extent, delta);
	return 0;
}

void blockmap_unmap(struct blockmap *m, uint64_t mask, blockmap_fn fn, void *arg)
{
	void *pair[2] = { (void *)fn, arg };

	mask &= m->mapped;
	if (!mask)
		return;
	each_plain(m, mask, ignore_result, pair, -1);
	if (m->compressed & mask)
		unmap_compressed(m, mask, fn, arg);
	m->mapped &= ~mask;
	m->unwritten &= ~mask;
	m->compressed &= ~mask;
	m->inherited &= ~mask;
	m->nosum &= ~mask;
}

void blockmap_set(struct blockmap *m, unsigned block, uint64_t at, uint32_t crc)
{
	assert(!(m->mapped & block_bit(block)));
	m->mapped |= block_bit(block);
	m->at[block] = at;
	m->crc[block] = crc;
}

void blockmap_set_unwritten(struct blockmap *m, uint64_t mask)
{
	assert(!(m->mapped & mask));
	m->mapped |= mask;
	m->unwritten |= mask;
}

int blockmap_set_compressed(struct blockmap *m, unsigned block, const struct compressed_extent *extent)
{
	int i;

	assert(!(m->mapped & block_mask(block, extent->raw)));
	if (extents_need(m))
		return -ENOMEM;
	i = extent_enter(m, extent->at, extent);
	if (i < 0)
		return i;
	m->extents[i].runs++;
	for (unsigned b = 0; b < extent->raw; b++) {
		m->at[block + b] = extent->at;
		m->crc[block + b] = (uint32_t)i << 8 | b;
	}
	m->mapped |= block_mask(block, extent->raw);
	m->compressed |= block_mask(block, extent->raw);
	return 0;
}

static void move_compressed(struct blockmap *dst, const struct blockmap *src)
{
	for (uint64_t left = src->compressed; left; left &= left - 1) {
		unsigned b = (unsigned)__builtin_ctzll(left);
		const struct compressed_extent *e = blockmap_extent(src, b);
		int i = extent_enter(dst, e->at, e);

		dst->extents[i].runs = e->runs;
		dst->at[b] = e->at;
		dst->crc[b] = (uint32_t)i << 8 | blockmap_raw_index(src, b);
	}
	dst->compressed |= src->compressed;
}

int blockmap_move(struct blockmap *dst, struct blockmap *src)
{
	assert(!(dst->mapped & src->mapped));
	if (src->compressed) {
		if (extents_need(dst))
			return -ENOMEM;
		move_compressed(dst, src);
	}
	for (uint64_t left = blockmap_stored(src) & ~src->compressed; left; left &= left - 1) {
		unsigned b = (unsigned)__builtin_ctzll(left);

		dst->at[b] = src->at[b];
		dst->crc[b] = src->crc[b];
	}
	dst->mapped |= src->mapped;
	dst->unwritten |= src->unwritten;
	dst->inherited |= src->inherited;
	dst->nosum |= src->nosum;
	blockmap_clear(src);
	return 0;
}

uint64_t blockmap_companions(const struct blockmap *m, uint64_t mask)
{
	bool touched[BLOCKMAP_EXTENTS_MAX] = { false };
	uint64_t out = 0;

	if (!(m->compressed & mask))
		return 0;
	for (uint64_t left = m->compressed & mask; left; left &= left - 1)
		touched[m->crc[__builtin_ctzll(left)] >> 8] = true;
	for (uint64_t left = m->compressed & ~mask; left; left &= left - 1)
		if (touched[m->crc[__builtin_ctzll(left)] >> 8])
			out |= left & -left;
	return out;
}

/* The runs of compressed extents, as the record has them. */
static int each_compressed(const struct blockmap *m, blockmap_fn fn, void *arg, int delta)
{
	for (uint64_t left = m->compressed; left;) {
		unsigned block = (unsigned)__builtin_ctzll(left);
		const struct compressed_extent *e = blockmap_extent(m, block);
		struct extent range = { .block = at_block(e->at), .blocks = e->stored, .vdev = at_vdev(e->at) };
		int r = fn(arg, &range, delta);

		if (r)
			return r;
		left &= ~block_mask(block, run_length(m, block));
	}
	return 0;
}

static void count_runs(const struct blockmap *m, uint8_t counts[BLOCKMAP_EXTENTS_MAX])
{
	memset(counts, 0, BLOCKMAP_EXTENTS_MAX);
	for (uint64_t left = m->compressed; left;) {
		unsigned block = (unsigned)__builtin_ctzll(left);

		counts[m->crc[block] >> 8]++;
		left &= ~block_mask(block, run_length(m, block));
	}
}

void blockmap_recount(struct blockmap *m, const struct blockmap *before)
{
	uint8_t was[BLOCKMAP_EXTENTS_MAX], is[BLOCKMAP_EXTENTS_MAX];

	if (!m->compressed)
		return;
	count_runs(m, is);
	if (before)
		count_runs(before, was);
	for (unsigned i = 0; i < BLOCKMAP_EXTENTS_MAX; i++)
		if (is[i])
			m->extents[i].runs = before ? (uint8_t)(m->extents[i].runs + is[i] - was[i]) : is[i];
}

int blockmap_each(const struct blockmap *m, blockmap_fn fn, void *arg)
{
	int r = each_plain(m, m->mapped, fn, arg, 1);

	return r ? r : each_compressed(m, fn, arg, 1);
}

/* Plain blocks that both maps have at the same address. */
static uint64_t plain_common(const struct blockmap *a, const struct blockmap *b)
{
	uint64_t same = 0;

	for (uint64_t left = blockmap_stored(a) & ~a->compressed & blockmap_stored(b) & ~b->compressed; left;
	     left &= left - 1) {
		unsigned block = (unsigned)__builtin_ctzll(left);

		if (a->at[block] == b->at[block])
			same |= block_bit(block);
	}
	return same;
}

int blockmap_diff(const struct blockmap *old, const struct blockmap *new, blockmap_fn fn, void *arg)
{
	uint64_t same = old && new ? plain_common(old, new) : 0;
	int r = 0;

	/* What both have cancels in the operands. */
	if (new) {
		r = each_plain(new, ~same, fn, arg, 1);
		if (!r)
			r = each_compressed(new, fn, arg, 1);
	}
	if (old && !r) {
		r = each_plain(old, ~same, fn, arg, -1);
		if (!r)
			r = each_compressed(old, fn, arg, -1);
	}
	return r;
}
