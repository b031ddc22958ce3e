/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the model of tenants and trees (tree_model.h): tree_model.c has the pool and what runs in the background, tree_call.c its calls,
 * tree_data.c changes data and names, tree_change.c the tree of nodes, tree_limits.c limits; tree_room.c says what is refused, tree_sums.c counts,
 * tree_compare.c compares.
 */
#ifndef NVFS_TESTS_UNIT_TREE_INTERNAL_H
#define NVFS_TESTS_UNIT_TREE_INTERNAL_H

#include "meta/data_internal.h"
#include "meta/names.h"
#include "meta/pool_internal.h"
#include "meta/tenant.h"
#include "tests/unit/tree_model.h"
#include "tests/unit/unit.h"

#define BLOCK NVFS_BLOCK_SIZE
#define ROOT INO_ROOT
#define WIDE 1024u /* blocks from one slot of a wide file to the next: more than 1,024 chunks in all */
#define SMALL_MAX 2000u
#define LINKS_MAX 8u
#define LINK_NAME 250u /* bytes of the name of a further link */
#define XATTR_MAX 12000u
#define DAY_NS (INT64_C(86400) * 1000000000)

#define TREE_ASSERT(is, fmt, ...) ck_assert_msg(is, "seed %ld: " fmt, tree_opts.seed, __VA_ARGS__)

extern char tree_why[1024];
extern uint8_t *tree_buf; /* of a file */

/* ---- tree_call.c ---- */

struct call {
	uint64_t ino, offset, ino2, offset2;
	size_t len;
	const char *name;
	unsigned flags;
	void *data;
	struct inode_attr attr;
};

typedef int (*call_fn)(struct op *op, void *arg);

int do_lookup(struct op *op, void *arg);
int do_link(struct op *op, void *arg);
int do_unlink(struct op *op, void *arg);
int do_setattr(struct op *op, void *arg);
int do_setxattr(struct op *op, void *arg);
int do_getxattr(struct op *op, void *arg);
int do_removexattr(struct op *op, void *arg);
int do_write(struct op *op, void *arg);
int do_fallocate(struct op *op, void *arg);
int do_copy(struct op *op, void *arg);
int do_sync(struct op *op, void *arg);
int do_know(struct op *op, void *arg);
int do_forget(struct op *op, void *arg);
int do_create(struct op *op, void *arg);
int do_read(struct op *op, void *arg);
int is_busy(struct op *op, void *arg);

int call(struct subvol *sv, call_fn fn, struct call c);

void file_name(char *out, unsigned f);
void link_name(char *out, unsigned f, unsigned n);
enum tree_kind kind_of(unsigned f);
uint64_t slot_at(unsigned f, unsigned slot);

/* The content of a block. */
void tree_fill(void *block, uint32_t content, size_t len);

/* ---- tree_model.c ---- */

/* Administration holds a lock that the sweeper has, too, while it asks a reactor: that may not be this thread's then. */
void tree_before_administration(void);
void tree_close(struct tree_node *v);

/* All of the tenants' are durable, but for this one's. */
void tree_sync_others(const struct tree_node *v);
void tree_run_reactors(void);

/* ---- tree_sums.c ---- */

extern uint32_t tree_next_id; /* the last identity that was given */
uint32_t tree_new_id(void);

/* What an inode's record is charged. */
unsigned tree_xattr_blocks(unsigned bytes);
unsigned tree_dir_blocks(const struct tree_node *n);

/* No other node has it: a change of it makes no new one. */
bool tree_is_own(const struct tree_node *v, uint32_t id);

/* What tenants and pool count; and what of it is `of` alone (may be NULL). */
struct tree_sums {
	int64_t blocks[TREE_TENANTS], inodes[TREE_TENANTS];
	int64_t loose, reserved;
	int64_t own, own_data;
};
void tree_expect(struct tree_sums *sums, const struct tree_node *of);
void tree_by_records(struct tree_sums *sums); /* but for what is reserved */
void tree_visible(const struct tree_node *n, int64_t *blocks, int64_t *inodes);

/* What a tenant has; those that are there. */
struct tree_belongings {
	uint64_t provisioned, subvolumes, snapshots;
};
void tree_belongings(unsigned tenant, struct tree_belongings *out);
uint64_t tree_promised(void); /* sizes of all subvolumes */

/* Whether the number of identities is what is charged, even before the sweep looks again: of a family, or (0) of all. Nothing is being swept. */
bool tree_is_exact(uint32_t family);

/* The sums as they are, by the model or, where it is not exact, by the records, for which all is synced. */
void tree_sums_now(struct tree_sums *sums);

/* What of a volume is its live node's alone. */
struct tree_born {
	int64_t data, meta;
};
void tree_born(const struct tree_node *v, struct tree_born *out);

const char *tree_tenant_name(unsigned tenant);

#define TREE_BALLAST "ballast" /* of a tenant of that name */

/* ---- tree_room.c ---- */

/* What there is room for; INT64_MAX: any number. */
struct tree_room {
	int64_t blocks, inodes;  /* of the subvolume */
	int64_t own, own_inodes; /* of its tenant */
	int64_t loose;           /* of the pool */
	bool grace_over;         /* of the tenant's soft limit, so that there is room for nothing */
	bool exact;              /* whose each block is is known */
	int64_t visible;         /* blocks of the subvolume */
};
void tree_room(const struct tree_node *v, struct tree_room *room);

struct tree_cost {
	int64_t blocks, inodes, own, own_inodes;
	int64_t own_most, own_inodes_most; /* when nothing of what is touched is own */
	bool steps;                        /* it is asked for in parts: of several limits that it passes any may be the first */
};

/* The answer to what costs so much and is done as a whole. */
void tree_check_whole(const struct tree_room *room, const struct tree_cost *c, int r, const char *what);

/* A block more, of what is done as far as there is room: false, and the answer that comes when it is the first. Room becomes less. */
bool tree_take_block(struct tree_room *room, bool fresh, bool own, int *refusal);

enum tree_limit {
	LIMIT_SIZE, LIMIT_INODES, LIMIT_USED, LIMIT_SOFT, LIMIT_TENANT_INODES, LIMIT_SUBVOLUMES, LIMIT_PROVISIONED, LIMIT_SNAPSHOTS, LIMIT_GROUP, LIMIT_POOL,
	LIMIT_CLAIM, LIMIT_OVERCOMMIT, LIMIT_HELD, LIMIT_FITS, LIMIT_SHRINK, LIMITS
};

/* Whether so much more passes the limit, for which there is so much room; and counted, that one that passes and one that just fits is not. */
bool tree_passes(enum tree_limit limit, int64_t need, int64_t room);

/* ---- tree_data.c, tree_limits.c, tree_compare.c ---- */

void tree_change_file(struct tree_node *v);

/* A subvolume is made in the model; what is in it when it is new. */
bool tree_furnish(struct tree_node *v);

/* A new one of the tenant's, or a refusal. */
void tree_create_volume(unsigned tenant);

void tree_limits_begin(void);
void tree_change_limit(void);
void tree_limit(unsigned tenant);
struct tree_node *tree_change_ballast(void); /* gives the subvolume beside whose claim there is about room for what it has; or NULL */
void tree_change_overcommit(void);
void tree_change_size(void);
void tree_pass_time(void);

/* After a power cut: what it made of soft limits, which may be known only since then. */
void tree_take_soft(void);
struct tree_node *tree_some_volume(void);

/* What a snapshot or a rollback of a subvolume would leave beside claims. */
int64_t tree_held(const struct tree_node *v);

/* Room for one more, one less, or none, around a limit. */
int64_t tree_near(int64_t n, unsigned below, unsigned above);

/* What a step made of soft limits. */
void tree_follow_soft(void);

void tree_check_used(const struct tree_node *v);

#endif
