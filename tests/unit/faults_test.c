/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory and devices that fail while snapshots, clones and sweeps change the tree of nodes: each allocation, each write and each flush in turn.
 * Whatever fails, the call ends; what it said to be done is there after an open, what it refused is there or not, as a whole, and nothing that was
 * promised before is lost.
 */
#include "config.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/tenant.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define BLOCK NVFS_BLOCK_SIZE
#define ROOT INO_ROOT
#define FILES 6u
#define NEVER_MS 100000000u /* the timer: what waits for it hangs */

static struct meta_fixture fx;

/* ---- Allocations of ours, on any thread ---- */

static atomic_long until_failure; /* 0: none fails; else the how manieth from now does */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool fails(void)
{
	long left = atomic_load(&until_failure);

	while (left > 0 && !atomic_compare_exchange_weak(&until_failure, &left, left - 1))
		;
	return left == 1;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

/* ---- Files ---- */

static void content(uint8_t *to, unsigned file, unsigned version)
{
	for (size_t i = 0; i < 2 * BLOCK; i++)
		to[i] = (uint8_t)(i + i / BLOCK * 3 + file * 17 + version * 101);
}

static uint64_t lookup(unsigned file)
{
	struct inode_attr attr;
	char name[16];

	snprintf(name, sizeof(name), "f%u", file);
	ck_assert_int_eq(fx_lookup(&fx, ROOT, name, &attr), 0);
	return attr.ino;
}

static void write_all(unsigned version, bool sync)
{
	uint8_t data[2 * BLOCK];

	for (unsigned i = 0; i < FILES; i++) {
		content(data, i, version);
		ck_assert_int_eq(fx_write(&fx, lookup(i), 0, data, sizeof(data), 0), sizeof(data));
		if (sync)
			ck_assert_int_eq(fx_fsync(&fx, lookup(i)), 0);
	}
}

static bool has(unsigned file, unsigned version)
{
	uint8_t data[2 * BLOCK], back[2 * BLOCK];

	content(data, file, version);
	return fx_read(&fx, lookup(file), 0, back, sizeof(back), 0) == sizeof(back) && !memcmp(data, back, sizeof(back));
}

static void all_have(unsigned version)
{
	for (unsigned i = 0; i < FILES; i++)
		ck_assert_msg(has(i, version), "file %u has not version %u", i, version);
}

static void make_files(void)
{
	struct inode_attr attr;
	char name[16];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		ck_assert_int_eq(fx_create(&fx, ROOT, name, S_IFREG | 0644, &attr), 0);
	}
}

static bool is_there(const char *subvol)
{
	struct subvol *sv;

	if (subvol_open(fx.pool, subvol, true, &sv))
		return false;
	ck_assert_int_eq(subvol_close(sv), 0);
	return true;
}

static void settled(void)
{
	for (unsigned i = 0; i < 20000 && subvol_sweeps_left(fx.pool) && !subvol_sweep_error(fx.pool); i++) {
		while (fx.sv && reactor_run_once(fx.reactor, 0) > 0)
			;
		usleep(1000);
	}
}

static void close_whatever(void)
{
	if (fx.sv)
		subvol_close(fx.sv);
	pool_close(fx.pool);
	fx.sv = NULL;
	fx.pool = NULL;
}

/* ---- Memory ---- */

/* The n-th allocation of a snapshot of dirty files fails; true when there was none. */
static bool snapshot_without_memory(long n)
{
	char name[32], path[48];
	bool ended;
	int r;

	write_all((unsigned)n, false);
	snprintf(name, sizeof(name), "s%ld", n);
	snprintf(path, sizeof(path), "sv@s%ld", n);
	atomic_store(&until_failure, n);
	r = fx_snapshot(&fx, "sv", name);
	ended = atomic_exchange(&until_failure, 0);
	if (r)
		ck_assert_msg(fx.why[0], "allocation %ld: no word of why", n);
	if (atomic_load(&fx.pool->failed)) { /* the commit's */
		ck_assert_int_ne(r, 0);
		close_whatever();
		ck_assert_int_eq(fixture_open(&fx), 0);
		r = is_there(path) ? 0 : r;
	} else {
		ck_assert_int_eq(is_there(path), r == 0);
		all_have((unsigned)n);
	}
	/* The gate is open, and what could not be written back is. */
	write_all((unsigned)n + 100, true);
	if (!r)
		ck_assert_int_eq(fx_drop(&fx, "sv", name), 0);
	settled();
	return ended;
}

START_TEST(memory_fails_in_a_snapshot)
{
	const struct pool_options options = { .commit_ms = NEVER_MS };
	long n = 1;

	fixture_make(&fx, 256 * MIB, 32 * MIB, &options);
	make_files();
	while (!snapshot_without_memory(n))
		n++;
	ck_assert_int_ge(n, 10);
	fixture_end(&fx);
}
END_TEST

static unsigned tenants(void)
{
	unsigned n = 0;

	for (const struct pool_tenant *t = fx.pool->tenants; t; t = t->next)
		n++;
	return n;
}

/* What is on the device is in memory, too: created again it is not there twice. */
START_TEST(memory_fails_as_a_tenant_begins)
{
	const struct tenant_settings set = { 0 };
	unsigned before;
	bool ended = false;
	int r;

	fixture_make(&fx, 256 * MIB, 32 * MIB, NULL);
	before = tenants();
	for (long n = 1; !ended; n++) {
		char name[32], why[256] = "";

		snprintf(name, sizeof(name), "t%ld", n);
		atomic_store(&until_failure, n);
		r = tenant_create(fx.pool, name, &set, why, sizeof(why));
		ended = atomic_exchange(&until_failure, 0);
		if (atomic_load(&fx.pool->failed)) {
			close_whatever();
			ck_assert_int_eq(fixture_open(&fx), 0);
		}
		r = tenant_create(fx.pool, name, &set, why, sizeof(why));
		ck_assert_msg(r == 0 || r == -EEXIST, "%s: %s", name, why);
		before++;
		ck_assert_uint_eq(tenants(), before);
	}
	fixture_close(&fx);
	ck_assert_int_eq(fixture_open(&fx), 0);
	ck_assert_uint_eq(tenants(), before);
	fixture_end(&fx);
}
END_TEST

/* ---- Devices ---- */

static struct device *template; /* a pool that is not open, with files of version 3, and snapshots s1 and s2 of the two before */

static void make_template(void)
{
	fixture_make(&fx, 256 * MIB, 32 * MIB, NULL);
	make_files();
	write_all(1, true);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s1"), 0);
	write_all(2, true);
	ck_assert_int_eq(fx_snapshot(&fx, "sv", "s2"), 0);
	write_all(3, true);
	ck_assert_int_eq(fx_clone(&fx, "sv", "s2", "k", true), 0);
	fixture_close(&fx);
	template = fx.dev;
	reactor_destroy(fx.reactor);
}

static int snapshot(void)
{
	return fx_snapshot(&fx, "sv", "s3");
}

static int clone_snapshot(void)
{
	return fx_clone(&fx, "sv", "s1", "new", true);
}

static int clone_volume(void)
{
	return fx_clone(&fx, "sv", NULL, "new", true);
}

static int drop_first(void)
{
	return fx_drop(&fx, "sv", "s1");
}

static int drop_second(void)
{
	return fx_drop(&fx, "sv", "s2");
}

static int roll_back(void)
{
	if (subvol_close(fx.sv)) {
		fx.sv = NULL;
		return -EIO;
	}
	fx.sv = NULL;
	return fx_rollback(&fx, "sv", "s1");
}

static int delete_volume(void)
{
	return subvol_delete(fx.pool, "k", fx.why, sizeof(fx.why));
}

/* What is done, and which name comes or goes with it. */
static const struct {
	int (*act)(void);
	const char *name;
	bool comes;
} acts[] = {
	{ snapshot, "sv@s3", true },
	{ clone_snapshot, "new", true },
	{ clone_volume, "new", true },
	{ drop_first, "sv@s1", false },
	{ drop_second, "sv@s2", false },
	{ roll_back, NULL, false },
	{ delete_volume, "k", false },
};

struct count {
	_Atomic uint64_t writes, flushes;
};

static void count_step(struct device *dev, enum io_op op, uint64_t step, void *arg)
{
	struct count *c = arg;

	(void)dev;
	(void)step;
	if (op == IO_WRITE)
		c->writes++;
	if (op == IO_FLUSH)
		c->flushes++;
}

/* A copy of the template with new data, of which the odd files' is promised. */
static void attach(void)
{
	struct device *dev;
	uint8_t data[2 * BLOCK];

	ck_assert_int_eq(sim_snapshot_current(template, &dev), 0);
	fixture_attach(&fx, dev, NULL);
	for (unsigned i = 0; i < FILES; i++) {
		content(data, i, 4);
		ck_assert_int_eq(fx_write(&fx, lookup(i), 0, data, sizeof(data), 0), sizeof(data));
		if (i % 2)
			ck_assert_int_eq(fx_fsync(&fx, lookup(i)), 0);
	}
}

/* Go on with what the device has, or with what a power cut would have left. */
static void open_again(uint64_t cut)
{
	struct device *after = NULL;

	if (cut)
		ck_assert_int_eq(sim_snapshot_cut(fx.dev, cut, &after), 0);
	close_whatever();
	if (after) {
		device_detach(fx.reactor, fx.dev);
		device_close(fx.dev);
		fx.dev = after;
	}
	ck_assert_int_eq(fixture_open(&fx), 0);
}

static void check_live(bool rolled_back, bool may_be)
{
	if (rolled_back || (may_be && has(0, 1))) {
		all_have(1);
		return;
	}
	for (unsigned i = 0; i < FILES; i++)
		ck_assert_msg(has(i, 4) || (i % 2 == 0 && has(i, 3)), "file %u", i);
}

static void check_snapshot(const char *name, unsigned version, bool gone)
{
	if (gone || !is_there(name))
		return;
	fx_use(&fx, name);
	all_have(version);
}

static void check_state(unsigned a, int r)
{
	const bool rolls = acts[a].act == roll_back;

	check_live(rolls && !r, rolls);
	if (acts[a].name && !r)
		ck_assert_int_eq(is_there(acts[a].name), acts[a].comes);
	if (acts[a].act != drop_first)
		ck_assert(is_there("sv@s1"));
	if (acts[a].act != drop_second)
		ck_assert(is_there("sv@s2"));
	if (acts[a].act != delete_volume)
		ck_assert(is_there("k"));
	check_snapshot("sv@s1", 1, acts[a].act == drop_first);
	check_snapshot("sv@s2", 2, acts[a].act == drop_second);
	check_snapshot("k", 2, acts[a].act == delete_volume);
	fx_use(&fx, NULL);
	settled();
	ck_assert_uint_eq(subvol_sweeps_left(fx.pool), 0);
}

static void finish(void)
{
	fixture_close(&fx);
	fixture_check(fx.dev);
	reactor_destroy(fx.reactor);
	device_close(fx.dev);
}

static void run_with(unsigned a, const struct sim_faults *faults, uint64_t cut, struct count *count)
{
	int r;

	attach();
	sim_set_faults(fx.dev, faults);
	if (count)
		sim_set_step_hook(fx.dev, count_step, count);
	r = acts[a].act();
	settled();
	sim_set_step_hook(fx.dev, NULL, NULL);
	sim_set_faults(fx.dev, NULL);
	if (count)
		ck_assert_int_eq(r, 0);
	if (r)
		ck_assert_msg(fx.why[0] || !fx.sv, "no word of why");
	open_again(cut);
	check_state(a, r);
	finish();
}

START_TEST(devices_fail)
{
	const unsigned a = (unsigned)_i;
	struct count count = { 0 };

	make_template();
	run_with(a, NULL, 0, &count);
	ck_assert_uint_ge(count.writes, 1);
	for (uint64_t n = 1; n <= count.writes + 2; n++)
		run_with(a, &(struct sim_faults){ .fail_write_at = n }, n % 2 ? n : 0, NULL);
	for (uint64_t n = 1; n <= count.flushes + 1; n++)
		run_with(a, &(struct sim_faults){ .fail_flush_at = n }, n % 2 ? 0 : n, NULL);
	device_close(template);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("faults");

	unit_add(suite, "memory", memory_fails_in_a_snapshot, 1);
	unit_add(suite, "memory_tenant", memory_fails_as_a_tenant_begins, 1);
	unit_add(suite, "devices", devices_fail, sizeof(acts) / sizeof(acts[0]));
	return unit_run_suite(suite);
}
