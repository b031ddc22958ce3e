/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The records of RocksDB's column families, decoded; docs/format.md, section 3, is their meaning.
 *
 * For each record X there are
 *
 *	int x_rec_decode(const void *data, size_t len, struct x_rec *out);
 *	int x_rec_validate(const struct x_rec *rec);
 *	size_t x_rec_encode(const struct x_rec *rec, void *buf);
 *	void x_rec_print(FILE *f, const struct x_rec *rec);
 *
 * decode: 0, or -EBADMSG for anything that format.md does not allow (it calls validate); it takes
 * hostile input. Pointers in *out lead into `data` and live as long as that; names and targets there
 * have a length and no NUL. A whiteout is -EBADMSG: ask is_whiteout() first.
 * encode: the number of bytes written; buf has room for X_REC_MAX bytes or for x_rec_bytes(). The
 * record must be valid (asserted).
 * print: one line for people, without a newline; whatever is in it, nothing unprintable comes out.
 *
 * Key builders write into the caller's buffer, KEY_MAX bytes or the length given in
 * records_format.h, and return the key's length.
 *
 * Everything here is pure and may be called from any thread.
 */
#ifndef NVFS_META_RECORDS_H
#define NVFS_META_RECORDS_H

#include <stdbool.h>
#include <stdio.h>

#include "io/throttle.h"
#include "meta/records_format.h"

#define NVFS_BLOCK_SIZE 4096u
#define NVFS_BLOCK_SHIFT 12
#define CHUNK_BLOCKS 64u
#define CHUNK_SHIFT 6                            /* of blocks */
#define CHUNK_BYTES (CHUNK_BLOCKS * NVFS_BLOCK_SIZE) /* 256 KiB */
#define CHUNK_LAST ((UINT64_C(1) << 45) - 1)     /* of a file of 2^63 - 1 bytes */

#define INO_ROOT UINT64_C(1)
#define INO_MAX ((UINT64_C(1) << 48) - 1)
#define NAME_BYTES_MAX 255u
#define TARGET_BYTES_MAX 4095u
#define XATTR_BYTES_MAX 65536u
#define INLINE_BYTES_MAX 2048u
#define FILE_BYTES_MAX INT64_MAX

#define NVFS_TENANT_DEFAULT 1u

struct rec_time {
	int64_t sec;
	uint32_t nsec; /* < 10^9 */
};

/* ---- whiteouts ---- */

#define WHITEOUT_LEN 1

/* The value in `ns` that hides the versions of a node's ancestors. In `map` a record without runs does. */
extern const uint8_t whiteout_value[WHITEOUT_LEN];

static inline bool is_whiteout(const void *data, size_t len)
{
	return len == WHITEOUT_LEN && *(const uint8_t *)data == REC_WHITEOUT;
}

/* ---- ns: inode ---- */

enum inode_rec_flags {
	INODE_DEFAULT_ACL = DISK_INODE_DEFAULT_ACL,
	INODE_ACCESS_ACL = DISK_INODE_ACCESS_ACL,
	INODE_CAPABILITY = DISK_INODE_CAPABILITY,
};

struct inode_rec {
	uint16_t flags; /* enum inode_rec_flags */
	uint8_t max_probe;
	uint16_t target_len; /* of a symlink: 1..TARGET_BYTES_MAX, else 0 */
	uint32_t mode;       /* S_IFMT included */
	uint32_t uid, gid;
	uint32_t nlink;
	uint32_t rdev;       /* in the kernel's new_encode_dev form, devices only */
	uint32_t xattr_bytes;
	uint64_t parent;
	uint64_t entries;     /* of a directory */
	uint64_t entry_bytes; /* of a directory */
	struct rec_time atime, mtime, ctime, btime;
	const char *target;
};

#define INODE_REC_MAX (sizeof(struct disk_inode) + TARGET_BYTES_MAX)
#define DIRENT_CHARGE_BYTES 24u /* entry bytes of one entry, and its name */

int inode_rec_decode(const void *data, size_t len, struct inode_rec *out);
int inode_rec_validate(const struct inode_rec *rec);
size_t inode_rec_bytes(const struct inode_rec *rec);
size_t inode_rec_encode(const struct inode_rec *rec, void *buf);
void inode_rec_print(FILE *f, const struct inode_rec *rec);

/* ---- ns: size ---- */

struct size_rec {
	bool is_inline;
	bool has_cuts;       /* there are `T` records */
	uint16_t inline_len; /* 1..INLINE_BYTES_MAX when inline, else 0 */
	uint32_t inline_crc; /* CRC32C of the inline data; who uses the data checks it, decode does not */
	uint64_t size;
	struct rec_time mtime, ctime;
	uint64_t blocks;   /* logical blocks that the visible map records map, cut ones included */
	uint64_t absorbed; /* T: changes up to this sequence are in it */
	const void *data;
};

#define SIZE_REC_MAX (sizeof(struct disk_size) + INLINE_BYTES_MAX)

int size_rec_decode(const void *data, size_t len, struct size_rec *out);
int size_rec_validate(const struct size_rec *rec);
size_t size_rec_bytes(const struct size_rec *rec);
size_t size_rec_encode(const struct size_rec *rec, void *buf);
void size_rec_print(FILE *f, const struct size_rec *rec);

/* ---- ns: directory entry ---- */

struct dirent_rec {
	uint8_t file_type; /* S_IFMT >> 12 of the child: DT_* of readdir(3) */
	uint8_t name_len;
	uint64_t ino;
	const char *name;
};

#define DIRENT_REC_MAX (sizeof(struct disk_dirent) + NAME_BYTES_MAX)

int dirent_rec_decode(const void *data, size_t len, struct dirent_rec *out);
int dirent_rec_validate(const struct dirent_rec *rec);
size_t dirent_rec_encode(const struct dirent_rec *rec, void *buf);
void dirent_rec_print(FILE *f, const struct dirent_rec *rec);

/* 0 or -EBADMSG: 1..255 bytes, without '/' and NUL, neither "." nor "..". */
int dirent_name_validate(const char *name, size_t len);

/* ---- ns: xattr, orphan, cut ---- */

struct xattr_rec {
	uint32_t len;
	const void *value;
};

#define XATTR_REC_MAX (sizeof(struct disk_xattr) + XATTR_BYTES_MAX)

int xattr_rec_decode(const void *data, size_t len, struct xattr_rec *out);
int xattr_rec_validate(const struct xattr_rec *rec);
size_t xattr_rec_encode(const struct xattr_rec *rec, void *buf);
void xattr_rec_print(FILE *f, const struct xattr_rec *rec);

enum orphan_state {
	ORPHAN_UNLINKED = DISK_ORPHAN_UNLINKED, /* waits for its last user */
	ORPHAN_REAPING = DISK_ORPHAN_REAPING,   /* dead: nothing reads it any more */
};

struct orphan_rec {
	uint8_t state; /* enum orphan_state */
};

#define ORPHAN_REC_MAX sizeof(struct disk_orphan)

int orphan_rec_decode(const void *data, size_t len, struct orphan_rec *out);
int orphan_rec_validate(const struct orphan_rec *rec);
size_t orphan_rec_encode(const struct orphan_rec *rec, void *buf);
void orphan_rec_print(FILE *f, const struct orphan_rec *rec);

/*
 * An unfinished truncation, punch or zeroing: map records of these chunks with a sequence below the
 * one in the key of the cut are holes.
 */
#define CUT_TO_END UINT64_MAX

struct cut_rec {
	uint64_t first_chunk;
	uint64_t end_chunk; /* exclusive; CUT_TO_END for a truncation */
};

#define CUT_REC_MAX sizeof(struct disk_cut)

int cut_rec_decode(const void *data, size_t len, struct cut_rec *out);
int cut_rec_validate(const struct cut_rec *rec);
size_t cut_rec_encode(const struct cut_rec *rec, void *buf);
void cut_rec_print(FILE *f, const struct cut_rec *rec);

/* ---- map ---- */

enum map_run_flags {
	RUN_INHERITED = DISK_RUN_INHERITED,
	RUN_COMPRESSED = DISK_RUN_COMPRESSED,
	RUN_UNWRITTEN = DISK_RUN_UNWRITTEN,
	RUN_NO_CHECKSUM = DISK_RUN_NO_CHECKSUM,
};

struct map_run {
	uint8_t block; /* of the chunk */
	uint8_t count;
	uint8_t flags; /* enum map_run_flags */
	uint8_t skip;
	uint8_t raw_blocks;
	uint8_t stored_blocks;
	uint16_t vdev;
	uint32_t stored_bytes; /* of a compressed run, else 0 */
	uint64_t address;      /* block of the vdev */
};

#define MAP_RUNS_MAX CHUNK_BLOCKS
#define MAP_CRCS_MAX CHUNK_BLOCKS

struct map_rec {
	uint64_t seq;
	uint16_t nruns;
	struct map_run runs[MAP_RUNS_MAX];
	uint32_t crcs[MAP_CRCS_MAX]; /* map_run_ncrcs() for each run, in their order */
};

#define MAP_REC_MAX \
	(sizeof(struct disk_map) + MAP_RUNS_MAX * sizeof(struct disk_run) + MAP_CRCS_MAX * 4)

int map_rec_decode(const void *data, size_t len, struct map_rec *out);
int map_rec_validate(const struct map_rec *rec);
size_t map_rec_bytes(const struct map_rec *rec);
size_t map_rec_encode(const struct map_rec *rec, void *buf);
void map_rec_print(FILE *f, const struct map_rec *rec);
int map_run_validate(const struct map_run *run);
void map_run_print(FILE *f, const struct map_run *run);

/* Whether the run's blocks exist on a device, and so have a holder. */
static inline bool map_run_stored(const struct map_run *run)
{
	return !(run->flags & RUN_UNWRITTEN);
}

static inline unsigned map_run_ncrcs(const struct map_run *run)
{
	if (run->flags & (RUN_UNWRITTEN | RUN_NO_CHECKSUM))
		return 0;
	return run->flags & RUN_COMPRESSED ? 1 : run->count;
}

/*
 * What is left of a run when only `count` blocks from the first + `from`th on stay mapped. Plain runs
 * lose their other stored blocks, compressed ones keep all of them.
 */
struct map_run map_run_slice(const struct map_run *run, unsigned from, unsigned count);

/* Index in rec->crcs of the first checksum of run i. */
static inline unsigned map_crc_index(const struct map_rec *rec, unsigned i)
{
	unsigned at = 0;

	for (unsigned r = 0; r < i; r++)
		at += map_run_ncrcs(&rec->runs[r]);
	return at;
}

/* The run that covers a block of the chunk, or -1 for a hole. */
int map_rec_find(const struct map_rec *rec, unsigned block);

/* Logical blocks that the record maps; own ones only: without those flagged inherited. */
unsigned map_rec_blocks(const struct map_rec *rec);
unsigned map_rec_own_blocks(const struct map_rec *rec);

/* ---- space ---- */

struct space_span {
	uint16_t first;  /* block of the zone */
	uint32_t blocks; /* 1..65536 */
	int32_t holders; /* never 0; below 0 only after damage. Of an operand: the delta */
};

/* A value of `space`, or a merge operand. The spans stay where they are. */
struct space_rec {
	bool operand;
	uint32_t nspans;
	const void *spans;
};

/* Checks every span: ascending and apart, neighbours that touch differ in their holders. */
int space_rec_decode(const void *data, size_t len, struct space_rec *out);
void space_rec_print(FILE *f, const struct space_rec *rec);

static inline struct space_span space_rec_span(const struct space_rec *rec, uint32_t i)
{
	const struct disk_span *d = (const struct disk_span *)rec->spans + i;

	return (struct space_span){
		.first = get_le16(&d->first),
		.blocks = get_le16(&d->blocks_minus_1) + 1u,
		.holders = (int32_t)get_le32(&d->holders),
	};
}

static inline size_t space_rec_size(uint32_t nspans)
{
	return sizeof(struct disk_space) + nspans * sizeof(struct disk_span);
}

/*
 * Encode spans that obey the rules above, as a value or an operand; the length is
 * space_rec_size(nspans).
 */
size_t space_rec_encode(bool operand, const struct space_span *spans, uint32_t nspans, void *buf);

/* ---- sys ---- */

struct pool_rec {
	uint32_t next_subvol, next_tree, next_node, next_tenant; /* never handed out yet; from 1 */
	uint32_t next_session;
	uint32_t overcommit_percent; /* >= 100; 100 is none */
	uint64_t headroom_blocks;    /* data space that claims leave for copy on write */
};

#define POOL_REC_MAX sizeof(struct disk_pool)

int pool_rec_decode(const void *data, size_t len, struct pool_rec *out);
int pool_rec_validate(const struct pool_rec *rec);
size_t pool_rec_encode(const struct pool_rec *rec, void *buf);
void pool_rec_print(FILE *f, const struct pool_rec *rec);

enum subvol_rec_flags {
	SUBVOL_RESERVED = DISK_SUBVOL_RESERVED, /* its claim is taken from the pool */
	SUBVOL_INPLACE = DISK_SUBVOL_INPLACE,
	SUBVOL_DELETING = DISK_SUBVOL_DELETING,
};

enum subvol_compression {
	COMPRESSION_OFF = DISK_COMPRESSION_OFF,
	COMPRESSION_LZ4 = DISK_COMPRESSION_LZ4,
};

struct subvol_rec {
	uint16_t flags; /* enum subvol_rec_flags */
	uint8_t compression;
	uint8_t name_len;
	uint32_t tree;
	uint32_t node; /* the live one; 0 when deleted and a snapshot still names this record */
	uint32_t tenant;
	uint32_t incarnation;
	uint64_t size_blocks;
	uint64_t inodes_max;
	int64_t created_ns;
	struct rates rates;
	const char *name;
};

#define SUBVOL_REC_MAX (sizeof(struct disk_subvol) + NAME_BYTES_MAX)

int subvol_rec_decode(const void *data, size_t len, struct subvol_rec *out);
int subvol_rec_validate(const struct subvol_rec *rec);
size_t subvol_rec_encode(const struct subvol_rec *rec, void *buf);
void subvol_rec_print(FILE *f, const struct subvol_rec *rec);

/* `N` and `e`: from a name to an id. type is REC_SUBVOL_NAME or REC_TENANT_NAME. */
#define INDEX_REC_LEN sizeof(struct disk_index)

int index_rec_decode(const void *data, size_t len, uint8_t type, uint32_t *id);
size_t index_rec_encode(uint8_t type, uint32_t id, void *buf);

#define TREE_REC_LEN sizeof(struct disk_tree)

int tree_rec_decode(const void *data, size_t len, uint64_t *next_ino);
size_t tree_rec_encode(uint64_t next_ino, void *buf);

enum node_state {
	NODE_LIVE = DISK_NODE_LIVE,
	NODE_SNAPSHOT = DISK_NODE_SNAPSHOT,
	NODE_INTERIOR = DISK_NODE_INTERIOR,
	NODE_SWEEP = DISK_NODE_SWEEP,
};

enum sweep_family {
	SWEEP_NONE = DISK_SWEEP_NONE,
	SWEEP_MAP = DISK_SWEEP_MAP,
	SWEEP_NS = DISK_SWEEP_NS,
};

struct node_rec {
	uint8_t state; /* enum node_state */
	uint8_t name_len; /* of a snapshot 1..255, else 0 */
	uint32_t parent;  /* 0: none */
	uint32_t subvol;
	uint32_t tenant;
	int64_t created_ns;
	uint64_t first_ino;   /* the tree's next inode number when the node was made */
	uint64_t size_blocks; /* this and inodes_max: of the subvolume when it became a snapshot */
	uint64_t inodes_max;
	uint32_t group;       /* of a group snapshot, or 0 */
	uint16_t view;        /* its number under .snapshots */
	uint8_t sweep_family; /* enum sweep_family: where the sweep stands */
	uint64_t sweep_ino;
	uint64_t sweep_position; /* chunk or cookie */
	const char *name;
};

#define NODE_REC_MAX (sizeof(struct disk_node) + NAME_BYTES_MAX)

int node_rec_decode(const void *data, size_t len, struct node_rec *out);
int node_rec_validate(const struct node_rec *rec);
size_t node_rec_encode(const struct node_rec *rec, void *buf);
void node_rec_print(FILE *f, const struct node_rec *rec);

/* A node's counters, or a merge operand: what is added to each. Blocks, but for inodes. */
struct counters_rec {
	int64_t born;       /* mapped by runs without `inherited` in the node's records */
	int64_t referenced; /* sum of S.blocks over the `S` visible in the node */
	int64_t meta;       /* visible inline data, xattrs, directories, long symlinks */
	int64_t inodes;     /* visible */
	int64_t meta_born, inodes_born; /* the charges of the records whose key has the node */
	int64_t unwritten;  /* the part of born that fallocate promised */
};

#define COUNTERS_REC_LEN sizeof(struct disk_counters)

/* decode takes a value, decode_operand an operand. Any number is valid: see merge.h. */
int counters_rec_decode(const void *data, size_t len, struct counters_rec *out);
int counters_rec_decode_operand(const void *data, size_t len, struct counters_rec *out);
size_t counters_rec_encode(const struct counters_rec *rec, void *buf);
size_t counters_rec_encode_operand(const struct counters_rec *rec, void *buf);
void counters_rec_print(FILE *f, const struct counters_rec *rec);

/* 0 = no limit. In the order of the format. */
struct tenant_limits {
	uint64_t used_blocks, provisioned_blocks, inodes, subvolumes, snapshots;
	uint64_t read_iops, write_iops, read_bytes_per_s, write_bytes_per_s;
};

#define TENANT_OWNERS_MAX DISK_TENANT_OWNERS

enum tenant_claim {
	TENANT_CLAIM_UNSAID,
	TENANT_CLAIM_RESERVED = DISK_TENANT_CLAIM_RESERVED,
	TENANT_CLAIM_THIN = DISK_TENANT_CLAIM_THIN,
};

enum tenant_compression {
	TENANT_COMPRESSION_UNSAID,
	TENANT_COMPRESSION_OFF = DISK_TENANT_COMPRESSION_OFF,
	TENANT_COMPRESSION_LZ4 = DISK_TENANT_COMPRESSION_LZ4,
};

/* What an administrator decides about a tenant. */
struct tenant_settings {
	struct tenant_limits limits;
	uint64_t soft_blocks;         /* 0: none */
	uint32_t grace_s;             /* how long use may be above the soft limit; with one at least 1 */
	uint64_t default_size_blocks; /* of new subvolumes, as the following; 0: none */
	uint64_t default_inodes;
	uint8_t default_claim;        /* enum tenant_claim */
	uint8_t default_compression;  /* enum tenant_compression */
	uint8_t uid_count, gid_count; /* at most TENANT_OWNERS_MAX */
	uint32_t uids[TENANT_OWNERS_MAX], gids[TENANT_OWNERS_MAX]; /* who may administer its subvolumes */
};

struct tenant_rec {
	uint16_t flags; /* none yet */
	uint8_t name_len;
	struct tenant_settings set;
	int64_t soft_since_ns; /* when use passed the soft limit; 0: it is not above */
	int64_t created_ns;    /* 0: not known */
	const char *name;
};

#define TENANT_REC_MAX (sizeof(struct disk_tenant) + NAME_BYTES_MAX + 2 * TENANT_OWNERS_MAX * sizeof(le32_t))

int tenant_rec_decode(const void *data, size_t len, struct tenant_rec *out);
int tenant_rec_validate(const struct tenant_rec *rec);
size_t tenant_rec_encode(const struct tenant_rec *rec, void *buf);
void tenant_rec_print(FILE *f, const struct tenant_rec *rec);

/* Names of subvolumes, snapshots and tenants: 1..255 of [A-Za-z0-9._-], not starting with . or -. */
int object_name_validate(const char *name, size_t len);

struct result_rec {
	uint16_t length; /* of the reply */
	int32_t error;   /* 0 or -errno */
	uint64_t unique;
	uint64_t sequence; /* below the session's first: not of this session */
	const void *reply;
};

#define RESULT_REC_MAX (sizeof(struct disk_result) + UINT16_MAX)

int result_rec_decode(const void *data, size_t len, struct result_rec *out);
int result_rec_validate(const struct result_rec *rec);
size_t result_rec_encode(const struct result_rec *rec, void *buf);
void result_rec_print(FILE *f, const struct result_rec *rec);

/* ---- keys ---- */

size_t key_inode(void *buf, uint32_t tree, uint64_t ino, uint32_t node);
size_t key_size(void *buf, uint32_t tree, uint64_t ino, uint32_t node);
size_t key_dirent(void *buf, uint32_t tree, uint64_t dir, uint64_t cookie, uint32_t node);
size_t key_xattr(void *buf, uint32_t tree, uint64_t ino, const char *name, size_t len, uint32_t node);
size_t key_orphan(void *buf, uint32_t tree, uint64_t ino, uint32_t node);
size_t key_cut(void *buf, uint32_t tree, uint64_t ino, uint64_t sequence, uint32_t node);

/*
 * What all keys of one type of an inode begin with, to seek to and to compare with. For REC_ORPHAN and
 * REC_CUT, ino is 0. Those of an inode of every type begin with its first 12 bytes, those of
 * a tree with its first 4.
 */
size_t key_ns_prefix(void *buf, uint32_t tree, uint64_t ino, uint8_t type);

size_t key_map(void *buf, uint32_t tree, uint64_t ino, uint64_t chunk, uint32_t node);
size_t key_space(void *buf, uint16_t vdev, uint32_t zone);

size_t key_pool(void *buf);
size_t key_subvol(void *buf, uint32_t id);
size_t key_subvol_name(void *buf, const char *name, size_t len);
size_t key_tree(void *buf, uint32_t tree);
size_t key_node(void *buf, uint32_t tree, uint32_t node);
size_t key_counters(void *buf, uint32_t tree, uint32_t node);
size_t key_tenant(void *buf, uint32_t id);
size_t key_tenant_name(void *buf, const char *name, size_t len);
size_t key_result(void *buf, uint32_t session, uint16_t slot);

/* A key of `ns`; what a type does not have is 0. Of an orphan and a cut, ino is the inode. */
struct ns_key {
	uint8_t type; /* REC_INODE ... REC_CUT */
	uint8_t name_len;
	uint32_t tree;
	uint32_t node;
	uint64_t ino;
	uint64_t cookie;  /* of an entry */
	uint64_t sequence; /* of a cut */
	const char *name; /* of an xattr; leads into the key */
};

struct map_key {
	uint32_t tree;
	uint32_t node;
	uint64_t ino;
	uint64_t chunk;
};

struct space_key {
	uint16_t vdev;
	uint32_t zone;
};

struct sys_key {
	uint8_t type;     /* REC_POOL ... REC_RESULT */
	uint8_t name_len; /* of an index */
	uint16_t slot;
	uint32_t id; /* subvolume, tree, tenant or session */
	uint32_t node;
	const char *name;
};

/* 0 or -EBADMSG: a length, a type or a number that no builder makes. */
int ns_key_parse(const void *key, size_t len, struct ns_key *out);
int map_key_parse(const void *key, size_t len, struct map_key *out);
int space_key_parse(const void *key, size_t len, struct space_key *out);
int sys_key_parse(const void *key, size_t len, struct sys_key *out);

void ns_key_print(FILE *f, const struct ns_key *key);
void map_key_print(FILE *f, const struct map_key *key);
void space_key_print(FILE *f, const struct space_key *key);
void sys_key_print(FILE *f, const struct sys_key *key);

/* ---- whole entries, for dumps and errors ---- */

enum rec_family { REC_FAMILY_NS, REC_FAMILY_MAP, REC_FAMILY_SPACE, REC_FAMILY_SYS };

/*
 * "key: value" in one line without a newline, whatever the bytes are: what does not parse is shown
 * in hex with "damaged". Returns 0, or -EBADMSG when something did not parse.
 */
int rec_print(FILE *f, enum rec_family family, const void *key, size_t key_len, const void *value,
	      size_t value_len);

/* A name in quotes, unprintable bytes and quotes as \xHH. */
void name_print(FILE *f, const char *name, size_t len);

#endif
