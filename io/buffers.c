/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * A buddy allocator over the region: a block of order k is 4096 << k bytes and
 * starts at a multiple of that. The free blocks of an order are a list that
 * lives in the blocks themselves; `state` says for each 4 KiB page whether a
 * free block starts there, and of which order, so that a block put back finds
 * out in one look whether its buddy is free. Splitting and merging are at most
 * 8 steps, and there is no fragmentation by class.
 */

#include "io/buffers.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "io/reactor.h"

#define BUFFER_ORDERS 9 /* 4 KiB .. 1 MiB */
#define STATE_USED 0xff /* no free block starts at this page */

_Static_assert(BUFFER_MIN_BYTES << (BUFFER_ORDERS - 1) == BUFFER_MAX_BYTES, "orders");

struct free_block {
	struct free_block *next, *prev;
};

struct buffers {
	char *base;
	size_t bytes;
	bool own_region;
	struct free_block heads[BUFFER_ORDERS]; /* circular */
	uint8_t *state;                         /* per page: the order of the free block, or STATE_USED */
	size_t used_bytes;
	uint64_t fallbacks;
};

static unsigned order_of(size_t len_bytes)
{
	unsigned order = 0;

	while ((size_t)BUFFER_MIN_BYTES << order < len_bytes)
		order++;
	return order;
}

static size_t page_of(const struct buffers *b, const void *p)
{
	return (size_t)((const char *)p - b->base) / BUFFER_MIN_BYTES;
}

static void free_block_push(struct buffers *b, unsigned order, void *p)
{
	struct free_block *head = &b->heads[order], *block = p;

	block->next = head->next;
	block->prev = head;
	head->next->prev = block;
	head->next = block;
	b->state[page_of(b, p)] = (uint8_t)order;
}

static void free_block_remove(struct buffers *b, struct free_block *block)
{
	block->prev->next = block->next;
	block->next->prev = block->prev;
	b->state[page_of(b, block)] = STATE_USED;
}

static void *region_get(struct buffers *b, unsigned want)
{
	unsigned order = want;
	struct free_block *block;

	while (order < BUFFER_ORDERS && b->heads[order].next == &b->heads[order])
		order++;
	if (order == BUFFER_ORDERS)
		return NULL;
	block = b->heads[order].next;
	free_block_remove(b, block);
	while (order > want) {
		order--;
		free_block_push(b, order, (char *)block + ((size_t)BUFFER_MIN_BYTES << order));
	}
	b->used_bytes += (size_t)BUFFER_MIN_BYTES << want;
	return block;
}

static void region_put(struct buffers *b, char *p, unsigned order)
{
	size_t page = page_of(b, p);

	assert(b->state[page] == STATE_USED && page % ((size_t)1 << order) == 0);
	b->used_bytes -= (size_t)BUFFER_MIN_BYTES << order;
	while (order < BUFFER_ORDERS - 1) {
		size_t buddy = page ^ (size_t)1 << order;

		if (b->state[buddy] != order)
			break;
		free_block_remove(b, (struct free_block *)(b->base + buddy * BUFFER_MIN_BYTES));
		page &= ~((size_t)1 << order);
		order++;
	}
	free_block_push(b, order, b->base + page * BUFFER_MIN_BYTES);
}

static int buffers_map_region(struct buffers *b)
{
	void *p = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	b->base = p;
	b->own_region = true;
	return 0;
}

static int buffers_init(struct buffers *b, struct reactor *r)
{
	int rc;

	b->state = malloc(b->bytes / BUFFER_MIN_BYTES);
	if (!b->state)
		return -ENOMEM;
	memset(b->state, STATE_USED, b->bytes / BUFFER_MIN_BYTES);
	if (!b->base) {
		rc = buffers_map_region(b);
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < BUFFER_ORDERS; i++)
		b->heads[i].next = b->heads[i].prev = &b->heads[i];
	for (size_t off = b->bytes; off; off -= BUFFER_MAX_BYTES)
		free_block_push(b, BUFFER_ORDERS - 1, b->base + off - BUFFER_MAX_BYTES);
	return r ? reactor_register_buffers(r, b->base, b->bytes) : 0;
}

int buffers_create(struct reactor *r, void *region, size_t region_bytes, struct buffers **out)
{
	struct buffers *b;
	int rc;

	if (!region_bytes || region_bytes % BUFFER_MAX_BYTES || (uintptr_t)region % BUFFER_MIN_BYTES)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->base = region;
	b->bytes = region_bytes;
	rc = buffers_init(b, r);
	if (rc)
		buffers_destroy(b);
	else
		*out = b;
	return rc;
}

void buffers_destroy(struct buffers *b)
{
	if (!b)
		return;
	assert(!b->used_bytes);
	if (b->own_region)
		munmap(b->base, b->bytes);
	free(b->state);
	free(b);
}

bool buffers_contains(const struct buffers *b, const void *buf)
{
	return (uintptr_t)buf - (uintptr_t)b->base < b->bytes;
}

void *buffers_get(struct buffers *b, size_t len_bytes)
{
	void *p = NULL;

	assert(len_bytes);
	if (len_bytes <= BUFFER_MAX_BYTES)
		p = region_get(b, order_of(len_bytes));
	if (p)
		return p;
	if (len_bytes > SIZE_MAX - BUFFER_MIN_BYTES)
		return NULL;
	p = aligned_alloc(BUFFER_MIN_BYTES,
			  (len_bytes + BUFFER_MIN_BYTES - 1) & ~(size_t)(BUFFER_MIN_BYTES - 1));
	if (p)
		b->fallbacks++;
	return p;
}

void buffers_put(struct buffers *b, void *buf, size_t len_bytes)
{
	if (buf && buffers_contains(b, buf))
		region_put(b, buf, order_of(len_bytes));
	else
		free(buf);
}

size_t buffers_used_bytes(const struct buffers *b)
{
	return b->used_bytes;
}

uint64_t buffers_fallbacks(const struct buffers *b)
{
	return b->fallbacks;
}
