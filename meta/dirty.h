/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_DIRTY_H
#define NVFS_META_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Dirty blocks: 4 KiB slots in memory that outlives the worker, each with a
 * header that says what it is, so that a new worker finds every acknowledged
 * write. The number of slots is the pool's cap of dirty data.
 */

enum dirty_state { DIRTY_FREE = 0, DIRTY_FILLING = 1, DIRTY_VALID = 2 };

struct dirty_header { /* 64 bytes, in the area */
	uint32_t state;     /* stored last (release): VALID means that the rest and the data are whole */
	uint32_t subvol;
	uint64_t ino;
	uint64_t block;     /* of the file */
	uint64_t sequence;  /* of its newest write */
	uint64_t size;      /* of the file right after that write */
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint32_t incarnation; /* of the subvolume: what a rollback took away does not come back */
	uint32_t reserved[2];
};

struct dirty;

/* Bytes of area for this many slots. */
size_t dirty_area_size(uint32_t slots);

/* base: 4096-aligned, zeroed at the first start. What is VALID in it is kept for dirty_each_left(). 0 or -ENOMEM. */
int dirty_create(void *base, uint32_t slots, struct dirty **out);
void dirty_destroy(struct dirty *d);

/* A free slot or -1; state FILLING. Any thread. */
int64_t dirty_get(struct dirty *d);
void dirty_put(struct dirty *d, uint32_t slot);
void *dirty_data(struct dirty *d, uint32_t slot);
struct dirty_header *dirty_header(struct dirty *d, uint32_t slot);
uint32_t dirty_free_slots(const struct dirty *d);
uint32_t dirty_slots(const struct dirty *d); /* all */

/* Slots that an earlier worker left VALID; fn returns 0 to go on. */
int dirty_each_left(struct dirty *d, int (*fn)(void *arg, uint32_t slot, struct dirty_header *h), void *arg);

#endif
