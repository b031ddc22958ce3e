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

/* Runs the tests listed up to a NULL as one suite and one case, each within 60 s. */
static inline int unit_run(const char *name, ...)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);
	const TTest *test;
	va_list ap;

	tcase_set_timeout(tcase, 60);
	va_start(ap, name);
	while ((test = va_arg(ap, const TTest *)))
		tcase_add_test(tcase, test);
	va_end(ap);
	suite_add_tcase(suite, tcase);
	return unit_run_suite(suite);
}

#endif
