/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many subvolumes open at once: what each costs, and that what they share keeps them apart. */
#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/log.h"
#include "meta/mkfs.h"
#include "meta/data_internal.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB ((uint64_t)1 << 20)
#define ROOT 1u
#define MANY 200u
#define FILES 300u
#define IDLE_MOST_KIB 96u
#define USED_MOST_KIB 1024u

static struct meta_fixture fx;
static struct subvol *subvols[MANY + 1];

static void open_one(unsigned i)
{
	const struct subvol_options so = { .size_bytes = 8 * MIB, .thin = true, .inodes_max = 4096 };
	char name[32], why[512] = "";
	int r;

	snprintf(name, sizeof(name), "many-%u", i);
	r = subvol_create(fx.pool, name, &so, why, sizeof(why));
	ck_assert_msg(r == 0, "subvol_create: %d %s", r, why);
	ck_assert_int_eq(subvol_open(fx.pool, name, false, &subvols[i]), 0);
}

static void close_all(unsigned n, struct subvol *first)
{
	fx.sv = first;
	for (unsigned i = 0; i < n; i++)
		ck_assert_int_eq(subvol_close(subvols[i]), 0);
}

/* Memory of this process that no file has, without what malloc() only keeps. */
static size_t resident_kib(void)
{
	char line[256];
	size_t kib = 0;
	FILE *f;

	malloc_trim(0);
	f = fopen("/proc/self/smaps_rollup", "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Anonymous: %zu kB", &kib) == 1)
			break;
	fclose(f);
	return kib;
}

static bool has_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return true;
#elif defined(__has_feature)
	return __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
	return false;
#endif
}

/* Small files, some with data, all looked up again; then everything is written and known to RocksDB. */
static void use_one(struct subvol *sv, unsigned files)
{
	struct inode_attr attr, again;
	char name[32], data[4096];

	fx.sv = sv;
	memset(data, 'x', sizeof(data));
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0644, &attr), 0);
		if (i % 4 == 0)
			ck_assert_int_eq(fx_write(&fx, attr.ino, 0, data, sizeof(data), 0), (int64_t)sizeof(data));
		ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &again), 0);
		ck_assert_uint_eq(again.ino, attr.ino);
		lookup_forget(sv, attr.ino, 2);
	}
	ck_assert_int_eq(fx_fsync(&fx, ROOT), 0);
}

/* On a file: a simulated device is memory of this process. */
static void make_on_file(void)
{
	const struct reactor_options ro = { .spin_max_us = 20 };
	const struct pool_create_options po = { .name = "test" };
	char path[] = "/tmp/nvfs-many.XXXXXX", why[512] = "";
	const int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)(2048 * MIB)), 0);
	close(fd);
	log_set_level(LOG_LEVEL_ERROR);
	memset(&fx, 0, sizeof(fx));
	ck_assert_int_eq(device_open(path, DEVICE_EXCLUSIVE, &fx.dev), 0);
	unlink(path);
	ck_assert_int_eq(pool_create(&fx.dev, 1, &po, why, sizeof(why)), 0);
	ck_assert_int_eq(reactor_create(&ro, &fx.reactor), 0);
	fx.options = (struct pool_options){
		.reactors = 1, .reactor = &fx.reactor, .dirty_bytes = 8 * MIB, .cache_bytes = 8 * MIB,
	};
	ck_assert_int_eq(pool_open(&fx.dev, 1, &fx.options, &fx.pool), 0);
	ck_assert_int_eq(pool_session_new(fx.pool, &fx.session), 0);
}

START_TEST(each_costs_little)
{
	size_t before, idle, used;

	make_on_file();
	open_one(MANY);
	use_one(subvols[MANY], FILES);
	before = resident_kib();
	for (unsigned i = 0; i < MANY; i++)
		open_one(i);
	idle = resident_kib();
	for (unsigned i = 0; i < MANY; i++)
		use_one(subvols[i], FILES);
	used = resident_kib();
	if (before && !has_sanitizer()) {
		ck_assert_msg(idle < before + MANY * IDLE_MOST_KIB, "%zu KiB each while nothing happens in them",
			      (idle - before) / MANY);
		ck_assert_msg(used < before + MANY * USED_MOST_KIB, "%zu KiB each after use", (used - before) / MANY);
	}
	close_all(MANY, subvols[MANY]);
	fixture_end(&fx);
}
END_TEST

#define NAMES 24u
#define STEPS 20000u
#define SHARERS 6u

static uint64_t model[SHARERS][NAMES]; /* inode number, or 0 */

static void step(unsigned i, unsigned n, bool change)
{
	struct inode_attr attr;
	char name[16];
	int r;

	snprintf(name, sizeof(name), "n%u", n);
	if (!change) {
		r = fx_lookup(&fx, ROOT, name, &attr);
		ck_assert_int_eq(r, model[i][n] ? 0 : -ENOENT);
		if (!r)
			ck_assert_uint_eq(attr.ino, model[i][n]);
	} else if (model[i][n]) {
		ck_assert_int_eq(fx_unlink(&fx, ROOT, name), 0);
		model[i][n] = 0;
	} else {
		ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0644, &attr), 0);
		model[i][n] = attr.ino;
	}
}

/* The same names in the same directory number of each; numbers of inodes differ, since each has unlinked others. */
START_TEST(names_of_one_are_not_known_in_another)
{
	struct subvol *first;

	fixture_make(&fx, 512 * MIB, 16 * MIB, NULL);
	first = fx.sv;
	for (unsigned i = 0; i < SHARERS; i++) {
		open_one(i);
		memset(model[i], 0, sizeof(model[i]));
	}
	srand(7);
	for (unsigned i = 0; i < STEPS; i++) {
		const unsigned which = (unsigned)rand() % SHARERS;

		fx.sv = subvols[which];
		step(which, (unsigned)rand() % NAMES, rand() % 3 == 0);
	}
	close_all(SHARERS, first);
	fixture_end(&fx);
}
END_TEST

/* What a closed one left is not taken for that of the next one. */
START_TEST(an_opening_starts_with_nothing_known)
{
	struct inode_attr attr;
	struct subvol *first;

	fixture_make(&fx, 512 * MIB, 16 * MIB, NULL);
	first = fx.sv;
	open_one(0);
	fx.sv = subvols[0];
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0644, &attr), 0);
	ck_assert_int_eq(subvol_close(subvols[0]), 0);
	open_one(1);
	fx.sv = subvols[1];
	ck_assert_int_eq(fx_lookup(&fx, ROOT, "a", &attr), -ENOENT);
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0644, &attr), 0);
	fx.sv = first;
	ck_assert_int_eq(subvol_close(subvols[1]), 0);
	fixture_end(&fx);
}
END_TEST

static bool all_at_rest(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (subvols[i]->data->timer.armed || subvols[i]->data->timer_busy)
			return false;
	return true;
}

static void run_to_rest(unsigned n)
{
	while (!all_at_rest(n))
		ck_assert_int_ge(reactor_run_once(fx.reactor, REACTOR_NEVER_NS), 0);
}

/* A name, data, and the name away again. */
static void change_one(struct subvol *sv, unsigned what)
{
	struct inode_attr attr;
	int r = 0;

	fx.sv = sv;
	if (what == 0)
		r = fx_create(&fx, ROOT, "a", S_IFREG | 0644, &attr);
	else if (what == 2)
		r = fx_unlink(&fx, ROOT, "a");
	else
		r = fx_lookup(&fx, ROOT, "a", &attr);
	ck_assert_int_eq(r, 0);
	if (what == 1)
		ck_assert_int_eq(fx_write(&fx, attr.ino, 0, "abc", 3, 0), 3);
}

/* Nothing wakes the reactor when nothing changed; and what changes after a rest is committed by itself. */
START_TEST(those_without_changes_wake_nobody)
{
	struct pool_options options = { .commit_ms = 5 };
	struct subvol *first;
	struct pool_stats before, after;

	fixture_make(&fx, 512 * MIB, 16 * MIB, &options);
	first = fx.sv;
	for (unsigned i = 0; i < 4; i++)
		open_one(i);
	run_to_rest(4);
	for (unsigned what = 0; what < 3; what++) {
		pool_stats(fx.pool, &before);
		change_one(subvols[2], what);
		run_to_rest(4);
		pool_stats(fx.pool, &after);
		ck_assert_uint_gt(after.commits, before.commits);
		ck_assert_uint_eq(after.dirty_blocks, 0);
	}
	close_all(4, first);
	fixture_end(&fx);
}
END_TEST

#define CACHED 1000u
#define CROWDED 6u
#define OWN 500u /* files of each */

static void read_back(struct subvol *sv)
{
	struct inode_attr attr;
	char name[32], data[8192];

	fx.sv = sv;
	for (unsigned i = 0; i < OWN; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
		ck_assert_int_eq(fx_read(&fx, attr.ino, 0, data, sizeof(data), 0), i % 4 ? 0 : 4096);
		ck_assert(i % 4 || (data[0] == 'x' && data[4095] == 'x'));
		lookup_forget(sv, attr.ino, 1);
	}
}

/* One limit for all: who needs memory gets it from those that do nothing, but not all of it. */
START_TEST(idle_ones_give_up_what_is_cached)
{
	struct pool_options options = { .inode_cache = CACHED, .map_cache_bytes = CACHED / 4 * sizeof(struct chunk) };
	struct subvol *first;
	uint64_t inodes = 0, chunks = 0;

	fixture_make(&fx, 512 * MIB, 16 * MIB, &options);
	first = fx.sv;
	for (unsigned i = 0; i < CROWDED; i++) {
		open_one(i);
		use_one(subvols[i], OWN);
	}
	for (unsigned i = 0; i < CROWDED; i++) {
		ck_assert_uint_ge(subvols[i]->inode_count, 256);
		inodes += subvols[i]->inode_count;
		chunks += subvols[i]->data->chunk_count;
	}
	ck_assert_uint_lt(subvols[0]->inode_count, OWN);
	ck_assert_uint_le(inodes, CROWDED * 256 + 100);
	ck_assert_uint_le(chunks, CROWDED * 64 + 100);
	for (unsigned i = 0; i < CROWDED; i++)
		read_back(subvols[i]);
	close_all(CROWDED, first);
	fixture_end(&fx);
}
END_TEST

/* Most of them cost no commit, and none is given twice, a power cut or not. */
START_TEST(numbers_of_sessions_are_taken_by_many)
{
	struct pool_stats before, after;
	uint32_t last, number;

	fixture_make(&fx, 512 * MIB, 16 * MIB, NULL);
	last = fx.session;
	pool_stats(fx.pool, &before);
	for (unsigned i = 0; i < 200; i++) {
		ck_assert_int_eq(pool_session_new(fx.pool, &number), 0);
		ck_assert_uint_gt(number, last);
		last = number;
	}
	pool_stats(fx.pool, &after);
	ck_assert_uint_le(after.commits, before.commits + 5);
	fixture_power_cut(&fx, 11);
	ck_assert_uint_gt(fx.session, last);
	fixture_end(&fx);
}
END_TEST

struct administrator {
	_Atomic bool asked;
	bool answered;
};

static void *ask_for_another(void *arg)
{
	struct subvol_info info;

	(void)arg;
	ck_assert_int_eq(subvol_info(fx.pool, "many-1", &info), 0);
	return NULL;
}

/* In the middle of the write-back. */
static void administrate(struct device *dev, enum io_op op, uint64_t at, void *arg)
{
	struct administrator *a = arg;
	struct timespec limit;
	pthread_t thread;

	(void)dev;
	(void)at;
	if (op != IO_WRITE || atomic_exchange(&a->asked, true))
		return;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 20; /* only how long a failure takes */
	ck_assert_int_eq(pthread_create(&thread, NULL, ask_for_another, NULL), 0);
	a->answered = !pthread_timedjoin_np(thread, NULL, &limit);
}

/* One that is unmounted writes back what it has, and others are mounted meanwhile. */
START_TEST(administration_goes_on_while_one_is_closed)
{
	struct administrator a = { 0 };
	struct inode_attr attr;
	static char data[1 << 20];
	struct subvol *first;

	fixture_make(&fx, 512 * MIB, 16 * MIB, NULL);
	first = fx.sv;
	open_one(0);
	open_one(1);
	fx.sv = subvols[0];
	ck_assert_int_eq(fx_create(&fx, ROOT, "a", S_IFREG | 0644, &attr), 0);
	ck_assert_int_eq(fx_write(&fx, attr.ino, 0, data, sizeof(data), 0), (int64_t)sizeof(data));
	sim_set_step_hook(fx.dev, administrate, &a);
	ck_assert_int_eq(subvol_close(subvols[0]), 0);
	sim_set_step_hook(fx.dev, NULL, NULL);
	ck_assert(a.asked && a.answered);
	ck_assert_int_eq(subvol_close(subvols[1]), 0);
	fx.sv = first;
	fixture_end(&fx);
}
END_TEST

int main(void)
{
	return unit_run("many", each_costs_little, names_of_one_are_not_known_in_another, an_opening_starts_with_nothing_known,
			those_without_changes_wake_nobody, idle_ones_give_up_what_is_cached,
			numbers_of_sessions_are_taken_by_many, administration_goes_on_while_one_is_closed, NULL);
}
