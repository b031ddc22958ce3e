/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random subvolumes, snapshots, clones, rollbacks, deletes, changes of data and names, and limits, against a model (tree_model.h): contents
 * of every node, blocks and inodes used, every refusal, what tenant and pool count, and what is left when all is deleted.
 *
 * NVFS_TEST_SEED and NVFS_TEST_ROUNDS change what is run.
 */
#include "config.h"

#include <stdlib.h>

#include "tests/unit/tree_model.h"
#include "tests/unit/unit.h"

#define STEPS 240u

static long env_number(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text ? atol(text) : otherwise;
}

static void run(struct tree_options *opts)
{
	const long rounds = env_number("NVFS_TEST_ROUNDS", 1), first = env_number("NVFS_TEST_SEED", 1);

	for (long round = 0; round < rounds; round++) {
		opts->seed = first + round;
		tree_begin(opts);
		for (unsigned i = 1; i <= STEPS; i++) {
			tree_step();
			if (i % 60 == 0)
				tree_compare(i % 120 == 0);
		}
		tree_end();
	}
}

START_TEST(any_order)
{
	run(&(struct tree_options){ .threads = _i & 1, .packs = _i & 2 });
}
END_TEST

START_TEST(refusals)
{
	run(&(struct tree_options){ .threads = _i & 1, .packs = _i & 2, .limits = true });
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree_model");

	tcase_set_timeout(unit_add(suite, "any_order", any_order, 4), 36000);
	tcase_set_timeout(unit_add(suite, "refusals", refusals, 4), 36000);
	return unit_run_suite(suite);
}
