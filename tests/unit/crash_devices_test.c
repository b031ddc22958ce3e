/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The power of a pool of three devices is cut, at all of them, at a random device operation. What that leaves must be
 * clean without a repair, and each file must be as it was at one moment, none before its last fsync, and so must the
 * names: data lies on one device, the record that maps it on another, the table of metafs on all.
 *
 * A device that is cut a moment before the others fails what is asked of it, which the pool must survive as well.
 *
 * CRASH_TEST_SEED and CRASH_TEST_ROUNDS change what is run.
 */
#include "config.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "io/log.h"
#include "meta/check.h"
#include "meta/mkfs.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define DEVICES 3
#define FILES 4
#define BLOCKS 192
#define OPS 80
#define NAMES 8

/* What happened to a file, in order: a write of blocks, or a truncation (blocks 0) to `first` blocks. */
struct event {
	unsigned first, blocks;
};

struct model {
	uint64_t ino;
	struct event events[OPS + 1]; /* from 1 on */
	unsigned n, synced;           /* events; those that are promised */
};

static struct meta_fixture fx;
static struct device *devs[DEVICES];
static struct model files[FILES];
static uint64_t names[OPS + 1][NAMES]; /* inodes after each change; 0: none */
static unsigned nnames, names_synced;
static _Atomic uint64_t steps, cut_at;
static _Atomic bool dark;
static bool ended; /* a write failed: how much of it is there is not known */
static bool name_failed;
static uint8_t data[BLOCKS * 4096] __attribute__((aligned(4096)));

static uint32_t below(uint32_t n)
{
	return (uint32_t)random() % n;
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

/* ---- the cut ---- */

static void maybe_cut(struct device *dev, enum io_op op, uint64_t n, void *arg)
{
	const uint64_t at = atomic_fetch_add(&steps, 1) + 1;

	(void)dev, (void)op, (void)n, (void)arg;
	if (at != atomic_load(&cut_at))
		return;
	atomic_store(&dark, true);
	for (unsigned i = 0; i < DEVICES; i++)
		sim_power_cut(devs[(i + at) % DEVICES], at * DEVICES + i);
}

/* ---- the pool ---- */

static void make_pool(void)
{
	const struct pool_create_options po = { .name = "test" };
	const struct subvol_options so = { .size_bytes = 60 * MIB, .inodes_max = 1000 };
	char why[512] = "";

	memset(&fx, 0, sizeof(fx));
	ck_assert_int_eq(reactor_create(&(struct reactor_options){ .spin_max_us = 20 }, &fx.reactor), 0);
	fx.options.reactors = 1;
	fx.options.reactor = &fx.reactor;
	for (unsigned i = 0; i < DEVICES; i++)
		ck_assert_int_eq(device_sim_create(64 * MIB, NULL, &devs[i]), 0);
	ck_assert_msg(!pool_create(devs, DEVICES, &po, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(pool_open(devs, DEVICES, &fx.options, &fx.pool), 0);
	ck_assert_msg(!subvol_create(fx.pool, "sv", &so, why, sizeof(why)), "%s", why);
	ck_assert_int_eq(subvol_open(fx.pool, "sv", false, &fx.sv), 0);
	ck_assert_int_eq(pool_session_new(fx.pool, &fx.session), 0);
}

static void make_files(void)
{
	memset(files, 0, sizeof(files));
	memset(names, 0, sizeof(names));
	nnames = names_synced = 0;
	for (unsigned i = 0; i < FILES; i++) {
		struct inode_attr attr;
		char name[16];

		snprintf(name, sizeof(name), "file%u", i);
		ck_assert_int_eq(fx_create(&fx, INO_ROOT, name, S_IFREG | 0600, &attr), 0);
		files[i].ino = attr.ino;
	}
	ck_assert_int_eq(fx_fsync(&fx, INO_ROOT), 0);
}

static void close_pool(void)
{
	subvol_close(fx.sv);
	pool_close(fx.pool);
	fx.sv = NULL;
	fx.pool = NULL;
}

/* ---- operations ---- */

static void fill(uint8_t *to, unsigned file, unsigned event, unsigned block)
{
	memset(to, (int)(file + event * 7 + block * 3), 4096);
	memcpy(to, &event, sizeof(event));
	memcpy(to + 4, &block, sizeof(block));
}

static void do_write(unsigned file, unsigned flags)
{
	struct model *m = &files[file];
	const unsigned first = below(BLOCKS), blocks = 1 + below(below(4) ? 8 : BLOCKS - first);
	struct event e = { first, first + blocks > BLOCKS ? BLOCKS - first : blocks };

	m->events[++m->n] = e;
	for (unsigned i = 0; i < e.blocks; i++)
		fill(data + i * 4096, file, m->n, first + i);
	if (fx_write(&fx, m->ino, first * 4096ull, data, e.blocks * 4096ull, flags) != e.blocks * 4096ll)
		ended = true;
	else if (flags & DATA_DSYNC)
		m->synced = m->n;
}

static void do_truncate(unsigned file)
{
	struct model *m = &files[file];
	const unsigned blocks = below(BLOCKS);
	const struct inode_attr attr = { .size_bytes = blocks * 4096ull };
	struct inode_attr out;

	m->events[++m->n] = (struct event){ blocks, 0 };
	if (fx_setattr(&fx, m->ino, ATTR_SIZE, &attr, &out))
		ended = true;
}

static void do_sync(unsigned file, bool all)
{
	if (fx_fsync(&fx, all ? INO_ROOT : files[file].ino))
		return;
	for (unsigned i = 0; i < FILES; i++)
		if (all || i == file)
			files[i].synced = files[i].n;
	if (all)
		names_synced = nnames;
}

static void name_of(unsigned name, char *text)
{
	sprintf(text, "name%u", name);
}

/* Make, remove or rename one. */
static void do_name(void)
{
	const unsigned a = below(NAMES), b = (a + 1 + below(NAMES - 1)) % NAMES;
	const uint64_t *now = names[nnames];
	uint64_t *next = names[nnames + 1];
	struct inode_attr attr = { 0 };
	char from[16], to[16];
	int r;

	memcpy(next, now, sizeof(names[0]));
	name_of(a, from);
	name_of(b, to);
	if (!now[a]) {
		r = fx_create(&fx, INO_ROOT, from, S_IFREG | 0600, &attr);
		next[a] = attr.ino;
	} else if (below(2)) {
		r = fx_unlink(&fx, INO_ROOT, from);
		next[a] = 0;
	} else {
		r = fx_rename(&fx, INO_ROOT, from, INO_ROOT, to, 0);
		next[b] = now[a];
		next[a] = 0;
	}
	if (r)
		ended = name_failed = true;
	else
		nnames++;
}

static void step(void)
{
	const unsigned file = below(FILES);

	switch (below(11)) {
	case 0:
		do_sync(file, false);
		break;
	case 1:
		do_sync(file, below(3) == 0);
		break;
	case 2:
		do_write(file, DATA_DIRECT);
		break;
	case 3:
		do_write(file, DATA_DSYNC);
		break;
	case 4:
		do_truncate(file);
		break;
	case 5:
	case 6:
	case 7:
		do_name();
		break;
	default:
		do_write(file, 0);
	}
}

/* ---- what is left ---- */

/* The event that each block is of after the first n; 0 none. */
static unsigned state_at(const struct model *m, unsigned n, unsigned *of)
{
	unsigned size = 0;

	memset(of, 0, BLOCKS * sizeof(*of));
	for (unsigned i = 1; i <= n; i++) {
		const struct event *e = &m->events[i];

		for (unsigned b = 0; b < e->blocks; b++)
			of[e->first + b] = i;
		if (!e->blocks) {
			size = e->first;
			memset(of + size, 0, (BLOCKS - size) * sizeof(*of));
		} else if (e->first + e->blocks > size) {
			size = e->first + e->blocks;
		}
	}
	return size;
}

static bool matches(unsigned file, const uint8_t *found, uint64_t size, unsigned n)
{
	unsigned of[BLOCKS];
	uint8_t block[4096];

	if (state_at(&files[file], n, of) * 4096ull != size)
		return false;
	for (unsigned b = 0; b < size / 4096; b++) {
		if (of[b])
			fill(block, file, of[b], b);
		else
			memset(block, 0, sizeof(block));
		if (memcmp(block, found + b * 4096, 4096))
			return false;
	}
	return true;
}

static void check_file(unsigned long seed, unsigned file)
{
	const struct model *m = &files[file];
	struct inode_attr attr;

	ck_assert_int_eq(fx_getattr(&fx, m->ino, &attr), 0);
	memset(data, 0xee, sizeof(data));
	ck_assert_int_eq(fx_read(&fx, m->ino, 0, data, sizeof(data), 0), attr.size_bytes);
	for (unsigned n = m->synced; n <= m->n; n++)
		if (matches(file, data, attr.size_bytes, n))
			return;
	ck_abort_msg("seed %lu: file %u is of no moment from event %u to %u", seed, file, m->synced, m->n);
}

/* One that failed may have happened or not. */
static void check_names(unsigned long seed)
{
	const unsigned most = nnames + name_failed;
	uint64_t found[NAMES] = { 0 };

	for (unsigned i = 0; i < NAMES; i++) {
		struct inode_attr attr;
		char text[16];
		int r;

		name_of(i, text);
		r = fx_lookup(&fx, INO_ROOT, text, &attr);
		ck_assert(!r || r == -ENOENT);
		found[i] = r ? 0 : attr.ino;
	}
	for (unsigned n = names_synced; n <= most; n++)
		if (!memcmp(found, names[n], sizeof(found)))
			return;
	ck_abort_msg("seed %lu: the names are of no moment from change %u to %u", seed, names_synced, most);
}

/* A slot of the file table that was being written, on each device, is what a cut may leave; nothing else is. */
static void check_clean(unsigned long seed)
{
	static char text[1 << 16];
	struct check_options options = { .data = true };
	struct check_result result;
	unsigned torn = 0;
	int err;

	memset(text, 0, sizeof(text));
	options.out = fmemopen(text, sizeof(text), "w");
	err = check_pool(devs, DEVICES, &options, &result);
	fclose(options.out);
	for (char *at = text; (at = strstr(at, "file table is")) != NULL; at++)
		torn++;
	if (err || result.found != torn)
		ck_abort_msg("seed %lu: %d\n%s", seed, err, text);
}

/* Some writes and flushes of one device fail: what is answered as synced stays, a second fsync must not lie. */
static void make_faults(unsigned long seed)
{
	const struct sim_faults at = { .seed = seed, .fail_write_at = below(3) ? 1 + below(40) : 0,
				       .fail_flush_at = below(2) ? 1 + below(20) : 0 };
	const struct sim_faults often = { .seed = seed, .fail_write_ppm = 20000 * below(4),
					  .fail_flush_ppm = 5000 * below(4), .short_ppm = 100000,
					  .latency_max_ns = 300000 * below(2) };

	sim_set_faults(devs[below(DEVICES)], below(2) ? &at : &often);
}

static void run_round(unsigned long seed, bool faults)
{
	srandom((unsigned)seed);
	ended = name_failed = false;
	atomic_store(&dark, false);
	atomic_store(&cut_at, 0);
	make_pool();
	make_files();
	for (unsigned i = 0; i < DEVICES; i++)
		sim_set_step_hook(devs[i], maybe_cut, NULL);
	atomic_store(&steps, 0);
	atomic_store(&cut_at, 1 + below(150));
	if (faults)
		make_faults(seed);
	for (unsigned i = 0; i < OPS && !atomic_load(&dark) && !ended; i++)
		step();
	if (!atomic_load(&dark)) {
		atomic_store(&dark, true);
		for (unsigned i = 0; i < DEVICES; i++)
			sim_power_cut(devs[i], seed + i);
	}
	close_pool();
	for (unsigned i = 0; i < DEVICES; i++) {
		device_detach(fx.reactor, devs[i]);
		sim_set_faults(devs[i], NULL);
		sim_power_on(devs[i]);
		sim_set_step_hook(devs[i], NULL, NULL);
	}
	check_clean(seed);
	ck_assert_int_eq(pool_open(devs, DEVICES, &fx.options, &fx.pool), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "sv", false, &fx.sv), 0);
	for (unsigned i = 0; i < FILES; i++)
		check_file(seed, i);
	check_names(seed);
	close_pool();
	check_clean(seed);
	reactor_destroy(fx.reactor);
	for (unsigned i = 0; i < DEVICES; i++)
		device_close(devs[i]);
}

static unsigned long env_number(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : otherwise;
}

START_TEST(files_are_of_one_moment)
{
	const unsigned long rounds = env_number("CRASH_TEST_ROUNDS", 20), first = env_number("CRASH_TEST_SEED", 1);

	log_set_sink(drop_line, NULL);
	for (unsigned long i = 0; i < rounds; i++)
		run_round(first + i, false);
}
END_TEST

START_TEST(errors_before_it)
{
	const unsigned long rounds = env_number("CRASH_TEST_ROUNDS", 20), first = env_number("CRASH_TEST_SEED", 1);

	log_set_sink(drop_line, NULL);
	for (unsigned long i = 0; i < rounds; i++)
		run_round(first + i, true);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("crash_devices");
	TCase *tcase = tcase_create("crash_devices");

	tcase_set_timeout(tcase, UNIT_LIMIT_S + 2 * (double)env_number("CRASH_TEST_ROUNDS", 20));
	tcase_add_test(tcase, files_are_of_one_moment);
	tcase_add_test(tcase, errors_before_it);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
