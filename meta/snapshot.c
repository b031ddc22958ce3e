/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots, clones and rollback are changes of the tree of nodes: one batch of a few records, whatever the nodes hold.
 *
 * The *switch*: the live node becomes a snapshot (or, for a clone of a volume, a node without a name), and the subvolume goes on in a new
 * child of it. An open subvolume is frozen for that: RocksDB then has all that was accepted, nothing more is, and its reactor
 * learns of the new node before the gate opens.
 *
 * What a reserved subvolume has was within its claim; a snapshot takes it out of there, since all of it may be written again.
 * So it needs room beside the claims. A thin one had no claim, and nothing changes.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/admin.h"
#include "meta/data.h"
#include "meta/group.h"
#include "meta/nodes.h"
#include "meta/op_internal.h"
#include "meta/snapshot.h"
#include "meta/sweep.h"
#include "meta/sysrec.h"
#include "meta/tenant.h"

/* ---- Names ---- */

static int check_snapshot_name(const char *name, const struct refusal *ref)
{
	if (!object_name_validate(name, strlen(name)))
		return 0;
	return admin_refuse(ref, -EINVAL,
			    "\"%.80s\" cannot name a snapshot: 1 to 255 of letters, digits, '.', '_' and '-', not starting with '.' or "
			    "'-'", name);
}

/* What there must be: its node, and the nodes of the pool. */
struct source {
	struct nodes nodes;
	struct node_entry *node;
	struct subvol_rec subvol; /* its name is the next field */
	char subvol_name[SUBVOL_NAME_MAX + 1];
	char path[SNAPSHOT_PATH_MAX + 1]; /* VOL@SNAP */
};

static void source_cleanup(struct source *s)
{
	nodes_free(&s->nodes);
}

static int source_find(struct pool *pool, const struct snapshot_name *name, struct source *s, const struct refusal *ref)
{
	int r = group_load(pool, &s->nodes);

	if (!r)
		r = group_find(pool, &s->nodes, name, 1, &s->node);
	if (!r && s->node)
		r = sysrec_subvol(pool->db, s->node->rec.subvol, &s->subvol, s->subvol_name);
	if (!r && (!s->node || !tenant_is_seen(pool, s->node->rec.tenant)))
		return admin_refuse(ref, -ENOENT, "there is no snapshot %s@%s; nvfs snapshot list %s shows them", name->subvol,
				    name->snapshot, pool->label.name);
	if (r)
		return admin_failed(ref, r);
	snprintf(s->path, sizeof(s->path), "%s@%s", name->subvol, name->snapshot);
	return 0;
}

static int writable(const struct pool *pool, const struct refusal *ref)
{
	return pool->options.read_only ? admin_failed(ref, -EROFS) : 0;
}

/* What is written to what a snapshot holds gets maps of its own. */
static int check_meta_room(struct pool *pool, const struct refusal *ref)
{
	if (pool_may_grow(pool, META_ROOM_SNAPSHOT))
		return 0;
	return admin_refuse(ref, -ENOSPC, "the pool's room for metadata is used up; delete snapshots or files, and what they took comes back in "
			    "the background");
}

/* ---- The switch ---- */

/* One more of them, and all of it may still be opened. */
static int check_line(const struct nodes *nodes, const struct found *f, const struct refusal *ref)
{
	const struct node_entry *live = nodes_find(nodes, f->rec.tree, f->rec.node);

	if (!live)
		return admin_failed(ref, -EBADMSG);
	if (live->depth < SNAPSHOT_LINE_MAX)
		return 0;
	return admin_refuse(ref, -EMLINK,
			    "subvolume %s has %u snapshots behind it, those of its origins included, and %u are the most; delete some that "
			    "nobody needs: what is deleted leaves the line in the background", f->name, live->depth, SNAPSHOT_LINE_MAX);
}

struct switching {
	struct found f;
	const char *name;        /* of the snapshot; NULL: the node stays without one */
	struct node_rec rec;     /* of the live node, to be changed */
	char rec_name[SUBVOL_NAME_MAX + 1];
	uint16_t view;           /* of the snapshot */
	uint32_t node;           /* the new live one */
	uint32_t *ancestors;     /* of an open one */
	uint64_t next_ino;
	bool frozen;
};

static int freeze_on_reactor(struct op *op, void *arg)
{
	return subvol_freeze(op, arg);
}

static int thaw_on_reactor(struct op *op, void *arg)
{
	(void)arg;
	subvol_thaw(op->sv);
	return 0;
}

static int sync_on_reactor(struct op *op, void *arg)
{
	(void)arg;
	return data_sync_all(op);
}

static int switch_on_reactor(struct op *op, void *arg)
{
	struct switching *s = arg;

	subvol_switch(op->sv, s->node, s->next_ino, s->ancestors);
	s->ancestors = NULL;
	subvol_thaw(op->sv);
	return 0;
}

static int new_ancestors(struct switching *s)
{
	const struct subvol *sv = s->f.open;

	s->ancestors = malloc((sv->ancestor_count + 1) * sizeof(*s->ancestors));
	if (!s->ancestors)
		return -ENOMEM;
	s->ancestors[0] = s->node;
	memcpy(s->ancestors + 1, sv->ancestors, sv->ancestor_count * sizeof(*s->ancestors));
	return 0;
}

static int freeze_one(struct switching *s, const struct refusal *ref)
{
	int r;

	s->frozen = true; /* the gate is closed, whatever the answer is */
	r = subvol_call(s->f.open, freeze_on_reactor, &s->next_ino);
	return r ? admin_refuse(ref, r, "subvolume %s cannot be written back, and a snapshot has what is dirty: %s; see nvfsd's log",
				s->f.name, strerror(-r)) :
		   0;
}

/* Most of what is dirty goes before anybody has to wait. What fails now fails again, and then is told. */
static int freeze_all(struct switching *s, unsigned count, const struct refusal *ref)
{
	int r = 0;

	for (unsigned i = 0; i < count; i++)
		if (s[i].f.open && !s[i].f.open->read_only)
			subvol_call(s[i].f.open, sync_on_reactor, NULL);
	for (unsigned i = 0; i < count && !r; i++)
		if (s[i].f.open)
			r = freeze_one(&s[i], ref);
	return r;
}

static void thaw_all(struct switching *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (s[i].frozen)
			subvol_call(s[i].f.open, thaw_on_reactor, NULL);
		s[i].frozen = false;
	}
}

/* What becomes loose when the node of a subvolume leaves its claim; below 0 when it had none: what its records cost, which a snapshot is not charged. */
static int64_t becomes_loose(const struct found *f, const struct counters_rec *counters)
{
	return f->rec.flags & SUBVOL_RESERVED ? counters->born : -counters->meta_born;
}

static int refuse_loose(struct pool *pool, int64_t blocks, const char *of, const char *what, const struct refusal *ref)
{
	char want[ADMIN_SIZE_TEXT], left[ADMIN_SIZE_TEXT];
	struct pool_stats stats;

	if (tenant_is_scoped())
		return admin_refuse(ref, -ENOSPC, "%s: the pool has no room for %s of %s beside its claim; delete snapshots, or make the subvolume "
				    "smaller or thin", what, admin_size((uint64_t)blocks, want), of);
	pool_stats(pool, &stats);
	return admin_refuse(ref, -ENOSPC,
			    "%s: %s of %s would be held beside its claim, and the pool has room for %s; delete snapshots or subvolumes, shrink "
			    "claims, or make the subvolume thin", what, admin_size((uint64_t)blocks, want), of,
			    admin_size(stats.unclaimed_blocks, left));
}

/* What is to be taken, and what is given back once the batch is written. */
struct room {
	int64_t loose, claim, back;
};

static void room_add(struct room *room, int64_t loose)
{
	*(loose > 0 ? &room->loose : &room->back) += loose;
}

/* The last thing before the batch is written: nothing else refuses the request after it. */
static int take_room(struct pool *pool, const struct room *room, const char *of, const char *what, const struct refusal *ref)
{
	if (admin_take(pool, room->loose, room->claim))
		return 0;
	if (room->claim && !pool_has_loose(pool, room->claim))
		return admin_refuse_claim(pool, room->claim, ref);
	return refuse_loose(pool, room->loose, of, what, ref);
}

/* After the batch. */
static void settle_room(struct pool *pool, const struct room *room, bool written)
{
	if (written)
		pool_count_promised(pool, room->back, 0);
	else
		pool_count_promised(pool, -room->loose, -room->claim);
}

/* The counters, now that nothing changes them any more. */
static int count(struct pool *pool, struct switching *s, struct room *room, const struct refusal *ref)
{
	int r = sysrec_counters(pool->db, s->f.rec.tree, s->f.rec.node, &s->f.counters);

	if (!r)
		r = sysrec_node(pool->db, s->f.rec.tree, s->f.rec.node, &s->rec, s->rec_name);
	if (!r && !s->next_ino)
		r = sysrec_tree(pool->db, s->f.rec.tree, &s->next_ino);
	if (r)
		return admin_failed(ref, r == -ENOENT ? -EBADMSG : r);
	room_add(room, becomes_loose(&s->f, &s->f.counters));
	return 0;
}

static void put_live(struct pool *pool, struct db_batch *batch, uint32_t tree, uint32_t node, const struct node_rec *rec,
		     const struct counters_rec *of)
{
	const struct counters_rec counters = { .referenced = of->referenced, .meta = of->meta, .inodes = of->inodes };

	sysrec_put_node(pool->db, batch, tree, node, rec);
	sysrec_add_counters(pool->db, batch, tree, node, &counters);
}

static void put_switch(struct pool *pool, struct db_batch *batch, struct switching *s, uint32_t group, int64_t now_ns)
{
	const uint32_t old = s->f.rec.node;
	struct node_rec rec = s->rec;
	const struct node_rec live = {
		.state = NODE_LIVE,
		.parent = old,
		.subvol = s->f.id,
		.tenant = s->f.rec.tenant,
		.created_ns = now_ns,
		.first_ino = s->next_ino,
		.size_blocks = s->f.rec.size_blocks,
		.inodes_max = s->f.rec.inodes_max,
	};

	rec.state = s->name ? NODE_SNAPSHOT : NODE_INTERIOR;
	rec.created_ns = now_ns;
	rec.size_blocks = s->f.rec.size_blocks;
	rec.inodes_max = s->f.rec.inodes_max;
	rec.group = group;
	if (s->name) {
		rec.name = s->name;
		rec.name_len = (uint8_t)strlen(s->name);
		rec.view = s->view;
	}
	sysrec_put_node(pool->db, batch, s->f.rec.tree, old, &rec);
	put_live(pool, batch, s->f.rec.tree, s->node, &live, &s->f.counters);
	s->f.rec.node = s->node;
	sysrec_put_subvol(pool->db, batch, s->f.id, &s->f.rec);
}

/* The batch is written: those that are open go on in their new nodes. */
static void switch_all(struct switching *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (s[i].frozen)
			subvol_call(s[i].f.open, switch_on_reactor, &s[i]);
		s[i].frozen = false;
	}
}

static void switching_end(struct switching *s, unsigned count)
{
	thaw_all(s, count);
	for (unsigned i = 0; i < count; i++)
		free(s[i].ancestors);
	free(s);
}

/* A batch of administration, in RocksDB; who writes after it comes after it. The commit is waited for later. */
static int write_batch(struct pool *pool, const struct pool_rec *rec, struct db_batch *batch)
{
	sysrec_put_pool(pool->db, batch, rec);
	return db_write(pool->db, batch, 0);
}

/* ---- create ---- */

/* A snapshot of each of different subvolumes, at one moment. */
struct group {
	const struct snapshot_name *names;
	unsigned n;
	struct nodes nodes;
	struct switching *s;
	struct node_entry **there; /* that have the names already */
	uint32_t *ids;             /* of the subvolumes, or of tenants: what has to be sorted */
	uint16_t *views;
};

static void group_cleanup(struct group *g)
{
	nodes_free(&g->nodes);
	free(g->there);
	free(g->ids);
	free(g->views);
}

static int group_alloc(struct group *g)
{
	g->s = calloc(g->n + 1, sizeof(*g->s));
	g->there = calloc(g->n + 1, sizeof(*g->there));
	g->ids = calloc(g->n + 1, sizeof(*g->ids));
	g->views = calloc(g->n + 1, sizeof(*g->views));
	return g->s && g->there && g->ids && g->views ? 0 : -ENOMEM;
}

static int by_id(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* One of each subvolume. */
static int check_different(struct group *g, const struct refusal *ref)
{
	char name[SUBVOL_NAME_MAX + 1] = "";

	for (unsigned i = 0; i < g->n; i++)
		g->ids[i] = g->s[i].f.id;
	qsort(g->ids, g->n, sizeof(*g->ids), by_id);
	for (unsigned i = 1; i < g->n && !name[0]; i++)
		for (unsigned j = 0; g->ids[i] == g->ids[i - 1] && j < g->n; j++)
			if (g->s[j].f.id == g->ids[i])
				strcpy(name, g->s[j].f.name);
	return name[0] ? admin_refuse(ref, -EINVAL, "a group has one snapshot of a subvolume, and %s is there twice", name) : 0;
}

/* Each tenant of the group has its limit. */
static int check_tenants(struct pool *pool, struct group *g, const struct refusal *ref)
{
	int r = 0;

	for (unsigned i = 0; i < g->n; i++)
		g->ids[i] = g->s[i].f.rec.tenant;
	qsort(g->ids, g->n, sizeof(*g->ids), by_id);
	for (unsigned i = 0, same; i < g->n && !r; i += same) {
		const struct pool_tenant *t = tenant_find(pool, g->ids[i]);

		for (same = 1; i + same < g->n && g->ids[i + same] == g->ids[i]; same++)
			;
		r = t ? tenant_may_snapshot(t, same, ref) : 0;
	}
	return r;
}

static int find_subvols(struct pool *pool, struct group *g, const struct refusal *ref)
{
	int r = 0;

	for (unsigned i = 0; i < g->n && !r; i++) {
		r = check_snapshot_name(g->names[i].snapshot, ref);
		if (!r)
			r = admin_find(pool, g->names[i].subvol, &g->s[i].f, ref);
		g->s[i].name = g->names[i].snapshot;
	}
	return r;
}

/* What the other nodes say to it: names that are taken, long lines, numbers that are free. */
static int check_nodes(struct pool *pool, struct group *g, const struct refusal *ref)
{
	int r = group_find(pool, &g->nodes, g->names, g->n, g->there);

	if (r)
		return admin_failed(ref, r);
	for (unsigned i = 0; i < g->n && !r; i++) {
		g->ids[i] = g->s[i].f.id;
		/* One of another's subvolume that was deleted, and whose name is free, keeps its own. */
		if (g->there[i] && !tenant_is_seen(pool, g->there[i]->rec.tenant))
			return admin_refuse(ref, -EEXIST, "the name %s@%s is taken; take another one", g->names[i].subvol,
					    g->names[i].snapshot);
		if (g->there[i])
			return admin_refuse(ref, -EEXIST, "there is a snapshot %s@%s already; take another name, or delete that one",
					    g->names[i].subvol, g->names[i].snapshot);
		r = check_line(&g->nodes, &g->s[i].f, ref);
	}
	if (r)
		return r;
	r = group_views(pool, &g->nodes, g->ids, g->n, g->views);
	for (unsigned i = 0; i < g->n; i++)
		g->s[i].view = g->views[i];
	return r ? admin_failed(ref, r) : 0;
}

static int check_group(struct pool *pool, struct group *g, const struct refusal *ref)
{
	int r = find_subvols(pool, g, ref);

	if (!r)
		r = check_different(g, ref);
	if (!r)
		r = check_nodes(pool, g, ref);
	return r ? r : check_tenants(pool, g, ref);
}

/* check_tenants() has left their numbers. */
static void count_for_tenants(struct pool *pool, const struct group *g)
{
	for (unsigned i = 0, same; i < g->n; i += same) {
		for (same = 1; i + same < g->n && g->ids[i + same] == g->ids[i]; same++)
			;
		tenant_count_snapshots(tenant_find(pool, g->ids[i]), same);
	}
}

static const char *name_all(const struct switching *s, unsigned n, char *buf, size_t len)
{
	if (n == 1)
		snprintf(buf, len, "subvolume %s", s->f.name);
	else
		snprintf(buf, len, "these %u subvolumes", n);
	return buf;
}

static int write_snapshots(struct pool *pool, struct switching *s, unsigned n, const struct refusal *ref)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool_rec pr = pool->rec;
	struct room room = { 0 };
	struct rec_time now;
	const int64_t now_ns = admin_now_ns(&now);
	char of[SUBVOL_NAME_MAX + 32];
	int r = batch ? 0 : -ENOMEM;

	for (unsigned i = 0; i < n && !r; i++) {
		s[i].node = pr.next_node++;
		r = s[i].f.open ? new_ancestors(&s[i]) : 0;
	}
	if (r)
		return admin_failed(ref, r);
	r = freeze_all(s, n, ref);
	for (unsigned i = 0; i < n && !r; i++)
		r = count(pool, &s[i], &room, ref);
	for (unsigned i = 0; i < n && !r; i++)
		put_switch(pool, batch, &s[i], n > 1 ? s[0].node : 0, now_ns);
	if (!r)
		r = take_room(pool, &room, name_all(s, n, of, sizeof(of)), "no snapshot", ref);
	if (r)
		return r;
	r = write_batch(pool, &pr, batch);
	settle_room(pool, &room, !r);
	if (r)
		return admin_failed(ref, r);
	pool->rec = pr;
	switch_all(s, n);
	r = pool_commit_wait(pool);
	return r ? admin_failed(ref, r) : 0;
}

int snapshot_create(struct pool *pool, const struct snapshot_name *names, unsigned n, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	cleanup(group_cleanup) struct group g = { .names = names, .n = n };
	const struct refusal ref = { why, why_len };
	int r = writable(pool, &ref);

	if (!r && n > SNAPSHOT_GROUP_MAX)
		r = admin_refuse(&ref, -EINVAL, "a group has at most %u snapshots, and these are %u; make several groups", SNAPSHOT_GROUP_MAX, n);
	if (!r)
		r = check_meta_room(pool, &ref);
	if (r)
		return r;
	r = group_alloc(&g) ?: group_load(pool, &g.nodes);
	if (r) {
		free(g.s);
		return admin_failed(&ref, r);
	}
	r = check_group(pool, &g, &ref);
	if (!r)
		r = write_snapshots(pool, g.s, n, &ref);
	if (!r)
		count_for_tenants(pool, &g);
	switching_end(g.s, n);
	return r;
}

/* ---- delete ---- */

/* Somebody entered it below .snapshots after whoever deletes it closed its views. */
static bool is_viewed(const struct pool *pool, const struct node_entry *n)
{
	const struct subvol *sv = pool->open_head;

	while (sv && !(sv->view && sv->tree == n->tree && sv->node == n->id))
		sv = sv->open_next;
	return sv;
}

int snapshot_delete(struct pool *pool, const struct snapshot_name *name, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	cleanup(source_cleanup) struct source s = { 0 };
	const struct refusal ref = { why, why_len };
	struct counters_rec counters;
	struct node_rec rec;
	int r = writable(pool, &ref);

	if (!r)
		r = source_find(pool, name, &s, &ref);
	if (r)
		return r;
	if (subvol_find_open(pool, s.path))
		return admin_refuse(&ref, -EBUSY, "snapshot %s is mounted: unmount it first", s.path);
	if (is_viewed(pool, s.node))
		return admin_refuse(&ref, -EBUSY, "snapshot %s is being entered below .snapshots: try again", s.path);
	r = batch ? sysrec_counters(pool->db, s.node->tree, s.node->id, &counters) : -ENOMEM;
	if (r)
		return admin_failed(&ref, r);
	rec = s.node->rec;
	rec.state = NODE_SWEEP;
	rec.sweep_family = SWEEP_NONE;
	rec.sweep_ino = rec.sweep_position = 0;
	rec.name_len = 0;
	rec.view = 0;
	sysrec_put_node(pool->db, batch, s.node->tree, s.node->id, &rec);
	r = db_write(pool->db, batch, 0);
	if (!r)
		r = pool_commit_wait(pool);
	if (r)
		return admin_failed(&ref, r);
	tenant_count_snapshots(tenant_find(pool, rec.tenant), -1);
	/* With children the sweep gives back what becomes nobody's. */
	if (!s.node->children)
		tenant_force(tenant_find(pool, rec.tenant), -(counters.born + counters.meta_born), -counters.inodes_born);
	sweeper_kick(pool->sweeper);
	return 0;
}

/* ---- rollback ---- */

/* What is visible in a snapshot has to fit the limits that the subvolume has, or will have. */
static int check_fits(const struct source *s, const struct counters_rec *c, uint64_t size_blocks, uint64_t inodes_max,
		      const struct refusal *ref)
{
	const uint64_t blocks = (uint64_t)(c->referenced + c->meta), inodes = (uint64_t)c->inodes;
	char need[ADMIN_SIZE_TEXT], have[ADMIN_SIZE_TEXT];

	if (blocks <= size_blocks && inodes <= inodes_max)
		return 0;
	return admin_refuse(ref, -ENOSPC, "%s has %s and %" PRIu64 " inodes, and %s and %" PRIu64 " inodes are not enough for that",
			    s->path, admin_size(blocks, need), inodes, admin_size(size_blocks, have), inodes_max);
}

static struct node_rec child_of(const struct source *s, uint32_t subvol, uint64_t first_ino, const struct subvol_rec *rec)
{
	return (struct node_rec){
		.state = NODE_LIVE,
		.parent = s->node->id,
		.subvol = subvol,
		.tenant = s->node->rec.tenant,
		.created_ns = rec->created_ns,
		.first_ino = first_ino,
		.size_blocks = rec->size_blocks,
		.inodes_max = rec->inodes_max,
	};
}

static int write_rollback(struct pool *pool, struct found *f, const struct source *s, const struct counters_rec *counters)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool_rec pr = pool->rec;
	char name[SUBVOL_NAME_MAX + 1];
	struct node_rec old, live;
	uint64_t next_ino;
	int r = batch ? sysrec_node(pool->db, f->rec.tree, f->rec.node, &old, name) : -ENOMEM;

	if (!r)
		r = sysrec_tree(pool->db, f->rec.tree, &next_ino);
	if (r)
		return r;
	old.state = NODE_SWEEP;
	old.sweep_family = SWEEP_NONE;
	sysrec_put_node(pool->db, batch, f->rec.tree, f->rec.node, &old);
	f->rec.node = f->rec.incarnation = pr.next_node++;
	live = child_of(s, f->id, next_ino, &f->rec);
	put_live(pool, batch, f->rec.tree, f->rec.node, &live, counters);
	sysrec_put_subvol(pool->db, batch, f->id, &f->rec);
	r = pool_write_rec(pool, &pr, batch);
	if (!r)
		pool->rec = pr;
	return r;
}

int snapshot_rollback(struct pool *pool, const struct snapshot_name *name, char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	cleanup(source_cleanup) struct source s = { 0 };
	const struct refusal ref = { why, why_len };
	struct counters_rec counters, was;
	char of[SUBVOL_NAME_MAX + 32];
	struct room room = { 0 };
	struct found f;
	int r = writable(pool, &ref);

	if (!r)
		r = admin_find(pool, name->subvol, &f, &ref);
	if (!r)
		r = source_find(pool, name, &s, &ref);
	if (r)
		return r;
	if (s.node->rec.subvol != f.id)
		return admin_refuse(&ref, -ENOENT, "snapshot %s is of an earlier subvolume of that name; nvfs clone makes a new one of it",
				    s.path);
	if (f.open)
		return admin_refuse(&ref, -EBUSY, "subvolume %s is mounted: unmount it first", f.name);
	was = f.counters;
	r = sysrec_counters(pool->db, s.node->tree, s.node->id, &counters);
	if (r)
		return admin_failed(&ref, r);
	r = check_fits(&s, &counters, f.rec.size_blocks, f.rec.inodes_max, &ref);
	if (r)
		return r;
	room_add(&room, becomes_loose(&f, &was));
	snprintf(of, sizeof(of), "subvolume %s", f.name);
	r = take_room(pool, &room, of, "no rollback", &ref);
	if (r)
		return r;
	r = write_rollback(pool, &f, &s, &counters);
	settle_room(pool, &room, !r);
	if (r)
		return admin_failed(&ref, r);
	tenant_force(tenant_find(pool, f.rec.tenant), -(was.born + was.meta_born), -was.inodes_born);
	sweeper_kick(pool->sweeper);
	return 0;
}

/* ---- clone ---- */

static int put_clone(struct pool *pool, const struct source *s, const char *name, struct subvol_rec *rec,
		       const struct counters_rec *counters, struct pool_rec *pr, struct db_batch *batch)
{
	const uint32_t id = pr->next_subvol++, node = pr->next_node++;
	struct node_rec live;
	uint64_t next_ino;
	int r = sysrec_tree(pool->db, s->node->tree, &next_ino);

	if (r)
		return r;
	rec->node = rec->incarnation = node;
	rec->name = name;
	rec->name_len = (uint8_t)strlen(name);
	live = child_of(s, id, next_ino, rec);
	put_live(pool, batch, rec->tree, node, &live, counters);
	sysrec_put_subvol(pool->db, batch, id, rec);
	admin_put_name(pool->db, batch, name, id);
	return 0;
}

/* The record of a clone, but for what its node gives it. */
static int clone_rec(struct pool *pool, const struct source *s, const struct clone_options *opts, struct subvol_rec *rec,
		     const struct refusal *ref)
{
	struct rec_time now;
	uint16_t flags = (uint16_t)(s->subvol.flags & ~(SUBVOL_DELETING | SUBVOL_RESERVED));

	if (opts->thin && opts->reserved)
		return admin_refuse(ref, -EINVAL, "a clone is thin or reserved, not both");
	if (opts->size_bytes > INT64_MAX)
		return admin_refuse(ref, -EINVAL, "that size is too large");
	if (opts->reserved || (!opts->thin && s->subvol.flags & SUBVOL_RESERVED))
		flags |= SUBVOL_RESERVED;
	*rec = (struct subvol_rec){
		.flags = flags,
		.compression = s->subvol.compression,
		.tree = s->node->tree,
		.tenant = s->node->rec.tenant,
		.size_blocks = opts->size_bytes ? admin_blocks(opts->size_bytes) : s->node->rec.size_blocks,
		.inodes_max = opts->inodes_max ? opts->inodes_max : s->node->rec.inodes_max,
		.created_ns = admin_now_ns(&now),
	};
	return admin_check_inodes(pool, rec->inodes_max, ref);
}

/* batch, pr and room may have the switch of the origin already. */
static int clone_checked(struct pool *pool, const struct source *s, const char *name, struct subvol_rec *rec,
			 const struct counters_rec *counters, struct pool_rec *pr, struct db_batch *batch, struct room *room,
			 const struct refusal *ref)
{
	char of[SUBVOL_NAME_MAX + 32];
	int r = check_fits(s, counters, rec->size_blocks, rec->inodes_max, ref);

	if (r)
		return r;
	r = put_clone(pool, s, name, rec, counters, pr, batch);
	if (r)
		return admin_failed(ref, r);
	room->claim = rec->flags & SUBVOL_RESERVED ? (int64_t)rec->size_blocks : 0;
	snprintf(of, sizeof(of), "subvolume %s", s->subvol_name);
	r = take_room(pool, room, of, "no clone", ref);
	if (r)
		return r;
	r = write_batch(pool, pr, batch);
	settle_room(pool, room, !r);
	if (r)
		return admin_failed(ref, r);
	pool->rec = *pr;
	atomic_fetch_add(&pool->subvol_count, 1);
	tenant_count_subvolumes(tenant_find(pool, rec->tenant), 1, (int64_t)rec->size_blocks);
	return 0;
}

static int clone_snapshot(struct pool *pool, const struct source *s, const char *name, struct subvol_rec *rec,
			  const struct refusal *ref)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct pool_rec pr = pool->rec;
	struct counters_rec counters;
	struct room room = { 0 };
	int r = batch ? sysrec_counters(pool->db, s->node->tree, s->node->id, &counters) : -ENOMEM;

	if (r)
		return admin_failed(ref, r);
	return clone_checked(pool, s, name, rec, &counters, &pr, batch, &room, ref);
}

/* The node that the volume has now stays behind without a name, with the volume and the clone as its children. */
static int clone_volume(struct pool *pool, struct source *src, const char *name, struct subvol_rec *rec, const struct refusal *ref)
{
	cleanup_db_batch struct db_batch *batch = db_batch_new();
	struct switching *s = calloc(1, sizeof(*s));
	struct pool_rec pr = pool->rec;
	struct room room = { 0 };
	struct rec_time now;
	int r = batch && s ? 0 : -ENOMEM;

	if (r) {
		free(s);
		return admin_failed(ref, r);
	}
	r = admin_find(pool, src->subvol_name, &s->f, ref);
	if (!r)
		r = check_line(&src->nodes, &s->f, ref);
	s->node = pr.next_node++;
	if (!r && s->f.open && new_ancestors(s))
		r = admin_failed(ref, -ENOMEM);
	if (!r)
		r = freeze_all(s, 1, ref);
	if (!r)
		r = count(pool, s, &room, ref);
	if (!r) {
		put_switch(pool, batch, s, 0, admin_now_ns(&now));
		r = clone_checked(pool, src, name, rec, &s->f.counters, &pr, batch, &room, ref);
	}
	if (!r)
		switch_all(s, 1);
	switching_end(s, 1);
	return r;
}

/* A volume as the source of a clone: its live node. */
static int source_volume(struct pool *pool, const char *name, struct source *s, const struct refusal *ref)
{
	struct found f;
	int r = admin_find(pool, name, &f, ref);

	if (r)
		return r;
	r = group_load(pool, &s->nodes);
	if (r)
		return admin_failed(ref, r);
	s->node = nodes_find(&s->nodes, f.rec.tree, f.rec.node);
	if (!s->node)
		return admin_failed(ref, -EBADMSG);
	s->subvol = f.rec;
	s->node->rec.size_blocks = f.rec.size_blocks;
	s->node->rec.inodes_max = f.rec.inodes_max;
	strcpy(s->subvol_name, f.name);
	snprintf(s->path, sizeof(s->path), "%s", f.name);
	return 0;
}

int snapshot_clone(struct pool *pool, const struct snapshot_name *from, const char *name, const struct clone_options *opts,
		   char *why, size_t why_len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&pool->admin_lock);
	cleanup(source_cleanup) struct source s = { 0 };
	const struct refusal ref = { why, why_len };
	struct subvol_rec rec;
	const struct pool_tenant *tenant;
	int r = writable(pool, &ref);

	if (!r)
		r = check_meta_room(pool, &ref);
	if (!r)
		r = admin_check_name(pool, name, &ref);
	if (!r)
		r = from->snapshot ? source_find(pool, from, &s, &ref) : source_volume(pool, from->subvol, &s, &ref);
	if (!r)
		r = clone_rec(pool, &s, opts, &rec, &ref);
	tenant = r ? NULL : tenant_find(pool, rec.tenant);
	if (tenant)
		r = tenant_may_provision(tenant, 1, rec.size_blocks, &ref);
	if (!r)
		r = admin_check_room(pool, rec.flags & SUBVOL_RESERVED, rec.size_blocks, &ref);
	if (!r)
		r = from->snapshot ? clone_snapshot(pool, &s, name, &rec, &ref) : clone_volume(pool, &s, name, &rec, &ref);
	if (r)
		return r;
	r = pool_commit_wait(pool);
	return r ? admin_failed(&ref, r) : 0;
}
