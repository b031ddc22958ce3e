/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that compares: contents, what is used and shown, what is counted. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "meta/sweep.h"
#include "meta/usage.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/tree_internal.h"

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

	const int r = wide ? 0 : call(sv, do_read, (struct call){ .ino = ino, .data = tree_buf, .len = TREE_SLOTS * BLOCK });

	if (!wide && r != (int)(m->size * BLOCK))
		return differs("what was read", (uint64_t)r, m->size * BLOCK);
	for (unsigned i = 0; i < m->size; i++) {
		const struct call c = { .ino = ino, .offset = slot_at(f, i), .data = tree_buf + i * BLOCK, .len = BLOCK };

		if (wide && call(sv, do_read, c) != (int)BLOCK)
			return differs("block that cannot be read", i, m->size);
		tree_fill(block, m->slots[i].content, BLOCK);
		if (memcmp(block, tree_buf + i * BLOCK, BLOCK))
			return differs("content of a block", i, m->slots[i].content);
	}
	return true;
}

static bool small_is(struct subvol *sv, const struct tree_file *m, uint64_t ino)
{
	uint8_t want[SMALL_MAX];

	tree_fill(want, m->content, sizeof(want));
	return call(sv, do_read, (struct call){ .ino = ino, .data = tree_buf, .len = BLOCK }) == (int)m->size && !memcmp(want, tree_buf, m->size) ? true :
	       differs("inline data", tree_buf[0], want[0]);
}

static bool names_are(struct subvol *sv, const struct tree_node *n, const struct tree_file *m, unsigned f, uint64_t ino)
{
	char name[LINK_NAME + 1];
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
	tree_fill(want, m->xattr_content, sizeof(want));
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

static void compare_df(struct subvol *sv, const struct tree_node *n, const struct tree_sums *sums, int64_t blocks, int64_t inodes)
{
	const int64_t size = (int64_t)n->size_blocks, inodes_max = (int64_t)n->inodes_max, rest = size - blocks;
	const int64_t pool = (int64_t)pool_capacity(tree_pool) - sums->loose - sums->reserved;
	const int64_t avail = n->reserved || n->name[0] || pool > rest ? rest : pool > 0 ? pool : 0;
	struct subvol_df df;

	subvol_df(sv, &df);
	TREE_ASSERT((int64_t)df.blocks == size && (int64_t)df.free_blocks == rest && (int64_t)df.inodes == inodes_max &&
		    (int64_t)df.free_inodes == inodes_max - inodes, "df of %s@%s: %lu, %lu free, %lu inodes, %lu free, and not %ld, %ld, %ld, %ld",
		    n->volume, n->name, df.blocks, df.free_blocks, df.inodes, df.free_inodes, size, rest, inodes_max, inodes_max - inodes);
	TREE_ASSERT((int64_t)df.available_blocks == avail, "df of %s@%s: %lu are available, and not %ld of %ld in the pool", n->volume, n->name,
		    df.available_blocks, avail, pool);
}

/* What is used; with sums, of a moment when all is durable, what df shows. */
static void compare_used(struct subvol *sv, const struct tree_node *n, const struct tree_sums *sums)
{
	struct subvol_stats stats;
	int64_t blocks, inodes;

	tree_visible(n, &blocks, &inodes);
	subvol_stats(sv, &stats);
	TREE_ASSERT((int64_t)stats.used_blocks == blocks && (int64_t)stats.used_inodes == inodes,
		    "%s@%s has %lu blocks, %lu inodes, and not %ld, %ld", n->volume, n->name, stats.used_blocks, stats.used_inodes, blocks, inodes);
	TREE_ASSERT(stats.size_blocks == n->size_blocks && stats.inodes_max == n->inodes_max, "%s@%s may have %lu blocks, %lu inodes, and not %lu, %lu",
		    n->volume, n->name, stats.size_blocks, stats.inodes_max, n->size_blocks, n->inodes_max);
	if (sums)
		compare_df(sv, n, sums, blocks, inodes);
}

void tree_check_used(const struct tree_node *v)
{
	while (call(v->sv, is_busy, (struct call){ 0 }))
		tree_run_reactors();
	compare_used(v->sv, v, NULL);
	if (tree_opts.limits && tree.tenants[v->tenant].soft)
		tree_follow_soft();
}

static void compare_node(struct subvol *sv, const struct tree_node *n)
{
	for (unsigned f = 0; f < TREE_FILES; f++)
		TREE_ASSERT(tree_file_is(sv, n, f), "%s@%s: file %u: %s", n->volume, n->name, f, different);
	compare_used(sv, n, NULL);
}

static void compare_snapshot(struct tree_node *n)
{
	const struct snapshot_name name = { n->volume, n->name };
	struct snapshot_info info;
	char path[64];
	struct subvol *sv;
	int64_t blocks, inodes;

	snprintf(path, sizeof(path), "%s@%s", n->volume, n->name);
	tree_before_administration();
	ck_assert_int_eq(snapshot_info(tree_pool, &name, &info), 0);
	tree_visible(n, &blocks, &inodes);
	TREE_ASSERT((int64_t)info.used_blocks == blocks && (int64_t)info.used_inodes == inodes, "%s: %lu blocks, %lu inodes are listed, and not %ld, %ld",
		    path, info.used_blocks, info.used_inodes, blocks, inodes);
	ck_assert_int_eq(subvol_open(tree_pool, path, true, &sv), 0);
	compare_node(sv, n);
	tree_before_administration();
	ck_assert_int_eq(subvol_close(sv), 0);
}

static void is_now(struct tree_sums *e)
{
	*e = (struct tree_sums){
		.loose = atomic_load(&tree_pool->loose_blocks),
		.reserved = (int64_t)atomic_load(&tree_pool->reserved_blocks),
	};
	for (unsigned i = 0; i < TREE_TENANTS; i++) {
		const struct pool_tenant *t = tenant_find_name(tree_pool, tree_tenant_name(i));

		e->blocks[i] = atomic_load(&t->used_blocks);
		e->inodes[i] = atomic_load(&t->used_inodes);
	}
	TREE_ASSERT(atomic_load(&tree_pool->promised_blocks) == e->loose + e->reserved, "promised are %ld, and not loose %ld and reserved %ld",
		    atomic_load(&tree_pool->promised_blocks), e->loose, e->reserved);
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
	ck_assert_msg(!usage_count(tree_pool, NULL, NULL, no_usage, NULL, &total, tree_why, sizeof(tree_why)), "%s", tree_why);
	ck_assert_msg(tree_opts.packs || !total.leaving, "seed %ld: %lu blocks are held by nobody", tree_opts.seed, total.leaving);
}

static void same_sums(const char *what, const struct tree_sums *is, const struct tree_sums *want)
{
	for (unsigned t = 0; t < TREE_TENANTS; t++)
		TREE_ASSERT(is->blocks[t] == want->blocks[t] && is->inodes[t] == want->inodes[t], "%s: tenant %s is charged %ld blocks, %ld inodes, and "
			    "not %ld, %ld", what, tree_tenant_name(t), is->blocks[t], is->inodes[t], want->blocks[t], want->inodes[t]);
	TREE_ASSERT(is->loose == want->loose && is->reserved == want->reserved, "%s: loose %ld, reserved %ld, and not %ld, %ld", what, is->loose,
		    is->reserved, want->loose, want->reserved);
}

/* What is listed of a tenant. */
static void compare_tenant(unsigned t, const struct tree_sums *sums)
{
	const struct tree_tenant *m = &tree.tenants[t];
	const struct tenant_limits *l;
	struct tree_belongings has;
	struct tenant_info info;

	tree_before_administration();
	ck_assert_int_eq(tenant_info(tree_pool, tree_tenant_name(t), &info), 0);
	tree_belongings(t, &has);
	TREE_ASSERT((int64_t)info.used_blocks == sums->blocks[t] && (int64_t)info.used_inodes == sums->inodes[t] &&
		    info.provisioned_blocks == has.provisioned && info.subvolumes == has.subvolumes && info.snapshots == has.snapshots,
		    "tenant %s has %lu blocks, %lu inodes, %lu promised, %lu subvolumes, %lu snapshots, and not %ld, %ld, %lu, %lu, %lu", info.name,
		    info.used_blocks, info.used_inodes, info.provisioned_blocks, info.subvolumes, info.snapshots, sums->blocks[t],
		    sums->inodes[t], has.provisioned, has.subvolumes, has.snapshots);
	l = &info.set.limits;
	TREE_ASSERT(l->used_blocks == m->used && l->inodes == m->inodes && l->provisioned_blocks == m->provisioned &&
		    l->subvolumes == m->subvolumes && l->snapshots == m->snapshots && info.set.soft_blocks == m->soft,
		    "tenant %s has other limits than it was given", info.name);
}

/* Everything is put. */
static void compare_counts(void)
{
	struct tree_sums want, is, records;

	tree_sync();
	tree_expect(&want, NULL);
	is_now(&is);
	tree_by_records(&records);
	records.reserved = want.reserved;
	same_sums("memory and records", &is, &records);
	if (tree_is_exact(0))
		same_sums("records and model", &is, &want);
	for (unsigned t = 0; t < TREE_TENANTS; t++) {
		/* What is held besides, by a node without a name, or because it is compressed with something. */
		TREE_ASSERT(is.blocks[t] >= want.blocks[t] && is.inodes[t] >= want.inodes[t], "tenant %s is charged only %ld blocks, %ld inodes, and not "
			    "%ld, %ld", tree_tenant_name(t), is.blocks[t], is.inodes[t], want.blocks[t], want.inodes[t]);
		compare_tenant(t, &is);
	}
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].sv)
			compare_used(tree.volumes[i].sv, &tree.volumes[i], &is);
}

/* The sweep has looked again: what nobody sees any more is charged to nobody. */
static void compare_sums(void)
{
	struct tree_sums want, is;

	release();
	tree_expect(&want, NULL);
	is_now(&is);
	/* What is loose depends on which node it is of: of what only a reserved volume sees, an older node may still have a part. */
	if (!tree_is_exact(0))
		want.loose = is.loose;
	if (!tree_opts.packs)
		same_sums("after the sweep", &is, &want);
	compare_counts();
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
	same_sums("opened again", &after, &before);
}

static void compare_contents(void)
{
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
}

void tree_compare_step(void)
{
	struct tree_node *s = &tree.snapshots[tree_pick(TREE_SNAPSHOTS)];

	compare_counts();
	tree_follow_soft();
	if (tree_opts.thorough)
		compare_contents();
	else if (s->there)
		compare_snapshot(s);
}

void tree_compare(bool check)
{
	compare_sums();
	compare_contents();
	compare_sums();
	if (check)
		compare_again();
}
