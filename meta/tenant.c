/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "io/log.h"
#include "meta/nodes.h"
#include "meta/pool_internal.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

bool counter_take(_Atomic int64_t *counter, int64_t n, int64_t limit)
{
	int64_t now = atomic_load_explicit(counter, memory_order_relaxed);

	do {
		if (n > 0 && limit >= 0 && now + n > limit)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(counter, &now, now + n, memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

static int64_t limit_of(uint64_t limit)
{
	return limit ? (int64_t)limit : -1;
}

int tenant_charge(struct pool_tenant *t, int64_t blocks, int64_t inodes)
{
	if (!counter_take(&t->used_blocks, blocks, limit_of(t->limits.used_blocks)))
		return -EDQUOT;
	if (counter_take(&t->used_inodes, inodes, limit_of(t->limits.inodes)))
		return 0;
	counter_take(&t->used_blocks, -blocks, -1);
	return -EDQUOT;
}

void tenant_force(struct pool_tenant *t, int64_t blocks, int64_t inodes)
{
	counter_take(&t->used_blocks, blocks, -1);
	counter_take(&t->used_inodes, inodes, -1);
}

struct pool_tenant *tenant_find(struct pool *pool, uint32_t id)
{
	struct pool_tenant *t = pool->tenants;

	while (t && t->id != id)
		t = t->next;
	return t;
}

static int load_tenant(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct pool *pool = arg;
	struct tenant_rec rec;
	struct pool_tenant *t;

	if (tenant_rec_decode(value, len, &rec))
		return -EBADMSG;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->id = key->id;
	t->limits = rec.limits;
	t->next = pool->tenants;
	pool->tenants = t;
	return 0;
}

/* A tenant's use: born, and what the records of its nodes cost besides. */
static int add_node(struct pool *pool, const struct node_entry *n)
{
	struct pool_tenant *t = tenant_find(pool, n->rec.tenant);
	struct counters_rec counters;
	int r;

	if (!t || !node_counts(n))
		return t ? 0 : -EBADMSG;
	r = sysrec_counters(pool->db, n->tree, n->id, &counters);
	if (r)
		return r;
	/* It is there, whatever the limits are by now. */
	tenant_force(t, counters.born + counters.meta_born, counters.inodes_born);
	return 0;
}

static int add_nodes(struct pool *pool)
{
	struct nodes nodes = { 0 };
	int r = nodes_load(pool->db, &nodes);

	for (size_t i = 0; i < nodes.count && !r; i++)
		r = add_node(pool, &nodes.v[i]);
	nodes_free(&nodes);
	return r;
}

int tenants_load(struct pool *pool)
{
	int r = sysrec_each(pool->db, REC_TENANT, load_tenant, pool);

	if (!r)
		r = add_nodes(pool);
	if (r == -EBADMSG)
		log_error("pool %s: a tenant's or node's record is damaged", pool->label.name);
	return r;
}

void tenants_free(struct pool *pool)
{
	while (pool->tenants) {
		struct pool_tenant *t = pool->tenants;

		pool->tenants = t->next;
		free(t);
	}
}
