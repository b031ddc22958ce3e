/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a pool has promised and what holds its space, and its settings. */
#include "config.h"

#include <errno.h>

#include "io/cleanup.h"
#include "meta/admin.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

struct node_sum {
	struct pool *pool;
	struct pool_usage *out;
};

static int add_node(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct node_sum *sum = arg;
	struct counters_rec counters;
	struct node_rec rec;
	uint64_t born;
	int r;

	if (node_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.state == NODE_LIVE || !tenant_is_seen(sum->pool, rec.tenant))
		return 0;
	r = sysrec_counters(sum->pool->db, key->id, key->node, &counters);
	if (r)
		return r;
	born = counters.born + counters.meta_born > 0 ? (uint64_t)(counters.born + counters.meta_born) : 0;
	if (rec.state == NODE_SWEEP) {
		sum->out->sweeps++;
		sum->out->sweeping_blocks += born;
	} else {
		sum->out->snapshots += rec.state == NODE_SNAPSHOT;
		sum->out->snapshot_blocks += born;
	}
	return 0;
}

int pool_usage(struct pool *pool, struct pool_usage *out)
{
	struct node_sum sum = { .pool = pool, .out = out };
	struct pool_rec rec;
	int r;

	*out = (struct pool_usage){ 0 };
	/* Not under the administration lock, which is held for as long as a snapshot waits for writers. */
	r = sysrec_pool(pool->db, &rec);
	if (!r)
		r = admin_promised(pool, &out->promised_blocks);
	if (!r)
		r = sysrec_each(pool->db, REC_NODE, add_node, &sum);
	if (r)
		return r;
	out->overcommit_percent = rec.overcommit_percent;
	out->promise_limit_blocks = admin_promise_limit(pool, rec.overcommit_percent);
	return 0;
}

int pool_sweeps(struct pool *pool, struct pool_usage *out)
{
	struct pool_usage all = { 0 };
	struct node_sum sum = { .pool = pool, .out = &all };
	int r = sysrec_each(pool->db, REC_NODE, add_node, &sum);

	*out = (struct pool_usage){ .sweeps = all.sweeps, .sweeping_blocks = all.sweeping_blocks };
	return r;
}

/* The least ratio that allows what is promised. */
static uint64_t least_percent(const struct pool *pool, uint64_t promised)
{
	const uint64_t hundredth = pool_capacity(pool) / 100, least = hundredth ? (promised + hundredth - 1) / hundredth : POOL_OVERCOMMIT_MAX;

	return least > 100 ? least : 100;
}

/*
 * 100 percent is always allowed to those that are all reserved: their claims fit, but perhaps not into whole hundredths.
 */
static int check_promises(struct pool *pool, uint32_t percent, const struct refusal *ref)
{
	char have[ADMIN_SIZE_TEXT], most[ADMIN_SIZE_TEXT];
	uint64_t promised = 0;
	int r = admin_promised(pool, &promised);

	if (r)
		return admin_failed(ref, r);
	if (promised <= admin_promise_limit(pool, percent) || promised <= atomic_load(&pool->reserved_blocks))
		return 0;
	return admin_refuse(ref, -ENOSPC, "subvolumes are promised %s, and %u percent of the pool are %s; %llu percent or more would work",
			    admin_size(promised, have), percent, admin_size(admin_promise_limit(pool, percent), most),
			    (unsigned long long)least_percent(pool, promised));
}

int pool_set_overcommit(struct pool *pool, uint32_t percent, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	const struct refusal ref = { .why = why, .len = why_len };
	struct pool_rec rec = pool->rec;
	int r;

	if (percent < 100 || percent > POOL_OVERCOMMIT_MAX)
		return admin_refuse(&ref, -EINVAL, "overcommit is 100 percent (none) to %u, not %u", POOL_OVERCOMMIT_MAX, percent);
	if (percent == rec.overcommit_percent)
		return 0;
	r = check_promises(pool, percent, &ref);
	if (r)
		return r;
	rec.overcommit_percent = percent;
	r = pool_write_rec(pool, &rec, NULL);
	if (r)
		return admin_failed(&ref, r);
	pool->rec = rec;
	return 0;
}
