/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * Reads last longer than an iteration of their reactor, so quiescent states
 * would never come; instead the pins themselves are counted, per slot and
 * generation.
 *
 * `current` is the epoch that readers enter now. Four generations of counters
 * are reused in turn: epoch e counts in generation e % 4. Below `oldest` all
 * epochs have drained; always current - 3 <= oldest <= current, so each of the
 * live epochs has its generation for itself. current moves on only when asked
 * by epoch_passed() about itself, and waits when its next generation is still
 * held by a reader of three epochs ago: then nothing is reused until that read
 * ends, and reads go on undisturbed.
 *
 * Why a reader is never overlooked: it raises its count and *then* looks
 * whether current is still what it entered, else it takes the count back and
 * tries again. A checker sees current beyond e and *then* reads the counts of
 * e. All of these are sequentially consistent, so if the checker missed the
 * count, the reader's second look comes after it and sees that e is over. A
 * reader that is let in after a block was removed from the maps may be counted
 * under the tag or not: it can't have found the block.
 */

#include "io/epoch.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#define EPOCH_GENERATIONS 4u

struct epoch_slot {
	_Alignas(128) atomic_uint pins[EPOCH_GENERATIONS]; /* 128: neighbour lines are prefetched in pairs */
};

struct epoch_domain {
	_Alignas(128) atomic_uint_fast64_t current;
	_Alignas(128) atomic_uint_fast64_t oldest;
	unsigned slots;
	struct epoch_slot *slot;
};

int epoch_domain_create(unsigned slots, struct epoch_domain **out)
{
	struct epoch_domain *d = aligned_alloc(_Alignof(struct epoch_domain), sizeof(*d));

	assert(slots > 0 && slots <= UINT16_MAX);
	if (!d)
		return -ENOMEM;
	d->slot = aligned_alloc(_Alignof(struct epoch_slot), slots * sizeof(*d->slot));
	if (!d->slot) {
		free(d);
		return -ENOMEM;
	}
	for (unsigned s = 0; s < slots; s++)
		for (unsigned g = 0; g < EPOCH_GENERATIONS; g++)
			atomic_init(&d->slot[s].pins[g], 0);
	d->slots = slots;
	atomic_init(&d->current, 1);
	atomic_init(&d->oldest, 1);
	*out = d;
	return 0;
}

void epoch_domain_destroy(struct epoch_domain *d)
{
	if (!d)
		return;
	free(d->slot);
	free(d);
}

void epoch_enter(struct epoch_domain *d, unsigned slot, struct epoch_pin *pin)
{
	assert(slot < d->slots);
	for (;;) {
		uint64_t e = atomic_load(&d->current);
		atomic_uint *pins = &d->slot[slot].pins[e % EPOCH_GENERATIONS];

		atomic_fetch_add(pins, 1);
		if (atomic_load(&d->current) == e) {
			pin->slot = (uint16_t)slot;
			pin->generation = (uint16_t)(e % EPOCH_GENERATIONS);
			return;
		}
		atomic_fetch_sub(pins, 1);
	}
}

void epoch_exit(struct epoch_domain *d, const struct epoch_pin *pin)
{
	unsigned was = atomic_fetch_sub(&d->slot[pin->slot].pins[pin->generation], 1);

	assert(was > 0);
	(void)was;
}

uint64_t epoch_tag(struct epoch_domain *d)
{
	return atomic_load(&d->current);
}

static bool epoch_drained(struct epoch_domain *d, uint64_t e)
{
	for (unsigned s = 0; s < d->slots; s++)
		if (atomic_load(&d->slot[s].pins[e % EPOCH_GENERATIONS]))
			return false;
	return true;
}

/* Raise oldest over every epoch that is over and empty. Several threads may be at it. */
static uint64_t epoch_advance_oldest(struct epoch_domain *d)
{
	uint64_t oldest = atomic_load(&d->oldest);

	while (oldest < atomic_load(&d->current) && epoch_drained(d, oldest)) {
		/* On failure oldest is what somebody else raised it to. */
		if (atomic_compare_exchange_strong(&d->oldest, &oldest, oldest + 1))
			oldest++;
	}
	return oldest;
}

bool epoch_passed(struct epoch_domain *d, uint64_t tag)
{
	uint64_t e = tag;

	if (atomic_load(&d->oldest) > tag)
		return true;
	if (tag + 1 - epoch_advance_oldest(d) < EPOCH_GENERATIONS)
		atomic_compare_exchange_strong(&d->current, &e, tag + 1);
	return epoch_advance_oldest(d) > tag;
}
