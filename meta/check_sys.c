/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The few records of `sys`: who is there, who belongs to whom, and what is counted for whom. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/check_internal.h"

/* ---- loading ---- */

static int load_pool(struct check *c, const void *value, size_t len)
{
	if (pool_rec_decode(value, len, &c->pool) < 0)
		return -EBADMSG;
	c->has_pool = true;
	return 0;
}

static int load_subvol(struct check *c, const struct sys_key *key, const void *value, size_t len)
{
	struct subvol_rec rec;
	struct check_subvol *s;

	if (subvol_rec_decode(value, len, &rec) < 0)
		return -EBADMSG;
	s = CHECK_ADD(c->subvols);
	if (!s)
		return -ENOMEM;
	s->id = key->id;
	s->tree = rec.tree;
	s->node = rec.node;
	s->tenant = rec.tenant;
	s->flags = rec.flags;
	s->size_blocks = rec.size_blocks;
	s->inodes_max = rec.inodes_max;
	memcpy(s->name, rec.name, rec.name_len);
	return 0;
}

static int load_tree(struct check *c, const struct sys_key *key, const void *value, size_t len)
{
	struct check_tree *t;
	uint64_t next_ino;

	if (tree_rec_decode(value, len, &next_ino) < 0)
		return -EBADMSG;
	t = CHECK_ADD(c->trees);
	if (!t)
		return -ENOMEM;
	t->id = key->id;
	t->next_ino = next_ino;
	return 0;
}

static int load_node(struct check *c, const struct sys_key *key, const void *value, size_t len)
{
	struct node_rec rec;
	struct check_node *n;

	if (node_rec_decode(value, len, &rec) < 0)
		return -EBADMSG;
	n = CHECK_ADD(c->nodes);
	if (!n)
		return -ENOMEM;
	n->tree = key->id;
	n->id = key->node;
	n->parent = rec.parent;
	n->subvol = rec.subvol;
	n->tenant = rec.tenant;
	n->state = rec.state;
	n->first_ino = rec.first_ino;
	n->untidy = !rec.parent && (rec.state == NODE_SWEEP || rec.sweep_family != SWEEP_NONE);
	n->view = rec.view;
	memcpy(n->name, rec.name_len ? rec.name : "", rec.name_len);
	return 0;
}

static int load_tenant(struct check *c, const struct sys_key *key, const void *value, size_t len)
{
	struct tenant_rec rec;
	struct check_tenant *t;

	if (tenant_rec_decode(value, len, &rec) < 0)
		return -EBADMSG;
	t = CHECK_ADD(c->tenants);
	if (!t)
		return -ENOMEM;
	t->id = key->id;
	memcpy(t->name, rec.name, rec.name_len);
	return 0;
}

/* What other records refer to. */
static int load_entry(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct check *c = arg;
	struct sys_key k;
	int err = 0;

	if (sys_key_parse(key, key_len, &k) < 0)
		err = -EBADMSG;
	else if (k.type == REC_POOL)
		err = load_pool(c, value, len);
	else if (k.type == REC_SUBVOL)
		err = load_subvol(c, &k, value, len);
	else if (k.type == REC_TREE)
		err = load_tree(c, &k, value, len);
	else if (k.type == REC_NODE)
		err = load_node(c, &k, value, len);
	else if (k.type == REC_TENANT)
		err = load_tenant(c, &k, value, len);
	if (err == -EBADMSG) {
		check_malformed(c, REC_FAMILY_SYS, key, key_len, value, len);
		return 0;
	}
	return err;
}

/* ---- what refers to them ---- */

static void check_subvol_name(struct check *c, const struct sys_key *key, uint32_t id, const void *raw,
			      size_t raw_len)
{
	struct check_subvol *s = check_subvol_find(c, id);

	if (s && s->node && strlen(s->name) == key->name_len &&
	    !memcmp(s->name, key->name, key->name_len)) {
		s->indexed = true;
		return;
	}
	if (check_found(c, true, "the name %.*s leads to subvolume %" PRIu32 ", which is not there or has another name",
			key->name_len, key->name, id))
		db_batch_delete(c->db, c->fixes, DB_SYS, raw, raw_len);
}

static void check_tenant_name(struct check *c, const struct sys_key *key, uint32_t id, const void *raw,
			      size_t raw_len)
{
	struct check_tenant *t = check_tenant_find(c, id);

	if (t && strlen(t->name) == key->name_len && !memcmp(t->name, key->name, key->name_len)) {
		t->indexed = true;
		return;
	}
	if (check_found(c, true, "the name %.*s leads to tenant %" PRIu32 ", which is not there or has another name",
			key->name_len, key->name, id))
		db_batch_delete(c->db, c->fixes, DB_SYS, raw, raw_len);
}

static void check_counters_of(struct check *c, const struct sys_key *key, const struct counters_rec *rec,
			      const void *raw, size_t raw_len)
{
	struct check_node *n = check_node_find(c, key->id, key->node);

	if (n) {
		n->stored = *rec;
	} else if (check_found(c, true, "counters of tree %" PRIu32 " node %" PRIu32 ", which is not there",
			       key->id, key->node)) {
		db_batch_delete(c->db, c->fixes, DB_SYS, raw, raw_len);
	}
}

static int refer_entry(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct check *c = arg;
	struct counters_rec counters;
	struct result_rec result;
	struct sys_key k;
	uint32_t id;
	bool bad = false;

	if (sys_key_parse(key, key_len, &k) < 0)
		return 0;
	if (k.type == REC_SUBVOL_NAME || k.type == REC_TENANT_NAME) {
		bad = index_rec_decode(value, len, k.type, &id) < 0;
		if (!bad && k.type == REC_SUBVOL_NAME)
			check_subvol_name(c, &k, id, key, key_len);
		else if (!bad)
			check_tenant_name(c, &k, id, key, key_len);
	} else if (k.type == REC_COUNTERS) {
		bad = counters_rec_decode(value, len, &counters) < 0;
		if (!bad)
			check_counters_of(c, &k, &counters, key, key_len);
	} else if (k.type == REC_RESULT) {
		bad = result_rec_decode(value, len, &result) < 0;
		if (!bad && !check_sequence_given(c, result.sequence))
			check_found(c, false, "a result of session %" PRIu32 ": its sequence 0x%" PRIx64 " was never given", k.id,
				    result.sequence);
		if (!bad && c->has_pool && k.id >= c->pool.next_session &&
		    check_found(c, true, "a result of session %" PRIu32 ", which never was", k.id))
			db_batch_delete(c->db, c->fixes, DB_SYS, key, key_len);
	}
	if (bad)
		check_malformed(c, REC_FAMILY_SYS, key, key_len, value, len);
	return 0;
}

/* ---- against each other ---- */

static void check_node(struct check *c, struct check_node *n)
{
	const struct check_node *parent = NULL;

	if (!check_tree_find(c, n->tree))
		check_found(c, false, "tree %" PRIu32 " has a node and no record", n->tree);
	if (n->parent) {
		parent = check_node_find(c, n->tree, n->parent);
		if (!parent || n->parent >= n->id)
			check_found(c, false, "tree %" PRIu32 " node %" PRIu32 ": its parent %" PRIu32 " is not there or not older",
				    n->tree, n->id, n->parent);
	}
	if (n->state == NODE_LIVE) {
		const struct check_subvol *s = check_subvol_find(c, n->subvol);

		n->named = s && s->tree == n->tree && s->node == n->id;
		if (!n->named)
			check_found(c, false, "tree %" PRIu32 " node %" PRIu32 " is live and no subvolume's",
				    n->tree, n->id);
	} else if (n->state == NODE_SNAPSHOT) {
		const struct check_subvol *s = check_subvol_find(c, n->subvol);

		if (!s)
			check_found(c, false, "tree %" PRIu32 " node %" PRIu32 ": a snapshot of no subvolume", n->tree, n->id);
		else if (s->tree != n->tree)
			check_found(c, false, "tree %" PRIu32 " node %" PRIu32 ": a snapshot of subvolume %s, whose tree is %" PRIu32, n->tree,
				    n->id, s->name, s->tree);
	}
	if (c->has_pool && n->id >= c->pool.next_node)
		check_found(c, false, "node %" PRIu32 " is newer than the pool's next", n->id);
}

void check_put_name(struct check *c, uint8_t type, const char *name, uint32_t id)
{
	uint8_t key[KEY_MAX], value[INDEX_REC_LEN];
	const size_t len = strlen(name);
	const size_t key_len = type == REC_SUBVOL_NAME ? key_subvol_name(key, name, len) :
							 key_tenant_name(key, name, len);

	db_batch_put(c->db, c->fixes, DB_SYS, key, key_len, value, index_rec_encode(type, id, value));
}

static bool subvol_name_taken(struct check *c, const struct check_subvol *s)
{
	for (size_t i = 0; i < c->subvols.n; i++)
		if (&c->subvols.v[i] != s && c->subvols.v[i].indexed &&
		    !strcmp(c->subvols.v[i].name, s->name))
			return true;
	return false;
}

static void check_subvol(struct check *c, const struct check_subvol *s)
{
	const struct check_node *n = check_node_find(c, s->tree, s->node);

	if (c->has_pool && s->id >= c->pool.next_subvol)
		check_found(c, false, "subvolume %s is newer than the pool's next", s->name);
	if (!s->node)
		return;
	if (!n || n->state != NODE_LIVE || n->subvol != s->id)
		check_found(c, false, "subvolume %s: its node %" PRIu32 " is not there or not its own",
			    s->name, s->node);
	if (s->indexed || s->flags & SUBVOL_DELETING)
		return;
	if (check_found(c, !subvol_name_taken(c, s), "subvolume %s: its name does not lead to it", s->name))
		check_put_name(c, REC_SUBVOL_NAME, s->name, s->id);
}

int check_sys(struct check *c)
{
	int err = check_each(c, DB_SYS, "sys", NULL, 0, load_entry, c);

	if (!err)
		err = check_each(c, DB_SYS, "sys", NULL, 0, refer_entry, c);
	if (err)
		return err;
	if (!c->has_pool)
		check_found(c, false, "the pool's record is missing");
	err = check_owners(c);
	if (err)
		return err;
	for (size_t i = 0; i < c->nodes.n; i++)
		check_node(c, &c->nodes.v[i]);
	for (size_t i = 0; i < c->subvols.n; i++)
		check_subvol(c, &c->subvols.v[i]);
	for (size_t i = 0; i < c->trees.n; i++)
		if (c->has_pool && c->trees.v[i].id >= c->pool.next_tree)
			check_found(c, false, "tree %" PRIu32 " is newer than the pool's next",
				    c->trees.v[i].id);
	for (size_t i = 0; i < c->tenants.n; i++) {
		const struct check_tenant *t = &c->tenants.v[i];

		if (c->has_pool && t->id >= c->pool.next_tenant)
			check_found(c, false, "tenant %s is newer than the pool's next", t->name);
		if (!t->indexed && check_found(c, true, "tenant %s: its name does not lead to it", t->name))
			check_put_name(c, REC_TENANT_NAME, t->name, t->id);
	}
	return 0;
}

/* ---- where the numbers of a node begin ---- */

/* From the tree's next number on no ancestor has anything; a number that is too high only has ancestors asked in vain. */
static void fix_first_ino(struct check *c, struct check_node *n, uint64_t first_ino)
{
	uint8_t key[KEY_MAX], bytes[NODE_REC_MAX];
	const size_t key_len = key_node(key, n->tree, n->id);
	cleanup_db_value struct db_value value = { 0 };
	struct node_rec rec;

	if (db_get(c->db, DB_SYS, key, key_len, 0, &value) || node_rec_decode(value.data, value.len, &rec) < 0)
		return;
	n->first_ino = rec.first_ino = first_ino;
	db_batch_put(c->db, c->fixes, DB_SYS, key, key_len, bytes, node_rec_encode(&rec, bytes));
}

/*
 * Of inodes from first_ino on a node never asks its ancestors. Parents come first, so what is put right here is what their children are
 * compared with.
 */
void check_first_inodes(struct check *c)
{
	for (size_t i = 0; i < c->nodes.n; i++) {
		struct check_node *n = &c->nodes.v[i];
		const struct check_node *parent = n->parent < n->id ? check_node_find(c, n->tree, n->parent) : NULL;
		const struct check_tree *t = check_tree_find(c, n->tree);

		if (!parent || (n->first_ino > parent->last_ino && n->first_ino >= parent->first_ino))
			continue;
		if (check_found(c, t != NULL, "%s: its numbers of inodes begin at %" PRIu64 ", and older nodes have some from there on",
				check_node_name(c, n->tree, n->id), n->first_ino))
			fix_first_ino(c, n, t->next_ino);
	}
}

/* ---- counters ---- */

static bool differs(struct check *c, const struct check_node *n, const char *what, int64_t stored,
		    int64_t counted)
{
	if (stored == counted)
		return false;
	/* What could not be read is not in the count. */
	return check_found(c, !c->incomplete, "%s: %s is %" PRId64 ", and %" PRId64 " by its records",
			   check_node_name(c, n->tree, n->id), what, stored, counted);
}

static void check_node_counters(struct check *c, struct check_node *n)
{
	const bool seen = n->state == NODE_LIVE || n->state == NODE_SNAPSHOT;
	struct counters_rec *s = &n->stored, *k = &n->counted;
	bool fix = differs(c, n, "born", s->born, k->born);

	fix |= differs(c, n, "meta_born", s->meta_born, k->meta_born);
	fix |= differs(c, n, "inodes_born", s->inodes_born, k->inodes_born);
	fix |= differs(c, n, "unwritten", s->unwritten, k->unwritten);
	if (seen) {
		/* The reaper takes chunks off before it takes the size. */
		if (s->referenced == n->referenced_left)
			k->referenced = n->referenced_left;
		fix |= differs(c, n, "referenced", s->referenced, k->referenced);
		fix |= differs(c, n, "meta", s->meta, k->meta);
		fix |= differs(c, n, "inodes", s->inodes, k->inodes);
	} else {
		k->referenced = s->referenced;
		k->meta = s->meta;
		k->inodes = s->inodes;
	}
	if (fix) {
		uint8_t key[KEY_MAX], value[COUNTERS_REC_LEN];

		db_batch_put(c->db, c->fixes, DB_SYS, key, key_counters(key, n->tree, n->id), value,
			     counters_rec_encode(k, value));
	}
}

static void check_limits(struct check *c, const struct check_subvol *s)
{
	const struct check_node *n = check_node_find(c, s->tree, s->node);
	int64_t used;

	if (!n || !s->node)
		return;
	used = n->counted.referenced + n->counted.meta;
	if (used > 0 && (uint64_t)used > s->size_blocks)
		check_found(c, false, "subvolume %s: %" PRId64 " blocks are used of %" PRIu64, s->name, used,
			    s->size_blocks);
	if (n->counted.inodes > 0 && (uint64_t)n->counted.inodes > s->inodes_max)
		check_found(c, false, "subvolume %s: %" PRId64 " inodes are used of %" PRIu64, s->name,
			    n->counted.inodes, s->inodes_max);
}

/* Claims of reserved subvolumes, what all others hold, and the headroom, against the data space. */
static void check_claims(struct check *c)
{
	struct space_stats stats;
	uint64_t sum = c->pool.headroom_blocks;

	for (size_t i = 0; i < c->subvols.n; i++)
		if (c->subvols.v[i].node && c->subvols.v[i].flags & SUBVOL_RESERVED)
			sum += c->subvols.v[i].size_blocks;
	for (size_t i = 0; i < c->nodes.n; i++) {
		const struct check_node *n = &c->nodes.v[i];
		const struct check_subvol *s = n->named ? check_subvol_find(c, n->subvol) : NULL;

		if ((!s || !(s->flags & SUBVOL_RESERVED)) && n->counted.born > 0)
			sum += (uint64_t)n->counted.born;
	}
	space_get_stats(c->holders, &stats);
	if (sum > stats.total)
		check_found(c, false, "the pool promises %" PRIu64 " blocks and has %" PRIu64, sum,
			    stats.total);
}

void check_counters(struct check *c)
{
	for (size_t i = 0; i < c->nodes.n; i++)
		check_node_counters(c, &c->nodes.v[i]);
	for (size_t i = 0; i < c->subvols.n; i++)
		check_limits(c, &c->subvols.v[i]);
	if (c->has_pool)
		check_claims(c);
}
