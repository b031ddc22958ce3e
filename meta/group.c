/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A group may have a thousand names, and the pool ten thousand nodes: what is asked is sorted, and each node is looked up in that. The other way
 * round each name would cost a walk over all nodes, under the lock of administration.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/group.h"
#include "meta/pool_internal.h"
#include "meta/sysrec.h"

#define VIEW_LAST (UINT16_MAX - 1u)

int group_load(struct pool *pool, struct nodes *out)
{
	const int r = nodes_load(pool->db, out);

	atomic_fetch_add_explicit(&pool->nodes_visited, out->count, memory_order_relaxed);
	return r;
}

/* All walks go through here, so that tests can count. */
static struct node_entry *next_node(struct pool *pool, struct nodes *nodes, size_t *i)
{
	if (*i == nodes->count)
		return NULL;
	atomic_fetch_add_explicit(&pool->nodes_visited, 1, memory_order_relaxed);
	return &nodes->v[(*i)++];
}

/* ---- names ---- */

struct wanted {
	const char *snapshot, *subvol;
	struct node_entry **out;
};

static int by_snapshot(const void *a, const void *b)
{
	return strcmp(((const struct wanted *)a)->snapshot, ((const struct wanted *)b)->snapshot);
}

static int by_both(const void *a, const void *b)
{
	const int order = by_snapshot(a, b);

	return order ? order : strcmp(((const struct wanted *)a)->subvol, ((const struct wanted *)b)->subvol);
}

/* A snapshot of one of the names: of a subvolume that somebody asks for? */
static int match(struct pool *pool, struct wanted *all, unsigned n, struct node_entry *node)
{
	char subvol[SUBVOL_NAME_MAX + 1];
	const struct wanted key = { .snapshot = node->name, .subvol = subvol };
	struct subvol_rec rec;
	struct wanted *w;
	int r;

	if (!bsearch(&key, all, n, sizeof(*all), by_snapshot))
		return 0;
	r = sysrec_subvol(pool->db, node->rec.subvol, &rec, subvol);
	if (r)
		return r == -ENOENT ? -EBADMSG : r;
	w = bsearch(&key, all, n, sizeof(*all), by_both);
	if (!w)
		return 0;
	while (w > all && !by_both(w - 1, &key))
		w--;
	for (; w < all + n && !by_both(w, &key); w++)
		*w->out = *w->out ? *w->out : node;
	return 0;
}

int group_find(struct pool *pool, struct nodes *nodes, const struct snapshot_name *names, unsigned n, struct node_entry **out)
{
	cleanup_free struct wanted *all = calloc(n ? n : 1, sizeof(*all));
	struct node_entry *node;
	int r = all ? 0 : -ENOMEM;

	for (unsigned i = 0; i < n && !r; i++) {
		out[i] = NULL;
		all[i] = (struct wanted){ names[i].snapshot, names[i].subvol, &out[i] };
	}
	if (!r)
		qsort(all, n, sizeof(*all), by_both);
	for (size_t i = 0; !r && (node = next_node(pool, nodes, &i));)
		if (node->rec.state == NODE_SNAPSHOT)
			r = match(pool, all, n, node);
	return r;
}

/* ---- numbers below .snapshots ---- */

struct numbered {
	uint32_t subvol;
	uint16_t *view;
};

static int by_subvol(const void *a, const void *b)
{
	const struct numbered *x = a, *y = b;

	return (x->subvol > y->subvol) - (x->subvol < y->subvol);
}

static struct numbered *find_numbered(struct numbered *all, unsigned n, uint32_t subvol)
{
	const struct numbered key = { .subvol = subvol };

	return bsearch(&key, all, n, sizeof(*all), by_subvol);
}

/* A number that is taken, with whose it is above it. */
static int by_number(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Those that have the last number: the first gap among what is taken. */
static int fill_gaps(struct pool *pool, struct nodes *nodes, struct numbered *all, unsigned n)
{
	cleanup_free uint64_t *taken = calloc(nodes->count + 1, sizeof(*taken));
	const struct node_entry *node;
	size_t count = 0;

	if (!taken)
		return -ENOMEM;
	for (size_t i = 0; (node = next_node(pool, nodes, &i));) {
		const struct numbered *w = find_numbered(all, n, node->rec.subvol);

		if (w && *w->view == VIEW_LAST && node->rec.view)
			taken[count++] = (uint64_t)(w - all) << 16 | node->rec.view;
	}
	qsort(taken, count, sizeof(*taken), by_number);
	for (size_t i = 0; i < count;) {
		struct numbered *w = &all[taken[i] >> 16];
		const uint64_t of = taken[i] >> 16;
		unsigned view = 1;

		for (; i < count && taken[i] >> 16 == of; i++)
			view += (taken[i] & UINT16_MAX) == view;
		*w->view = view <= VIEW_LAST ? (uint16_t)(view - 1) : UINT16_MAX;
	}
	return 0;
}

int group_views(struct pool *pool, struct nodes *nodes, const uint32_t *subvols, unsigned n, uint16_t *views)
{
	cleanup_free struct numbered *all = calloc(n ? n : 1, sizeof(*all));
	const struct node_entry *node;
	bool full = false;
	int r = 0;

	if (!all)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		views[i] = 0;
		all[i] = (struct numbered){ subvols[i], &views[i] };
	}
	qsort(all, n, sizeof(*all), by_subvol);
	for (size_t i = 0; (node = next_node(pool, nodes, &i));) {
		const struct numbered *w = find_numbered(all, n, node->rec.subvol);

		if (w && node->rec.view > *w->view)
			*w->view = node->rec.view < VIEW_LAST ? node->rec.view : VIEW_LAST;
		full |= w && *w->view == VIEW_LAST;
	}
	if (full)
		r = fill_gaps(pool, nodes, all, n);
	for (unsigned i = 0; i < n; i++)
		views[i]++; /* what is above the last one, or fills a gap; all taken: 0 */
	return r;
}
