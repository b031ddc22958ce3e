/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The slots of dirty blocks: headers first, then the data, in an area that the caller provides. Which
 * slots are free is kept outside the area: a stack of indexes without a lock, whose head carries a
 * counter against reuse between a reader's look and its exchange.
 *
 * A header becomes VALID only after the data and its other fields are there, and stops being it before
 * any of them changes, so whoever finds the area later never takes a mixture for a block.
 */
#include "config.h"

#include "meta/dirty.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "meta/records.h"

#define NONE UINT32_MAX

_Static_assert(sizeof(struct dirty_header) == 64, "one cache line");

struct dirty {
	struct dirty_header *headers; /* in the area */
	uint8_t *data;                /* in the area */
	uint32_t slots;
	_Atomic uint32_t *next;       /* of the stack */
	_Alignas(64) _Atomic uint64_t head; /* counter << 32 | index */
	_Alignas(64) _Atomic uint32_t free_slots;
};

static size_t headers_size(uint32_t slots)
{
	size_t bytes = (size_t)slots * sizeof(struct dirty_header);

	return (bytes + NVFS_BLOCK_SIZE - 1) / NVFS_BLOCK_SIZE * NVFS_BLOCK_SIZE;
}

size_t dirty_area_size(uint32_t slots)
{
	return headers_size(slots) + (size_t)slots * NVFS_BLOCK_SIZE;
}

static uint32_t state_get(const struct dirty_header *h)
{
	return __atomic_load_n(&h->state, __ATOMIC_ACQUIRE);
}

static void state_set(struct dirty_header *h, uint32_t state)
{
	__atomic_store_n(&h->state, state, __ATOMIC_RELEASE);
}

static void push(struct dirty *d, uint32_t slot)
{
	uint64_t head = atomic_load_explicit(&d->head, memory_order_relaxed), new_head;

	do {
		atomic_store_explicit(&d->next[slot], (uint32_t)head, memory_order_relaxed);
		new_head = ((head >> 32) + 1) << 32 | slot;
	} while (!atomic_compare_exchange_weak_explicit(&d->head, &head, new_head, memory_order_release,
							memory_order_relaxed));
	atomic_fetch_add_explicit(&d->free_slots, 1, memory_order_relaxed);
}

static uint32_t pop(struct dirty *d)
{
	uint64_t head = atomic_load_explicit(&d->head, memory_order_acquire), new_head;

	do {
		if ((uint32_t)head == NONE)
			return NONE;
		new_head = ((head >> 32) + 1) << 32 |
			   atomic_load_explicit(&d->next[(uint32_t)head], memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&d->head, &head, new_head, memory_order_acquire,
							memory_order_acquire));
	atomic_fetch_sub_explicit(&d->free_slots, 1, memory_order_relaxed);
	return (uint32_t)head;
}

int dirty_create(void *base, uint32_t slots, struct dirty **out)
{
	struct dirty *d = aligned_alloc(_Alignof(struct dirty), sizeof(*d));

	if (!d)
		return -ENOMEM;
	*d = (struct dirty){ .headers = base, .data = (uint8_t *)base + headers_size(slots), .slots = slots };
	d->next = calloc(slots ? slots : 1, sizeof(*d->next));
	if (!d->next) {
		free(d);
		return -ENOMEM;
	}
	atomic_init(&d->head, NONE);
	for (uint32_t i = slots; i-- > 0;) {
		if (state_get(&d->headers[i]) == DIRTY_VALID)
			continue;
		if (d->headers[i].state != DIRTY_FREE) /* leave untouched memory untouched */
			state_set(&d->headers[i], DIRTY_FREE);
		push(d, i);
	}
	*out = d;
	return 0;
}

void dirty_destroy(struct dirty *d)
{
	if (!d)
		return;
	free(d->next);
	free(d);
}

int64_t dirty_get(struct dirty *d)
{
	uint32_t slot = pop(d);

	if (slot == NONE)
		return -1;
	state_set(&d->headers[slot], DIRTY_FILLING);
	return slot;
}

void dirty_put(struct dirty *d, uint32_t slot)
{
	struct dirty_header *h = &d->headers[slot];

	assert(slot < d->slots && h->state != DIRTY_FREE);
	__atomic_store_n(&h->sequence, 0, __ATOMIC_RELEASE);
	state_set(h, DIRTY_FREE);
	push(d, slot);
}

void *dirty_data(struct dirty *d, uint32_t slot)
{
	assert(slot < d->slots);
	return d->data + (size_t)slot * NVFS_BLOCK_SIZE;
}

struct dirty_header *dirty_header(struct dirty *d, uint32_t slot)
{
	assert(slot < d->slots);
	return &d->headers[slot];
}

uint32_t dirty_free_slots(const struct dirty *d)
{
	return atomic_load_explicit(&d->free_slots, memory_order_relaxed);
}

uint32_t dirty_slots(const struct dirty *d)
{
	return d->slots;
}

int dirty_each_left(struct dirty *d, int (*fn)(void *arg, uint32_t slot, struct dirty_header *h), void *arg)
{
	for (uint32_t i = 0; i < d->slots; i++) {
		int r = state_get(&d->headers[i]) == DIRTY_VALID ? fn(arg, i, &d->headers[i]) : 0;

		if (r)
			return r;
	}
	return 0;
}
