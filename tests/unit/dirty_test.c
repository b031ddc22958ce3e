/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slots of dirty blocks: each has one owner at a time, and what was whole is found again. */
#include "config.h"

#include "meta/dirty.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "meta/records.h"
#include "tests/unit/unit.h"

#define SLOTS 100u

static void *area_new(uint32_t slots)
{
	size_t bytes = dirty_area_size(slots);
	void *area = aligned_alloc(4096, bytes);

	ck_assert_uint_eq(bytes % 4096, 0);
	memset(area, 0, bytes);
	return area;
}

static struct dirty *make(void *area, uint32_t slots)
{
	struct dirty *d;

	ck_assert_int_eq(dirty_create(area, slots, &d), 0);
	return d;
}

/* Nothing of a slot is another's, and all of it lies in the area. */
START_TEST(slots_are_apart)
{
	uint8_t *area = area_new(SLOTS), *end = area + dirty_area_size(SLOTS);
	struct dirty *d = make(area, SLOTS);
	bool seen[SLOTS] = { false };

	ck_assert_uint_eq(dirty_slots(d), SLOTS);
	for (uint32_t n = 0; n < SLOTS; n++) {
		int64_t slot;

		ck_assert_uint_eq(dirty_free_slots(d), SLOTS - n);
		slot = dirty_get(d);
		ck_assert_int_ge(slot, 0);
		ck_assert_int_lt(slot, SLOTS);
		ck_assert(!seen[slot]);
		seen[slot] = true;
		ck_assert_uint_eq(dirty_header(d, (uint32_t)slot)->state, DIRTY_FILLING);
		ck_assert_uint_eq((uintptr_t)dirty_data(d, (uint32_t)slot) % 4096, 0);
		ck_assert((uint8_t *)dirty_data(d, (uint32_t)slot) + 4096 <= end);
		memset(dirty_data(d, (uint32_t)slot), (int)slot, 4096);
		dirty_header(d, (uint32_t)slot)->block = (uint64_t)slot;
	}
	ck_assert_int_eq(dirty_get(d), -1);
	ck_assert_uint_eq(dirty_free_slots(d), 0);
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		const uint8_t *data = dirty_data(d, slot);

		ck_assert_uint_eq(dirty_header(d, slot)->block, slot);
		ck_assert(data[0] == slot && data[4095] == slot);
	}
	dirty_put(d, 41);
	ck_assert_int_eq(dirty_get(d), 41);
	ck_assert_int_eq(dirty_get(d), -1);
	dirty_destroy(d);
	free(area);
}
END_TEST

static uint32_t seal(struct dirty *d, uint64_t sequence)
{
	uint32_t slot = (uint32_t)dirty_get(d);
	struct dirty_header *h = dirty_header(d, slot);

	h->subvol = 7;
	h->ino = 1000 + slot;
	h->sequence = sequence;
	memset(dirty_data(d, slot), (int)sequence, 4096);
	__atomic_store_n(&h->state, DIRTY_VALID, __ATOMIC_RELEASE);
	return slot;
}

struct found {
	uint64_t sequences; /* as bits */
	unsigned count, stop_at;
	struct dirty *d;
};

static int find(void *arg, uint32_t slot, struct dirty_header *h)
{
	struct found *f = arg;

	ck_assert_uint_eq(h->subvol, 7);
	ck_assert_uint_eq(h->ino, 1000 + slot);
	ck_assert_uint_eq(((uint8_t *)dirty_data(f->d, slot))[4095], h->sequence);
	f->sequences |= UINT64_C(1) << h->sequence;
	return ++f->count == f->stop_at ? 99 : 0;
}

/* A worker died with blocks that were whole, one that it was filling, and one that it had given back. */
START_TEST(what_was_whole_is_left)
{
	void *area = area_new(SLOTS);
	struct dirty *d = make(area, SLOTS);
	struct found f = { 0 };
	uint32_t kept, filling, given;

	kept = seal(d, 3);
	filling = (uint32_t)dirty_get(d);
	dirty_header(d, filling)->subvol = 7; /* all of it but the state */
	dirty_header(d, filling)->ino = 1000 + filling;
	given = seal(d, 4);
	seal(d, 5);
	dirty_put(d, given);
	ck_assert_uint_eq(dirty_header(d, given)->sequence, 0);
	dirty_destroy(d);

	d = f.d = make(area, SLOTS);
	ck_assert_uint_eq(dirty_free_slots(d), SLOTS - 2);
	ck_assert_int_eq(dirty_each_left(d, find, &f), 0);
	ck_assert_uint_eq(f.sequences, UINT64_C(1) << 3 | UINT64_C(1) << 5);
	f = (struct found){ .d = d, .stop_at = 1 };
	ck_assert_int_eq(dirty_each_left(d, find, &f), 99);
	ck_assert_uint_eq(f.count, 1);
	/* None of those is given to anybody before it was put. */
	for (unsigned i = 0; i < SLOTS - 2; i++) {
		int64_t slot = dirty_get(d);

		ck_assert_int_ge(slot, 0);
		ck_assert_uint_ne(dirty_header(d, (uint32_t)slot)->state, DIRTY_VALID);
		ck_assert_int_ne(slot, kept);
	}
	ck_assert_int_eq(dirty_get(d), -1);
	dirty_put(d, kept);
	ck_assert_int_eq(dirty_get(d), kept);
	f = (struct found){ .d = d };
	ck_assert_int_eq(dirty_each_left(d, find, &f), 0);
	ck_assert_uint_eq(f.sequences, UINT64_C(1) << 5);
	dirty_destroy(d);
	free(area);
}
END_TEST

/* ---- Threads ---- */

#define CROWD 4
#define CROWD_SLOTS 16u
#define CROWD_TURNS 60000u

struct crowd {
	struct dirty *d;
	_Atomic int owner[CROWD_SLOTS];
	_Atomic bool go;
};

struct member {
	struct crowd *crowd;
	int me;
	unsigned got, wrong;
};

static void *member_run(void *arg)
{
	struct member *m = arg;
	struct crowd *c = m->crowd;
	uint32_t held[CROWD_SLOTS];
	unsigned n = 0, seed = (unsigned)m->me * 77u;

	while (!atomic_load(&c->go))
		sched_yield();
	for (unsigned i = 0; i < CROWD_TURNS || !m->got; i++) {
		seed = seed * 1103515245u + 12345u;
		if (n < 6 && seed >> 16 & 1) {
			int64_t slot = dirty_get(c->d);
			int none = 0;

			if (slot < 0) {
				sched_yield(); /* those who hold them may wait for this processor */
				continue;
			}
			m->wrong += !atomic_compare_exchange_strong(&c->owner[slot], &none, m->me);
			held[n++] = (uint32_t)slot;
			m->got++;
		} else if (n) {
			uint32_t slot = held[--n];

			m->wrong += atomic_exchange(&c->owner[slot], 0) != m->me;
			dirty_put(c->d, slot);
		}
	}
	while (n) {
		atomic_store(&c->owner[held[--n]], 0);
		dirty_put(c->d, held[n]);
	}
	return NULL;
}

/* Fewer slots than they want, so that the same ones come and go between a look and its exchange. */
START_TEST(one_owner_at_a_time)
{
	static struct crowd c;
	struct member members[CROWD];
	pthread_t threads[CROWD];
	void *area = area_new(CROWD_SLOTS);
	unsigned n = 0;

	memset(&c, 0, sizeof(c));
	c.d = make(area, CROWD_SLOTS);
	for (int i = 0; i < CROWD; i++) {
		members[i] = (struct member){ .crowd = &c, .me = i + 1 };
		ck_assert_int_eq(pthread_create(&threads[i], NULL, member_run, &members[i]), 0);
	}
	atomic_store(&c.go, true);
	for (int i = 0; i < CROWD; i++) {
		pthread_join(threads[i], NULL);
		ck_assert_uint_eq(members[i].wrong, 0);
		ck_assert_uint_gt(members[i].got, 0);
	}
	ck_assert_uint_eq(dirty_free_slots(c.d), CROWD_SLOTS);
	while (dirty_get(c.d) >= 0)
		n++;
	ck_assert_uint_eq(n, CROWD_SLOTS); /* the stack has lost none */
	dirty_destroy(c.d);
	free(area);
}
END_TEST

int main(void)
{
	return unit_run("dirty", slots_are_apart, what_was_whole_is_left, one_owner_at_a_time, NULL);
}
