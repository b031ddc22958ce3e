/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pass over a node that has children: all keys of its tree in order, first in `map`, then in `ns`, with all versions of a key
 * side by side. What becomes of the node's version depends on those of its children.
 *
 * A child *shadows* a key if it has a version of it, or a whiteout of the inode: it will never see what its parent has there. A
 * whiteout, or a chunk map without runs, hides what ancestors have; where none has a version it is of no use.
 *
 * One child: what it shadows goes, all else becomes the child's. Several: what all of them shadow goes, but for blocks that one of them
 * inherits: these stay counted here, once. Here a child without a name that has children of its own shadows what all of these do, and so on down:
 * nobody sees through it. That stays so whatever the open ones among them do meanwhile. A live node that has a version, or a whiteout, of
 * something that an ancestor has always keeps one or the other, and the blocks that a version inherits only get fewer; a snapshot or a clone
 * of it sees at least that; and no node without a name ever gets another child. So nothing has to be asked of their reactors. But a whiteout over
 * something older stays: who deletes its own version above one leaves no other, and may have found it just before.
 *
 * The whiteout of an inode hides all of that inode's records, chunk maps too. So one that is of no use goes when neither the node nor an ancestor
 * has any of them.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "meta/blockmap.h"
#include "meta/sweep_internal.h"

#define NODE_BYTES 4
#define GROUPS_MAX 8192u /* keys that one step looks at */

/* All versions of one key that matter. */
struct group {
	enum db_cf cf;
	size_t len;              /* of the key without node */
	uint8_t key[KEY_MAX];
	struct sweep_value own;
	bool has_own, ancestor;  /* an ancestor has a version */
};

static int keep_value(struct sweep_step *st, const void *value, size_t len, struct sweep_value *out)
{
	if (st->used + len > st->room) {
		const size_t room = (st->used + len) * 2;
		uint8_t *bytes = realloc(st->bytes, room);

		if (!bytes)
			return -ENOMEM;
		st->bytes = bytes;
		st->room = room;
	}
	*out = (struct sweep_value){ .at = st->used, .len = len };
	memcpy(st->bytes + st->used, value, len);
	st->used += len;
	return 0;
}

struct sweep_below *sweep_find_below(const struct sweep *s, uint32_t node)
{
	unsigned low = 0, high = s->below_count;

	while (low < high) {
		const unsigned mid = (low + high) / 2;

		if (s->below[mid].id == node)
			return &s->below[mid];
		if (s->below[mid].id < node)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static bool is_ancestor(const struct sweep *s, uint32_t node)
{
	unsigned low = 0, high = s->ancestor_count;

	while (low < high) {
		const unsigned mid = (low + high) / 2;

		if (s->ancestors[mid] == node)
			return true;
		if (s->ancestors[mid] > node)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}

static int add_version(struct sweep *s, struct group *g, uint32_t node, const void *value, size_t len)
{
	struct sweep_below *b;

	if (node == s->node) {
		g->has_own = true;
		return keep_value(&s->step, value, len, &g->own);
	}
	if (node < s->node) {
		g->ancestor |= is_ancestor(s, node);
		return 0;
	}
	b = sweep_find_below(s, node);
	if (!b)
		return 0;
	b->has = true;
	return keep_value(&s->step, value, len, &b->value);
}

/* The next key with its versions: 1, 0 at the end, -errno. */
static int next_group(struct sweep *s, struct db_iter *iter, struct group *g)
{
	size_t len, value_len;
	int r;

	g->has_own = g->ancestor = false;
	for (unsigned i = 0; i < s->below_count; i++)
		s->below[i].has = false;
	g->len = 0;
	for (; db_iter_valid(iter); db_iter_next(iter)) {
		const uint8_t *key = db_iter_key(iter, &len);
		const void *value;

		if (len <= NODE_BYTES || len > KEY_MAX)
			continue; /* damaged */
		if (g->len && (g->len != len - NODE_BYTES || memcmp(g->key, key, g->len)))
			return 1;
		g->len = len - NODE_BYTES;
		memcpy(g->key, key, g->len);
		value = db_iter_value(iter, &value_len);
		r = add_version(s, g, ~get_be32(key + g->len), value, value_len);
		if (r)
			return r;
	}
	r = db_iter_error(iter);
	return r ? r : g->len > 0;
}

/* The inode that a key belongs to; of an orphan or a cut the one that it names. */
static uint64_t group_ino(const struct group *g)
{
	const uint64_t ino = g->len >= 12 ? get_be64(g->key + 4) : 0;

	return ino || g->len < KEY_NS_PREFIX_LEN + 8 ? ino : get_be64(g->key + KEY_NS_PREFIX_LEN);
}

static bool is_inode_key(const struct group *g)
{
	return g->cf == DB_NS && g->len == KEY_NS_PREFIX_LEN && g->key[KEY_NS_PREFIX_LEN - 1] == REC_INODE;
}

static struct db_iter *dead_iter(struct sweep *s)
{
	uint8_t first[4], end[4];

	put_be32(first, s->tree);
	put_be32(end, s->tree + 1);
	if (!s->dead_iter)
		s->dead_iter = db_iter_new(s->pool->db, DB_NS, first, sizeof(first), end, sizeof(end), 0);
	return s->dead_iter;
}

/* Which nodes below have a whiteout of the inode: one seek, and one step for each version of it. */
static int ask_dead(struct sweep *s, uint64_t ino)
{
	struct db_iter *iter = dead_iter(s);
	uint8_t key[KEY_MAX];
	const size_t key_len = key_inode(key, s->tree, ino, UINT32_MAX);

	if (!iter)
		return -ENOMEM;
	if (s->dead_ino == ino)
		return 0;
	s->dead_ino = 0;
	for (unsigned i = 0; i < s->below_count; i++)
		s->below[i].dead = false;
	for (db_iter_seek(iter, key, key_len); db_iter_valid(iter); db_iter_next(iter)) {
		size_t len, value_len;
		const uint8_t *found = db_iter_key(iter, &len);
		struct sweep_below *b;
		const void *value;

		if (len != key_len || memcmp(found, key, key_len - NODE_BYTES))
			break;
		value = db_iter_value(iter, &value_len);
		b = sweep_find_below(s, ~get_be32(found + key_len - NODE_BYTES));
		if (b)
			b->dead = is_whiteout(value, value_len);
	}
	if (db_iter_error(iter))
		return db_iter_error(iter);
	s->dead_ino = ino;
	return 0;
}

/* Whether a version hides others and says nothing else. */
static bool hides_only(const struct sweep *s, const struct group *g, const struct sweep_value *v)
{
	struct map_rec rec;

	if (g->cf == DB_NS)
		return is_whiteout(sweep_bytes(&s->step, v), v->len);
	return !map_rec_decode(sweep_bytes(&s->step, v), v->len, &rec) && !rec.nruns;
}

static struct sweep_item *add_item(struct sweep *s, const struct group *g, enum sweep_action action)
{
	struct sweep_item *item = &s->step.items[s->step.count++];

	*item = (struct sweep_item){ .cf = g->cf, .action = action, .key_len = g->len + NODE_BYTES };
	memcpy(item->key, g->key, g->len);
	put_be32(item->key + g->len, ~s->node);
	if (g->has_own)
		item->own = g->own;
	if (s->child && s->below[0].has)
		item->child = s->below[0].value;
	return item;
}

/* ---- One child ---- */

static int decide_one(struct sweep *s, const struct group *g)
{
	const struct sweep_below *child = &s->below[0];
	const bool useless = child->has && !g->ancestor && hides_only(s, g, &child->value);
	enum sweep_action action = SWEEP_DROP;
	int r;

	if (useless && is_inode_key(g))
		s->ino_hidden = true;
	if (!g->has_own) {
		if (useless && !is_inode_key(g))
			add_item(s, g, SWEEP_LEAVE)->child_goes = true;
		return 0;
	}
	r = ask_dead(s, group_ino(g));
	if (r)
		return r;
	/* The whiteout of an inode may be what hides its other records: end_inode() sees to it when it is the child's. */
	if (!child->has && !child->dead && (g->ancestor || is_inode_key(g) || !hides_only(s, g, &g->own)))
		action = SWEEP_MOVE;
	add_item(s, g, action)->child_goes = useless && !is_inode_key(g);
	return 0;
}

/* Whether the node or an ancestor has chunk maps of the inode: 0, 1, -errno. */
static int has_maps(const struct sweep *s, uint64_t ino)
{
	uint8_t first[KEY_MAX], end[KEY_MAX];
	cleanup_db_iter struct db_iter *iter = NULL;
	size_t len;

	put_be32(first, s->tree);
	put_be64(first + 4, ino);
	put_be32(end, s->tree);
	put_be64(end + 4, ino + 1);
	iter = db_iter_new(s->pool->db, DB_MAP, first, 12, end, 12, 0);
	if (!iter)
		return -ENOMEM;
	for (db_iter_first(iter); db_iter_valid(iter); db_iter_next(iter)) {
		const uint8_t *key = db_iter_key(iter, &len);
		const uint32_t node = len > NODE_BYTES ? ~get_be32(key + len - NODE_BYTES) : 0;

		if (node == s->node || is_ancestor(s, node))
			return 1;
	}
	return db_iter_error(iter);
}

/* All records of an inode were looked at. */
static int end_inode(struct sweep *s)
{
	struct sweep_item *item;
	int r;

	if (!s->ino_hidden || s->ino_seen || s->partial)
		return 0;
	r = has_maps(s, s->ino);
	if (r)
		return r < 0 ? r : 0;
	item = &s->step.items[s->step.count++];
	*item = (struct sweep_item){ .cf = DB_NS, .child_goes = true };
	item->key_len = key_inode(item->key, s->tree, s->ino, s->node);
	return keep_value(&s->step, whiteout_value, WHITEOUT_LEN, &item->child);
}

/* ---- Several ---- */

/* Nobody sees what the node has: each way down comes to a version, or a whiteout of the inode, before it comes to a name. */
static bool is_hidden(struct sweep *s)
{
	for (unsigned i = 0; i < s->below_count; i++)
		s->below[i].open = false;
	for (unsigned i = s->below_count; i-- > 0;) {
		const struct sweep_below *b = &s->below[i];

		if (b->has || b->dead || (b->nameless && !b->open))
			continue;
		if (b->above < 0)
			return false;
		s->below[b->above].open = true;
	}
	return true;
}

/* The blocks of the chunk that a version inherits. */
static int inherited_by(const struct sweep *s, const struct sweep_value *v, uint64_t *mask)
{
	struct blockmap map = { 0 };
	struct map_rec rec;
	int r = map_rec_decode(sweep_bytes(&s->step, v), v->len, &rec);

	if (!r)
		r = blockmap_from_rec(&map, &rec, false);
	if (!r)
		*mask |= map.inherited;
	blockmap_clear(&map);
	return r;
}

static int ignore(void *arg, const struct extent *extent, int delta)
{
	(void)arg;
	(void)extent;
	(void)delta;
	return 0;
}

/* The blocks of the chunk that the next versions below inherit. */
static int inherited_below(struct sweep *s, uint64_t *mask)
{
	int r = 0;

	for (unsigned i = 0; i < s->below_count && !r; i++) {
		struct sweep_below *b = &s->below[i];
		const struct sweep_below *above = b->above < 0 ? NULL : &s->below[b->above];

		b->covered = above && (above->covered || above->has || above->dead);
		if (b->has && !b->dead && !b->covered)
			r = inherited_by(s, &b->value, mask);
	}
	return r;
}

/* The node's chunk map without the blocks that nobody inherits; an extent that is compressed as a whole or not at all. */
static int trim(struct sweep *s, const struct group *g, uint64_t needed)
{
	struct blockmap map = { 0 };
	struct map_rec rec;
	uint8_t value[MAP_REC_MAX];
	int r = map_rec_decode(sweep_bytes(&s->step, &g->own), g->own.len, &rec);

	if (!r)
		r = blockmap_from_rec(&map, &rec, false);
	if (r)
		goto out;
	needed &= map.mapped;
	needed |= blockmap_companions(&map, needed);
	if (needed != map.mapped) {
		struct sweep_item *item = add_item(s, g, needed ? SWEEP_TRIM : SWEEP_DROP);

		blockmap_unmap(&map, ~needed, ignore, NULL);
		blockmap_to_rec(&map, rec.seq, &rec);
		r = keep_value(&s->step, value, map_rec_encode(&rec, value), &item->trimmed);
	} else if (!map.mapped) {
		add_item(s, g, SWEEP_DROP);
	}
out:
	blockmap_clear(&map);
	return r;
}

static int decide_several(struct sweep *s, const struct group *g)
{
	uint64_t needed = 0;
	int r = g->has_own ? ask_dead(s, group_ino(g)) : 0;

	if (r || !g->has_own)
		return r;
	if (hides_only(s, g, &g->own) && (g->ancestor || !is_inode_key(g))) {
		if (!g->ancestor)
			add_item(s, g, SWEEP_DROP);
		return 0;
	}
	if (!is_hidden(s))
		return 0;
	if (g->cf == DB_MAP) {
		r = inherited_below(s, &needed);
		return r ? r : trim(s, g, needed);
	}
	add_item(s, g, SWEEP_DROP);
	return 0;
}

/* ---- A step ---- */

static int decide(struct sweep *s, const struct group *g)
{
	const int r = s->child ? decide_one(s, g) : decide_several(s, g);

	s->seen += g->has_own;
	s->ino_seen |= g->has_own || g->ancestor;
	if (r != -EBADMSG)
		return r;
	log_error("sweep of node %u: a record is damaged and stays: run fsck.nvfs", s->node);
	return 0;
}

/* For the next start: at the beginning of the inode, or of its chunk. */
static void move_cursor(struct sweep *s, const struct group *g)
{
	const uint64_t ino = g->len >= 12 ? get_be64(g->key + 4) : 0;

	s->rec.sweep_ino = ino <= INO_MAX ? ino : 0;
	s->rec.sweep_position = g->cf == DB_MAP && g->len == KEY_MAP_LEN - NODE_BYTES ? get_be64(g->key + 12) : 0;
	memcpy(s->at, g->key, g->len);
	s->at_len = g->len;
}

static size_t first_key(const struct sweep *s, enum db_cf cf, uint8_t *key)
{
	if (s->at_len) {
		memcpy(key, s->at, s->at_len);
		return s->at_len;
	}
	if (cf == DB_MAP)
		return key_map(key, s->tree, s->rec.sweep_ino, s->rec.sweep_position, UINT32_MAX);
	put_be32(key, s->tree);
	put_be64(key + 4, s->rec.sweep_ino);
	return 12;
}

static struct db_iter *open_iter(const struct sweep *s, enum db_cf cf)
{
	uint8_t first[4], end[4], from[KEY_MAX];
	struct db_iter *iter;

	put_be32(first, s->tree);
	put_be32(end, s->tree + 1);
	iter = db_iter_new(s->pool->db, cf, first, sizeof(first), end, sizeof(end), 0);
	if (iter)
		db_iter_seek(iter, from, first_key(s, cf, from));
	return iter;
}

/* The records of another inode begin, or (0) there are no more. */
static int next_inode(struct sweep *s, uint64_t ino)
{
	const int r = s->child ? end_inode(s) : 0;

	s->ino = ino;
	s->ino_seen = s->ino_hidden = false;
	return r;
}

/* One key: 1, or -errno. */
static int look(struct sweep *s, const struct group *g)
{
	const size_t mark = s->step.used;
	const unsigned before = s->step.count;
	const int r = decide(s, g);

	if (s->step.count == before)
		s->step.used = mark; /* nothing refers to its values */
	return r ? r : 1;
}

static int read_groups(struct sweep *s)
{
	const enum db_cf cf = s->rec.sweep_family == SWEEP_NS ? DB_NS : DB_MAP;
	cleanup_db_iter struct db_iter *iter = open_iter(s, cf);
	struct group g = { .cf = cf };
	int r = iter ? 1 : -ENOMEM;

	s->step.count = 0;
	s->step.used = 0;
	s->dead_ino = 0;
	for (unsigned n = 0; r > 0; n++) {
		const size_t mark = s->step.used;

		r = next_group(s, iter, &g);
		if (r <= 0)
			break;
		/* An inode's end may add one more. */
		if (s->step.count >= SWEEP_BATCH - 1 || n >= GROUPS_MAX) {
			s->step.used = mark;
			move_cursor(s, &g);
			return 1;
		}
		if (cf == DB_NS && group_ino(&g) != s->ino)
			r = next_inode(s, group_ino(&g));
		r = r < 0 ? r : look(s, &g);
	}
	if (!r && cf == DB_NS)
		r = next_inode(s, 0);
	return r;
}

int sweep_read(struct sweep *s)
{
	const int r = read_groups(s);

	db_iter_free(s->dead_iter);
	s->dead_iter = NULL;
	return r;
}
