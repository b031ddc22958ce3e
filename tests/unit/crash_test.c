/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts while files are written, shared, punched, truncated, renamed and removed: at random device
 * operations of a random run, what a cut would leave at that moment is kept, and afterwards each of these
 * states is checked as fsck.nvfs --data does. No block may be mapped whose data is not there, none may be
 * held wrongly, no counter may be off, without any repair: what recovery replays is all there is.
 *
 * CRASH_TEST_SEED and CRASH_TEST_ROUNDS change what is run.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "io/log.h"
#include "tests/unit/cut_check.h"
#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define FILES 8
#define FILE_BYTES (2 * MIB)
#define STATES_MAX 64
#define OPS 1000

static struct meta_fixture fx;
static struct device *states[STATES_MAX];
static _Atomic unsigned nstates;
static uint64_t inos[FILES]; /* 0: no such file */
static unsigned long rounds, first_seed, trace;
static bool tight; /* the subvolume is full most of the time */

static uint32_t below(uint32_t n)
{
	return (uint32_t)random() % n;
}

static void drop_line(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

/* ---- states ---- */

/* On whatever thread did the I/O, several at a time. About one operation in 12 is kept, while there is room. */
static void maybe_keep(struct device *dev, enum io_op op, uint64_t n, void *arg)
{
	const uint64_t seed = (n * 0x9e3779b97f4a7c15u ^ (uintptr_t)arg) * UINT64_C(6364136223846793005) >> 33;
	unsigned at;

	(void)op;
	if (seed % 12)
		return;
	at = atomic_fetch_add(&nstates, 1);
	if (at < STATES_MAX && sim_snapshot_cut(dev, seed, &states[at]))
		states[at] = NULL;
}

static unsigned check_states(unsigned long seed)
{
	unsigned checked = 0;

	for (unsigned i = 0; i < STATES_MAX; i++) {
		if (!states[i])
			continue;
		cut_check(states[i], "seed %lu, state %u", seed, i);
		device_close(states[i]);
		states[i] = NULL;
		checked++;
	}
	atomic_store(&nstates, 0);
	return checked;
}

/* ---- operations ---- */

/* A full subvolume may refuse what needs more. */
static bool done(int64_t result, int64_t expected)
{
	return result == expected || (tight && result == -ENOSPC);
}

static void name_of(unsigned file, char *name)
{
	sprintf(name, "file%u", file);
}

static void make_file(unsigned file)
{
	struct inode_attr attr;
	char name[16];

	name_of(file, name);
	ck_assert(done(fx_create(&fx, INO_ROOT, name, S_IFREG | 0600, &attr), 0));
	if (!fx_lookup(&fx, INO_ROOT, name, &attr))
		inos[file] = attr.ino;
}

static void remove_file(unsigned file)
{
	char name[16];

	name_of(file, name);
	ck_assert_int_eq(fx_unlink(&fx, INO_ROOT, name), 0);
	inos[file] = 0;
}

static void rename_file(unsigned from, unsigned to)
{
	char old[16], new[16];

	if (from == to)
		return;
	name_of(from, old);
	name_of(to, new);
	if (trace)
		printf("  over inode %llu\n", (unsigned long long)inos[to]);
	ck_assert_int_eq(fx_rename(&fx, INO_ROOT, old, INO_ROOT, new, 0), 0);
	inos[to] = inos[from];
	inos[from] = 0;
}

static void write_file(unsigned file, unsigned flags)
{
	static uint8_t buf[300000] __attribute__((aligned(4096)));
	uint64_t at = below(FILE_BYTES), len = 1 + below(below(3) ? 9000 : sizeof(buf) - 1);

	if (flags & DATA_DIRECT) {
		at &= ~4095ull;
		len = (len + 4095) & ~4095ull;
		len = len < sizeof(buf) ? len : sizeof(buf) & ~4095ull;
	}
	memset(buf, below(256), len);
	int64_t r = fx_write(&fx, inos[file], at, buf, len, flags);
	/* Less where there is no more room. */
	ck_assert((tight && r > 0 && (uint64_t)r < len) || done(r, (int64_t)len));
}

static void truncate_file(unsigned file)
{
	const struct inode_attr attr = { .size_bytes = below(FILE_BYTES) };
	struct inode_attr out;

	ck_assert_int_eq(fx_setattr(&fx, inos[file], ATTR_SIZE, &attr, &out), 0);
}

static void change_range(unsigned file, int mode)
{
	const uint64_t offset = below(FILE_BYTES), len = 1 + below(FILE_BYTES / 2);

	ck_assert(done(fx_fallocate(&fx, inos[file], mode, offset, len), 0));
}

static void copy_range(unsigned file, unsigned to)
{
	const uint64_t offset = below(FILE_BYTES / 4096) * 4096ull, to_offset = below(FILE_BYTES / 4096) * 4096ull;
	const uint64_t len = below(FILE_BYTES / 4096) * 4096ull;
	int64_t copied;

	if (trace)
		printf("  copy %llu..+%llu to inode %llu at %llu\n", (unsigned long long)offset,
		       (unsigned long long)len, (unsigned long long)inos[to], (unsigned long long)to_offset);
	if (file == to || !inos[to])
		return;
	copied = fx_copy(&fx, inos[file], inos[to], offset, to_offset, len);
	ck_assert(copied >= 0 || copied == -EOPNOTSUPP || copied == -EXDEV || done(copied, 0));
}

static void step(void)
{
	const unsigned file = below(FILES);
	unsigned what;

	if (!inos[file]) {
		make_file(file);
		return;
	}
	what = below(16);
	if (trace)
		printf("inode %llu op %u\n", (unsigned long long)inos[file], what);
	switch (what) {
	case 0:
		remove_file(file);
		break;
	case 1:
		rename_file(file, below(FILES));
		break;
	case 2:
		truncate_file(file);
		break;
	case 3:
		change_range(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
		break;
	case 4:
		change_range(file, below(2) ? FALLOC_FL_ZERO_RANGE : 0);
		break;
	case 5:
	case 6:
		copy_range(file, below(FILES));
		break;
	case 7:
		ck_assert_int_eq(fx_fsync(&fx, below(4) ? inos[file] : INO_ROOT), 0);
		break;
	case 8:
	case 9:
		write_file(file, DATA_DIRECT);
		break;
	case 10:
		write_file(file, DATA_DSYNC);
		break;
	default:
		write_file(file, 0);
		break;
	}
}

/* Every other round on a subvolume that compresses. */
static void use_compression(void)
{
	const struct subvol_options opts = { .size_bytes = 30 * MIB, .compression = COMPRESSION_LZ4 };

	ck_assert_int_eq(subvol_close(fx.sv), 0);
	fx.sv = NULL;
	ck_assert_int_eq(subvol_create(fx.pool, "lz4", &opts, NULL, 0), 0);
	ck_assert_int_eq(subvol_open(fx.pool, "lz4", false, &fx.sv), 0);
}

static unsigned run_round(unsigned long seed)
{
	srandom((unsigned)seed);
	memset(inos, 0, sizeof(inos));
	fixture_make(&fx, 128 * MIB, 40 * MIB, NULL);
	tight = seed % 3 == 0;
	if (seed % 2 == 0)
		use_compression();
	if (tight)
		ck_assert_int_eq(subvol_resize(fx.pool, seed % 2 ? "sv" : "lz4", 5 * MIB, 0, NULL, 0), 0);
	sim_set_step_hook(fx.dev, maybe_keep, (void *)(uintptr_t)(seed * 7919 + 1));
	for (unsigned i = 0; i < OPS; i++)
		step();
	fixture_settle(&fx, 200);
	sim_set_step_hook(fx.dev, NULL, NULL);
	fixture_end(&fx);
	return check_states(seed);
}

START_TEST(every_state_is_clean)
{
	unsigned states_checked = 0;

	log_set_sink(drop_line, NULL);
	for (unsigned long i = 0; i < rounds; i++)
		states_checked += run_round(first_seed + i);
	printf("%u states checked\n", states_checked);
	ck_assert_uint_gt(states_checked, 0);
}
END_TEST

static unsigned long env_number(const char *name, unsigned long otherwise)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : otherwise;
}

int main(void)
{
	Suite *suite = suite_create("crash");
	TCase *tcase = tcase_create("crash");

	rounds = env_number("CRASH_TEST_ROUNDS", 3);
	trace = env_number("CRASH_TEST_TRACE", 0);
	first_seed = env_number("CRASH_TEST_SEED", 1);
	tcase_set_timeout(tcase, UNIT_LIMIT_S + 60 * (double)rounds);
	tcase_add_test(tcase, every_state_is_clean);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
