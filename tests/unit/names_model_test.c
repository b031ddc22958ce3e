/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random changes of a small namespace against a model of it. The model's state after each change is kept; at random
 * moments, between any two writes of the device, a power cut is simulated on a copy of the device. The namespace that
 * is found there must be one of those states, not older than the last commit.
 */
#include "config.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define NAMES 12u
#define ENTRIES_MAX 160u
#define CHANGES 4000u
#define CUTS 16u

struct entry {
	uint64_t dir, ino;
	uint32_t name, type;
};

struct state {
	unsigned count;
	struct entry entries[ENTRIES_MAX];
};

static struct meta_fixture fx;
static struct state *history; /* history[i]: after i changes */
static unsigned now;          /* changes done */
static _Atomic unsigned durable, begun;

static uint64_t rng;

static unsigned random_below(unsigned n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (unsigned)(rng >> 11) % n;
}

static const char *name_of(unsigned n)
{
	static char names[4][16];
	static unsigned turn;
	char *name = names[turn++ % 4];

	snprintf(name, 16, "name-%u", n);
	return name;
}

/* ---- the model ---- */

static struct entry *model_find(struct state *s, uint64_t dir, unsigned name)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->entries[i].dir == dir && s->entries[i].name == name)
			return &s->entries[i];
	return NULL;
}

static bool model_empty(const struct state *s, uint64_t dir)
{
	for (unsigned i = 0; i < s->count; i++)
		if (s->entries[i].dir == dir)
			return false;
	return true;
}

static bool model_below(const struct state *s, uint64_t dir, uint64_t top)
{
	while (dir != INO_ROOT && dir != top) {
		const uint64_t child = dir;

		for (unsigned i = 0; i < s->count; i++)
			if (s->entries[i].ino == child)
				dir = s->entries[i].dir;
	}
	return dir == top;
}

static void model_add(struct state *s, uint64_t dir, unsigned name, uint64_t ino, uint32_t type)
{
	s->entries[s->count++] = (struct entry){ dir, ino, name, type };
}

static void model_remove(struct state *s, struct entry *e)
{
	*e = s->entries[--s->count];
}

static int by_place(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->dir != y->dir)
		return x->dir < y->dir ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

static void sort(struct state *s)
{
	qsort(s->entries, s->count, sizeof(s->entries[0]), by_place);
}

static uint64_t random_dir(const struct state *s)
{
	uint64_t dirs[ENTRIES_MAX + 1] = { INO_ROOT };
	unsigned n = 1;

	for (unsigned i = 0; i < s->count; i++)
		if (s->entries[i].type == S_IFDIR)
			dirs[n++] = s->entries[i].ino;
	return dirs[random_below(n)];
}

/* ---- changes: each is done in the model when the answer is 0, and the answer must be what the model says ---- */

static void change_create(struct state *s)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO };
	const uint64_t dir = random_dir(s);
	const unsigned name = random_below(NAMES);
	const uint32_t type = types[random_below(5)];
	struct inode_attr attr;
	int r;

	if (s->count == ENTRIES_MAX)
		return;
	r = fx_create(&fx, dir, name_of(name), type | 0755, &attr);
	ck_assert_int_eq(r, model_find(s, dir, name) ? -EEXIST : 0);
	if (!r)
		model_add(s, dir, name, attr.ino, type);
}

static void change_link(struct state *s)
{
	const uint64_t dir = random_dir(s);
	const unsigned name = random_below(NAMES);
	struct entry *e;
	int r;

	if (!s->count || s->count == ENTRIES_MAX)
		return;
	e = &s->entries[random_below(s->count)];
	r = fx_link(&fx, e->ino, dir, name_of(name));
	ck_assert_int_eq(r, e->type == S_IFDIR ? -EPERM : model_find(s, dir, name) ? -EEXIST : 0);
	if (!r)
		model_add(s, dir, name, e->ino, e->type);
}

static void change_remove(struct state *s)
{
	const bool rmdir = random_below(2);
	struct entry *e;
	int r, want = 0;

	if (!s->count)
		return;
	e = &s->entries[random_below(s->count)];
	if (rmdir)
		want = e->type != S_IFDIR ? -ENOTDIR : model_empty(s, e->ino) ? 0 : -ENOTEMPTY;
	else if (e->type == S_IFDIR)
		want = -EISDIR;
	r = rmdir ? fx_rmdir(&fx, e->dir, name_of(e->name)) : fx_unlink(&fx, e->dir, name_of(e->name));
	ck_assert_int_eq(r, want);
	if (!r)
		model_remove(s, e);
}

static int rename_expected(struct state *s, const struct entry *e, uint64_t dir, const struct entry *to, unsigned flags)
{
	if ((flags & RENAME_EXCHANGE) && !to)
		return -ENOENT;
	if ((flags & RENAME_NOREPLACE) && to)
		return -EEXIST;
	if (to && to->ino == e->ino)
		return 0;
	if (e->type == S_IFDIR && model_below(s, dir, e->ino))
		return -EINVAL;
	if ((flags & RENAME_EXCHANGE) && to->type == S_IFDIR && model_below(s, e->dir, to->ino))
		return -EINVAL;
	if (!to || (flags & RENAME_EXCHANGE))
		return 0;
	if (to->type != S_IFDIR)
		return e->type == S_IFDIR ? -ENOTDIR : 0;
	if (e->type != S_IFDIR)
		return -EISDIR;
	return model_empty(s, to->ino) ? 0 : -ENOTEMPTY;
}

static void change_rename(struct state *s)
{
	static const unsigned all_flags[] = { 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE };
	const uint64_t dir = random_dir(s);
	const unsigned name = random_below(NAMES), flags = all_flags[random_below(4)];
	struct entry *e, *to, moved;
	int r;

	if (!s->count)
		return;
	e = &s->entries[random_below(s->count)];
	to = model_find(s, dir, name);
	r = fx_rename(&fx, e->dir, name_of(e->name), dir, name_of(name), flags);
	ck_assert_int_eq(r, rename_expected(s, e, dir, to, flags));
	if (r || (to && to->ino == e->ino))
		return;
	moved = *e;
	if (flags & RENAME_EXCHANGE) {
		e->ino = to->ino;
		e->type = to->type;
		to->ino = moved.ino;
		to->type = moved.type;
		return;
	}
	e->dir = dir;
	e->name = name;
	if (to)
		model_remove(s, to);
}

/* ---- what is really there ---- */

struct walk {
	struct state *s;
	uint64_t dir;
};

static void walk_reset(void *arg)
{
	struct walk *w = arg;

	/* Entries of this directory that an earlier run of the same op gave. */
	while (w->s->count && w->s->entries[w->s->count - 1].dir == w->dir)
		w->s->count--;
}

static bool walk_emit(void *arg, const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie,
		      const struct inode_attr *attr)
{
	struct walk *w = arg;
	char text[32] = "";

	(void)cookie;
	if (name[0] == '.')
		return true;
	memcpy(text, name, len);
	ck_assert_ptr_nonnull(attr);
	ck_assert_uint_eq(attr->mode & S_IFMT, mode);
	ck_assert_uint_lt(w->s->count, ENTRIES_MAX);
	w->s->entries[w->s->count++] = (struct entry){ w->dir, ino, (uint32_t)atoi(text + 5), mode };
	return true;
}

static void walk_tree(struct meta_fixture *f, struct state *out)
{
	struct walk w = { .s = out, .dir = INO_ROOT };
	const struct names_emit emit = { .reset = walk_reset, .emit = walk_emit, .arg = &w, .attrs = true };

	out->count = 0;
	ck_assert_int_eq(fx_readdir(f, INO_ROOT, 0, &emit), 0);
	for (unsigned i = 0; i < out->count; i++) {
		if (out->entries[i].type != S_IFDIR)
			continue;
		w.dir = out->entries[i].ino;
		ck_assert_int_eq(fx_readdir(f, w.dir, 0, &emit), 0);
	}
}

static bool same(const struct state *a, const struct state *b)
{
	return a->count == b->count && !memcmp(a->entries, b->entries, a->count * sizeof(a->entries[0]));
}

/* Links, and the counters that the subvolume goes by, follow from the names. */
static void check_sums(struct meta_fixture *f, const struct state *s)
{
	struct subvol_stats st;
	struct inode_attr attr;
	uint64_t inodes = 1, blocks;

	ck_assert_int_eq(fx_getattr(f, INO_ROOT, &attr), 0);
	blocks = attr.blocks512 / 8;
	for (unsigned i = 0; i < s->count; i++) {
		unsigned links = 0, first = s->count, below = 0;

		for (unsigned k = s->count; k-- > 0;) {
			if (s->entries[k].ino == s->entries[i].ino) {
				links++;
				first = k;
			}
			below += s->entries[k].dir == s->entries[i].ino && s->entries[k].type == S_IFDIR;
		}
		ck_assert_int_eq(fx_getattr(f, s->entries[i].ino, &attr), 0);
		ck_assert_uint_eq(attr.nlink, s->entries[i].type == S_IFDIR ? 2 + below : links);
		if (first != i)
			continue;
		inodes++;
		blocks += attr.blocks512 / 8;
	}
	fixture_settle(f, 2000);
	subvol_stats(f->sv, &st);
	ck_assert_uint_eq(st.used_inodes, inodes);
	ck_assert_uint_eq(st.used_blocks, blocks);
}

/* ---- power cuts ---- */

struct cut {
	struct device *dev;
	unsigned from, to; /* of the history */
};

static struct cut cuts[CUTS];
static _Atomic unsigned cut_count;
static _Atomic uint64_t cut_at; /* step */

static void at_step(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	(void)op;
	(void)arg;
	if (step < cut_at || cut_count == CUTS)
		return;
	cuts[cut_count].from = durable;
	if (sim_snapshot_cut(dev, step * 7919, &cuts[cut_count].dev))
		return;
	cuts[cut_count].to = begun;
	cut_count++;
	cut_at = step + 4 + step * 7 % 23;
}

static void check_cut(const struct cut *cut)
{
	struct meta_fixture after;
	static struct state found;
	unsigned i;

	fixture_check(cut->dev);
	fixture_attach(&after, cut->dev, NULL);
	walk_tree(&after, &found);
	check_sums(&after, &found);
	sort(&found);
	for (i = cut->from; i <= cut->to && !same(&history[i], &found); i++)
		;
	ck_assert_msg(i <= cut->to, "what is there (%u names) was never so between %u and %u", found.count, cut->from,
		      cut->to);
	/* It goes on from there. */
	ck_assert_int_eq(fx_create(&after, INO_ROOT, "another", S_IFREG, NULL), 0);
	ck_assert_int_eq(fx_fsync(&after, INO_ROOT), 0);
	fixture_end(&after);
}

static void change(struct state *s)
{
	switch (random_below(8)) {
	case 0 ... 2:
		change_create(s);
		break;
	case 3:
		change_link(s);
		break;
	case 4 ... 5:
		change_remove(s);
		break;
	default:
		change_rename(s);
	}
}

static void run_model(uint64_t seed, const struct pool_options *opts)
{
	static struct state s, found;

	rng = seed;
	s.count = 0;
	now = durable = begun = cut_count = 0;
	cut_at = 20;
	history = calloc(CHANGES + 1, sizeof(*history));
	fixture_make(&fx, 128 * MIB, 32 * MIB, opts);
	ck_assert_int_eq(fx_fsync(&fx, INO_ROOT), 0);
	sim_set_step_hook(fx.dev, at_step, NULL);
	while (now < CHANGES) {
		begun = now + 1;
		change(&s);
		sort(&s);
		history[++now] = s;
		if (random_below(12) == 0) {
			ck_assert_int_eq(fx_fsync(&fx, INO_ROOT), 0);
			durable = now;
		}
	}
	sim_set_step_hook(fx.dev, NULL, NULL);
	walk_tree(&fx, &found);
	check_sums(&fx, &found);
	sort(&found);
	ck_assert(same(&found, &s));
	fixture_end(&fx);
	ck_assert_uint_gt(cut_count, CUTS / 2);
	for (unsigned i = 0; i < cut_count; i++)
		check_cut(&cuts[i]);
	free(history);
}

START_TEST(random_changes)
{
	run_model(UINT64_C(88172645463325252) + (uint64_t)_i * 7777777, NULL);
}
END_TEST

START_TEST(random_changes_cold)
{
	const struct pool_options opts = { .cache_bytes = 1, .inode_cache = 1 };

	run_model(UINT64_C(424242424242) + (uint64_t)_i, &opts);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("names_model");
	TCase *tcase = tcase_create("names_model");

	tcase_set_timeout(tcase, 300);
	tcase_add_loop_test(tcase, random_changes, 0, 3);
	tcase_add_loop_test(tcase, random_changes_cold, 0, 2);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
