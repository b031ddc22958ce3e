/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One step of a pass. All of it is one batch: what goes, what becomes the child's, the holders of blocks, the counters of both nodes, the
 * cursor. A block of the node that the child inherits by flag becomes the child's own when the node's record goes.
 *
 * When the child is open, the batch is written by its reactor, where it is checked once more that the child still has what was read, and its
 * memory changes in the same handler: which node a chunk, an inode or a size is of; the flags; and for a chunk with unwritten
 * changes what its key has in RocksDB, since the change of that is what its own batch will carry.
 *
 * Else the sweeper's thread writes it: who holds the administration lock opens nothing.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/charge.h"
#include "meta/data_internal.h"
#include "meta/op_internal.h"
#include "meta/sweep_internal.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

#define STALL_NS 2000000

/* What the step does to a chunk map. */
struct map_change {
	struct blockmap own, child, child_new; /* child_new: with flags cleared */
	uint64_t child_seq;
	bool has_child;
};

/* What a step sums up. */
struct sums {
	struct space_ops *ops;
	struct counters_rec node, child;
};

/* ---- What a record counts ---- */

static void count_ns(const uint8_t *key, size_t key_len, const void *value, size_t len, int sign, struct counters_rec *c)
{
	struct ns_key k;
	struct inode_rec inode;
	struct size_rec size;

	if (ns_key_parse(key, key_len, &k) || is_whiteout(value, len))
		return;
	if (k.type == REC_INODE && !inode_rec_decode(value, len, &inode)) {
		c->inodes_born += sign;
		c->meta_born += sign * inode_charge(&inode);
	} else if (k.type == REC_SIZE && !size_rec_decode(value, len, &size)) {
		c->meta_born += sign * size.is_inline;
	}
}

static void count_map(const struct blockmap *m, int sign, struct counters_rec *c)
{
	c->born += sign * (int64_t)blockmap_own(m);
	c->unwritten += sign * (int64_t)mask_count(m->unwritten & ~m->inherited);
}

static int add_op(void *arg, const struct extent *extent, int delta)
{
	return space_ops_add(arg, extent, delta);
}

/* ---- Chunk maps ---- */

static int decode_map(const struct sweep_step *st, const struct sweep_value *v, struct blockmap *out, uint64_t *seq)
{
	struct map_rec rec;
	int r = map_rec_decode(sweep_bytes(st, v), v->len, &rec);

	if (seq)
		*seq = r ? 0 : rec.seq;
	return r ? r : blockmap_from_rec(out, &rec, false);
}

static void map_change_clear(struct map_change *m)
{
	blockmap_clear(&m->own);
	blockmap_clear(&m->child);
	blockmap_clear(&m->child_new);
}

static int map_change_read(const struct sweep_step *st, const struct sweep_item *item, struct map_change *m)
{
	int r = item->own.len ? decode_map(st, &item->own, &m->own, NULL) : 0;

	m->has_child = item->child.len;
	if (!r && m->has_child)
		r = decode_map(st, &item->child, &m->child, &m->child_seq);
	if (!r && m->has_child)
		r = blockmap_copy(&m->child_new, &m->child);
	if (!r)
		m->child_new.inherited &= m->own.inherited;
	return r;
}

static void put_map(struct sweep *s, const struct sweep_item *item, uint32_t node, const struct blockmap *map, uint64_t seq)
{
	uint8_t key[KEY_MAX], value[MAP_REC_MAX];
	struct map_rec rec;

	memcpy(key, item->key, item->key_len);
	put_be32(key + item->key_len - 4, ~node);
	blockmap_to_rec(map, seq, &rec);
	db_batch_put(s->pool->db, s->batch, DB_MAP, key, item->key_len, value, map_rec_encode(&rec, value));
}

static int add_map_drop(struct sweep *s, const struct sweep_item *item, struct sums *sums, struct map_change *m)
{
	int r = blockmap_diff(&m->own, NULL, add_op, sums->ops);

	count_map(&m->own, -1, &sums->node);
	if (r || !m->has_child || m->child_new.inherited == m->child.inherited)
		return r;
	put_map(s, item, s->child, &m->child_new, m->child_seq);
	count_map(&m->child, -1, &sums->child);
	count_map(&m->child_new, 1, &sums->child);
	return blockmap_diff(&m->child, &m->child_new, add_op, sums->ops);
}

static int add_map_trim(struct sweep *s, const struct sweep_item *item, struct sums *sums, struct map_change *m)
{
	struct blockmap left = { 0 };
	uint64_t seq;
	int r = decode_map(&s->step, &item->trimmed, &left, &seq);

	if (!r) {
		put_map(s, item, s->node, &left, seq);
		count_map(&m->own, -1, &sums->node);
		count_map(&left, 1, &sums->node);
		r = blockmap_diff(&m->own, &left, add_op, sums->ops);
	}
	blockmap_clear(&left);
	return r;
}

static int add_map(struct sweep *s, const struct sweep_item *item, struct sums *sums)
{
	struct map_change m = { 0 };
	int r = map_change_read(&s->step, item, &m);

	if (!r && item->action == SWEEP_DROP)
		r = add_map_drop(s, item, sums, &m);
	if (!r && item->action == SWEEP_TRIM)
		r = add_map_trim(s, item, sums, &m);
	if (!r && item->action == SWEEP_MOVE) {
		count_map(&m.own, -1, &sums->node);
		count_map(&m.own, 1, &sums->child);
	}
	map_change_clear(&m);
	return r;
}

/* ---- The batch ---- */

static void child_key(const struct sweep *s, const struct sweep_item *item, uint8_t *key)
{
	memcpy(key, item->key, item->key_len);
	put_be32(key + item->key_len - 4, ~s->child);
}

static int add_item(struct sweep *s, const struct sweep_item *item, struct sums *sums)
{
	struct db *db = s->pool->db;
	const void *own = sweep_bytes(&s->step, &item->own);
	uint8_t key[KEY_MAX];
	int r = 0;

	if (item->cf == DB_MAP)
		r = add_map(s, item, sums);
	else if (item->action != SWEEP_LEAVE)
		count_ns(item->key, item->key_len, own, item->own.len, -1, &sums->node);
	if (r)
		return r;
	if (item->action == SWEEP_DROP || item->action == SWEEP_MOVE)
		db_batch_delete(db, s->batch, item->cf, item->key, item->key_len);
	child_key(s, item, key);
	if (item->action == SWEEP_MOVE) {
		db_batch_put(db, s->batch, item->cf, key, item->key_len, own, item->own.len);
		if (item->cf == DB_NS)
			count_ns(item->key, item->key_len, own, item->own.len, 1, &sums->child);
	}
	if (item->child_goes)
		db_batch_delete(db, s->batch, item->cf, key, item->key_len);
	return 0;
}

static int build(struct sweep *s, struct sums *sums)
{
	struct db *db = s->pool->db;
	int r = 0;

	memset(&sums->node, 0, sizeof(sums->node));
	memset(&sums->child, 0, sizeof(sums->child));
	space_ops_clear(sums->ops);
	db_batch_clear(s->batch);
	for (unsigned i = 0; i < s->step.count && !r; i++)
		r = add_item(s, &s->step.items[i], sums);
	if (r)
		return r;
	if (!s->tidy) {
		sysrec_add_counters(db, s->batch, s->tree, s->node, &sums->node);
		sysrec_put_node(db, s->batch, s->tree, s->node, &s->rec);
	}
	if (s->child)
		sysrec_add_counters(db, s->batch, s->tree, s->child, &sums->child);
	return space_ops_put(sums->ops, db, s->batch);
}

/* ---- Current holders, and memory ---- */

static int drop_or_hold(void *arg, const struct extent *extent, int delta)
{
	return delta > 0 ? space_hold(arg, extent) : space_drop(arg, extent);
}

static struct chunk *chunk_of(struct subvol *sv, const struct sweep_item *item)
{
	struct map_key k;
	struct inode *inode;

	if (!sv || map_key_parse(item->key, item->key_len, &k))
		return NULL;
	inode = inode_peek(sv, k.ino);
	return inode && inode->file ? chunk_peek(inode->file, k.chunk) : NULL;
}

/* How many of the chunk's blocks are own, with those of a hidden record, and how many of them RocksDB has. */
static int64_t own_now(const struct chunk *c)
{
	return mask_count(chunk_charged_own(c) | (c->hidden ? chunk_map_own(c) : 0));
}

static int64_t own_put(const struct chunk *c)
{
	if (c->changed)
		return c->base ? blockmap_own(c->base) : 0;
	return chunk_own(c) ? blockmap_own(&c->map) : 0;
}

/* The file's sums follow: what RocksDB has now is no change of the file any more. */
static void settle_own(struct chunk *c, int64_t now, int64_t put)
{
	const int64_t less = now - put - (own_now(c) - own_put(c));

	if (less > 0)
		file_uncharge(c->file, 0, (uint64_t)less);
	assert(less >= 0); /* what becomes own in memory becomes so in RocksDB, too */
}

/* Runs of compressed extents part or join where flags change: so do their holders. */
static int set_inherited(struct sweep *s, struct blockmap *map, uint64_t inherited)
{
	struct blockmap before = { 0 };
	int r = blockmap_copy(&before, map);

	if (r)
		return r;
	map->inherited = inherited;
	blockmap_diff(&before, map, drop_or_hold, s->pool->space);
	blockmap_recount(map, &before);
	blockmap_clear(&before);
	return 0;
}

/* A chunk that was to replace the node's record by one of its own: that record is the child's now, and its holders are gone with the next put. */
static int copy_moved(struct sweep *s, struct chunk *c, const struct map_change *m)
{
	int r;

	blockmap_diff(&m->own, NULL, drop_or_hold, s->pool->space);
	c->base = calloc(1, sizeof(*c->base));
	r = c->base ? blockmap_copy(c->base, &m->own) : -ENOMEM;
	return r ? r : set_inherited(s, &c->map, c->map.inherited & m->own.inherited);
}

/* The node's record became the child's. What is in memory may have older flags: nobody told it while it was not its own. */
static int chunk_moved(struct sweep *s, struct chunk *c, struct map_change *m)
{
	const int64_t now = own_now(c), put = own_put(c);
	int r = 0;

	if (c->changed) {
		r = copy_moved(s, c, m);
	} else {
		c->map.inherited = m->own.inherited;
		blockmap_recount(&c->map, NULL);
	}
	c->node = s->child;
	if (!r)
		settle_own(c, now, put);
	return r;
}

/* The node's record went: what was inherited from it alone is the child's own. */
static int chunk_alone(struct sweep *s, struct chunk *c, const struct map_change *m)
{
	const int64_t now = own_now(c), put = own_put(c);
	int r = set_inherited(s, &c->map, c->map.inherited & m->own.inherited);

	if (r)
		return r;
	if (c->base)
		c->base->inherited &= m->own.inherited;
	settle_own(c, now, put);
	return 0;
}

static int map_dropped(struct sweep *s, struct chunk *c, struct map_change *m)
{
	blockmap_diff(&m->own, NULL, drop_or_hold, s->pool->space);
	if (c && m->has_child)
		return chunk_alone(s, c, m);
	if (m->has_child)
		blockmap_diff(&m->child, &m->child_new, drop_or_hold, s->pool->space);
	return 0;
}

static int map_applied(struct sweep *s, struct subvol *sv, const struct sweep_item *item)
{
	struct chunk *c = chunk_of(sv, item);
	struct map_change m = { 0 };
	struct blockmap left = { 0 };
	int r = map_change_read(&s->step, item, &m);

	if (!r && item->action == SWEEP_MOVE && c)
		r = chunk_moved(s, c, &m);
	if (!r && item->action == SWEEP_DROP)
		r = map_dropped(s, c, &m);
	if (!r && item->action == SWEEP_TRIM) {
		r = decode_map(&s->step, &item->trimmed, &left, NULL);
		if (!r)
			blockmap_diff(&m.own, &left, drop_or_hold, s->pool->space);
	}
	if (item->child_goes && c && chunk_own(c))
		c->node = 0;
	blockmap_clear(&left);
	map_change_clear(&m);
	return r;
}

static void ns_applied(struct sweep *s, struct subvol *sv, const struct sweep_item *item)
{
	struct inode *inode;
	struct file *f;
	struct ns_key k;

	if (!sv || item->action != SWEEP_MOVE || ns_key_parse(item->key, item->key_len, &k))
		return;
	inode = inode_peek(sv, k.ino);
	if (!inode)
		return;
	/* What is in memory may name a node that the record was in before it came to this one. */
	if (k.type == REC_INODE)
		inode->node = s->child;
	f = inode->file;
	if (k.type != REC_SIZE || !f || !f->put_rec)
		return;
	f->put_node = s->child;
	if (f->inline_taken) { /* the copy that was charged will not be made */
		f->inline_taken = false;
		file_uncharge(f, 0, 1);
	}
}

/* Without memory what is in memory would differ from RocksDB: then nothing more may be written. */
static void applied(struct sweep *s, struct subvol *sv)
{
	int r = 0, none = 0;

	for (unsigned i = 0; i < s->step.count && !r; i++) {
		const struct sweep_item *item = &s->step.items[i];

		if (item->cf == DB_MAP)
			r = map_applied(s, sv, item);
		else
			ns_applied(s, sv, item);
	}
	if (r && atomic_compare_exchange_strong(&s->pool->failed, &none, r))
		log_error("pool %s: no memory while deleted snapshots are taken apart. It takes no more writes: unmount and start it again",
			  pool_name(s->pool));
}

/* What the pool and the tenant count. */
static void count_applied(struct sweep *s, const struct sums *sums, const struct node_rec *child)
{
	const int64_t moved = sums->child.born + sums->child.meta_born, gone = sums->node.born + sums->node.meta_born;
	struct pool_tenant *tenant = tenant_find(s->pool, s->rec.tenant);
	int64_t loose = sums->node.born;
	struct subvol_rec rec;
	char name[SUBVOL_NAME_MAX + 1];

	if (tenant)
		tenant_force(tenant, gone + moved, sums->node.inodes_born + sums->child.inodes_born);
	if (s->child && child->state != NODE_LIVE)
		loose += sums->child.born;
	else if (s->child && !sysrec_subvol(s->pool->db, child->subvol, &rec, name) && !(rec.flags & SUBVOL_RESERVED))
		loose += moved;
	pool_count_promised(s->pool, loose, 0);
}

/* ---- On the sweeper's thread ---- */

int sweep_write(struct sweep *s)
{
	for (;;) {
		const struct timespec pause = { .tv_nsec = STALL_NS };
		int r = atomic_load(&s->pool->failed) ? -EROFS : db_write(s->pool->db, s->batch, DB_NO_SLOWDOWN);

		if (r != -EAGAIN)
			return r;
		nanosleep(&pause, NULL);
		if (sweep_stopping(s))
			return -EINTR;
	}
}

static int apply_here(struct sweep *s, struct sums *sums)
{
	int r = build(s, sums);

	if (r)
		return r;
	r = sweep_write(s);
	if (r) {
		space_ops_aborted(sums->ops);
		return r;
	}
	applied(s, NULL);
	return 0;
}

/* ---- On the child's reactor ---- */

struct apply {
	struct sweep *s;
	struct sums *sums;
};

/* Whether the child has what was read, in memory where it would be changed. */
static bool child_is(const struct sweep *s, const struct sweep_item *item)
{
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_MAX];
	int r;

	child_key(s, item, key);
	r = db_get(s->pool->db, item->cf, key, item->key_len, DB_CACHED_ONLY, &value);
	if (r)
		return r == -ENOENT && !item->child.len;
	return value.len == item->child.len && !memcmp(value.data, sweep_bytes(&s->step, &item->child), value.len);
}

static uint64_t item_ino(const struct sweep_item *item)
{
	struct map_key m;
	struct ns_key n;

	if (item->cf == DB_MAP)
		return map_key_parse(item->key, item->key_len, &m) ? 0 : m.ino;
	if (ns_key_parse(item->key, item->key_len, &n))
		return 0;
	return n.ino;
}

/* Nothing is moved to an inode that died since. */
static bool child_lives(const struct sweep *s, const struct sweep_item *item)
{
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_MAX];
	int r = db_get(s->pool->db, DB_NS, key, key_inode(key, s->tree, item_ino(item), s->child), DB_CACHED_ONLY, &value);

	return r == -ENOENT || (!r && !is_whiteout(value.data, value.len));
}

/* One whose reaper has begun does not look again at what it came by. */
static bool is_reaped(struct subvol *sv, const struct sweep_item *item)
{
	const struct inode *inode = inode_peek(sv, item_ino(item));

	return inode && inode->deleted;
}

/* What changed since stays for the next pass. */
static void check_again(struct sweep *s, struct subvol *sv)
{
	const bool same = s->step.epoch == sv->epoch;

	for (unsigned i = 0; i < s->step.count; i++) {
		struct sweep_item *item = &s->step.items[i];
		const bool moves = item->action == SWEEP_MOVE;

		if ((same || (child_is(s, item) && (!moves || child_lives(s, item)))) && !(moves && is_reaped(sv, item)))
			continue;
		item->action = SWEEP_LEAVE;
		item->child_goes = false;
	}
}

static int apply_there(struct op *op, void *arg)
{
	struct apply *a = arg;
	struct subvol *sv = op->sv;
	int r = gather_settle(op);

	op->passes_gate = true;
	if (r)
		return r;
	if (put_busy(sv->data)) /* its batch was made from what is about to change */
		return op_again(op, STALL_NS / 2);
	check_again(a->s, sv);
	r = build(a->s, a->sums);
	if (r)
		return r;
	r = subvol_write(op, a->s->batch, true);
	if (r) {
		space_ops_aborted(a->sums->ops);
		return r;
	}
	applied(a->s, sv);
	sv->own_blocks += a->sums->child.born + a->sums->child.meta_born;
	sv->own_inodes += a->sums->child.inodes_born;
	return 0;
}

struct subvol *sweep_open_child(const struct sweep *s)
{
	struct subvol *sv = s->pool->open_head;

	while (sv && (!s->child || sv->read_only || sv->tree != s->tree || sv->node != s->child))
		sv = sv->open_next;
	return sv;
}

int sweep_apply(struct sweep *s)
{
	struct subvol *sv = sweep_open_child(s);
	struct sums sums = { .ops = space_ops_new(s->pool->space) };
	struct apply apply = { s, &sums };
	char name[SUBVOL_NAME_MAX + 1];
	struct node_rec child = { 0 };
	int r = sums.ops ? 0 : -ENOMEM;

	if (!r && s->child)
		r = sysrec_node(s->pool->db, s->tree, s->child, &child, name);
	if (!r)
		r = sv ? subvol_call(sv, apply_there, &apply) : apply_here(s, &sums);
	if (!r) {
		commit_put_space(s->pool, take_ptr(sums.ops));
		count_applied(s, &sums, &child);
	}
	space_ops_free(sums.ops);
	return r;
}
