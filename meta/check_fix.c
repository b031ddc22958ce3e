/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairs. Each reads the record as it is in RocksDB and puts it back with one thing changed, so two repairs
 * of one record in a round undo each other, and the next round finishes.
 */
#include "config.h"

#include <string.h>
#include <sys/stat.h>

#include "meta/check_fix.h"

bool check_can_fix(const struct check_view *view, uint32_t from)
{
	const struct check *c = view->check;

	if (c->incomplete || from != view->node->id || view->nchain != 1)
		return false;
	for (size_t i = 0; i < c->nodes.n; i++)
		if (c->nodes.v[i].tree == view->node->tree && c->nodes.v[i].parent == from)
			return false;
	return true;
}

/* Change the inode's record by fn. */
static void change_inode(struct check_view *view, uint64_t ino,
			 void (*fn)(struct inode_rec *rec, const void *arg), const void *arg)
{
	struct check *c = view->check;
	uint8_t key[KEY_MAX], bytes[INODE_REC_MAX];
	const size_t key_len = key_inode(key, view->node->tree, ino, view->node->id);
	cleanup_db_value struct db_value value = { 0 };
	struct inode_rec rec;

	if (db_get(c->db, DB_NS, key, key_len, 0, &value) ||
	    inode_rec_decode(value.data, value.len, &rec) < 0)
		return;
	fn(&rec, arg);
	if (inode_rec_validate(&rec) == 0)
		db_batch_put(c->db, c->fixes, DB_NS, key, key_len, bytes, inode_rec_encode(&rec, bytes));
}

static void set_sums(struct inode_rec *rec, const void *arg)
{
	const struct check_sums *sums = arg;

	if (S_ISDIR(rec->mode)) {
		rec->entries = sums->entries;
		rec->entry_bytes = sums->entry_bytes;
		rec->max_probe = sums->max_probe;
	}
	rec->xattr_bytes = sums->xattr_bytes;
	rec->flags = sums->flags;
}

void check_fix_sums(struct check_view *view, uint64_t ino, const struct check_sums *sums)
{
	change_inode(view, ino, set_sums, sums);
}

static void set_nlink(struct inode_rec *rec, const void *arg)
{
	rec->nlink = *(const uint32_t *)arg;
}

void check_fix_nlink(struct check_view *view, uint64_t ino, uint32_t nlink)
{
	change_inode(view, ino, set_nlink, &nlink);
}

void check_fix_orphan(struct check_view *view, uint64_t ino, int state)
{
	struct check *c = view->check;
	uint8_t key[KEY_MAX], value[ORPHAN_REC_MAX];
	const size_t key_len = key_orphan(key, view->node->tree, ino, view->node->id);
	const struct orphan_rec rec = { .state = (uint8_t)state };

	if (state < 0)
		db_batch_delete(c->db, c->fixes, DB_NS, key, key_len);
	else
		db_batch_put(c->db, c->fixes, DB_NS, key, key_len, value,
			     orphan_rec_encode(&rec, value));
}

static void change_size(struct check_view *view, uint64_t ino, const bool *cuts,
			const uint64_t *blocks)
{
	struct check *c = view->check;
	uint8_t key[KEY_MAX], bytes[SIZE_REC_MAX];
	const size_t key_len = key_size(key, view->node->tree, ino, view->node->id);
	cleanup_db_value struct db_value value = { 0 };
	struct size_rec rec;

	if (db_get(c->db, DB_NS, key, key_len, 0, &value) ||
	    size_rec_decode(value.data, value.len, &rec) < 0)
		return;
	if (cuts)
		rec.has_cuts = *cuts;
	if (blocks)
		rec.blocks = *blocks;
	if (size_rec_validate(&rec) == 0)
		db_batch_put(c->db, c->fixes, DB_NS, key, key_len, bytes, size_rec_encode(&rec, bytes));
}

void check_fix_cuts_flag(struct check_view *view, uint64_t ino, bool cuts)
{
	change_size(view, ino, &cuts, NULL);
}

void check_fix_size_blocks(struct check_view *view, uint64_t ino, uint64_t blocks)
{
	change_size(view, ino, NULL, &blocks);
}

void check_fix_entry_type(struct check_view *view, uint64_t dir, uint64_t cookie,
			  const struct dirent_rec *rec, uint32_t mode)
{
	struct check *c = view->check;
	struct dirent_rec right = *rec;
	uint8_t key[KEY_MAX], value[DIRENT_REC_MAX];
	const size_t key_len =
		key_dirent(key, view->node->tree, dir, cookie, view->node->id);

	right.file_type = (mode & S_IFMT) >> 12;
	db_batch_put(c->db, c->fixes, DB_NS, key, key_len, value, dirent_rec_encode(&right, value));
}

struct removal {
	struct check *check;
	enum db_cf cf;
};

/* The map of a lost file can be long: what is to be deleted does not wait in memory for the end of the round. */
static int remove_one(void *arg, const void *key, size_t key_len, const void *value, size_t value_len)
{
	const struct removal *r = arg;

	(void)value;
	(void)value_len;
	db_batch_delete(r->check->db, r->check->fixes, r->cf, key, key_len);
	return check_write_fixes(r->check, false);
}

/* Everything whose key begins with tree and inode. An error was reported; the next round finds what is left. */
static void remove_inode_range(struct check_view *view, enum db_cf cf, uint64_t ino)
{
	struct removal r = { .check = view->check, .cf = cf };
	uint8_t prefix[12];

	put_be32(prefix, view->node->tree);
	put_be64(prefix + 4, ino);
	check_each(view->check, cf, "an inode that is not there", prefix, sizeof(prefix), remove_one, &r);
}

void check_fix_remove(struct check_view *view, uint64_t ino)
{
	remove_inode_range(view, DB_NS, ino);
	remove_inode_range(view, DB_MAP, ino);
}

void check_fix_remove_map(struct check_view *view, uint64_t ino)
{
	remove_inode_range(view, DB_MAP, ino);
}
