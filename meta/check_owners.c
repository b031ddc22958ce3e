/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a node is, and what is found by a name.
 *
 * A tree is of one tenant, because a clone is of its origin's: each subvolume and each node says which, and what a tenant uses is the sum over
 * nodes. The subvolume's record is the origin of what its nodes say.
 *
 * A subvolume, a tenant and a snapshot (by its subvolume's name and its own) is found by name alone. Of two with one name the second can be
 * neither used nor deleted, so it gets another: its own, and its number.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "meta/check_internal.h"
#include "meta/sysrec.h"

/* ---- repairs ---- */

/* Put a node's record with what the check has changed of it. */
static void put_node(struct check *c, const struct check_node *n)
{
	char name[NAME_BYTES_MAX + 1];
	struct node_rec rec;

	if (sysrec_node(c->db, n->tree, n->id, &rec, name))
		return;
	rec.tenant = n->tenant;
	rec.view = n->view;
	rec.name = n->name;
	rec.name_len = (uint8_t)strlen(n->name);
	sysrec_put_node(c->db, c->fixes, n->tree, n->id, &rec);
}

static void put_subvol(struct check *c, const struct check_subvol *s)
{
	char name[NAME_BYTES_MAX + 1];
	struct subvol_rec rec;

	if (sysrec_subvol(c->db, s->id, &rec, name))
		return;
	rec.tenant = s->tenant;
	rec.name = s->name;
	rec.name_len = (uint8_t)strlen(s->name);
	sysrec_put_subvol(c->db, c->fixes, s->id, &rec);
}

/* With its name's index. */
static void put_tenant(struct check *c, const struct check_tenant *t)
{
	uint8_t key[KEY_MAX];
	cleanup_db_value struct db_value value = { 0 };
	struct tenant_rec rec;

	if (db_get(c->db, DB_SYS, key, key_tenant(key, t->id), 0, &value) || tenant_rec_decode(value.data, value.len, &rec) < 0)
		return;
	rec.name = t->name;
	rec.name_len = (uint8_t)strlen(t->name);
	sysrec_put_tenant(c->db, c->fixes, t->id, &rec);
}

/* ---- tenants ---- */

/* The one that all nodes of a subvolume name, if it is there; else 0. */
static uint32_t tenant_of_nodes(struct check *c, const struct check_subvol *s)
{
	uint32_t tenant = 0;

	for (size_t i = 0; i < c->nodes.n; i++) {
		const struct check_node *n = &c->nodes.v[i];

		if (n->subvol != s->id)
			continue;
		if (tenant && n->tenant != tenant)
			return 0;
		tenant = n->tenant;
	}
	return tenant && check_tenant_find(c, tenant) ? tenant : 0;
}

/* One that was deleted may outlive its tenant, as long as no node of it has a name. */
static void check_subvol_tenant(struct check *c, struct check_subvol *s)
{
	uint32_t tenant;

	if (check_tenant_find(c, s->tenant))
		return;
	tenant = tenant_of_nodes(c, s);
	if (s->flags & SUBVOL_DELETING && !tenant)
		return;
	if (!check_found(c, tenant, "subvolume %s: its tenant %" PRIu32 " is not there", s->name, s->tenant))
		return;
	s->tenant = tenant;
	put_subvol(c, s);
}

static void check_node_tenant(struct check *c, struct check_node *n)
{
	const struct check_subvol *s = check_subvol_find(c, n->subvol);

	if (s && s->tenant != n->tenant &&
	    check_found(c, check_tenant_find(c, s->tenant), "tree %" PRIu32 " node %" PRIu32 ": its tenant is %" PRIu32 ", and that of subvolume %s %" PRIu32,
			n->tree, n->id, n->tenant, s->name, s->tenant)) {
		n->tenant = s->tenant;
		put_node(c, n);
	}
	/* What has no name may outlive its tenant; a live node's is its subvolume's. */
	if (n->state == NODE_SNAPSHOT && !check_tenant_find(c, n->tenant))
		check_found(c, false, "tree %" PRIu32 " node %" PRIu32 ": its tenant %" PRIu32 " is not there", n->tree, n->id, n->tenant);
}

static int by_tree(const void *a, const void *b)
{
	const struct check_subvol *x = *(struct check_subvol *const *)a, *y = *(struct check_subvol *const *)b;

	return x->tree != y->tree ? (x->tree > y->tree) - (x->tree < y->tree) : (x->id > y->id) - (x->id < y->id);
}

/* Which of them is right, nobody can tell. */
static void check_tree_tenant(struct check *c, struct check_subvol **subvols)
{
	const struct check_subvol *first = NULL;

	qsort(subvols, c->subvols.n, sizeof(*subvols), by_tree);
	for (size_t i = 0; i < c->subvols.n; i++) {
		const struct check_subvol *s = subvols[i];

		if (!first || first->tree != s->tree)
			first = s;
		else if (first->tenant != s->tenant)
			check_found(c, false, "subvolume %s: its tenant is %" PRIu32 ", and that of subvolume %s, with which it shares nodes, %" PRIu32,
				    s->name, s->tenant, first->name, first->tenant);
	}
}

/* ---- names that two have ---- */

/* Whose they are: what is to be known of a name to give another. */
struct named {
	char *name;     /* NAME_BYTES_MAX + 1 */
	const char *of; /* of a snapshot: its subvolume's; else "" */
	uint32_t tree, id;
	bool found;     /* by its name, as long as nobody else has it */
	void *is;
};

struct names {
	struct named *v;
	size_t n;
};

/* Who keeps the name comes first. */
static int by_name(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int order = strcmp(x->of, y->of);

	if (!order)
		order = strcmp(x->name, y->name);
	if (!order)
		order = y->found - x->found;
	if (!order)
		order = (x->tree > y->tree) - (x->tree < y->tree);
	return order ? order : (x->id > y->id) - (x->id < y->id);
}

static bool name_taken(const struct names *names, const char *of, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (!strcmp(names->v[i].of, of) && !strcmp(names->v[i].name, name))
			return true;
	return false;
}

/* NAME.ID, with a number behind where that is taken. */
static void free_name(const struct names *names, const struct named *of, char *out)
{
	char suffix[32];
	int len = snprintf(suffix, sizeof(suffix), ".%" PRIu32, of->id);

	for (unsigned i = 2;; i++) {
		snprintf(out, NAME_BYTES_MAX + 1, "%.*s%s", NAME_BYTES_MAX - len, of->name, suffix);
		if (!name_taken(names, of->of, out))
			return;
		len = snprintf(suffix, sizeof(suffix), ".%" PRIu32 ".%u", of->id, i);
	}
}

/* put() is called for each that got a new name. */
static void check_doubles(struct check *c, struct names *names, const char *what, void (*put)(struct check *c, void *is))
{
	char name[NAME_BYTES_MAX + 1];

	if (names->n)
		qsort(names->v, names->n, sizeof(*names->v), by_name);
	for (size_t first = 0, i = 1; i < names->n; i++) {
		const struct named *n = &names->v[i], *f = &names->v[first];

		if (strcmp(n->of, f->of) || strcmp(n->name, f->name)) {
			first = i;
			continue;
		}
		free_name(names, n, name);
		if (!check_found(c, true, "%s %" PRIu32 " has the name of %s %" PRIu32 ", %s%s%s; it needs one of its own, %s", what, n->id, what,
				 f->id, n->of, *n->of ? "@" : "", n->name, name))
			continue;
		memcpy(n->name, name, sizeof(name));
		put(c, n->is);
	}
}

static void rename_subvol(struct check *c, void *is)
{
	struct check_subvol *s = is;

	put_subvol(c, s);
	check_put_name(c, REC_SUBVOL_NAME, s->name, s->id);
	s->indexed = true;
}

static void rename_tenant(struct check *c, void *is)
{
	struct check_tenant *t = is;

	put_tenant(c, t);
	t->indexed = true;
}

static void rename_snapshot(struct check *c, void *is)
{
	put_node(c, is);
}

/* Of deleted ones the name is free for others. */
static void check_subvol_names(struct check *c, struct names *names)
{
	names->n = 0;
	for (size_t i = 0; i < c->subvols.n; i++) {
		struct check_subvol *s = &c->subvols.v[i];

		if (s->node && !(s->flags & SUBVOL_DELETING))
			names->v[names->n++] = (struct named){ .name = s->name, .of = "", .id = s->id, .found = s->indexed, .is = s };
	}
	check_doubles(c, names, "subvolume", rename_subvol);
}

static void check_tenant_names(struct check *c, struct names *names)
{
	names->n = 0;
	for (size_t i = 0; i < c->tenants.n; i++) {
		struct check_tenant *t = &c->tenants.v[i];

		names->v[names->n++] = (struct named){ .name = t->name, .of = "", .id = t->id, .found = t->indexed, .is = t };
	}
	check_doubles(c, names, "tenant", rename_tenant);
}

/* VOL@SNAP, also where one VOL was deleted and another has its name now. */
static void check_snapshot_names(struct check *c, struct names *names)
{
	names->n = 0;
	for (size_t i = 0; i < c->nodes.n; i++) {
		struct check_node *n = &c->nodes.v[i];
		const struct check_subvol *s = n->state == NODE_SNAPSHOT ? check_subvol_find(c, n->subvol) : NULL;

		if (s)
			names->v[names->n++] = (struct named){ .name = n->name, .of = s->name, .tree = n->tree, .id = n->id, .is = n };
	}
	check_doubles(c, names, "the snapshot of node", rename_snapshot);
}

/* ---- numbers that two have ---- */

static int by_view(const void *a, const void *b)
{
	const struct check_node *x = *(struct check_node *const *)a, *y = *(struct check_node *const *)b;

	if (x->subvol != y->subvol)
		return (x->subvol > y->subvol) - (x->subvol < y->subvol);
	if (x->view != y->view)
		return (x->view > y->view) - (x->view < y->view);
	return (x->id > y->id) - (x->id < y->id);
}

/* One above all that a subvolume's snapshots have; 0 when there is none. */
static uint16_t free_view(const struct check *c, uint32_t subvol)
{
	unsigned last = 0;

	for (size_t i = 0; i < c->nodes.n; i++)
		if (c->nodes.v[i].subvol == subvol && c->nodes.v[i].view > last)
			last = c->nodes.v[i].view;
	return last + 1 < UINT16_MAX ? (uint16_t)(last + 1) : 0;
}

/* 0 is nobody's: below .snapshots such a one gets what is free there. */
static void check_views(struct check *c, struct check_node **nodes)
{
	const struct check_node *first = NULL;

	qsort(nodes, c->nodes.n, sizeof(*nodes), by_view);
	for (size_t i = 0; i < c->nodes.n; i++) {
		struct check_node *n = nodes[i];

		if (!first || !n->view || n->subvol != first->subvol || n->view != first->view) {
			first = n;
		} else if (check_found(c, true, "tree %" PRIu32 " node %" PRIu32 ": its number below .snapshots, %u, is that of node %" PRIu32,
				       n->tree, n->id, n->view, first->id)) {
			n->view = free_view(c, n->subvol);
			put_node(c, n);
		}
	}
}

static int by_id(const void *a, const void *b)
{
	const struct check_node *x = *(struct check_node *const *)a, *y = *(struct check_node *const *)b;

	return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : (x->tree > y->tree) - (x->tree < y->tree);
}

static void check_node_ids(struct check *c, struct check_node **nodes)
{
	qsort(nodes, c->nodes.n, sizeof(*nodes), by_id);
	for (size_t i = 1; i < c->nodes.n; i++)
		if (nodes[i]->id == nodes[i - 1]->id)
			check_found(c, false, "node %" PRIu32 " is in trees %" PRIu32 " and %" PRIu32, nodes[i]->id, nodes[i - 1]->tree,
				    nodes[i]->tree);
}

/* ---- all of it ---- */

static void check_names(struct check *c, struct names *names)
{
	check_subvol_names(c, names);
	check_tenant_names(c, names);
	check_snapshot_names(c, names);
}

int check_owners(struct check *c)
{
	const size_t most = c->nodes.n + c->subvols.n + c->tenants.n + 1;
	cleanup_free struct named *named = calloc(most, sizeof(*named));
	cleanup_free struct check_subvol **subvols = calloc(c->subvols.n + 1, sizeof(*subvols));
	cleanup_free struct check_node **nodes = calloc(c->nodes.n + 1, sizeof(*nodes));

	if (!named || !subvols || !nodes)
		return -ENOMEM;
	for (size_t i = 0; i < c->subvols.n; i++) {
		subvols[i] = &c->subvols.v[i];
		check_subvol_tenant(c, subvols[i]);
	}
	for (size_t i = 0; i < c->nodes.n; i++) {
		nodes[i] = &c->nodes.v[i];
		check_node_tenant(c, nodes[i]);
	}
	check_tree_tenant(c, subvols);
	check_names(c, &(struct names){ .v = named });
	check_views(c, nodes);
	check_node_ids(c, nodes);
	return 0;
}
