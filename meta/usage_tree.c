/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One tree, in two passes over its chunk maps. All versions of a map lie side by side. The *points* of a map are its versions and the
 * nodes where a whiteout hides the inode; what a version has is had by its node and all below, down to the points below it. A block that
 * several versions of one map share (an inherited run) is had from its topmost version on, down to those points that map something else.
 *
 * Blocks that several files share (copy_file_range) cannot be judged at one map: the first pass finds which they are; the second keeps
 * them, with the set of nodes that has them, to be put together at the end. Such a set is a *class*: points with a sign, as above.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "meta/usage_internal.h"

struct point {
	unsigned node;
	int above;    /* the nearest point above, or -1 */
	bool version; /* else a whiteout, which has nothing */
	bool has;     /* the block at hand */
	int64_t data, promised, footprint;
};

/* A node of a class: from there on down they have it, or (down true) have it no more. */
struct edge {
	unsigned node;
	bool down;
};

struct class {
	size_t first;
	unsigned count; /* of the edges */
	uint64_t hash;
};

struct count {
	struct usage_tree *t;
	bool marking;            /* the first pass */
	struct usage_bits bits;
	uint64_t done, total;

	/* The map at hand. */
	uint8_t key[KEY_MAP_LEN];
	bool any;
	struct point *points;
	size_t npoints, points_room;
	struct usage_piece *pieces;
	size_t npieces, pieces_room;

	/* Its inode. */
	uint64_t ino;
	struct moment_scan inodes;
	unsigned *hidden;        /* nodes with a whiteout of it */
	size_t nhidden, hidden_room;

	/* What files share. */
	struct usage_piece *shared;
	size_t nshared, shared_room;
	struct edge *edges;
	size_t nedges, edges_room;
	struct class *classes;
	size_t nclasses, classes_room;
	uint32_t *slots;         /* index + 1 of classes by hash */
	size_t nslots;
	uint8_t *has;            /* by place of the walk down */
};

static int node_index(const struct usage_tree *t, uint32_t id)
{
	unsigned low = 0, high = t->count;

	while (low < high) {
		const unsigned mid = (low + high) / 2;

		if (t->nodes[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < t->count && t->nodes[low].id == id ? (int)low : -1;
}

/* ---- Sets ---- */

static const struct usage_node *node_at(const struct count *c, size_t i)
{
	return &c->t->nodes[c->points[i].node];
}

/* Who has these blocks: the points say it. */
static void account_points(struct count *c, uint64_t blocks)
{
	int64_t having = 0, sum = 0;

	for (size_t i = 0; i < c->npoints; i++) {
		const struct point *p = &c->points[i];
		const int sign = (int)p->has - (p->above >= 0 && c->points[p->above].has);

		c->t->nodes[p->node].stored += sign * (int64_t)blocks;
		having += sign * (int64_t)node_at(c, i)->named_below;
		sum += sign * (int64_t)node_at(c, i)->named_sum;
	}
	c->t->held += (int64_t)blocks;
	if (!having)
		c->t->leaving += (int64_t)blocks;
	else if (having == 1)
		c->t->nodes[sum].exclusive += (int64_t)blocks;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 29;
}

static bool same_class(const struct count *c, const struct class *a, const struct class *b)
{
	if (a->hash != b->hash || a->count != b->count)
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (c->edges[a->first + i].node != c->edges[b->first + i].node || c->edges[a->first + i].down != c->edges[b->first + i].down)
			return false;
	return true;
}

static size_t class_slot(const struct count *c, const struct class *k)
{
	size_t i = k->hash & (c->nslots - 1);

	while (c->slots[i] && !same_class(c, &c->classes[c->slots[i] - 1], k))
		i = (i + 1) & (c->nslots - 1);
	return i;
}

static int more_slots(struct count *c)
{
	c->nslots = c->nslots ? c->nslots * 2 : 64;
	free(c->slots);
	c->slots = calloc(c->nslots, sizeof(*c->slots));
	if (!c->slots)
		return -ENOMEM;
	for (size_t i = 0; i < c->nclasses; i++)
		c->slots[class_slot(c, &c->classes[i])] = (uint32_t)i + 1;
	return 0;
}

/* The class of the nodes that have the block at hand. 0 or -ENOMEM. */
static int class_of_points(struct count *c, uint32_t *out)
{
	struct class k = { .first = c->nedges };
	size_t slot;

	for (size_t i = 0; i < c->npoints; i++) {
		const struct point *p = &c->points[i];
		const int sign = (int)p->has - (p->above >= 0 && c->points[p->above].has);

		if (!sign)
			continue;
		if (array_grow((void **)&c->edges, c->nedges, &c->edges_room, sizeof(*c->edges)))
			return -ENOMEM;
		c->edges[c->nedges++] = (struct edge){ p->node, sign < 0 };
		k.hash = mix(k.hash, p->node * 2u + (sign < 0));
		k.count++;
	}
	if ((c->nclasses + 1) * 2 > c->nslots && more_slots(c))
		return -ENOMEM;
	slot = class_slot(c, &k);
	if (c->slots[slot]) {
		c->nedges = k.first;
	} else {
		if (c->nclasses >= UINT32_MAX - 1 || array_grow((void **)&c->classes, c->nclasses, &c->classes_room, sizeof(k)))
			return -ENOMEM;
		c->classes[c->nclasses++] = k;
		c->slots[slot] = (uint32_t)c->nclasses;
	}
	*out = c->slots[slot] - 1;
	return 0;
}

/* ---- A map ---- */

static int keep_shared(struct count *c, uint16_t vdev, uint64_t address, uint64_t blocks)
{
	struct usage_piece *last = c->nshared ? &c->shared[c->nshared - 1] : NULL;
	uint32_t k;

	if (class_of_points(c, &k))
		return -ENOMEM;
	if (last && last->vdev == vdev && last->owner == k && last->address + last->blocks == address &&
	    last->blocks + blocks <= UINT32_MAX) {
		last->blocks += (uint32_t)blocks;
		return 0;
	}
	if (array_grow((void **)&c->shared, c->nshared, &c->shared_room, sizeof(*c->shared)))
		return -ENOMEM;
	c->shared[c->nshared++] = (struct usage_piece){ address, (uint32_t)blocks, k, vdev };
	return 0;
}

/* A range of blocks that these versions of the map at hand have. */
static int map_range(void *arg, uint16_t vdev, uint64_t address, uint64_t blocks, const uint32_t *owners, unsigned count)
{
	struct count *c = arg;
	uint64_t same;
	int r = 0;

	if (c->marking)
		return usage_bits_mark(&c->bits, c->t->m->pool, vdev, address, blocks);
	for (unsigned i = 0; i < count; i++)
		c->points[owners[i]].has = c->points[owners[i]].version;
	for (; blocks && !r; address += same, blocks -= same) {
		if (usage_bits_several(&c->bits, vdev, address, blocks, &same))
			r = keep_shared(c, vdev, address, same);
		else
			account_points(c, same);
	}
	for (unsigned i = 0; i < count; i++)
		c->points[owners[i]].has = false;
	return r;
}

static int by_place(const void *a, const void *b, void *arg)
{
	const struct usage_tree *t = arg;
	const struct point *x = a, *y = b;
	const unsigned i = t->nodes[x->node].first, j = t->nodes[y->node].first;

	return (i > j) - (i < j);
}

/* The nodes come in the order of a walk down: whoever is above one is on the way to it. */
static void find_above(struct count *c)
{
	for (size_t i = 0; i < c->npoints; i++) {
		int above = (int)i - 1;

		while (above >= 0 && node_at(c, (size_t)above)->last < node_at(c, i)->first)
			above = c->points[above].above;
		c->points[i].above = above;
	}
}

/* Where a version's node hides the inode, it is a whiteout. */
static int add_hidden(struct count *c)
{
	for (size_t h = 0; h < c->nhidden; h++) {
		size_t i = 0;

		while (i < c->npoints && c->points[i].node != c->hidden[h])
			i++;
		if (i < c->npoints) {
			c->points[i].version = false;
			continue;
		}
		if (array_grow((void **)&c->points, c->npoints, &c->points_room, sizeof(*c->points)))
			return -ENOMEM;
		c->points[c->npoints++] = (struct point){ .node = c->hidden[h] };
	}
	return 0;
}

/* Pieces say which version they are of by its index, and the points are sorted: so they are told by node in between. */
static void sort_points(struct count *c)
{
	if (c->npoints < 2)
		return;
	for (size_t i = 0; i < c->npieces; i++)
		c->pieces[i].owner = c->points[c->pieces[i].owner].node;
	qsort_r(c->points, c->npoints, sizeof(*c->points), by_place, c->t);
	for (size_t i = 0; i < c->npieces; i++) {
		const unsigned place = c->t->nodes[c->pieces[i].owner].first;
		size_t low = 0, high = c->npoints;

		while (low < high) {
			const size_t mid = (low + high) / 2;

			if (node_at(c, mid)->first < place)
				low = mid + 1;
			else
				high = mid;
		}
		c->pieces[i].owner = (uint32_t)low;
	}
}

static void add_sums(struct count *c)
{
	for (size_t i = 0; i < c->npoints; i++) {
		const struct point *p = &c->points[i], none = { 0 };
		const struct point *is = p->version ? p : &none;
		const struct point *was = p->above >= 0 && c->points[p->above].version ? &c->points[p->above] : &none;
		struct usage_node *n = &c->t->nodes[p->node];

		n->data += is->data - was->data;
		n->promised += is->promised - was->promised;
		n->footprint += is->footprint - was->footprint;
	}
}

static int finish_map(struct count *c)
{
	int r = add_hidden(c);

	if (r)
		return r;
	sort_points(c);
	find_above(c);
	if (!c->marking)
		add_sums(c);
	r = usage_ranges(c->pieces, c->npieces, map_range, c);
	c->npoints = c->npieces = 0;
	return r;
}

/* ---- Records ---- */

static bool named_before(const struct map_rec *rec, unsigned i)
{
	for (unsigned r = 0; r < i; r++)
		if (rec->runs[r].flags & RUN_COMPRESSED && rec->runs[r].vdev == rec->runs[i].vdev &&
		    rec->runs[r].address == rec->runs[i].address)
			return true;
	return false;
}

static int add_version(struct count *c, unsigned node, const struct map_rec *rec)
{
	struct point p = { .node = node, .version = true };

	for (unsigned i = 0; i < rec->nruns; i++) {
		const struct map_run *run = &rec->runs[i];

		if (!map_run_stored(run)) {
			p.promised += run->count;
			continue;
		}
		p.data += run->count;
		if (run->flags & RUN_COMPRESSED && named_before(rec, i))
			continue;
		p.footprint += run->stored_blocks;
		if (array_grow((void **)&c->pieces, c->npieces, &c->pieces_room, sizeof(*c->pieces)))
			return -ENOMEM;
		c->pieces[c->npieces++] = (struct usage_piece){ run->address, run->stored_blocks, (uint32_t)c->npoints, run->vdev };
	}
	if (array_grow((void **)&c->points, c->npoints, &c->points_room, sizeof(*c->points)))
		return -ENOMEM;
	c->points[c->npoints++] = p;
	return 0;
}

/* The nodes that hide an inode; a tree of one node has none. */
static int find_hidden(struct count *c, uint64_t ino)
{
	uint8_t prefix[KEY_NS_PREFIX_LEN];
	const size_t len = key_ns_prefix(prefix, c->t->id, ino, REC_INODE);
	int more;

	c->ino = ino;
	c->nhidden = 0;
	if (c->t->count < 2)
		return 0;
	for (more = moment_scan_seek(&c->inodes, prefix, len);
	     more > 0 && c->inodes.key_len == KEY_INODE_LEN && !memcmp(c->inodes.key, prefix, len); more = moment_scan_next(&c->inodes)) {
		const int node = node_index(c->t, ~get_be32(c->inodes.key + len));

		if (node < 0 || !is_whiteout(c->inodes.value, c->inodes.value_len))
			continue;
		if (array_grow((void **)&c->hidden, c->nhidden, &c->hidden_room, sizeof(*c->hidden)))
			return -ENOMEM;
		c->hidden[c->nhidden++] = (unsigned)node;
	}
	return more < 0 ? more : 0;
}

static int take_record(struct count *c, const struct moment_scan *s)
{
	struct map_key k;
	struct map_rec rec;
	int node, r = 0;

	if (map_key_parse(s->key, s->key_len, &k) || map_rec_decode(s->value, s->value_len, &rec))
		return -EBADMSG;
	node = node_index(c->t, k.node);
	if (node < 0)
		return -EBADMSG;
	if (c->any && memcmp(c->key, s->key, KEY_MAP_LEN - 4))
		r = finish_map(c);
	if (!r && (!c->any || c->ino != k.ino))
		r = find_hidden(c, k.ino);
	c->any = true;
	memcpy(c->key, s->key, KEY_MAP_LEN);
	r = r ?: add_version(c, (unsigned)node, &rec);
	return r ?: moment_step(c->t->m, c->done + k.ino, c->total);
}

static int run_pass(struct count *c)
{
	struct moment_scan s = { .m = c->t->m, .cf = DB_MAP, .prefix_len = 4 };
	int r = moment_begin(c->t->m, c->done, c->total), more;

	if (r)
		return r;
	put_be32(s.prefix, c->t->id);
	c->any = false;
	for (more = moment_scan_first(&s); more > 0 && !r; more = r ? 0 : moment_scan_next(&s))
		r = take_record(c, &s);
	moment_scan_end(&s);
	if (!r)
		r = more;
	return r ?: c->any ? finish_map(c) : 0;
}

/* ---- What files share ---- */

/* Add those who have a class to c->has. */
static void add_class(struct count *c, const struct class *k)
{
	int has = 0;
	int *delta = (int *)(c->has + (c->t->count + 8) / 8 * 8);

	memset(delta, 0, (c->t->count + 1) * sizeof(*delta));
	for (unsigned i = 0; i < k->count; i++) {
		const struct edge *e = &c->edges[k->first + i];

		delta[c->t->nodes[e->node].first] += e->down ? -1 : 1;
		delta[c->t->nodes[e->node].last + 1] -= e->down ? -1 : 1;
	}
	for (unsigned i = 0; i < c->t->count; i++) {
		has += delta[i];
		c->has[i] |= has > 0;
	}
}

/* Blocks that all have who have one of these classes. */
static int shared_range(void *arg, uint16_t vdev, uint64_t address, uint64_t blocks, const uint32_t *owners, unsigned count)
{
	struct count *c = arg;
	struct usage_tree *t = c->t;
	unsigned having = 0, who = 0;

	(void)vdev, (void)address;
	memset(c->has, 0, t->count);
	for (unsigned i = 0; i < count; i++)
		if (!i || owners[i] != owners[i - 1])
			add_class(c, &c->classes[owners[i]]);
	for (unsigned n = 0; n < t->count; n++) {
		const bool has = c->has[t->nodes[n].first];

		/* A difference, as all sums: at the nodes where it changes along the way down. */
		t->nodes[n].stored += ((int)has - (t->nodes[n].parent != UINT_MAX && c->has[t->nodes[t->nodes[n].parent].first])) *
				      (int64_t)blocks;
		if (has && t->nodes[n].named) {
			having++;
			who = n;
		}
	}
	t->held += (int64_t)blocks;
	if (!having)
		t->leaving += (int64_t)blocks;
	else if (having == 1)
		t->nodes[who].exclusive += (int64_t)blocks;
	return moment_step(t->m, 0, 0);
}

static int count_shared(struct count *c)
{
	c->has = malloc((c->t->count + 8) / 8 * 8 + (c->t->count + 1) * sizeof(int));
	return c->has ? usage_ranges(c->shared, c->nshared, shared_range, c) : -ENOMEM;
}

/* ---- ---- */

/* Places in a walk down, and the names below each node; parents come before their children. */
static void order_nodes(struct usage_tree *t)
{
	unsigned roots = 0;

	for (unsigned i = 0; i < t->count; i++) {
		t->nodes[i].last = 1; /* how many there are at it and below, for now */
		t->nodes[i].named_below = t->nodes[i].named;
		t->nodes[i].named_sum = t->nodes[i].named ? i : 0;
	}
	for (unsigned i = t->count; i-- > 0;) {
		struct usage_node *n = &t->nodes[i], *up = n->parent == UINT_MAX ? NULL : &t->nodes[n->parent];

		if (!up)
			continue;
		up->last += n->last;
		up->named_below += n->named_below;
		up->named_sum += n->named_sum;
	}
	for (unsigned i = 0; i < t->count; i++) {
		struct usage_node *n = &t->nodes[i];
		unsigned *next = n->parent == UINT_MAX ? &roots : &t->nodes[n->parent].next;
		const unsigned below = n->last;

		n->first = *next;
		n->last = n->first + below - 1;
		*next += below;
		n->next = n->first + 1;
	}
}

static void add_up(struct usage_tree *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		struct usage_node *n = &t->nodes[i];
		const struct usage_node *up = n->parent == UINT_MAX ? NULL : &t->nodes[n->parent];

		if (!up)
			continue;
		n->data += up->data;
		n->promised += up->promised;
		n->footprint += up->footprint;
		n->stored += up->stored;
	}
}

static void count_free(struct count *c)
{
	moment_scan_end(&c->inodes);
	usage_bits_free(&c->bits);
	free(c->points);
	free(c->pieces);
	free(c->hidden);
	free(c->shared);
	free(c->edges);
	free(c->classes);
	free(c->slots);
	free(c->has);
}

int usage_tree_count(struct usage_tree *t, uint64_t done, uint64_t total)
{
	struct count c = { .t = t, .marking = true, .inodes = { .m = t->m, .cf = DB_NS, .prefix_len = 4 }, .done = done, .total = total };
	int r;

	put_be32(c.inodes.prefix, t->id);
	order_nodes(t);
	r = run_pass(&c);
	c.marking = false;
	c.done += t->inos;
	if (!r)
		r = run_pass(&c);
	if (!r && c.nshared)
		r = count_shared(&c);
	if (!r)
		add_up(t);
	count_free(&c);
	return r;
}
