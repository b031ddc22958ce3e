/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bytes of the metafs table and of log blocks: docs/format.md, section 2. No logic here. */
#ifndef NVFS_META_METAFS_FORMAT_H
#define NVFS_META_METAFS_FORMAT_H

#include <stddef.h>

#include "io/le.h"

#define METAFS_TABLE_MAGIC "NVFSTBL1"
#define METAFS_NAME_MAX 255u
#define METAFS_LOG_MAGIC "NVLB"
#define METAFS_LOG_BLOCK_BYTES 4096u
#define METAFS_LOG_PAYLOAD 4040u
#define METAFS_SPARE_PREFIX "spare-"

enum metafs_kind { METAFS_PLAIN = 1, METAFS_WAL = 2, METAFS_LOG = 3 };

#define METAFS_FILE_FROZEN 1u

struct metafs_table_disk {
	uint8_t magic[8];
	le32_t crc;
	le32_t length;
	le64_t generation;
	uint8_t pool_uuid[16];
	le64_t members_stale;
	le64_t next_file_id;
	le64_t wal_seq_next;
	le32_t ranges;
	le32_t files;
	le64_t start;
	uint8_t reserved[16];
} __attribute__((packed));

struct metafs_range_disk {
	le16_t vdev;
	le16_t reserved;
	le32_t first;
	le32_t count;
} __attribute__((packed));

struct metafs_file_disk {
	le64_t id;
	le64_t size;
	le64_t mtime_ns;
	le64_t log_number;
	uint8_t reserved0[8];
	uint8_t kind;
	uint8_t flags;
	le16_t name_len;
	le32_t extents;
	le64_t blocks;
	uint8_t reserved1[8];
} __attribute__((packed));

struct metafs_extent_disk {
	le64_t block;
	le32_t blocks;
	le16_t vdev;
	le16_t reserved;
} __attribute__((packed));

struct metafs_log_block_disk {
	uint8_t magic[4];
	le32_t crc;
	le64_t file_id;
	le64_t log_number;
	le64_t sequence;
	le32_t index;
	le16_t used;
	le16_t reserved;
	le64_t flushed;
	uint8_t pool[8];
	uint8_t payload[METAFS_LOG_PAYLOAD];
} __attribute__((packed));

_Static_assert(sizeof(struct metafs_table_disk) == 96, "table header");
_Static_assert(offsetof(struct metafs_table_disk, members_stale) == 40, "table header");
_Static_assert(offsetof(struct metafs_table_disk, start) == 72, "table header");
_Static_assert(sizeof(struct metafs_range_disk) == 12, "zone range");
_Static_assert(sizeof(struct metafs_file_disk) == 64, "file");
_Static_assert(offsetof(struct metafs_file_disk, kind) == 40, "file");
_Static_assert(offsetof(struct metafs_file_disk, blocks) == 48, "file");
_Static_assert(sizeof(struct metafs_extent_disk) == 16, "extent");
_Static_assert(sizeof(struct metafs_log_block_disk) == METAFS_LOG_BLOCK_BYTES, "log block");
_Static_assert(offsetof(struct metafs_log_block_disk, payload) == 56, "log block");

#endif
