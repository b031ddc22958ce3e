/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sweeping a node without children: first all of its chunk maps, each batch with the space operands of what it
 * drops and the counters; then its records in `ns`; last the node, its counters, its subvolume's record and, when it was the
 * tree's last node, the tree's. The keys that are left say where it stands: a sweep that was
 * interrupted begins at the first one, and deletions below the cursor cost nothing but their tombstones,
 * which the cursor in the node's record skips.
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
#include "meta/charge.h"
#include "meta/subvol_internal.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"

#define BATCH_RECORDS 512u
#define STALL_NS 2000000
#define CHECK_S 30
#define SEQUENCE_SHIFT 40
#define SEQUENCE_RAISE (UINT64_C(1) << 38) /* half of what the format allows */

struct sweeper {
	struct pool *pool;
	pthread_t thread;
	pthread_mutex_t lock; /* leaf; protects what follows */
	pthread_cond_t wake;
	bool kicked;
	_Atomic bool stopping;
	_Atomic unsigned left;
};

/* A node under the sweep. */
struct sweep {
	struct sweeper *sw;
	struct pool *pool;
	struct db_batch *batch;
	uint32_t tree, node;
	struct node_rec rec;
	char name[SUBVOL_NAME_MAX + 1];
};

static bool stopping(const struct sweep *s)
{
	return atomic_load_explicit(&s->sw->stopping, memory_order_relaxed);
}

/* Never in RocksDB's queue of writers: those behind would wait as well. */
static int write_batch(struct sweep *s)
{
	for (;;) {
		const struct timespec pause = { .tv_nsec = STALL_NS };
		int r = atomic_load(&s->pool->failed) ? -EROFS : db_write(s->pool->db, s->batch, DB_NO_SLOWDOWN);

		if (r != -EAGAIN)
			return r;
		nanosleep(&pause, NULL);
		if (stopping(s))
			return -EINTR;
	}
}

/* ---- chunk maps ---- */

static int drop_runs(struct space_ops *ops, const struct map_rec *rec, struct counters_rec *delta)
{
	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];
		const struct extent e = { .block = run->address, .blocks = run->stored_blocks, .vdev = run->vdev };
		int r = map_run_stored(run) ? space_ops_add(ops, &e, -1) : 0;

		if (r)
			return r;
		delta->referenced -= run->count;
		if (!(run->flags & RUN_INHERITED))
			delta->born -= run->count;
		if (!map_run_stored(run))
			delta->unwritten -= run->count;
	}
	return 0;
}

/* The current holders, too. Called when the batch was written. */
static void release_runs(struct sweep *s, const struct map_rec *rec)
{
	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];
		const struct extent e = { .block = run->address, .blocks = run->stored_blocks, .vdev = run->vdev };

		if (map_run_stored(run))
			space_drop(s->pool->space, &e);
	}
}

static bool own_key(const struct sweep *s, const uint8_t *key, size_t len)
{
	return len > 4 && ~get_be32(key + len - 4) == s->node;
}

static struct db_iter *tree_iter(const struct sweep *s, enum db_cf cf, uint8_t first[4])
{
	uint8_t end[4];

	put_be32(first, s->tree);
	put_be32(end, s->tree + 1);
	return db_iter_new(s->pool->db, cf, first, 4, end, 4, 0);
}

static void set_cursor(struct sweep *s, enum sweep_family family, uint64_t ino, uint64_t position)
{
	s->rec.sweep_family = (uint8_t)family;
	s->rec.sweep_ino = ino;
	s->rec.sweep_position = position;
	sysrec_put_node(s->pool->db, s->batch, s->tree, s->node, &s->rec);
}

struct map_batch {
	struct map_rec *recs; /* BATCH_RECORDS */
	unsigned count;
	struct space_ops *ops;
	struct counters_rec delta;
	struct map_key last;
};

/* Fill a batch from the iterator: 0, or -errno. */
static int take_maps(struct sweep *s, struct db_iter *iter, struct map_batch *mb)
{
	for (; db_iter_valid(iter) && mb->count < BATCH_RECORDS; db_iter_next(iter)) {
		size_t key_len, len;
		const uint8_t *key = db_iter_key(iter, &key_len);
		const void *value = db_iter_value(iter, &len);
		int r;

		if (!own_key(s, key, key_len))
			continue;
		if (map_key_parse(key, key_len, &mb->last) || map_rec_decode(value, len, &mb->recs[mb->count])) {
			log_error("sweep of node %u: a chunk map is damaged: what it maps stays in use until fsck.nvfs",
				  s->node);
		} else {
			r = drop_runs(mb->ops, &mb->recs[mb->count], &mb->delta);
			if (r)
				return r;
			mb->count++;
		}
		db_batch_delete(s->pool->db, s->batch, DB_MAP, key, key_len);
	}
	return db_iter_error(iter);
}

static int write_maps(struct sweep *s, struct map_batch *mb)
{
	int r;

	sysrec_add_counters(s->pool->db, s->batch, s->tree, s->node, &mb->delta);
	set_cursor(s, SWEEP_MAP, mb->last.ino, mb->last.chunk);
	r = space_ops_put(mb->ops, s->pool->db, s->batch);
	if (r)
		return r;
	r = write_batch(s);
	if (r) {
		space_ops_aborted(mb->ops);
		return r;
	}
	for (unsigned i = 0; i < mb->count; i++)
		release_runs(s, &mb->recs[i]);
	commit_put_space(s->pool, take_ptr(mb->ops));
	atomic_fetch_add(&s->pool->loose_blocks, mb->delta.born);
	return 0;
}

/* One batch: 1 when there may be more, 0 at the end. */
static int sweep_maps_some(struct sweep *s)
{
	uint8_t first[4], from[KEY_MAX];
	cleanup_db_iter struct db_iter *iter = tree_iter(s, DB_MAP, first);
	cleanup_free struct map_rec *recs = malloc(BATCH_RECORDS * sizeof(*recs));
	struct map_batch mb = { .recs = recs, .ops = space_ops_new(s->pool->space) };
	int r = iter && recs && mb.ops ? 0 : -ENOMEM;

	if (!r) {
		db_batch_clear(s->batch);
		db_iter_seek(iter, from, key_map(from, s->tree, s->rec.sweep_ino, s->rec.sweep_position, UINT32_MAX));
		r = take_maps(s, iter, &mb);
	}
	if (!r && db_batch_count(s->batch)) {
		r = write_maps(s, &mb);
		if (!r)
			r = 1;
	}
	space_ops_free(mb.ops);
	return r;
}

/* ---- ns ---- */

/* What a record was charged for. One that is damaged was counted nowhere, by fsck.nvfs either. */
static void uncount_ns(const uint8_t *key, size_t key_len, const void *value, size_t len, struct counters_rec *delta)
{
	struct ns_key k;
	struct inode_rec inode;
	struct size_rec size;

	if (ns_key_parse(key, key_len, &k) || is_whiteout(value, len))
		return;
	if (k.type == REC_INODE && !inode_rec_decode(value, len, &inode)) {
		delta->inodes_born--;
		delta->meta_born -= inode_charge(&inode);
	} else if (k.type == REC_SIZE && !size_rec_decode(value, len, &size)) {
		delta->meta_born -= size.is_inline;
	}
}

static int sweep_ns_some(struct sweep *s)
{
	uint8_t first[4], from[KEY_MAX];
	cleanup_db_iter struct db_iter *iter = tree_iter(s, DB_NS, first);
	struct ns_key parsed = { .ino = s->rec.sweep_ino };
	struct counters_rec delta = { 0 };
	unsigned count = 0;
	int r;

	if (!iter)
		return -ENOMEM;
	db_batch_clear(s->batch);
	/* The orphans and cuts, which are under inode 0, are few: they are looked at in each round. */
	put_be32(from, s->tree);
	put_be64(from + 4, s->rec.sweep_ino);
	for (db_iter_seek(iter, from, 12); db_iter_valid(iter) && count < BATCH_RECORDS; db_iter_next(iter)) {
		size_t key_len, len;
		const uint8_t *key = db_iter_key(iter, &key_len);
		const void *value;

		if (!own_key(s, key, key_len))
			continue;
		if (key_len >= 12)
			parsed.ino = get_be64(key + 4);
		value = db_iter_value(iter, &len);
		uncount_ns(key, key_len, value, len, &delta);
		db_batch_delete(s->pool->db, s->batch, DB_NS, key, key_len);
		count++;
	}
	r = db_iter_error(iter);
	if (r || !count)
		return r;
	sysrec_add_counters(s->pool->db, s->batch, s->tree, s->node, &delta);
	set_cursor(s, SWEEP_NS, parsed.ino <= INO_MAX ? parsed.ino : 0, 0);
	r = write_batch(s);
	return r ? r : 1;
}

/* ---- the end of a node ---- */

struct tree_scan {
	uint32_t tree, node, subvol;
	bool other_node, other_of_subvol;
};

static int see_node(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct tree_scan *t = arg;
	struct node_rec rec;

	if (key->id != t->tree || key->node == t->node)
		return 0;
	t->other_node = true;
	if (node_rec_decode(value, len, &rec))
		return -EBADMSG;
	t->other_of_subvol |= rec.subvol == t->subvol;
	return 0;
}

/* Named as long as the subvolume's record is there. */
static void tell_sweep(const struct sweep *s, enum event_kind kind, const char *what)
{
	char name[SUBVOL_NAME_MAX + 1] = "";
	struct subvol_rec rec;

	if (sysrec_subvol(s->pool->db, s->rec.subvol, &rec, name))
		name[0] = '\0';
	/* One that fails is tried again and again. */
	event_add(s->pool->events,
		  &(struct event_about){ .kind = kind, .severity = EVENT_INFO, .subvolume = name, .limited = true, .limit_key = s->node },
		  "%s", what);
}

static int drop_node(struct sweep *s)
{
	struct tree_scan t = { .tree = s->tree, .node = s->node, .subvol = s->rec.subvol };
	struct db *db = s->pool->db;
	uint8_t key[KEY_MAX];
	int r = sysrec_each(db, REC_NODE, see_node, &t);

	if (r)
		return r;
	db_batch_clear(s->batch);
	db_batch_delete(db, s->batch, DB_SYS, key, key_node(key, s->tree, s->node));
	db_batch_delete(db, s->batch, DB_SYS, key, key_counters(key, s->tree, s->node));
	if (!t.other_of_subvol)
		db_batch_delete(db, s->batch, DB_SYS, key, key_subvol(key, s->rec.subvol));
	if (!t.other_node)
		db_batch_delete(db, s->batch, DB_SYS, key, key_tree(key, s->tree));
	tell_sweep(s, EVENT_SWEEP_ENDED, "the last of what was deleted goes");
	return write_batch(s);
}

static int sweep_node(struct sweep *s)
{
	int r = 1;

	tell_sweep(s, EVENT_SWEEP_BEGUN, "what was deleted is being taken apart");

	while (r > 0 && !stopping(s) && s->rec.sweep_family != SWEEP_NS)
		r = sweep_maps_some(s);
	if (!r) {
		s->rec.sweep_ino = s->rec.sweep_position = 0;
		r = 1;
	}
	while (r > 0 && !stopping(s))
		r = sweep_ns_some(s);
	if (r || stopping(s))
		return r < 0 ? r : -EINTR;
	r = drop_node(s);
	if (!r)
		log_info("pool %s: the last of deleted subvolume %u is gone", pool_name(s->pool), s->rec.subvol);
	return r;
}

/* ---- the thread ---- */

struct choice {
	struct sweep *s;
	unsigned count;
};

static int choose(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct choice *c = arg;
	struct node_rec rec;

	if (node_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (rec.state == NODE_SWEEP && !c->count++) {
		c->s->tree = key->id;
		c->s->node = key->node;
		c->s->rec = rec;
		memcpy(c->s->name, rec.name, rec.name_len);
		c->s->rec.name = c->s->name;
	}
	return 0;
}

static int sweep_next(struct sweeper *sw)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct sweep s = { .sw = sw, .pool = sw->pool, .batch = batch };
	struct choice c = { .s = &s };
	int r = batch ? sysrec_each(sw->pool->db, REC_NODE, choose, &c) : -ENOMEM;

	atomic_store(&sw->left, c.count);
	if (r || !c.count)
		return r;
	r = sweep_node(&s);
	if (r && r != -EINTR)
		log_error("pool %s: deleted subvolume %u cannot be taken apart now: %s", pool_name(sw->pool), s.rec.subvol,
			  strerror(-r));
	return r ? r : 1;
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
	pthread_mutex_lock(&sw->lock);
	sw->kicked = true;
	pthread_cond_signal(&sw->wake);
	pthread_mutex_unlock(&sw->lock);
}

unsigned sweeper_left(struct sweeper *sw)
{
	return sw ? atomic_load(&sw->left) : 0;
}
