/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dropping the data of a dead inode, step by step, in the reaper's batches. First memory and RocksDB are made equal: dirty
 * blocks are forgotten, and changed maps, if there are any, are put by a last cycle. Then each step drops the records of up to
 * STEP_CHUNKS chunks and puts an `S` that counts the rest, so that after any crash `S`, records and counters agree.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#include "io/crc.h"
#include "meta/data_internal.h"
#include "meta/version.h"

struct file_drop {
	struct space_ops *ops;
	uint64_t from;    /* chunks below it were dropped: what ancestors have there is visible again, and of no interest */
	uint64_t limit;   /* those below it are dropped by the batch at hand */
	uint64_t blocks;  /* that the records of the live node map; the others count with the last batch */
	bool last;
	struct subvol *sv;
	struct file *file;
	struct db_batch *batch;
	struct counters_delta *delta;
};

static int forget_dirty(void *arg, struct chunk *c)
{
	uint64_t before = chunk_charged(c), own = chunk_charged_own(c), dirty = c->front_mask;

	(void)arg;
	front_drop(c, dirty);
	/* What was dirty may be the rest of a compressed extent of which a part is gone: no record can say that. */
	if (c->changed && !c->hidden)
		chunk_unmap(c, dirty & c->map.compressed);
	file_uncharge(c->file, mask_count(before & ~chunk_charged(c)), mask_count(own & ~chunk_charged_own(c)));
	return 0;
}

/* Up to the op's moment, and when that was of an earlier inode of the reaper's, up to now. A failure ends it. */
static int drop_put(struct op *op, struct file *f)
{
	int r = file_put_all(op, f->inode);

	if (r)
		return r;
	op->moment = 0;
	return file_put_all(op, f->inode);
}

/* Nothing dirty, and the maps in memory are those of RocksDB: 0, META_WAIT, -errno. */
static int drop_settle(struct op *op, struct file *f)
{
	int r = f->cuts_known ? 0 : cuts_load(op, f);

	if (!r)
		r = file_exclusive(op, f);
	if (r)
		return r;
	each_chunk(f, 0, CHUNK_LAST + 1, forget_dirty, NULL);
	if (f->is_inline && f->mapped) {
		/* Block 0 was dirty, which had taken the place of the inline data: that does not come back. */
		const bool own = file_put_own(f) || f->inline_taken;

		file_drop_inline(f);
		file_uncharge(f, 1, own);
	}
	if (f->inline_taken) { /* the copy that was charged will not be made */
		f->inline_taken = false;
		file_uncharge(f, 0, 1);
	}
	if (f->changed || f->charged != f->put_mapped + f->put_inline)
		return drop_put(op, f);
	f->since = 0;
	if (f->list != FILE_CLEAN) {
		file_move(f, FILE_CLEAN);
		writeback_progress(f->data);
	}
	return 0;
}

static int drop_op_add(void *arg, const struct extent *extent, int delta)
{
	return space_ops_add(arg, extent, delta);
}

static int drop_chunk(void *arg, struct chunk *c)
{
	struct file_drop *drop = arg;
	struct subvol *sv = drop->sv;
	uint8_t key[KEY_MAP_LEN];

	if (!chunk_own(c))
		return 0; /* an ancestor's, which the whiteout of the inode hides */
	drop->blocks += mask_count(c->map.mapped);
	db_batch_delete(sv->pool->db, drop->batch, DB_MAP, key,
			key_map(key, sv->tree, c->file->inode->ino, c->no, sv->node));
	drop->delta->born -= blockmap_own(&c->map);
	drop->delta->unwritten -= mask_count(c->map.unwritten & ~c->map.inherited);
	return blockmap_diff(&c->map, NULL, drop_op_add, drop->ops);
}

static void drop_cuts(struct file_drop *drop)
{
	struct subvol *sv = drop->sv;

	for (const struct cut *cut = drop->file->cuts; cut; cut = cut->next) {
		uint8_t key[KEY_MAX];

		if (cut->put)
			version_delete(sv, drop->batch, DB_NS, key,
				       key_cut(key, sv->tree, drop->file->inode->ino, cut->sequence, sv->node));
	}
}

/* Those that were never put go with the memory of the file. */
static bool has_put_cuts(const struct file *f)
{
	const struct cut *cut = f->cuts;

	while (cut && !cut->put)
		cut = cut->next;
	return cut;
}

/* The size record of what is left, or none. */
static void drop_size(struct file_drop *drop)
{
	struct file *f = drop->file;
	struct subvol *sv = drop->sv;
	uint8_t key[KEY_SIZE_LEN], value[SIZE_REC_MAX];
	size_t key_len = key_size(key, sv->tree, f->inode->ino, sv->node);
	struct size_rec rec = {
		.has_cuts = has_put_cuts(f),
		.size = f->size,
		.mtime = { .sec = f->mtime.tv_sec, .nsec = (uint32_t)f->mtime.tv_nsec },
		.ctime = { .sec = f->ctime.tv_sec, .nsec = (uint32_t)f->ctime.tv_nsec },
		.absorbed = f->absorbed,
	};

	if (!f->put_rec)
		return;
	/* Where an earlier life dropped a record, the sweep may have put that of a deleted snapshot: nothing counts it. */
	if (drop->blocks > f->mapped)
		drop->blocks = f->mapped;
	rec.blocks = f->mapped - drop->blocks;
	if (drop->last) {
		drop_cuts(drop);
		if (file_put_own(f))
			db_batch_delete(sv->pool->db, drop->batch, DB_NS, key, key_len);
		drop->blocks = f->mapped;
	} else {
		db_batch_put(sv->pool->db, drop->batch, DB_NS, key, key_len, value, size_rec_encode(&rec, value));
	}
	drop->delta->referenced -= (int64_t)drop->blocks;
	drop->delta->meta -= f->put_inline;
	drop->delta->meta_born -= f->put_inline && file_put_own(f);
}

static int drop_begin(struct file *f)
{
	struct file_drop *drop = f->drop;

	if (!drop) {
		drop = f->drop = calloc(1, sizeof(*drop));
		if (!drop)
			return -ENOMEM;
		drop->file = f;
		drop->sv = f->data->sv;
		inode_pin(f->inode);
	}
	if (!drop->ops)
		drop->ops = space_ops_new(data_pool(f->data)->space);
	else
		space_ops_aborted(drop->ops); /* the last batch was not written */
	drop->blocks = 0;
	return drop->ops ? 0 : -ENOMEM;
}

int file_drop(struct op *op, struct inode *inode, struct db_batch *batch, struct counters_delta *delta)
{
	struct file *f = inode->file;
	struct file_drop *drop;
	int r;

	if (!f)
		return 0;
	r = drop_settle(op, f); /* each time: until the first step is written somebody may find it by a handle, and write */
	if (!r)
		r = drop_begin(f);
	if (r)
		return r;
	drop = f->drop;
	drop->batch = batch;
	drop->delta = delta;
	r = chunk_load(op, f, drop->from, CHUNK_LAST + 1, STEP_CHUNKS, &drop->limit);
	if (!r)
		r = each_chunk(f, drop->from, drop->limit, drop_chunk, drop);
	if (r)
		return r;
	drop->last = drop->limit == CHUNK_LAST + 1;
	drop_size(drop);
	r = space_ops_put(drop->ops, data_pool(f->data)->db, batch);
	return r ? r : !drop->last;
}

void file_keep(struct inode *inode)
{
	struct file *f = inode->file;

	if (!f || !f->drop)
		return;
	if (f->drop->ops)
		space_ops_aborted(f->drop->ops);
	space_ops_free(f->drop->ops);
	free(f->drop);
	f->drop = NULL;
	inode_unpin(inode);
}

static int dropped_chunk(void *arg, struct chunk *c)
{
	(void)arg;
	chunk_drop_holders(c);
	chunk_free(c);
	return 0;
}

static void drop_end(struct file *f)
{
	space_ops_free(f->drop->ops);
	free(f->drop);
	f->drop = NULL;
	f->put_rec = false;
	f->size = 0;
	if (f->cuts) {
		while (f->cuts) {
			struct cut *cut = f->cuts;

			f->cuts = cut->next;
			free(cut);
		}
		cuts_leave(f);
	}
	inode_unpin(f->inode);
}

void file_dropped(struct inode *inode)
{
	struct file *f = inode->file;
	struct file_drop *drop = f ? f->drop : NULL;

	if (!drop)
		return;
	if (!space_ops_empty(drop->ops)) {
		commit_put_space(data_pool(f->data), drop->ops);
		drop->ops = NULL;
	}
	each_chunk(f, drop->from, drop->limit, dropped_chunk, NULL);
	drop->from = drop->limit;
	f->charged -= drop->blocks + f->put_inline;
	f->taken = f->charged + f->kept;
	f->mapped -= drop->blocks;
	f->put_mapped = f->mapped;
	f->put_inline = false;
	file_drop_inline(f);
	f->put_node = f->data->sv->node;
	if (drop->last)
		drop_end(f);
}
