/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Freed space reaches the device as discards, and only that. */
#include "config.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/meta_fixture.h"
#include "tests/unit/unit.h"

#define MIB (UINT64_C(1) << 20)
#define KIB UINT64_C(1024)

static struct meta_fixture fx;

static void fill(uint64_t ino, char with)
{
	static char buf[256 * KIB];

	memset(buf, with, sizeof(buf));
	for (uint64_t at = 0; at < 4 * MIB; at += sizeof(buf))
		ck_assert_int_eq(fx_write(&fx, ino, at, buf, sizeof(buf), 0), sizeof(buf));
	ck_assert_int_eq(fx_fsync(&fx, ino), 0);
}

static uint64_t discarded(void)
{
	struct device_health health;

	device_health(fx.dev, &health);
	return health.discarded_bytes;
}

START_TEST(freed_space_is_discarded)
{
	struct inode_attr keep, gone;

	fixture_make(&fx, 256 * MIB, 64 * MIB, NULL);
	ck_assert_int_eq(fx_create(&fx, INO_ROOT, "keep", S_IFREG | 0600, &keep), 0);
	ck_assert_int_eq(fx_create(&fx, INO_ROOT, "gone", S_IFREG | 0600, &gone), 0);
	fill(keep.ino, 'k');
	fill(gone.ino, 'g');
	usleep(1200000);
	ck_assert_uint_eq(discarded(), 0);
	ck_assert_int_eq(fx_unlink(&fx, INO_ROOT, "gone"), 0);
	/* Only what is durable is free, and the thread looks once a second. */
	for (int i = 0; i < 600 && discarded() < 3 * MIB; i++) {
		fixture_settle(&fx, 100);
		ck_assert_int_eq(fx_fsync(&fx, INO_ROOT), 0);
		usleep(200000);
	}
	ck_assert_uint_ge(discarded(), 3 * MIB);
	ck_assert_uint_le(discarded(), 4 * MIB);
	/* Closing checks that all data is still what its checksums say. */
	fixture_end(&fx);
}
END_TEST

int main(void)
{
	return unit_run("discard", freed_space_is_discarded, NULL);
}
