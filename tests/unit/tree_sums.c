/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that counts: what is visible, and what tenants and the pool are charged for. */
#include "config.h"

#include <string.h>

#include "meta/nodes.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"
#include "tests/unit/tree_internal.h"

#define IDS_MAX (1u << 20)

uint32_t tree_next_id;

uint32_t tree_new_id(void)
{
	ck_assert_uint_lt(tree_next_id, IDS_MAX - 1);
	return ++tree_next_id;
}

/* ---- What is charged ---- */

static unsigned blocks_of(uint64_t bytes)
{
	return (unsigned)((bytes + BLOCK - 1) / BLOCK);
}

unsigned tree_xattr_blocks(unsigned bytes)
{
	return bytes ? blocks_of(bytes + strlen("user.x")) : 0;
}

unsigned tree_dir_blocks(const struct tree_node *n)
{
	unsigned names = 0;

	for (unsigned f = 0; f < TREE_FILES; f++)
		names += n->files[f].rec ? n->files[f].links : 0;
	return blocks_of(names * (24 + LINK_NAME));
}

/* Calls fn for each block, and (is_inode) each inode's record with what it costs. */
typedef void (*part_fn)(void *arg, uint32_t id, unsigned blocks, bool is_data, bool is_inode);

static void each_part(const struct tree_node *n, part_fn fn, void *arg)
{
	fn(arg, n->root_rec, 1, false, true);
	fn(arg, n->dir_rec, tree_dir_blocks(n), false, true);
	for (unsigned f = 0; f < TREE_FILES; f++) {
		const struct tree_file *m = &n->files[f];

		if (!m->rec)
			continue;
		fn(arg, m->rec, tree_xattr_blocks(m->xattr), false, true);
		if (m->small_id)
			fn(arg, m->small_id, 1, false, false);
		for (unsigned i = 0; i < TREE_SLOTS; i++)
			if (m->slots[i].id)
				fn(arg, m->slots[i].id, 1, true, false);
	}
}

struct sum {
	int64_t blocks, data, inodes;
	uint8_t *seen; /* identities that were counted; NULL: all count */
	uint8_t mark;
};

static void add_part(void *arg, uint32_t id, unsigned blocks, bool is_data, bool is_inode)
{
	struct sum *s = arg;

	if (s->seen && s->seen[id])
		return;
	if (s->seen)
		s->seen[id] = s->mark;
	s->blocks += blocks;
	s->data += is_data;
	s->inodes += is_inode;
}

void tree_visible(const struct tree_node *n, int64_t *blocks, int64_t *inodes)
{
	struct sum s = { 0 };

	each_part(n, add_part, &s);
	*blocks = s.blocks;
	*inodes = s.inodes;
}

static void expect_snapshots(struct tree_sums *e, uint8_t *seen)
{
	for (unsigned i = 0; i < TREE_SNAPSHOTS; i++) {
		const struct tree_node *n = &tree.snapshots[i];
		struct sum s = { .seen = seen, .mark = 1 };

		if (!n->there)
			continue;
		each_part(n, add_part, &s);
		e->blocks[n->tenant] += s.blocks;
		e->inodes[n->tenant] += s.inodes;
		e->loose += s.data;
	}
}

void tree_expect(struct tree_sums *e, const struct tree_node *of)
{
	static uint8_t seen[IDS_MAX];

	*e = (struct tree_sums){ .reserved = (int64_t)tree.ballast };
	memset(seen, 0, tree_next_id + 1);
	expect_snapshots(e, seen);
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		const struct tree_node *v = &tree.volumes[i];
		struct sum s = { .seen = seen, .mark = 1 };

		if (!v->there)
			continue;
		each_part(v, add_part, &s);
		e->blocks[v->tenant] += s.blocks;
		e->inodes[v->tenant] += s.inodes;
		if (v->reserved)
			e->reserved += (int64_t)v->size_blocks;
		else
			e->loose += s.blocks;
		if (v == of) {
			e->own = s.blocks;
			e->own_data = s.data;
		}
	}
}

void tree_belongings(unsigned tenant, struct tree_belongings *out)
{
	*out = (struct tree_belongings){ 0 };
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		if (!tree.volumes[i].there || tree.volumes[i].tenant != tenant)
			continue;
		out->subvolumes++;
		out->provisioned += tree.volumes[i].size_blocks;
	}
	for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
		out->snapshots += tree.snapshots[i].there && tree.snapshots[i].tenant == tenant;
}

uint64_t tree_promised(void)
{
	struct tree_belongings all;
	uint64_t sum = tree.ballast;

	for (unsigned t = 0; t < TREE_TENANTS; t++) {
		tree_belongings(t, &all);
		sum += all.provisioned;
	}
	return sum;
}

static bool has(const struct tree_node *n, uint32_t id)
{
	if (n->root_rec == id || n->dir_rec == id)
		return true;
	for (unsigned f = 0; f < TREE_FILES; f++) {
		const struct tree_file *m = &n->files[f];

		if (!m->rec)
			continue;
		if (m->rec == id || m->small_id == id)
			return true;
		for (unsigned i = 0; i < TREE_SLOTS; i++)
			if (m->slots[i].id == id)
				return true;
	}
	return false;
}

/* No other node has it: a change of it makes no new one. */
bool tree_is_own(const struct tree_node *v, uint32_t id)
{
	for (unsigned i = 0; i < TREE_SNAPSHOTS; i++)
		if (tree.snapshots[i].there && has(&tree.snapshots[i], id))
			return false;
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].there && &tree.volumes[i] != v && has(&tree.volumes[i], id))
			return false;
	return true;
}

bool tree_is_exact(uint32_t family)
{
	struct nodes nodes = { 0 };
	bool exact = !tree_opts.packs;

	ck_assert_int_eq(nodes_load(tree_pool->db, &nodes), 0);
	for (size_t i = 0; i < nodes.count; i++)
		if (!family || nodes.v[i].tree == family)
			exact &= nodes.v[i].rec.state == NODE_LIVE || nodes.v[i].rec.state == NODE_SNAPSHOT;
	nodes_free(&nodes);
	return exact;
}

static int64_t loose_of(const struct node_entry *n, const struct counters_rec *c)
{
	struct subvol_rec rec;
	char name[SUBVOL_NAME_MAX + 1];

	if (n->rec.state != NODE_LIVE)
		return c->born;
	ck_assert_int_eq(sysrec_subvol(tree_pool->db, n->rec.subvol, &rec, name), 0);
	return rec.flags & SUBVOL_RESERVED ? 0 : c->born + c->meta_born;
}

static unsigned tenant_of(uint32_t id)
{
	unsigned t = 0;

	while (t < TREE_TENANTS && tenant_find_name(tree_pool, tree_tenant_name(t))->id != id)
		t++;
	return t; /* TREE_TENANTS: nobody's */
}

void tree_by_records(struct tree_sums *sums)
{
	struct nodes nodes = { 0 };

	*sums = (struct tree_sums){ 0 };
	ck_assert_int_eq(nodes_load(tree_pool->db, &nodes), 0);
	for (size_t i = 0; i < nodes.count; i++) {
		const struct node_entry *n = &nodes.v[i];
		const unsigned t = tenant_of(n->rec.tenant);
		struct counters_rec c;

		ck_assert_int_eq(sysrec_counters(tree_pool->db, n->tree, n->id, &c), 0);
		sums->loose += loose_of(n, &c);
		if (t == TREE_TENANTS || !node_counts(n))
			continue;
		sums->blocks[t] += c.born + c.meta_born;
		sums->inodes[t] += c.inodes_born;
	}
	nodes_free(&nodes);
}

void tree_sums_now(struct tree_sums *sums)
{
	struct tree_sums model;

	tree_expect(&model, NULL);
	if (tree_is_exact(0)) {
		*sums = model;
		return;
	}
	/* A refusal has the sweep look again, which may make room: here it has looked already. */
	tree_sync();
	sweeper_look_again(tree_pool->sweeper);
	tree_settle();
	tree_by_records(sums);
	sums->reserved = model.reserved;
}

void tree_born(const struct tree_node *v, struct tree_born *out)
{
	struct counters_rec c;
	struct subvol_info info;
	struct tree_sums e;

	tree_expect(&e, v);
	*out = (struct tree_born){ .data = e.own_data, .meta = e.own - e.own_data };
	if (tree_is_exact(v->tree))
		return;
	tree_sync();
	tree_before_administration();
	ck_assert_int_eq(subvol_info(tree_pool, v->volume, &info), 0);
	ck_assert_int_eq(sysrec_counters(tree_pool->db, info.rec.tree, info.rec.node, &c), 0);
	*out = (struct tree_born){ .data = c.born, .meta = c.meta_born };
}
