/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes that follow from the share of metafs, so that a small pool's RocksDB can always finish a
 * flush and a compaction in the last eighth, and a large one does not need thousands of files.
 */
#ifndef NVFS_META_METAFS_TUNE_H
#define NVFS_META_METAFS_TUNE_H

#include <stdint.h>

#define TUNE_KIB(n) ((uint64_t)(n) << 10)
#define TUNE_MIB(n) ((uint64_t)(n) << 20)

/* The least share with which RocksDB works and its flushes and compactions fit the last eighth. */
#define METAFS_SHARE_MIN_BYTES TUNE_MIB(24)

static inline uint64_t tune_clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

/* The largest power of two that is not above v, within the bounds, which are powers of two. */
static inline uint64_t tune_pow2(uint64_t v, uint64_t low, uint64_t high)
{
	uint64_t p = low;

	while (p < high && p * 2 <= v)
		p *= 2;
	return p;
}

/* Of a table file (SST). */
static inline uint64_t tune_table_file_bytes(uint64_t share)
{
	return tune_pow2(share / 256, TUNE_KIB(64), TUNE_MIB(256));
}

/* Of a memtable: large ones make creation fast, where their flushes leave room. */
static inline uint64_t tune_buffer_bytes(uint64_t share)
{
	return tune_pow2(share / (share < TUNE_MIB(256) ? 128 : 64), TUNE_KIB(128), TUNE_MIB(16));
}

/*
 * Of a MANIFEST, as RocksDB counts. Each of its edits is synced, and so takes a block of 4 KiB for
 * some 200 bytes: twenty times this on the device.
 */
static inline uint64_t tune_manifest_bytes(uint64_t share)
{
	return tune_clamp(share / 1024, TUNE_KIB(64), TUNE_MIB(4));
}

/* Files of level 0 at which writers stop: they and the next level are compacted together. */
static inline int tune_level0_stop(uint64_t share)
{
	return (int)tune_clamp(share / 16 / tune_buffer_bytes(share), 8, 36);
}

/* Blocks of all WALs together, from which on the memtables are written out. */
static inline uint64_t tune_wal_bytes(uint64_t share)
{
	return tune_pow2(share / 16, TUNE_MIB(1), TUNE_MIB(64));
}

/*
 * What compactions leave: with it logs can go on, memtables can be written out, and so can what an
 * open replays. A compaction that fails is tried again; without the others nothing opens.
 */
static inline uint64_t tune_reserve_bytes(uint64_t share)
{
	return share / 32;
}

/* Files that the table has to hold in normal operation. */
static inline uint64_t tune_files(uint64_t share)
{
	return share / tune_table_file_bytes(share) + 64;
}

#endif
