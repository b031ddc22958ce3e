/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/mkfs.h"
#include "meta/orphan.h"
#include "meta/sweep.h"
#include "meta/tenant.h"
#include "meta/usage.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/tree_model.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK NVFS_BLOCK_SIZE
#define ROOT INO_ROOT
#define REACTORS 2u
#define WIDE 1024u /* blocks from one slot of a wide file to the next: more than 1,024 chunks in all */
#define SMALL_MAX 2000u
#define LINKS_MAX 8u

struct tree tree;
struct pool *tree_pool;
struct device *tree_dev;

struct tree_options tree_opts;
static struct pool_options pool_options;
static struct reactor *reactors[REACTORS];
static unsigned short seed[3];
static char why[1024];
static uint8_t *buf; /* of a file */

unsigned tree_pick(unsigned n)
{
	return n ? (unsigned)(nrand48(seed) % n) : 0;
}

static enum tree_kind kind_of(unsigned f)
{
	return f < 4 ? TREE_PLAIN : f == 4 ? TREE_WIDE : TREE_SMALL;
}

static uint64_t slot_at(unsigned f, unsigned slot)
{
	return (uint64_t)slot * (kind_of(f) == TREE_WIDE ? WIDE : 1) * BLOCK;
}

/* ---- What there is room for ---- */

struct room {
	int64_t blocks, inodes, own; /* INT64_MAX: any number */
	bool exact;                  /* own is known */
};

static void room_of(const struct tree_node *v, struct room *room)
{
	struct tree_sums e;
	int64_t blocks, inodes;

	tree_visible(v, &blocks, &inodes);
	room->blocks = (int64_t)v->size_blocks - blocks;
	room->inodes = (int64_t)v->inodes_max - inodes;
	room->own = INT64_MAX;
	room->exact = true;
	if (!tree.tenant_blocks)
		return;
	tree_sync();
	tree_expect(&e, NULL);
	room->own = (int64_t)tree.tenant_blocks - e.blocks;
	room->exact = tree_is_exact();
}

struct cost {
	int64_t blocks, inodes, own;
};

/* The answer to what costs so much and is done as a whole. */
static bool whole_is_right(const struct room *room, const struct cost *c, int r)
{
	const bool full = c->blocks > 0 && c->blocks > room->blocks, no_inodes = c->inodes > 0 && c->inodes > room->inodes;
	const bool over = c->own > 0 && c->own > room->own;

	if (!room->exact && r == -EDQUOT)
		return true;
	if (r == -ENOSPC)
		return full || no_inodes;
	if (r == -EDQUOT)
		return over;
	return !r && !full && !no_inodes && (!over || !room->exact);
}

static void check_whole(const struct room *room, const struct cost *c, int r, const char *what)
{
	ck_assert_msg(whole_is_right(room, c, r), "seed %ld: %s: %d with room for %ld blocks, %ld inodes, %ld own ones; needs %ld, %ld, %ld",
		      tree_opts.seed, what, r, room->blocks, room->inodes, room->own, c->blocks, c->inodes, c->own);
}

/* What a change of an inode's record costs the tenant. */
static int64_t rec_cost(const struct tree_node *v, uint32_t rec, int64_t was, int64_t now)
{
	return tree_is_own(v, rec) ? now - was : now;
}

/* ---- Calls ---- */

struct call {
	uint64_t ino, offset, ino2, offset2;
	size_t len;
	const char *name;
	unsigned flags;
	void *data;
	struct inode_attr attr;
};

#define CALL(function, expression)                        \
	static int function(struct op *op, void *arg)     \
	{                                                 \
		struct call *c = arg;                     \
                                                          \
		return (int)(expression);                 \
	}

CALL(do_lookup, names_lookup(op, c->ino, c->name, strlen(c->name), &c->attr))
CALL(do_link, names_link(op, c->ino, c->ino2, c->name, strlen(c->name), &c->attr))
CALL(do_unlink, names_unlink(op, c->ino, c->name, strlen(c->name)))
CALL(do_setattr, attr_set(op, c->ino, c->flags, &c->attr, &c->attr))
CALL(do_setxattr, xattr_set(op, c->ino, c->name, c->data, c->len, 0, false))
CALL(do_getxattr, xattr_get(op, c->ino, c->name, c->data, c->len))
CALL(do_removexattr, xattr_remove(op, c->ino, c->name))
CALL(do_write, data_write(op, c->ino, c->offset, c->data, c->len, c->flags))
CALL(do_fallocate, data_fallocate(op, c->ino, (int)c->flags, c->offset, c->len))
CALL(do_copy, data_copy_range(op, c->ino, c->offset, c->ino2, c->offset2, c->len))
CALL(do_sync, ((void)c, data_sync_all(op)))
CALL(is_busy, ((void)c, reaper_busy(op->sv) || cutter_busy(op->sv->data)))
CALL(do_know, (lookup_add(op->sv, c->ino, 1), 0))
CALL(do_forget, (lookup_forget(op->sv, c->ino, 1), 0))

static int do_create(struct op *op, void *arg)
{
	struct call *c = arg;
	const struct names_new what = { .mode = c->flags };

	return names_create(op, c->ino, c->name, strlen(c->name), &what, &c->attr);
}

static int do_read(struct op *op, void *arg)
{
	struct call *c = arg;
	struct iovec *iov;
	unsigned count;
	uint8_t *to = c->data;
	ssize_t r = data_read(op, c->ino, c->offset, c->len, c->flags, &iov, &count);

	for (unsigned i = 0; r >= 0 && i < count; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	return (int)r;
}

static int call(struct subvol *sv, int (*fn)(struct op *op, void *arg), struct call c)
{
	return subvol_call(sv, fn, &c);
}

static void file_name(char *out, unsigned f)
{
	sprintf(out, "f%u", f);
}

static void link_name(char *out, unsigned f, unsigned n)
{
	memset(out, 'x', TREE_LINK_NAME);
	out[sprintf(out, "l%u-%u", f, n)] = '-';
	out[TREE_LINK_NAME] = 0;
}

/* ---- Background work ---- */

static void run_reactors(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	if (tree_opts.threads) {
		nanosleep(&pause, NULL);
		return;
	}
	for (unsigned i = 0; i < 20; i++)
		for (unsigned k = 0; k < REACTORS; k++)
			reactor_run_once(reactors[k], 50000);
}

static bool any_busy(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].sv && call(tree.volumes[i].sv, is_busy, (struct call){ 0 }))
			return true;
	return false;
}

void tree_settle(void)
{
	for (unsigned i = 0; i < 40000; i++) {
		if (!subvol_sweeps_left(tree_pool) && !any_busy())
			return;
		run_reactors();
	}
	ck_abort_msg("seed %ld: the background work does not end: %u sweeps, %d", tree_opts.seed, subvol_sweeps_left(tree_pool), any_busy());
}

void tree_sync(void)
{
	tree_settle();
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].sv)
			ck_assert_int_eq(call(tree.volumes[i].sv, do_sync, (struct call){ 0 }), 0);
	tree_settle();
}

/* Administration holds a lock that the sweeper has, too, while it asks a reactor: that may not be this thread's then. */
void tree_before_administration(void)
{
	if (!tree_opts.threads)
		tree_settle();
}

void tree_close(struct tree_node *v)
{
	if (!v->sv)
		return;
	tree_before_administration();
	ck_assert_int_eq(subvol_close(v->sv), 0);
	v->sv = NULL;
	for (unsigned f = 0; f < TREE_FILES; f++)
		if (v->files[f].gone)
			memset(&v->files[f], 0, sizeof(v->files[f]));
}

/* Without orphans of an earlier life, once it is settled. */
struct subvol *tree_open(struct tree_node *v)
{
	if (v->sv)
		return v->sv;
	tree_before_administration();
	ck_assert_int_eq(subvol_open(tree_pool, v->volume, false, &v->sv), 0);
	for (unsigned f = 0; f < TREE_FILES; f++)
		if (v->files[f].gone)
			memset(&v->files[f], 0, sizeof(v->files[f]));
	return v->sv;
}

/* ---- Comparing ---- */

static void fill(void *block, uint32_t content, size_t len)
{
	uint32_t *words = block;

	/* What can be compressed is, in some subvolumes. */
	for (size_t i = 0; i < len / 4; i++)
		words[i] = content ? content * 2654435761u + (uint32_t)(content % 3 ? i / 64 : i * i * 40503u) : 0;
}

/* What differs, for who tells of it. */
static char different[128];

static bool differs(const char *what, uint64_t is, uint64_t want)
{
	snprintf(different, sizeof(different), "%s is %lld, and not %lld", what, (long long)is, (long long)want);
	return false;
}

static bool plain_is(struct subvol *sv, const struct tree_file *m, uint64_t ino, unsigned f)
{
	uint8_t block[BLOCK];
	const bool wide = kind_of(f) == TREE_WIDE;

	const int r = wide ? 0 : call(sv, do_read, (struct call){ .ino = ino, .data = buf, .len = TREE_SLOTS * BLOCK });

	if (!wide && r != (int)(m->size * BLOCK))
		return differs("what was read", (uint64_t)r, m->size * BLOCK);
	for (unsigned i = 0; i < m->size; i++) {
		const struct call c = { .ino = ino, .offset = slot_at(f, i), .data = buf + i * BLOCK, .len = BLOCK };

		if (wide && call(sv, do_read, c) != (int)BLOCK)
			return differs("block that cannot be read", i, m->size);
		fill(block, m->slots[i].content, BLOCK);
		if (memcmp(block, buf + i * BLOCK, BLOCK))
			return differs("content of a block", i, m->slots[i].content);
	}
	return true;
}

static bool small_is(struct subvol *sv, const struct tree_file *m, uint64_t ino)
{
	uint8_t want[SMALL_MAX];

	fill(want, m->content, sizeof(want));
	return call(sv, do_read, (struct call){ .ino = ino, .data = buf, .len = BLOCK }) == (int)m->size && !memcmp(want, buf, m->size) ? true :
	       differs("inline data", buf[0], want[0]);
}

static bool names_are(struct subvol *sv, const struct tree_node *n, const struct tree_file *m, unsigned f, uint64_t ino)
{
	char name[TREE_LINK_NAME + 1];
	uint8_t want[16384], is[16384];
	struct call c = { .ino = n->dir, .name = name };
	int r;

	for (unsigned i = 0; i < LINKS_MAX; i++) {
		link_name(name, f, i);
		r = subvol_call(sv, do_lookup, &c);
		if (r != (i < m->links ? 0 : -ENOENT) || (!r && c.attr.ino != ino))
			return differs("link", (uint64_t)r, i);
	}
	r = call(sv, do_getxattr, (struct call){ .ino = ino, .name = "user.x", .data = is, .len = sizeof(is) });
	fill(want, m->xattr_content, sizeof(want));
	return (m->xattr ? r == (int)m->xattr && !memcmp(want, is, m->xattr) : r == -ENODATA) || differs("xattr", (uint64_t)r, m->xattr);
}

bool tree_file_is(struct subvol *sv, const struct tree_node *n, unsigned f)
{
	const struct tree_file *m = &n->files[f];
	char name[16];
	struct call c = { .ino = ROOT, .name = name };
	uint64_t bytes = kind_of(f) == TREE_SMALL ? m->size : m->size ? slot_at(f, m->size - 1) + BLOCK : 0;
	int r;

	file_name(name, f);
	r = subvol_call(sv, do_lookup, &c);
	if (!m->rec || m->gone)
		return r == -ENOENT || differs("removed file", (uint64_t)r, m->ino);
	if (r || c.attr.ino != m->ino)
		return differs("lookup", r ? (uint64_t)r : c.attr.ino, m->ino);
	if (c.attr.size_bytes != bytes)
		return differs("size", c.attr.size_bytes, bytes);
	if ((c.attr.mode & 07777) != m->mode || c.attr.nlink != 1 + m->links)
		return differs("mode or nlink", c.attr.mode << 16 | c.attr.nlink, m->mode << 16 | (1 + m->links));
	return names_are(sv, n, m, f, m->ino) && (kind_of(f) == TREE_SMALL ? small_is(sv, m, m->ino) : plain_is(sv, m, m->ino, f));
}

static void compare_node(struct subvol *sv, const struct tree_node *n)
{
	struct subvol_stats stats;
	int64_t blocks, inodes;

	for (unsigned f = 0; f < TREE_FILES; f++)
		ck_assert_msg(tree_file_is(sv, n, f), "seed %ld: %s@%s: file %u: %s", tree_opts.seed, n->volume, n->name, f, different);
	tree_visible(n, &blocks, &inodes);
	subvol_stats(sv, &stats);
	ck_assert_msg((int64_t)stats.used_blocks == blocks && (int64_t)stats.used_inodes == inodes,
		      "seed %ld: %s@%s has %lu blocks, %lu inodes, and not %ld, %ld", tree_opts.seed, n->volume, n->name, stats.used_blocks,
		      stats.used_inodes, blocks, inodes);
}

static void compare_snapshot(struct tree_node *n)
{
	char path[64];
	struct subvol *sv;

	snprintf(path, sizeof(path), "%s@%s", n->volume, n->name);
	tree_before_administration();
	ck_assert_int_eq(subvol_open(tree_pool, path, true, &sv), 0);
	compare_node(sv, n);
	tree_before_administration();
	ck_assert_int_eq(subvol_close(sv), 0);
}

static void is_now(struct tree_sums *e)
{
	const struct pool_tenant *t = tenant_find(tree_pool, NVFS_TENANT_DEFAULT);

	*e = (struct tree_sums){
		.blocks = atomic_load(&t->used_blocks),
		.inodes = atomic_load(&t->used_inodes),
		.loose = atomic_load(&tree_pool->loose_blocks),
		.reserved = (int64_t)atomic_load(&tree_pool->reserved_blocks),
	};
}

static int no_usage(void *arg, const struct usage *usage)
{
	(void)arg, (void)usage;
	return 0;
}

/* All that was written over is in RocksDB, and the sweep has looked for it: no block is held that no subvolume and no snapshot has. */
static void release(void)
{
	struct usage_total total;

	tree_sync();
	sweeper_look_again(tree_pool->sweeper);
	tree_settle();
	tree_before_administration();
	ck_assert_msg(!usage_count(tree_pool, NULL, NULL, no_usage, NULL, &total, why, sizeof(why)), "%s", why);
	ck_assert_msg(tree_opts.packs || !total.leaving, "seed %ld: %lu blocks are held by nobody", tree_opts.seed, total.leaving);
}

static void compare_sums(void)
{
	struct tree_sums want, is, records;

	release();
	tree_expect(&want, NULL);
	is_now(&is);
	ck_assert_int_eq(is.reserved, want.reserved);
	tree_by_records(&records);
	ck_assert_msg(is.blocks == records.blocks && is.inodes == records.inodes && is.loose == records.loose,
		      "seed %ld: memory has %ld blocks, %ld inodes, loose %ld, and records %ld, %ld, %ld", tree_opts.seed, is.blocks, is.inodes,
		      is.loose, records.blocks, records.inodes, records.loose);
	/* What is loose depends on which node it is of: of what only a reserved volume sees, an older node may still have a part. */
	if (!tree_opts.packs)
		ck_assert_msg(is.blocks == want.blocks && is.inodes == want.inodes && (is.loose == want.loose || !tree_is_exact()),
			      "seed %ld: charged are %ld blocks, %ld inodes, loose %ld, and not %ld, %ld, %ld", tree_opts.seed, is.blocks,
			      is.inodes, is.loose, want.blocks, want.inodes, want.loose);
	else
		ck_assert_msg(is.blocks >= want.blocks && is.inodes >= want.inodes,
			      "seed %ld: charged are only %ld blocks, %ld inodes, and not %ld, %ld", tree_opts.seed, is.blocks, is.inodes,
			      want.blocks, want.inodes);
}

/* What memory has is what its records say. */
static void compare_again(void)
{
	struct tree_sums before, after;

	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		tree_close(&tree.volumes[i]);
		compare_sums();
	}
	is_now(&before);
	tree_leave();
	fixture_check(tree_dev);
	tree_enter(tree_dev);
	is_now(&after);
	ck_assert_int_eq(before.blocks, after.blocks);
	ck_assert_int_eq(before.inodes, after.inodes);
	ck_assert_int_eq(before.loose, after.loose);
	ck_assert_int_eq(before.reserved, after.reserved);
}

void tree_compare(bool check)
{
	compare_sums();
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		struct tree_node *v = &tree.volumes[i];
		const bool was_open = v->sv;

		if (!v->there)
			continue;
		tree_open(v);
		tree_settle();
		compare_node(v->sv, v);
		if (!was_open)
			tree_close(v);
	}
	for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
		if (tree.snapshots[i].there)
			compare_snapshot(&tree.snapshots[i]);
	compare_sums();
	if (check)
		compare_again();
}

/* ---- Data ---- */

static void check_used(const struct tree_node *v)
{
	struct subvol_stats stats;
	int64_t blocks, inodes;

	while (call(v->sv, is_busy, (struct call){ 0 }))
		run_reactors();
	tree_visible(v, &blocks, &inodes);
	subvol_stats(v->sv, &stats);
	ck_assert_msg((int64_t)stats.used_blocks == blocks && (int64_t)stats.used_inodes == inodes,
		      "seed %ld: %s shows %lu blocks, %lu inodes, and not %ld, %ld", tree_opts.seed, v->volume, stats.used_blocks,
		      stats.used_inodes, blocks, inodes);
}

/* How many of the slots can be written, and with what a refusal comes. */
static unsigned may_write(const struct tree_node *v, const struct tree_file *m, unsigned at, unsigned n, const struct room *room,
			  int *refusal)
{
	int64_t blocks = room->blocks, own = room->own;

	for (unsigned i = at; i < at + n; i++) {
		const uint32_t id = m->slots[i].id;
		const bool fresh = !id, new_own = !id || !tree_is_own(v, id);

		if ((fresh && blocks <= 0) || (new_own && own <= 0)) {
			*refusal = fresh && blocks <= 0 ? -ENOSPC : -EDQUOT;
			return i - at;
		}
		blocks -= fresh;
		own -= own == INT64_MAX ? 0 : new_own;
	}
	return n;
}

/* What was written of it. */
static unsigned check_written(const struct room *room, unsigned may, unsigned n, int refusal, bool direct, int r, const char *what)
{
	const unsigned wrote = r > 0 ? (unsigned)r / BLOCK : 0;

	if (direct && may < n)
		may = 0;
	if (room->exact)
		ck_assert_msg(may ? r == (int)(may * BLOCK) : r == refusal, "seed %ld: %s of %u blocks%s gave %d, and there is room for %u (%d)",
			      tree_opts.seed, what, n, direct ? ", direct," : "", r, may, refusal);
	else
		ck_assert(r > 0 ? wrote <= may && r % BLOCK == 0 : is_refusal(r));
	return wrote;
}

static void write_plain(struct tree_node *v, struct tree_file *m, unsigned f)
{
	const bool wide = kind_of(f) == TREE_WIDE;
	const unsigned at = tree_pick(TREE_SLOTS), most = wide ? 1 : 1 + tree_pick(tree_pick(4) ? 8 : TREE_SLOTS);
	const unsigned n = at + most < TREE_SLOTS ? most : TREE_SLOTS - at;
	const unsigned flags = tree_pick(3) ? 0 : DATA_DIRECT;
	const uint32_t content = 1 + tree_pick(1u << 30);
	struct call c = { .ino = m->ino, .offset = slot_at(f, at), .data = buf, .len = n * BLOCK, .flags = flags };
	struct room room;
	unsigned may, wrote;
	int refusal = 0;

	room_of(v, &room);
	may = may_write(v, m, at, n, &room, &refusal);
	for (unsigned i = 0; i < n; i++)
		fill(buf + i * BLOCK, content + i, BLOCK);
	wrote = check_written(&room, may, n, refusal, flags, subvol_call(v->sv, do_write, &c), "a write");
	for (unsigned i = 0; i < wrote; i++)
		m->slots[at + i] = (struct tree_slot){ tree_new_id(), content + i };
	if (wrote && m->size < at + wrote)
		m->size = at + wrote;
}

static void write_small(struct tree_node *v, struct tree_file *m)
{
	const unsigned len = m->size + 1 + tree_pick(SMALL_MAX - m->size);
	const uint32_t content = 1 + tree_pick(1u << 30);
	struct call c = { .ino = m->ino, .data = buf, .len = len };
	struct cost cost = { .blocks = !m->small_id };
	struct room room;
	int r;

	if (m->size == SMALL_MAX)
		return;
	room_of(v, &room);
	cost.own = !m->small_id || !tree_is_own(v, m->small_id);
	fill(buf, content, SMALL_MAX);
	r = subvol_call(v->sv, do_write, &c);
	check_whole(&room, &cost, r > 0 ? 0 : r, "a small write");
	if (r <= 0)
		return;
	ck_assert_int_eq(r, (int)len);
	m->small_id = tree_new_id();
	m->size = len;
	m->content = content;
}

static void truncate_file(struct tree_node *v, struct tree_file *m, unsigned f)
{
	const bool small = kind_of(f) == TREE_SMALL;
	const unsigned size = tree_pick(small || tree_pick(3) ? m->size + 1 : TREE_SLOTS + 1);
	struct call c = { .ino = m->ino, .flags = ATTR_SIZE, .attr.size_bytes = small ? size : size ? slot_at(f, size - 1) + BLOCK : 0 };
	int r;

	r = subvol_call(v->sv, do_setattr, &c);
	if (tree_opts.packs && r == -EDQUOT)
		return; /* the rest of what was compressed with it needs own blocks */
	ck_assert_int_eq(r, 0);
	for (unsigned i = size; !small && i < TREE_SLOTS; i++)
		m->slots[i] = (struct tree_slot){ 0 };
	if (small && m->small_id)
		m->small_id = size ? tree_new_id() : 0;
	m->size = size;
}

/* Punch, zero, promise. */
static void change_range(struct tree_node *v, struct tree_file *m, unsigned f)
{
	const unsigned at = tree_pick(TREE_SLOTS), n = 1 + tree_pick(TREE_SLOTS - at), what = kind_of(f) == TREE_WIDE ? 0 : tree_pick(3);
	const unsigned modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, 0 };
	struct call c = { .ino = m->ino, .flags = modes[what], .offset = slot_at(f, at), .len = slot_at(f, n) };
	struct cost cost = { 0 };
	struct room room;
	int r;

	room_of(v, &room);
	for (unsigned i = at; what && i < at + n; i++) {
		cost.blocks += !m->slots[i].id;
		cost.own += !m->slots[i].id || (what == 1 && !tree_is_own(v, m->slots[i].id));
	}
	/* A zeroing that is refused may have zeroed a part. */
	if (what == 1 && (!room.exact || tree_opts.packs || cost.blocks > room.blocks || cost.own > room.own))
		return;
	r = subvol_call(v->sv, do_fallocate, &c);
	if (!tree_opts.packs || r)
		check_whole(&room, &cost, r, what ? what == 1 ? "zeroing" : "fallocate" : "a punch");
	if (r)
		return;
	for (unsigned i = at; i < at + n; i++)
		if (!what)
			m->slots[i] = (struct tree_slot){ 0 };
		else if (what == 1 || !m->slots[i].id)
			m->slots[i] = (struct tree_slot){ tree_new_id(), 0 };
	if (what && m->size < at + n)
		m->size = at + n;
}

static void copy_range(struct tree_node *v, unsigned from, unsigned to)
{
	struct tree_file *in = &v->files[from], *out = &v->files[to];
	struct cost cost = { 0 };
	struct room room;
	unsigned at, n, done;
	int r;

	if (kind_of(from) || kind_of(to) || from == to || !in->rec || in->gone || !in->size)
		return;
	at = tree_pick(in->size);
	n = 1 + tree_pick(in->size - at);
	for (unsigned i = at; i < at + n; i++) {
		if (in->slots[i].id && !in->slots[i].content)
			return; /* promised: what a copy has there is left open */
		cost.blocks += in->slots[i].id && !out->slots[i].id;
		cost.own += in->slots[i].id && (!out->slots[i].id || !tree_is_own(v, out->slots[i].id));
	}
	room_of(v, &room);
	r = call(v->sv, do_copy, (struct call){ .ino = in->ino, .offset = at * BLOCK, .ino2 = out->ino, .offset2 = at * BLOCK, .len = n * BLOCK });
	if (r == -EOPNOTSUPP)
		return;
	if (r < 0) {
		if (!tree_opts.packs)
			check_whole(&room, &cost, r, "a copy");
		return;
	}
	done = (unsigned)r / BLOCK;
	for (unsigned i = at; i < at + done; i++) {
		out->slots[i] = in->slots[i];
		if (out->slots[i].id)
			out->slots[i].id = tree_new_id();
	}
	if (out->size < at + done)
		out->size = at + done;
}

static void change_data(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	const unsigned what = tree_pick(8);

	if (kind_of(f) == TREE_SMALL)
		what ? write_small(v, m) : truncate_file(v, m, f);
	else if (what < 4)
		write_plain(v, m, f);
	else if (what < 5)
		truncate_file(v, m, f);
	else if (what < 7)
		change_range(v, m, f);
	else
		copy_range(v, tree_pick(TREE_FILES), f);
}

int tree_write_some(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		struct tree_node *v = &tree.volumes[i];

		if (!v->sv)
			continue;
		for (unsigned f = 0; f < TREE_FILES; f++)
			if (v->files[f].rec && !v->files[f].gone && tree_pick(3))
				kind_of(f) == TREE_SMALL ? write_small(v, &v->files[f]) : write_plain(v, &v->files[f], f);
		return (int)i;
	}
	return -1;
}

/* ---- Names ---- */

static void create_file(struct tree_node *v, unsigned f)
{
	const struct cost cost = { .inodes = 1, .own = rec_cost(v, v->root_rec, 1, 1) };
	struct tree_file *m = &v->files[f];
	char name[16];
	struct call c = { .ino = ROOT, .name = name, .flags = S_IFREG | 0600 };
	struct room room;
	int r;

	file_name(name, f);
	room_of(v, &room);
	r = subvol_call(v->sv, do_create, &c);
	check_whole(&room, &cost, r, "create");
	if (r)
		return;
	*m = (struct tree_file){ .rec = tree_new_id(), .ino = c.attr.ino, .mode = 0600 };
	v->root_rec = tree_new_id();
}

static void remove_file(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	const bool kept = !m->links && tree_pick(2);
	char name[16];

	if (m->links)
		return;
	file_name(name, f);
	if (kept)
		call(v->sv, do_know, (struct call){ .ino = m->ino });
	ck_assert_int_eq(call(v->sv, do_unlink, (struct call){ .ino = ROOT, .name = name }), 0);
	v->root_rec = tree_new_id();
	if (kept) {
		m->gone = true;
		m->rec = tree_new_id();
	} else {
		memset(m, 0, sizeof(*m));
	}
}

static void forget_file(struct tree_node *v, struct tree_file *m)
{
	call(v->sv, do_forget, (struct call){ .ino = m->ino });
	memset(m, 0, sizeof(*m));
}

static void link_file(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	const int64_t was = tree_dir_blocks(v), attr = tree_xattr_blocks(m->xattr);
	char name[TREE_LINK_NAME + 1];
	struct cost cost;
	struct room room;
	int r;

	if (m->links == LINKS_MAX)
		return;
	room_of(v, &room);
	m->links++;
	cost = (struct cost){ tree_dir_blocks(v) - was, 0, rec_cost(v, v->dir_rec, was, tree_dir_blocks(v)) + rec_cost(v, m->rec, attr, attr) };
	link_name(name, f, m->links - 1);
	r = call(v->sv, do_link, (struct call){ .ino = m->ino, .ino2 = v->dir, .name = name });
	check_whole(&room, &cost, r, "link");
	if (r) {
		m->links--;
	} else {
		m->rec = tree_new_id();
		v->dir_rec = tree_new_id();
	}
}

static void unlink_link(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	char name[TREE_LINK_NAME + 1];

	if (!m->links)
		return;
	link_name(name, f, --m->links);
	ck_assert_int_eq(call(v->sv, do_unlink, (struct call){ .ino = v->dir, .name = name }), 0);
	m->rec = tree_new_id();
	v->dir_rec = tree_new_id();
}

static void change_xattr(struct tree_node *v, struct tree_file *m)
{
	const unsigned len = tree_pick(3) ? 1 + tree_pick(12000) : 0;
	const uint32_t content = 1 + tree_pick(1u << 30);
	struct cost cost = { .blocks = (int64_t)tree_xattr_blocks(len) - tree_xattr_blocks(m->xattr) };
	struct call c = { .ino = m->ino, .name = "user.x", .data = buf, .len = len };
	struct room room;
	int r;

	if (!len && !m->xattr)
		return;
	room_of(v, &room);
	cost.own = rec_cost(v, m->rec, tree_xattr_blocks(m->xattr), tree_xattr_blocks(len));
	fill(buf, content, 12000);
	r = subvol_call(v->sv, len ? do_setxattr : do_removexattr, &c);
	if (len)
		check_whole(&room, &cost, r, "setxattr");
	else
		ck_assert_int_eq(r, 0);
	if (r)
		return;
	m->xattr = len;
	m->xattr_content = content;
	m->rec = tree_new_id();
}

static void change_mode(struct tree_node *v, struct tree_file *m)
{
	struct call c = { .ino = m->ino, .flags = ATTR_MODE, .attr.mode = tree_pick(01000) };
	const unsigned mode = c.attr.mode;
	struct cost cost = { 0 };
	struct room room;
	int r;

	room_of(v, &room);
	cost.own = rec_cost(v, m->rec, tree_xattr_blocks(m->xattr), tree_xattr_blocks(m->xattr));
	r = subvol_call(v->sv, do_setattr, &c);
	check_whole(&room, &cost, r, "chmod");
	if (r)
		return;
	m->mode = mode;
	m->rec = tree_new_id();
}

void tree_change_file(struct tree_node *v)
{
	const unsigned f = tree_pick(TREE_FILES), what = tree_pick(14);
	struct tree_file *m = &v->files[f];

	if (!m->rec)
		create_file(v, f);
	m = &v->files[f];
	if (!m->rec)
		return;
	if (m->gone)
		what < 4 ? forget_file(v, m) : what < 10 ? change_data(v, f) : (void)0;
	else if (what == 0)
		remove_file(v, f);
	else if (what == 1)
		link_file(v, f);
	else if (what == 2)
		unlink_link(v, f);
	else if (what == 3)
		change_xattr(v, m);
	else if (what == 4)
		change_mode(v, m);
	else
		change_data(v, f);
	check_used(v);
}

/* ---- The pool ---- */

void tree_leave(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		tree_close(&tree.volumes[i]);
	ck_assert_int_eq(pool_close(tree_pool), 0);
	tree_pool = NULL;
}

void tree_enter(struct device *dev)
{
	tree_dev = dev;
	ck_assert_int_eq(pool_open(&tree_dev, 1, &pool_options, &tree_pool), 0);
}

void tree_drop_device(struct device *dev)
{
	for (unsigned i = 0; i < REACTORS; i++)
		device_detach(reactors[i], dev);
	device_close(dev);
}

static void make_reactors(void)
{
	const struct reactor_options ro = { .spin_max_us = 20 };

	for (unsigned i = 0; i < REACTORS; i++) {
		ck_assert_int_eq(reactor_create(&ro, &reactors[i]), 0);
		if (tree_opts.threads)
			ck_assert_int_eq(reactor_start_thread(reactors[i], "reactor"), 0);
	}
	pool_options = (struct pool_options){ .reactors = REACTORS, .reactor = reactors, .commit_ms = 50 };
}

static void end_reactors(void)
{
	for (unsigned i = 0; i < REACTORS; i++) {
		if (tree_opts.threads) {
			reactor_stop(reactors[i]);
			reactor_join(reactors[i]);
		}
		reactor_destroy(reactors[i]);
	}
}

static void make_first(void)
{
	struct tree_node *v = &tree.volumes[0];
	const struct subvol_options so = {
		.size_bytes = 16 * MIB,
		.compression = tree_opts.packs ? COMPRESSION_LZ4 : COMPRESSION_OFF,
	};
	struct call c = { .ino = ROOT, .name = "d", .flags = S_IFDIR | 0700 };
	struct subvol_info info;

	*v = (struct tree_node){ .there = true, .reserved = true, .volume = "v", .root_rec = tree_new_id(), .dir_rec = tree_new_id() };
	ck_assert_int_eq(subvol_create(tree_pool, v->volume, &so, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_info(tree_pool, v->volume, &info), 0);
	v->size_blocks = info.rec.size_blocks;
	v->inodes_max = info.rec.inodes_max;
	tree_open(v);
	ck_assert_int_eq(subvol_call(v->sv, do_create, &c), 0);
	v->dir = c.attr.ino;
}

void tree_begin(const struct tree_options *opts)
{
	const struct pool_create_options po = { .name = "tree" };
	long number = opts->seed;

	if (!getenv("NVFS_TEST_LOG"))
		log_set_level(LOG_LEVEL_ERROR);
	printf("seed %ld%s%s%s\n", number, opts->threads ? ", threads" : "", opts->packs ? ", lz4" : "", opts->limits ? ", limits" : "");
	fflush(stdout);
	tree_opts = *opts;
	memset(seed, 0, sizeof(seed));
	memcpy(seed, &number, sizeof(seed));
	memset(&tree, 0, sizeof(tree));
	tree_next_id = 0;
	if (!buf)
		buf = aligned_alloc(BLOCK, TREE_SLOTS * BLOCK);
	ck_assert_ptr_nonnull(buf);
	make_reactors();
	ck_assert_int_eq(device_sim_create(512 * MIB, NULL, &tree_dev), 0);
	ck_assert_int_eq(pool_create(&tree_dev, 1, &po, why, sizeof(why)), 0);
	tree_enter(tree_dev);
	make_first();
}

void tree_delete_all(void)
{
	struct pool_stats stats;
	struct tree_sums is;
	bool any = true;

	while (any) {
		any = false;
		for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
			any |= tree.snapshots[i].there;
		for (unsigned i = 0; i < TREE_VOLUMES; i++)
			any |= tree.volumes[i].there;
		tree_change(tree_pick(2) ? TREE_DELETE_SNAPSHOT : TREE_DELETE_VOLUME);
	}
	tree_settle();
	ck_assert_int_eq(pool_commit_wait(tree_pool), 0);
	ck_assert_int_eq(pool_commit_wait(tree_pool), 0);
	pool_stats(tree_pool, &stats);
	is_now(&is);
	ck_assert_uint_eq(stats.subvolumes, 0);
	ck_assert_int_eq(is.blocks, 0);
	ck_assert_int_eq(is.inodes, 0);
	ck_assert_int_eq(is.loose, 0);
	ck_assert_int_eq(is.reserved, 0);
	ck_assert_uint_eq(stats.free_blocks, stats.data_blocks);
}

void tree_end(void)
{
	tree_delete_all();
	tree_leave();
	fixture_check(tree_dev);
	end_reactors();
	device_close(tree_dev);
}
