/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/epoch.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "tests/unit/unit.h"

START_TEST(nothing_inside_passes_at_once)
{
	struct epoch_domain *d;

	ck_assert_int_eq(epoch_domain_create(2, &d), 0);
	for (unsigned i = 0; i < 20; i++)
		ck_assert(epoch_passed(d, epoch_tag(d)));
	epoch_domain_destroy(d);
}
END_TEST

START_TEST(a_reader_holds_its_tag_and_later_ones)
{
	struct epoch_domain *d;
	struct epoch_pin old, young;
	uint64_t before, tag;

	ck_assert_int_eq(epoch_domain_create(2, &d), 0);
	before = epoch_tag(d);
	ck_assert(epoch_passed(d, before));
	epoch_enter(d, 1, &old);
	tag = epoch_tag(d);
	ck_assert(!epoch_passed(d, tag));
	epoch_enter(d, 0, &young);
	ck_assert(epoch_passed(d, before));
	epoch_exit(d, &old);
	ck_assert(epoch_passed(d, tag)); /* young came later */
	ck_assert(!epoch_passed(d, epoch_tag(d)));
	epoch_exit(d, &young);
	ck_assert(epoch_passed(d, epoch_tag(d)));
	epoch_domain_destroy(d);
}
END_TEST

/* One read that never ends stops reuse, but neither reads nor tags. */
START_TEST(a_stuck_reader_blocks_without_overrun)
{
	struct epoch_domain *d;
	struct epoch_pin stuck, other;
	uint64_t tag, first;

	ck_assert_int_eq(epoch_domain_create(1, &d), 0);
	epoch_enter(d, 0, &stuck);
	first = epoch_tag(d);
	for (unsigned i = 0; i < 20; i++) {
		epoch_enter(d, 0, &other);
		tag = epoch_tag(d);
		ck_assert(!epoch_passed(d, tag));
		epoch_exit(d, &other);
		ck_assert(!epoch_passed(d, first));
		ck_assert(!epoch_passed(d, tag));
	}
	epoch_exit(d, &stuck);
	ck_assert(epoch_passed(d, first));
	ck_assert(epoch_passed(d, epoch_tag(d)));
	epoch_domain_destroy(d);
}
END_TEST

/*
 * Readers look a block up in `mapped` and then check that its content is what
 * was mapped; the writer reuses an unmapped block for something else as soon
 * as it may.
 */
#define READERS 3u
#define BLOCKS 8u
#define ROUNDS 3000u

static struct epoch_domain *shared;
static atomic_uint mapped;
static atomic_uint content[BLOCKS]; /* 1: in use, 0: free */
static atomic_bool over;
static atomic_uint bad;

static void *read_blocks(void *arg)
{
	unsigned slot = (unsigned)(uintptr_t)arg;

	while (!atomic_load(&over)) {
		struct epoch_pin pin;
		unsigned block;

		epoch_enter(shared, slot, &pin);
		block = atomic_load(&mapped);
		for (unsigned i = 0; i < 20; i++)
			if (!atomic_load(&content[block]))
				atomic_fetch_add(&bad, 1);
		epoch_exit(shared, &pin);
	}
	return NULL;
}

START_TEST(no_block_is_reused_under_a_reader)
{
	pthread_t thread[READERS];

	ck_assert_int_eq(epoch_domain_create(READERS, &shared), 0);
	atomic_store(&content[0], 1);
	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&thread[i], NULL, read_blocks, (void *)(uintptr_t)i);
	for (unsigned round = 1; round < ROUNDS; round++) {
		unsigned old = atomic_load(&mapped), block = round % BLOCKS;
		uint64_t tag;

		atomic_store(&content[block], 1);
		atomic_store(&mapped, block);
		tag = epoch_tag(shared);
		while (!epoch_passed(shared, tag))
			sched_yield(); /* there may be one processor for all */
		atomic_store(&content[old], 0);
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(atomic_load(&bad), 0);
	epoch_domain_destroy(shared);
}
END_TEST

int main(void)
{
	return unit_run("epoch", nothing_inside_passes_at_once,
			a_reader_holds_its_tag_and_later_ones,
			a_stuck_reader_blocks_without_overrun, no_block_is_reused_under_a_reader,
			NULL);
}
