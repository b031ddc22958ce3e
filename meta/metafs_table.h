/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The metafs table and log blocks: encode, decode, validate, print. Nothing here does I/O; fsck,
 * the debugging tools and the fuzzers use it directly.
 */
#ifndef NVFS_META_METAFS_TABLE_H
#define NVFS_META_METAFS_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#include "meta/label.h"
#include "meta/metafs.h"
#include "meta/metafs_format.h"

struct metafs_extent {
	uint64_t block;
	uint32_t blocks;
	uint16_t vdev;
};

struct metafs_extents {
	struct metafs_extent *v;
	unsigned n, cap;
	uint64_t blocks; /* of all */
};

struct metafs_table_file {
	uint64_t id, size, log_number;
	int64_t mtime_ns;
	enum metafs_kind kind;
	bool frozen;
	uint64_t blocks;
	unsigned extents;
	const struct metafs_extent *extent;
	const char *name; /* name_len bytes */
	size_t name_len;
};

struct metafs_table {
	uint64_t generation;
	uint8_t pool_uuid[16];
	uint64_t members_stale;
	uint64_t next_file_id;
	uint64_t wal_seq_next;
	uint64_t start;
	unsigned ranges, files;
	struct metafs_range *range;
	struct metafs_table_file *file;
	void *store; /* extents and names, when decoded */
};

/* 1 to 255 printable ASCII characters without blanks and slashes, as RocksDB's are: names of a forger go to no terminal and no log. */
bool metafs_name_valid(const char *name, size_t len);

size_t metafs_table_file_bytes(unsigned extents, size_t name_len);
size_t metafs_table_length(const struct metafs_table *table);

/* 0 and *len; -ENOSPC when it does not fit into max bytes. What follows it up to the block's end is zeroed. */
int metafs_table_encode(const struct metafs_table *table, void *buf, size_t max, size_t *len);

/*
 * Takes anything. 0 and *out, the caller's until metafs_table_free(); -ENOENT: no magic; -EBADMSG;
 * -ENOMEM. Checks what can be checked without the labels.
 */
int metafs_table_decode(const void *buf, size_t len, struct metafs_table *out);
void metafs_table_free(struct metafs_table *table);

/*
 * Whether ranges lie in the zones of the pool's devices, extents in the ranges, and nothing overlaps. 0 or -EBADMSG with
 * one line in why. labels by device index.
 */
int metafs_table_validate(const struct metafs_table *table, const struct label *labels,
			  char *why, size_t why_len);
void metafs_table_print(FILE *out, const struct metafs_table *table);

/* ---- Log blocks ---- */

struct metafs_log_block {
	uint64_t file_id, log_number, sequence, flushed;
	uint8_t pool[8]; /* the first bytes of the pool's UUID */
	uint32_t index;
	uint16_t used;
};

/* buf: METAFS_LOG_BLOCK_BYTES whose payload is there. Zeroes the rest, fills in header and CRC. */
void metafs_log_block_encode(const struct metafs_log_block *block, void *buf);
/* 0, -ENOENT (no magic) or -EBADMSG. */
int metafs_log_block_decode(const void *buf, struct metafs_log_block *out);
void metafs_log_block_print(FILE *out, const struct metafs_log_block *block);

#endif
