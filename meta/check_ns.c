/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inodes, entries, xattrs. Three passes: each record by itself; then, for what a node sees, the sums of
 * each inode (its records lie together, entries first), which also makes the table of inodes; then all
 * entries once more, which by now can look up the inodes that they lead to.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/crc.h"
#include "meta/check_fix.h"
#include "meta/check_internal.h"
#include "meta/namehash.h"

#define TARGET_FREE_BYTES 128u /* symlinks up to this are in the inode's price */

static int64_t bytes_charge(uint64_t bytes)
{
	return (int64_t)((bytes + NVFS_BLOCK_SIZE - 1) / NVFS_BLOCK_SIZE);
}

static int64_t inode_charge(const struct inode_rec *rec)
{
	return bytes_charge(rec->entry_bytes) + bytes_charge(rec->xattr_bytes) +
	       (rec->target_len > TARGET_FREE_BYTES);
}

/* ---- each record by itself ---- */

static int check_inode_rec(struct check *c, struct check_node *n, const struct ns_key *k,
			   const void *value, size_t len)
{
	struct inode_rec rec;

	if (inode_rec_decode(value, len, &rec) < 0)
		return -EBADMSG;
	n->counted.inodes_born++;
	n->counted.meta_born += inode_charge(&rec);
	if (k->ino == INO_ROOT && !S_ISDIR(rec.mode))
		check_found(c, false, "%s: the root is no directory",
			    check_node_name(c, k->tree, k->node));
	return 0;
}

/* What is newer than all that will be written would make that of no effect. */
static void check_sequence(struct check *c, const struct ns_key *k, uint64_t sequence)
{
	if (!check_sequence_given(c, sequence))
		check_found(c, false, "%s: inode %" PRIu64 ": sequence 0x%" PRIx64 " was never given",
			    check_node_name(c, k->tree, k->node), k->ino, sequence);
}

static int check_size_rec(struct check *c, struct check_node *n, const struct ns_key *k,
			  const void *value, size_t len)
{
	struct size_rec rec;

	if (size_rec_decode(value, len, &rec) < 0)
		return -EBADMSG;
	check_sequence(c, k, rec.absorbed);
	if (!rec.is_inline)
		return 0;
	n->counted.meta_born++;
	if (crc32c(0, rec.data, rec.inline_len) != rec.inline_crc)
		check_found(c, false, "%s: inode %" PRIu64 ": the checksum of its inline data is wrong",
			    check_node_name(c, k->tree, k->node), k->ino);
	return 0;
}

static int check_ns_value(struct check *c, struct check_node *n, const struct ns_key *k,
			  const void *value, size_t len)
{
	struct dirent_rec dirent;
	struct xattr_rec xattr;
	struct orphan_rec orphan;
	struct cut_rec cut;

	switch (k->type) {
	case REC_INODE:
		return check_inode_rec(c, n, k, value, len);
	case REC_SIZE:
		return check_size_rec(c, n, k, value, len);
	case REC_DIRENT:
		return dirent_rec_decode(value, len, &dirent);
	case REC_XATTR:
		return xattr_rec_decode(value, len, &xattr);
	case REC_ORPHAN:
		return orphan_rec_decode(value, len, &orphan);
	default:
		check_sequence(c, k, k->sequence);
		return cut_rec_decode(value, len, &cut);
	}
}

static int check_ns_record(void *arg, const void *key, size_t key_len, const void *value, size_t len)
{
	struct check *c = arg;
	struct check_node *n;
	struct check_tree *t;
	struct ns_key k;

	if (ns_key_parse(key, key_len, &k) < 0) {
		check_malformed(c, REC_FAMILY_NS, key, key_len, value, len);
		return 0;
	}
	n = check_node_find(c, k.tree, k.node);
	if (!n) {
		check_found(c, false, "tree %" PRIu32 " inode %" PRIu64 ": a record of node %" PRIu32 ", which is not there",
			    k.tree, k.ino, k.node);
		return 0;
	}
	if (k.ino > n->last_ino)
		n->last_ino = k.ino;
	t = check_tree_find(c, k.tree);
	if (t && k.ino >= t->next_ino)
		check_found(c, false, "%s: inode %" PRIu64 " is not below the tree's next number",
			    check_node_name(c, k.tree, k.node), k.ino);
	if (is_whiteout(value, len)) {
		if (!n->parent && !n->untidy &&
		    check_found(c, true, "%s: inode %" PRIu64 ": a whiteout that hides nothing",
				check_node_name(c, k.tree, k.node), k.ino))
			db_batch_delete(c->db, c->fixes, DB_NS, key, key_len);
		return 0;
	}
	if (check_ns_value(c, n, &k, value, len) < 0)
		check_malformed(c, REC_FAMILY_NS, key, key_len, value, len);
	return 0;
}

int check_ns_records(struct check *c)
{
	return check_each(c, DB_NS, "inodes", NULL, 0, check_ns_record, c);
}

/* ---- the sums of an inode ---- */

/* What has come of one inode so far. */
struct gather {
	uint64_t ino;
	bool has_inode, hidden, damaged, has_size, is_inline, has_cuts;
	struct inode_rec rec; /* without the target */
	uint32_t from;
	uint64_t entries, entry_bytes, size_blocks;
	unsigned max_probe;
	uint64_t xattr_bytes;
	uint16_t xattr_flags;
};

/* Of inode 0: they come before all inodes. */
struct loose {
	uint64_t ino;
	uint8_t state; /* of an orphan */
	bool met;
};

struct ns_pass {
	struct check_view *view;
	struct gather g;
	CHECK_ARRAY(struct loose) orphans; /* by number */
	CHECK_ARRAY(struct loose) cuts;    /* by number */
};

static int loose_cmp(const void *key, const void *element)
{
	const uint64_t *ino = key;
	const struct loose *l = element;

	return (*ino > l->ino) - (*ino < l->ino);
}

static struct loose *loose_find(struct loose *v, size_t n, uint64_t ino)
{
	return n ? bsearch(&ino, v, n, sizeof(*v), loose_cmp) : NULL;
}

static bool sum_differs(struct ns_pass *p, const char *what, uint64_t stored, uint64_t counted)
{
	struct check *c = p->view->check;

	if (stored == counted)
		return false;
	return check_found(c, check_can_fix(p->view, p->g.from),
			   "%s: inode %" PRIu64 ": %s is %" PRIu64 ", and %" PRIu64 " by its records",
			   check_node_name(c, p->view->node->tree, p->view->node->id), p->g.ino, what,
			   stored, counted);
}

/* The inode's own sums against its records. One that is being reaped loses them in any order. */
static void check_sums(struct ns_pass *p)
{
	const struct gather *g = &p->g;
	bool fix = false;

	if (S_ISDIR(g->rec.mode)) {
		fix |= sum_differs(p, "entries", g->rec.entries, g->entries);
		fix |= sum_differs(p, "entry bytes", g->rec.entry_bytes, g->entry_bytes);
		if (g->max_probe > g->rec.max_probe)
			fix |= sum_differs(p, "max_probe", g->rec.max_probe, g->max_probe);
	} else if (g->entries) {
		check_found(p->view->check, false, "%s: inode %" PRIu64 " has entries and is no directory",
			    check_node_name(p->view->check, p->view->node->tree, p->view->node->id),
			    g->ino);
	}
	fix |= sum_differs(p, "xattr bytes", g->rec.xattr_bytes, g->xattr_bytes);
	fix |= sum_differs(p, "the set of flags", g->rec.flags, g->xattr_flags);
	if (fix)
		check_fix_sums(p->view, g->ino, &(struct check_sums){
			.entries = g->entries,
			.entry_bytes = g->entry_bytes,
			.xattr_bytes = (uint32_t)g->xattr_bytes,
			.flags = g->xattr_flags,
			.max_probe = (uint8_t)(g->max_probe > g->rec.max_probe ? g->max_probe :
										 g->rec.max_probe),
		});
}

static void check_cuts(struct ns_pass *p)
{
	const struct gather *g = &p->g;
	struct loose *cut = loose_find(p->cuts.v, p->cuts.n, g->ino);
	struct check *c = p->view->check;

	if (cut)
		cut->met = true;
	if (!g->has_size || g->damaged || (cut != NULL) == g->has_cuts)
		return;
	if (check_found(c, check_can_fix(p->view, p->view->node->id),
			"%s: inode %" PRIu64 ": its size record %s cuts, and there are %s",
			check_node_name(c, p->view->node->tree, p->view->node->id), g->ino,
			g->has_cuts ? "speaks of" : "knows no", g->has_cuts ? "none" : "some"))
		check_fix_cuts_flag(p->view, g->ino, cut != NULL);
}

/* Parts of an inode that is not there. */
static void check_leftovers(struct ns_pass *p)
{
	struct check *c = p->view->check;

	if (p->g.hidden || p->g.damaged)
		return;
	if (check_found(c, check_can_fix(p->view, p->view->node->id),
			"%s: inode %" PRIu64 " is not there, and has entries, a size or xattrs",
			check_node_name(c, p->view->node->tree, p->view->node->id), p->g.ino))
		check_fix_remove(p->view, p->g.ino);
}

static int gather_append(struct ns_pass *p, const struct loose *orphan)
{
	const struct gather *g = &p->g;
	struct check_inode *i = CHECK_ADD(p->view->inodes);

	if (!i)
		return -ENOMEM;
	*i = (struct check_inode){
		.ino = g->ino,
		.parent = g->rec.parent,
		.size_blocks = g->size_blocks,
		.nlink = g->rec.nlink,
		.mode = g->has_inode ? g->rec.mode : 0,
		.from = g->from,
		.flags = (orphan ? CHECK_ORPHAN : 0) |
			 (orphan && orphan->state == ORPHAN_REAPING ? CHECK_REAPING : 0) |
			 (g->has_size ? CHECK_HAS_SIZE : 0) | (g->is_inline ? CHECK_INLINE : 0) |
			 (g->has_cuts ? CHECK_HAS_CUTS : 0),
	};
	return 0;
}

/* All records of the inode have come. */
static int gather_end(struct ns_pass *p)
{
	struct gather *g = &p->g;
	struct loose *orphan = loose_find(p->orphans.v, p->orphans.n, g->ino);
	struct check_node *n = p->view->node;
	int err = 0;

	if (!g->ino)
		return 0;
	if (orphan)
		orphan->met = true;
	if (g->has_inode) {
		n->counted.inodes++;
		n->counted.meta += inode_charge(&g->rec) + g->is_inline;
		if (!orphan || orphan->state != ORPHAN_REAPING)
			check_sums(p);
		if (g->has_size && !S_ISREG(g->rec.mode))
			check_found(p->view->check, false, "%s: inode %" PRIu64 " has a size and is no file",
				    check_node_name(p->view->check, n->tree, n->id), g->ino);
		check_cuts(p);
	} else {
		check_leftovers(p);
	}
	if (g->has_inode || g->damaged)
		err = gather_append(p, orphan);
	*g = (struct gather){ 0 };
	return err;
}

static void gather_entry(struct ns_pass *p, const struct ns_key *k, const void *value, size_t len)
{
	const uint8_t *hash_key = p->view->check->labels[0].hash_key;
	struct dirent_rec rec;
	uint64_t probe;

	if (dirent_rec_decode(value, len, &rec) < 0) {
		p->g.damaged = true;
		return;
	}
	p->g.entries++;
	p->g.entry_bytes += DIRENT_CHARGE_BYTES + rec.name_len;
	probe = cookie_distance(cookie_of(hash_key, rec.name, rec.name_len), k->cookie);
	if (probe > UINT8_MAX)
		check_found(p->view->check, false, "%s: directory %" PRIu64 ": the cookie of an entry is not of its name",
			    check_node_name(p->view->check, k->tree, p->view->node->id), k->ino);
	else if (probe > p->g.max_probe)
		p->g.max_probe = probe;
}

static void gather_xattr(struct ns_pass *p, const struct ns_key *k, const void *value, size_t len)
{
	static const struct {
		const char *name;
		uint16_t flag;
	} special[] = {
		{ "system.posix_acl_default", INODE_DEFAULT_ACL },
		{ "system.posix_acl_access", INODE_ACCESS_ACL },
		{ "security.capability", INODE_CAPABILITY },
	};
	struct xattr_rec rec;

	if (xattr_rec_decode(value, len, &rec) < 0) {
		p->g.damaged = true;
		return;
	}
	p->g.xattr_bytes += k->name_len + rec.len;
	for (unsigned i = 0; i < 3; i++)
		if (strlen(special[i].name) == k->name_len &&
		    !memcmp(special[i].name, k->name, k->name_len))
			p->g.xattr_flags |= special[i].flag;
}

static void gather_size(struct ns_pass *p, const void *value, size_t len)
{
	struct size_rec rec;

	if (size_rec_decode(value, len, &rec) < 0) {
		p->g.damaged = true;
		return;
	}
	p->g.has_size = true;
	p->g.is_inline = rec.is_inline;
	p->g.has_cuts = rec.has_cuts;
	p->g.size_blocks = rec.blocks;
}

static void gather_inode(struct ns_pass *p, const void *value, size_t len, uint32_t from)
{
	if (is_whiteout(value, len))
		p->g.hidden = true;
	else if (inode_rec_decode(value, len, &p->g.rec) < 0)
		p->g.damaged = true;
	else
		p->g.has_inode = true;
	p->g.rec.target = NULL;
	p->g.from = from;
}

static int loose_add(struct ns_pass *p, const struct ns_key *k, const void *value, size_t len)
{
	struct orphan_rec rec = { 0 };
	struct loose *l;

	if (k->type == REC_ORPHAN) {
		if (orphan_rec_decode(value, len, &rec) < 0)
			return 0;
		l = CHECK_ADD(p->orphans);
	} else {
		if (p->cuts.n && p->cuts.v[p->cuts.n - 1].ino == k->ino)
			return 0;
		l = CHECK_ADD(p->cuts);
	}
	if (!l)
		return -ENOMEM;
	l->ino = k->ino;
	l->state = rec.state;
	return 0;
}

static int gather_step(void *arg, const void *key, size_t key_len, uint32_t from, const void *value,
		       size_t len)
{
	struct ns_pass *p = arg;
	struct ns_key k;
	int err;

	if (ns_key_parse(key, key_len, &k) < 0)
		return 0;
	if (k.type == REC_ORPHAN || k.type == REC_CUT)
		return loose_add(p, &k, value, len);
	if (k.ino != p->g.ino) {
		err = gather_end(p);
		if (err)
			return err;
		p->g.ino = k.ino;
	}
	switch (k.type) {
	case REC_INODE:
		gather_inode(p, value, len, from);
		break;
	case REC_SIZE:
		gather_size(p, value, len);
		break;
	case REC_DIRENT:
		gather_entry(p, &k, value, len);
		break;
	default:
		gather_xattr(p, &k, value, len);
		break;
	}
	return 0;
}

static void check_loose(struct ns_pass *p)
{
	struct check_view *view = p->view;
	const char *name = check_node_name(view->check, view->node->tree, view->node->id);

	for (size_t i = 0; i < p->orphans.n; i++)
		if (!p->orphans.v[i].met &&
		    check_found(view->check, check_can_fix(view, view->node->id),
				"%s: inode %" PRIu64 " is an orphan and not there", name,
				p->orphans.v[i].ino))
			check_fix_orphan(view, p->orphans.v[i].ino, -1);
	for (size_t i = 0; i < p->cuts.n; i++)
		if (!p->cuts.v[i].met)
			check_found(view->check, false, "%s: a cut of inode %" PRIu64 ", which is not there",
				    name, p->cuts.v[i].ino);
}

/* ---- entries ---- */

#define CLUSTER_MAX 256

/* Names whose cookies follow each other: only there can a name be twice. */
struct cluster {
	uint64_t dir, next_cookie;
	unsigned n;
	struct {
		uint8_t len;
		char name[NAME_BYTES_MAX];
	} names[CLUSTER_MAX];
};

struct entries_pass {
	struct check_view *view;
	struct cluster cluster;
};

static void check_twice(struct entries_pass *p, const struct ns_key *k, const struct dirent_rec *rec)
{
	struct cluster *cl = &p->cluster;

	if (k->ino != cl->dir || k->cookie > cl->next_cookie + UINT8_MAX)
		cl->n = 0;
	for (unsigned i = 0; i < cl->n; i++)
		if (cl->names[i].len == rec->name_len &&
		    !memcmp(cl->names[i].name, rec->name, rec->name_len))
			check_found(p->view->check, false, "%s: directory %" PRIu64 " has the name %.*s twice",
				    check_node_name(p->view->check, k->tree, p->view->node->id), k->ino,
				    rec->name_len, rec->name);
	if (cl->n == CLUSTER_MAX)
		cl->n = 0;
	cl->names[cl->n].len = rec->name_len;
	memcpy(cl->names[cl->n++].name, rec->name, rec->name_len);
	cl->dir = k->ino;
	cl->next_cookie = k->cookie + 1;
}

/* The entry leads to this inode. */
static void count_entry(struct entries_pass *p, const struct ns_key *k, struct check_inode *dir,
			const struct dirent_rec *rec, struct check_inode *child, uint32_t from)
{
	struct check *c = p->view->check;

	child->refs++;
	if (!child->mode)
		return;
	if (S_ISDIR(child->mode)) {
		dir->subdirs++;
		if (child->parent != k->ino)
			check_found(c, false, "%s: directory %" PRIu64 " says that it is in %" PRIu64 ", and is in %" PRIu64,
				    check_node_name(c, k->tree, p->view->node->id), child->ino, child->parent, k->ino);
	}
	if (rec->file_type != (child->mode & S_IFMT) >> 12 &&
	    check_found(c, check_can_fix(p->view, from),
			"%s: directory %" PRIu64 ": the entry %.*s is of another type than inode %" PRIu64,
			check_node_name(c, k->tree, p->view->node->id), k->ino, rec->name_len, rec->name, child->ino))
		check_fix_entry_type(p->view, k->ino, k->cookie, rec, child->mode);
}

static int entry_step(void *arg, const void *key, size_t key_len, uint32_t from, const void *value,
		      size_t len)
{
	struct entries_pass *p = arg;
	struct check *c = p->view->check;
	struct check_inode *dir, *child;
	struct dirent_rec rec;
	struct ns_key k;

	if (ns_key_parse(key, key_len, &k) < 0 || k.type != REC_DIRENT)
		return 0;
	dir = check_inode_find(p->view, k.ino);
	if (!dir || dirent_rec_decode(value, len, &rec) < 0)
		return 0;
	check_twice(p, &k, &rec);
	child = check_inode_find(p->view, rec.ino);
	if (child) {
		count_entry(p, &k, dir, &rec, child, from);
		return 0;
	}
	if (check_found(c, check_can_fix(p->view, from),
			"%s: directory %" PRIu64 ": the entry %.*s leads to inode %" PRIu64 ", which is not there",
			check_node_name(c, k.tree, p->view->node->id), k.ino, rec.name_len, rec.name,
			rec.ino))
		db_batch_delete(c->db, c->fixes, DB_NS, key, key_len);
	return 0;
}

int check_ns_view(struct check_view *view)
{
	struct ns_pass pass = { .view = view };
	struct entries_pass *entries = calloc(1, sizeof(*entries));
	int err = entries ? 0 : -ENOMEM;

	if (!err)
		err = check_view_each(view, DB_NS, "inodes", NULL, 0, gather_step, &pass);
	if (!err)
		err = gather_end(&pass);
	if (!err) {
		check_loose(&pass);
		entries->view = view;
		err = check_view_each(view, DB_NS, "directories", NULL, 0, entry_step, entries);
	}
	free(entries);
	free(pass.orphans.v);
	free(pass.cuts.v);
	return err;
}
