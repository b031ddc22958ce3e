/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A diff looks once at all records of the tree, and compares those of which the two views see different versions:
 *
 * 1. `ns` and `map`: inodes whose record, size, xattrs or maps differ are noted with what differs, and those whose entries came or went.
 * 2. The directories above all these: up the parents in their records.
 * 3. The entries of these directories: the names of what was noted.
 * 4. A file with several names may have one anywhere: if some are missing, all entries of the tree are looked at, and once more for the
 *    names of directories that this adds.
 *
 * What is left is to sort (diff_paths.c). All of it is of one moment, and no lock is held.
 *
 * An inode that a view does not see has nothing there, whatever records of it are left: a whiteout of an inode hides all of it.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/cleanup.h"
#include "meta/diff_internal.h"
#include "meta/sysrec.h"

struct cut_seen {
	uint64_t ino, sequence, first, end;
	unsigned in;
};

struct diff {
	struct moment moment;
	struct diff_views views;
	struct diff_table table;
	struct diff_scan lookup;  /* of single records, while another scan goes on */
	struct cut_seen *cuts;    /* by inode */
	size_t ncuts, cuts_room;
	bool late;
};

static bool always(void *arg, const uint8_t *key, size_t key_len)
{
	(void)arg, (void)key, (void)key_len;
	return true;
}

/* ---- Inodes ---- */

static int decode_inode(const struct diff_seen *seen, struct inode_rec *rec)
{
	return seen->node ? inode_rec_decode(seen->value, seen->len, rec) : -ENOENT;
}

static int fill_inode(struct diff_inode *i, const struct diff_seen seen[VIEWS])
{
	i->in = 0;
	for (unsigned v = 0; v < VIEWS; v++) {
		struct inode_rec rec;
		const int r = decode_inode(&seen[v], &rec);

		if (r == -ENOENT)
			continue;
		if (r)
			return r;
		i->in |= DIFF_IN(v);
		i->mode = (uint16_t)rec.mode;
		i->nlink[v] = rec.nlink;
		i->parent[v] = i->ino == INO_ROOT ? 0 : rec.parent;
	}
	i->flags |= DIFF_LOADED;
	return 0;
}

static int get_record(struct diff *d, uint64_t ino, uint8_t type)
{
	uint8_t key[KEY_NS_PREFIX_LEN];

	return diff_scan_get(&d->lookup, key, key_ns_prefix(key, d->views.tree, ino, type));
}

/* With its record looked at; *out is good until the next one is added. */
static int load(struct diff *d, uint64_t ino, struct diff_inode **out)
{
	int r = 0;

	*out = diff_inode_get(&d->table, ino);
	if (!*out)
		return -ENOMEM;
	if (!((*out)->flags & DIFF_LOADED)) {
		r = get_record(d, ino, REC_INODE);
		if (!r)
			r = fill_inode(*out, d->lookup.seen);
		if (!r && d->late)
			(*out)->flags |= DIFF_LATE | DIFF_LACKING;
	}
	return r;
}

static bool time_equal(const struct rec_time *a, const struct rec_time *b)
{
	return a->sec == b->sec && a->nsec == b->nsec;
}

/* The mtime of a regular file is its size's; one that never had a size has its inode's. */
static int file_mtimes(struct diff *d, uint64_t ino, struct rec_time mtime[VIEWS])
{
	int r = get_record(d, ino, REC_INODE);

	for (unsigned v = 0; v < VIEWS && !r; v++) {
		struct inode_rec rec;

		r = decode_inode(&d->lookup.seen[v], &rec);
		mtime[v] = r ? (struct rec_time){ 0 } : rec.mtime;
	}
	if (!r)
		r = get_record(d, ino, REC_SIZE);
	for (unsigned v = 0; v < VIEWS && !r; v++) {
		struct size_rec rec;

		if (!d->lookup.seen[v].node)
			continue;
		r = size_rec_decode(d->lookup.seen[v].value, d->lookup.seen[v].len, &rec);
		if (!r)
			mtime[v] = rec.mtime;
	}
	return r == -ENOENT ? 0 : r;
}

static int compare_file_times(struct diff *d, uint64_t ino, unsigned *what)
{
	struct rec_time mtime[VIEWS];
	int r = file_mtimes(d, ino, mtime);

	if (!r && !time_equal(&mtime[FROM], &mtime[TO]))
		*what |= DIFF_TIMES;
	return r;
}

static int compare_inodes(struct diff *d, uint64_t ino, const struct diff_seen seen[VIEWS], unsigned *what)
{
	struct inode_rec a, b;
	int r = decode_inode(&seen[FROM], &a) ?: decode_inode(&seen[TO], &b);

	if (r)
		return r;
	if (a.mode != b.mode)
		*what |= DIFF_MODE;
	if (a.uid != b.uid || a.gid != b.gid)
		*what |= DIFF_OWNER;
	if (!time_equal(&a.btime, &b.btime))
		*what |= DIFF_TIMES;
	if (time_equal(&a.mtime, &b.mtime))
		return 0;
	if (S_ISREG(b.mode))
		return compare_file_times(d, ino, what);
	*what |= DIFF_TIMES;
	return 0;
}

static int on_inode(struct diff *d, uint64_t ino, const struct diff_seen seen[VIEWS])
{
	struct diff_inode *i = diff_inode_get(&d->table, ino);
	unsigned what = 0;
	int r = i ? fill_inode(i, seen) : -ENOMEM;

	if (r)
		return r;
	if (i->in != (DIFF_IN(FROM) | DIFF_IN(TO))) {
		i->flags |= DIFF_NAMES;
		return 0;
	}
	if (i->nlink[FROM] != i->nlink[TO])
		i->flags |= S_ISDIR(i->mode) ? 0 : DIFF_NAMES;
	r = compare_inodes(d, ino, seen, &what);
	i->what |= (uint8_t)what; /* the lookups add none */
	return r;
}

/* Note what differs in an inode that both have. */
static int note(struct diff *d, uint64_t ino, unsigned what)
{
	struct diff_inode *i;
	int r = load(d, ino, &i);

	if (!r && i->in == (DIFF_IN(FROM) | DIFF_IN(TO)))
		i->what |= (uint8_t)what;
	return r;
}

/* ---- Sizes and xattrs ---- */

static int decode_size(const struct diff_seen *seen, struct size_rec *rec)
{
	*rec = (struct size_rec){ 0 };
	return seen->node ? size_rec_decode(seen->value, seen->len, rec) : 0;
}

static int on_size(struct diff *d, uint64_t ino, const struct diff_seen seen[VIEWS])
{
	struct size_rec a, b;
	struct diff_inode *i;
	unsigned what = 0;
	int r = decode_size(&seen[FROM], &a) ?: decode_size(&seen[TO], &b) ?: load(d, ino, &i);

	if (r || i->in != (DIFF_IN(FROM) | DIFF_IN(TO)))
		return r;
	if (a.size != b.size || a.is_inline != b.is_inline || a.inline_len != b.inline_len ||
	    (a.is_inline && memcmp(a.data, b.data, a.inline_len)))
		what |= DIFF_DATA;
	if (!seen[FROM].node || !seen[TO].node)
		r = compare_file_times(d, ino, &what);
	else if (!time_equal(&a.mtime, &b.mtime))
		what |= DIFF_TIMES;
	return r ?: note(d, ino, what);
}

static int on_xattr(struct diff *d, uint64_t ino, const struct diff_seen seen[VIEWS])
{
	const struct diff_seen *a = &seen[FROM], *b = &seen[TO];

	if (a->node && b->node && a->len == b->len && !memcmp(a->value, b->value, a->len))
		return 0;
	return note(d, ino, DIFF_XATTRS);
}

/* ---- Entries ---- */

/* A name that only one view has, or that is another's there. */
static int entry_changed(struct diff *d, uint64_t dir, const struct dirent_rec *rec)
{
	struct diff_inode *i;
	int r = load(d, rec->ino, &i);

	if (r)
		return r;
	i->flags |= DIFF_NAMES;
	i = diff_inode_find(&d->table, dir);
	i->flags |= DIFF_HOLDER;
	if (i->in == (DIFF_IN(FROM) | DIFF_IN(TO)))
		i->what |= DIFF_DATA;
	return 0;
}

static bool same_entry(const struct dirent_rec *a, const struct dirent_rec *b)
{
	return a->ino == b->ino && a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

static int on_entry(struct diff *d, uint64_t dir, const struct diff_seen seen[VIEWS])
{
	struct dirent_rec rec[VIEWS];
	struct diff_inode *i;
	unsigned in = 0;
	int r = load(d, dir, &i);

	for (unsigned v = 0; v < VIEWS && !r; v++) {
		if (!seen[v].node || !(i->in & DIFF_IN(v)))
			continue;
		in |= DIFF_IN(v);
		r = dirent_rec_decode(seen[v].value, seen[v].len, &rec[v]);
	}
	if (r || (in == (DIFF_IN(FROM) | DIFF_IN(TO)) && same_entry(&rec[FROM], &rec[TO])))
		return r;
	for (unsigned v = 0; v < VIEWS && !r; v++)
		if (in & DIFF_IN(v))
			r = entry_changed(d, dir, &rec[v]);
	return r;
}

static int on_ns(void *arg, const uint8_t *key, size_t key_len, const struct diff_seen seen[VIEWS])
{
	struct diff *d = arg;
	struct ns_key k;

	if (ns_key_parse(key, key_len, &k))
		return -EBADMSG;
	switch (k.type) {
	case REC_INODE:
		return on_inode(d, k.ino, seen);
	case REC_SIZE:
		return on_size(d, k.ino, seen);
	case REC_XATTR:
		return on_xattr(d, k.ino, seen);
	case REC_DIRENT:
		return on_entry(d, k.ino, seen);
	default:
		return 0;
	}
}

/* ---- Maps ---- */

/* Where a block's bytes are; all zeros: it reads as zeros. */
struct where {
	uint64_t address;
	uint16_t vdev;
	uint8_t flags, at;
};

static bool is_cut(const struct diff *d, unsigned view, const struct map_key *k, uint64_t sequence)
{
	for (size_t i = 0; i < d->ncuts; i++) {
		const struct cut_seen *c = &d->cuts[i];

		if (c->ino == k->ino && c->in & DIFF_IN(view) && sequence < c->sequence && k->chunk >= c->first && k->chunk < c->end)
			return true;
	}
	return false;
}

static int locate(const struct diff *d, unsigned view, const struct map_key *k, const struct diff_seen *seen, struct where *w)
{
	struct map_rec rec;

	memset(w, 0, CHUNK_BLOCKS * sizeof(*w));
	if (!seen->node)
		return 0;
	if (map_rec_decode(seen->value, seen->len, &rec))
		return -EBADMSG;
	if (is_cut(d, view, k, rec.seq))
		return 0;
	for (unsigned i = 0; i < rec.nruns; i++) {
		const struct map_run *run = &rec.runs[i];
		const bool compressed = run->flags & RUN_COMPRESSED;

		for (unsigned b = 0; b < run->count && map_run_stored(run); b++)
			w[run->block + b] = (struct where){
				.address = run->address + (compressed ? 0 : b),
				.vdev = run->vdev,
				.flags = (uint8_t)(0x80 | compressed),
				.at = compressed ? (uint8_t)(run->skip + b) : 0,
			};
	}
	return 0;
}

static int on_map(void *arg, const uint8_t *key, size_t key_len, const struct diff_seen seen[VIEWS])
{
	struct where where[VIEWS][CHUNK_BLOCKS];
	struct diff *d = arg;
	struct map_key k;
	int r = map_key_parse(key, key_len, &k);

	for (unsigned v = 0; v < VIEWS && !r; v++)
		r = locate(d, v, &k, &seen[v], where[v]);
	if (r)
		return r;
	return memcmp(where[FROM], where[TO], sizeof(where[FROM])) ? note(d, k.ino, DIFF_DATA) : 0;
}

/* A cut hides what a record maps, so the same record may read differently. */
static bool has_cuts(void *arg, const uint8_t *key, size_t key_len)
{
	const struct diff *d = arg;
	const uint64_t ino = get_be64(key + 4);

	(void)key_len;
	for (size_t i = 0; i < d->ncuts; i++)
		if (d->cuts[i].ino == ino && d->cuts[i].in != (DIFF_IN(FROM) | DIFF_IN(TO)))
			return true;
	return false;
}

static int on_cut(void *arg, const uint8_t *key, size_t key_len, const struct diff_seen seen[VIEWS])
{
	struct diff *d = arg;
	struct cut_rec rec;
	struct ns_key k;
	int r = ns_key_parse(key, key_len, &k);

	if (!r)
		r = array_grow((void **)&d->cuts, d->ncuts, &d->cuts_room, sizeof(*d->cuts));
	if (!r)
		d->cuts[d->ncuts] = (struct cut_seen){ .ino = k.ino, .sequence = k.sequence };
	for (unsigned v = 0; v < VIEWS && !r; v++) {
		if (!seen[v].node)
			continue;
		r = cut_rec_decode(seen[v].value, seen[v].len, &rec);
		d->cuts[d->ncuts].first = rec.first_chunk;
		d->cuts[d->ncuts].end = rec.end_chunk;
		d->cuts[d->ncuts].in |= DIFF_IN(v);
	}
	if (!r)
		d->ncuts++;
	return r;
}

/* ---- Passes ---- */

static int run_all(struct diff *d, struct diff_scan *s)
{
	uint8_t tree[4];
	int r;

	s->views = &d->views;
	s->arg = d;
	put_be32(tree, d->views.tree);
	r = moment_begin(&d->moment, s->total ? s->done : d->moment.done, s->total ? s->total : d->moment.total);
	if (r)
		return r;
	r = diff_scan_run(s, tree, sizeof(tree));
	diff_scan_end(s);
	return r;
}

static int find_cuts(struct diff *d)
{
	struct diff_scan s = { .views = &d->views, .cf = DB_NS, .fn = on_cut, .want_same = always, .arg = d };
	uint8_t prefix[KEY_NS_PREFIX_LEN];
	int r = diff_scan_run(&s, prefix, key_ns_prefix(prefix, d->views.tree, 0, REC_CUT));

	diff_scan_end(&s);
	return r;
}

static int find_changes(struct diff *d, uint64_t inos)
{
	struct diff_scan ns = { .cf = DB_NS, .fn = on_ns, .total = 2 * inos };
	struct diff_scan maps = { .cf = DB_MAP, .fn = on_map, .want_same = has_cuts, .done = inos, .total = 2 * inos };
	int r = find_cuts(d);

	if (!r)
		r = run_all(d, &ns);
	return r ?: run_all(d, &maps);
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Up from everything in the table to the root. */
static int find_parents(struct diff *d)
{
	for (size_t at = 0; at < d->table.count; at++) {
		uint64_t parent[VIEWS];
		struct diff_inode *i;
		int r = load(d, d->table.inodes[at].ino, &i);

		if (r)
			return r;
		for (unsigned v = 0; v < VIEWS; v++)
			parent[v] = i->in & DIFF_IN(v) ? i->parent[v] : 0;
		for (unsigned v = 0; v < VIEWS; v++) {
			if (!parent[v])
				continue;
			r = load(d, parent[v], &i);
			if (r)
				return r;
			i->flags |= DIFF_HOLDER;
		}
	}
	return 0;
}

/* A name of something in the table, in those views that have the directory. */
static int take_name(struct diff *d, uint64_t dir, unsigned in, const struct dirent_rec *rec)
{
	struct diff_inode *i = diff_inode_find(&d->table, rec->ino);

	if (!i)
		return 0;
	for (unsigned v = 0; v < VIEWS; v++)
		i->found[v] += !!(in & DIFF_IN(v));
	return diff_name_add(&d->table, rec->ino, dir, rec->name, rec->name_len, in);
}

static int take_names(struct diff *d, uint64_t dir, unsigned views, const struct diff_seen seen[VIEWS],
		      bool (*wanted)(const struct diff *d, uint64_t dir, const struct dirent_rec *rec))
{
	struct dirent_rec rec;
	bool both = false;
	int r = 0;

	for (unsigned v = 0; v < VIEWS && !r && !both; v++) {
		if (!seen[v].node || !(views & DIFF_IN(v)))
			continue;
		both = v == FROM && seen[TO].node == seen[FROM].node && views & DIFF_IN(TO);
		r = dirent_rec_decode(seen[v].value, seen[v].len, &rec);
		if (!r && (!wanted || wanted(d, dir, &rec)))
			r = take_name(d, dir, both ? DIFF_IN(FROM) | DIFF_IN(TO) : DIFF_IN(v), &rec);
	}
	return r;
}

static int on_held_entry(void *arg, const uint8_t *key, size_t key_len, const struct diff_seen seen[VIEWS])
{
	struct diff *d = arg;
	struct ns_key k;

	if (ns_key_parse(key, key_len, &k))
		return -EBADMSG;
	return take_names(d, k.ino, diff_inode_find(&d->table, k.ino)->in, seen, NULL);
}

static size_t holders(struct diff *d, uint64_t *inos)
{
	size_t n = 0;

	for (size_t i = 0; i < d->table.count; i++)
		if (d->table.inodes[i].flags & DIFF_HOLDER && d->table.inodes[i].in)
			inos[n++] = d->table.inodes[i].ino;
	qsort(inos, n, sizeof(*inos), by_number);
	return n;
}

static int find_names(struct diff *d)
{
	struct diff_scan s = { .views = &d->views, .cf = DB_NS, .fn = on_held_entry, .want_same = always, .arg = d };
	cleanup_free uint64_t *inos = malloc((d->table.count + 1) * sizeof(*inos));
	uint8_t prefix[KEY_NS_PREFIX_LEN];
	const size_t n = inos ? holders(d, inos) : 0;
	int r = inos ? 0 : -ENOMEM;

	for (size_t i = 0; i < n && !r; i++) {
		r = diff_scan_run(&s, prefix, key_ns_prefix(prefix, d->views.tree, inos[i], REC_DIRENT));
		diff_inode_find(&d->table, inos[i])->flags |= DIFF_SCANNED;
	}
	diff_scan_end(&s);
	return r;
}

/* ---- Names elsewhere ---- */

static bool lacks(const struct diff_inode *i)
{
	if (S_ISDIR(i->mode) || !(i->what || i->flags & DIFF_NAMES))
		return false;
	for (unsigned v = 0; v < VIEWS; v++)
		if (i->in & DIFF_IN(v) && i->found[v] < i->nlink[v])
			return true;
	return false;
}

static bool find_lacking(struct diff *d)
{
	bool any = false;

	for (size_t i = 0; i < d->table.count; i++)
		if (lacks(&d->table.inodes[i])) {
			d->table.inodes[i].flags |= DIFF_LACKING;
			any = true;
		}
	return any;
}

static bool is_entry(void *arg, const uint8_t *key, size_t key_len)
{
	(void)arg;
	return key_len == KEY_DIRENT_LEN && key[KEY_NS_PREFIX_LEN - 1] == REC_DIRENT;
}

/* Of an inode that lacks names, or came late, and not one that was found in its directory. */
static bool wanted_elsewhere(const struct diff *d, uint64_t dir, const struct dirent_rec *rec)
{
	const struct diff_inode *i = diff_inode_find(&d->table, rec->ino), *holder = diff_inode_find(&d->table, dir);

	if (!i || !(i->flags & DIFF_LACKING))
		return false;
	return d->late ? i->flags & DIFF_LATE : !holder || !(holder->flags & DIFF_SCANNED);
}

static int on_any_entry(void *arg, const uint8_t *key, size_t key_len, const struct diff_seen seen[VIEWS])
{
	struct diff *d = arg;
	struct diff_inode *dir;
	struct dirent_rec rec;
	struct ns_key k;
	bool wanted = false;
	int r = 0;

	if (!is_entry(NULL, key, key_len))
		return 0;
	if (ns_key_parse(key, key_len, &k))
		return -EBADMSG;
	for (unsigned v = 0; v < VIEWS && !r; v++) {
		if (!seen[v].node)
			continue;
		r = dirent_rec_decode(seen[v].value, seen[v].len, &rec);
		wanted |= !r && wanted_elsewhere(d, k.ino, &rec);
	}
	if (r || !wanted)
		return r;
	r = load(d, k.ino, &dir);
	return r ?: take_names(d, k.ino, dir->in, seen, wanted_elsewhere);
}

static int find_names_elsewhere(struct diff *d)
{
	struct diff_scan s = { .cf = DB_NS, .fn = on_any_entry, .want_same = is_entry };
	const size_t before = d->table.count;
	int r = run_all(d, &s);

	if (r || d->table.count == before)
		return r;
	/* Directories that were not on anybody's way yet, and those above them. */
	d->late = true;
	for (size_t i = before; i < d->table.count; i++)
		d->table.inodes[i].flags |= DIFF_LATE | DIFF_LACKING;
	r = find_parents(d);
	if (r)
		return r;
	s = (struct diff_scan){ .cf = DB_NS, .fn = on_any_entry, .want_same = is_entry };
	return run_all(d, &s);
}

/* ---- ---- */

static int collect(struct diff *d)
{
	uint64_t inos = 0;
	int r = sysrec_tree(d->moment.pool->db, d->views.tree, &inos);

	if (!r)
		r = find_changes(d, inos);
	if (!r)
		r = find_parents(d);
	if (!r)
		r = find_names(d);
	if (!r && find_lacking(d))
		r = find_names_elsewhere(d);
	return r;
}

static int find_nodes(struct diff *d, const struct snapshot_name *const name[VIEWS], const struct refusal *ref)
{
	struct node_entry *node[VIEWS];
	int r = 0;

	for (unsigned v = 0; v < VIEWS && !r; v++)
		r = moment_find(&d->moment, name[v], &node[v], ref);
	if (r)
		return r;
	if (node[FROM]->tree != node[TO]->tree)
		return admin_refuse(ref, -EXDEV, "%s and %s have nothing in common: a diff is of snapshots of one subvolume, its clones, and "
				    "what they were cloned from", name[FROM]->subvol, name[TO]->subvol);
	d->views.m = &d->moment;
	d->views.tree = node[FROM]->tree;
	for (unsigned v = 0; v < VIEWS && !r; v++)
		r = moment_lineage(&d->moment, node[v], &d->views.lineage[v], &d->views.generations[v]);
	d->lookup = (struct diff_scan){ .views = &d->views, .cf = DB_NS, .want_same = always };
	return r ? admin_failed(ref, r) : 0;
}

static void diff_cleanup(struct diff *d)
{
	diff_scan_end(&d->lookup);
	diff_table_free(&d->table);
	for (unsigned v = 0; v < VIEWS; v++)
		free(d->views.lineage[v]);
	free(d->cuts);
	moment_release(&d->moment);
}

static int take_moment(struct diff *d, struct pool *pool, const struct snapshot_name *const name[VIEWS], const struct refusal *ref)
{
	const char *live[VIEWS];
	unsigned n = 0;

	for (unsigned v = 0; v < VIEWS; v++)
		if (!name[v]->snapshot && !(n && !strcmp(live[0], name[v]->subvol)))
			live[n++] = name[v]->subvol;
	return moment_take(pool, live, n, false, &d->moment, ref);
}

int snapshot_diff(struct pool *pool, const struct snapshot_name *from, const struct snapshot_name *to, const struct progress *progress,
		  int (*fn)(void *arg, const struct diff_change *change), void *arg, char *why, size_t why_len)
{
	const struct snapshot_name *const name[VIEWS] = { from, to };
	const struct refusal ref = { why, why_len };
	cleanup(diff_cleanup) struct diff d = { 0 };
	int r = take_moment(&d, pool, name, &ref);

	if (progress)
		d.moment.progress = *progress;
	if (!r)
		r = find_nodes(&d, name, &ref);
	if (r)
		return r;
	r = collect(&d) ?: diff_tell(&d.table, fn, arg);
	if (r == -EBADMSG)
		return admin_refuse(&ref, r, "records of the tree of subvolume %s are damaged; fsck.nvfs shows which", from->subvol);
	if (r == -ENOMEM || r == -EIO)
		return admin_failed(&ref, r);
	return r;
}
