/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open subvolumes: what they are charged, where their batches go in, how they are opened and closed.
 *
 * used = counters of the node + what is pending: at open the counters are read, from then on used is
 * kept in memory alone, and each batch moves the counters by what it carries.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/log.h"
#include "io/size.h"
#include "meta/data.h"
#include "meta/known.h"
#include "meta/lookups.h"
#include "meta/op_internal.h"
#include "meta/orphan.h"
#include "meta/shared.h"
#include "meta/snapshot.h"
#include "meta/subvol_internal.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define STALL_NS UINT64_C(1000000)
#define INO_RANGE 4096u
#define ANCESTORS_MAX 65536u /* itself included */
_Static_assert(SNAPSHOT_LINE_MAX < ANCESTORS_MAX / 4, "what can be made can be opened");

/* Beside the ids of subvolumes, which count from 1; a view has both bits. */
#define SNAPSHOT_ID UINT32_C(0x80000000)
#define VIEW_ID UINT32_C(0xc0000000)

struct reactor *subvol_reactor(const struct subvol *sv)
{
	return sv->reactor;
}

struct pool *subvol_pool(const struct subvol *sv)
{
	return sv->pool;
}

const char *subvol_name(const struct subvol *sv)
{
	return sv->rec.name;
}

const char *subvol_tenant(const struct subvol *sv)
{
	return sv->tenant->name;
}

uint32_t subvol_id(const struct subvol *sv)
{
	return sv->id;
}

/* ---- charges ---- */

static bool over(int64_t used, int64_t more, uint64_t limit)
{
	return more > 0 && (used + more < 0 || (uint64_t)(used + more) > limit);
}

/* From the tenant and the pool. */
static int charge_own(struct subvol *sv, int64_t blocks, int64_t inodes)
{
	const bool loose = !(sv->rec.flags & SUBVOL_RESERVED);
	const int r = blocks || inodes ? tenant_charge_for(sv->tenant, blocks, inodes, loose) : 0;

	if (r)
		return r;
	sv->own_blocks += blocks;
	sv->own_inodes += inodes;
	return 0;
}

int subvol_charge(struct subvol *sv, const struct charge *c)
{
	const int64_t used_blocks = atomic_load_explicit(&sv->used_blocks, memory_order_relaxed);
	const int64_t used_inodes = atomic_load_explicit(&sv->used_inodes, memory_order_relaxed);
	int r;

	ASSERT_ON_REACTOR(sv->reactor);
	if (over(used_blocks, c->blocks, sv->rec.size_blocks) || over(used_inodes, c->inodes, sv->rec.inodes_max))
		return -ENOSPC;
	r = charge_own(sv, c->own_blocks, c->own_inodes);
	if (r)
		return r;
	subvol_give(sv, -c->blocks, -c->inodes);
	return 0;
}

void subvol_charge_own(struct subvol *sv, int64_t blocks, int64_t inodes)
{
	tenant_force(sv->tenant, blocks, inodes);
	if (!(sv->rec.flags & SUBVOL_RESERVED))
		pool_count_promised(sv->pool, blocks, 0);
	sv->own_blocks += blocks;
	sv->own_inodes += inodes;
}

void subvol_give(struct subvol *sv, int64_t blocks, int64_t inodes)
{
	const int64_t used_blocks = atomic_load_explicit(&sv->used_blocks, memory_order_relaxed);
	const int64_t used_inodes = atomic_load_explicit(&sv->used_inodes, memory_order_relaxed);

	atomic_store_explicit(&sv->used_blocks, used_blocks - blocks, memory_order_relaxed);
	atomic_store_explicit(&sv->used_inodes, used_inodes - inodes, memory_order_relaxed);
}

void subvol_give_own(struct subvol *sv, int64_t blocks, int64_t inodes)
{
	charge_own(sv, -blocks, -inodes);
}

/* Who watches the pool hears which limit it was. */
static void tell_refused(struct subvol *sv, const struct charge *c, int refusal)
{
	const bool blocks = over(atomic_load_explicit(&sv->used_blocks, memory_order_relaxed), c->blocks, sv->rec.size_blocks);
	const bool inodes = over(atomic_load_explicit(&sv->used_inodes, memory_order_relaxed), c->inodes, sv->rec.inodes_max);
	const bool own = refusal == -ENOSPC && (blocks || inodes);
	char size[SIZE_TEXT_MAX];
	const struct event_about about = {
		.kind = EVENT_QUOTA_REACHED,
		.severity = EVENT_WARNING,
		.subvolume = subvol_name(sv),
		.tenant = subvol_tenant(sv),
		.limited = true,
		.limit_key = (uint64_t)sv->id << 2 | (refusal == -EDQUOT ? 3 : own ? inodes : 2),
	};

	if (refusal == -EDQUOT)
		event_add(sv->pool->events, &about, "a limit of the tenant is reached: writers get EDQUOT");
	else if (!own)
		event_add(sv->pool->events, &about, "the pool has no room left for thin subvolumes: writers get ENOSPC");
	else if (blocks)
		event_add(sv->pool->events, &about, "its size of %s is used up: writers get ENOSPC",
			  size_text(sv->rec.size_blocks * NVFS_BLOCK_SIZE, size, sizeof(size)));
	else
		event_add(sv->pool->events, &about, "all its %" PRIu64 " inodes are used: who makes files gets ENOSPC",
			  sv->rec.inodes_max);
}

static int charge_or_wait(struct op *op, const struct charge *charge)
{
	int r = subvol_charge(op->sv, charge);

	if (r == -ENOSPC || r == -EDQUOT) {
		r = gather_settle(op); /* what it gives back may be what is missing */
		if (r)
			return r;
		r = subvol_charge(op->sv, charge);
	}
	if (r != -ENOSPC && r != -EDQUOT) {
		op->room_moment = 0;
		return r;
	}
	if (reaper_busy(op->sv))
		return reaper_wait(op);
	return charge->blocks > 0 || charge->own_blocks > 0 ? data_room_wait(op, r) : r;
}

int subvol_charge_op(struct op *op, const struct charge *charge)
{
	const int r = charge_or_wait(op, charge);

	if (r == -ENOSPC || r == -EDQUOT)
		tell_refused(op->sv, charge, r);
	return r;
}

void counters_put(struct db *db, struct db_batch *batch, uint32_t tree, uint32_t node, const struct counters_delta *d)
{
	static const struct counters_delta none;
	const struct counters_rec rec = {
		.born = d->born,
		.referenced = d->referenced,
		.meta = d->meta,
		.inodes = d->inodes,
		.meta_born = d->meta_born,
		.inodes_born = d->inodes_born,
		.unwritten = d->unwritten,
	};

	if (memcmp(d, &none, sizeof(none)))
		sysrec_add_counters(db, batch, tree, node, &rec);
}

void subvol_put_counters(struct subvol *sv, struct db_batch *batch, const struct counters_delta *d)
{
	counters_put(sv->pool->db, batch, sv->tree, sv->node, d);
}

/* ---- writing ---- */

int subvol_may_write(struct op *op, bool allow_full)
{
	const struct subvol *sv = op->sv;
	int r;

	ASSERT_ON_REACTOR(sv->reactor);
	if (sv->read_only || atomic_load_explicit(&sv->pool->failed, memory_order_relaxed))
		return -EROFS;
	if (sv->gated && !op->passes_gate)
		return op_wait(op, &op->sv->gate_waiters);
	r = op_check_quiet(op);
	if (r)
		return r;
	if (allow_full || metafs_room(sv->pool->metafs))
		return 0;
	db_make_room(sv->pool->db);
	return -ENOSPC;
}

/* Without what was gathered before: for what may well be durable earlier. */
static int write_ahead(struct op *op, struct db_batch *batch, bool allow_full)
{
	struct subvol *sv = op->sv;
	int r = subvol_may_write(op, allow_full);

	if (r)
		return r;
	r = db_write(sv->pool->db, batch, DB_NO_SLOWDOWN);
	if (r == -EAGAIN)
		return op_again(op, STALL_NS);
	if (!r)
		subvol_wrote(sv);
	return r;
}

int subvol_write(struct op *op, struct db_batch *batch, bool allow_full)
{
	int r = gather_settle(op);

	return r ? r : write_ahead(op, batch, allow_full);
}

/* ---- freezing ---- */

int subvol_freeze(struct op *op, uint64_t *next_ino)
{
	struct subvol *sv = op->sv;
	int r;

	ASSERT_ON_REACTOR(sv->reactor);
	sv->gated = true;
	r = data_freeze(op);
	if (!r)
		r = gather_settle(op);
	*next_ino = sv->next_ino < sv->ino_limit ? sv->next_ino : 0;
	return r;
}

void subvol_thaw(struct subvol *sv)
{
	ASSERT_ON_REACTOR(sv->reactor);
	sv->gated = false;
	op_wake_all(&sv->gate_waiters);
}

void subvol_switch(struct subvol *sv, uint32_t node, uint64_t first_ino, uint32_t *ancestors)
{
	ASSERT_ON_REACTOR(sv->reactor);
	assert(sv->gated && data_frozen(sv));
	free(sv->ancestors);
	sv->ancestors = ancestors;
	sv->ancestor_count++;
	sv->node = sv->rec.node = node;
	sv->first_ino = first_ino;
	sv->own_blocks = sv->own_inodes = 0;
	sv->epoch++; /* what was read for the old one is read again */
	gather_rebase(sv->gather);
}

/* ---- inode numbers ---- */

/*
 * The next number of each tree that is in use, as RocksDB has it. Under one lock, the batch included, so that the record only
 * grows whichever subvolumes of the tree ask.
 */
struct tree_numbers {
	uint32_t tree;
	unsigned users;
	uint64_t next_ino;
	struct tree_numbers *next;
};

static struct tree_numbers *numbers_find(struct pool *pool, uint32_t tree)
{
	struct tree_numbers *n = pool->numbers;

	while (n && n->tree != tree)
		n = n->next;
	return n;
}

static int numbers_use(struct pool *pool, uint32_t tree)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->numbers_lock);
	struct tree_numbers *n = numbers_find(pool, tree);
	int r;

	if (n) {
		n->users++;
		return 0;
	}
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->tree = tree;
	n->users = 1;
	r = sysrec_tree(pool->db, tree, &n->next_ino);
	if (r) {
		free(n);
		return r;
	}
	n->next = pool->numbers;
	pool->numbers = n;
	return 0;
}

static void numbers_unuse(struct pool *pool, uint32_t tree)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->numbers_lock);
	struct tree_numbers **at = &pool->numbers, *n;

	while (*at && (*at)->tree != tree)
		at = &(*at)->next;
	n = *at;
	if (!n || --n->users)
		return;
	*at = n->next;
	free(n);
}

static int take_range(struct op *op, struct tree_numbers *n)
{
	struct subvol *sv = op->sv;
	const uint64_t next = n->next_ino + INO_RANGE;
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	int r;

	if (!batch)
		return -ENOMEM;
	if (next > INO_MAX)
		return -ENOSPC;
	sysrec_put_tree(sv->pool->db, batch, sv->tree, next);
	r = write_ahead(op, batch, false);
	if (r)
		return r;
	sv->next_ino = n->next_ino;
	sv->ino_limit = next;
	n->next_ino = next;
	return 0;
}

int subvol_new_ino(struct op *op, uint64_t *ino)
{
	struct subvol *sv = op->sv;
	int r = 0;

	if (sv->next_ino == sv->ino_limit) {
		if (pthread_mutex_trylock(&sv->pool->numbers_lock))
			return op_again(op, 0); /* another reactor is at it */
		r = take_range(op, numbers_find(sv->pool, sv->tree));
		pthread_mutex_unlock(&sv->pool->numbers_lock);
	}
	if (!r)
		*ino = sv->next_ino++;
	return r;
}

/* ---- lookups ---- */

static void publish_known(struct subvol *sv)
{
	atomic_store_explicit(&sv->known_inodes, lookups_count(sv->lookups), memory_order_relaxed);
}

void lookup_add(struct subvol *sv, uint64_t ino, uint64_t n)
{
	ASSERT_ON_REACTOR(sv->reactor);
	lookups_add(sv->lookups, ino, n);
	publish_known(sv);
}

void lookup_forget(struct subvol *sv, uint64_t ino, uint64_t n)
{
	ASSERT_ON_REACTOR(sv->reactor);
	if (!lookups_sub(sv->lookups, ino, n) && !lookups_in_doubt(sv->lookups))
		orphan_forgotten(sv, ino);
	publish_known(sv);
}

uint64_t lookup_count(struct subvol *sv, uint64_t ino)
{
	const uint64_t n = lookups_get(sv->lookups, ino);

	return n || !lookups_in_doubt(sv->lookups) ? n : 1;
}

void lookup_forget_all(struct subvol *sv)
{
	ASSERT_ON_REACTOR(sv->reactor);
	lookups_clear(sv->lookups);
	publish_known(sv);
	reaper_take_all(sv);
}

/*
 * Of two numbers that the reactor may change between the looks at them: of a moment when it did not, as far as one can tell, and
 * never below 0.
 */
static uint64_t visible_blocks(const struct subvol *sv)
{
	int64_t used, held, again = atomic_load(&sv->used_blocks);

	do {
		used = again;
		held = atomic_load(&sv->held_blocks);
		again = atomic_load(&sv->used_blocks);
	} while (used != again);
	return held < used ? (uint64_t)(used - held) : 0;
}

void subvol_stats(struct subvol *sv, struct subvol_stats *out)
{
#define READ(field) atomic_load_explicit(&sv->field, memory_order_relaxed)
	*out = (struct subvol_stats){
		.size_blocks = READ(limit_blocks),
		.used_blocks = visible_blocks(sv),
		.inodes_max = READ(limit_inodes),
		.used_inodes = (uint64_t)READ(used_inodes),
		.reads = READ(stats.reads),
		.writes = READ(stats.writes),
		.read_bytes = READ(stats.read_bytes),
		.written_bytes = READ(stats.written_bytes),
		.namespace_ops = READ(stats.namespace_ops),
		.fsyncs = READ(stats.fsyncs),
		.checksum_errors = READ(stats.checksum_errors),
		.dirty_blocks = READ(dirty_blocks),
		.cached_inodes = READ(cached_inodes),
		.known_inodes = READ(known_inodes),
	};
#undef READ
	throttle_stats(&sv->throttle, &out->throttled);
}

void subvol_df(struct subvol *sv, struct subvol_df *out)
{
	const bool thin = !(sv->rec.flags & SUBVOL_RESERVED) && !(sv->id & SNAPSHOT_ID);
	struct subvol_stats stats;
	struct pool_stats pool;

	subvol_stats(sv, &stats);
	*out = (struct subvol_df){ .blocks = stats.size_blocks, .inodes = stats.inodes_max };
	if (stats.used_blocks < stats.size_blocks)
		out->free_blocks = stats.size_blocks - stats.used_blocks;
	if (stats.used_inodes < stats.inodes_max)
		out->free_inodes = stats.inodes_max - stats.used_inodes;
	out->available_blocks = out->free_blocks;
	if (!thin)
		return;
	pool_stats(sv->pool, &pool);
	if (pool.unclaimed_blocks < out->available_blocks)
		out->available_blocks = pool.unclaimed_blocks;
}

void subvol_throttles(struct subvol *sv, struct throttles *out)
{
	*out = (struct throttles){ { &sv->throttle, &sv->tenant->throttle } };
}

const void *subvol_party(const struct subvol *sv)
{
	return sv->tenant;
}

void subvol_set_limits(struct subvol *sv, uint64_t size_blocks, uint64_t inodes_max)
{
	sv->rec.size_blocks = size_blocks;
	sv->rec.inodes_max = inodes_max;
	atomic_store_explicit(&sv->limit_blocks, size_blocks, memory_order_relaxed);
	atomic_store_explicit(&sv->limit_inodes, inodes_max, memory_order_relaxed);
}

/* ---- calls to a reactor by others ---- */

struct remote {
	struct op op;      /* its run() is done_fn's caller */
	struct reactor_msg msg;
	int (*fn)(struct op *op, void *arg);
	void *arg;
	int result;
	bool done;         /* lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

static void remote_run(struct op *op)
{
	struct remote *rm = (struct remote *)((char *)op - offsetof(struct remote, op));
	const int r = rm->fn(op, rm->arg);

	if (r == META_WAIT)
		return;
	op_finish(op);
	pthread_mutex_lock(&rm->lock);
	rm->result = r;
	rm->done = true;
	pthread_cond_signal(&rm->wake);
	pthread_mutex_unlock(&rm->lock);
}

static void remote_arrived(struct reactor *r, struct reactor_msg *msg)
{
	struct remote *rm = (struct remote *)((char *)msg - offsetof(struct remote, msg));

	(void)r;
	remote_run(&rm->op);
}

int subvol_call(struct subvol *sv, int (*fn)(struct op *op, void *arg), void *arg)
{
	struct remote rm = { .fn = fn, .arg = arg };

	op_init(&rm.op, sv, remote_run);
	pthread_mutex_init(&rm.lock, NULL);
	pthread_cond_init(&rm.wake, NULL);
	if (reactor_on_thread(sv->reactor)) {
		/* Nobody else runs it: a test, or it has not been started. */
		remote_run(&rm.op);
		while (!rm.done)
			reactor_run_once(sv->reactor, REACTOR_NEVER_NS);
	} else {
		rm.msg.fn = remote_arrived;
		reactor_post(sv->reactor, &rm.msg);
		pthread_mutex_lock(&rm.lock);
		while (!rm.done)
			pthread_cond_wait(&rm.wake, &rm.lock);
		pthread_mutex_unlock(&rm.lock);
	}
	pthread_cond_destroy(&rm.wake);
	pthread_mutex_destroy(&rm.lock);
	return rm.result;
}

/* ---- open ---- */

static unsigned least_busy(struct pool *pool)
{
	unsigned best = 0;

	for (unsigned i = 1; i < pool->options.reactors; i++)
		if (pool->reactor_load[i] < pool->reactor_load[best])
			best = i;
	return best;
}

/* The live node's way to the root. */
static int load_ancestors(struct subvol *sv)
{
	struct db *db = sv->pool->db;
	uint32_t node = sv->node;
	struct node_rec rec;
	char name[SUBVOL_NAME_MAX + 1];

	while (node) {
		uint32_t *more;
		int r = sysrec_node(db, sv->tree, node, &rec, name);

		if (r)
			return r == -ENOENT ? -EBADMSG : r;
		if (sv->ancestor_count == ANCESTORS_MAX || rec.parent >= node)
			return -EBADMSG;
		more = realloc(sv->ancestors, (sv->ancestor_count + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		sv->ancestors = more;
		sv->ancestors[sv->ancestor_count++] = node;
		if (node == sv->node)
			sv->first_ino = rec.first_ino;
		node = rec.parent;
	}
	return 0;
}

static void subvol_free(struct subvol *sv)
{
	if (!sv)
		return;
	inodes_free(sv);
	data_destroy(sv);
	lookups_close(sv->lookups, !sv->keep_lookups);
	if (sv->numbers_used)
		numbers_unuse(sv->pool, sv->tree);
	known_destroy(sv->known);
	gather_destroy(sv->gather);
	gather_list_free(&sv->list);
	db_batch_free(sv->batch);
	free(sv->ancestors);
	free((char *)sv->rec.name);
	free(sv);
}

static void subvol_cleanup(struct subvol **sv)
{
	subvol_free(*sv);
}

static _Atomic uint32_t next_view_id;

/* VOL@SNAP: the record of its subvolume, as it was when the snapshot was made. */
static int load_snapshot(struct subvol *sv, const char *name, const char *at, const struct subvol *view)
{
	char subvol[SUBVOL_NAME_MAX + 1];
	const struct snapshot_name sn = { .subvol = subvol, .snapshot = at + 1 };
	struct snapshot_info info;
	char buf[SUBVOL_NAME_MAX + 1];
	int r;

	if (at - name > SUBVOL_NAME_MAX)
		return -ENOENT;
	snprintf(subvol, sizeof(subvol), "%.*s", (int)(at - name), name);
	r = snapshot_find(sv->pool, &sn, &info);
	if (!r)
		r = sysrec_subvol(sv->pool->db, info.subvol_id, &sv->rec, buf);
	if (r)
		return r;
	if (view && info.subvol_id != view->id)
		return -ENOENT; /* of an earlier one of that name */
	sv->view = view != NULL;
	sv->view_number = info.view;
	/* One that is closed may be there for a moment beside the next of the same snapshot. */
	sv->id = view ? VIEW_ID | (atomic_fetch_add(&next_view_id, 1) & ~VIEW_ID) : SNAPSHOT_ID | info.node;
	sv->rec.flags &= (uint16_t)~SUBVOL_DELETING;
	sv->rec.tree = info.tree;
	sv->rec.node = info.node;
	sv->rec.tenant = info.tenant;
	sv->rec.incarnation = info.node;
	sv->rec.size_blocks = info.size_blocks;
	sv->rec.inodes_max = info.inodes_max;
	sv->read_only = true;
	return 0;
}

static int load_live(struct subvol *sv, const char *name)
{
	char buf[SUBVOL_NAME_MAX + 1];
	int r = sysrec_subvol_id(sv->pool->db, name, &sv->id);

	if (r)
		return r;
	r = sysrec_subvol(sv->pool->db, sv->id, &sv->rec, buf);
	if (r)
		return r == -ENOENT ? -EBADMSG : r;
	return sv->rec.flags & SUBVOL_DELETING ? -ENOENT : 0;
}

/* Everything but what needs the reactor. view: of this open subvolume, or NULL. */
static int subvol_load(struct pool *pool, const char *name, const struct subvol *view, struct subvol **out)
{
	cleanup(subvol_cleanup) struct subvol *sv = calloc(1, sizeof(*sv));
	const char *at = strchr(name, '@');
	struct counters_rec counters;
	int r;

	if (!sv)
		return -ENOMEM;
	sv->pool = pool;
	sv->keep_lookups = true;
	r = at ? load_snapshot(sv, name, at, view) : load_live(sv, name);
	sv->rec.name = r ? NULL : strdup(name);
	if (r)
		return r;
	if (!sv->rec.name)
		return -ENOMEM;
	sv->tree = sv->rec.tree;
	sv->node = sv->rec.node;
	subvol_set_limits(sv, sv->rec.size_blocks, sv->rec.inodes_max);
	throttle_init(&sv->throttle);
	throttle_set(&sv->throttle, &sv->rec.rates);
	sv->tenant = tenant_find(pool, sv->rec.tenant);
	if (!sv->tenant)
		return -EBADMSG;
	r = load_ancestors(sv);
	if (!r)
		r = sysrec_counters(pool->db, sv->tree, sv->node, &counters);
	if (r)
		return r;
	atomic_store(&sv->used_blocks, counters.referenced + counters.meta);
	atomic_store(&sv->used_inodes, counters.inodes);
	sv->own_blocks = counters.born + counters.meta_born;
	sv->own_inodes = counters.inodes_born;
	sv->batch = db_batch_new();
	if (!sv->batch)
		return -ENOMEM;
	r = gather_create(sv, &sv->gather);
	if (!r)
		r = numbers_use(pool, sv->tree);
	if (r)
		return r;
	sv->numbers_used = true;
	r = lookups_open(pool->lookup_store, sv->id, &sv->lookups);
	if (!r)
		r = inodes_init(sv);
	if (!r)
		*out = take_ptr(sv);
	return r;
}

static int use_shared(struct subvol *sv)
{
	struct shared **shared = &sv->pool->shared[sv->reactor_index];
	int r = *shared ? 0 : shared_create(sv->pool, shared);

	sv->shared = *shared;
	return r;
}

/* What was begun ends, and nothing is left where others of the reactor find it. */
static int attach_undo(struct op *op, int error)
{
	struct subvol *sv = op->sv;

	if (sv->inputs_running || sv->shared->evicting || (sv->data && !data_idle(sv)))
		return op_again(op, STALL_NS);
	if (sv->data)
		writeback_stop(sv);
	inodes_free(sv);
	return error;
}

static int attach(struct op *op, void *arg)
{
	struct subvol *sv = op->sv;
	int *error = arg, r;

	if (*error)
		return attach_undo(op, *error);
	publish_known(sv);
	r = sv->known ? 0 : known_create(sv->shared->names, &sv->known);
	if (!r && !sv->data)
		r = writeback_start(sv);
	if (!r && !sv->read_only)
		r = writeback_takeup(op);
	if (!r)
		r = reaper_start(sv);
	if (!r || r == META_WAIT)
		return r;
	*error = r;
	return attach_undo(op, r);
}

static struct subvol **open_bucket(struct pool *pool, const char *name)
{
	return &pool->open_buckets[crc32c(0, name, strlen(name)) % POOL_OPEN_BUCKETS];
}

struct subvol *subvol_find_open(struct pool *pool, const char *name)
{
	struct subvol *sv = *open_bucket(pool, name);

	while (sv && (sv->view || strcmp(sv->rec.name, name)))
		sv = sv->bucket_next;
	return sv;
}

static void open_enter(struct subvol *sv)
{
	struct pool *pool = sv->pool;
	struct subvol **bucket = open_bucket(pool, sv->rec.name);

	pool->reactor_load[sv->reactor_index]++;
	sv->open_next = pool->open_head;
	pool->open_head = sv;
	sv->bucket_next = *bucket;
	*bucket = sv;
}

static void open_leave(struct subvol *sv)
{
	struct pool *pool = sv->pool;
	struct subvol **at = &pool->open_head, **in = open_bucket(pool, sv->rec.name);

	while (*at != sv)
		at = &(*at)->open_next;
	*at = sv->open_next;
	while (*in != sv)
		in = &(*in)->bucket_next;
	*in = sv->bucket_next;
	pool->reactor_load[sv->reactor_index]--;
}

/* With the lock. */
static int open_on(struct subvol *sv, unsigned reactor_index)
{
	struct pool *pool = sv->pool;
	int r, error = 0;

	sv->reactor_index = reactor_index;
	sv->reactor = pool->options.reactor[reactor_index];
	r = use_shared(sv);
	if (r) {
		subvol_free(sv);
		return r;
	}
	atomic_fetch_add(&pool->open_count, 1);
	r = subvol_call(sv, attach, &error);
	if (r) {
		log_error("subvolume %s: cannot be opened: %s", subvol_name(sv), strerror(-r));
		atomic_fetch_sub(&pool->open_count, 1);
		subvol_free(sv);
		return r;
	}
	open_enter(sv);
	return 0;
}

int subvol_open(struct pool *pool, const char *name, bool read_only, struct subvol **out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	struct subvol *sv;
	int r;

	if (subvol_find_open(pool, name))
		return -EBUSY;
	r = subvol_load(pool, name, NULL, &sv);
	if (r) {
		if (r == -EBADMSG)
			log_error("subvolume %s: its records are damaged: run fsck.nvfs", name);
		return r;
	}
	sv->read_only |= read_only || pool->options.read_only;
	r = open_on(sv, least_busy(pool));
	if (!r)
		*out = sv;
	return r;
}

int snapshot_open_view(struct subvol *of, const char *snapshot, uint16_t *number, struct subvol **out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&of->pool->admin_lock);
	char path[SNAPSHOT_PATH_MAX + 1];
	struct subvol *sv;
	int r;

	if (strlen(snapshot) > SNAPSHOT_NAME_MAX)
		return -ENOENT;
	snprintf(path, sizeof(path), "%s@%s", subvol_name(of), snapshot);
	r = subvol_load(of->pool, path, of, &sv);
	if (!r)
		r = open_on(sv, of->reactor_index);
	if (r)
		return r;
	*number = sv->view_number;
	*out = sv;
	return 0;
}

/* ---- close ---- */

enum { CLOSE_FORGET, CLOSE_REAP, CLOSE_SYNC, CLOSE_STOP, CLOSE_DRAIN };

struct closing {
	int stage;
	int result;
};

static int reap_all(struct op *op, struct closing *c)
{
	struct subvol *sv = op->sv;

	if (c->stage == CLOSE_FORGET) {
		lookup_forget_all(sv);
		c->stage = CLOSE_REAP;
	}
	if (c->stage == CLOSE_REAP) {
		if (!sv->read_only && reaper_busy(sv))
			return reaper_wait(op);
		c->stage = CLOSE_SYNC;
	}
	return 0;
}

/* What takes long, before others have to wait for the rest. Errors are met again there. */
static int prepare_detach(struct op *op, void *arg)
{
	int r = reap_all(op, arg);

	return r || op->sv->read_only ? r : data_sync_all(op);
}

/* Orphans first, then what is dirty, then whatever still refers to the subvolume. */
static int detach(struct op *op, void *arg)
{
	struct closing *c = arg;
	struct subvol *sv = op->sv;
	int r = reap_all(op, c);

	if (r)
		return r;
	if (c->stage == CLOSE_SYNC) {
		if (!reaper_stop(sv))
			return op_again(op, STALL_NS);
		r = sv->read_only ? 0 : data_sync_all(op);
		if (r == META_WAIT)
			return r;
		c->result = r;
		c->stage = CLOSE_STOP;
	}
	if (c->stage == CLOSE_STOP) {
		if (!data_idle(sv))
			return op_again(op, STALL_NS);
		writeback_stop(sv);
		gather_stop(sv->gather);
		c->stage = CLOSE_DRAIN;
	}
	if (sv->inputs_running || sv->shared->evicting)
		return op_again(op, STALL_NS);
	inodes_free(sv);
	return c->result;
}

/* What was taken from the limits for data that could not be written back belongs to nobody now. */
static void give_back_lost(struct subvol *sv)
{
	struct counters_rec counters;
	int64_t blocks, inodes;

	if (sv->read_only || sysrec_counters(sv->pool->db, sv->tree, sv->node, &counters))
		return;
	blocks = sv->own_blocks - counters.born - counters.meta_born;
	inodes = sv->own_inodes - counters.inodes_born;
	tenant_charge(sv->tenant, -blocks, -inodes);
	if (!(sv->rec.flags & SUBVOL_RESERVED))
		pool_take_loose(sv->pool, -blocks);
}

int subvol_close(struct subvol *sv)
{
	struct pool *pool = sv->pool;
	cleanup_unlock pthread_mutex_t *held = NULL;
	struct closing preparing = { 0 }, closing = { 0 };
	int r;

	subvol_call(sv, prepare_detach, &preparing);
	held = lock_mutex(&pool->admin_lock);
	r = subvol_call(sv, detach, &closing);
	if (r)
		log_error("subvolume %s: what was not written back is lost: %s", subvol_name(sv), strerror(-r));
	give_back_lost(sv);
	open_leave(sv);
	atomic_fetch_sub(&pool->open_count, 1);
	sv->keep_lookups = false;
	subvol_free(sv);
	return r;
}
