/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the allocator share: space.c opens with the invariants and the order of locks. */
#ifndef NVFS_META_SPACE_INTERNAL_H
#define NVFS_META_SPACE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "meta/space.h"
#include "meta/space_zone.h"

#define SPACE_GROUPS 64
#define SPACE_CLASSES 17           /* runs of 1 .. 65536 blocks */
#define SPACE_STRIPE_BLOCKS 256u   /* what a stream writes to one device before it goes to the next */
#define SPACE_ZONE_MAX 65536u

struct group {
	_Alignas(64) pthread_mutex_t lock;
};

/* A stream's place on one device. */
struct cursor {
	struct zone *zone; /* owned, or NULL */
	uint32_t pos;
};

struct stream {
	_Alignas(64) pthread_mutex_t lock;
	struct cursor *cursors; /* one per vdev */
	uint16_t vdev;          /* where the next blocks go */
	uint32_t left;          /* until the next device's turn */
};

/* A list of zones. */
struct zone_list {
	struct zone *head, *tail;
};

struct vdev_space {
	uint64_t zones_block; /* constant, as all here but the lists */
	uint32_t zone_blocks;
	uint32_t zone_count;
	struct zone *zones;
	uint64_t *bits;
	struct zone_list listed[SPACE_CLASSES]; /* list lock */
	struct zone_list owned;           /* list lock */
};

/* Blocks that settle. */
struct settling {
	uint64_t tag;
	struct zone *zone;
	uint32_t first, end;
};

struct space {
	struct vdev_space *vdevs;
	uint16_t nvdevs;
	bool has_epochs;
	struct space_epochs epochs;
	unsigned nstreams;
	struct stream *streams;
	struct group groups[SPACE_GROUPS];

	pthread_mutex_t list_lock;

	pthread_mutex_t settle_lock;
	struct settling *settling; /* a ring, by rising tag */
	size_t settle_head, settle_count, settle_max;

	pthread_mutex_t discard_lock;
	struct extent *discards; /* a ring; only the last may be shorter than the minimum */
	size_t discard_head, discard_count, discard_max;
	uint32_t discard_min_blocks;

	uint64_t total;
	_Atomic uint64_t free, held, shared, reserve, damaged, memory_bytes;
};

/* ---- space.c ---- */

/* The lock of the group that the zone belongs to. */
static inline pthread_mutex_t *space_group_lock(struct space *space, const struct zone *z)
{
	return &space->groups[(z->index + z->vdev * 7u) % SPACE_GROUPS].lock;
}

/*
 * Blocks that lie next to each other may belong to two zones. The part of range from block `done` on that is in one zone; false when
 * there is none left.
 */
bool space_part(const struct space *space, const struct extent *range, uint32_t done,
		struct extent *part);

/* The zone of a range and where in it the range begins; NULL if it is not wholly in one data zone. */
struct zone *space_zone_of(const struct space *space, const struct extent *range, uint32_t *first);

/* A data zone by number, or NULL. */
struct zone *space_zone_at(const struct space *space, uint16_t vdev, uint32_t zone);

/*
 * Change the durable count of a range. Up: -EUCLEAN if any block is neither current nor durable, -ENOMEM,
 * and nothing changed then. Down: never fails; what was not that high, or cannot be kept track of, stays
 * as it is and is logged.
 */
int space_durable_up(struct space *space, struct zone *z, uint32_t first, uint32_t end,
		     uint32_t by);
void space_durable_down(struct space *space, struct zone *z, uint32_t first, uint32_t end,
			uint32_t by);

/* Put a zone that is nowhere where its bound says. Nobody else uses the space yet. */
void space_zone_link(struct space *space, struct zone *z);

/* The range of these blocks of a zone. */
struct extent space_extent_of(const struct space *space, const struct zone *z, uint32_t first,
			      uint32_t end);

/* Blocks became free, their bits say so already. Group lock held. */
void space_blocks_freed(struct space *space, struct zone *z, uint32_t first, uint32_t end);

/* Both counts of blocks that are free become `holders`. 0, -ENOMEM. Takes the group lock. */
int space_set_holders(struct space *space, struct zone *z, uint32_t first, uint32_t end,
		      uint32_t holders);

/* Take up to `want` from the number of free blocks, leaving `keep`; 0 if that would be less than min. */
uint32_t space_free_take(struct space *space, uint32_t want, uint32_t min, uint64_t keep);

/* Log an error that concerns a range. */
void space_log_range(const struct extent *range, const char *what);

/* ---- space_discard.c ---- */

/* Blocks that were in use are free: something to discard. */
void space_discard_note(struct space *space, struct extent range);

#endif
