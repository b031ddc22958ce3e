/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a directory: its entries lie in the order of their cookies, so the next one is found
 * by its place and not by what was there before.
 *
 * With attributes, an inode that is not in memory is asked for and the entries behind it are looked at all
 * the same, so that what a page of the directory lacks is fetched at once.
 */
#include "config.h"

#include <errno.h>
#include <sys/stat.h>

#include "io/log.h"
#include "meta/names_internal.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"

#define COOKIE_DOT 1u
#define COOKIE_DOTDOT 2u
#define FETCH_MAX 64u /* cold inodes asked for in one go */
#define FULL 1

struct reading {
	struct op *op;
	const struct inode *dir;
	const struct names_emit *emit;
	unsigned emitted, cold;
};

static int damaged(const struct reading *rd)
{
	log_error("subvolume %s: directory %llu: an entry is damaged", subvol_name(rd->op->sv),
		  (unsigned long long)rd->dir->ino);
	return -EIO;
}

/* 0, FULL, or -errno. Behind a cold inode nothing is emitted any more. */
static int emit_entry(struct reading *rd, uint64_t cookie, const struct dirent_rec *rec)
{
	const struct names_emit *emit = rd->emit;
	struct inode_attr attr, *with = NULL;

	if (emit->attrs) {
		struct inode *inode;
		int r = inode_get(rd->op, rec->ino, &inode);

		if (r == META_WAIT)
			return ++rd->cold == FETCH_MAX ? FULL : 0;
		if (r && r != -ENOENT)
			return r;
		if (r)
			return damaged(rd);
		inode_attr(inode, &attr);
		with = &attr;
	}
	if (rd->cold)
		return 0;
	if (!emit->emit(emit->arg, rec->name, rec->name_len, rec->ino, (uint32_t)rec->file_type << 12, cookie, with))
		return FULL;
	rd->emitted++;
	return 0;
}

static int one(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len)
{
	struct reading *rd = arg;
	struct dirent_rec rec;

	(void)from;
	if (key_len != KEY_DIRENT_LEN - sizeof(be32_t) || dirent_rec_decode(value, value_len, &rec))
		return damaged(rd);
	return emit_entry(rd, get_be64(key + KEY_NS_PREFIX_LEN), &rec);
}

/* False when the caller's buffer is full. */
static bool emit_dots(struct reading *rd, uint64_t after)
{
	const struct names_emit *emit = rd->emit;
	const uint64_t parent = rd->dir->ino == INO_ROOT ? INO_ROOT : rd->dir->rec.parent;

	if (after < COOKIE_DOT) {
		if (!emit->emit(emit->arg, ".", 1, rd->dir->ino, S_IFDIR, COOKIE_DOT, NULL))
			return false;
		rd->emitted++;
	}
	if (after < COOKIE_DOTDOT) {
		if (!emit->emit(emit->arg, "..", 2, parent, S_IFDIR, COOKIE_DOTDOT, NULL))
			return false;
		rd->emitted++;
	}
	return true;
}

int names_readdir(struct op *op, uint64_t dir, uint64_t after, const struct names_emit *emit)
{
	struct reading rd = { .op = op, .emit = emit };
	uint8_t prefix[KEY_MAX], start[KEY_MAX];
	size_t prefix_len;
	struct inode *d;
	int r = names_dir(op, dir, &d);

	if (r)
		return r;
	rd.dir = d;
	emit->reset(emit->arg);
	if (after >= INT64_MAX || !emit_dots(&rd, after) || !d->rec.entries)
		return 0;
	prefix_len = key_ns_prefix(prefix, op->sv->tree, dir, REC_DIRENT);
	key_dirent(start, op->sv->tree, dir, after + 1, op->sv->node);
	r = version_each(op, DB_NS, prefix, prefix_len, start, KEY_DIRENT_LEN - sizeof(be32_t), one, &rd);
	if (r >= 0 && rd.cold)
		return META_WAIT;
	return r < 0 ? r : 0;
}
