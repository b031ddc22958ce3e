/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one place where metafs makes anything durable. A round, under sync_lock:
 *
 *   (1) note the tail of every log: close its open block; give blocks their sequences, WALs by log
 *       number. The plain file that is synced, if any, writes its last blocks now: nothing
 *       reaches them before a table has its size.
 *   (2) flush the devices. All data that a noted record points to was answered before the record
 *       was appended, and so is covered.
 *   (3) write the noted log blocks. What each one is stands in the area before it is submitted.
 *   (4) flush, or write a single piece with FUA.
 *   (5) when the durable table lacks something of what was synced: write the table to the other
 *       slot of every member, with FUA. It is a checkpoint: all blocks below its wal_seq_next are
 *       durable already.
 *
 * A flush is left out where nothing was written to the device since the last one: each device
 * counts the writes it answered, and a round notes the count before it flushes. So whoever knows that the
 * data of the next round is written may have it flushed ahead.
 *
 * The first error of a log write or a flush is final: bytes that a device dropped must not be
 * acknowledged by a later flush that succeeds.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/metafs_internal.h"

/* Log blocks that lie one after the other in the ring and on a device. */
struct piece {
	uint64_t pos;
	uint32_t frames;
	struct metafs_extent at;
};

struct round {
	uint64_t number;
	uint64_t head;        /* frames before it are covered */
	struct piece *pieces;
	unsigned n, cap;
	bool table;
};

int mf_fail(struct metafs *mf, int err, const char *what)
{
	pthread_mutex_lock(&mf->lock);
	if (!mf->failed)
		log_error("metafs of pool %s: %s: %s: nothing is written any more until it is opened again",
			  mf->labels[0].name, what, strerror(-err));
	mf->failed = err;
	pthread_mutex_unlock(&mf->lock);
	return -EIO;
}

/* ---- Devices ---- */

static uint64_t writes_answered(const struct mf_member *m)
{
	struct device_health health;

	device_health(m->dev, &health);
	return health.writes;
}

static int member_flush(struct metafs *mf, struct mf_member *m)
{
	uint64_t before;
	int err;

	if (!m->dev)
		return 0;
	before = writes_answered(m);
	if (!device_geometry(m->dev)->volatile_cache || m->flushed == before) {
		mf->flushes_skipped++;
		return 0;
	}
	err = device_flush(m->dev);
	if (err)
		return err;
	mf->flushes++;
	m->flushed = before;
	return 0;
}

static int flush_members(struct metafs *mf)
{
	for (unsigned i = 0; i < mf->members; i++) {
		int err = member_flush(mf, &mf->member[i]);

		if (err)
			return err;
	}
	return 0;
}

/* A write that is durable when it returns. */
static int member_write_durable(struct mf_member *m, const void *buf, size_t len, uint64_t offset)
{
	unsigned flags = device_geometry(m->dev)->volatile_cache ? IO_FUA : 0;
	int err = device_write(m->dev, buf, len, offset, flags);

	if (!err && m->flushed != UINT64_MAX)
		m->flushed++; /* one answered write more, and it is durable */
	return err;
}

/* ---- The table ---- */

static int table_encode(struct metafs *mf, uint64_t generation, uint64_t *changes, size_t *len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	struct metafs_table table;
	int err = mf_table_snapshot(mf, &table);

	if (err)
		return err;
	table.generation = generation;
	*changes = mf->changes;
	err = metafs_table_encode(&table, mf->table_buf, mf->slot_bytes, len);
	metafs_table_free(&table);
	return err;
}

static uint64_t table_write_members(struct metafs *mf, uint64_t generation, size_t len)
{
	uint64_t offset = label_slot_offset(&mf->labels[0], generation & 1), stale = 0;
	size_t whole = (len + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK;

	for (unsigned i = 0; i < mf->members; i++) {
		struct mf_member *m = &mf->member[i];
		int err = m->dev ? member_write_durable(m, mf->table_buf, whole, offset) : -ENXIO;

		if (!err)
			continue;
		stale |= 1ull << i;
		if (m->dev)
			log_warn("metafs: device %u missed table %#" PRIx64 ": %s", i, generation,
				 strerror(-err));
	}
	return stale;
}

static bool majority(const struct metafs *mf, uint64_t stale)
{
	return (mf->members - (unsigned)__builtin_popcountll(stale)) * 2 > mf->members;
}

static void table_durable(struct metafs *mf, uint64_t changes, uint64_t stale)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	mf->durable = changes;
	mf->table_due = false;
	mf->freezing = false;
	mf->stats.switches++;
	for (unsigned i = 0; i < mf->members; i++)
		mf->member[i].stale = stale >> i & 1;
	mf_pending_release(mf);
	mf_table_publish(mf);
}

int mf_table_switch(struct metafs *mf, uint64_t generation)
{
	uint64_t changes, stale;
	size_t len;
	int err = 0;

	/* A second try goes to the same slot, so that the good table stays. */
	for (int tries = 0; tries < 2; tries++, generation += 2) {
		err = table_encode(mf, generation, &changes, &len);
		if (err)
			return err;
		mf->generation = generation;
		mf_area_writes(&mf->area, mf->table_buf, len);
		stale = table_write_members(mf, generation, len);
		if (!majority(mf, stale))
			continue;
		table_durable(mf, changes, stale);
		return 0;
	}
	return mf_fail(mf, -EIO, "no majority of the devices took the table");
}

/* ---- (1) noting ---- */

static struct metafs_log_block_disk *note_frame(struct metafs *mf, uint64_t pos, uint64_t sequence,
						uint64_t flushed)
{
	struct metafs_log_block_disk *frame = mf_frame(&mf->area, pos);

	frame->sequence = htole64(sequence);
	frame->flushed = htole64(flushed);
	return frame;
}

static struct mf_node *owner_of(const struct metafs *mf, uint64_t pos)
{
	return mf->area.owner[pos % mf->area.count];
}

/* The owner when the frame waits for its sequence; repeated ones of a predecessor have theirs. */
static struct mf_node *unnoted(const struct metafs *mf, uint64_t pos, enum metafs_kind kind)
{
	struct mf_node *node = owner_of(mf, pos);

	return node && node->kind == kind && !mf_frame_noted(&mf->area, pos) ? node : NULL;
}

static void number_wal(struct metafs *mf, const struct round *r, struct mf_node *wal)
{
	for (uint64_t pos = mf->area.tail; pos < r->head; pos++)
		if (unnoted(mf, pos, METAFS_WAL) == wal)
			note_frame(mf, pos, mf->wal_seq_next++, mf->wal_seq_durable - 1);
	if (wal->log_number > mf->wal_newest)
		mf->wal_newest = wal->log_number;
}

/* WALs with frames, the lowest log number above `after`. */
static struct mf_node *next_wal(const struct metafs *mf, const struct round *r, uint64_t after)
{
	struct mf_node *best = NULL;

	for (uint64_t pos = mf->area.tail; pos < r->head; pos++) {
		struct mf_node *node = unnoted(mf, pos, METAFS_WAL);

		if (node && node->log_number > after && (!best || node->log_number < best->log_number))
			best = node;
	}
	return best;
}

static void number_frames(struct metafs *mf, const struct round *r)
{
	struct mf_node *wal;

	for (uint64_t after = 0; (wal = next_wal(mf, r, after)); after = wal->log_number)
		number_wal(mf, r, wal);
	for (uint64_t pos = mf->area.tail; pos < r->head; pos++) {
		struct mf_node *log = unnoted(mf, pos, METAFS_LOG);

		if (log)
			note_frame(mf, pos, log->next_seq++, log->flushed);
	}
}

static int piece_add(struct round *r, uint64_t pos, const struct metafs_extent *at, uint32_t ring)
{
	struct piece *last = r->n ? &r->pieces[r->n - 1] : NULL;

	if (last && last->pos + last->frames == pos && pos % ring && last->at.vdev == at->vdev &&
	    last->at.block + last->frames == at->block) {
		last->frames++;
		return 0;
	}
	if (r->n == r->cap) {
		unsigned cap = r->cap ? r->cap * 2 : 16;
		struct piece *pieces = realloc(r->pieces, cap * sizeof(*pieces));

		if (!pieces)
			return -ENOMEM;
		r->pieces = pieces;
		r->cap = cap;
	}
	r->pieces[r->n++] = (struct piece){ .pos = pos, .frames = 1, .at = *at };
	return 0;
}

static int plan_pieces(struct metafs *mf, struct round *r)
{
	int err = 0;

	for (uint64_t pos = mf->area.tail; pos < r->head && !err; pos++) {
		struct mf_node *node = owner_of(mf, pos);
		struct metafs_extent at;

		if (!node)
			continue;
		node->open_frame = MF_NO_FRAME;
		if (node->changed > mf->durable)
			r->table = true;
		err = mf_node_map(node, mf->area.index[pos % mf->area.count], &at);
		if (!err)
			err = piece_add(r, pos, &at, mf->area.count);
	}
	return err;
}

static int round_note(struct metafs *mf, struct mf_node *node, struct round *r)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	int err;

	if (mf->failed)
		return -EIO;
	r->number = ++mf->rounds_begun;
	r->head = mf->area.head;
	if (node && node->changed > mf->durable)
		r->table = true;
	err = plan_pieces(mf, r);
	/* Sequences only once nothing can fail: a number that is given out must be written. */
	if (!err)
		number_frames(mf, r);
	return err;
}

/* ---- (3), (4) ---- */

static void finish_frame(struct metafs *mf, uint64_t pos)
{
	struct metafs_log_block_disk *frame = mf_frame(&mf->area, pos);
	struct metafs_log_block block = {
		.file_id = le64toh(frame->file_id),
		.log_number = le64toh(frame->log_number),
		.sequence = le64toh(frame->sequence),
		.index = le32toh(frame->index),
		.used = mf_frame_used(&mf->area, pos),
		.flushed = le64toh(frame->flushed),
	};

	memcpy(block.pool, mf->labels[0].pool_uuid, sizeof(block.pool));
	metafs_log_block_encode(&block, frame);
}

/* All of them final and noted before the first is submitted. */
static void finish_frames(struct metafs *mf, const struct round *r)
{
	for (unsigned i = 0; i < r->n; i++)
		for (uint32_t j = 0; j < r->pieces[i].frames; j++)
			if (!mf_frame_noted(&mf->area, r->pieces[i].pos + j))
				finish_frame(mf, r->pieces[i].pos + j);
	for (unsigned i = 0; i < r->n; i++)
		for (uint32_t j = 0; j < r->pieces[i].frames; j++)
			mf_frame_note(&mf->area, r->pieces[i].pos + j);
}

static int write_piece(struct metafs *mf, const struct piece *p, bool durable)
{
	struct mf_member *m = &mf->member[p->at.vdev];
	const void *buf = mf_frame(&mf->area, p->pos);
	size_t len = (size_t)p->frames * MF_BLOCK;
	uint64_t offset = p->at.block * MF_BLOCK;

	if (!m->dev)
		return -ENXIO;
	mf->log_blocks_written += p->frames;
	if (durable)
		return member_write_durable(m, buf, len, offset);
	return device_write(m->dev, buf, len, offset, 0);
}

static int round_write(struct metafs *mf, const struct round *r)
{
	int err = 0;

	finish_frames(mf, r);
	for (unsigned i = 0; i < r->n && !err; i++)
		err = write_piece(mf, &r->pieces[i], r->n == 1);
	return err || r->n <= 1 ? err : flush_members(mf);
}

static void round_release(struct metafs *mf, const struct round *r)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	for (uint64_t pos = mf->area.tail; pos < r->head; pos++) {
		struct mf_node *node = owner_of(mf, pos);

		if (!node)
			continue;
		node->tail_frames--;
		if (node->kind == METAFS_LOG)
			node->flushed = le64toh(mf_frame(&mf->area, pos)->sequence);
	}
	mf_area_release(&mf->area, r->head);
	mf->tail_high = mf->area.head - mf->area.tail > mf->area.count / 2;
	mf->wal_seq_durable = mf->wal_seq_next;
}

/* ---- A round ---- */

static int round_plain(struct metafs *mf, struct mf_node *node, struct round *r)
{
	int err = 0;

	if (!node || mf_is_log(node))
		return 0;
	err = mf_plain_sync_tail(mf, node);
	if (!err && node->synced != node->size)
		r->table = true;
	return err;
}

static void plain_synced(struct metafs *mf, struct mf_node *node)
{
	cleanup_unlock pthread_mutex_t *held = NULL;

	if (!node || mf_is_log(node))
		return;
	held = lock_mutex(&mf->lock);
	if (node->synced == node->size)
		return;
	node->synced = node->size;
	mf_node_changed(mf, node); /* not done before a table has it */
}

static int round_run(struct metafs *mf, struct mf_node *node, struct round *r)
{
	int err = round_plain(mf, node, r);

	if (!err)
		err = round_note(mf, node, r);
	if (err)
		return err;
	err = flush_members(mf);
	if (err)
		return mf_fail(mf, err, "a flush failed");
	if (r->n)
		err = round_write(mf, r);
	if (err)
		return mf_fail(mf, err, "a log write or its flush failed");
	round_release(mf, r);
	plain_synced(mf, node);
	/* Its frames are gone from the ring: if this fails, the next round would not know. */
	mf->table_due |= r->table;
	return mf->table_due ? mf_table_switch(mf, mf->generation + 1) : 0;
}

int mf_sync_round(struct metafs *mf, struct mf_node *node, bool table)
{
	struct round r = { .table = table };
	int err = round_run(mf, node, &r);

	free(r.pieces);
	if (err)
		return err;
	pthread_mutex_lock(&mf->lock);
	mf->rounds_done = r.number;
	mf->stats.syncs++;
	pthread_mutex_unlock(&mf->lock);
	return 0;
}

/* ---- Callers ---- */

uint64_t metafs_sync_begin(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	return mf->rounds_begun;
}

static bool round_since(struct metafs *mf, uint64_t since)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	return !mf->failed && mf->rounds_done > since;
}

int metafs_sync_end(struct metafs *mf, uint64_t since)
{
	cleanup_unlock pthread_mutex_t *held = NULL;

	if (mf->read_only)
		return -EROFS;
	if (round_since(mf, since))
		return 0;
	held = lock_mutex(&mf->sync_lock);
	return round_since(mf, since) ? 0 : mf_sync_round(mf, NULL, false);
}

static bool has_failed(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	return mf->failed;
}

int metafs_flush_ahead(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = NULL;
	int err;

	if (mf->read_only)
		return -EROFS;
	held = lock_mutex(&mf->sync_lock);
	if (has_failed(mf))
		return -EIO;
	err = flush_members(mf);
	return err ? mf_fail(mf, err, "a flush failed") : 0;
}

int metafs_sync(struct metafs *mf)
{
	return metafs_sync_end(mf, metafs_sync_begin(mf));
}

struct target {
	uint64_t changed, frame, size;
};

static struct target target_of(struct metafs *mf, const struct mf_node *node)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	return (struct target){ node->changed, node->last_frame, node->size };
}

static bool reached(struct metafs *mf, const struct mf_node *node, const struct target *t)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	if (mf->failed)
		return false;
	if (mf_is_log(node))
		return t->changed <= mf->durable && t->frame <= mf->area.tail;
	return node->changed <= mf->durable && node->synced >= t->size;
}

int metafs_file_sync(struct metafs_file *file)
{
	struct metafs *mf = file->mf;
	struct mf_node *node = file->node;
	struct target target = target_of(mf, node);
	cleanup_unlock pthread_mutex_t *held = NULL;

	if (mf->read_only)
		return -EROFS;
	/* Space that was kept for a table and is not needed goes back before it is made durable. */
	if (!mf_is_log(node)) {
		pthread_mutex_lock(&mf->lock);
		mf_node_trim(mf, node, (node->size + MF_BLOCK - 1) / MF_BLOCK);
		pthread_mutex_unlock(&mf->lock);
	}
	if (reached(mf, node, &target))
		return 0;
	held = lock_mutex(&mf->sync_lock);
	return reached(mf, node, &target) ? 0 : mf_sync_round(mf, node, false);
}

int metafs_sync_names(struct metafs *mf)
{
	cleanup_unlock pthread_mutex_t *held = NULL;
	uint64_t changed;

	if (mf->read_only)
		return -EROFS;
	pthread_mutex_lock(&mf->lock);
	changed = mf->names_changed;
	pthread_mutex_unlock(&mf->lock);
	held = lock_mutex(&mf->sync_lock);
	pthread_mutex_lock(&mf->lock);
	if (changed <= mf->durable)
		changed = 0;
	pthread_mutex_unlock(&mf->lock);
	return changed ? mf_sync_round(mf, NULL, true) : 0;
}

int metafs_raise_start(struct metafs *mf, uint32_t *start)
{
	cleanup_unlock pthread_mutex_t *held = NULL;
	uint64_t generation;
	int err;

	if (mf->read_only)
		return -EROFS;
	held = lock_mutex(&mf->sync_lock);
	err = mf_sync_round(mf, NULL, false);
	if (err)
		return err;
	if (mf->start >= MF_START_MAX)
		return -EOVERFLOW;
	pthread_mutex_lock(&mf->lock);
	mf->start++;
	pthread_mutex_unlock(&mf->lock);
	generation = (mf->start << MF_SEQ_BITS) | (~mf->generation & 1);
	err = mf_table_switch(mf, generation);
	*start = (uint32_t)mf->start;
	return err;
}
