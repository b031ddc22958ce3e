/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Space of metafs: one bit per block of its zones, all ranges one after the other. Next fit from a
 * cursor, so that what was freed last is reused last, and a run never crosses a range.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/metafs_internal.h"

static bool bit_get(const struct mf_alloc *a, uint64_t i)
{
	return a->bits[i / 64] >> (i % 64) & 1;
}

static void bits_set(struct mf_alloc *a, uint64_t first, uint64_t n, bool on)
{
	for (uint64_t i = first; i < first + n;) {
		unsigned at = i % 64;
		uint64_t left = first + n - i, take = left < 64 - at ? left : 64 - at;
		uint64_t mask = (take == 64 ? ~0ull : (1ull << take) - 1) << at;

		if (on)
			a->bits[i / 64] |= mask;
		else
			a->bits[i / 64] &= ~mask;
		i += take;
	}
}

int mf_alloc_init(struct mf_alloc *a, const struct metafs_table *table, const struct label *labels)
{
	a->ranges = calloc(table->ranges + 1, sizeof(*a->ranges));
	if (!a->ranges)
		return -ENOMEM;
	for (unsigned i = 0; i < table->ranges; i++) {
		const struct label *l = &labels[table->range[i].vdev];
		struct mf_range *r = &a->ranges[a->nranges];

		if (!l->zone_bytes)
			continue; /* a missing member: opened for reading only, and nothing is allocated */
		r->vdev = table->range[i].vdev;
		r->first = label_zone_block(l, table->range[i].first);
		r->blocks = (uint64_t)table->range[i].count * label_zone_blocks(l);
		r->base = a->blocks;
		a->blocks += r->blocks;
		a->nranges++;
	}
	a->free_blocks = a->blocks;
	a->bits = calloc(a->blocks / 64 + 1, sizeof(*a->bits));
	return a->bits ? 0 : -ENOMEM;
}

void mf_alloc_destroy(struct mf_alloc *a)
{
	free(a->ranges);
	free(a->bits);
	memset(a, 0, sizeof(*a));
}

/* The first free bit in [from, end), or end; whole words at a time. */
static uint64_t next_free(const struct mf_alloc *a, uint64_t from, uint64_t end)
{
	while (from < end) {
		uint64_t word = ~a->bits[from / 64] >> (from % 64);

		if (word) {
			from += (unsigned)__builtin_ctzll(word);
			return from < end ? from : end;
		}
		from = (from / 64 + 1) * 64;
	}
	return end;
}

static uint64_t run_length(const struct mf_alloc *a, uint64_t from, uint64_t end)
{
	uint64_t i = from;

	while (i < end) {
		uint64_t word = a->bits[i / 64] >> (i % 64);

		if (word) {
			i += (unsigned)__builtin_ctzll(word);
			break;
		}
		i = (i / 64 + 1) * 64;
	}
	return (i < end ? i : end) - from;
}

struct best {
	uint64_t bit, blocks;
	const struct mf_range *range;
};

/* True when a run of want blocks was found within [from, to) of the range. */
static bool search(const struct mf_alloc *a, const struct mf_range *r, uint64_t from, uint64_t to,
		   uint32_t want, struct best *best)
{
	uint64_t end = r->base + r->blocks;

	for (uint64_t i = next_free(a, from, to); i < to;) {
		uint64_t stop = end - i > want ? i + want : end;
		uint64_t n = run_length(a, i, stop);

		if (n > best->blocks)
			*best = (struct best){ i, n, r };
		if (n >= want)
			return true;
		i = next_free(a, i + n, to);
	}
	return false;
}

static void search_all(const struct mf_alloc *a, uint32_t want, struct best *best)
{
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < a->nranges; i++) {
			const struct mf_range *r = &a->ranges[i];
			uint64_t end = r->base + r->blocks, from = r->base, to = end;

			if (!pass && a->cursor > from)
				from = a->cursor < end ? a->cursor : end;
			if (pass && a->cursor < to)
				to = a->cursor > r->base ? a->cursor : r->base;
			if (search(a, r, from, to, want, best))
				return;
		}
}

int mf_alloc_run(struct mf_alloc *a, uint32_t want, struct metafs_extent *out)
{
	struct best best = { 0 };

	if (!a->free_blocks)
		return -ENOSPC;
	search_all(a, want, &best);
	if (!best.blocks)
		return -ENOSPC;
	bits_set(a, best.bit, best.blocks, true);
	a->free_blocks -= best.blocks;
	a->cursor = best.bit + best.blocks;
	out->vdev = best.range->vdev;
	out->block = best.range->first + (best.bit - best.range->base);
	out->blocks = (uint32_t)best.blocks;
	return 0;
}

static int locate(const struct mf_alloc *a, const struct metafs_extent *e, uint64_t *bit)
{
	for (unsigned i = 0; i < a->nranges; i++) {
		const struct mf_range *r = &a->ranges[i];

		if (r->vdev == e->vdev && e->block >= r->first &&
		    e->block + e->blocks <= r->first + r->blocks) {
			*bit = r->base + (e->block - r->first);
			return 0;
		}
	}
	return -EINVAL;
}

static int turn(struct mf_alloc *a, const struct metafs_extent *e, bool on)
{
	uint64_t bit;

	if (locate(a, e, &bit))
		return -EINVAL;
	for (uint64_t i = bit; i < bit + e->blocks; i++)
		if (bit_get(a, i) == on)
			return -EINVAL;
	bits_set(a, bit, e->blocks, on);
	if (on)
		a->free_blocks -= e->blocks;
	else
		a->free_blocks += e->blocks;
	return 0;
}

int mf_alloc_claim(struct mf_alloc *a, const struct metafs_extent *e)
{
	return turn(a, e, true);
}

int mf_alloc_release(struct mf_alloc *a, const struct metafs_extent *e)
{
	return turn(a, e, false);
}
