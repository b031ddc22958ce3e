/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of one chunk in memory: what each of its 64 blocks is. A record (struct map_rec) has runs;
 * here there is an entry for each block, so that lookups and edits cost the same however
 * scattered the chunk is, and neighbours merge by themselves when it is encoded.
 *
 * Pure, but for memory. One thread at a time.
 */
#ifndef NVFS_META_BLOCKMAP_H
#define NVFS_META_BLOCKMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "meta/records.h"
#include "meta/space.h"

#define BLOCKMAP_ALL UINT64_MAX
#define BLOCKMAP_EXTENTS_MAX CHUNK_BLOCKS

/* A compressed extent that blocks of the map come from. */
struct compressed_extent {
	uint64_t at;
	uint32_t bytes; /* stored */
	uint32_t crc;
	uint8_t raw;    /* blocks that it holds; 0: the entry is free */
	uint8_t stored; /* blocks that hold it */
	uint8_t runs;   /* of the record that it came with: the holders that it has */
};

struct blockmap {
	uint64_t mapped;     /* bit b: block b is no hole. The other masks are parts of it */
	uint64_t unwritten;  /* promised by fallocate, no address */
	uint64_t compressed; /* at[] is the extent's; crc[] is its index << 8 and the block's number in it */
	uint64_t inherited;  /* the nearest ancestor's version maps the same */
	uint64_t nosum;      /* without checksum */
	uint64_t at[CHUNK_BLOCKS]; /* blockmap_at() */
	uint32_t crc[CHUNK_BLOCKS];
	struct compressed_extent *extents; /* BLOCKMAP_EXTENTS_MAX of them, or NULL */
};

/* count (1..64) blocks from block on, as a mask. */
static inline uint64_t block_mask(unsigned block, unsigned count)
{
	return (count >= CHUNK_BLOCKS ? UINT64_MAX : (UINT64_C(1) << count) - 1) << block;
}

static inline uint64_t block_bit(unsigned block)
{
	return UINT64_C(1) << block;
}

/* Length of the run of set bits that begins at block, which is set. */
static inline unsigned mask_run(uint64_t mask, unsigned block)
{
	uint64_t rest = ~(mask >> block);

	return rest ? (unsigned)__builtin_ctzll(rest) : CHUNK_BLOCKS;
}

static inline unsigned mask_count(uint64_t mask)
{
	return (unsigned)__builtin_popcountll(mask);
}

/* An address in one word: vdev and block, which is below 2^48. */
static inline uint64_t blockmap_at(uint16_t vdev, uint64_t block)
{
	return (uint64_t)vdev << 48 | block;
}

static inline uint16_t at_vdev(uint64_t at)
{
	return (uint16_t)(at >> 48);
}

static inline uint64_t at_block(uint64_t at)
{
	return at & ((UINT64_C(1) << 48) - 1);
}

/* Blocks with data on a device. */
static inline uint64_t blockmap_stored(const struct blockmap *m)
{
	return m->mapped & ~m->unwritten;
}

/* Logical blocks of runs without the flag inherited, which `born` counts. */
static inline unsigned blockmap_own(const struct blockmap *m)
{
	return mask_count(m->mapped & ~m->inherited);
}

/* The compressed extent of a block in m->compressed, and the block's number in it. */
static inline struct compressed_extent *blockmap_extent(const struct blockmap *m, unsigned block)
{
	return &m->extents[m->crc[block] >> 8];
}

static inline unsigned blockmap_raw_index(const struct blockmap *m, unsigned block)
{
	return m->crc[block] & 0xff;
}

/* Zeroed memory is an empty map. clear leaves one. */
void blockmap_clear(struct blockmap *m);

/* dst is empty. 0 or -ENOMEM. */
int blockmap_copy(struct blockmap *dst, const struct blockmap *src);

/*
 * m is empty. inherited: the record is an ancestor's. 0, -ENOMEM, -EBADMSG for an address
 * beyond 2^48 or runs that contradict each other.
 */
int blockmap_from_rec(struct blockmap *m, const struct map_rec *rec, bool inherited);
void blockmap_to_rec(const struct blockmap *m, uint64_t seq, struct map_rec *rec);

/* Holders of blocks that a map loses or gains. Returns 0 to go on, else the walk ends with it. */
typedef int (*blockmap_fn)(void *arg, const struct extent *extent, int delta);

/*
 * Make the blocks of mask holes. fn (with delta -1) is called for the plain blocks and for each
 * compressed extent of which nothing is left, once per holder; its result is ignored.
 */
void blockmap_unmap(struct blockmap *m, uint64_t mask, blockmap_fn fn, void *arg);

/* Map a hole. */
void blockmap_set(struct blockmap *m, unsigned block, uint64_t at, uint32_t crc);
void blockmap_set_unwritten(struct blockmap *m, uint64_t mask);

/* Map `raw` holes from block on to a compressed extent. 0, -ENOMEM, -EBADMSG. */
int blockmap_set_compressed(struct blockmap *m, unsigned block, const struct compressed_extent *extent);

/* Move all that src maps into dst, where these blocks are holes. 0 or -ENOMEM with nothing changed. src is left empty. */
int blockmap_move(struct blockmap *dst, struct blockmap *src);

/* The blocks that share a compressed extent with a block of mask, without those of mask. */
uint64_t blockmap_companions(const struct blockmap *m, uint64_t mask);

/*
 * Each compressed extent has the holders that the runs of a record of the map would have (before NULL), or as many more as there are runs more than
 * before, where only flags changed: of an extent that is half replaced, runs and holders are not the same. Who counts holders follows.
 */
void blockmap_recount(struct blockmap *m, const struct blockmap *before);

/* Every holder of m, as the runs of its record have them (delta +1). */
int blockmap_each(const struct blockmap *m, blockmap_fn fn, void *arg);

/*
 * What a batch that replaces old by new does to the holders: -1 for what goes, +1 for what comes, nothing for
 * plain blocks that stay. Either may be NULL for none.
 */
int blockmap_diff(const struct blockmap *old, const struct blockmap *new, blockmap_fn fn, void *arg);

#endif
