/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/change.h"
#include "meta/charge.h"
#include "meta/known.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"

void change_begin(struct change *c, struct op *op)
{
	c->op = op;
	c->list = &op->sv->list;
	c->batch = op->sv->batch;
	c->count = 0;
	c->delta = (struct counters_delta){ 0 };
	gather_list_clear(c->list);
	db_batch_clear(c->batch);
}

/* A put of a key that no version of is in RocksDB may say so. */
static unsigned fresh(const struct change *c, bool is_new)
{
	return is_new && c->op->sv->ancestor_count == 1 ? GATHER_FRESH : 0;
}

static void put(struct change *c, enum db_cf cf, unsigned flags, const void *key, size_t key_len, const void *value,
		size_t value_len)
{
	gather_list_add(c->list, cf, flags, key, key_len, value, value_len);
}

static void delete(struct change *c, const uint8_t *key, size_t key_len)
{
	if (version_hides(c->op->sv, key))
		put(c, DB_NS, 0, key, key_len, whiteout_value, WHITEOUT_LEN);
	else
		put(c, DB_NS, GATHER_DELETE, key, key_len, NULL, 0);
}

struct rec_time change_now(const struct change *c)
{
	const struct timespec now = subvol_now(c->op->sv);

	return (struct rec_time){ .sec = now.tv_sec, .nsec = (uint32_t)now.tv_nsec };
}

static struct change_inode *entry_of(struct change *c, struct inode *inode)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->inodes[i].inode == inode)
			return &c->inodes[i];
	assert(c->count < CHANGE_INODES);
	c->inodes[c->count].inode = inode;
	c->inodes[c->count].rec = inode->rec;
	c->inodes[c->count].what = CHANGE_KEEP;
	return &c->inodes[c->count++];
}

struct inode_rec *change_inode(struct change *c, struct inode *inode)
{
	return &entry_of(c, inode)->rec;
}

struct inode_rec *change_new(struct change *c, struct inode *inode)
{
	struct change_inode *ci = entry_of(c, inode);

	ci->what = CHANGE_NEW;
	return &ci->rec;
}

void change_gone(struct change *c, struct inode *inode)
{
	entry_of(c, inode)->what = CHANGE_GONE;
}

/* ---- entries ---- */

static void put_entry(struct change *c, const struct inode *dir, uint64_t cookie, const char *name, size_t name_len,
		      uint64_t ino, uint32_t mode, bool is_new)
{
	const struct subvol *sv = c->op->sv;
	const struct dirent_rec rec = {
		.file_type = (uint8_t)((mode & S_IFMT) >> 12),
		.name_len = (uint8_t)name_len,
		.ino = ino,
		.name = name,
	};
	uint8_t key[KEY_MAX], value[DIRENT_REC_MAX];
	const size_t key_len = key_dirent(key, sv->tree, dir->ino, cookie, sv->node);

	known_changed(c->op->sv, dir->ino, cookie);
	put(c, DB_NS, fresh(c, is_new), key, key_len, value, dirent_rec_encode(&rec, value));
}

void change_add_entry(struct change *c, struct inode *dir, uint64_t cookie, const char *name, size_t name_len,
		      uint64_t ino, uint32_t mode)
{
	struct inode_rec *rec = change_inode(c, dir);

	put_entry(c, dir, cookie, name, name_len, ino, mode, true);
	rec->entries++;
	rec->entry_bytes += DIRENT_CHARGE_BYTES + name_len;
	rec->nlink += S_ISDIR(mode);
	rec->mtime = rec->ctime = change_now(c);
}

void change_replace_entry(struct change *c, struct inode *dir, uint64_t cookie, const char *name, size_t name_len,
			  uint64_t ino, uint32_t mode)
{
	struct inode_rec *rec = change_inode(c, dir);

	put_entry(c, dir, cookie, name, name_len, ino, mode, false);
	rec->mtime = rec->ctime = change_now(c);
}

void change_remove_entry(struct change *c, struct inode *dir, uint64_t cookie, size_t name_len)
{
	struct subvol *sv = c->op->sv;
	struct inode_rec *rec = change_inode(c, dir);
	uint8_t key[KEY_MAX];

	known_changed(sv, dir->ino, cookie);
	delete(c, key, key_dirent(key, sv->tree, dir->ino, cookie, sv->node));
	rec->entries--;
	rec->entry_bytes -= DIRENT_CHARGE_BYTES + name_len;
	rec->mtime = rec->ctime = change_now(c);
}

void change_xattr(struct change *c, uint64_t ino, const char *name, size_t name_len, const void *value, size_t size)
{
	struct subvol *sv = c->op->sv;
	const struct xattr_rec rec = { .len = (uint32_t)size, .value = value };
	uint8_t key[KEY_MAX], bytes[XATTR_REC_MAX];
	const size_t key_len = key_xattr(key, sv->tree, ino, name, name_len, sv->node);

	if (value)
		put(c, DB_NS, 0, key, key_len, bytes, xattr_rec_encode(&rec, bytes));
	else
		delete(c, key, key_len);
}

void change_orphan(struct change *c, uint64_t ino, int state, bool is_new)
{
	struct subvol *sv = c->op->sv;
	const struct orphan_rec rec = { .state = (uint8_t)state };
	uint8_t key[KEY_MAX], value[ORPHAN_REC_MAX];
	const size_t key_len = key_orphan(key, sv->tree, ino, sv->node);

	if (state >= 0)
		put(c, DB_NS, fresh(c, is_new), key, key_len, value, orphan_rec_encode(&rec, value));
	else
		delete(c, key, key_len);
}

/* ---- writing ---- */

/* What the records' new values cost, against what the counters have of their old ones. */
static void sum_delta(struct change *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		const struct change_inode *ci = &c->inodes[i];
		const int64_t now = ci->what == CHANGE_GONE ? 0 : inode_charge(&ci->rec);
		const int64_t was = ci->what == CHANGE_NEW ? 0 : inode_charge(&ci->inode->rec);
		const bool own = ci->what != CHANGE_NEW && ci->inode->node == c->op->sv->node;

		c->delta.meta += now - was;
		c->delta.inodes += (ci->what == CHANGE_NEW) - (ci->what == CHANGE_GONE);
		c->delta.meta_born += now - (own ? was : 0);
		c->delta.inodes_born += (ci->what != CHANGE_GONE) - own;
	}
}

static void put_inodes(struct change *c)
{
	const struct subvol *sv = c->op->sv;
	uint8_t key[KEY_MAX], value[INODE_REC_MAX];

	for (unsigned i = 0; i < c->count; i++) {
		const struct change_inode *ci = &c->inodes[i];
		const size_t key_len = key_inode(key, sv->tree, ci->inode->ino, sv->node);

		if (ci->what == CHANGE_GONE)
			delete(c, key, key_len);
		else
			put(c, DB_NS, fresh(c, ci->what == CHANGE_NEW), key, key_len, value, inode_rec_encode(&ci->rec, value));
	}
}

static void put_result(struct change *c, uint64_t ino)
{
	const struct op *op = c->op;
	uint8_t key[KEY_MAX], value[sizeof(struct disk_result) + sizeof(le64_t)], reply[sizeof(le64_t)];
	const struct result_rec rec = {
		.length = sizeof(reply),
		.unique = op->unique,
		.sequence = pool_sequence(op->sv->pool),
		.reply = reply,
	};
	const size_t key_len = key_result(key, op->session, op->slot);

	put_le64(reply, ino);
	put(c, DB_SYS, 0, key, key_len, value, result_rec_encode(&rec, value));
}

static int64_t positive(int64_t n)
{
	return n > 0 ? n : 0;
}

/* What is to be taken and what is given back. Data that the batch drops gives back, too; data that it maps was charged when it was accepted. */
static void split_delta(const struct counters_delta *d, struct charge *charge, struct charge *give)
{
	const int64_t blocks = d->meta + (d->referenced < 0 ? d->referenced : 0);
	const int64_t own = d->meta_born + (d->born < 0 ? d->born : 0);

	*charge = (struct charge){ positive(blocks), positive(d->inodes), positive(own), positive(d->inodes_born) };
	*give = (struct charge){ positive(-blocks), positive(-d->inodes), positive(-own), positive(-d->inodes_born) };
}

/* A change that removes something may have to copy records that a snapshot holds: no limit of the tenant is in its way. */
static int charge_freeing(struct op *op, const struct charge *charge)
{
	const struct charge visible = { .blocks = charge->blocks, .inodes = charge->inodes };
	const int r = subvol_charge_op(op, &visible);

	if (!r)
		subvol_charge_own(op->sv, charge->own_blocks, charge->own_inodes);
	return r;
}

static void uncharge(struct subvol *sv, const struct charge *c)
{
	const struct charge back = { -c->blocks, -c->inodes, -c->own_blocks, -c->own_inodes };

	subvol_charge(sv, &back);
}

static void apply(struct change *c)
{
	for (unsigned i = 0; i < c->count; i++) {
		struct change_inode *ci = &c->inodes[i];

		ci->inode->node = c->op->sv->node;
		if (ci->what == CHANGE_GONE)
			continue; /* the caller removes it: its data may have to be told first */
		ci->inode->rec = ci->rec;
		ci->inode->orphan = ci->rec.nlink == 0;
	}
}

void change_abandon(struct change *c)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->inodes[i].what == CHANGE_NEW)
			inode_remove(c->inodes[i].inode);
	c->count = 0;
}

size_t change_bytes(const struct change *c)
{
	return c->list->len + (db_batch_count(c->batch) ? db_batch_bytes(c->batch) : 0);
}

static int write_directly(struct change *c, bool frees)
{
	struct subvol *sv = c->op->sv;

	gather_list_put(c->list, sv->pool->db, c->batch);
	subvol_put_counters(sv, c->batch, &c->delta);
	return subvol_write(c->op, c->batch, frees);
}

/* What is only names goes with others of its kind. */
static int write_records(struct change *c, bool frees)
{
	int r;

	if (c->list->failed)
		return -ENOMEM;
	if (db_batch_count(c->batch))
		return write_directly(c, frees);
	r = subvol_may_write(c->op, frees);
	if (!r)
		r = gather_accept(c->op, c->list, &c->delta);
	if (r == -E2BIG)
		return write_directly(c, frees);
	if (!r)
		subvol_wrote(c->op->sv);
	return r;
}

/*
 * A whiteout where no ancestor has anything would stay for ever. That of an inode hides all of its records, of which ancestors may have others than
 * this one: it stays, and the sweep sees to it.
 */
static int hides(void *arg, enum db_cf cf, const uint8_t *key, size_t key_len)
{
	if (key_len == KEY_INODE_LEN && key[KEY_NS_PREFIX_LEN - 1] == REC_INODE)
		return 1;
	return version_above(arg, cf, key, key_len);
}

int change_write(struct change *c, uint64_t result, enum change_kind kind)
{
	struct subvol *sv = c->op->sv;
	struct charge charge, give;
	int r;

	sum_delta(c);
	put_inodes(c);
	if (c->op->session)
		put_result(c, result);
	r = sv->ancestor_count > 1 ? gather_list_prune(c->list, hides, c->op) : 0;
	if (r) {
		change_abandon(c);
		return r;
	}
	split_delta(&c->delta, &charge, &give);
	r = kind == CHANGE_FREES ? charge_freeing(c->op, &charge) : subvol_charge_op(c->op, &charge);
	if (!r) {
		r = write_records(c, kind != CHANGE_GROWS);
		if (r)
			uncharge(sv, &charge);
	}
	if (r) {
		change_abandon(c);
		return r;
	}
	gather_give(sv->gather, &give);
	apply(c);
	atomic_fetch_add_explicit(&sv->stats.namespace_ops, 1, memory_order_relaxed);
	return 0;
}
