/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/usage_internal.h"

#define PAGE_BLOCKS 32768u /* 8 KiB for 128 MiB of data */
#define PAGE_WORDS (PAGE_BLOCKS / 64)

/* ---- Bits ---- */

static uint64_t *page_get(struct usage_bits *b, const struct pool *pool, uint16_t vdev, uint64_t address)
{
	const size_t n = address / PAGE_BLOCKS;

	if (!b->pages[vdev]) {
		b->npages[vdev] = pool->label.devices[vdev].size_bytes / NVFS_BLOCK_SIZE / PAGE_BLOCKS + 1;
		b->pages[vdev] = calloc(b->npages[vdev], sizeof(*b->pages[vdev]));
		if (!b->pages[vdev])
			return NULL;
	}
	if (!b->pages[vdev][n])
		b->pages[vdev][n] = calloc(2 * PAGE_WORDS, sizeof(uint64_t));
	return b->pages[vdev][n];
}

int usage_bits_mark(struct usage_bits *b, const struct pool *pool, uint16_t vdev, uint64_t address, uint64_t blocks)
{
	const uint64_t all = vdev < pool->label.device_count ? pool->label.devices[vdev].size_bytes / NVFS_BLOCK_SIZE : 0;

	if (address > all || blocks > all - address)
		return -EBADMSG;
	for (; blocks; address++, blocks--) {
		uint64_t *page = page_get(b, pool, vdev, address);
		const unsigned word = address % PAGE_BLOCKS / 64;
		const uint64_t bit = UINT64_C(1) << address % 64;

		if (!page)
			return -ENOMEM;
		page[PAGE_WORDS + word] |= page[word] & bit;
		page[word] |= bit;
	}
	return 0;
}

static bool several(const struct usage_bits *b, uint16_t vdev, uint64_t address)
{
	const uint64_t *page = b->pages[vdev][address / PAGE_BLOCKS];

	return page[PAGE_WORDS + address % PAGE_BLOCKS / 64] >> address % 64 & 1;
}

bool usage_bits_several(const struct usage_bits *b, uint16_t vdev, uint64_t address, uint64_t blocks, uint64_t *same)
{
	const bool first = several(b, vdev, address);

	for (*same = 1; *same < blocks && several(b, vdev, address + *same) == first;)
		++*same;
	return first;
}

void usage_bits_free(struct usage_bits *b)
{
	for (unsigned v = 0; v < LABEL_DEVICES_MAX; v++) {
		for (size_t i = 0; i < b->npages[v]; i++)
			free(b->pages[v][i]);
		free(b->pages[v]);
	}
	*b = (struct usage_bits){ 0 };
}

/* ---- Ranges ---- */

static int by_address(const void *a, const void *b)
{
	const struct usage_piece *x = a, *y = b;

	if (x->vdev != y->vdev)
		return x->vdev < y->vdev ? -1 : 1;
	return (x->address > y->address) - (x->address < y->address);
}

/* What lies over the place where the walk is. */
struct over {
	uint64_t *ends;
	uint32_t *owners;
	size_t count, ends_room, owners_room;
};

static int enter(struct over *o, const struct usage_piece *p)
{
	if (array_grow((void **)&o->ends, o->count, &o->ends_room, sizeof(*o->ends)) ||
	    array_grow((void **)&o->owners, o->count, &o->owners_room, sizeof(*o->owners)))
		return -ENOMEM;
	o->ends[o->count] = p->address + p->blocks;
	o->owners[o->count++] = p->owner;
	return 0;
}

static void leave(struct over *o, uint64_t at)
{
	size_t n = 0;

	for (size_t i = 0; i < o->count; i++)
		if (o->ends[i] > at) {
			o->ends[n] = o->ends[i];
			o->owners[n++] = o->owners[i];
		}
	o->count = n;
}

static uint64_t next_edge(const struct over *o, const struct usage_piece *next)
{
	uint64_t edge = next ? next->address : UINT64_MAX;

	for (size_t i = 0; i < o->count; i++)
		if (o->ends[i] < edge)
			edge = o->ends[i];
	return edge;
}

int usage_ranges(struct usage_piece *pieces, size_t count, usage_range_fn fn, void *arg)
{
	struct over over = { 0 };
	size_t i = 0;
	uint64_t at = 0;
	uint16_t vdev = 0;
	int r = 0;

	if (count > 1)
		qsort(pieces, count, sizeof(*pieces), by_address);
	while (!r && (i < count || over.count)) {
		uint64_t edge;

		if (!over.count) {
			vdev = pieces[i].vdev;
			at = pieces[i].address;
		}
		for (; !r && i < count && pieces[i].vdev == vdev && pieces[i].address == at; i++)
			r = enter(&over, &pieces[i]);
		if (r)
			break;
		edge = next_edge(&over, i < count && pieces[i].vdev == vdev ? &pieces[i] : NULL);
		r = fn(arg, vdev, at, edge - at, over.owners, (unsigned)over.count);
		at = edge;
		leave(&over, at);
	}
	free(over.ends);
	free(over.owners);
	return r;
}
