/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes of RocksDB's keys and values: docs/format.md, section 3. No logic here; meta/records.h
 * encodes and decodes. Values are little-endian; keys, which have no struct because their parts are
 * optional and unaligned, are big-endian.
 */
#ifndef NVFS_META_RECORDS_FORMAT_H
#define NVFS_META_RECORDS_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "io/le.h"

#define REC_VERSION 1

/* First byte of a value; in `ns` and `sys` also the type byte of its key, but for the operands. */
#define REC_WHITEOUT 'W'
#define REC_INODE 'I'
#define REC_SIZE 'S'
#define REC_DIRENT 'D'
#define REC_XATTR 'X'
#define REC_ORPHAN 'O'
#define REC_CUT 'T'
#define REC_MAP 'M' /* map keys have no type byte */
#define REC_SPACE 'Z'
#define REC_SPACE_OPERAND 'z'
#define REC_POOL 'P'
#define REC_SUBVOL 'V'
#define REC_SUBVOL_NAME 'N'
#define REC_TREE 'F'
#define REC_NODE 'n'
#define REC_COUNTERS 'C'
#define REC_COUNTERS_OPERAND 'c'
#define REC_TENANT 'E'
#define REC_TENANT_NAME 'e'
#define REC_RESULT 'R'

/* Lengths of keys. */
#define KEY_NS_PREFIX_LEN 13 /* tree, ino, type */
#define KEY_INODE_LEN 17
#define KEY_SIZE_LEN 17
#define KEY_DIRENT_LEN 25
#define KEY_ORPHAN_LEN 25
#define KEY_CUT_LEN 33
#define KEY_XATTR_MAX (KEY_NS_PREFIX_LEN + 1 + 255 + 4)
#define KEY_MAP_LEN 24
#define KEY_SPACE_LEN 6
#define KEY_SYS_MAX 256 /* the longest are the name indexes: type and 255 bytes */
#define KEY_MAX KEY_XATTR_MAX

#define DISK_CHECK(type, size) _Static_assert(sizeof(struct type) == (size), #type)
#define DISK_CHECK_AT(type, field, at) \
	_Static_assert(offsetof(struct type, field) == (at), #type "." #field)
#define DISK __attribute__((packed))

struct disk_head {
	uint8_t type;
	uint8_t version;
} DISK;
DISK_CHECK(disk_head, 2);

struct disk_time {
	le64_t sec; /* signed */
	le32_t nsec;
} DISK;
DISK_CHECK(disk_time, 12);

/* ---- ns ---- */

#define DISK_INODE_DEFAULT_ACL 1
#define DISK_INODE_ACCESS_ACL 2
#define DISK_INODE_CAPABILITY 4

struct disk_inode {
	uint8_t type;
	uint8_t version;
	le16_t flags;
	le32_t mode;
	le32_t uid;
	le32_t gid;
	le32_t nlink;
	le32_t rdev;
	le64_t parent;
	le64_t entries;
	le64_t entry_bytes;
	le32_t xattr_bytes;
	uint8_t max_probe;
	uint8_t reserved;
	le16_t target_len;
	struct disk_time atime;
	struct disk_time mtime;
	struct disk_time ctime;
	struct disk_time btime;
	le64_t reserved2;
	uint8_t target[];
} DISK;
DISK_CHECK(disk_inode, 112);
DISK_CHECK_AT(disk_inode, parent, 24);
DISK_CHECK_AT(disk_inode, xattr_bytes, 48);
DISK_CHECK_AT(disk_inode, atime, 56);
DISK_CHECK_AT(disk_inode, btime, 92);

#define DISK_SIZE_INLINE 1
#define DISK_SIZE_CUTS 2

struct disk_size {
	uint8_t type;
	uint8_t version;
	uint8_t flags;
	uint8_t reserved;
	le32_t inline_crc;
	le64_t size;
	struct disk_time mtime;
	struct disk_time ctime;
	le64_t blocks;
	le64_t absorbed;
	le16_t inline_len;
	uint8_t reserved2[6];
	uint8_t data[];
} DISK;
DISK_CHECK(disk_size, 64);
DISK_CHECK_AT(disk_size, size, 8);
DISK_CHECK_AT(disk_size, blocks, 40);
DISK_CHECK_AT(disk_size, inline_len, 56);

struct disk_dirent {
	uint8_t type;
	uint8_t version;
	uint8_t file_type;
	uint8_t name_len;
	le32_t reserved;
	le64_t ino;
	uint8_t name[];
} DISK;
DISK_CHECK(disk_dirent, 16);

/* The xattr's value follows at once. */
struct disk_xattr {
	uint8_t type;
	uint8_t version;
	uint8_t value[];
} DISK;
DISK_CHECK(disk_xattr, 2);

#define DISK_ORPHAN_UNLINKED 0
#define DISK_ORPHAN_REAPING 1

struct disk_orphan {
	uint8_t type;
	uint8_t version;
	uint8_t state;
} DISK;
DISK_CHECK(disk_orphan, 3);

struct disk_cut {
	uint8_t type;
	uint8_t version;
	le16_t reserved;
	le32_t reserved2;
	le64_t first_chunk;
	le64_t end_chunk;
} DISK;
DISK_CHECK(disk_cut, 24);

/* ---- map ---- */

#define DISK_RUN_INHERITED 1
#define DISK_RUN_COMPRESSED 2
#define DISK_RUN_UNWRITTEN 4
#define DISK_RUN_NO_CHECKSUM 8

struct disk_map {
	uint8_t type;
	uint8_t version;
	le16_t nruns;
	le32_t reserved;
	le64_t sequence;
	/* nruns disk_run, then the checksums */
} DISK;
DISK_CHECK(disk_map, 16);

struct disk_run {
	uint8_t block;
	uint8_t count;
	uint8_t flags;
	uint8_t skip;
	uint8_t raw_blocks;
	uint8_t stored_blocks;
	le16_t vdev;
	le64_t address;
	le32_t stored_bytes;
	le32_t reserved;
} DISK;
DISK_CHECK(disk_run, 24);
DISK_CHECK_AT(disk_run, address, 8);

/* ---- space ---- */

struct disk_space {
	uint8_t type;
	uint8_t version;
	le16_t reserved;
	/* disk_span, to the end of the value */
} DISK;
DISK_CHECK(disk_space, 4);

struct disk_span {
	le16_t first;
	le16_t blocks_minus_1;
	le32_t holders; /* signed; of an operand the delta */
} DISK;
DISK_CHECK(disk_span, 8);

/* ---- sys ---- */

struct disk_pool {
	uint8_t type;
	uint8_t version;
	le16_t reserved;
	le32_t next_subvol;
	le32_t next_tree;
	le32_t next_node;
	le32_t next_tenant;
	le32_t overcommit_percent;
	le64_t headroom_blocks;
	le32_t next_session;
	uint8_t reserved2[36];
} DISK;
DISK_CHECK(disk_pool, 72);
DISK_CHECK_AT(disk_pool, headroom_blocks, 24);

#define DISK_SUBVOL_RESERVED 1
#define DISK_SUBVOL_INPLACE 2
#define DISK_SUBVOL_DELETING 4

#define DISK_COMPRESSION_OFF 0
#define DISK_COMPRESSION_LZ4 1

struct disk_subvol {
	uint8_t type;
	uint8_t version;
	le16_t flags;
	le32_t tree;
	le32_t node;
	le32_t tenant;
	le64_t size_blocks;
	le64_t inodes_max;
	le32_t incarnation;
	uint8_t compression;
	uint8_t name_len;
	le16_t reserved;
	le64_t created_ns; /* signed */
	le64_t read_iops;
	le64_t write_iops;
	le64_t read_bytes_per_s;
	le64_t write_bytes_per_s;
	uint8_t reserved2[16];
	uint8_t name[];
} DISK;
DISK_CHECK(disk_subvol, 96);
DISK_CHECK_AT(disk_subvol, size_blocks, 16);
DISK_CHECK_AT(disk_subvol, created_ns, 40);
DISK_CHECK_AT(disk_subvol, read_iops, 48);

/* The name indexes of subvolumes and of tenants. */
struct disk_index {
	uint8_t type;
	uint8_t version;
	le16_t reserved;
	le32_t id;
} DISK;
DISK_CHECK(disk_index, 8);

struct disk_tree {
	uint8_t type;
	uint8_t version;
	le16_t reserved;
	le32_t reserved2;
	le64_t next_ino;
} DISK;
DISK_CHECK(disk_tree, 16);

#define DISK_NODE_LIVE 1
#define DISK_NODE_SNAPSHOT 2
#define DISK_NODE_INTERIOR 3
#define DISK_NODE_SWEEP 4

#define DISK_SWEEP_NONE 0
#define DISK_SWEEP_MAP 1
#define DISK_SWEEP_NS 2

struct disk_node {
	uint8_t type;
	uint8_t version;
	uint8_t state;
	uint8_t name_len;
	le32_t parent;
	le32_t subvol;
	le32_t tenant;
	le64_t created_ns; /* signed */
	le64_t first_ino;
	le64_t size_blocks;
	le64_t inodes_max;
	le32_t group;
	le16_t view;
	le16_t reserved;
	uint8_t sweep_family;
	uint8_t reserved2[7];
	le64_t sweep_ino;
	le64_t sweep_position;
	uint8_t reserved3[32];
	uint8_t name[];
} DISK;
DISK_CHECK(disk_node, 112);
DISK_CHECK_AT(disk_node, created_ns, 16);
DISK_CHECK_AT(disk_node, group, 48);
DISK_CHECK_AT(disk_node, sweep_ino, 64);

/* A value and a merge operand alike. */
struct disk_counters {
	uint8_t type;
	uint8_t version;
	le16_t reserved;
	le32_t reserved2;
	le64_t born; /* this and all that follow: signed */
	le64_t referenced;
	le64_t meta;
	le64_t inodes;
	le64_t meta_born;
	le64_t inodes_born;
	le64_t unwritten;
	le64_t reserved3[5];
} DISK;
DISK_CHECK(disk_counters, 104);

#define DISK_TENANT_LIMITS 9
#define DISK_TENANT_OWNERS 32 /* uids, and as many gids */

/* Of what a new subvolume gets that says nothing itself. */
#define DISK_TENANT_CLAIM_RESERVED 1
#define DISK_TENANT_CLAIM_THIN 2
#define DISK_TENANT_COMPRESSION_OFF 1
#define DISK_TENANT_COMPRESSION_LZ4 2

struct disk_tenant {
	uint8_t type;
	uint8_t version;
	le16_t flags;
	le32_t reserved;
	le64_t limits[DISK_TENANT_LIMITS];
	le64_t soft_blocks;
	le64_t soft_since_ns; /* signed */
	le64_t default_size_blocks;
	le64_t default_inodes;
	le64_t created_ns; /* signed */
	le32_t grace_s;
	uint8_t default_claim;
	uint8_t default_compression;
	uint8_t uid_count;
	uint8_t gid_count;
	uint8_t reserved2[16];
	uint8_t name_len;
	uint8_t name[];
	/* then le32_t uids[uid_count], gids[gid_count] */
} DISK;
DISK_CHECK(disk_tenant, 145);
DISK_CHECK_AT(disk_tenant, soft_blocks, 80);
DISK_CHECK_AT(disk_tenant, grace_s, 120);
DISK_CHECK_AT(disk_tenant, name_len, 144);

struct disk_result {
	uint8_t type;
	uint8_t version;
	le16_t length;
	le32_t error; /* signed */
	le64_t unique;
	le64_t sequence;
	uint8_t reply[];
} DISK;
DISK_CHECK(disk_result, 24);

#endif
