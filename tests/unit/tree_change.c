/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that changes the tree of nodes, and limits. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "meta/pool_internal.h"
#include "meta/tenant.h"
#include "tests/unit/tree_model.h"
#include "tests/unit/unit.h"

#define BLOCK NVFS_BLOCK_SIZE

static char why[1024];

/* ---- Choosing ---- */

static struct tree_node *some(struct tree_node *v, unsigned n)
{
	const unsigned first = tree_pick(n);

	for (unsigned i = 0; i < n; i++)
		if (v[(first + i) % n].there)
			return &v[(first + i) % n];
	return NULL;
}

static unsigned count(const struct tree_node *v, unsigned n)
{
	unsigned there = 0;

	for (unsigned i = 0; i < n; i++)
		there += v[i].there;
	return there;
}

static struct tree_node *free_one(struct tree_node *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!v[i].there)
			return &v[i];
	return NULL;
}

static struct tree_node *some_volume(void)
{
	return some(tree.volumes, TREE_VOLUMES);
}

static struct tree_node *some_snapshot(void)
{
	return some(tree.snapshots, TREE_SNAPSHOTS);
}

static struct snapshot_name name_of(const struct tree_node *s)
{
	return (struct snapshot_name){ s->volume, s->name[0] ? s->name : NULL };
}

static struct tree_node *volume_of(const struct tree_node *s)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++)
		if (tree.volumes[i].there && !strcmp(tree.volumes[i].volume, s->volume))
			return &tree.volumes[i];
	return NULL;
}

/* ---- Room ---- */

static int64_t unclaimed(void)
{
	struct pool_stats stats;

	tree_sync();
	pool_stats(tree_pool, &stats);
	return (int64_t)stats.unclaimed_blocks;
}

/* What a snapshot or a rollback of a reserved subvolume takes out of its claim. */
static bool has_room(const struct tree_node *v, int64_t room)
{
	struct tree_sums e;

	tree_expect(&e, v);
	return !v->reserved || e.own_data <= room;
}

static bool too_many_snapshots(unsigned more)
{
	return tree.limit_snapshots && count(tree.snapshots, TREE_SNAPSHOTS) + more > tree.limit_snapshots;
}

/* ---- Snapshots ---- */

static void prepare(struct tree_node *s, const struct tree_node *v, struct snapshot_name *name)
{
	*s = *v;
	s->there = false;
	s->sv = NULL;
	sprintf(s->name, "s%u", tree.names++);
	*name = name_of(s);
}

static bool refused(int r, bool expected, int error)
{
	if (!tree_is_exact() && r == -ENOSPC)
		return true;
	ck_assert_msg(r == (expected ? error : 0), "seed %ld: %d, and not %d: %s", tree_opts.seed, r, expected ? error : 0, why);
	return r;
}

static void make_snapshot(void)
{
	struct tree_node *s = free_one(tree.snapshots, TREE_SNAPSHOTS), *v = some_volume();
	struct snapshot_name name;
	bool room;
	int r;

	if (!s || !v)
		return;
	if (tree_pick(2))
		tree_open(v);
	if (tree_pick(3))
		tree_before_administration();
	else
		tree_sync();
	prepare(s, v, &name);
	room = !tree_opts.limits || has_room(v, unclaimed());
	r = snapshot_create(tree_pool, &name, 1, why, sizeof(why));
	s->there = too_many_snapshots(1) ? !refused(r, true, -EDQUOT) : !refused(r, !room, -ENOSPC);
}

static void make_group(void)
{
	struct snapshot_name names[2];
	struct tree_node *s[2] = { NULL }, *v[2] = { some_volume(), some_volume() };
	bool room = true;
	int r;

	if (!v[0] || v[0] == v[1])
		return;
	for (unsigned i = 0; i < 2; i++) {
		s[i] = free_one(tree.snapshots, TREE_SNAPSHOTS);
		if (!s[i])
			break;
		prepare(s[i], v[i], &names[i]);
		s[i]->there = true;
	}
	for (unsigned i = 0; i < 2; i++)
		if (s[i])
			s[i]->there = false;
	if (!s[1])
		return;
	tree_before_administration();
	if (tree_opts.limits) {
		struct tree_sums a, b;

		tree_expect(&a, v[0]);
		tree_expect(&b, v[1]);
		room = (v[0]->reserved ? a.own_data : 0) + (v[1]->reserved ? b.own_data : 0) <= unclaimed();
	}
	r = snapshot_create(tree_pool, names, 2, why, sizeof(why));
	s[0]->there = s[1]->there = too_many_snapshots(2) ? !refused(r, true, -EDQUOT) : !refused(r, !room, -ENOSPC);
}

static void make_clone(void)
{
	struct tree_node *c = free_one(tree.volumes, TREE_VOLUMES), *s = tree_pick(2) ? some_snapshot() : some_volume();
	struct clone_options opts = { .thin = tree_pick(2) };
	struct snapshot_name from;
	int64_t blocks, inodes, size;
	char name[16];
	int r;

	if (!c || !s)
		return;
	tree_visible(s, &blocks, &inodes);
	opts.size_bytes = tree_opts.limits && !tree_pick(3) ? (uint64_t)(blocks - 5 + tree_pick(100)) * BLOCK : 0;
	opts.size_bytes = opts.size_bytes > INT64_MAX ? BLOCK : opts.size_bytes;
	size = opts.size_bytes ? (int64_t)(opts.size_bytes / BLOCK) : (int64_t)s->size_blocks;
	from = name_of(s);
	sprintf(name, "c%u", tree.names++);
	tree_before_administration();
	r = snapshot_clone(tree_pool, &from, name, &opts, why, sizeof(why));
	if (blocks > size) {
		refused(r, true, -ENOSPC);
		return;
	}
	if (r == -ENOSPC && tree_opts.limits)
		return; /* claims */
	ck_assert_msg(!r, "seed %ld: %d: %s", tree_opts.seed, r, why);
	*c = *s;
	c->there = true;
	c->sv = NULL;
	c->reserved = opts.thin ? false : c->reserved;
	c->size_blocks = (uint64_t)size;
	strcpy(c->volume, name);
	c->name[0] = 0;
}

static void delete_snapshot(void)
{
	struct tree_node *s = some_snapshot();
	struct snapshot_name name;

	if (!s)
		return;
	name = name_of(s);
	tree_before_administration();
	ck_assert_msg(!snapshot_delete(tree_pool, &name, why, sizeof(why)), "%s", why);
	s->there = false;
}

static void delete_volume(void)
{
	struct tree_node *v = some_volume();

	if (!v)
		return;
	tree_close(v);
	tree_before_administration();
	why[0] = 0;
	ck_assert_msg(!subvol_delete(tree_pool, v->volume, why, sizeof(why)), "%s", why);
	v->there = false;
}

static void roll_back(void)
{
	struct tree_node *s = some_snapshot(), *v = s ? volume_of(s) : NULL;
	struct snapshot_name name;
	int64_t blocks, inodes;
	bool room;
	int r;

	if (!v)
		return;
	tree_close(v);
	tree_before_administration();
	name = name_of(s);
	tree_visible(s, &blocks, &inodes);
	room = !tree_opts.limits || has_room(v, unclaimed());
	r = snapshot_rollback(tree_pool, &name, why, sizeof(why));
	if (refused(r, !room || blocks > (int64_t)v->size_blocks || inodes > (int64_t)v->inodes_max, -ENOSPC))
		return;
	memcpy(v->files, s->files, sizeof(s->files));
	v->root_rec = s->root_rec;
	v->dir_rec = s->dir_rec;
}

void tree_change(enum tree_change what)
{
	static void (*const changes[])(void) = { make_snapshot, make_group, make_clone, roll_back, delete_snapshot, delete_volume };

	changes[what]();
}

/* ---- Limits ---- */

static void resize(void)
{
	struct tree_node *v = some_volume();
	int64_t blocks, inodes, size;
	int r;

	if (!v)
		return;
	tree_visible(v, &blocks, &inodes);
	size = tree_pick(4) ? blocks - 3 + tree_pick(60) : 4096;
	if (size <= 0)
		return;
	tree_before_administration();
	if (v->sv)
		tree_sync();
	r = subvol_resize(tree_pool, v->volume, (uint64_t)size * BLOCK, 0, why, sizeof(why));
	if (size < blocks) {
		ck_assert_msg(r, "seed %ld: resized below what is used", tree_opts.seed);
		return;
	}
	if (r == -ENOSPC && size > (int64_t)v->size_blocks)
		return; /* claims */
	ck_assert_msg(!r, "seed %ld: %d: %s", tree_opts.seed, r, why);
	v->size_blocks = (uint64_t)size;
}

static void limit_tenant(void)
{
	struct tenant_settings set = { 0 };
	struct tree_sums e;

	tree_expect(&e, NULL);
	set.limits.used_blocks = tree_pick(2) ? (uint64_t)e.blocks + tree_pick(60) : 0;
	set.limits.snapshots = tree_pick(3) ? 0 : 1 + tree_pick(TREE_SNAPSHOTS);
	tree_before_administration();
	ck_assert_msg(!tenant_set(tree_pool, "default", &set, TENANT_USED | TENANT_SNAPSHOTS, why, sizeof(why)), "%s", why);
	tree.tenant_blocks = set.limits.used_blocks;
	tree.limit_snapshots = (unsigned)set.limits.snapshots;
}

void tree_step(void)
{
	static const uint8_t kinds[] = { TREE_SNAPSHOT, TREE_SNAPSHOT, TREE_SNAPSHOT, TREE_GROUP, TREE_CLONE, TREE_CLONE,
					 TREE_ROLLBACK, TREE_DELETE_SNAPSHOT, TREE_DELETE_SNAPSHOT, TREE_DELETE_SNAPSHOT };
	const unsigned what = tree_pick(60);
	struct tree_node *v;

	if (what < sizeof(kinds)) {
		tree_change(kinds[what]);
	} else if (what == 10) {
		if (count(tree.volumes, TREE_VOLUMES) > 1)
			tree_change(TREE_DELETE_VOLUME);
	} else if (what < 13 && tree_opts.limits) {
		if (what == 11)
			resize();
		else
			limit_tenant();
	} else if (what == 13) {
		v = some_volume();
		if (v)
			tree_close(v);
	} else {
		v = some_volume();
		if (v) {
			tree_open(v);
			for (unsigned i = 0; i < 3; i++)
				tree_change_file(v);
		}
	}
}
