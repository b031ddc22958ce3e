/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random tenants, subvolumes, snapshots, clones, rollbacks, deletes, changes of data and names, and limits, against a model (tree_model.h):
 * contents of every node, blocks and inodes used, df, every refusal, what tenants and the pool count, and what is left when all is deleted.
 *
 * NVFS_TEST_SEED and NVFS_TEST_ROUNDS change what is run; with NVFS_TEST_THOROUGH all contents are compared after each step. Over the seeds
 * that are run without them each limit refuses, by one block too, and allows what just fits.
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

static void run(struct tree_options *opts, long default_seed, long default_rounds)
{
	const long rounds = env_number("NVFS_TEST_ROUNDS", default_rounds), first = env_number("NVFS_TEST_SEED", default_seed);

	opts->thorough = env_number("NVFS_TEST_THOROUGH", 0);
	for (long round = 0; round < rounds; round++) {
		opts->seed = first + round;
		tree_begin(opts);
		for (unsigned i = 1; i <= STEPS; i++) {
			tree_step();
			if (opts->limits || opts->thorough)
				tree_compare_step();
			if (i % 60 == 0)
				tree_compare(i % 120 == 0);
		}
		tree_end();
	}
	if (opts->limits)
		tree_print_refusals(first == default_seed && rounds >= default_rounds && default_rounds > 1);
}

START_TEST(any_order)
{
	run(&(struct tree_options){ .threads = _i & 1, .packs = _i & 2, .stalls = _i & 4 }, 1, 1);
}
END_TEST

/* Enough of them for each limit, and some in other weather. */
START_TEST(refusals)
{
	run(&(struct tree_options){ .threads = _i & 1, .packs = _i & 2, .stalls = _i & 1, .limits = true }, 13, _i ? 1 : 4);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree_model");

	tcase_set_timeout(unit_add(suite, "any_order", any_order, 8), 36000);
	tcase_set_timeout(unit_add(suite, "refusals", refusals, 4), 36000);
	return unit_run_suite(suite);
}
