/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the logs hold, found at open. The chain of WAL blocks is followed as architecture.md says:
 * below the table's wal_seq_next nothing may be missing, from there on it goes from block to
 * block, over all WALs, to the first sequence that no WAL has next. What lies behind is absent.
 *
 * A power cut leaves blocks behind a gap only of the last sync, and none of them can say that a
 * block in the gap was durable. One that says so means damage: then opening for writing is
 * refused, since going on would cut off what a sync had promised.
 *
 * After a takeover the frames of the predecessor lie over the devices: noted ones are blocks of
 * the chain, the others are appended without a sequence yet.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "meta/metafs_internal.h"

#define SCAN_BLOCKS 256u

/* Reads the blocks of a file one after the other. */
struct cursor {
	struct mf_node *node;
	uint32_t next;            /* block that peek() shows */
	uint32_t first, n;        /* what buf holds */
	uint8_t *buf;
};

struct scan {
	struct metafs *mf;
	struct cursor *wals;      /* by log number, spares last */
	unsigned n;
	uint64_t expected;
	int damage;
};

static void damaged(struct scan *s, const struct mf_node *node, uint32_t block, const char *what)
{
	log_error("metafs of pool %s: block %" PRIu32 " of %s: %s", s->mf->labels[0].name, block,
		  node->name, what);
	s->damage = -EBADMSG;
}

static int cursor_fill(struct scan *s, struct cursor *c)
{
	struct metafs_extent at;
	struct device *dev;
	int err;

	if (!c->buf)
		c->buf = mf_buffer(SCAN_BLOCKS * MF_BLOCK);
	if (!c->buf)
		return -ENOMEM;
	if (mf_node_map(c->node, c->next, &at))
		return -EIO;
	c->first = c->next;
	c->n = at.blocks < SCAN_BLOCKS ? at.blocks : SCAN_BLOCKS;
	dev = s->mf->member[at.vdev].dev;
	err = dev ? device_read(dev, c->buf, (size_t)c->n * MF_BLOCK, at.block * MF_BLOCK) : -ENXIO;
	if (err) {
		c->n = 0;
		log_error("metafs: cannot read %s from device %u: %s", c->node->name, at.vdev,
			  strerror(-err));
	}
	return err;
}

/*
 * The block that comes next: 0, -ENOENT when there is none that is valid and this file's, or an
 * I/O error, which is not an end.
 */
static int cursor_peek(struct scan *s, struct cursor *c, struct metafs_log_block *out)
{
	const struct mf_area *area = &s->mf->area;
	uint64_t pos = mf_frame_find(area, c->node, c->next);
	const void *buf;
	int err;

	if (pos != MF_NO_FRAME && mf_frame_noted(area, pos)) {
		buf = mf_frame(area, pos);
	} else {
		if (c->next >= c->node->extents.blocks)
			return -ENOENT;
		if (c->next < c->first || c->next >= c->first + c->n) {
			err = cursor_fill(s, c);
			if (err)
				return err;
		}
		buf = c->buf + (size_t)(c->next - c->first) * MF_BLOCK;
	}
	if (metafs_log_block_decode(buf, out))
		return -ENOENT;
	if (out->file_id != c->node->id || out->index != c->next ||
	    memcmp(out->pool, s->mf->labels[0].pool_uuid, sizeof(out->pool)))
		return -ENOENT;
	return 0;
}

static int cursor_take(struct cursor *c, const struct metafs_log_block *b)
{
	int err = mf_log_add_block(c->node, b->used);

	c->next++;
	return err;
}

/* ---- WALs ---- */

/* Blocks below the checkpoint, as far as they are there. *last: sequence of the last one. */
static int take_below(struct scan *s, struct cursor *c, uint64_t limit, uint64_t *last)
{
	struct metafs_log_block b;
	int err;

	while (!(err = cursor_peek(s, c, &b)) && b.sequence < limit) {
		if (*last && b.sequence != *last + 1) {
			damaged(s, c->node, c->next, "the sequence has a gap inside of the file");
			return 0;
		}
		*last = b.sequence;
		err = cursor_take(c, &b);
		if (err)
			return err;
	}
	return err == -ENOENT ? 0 : err;
}

/* The newest WAL that has blocks below the checkpoint must have them all. */
static int take_checkpoint(struct scan *s)
{
	uint64_t limit = s->mf->wal_seq_next, newest = 0;
	struct cursor *holder = NULL;

	for (unsigned i = 0; i < s->n; i++) {
		uint64_t last = 0;
		int err = take_below(s, &s->wals[i], limit, &last);

		if (err)
			return err;
		if (last) {
			newest = last;
			holder = &s->wals[i];
		}
	}
	if (holder && newest != limit - 1)
		damaged(s, holder->node, holder->next, "it was durable and is missing");
	return 0;
}

/* A spare is the log that its header names. */
static int promote(struct scan *s, struct mf_node *node, const struct metafs_log_block *b)
{
	char name[32];

	snprintf(name, sizeof(name), "%06" PRIu64 ".log", b->log_number);
	if (!b->log_number || mf_node_find(s->mf, name))
		return -ENOENT;
	return mf_node_promote(s->mf, node, name, b->log_number);
}

static int take_expected(struct scan *s, struct cursor *c, bool *found)
{
	struct metafs_log_block b;
	int err;

	while (!(err = cursor_peek(s, c, &b)) && b.sequence == s->expected) {
		if (!c->node->log_number && promote(s, c->node, &b))
			return 0;
		err = cursor_take(c, &b);
		if (err)
			return err;
		s->expected++;
		*found = true;
	}
	return err == -ENOENT ? 0 : err;
}

/* A frame of a WAL that was deleted when its blocks were already under way. */
static bool skip_deleted(struct scan *s)
{
	const struct mf_area *area = &s->mf->area;

	for (uint64_t pos = area->tail; pos < area->head; pos++)
		if (!area->owner[pos % area->count] && mf_frame_noted(area, pos) &&
		    le64toh(mf_frame(area, pos)->sequence) == s->expected) {
			s->expected++;
			return true;
		}
	return false;
}

/* From log to log by number, never back: only spares, which come last, may have to be looked at again. */
static int follow_chain(struct scan *s)
{
	const bool spares = s->n && !s->wals[s->n - 1].node->log_number;
	bool found;

	do {
		found = false;
		for (unsigned i = 0; i < s->n; i++) {
			int err = take_expected(s, &s->wals[i], &found);

			if (err)
				return err;
		}
	} while ((found && spares) || skip_deleted(s));
	return 0;
}

static bool says_durable(const struct metafs_log_block *b, uint64_t expected)
{
	if (!expected) /* not one block of the file was found: was its first one durable? */
		return b->flushed & ((UINT64_C(1) << MF_SEQ_BITS) - 1);
	return b->sequence < expected || b->flushed >= expected;
}

/* Anything behind the end that says that the end was durable? */
static int look_behind(struct scan *s, const struct cursor *end, uint64_t expected)
{
	struct cursor c = { .node = end->node, .next = end->next };
	struct metafs_log_block b;
	int err = 0;

	for (; c.next < c.node->extents.blocks && !s->damage; c.next++) {
		err = cursor_peek(s, &c, &b);
		if (err == -ENOENT)
			continue;
		if (err)
			break;
		if (says_durable(&b, expected))
			damaged(s, c.node, c.next, "it says that a missing one was durable");
	}
	free(c.buf);
	return err == -ENOENT ? 0 : err;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = ((const struct cursor *)a)->node->log_number;
	uint64_t y = ((const struct cursor *)b)->node->log_number;

	if (!x || !y)
		return (x == 0) - (y == 0);
	return x < y ? -1 : x > y;
}

static int collect_wals(struct scan *s)
{
	struct mf_node *node;
	unsigned n = 0;

	DL_FOREACH(s->mf->nodes, node)
		n += node->kind == METAFS_WAL && !node->frozen;
	s->wals = calloc(n + 1, sizeof(*s->wals));
	if (!s->wals)
		return -ENOMEM;
	DL_FOREACH(s->mf->nodes, node)
		if (node->kind == METAFS_WAL && !node->frozen)
			s->wals[s->n++].node = node;
	qsort(s->wals, s->n, sizeof(*s->wals), by_number);
	return 0;
}

static int scan_wals(struct scan *s)
{
	int err = collect_wals(s);

	if (err)
		return err;
	s->expected = s->mf->wal_seq_next;
	err = take_checkpoint(s);
	if (!err && !s->damage)
		err = follow_chain(s);
	for (unsigned i = 0; i < s->n && !err && !s->damage; i++)
		err = look_behind(s, &s->wals[i], s->expected);
	s->mf->wal_seq_next = s->expected;
	return err;
}

/* ---- MANIFESTs ---- */

static int scan_log(struct scan *s, struct mf_node *node)
{
	struct cursor c = { .node = node };
	struct metafs_log_block b;
	uint64_t expected = 0;
	int err;

	while (!(err = cursor_peek(s, &c, &b))) {
		if (!expected && (b.sequence & ((UINT64_C(1) << MF_SEQ_BITS) - 1)) == 1) {
			expected = b.sequence;
			node->flushed = expected - 1;
		}
		if (b.sequence != expected)
			break;
		err = cursor_take(&c, &b);
		if (err)
			break;
		expected++;
	}
	free(c.buf);
	if (err && err != -ENOENT)
		return err;
	if (expected)
		node->next_seq = expected;
	return look_behind(s, &c, expected);
}

/* ---- Frames of a predecessor ---- */

static struct mf_node *node_by_id(const struct metafs *mf, uint64_t id)
{
	struct mf_node *node;

	DL_FOREACH(mf->nodes, node)
		if (node->id == id && mf_is_log(node) && !node->frozen)
			return node;
	return NULL;
}

static void adopt_frames(struct metafs *mf)
{
	struct mf_area *area = &mf->area;

	for (uint64_t pos = area->tail; pos < area->head; pos++) {
		struct mf_node *node = NULL;

		if (mf_frame_sound(area, pos))
			node = node_by_id(mf, le64toh(mf_frame(area, pos)->file_id));
		mf_frame_adopt(area, pos, node);
	}
}

/* After the chain is known: those without a sequence come behind it, in the order of appending. */
static int append_frames(struct metafs *mf)
{
	struct mf_area *area = &mf->area;
	int err = 0;

	for (uint64_t pos = area->tail; pos < area->head && !err; pos++) {
		struct mf_node *node = area->owner[pos % area->count];
		uint32_t index = area->index[pos % area->count];
		bool noted = mf_frame_noted(area, pos);

		if (!node)
			continue;
		if ((noted && index >= node->blocks) || (!noted && index != node->blocks) ||
		    !mf_frame_used(area, pos)) {
			area->owner[pos % area->count] = NULL;
			continue;
		}
		if (!noted)
			err = mf_log_add_block(node, mf_frame_used(area, pos));
		node->tail_frames++;
	}
	return err;
}

/* ---- All of it ---- */

static int scan_all(struct scan *s)
{
	struct mf_node *node;
	int err;

	adopt_frames(s->mf);
	err = scan_wals(s);
	DL_FOREACH(s->mf->nodes, node)
		if (!err && node->kind == METAFS_LOG && !node->frozen)
			err = scan_log(s, node);
	return err ? err : append_frames(s->mf);
}

int mf_scan_logs(struct metafs *mf)
{
	struct scan s = { .mf = mf };
	int err = scan_all(&s);

	for (unsigned i = 0; i < s.n; i++)
		free(s.wals[i].buf);
	free(s.wals);
	if (err || !s.damage)
		return err;
	return mf->read_only ? 0 : s.damage;
}
