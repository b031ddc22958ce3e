/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Versions of records. All versions of a record are neighbours, newest node first, and ancestors
 * have smaller ids than their descendants: so the nearest ancestor's version is the first one whose
 * node is an ancestor at all. The own node is asked by its exact key, where Bloom filters help; for what it does not have, one iterator
 * goes over the versions and jumps from ancestor to ancestor, so siblings cost nothing. It must be one iterator, which sees one
 * moment: the sweeper moves records down to younger nodes, and whoever asked node by node could miss what moves behind his back.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/gather.h"
#include "meta/lineage.h"
#include "meta/op_internal.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"

#define NODE_BYTES 4
#define RANGE_RECORDS 512         /* that a worker reads in one go */
#define RANGE_BYTES (128u << 10)

static uint32_t node_of_key(const uint8_t *key, size_t len)
{
	return ~get_be32(key + len - NODE_BYTES);
}

static void set_node(uint8_t *key, size_t len, uint32_t node)
{
	put_be32(key + len - NODE_BYTES, ~node);
}

/* ---- one record ---- */

/* A whiteout is as good as nothing. */
static int seen(int result, enum db_cf cf, struct db_value *out)
{
	if (!result && cf == DB_NS && is_whiteout(out->data, out->len)) {
		db_value_release(out);
		return -ENOENT;
	}
	return result;
}

struct walk_input {
	struct op_input in;
	int result;
	uint32_t from;
	void *value;
	size_t value_len;
	unsigned nodes_count;
	uint32_t *nodes;
	uint8_t key[];
};

/* The nearest version by seeking. *value is malloc'ed. */
static int walk(struct db *db, enum db_cf cf, const uint8_t *key, size_t key_len, const uint32_t *nodes, unsigned count,
		unsigned flags, void **value, size_t *value_len, uint32_t *from)
{
	uint8_t at[KEY_MAX];
	cleanup_db_iter struct db_iter *iter = NULL;
	unsigned i = 0;

	memcpy(at, key, key_len);
	memset(at + key_len - NODE_BYTES, 0xff, NODE_BYTES); /* past node 0: above every version */
	iter = db_iter_new(db, cf, key, key_len, at, key_len, flags);
	if (!iter)
		return -ENOMEM;
	while (i < count) {
		const uint8_t *found;
		size_t len;

		set_node(at, key_len, nodes[i]);
		db_iter_seek(iter, at, key_len);
		do {
			if (!db_iter_valid(iter))
				return db_iter_error(iter) ?: -ENOENT;
			found = db_iter_key(iter, &len);
			if (len == key_len)
				break;
			db_iter_next(iter); /* a longer key between ours is another record's */
		} while (true);
		i = lineage_at_most(nodes, count, node_of_key(found, len));
		if (i < count && nodes[i] == node_of_key(found, len)) {
			const void *v = db_iter_value(iter, value_len);

			*from = nodes[i];
			*value = malloc(*value_len ? *value_len : 1);
			if (!*value)
				return -ENOMEM;
			memcpy(*value, v, *value_len);
			return 0;
		}
	}
	return -ENOENT;
}

static void walk_fetch(struct op_input *in)
{
	struct walk_input *w = (struct walk_input *)in;

	w->result = walk(in->db, in->cf, in->key, in->key_len, w->nodes, w->nodes_count, 0, &w->value, &w->value_len,
			 &w->from);
}

static void walk_clear(struct op_input *in)
{
	struct walk_input *w = (struct walk_input *)in;

	free(w->value);
	w->value = NULL;
}

static struct walk_input *walk_input_new(struct op *op, enum db_cf cf, const uint8_t *key, size_t key_len)
{
	const struct subvol *sv = op->sv;
	const size_t nodes_at = (sizeof(struct walk_input) + key_len + 3) & ~(size_t)3;
	struct walk_input *w = calloc(1, nodes_at + sv->ancestor_count * sizeof(uint32_t));

	if (!w)
		return NULL;
	memcpy(w->key, key, key_len);
	w->nodes = (uint32_t *)((char *)w + nodes_at);
	w->nodes_count = sv->ancestor_count - !sv->read_only; /* the own one was asked */
	memcpy(w->nodes, sv->ancestors + !sv->read_only, w->nodes_count * sizeof(uint32_t));
	w->in.kind = OP_INPUT_WALK;
	w->in.cf = cf;
	w->in.key = w->key;
	w->in.key_len = key_len;
	w->in.fetch = walk_fetch;
	w->in.clear = walk_clear;
	op_input_add(op, &w->in);
	return w;
}

/* Results of walks are kept in the op whether or not a worker made them: somebody has to own the copy. */
static int get_walk(struct op *op, enum db_cf cf, const uint8_t *key, size_t key_len, struct db_value *out,
		    uint32_t *from)
{
	struct walk_input *w = (struct walk_input *)op_input_find(op, OP_INPUT_WALK, cf, key, key_len);

	if (!w)
		w = walk_input_new(op, cf, key, key_len);
	else if (!op_input_fresh(op, &w->in))
		op_input_reset(op, &w->in);
	else
		goto out;
	if (!w)
		return -ENOMEM;
	w->in.epoch = op->sv->epoch;
	w->result = walk(op->sv->pool->db, cf, key, key_len, w->nodes, w->nodes_count, DB_CACHED_ONLY, &w->value,
			 &w->value_len, &w->from);
	if (w->result == -EAGAIN)
		return op_input_start(op, &w->in);
out:
	memset(out, 0, sizeof(*out));
	if (w->result)
		return w->result;
	out->data = w->value;
	out->len = w->value_len;
	*from = w->from;
	return seen(0, cf, out);
}

/* The inode number that decides whether an ancestor may have a version of this key. */
static uint64_t key_ino(const uint8_t *key)
{
	const uint64_t ino = get_be64(key + 4);

	return ino ? ino : get_be64(key + KEY_NS_PREFIX_LEN); /* an orphan or a cut */
}

bool version_hides(const struct subvol *sv, const uint8_t *key)
{
	return sv->ancestor_count > 1 && key_ino(key) < sv->first_ino;
}

int version_get(struct op *op, enum db_cf cf, const uint8_t *key, size_t key_len, struct db_value *out, uint32_t *from)
{
	const struct subvol *sv = op->sv;
	uint32_t unused;
	int r;

	if (!from)
		from = &unused;
	*from = sv->node;
	if (sv->read_only && sv->ancestor_count > 1)
		return get_walk(op, cf, key, key_len, out, from); /* the own node with the others: records move to it, too */
	r = op_get(op, cf, key, key_len, out); /* a live node's records are moved by its reactor alone */
	if (r == -ENOENT && version_hides(sv, key))
		return get_walk(op, cf, key, key_len, out, from);
	return seen(r, cf, out);
}

int version_above(struct op *op, enum db_cf cf, const uint8_t *key, size_t key_len)
{
	struct db_value value;
	uint32_t from;
	int r;

	if (!version_hides(op->sv, key))
		return 0;
	r = get_walk(op, cf, key, key_len, &value, &from);
	return r == -ENOENT ? 0 : r ? r : 1;
}

void version_delete(struct subvol *sv, struct db_batch *batch, enum db_cf cf, const uint8_t *key, size_t key_len)
{
	struct db *db = sv->pool->db;

	if (!version_hides(sv, key)) {
		db_batch_delete(db, batch, cf, key, key_len);
		return;
	}
	assert(cf == DB_NS); /* in map an empty record hides the older ones: data.c knows what else it says */
	db_batch_put(db, batch, cf, key, key_len, whiteout_value, WHITEOUT_LEN);
}

/* ---- ranges ---- */

typedef int (*each_fn)(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len);

struct range {
	struct db *db;
	enum db_cf cf;
	const uint8_t *prefix;
	size_t prefix_len;
	const uint32_t *nodes;
	unsigned nodes_count;
	unsigned flags;
};

/* The smallest key above all with this prefix; 0 when there is none. */
static size_t prefix_end(const uint8_t *prefix, size_t len, uint8_t *end)
{
	memcpy(end, prefix, len);
	while (len && end[len - 1] == 0xff)
		len--;
	if (len)
		end[len - 1]++;
	return len;
}

/* A key without its node. */
struct place {
	size_t len; /* 0: none */
	uint8_t key[KEY_MAX];
};

static int place_compare(const struct place *a, const struct place *b)
{
	int order = memcmp(a->key, b->key, a->len < b->len ? a->len : b->len);

	return order ? order : (a->len > b->len) - (a->len < b->len);
}

/*
 * Visible records from `start`; or, with `past`, those after that record. fn's result ends it. 0 at the
 * end, -EAGAIN when a block is not in memory. *done: the last one that it came to.
 */
static int range_each(const struct range *rg, const uint8_t *start, size_t start_len, bool past, each_fn fn, void *arg,
		      struct place *done)
{
	uint8_t end[KEY_MAX];
	size_t end_len = prefix_end(rg->prefix, rg->prefix_len, end), len, value_len;
	cleanup_db_iter struct db_iter *iter =
		db_iter_new(rg->db, rg->cf, rg->prefix, rg->prefix_len, end_len ? end : NULL, end_len, rg->flags);

	done->len = 0;
	if (!iter)
		return -ENOMEM;
	if (past) {
		memcpy(done->key, start, start_len);
		done->len = start_len;
	}
	for (db_iter_seek(iter, start, start_len); db_iter_valid(iter); db_iter_next(iter)) {
		const uint8_t *key = db_iter_key(iter, &len);
		const void *value;
		int r;

		if (len < rg->prefix_len + NODE_BYTES)
			return -EIO;
		if (len - NODE_BYTES == done->len && !memcmp(key, done->key, done->len))
			continue; /* older versions of what was seen */
		if (!lineage_has(rg->nodes, rg->nodes_count, node_of_key(key, len)))
			continue;
		done->len = len - NODE_BYTES;
		memcpy(done->key, key, done->len);
		value = db_iter_value(iter, &value_len);
		if (rg->cf == DB_NS && is_whiteout(value, value_len))
			continue;
		r = fn(arg, key, done->len, node_of_key(key, len), value, value_len);
		if (r)
			return r;
	}
	return db_iter_error(iter);
}

struct range_record {
	uint32_t key_len, value_len, from;
	uint8_t bytes[];
};

struct range_input {
	struct op_input in;
	int result;          /* 0: there may be more; 1: the end; or -errno. When warming: 0 or -errno, */
	unsigned records;    /* and how much was read */
	uint8_t *data;       /* range_records, 8-byte aligned */
	size_t used, room;
	size_t last;         /* where the last one begins */
	size_t target;       /* bytes to read up to */
	unsigned record_target;
	struct place warm;   /* not to be used, only to be in the block cache: what comes after this */
	unsigned nodes_count;
	uint32_t *nodes;
	size_t prefix_len;
	size_t start_len;
	uint8_t key[];       /* prefix, start and live node: what identifies it */
};

#define RANGE_FULL 2

static int collect(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len)
{
	struct range_input *rg = arg;
	const size_t need = (sizeof(struct range_record) + key_len + value_len + 7) & ~(size_t)7;
	struct range_record *rec;

	if (rg->records && (rg->used + need > rg->target || rg->records >= rg->record_target))
		return RANGE_FULL;
	if (rg->used + need > rg->room) {
		size_t room = rg->used + need > 2 * rg->room ? rg->used + need : 2 * rg->room;
		uint8_t *data = realloc(rg->data, room);

		if (!data)
			return -ENOMEM;
		rg->data = data;
		rg->room = room;
	}
	rec = (struct range_record *)(rg->data + rg->used);
	rec->key_len = (uint32_t)key_len;
	rec->value_len = (uint32_t)value_len;
	rec->from = from;
	memcpy(rec->bytes, key, key_len);
	memcpy(rec->bytes + key_len, value, value_len);
	rg->last = rg->used;
	rg->used += need;
	rg->records++;
	return 0;
}

/* Count only. */
static int pass_by(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len)
{
	struct range_input *rg = arg;

	(void)key;
	(void)from;
	(void)value;
	rg->used += key_len + value_len;
	return rg->used > RANGE_BYTES || ++rg->records > RANGE_RECORDS ? RANGE_FULL : 0;
}

/* Read on after what the input has, or only into the block cache. */
static void range_fetch(struct op_input *in)
{
	struct range_input *rg = (struct range_input *)in;
	const struct range range = {
		.db = in->db, .cf = in->cf, .prefix = rg->key, .prefix_len = rg->prefix_len,
		.nodes = rg->nodes, .nodes_count = rg->nodes_count, .flags = 0,
	};
	uint8_t from[KEY_MAX];
	size_t from_len = rg->start_len;
	struct place done;
	int r;

	if (rg->warm.len) {
		r = range_each(&range, rg->warm.key, rg->warm.len, true, pass_by, rg, &done);
		rg->result = r < 0 ? r : 0;
		return;
	}
	rg->target = rg->used + RANGE_BYTES;
	rg->record_target = rg->records + RANGE_RECORDS;
	if (rg->records) {
		const struct range_record *last = (const struct range_record *)(rg->data + rg->last);

		from_len = last->key_len;
		memcpy(from, last->bytes, from_len);
	} else {
		memcpy(from, rg->key + rg->prefix_len, from_len);
	}
	r = range_each(&range, from, from_len, rg->records > 0, collect, rg, &done);
	rg->result = r == RANGE_FULL ? 0 : r == 0 ? 1 : r;
}

static void range_clear(struct op_input *in)
{
	struct range_input *rg = (struct range_input *)in;

	free(rg->data);
	rg->data = NULL;
	rg->used = rg->room = rg->last = 0;
	rg->records = 0;
	rg->result = 0;
	rg->warm.len = 0;
}

static struct range_input *range_input_new(struct op *op, enum db_cf cf, const uint8_t *id, size_t prefix_len,
					   size_t start_len)
{
	const struct subvol *sv = op->sv;
	const size_t id_len = prefix_len + start_len + NODE_BYTES;
	const size_t nodes_at = (sizeof(struct range_input) + id_len + 3) & ~(size_t)3;
	struct range_input *rg = calloc(1, nodes_at + sv->ancestor_count * sizeof(uint32_t));

	if (!rg)
		return NULL;
	memcpy(rg->key, id, id_len);
	rg->prefix_len = prefix_len;
	rg->start_len = start_len;
	rg->nodes = (uint32_t *)((char *)rg + nodes_at);
	rg->nodes_count = sv->ancestor_count;
	memcpy(rg->nodes, sv->ancestors, sv->ancestor_count * sizeof(uint32_t));
	rg->in.kind = OP_INPUT_RANGE;
	rg->in.cf = cf;
	rg->in.key = rg->key;
	rg->in.key_len = id_len;
	rg->in.fetch = range_fetch;
	rg->in.clear = range_clear;
	op_input_add(op, &rg->in);
	return rg;
}

/* What the worker came to before it failed, or a place before that. */
static struct place range_failed_after(const struct range_input *rg)
{
	struct place p = rg->warm;

	if (!p.len && rg->records) {
		const struct range_record *last = (const struct range_record *)(rg->data + rg->last);

		p.len = last->key_len;
		memcpy(p.key, last->bytes, p.len);
	}
	return p;
}

/* Give fn what a worker read. 0 to go on behind *last, 1 at the end, else the result in *r. */
static int range_replay(const struct range_input *rg, each_fn fn, void *arg, const struct range_record **last, int *r)
{
	size_t at = 0;

	for (unsigned i = 0; i < rg->records; i++) {
		const struct range_record *rec = (const struct range_record *)(rg->data + at);

		*r = fn(arg, rec->bytes, rec->key_len, rec->from, rec->bytes + rec->key_len, rec->value_len);
		if (*r)
			return -1;
		*last = rec;
		at += (sizeof(*rec) + rec->key_len + rec->value_len + 7) & ~(size_t)7;
	}
	*r = rg->result < 0 ? rg->result : 0;
	return rg->result < 0 ? -1 : rg->result;
}

/*
 * What a worker read is good while nothing was written since. Where others write all the time it never is, and then it is the block cache
 * that counts: the op reads there, and has a worker bring in what comes after the last record that it came to.
 */
int version_each(struct op *op, enum db_cf cf, const uint8_t *prefix, size_t prefix_len, const uint8_t *start, size_t start_len,
		 int (*fn)(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len), void *arg)
{
	const struct range range = {
		.db = op->sv->pool->db, .cf = cf, .prefix = prefix, .prefix_len = prefix_len,
		.nodes = op->sv->ancestors, .nodes_count = op->sv->ancestor_count, .flags = DB_CACHED_ONLY,
	};
	const struct range_record *last = NULL;
	struct range_input *rg = NULL;
	uint8_t id[2 * KEY_MAX + NODE_BYTES];
	struct place warmed = { 0 }, failed_after = { 0 }, done;
	bool stale = false;
	int r = gather_settle_range(op, cf, prefix, prefix_len), failed = 0;

	if (r)
		return r;
	if (!start) {
		start = prefix;
		start_len = prefix_len;
	}
	memcpy(id, prefix, prefix_len);
	memcpy(id + prefix_len, start, start_len);
	put_be32(id + prefix_len + start_len, op->sv->node); /* its list of ancestors is not another's */
	if (op->inputs)
		rg = (struct range_input *)op_input_find(op, OP_INPUT_RANGE, cf, id, prefix_len + start_len + NODE_BYTES);
	if (rg && rg->in.running)
		return op_input_start(op, &rg->in);
	if (rg && (rg->warm.len || !op_input_fresh(op, &rg->in))) {
		stale = true;
		warmed = rg->warm;
		failed = rg->result < 0 ? rg->result : 0;
		failed_after = range_failed_after(rg);
		op_input_reset(op, &rg->in);
	} else if (rg && range_replay(rg, fn, arg, &last, &r)) {
		return r;
	}
	if (last)
		r = range_each(&range, last->bytes, last->key_len, true, fn, arg, &done);
	else
		r = range_each(&range, start, start_len, false, fn, arg, &done);
	if (r != -EAGAIN)
		return r;
	if (!rg)
		rg = range_input_new(op, cf, id, prefix_len, start_len);
	if (!rg)
		return -ENOMEM;
	if (failed && place_compare(&done, &failed_after) == 0)
		return failed; /* what comes next, and the op needs it */
	/* Only further than the last time: else the cache does not hold it, and what is collected gets on as soon as there is quiet. */
	if (stale && place_compare(&done, &warmed) > 0)
		rg->warm = done;
	return op_input_start(op, &rg->in);
}
