/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random changes of a small namespace against a model of it. The model's state after each change is kept; at random
 * moments, between any two writes of the device, a power cut is simulated on a copy of the device. The namespace that
 * is found there must be one of those states, not older than the last commit. And workers do such changes until they are
 * killed, at any instruction: the next one goes on from the memory that they leave, with the request that was under way.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/mkfs.h"
#include "meta/namehash.h"
#include "meta/op.h"
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

/* ---- collisions ---- */

static unsigned cookies; /* that all names share; 0: as they are */

uint64_t __real_cookie_of(const uint8_t *key, const void *name, size_t len);
uint64_t __wrap_cookie_of(const uint8_t *key, const void *name, size_t len);

uint64_t __wrap_cookie_of(const uint8_t *key, const void *name, size_t len)
{
	const uint64_t cookie = __real_cookie_of(key, name, len);

	return cookies ? COOKIE_MAX - cookie % cookies : cookie;
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

/* ---- a request that a killed worker may have done ---- */

struct request {
	uint32_t session; /* 0: none */
	uint64_t unique;
};

static struct request under_way;
static void request_begins(void);

static int64_t ask_result(struct op *op, void *arg)
{
	op->session = under_way.session;
	op->unique = under_way.unique;
	return op_replayed(op, arg);
}

/* Whether the change that comes now is the one under way, and was done: *ino is its answer. If not, it is done now. */
static bool was_done(uint64_t *ino)
{
	const bool asked = under_way.session;
	int64_t r = asked ? run_op(&fx, ask_result, ino) : 0;

	ck_assert_int_ge(r, 0);
	under_way.session = 0;
	if (asked && !r)
		request_begins();
	return r;
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
	r = was_done(&attr.ino) ? 0 : fx_create(&fx, dir, name_of(name), type | 0755, &attr);
	ck_assert_int_eq(r, model_find(s, dir, name) ? -EEXIST : 0);
	if (!r)
		model_add(s, dir, name, attr.ino, type);
}

static void change_link(struct state *s)
{
	const uint64_t dir = random_dir(s);
	const unsigned name = random_below(NAMES);
	struct entry *e;
	uint64_t ino;
	int r;

	if (!s->count || s->count == ENTRIES_MAX)
		return;
	e = &s->entries[random_below(s->count)];
	r = was_done(&ino) ? 0 : fx_link(&fx, e->ino, dir, name_of(name));
	ck_assert_int_eq(r, e->type == S_IFDIR ? -EPERM : model_find(s, dir, name) ? -EEXIST : 0);
	if (!r)
		model_add(s, dir, name, e->ino, e->type);
}

static void change_remove(struct state *s)
{
	const bool rmdir = random_below(2);
	struct entry *e;
	uint64_t ino;
	int r, want = 0;

	if (!s->count)
		return;
	e = &s->entries[random_below(s->count)];
	if (rmdir)
		want = e->type != S_IFDIR ? -ENOTDIR : model_empty(s, e->ino) ? 0 : -ENOTEMPTY;
	else if (e->type == S_IFDIR)
		want = -EISDIR;
	r = was_done(&ino) ? 0 : rmdir ? fx_rmdir(&fx, e->dir, name_of(e->name)) : fx_unlink(&fx, e->dir, name_of(e->name));
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
	static const unsigned all_flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT };
	const uint64_t dir = random_dir(s);
	const unsigned name = random_below(NAMES), flags = all_flags[random_below(7)];
	struct entry *e, *to, moved;
	struct inode_attr attr;
	uint64_t ino;
	int r;

	if (!s->count || s->count == ENTRIES_MAX)
		return;
	e = &s->entries[random_below(s->count)];
	to = model_find(s, dir, name);
	r = was_done(&ino) ? 0 : fx_rename(&fx, e->dir, name_of(e->name), dir, name_of(name), flags);
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
	if (!(flags & RENAME_WHITEOUT))
		return;
	ck_assert_int_eq(fx_lookup(&fx, moved.dir, name_of(moved.name), &attr), 0);
	model_add(s, moved.dir, moved.name, attr.ino, S_IFCHR);
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

START_TEST(random_changes_that_collide)
{
	cookies = _i ? 20 : 4;
	run_model(UINT64_C(90125) + (uint64_t)_i, NULL);
}
END_TEST

START_TEST(random_changes_cold)
{
	const struct pool_options opts = { .cache_bytes = 1, .inode_cache = 1 };

	run_model(UINT64_C(424242424242) + (uint64_t)_i, &opts);
}
END_TEST

/* ---- workers that are killed ---- */

#define KILL_FILE "names_kill.img"
#define KILL_MESSAGES "names_kill.log"
#define KILLS 24u

/* What the workers did, in memory that outlives them. */
struct killed {
	_Atomic unsigned current; /* which slot counts, and how many changes began */
	struct {
		struct state s;   /* before the change */
		uint64_t rng;
		struct request request;
	} slots[2];
};

static struct killed *killed;

static void slot_note(const struct state *s, uint64_t seed)
{
	const unsigned next = killed->current + 1;

	killed->slots[next & 1].s = *s;
	killed->slots[next & 1].rng = seed;
	killed->slots[next & 1].request = (struct request){ fx.session, fx.unique + 1 };
	killed->current = next;
}

static void request_begins(void)
{
	const unsigned at = killed->current & 1;

	slot_note(&killed->slots[at].s, killed->slots[at].rng);
}

/* Values that the model does not have, of any size; doing this again changes nothing. */
static void change_content(struct state *s)
{
	static uint8_t bytes[60000];
	static const size_t sizes[] = { 1, 10, 500, 2000, 3000, 9000, 20000, 60000 };
	const size_t size = sizes[random_below(random_below(8) + 1)];
	const struct entry *e;
	int64_t r;

	if (!s->count)
		return;
	e = &s->entries[random_below(s->count)];
	if (e->type == S_IFREG && random_below(2)) {
		r = fx_write(&fx, e->ino, random_below(3) * 4096, bytes, size, 0);
		ck_assert_int_eq(r, (int64_t)size);
		if (random_below(2))
			ck_assert_int_eq(fx_fsync(&fx, e->ino), 0);
		return;
	}
	r = fx_setxattr(&fx, e->ino, "user.x", bytes, size, 0);
	ck_assert_int_eq(r, 0);
}

static void change_more(struct state *s)
{
	if (random_below(8))
		change(s);
	else
		change_content(s);
	sort(s);
}

static void kill_pool_make(struct device *dev)
{
	const struct pool_create_options po = { .name = "test" };
	const struct subvol_options so = { .size_bytes = 64 * MIB, .inodes_max = 4096 };
	struct reactor *reactor;
	struct pool_options opts = { .reactors = 1, .reactor = &reactor };
	struct pool *pool;

	ck_assert_int_eq(reactor_create(NULL, &reactor), 0);
	ck_assert_int_eq(pool_create(&dev, 1, &po, NULL, 0), 0);
	ck_assert_int_eq(pool_open(&dev, 1, &opts, &pool), 0);
	ck_assert_int_eq(subvol_create(pool, "sv", &so, NULL, 0), 0);
	ck_assert_int_eq(pool_close(pool), 0);
	device_detach(reactor, dev);
	reactor_destroy(reactor);
}

/* For whoever looks for the reason. */
static void show_state(const char *which, const struct state *s, const struct state *other)
{
	for (unsigned i = 0; i < s->count; i++) {
		const struct entry *e = &s->entries[i];
		bool there = false;

		for (unsigned k = 0; k < other->count; k++)
			there = there || !memcmp(e, &other->entries[k], sizeof(*e));
		if (!there)
			fprintf(stderr, "%s: inode %llu, name-%u in %llu, type %o\n", which, (unsigned long long)e->ino, e->name,
				(unsigned long long)e->dir, e->type);
	}
}

static void show_difference(unsigned round, const struct state *s, const struct state *found)
{
	const unsigned at = killed->current;
	static struct state again;

	fprintf(stderr, "round %u, slot %u, request %u/%llu\n", round, at, killed->slots[at & 1].request.session,
		(unsigned long long)killed->slots[at & 1].request.unique);
	show_state("before", &killed->slots[at & 1].s, s);
	show_state("answered", s, found);
	show_state("found", found, s);
	walk_tree(&fx, &again);
	sort(&again);
	fprintf(stderr, "read once more: %s\n", same(&again, s) ? "all is there" : "not as answered either");
}

/* What the one before did is all there, and its last request is done once; then more, until it is killed. */
static void kill_worker(struct pool_area area, unsigned round)
{
	const struct pool_options opts = { .area = area, .commit_ms = round % 3 ? 100000 : 20 };
	static struct state s, found;
	struct device *dev;

	ck_assert_int_eq(device_open(KILL_FILE, 0, &dev), 0);
	ck_assert_int_eq(device_lock(dev, true), 0);
	if (!round)
		kill_pool_make(dev);
	fixture_attach(&fx, dev, &opts);
	s = killed->slots[killed->current & 1].s;
	rng = killed->slots[killed->current & 1].rng;
	under_way = killed->slots[killed->current & 1].request;
	change_more(&s);
	under_way.session = 0;
	walk_tree(&fx, &found);
	sort(&found);
	if (!same(&found, &s))
		show_difference(round, &s, &found);
	ck_assert_msg(same(&found, &s), "round %u: the names are not those that were answered", round);
	slot_note(&s, rng);
	if (round % 4 == 1 || round == KILLS) {
		ck_assert_int_eq(fx_fsync(&fx, INO_ROOT), 0);
		check_sums(&fx, &s);
	}
	while (round < KILLS) {
		slot_note(&s, rng);
		change_more(&s);
		if (random_below(200) == 0)
			ck_assert_int_eq(fx_fsync(&fx, INO_ROOT), 0);
	}
	fixture_end(&fx);
}

static void show_messages(void)
{
	FILE *f = fopen(KILL_MESSAGES, "r");
	int c;

	while (f && (c = getc(f)) != EOF)
		if (isprint(c))
			putc(c, stderr);
	if (f)
		fclose(f);
	putc('\n', stderr);
}

/* In processes of their own: RocksDB's threads do not survive a fork. */
static int kill_round(struct pool_area area, unsigned round, unsigned us)
{
	const unsigned before = killed->current;
	const pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (!pid) {
		fixture_forked(KILL_MESSAGES);
		kill_worker(area, round);
		_exit(0);
	}
	if (round < KILLS) {
		/* On a busy machine a worker may not get past its start in that time: every fourth has a while of its own first. */
		while (round % 4 == 0 && killed->current - before < 200 && !waitpid(pid, &status, WNOHANG))
			usleep(1000);
		usleep(us);
		kill(pid, SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (!WIFSIGNALED(status) && WEXITSTATUS(status))
		show_messages();
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

START_TEST(killed_workers)
{
	const struct pool_options opts = { 0 };
	struct pool_area area = { .len_bytes = pool_area_size(&opts) };
	/* NVFS_TEST_SEED makes it another run. */
	uint64_t seed = UINT64_C(977) + (uint64_t)_i * 31337 + strtoull(getenv("NVFS_TEST_SEED") ?: "0", NULL, 0) * 7907;

	area.base = mmap(NULL, area.len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	killed = mmap(NULL, sizeof(*killed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert(area.base != MAP_FAILED && killed != MAP_FAILED);
	unlink(KILL_FILE);
	ck_assert_int_eq(device_create_file(KILL_FILE, 256 * MIB), 0);
	killed->slots[0].rng = seed;
	for (unsigned round = 0; round < KILLS; round++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		ck_assert_int_eq(kill_round(area, round, (unsigned)(seed >> 33) % 300000), -SIGKILL);
	}
	ck_assert_int_eq(kill_round(area, KILLS, 0), 0);
	ck_assert_uint_gt(killed->current, 1000);
	munmap(killed, sizeof(*killed));
	munmap(area.base, area.len_bytes);
	unlink(KILL_FILE);
	unlink(KILL_MESSAGES);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("names_model");
	TCase *tcase = tcase_create("names_model"), *kills = tcase_create("killed_workers");

	tcase_set_timeout(tcase, 300);
	tcase_set_timeout(kills, 300);
	tcase_add_loop_test(tcase, random_changes, 0, 3);
	tcase_add_loop_test(tcase, random_changes_cold, 0, 2);
	tcase_add_loop_test(tcase, random_changes_that_collide, 0, 2);
	tcase_add_loop_test(kills, killed_workers, 0, 3);
	suite_add_tcase(suite, tcase);
	suite_add_tcase(suite, kills);
	return unit_run_suite(suite);
}
