/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What to discard: a queue of runs in the order in which they were freed. A deleted file frees its chunks one
 * after the other, so a range joins the last entry where they touch; entries that stayed short are
 * overwritten, since discarding single blocks costs devices more than it gives. An entry says only
 * that these blocks *were* free: what of it still is, is looked up when it is taken, and busy
 * then, so that nobody allocates what the device is about to forget.
 */
#include "config.h"

#include <stdlib.h>

#include "io/cleanup.h"
#include "meta/space_internal.h"

#define DISCARDS_MAX 65536u

static struct extent *discard_at(struct space *space, size_t i)
{
	return &space->discards[(space->discard_head + i) % space->discard_max];
}

/* Room for one more at the tail; false: without memory or at the limit, the discard is forgotten. */
static bool discard_grow(struct space *space)
{
	const size_t max = space->discard_max ? space->discard_max * 2 : 64;
	struct extent *bigger;

	if (space->discard_count < space->discard_max)
		return true;
	if (max > DISCARDS_MAX)
		return false;
	bigger = malloc(max * sizeof(*bigger));
	if (!bigger)
		return false;
	for (size_t i = 0; i < space->discard_count; i++)
		bigger[i] = *discard_at(space, i);
	free(space->discards);
	space->discards = bigger;
	space->discard_head = 0;
	space->discard_max = max;
	return true;
}

/* Join the range to the last of the queue if they touch. */
static bool discard_join(struct extent *last, const struct extent *range)
{
	if (last->vdev != range->vdev)
		return false;
	if (last->block + last->blocks == range->block) {
		last->blocks += range->blocks;
		return true;
	}
	if (range->block + range->blocks == last->block) {
		last->block = range->block;
		last->blocks += range->blocks;
		return true;
	}
	return false;
}

/* Blocks were freed. What is short and has no neighbour in the queue is overwritten by the next. */
void space_discard_note(struct space *space, struct extent range)
{
	struct extent *last;

	if (!space->discard_min_blocks)
		return;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->discard_lock);
	if (space->discard_count) {
		last = discard_at(space, space->discard_count - 1);
		if (discard_join(last, &range))
			return;
		if (last->blocks < space->discard_min_blocks) {
			*last = range;
			return;
		}
	}
	if (discard_grow(space)) {
		space->discard_count++;
		*discard_at(space, space->discard_count - 1) = range;
	}
}

static bool discard_pop(struct space *space, struct extent *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->discard_lock);

	if (!space->discard_count || discard_at(space, 0)->blocks < space->discard_min_blocks)
		return false;
	*out = *discard_at(space, 0);
	space->discard_head = (space->discard_head + 1) % space->discard_max;
	space->discard_count--;
	return true;
}

/* Put back what was not dealt with yet. */
static void discard_unpop(struct space *space, const struct extent *range)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&space->discard_lock);

	if (range->blocks < space->discard_min_blocks || !discard_grow(space))
		return;
	space->discard_head =
		(space->discard_head + space->discard_max - 1) % space->discard_max;
	space->discard_count++;
	*discard_at(space, 0) = *range;
}

/* The first free run of at least min blocks in [from, end) of the zone. Group lock held. */
static bool free_run_within(const struct zone *z, uint32_t from, uint32_t end, uint32_t min,
			    uint32_t *first, uint32_t *run)
{
	while (from < end) {
		*run = zone_find_free(z, from, min, first);
		if (*run < min || *first >= end)
			return false;
		if (*run > end - *first)
			*run = end - *first;
		if (*run >= min)
			return true;
		from = *first + *run;
	}
	return false;
}

/* Set aside what is still free of an entry of the queue; the rest goes back to the queue. */
static bool discard_reserve(struct space *space, const struct extent *range, struct extent *out)
{
	uint32_t from, end, first, run;
	struct zone *z = space_zone_of(space, range, &from);
	struct extent rest;

	end = from + range->blocks;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	if (!free_run_within(z, from, end, space->discard_min_blocks, &first, &run))
		return false;
	if (!space_free_take(space, run, run, atomic_load(&space->reserve)))
		return false;
	zone_set_busy(z, first, first + run, true);
	*out = space_extent_of(space, z, first, first + run);
	rest = space_extent_of(space, z, first + run, end);
	discard_unpop(space, &rest);
	return true;
}

bool space_discard_take(struct space *space, struct extent *out)
{
	struct extent range;

	while (discard_pop(space, &range)) {
		/* The queue joins what touches, also across zones. */
		const struct vdev_space *v = &space->vdevs[range.vdev];
		const uint32_t in_zone =
			v->zone_blocks - (range.block - v->zones_block) % v->zone_blocks;
		struct extent rest = range;

		if (range.blocks > in_zone) {
			rest.block += in_zone;
			rest.blocks -= in_zone;
			discard_unpop(space, &rest);
			range.blocks = in_zone;
		}
		if (discard_reserve(space, &range, out))
			return true;
	}
	return false;
}

void space_discard_done(struct space *space, const struct extent *range)
{
	uint32_t first;
	struct zone *z = space_zone_of(space, range, &first);
	struct zone_piece p;

	if (!z)
		return;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(space_group_lock(space, z));
	p = zone_piece(z, first, first + range->blocks);
	if (p.end != first + range->blocks || p.cur || p.dur || !p.busy) {
		space_log_range(range, "the end of a discard that was not begun");
		return;
	}
	zone_set_busy(z, p.first, p.end, false);
	space_blocks_freed(space, z, p.first, p.end);
}
