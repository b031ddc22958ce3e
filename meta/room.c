/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <stdatomic.h>

#include "meta/dirty.h"
#include "meta/room.h"
#include "meta/subvol_internal.h"
#include "meta/tenant.h"

static uint64_t share(uint64_t of, uint64_t holders)
{
	return of / (holders + 1);
}

bool room_allows(const struct room_view *v, uint64_t n)
{
	/* Who holds nothing yet is one more than those who do. */
	const uint64_t tenants = v->tenants + (v->tenant_holds ? 0 : 1), subvols = v->subvols + (v->subvol_holds ? 0 : 1);
	const uint64_t tenant_share = share(v->all, tenants), subvol_share = share(tenant_share, subvols);

	if (v->left < n)
		return false;
	if (v->left - n >= v->all / 8)
		return true;
	if (v->tenant_holds && v->tenant_holds + n > tenant_share)
		return false;
	return !v->subvol_holds || v->subvol_holds + n <= subvol_share;
}

bool room_is_there(const struct subvol *sv, uint64_t n)
{
	const struct pool *pool = sv->pool;
	const struct room_view v = {
		.all = dirty_slots(pool->dirty),
		.left = dirty_free_slots(pool->dirty),
		.tenant_holds = atomic_load_explicit(&sv->tenant->dirty_blocks, memory_order_relaxed),
		.subvol_holds = atomic_load_explicit(&sv->dirty_blocks, memory_order_relaxed),
		.tenants = atomic_load_explicit(&pool->dirty_tenants, memory_order_relaxed),
		.subvols = atomic_load_explicit(&sv->tenant->dirty_subvols, memory_order_relaxed),
	};

	return room_allows(&v, n);
}

/* Adds n to what somebody holds, and follows in `holders` whether that is anything. */
static void count(_Atomic uint64_t *holds, _Atomic uint32_t *holders, int64_t n)
{
	const uint64_t before = atomic_fetch_add_explicit(holds, (uint64_t)n, memory_order_relaxed);

	if (!before && n)
		atomic_fetch_add_explicit(holders, 1, memory_order_relaxed);
	else if (before && before + (uint64_t)n == 0)
		atomic_fetch_sub_explicit(holders, 1, memory_order_relaxed);
}

void room_count(struct subvol *sv, int64_t n)
{
	count(&sv->dirty_blocks, &sv->tenant->dirty_subvols, n);
	count(&sv->tenant->dirty_blocks, &sv->pool->dirty_tenants, n);
}
