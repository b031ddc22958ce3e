/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "meta/inoset.h"
#include "meta/lookups.h"
#include "tests/unit/unit.h"

#define INODES 200000u

static void *area;
static struct lookup_store *store;
static struct lookups *table;

static void setup(void)
{
	area = mmap(NULL, lookup_store_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert(area != MAP_FAILED);
	ck_assert_int_eq(lookup_store_create(area, &store), 0);
	ck_assert_int_eq(lookups_open(store, 5, &table), 0);
}

static void teardown(void)
{
	lookups_close(table, true);
	lookup_store_destroy(store);
	munmap(area, lookup_store_bytes());
}

/* As a new process would find it. */
static void take_over(void)
{
	lookups_close(table, false);
	lookup_store_destroy(store);
	ck_assert_int_eq(lookup_store_create(area, &store), 0);
	ck_assert_int_eq(lookups_open(store, 5, &table), 0);
}

static uint64_t count_of(uint64_t ino)
{
	return ino % 7 + 1;
}

START_TEST(counts_and_grows)
{
	for (uint64_t ino = 1; ino <= INODES; ino++)
		ck_assert(lookups_add(table, ino, count_of(ino)));
	ck_assert_uint_eq(lookups_count(table), INODES);
	for (unsigned round = 0; round < 2; round++) {
		for (uint64_t ino = 1; ino <= INODES; ino++)
			ck_assert_uint_eq(lookups_get(table, ino), count_of(ino));
		ck_assert_uint_eq(lookups_get(table, INODES + 1), 0);
		take_over();
	}
	for (uint64_t ino = 1; ino <= INODES; ino++)
		ck_assert_uint_eq(lookups_sub(table, ino, 1), count_of(ino) - 1);
	for (uint64_t ino = 1; ino <= INODES; ino++)
		ck_assert_uint_eq(lookups_sub(table, ino, 100), 0);
	ck_assert_uint_eq(lookups_count(table), 0);
	ck_assert(!lookups_in_doubt(table));
}
END_TEST

START_TEST(tables_are_apart)
{
	struct lookups *other;

	ck_assert_int_eq(lookups_open(store, 6, &other), 0);
	for (uint64_t ino = 1; ino <= 10000; ino++) {
		lookups_add(table, ino, 1);
		lookups_add(other, ino, 2);
	}
	lookups_close(other, false);
	take_over();
	ck_assert_int_eq(lookups_open(store, 6, &other), 0);
	ck_assert_uint_eq(lookups_get(table, 77), 1);
	ck_assert_uint_eq(lookups_get(other, 77), 2);
	lookups_clear(table);
	ck_assert_uint_eq(lookups_get(table, 77), 0);
	ck_assert_uint_eq(lookups_get(other, 77), 2);
	lookups_close(other, true);
	ck_assert_int_eq(lookups_open(store, 6, &other), 0);
	ck_assert_uint_eq(lookups_count(other), 0);
	lookups_close(other, true);
}
END_TEST

/*
 * Works until it is killed; at each moment every even inode up to *done is in the table, with its count. The table has a
 * largest size, which is not reached however long it takes until somebody kills this one.
 */
static void victim(_Atomic uint64_t *done)
{
	for (uint64_t ino = 1; ino <= INODES; ino++) {
		lookups_add(table, ino, count_of(ino));
		if (ino % 2 == 0)
			*done = ino;
		else if (ino > 100)
			lookups_sub(table, ino - 100, 100);
	}
	while (true)
		pause();
}

START_TEST(survives_kill)
{
	_Atomic uint64_t *done =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (unsigned round = 0; round < 40; round++) {
		pid_t pid;

		lookups_clear(table);
		*done = 0;
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid)
			victim(done);
		while (!*done)
			usleep(100);
		usleep(500 + round * 700);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		take_over();
		for (uint64_t ino = 1; ino <= *done; ino++) {
			const uint64_t wanted = ino % 2 ? 0 : count_of(ino);

			if (lookups_get(table, ino) != wanted && (ino % 2 == 0 || ino + 300 < *done))
				ck_abort_msg("round %u: inode %lu of %lu", round, (unsigned long)ino, (unsigned long)*done);
		}
		ck_assert(!lookups_in_doubt(table));
	}
	munmap(done, 4096);
}
END_TEST

START_TEST(set_of_inodes)
{
	struct inoset set = { 0 };

	ck_assert(!inoset_has(&set, 1));
	ck_assert(!inoset_remove(&set, 1));
	for (uint64_t ino = 1; ino < 5000; ino++)
		ck_assert_int_eq(inoset_add(&set, ino * 4096), 0);
	ck_assert_int_eq(inoset_add(&set, 4096), 0);
	ck_assert_uint_eq(set.count, 4999);
	for (uint64_t ino = 1; ino < 5000; ino += 2)
		ck_assert(inoset_remove(&set, ino * 4096));
	for (uint64_t ino = 1; ino < 5000; ino++)
		ck_assert(inoset_has(&set, ino * 4096) == (ino % 2 == 0));
	inoset_free(&set);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("lookups");
	TCase *tcase = tcase_create("lookups");

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, counts_and_grows);
	tcase_add_test(tcase, tables_are_apart);
	tcase_add_test(tcase, survives_kill);
	tcase_add_test(tcase, set_of_inodes);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}
