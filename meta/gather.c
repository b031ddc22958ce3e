/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gathering. Inserting a record into RocksDB's memtable costs more than all the rest of a namespace change, and most
 * records are soon written again: a directory's inode by each change in it, the inode and the orphan record of a file by
 * its last FORGET. So a change is *accepted* here: its records go into the subvolume's *segment* of the area that
 * outlives the worker, and into a table by their keys; the reply goes out; and some milliseconds later the newest of each
 * key goes to RocksDB, in one batch, with a *marker*: the sequence of the last change in it.
 *
 * The group is written before everything that must come after it or has to see it: another batch of the subvolume, a commit
 * ticket, a read of a range. Reads of a key look here first. So what a power cut leaves is as it was without
 * gathering: a prefix of the history.
 *
 * A killed worker leaves its segments: entries are complete once `used` covers them. The next one writes those whose
 * sequence is above the marker's, before it reads anything else. The marker is in the same batch as what it
 * speaks of, so counters are moved exactly once. It is the result record of the session's slot 0xffff, which no request has.
 *
 * A *fresh* put is one of a key that RocksDB does not have: when it is deleted in the same group, neither is written.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/crc.h"
#include "io/log.h"
#include "meta/gather.h"
#include "meta/subvol_internal.h"

#define SEGMENT_BYTES 65536u
#define SEGMENTS 1024u
#define SEGMENT_MAGIC UINT32_C(0x6e766731)
#define KEYS_MAX 512u
#define TABLE_SIZE 1024u /* a power of two above KEYS_MAX */
#define WAIT_NS UINT64_C(4000000)
#define STALL_RETRY_NS UINT64_C(1000000)
#define MARKER_SLOT UINT16_MAX

/* ---- In the area: not on a device, so in the processor's byte order ---- */

struct segment {
	uint32_t magic;
	_Atomic uint32_t taken;
	uint32_t tree, node, session, life;
	_Atomic uint64_t used; /* bytes of entries */
	uint8_t entries[SEGMENT_BYTES - 32];
};

_Static_assert(sizeof(struct segment) == SEGMENT_BYTES, "segments are adjacent");

struct entry {
	uint64_t sequence;
	uint32_t len, ops; /* bytes with this header */
	struct counters_delta delta;
};

struct entry_op {
	uint8_t cf, flags;
	uint16_t key_len;
	uint32_t value_len;
	uint8_t bytes[]; /* key, value, up to the next multiple of 8 */
};

struct gather_store {
	struct segment *segments;
	_Atomic uint32_t hint; /* the segments below it are in use, perhaps */
};

/* Of the newest op of a key. */
struct gathered {
	uint32_t hash;
	uint32_t at; /* in the segment */
	bool fresh;
};

struct gather {
	struct subvol *sv;
	struct segment *segment;
	struct db_batch *batch;
	struct reactor_timer timer;
	struct counters_delta delta;
	uint64_t last; /* sequence of the newest entry */
	int64_t own_blocks, own_inodes; /* given back by the entries */
	unsigned count;
	struct gathered keys[KEYS_MAX];
	uint16_t table[TABLE_SIZE]; /* index in keys + 1, 0: free */
};

/* ---- Lists ---- */

static size_t round8(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

static size_t op_bytes(const struct entry_op *op)
{
	return round8(sizeof(*op) + op->key_len + op->value_len);
}

static const uint8_t *op_value(const struct entry_op *op)
{
	return op->bytes + op->key_len;
}

void gather_list_clear(struct gather_list *list)
{
	list->len = 0;
	list->ops = 0;
	list->failed = false;
}

void gather_list_free(struct gather_list *list)
{
	free(list->bytes);
	*list = (struct gather_list){ 0 };
}

static bool list_grow(struct gather_list *list, size_t need)
{
	size_t room = list->room ? list->room : 4096;
	uint8_t *bytes;

	while (room < need)
		room *= 2;
	bytes = realloc(list->bytes, room);
	if (!bytes) {
		list->failed = true;
		return false;
	}
	list->bytes = bytes;
	list->room = room;
	return true;
}

void gather_list_add(struct gather_list *list, enum db_cf cf, unsigned flags, const void *key, size_t key_len,
		     const void *value, size_t value_len)
{
	const size_t need = round8(sizeof(struct entry_op) + key_len + value_len);
	struct entry_op *op;

	if (list->failed || (list->len + need > list->room && !list_grow(list, list->len + need)))
		return;
	op = (struct entry_op *)(list->bytes + list->len);
	*op = (struct entry_op){
		.cf = (uint8_t)cf,
		.flags = (uint8_t)flags,
		.key_len = (uint16_t)key_len,
		.value_len = (uint32_t)value_len,
	};
	memcpy(op->bytes, key, key_len);
	if (value_len)
		memcpy(op->bytes + key_len, value, value_len);
	list->len += need;
	list->ops++;
}

int gather_list_prune(struct gather_list *list, int (*fn)(void *arg, enum db_cf cf, const uint8_t *key, size_t key_len), void *arg)
{
	for (size_t at = 0; at < list->len;) {
		struct entry_op *op = (struct entry_op *)(list->bytes + at);
		int r = 1;

		at += op_bytes(op);
		if (op->cf == DB_NS && !(op->flags & GATHER_DELETE) && is_whiteout(op_value(op), op->value_len))
			r = fn(arg, (enum db_cf)op->cf, op->bytes, op->key_len);
		if (r < 0)
			return r;
		if (!r)
			op->flags |= GATHER_DELETE;
	}
	return 0;
}

static void put_op(const struct entry_op *op, struct db *db, struct db_batch *batch)
{
	const enum db_cf cf = (enum db_cf)op->cf;

	if (op->flags & GATHER_DELETE)
		db_batch_delete(db, batch, cf, op->bytes, op->key_len);
	else
		db_batch_put(db, batch, cf, op->bytes, op->key_len, op_value(op), op->value_len);
}

void gather_list_put(const struct gather_list *list, struct db *db, struct db_batch *batch)
{
	for (size_t at = 0; at < list->len;) {
		const struct entry_op *op = (const struct entry_op *)(list->bytes + at);

		put_op(op, db, batch);
		at += op_bytes(op);
	}
}

static void delta_add(struct counters_delta *sum, const struct counters_delta *d)
{
	sum->born += d->born;
	sum->referenced += d->referenced;
	sum->meta += d->meta;
	sum->inodes += d->inodes;
	sum->meta_born += d->meta_born;
	sum->inodes_born += d->inodes_born;
	sum->unwritten += d->unwritten;
}

/* ---- The store ---- */

size_t gather_store_bytes(void)
{
	return (size_t)SEGMENTS * SEGMENT_BYTES;
}

int gather_store_create(void *base, struct gather_store **out)
{
	struct gather_store *store = calloc(1, sizeof(*store));

	if (!store)
		return -ENOMEM;
	store->segments = base;
	*out = store;
	return 0;
}

void gather_store_destroy(struct gather_store *store)
{
	free(store);
}

static struct segment *segment_take(struct gather_store *store)
{
	uint32_t hint = atomic_load(&store->hint);

	for (uint32_t i = hint; i < SEGMENTS; i++) {
		struct segment *s = &store->segments[i];
		uint32_t none = 0;

		if (atomic_compare_exchange_strong(&s->taken, &none, 1)) {
			atomic_compare_exchange_strong(&store->hint, &hint, i + 1); /* not over a lower one */
			return s;
		}
	}
	return NULL;
}

static void segment_give(struct gather_store *store, struct segment *s)
{
	const uint32_t i = (uint32_t)(s - store->segments);
	uint32_t hint = atomic_load(&store->hint);

	atomic_store_explicit(&s->used, 0, memory_order_release);
	atomic_store(&s->taken, 0);
	while (i < hint && !atomic_compare_exchange_weak(&store->hint, &hint, i))
		;
}

/* ---- The marker ---- */

static void put_marker(struct db *db, struct db_batch *batch, uint32_t session, uint64_t sequence)
{
	const struct result_rec rec = { .sequence = sequence };
	uint8_t key[KEY_MAX], value[sizeof(struct disk_result)];
	const size_t key_len = key_result(key, session, MARKER_SLOT);

	db_batch_put(db, batch, DB_SYS, key, key_len, value, result_rec_encode(&rec, value));
}

/* 0 when there is none. */
static int get_marker(struct db *db, uint32_t session, uint64_t *sequence)
{
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_MAX];
	struct result_rec rec;
	int r = db_get(db, DB_SYS, key, key_result(key, session, MARKER_SLOT), 0, &value);

	*sequence = 0;
	if (r)
		return r == -ENOENT ? 0 : r;
	if (result_rec_decode(value.data, value.len, &rec))
		return -EBADMSG;
	*sequence = rec.sequence;
	return 0;
}

/* ---- What a killed worker left ---- */

static bool op_fits(const struct entry_op *op, size_t left)
{
	return left >= sizeof(*op) && op->cf < DB_CF_COUNT && op->key_len <= KEY_MAX &&
	       op->value_len <= SEGMENT_BYTES && op_bytes(op) <= left;
}

static int takeup_entry(struct pool *pool, const struct entry *e, struct db_batch *batch)
{
	size_t at = sizeof(*e);

	for (uint32_t i = 0; i < e->ops; i++) {
		const struct entry_op *op = (const struct entry_op *)((const uint8_t *)e + at);

		if (!op_fits(op, e->len - at))
			return -EBADMSG;
		put_op(op, pool->db, batch);
		at += op_bytes(op);
	}
	return at == e->len ? 0 : -EBADMSG;
}

static int takeup_entries(struct pool *pool, const struct segment *s, uint64_t marker, struct db_batch *batch)
{
	const uint64_t used = atomic_load_explicit(&s->used, memory_order_acquire);
	struct counters_delta delta = { 0 };
	uint64_t last = 0;

	if (s->magic != SEGMENT_MAGIC || used > sizeof(s->entries))
		return -EBADMSG;
	for (uint64_t at = 0; at < used;) {
		const struct entry *e = (const struct entry *)(s->entries + at);
		int r;

		if (used - at < sizeof(*e) || e->len > used - at || e->len < sizeof(*e) || e->sequence <= last)
			return -EBADMSG;
		at += e->len;
		last = e->sequence;
		if (e->sequence <= marker)
			continue;
		r = takeup_entry(pool, e, batch);
		if (r)
			return r;
		delta_add(&delta, &e->delta);
	}
	if (last > marker) {
		counters_put(pool->db, batch, s->tree, s->node, &delta);
		put_marker(pool->db, batch, s->session, last);
	}
	return 0;
}

static int takeup_segment(struct pool *pool, struct segment *s)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	uint64_t marker;
	int r = batch ? get_marker(pool->db, s->session, &marker) : -ENOMEM;

	if (!r)
		r = takeup_entries(pool, s, marker, batch);
	if (!r && db_batch_count(batch))
		r = db_write(pool->db, batch, 0);
	if (r == -EBADMSG)
		log_error("pool %s: the changes that the last worker left in memory are damaged (tree %" PRIu32 ", session %" PRIu32
			  "): stop nvfsd and start the pool again, which goes back to the last commit",
			  pool_name(pool), s->tree, s->session);
	return r;
}

int gather_takeup(struct pool *pool)
{
	struct gather_store *store = pool->gather_store;
	const uint32_t life = metafs_area_life(pool->metafs);

	for (uint32_t i = 0; i < SEGMENTS; i++) {
		struct segment *s = &store->segments[i];
		int r;

		if (!atomic_load(&s->taken))
			continue;
		/* Of another life: what they build on is not there. */
		r = atomic_load(&s->used) && s->life == life ? takeup_segment(pool, s) : 0;
		if (r)
			return r;
		segment_give(store, s);
	}
	return 0;
}

/* ---- The table ---- */

static const struct entry_op *op_at(const struct gather *g, uint32_t at)
{
	return (const struct entry_op *)(g->segment->entries + at);
}

static bool same_key(const struct gather *g, const struct gathered *k, uint32_t hash, enum db_cf cf, const void *key,
		     size_t key_len)
{
	const struct entry_op *op = op_at(g, k->at);

	return k->hash == hash && op->cf == cf && op->key_len == key_len && !memcmp(op->bytes, key, key_len);
}

/* The key's place in the table, or the free one where it belongs. */
static uint16_t *table_place(struct gather *g, uint32_t hash, enum db_cf cf, const void *key, size_t key_len)
{
	uint32_t i = hash % TABLE_SIZE;

	while (g->table[i] && !same_key(g, &g->keys[g->table[i] - 1], hash, cf, key, key_len))
		i = (i + 1) % TABLE_SIZE;
	return &g->table[i];
}

static void fold(struct gather *g, uint32_t at)
{
	const struct entry_op *op = op_at(g, at);
	const uint32_t hash = crc32c(op->cf, op->bytes, op->key_len);
	uint16_t *place = table_place(g, hash, (enum db_cf)op->cf, op->bytes, op->key_len);

	if (!*place) {
		assert(g->count < KEYS_MAX);
		g->keys[g->count] = (struct gathered){ .hash = hash, .fresh = op->flags & GATHER_FRESH };
		*place = (uint16_t)++g->count;
	}
	g->keys[*place - 1].at = at;
}

int gather_get(const struct gather *g, enum db_cf cf, const void *key, size_t key_len, struct db_value *value)
{
	const struct entry_op *op;
	uint16_t place;

	if (!g || !g->count)
		return 0;
	place = *table_place((struct gather *)g, crc32c(cf, key, key_len), cf, key, key_len);
	if (!place)
		return 0;
	op = op_at(g, g->keys[place - 1].at);
	if (op->flags & GATHER_DELETE)
		return -ENOENT;
	*value = (struct db_value){ .data = op_value(op), .len = op->value_len };
	return 1;
}

/* ---- Writing ---- */

static int compare_ops(const void *a, const void *b, void *arg)
{
	const struct gather *g = arg;
	const struct entry_op *x = op_at(g, *(const uint32_t *)a), *y = op_at(g, *(const uint32_t *)b);
	const size_t len = x->key_len < y->key_len ? x->key_len : y->key_len;
	const int order = x->cf != y->cf ? x->cf - y->cf : memcmp(x->bytes, y->bytes, len);

	return order ? order : x->key_len - y->key_len;
}

/* In the order of their keys: RocksDB finds the next place near the last one. */
static void fill_batch(struct gather *g)
{
	struct subvol *sv = g->sv;
	uint32_t order[KEYS_MAX];
	unsigned n = 0;

	db_batch_clear(g->batch);
	for (unsigned i = 0; i < g->count; i++)
		if (!g->keys[i].fresh || !(op_at(g, g->keys[i].at)->flags & GATHER_DELETE))
			order[n++] = g->keys[i].at;
	qsort_r(order, n, sizeof(*order), compare_ops, g);
	for (unsigned i = 0; i < n; i++)
		put_op(op_at(g, order[i]), sv->pool->db, g->batch);
	counters_put(sv->pool->db, g->batch, g->segment->tree, g->segment->node, &g->delta);
	put_marker(sv->pool->db, g->batch, g->segment->session, g->last);
}

static void give_own(struct gather *g)
{
	subvol_give_own(g->sv, g->own_blocks, g->own_inodes);
	g->own_blocks = g->own_inodes = 0;
}

static void group_end(struct gather *g)
{
	g->count = 0;
	memset(g->table, 0, sizeof(g->table));
	memset(&g->delta, 0, sizeof(g->delta));
	atomic_store_explicit(&g->segment->used, 0, memory_order_release);
	give_own(g);
	if (g->timer.armed)
		reactor_timer_cancel(g->sv->reactor, &g->timer);
}

/* The replies are out: a pool that cannot keep what they said takes nothing more. */
static int write_failed(struct pool *pool, int error)
{
	int none = 0;

	if (!atomic_compare_exchange_strong(&pool->failed, &none, error))
		return error;
	log_error("pool %s: changes of names cannot be written: %s. It takes no more writes: what was not yet "
		  "committed may be lost; unmount, check the devices and start the pool again",
		  pool_name(pool), strerror(-error));
	event_add(pool->events, &(struct event_about){ .kind = EVENT_POOL_FAILED, .severity = EVENT_ERROR },
		  "changes of names cannot be written: %s; the pool takes no more writes", strerror(-error));
	return error;
}

/* 0, -EAGAIN while RocksDB stalls, or why the pool failed. */
static int write_group(struct gather *g)
{
	struct pool *pool = g->sv->pool;
	int r = atomic_load_explicit(&pool->failed, memory_order_relaxed);

	if (r || !g->count)
		return r;
	fill_batch(g);
	r = db_write(pool->db, g->batch, DB_NO_SLOWDOWN);
	if (r == -EAGAIN)
		return r;
	if (r)
		return write_failed(pool, r);
	group_end(g);
	return 0;
}

static void timer_fired(struct reactor *r, struct reactor_timer *timer)
{
	struct gather *g = (struct gather *)((char *)timer - offsetof(struct gather, timer));
	const uint64_t since = reactor_meter(r);

	if (write_group(g) == -EAGAIN)
		reactor_timer_add(r, &g->timer, reactor_now_ns(r) + STALL_RETRY_NS);
	reactor_charge(r, subvol_party(g->sv), since);
}

/* Whether a key with this prefix waits here. */
static bool has_prefix(const struct gather *g, enum db_cf cf, const uint8_t *prefix, size_t len)
{
	for (unsigned i = 0; i < g->count; i++) {
		const struct entry_op *op = op_at(g, g->keys[i].at);

		if (op->cf == cf && op->key_len >= len && !memcmp(op->bytes, prefix, len))
			return true;
	}
	return false;
}

int gather_settle_range(struct op *op, enum db_cf cf, const uint8_t *prefix, size_t len)
{
	const struct gather *g = op->sv->gather;

	return g && g->count && has_prefix(g, cf, prefix, len) ? gather_settle(op) : 0;
}

int gather_settle(struct op *op)
{
	struct gather *g = op->sv->gather;
	int r;

	if (!g || !g->count)
		return 0;
	r = write_group(g);
	return r == -EAGAIN ? op_again(op, STALL_RETRY_NS) : r;
}

/* ---- Taking in ---- */

static int need_segment(struct gather *g)
{
	if (g->segment)
		return 0;
	g->segment = segment_take(g->sv->pool->gather_store);
	if (!g->segment)
		return -E2BIG;
	g->segment->session = 0;
	return 0;
}

/* What the segment says of its entries. */
static int need_session(struct op *op, struct gather *g)
{
	struct segment *s = g->segment;
	const struct subvol *sv = g->sv;
	int r;

	if (!op->session || op->session == s->session)
		return s->session ? 0 : -E2BIG;
	r = gather_settle(op);
	if (r)
		return r;
	s->magic = SEGMENT_MAGIC;
	s->life = metafs_area_life(sv->pool->metafs);
	s->tree = sv->tree;
	s->node = sv->node;
	s->session = op->session;
	return 0;
}

static void append(struct gather *g, const struct gather_list *list, const struct counters_delta *delta)
{
	struct segment *s = g->segment;
	const uint64_t used = atomic_load_explicit(&s->used, memory_order_relaxed);
	struct entry *e = (struct entry *)(s->entries + used);
	uint32_t at = (uint32_t)(used + sizeof(*e));

	g->last = pool_sequence(g->sv->pool);
	*e = (struct entry){
		.sequence = g->last,
		.len = (uint32_t)(sizeof(*e) + list->len),
		.ops = list->ops,
		.delta = *delta,
	};
	memcpy(s->entries + at, list->bytes, list->len);
	atomic_store_explicit(&s->used, used + e->len, memory_order_release);
	for (uint32_t i = 0; i < list->ops; i++) {
		fold(g, at);
		at += (uint32_t)op_bytes(op_at(g, at));
	}
	delta_add(&g->delta, delta);
}

int gather_accept(struct op *op, const struct gather_list *list, const struct counters_delta *delta)
{
	struct gather *g = op->sv->gather;
	const size_t need = sizeof(struct entry) + list->len;
	int r;

	ASSERT_ON_REACTOR(op->sv->reactor);
	assert(list->ops); /* a group is counted by its keys */
	if (!g || need > sizeof(g->segment->entries) || list->ops > KEYS_MAX)
		return -E2BIG;
	r = need_segment(g);
	if (!r)
		r = need_session(op, g);
	if (!r && (atomic_load_explicit(&g->segment->used, memory_order_relaxed) + need > sizeof(g->segment->entries) ||
		   g->count + list->ops > KEYS_MAX))
		r = gather_settle(op);
	if (r)
		return r;
	if (!g->count)
		reactor_timer_add(g->sv->reactor, &g->timer, reactor_now_ns(g->sv->reactor) + WAIT_NS);
	append(g, list, delta);
	return 0;
}

void gather_give(struct gather *g, const struct charge *give)
{
	subvol_give(g->sv, give->blocks, give->inodes);
	g->own_blocks += give->own_blocks;
	g->own_inodes += give->own_inodes;
	if (!g->count)
		give_own(g);
}

/* ---- Making and freeing ---- */

int gather_create(struct subvol *sv, struct gather **out)
{
	struct gather *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->sv = sv;
	g->timer.fn = timer_fired;
	g->batch = db_batch_new();
	if (!g->batch) {
		free(g);
		return -ENOMEM;
	}
	*out = g;
	return 0;
}

void gather_rebase(struct gather *g)
{
	assert(!g->count);
	if (g->segment)
		g->segment->session = 0;
}

void gather_stop(struct gather *g)
{
	if (g && g->count)
		group_end(g);
}

void gather_destroy(struct gather *g)
{
	if (!g)
		return;
	assert(!g->count);
	if (g->segment)
		segment_give(g->sv->pool->gather_store, g->segment);
	db_batch_free(g->batch);
	free(g);
}
