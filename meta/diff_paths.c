/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From names to paths, in order. Each view has a tree of its own: what was deleted is told where it was, all else where it is. A
 * tree is a list of branches by directory and name: an item of that name, or a directory's contents, which sort behind its name and a
 * slash. So the two walks give their paths in the order of bytes, and are merged.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/cleanup.h"
#include "meta/diff_internal.h"

#define NONE UINT32_MAX

struct item {
	uint32_t name; /* index; NONE: the root directory */
	uint32_t old;  /* of what was renamed, else NONE */
	uint8_t kind;  /* enum diff_kind */
	uint8_t what;
};

struct branch {
	uint64_t dir;
	uint32_t name;
	uint32_t item; /* NONE: the contents of the directory of that name */
};

struct path {
	char *s;
	size_t len, room;
};

struct level {
	size_t at, end;  /* of the branches of a directory */
	size_t path_len; /* of its path, with the slash */
};

/* A walk over the items of one view. */
struct walk {
	const struct diff_table *t;
	struct branch *branches;
	size_t count, room;
	struct level *levels;
	size_t depth, levels_room;
	struct path path;
	const struct item *item; /* that path is of; NULL: at the end */
	size_t given;
};

struct telling {
	struct diff_table *t;
	struct item *items;
	size_t count, room;
	struct walk walk[VIEWS];
	struct path old;
};

static const char *bytes_of(const struct diff_table *t, uint32_t name)
{
	return t->bytes + t->names[name].at;
}

static int path_room(struct path *p, size_t len)
{
	while (len > p->room)
		if (array_grow((void **)&p->s, p->room, &p->room, 1))
			return -ENOMEM;
	return 0;
}

/* ---- Items ---- */

static int compare_bytes(const char *a, size_t a_len, const char *b, size_t b_len)
{
	const int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

static int by_inode(const void *a, const void *b, void *arg)
{
	const struct diff_name *x = a, *y = b;
	const struct diff_table *t = arg;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	if (x->dir != y->dir)
		return x->dir < y->dir ? -1 : 1;
	return compare_bytes(t->bytes + x->at, x->len, t->bytes + y->at, y->len);
}

/* The same name at another cookie is no change. */
static void merge_names(struct diff_table *t)
{
	size_t n = 0;

	if (!t->nnames)
		return;
	qsort_r(t->names, t->nnames, sizeof(*t->names), by_inode, t);
	for (size_t i = 1; i < t->nnames; i++)
		if (by_inode(&t->names[n], &t->names[i], t))
			t->names[++n] = t->names[i];
		else
			t->names[n].in |= t->names[i].in;
	t->nnames = n + 1;
}

static int add_item(struct telling *w, const struct item *item)
{
	if (w->count == NONE - 1 || array_grow((void **)&w->items, w->count, &w->room, sizeof(*w->items)))
		return -ENOMEM;
	w->items[w->count++] = *item;
	return 0;
}

/* The next name from `at` on of the same inode that is in these views only; end if there is none. */
static size_t next_in(const struct diff_table *t, size_t at, size_t end, unsigned in)
{
	while (at < end && t->names[at].in != in)
		at++;
	return at;
}

/* Names that came are what names that went have become; what is left over was created or deleted. */
static int changed_names(struct telling *w, const struct diff_inode *i, size_t begin, size_t end)
{
	unsigned in = 0; /* views that have a name of it */
	size_t was = next_in(w->t, begin, end, DIFF_IN(FROM)), is = next_in(w->t, begin, end, DIFF_IN(TO));
	int r = 0;

	for (size_t n = begin; n < end; n++)
		in |= w->t->names[n].in;
	while (!r && (was < end || is < end)) {
		struct item item = { .name = (uint32_t)(is < end ? is : was), .old = NONE };

		if (was < end && is < end) {
			item.kind = DIFF_RENAMED;
			item.what = i->what;
			item.old = (uint32_t)was;
		} else {
			item.kind = is < end ? DIFF_CREATED : DIFF_DELETED;
			item.what = in == (DIFF_IN(FROM) | DIFF_IN(TO)) ? DIFF_LINK : 0;
		}
		r = add_item(w, &item);
		was = next_in(w->t, was + (was < end), end, DIFF_IN(FROM));
		is = next_in(w->t, is + (is < end), end, DIFF_IN(TO));
	}
	return r;
}

static uint8_t change_kind(unsigned what)
{
	return what & DIFF_DATA ? DIFF_MODIFIED : DIFF_ATTRIBUTES;
}

static int items_of_inode(struct telling *w, size_t begin, size_t end)
{
	struct diff_inode *i = diff_inode_find(w->t, w->t->names[begin].ino);
	int r = changed_names(w, i, begin, end);

	for (size_t n = begin; n < end && !r; n++) {
		const struct item item = { .name = (uint32_t)n, .old = NONE, .kind = change_kind(i->what), .what = i->what };

		for (unsigned v = 0; v < VIEWS && S_ISDIR(i->mode); v++)
			if (w->t->names[n].in & DIFF_IN(v))
				i->name[v] = (uint32_t)n + 1;
		if (i->what && w->t->names[n].in == (DIFF_IN(FROM) | DIFF_IN(TO)))
			r = add_item(w, &item);
	}
	return r;
}

static int make_items(struct telling *w)
{
	const struct diff_inode *root = diff_inode_find(w->t, INO_ROOT);
	int r = 0;

	merge_names(w->t);
	if (root && root->what)
		r = add_item(w, &(struct item){ .name = NONE, .old = NONE, .kind = change_kind(root->what), .what = root->what });
	for (size_t begin = 0, end; begin < w->t->nnames && !r; begin = end) {
		for (end = begin + 1; end < w->t->nnames && w->t->names[end].ino == w->t->names[begin].ino;)
			end++;
		r = items_of_inode(w, begin, end);
	}
	return r;
}

/* ---- Walks ---- */

/* As if the contents' name ended with a slash. */
static int by_place(const void *a, const void *b, void *arg)
{
	const struct branch *x = a, *y = b;
	const struct diff_table *t = arg;
	const struct diff_name *m = &t->names[x->name], *n = &t->names[y->name];
	const size_t len = m->len < n->len ? m->len : n->len;
	int order;

	if (x->dir != y->dir)
		return x->dir < y->dir ? -1 : 1;
	order = memcmp(t->bytes + m->at, t->bytes + n->at, len);
	if (order || (m->len == n->len && x->item != NONE && y->item != NONE))
		return order;
	if (m->len == n->len)
		return (x->item == NONE) - (y->item == NONE);
	if (m->len < n->len)
		return x->item == NONE ? '/' - (int)(uint8_t)t->bytes[n->at + len] : -1;
	return y->item == NONE ? (int)(uint8_t)t->bytes[m->at + len] - '/' : 1;
}

static int add_branch(struct walk *w, uint32_t name, uint32_t item)
{
	if (array_grow((void **)&w->branches, w->count, &w->room, sizeof(*w->branches)))
		return -ENOMEM;
	w->branches[w->count++] = (struct branch){ .dir = w->t->names[name].dir, .name = name, .item = item };
	return 0;
}

static int add_branches(struct telling *tell)
{
	struct diff_table *t = tell->t;
	int r = 0;

	for (size_t i = 0; i < tell->count && !r; i++)
		if (tell->items[i].name != NONE)
			r = add_branch(&tell->walk[tell->items[i].kind == DIFF_DELETED ? FROM : TO], tell->items[i].name, (uint32_t)i);
	for (size_t i = 0; i < t->count && !r; i++)
		for (unsigned v = 0; v < VIEWS && !r; v++)
			if (t->inodes[i].name[v])
				r = add_branch(&tell->walk[v], t->inodes[i].name[v] - 1, NONE);
	for (unsigned v = 0; v < VIEWS && !r; v++)
		if (tell->walk[v].count)
			qsort_r(tell->walk[v].branches, tell->walk[v].count, sizeof(struct branch), by_place, t);
	return r;
}

static size_t first_of(const struct walk *w, uint64_t dir)
{
	size_t low = 0, high = w->count;

	while (low < high) {
		const size_t mid = (low + high) / 2;

		if (w->branches[mid].dir < dir)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Into a directory, whose path is path_len bytes with a slash at their end. */
static int enter(struct walk *w, uint64_t dir, size_t path_len)
{
	struct level *l;

	if (array_grow((void **)&w->levels, w->depth, &w->levels_room, sizeof(*w->levels)))
		return -ENOMEM;
	l = &w->levels[w->depth++];
	l->at = first_of(w, dir);
	for (l->end = l->at; l->end < w->count && w->branches[l->end].dir == dir;)
		l->end++;
	l->path_len = path_len;
	return 0;
}

static int append(struct walk *w, size_t at, uint32_t name)
{
	const size_t len = w->t->names[name].len;

	if (path_room(&w->path, at + len + 1))
		return -ENOMEM;
	memcpy(w->path.s + at, bytes_of(w->t, name), len);
	w->path.s[at + len] = '/';
	w->path.len = at + len;
	return 0;
}

/* To the next item: 0, w->item NULL at the end, or -ENOMEM. */
static int advance(struct telling *tell, struct walk *w)
{
	w->item = NULL;
	while (w->depth) {
		struct level *l = &w->levels[w->depth - 1];
		const struct branch *b = &w->branches[l->at];
		int r;

		if (l->at == l->end) {
			w->depth--;
			continue;
		}
		l->at++;
		r = append(w, l->path_len, b->name);
		if (!r && b->item != NONE) {
			w->item = &tell->items[b->item];
			w->given++;
			return 0;
		}
		if (!r)
			r = enter(w, w->t->names[b->name].ino, w->path.len + 1);
		if (r)
			return r;
	}
	return 0;
}

static int start(struct telling *tell, struct walk *w)
{
	int r = path_room(&w->path, 1);

	if (r)
		return r;
	w->path.s[0] = '/';
	return enter(w, INO_ROOT, 1) ?: advance(tell, w);
}

/* ---- Telling ---- */

/* Where a name was: from its end, up the directories. */
static int old_path(struct telling *w, uint32_t name)
{
	struct path *p = &w->old;
	size_t len = 0, at, up = 0;

	for (uint32_t n = name; n != NONE; up++) {
		const struct diff_inode *dir = diff_inode_find(w->t, w->t->names[n].dir);

		len += w->t->names[n].len + 1u;
		if (!dir || up > w->t->count || (dir->ino != INO_ROOT && !dir->name[FROM]))
			return -EBADMSG;
		n = dir->ino == INO_ROOT ? NONE : dir->name[FROM] - 1;
	}
	if (path_room(p, len))
		return -ENOMEM;
	p->len = at = len;
	for (uint32_t n = name; n != NONE;) {
		const struct diff_inode *dir = diff_inode_find(w->t, w->t->names[n].dir);

		at -= w->t->names[n].len;
		memcpy(p->s + at, bytes_of(w->t, n), w->t->names[n].len);
		p->s[--at] = '/';
		n = dir->ino == INO_ROOT ? NONE : dir->name[FROM] - 1;
	}
	return 0;
}

static int tell_item(struct telling *w, const struct item *item, const struct path *path,
		     int (*fn)(void *arg, const struct diff_change *change), void *arg)
{
	const struct diff_inode *i = diff_inode_find(w->t, item->name == NONE ? INO_ROOT : w->t->names[item->name].ino);
	struct diff_change change = {
		.kind = item->kind,
		.what = item->what,
		.mode = i->mode,
		.ino = i->ino,
		.path = item->name == NONE ? "/" : path->s,
		.path_len = item->name == NONE ? 1 : path->len,
	};

	if (item->old != NONE) {
		int r = old_path(w, item->old);

		if (r)
			return r;
		change.old_path = w->old.s;
		change.old_path_len = w->old.len;
	}
	return fn(arg, &change);
}

/* The walk whose path comes first: what was deleted, if both are at the same. */
static struct walk *first(struct telling *w)
{
	struct walk *a = &w->walk[FROM], *b = &w->walk[TO];

	if (!a->item || !b->item)
		return a->item ? a : b;
	return compare_bytes(a->path.s, a->path.len, b->path.s, b->path.len) <= 0 ? a : b;
}

static int tell_all(struct telling *w, int (*fn)(void *arg, const struct diff_change *change), void *arg)
{
	const bool root = w->count && w->items[0].name == NONE;
	int r = root ? tell_item(w, &w->items[0], NULL, fn, arg) : 0;

	for (unsigned v = 0; v < VIEWS && !r; v++)
		r = start(w, &w->walk[v]);
	while (!r) {
		struct walk *next = first(w);

		if (!next->item)
			break;
		r = tell_item(w, next->item, &next->path, fn, arg);
		if (!r)
			r = advance(w, next);
	}
	if (!r && w->walk[FROM].given + w->walk[TO].given + root != w->count)
		r = -EBADMSG; /* directories that nothing leads to */
	return r;
}

static void telling_free(struct telling *w)
{
	for (unsigned v = 0; v < VIEWS; v++) {
		free(w->walk[v].branches);
		free(w->walk[v].levels);
		free(w->walk[v].path.s);
	}
	free(w->items);
	free(w->old.s);
}

int diff_tell(struct diff_table *t, int (*fn)(void *arg, const struct diff_change *change), void *arg)
{
	cleanup(telling_free) struct telling w = { .t = t, .walk = { { .t = t }, { .t = t } } };
	int r = make_items(&w);

	if (!r)
		r = add_branches(&w);
	return r ?: tell_all(&w, fn, arg);
}
