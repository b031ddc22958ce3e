/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chunk maps, and the holders of blocks. Every run of every record is counted into an allocator of
 * our own; what that has in the end is what `space` must say.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/check_fix.h"
#include "meta/check_internal.h"
#include "meta/space_internal.h"

/* ---- each record by itself ---- */

/* Versions of the chunk that came before, newest first: those that may be inherited from this one. */
struct waiting {
	uint32_t node;
	struct map_rec rec;
};

struct map_pass {
	struct check *check;
	uint8_t chunk[KEY_MAP_LEN - 4];
	CHECK_ARRAY(struct waiting) waiting;
};

/* Of a run that leaves the zones for data: what lies in them has a holder all the same, or a repair would free it. */
static int count_blocks(struct check *c, const struct map_run *run)
{
	int err = 0;

	for (unsigned b = 0; !err && b < run->stored_blocks; b++) {
		const struct extent block = { run->address + b, 1, run->vdev };

		err = space_claim(c->holders, &block);
		err = err == -EINVAL ? 0 : err;
	}
	return err;
}

/* A holder that is not counted must not make a block free: 0, or what ends the check. */
static int count_run(struct check *c, const struct map_key *k, const struct map_run *run)
{
	const struct extent range = { run->address, run->stored_blocks, run->vdev };
	const int err = map_run_stored(run) ? space_claim(c->holders, &range) : 0;

	if (err != -EINVAL)
		return err;
	check_found(c, false, "%s: inode %" PRIu64 " chunk %" PRIu64 ": blocks %" PRIu64 "+%u of device %u are not in zones for data",
		    check_node_name(c, k->tree, k->node), k->ino, k->chunk, range.block, range.blocks, range.vdev);
	return count_blocks(c, run);
}

static int count_record(struct check *c, struct check_node *n, const struct map_key *k,
			const struct map_rec *rec)
{
	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];
		const int err = count_run(c, k, run);

		if (err)
			return err;
		if (run->flags & RUN_INHERITED) {
			if (!n->parent)
				check_found(c, false, "%s: inode %" PRIu64 " chunk %" PRIu64 ": inherited, and nothing to inherit from",
					    check_node_name(c, k->tree, k->node), k->ino, k->chunk);
			continue;
		}
		n->counted.born += run->count;
		if (run->flags & RUN_UNWRITTEN)
			n->counted.unwritten += run->count;
	}
	if (!rec->nruns && !n->parent && !n->untidy &&
	    check_found(c, !c->incomplete, "%s: inode %" PRIu64 " chunk %" PRIu64 ": an empty record that hides nothing",
			check_node_name(c, k->tree, k->node), k->ino, k->chunk)) {
		uint8_t key[KEY_MAP_LEN];

		db_batch_delete(c->db, c->fixes, DB_MAP, key,
				key_map(key, k->tree, k->ino, k->chunk, k->node));
	}
	return 0;
}

static bool same_place(const struct map_run *a, const struct map_run *b)
{
	return !((a->flags ^ b->flags) & ~RUN_INHERITED) && a->vdev == b->vdev && a->address == b->address && a->skip == b->skip &&
	       a->raw_blocks == b->raw_blocks && a->stored_blocks == b->stored_blocks && a->stored_bytes == b->stored_bytes;
}

/* Whether the record maps these blocks of the chunk to where the run does. */
static bool maps_the_same(const struct map_rec *rec, const struct map_run *run)
{
	for (unsigned b = 0; b < run->count; b++) {
		const int at = map_rec_find(rec, run->block + b);
		struct map_run theirs, ours = map_run_slice(run, b, 1);

		if (at < 0)
			return false;
		theirs = map_run_slice(&rec->runs[at], run->block + b - rec->runs[at].block, 1);
		if (!same_place(&theirs, &ours))
			return false;
	}
	return true;
}

static bool is_ancestor(struct check *c, uint32_t tree, uint32_t node, uint32_t of)
{
	const struct check_node *n = check_node_find(c, tree, of);

	/* One whose parent is not older is reported with the nodes; there the way ends. */
	while (n && n->parent > node && n->parent < n->id)
		n = check_node_find(c, tree, n->parent);
	return n && n->parent == node;
}

/* The nearest older version of those that wait for one has come. */
static void check_inherited(struct map_pass *p, const struct map_key *k, const struct map_rec *rec)
{
	struct check *c = p->check;

	for (size_t i = 0; i < p->waiting.n;) {
		const struct waiting *w = &p->waiting.v[i];

		if (!is_ancestor(c, k->tree, k->node, w->node)) {
			i++;
			continue;
		}
		for (unsigned r = 0; r < w->rec.nruns; r++)
			if (w->rec.runs[r].flags & RUN_INHERITED &&
			    !maps_the_same(rec, &w->rec.runs[r]))
				check_found(c, false, "%s: inode %" PRIu64 " chunk %" PRIu64 ": marked as inherited, and the older version maps something else",
					    check_node_name(c, k->tree, w->node), k->ino, k->chunk);
		p->waiting.v[i] = p->waiting.v[--p->waiting.n];
	}
}

static int remember_inherited(struct map_pass *p, uint32_t node, const struct map_rec *rec)
{
	for (unsigned i = 0; i < rec->nruns; i++) {
		struct waiting *w;

		if (!(rec->runs[i].flags & RUN_INHERITED))
			continue;
		w = CHECK_ADD(p->waiting);
		if (!w)
			return -ENOMEM;
		w->node = node;
		w->rec = *rec;
		return 0;
	}
	return 0;
}

static int map_record(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct map_pass *p = arg;
	struct check *c = p->check;
	struct check_node *n;
	struct map_key k;
	struct map_rec rec;
	int err;

	if (map_key_parse(key, key_len, &k) < 0 || map_rec_decode(value, len, &rec) < 0) {
		check_malformed(c, REC_FAMILY_MAP, key, key_len, value, len);
		return 0;
	}
	n = check_node_find(c, k.tree, k.node);
	if (!n) {
		check_found(c, false, "tree %" PRIu32 " inode %" PRIu64 ": a map of node %" PRIu32 ", which is not there",
			    k.tree, k.ino, k.node);
		c->incomplete = true;
		return 0;
	}
	if (k.ino > n->last_ino)
		n->last_ino = k.ino;
	if (!check_sequence_given(c, rec.seq))
		check_found(c, false, "%s: inode %" PRIu64 " chunk %" PRIu64 ": its sequence 0x%" PRIx64 " was never given",
			    check_node_name(c, k.tree, k.node), k.ino, k.chunk, rec.seq);
	if (memcmp(p->chunk, key, sizeof(p->chunk))) {
		memcpy(p->chunk, key, sizeof(p->chunk));
		p->waiting.n = 0;
	}
	check_inherited(p, &k, &rec);
	err = count_record(c, n, &k, &rec);
	return err ? err : remember_inherited(p, k.node, &rec);
}

int check_map_records(struct check *c)
{
	struct map_pass pass = { .check = c };
	struct space_stats stats;
	const int err = check_each(c, DB_MAP, "maps", NULL, 0, map_record, &pass);

	free(pass.waiting.v);
	space_get_stats(c->holders, &stats);
	c->result.data_blocks = stats.held;
	return err;
}

/* ---- what a node sees ---- */

struct map_view_pass {
	struct check_view *view;
	struct check_inode *last; /* maps of an inode lie together */
	uint64_t missing;         /* the last one that is not there */
};

static void map_of_nothing(struct map_view_pass *p, const struct map_key *k)
{
	struct check_view *view = p->view;

	if (p->missing == k->ino)
		return;
	p->missing = k->ino;
	if (check_found(view->check, check_can_fix(view, k->node),
			"%s: inode %" PRIu64 " is not there, and has maps",
			check_node_name(view->check, k->tree, view->node->id), k->ino))
		check_fix_remove_map(view, k->ino);
}

/* Below a whiteout of its inode a map of an ancestor is hidden: such an inode is not in the table either. */
static int map_view_step(void *arg, const void *key, size_t key_len, uint32_t from,
			 const void *value, size_t len)
{
	struct map_view_pass *p = arg;
	struct map_key k;
	struct map_rec rec;

	if (map_key_parse(key, key_len, &k) < 0 || map_rec_decode(value, len, &rec) < 0)
		return 0;
	if (!p->last || p->last->ino != k.ino)
		p->last = check_inode_find(p->view, k.ino);
	if (p->last)
		p->last->mapped += map_rec_blocks(&rec);
	else if (from == p->view->node->id)
		map_of_nothing(p, &k);
	return 0;
}

int check_map_view(struct check_view *view)
{
	struct map_view_pass pass = { .view = view };

	return check_view_each(view, DB_MAP, "maps", NULL, 0, map_view_step, &pass);
}

/* ---- holders ---- */

struct space_pass {
	struct check *check;
	uint8_t *seen; /* a byte for each zone: it has an entry */
};

static uint32_t counted_at(const struct zone *z, uint32_t at, uint32_t *end)
{
	const struct zone_piece p = zone_piece(z, at, z->blocks);

	*end = p.end;
	return p.cur;
}

/* The spans of a zone as counted; returns their number. spans has room for every block. */
static uint32_t counted_spans(const struct zone *z, struct space_span *spans)
{
	uint32_t n = 0, end;

	for (uint32_t at = 0; at < z->blocks; at = end) {
		const uint32_t holders = counted_at(z, at, &end);

		if (!holders)
			continue;
		if (n && spans[n - 1].first + spans[n - 1].blocks == at &&
		    spans[n - 1].holders == (int32_t)holders)
			spans[n - 1].blocks += end - at;
		else
			spans[n++] = (struct space_span){ (uint16_t)at, end - at,
							  (int32_t)holders };
	}
	return n;
}

/* The first blocks where the two differ, for the message. */
static void describe_difference(const struct zone *z, const struct space_rec *rec, char *text,
				size_t size)
{
	int32_t *stored = calloc(z->blocks, sizeof(*stored));
	uint32_t end, at = 0, from, differing = 0;

	snprintf(text, size, "holders differ");
	if (!stored)
		return;
	for (uint32_t i = 0; i < rec->nspans; i++) {
		const struct space_span s = space_rec_span(rec, i);

		for (uint32_t b = s.first; b < s.first + s.blocks && b < z->blocks; b++)
			stored[b] = s.holders;
	}
	for (from = z->blocks; at < z->blocks; at++) {
		if (stored[at] == (int32_t)counted_at(z, at, &end))
			continue;
		if (differing++ == 0)
			from = at;
	}
	if (from < z->blocks)
		snprintf(text, size, "block %" PRIu32 " has %" PRId32 " holders, and %" PRIu32 " by the maps, %" PRIu32 " blocks differ",
			 from, stored[from], counted_at(z, from, &end), differing);
	free(stored);
}

static void fix_zone(struct check *c, const struct zone *z, const struct space_span *spans, uint32_t n)
{
	cleanup_free uint8_t *value = malloc(space_rec_size(n));
	uint8_t key[KEY_SPACE_LEN];

	if (value)
		db_batch_put(c->db, c->fixes, DB_SPACE, key, key_space(key, z->vdev, z->index), value,
			     space_rec_encode(false, spans, n, value));
}

static bool zone_differs(struct check *c, const struct zone *z, const struct space_rec *rec)
{
	char text[160];

	describe_difference(z, rec, text, sizeof(text));
	return check_found(c, !c->incomplete, "device %u zone %" PRIu32 ": %s", z->vdev, z->index, text);
}

/* rec NULL: what is stored is malformed. */
static int compare_zone(struct check *c, const struct zone *z, const struct space_rec *rec)
{
	cleanup_free struct space_span *spans = malloc(z->blocks * sizeof(*spans));
	uint32_t n;
	bool same;

	if (!spans)
		return -ENOMEM;
	n = counted_spans(z, spans);
	if (!rec) {
		if (check_found(c, true, "device %u zone %" PRIu32 ": its holders are malformed", z->vdev, z->index))
			fix_zone(c, z, spans, n);
		return 0;
	}
	same = n == rec->nspans;
	for (uint32_t i = 0; same && i < n; i++) {
		const struct space_span s = space_rec_span(rec, i);

		same = s.first == spans[i].first && s.blocks == spans[i].blocks &&
		       s.holders == spans[i].holders;
	}
	if (!same && zone_differs(c, z, rec))
		fix_zone(c, z, spans, n);
	return 0;
}

static size_t zone_number(const struct check *c, uint16_t vdev, uint32_t zone)
{
	size_t n = zone;

	for (uint16_t i = 0; i < vdev; i++)
		n += c->labels[i].zones;
	return n;
}

static int space_step(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct space_pass *p = arg;
	struct check *c = p->check;
	struct space_key k;
	struct space_rec rec;
	struct zone *z;

	if (space_key_parse(key, key_len, &k) < 0) {
		check_malformed(c, REC_FAMILY_SPACE, key, key_len, value, len);
		return 0;
	}
	z = space_zone_at(c->holders, k.vdev, k.zone);
	if (!z) {
		if (check_found(c, true, "holders of device %u zone %" PRIu32 ", which is not for data", k.vdev,
				k.zone))
			db_batch_delete(c->db, c->fixes, DB_SPACE, key, key_len);
		return 0;
	}
	p->seen[zone_number(c, k.vdev, k.zone)] = 1;
	return compare_zone(c, z, space_rec_decode(value, len, &rec) < 0 || rec.operand ? NULL : &rec);
}

/* Zones without an entry have no holders. */
static int check_unseen(struct space_pass *p)
{
	static const struct space_rec none = { 0 };
	struct check *c = p->check;
	int err = 0;

	for (unsigned v = 0; v < c->ndevices; v++)
		for (uint32_t n = 0; !err && n < c->labels[v].zones; n++) {
			struct zone *z = space_zone_at(c->holders, v, n);

			if (z && !p->seen[zone_number(c, v, n)])
				err = compare_zone(c, z, &none);
		}
	return err;
}

int check_space(struct check *c)
{
	struct space_pass pass = { .check = c };
	int err;

	pass.seen = calloc(zone_number(c, c->ndevices, 0) + 1, 1);
	if (!pass.seen)
		return -ENOMEM;
	err = check_each(c, DB_SPACE, "space", NULL, 0, space_step, &pass);
	if (!err)
		err = check_unseen(&pass);
	free(pass.seen);
	return err;
}
