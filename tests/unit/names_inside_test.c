/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What cannot be seen from outside: collisions of cookies, versions of ancestors, many ops that wait for
 * cold records at the same time, results of replayable requests, and the next worker after a kill.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/mkfs.h"
#include "meta/namehash.h"
#include "meta/subvol_internal.h"
#include "meta/sysrec.h"
#include "meta/version.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define ROOT INO_ROOT

static struct meta_fixture fx;

static void setup(void)
{
	fixture_make(&fx, 128 * MIB, 32 * MIB, NULL);
}

static void teardown(void)
{
	fixture_end(&fx);
}

static void write_one(enum db_cf cf, const uint8_t *key, size_t key_len, const void *value, size_t len)
{
	struct db_batch *batch = db_batch_new();

	if (value)
		db_batch_put(fx.pool->db, batch, cf, key, key_len, value, len);
	else
		db_batch_delete(fx.pool->db, batch, cf, key, key_len);
	ck_assert_int_eq(db_write(fx.pool->db, batch, 0), 0);
	db_batch_free(batch);
	fx.sv->epoch++;
}

/* ---- orphans that cannot be reaped ---- */

static uint64_t make_file(const char *name)
{
	static uint8_t data[600000];
	struct inode_attr attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0600, &attr), 0);
	memset(data, 7, sizeof(data));
	ck_assert_int_eq(fx_write(&fx, attr.ino, 0, data, sizeof(data), 0), sizeof(data));
	return attr.ino;
}

static bool inode_is_there(uint64_t ino)
{
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];

	return !db_get(fx.pool->db, DB_NS, key, key_inode(key, fx.sv->tree, ino, fx.sv->node), 0, &v);
}

static void reopen_subvol(void)
{
	ck_assert_int_eq(subvol_close(fx.sv), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "sv", false, &fx.sv), 0);
}

/* One whose maps cannot be read stays; the others go, and the subvolume can be closed. */
START_TEST(orphan_with_damaged_map)
{
	const uint64_t bad = make_file("bad"), good = make_file("good");
	cleanup_db_value struct db_value v = { 0 };
	uint8_t key[KEY_MAX];
	size_t len;

	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	reopen_subvol();
	len = key_map(key, fx.sv->tree, bad, 1, fx.sv->node);
	ck_assert_int_eq(db_get(fx.pool->db, DB_MAP, key, len, 0, &v), 0);
	write_one(DB_MAP, key, len, "M", 1);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "bad"), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "good"), 0);
	fixture_settle(&fx, 300);
	ck_assert(inode_is_there(bad));
	ck_assert(!inode_is_there(good));
	write_one(DB_MAP, key, len, v.data, v.len);
	reopen_subvol();
	fixture_settle(&fx, 300);
	ck_assert(!inode_is_there(bad));
}
END_TEST

/* The pool takes no more writes while an orphan is being reaped: the subvolume can still be closed. */
START_TEST(orphan_of_failed_pool)
{
	make_file("gone");
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "gone"), 0);
	atomic_store(&fx.pool->failed, -EIO);
	fixture_settle(&fx, 300);
	subvol_close(fx.sv);
	ck_assert_int_eq(pool_close(fx.pool), -EIO);
	ck_assert_int_eq(fixture_open(&fx), 0);
}
END_TEST

/* ---- collisions ---- */

static uint64_t home_of(const char *name)
{
	return cookie_of(fx.pool->label.hash_key, name, strlen(name));
}

/* An entry for another name in a place; ino 0 takes it away. */
static void squat(uint64_t cookie, uint64_t ino)
{
	const struct dirent_rec rec = { .file_type = S_IFREG >> 12, .name_len = 5, .ino = ino, .name = "other" };
	uint8_t key[KEY_MAX], value[DIRENT_REC_MAX];
	const size_t key_len = key_dirent(key, fx.sv->tree, ROOT, cookie, fx.sv->node);

	write_one(DB_NS, key, key_len, ino ? value : NULL, ino ? dirent_rec_encode(&rec, value) : 0);
}

static unsigned count_names(void);

START_TEST(collisions_move_on)
{
	struct inode_attr a, x, attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG, &a), 0);
	squat(home_of("x"), a.ino);
	squat(cookie_add(home_of("x"), 1), a.ino);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "x", NULL), -ENOENT);
	ck_assert_int_eq(fx_create(&fx, ROOT, "x", S_IFREG, &x), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "x", &attr), 0);
	ck_assert_uint_eq(attr.ino, x.ino);
	ck_assert_int_eq(fx_create(&fx, ROOT, "x", S_IFREG, NULL), -EEXIST);
	ck_assert_uint_eq(count_names(), 4);
	/* What was in the way goes: the moved entry is still found, and a new one takes the free place. */
	squat(home_of("x"), 0);
	squat(cookie_add(home_of("x"), 1), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "x", &attr), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "x", S_IFREG, NULL), -EEXIST);
	ck_assert_int_eq(fx_unlink(&fx, ROOT, "x"), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "x", NULL), -ENOENT);
	ck_assert_int_eq(fx_create(&fx, ROOT, "x", S_IFREG, &x), 0);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "x", NULL), 0);
}
END_TEST

/* Places that a lookup found free are noted: whatever puts an entry there makes them forgotten. */
START_TEST(free_places_are_taken)
{
	struct inode_attr a, attr;

	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG, &a), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (const char *name = "bcd"; *name; name++) {
			const char text[] = { *name, 0 };

			ck_assert_int_eq(fx_lookup(&fx, ROOT, text, NULL), -ENOENT);
			ck_assert_int_eq(fx_lookup(&fx, ROOT, text, NULL), -ENOENT);
		}
		ck_assert_int_eq(fx_create(&fx, ROOT, "b", S_IFREG, NULL), 0);
		ck_assert_int_eq(fx_create(&fx, ROOT, "b", S_IFREG, NULL), -EEXIST);
		ck_assert_int_eq(fx_link(&fx, a.ino, ROOT, "c"), 0);
		ck_assert_int_eq(fx_lookup(&fx, ROOT, "c", &attr), 0);
		ck_assert_uint_eq(attr.ino, a.ino);
		ck_assert_int_eq(fx_rename(&fx, ROOT, "b", ROOT, "d", 0), 0);
		ck_assert_int_eq(fx_lookup(&fx, ROOT, "b", NULL), -ENOENT);
		ck_assert_int_eq(fx_create(&fx, ROOT, "d", S_IFREG, NULL), -EEXIST);
		ck_assert_int_eq(fx_unlink(&fx, ROOT, "c"), 0);
		ck_assert_int_eq(fx_unlink(&fx, ROOT, "d"), 0);
	}
}
END_TEST

START_TEST(too_many_collisions)
{
	struct inode_attr a;

	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG, &a), 0);
	for (unsigned i = 0; i <= 255; i++)
		squat(cookie_add(home_of("x"), i), a.ino);
	ck_assert_int_eq(fx_create(&fx, ROOT, "x", S_IFREG, NULL), -ENOSPC);
	for (unsigned i = 0; i <= 255; i++)
		squat(cookie_add(home_of("x"), i), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "x", S_IFREG, NULL), 0);
}
END_TEST

static void count_reset(void *arg)
{
	*(unsigned *)arg = 0;
}

static bool count_emit(void *arg, const char *name, size_t len, uint64_t ino, uint32_t mode, uint64_t cookie,
		       const struct inode_attr *attr)
{
	(void)len;
	(void)ino;
	(void)mode;
	(void)cookie;
	(void)attr;
	*(unsigned *)arg += name[0] != '.';
	return true;
}

static unsigned count_names(void)
{
	unsigned count;
	const struct names_emit emit = { .reset = count_reset, .emit = count_emit, .arg = &count, .attrs = true };

	ck_assert_int_eq(fx_readdir(&fx, ROOT, 0, &emit), 0);
	return count;
}

/* ---- versions ---- */

#define TREE 77u

static void put_version(uint64_t cookie, uint32_t node, const char *text)
{
	uint8_t key[KEY_MAX];

	write_one(DB_NS, key, key_dirent(key, TREE, 5, cookie, node), text, strlen(text));
}

struct got {
	char text[16];
	uint32_t from;
};

static uint64_t wanted;

static int64_t get_version(struct op *op, void *arg)
{
	struct db_value value = { 0 };
	struct got *got = arg;
	uint8_t key[KEY_MAX];
	int r = version_get(op, DB_NS, key, key_dirent(key, TREE, 5, wanted, op->sv->node), &value, &got->from);

	memset(got->text, 0, sizeof(got->text));
	if (!r)
		memcpy(got->text, value.data, value.len);
	db_value_release(&value);
	return r;
}

static const char *version_of(uint64_t cookie)
{
	static struct got got;

	wanted = cookie;
	if (run_op(&fx, get_version, &got) == -ENOENT)
		return "none";
	return got.text;
}

static int add_text(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t len)
{
	char *text = arg;

	ck_assert_uint_eq(key_len, KEY_DIRENT_LEN - 4);
	ck_assert_uint_ne(from, 0);
	(void)key;
	strncat(text, value, len);
	strcat(text, " ");
	return 0;
}

static int64_t each_version(struct op *op, void *arg)
{
	uint8_t prefix[KEY_MAX];

	*(char *)arg = 0;
	return version_each(op, DB_NS, prefix, key_ns_prefix(prefix, TREE, 5, REC_DIRENT), NULL, 0, add_text, arg);
}

static void check_versions(void)
{
	char all[200];

	ck_assert_str_eq(version_of(10), "own");
	ck_assert_str_eq(version_of(11), "old");
	ck_assert_str_eq(version_of(12), "none"); /* of a sibling only */
	ck_assert_str_eq(version_of(13), "mid");
	ck_assert_str_eq(version_of(14), "none"); /* whited out */
	ck_assert_str_eq(version_of(15), "none");
	ck_assert_int_eq(run_op(&fx, each_version, all), 0);
	ck_assert_str_eq(all, "own old mid ");
}

START_TEST(versions)
{
	static uint32_t few[] = { 900, 500, 7 }, many[] = { 900, 880, 870, 860, 850, 840, 830, 820, 810, 500, 9, 7 };
	uint32_t *const ancestors = fx.sv->ancestors, node = fx.sv->node, tree = fx.sv->tree;
	const uint64_t first_ino = fx.sv->first_ino;
	struct db_batch *batch = db_batch_new();
	uint8_t key[KEY_MAX];

	put_version(10, 900, "own");
	put_version(10, 500, "mid");
	put_version(11, 7, "old");
	put_version(11, 600, "sib");
	put_version(12, 600, "sib");
	put_version(13, 500, "mid");
	put_version(13, 7, "old");
	put_version(14, 500, "W");
	put_version(14, 7, "old");
	put_version(14, 901, "kid");
	fx.sv->node = 900;
	fx.sv->tree = TREE;
	fx.sv->first_ino = 6;
	fx.sv->ancestors = few;
	fx.sv->ancestor_count = 3;
	check_versions();
	fx.sv->ancestors = many;
	fx.sv->ancestor_count = 12;
	check_versions();
	/* What an ancestor may have is whited out, what it cannot have is deleted. */
	version_delete(fx.sv, batch, DB_NS, key, key_dirent(key, TREE, 5, 11, 900));
	version_delete(fx.sv, batch, DB_NS, key, key_dirent(key, TREE, 6, 11, 900));
	ck_assert_uint_eq(db_batch_count(batch), 2);
	ck_assert_int_eq(db_write(fx.pool->db, batch, 0), 0);
	fx.sv->epoch++;
	ck_assert_str_eq(version_of(11), "none");
	fx.sv->ancestors = ancestors;
	fx.sv->ancestor_count = 1;
	fx.sv->node = node;
	fx.sv->tree = tree;
	fx.sv->first_ino = first_ino;
	db_batch_clear(batch);
	put_be32(key, TREE);
	ck_assert_int_eq(db_batch_delete_range(fx.pool->db, batch, DB_NS, key, 4, (const uint8_t[]){ 0, 0, 0, TREE + 1 }, 4), 0);
	ck_assert_int_eq(db_write(fx.pool->db, batch, 0), 0);
	db_batch_free(batch);
}
END_TEST

/* ---- a range that is not in memory, where somebody writes all the time ---- */

#define RANGE_INO 5u
#define RANGE_SIZE 2500u

struct walk {
	unsigned seen, runs;
	unsigned enough;  /* records that are wanted; 0: all */
	unsigned dead_at; /* the run after which the device reads nothing any more; 0: none */
};

static int walk_one(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t len)
{
	struct walk *w = arg;

	(void)from;
	ck_assert_uint_eq(len, 300);
	ck_assert_uint_eq(key[key_len - 1], ((const uint8_t *)value)[0]);
	return ++w->seen == w->enough;
}

static void set_reads(uint32_t fail_ppm)
{
	struct sim_faults faults = { .fail_read_ppm = fail_ppm };

	sim_set_faults(fx.dev, &faults);
}

static int64_t walk_range(struct op *op, void *arg)
{
	struct walk *w = arg;
	uint8_t prefix[KEY_MAX];
	int r;

	w->seen = 0;
	r = version_each(op, DB_NS, prefix, key_ns_prefix(prefix, TREE, RANGE_INO, REC_DIRENT), NULL, 0, walk_one, w);
	if (r == META_WAIT)
		fx.sv->epoch++; /* what a worker reads now is old when it is there */
	ck_assert_uint_lt(++w->runs, 100);
	if (w->runs == w->dead_at)
		set_reads(1000000);
	return r;
}

static void range_records(bool there)
{
	for (unsigned i = 1; i <= RANGE_SIZE; i++) {
		uint8_t key[KEY_MAX], value[300];
		size_t len = key_dirent(key, TREE, RANGE_INO, i, fx.sv->node);

		memset(value, (int)(i & 0xff), sizeof(value));
		write_one(DB_NS, key, len, there ? value : NULL, sizeof(value));
	}
}

static void reopen_cold(size_t cache_bytes)
{
	fixture_close(&fx);
	fx.options.cache_bytes = cache_bytes;
	ck_assert_int_eq(fixture_open(&fx), 0);
}

START_TEST(cold_range_beside_writers)
{
	struct walk w = { 0 }, some = { .enough = 700 };

	range_records(true);
	reopen_cold(0);
	ck_assert_int_eq(run_op(&fx, walk_range, &w), 0);
	ck_assert_uint_eq(w.seen, RANGE_SIZE);
	ck_assert_uint_gt(w.runs, 4); /* it was not in memory */
	reopen_cold(0);
	ck_assert_int_eq(run_op(&fx, walk_range, &some), 1);
	ck_assert_uint_eq(some.seen, 700);
	range_records(false);
}
END_TEST

/* What the op needs cannot be read: it says so, however much others write, and has what can be read. */
START_TEST(unreadable_range_beside_writers)
{
	range_records(true);
	for (unsigned dead_at = 1; dead_at <= 4; dead_at++) {
		struct walk all = { .dead_at = dead_at }, some = { .dead_at = dead_at + 1, .enough = dead_at > 1 ? 100 : 0 };

		reopen_cold(0);
		ck_assert_int_eq(run_op(&fx, walk_range, &all), -EIO);
		set_reads(0);
		reopen_cold(0);
		ck_assert_int_eq(run_op(&fx, walk_range, &some), some.enough ? 1 : -EIO);
		set_reads(0);
	}
	range_records(false);
}
END_TEST

/* ---- a crowd ---- */

#define CROWD 48u
#define FILES 1500u

struct member {
	struct op op;
	unsigned turn;
	unsigned done;
	char name[16];
	struct inode_attr attr;
};

static unsigned crowd_left;

static void crowd_run(struct op *op)
{
	struct member *m = (struct member *)op;
	const unsigned n = (m->turn * 7919u + m->done * 104729u) % FILES;
	const struct names_new what = { .mode = S_IFREG | 0600 };
	int r;

	if (m->done % 3 == 2) {
		snprintf(m->name, sizeof(m->name), "m%u-%u", m->turn, m->done);
		r = names_create(op, ROOT, m->name, strlen(m->name), &what, &m->attr);
	} else {
		snprintf(m->name, sizeof(m->name), "f%u", n);
		r = names_lookup(op, ROOT, m->name, strlen(m->name), &m->attr);
	}
	if (r == META_WAIT)
		return;
	ck_assert_int_eq(r, 0);
	op_finish(op);
	if (++m->done == 30) {
		crowd_left--;
		return;
	}
	op_init(op, fx.sv, crowd_run);
	crowd_run(op);
}

START_TEST(crowd_of_cold_readers_and_writers)
{
	static struct member crowd[CROWD];
	char name[16];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG, NULL), 0);
	}
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
	ck_assert_int_eq(db_flush(fx.pool->db), 0);
	fixture_close(&fx);
	fx.options.cache_bytes = 1;
	fx.options.inode_cache = 1;
	ck_assert_int_eq(fixture_open(&fx), 0);
	memset(crowd, 0, sizeof(crowd));
	crowd_left = CROWD;
	for (unsigned i = 0; i < CROWD; i++) {
		crowd[i].turn = i;
		op_init(&crowd[i].op, fx.sv, crowd_run);
		crowd_run(&crowd[i].op);
	}
	while (crowd_left)
		ck_assert_int_ge(reactor_run_once(fx.reactor, REACTOR_NEVER_NS), 0);
	ck_assert_uint_eq(count_names(), FILES + CROWD * 10);
}
END_TEST

/* ---- replays ---- */

static int64_t ask_result(struct op *op, void *arg)
{
	op->unique = *(uint64_t *)arg;
	return op_replayed(op, arg);
}

START_TEST(results)
{
	struct inode_attr a;
	uint64_t unique;

	ck_assert_int_eq(pool_session_new(fx.pool, &fx.session), 0);
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG, &a), 0);
	unique = fx.unique;
	ck_assert_int_eq(run_op(&fx, ask_result, &unique), 1);
	ck_assert_uint_eq(unique, a.ino);
	unique = 999;
	ck_assert_int_eq(run_op(&fx, ask_result, &unique), 0);
	ck_assert_int_eq(pool_session_end(fx.pool, fx.session), 0);
	fx.session = 0;
}
END_TEST

/* ---- the next worker ---- */

#define TAKEOVER_FILE "takeover.img"

struct progress {
	_Atomic unsigned made;
	_Atomic uint64_t known; /* an orphan that the kernel knows */
};

static int make_pool(struct device *dev)
{
	const struct pool_create_options po = { .name = "test" };
	const struct subvol_options so = { .size_bytes = 32 * MIB, .inodes_max = 4096 };
	struct reactor *reactor;
	struct pool_options opts = { .reactors = 1, .reactor = &reactor };
	struct pool *pool;

	if (reactor_create(NULL, &reactor) || pool_create(&dev, 1, &po, NULL, 0) || pool_open(&dev, 1, &opts, &pool))
		return -1;
	if (subvol_create(pool, "sv", &so, NULL, 0) || pool_close(pool))
		return -1;
	reactor_destroy(reactor);
	return 0;
}

/* Works until it is killed. The only process that used RocksDB so far: its threads do not survive a fork. */
static void worker(struct pool_area area, struct progress *progress)
{
	const struct pool_options opts = { .area = area, .commit_ms = 100000 };
	struct inode_attr attr;
	struct device *dev;
	char name[16];

	if (device_open(TAKEOVER_FILE, 0, &dev) || make_pool(dev))
		_exit(1);
	fixture_attach(&fx, dev, &opts);
	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "w%u", i);
		if (fx_create(&fx, ROOT, name, S_IFREG | 0600, &attr))
			_exit(1);
		if (i == 5) {
			lookup_add(fx.sv, attr.ino, 3);
			if (fx_unlink(&fx, ROOT, name))
				_exit(1);
			progress->known = attr.ino;
		}
		progress->made = i + 1;
	}
}

START_TEST(takeover_after_kill)
{
	struct progress *progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct pool_options opts = { 0 };
	struct inode_attr attr;
	struct pool_area area;
	struct device *dev;
	char name[16];
	pid_t pid, ended = 0;

	area.len_bytes = pool_area_size(&opts);
	area.base = mmap(NULL, area.len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert(area.base != MAP_FAILED);
	unlink(TAKEOVER_FILE);
	ck_assert_int_eq(device_create_file(TAKEOVER_FILE, 128 * MIB), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		fixture_forked("/dev/null");
		worker(area, progress);
	}
	while (progress->made < 700 && !ended) {
		usleep(1000);
		ended = waitpid(pid, NULL, WNOHANG);
	}
	ck_assert_int_eq(ended, 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ck_assert_uint_ge(progress->made, 700);
	/* Nothing was committed by it: all that it acknowledged is in the area. */
	opts.area = area;
	ck_assert_int_eq(device_open(TAKEOVER_FILE, 0, &dev), 0);
	fixture_attach(&fx, dev, &opts);
	for (unsigned i = 0; i < progress->made; i++) {
		snprintf(name, sizeof(name), "w%u", i);
		ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), i == 5 ? -ENOENT : 0);
	}
	fixture_settle(&fx, 300);
	ck_assert_uint_eq(lookup_count(fx.sv, progress->known), 3);
	ck_assert_int_eq(fx_getattr(&fx, progress->known, &attr), 0);
	lookup_forget(fx.sv, progress->known, 3);
	fixture_settle(&fx, 1000);
	ck_assert_int_eq(fx_getattr(&fx, progress->known, &attr), -ENOENT);
	fixture_end(&fx);
	munmap(area.base, area.len_bytes);
	unlink(TAKEOVER_FILE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("names_inside");
	TCase *tcase = tcase_create("inside"), *other = tcase_create("takeover");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, collisions_move_on);
	tcase_add_test(tcase, free_places_are_taken);
	tcase_add_test(tcase, too_many_collisions);
	tcase_add_test(tcase, versions);
	tcase_add_test(tcase, cold_range_beside_writers);
	tcase_add_test(tcase, unreadable_range_beside_writers);
	tcase_add_test(tcase, crowd_of_cold_readers_and_writers);
	tcase_add_test(tcase, results);
	tcase_add_test(tcase, orphan_with_damaged_map);
	tcase_add_test(tcase, orphan_of_failed_pool);
	suite_add_tcase(suite, tcase);
	tcase_set_timeout(other, UNIT_LIMIT_S);
	tcase_add_test(other, takeover_after_kill);
	suite_add_tcase(suite, other);
	return unit_run_suite(suite);
}
