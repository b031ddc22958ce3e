/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who may have how many slots of dirty blocks. */
#include "config.h"

#include <string.h>

#include "meta/room.h"
#include "meta/subvol_internal.h"
#include "meta/tenant.h"
#include "tests/unit/data_rig.h"
#include "tests/unit/unit.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)

/* Of 8000 slots: how many more one may take, at most. */
static uint64_t most(struct room_view v)
{
	uint64_t n = 0;

	v.all = 8000;
	while (n < v.left && room_allows(&v, n + 1))
		n++;
	return n;
}

START_TEST(one_alone_leaves_an_eighth)
{
	ck_assert_uint_eq(most((struct room_view){ .left = 8000 }), 8000); /* once, as one write */
	ck_assert_uint_eq(most((struct room_view){ .left = 5000, .tenant_holds = 3000, .subvol_holds = 3000, .tenants = 1, .subvols = 1 }),
			  4000);
	ck_assert_uint_eq(most((struct room_view){ .left = 1000, .tenant_holds = 7000, .subvol_holds = 7000, .tenants = 1, .subvols = 1 }), 0);
}
END_TEST

START_TEST(another_tenant_has_the_rest)
{
	/* It holds nothing yet, then more and more, beside one that holds 7000. */
	ck_assert_uint_eq(most((struct room_view){ .left = 1000, .tenants = 1 }), 1000);
	ck_assert_uint_eq(most((struct room_view){ .left = 900, .tenant_holds = 100, .subvol_holds = 100, .tenants = 2, .subvols = 1 }), 900);
	/* When the first one's were written back, up to its share: a half of the tenant's third for its only subvolume. */
	ck_assert_uint_eq(most((struct room_view){ .left = 999, .tenant_holds = 1300, .subvol_holds = 1300, .tenants = 2, .subvols = 1 }), 33);
	ck_assert_uint_eq(most((struct room_view){ .left = 999, .tenant_holds = 1333, .subvol_holds = 1333, .tenants = 2, .subvols = 1 }), 0);
}
END_TEST

/* The last eighth is not for one more subvolume of a tenant that has its share. */
START_TEST(many_subvolumes_are_one_tenant)
{
	ck_assert_uint_eq(most((struct room_view){ .left = 1000, .tenant_holds = 7000, .tenants = 1, .subvols = 3 }), 0);
	ck_assert_uint_eq(most((struct room_view){ .left = 500, .tenant_holds = 2600, .subvol_holds = 10, .tenants = 2, .subvols = 9 }), 66);
	ck_assert_uint_eq(most((struct room_view){ .left = 999, .tenant_holds = 10, .subvol_holds = 10, .tenants = 2, .subvols = 1 }), 999);
}
END_TEST

START_TEST(who_has_nothing_gets_on)
{
	ck_assert_uint_eq(most((struct room_view){ .left = 600, .tenant_holds = 500, .tenants = 2, .subvols = 400 }), 600);
	ck_assert_uint_eq(most((struct room_view){ .left = 600, .tenants = 100 }), 600);
	ck_assert_uint_eq(most((struct room_view){ .left = 3, .tenants = 100 }), 3);
	ck_assert_uint_eq(most((struct room_view){ .left = 0, .tenants = 100 }), 0);
}
END_TEST

/* Whoever wants, gets as much as the others: each takes what it may until nobody gets any more, and what any of them gives back goes on. */
START_TEST(two_come_to_equal_parts)
{
	uint64_t holds[2] = { 7000, 0 };

	for (unsigned round = 0; round < 2000; round++) {
		holds[0] -= holds[0] > 10 ? 10 : holds[0]; /* written back */
		holds[1] -= holds[1] > 10 ? 10 : holds[1];
		for (unsigned i = 0; i < 2; i++) {
			struct room_view v = { .all = 8000, .left = 8000 - holds[0] - holds[1], .tenant_holds = holds[i],
					       .subvol_holds = holds[i], .tenants = (holds[0] > 0) + (holds[1] > 0), .subvols = holds[i] > 0 };

			for (unsigned n = 0; n < 20 && room_allows(&v, 1); n++) {
				holds[i]++;
				v.left--;
				v.tenant_holds = v.subvol_holds = holds[i];
			}
		}
	}
	ck_assert_uint_ge(holds[1], 1333);
	ck_assert_uint_le(holds[0] + holds[1], 8000);
}
END_TEST

/* ---- Subvolumes ---- */

static uint64_t tenant_dirty(const struct rig *rig)
{
	return atomic_load(&rig->sv->tenant->dirty_blocks);
}

START_TEST(what_is_held_is_counted)
{
	struct subvol_options options = { .size_bytes = 8 * MIB };
	struct rig rig, other;
	uint64_t a, b;
	uint8_t block[4096] = { 1 };

	rig_make(&rig, NULL);
	ck_assert_int_eq(subvol_create(rig.pool, "second", &options, NULL, 0), 0);
	other = rig;
	ck_assert_int_eq(subvol_open(rig.pool, "second", false, &other.sv), 0);
	a = rig_create(&rig, "a");
	b = rig_create(&other, "b");
	ck_assert_int_eq(rig_write(&rig, a, 0, block, 4096, 0), 4096);
	ck_assert_int_eq(rig_write(&rig, a, 8192, block, 4096, 0), 4096);
	ck_assert_int_eq(rig_write(&other, b, 0, block, 4096, 0), 4096);
	ck_assert_uint_eq(tenant_dirty(&rig), 3);
	ck_assert_uint_eq(atomic_load(&rig.sv->tenant->dirty_subvols), 2);
	ck_assert_uint_eq(atomic_load(&rig.pool->dirty_tenants), 1);
	ck_assert_int_eq(rig_fsync(&rig, a), 0);
	ck_assert_uint_eq(tenant_dirty(&rig), 1);
	ck_assert_uint_eq(atomic_load(&rig.sv->tenant->dirty_subvols), 1);
	ck_assert_int_eq(rig_fsync(&other, b), 0);
	ck_assert_uint_eq(tenant_dirty(&rig), 0);
	ck_assert_uint_eq(atomic_load(&rig.sv->tenant->dirty_subvols), 0);
	ck_assert_uint_eq(atomic_load(&rig.pool->dirty_tenants), 0);
	ck_assert_int_eq(subvol_close(other.sv), 0);
	rig_free(&rig);
}
END_TEST

/* Small files, of which none is written back for its own size, and nobody who waits: more than a half of the cap never stays. */
START_TEST(half_of_the_cap_is_written_back_ahead)
{
	struct rig_options options = { .dirty_bytes = 4 * MIB }; /* 1024 slots */
	uint8_t *buf = calloc(1, 64 * KIB);
	struct subvol_stats stats;
	struct rig rig;
	char name[16];

	rig_make(&rig, &options);
	for (unsigned i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		memset(buf, (int)i + 1, 64 * KIB);
		ck_assert_int_eq(rig_write(&rig, rig_create(&rig, name), 0, buf, 64 * KIB, 0), 64 * KIB);
	}
	for (unsigned i = 0; i < 200; i++)
		rig_turn(&rig, 1);
	subvol_stats(rig.sv, &stats);
	ck_assert_uint_le(stats.dirty_blocks, 512);
	rig_free(&rig);
	free(buf);
}
END_TEST

int main(void)
{
	return unit_run("room", one_alone_leaves_an_eighth, another_tenant_has_the_rest, many_subvolumes_are_one_tenant,
			who_has_nothing_gets_on, two_come_to_equal_parts, what_is_held_is_counted,
			half_of_the_cap_is_written_back_ahead, NULL);
}
