/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every unit test's main() needs, and nothing else:
 *
 *	START_TEST(one) { ... } END_TEST
 *	int main(void) { return unit_run("log", one, two, NULL); }
 */
#ifndef NVFS_TESTS_UNIT_H
#define NVFS_TESTS_UNIT_H

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define UNIT_SKIP 77

/* Seconds for one test: for one that hangs, and long enough for a sanitizer on a machine that has much else to do. */
#define UNIT_LIMIT_S 240

/* Leaves the program as skipped; call it before unit_run(), as the first thing in main(). */
static inline void unit_skip(const char *reason)
{
	printf("skip: %s\n", reason);
	exit(UNIT_SKIP);
}

/*
 * Runs a suite that the caller put together; 0 or EXIT_FAILURE. Takes over `suite`.
 * CK_RUN_CASE, CK_FORK=no (for gdb) and CK_TIMEOUT_MULTIPLIER work as the manual of check says.
 */
static inline int unit_run_suite(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Adds a test as a case of its own (CK_RUN_CASE finds it), which runs with _i = 0 .. times - 1. */
static inline TCase *unit_add(Suite *suite, const char *name, const TTest *test, int times)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	tcase_add_loop_test(tcase, test, 0, times);
	suite_add_tcase(suite, tcase);
	return tcase;
}

/* Runs the tests listed up to a NULL as one suite and one case. */
static inline int unit_run(const char *name, ...)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);
	const TTest *test;
	va_list ap;

	tcase_set_timeout(tcase, UNIT_LIMIT_S);
	va_start(ap, name);
	while ((test = va_arg(ap, const TTest *)))
		tcase_add_test(tcase, test);
	va_end(ap);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}

#endif
