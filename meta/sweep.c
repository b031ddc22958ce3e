/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sweeping: nodes that nothing names are taken apart in the background, one at a time. One without children loses all of its records
 * (sweep_leaf.c); one with children is looked at in passes (sweep_pass.c, sweep_apply.c) until nothing of it can go. A node whose last
 * record is gone leaves the tree; one with several children may have to stay, until they change.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/sweep.h"
#include "meta/sweep_internal.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define CHECK_S 30
#define REST_NS UINT64_C(600000000000)
#define STALL_NS UINT64_C(1000000)
#define PACE 4u /* pauses, in the time that a step takes */
#define PACE_MOST_NS UINT64_C(200000000)
#define PACE_SLICE_NS UINT64_C(20000000)
#define SEQUENCE_SHIFT 40
#define SEQUENCE_RAISE (UINT64_C(1) << 38) /* half of what the format allows */

struct sweeper {
	struct pool *pool;
	pthread_t thread;
	pthread_mutex_t lock; /* leaf; protects what follows */
	pthread_cond_t wake;
	bool kicked;
	_Atomic bool stopping;
	_Atomic uint64_t asked, answered; /* calls that may have brought work; those that `left` knows of */
	_Atomic unsigned left;
	_Atomic int error; /* of the node that failed last */
	_Atomic bool look_again; /* at nodes that rest */
	uint32_t failed; /* the node that failed last: those below it are tried first */
	uint64_t rested_ns; /* when those that rest were last looked at */
	uint64_t rested_sum; /* what their children had then */
};

bool sweep_stopping(const struct sweep *s)
{
	return atomic_load_explicit(&s->sw->stopping, memory_order_relaxed);
}

void sweep_set_cursor(struct sweep *s, enum sweep_family family, uint64_t ino, uint64_t position)
{
	s->rec.sweep_family = (uint8_t)family;
	s->rec.sweep_ino = ino;
	s->rec.sweep_position = position;
}

/* ---- nodes above ---- */

static void wake_node(struct sweep *s, uint32_t node, struct node_rec rec)
{
	rec.state = NODE_SWEEP;
	rec.sweep_family = SWEEP_NONE;
	rec.sweep_ino = rec.sweep_position = 0;
	sysrec_put_node(s->pool->db, s->batch, s->tree, node, &rec);
}

/* What nobody below this node sees any more may be what nobody below its parent does. */
static int wake_parent(struct sweep *s)
{
	char name[SUBVOL_NAME_MAX + 1];
	struct node_rec rec;
	int r = s->rec.parent ? sysrec_node(s->pool->db, s->tree, s->rec.parent, &rec, name) : -ENOENT;

	if (!r && rec.state == NODE_INTERIOR)
		wake_node(s, s->rec.parent, rec);
	return r == -ENOENT ? 0 : r;
}

/* ---- the end of a node ---- */

/* One that fails is tried again and again, and said once. */
static void tell_sweep(const struct sweep *s, enum event_kind kind, const char *name, const char *what)
{
	const struct pool_tenant *tenant = tenant_find(s->pool, s->rec.tenant);

	event_add(s->pool->events,
		  &(struct event_about){ .kind = kind, .severity = EVENT_INFO, .subvolume = name, .tenant = tenant ? tenant->name : NULL,
					 .limited = true, .limit_key = s->node },
		  "%s", what);
}

/* What no other node needs goes with it. */
static void delete_node(struct sweep *s, const struct nodes *nodes)
{
	struct db *db = s->pool->db;
	bool other_node = false, other_of_subvol = false;
	uint8_t key[KEY_MAX];

	for (size_t i = 0; i < nodes->count; i++) {
		const struct node_entry *n = &nodes->v[i];

		if (n->tree != s->tree || n->id == s->node)
			continue;
		other_node = true;
		other_of_subvol |= n->rec.subvol == s->rec.subvol;
	}
	db_batch_delete(db, s->batch, DB_SYS, key, key_node(key, s->tree, s->node));
	db_batch_delete(db, s->batch, DB_SYS, key, key_counters(key, s->tree, s->node));
	if (!other_of_subvol)
		db_batch_delete(db, s->batch, DB_SYS, key, key_subvol(key, s->rec.subvol));
	if (!other_node)
		db_batch_delete(db, s->batch, DB_SYS, key, key_tree(key, s->tree));
}

/*
 * The parent's children change: without a name it is looked at again, and when it has none left nothing of it can become anybody's: the
 * tenant is not charged for it any more.
 */
static int free_parent(struct sweep *s, const struct nodes *nodes, bool child_stays, struct counters_rec *give)
{
	struct node_entry *parent = nodes_find(nodes, s->tree, s->rec.parent);

	memset(give, 0, sizeof(*give));
	if (!parent || (parent->rec.state != NODE_INTERIOR && parent->rec.state != NODE_SWEEP))
		return 0;
	wake_node(s, parent->id, parent->rec);
	return child_stays || parent->children > 1 ? 0 : sysrec_counters(s->pool->db, s->tree, parent->id, give);
}

/* A node without children and records. */
static int drop_node(struct sweep *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->pool->admin_lock);
	struct pool_tenant *tenant = tenant_find(s->pool, s->rec.tenant);
	struct nodes nodes = { 0 };
	struct counters_rec give;
	int r = nodes_load(s->pool->db, &nodes);

	db_batch_clear(s->batch);
	if (!r)
		r = free_parent(s, &nodes, false, &give);
	if (!r) {
		delete_node(s, &nodes);
		r = sweep_write(s);
	}
	if (!r && tenant)
		tenant_force(tenant, -(give.born + give.meta_born), -give.inodes_born);
	nodes_free(&nodes);
	return r;
}

/* On the reactor of an open child. */
static int collapse_there(struct op *op, void *arg)
{
	struct sweep *s = arg;
	struct subvol *sv = op->sv;
	int r = gather_settle(op);

	op->passes_gate = true;
	if (!r && put_busy(sv->data))
		r = op_again(op, STALL_NS); /* its batch may have records that hide nothing from now on */
	if (!r)
		r = subvol_write(op, s->batch, true);
	if (r)
		return r;
	/* The list may have others that left: those that were no neighbours of the live node. */
	assert(s->ancestor_count < sv->ancestor_count);
	for (unsigned i = 0; i < s->ancestor_count; i++)
		sv->ancestors[1 + i] = s->ancestors[i];
	sv->ancestor_count = s->ancestor_count + 1;
	return 0;
}

/* A node without records leaves the way between its parent and its only child. */
static int collapse(struct sweep *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->pool->admin_lock);
	struct nodes nodes = { 0 };
	struct counters_rec give;
	struct node_entry *child;
	struct subvol *sv;
	int r = nodes_load(s->pool->db, &nodes);

	db_batch_clear(s->batch);
	child = r ? NULL : nodes_find(&nodes, s->tree, s->child);
	if (!r && !child)
		r = -EBADMSG;
	if (!r)
		r = free_parent(s, &nodes, true, &give);
	if (!r) {
		child->rec.parent = s->rec.parent;
		if (child->rec.state == NODE_INTERIOR) /* what became its own may be of no use to its children */
			child->rec.state = NODE_SWEEP;
		if (!s->rec.parent) { /* to be tidied: what the child hid since the pass came by hides nothing now */
			child->rec.sweep_family = SWEEP_MAP;
			child->rec.sweep_ino = child->rec.sweep_position = 0;
		}
		sysrec_put_node(s->pool->db, s->batch, s->tree, s->child, &child->rec);
		delete_node(s, &nodes);
		sv = sweep_open_child(s);
		r = sv ? subvol_call(sv, collapse_there, s) : sweep_write(s);
	}
	nodes_free(&nodes);
	return r;
}

/* Nothing of it can go now: it is looked at again when those below it change. */
static int rest(struct sweep *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->pool->admin_lock);
	int r;

	if (s->rec.state == NODE_INTERIOR)
		return 0;
	db_batch_clear(s->batch);
	r = wake_parent(s);
	if (r)
		return r;
	s->rec.state = NODE_INTERIOR;
	sweep_set_cursor(s, SWEEP_NONE, 0, 0);
	sysrec_put_node(s->pool->db, s->batch, s->tree, s->node, &s->rec);
	return sweep_write(s);
}

/* ---- steps ---- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* While anything is open, most of the time is for that. */
static void pace(const struct sweep *s, uint64_t took_ns)
{
	uint64_t left = took_ns * PACE;

	if (!atomic_load(&s->pool->open_count))
		return;
	if (left > PACE_MOST_NS)
		left = PACE_MOST_NS;
	while (left && !sweep_stopping(s)) {
		const uint64_t slice = left < PACE_SLICE_NS ? left : PACE_SLICE_NS;
		const struct timespec t = { .tv_nsec = (long)slice };

		nanosleep(&t, NULL);
		left -= slice;
	}
}

static int note_epoch(struct op *op, void *arg)
{
	struct sweep *s = arg;
	const int r = gather_settle(op);

	s->step.epoch = op->sv->epoch;
	return r;
}

/* The node is as it was when the pass began: -EAGAIN when the only child is deleted since, and so goes first. */
static int still_so(const struct sweep *s)
{
	char name[SUBVOL_NAME_MAX + 1];
	struct node_rec rec;
	int r = s->child ? sysrec_node(s->pool->db, s->tree, s->child, &rec, name) : 0;

	if (r)
		return r;
	return s->child && rec.state == NODE_SWEEP ? -EAGAIN : 0;
}

static int pass_step(struct sweep *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->pool->admin_lock);
	struct subvol *sv = sweep_open_child(s);
	int r = still_so(s), more;

	if (!r && sv)
		r = subvol_call(sv, note_epoch, s);
	if (r)
		return r;
	more = sweep_read(s);
	if (more < 0)
		return more;
	if (!more && s->rec.sweep_family != SWEEP_NS) {
		sweep_set_cursor(s, SWEEP_NS, 0, 0);
		s->at_len = 0;
		more = 1;
	}
	r = s->step.count ? sweep_apply(s) : 0;
	s->changed += s->step.count;
	return r ? r : more;
}

/* All keys once. */
static int pass(struct sweep *s)
{
	int r = 1;

	s->partial = s->rec.sweep_family != SWEEP_NONE;
	s->seen = s->changed = 0;
	s->at_len = 0;
	s->ino = 0;
	s->ino_seen = s->ino_hidden = false;
	if (!s->partial)
		sweep_set_cursor(s, SWEEP_MAP, 0, 0);
	while (r > 0 && !sweep_stopping(s)) {
		const uint64_t from = now_ns();

		r = s->child_count ? pass_step(s) : sweep_leaf_step(s);
		pace(s, now_ns() - from);
	}
	sweep_set_cursor(s, SWEEP_NONE, 0, 0);
	return r < 0 ? r : sweep_stopping(s) ? -EINTR : 0;
}

/* The cursor of a node that became the first of its tree says that it was not tidied yet. */
static int tidied(struct sweep *s)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&s->pool->admin_lock);
	char name[SUBVOL_NAME_MAX + 1];
	struct node_rec rec;
	int r = sysrec_node(s->pool->db, s->tree, s->child, &rec, name);

	if (r || rec.state == NODE_SWEEP || rec.parent)
		return r == -ENOENT ? 0 : r;
	rec.sweep_family = SWEEP_NONE;
	rec.sweep_ino = rec.sweep_position = 0;
	db_batch_clear(s->batch);
	sysrec_put_node(s->pool->db, s->batch, s->tree, s->child, &rec);
	return sweep_write(s);
}

static int tidy(struct sweep *s)
{
	int r = pass(s);

	while (!r && s->changed)
		r = pass(s);
	return r ? r : tidied(s);
}

/* Until it is gone, or nothing more of it can go: 0; -EAGAIN when another node has to go first. */
static int sweep_node(struct sweep *s)
{
	int r;

	if (s->tidy)
		return tidy(s);
	r = pass(s);

	if (!r && !s->child_count && s->partial)
		r = pass(s); /* it had children when the cursor was set, and what stayed for them is before it */
	if (r)
		return r;
	if (!s->child_count)
		return drop_node(s);
	while (!r && (s->partial || s->changed || (s->child && s->seen))) {
		if (!s->changed && !s->partial)
			pace(s, PACE_MOST_NS); /* what stayed waits for the child's own batches */
		r = pass(s);
	}
	if (r)
		return r;
	return s->child ? collapse(s) : rest(s);
}

/* ---- which node ---- */

static int add_below(struct sweep *s, const struct node_entry *n, int above)
{
	struct sweep_below *more = realloc(s->below, (s->below_count + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	s->below = more;
	s->below[s->below_count++] = (struct sweep_below){
		.id = n->id,
		.above = above,
		.nameless = n->children && (n->rec.state == NODE_INTERIOR || n->rec.state == NODE_SWEEP),
	};
	return 0;
}

/* Those below a node come after it, by their ids: once is enough. */
static int make_below(struct sweep *s, const struct nodes *nodes, const struct node_entry *n)
{
	int r = 0;

	for (const struct node_entry *e = n + 1; e < nodes->v + nodes->count && e->tree == n->tree && !r; e++) {
		const struct sweep_below *above = sweep_find_below(s, e->rec.parent);

		if (e->rec.parent == n->id)
			r = add_below(s, e, -1);
		else if (n->children > 1 && above && above->nameless)
			r = add_below(s, e, (int)(above - s->below));
		s->child_count += e->rec.parent == n->id;
	}
	s->child = s->child_count == 1 ? s->below[0].id : 0;
	return r;
}

static int make_lists(struct sweep *s, const struct nodes *nodes, const struct node_entry *n)
{
	int r;
	const struct node_entry *at = n;

	if (s->tidy) { /* the same as a sole child of nobody */
		s->child = n->id;
		s->child_count = 1;
		s->node = 0;
		sweep_set_cursor(s, SWEEP_NONE, 0, 0);
		return add_below(s, n, -1);
	}
	r = make_below(s, nodes, n);
	if (r)
		return r;
	while (at->rec.parent < at->id && (at = nodes_find(nodes, at->tree, at->rec.parent))) { /* else damaged: they would go in a circle */
		uint32_t *more = realloc(s->ancestors, (s->ancestor_count + 1) * sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->ancestors = more;
		s->ancestors[s->ancestor_count++] = at->id;
	}
	return 0;
}

static bool is_to_tidy(const struct node_entry *n)
{
	return n->rec.state != NODE_SWEEP && !n->rec.parent && n->rec.sweep_family != SWEEP_NONE;
}

static bool is_for_sweep(const struct node_entry *n)
{
	return is_to_tidy(n) || n->rec.state == NODE_SWEEP || (n->rec.state == NODE_INTERIOR && n->children <= 1);
}

static const struct node_entry *choose_below(const struct nodes *nodes, uint32_t id)
{
	const struct node_entry *best = NULL;

	for (size_t i = 0; i < nodes->count; i++)
		if (is_for_sweep(&nodes->v[i]) && nodes->v[i].id < id && (!best || nodes->v[i].id > best->id))
			best = &nodes->v[i];
	return best;
}

/*
 * Nodes to be swept, and those without a name that have one child left or none, youngest first: what is below goes before what is above. After
 * one that failed come those that are older; then it has its turn again.
 */
static const struct node_entry *choose(const struct nodes *nodes, uint32_t failed, unsigned *count)
{
	const struct node_entry *below = failed ? choose_below(nodes, failed) : NULL;
	const struct node_entry *best = NULL;

	*count = 0;
	for (size_t i = 0; i < nodes->count; i++) {
		const struct node_entry *n = &nodes->v[i];

		if (!is_for_sweep(n))
			continue;
		++*count;
		if (!best || n->id > best->id)
			best = n;
	}
	return below ? below : best;
}

static int sweep_chosen(struct sweeper *sw, const struct nodes *nodes, const struct node_entry *n)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct sweep *s = calloc(1, sizeof(*s));
	char name[SUBVOL_NAME_MAX + 1] = "";
	struct subvol_rec rec;
	int r = batch && s ? 0 : -ENOMEM;

	if (!r) {
		*s = (struct sweep){ .sw = sw, .pool = sw->pool, .batch = batch, .tree = n->tree, .node = n->id, .rec = n->rec };
		s->tidy = is_to_tidy(n);
		r = make_lists(s, nodes, n);
	}
	if (!r && !s->tidy) {
		/* The subvolume's record may go with its last node. */
		if (sysrec_subvol(s->pool->db, s->rec.subvol, &rec, name))
			name[0] = '\0';
		tell_sweep(s, EVENT_SWEEP_BEGUN, name, "what was deleted is being taken apart");
	}
	if (!r)
		r = sweep_node(s);
	/* Its blocks are free for others when that is durable, and nobody else may come to ask for a commit. */
	if (!r)
		r = pool_commit_wait(s->pool);
	if (!r && !s->tidy)
		tell_sweep(s, EVENT_SWEEP_ENDED, name, "what was deleted is gone");
	if (s) {
		free(s->step.bytes);
		free(s->ancestors);
		free(s->below);
	}
	free(s);
	return r;
}

static bool is_below_resting(const struct nodes *nodes, const struct node_entry *n)
{
	do
		n = nodes_find(nodes, n->tree, n->rec.parent);
	while (n && n->rec.state != NODE_INTERIOR);
	return n != NULL;
}

static uint64_t mix(uint64_t sum, int64_t n)
{
	return (sum ^ (uint64_t)n) * UINT64_C(0x9e3779b97f4a7c15);
}

/* What is counted of the nodes below: who hides something has another count of what it sees, or of what is its own. */
static int sum_resting(struct pool *pool, const struct nodes *nodes, uint64_t *sum)
{
	*sum = 0;
	for (size_t i = 0; i < nodes->count; i++) {
		const struct node_entry *n = &nodes->v[i];
		struct counters_rec c;
		int r;

		if (!is_below_resting(nodes, n))
			continue;
		r = sysrec_counters(pool->db, n->tree, n->id, &c);
		if (r)
			return r;
		*sum = mix(mix(mix(*sum, n->id), c.born), c.meta_born);
		*sum = mix(mix(mix(mix(*sum, c.inodes_born), c.referenced), c.meta), c.inodes);
	}
	return 0;
}

/*
 * Nodes that rest hold what those below still inherited when they were looked at last; these go on writing. Here, too, what is below goes before
 * what is above.
 */
static int sweep_resting(struct sweeper *sw, const struct nodes *nodes)
{
	uint64_t sum;
	int r;

	sw->rested_ns = now_ns();
	r = sum_resting(sw->pool, nodes, &sum);
	if (r || sum == sw->rested_sum)
		return r;
	for (size_t i = nodes->count; i-- > 0 && !r && !atomic_load(&sw->stopping);)
		if (nodes->v[i].rec.state == NODE_INTERIOR && nodes->v[i].children > 1)
			r = sweep_chosen(sw, nodes, &nodes->v[i]);
	if (!r && !atomic_load(&sw->stopping))
		sw->rested_sum = sum;
	return r;
}

static bool is_time_for_resting(struct sweeper *sw)
{
	return atomic_exchange(&sw->look_again, false) || now_ns() - sw->rested_ns >= REST_NS;
}

static void set_left(struct sweeper *sw, unsigned left, uint64_t answered)
{
	atomic_store(&sw->left, left);
	atomic_store(&sw->answered, answered);
}

static int sweep_next(struct sweeper *sw)
{
	const uint64_t asked = atomic_load(&sw->asked);
	struct nodes nodes = { 0 };
	const struct node_entry *n;
	unsigned count = 0;
	bool resting;
	int r;

	pthread_mutex_lock(&sw->pool->admin_lock);
	r = nodes_load(sw->pool->db, &nodes);
	pthread_mutex_unlock(&sw->pool->admin_lock);
	n = r ? NULL : choose(&nodes, sw->failed, &count);
	resting = !r && !n && is_time_for_resting(sw);
	if (!r)
		set_left(sw, resting ? 1 : count, asked);
	if (resting) {
		r = sweep_resting(sw, &nodes);
		set_left(sw, 0, asked);
	}
	if (n) {
		r = sweep_chosen(sw, &nodes, n);
		if (r && r != -EINTR && r != -EAGAIN)
			log_error("pool %s: a deleted node of subvolume %u cannot be taken apart now: %s", pool_name(sw->pool),
				  n->rec.subvol, strerror(-r));
		if (r && r != -EINTR && r != -EAGAIN) {
			sw->failed = n->id;
			atomic_store(&sw->error, r);
			r = choose_below(&nodes, n->id) ? 1 : r; /* before it waits */
		} else {
			sw->failed = n->id >= sw->failed ? 0 : sw->failed;
			r = r == -EAGAIN || !r ? 1 : r;
		}
	}
	if (!n)
		atomic_store(&sw->error, r < 0 && r != -EINTR ? r : 0);
	else if (!sw->failed)
		atomic_store(&sw->error, 0);
	nodes_free(&nodes);
	return r;
}

/* The lower part of the sequence never comes near its end. */
static void check_sequence(struct pool *pool)
{
	const uint64_t mask = (UINT64_C(1) << SEQUENCE_SHIFT) - 1;
	uint64_t now = atomic_load(&pool->sequence);
	uint32_t start;

	if ((now & mask) < SEQUENCE_RAISE)
		return;
	if (metafs_raise_start(pool->metafs, &start)) {
		log_error("pool %s: its start counter cannot be raised", pool_name(pool));
		return;
	}
	while (!atomic_compare_exchange_weak(&pool->sequence, &now, (uint64_t)start << SEQUENCE_SHIFT | 1))
		;
}

static void wait_for_work(struct sweeper *sw)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += CHECK_S;
	pthread_mutex_lock(&sw->lock);
	if (!sw->kicked && !sw->stopping)
		pthread_cond_timedwait(&sw->wake, &sw->lock, &until);
	sw->kicked = false;
	pthread_mutex_unlock(&sw->lock);
}

static void *sweeper_thread(void *arg)
{
	struct sweeper *sw = arg;

	while (!atomic_load(&sw->stopping)) {
		check_sequence(sw->pool);
		if (sweep_next(sw) <= 0)
			wait_for_work(sw);
	}
	return NULL;
}

int sweeper_start(struct pool *pool, struct sweeper **out)
{
	struct sweeper *sw = calloc(1, sizeof(*sw));
	sigset_t all, old;
	int r;

	if (!sw)
		return -ENOMEM;
	sw->pool = pool;
	sw->asked = 1; /* what was there before */
	sw->rested_ns = now_ns();
	pthread_mutex_init(&sw->lock, NULL);
	pthread_cond_init(&sw->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = -pthread_create(&sw->thread, NULL, sweeper_thread, sw);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		free(sw);
		return r;
	}
	pthread_setname_np(sw->thread, "nvfs-sweep");
	*out = sw;
	return 0;
}

void sweeper_stop(struct sweeper *sw)
{
	if (!sw)
		return;
	pthread_mutex_lock(&sw->lock);
	sw->stopping = true;
	pthread_cond_signal(&sw->wake);
	pthread_mutex_unlock(&sw->lock);
	pthread_join(sw->thread, NULL);
	pthread_cond_destroy(&sw->wake);
	pthread_mutex_destroy(&sw->lock);
	free(sw);
}

void sweeper_kick(struct sweeper *sw)
{
	if (!sw)
		return;
	atomic_fetch_add(&sw->asked, 1);
	pthread_mutex_lock(&sw->lock);
	sw->kicked = true;
	pthread_cond_signal(&sw->wake);
	pthread_mutex_unlock(&sw->lock);
}

void sweeper_look_again(struct sweeper *sw)
{
	if (!sw || atomic_exchange(&sw->look_again, true))
		return;
	atomic_fetch_add(&sw->asked, 1);
	pthread_mutex_lock(&sw->lock);
	sw->kicked = true;
	pthread_cond_signal(&sw->wake);
	pthread_mutex_unlock(&sw->lock);
}

int sweeper_error(struct sweeper *sw)
{
	return sw ? atomic_load(&sw->error) : 0;
}

unsigned sweeper_left(struct sweeper *sw)
{
	uint64_t asked;
	unsigned left;

	if (!sw)
		return 0;
	asked = atomic_load(&sw->asked);
	left = atomic_load(&sw->answered) < asked;
	return left ? left : atomic_load(&sw->left);
}
