/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_TENANT_H
#define NVFS_META_TENANT_H

#include <stdatomic.h>
#include <stdint.h>

#include "meta/records.h"

struct pool;

/* An owner of subvolumes, in memory: its limits and what it uses of them. */
struct pool_tenant {
	uint32_t id;
	struct tenant_limits limits;          /* constant while the pool is open */
	_Atomic int64_t used_blocks, used_inodes;
	struct pool_tenant *next;
};

/* Read the tenants and what each uses. At open, before anything is charged. 0 or -errno. */
int tenants_load(struct pool *pool);
void tenants_free(struct pool *pool);

/* NULL when there is none. Any thread. */
struct pool_tenant *tenant_find(struct pool *pool, uint32_t id);

/* 0, or -EDQUOT and nothing taken; with numbers below 0 never refused. Any thread. */
int tenant_charge(struct pool_tenant *tenant, int64_t blocks, int64_t inodes);

/* The same whatever the limits are. */
void tenant_force(struct pool_tenant *tenant, int64_t blocks, int64_t inodes);

/* Take n, which may be negative, of a counter that may not pass limit (< 0: none). Any thread. */
bool counter_take(_Atomic int64_t *counter, int64_t n, int64_t limit);

#endif
