/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of the model that changes data and names. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/tree_internal.h"

/* ---- Data ---- */

/* What a change of an inode's record costs the tenant: blocks that it is charged before and after it. */
static void add_rec(struct tree_cost *cost, const struct tree_node *v, uint32_t rec, int64_t was, int64_t now)
{
	const bool own = tree_is_own(v, rec);

	cost->own += own ? now - was : now;
	cost->own_most += now;
	cost->own_inodes += !own;
	cost->own_inodes_most++;
}

/* A block that is written is new, or another's, too. What is compressed may have become own with its neighbours. */
static bool is_new_own(const struct tree_node *v, uint32_t id)
{
	return !id || (!tree_opts.packs && !tree_is_own(v, id));
}

/* Blocks of a file that are written: those that are new in it, and that are another's, too. */
static void add_slots(struct tree_cost *cost, const struct tree_node *v, const struct tree_slot *slots, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		cost->blocks += !slots[i].id;
		cost->own += is_new_own(v, slots[i].id);
		cost->own_most++;
	}
}

/* How many of the slots can be written; with `most` as if nothing were own. */
static unsigned may_write(const struct tree_node *v, const struct tree_slot *slots, unsigned n, struct tree_room room, bool most, int *refusal)
{
	unsigned i = 0;

	while (i < n && tree_take_block(&room, !slots[i].id, most || is_new_own(v, slots[i].id), refusal))
		i++;
	return i;
}

/* A buffered write ends where the room does; a direct one, of what may be compressed, may be one. What it wrote. */
static unsigned check_written(const struct tree_node *v, const struct tree_room *room, const struct tree_slot *slots, unsigned n, bool direct, int r)
{
	const unsigned wrote = r > 0 ? (unsigned)r / BLOCK : 0;
	int refusal = 0, counted = -1;
	unsigned may = may_write(v, slots, n, *room, false, &refusal), least = may;

	if (room->exact) {
		TREE_ASSERT(may ? r == (int)(may * BLOCK) : r == refusal, "a write of %u blocks to %s gave %d, and there is room for %u (%d): "
			    "%ld blocks, own %ld, loose %ld", n, v->volume, r, may, refusal, room->blocks, room->own, room->loose);
		return wrote;
	}
	if (!tree_opts.packs)
		least = may_write(v, slots, n, *room, true, &counted);
	else if ((direct && may < n) || room->grace_over || room->own < room->visible + n || room->loose < room->visible + n)
		least = 0;
	TREE_ASSERT(r > 0 ? wrote >= least && wrote <= may && r % (int)BLOCK == 0 : !least && is_refusal(r),
		    "a write of %u blocks to %s gave %d, and there is room for %u to %u: %ld blocks, own %ld, loose %ld", n, v->volume, r, least, may,
		    room->blocks, room->own, room->loose);
	return wrote;
}

static void write_plain(struct tree_node *v, struct tree_file *m, unsigned f)
{
	const bool wide = kind_of(f) == TREE_WIDE;
	const unsigned at = tree_pick(TREE_SLOTS), most = wide ? 1 : 1 + tree_pick(tree_pick(4) ? 8 : TREE_SLOTS);
	const unsigned n = at + most < TREE_SLOTS ? most : TREE_SLOTS - at;
	const unsigned flags = tree_pick(3) ? 0 : DATA_DIRECT;
	const uint32_t content = 1 + tree_pick(1u << 30);
	struct call c = { .ino = m->ino, .offset = slot_at(f, at), .data = tree_buf, .len = n * BLOCK, .flags = flags };
	struct tree_cost cost = { 0 };
	struct tree_room room;
	unsigned wrote;
	int r;

	tree_room(v, &room);
	add_slots(&cost, v, m->slots + at, n);
	for (unsigned i = 0; i < n; i++)
		tree_fill(tree_buf + i * BLOCK, content + i, BLOCK);
	r = subvol_call(v->sv, do_write, &c);
	if (flags && !tree_opts.packs) {
		tree_check_whole(&room, &cost, r > 0 ? 0 : r, "a direct write");
		wrote = r > 0 ? (unsigned)r / BLOCK : 0;
		ck_assert(!wrote || wrote == n);
	} else {
		wrote = check_written(v, &room, m->slots + at, n, flags, r);
	}
	for (unsigned i = 0; i < wrote; i++)
		m->slots[at + i] = (struct tree_slot){ tree_new_id(), content + i };
	if (wrote && m->size < at + wrote)
		m->size = at + wrote;
}

static void write_small(struct tree_node *v, struct tree_file *m)
{
	const unsigned len = m->size + 1 + tree_pick(SMALL_MAX - m->size);
	const uint32_t content = 1 + tree_pick(1u << 30);
	struct call c = { .ino = m->ino, .data = tree_buf, .len = len };
	struct tree_cost cost = { .blocks = !m->small_id, .own_most = 1 };
	struct tree_room room;
	int r;

	if (m->size == SMALL_MAX)
		return;
	tree_room(v, &room);
	cost.own = !m->small_id || !tree_is_own(v, m->small_id);
	tree_fill(tree_buf, content, SMALL_MAX);
	r = subvol_call(v->sv, do_write, &c);
	tree_check_whole(&room, &cost, r > 0 ? 0 : r, "a small write");
	if (r <= 0)
		return;
	ck_assert_int_eq(r, (int)len);
	m->small_id = tree_new_id();
	m->size = len;
	m->content = content;
}

static void truncate_file(struct tree_node *v, struct tree_file *m, unsigned f)
{
	const bool small = kind_of(f) == TREE_SMALL;
	const unsigned size = tree_pick(small || tree_pick(3) ? m->size + 1 : TREE_SLOTS + 1);
	struct call c = { .ino = m->ino, .flags = ATTR_SIZE, .attr.size_bytes = small ? size : size ? slot_at(f, size - 1) + BLOCK : 0 };
	const struct tree_cost cost = { 0 };
	struct tree_room room;
	int r;

	tree_room(v, &room);
	r = subvol_call(v->sv, do_setattr, &c);
	tree_check_whole(&room, &cost, r, "a truncation"); /* the rest of what was compressed with it needs own blocks */
	if (r)
		return;
	for (unsigned i = size; !small && i < TREE_SLOTS; i++)
		m->slots[i] = (struct tree_slot){ 0 };
	if (small && m->small_id)
		m->small_id = size ? tree_new_id() : 0;
	m->size = size;
}

/* Punch, zero, promise. */
static void change_range(struct tree_node *v, struct tree_file *m, unsigned f)
{
	const unsigned at = tree_pick(TREE_SLOTS), n = 1 + tree_pick(TREE_SLOTS - at), what = kind_of(f) == TREE_WIDE ? 0 : tree_pick(3);
	const unsigned modes[] = { FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE, 0 };
	struct call c = { .ino = m->ino, .flags = modes[what], .offset = slot_at(f, at), .len = slot_at(f, n) };
	struct tree_cost cost = { 0 };
	struct tree_room room;
	int r;

	tree_room(v, &room);
	for (unsigned i = at; what && i < at + n; i++) {
		const bool fresh = !m->slots[i].id;

		cost.blocks += fresh;
		cost.own += fresh || (what == 1 && is_new_own(v, m->slots[i].id));
		cost.own_most += fresh || what == 1;
	}
	cost.steps = true;
	r = subvol_call(v->sv, do_fallocate, &c);
	if (!tree_opts.packs || r)
		tree_check_whole(&room, &cost, r, what ? what == 1 ? "zeroing" : "fallocate" : "a punch");
	if (r)
		return;
	for (unsigned i = at; i < at + n; i++)
		if (!what)
			m->slots[i] = (struct tree_slot){ 0 };
		else if (what == 1 || !m->slots[i].id)
			m->slots[i] = (struct tree_slot){ tree_new_id(), 0 };
	if (what && m->size < at + n)
		m->size = at + n;
}

/* How many blocks can be copied. A hole costs nothing. */
static unsigned may_copy(const struct tree_node *v, const struct tree_slot *in, const struct tree_slot *out, unsigned n, struct tree_room room,
			 bool most, int *refusal)
{
	unsigned i = 0;

	while (i < n && (!in[i].id || tree_take_block(&room, !out[i].id, most || is_new_own(v, out[i].id), refusal)))
		i++;
	return i;
}

static void check_copied(const struct tree_node *v, const struct tree_room *room, const struct tree_slot *in, const struct tree_slot *out,
			 unsigned n, int r)
{
	int refusal = 0, counted = -1;
	const unsigned may = may_copy(v, in, out, n, *room, false, &refusal), least = may_copy(v, in, out, n, *room, true, &counted);

	if (room->exact)
		TREE_ASSERT(may ? r == (int)(may * BLOCK) : r == refusal, "a copy of %u blocks gave %d, and there is room for %u (%d)", n, r,
			    may, refusal);
	else if (!tree_opts.packs)
		TREE_ASSERT(r > 0 ? r >= (int)(least * BLOCK) && r <= (int)(may * BLOCK) : !least && is_refusal(r),
			    "a copy of %u blocks gave %d, and there is room for %u to %u", n, r, least, may);
}

static void copy_range(struct tree_node *v, unsigned from, unsigned to)
{
	struct tree_file *in = &v->files[from], *out = &v->files[to];
	struct tree_room room;
	unsigned at, n;
	int r;

	if (kind_of(from) || kind_of(to) || from == to || !in->rec || in->gone || !in->size)
		return;
	at = tree_pick(in->size);
	n = 1 + tree_pick(in->size - at);
	for (unsigned i = at; i < at + n; i++)
		if (in->slots[i].id && !in->slots[i].content)
			return; /* promised: what a copy has there is left open */
	tree_room(v, &room);
	r = call(v->sv, do_copy, (struct call){ .ino = in->ino, .offset = at * BLOCK, .ino2 = out->ino, .offset2 = at * BLOCK, .len = n * BLOCK });
	if (r == -EOPNOTSUPP)
		return;
	check_copied(v, &room, in->slots + at, out->slots + at, n, r);
	for (unsigned i = at; r > 0 && i < at + (unsigned)r / BLOCK; i++)
		out->slots[i] = (struct tree_slot){ in->slots[i].id ? tree_new_id() : 0, in->slots[i].content };
	if (r > 0 && out->size < at + (unsigned)r / BLOCK)
		out->size = at + (unsigned)r / BLOCK;
}

static void change_data(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	const unsigned what = tree_pick(8);

	if (kind_of(f) == TREE_SMALL)
		what ? write_small(v, m) : truncate_file(v, m, f);
	else if (what < 4)
		write_plain(v, m, f);
	else if (what < 5)
		truncate_file(v, m, f);
	else if (what < 7)
		change_range(v, m, f);
	else
		copy_range(v, tree_pick(TREE_FILES), f);
}

/* One change, which is there as a whole after a power cut, or not at all. */
static void change_once(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];

	if (kind_of(f) == TREE_SMALL)
		write_small(v, m);
	else if (tree_pick(4) || kind_of(f) == TREE_WIDE)
		write_plain(v, m, f);
	else
		truncate_file(v, m, f);
}

int tree_write_some(void)
{
	for (unsigned i = 0; i < TREE_VOLUMES; i++) {
		struct tree_node *v = &tree.volumes[i];

		if (!v->sv)
			continue;
		for (unsigned f = 0; f < TREE_FILES; f++)
			if (v->files[f].rec && !v->files[f].gone && tree_pick(3))
				change_once(v, f);
		return (int)i;
	}
	return -1;
}

/* ---- Names ---- */

static void create_file(struct tree_node *v, unsigned f)
{
	struct tree_cost cost = { .inodes = 1, .own_inodes = 1, .own_inodes_most = 1 };
	struct tree_file *m = &v->files[f];
	char name[16];
	struct call c = { .ino = ROOT, .name = name, .flags = S_IFREG | 0600 };
	struct tree_room room;
	int r;

	file_name(name, f);
	tree_room(v, &room);
	add_rec(&cost, v, v->root_rec, 1, 1);
	r = subvol_call(v->sv, do_create, &c);
	tree_check_whole(&room, &cost, r, "create");
	if (r)
		return;
	*m = (struct tree_file){ .rec = tree_new_id(), .ino = c.attr.ino, .mode = 0600 };
	v->root_rec = tree_new_id();
}

static void remove_file(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	const bool kept = !m->links && tree_pick(2);
	char name[16];

	if (m->links)
		return;
	file_name(name, f);
	if (kept)
		call(v->sv, do_know, (struct call){ .ino = m->ino });
	ck_assert_int_eq(call(v->sv, do_unlink, (struct call){ .ino = ROOT, .name = name }), 0);
	v->root_rec = tree_new_id();
	if (kept) {
		m->gone = true;
		m->rec = tree_new_id();
	} else {
		memset(m, 0, sizeof(*m));
	}
}

static void forget_file(struct tree_node *v, struct tree_file *m)
{
	call(v->sv, do_forget, (struct call){ .ino = m->ino });
	memset(m, 0, sizeof(*m));
}

static void link_file(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	const int64_t was = tree_dir_blocks(v), attr = tree_xattr_blocks(m->xattr);
	char name[LINK_NAME + 1];
	struct tree_cost cost = { 0 };
	struct tree_room room;
	int r;

	if (m->links == LINKS_MAX)
		return;
	tree_room(v, &room);
	m->links++;
	cost.blocks = tree_dir_blocks(v) - was;
	add_rec(&cost, v, v->dir_rec, was, tree_dir_blocks(v));
	add_rec(&cost, v, m->rec, attr, attr);
	link_name(name, f, m->links - 1);
	r = call(v->sv, do_link, (struct call){ .ino = m->ino, .ino2 = v->dir, .name = name });
	tree_check_whole(&room, &cost, r, "link");
	if (r) {
		m->links--;
	} else {
		m->rec = tree_new_id();
		v->dir_rec = tree_new_id();
	}
}

static void unlink_link(struct tree_node *v, unsigned f)
{
	struct tree_file *m = &v->files[f];
	char name[LINK_NAME + 1];

	if (!m->links)
		return;
	link_name(name, f, --m->links);
	ck_assert_int_eq(call(v->sv, do_unlink, (struct call){ .ino = v->dir, .name = name }), 0);
	m->rec = tree_new_id();
	v->dir_rec = tree_new_id();
}

static void change_xattr(struct tree_node *v, struct tree_file *m)
{
	const unsigned len = tree_pick(3) ? 1 + tree_pick(XATTR_MAX) : 0;
	const uint32_t content = 1 + tree_pick(1u << 30);
	struct tree_cost cost = { .blocks = (int64_t)tree_xattr_blocks(len) - tree_xattr_blocks(m->xattr) };
	struct call c = { .ino = m->ino, .name = "user.x", .data = tree_buf, .len = len };
	struct tree_room room;
	int r;

	if (!len && !m->xattr)
		return;
	tree_room(v, &room);
	add_rec(&cost, v, m->rec, tree_xattr_blocks(m->xattr), tree_xattr_blocks(len));
	tree_fill(tree_buf, content, XATTR_MAX);
	r = subvol_call(v->sv, len ? do_setxattr : do_removexattr, &c);
	if (len)
		tree_check_whole(&room, &cost, r, "setxattr");
	else
		ck_assert_int_eq(r, 0);
	if (r)
		return;
	m->xattr = len;
	m->xattr_content = content;
	m->rec = tree_new_id();
}

static void change_mode(struct tree_node *v, struct tree_file *m)
{
	struct call c = { .ino = m->ino, .flags = ATTR_MODE, .attr.mode = tree_pick(01000) };
	const unsigned mode = c.attr.mode;
	struct tree_cost cost = { 0 };
	struct tree_room room;
	int r;

	tree_room(v, &room);
	add_rec(&cost, v, m->rec, tree_xattr_blocks(m->xattr), tree_xattr_blocks(m->xattr));
	r = subvol_call(v->sv, do_setattr, &c);
	tree_check_whole(&room, &cost, r, "chmod");
	if (r)
		return;
	m->mode = mode;
	m->rec = tree_new_id();
}

void tree_change_file(struct tree_node *v)
{
	const unsigned f = tree_pick(TREE_FILES), what = tree_pick(14);
	struct tree_file *m = &v->files[f];

	if (tree_opts.limits && tree.tenants[v->tenant].soft)
		tree_follow_soft(); /* what a change of the tree made of it */
	if (!m->rec)
		create_file(v, f);
	m = &v->files[f];
	if (!m->rec)
		return;
	if (m->gone)
		what < 4 ? forget_file(v, m) : what < 10 ? change_data(v, f) : (void)0;
	else if (what == 0)
		remove_file(v, f);
	else if (what == 1)
		link_file(v, f);
	else if (what == 2)
		unlink_link(v, f);
	else if (what == 3)
		change_xattr(v, m);
	else if (what == 4)
		change_mode(v, m);
	else
		change_data(v, f);
	tree_check_used(v);
}

/* ---- A new subvolume ---- */

/* Its directory; false when there is no room for that. */
bool tree_furnish(struct tree_node *v)
{
	struct tree_cost cost = { .blocks = 1, .inodes = 1, .own = 1, .own_inodes = 1, .own_most = 1, .own_inodes_most = 1 };
	struct call c = { .ino = ROOT, .name = "d", .flags = S_IFDIR | 0700 };
	struct tree_room room;
	int r;

	v->root_rec = tree_new_id();
	v->dir_rec = tree_new_id();
	tree_open(v);
	/* The model has the directory and its name in there already; so without it, but for the root directory's inode. */
	v->there = false;
	tree_room(v, &room);
	v->there = true;
	room.blocks++;
	room.inodes++;
	room.own_inodes -= room.own_inodes != INT64_MAX && tree_is_exact(0);
	r = subvol_call(v->sv, do_create, &c);
	tree_check_whole(&room, &cost, r, "mkdir");
	v->dir = c.attr.ino;
	return !r;
}
