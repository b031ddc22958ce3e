/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"
#include "meta/usage_internal.h"

struct volume_entry {
	uint32_t id;
	bool deleted;
	char name[SUBVOL_NAME_MAX + 1], tenant[NAME_BYTES_MAX + 1];
};

/* What the moment has of `sys`. */
struct listing {
	struct moment moment;
	const struct snapshot_name *only;
	struct volume_entry *volumes; /* by id */
	size_t nvolumes, volumes_room;
	struct counters_rec *counters; /* of the nodes of the moment, in their order */
	struct usage *rows;
	size_t nrows, rows_room;
	uint64_t done, total;
	struct usage_total sum;
};

/* ---- Records ---- */

static int add_volume(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct listing *l = arg;
	const struct pool_tenant *tenant;
	struct volume_entry *v;
	struct subvol_rec rec;

	if (subvol_rec_decode(value, len, &rec))
		return -EBADMSG;
	if (array_grow((void **)&l->volumes, l->nvolumes, &l->volumes_room, sizeof(*v)))
		return -ENOMEM;
	v = &l->volumes[l->nvolumes++];
	*v = (struct volume_entry){ .id = key->id, .deleted = rec.flags & SUBVOL_DELETING };
	memcpy(v->name, rec.name, rec.name_len);
	tenant = tenant_find(l->moment.pool, rec.tenant);
	strcpy(v->tenant, tenant ? tenant->name : "");
	return 0;
}

static int add_counters(void *arg, const struct sys_key *key, const void *value, size_t len)
{
	struct listing *l = arg;
	const struct node_entry *n = nodes_find(&l->moment.nodes, key->id, key->node);

	return n ? counters_rec_decode(value, len, &l->counters[n - l->moment.nodes.v]) : 0;
}

static const struct volume_entry *volume_of(const struct listing *l, const struct node_entry *n)
{
	size_t low = 0, high = l->nvolumes;

	while (low < high) {
		const size_t mid = (low + high) / 2;

		if (l->volumes[mid].id < n->rec.subvol)
			low = mid + 1;
		else
			high = mid;
	}
	return low < l->nvolumes && l->volumes[low].id == n->rec.subvol ? &l->volumes[low] : NULL;
}

static bool is_named(const struct node_entry *n)
{
	return n->rec.state == NODE_LIVE || n->rec.state == NODE_SNAPSHOT;
}

/* Whether a row of it is asked for. */
static bool is_wanted(const struct listing *l, const struct node_entry *n)
{
	const struct volume_entry *v = volume_of(l, n);

	if (!is_named(n) || !v || !tenant_is_seen(l->moment.pool, n->rec.tenant))
		return false;
	if (!l->only)
		return true;
	if (strcmp(v->name, l->only->subvol))
		return false;
	return !l->only->snapshot || (n->rec.state == NODE_SNAPSHOT && !strcmp(n->name, l->only->snapshot));
}

/* ---- Trees ---- */

static int add_row(struct listing *l, const struct node_entry *n, const struct usage_node *u)
{
	const struct counters_rec *c = &l->counters[n - l->moment.nodes.v];
	const struct volume_entry *v = volume_of(l, n);

	if (array_grow((void **)&l->rows, l->nrows, &l->rows_room, sizeof(*l->rows)))
		return -ENOMEM;
	l->rows[l->nrows++] = (struct usage){
		.subvol = v->name,
		.snapshot = n->rec.state == NODE_SNAPSHOT ? n->name : NULL,
		.deleted = v->deleted,
		.tenant = v->tenant,
		.created_ns = n->rec.created_ns,
		.referenced = (uint64_t)(u->data + u->promised + c->meta),
		.data = (uint64_t)u->data,
		.promised = (uint64_t)u->promised,
		.meta = (uint64_t)c->meta,
		.stored = (uint64_t)u->stored,
		.exclusive = (uint64_t)u->exclusive,
		.saved_by_compression = (uint64_t)(u->data - u->footprint),
		.saved_by_sharing = (uint64_t)(u->footprint - u->stored),
	};
	return 0;
}

/* The index of a node's parent; UINT_MAX: it has none that is there. */
static unsigned parent_index(const struct listing *l, const struct node_entry *first, const struct node_entry *n)
{
	const struct node_entry *up = nodes_find(&l->moment.nodes, n->tree, n->rec.parent);

	return up ? (unsigned)(up - first) : UINT_MAX;
}

static int add_rows(struct listing *l, const struct node_entry *first, const struct usage_tree *t)
{
	int r = 0;

	for (unsigned i = 0; i < t->count && !r; i++) {
		const struct usage_node *u = &t->nodes[i];

		if (u->named) {
			l->sum.data += (uint64_t)u->data;
			l->sum.saved_by_compression += (uint64_t)(u->data - u->footprint);
			l->sum.saved_by_sharing += (uint64_t)u->footprint;
		}
		if (is_wanted(l, &first[i]))
			r = add_row(l, &first[i], u);
	}
	l->sum.held += (uint64_t)t->held;
	l->sum.leaving += (uint64_t)t->leaving;
	l->sum.saved_by_sharing -= (uint64_t)(t->held - t->leaving);
	return r;
}

static int count_tree(struct listing *l, const struct node_entry *first, unsigned count)
{
	cleanup_free struct usage_node *nodes = calloc(count, sizeof(*nodes));
	struct usage_tree t = { .m = &l->moment, .id = first->tree, .nodes = nodes, .count = count };
	int r = nodes ? sysrec_tree(l->moment.pool->db, first->tree, &t.inos) : -ENOMEM;

	if (r == -ENOENT)
		r = 0; /* deleted meanwhile; it is counted all the same */
	for (unsigned i = 0; i < count && !r; i++) {
		nodes[i] = (struct usage_node){ .id = first[i].id, .parent = parent_index(l, first, &first[i]), .named = is_named(&first[i]) };
		if (nodes[i].parent != UINT_MAX && nodes[i].parent >= i)
			r = -EBADMSG;
	}
	if (!r)
		r = usage_tree_count(&t, l->done, l->total);
	l->done += 2 * t.inos;
	return r ?: add_rows(l, first, &t);
}

/* The progress is that of trees which are looked at: what others have shows in nobody's. */
static int add_numbers(struct listing *l, const struct node_entry *first, unsigned count)
{
	uint64_t next = 0;
	int r = sysrec_tree(l->moment.pool->db, first->tree, &next);

	(void)count;
	l->total += 2 * next;
	return r == -ENOENT ? 0 : r; /* deleted meanwhile */
}

static int each_tree(struct listing *l, int (*fn)(struct listing *l, const struct node_entry *first, unsigned count))
{
	const struct nodes *all = &l->moment.nodes;
	int r = 0;

	for (size_t begin = 0, end; begin < all->count && !r; begin = end) {
		bool wanted = !l->only && !tenant_is_scoped();

		for (end = begin; end < all->count && all->v[end].tree == all->v[begin].tree; end++)
			wanted |= is_wanted(l, &all->v[end]);
		if (wanted)
			r = fn(l, &all->v[begin], (unsigned)(end - begin));
	}
	return r;
}

/* ---- ---- */

/* Under the lock for the names of tenants. */
static int load_volumes(struct listing *l)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&l->moment.pool->admin_lock);

	return sysrec_each_at(l->moment.pool->db, l->moment.at, REC_SUBVOL, add_volume, l);
}

static int load(struct listing *l)
{
	struct db *db = l->moment.pool->db;
	const struct db_snapshot *at = l->moment.at;
	int r = load_volumes(l);

	l->counters = calloc(l->moment.nodes.count + 1, sizeof(*l->counters));
	if (!l->counters)
		return -ENOMEM;
	if (!r)
		r = sysrec_each_at(db, at, REC_COUNTERS, add_counters, l);
	return r;
}

static int by_name(const void *a, const void *b)
{
	const struct usage *x = a, *y = b;
	const int order = strcmp(x->subvol, y->subvol);

	if (order)
		return order;
	if (!x->snapshot != !y->snapshot)
		return !x->snapshot - !y->snapshot;
	return (x->created_ns > y->created_ns) - (x->created_ns < y->created_ns);
}

static void listing_free(struct listing *l)
{
	free(l->volumes);
	free(l->counters);
	free(l->rows);
	moment_release(&l->moment);
}

static int count_all(struct listing *l, const struct refusal *ref)
{
	struct node_entry *node;
	int r = 0;

	if (l->only && l->only->snapshot)
		r = moment_find(&l->moment, l->only, &node, ref);
	if (r)
		return r;
	r = load(l) ?: each_tree(l, add_numbers) ?: each_tree(l, count_tree);
	if (r == -EBADMSG)
		return admin_refuse(ref, r, "records of chunk maps are damaged; fsck.nvfs shows which");
	if (r == -ENOMEM || r == -EIO)
		return admin_failed(ref, r);
	if (!r && l->only && !l->nrows)
		return admin_refuse(ref, -ENOENT, "there is no subvolume %s; nvfs subvolume list %s shows them", l->only->subvol,
				    l->moment.pool->label.name);
	return r;
}

int usage_count(struct pool *pool, const struct snapshot_name *only, const struct progress *progress,
		int (*fn)(void *arg, const struct usage *usage), void *arg, struct usage_total *total, char *why, size_t why_len)
{
	cleanup(listing_free) struct listing l = { .only = only };
	const struct refusal ref = { why, why_len };
	struct pool_stats stats;
	int r = moment_take(pool, NULL, 0, true, &l.moment, &ref);

	if (progress)
		l.moment.progress = *progress;
	if (!r)
		r = count_all(&l, &ref);
	if (r)
		return r;
	if (l.nrows)
		qsort(l.rows, l.nrows, sizeof(*l.rows), by_name);
	pool_stats(pool, &stats);
	l.sum.data_blocks = stats.data_blocks;
	l.sum.free_blocks = stats.free_blocks;
	if (total)
		*total = l.sum;
	for (size_t i = 0; i < l.nrows && !r; i++)
		r = fn(arg, &l.rows[i]);
	return r;
}
