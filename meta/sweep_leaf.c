/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node without children: first all of its chunk maps, each batch with the space operands of what it
 * drops and the counters; then its records in `ns`. The keys that are left say where it stands: a sweep that was
 * interrupted begins at the first one, and deletions below the cursor cost nothing but their tombstones,
 * which the cursor in the node's record skips.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/charge.h"
#include "meta/sweep_internal.h"
#include "meta/sysrec.h"

#define BATCH_RECORDS 512u

static void set_cursor(struct sweep *s, enum sweep_family family, uint64_t ino, uint64_t position)
{
	sweep_set_cursor(s, family, ino, position);
	sysrec_put_node(s->pool->db, s->batch, s->tree, s->node, &s->rec);
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
		if (run->flags & RUN_INHERITED)
			continue;
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
	r = sweep_write(s);
	if (r) {
		space_ops_aborted(mb->ops);
		return r;
	}
	for (unsigned i = 0; i < mb->count; i++)
		release_runs(s, &mb->recs[i]);
	commit_put_space(s->pool, take_ptr(mb->ops));
	pool_count_promised(s->pool, mb->delta.born, 0);
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
	r = sweep_write(s);
	return r ? r : 1;
}

int sweep_leaf_step(struct sweep *s)
{
	int r;

	if (s->rec.sweep_family == SWEEP_NS)
		return sweep_ns_some(s);
	r = sweep_maps_some(s);
	if (r)
		return r;
	sweep_set_cursor(s, SWEEP_NS, 0, 0);
	return 1;
}
