/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What snapshots there are. */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/admin.h"
#include "meta/group.h"
#include "meta/snapshot.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

static void nodes_cleanup(struct nodes *nodes)
{
	nodes_free(nodes);
}

static int fill_info(struct pool *pool, const struct node_entry *n, struct snapshot_info *out)
{
	const struct pool_tenant *tenant = tenant_find(pool, n->rec.tenant);
	struct counters_rec counters;
	struct subvol_rec rec;
	char path[SNAPSHOT_PATH_MAX + 1];
	int r;

	memset(out, 0, sizeof(*out));
	r = sysrec_subvol(pool->db, n->rec.subvol, &rec, out->subvol);
	if (!r)
		r = sysrec_counters(pool->db, n->tree, n->id, &counters);
	if (r)
		return r == -ENOENT ? -EBADMSG : r;
	strcpy(out->name, n->name);
	snprintf(path, sizeof(path), "%s@%s", out->subvol, out->name);
	out->tree = n->tree;
	out->node = n->id;
	out->subvol_id = n->rec.subvol;
	out->tenant = n->rec.tenant;
	strcpy(out->tenant_name, tenant ? tenant->name : "");
	out->group = n->rec.group;
	out->view = n->rec.view;
	out->created_ns = n->rec.created_ns;
	out->size_blocks = n->rec.size_blocks;
	out->inodes_max = n->rec.inodes_max;
	out->used_blocks = (uint64_t)(counters.referenced + counters.meta);
	out->used_inodes = (uint64_t)counters.inodes;
	out->held_blocks = (uint64_t)(counters.born + counters.meta_born);
	out->children = n->children;
	out->deleted = rec.flags & SUBVOL_DELETING;
	out->open = subvol_find_open(pool, path) != NULL;
	return 0;
}

/* infos[i], zeroed before, stays so where there is none. admin_lock is held. */
static int fill_infos(struct pool *pool, const struct snapshot_name *names, unsigned n, struct snapshot_info *infos)
{
	cleanup(nodes_cleanup) struct nodes nodes = { 0 };
	cleanup_free struct node_entry **there = calloc(n + 1, sizeof(*there));
	int r = there ? group_load(pool, &nodes) : -ENOMEM;

	if (!r)
		r = group_find(pool, &nodes, names, n, there);
	for (unsigned i = 0; i < n && !r; i++)
		if (there[i] && tenant_is_seen(pool, there[i]->rec.tenant))
			r = fill_info(pool, there[i], &infos[i]);
	return r;
}

int snapshot_find(struct pool *pool, const struct snapshot_name *name, struct snapshot_info *out)
{
	int r;

	memset(out, 0, sizeof(*out));
	r = fill_infos(pool, name, 1, out);
	return r ? r : out->name[0] ? 0 : -ENOENT;
}

int snapshot_info(struct pool *pool, const struct snapshot_name *name, struct snapshot_info *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);

	return snapshot_find(pool, name, out);
}

int snapshot_infos(struct pool *pool, const struct snapshot_name *names, unsigned count, int (*fn)(const struct snapshot_info *info, void *arg),
		   void *arg)
{
	cleanup_free struct snapshot_info *infos = calloc(count + 1, sizeof(*infos));
	int r;

	pthread_mutex_lock(&pool->admin_lock);
	r = infos ? fill_infos(pool, names, count, infos) : -ENOMEM;
	pthread_mutex_unlock(&pool->admin_lock);
	for (unsigned i = 0; i < count && !r; i++)
		r = infos[i].name[0] ? fn(&infos[i], arg) : 0;
	return r;
}

/* All of them, under the lock; the caller's function runs without it. */
static int collect_infos(struct pool *pool, struct snapshot_info **out, size_t *count)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	cleanup(nodes_cleanup) struct nodes nodes = { 0 };
	int r = group_load(pool, &nodes);

	*count = 0;
	*out = r ? NULL : calloc(nodes.count ? nodes.count : 1, sizeof(**out));
	if (!*out)
		return r ? r : -ENOMEM;
	for (size_t i = 0; i < nodes.count && !r; i++)
		if (nodes.v[i].rec.state == NODE_SNAPSHOT && tenant_is_seen(pool, nodes.v[i].rec.tenant))
			r = fill_info(pool, &nodes.v[i], &(*out)[(*count)++]);
	return r;
}

static int by_subvol_and_age(const void *a, const void *b)
{
	const struct snapshot_info *x = a, *y = b;
	const int order = strcmp(x->subvol, y->subvol);

	return order ? order : (x->node > y->node) - (x->node < y->node);
}

int snapshot_each(struct pool *pool, const char *subvol, int (*fn)(const struct snapshot_info *info, void *arg), void *arg)
{
	struct snapshot_info *infos;
	size_t n;
	int r = collect_infos(pool, &infos, &n);

	if (!r)
		qsort(infos, n, sizeof(*infos), by_subvol_and_age);
	for (size_t i = 0; i < n && !r; i++)
		if (!subvol || !strcmp(infos[i].subvol, subvol))
			r = fn(&infos[i], arg);
	free(infos);
	return r;
}
