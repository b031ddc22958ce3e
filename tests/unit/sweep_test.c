/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trees of snapshots and clones, made, written and deleted in any order, against a model: contents of every node, what the tenant is charged, and
 * what the pool has free when all is deleted.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/snapshot.h"
#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/tenant.h"
#include "meta/usage.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK NVFS_BLOCK_SIZE
#define ROOT INO_ROOT

#define FILES 6u
#define BLOCKS 150u /* of a file: two chunks and a part */
#define VOLUMES 6u
#define SNAPSHOTS 12u

static struct meta_fixture fx;
static char why[1024];
static uint8_t buf[BLOCKS * BLOCK];
static unsigned short seed[3];

/* A file: what each of its blocks holds. Zero: a hole. */
struct model_file {
	bool there;
	unsigned blocks;
	uint32_t content[BLOCKS];
	uint32_t mode;
};

struct model_node {
	bool there;
	char volume[16], name[16]; /* name: of a snapshot */
	struct model_file files[FILES];
};

static struct model_node volumes[VOLUMES], snapshots[SNAPSHOTS];
static int current; /* volume that is open, or -1 */
static unsigned names;

static unsigned pick(unsigned n)
{
	return (unsigned)(nrand48(seed) % n);
}

/* ---- Waiting for the sweep: the reactor may be asked to help ---- */

static void settled(void)
{
	for (unsigned i = 0; i < 20000; i++) {
		for (unsigned k = 0; k < 20; k++)
			reactor_run_once(fx.reactor, 200000);
		if (!subvol_sweeps_left(fx.pool))
			return;
	}
	ck_abort_msg("the sweep does not end");
}

static void close_current(void)
{
	if (!fx.sv)
		return;
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	fx.sv = NULL;
	current = -1;
}

static void use(int i)
{
	if (current == i)
		return;
	close_current();
	ck_assert_int_eq(subvol_open(fx.pool, volumes[i].volume, false, &fx.sv), 0);
	current = i;
}

/* ---- Contents ---- */

static void fill(uint8_t *block, uint32_t content)
{
	uint32_t *words = (uint32_t *)block;

	for (unsigned i = 0; i < BLOCK / 4; i++)
		words[i] = content ? content * 2654435761u + i : 0;
}

static void file_name(char *out, unsigned f)
{
	sprintf(out, "f%u", f);
}

static void compare_file(const struct model_file *m, unsigned f, const char *where)
{
	struct inode_attr attr;
	uint8_t block[BLOCK];
	char name[16];
	int r;

	file_name(name, f);
	r = fx_lookup(&fx, ROOT, name, &attr);
	ck_assert_msg(r == (m->there ? 0 : -ENOENT), "%s: %s: %d", where, name, r);
	if (r)
		return;
	ck_assert_msg(attr.size_bytes == m->blocks * BLOCK, "%s: %s has %lu bytes", where, name, (unsigned long)attr.size_bytes);
	ck_assert_uint_eq(attr.mode & 07777, m->mode);
	ck_assert_int_eq(fx_read(&fx, attr.ino, 0, buf, sizeof(buf), 0), m->blocks * BLOCK);
	for (unsigned b = 0; b < m->blocks; b++) {
		fill(block, m->content[b]);
		ck_assert_msg(!memcmp(block, buf + b * BLOCK, BLOCK), "%s: %s: block %u", where, name, b);
	}
}

static void compare(const struct model_node *n)
{
	char where[64];

	snprintf(where, sizeof(where), "%s@%s", n->volume, n->name);
	for (unsigned f = 0; f < FILES; f++)
		compare_file(&n->files[f], f, where);
}

static int no_usage(void *arg, const struct usage *usage)
{
	(void)arg, (void)usage;
	return 0;
}

/* Blocks that are held, and seen in some subvolume or snapshot. */
static uint64_t held(void)
{
	struct usage_total total;

	settled();
	ck_assert_msg(!usage_count(fx.pool, NULL, NULL, no_usage, NULL, &total, why, sizeof(why)), "%s", why);
	ck_assert_msg(!total.leaving, "%lu blocks are held by nobody", (unsigned long)total.leaving);
	return total.held;
}

/* What was written over is given back once the sweep has looked for it. */
static void look_again(void)
{
	close_current();
	sweeper_look_again(fx.pool->sweeper);
	settled();
}

static void compare_all(void)
{
	look_again();
	held();
	for (unsigned i = 0; i < VOLUMES; i++) {
		if (!volumes[i].there)
			continue;
		use((int)i);
		compare(&volumes[i]);
	}
	close_current();
	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		char path[64];

		if (!snapshots[i].there)
			continue;
		snprintf(path, sizeof(path), "%s@%s", snapshots[i].volume, snapshots[i].name);
		ck_assert_int_eq(subvol_open(fx.pool, path, true, &fx.sv), 0);
		compare(&snapshots[i]);
		close_current();
	}
}

/* ---- Steps ---- */

static void write_some(struct model_file *m, uint64_t ino)
{
	const unsigned at = pick(BLOCKS), n = 1 + pick(pick(4) ? 8 : BLOCKS), end = at + n < BLOCKS ? at + n : BLOCKS;
	const unsigned flags = pick(3) ? 0 : DATA_DIRECT;

	for (unsigned b = at; b < end; b++) {
		m->content[b] = 1 + pick(1u << 30);
		fill(buf + (b - at) * BLOCK, m->content[b]);
	}
	ck_assert_int_eq(fx_write(&fx, ino, at * BLOCK, buf, (end - at) * BLOCK, flags), (end - at) * BLOCK);
	for (unsigned b = m->blocks; b < at; b++)
		m->content[b] = 0;
	if (m->blocks < end)
		m->blocks = end;
}

static int64_t punch(struct op *op, void *arg)
{
	const uint64_t *a = arg;

	return data_fallocate(op, a[0], 1 | 2, a[1], a[2]); /* keep size, punch */
}

static void clear_some(struct model_file *m, uint64_t ino)
{
	const unsigned at = pick(BLOCKS), end = at + 1 + pick(BLOCKS - at);
	uint64_t args[3] = { ino, at * BLOCK, (uint64_t)(end - at) * BLOCK };

	ck_assert_int_eq(run_op(&fx, punch, args), 0);
	for (unsigned b = at; b < end; b++)
		m->content[b] = 0;
}

static void cut_off(struct model_file *m, uint64_t ino)
{
	struct inode_attr attr = { .size_bytes = pick(m->blocks + 1) * BLOCK };

	ck_assert_int_eq(fx_setattr(&fx, ino, ATTR_SIZE, &attr, &attr), 0);
	m->blocks = (unsigned)(attr.size_bytes / BLOCK);
}

static int64_t copy(struct op *op, void *arg)
{
	const uint64_t *a = arg;

	return data_copy_range(op, a[0], a[1], a[2], a[3], a[4]);
}

static void copy_some(struct model_node *n, unsigned f, uint64_t ino)
{
	const unsigned other = pick(FILES);
	struct model_file *from = &n->files[other], *to = &n->files[f];
	struct inode_attr attr;
	unsigned at, count;
	char name[16];
	int64_t r;

	if (!from->there || other == f || from->blocks < 2)
		return;
	file_name(name, other);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	at = pick(from->blocks - 1);
	count = 1 + pick(from->blocks - at - 1);
	uint64_t args[5] = { attr.ino, at * BLOCK, ino, at * BLOCK, count * BLOCK };

	r = run_op(&fx, copy, args);
	if (r == -EOPNOTSUPP)
		return;
	ck_assert_int_ge(r, 0);
	count = (unsigned)(r / BLOCK);
	for (unsigned b = to->blocks; b < at; b++)
		to->content[b] = 0;
	memcpy(to->content + at, from->content + at, count * sizeof(*to->content));
	if (to->blocks < at + count)
		to->blocks = at + count;
}

static void change_file(struct model_node *n)
{
	const unsigned f = pick(FILES);
	struct model_file *m = &n->files[f];
	struct inode_attr attr;
	char name[16];

	file_name(name, f);
	if (!m->there) {
		ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0600, &attr), 0);
		*m = (struct model_file){ .there = true, .mode = 0600 };
	}
	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	switch (pick(8)) {
	case 0:
		ck_assert_int_eq(fx_unlink(&fx, ROOT, name), 0);
		m->there = false;
		break;
	case 1:
		cut_off(m, attr.ino);
		break;
	case 2:
		clear_some(m, attr.ino);
		break;
	case 3:
		m->mode = pick(01000);
		attr.mode = m->mode;
		ck_assert_int_eq(fx_setattr(&fx, attr.ino, ATTR_MODE, &attr, &attr), 0);
		break;
	case 4:
		copy_some(n, f, attr.ino);
		break;
	default:
		write_some(m, attr.ino);
	}
}

static int some_volume(void)
{
	const unsigned first = pick(VOLUMES);

	for (unsigned i = 0; i < VOLUMES; i++)
		if (volumes[(first + i) % VOLUMES].there)
			return (int)((first + i) % VOLUMES);
	return -1;
}

static struct model_node *free_one(struct model_node *v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!v[i].there)
			return &v[i];
	return NULL;
}

static struct model_node *some_snapshot(void)
{
	const unsigned first = pick(SNAPSHOTS);

	for (unsigned i = 0; i < SNAPSHOTS; i++)
		if (snapshots[(first + i) % SNAPSHOTS].there)
			return &snapshots[(first + i) % SNAPSHOTS];
	return NULL;
}

static void make_snapshot(void)
{
	struct model_node *s = free_one(snapshots, SNAPSHOTS);
	const int v = some_volume();
	struct snapshot_name name;

	if (!s || v < 0)
		return;
	*s = volumes[v];
	sprintf(s->name, "s%u", names++);
	name = (struct snapshot_name){ s->volume, s->name };
	settled();
	if (pick(2))
		use(v);
	ck_assert_msg(!snapshot_create(fx.pool, &name, 1, why, sizeof(why)), "%s", why);
}

static void make_clone(void)
{
	struct model_node *c = free_one(volumes, VOLUMES), *s = pick(2) ? some_snapshot() : NULL;
	const struct clone_options opts = { .thin = pick(2) };
	const int v = some_volume();
	struct snapshot_name from;
	char name[16];

	if (!c || (!s && v < 0))
		return;
	from = s ? (struct snapshot_name){ s->volume, s->name } : (struct snapshot_name){ volumes[v].volume, NULL };
	sprintf(name, "c%u", names++);
	settled();
	ck_assert_msg(!snapshot_clone(fx.pool, &from, name, &opts, why, sizeof(why)), "%s", why);
	*c = s ? *s : volumes[v];
	strcpy(c->volume, name);
	c->name[0] = 0;
	c->there = true;
}

static void delete_snapshot(void)
{
	struct model_node *s = some_snapshot();
	struct snapshot_name name;

	if (!s)
		return;
	name = (struct snapshot_name){ s->volume, s->name };
	settled();
	ck_assert_msg(!snapshot_delete(fx.pool, &name, why, sizeof(why)), "%s", why);
	s->there = false;
}

static void delete_volume(void)
{
	const int v = some_volume();

	if (v < 0)
		return;
	settled();
	if (v == current)
		close_current();
	ck_assert_msg(!subvol_delete(fx.pool, volumes[v].volume, why, sizeof(why)), "%s", why);
	volumes[v].there = false;
}

static void go_back(void)
{
	struct model_node *s = some_snapshot();
	struct snapshot_name name;

	if (!s)
		return;
	name = (struct snapshot_name){ s->volume, s->name };
	for (unsigned i = 0; i < VOLUMES; i++) {
		if (!volumes[i].there || strcmp(volumes[i].volume, s->volume))
			continue;
		settled();
		close_current();
		ck_assert_msg(!snapshot_rollback(fx.pool, &name, why, sizeof(why)), "%s", why);
		memcpy(volumes[i].files, s->files, sizeof(s->files));
	}
}

static void step(void)
{
	const unsigned what = pick(40);
	int v;

	if (what < 3) {
		make_snapshot();
	} else if (what < 5) {
		make_clone();
	} else if (what < 8) {
		delete_snapshot();
	} else if (what < 9) {
		go_back();
	} else if (what < 10 && pick(2)) {
		delete_volume();
	} else {
		v = pick(4) && current >= 0 ? current : some_volume();
		if (v < 0)
			return;
		if (v != current)
			settled();
		use(v);
		change_file(&volumes[v]);
	}
}

/* ---- The tenant's sum, from the counters ---- */

static void compare_tenant(void)
{
	struct pool_tenant *t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	int64_t blocks, inodes, loose, reserved;

	settled();
	close_current();
	pool_commit_wait(fx.pool);
	blocks = atomic_load(&t->used_blocks);
	inodes = atomic_load(&t->used_inodes);
	loose = atomic_load(&fx.pool->loose_blocks);
	reserved = (int64_t)atomic_load(&fx.pool->reserved_blocks);
	ck_assert_int_eq(pool_close(fx.pool), 0);
	fixture_check(fx.dev);
	ck_assert_int_eq(pool_open(&fx.dev, 1, &fx.options, &fx.pool), 0);
	t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	ck_assert_int_eq(atomic_load(&t->used_blocks), blocks);
	ck_assert_int_eq(atomic_load(&t->used_inodes), inodes);
	ck_assert_int_eq(atomic_load(&fx.pool->loose_blocks), loose);
	ck_assert_int_eq((int64_t)atomic_load(&fx.pool->reserved_blocks), reserved);
}

/* Everything is deleted: nothing is held, nothing is charged. */
static void delete_all(void)
{
	struct pool_stats stats;
	struct pool_tenant *t;

	close_current();
	for (;;) {
		const bool any = some_snapshot() || some_volume() >= 0;

		if (!any)
			break;
		if (pick(2))
			delete_snapshot();
		else
			delete_volume();
	}
	settled();
	pool_commit_wait(fx.pool);
	pool_commit_wait(fx.pool);
	pool_stats(fx.pool, &stats);
	t = tenant_find(fx.pool, NVFS_TENANT_DEFAULT);
	ck_assert_uint_eq(stats.subvolumes, 0);
	ck_assert_int_eq(atomic_load(&t->used_blocks), 0);
	ck_assert_int_eq(atomic_load(&t->used_inodes), 0);
	ck_assert_int_eq(atomic_load(&fx.pool->loose_blocks), 0);
	ck_assert_uint_eq(stats.free_blocks, stats.data_blocks);
}

static void begin(long number)
{
	const struct subvol_options opts = { .size_bytes = 16 * MIB };

	printf("seed %ld\n", number);
	memcpy(seed, &number, sizeof(seed));
	memset(volumes, 0, sizeof(volumes));
	memset(snapshots, 0, sizeof(snapshots));
	fixture_make(&fx, 512 * MIB, 16 * MIB, NULL);
	close_current();
	ck_assert_int_eq(subvol_create(fx.pool, "v", &opts, why, sizeof(why)), 0);
	ck_assert_int_eq(subvol_delete(fx.pool, "sv", why, sizeof(why)), 0);
	volumes[0] = (struct model_node){ .there = true, .volume = "v" };
	current = -1;
}

/* ---- Nodes without names, below one another ---- */

#define DEEP 100u /* blocks of the file */

static void write_deep(int v, unsigned from, unsigned blocks)
{
	struct inode_attr attr;

	use(v);
	if (fx_lookup(&fx, ROOT, "f0", &attr))
		ck_assert_int_eq(fx_create(&fx, ROOT, "f0", S_IFREG | 0600, &attr), 0);
	volumes[v].files[0] = (struct model_file){ .there = true, .blocks = DEEP, .mode = 0600 };
	for (unsigned b = 0; b < blocks; b++)
		fill(buf + b * BLOCK, 1 + pick(1u << 30));
	ck_assert_int_eq(fx_write(&fx, attr.ino, from * BLOCK, buf, blocks * BLOCK, 0), blocks * BLOCK);
	close_current();
}

static void clone_deep(const char *of, int to)
{
	const struct clone_options opts = { .thin = true };
	const struct snapshot_name from = { of, NULL };

	volumes[to].there = true;
	sprintf(volumes[to].volume, "c%d", to);
	ck_assert_msg(!snapshot_clone(fx.pool, &from, volumes[to].volume, &opts, why, sizeof(why)), "%s", why);
}

/* Three nodes without names, each below the one before; c1, c2 and c3 are their other children, v the last one's. */
static void make_deep(void)
{
	begin(7);
	write_deep(0, 0, DEEP);
	clone_deep("v", 1);
	clone_deep("v", 2);
	clone_deep("v", 3);
	ck_assert_uint_eq(held(), DEEP);
}

static void end_deep(void)
{
	look_again();
	held();
	delete_all();
	fixture_end(&fx);
}

/* What nobody sees goes when the sweep looks again; what one still inherits stays, to the block. */
START_TEST(deep_nodes_keep_what_is_inherited)
{
	make_deep();
	for (int v = 0; v < 3; v++)
		write_deep(v, 0, DEEP);
	look_again();
	ck_assert_uint_eq(held(), 4 * DEEP); /* c3 sees all of it */
	write_deep(3, 10, 30);
	look_again();
	ck_assert_uint_eq(held(), 3 * DEEP + 30 + (DEEP - 30));
	write_deep(3, 0, 10);
	write_deep(3, 40, 60);
	look_again();
	ck_assert_uint_eq(held(), 4 * DEEP);
	end_deep();
}
END_TEST

/* A node that is deleted was the last that saw through the one above it: that is known further up at once. */
START_TEST(deep_nodes_hear_of_deletions)
{
	make_deep();
	for (int v = 0; v < 3; v++)
		write_deep(v, 0, DEEP);
	look_again();
	ck_assert_uint_eq(held(), 4 * DEEP);
	ck_assert_int_eq(subvol_delete(fx.pool, volumes[3].volume, why, sizeof(why)), 0);
	volumes[3].there = false;
	ck_assert_uint_eq(held(), 3 * DEEP);
	end_deep();
}
END_TEST

/* Who removed the file hides it as well as who wrote over it. */
START_TEST(deep_nodes_follow_removals)
{
	make_deep();
	for (int v = 0; v < 4; v++) {
		if (v % 2) {
			write_deep(v, 0, DEEP);
			continue;
		}
		use(v);
		ck_assert_int_eq(fx_unlink(&fx, ROOT, "f0"), 0);
		volumes[v].files[0].there = false;
		close_current();
	}
	look_again();
	ck_assert_uint_eq(held(), 2 * DEEP);
	end_deep();
}
END_TEST

static void wait_without_reactor(void)
{
	for (unsigned i = 0; i < 10000 && subvol_sweeps_left(fx.pool); i++)
		usleep(1000);
	ck_assert_uint_eq(subvol_sweeps_left(fx.pool), 0);
}

/*
 * A name that a snapshot has, that a node without a name hides, and that both children of that have again. One of them takes it away, which is not
 * in RocksDB yet while the sweep looks.
 */
START_TEST(whiteout_stays_for_who_relies_on_it)
{
	const struct snapshot_name s = { "v", "s" };
	struct inode_attr attr;

	begin(7);
	write_deep(0, 0, 1);
	ck_assert_int_eq(snapshot_create(fx.pool, &s, 1, why, sizeof(why)), 0);
	use(0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "f0"), 0);
	close_current();
	clone_deep("v", 1);
	for (int v = 0; v < 2; v++)
		write_deep(v, 0, 1);
	settled();
	use(0);
	ck_assert_int_eq(fx_setattr(&fx, ROOT, ATTR_MODE, &(struct inode_attr){ .mode = 0700 }, &attr), 0);
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	ck_assert_int_eq(fx_rename(&fx, ROOT, "f0", ROOT, "else", 0), 0);
	sweeper_look_again(fx.pool->sweeper);
	wait_without_reactor();
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "f0", &attr), -ENOENT);
	close_current();
	use(0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "f0", &attr), -ENOENT);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "else", &attr), 0);
	close_current();
	ck_assert_int_eq(snapshot_delete(fx.pool, &s, why, sizeof(why)), 0);
	end_deep();
}
END_TEST

START_TEST(trees_in_any_order)
{
	const char *rounds = getenv("NVFS_TEST_ROUNDS"), *first = getenv("NVFS_TEST_SEED");
	const long from = (first ? atol(first) : 1000) + _i;

	for (long round = 0; round < (rounds ? atol(rounds) : 1); round++) {
		begin(from + round * 4);
		for (unsigned i = 0; i < 400; i++) {
			step();
			if (i % 80 == 79)
				compare_all();
		}
		compare_tenant();
		compare_all();
		delete_all();
		ck_assert_int_eq(pool_close(fx.pool), 0);
		fixture_check(fx.dev);
		ck_assert_int_eq(pool_open(&fx.dev, 1, &fx.options, &fx.pool), 0);
		fixture_end(&fx);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sweep");
	TCase *tcase = tcase_create("sweep");
	int failed;
	SRunner *runner;

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, deep_nodes_keep_what_is_inherited);
	tcase_add_test(tcase, deep_nodes_hear_of_deletions);
	tcase_add_test(tcase, deep_nodes_follow_removals);
	tcase_add_test(tcase, whiteout_stays_for_who_relies_on_it);
	tcase_add_loop_test(tcase, trees_in_any_order, 0, 4);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
