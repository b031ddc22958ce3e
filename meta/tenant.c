/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tenants in memory: charges, soft limits, owners.
 *
 * Soft limit. The charge that passes it notes the time; once that is longer ago than the grace, growth is refused until use is
 * at the limit or below. A reactor cannot write the record, so that a worker is asked to: it puts what changed, commits and
 * logs. What was not stored when the power went is found at the next open, because use is above; the grace begins then.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/admin.h"
#include "meta/event.h"
#include "meta/nodes.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define NS_PER_S INT64_C(1000000000)

/* The work that stores what happened to soft limits. */
struct tenant_notes {
	struct work work;
	struct pool *pool;
	_Atomic bool running; /* the pool's workers are there */
	_Atomic bool queued;
};

_Atomic int64_t tenant_clock_ahead_ns;

int64_t tenant_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec + atomic_load_explicit(&tenant_clock_ahead_ns, memory_order_relaxed);
}

/* ---- charges ---- */

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

static int64_t limit_of(const _Atomic uint64_t *limit)
{
	const uint64_t l = atomic_load_explicit(limit, memory_order_relaxed);

	return l ? (int64_t)l : -1;
}

static void notes_kick(struct tenant_notes *notes)
{
	if (!notes || !atomic_load(&notes->running) || atomic_exchange(&notes->queued, true))
		return;
	workers_submit(notes->pool->workers, &notes->work);
}

/* Something of the soft limit is not as stored. */
static void kick(struct pool_tenant *t)
{
	notes_kick(t->pool->tenant_notes);
}

/* Growth above the soft limit: whether its time is over. */
static bool grace_is_over(struct pool_tenant *t)
{
	int64_t since = atomic_load(&t->soft_since_ns);
	const int64_t now = since ? tenant_now_ns() : 0;

	if (!since)
		return false;
	if (since > now) {
		/* The clock was set back: the grace must not last longer for that. */
		atomic_compare_exchange_strong(&t->soft_since_ns, &since, now);
		kick(t);
		return false;
	}
	if (now - since < (int64_t)atomic_load(&t->grace_s) * NS_PER_S)
		return false;
	if (!atomic_exchange(&t->grace_over, true))
		kick(t);
	return true;
}

/* What the soft limit makes of use that went from before to after. */
static void soft_follow(struct pool_tenant *t, int64_t before, int64_t after)
{
	const int64_t soft = (int64_t)atomic_load_explicit(&t->soft_blocks, memory_order_relaxed);
	int64_t none = 0;

	if (soft && after > soft && before <= soft) {
		atomic_store(&t->soft_since_ns, tenant_now_ns());
		/* Somebody may have gone below between the two; what is set then was set too late. */
		if (atomic_load(&t->used_blocks) <= soft)
			atomic_store(&t->soft_since_ns, 0);
		kick(t);
	} else if (soft && after > soft && !atomic_load_explicit(&t->soft_since_ns, memory_order_relaxed)) {
		if (atomic_compare_exchange_strong(&t->soft_since_ns, &none, tenant_now_ns()))
			kick(t);
	} else if (after <= soft || !soft) {
		if (!atomic_load_explicit(&t->soft_since_ns, memory_order_relaxed))
			return;
		atomic_store(&t->soft_since_ns, 0);
		atomic_store(&t->grace_over, false);
		kick(t);
	}
}

/* force: whatever the limits are. */
static bool take_blocks(struct pool_tenant *t, int64_t n, bool force)
{
	const int64_t limit = force ? -1 : limit_of(&t->limits.used_blocks);
	const int64_t soft = limit_of(&t->soft_blocks);
	int64_t now = atomic_load_explicit(&t->used_blocks, memory_order_relaxed);

	do {
		if (n > 0 && limit >= 0 && now + n > limit)
			return false;
		if (n > 0 && !force && soft >= 0 && now > soft && grace_is_over(t))
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&t->used_blocks, &now, now + n, memory_order_relaxed,
							memory_order_relaxed));
	if (soft >= 0 || atomic_load_explicit(&t->soft_since_ns, memory_order_relaxed))
		soft_follow(t, now, now + n);
	return true;
}

/* Blocks and inodes of the tenant, and with `loose` those blocks of the pool, too; or some of the pool's as a claim. */
struct need {
	int64_t blocks, inodes;
	bool loose;
	int64_t claim;
};

static bool fits(const _Atomic int64_t *counter, int64_t n, const _Atomic uint64_t *limit)
{
	const int64_t most = limit_of(limit);

	return n <= 0 || most < 0 || atomic_load(counter) + n <= most;
}

/* What surely does not fit takes nothing, not even for a moment. */
static int check_fits(struct pool_tenant *t, const struct need *n)
{
	if (!fits(&t->used_blocks, n->blocks, &t->limits.used_blocks) || !fits(&t->used_inodes, n->inodes, &t->limits.inodes))
		return -EDQUOT;
	return pool_has_loose(t->pool, n->claim + (n->loose ? n->blocks : 0)) ? 0 : -ENOSPC;
}

/* All of it or, with *undone set when some was taken meanwhile, nothing. What is given back is given back at the end, when nothing fails any more. */
static int take_all(struct pool_tenant *t, const struct need *n, bool *undone)
{
	const int64_t blocks = n->blocks > 0 ? n->blocks : 0, inodes = n->inodes > 0 ? n->inodes : 0;

	if (blocks && !take_blocks(t, blocks, false))
		return -EDQUOT;
	if (inodes && !counter_take(&t->used_inodes, inodes, limit_of(&t->limits.inodes))) {
		*undone = blocks;
		tenant_force(t, -blocks, 0);
		return -EDQUOT;
	}
	if ((blocks && n->loose && !pool_take_loose(t->pool, blocks)) || (n->claim && !pool_claim(t->pool, n->claim))) {
		*undone = blocks || inodes;
		tenant_force(t, -blocks, -inodes);
		return -ENOSPC;
	}
	tenant_force(t, n->blocks - blocks, n->inodes - inodes);
	if (n->loose && n->blocks < 0)
		pool_take_loose(t->pool, n->blocks);
	return 0;
}

/*
 * Several sums are taken one after the other. So a charge that finds one of them full may only see what another charge is about to give back,
 * because a further sum is full for that one: then it tries again. Who must be refused anyway takes nothing first, so that such a moment is rare.
 */
static int charge(struct pool_tenant *t, const struct need *n)
{
	const bool several = (n->blocks > 0) + (n->inodes > 0) + (n->loose && n->blocks > 0) + (n->claim > 0) > 1;

	for (;;) {
		const uint32_t before = atomic_load(&t->undone);
		bool undone = false;
		int r = check_fits(t, n);

		if (!r) {
			if (several)
				atomic_fetch_add(&t->trying, 1);
			r = take_all(t, n, &undone);
			if (undone)
				atomic_fetch_add(&t->undone, 1);
			if (several)
				atomic_fetch_sub(&t->trying, 1);
		}
		if (!r || (!atomic_load(&t->trying) && atomic_load(&t->undone) == before + undone))
			return r;
		sched_yield();
	}
}

int tenant_charge_for(struct pool_tenant *t, int64_t blocks, int64_t inodes, bool loose)
{
	return charge(t, &(struct need){ blocks, inodes, loose, 0 });
}

int tenant_charge_claim(struct pool_tenant *t, int64_t inodes, int64_t claim)
{
	return charge(t, &(struct need){ 0, inodes, false, claim });
}

int tenant_charge(struct pool_tenant *t, int64_t blocks, int64_t inodes)
{
	return t ? tenant_charge_for(t, blocks, inodes, false) : 0;
}

void tenant_force(struct pool_tenant *t, int64_t blocks, int64_t inodes)
{
	if (!t)
		return;
	if (blocks)
		take_blocks(t, blocks, true);
	if (inodes)
		counter_take(&t->used_inodes, inodes, -1);
}

/* ---- the list ---- */

struct pool_tenant *tenant_find(struct pool *pool, uint32_t id)
{
	struct pool_tenant *t = atomic_load_explicit(&pool->tenants, memory_order_acquire);

	while (t && t->id != id)
		t = atomic_load_explicit(&t->next, memory_order_acquire);
	return t;
}

struct pool_tenant *tenant_find_name(struct pool *pool, const char *name)
{
	struct pool_tenant *t = atomic_load_explicit(&pool->tenants, memory_order_acquire);

	while (t && strcmp(t->name, name))
		t = atomic_load_explicit(&t->next, memory_order_acquire);
	return t;
}

void tenant_record(const struct pool_tenant *t, struct tenant_rec *out)
{
	*out = (struct tenant_rec){
		.name_len = (uint8_t)strlen(t->name),
		.set = t->set,
		.soft_since_ns = atomic_load(&t->soft_since_ns),
		.created_ns = t->created_ns,
		.name = t->name,
	};
}

void tenant_apply(struct pool_tenant *t, const struct tenant_settings *set)
{
	const struct tenant_limits *l = &set->limits;
	const int64_t used = atomic_load(&t->used_blocks);

	pthread_mutex_lock(&t->pool->owners_lock);
	t->set = *set;
	pthread_mutex_unlock(&t->pool->owners_lock);
	atomic_store(&t->limits.used_blocks, l->used_blocks);
	atomic_store(&t->limits.provisioned_blocks, l->provisioned_blocks);
	atomic_store(&t->limits.inodes, l->inodes);
	atomic_store(&t->limits.subvolumes, l->subvolumes);
	atomic_store(&t->limits.snapshots, l->snapshots);
	throttle_set(&t->throttle, &(struct rates){ .read_iops = l->read_iops, .write_iops = l->write_iops,
						     .read_bytes_per_s = l->read_bytes_per_s,
						     .write_bytes_per_s = l->write_bytes_per_s });
	atomic_store(&t->grace_s, set->grace_s);
	atomic_store(&t->soft_blocks, set->soft_blocks);
	atomic_store(&t->grace_over, false);
	soft_follow(t, used, used);
}

struct pool_tenant *tenant_new(struct pool *pool, uint32_t id, const struct tenant_rec *rec)
{
	struct pool_tenant *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->pool = pool;
	t->id = id;
	memcpy(t->name, rec->name, rec->name_len);
	t->created_ns = rec->created_ns;
	t->stored_since_ns = rec->soft_since_ns;
	throttle_init(&t->throttle);
	tenant_apply(t, &rec->set);
	atomic_store(&t->soft_since_ns, rec->soft_since_ns);
	return t;
}

void tenant_add(struct pool_tenant *t)
{
	t->next = t->pool->tenants;
	atomic_store_explicit(&t->pool->tenants, t, memory_order_release);
}

void tenant_remove(struct pool_tenant *t)
{
	struct pool_tenant *_Atomic *at = &t->pool->tenants;

	pthread_mutex_lock(&t->pool->owners_lock);
	while (*at != t)
		at = &(*at)->next;
	atomic_store_explicit(at, t->next, memory_order_release);
	pthread_mutex_unlock(&t->pool->owners_lock);
	t->gone_next = t->pool->tenants_gone;
	t->pool->tenants_gone = t;
}

/* ---- what is stored of soft limits ---- */

/* To the log and to who follows events. */
static void tell(struct pool_tenant *t, int64_t since)
{
	const time_t until = (time_t)(since / NS_PER_S + t->set.grace_s);
	char used[ADMIN_SIZE_TEXT], soft[ADMIN_SIZE_TEXT], when[32], text[EVENT_TEXT_MAX];
	struct event_about about = { .kind = EVENT_SOFT_LIMIT, .severity = since ? EVENT_WARNING : EVENT_INFO, .tenant = t->name };
	struct tm tm;

	admin_size((uint64_t)atomic_load(&t->used_blocks), used);
	admin_size(t->set.soft_blocks, soft);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&until, &tm));
	if (!since)
		snprintf(text, sizeof(text), "uses %s and is not above a soft limit any more", used);
	else if (atomic_load(&t->grace_over))
		snprintf(text, sizeof(text), "uses %s, more than its soft limit of %s, and its grace is over: nothing of it grows until "
			 "something was deleted", used, soft);
	else
		snprintf(text, sizeof(text), "uses %s, more than its soft limit of %s: from %s on nothing of it grows unless it is below "
			 "by then", used, soft, when);
	log_msg(since ? LOG_LEVEL_WARN : LOG_LEVEL_INFO, "pool %s: tenant %s %s", pool_name(t->pool), t->name, text);
	event_add(t->pool->events, &about, "%s", text);
}

static bool is_stored(const struct pool_tenant *t)
{
	return atomic_load(&t->soft_since_ns) == t->stored_since_ns;
}

static int save_one(struct pool_tenant *t, int64_t *since)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct tenant_rec rec;
	int r;

	if (!batch)
		return -ENOMEM;
	tenant_record(t, &rec);
	sysrec_put_tenant(t->pool->db, batch, t->id, &rec);
	r = db_write(t->pool->db, batch, 0);
	if (!r)
		r = pool_commit_wait(t->pool);
	*since = rec.soft_since_ns;
	return r;
}

/* A failed write has failed the pool, which says so; what was not stored is tried again at the next change. */
void tenants_save(struct pool *pool)
{
	if (pool->options.read_only)
		return;
	for (struct pool_tenant *t = pool->tenants; t; t = t->next) {
		int64_t since = t->stored_since_ns;

		if (!is_stored(t)) {
			if (save_one(t, &since))
				return;
			t->grace_told = atomic_load(&t->grace_over);
			t->stored_since_ns = since;
			tell(t, since);
		}
		if (since && atomic_load(&t->grace_over) && !t->grace_told) {
			t->grace_told = true;
			tell(t, since);
		}
	}
}

static void notes_run(struct work *w)
{
	struct tenant_notes *notes = (struct tenant_notes *)((char *)w - offsetof(struct tenant_notes, work));
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&notes->pool->admin_lock);

	atomic_store(&notes->queued, false); /* what changes from here on asks again */
	if (atomic_load(&notes->running))
		tenants_save(notes->pool);
}

void tenants_start(struct pool *pool)
{
	atomic_store(&pool->tenant_notes->running, !pool->options.read_only);
	for (struct pool_tenant *t = pool->tenants; t; t = t->next)
		if (!is_stored(t))
			kick(t);
}

void tenants_stop(struct pool *pool)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);

	if (!pool->tenant_notes || !atomic_exchange(&pool->tenant_notes->running, false))
		return;
	tenants_save(pool);
}

/* ---- loading ---- */

static int load_tenant(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct pool_tenant *t;
	struct tenant_rec rec;

	if (tenant_rec_decode(value, len, &rec))
		return -EBADMSG;
	t = tenant_new(arg, key->id, &rec);
	if (!t)
		return -ENOMEM;
	tenant_add(t);
	return 0;
}

static int add_subvol(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct pool_tenant *t;
	struct subvol_rec rec;

	(void)key;
	if (subvol_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.flags & SUBVOL_DELETING)
		return 0;
	t = tenant_find(arg, rec.tenant);
	tenant_count_subvolumes(t, 1, (int64_t)rec.size_blocks);
	return t ? 0 : -EBADMSG;
}

/* A tenant's use: born, and what the records of its nodes cost besides. */
static int add_node(struct pool *pool, const struct node_entry *n)
{
	struct pool_tenant *t = tenant_find(pool, n->rec.tenant);
	struct counters_rec counters;
	int r;

	if (!t) /* what has no name may outlive its tenant */
		return n->rec.state == NODE_SWEEP || n->rec.state == NODE_INTERIOR ? 0 : -EBADMSG;
	if (!node_counts(n))
		return 0;
	r = sysrec_counters(pool->db, n->tree, n->id, &counters);
	if (r)
		return r;
	/* It is there, whatever the limits are by now; and passes no soft limit now that it passed long ago. */
	counter_take(&t->used_blocks, counters.born + counters.meta_born, -1);
	counter_take(&t->used_inodes, counters.inodes_born, -1);
	if (n->rec.state == NODE_SNAPSHOT)
		tenant_count_snapshots(t, 1);
	return 0;
}

static int notes_create(struct pool *pool)
{
	struct tenant_notes *notes = calloc(1, sizeof(*notes));

	if (!notes)
		return -ENOMEM;
	notes->pool = pool;
	notes->work.fn = notes_run;
	pool->tenant_notes = notes;
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
	int r = notes_create(pool);

	if (!r)
		r = sysrec_each(pool->db, REC_TENANT, load_tenant, pool);
	if (!r)
		r = sysrec_each(pool->db, REC_SUBVOL, add_subvol, pool);
	if (!r)
		r = add_nodes(pool);
	if (r == -EBADMSG)
		log_error("pool %s: a tenant's or node's record is damaged", pool->label.name);
	for (struct pool_tenant *t = pool->tenants; t && !r; t = t->next)
		soft_follow(t, t->used_blocks, t->used_blocks);
	return r;
}

static void free_list(struct pool_tenant *t, bool gone)
{
	while (t) {
		struct pool_tenant *next = gone ? t->gone_next : t->next;

		free(t);
		t = next;
	}
}

void tenants_free(struct pool *pool)
{
	free_list(pool->tenants, false);
	free_list(pool->tenants_gone, true);
	pool->tenants = NULL;
	pool->tenants_gone = NULL;
	free(pool->tenant_notes);
	pool->tenant_notes = NULL;
}

/* ---- owners ---- */

static _Thread_local const struct tenant_user *acts_for;

void tenant_act_as(const struct tenant_user *user)
{
	acts_for = user;
}

bool tenant_is_scoped(void)
{
	return acts_for != NULL;
}

static bool is_listed(const uint32_t *ids, unsigned count, uint32_t id)
{
	for (unsigned i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* owners_lock is held. */
static bool is_owner(const struct pool_tenant *t, const struct tenant_user *user)
{
	if (is_listed(t->set.uids, t->set.uid_count, user->uid))
		return true;
	for (size_t i = 0; t->set.gid_count && i < user->gid_count; i++)
		if (is_listed(t->set.gids, t->set.gid_count, user->gids[i]))
			return true;
	return false;
}

bool tenant_is_seen(struct pool *pool, uint32_t id)
{
	cleanup_unlock pthread_mutex_t *held = acts_for ? lock_mutex(&pool->owners_lock) : NULL;
	const struct pool_tenant *t = acts_for ? tenant_find(pool, id) : NULL;

	return !acts_for || (t && is_owner(t, acts_for));
}

/* How many a user owns; the last one of them. */
static unsigned count_owned(struct pool *pool, const struct tenant_user *user, struct pool_tenant **last)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->owners_lock);
	unsigned n = 0;

	for (struct pool_tenant *t = pool->tenants; t; t = t->next) {
		if (!is_owner(t, user))
			continue;
		*last = t;
		n++;
	}
	return n;
}

struct pool_tenant *tenant_only_seen(struct pool *pool)
{
	struct pool_tenant *last = NULL;

	return acts_for && count_owned(pool, acts_for, &last) == 1 ? last : NULL;
}

bool tenant_is_owned(struct pool *pool, const char *name, int64_t at_ns, const struct tenant_user *user)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->owners_lock);
	const struct pool_tenant *t = tenant_find_name(pool, name);

	return t && t->created_ns <= at_ns && is_owner(t, user);
}

bool tenant_owns_any(struct pool *pool, const struct tenant_user *user)
{
	struct pool_tenant *last;

	return count_owned(pool, user, &last) > 0;
}
