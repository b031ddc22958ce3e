/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The blocks of one zone: three bits each and a sorted list of the ranges where a count is above
 * one. No locks and no policy; space.c has both.
 *
 *	cur   current count > 0
 *	dur   durable count > 0
 *	busy  not to be handed out though both are 0: reads or a discard are under way
 *
 * A block is free when it has none of the three. Memory: 3 bits a block, 96 MiB per TiB (and one
 * struct zone of about 100 bytes each 64 MiB, 1.6 MiB per TiB), but zones that were never
 * written cost address space only. Shared ranges cost 12 bytes each, however long they are.
 */
#ifndef NVFS_META_SPACE_ZONE_H
#define NVFS_META_SPACE_ZONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum zone_bits { ZONE_CUR, ZONE_DUR, ZONE_BUSY, ZONE_BITS };

/* A range where at least one of the counts is above 1. */
struct zone_shared {
	uint16_t first;
	uint16_t last; /* inclusive */
	uint32_t cur;
	uint32_t dur;
};

enum zone_state {
	ZONE_NOT_DATA, /* of metafs: never looked at */
	ZONE_FULL,     /* no free block, in no list */
	ZONE_LISTED,   /* in the list of its class */
	ZONE_OWNED,    /* a stream fills it */
};

struct zone {
	/* Constant. */
	uint64_t *bits; /* ZONE_BITS bitmaps of `blocks` bits, one after the other */
	uint32_t blocks;
	uint32_t index; /* in its vdev */
	uint16_t vdev;

	/* Protected by the lock of the zone's group. */
	uint32_t nshared, shared_max;
	struct zone_shared *shared; /* ascending, apart, neighbours that touch differ */
	uint32_t bound;             /* no free run is longer */

	/* Protected by the list lock. */
	uint8_t state; /* enum zone_state */
	uint8_t class;
	struct zone *prev, *next;
};

/* Blocks from `first` on up to `end` (not included) whose counts and busy bits are the same. */
struct zone_piece {
	uint32_t first, end;
	uint32_t cur, dur;
	bool busy;
};

/* The longest piece that starts at `at` and ends at or before `end`; at < end <= zone->blocks. */
struct zone_piece zone_piece(const struct zone *z, uint32_t at, uint32_t end);

/* Make room so that `pieces` calls of zone_set() cannot fail. 0 or -ENOMEM. */
int zone_reserve(struct zone *z, uint32_t pieces);

/* Give the blocks of a piece, as zone_piece() returned it, these counts. */
void zone_set(struct zone *z, const struct zone_piece *p, uint32_t cur, uint32_t dur);

void zone_set_busy(struct zone *z, uint32_t first, uint32_t end, bool busy);

/*
 * The first free run at or after `from` with at least `want` blocks; if there is none, the longest
 * at or after `from`. Returns its length (cut at nothing), 0 if there is no free block; *first is set.
 */
uint32_t zone_find_free(const struct zone *z, uint32_t from, uint32_t want, uint32_t *first);

/* The length of the free run that contains the free block `at`. */
uint32_t zone_free_run(const struct zone *z, uint32_t at);

#endif
