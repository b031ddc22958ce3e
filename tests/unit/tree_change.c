/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that changes the tree of nodes, and chooses the steps. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/tree_internal.h"

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

struct tree_node *tree_some_volume(void)
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

static int64_t below(uint64_t limit, uint64_t has)
{
	return limit ? (int64_t)(limit - has) : INT64_MAX;
}

static int64_t unclaimed(void)
{
	struct tree_sums now;

	tree_sums_now(&now);
	return (int64_t)pool_capacity(tree_pool) - now.loose - now.reserved;
}

/* May the tenant have so many more, of so many blocks. */
static int provision(unsigned tenant, int64_t subvolumes, int64_t blocks)
{
	const struct tree_tenant *t = &tree.tenants[tenant];
	struct tree_belongings has;

	tree_belongings(tenant, &has);
	return tree_passes(LIMIT_SUBVOLUMES, subvolumes, below(t->subvolumes, has.subvolumes)) ||
			       tree_passes(LIMIT_PROVISIONED, blocks, below(t->provisioned, has.provisioned)) ? -EDQUOT : 0;
}

static int64_t promise_room(void)
{
	return (int64_t)(pool_capacity(tree_pool) / 100 * tree.overcommit) - (int64_t)tree_promised();
}

/* May the pool promise so many more. */
static int promise(bool reserved, int64_t blocks)
{
	if (reserved)
		return tree_passes(LIMIT_CLAIM, blocks, unclaimed()) ? -ENOSPC : 0;
	return tree_passes(LIMIT_OVERCOMMIT, blocks, promise_room()) ? -ENOSPC : 0;
}

/* What is then beside a subvolume's claim, of its own; of a thin one, what of it is not any more. */
int64_t tree_held(const struct tree_node *v)
{
	struct tree_born born;

	tree_born(v, &born);
	return v->reserved ? born.data : -born.meta;
}

static int check_held(const struct tree_node *v, int64_t claimed)
{
	const int64_t need = tree_held(v);

	return tree_passes(LIMIT_HELD, need, unclaimed() - claimed) ? -ENOSPC : 0;
}

static int fits(const struct tree_node *s, uint64_t size, uint64_t inodes_max)
{
	int64_t blocks, inodes;

	tree_visible(s, &blocks, &inodes);
	return tree_passes(LIMIT_FITS, blocks, (int64_t)size) || tree_passes(LIMIT_FITS, inodes, (int64_t)inodes_max) ? -ENOSPC : 0;
}

/* Whether it was refused, as it had to be or not. */
static bool refused(int r, int want, const char *what)
{
	TREE_ASSERT(r == want, "%s gave %d, and not %d: %s", what, r, want, r ? tree_why : "");
	return r;
}

int64_t tree_near(int64_t n, unsigned less, unsigned more)
{
	return n - less + tree_pick(less + more + 1);
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

/* May the tenants of those have a snapshot more of each. */
static int check_snapshots(struct tree_node *const *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct tree_belongings has;
		int64_t same = 0;

		for (unsigned j = 0; j < n; j++)
			same += v[j]->tenant == v[i]->tenant;
		tree_belongings(v[i]->tenant, &has);
		if (tree_passes(same > 1 ? LIMIT_GROUP : LIMIT_SNAPSHOTS, same, below(tree.tenants[v[i]->tenant].snapshots, has.snapshots)))
			return -EDQUOT;
	}
	return 0;
}

/* The pool's answer to snapshots of these at one moment. */
static int expect_snapshots(struct tree_node *const *v, unsigned n)
{
	int64_t taken = 0;
	int r = check_snapshots(v, n);

	for (unsigned i = 0; tree_opts.limits && i < n && !r; i++) {
		r = check_held(v[i], taken);
		taken += tree_held(v[i]);
	}
	return r;
}

static void make_snapshot_of(struct tree_node *v)
{
	struct tree_node *s = free_one(tree.snapshots, TREE_SNAPSHOTS);
	struct snapshot_name name;
	int want;

	if (!s || !v)
		return;
	if (tree_pick(2))
		tree_open(v);
	if (tree_pick(3))
		tree_before_administration();
	else
		tree_sync();
	want = expect_snapshots(&v, 1);
	tree_before_administration();
	prepare(s, v, &name);
	s->there = !refused(snapshot_create(tree_pool, &name, 1, tree_why, sizeof(tree_why)), want, "a snapshot");
}

static void make_snapshot(void)
{
	make_snapshot_of(tree_some_volume());
}

/* Another one, if there is one of the same tenant such a one rather. */
static struct tree_node *another(const struct tree_node *v)
{
	struct tree_node *other = tree_some_volume();

	for (unsigned i = 0; i < TREE_VOLUMES && (other == v || (other && other->tenant != v->tenant)); i++)
		other = tree_some_volume();
	return other;
}

static void make_group(void)
{
	struct snapshot_name names[2];
	struct tree_node *s[2] = { NULL }, *v[2] = { tree_some_volume() };
	int want;

	v[1] = tree_pick(2) ? another(v[0]) : tree_some_volume();

	if (!v[0] || v[0] == v[1] || count(tree.snapshots, TREE_SNAPSHOTS) + 2 > TREE_SNAPSHOTS)
		return;
	want = expect_snapshots(v, 2);
	tree_before_administration();
	for (unsigned i = 0; i < 2; i++) {
		s[i] = free_one(tree.snapshots, TREE_SNAPSHOTS);
		prepare(s[i], v[i], &names[i]);
		s[i]->there = true;
	}
	s[0]->there = s[1]->there = !refused(snapshot_create(tree_pool, names, 2, tree_why, sizeof(tree_why)), want, "a group");
}

/* ---- New subvolumes ---- */

/* A size about what may be promised, or any. */
static int64_t some_size(unsigned tenant, bool reserved, int64_t least)
{
	const struct tree_tenant *t = &tree.tenants[tenant];
	struct tree_belongings has;
	int64_t size = least + tree_pick(100);

	if (!tree_opts.limits)
		return 4096;
	tree_belongings(tenant, &has);
	if (t->provisioned && tree_pick(2))
		size = tree_near((int64_t)(t->provisioned - has.provisioned), 1, 1);
	else if (tree_pick(2))
		size = tree_near(reserved ? unclaimed() : promise_room(), 1, 1);
	return size < 1 ? 1 : size;
}

static void make_clone(void)
{
	struct tree_node *c = free_one(tree.volumes, TREE_VOLUMES), *s = tree_pick(2) ? some_snapshot() : tree_some_volume();
	struct clone_options opts = { .thin = tree_pick(2) };
	struct snapshot_name from;
	int64_t blocks, inodes, size;
	bool reserved;
	char name[16];
	int want = 0;

	if (!c || !s)
		return;
	reserved = s->reserved && !opts.thin;
	tree_visible(s, &blocks, &inodes);
	if (tree_opts.limits && tree_pick(3)) {
		size = tree_pick(2) ? some_size(s->tenant, reserved, blocks > 5 ? blocks - 5 : 1) : tree_near(blocks, 1, 1);
		opts.size_bytes = (uint64_t)size * BLOCK;
		opts.inodes_max = !tree_pick(3) ? (uint64_t)tree_near(inodes, 1, 4) : 0;
	}
	size = opts.size_bytes ? (int64_t)(opts.size_bytes / BLOCK) : (int64_t)s->size_blocks;
	if (tree_opts.limits) {
		want = provision(s->tenant, 1, size);
		if (!want)
			want = promise(reserved, size);
		if (!want && !s->name[0])
			want = check_held(s, reserved ? size : 0);
		if (!want)
			want = fits(s, (uint64_t)size, opts.inodes_max ? opts.inodes_max : s->inodes_max);
	}
	from = name_of(s);
	sprintf(name, "c%u", tree.names++);
	tree_before_administration();
	if (refused(snapshot_clone(tree_pool, &from, name, &opts, tree_why, sizeof(tree_why)), want, "a clone"))
		return;
	*c = *s;
	c->there = true;
	c->sv = NULL;
	c->reserved = reserved;
	c->size_blocks = (uint64_t)size;
	c->inodes_max = opts.inodes_max ? opts.inodes_max : c->inodes_max;
	strcpy(c->volume, name);
	c->name[0] = 0;
}

static int64_t inodes_left(unsigned tenant)
{
	struct tree_sums now;

	tree_sums_now(&now);
	return below(tree.tenants[tenant].inodes, (uint64_t)now.inodes[tenant]);
}

/* What a new one is, as a record says. */
static void take_new(struct tree_node *v)
{
	struct subvol_info info;

	ck_assert_int_eq(subvol_info(tree_pool, v->volume, &info), 0);
	v->size_blocks = info.rec.size_blocks;
	v->inodes_max = info.rec.inodes_max;
	v->tree = info.rec.tree;
	v->there = true;
	if (tree_furnish(v))
		return;
	tree_close(v);
	tree_before_administration();
	ck_assert_int_eq(subvol_delete(tree_pool, v->volume, tree_why, sizeof(tree_why)), 0);
	v->there = false;
}

void tree_create_volume(unsigned tenant)
{
	struct tree_node *v = free_one(tree.volumes, TREE_VOLUMES);
	const bool reserved = tree_pick(2);
	const int64_t size = some_size(tenant, reserved, 20);
	const struct subvol_options so = {
		.tenant = tree_tenant_name(tenant),
		.size_bytes = (uint64_t)size * BLOCK,
		.inodes_max = tree_opts.limits && !tree_pick(4) ? 6 + tree_pick(5) : 0,
		.thin = !reserved,
		.compression = tree_opts.packs ? COMPRESSION_LZ4 : COMPRESSION_OFF,
	};
	int want;

	if (!v)
		return;
	tree_follow_soft();
	want = provision(tenant, 1, size);
	if (!want)
		want = promise(reserved, size);
	if (!want && tree_passes(LIMIT_TENANT_INODES, 1, inodes_left(tenant)))
		want = -EDQUOT;
	*v = (struct tree_node){ .reserved = reserved, .tenant = tenant };
	sprintf(v->volume, "v%u", tree.names++);
	tree_before_administration();
	if (!refused(subvol_create(tree_pool, v->volume, &so, tree_why, sizeof(tree_why)), want, "a new subvolume"))
		take_new(v);
}

/* ---- Others ---- */

static void delete_snapshot(void)
{
	struct tree_node *s = some_snapshot();
	struct snapshot_name name;

	if (!s)
		return;
	name = name_of(s);
	tree_before_administration();
	ck_assert_msg(!snapshot_delete(tree_pool, &name, tree_why, sizeof(tree_why)), "%s", tree_why);
	s->there = false;
}

static void delete_volume(void)
{
	struct tree_node *v = tree_some_volume();

	if (!v)
		return;
	tree_close(v);
	tree_before_administration();
	tree_why[0] = 0;
	ck_assert_msg(!subvol_delete(tree_pool, v->volume, tree_why, sizeof(tree_why)), "%s", tree_why);
	v->there = false;
}

static void roll_back(void)
{
	struct tree_node *s = some_snapshot(), *v = s ? volume_of(s) : NULL;
	struct snapshot_name name;
	int want = 0;

	if (!v)
		return;
	tree_close(v);
	name = name_of(s);
	if (tree_opts.limits) {
		want = fits(s, v->size_blocks, v->inodes_max);
		if (!want)
			want = check_held(v, 0);
	}
	tree_before_administration();
	if (refused(snapshot_rollback(tree_pool, &name, tree_why, sizeof(tree_why)), want, "a rollback"))
		return;
	memcpy(v->files, s->files, sizeof(s->files));
	v->root_rec = s->root_rec;
	v->dir_rec = s->dir_rec;
}

/* Larger, smaller, and not below use. */
void tree_change_size(void)
{
	struct tree_node *v = tree_some_volume();
	int64_t blocks, inodes, size, inodes_max, more;
	int r, want = 0;

	if (!v)
		return;
	tree_visible(v, &blocks, &inodes);
	size = tree_pick(8) ? tree_near(blocks, 1, tree_pick(2) ? 1 : 60) : 4096;
	if (!tree_pick(3))
		size = (int64_t)v->size_blocks + some_size(v->tenant, v->reserved, 1);
	inodes_max = !tree_pick(3) ? tree_near(inodes, 1, 4) : tree_pick(3) ? (int64_t)v->inodes_max : 64;
	if (size <= 0 || inodes_max <= 0)
		return;
	more = size - (int64_t)v->size_blocks;
	want = provision(v->tenant, 0, more);
	if (!want && more > 0)
		want = promise(v->reserved, more);
	if (!want && (tree_passes(LIMIT_SHRINK, blocks, size) || tree_passes(LIMIT_SHRINK, inodes, inodes_max)))
		want = -EBUSY;
	tree_before_administration();
	r = subvol_resize(tree_pool, v->volume, (uint64_t)size * BLOCK, (uint64_t)inodes_max, tree_why, sizeof(tree_why));
	if (refused(r, want, "a resize"))
		return;
	v->size_blocks = (uint64_t)size;
	v->inodes_max = (uint64_t)inodes_max;
}

void tree_change(enum tree_change what)
{
	static void (*const changes[])(void) = {
		make_snapshot, make_group, make_clone, roll_back, delete_snapshot, delete_volume, tree_change_limit, tree_change_size,
	};

	changes[what]();
}

/* ---- Steps ---- */

static void change_files(struct tree_node *v, unsigned n)
{
	if (!v)
		return;
	tree_open(v);
	for (unsigned i = 0; i < n; i++)
		tree_change_file(v);
}

/* Of those that a limit is for. */
static bool is_of(const struct tree_node *v, unsigned tenant, bool thin)
{
	return v->there && (tenant == TREE_TENANTS || v->tenant == tenant) && (!thin || !v->reserved);
}

/* After a limit was changed: try what is near it now. */
static void press(unsigned tenant, bool thin)
{
	const unsigned first = tree_pick(TREE_VOLUMES);

	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		struct tree_node *v = &tree.volumes[(first + i) % TREE_VOLUMES];

		if (!is_of(v, tenant, thin))
			continue;
		change_files(v, 4);
		return;
	}
}

static void change_limits(unsigned what)
{
	const unsigned tenant = tree_pick(TREE_TENANTS);
	struct tree_node *v;

	switch (what) {
	case 0:
		tree_change_size();
		press(TREE_TENANTS, false);
		break;
	case 1:
	case 2:
		v = tree_change_ballast();
		if (v)
			make_snapshot_of(v);
		else
			tree_change(tree_pick(TREE_ROLLBACK + 1));
		press(TREE_TENANTS, true);
		break;
	case 3:
		tree_change_overcommit();
		break;
	case 4:
		tree_pass_time();
		press(TREE_TENANTS, false);
		break;
	case 5:
	case 6:
		tree_create_volume(tenant);
		break;
	default:
		tree_limit(tenant);
		if (tree_pick(4))
			press(tenant, false);
		else
			make_group();
	}
}

void tree_step(void)
{
	static const uint8_t kinds[] = { TREE_SNAPSHOT, TREE_SNAPSHOT, TREE_SNAPSHOT, TREE_GROUP, TREE_CLONE, TREE_CLONE,
					 TREE_ROLLBACK, TREE_DELETE_SNAPSHOT, TREE_DELETE_SNAPSHOT, TREE_DELETE_SNAPSHOT };
	const unsigned what = tree_pick(tree_opts.limits ? 45 : 60);
	struct tree_node *v;

	if (what < sizeof(kinds)) {
		tree_change(kinds[what]);
	} else if (what == 10) {
		if (count(tree.volumes, TREE_VOLUMES) > 1)
			tree_change(TREE_DELETE_VOLUME);
	} else if (what < 22 && tree_opts.limits) {
		change_limits(what - 11);
	} else if (what == 22) {
		v = tree_some_volume();
		if (v)
			tree_close(v);
	} else if (what == 23) {
		tree_create_volume(tree_pick(TREE_TENANTS));
	} else {
		change_files(tree_some_volume(), 3);
	}
}
