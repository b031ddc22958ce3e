/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * rename(2) with all flags: one batch. The kernel holds the locks of both directories and of what is moved,
 * and checks permissions; whether a directory is moved below itself is checked here too, because not
 * every caller is the VFS.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/file.h"
#include "meta/names_internal.h"
#include "meta/subvol_internal.h"

struct side {
	struct inode *dir;
	const char *name;
	size_t len;
	struct names_entry entry;
	struct inode *inode; /* NULL: no such name */
};

struct renaming {
	struct op *op;
	struct side from, to;
	unsigned flags;
};

static int find_side(struct op *op, uint64_t dir, struct side *s)
{
	int r = names_check(s->name, s->len);

	if (!r)
		r = names_dir(op, dir, &s->dir);
	if (!r)
		r = names_find(op, s->dir, s->name, s->len, &s->entry);
	if (r)
		return r;
	r = inode_get(op, s->entry.ino, &s->inode);
	return r == -ENOENT ? -EIO : r;
}

/* -EINVAL when `dir` is `moved` or lies below it. */
static int check_loop(struct op *op, const struct inode *moved, struct inode *dir)
{
	while (dir->ino != INO_ROOT) {
		int r;

		if (dir == moved)
			return -EINVAL;
		r = inode_get(op, dir->rec.parent, &dir);
		if (r)
			return r == -ENOENT ? -EIO : r;
	}
	return dir == moved ? -EINVAL : 0;
}

static int check_loops(const struct renaming *rn)
{
	int r = 0;

	if (rn->from.dir == rn->to.dir)
		return 0;
	if (S_ISDIR(rn->from.inode->rec.mode))
		r = check_loop(rn->op, rn->from.inode, rn->to.dir);
	if (!r && (rn->flags & RENAME_EXCHANGE) && S_ISDIR(rn->to.inode->rec.mode))
		r = check_loop(rn->op, rn->to.inode, rn->from.dir);
	return r;
}

/* What may replace what. */
static int check_target(const struct renaming *rn)
{
	const bool dir = S_ISDIR(rn->from.inode->rec.mode);

	if (!S_ISDIR(rn->to.inode->rec.mode))
		return dir ? -ENOTDIR : 0;
	if (!dir)
		return -EISDIR;
	return rn->to.inode->rec.entries ? -ENOTEMPTY : 0;
}

static int check_flags(unsigned flags)
{
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if ((flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	return 0;
}

static int find_both(struct renaming *rn, uint64_t dir, uint64_t new_dir)
{
	int r = find_side(rn->op, dir, &rn->from);

	if (r)
		return r;
	r = find_side(rn->op, new_dir, &rn->to);
	if (r == -ENOENT && rn->to.dir && !(rn->flags & RENAME_EXCHANGE)) {
		rn->to.inode = NULL;
		return names_place(rn->op, rn->to.dir, rn->to.name, rn->to.len, &rn->to.entry);
	}
	if (!r && (rn->flags & RENAME_NOREPLACE))
		return -EEXIST;
	return r;
}

/* Data of what gets another file's name goes into RocksDB before the name does. */
static int put_data(struct renaming *rn)
{
	int r = 0;

	if (!rn->to.inode)
		return 0;
	if (rn->from.inode->file)
		r = file_put_all(rn->op, rn->from.inode);
	if (!r && (rn->flags & RENAME_EXCHANGE) && rn->to.inode->file)
		r = file_put_all(rn->op, rn->to.inode);
	return r;
}

static void moved(struct change *c, struct inode *inode, const struct inode *dir)
{
	struct inode_rec *rec = change_inode(c, inode);

	rec->parent = dir->ino;
	rec->ctime = change_now(c);
}

/* A directory's own links: one for each directory in it. */
static void move_link(struct change *c, const struct inode *inode, struct inode *from, struct inode *to)
{
	if (!S_ISDIR(inode->rec.mode))
		return;
	change_inode(c, from)->nlink--;
	change_inode(c, to)->nlink++;
}

static int exchange(struct renaming *rn)
{
	struct side *a = &rn->from, *b = &rn->to;
	struct change c;

	change_begin(&c, rn->op);
	change_replace_entry(&c, a->dir, a->entry.cookie, a->name, a->len, b->inode->ino, b->inode->rec.mode);
	change_replace_entry(&c, b->dir, b->entry.cookie, b->name, b->len, a->inode->ino, a->inode->rec.mode);
	moved(&c, a->inode, b->dir);
	moved(&c, b->inode, a->dir);
	move_link(&c, a->inode, a->dir, b->dir);
	move_link(&c, b->inode, b->dir, a->dir);
	return change_write(&c, a->inode->ino, CHANGE_GROWS);
}

/* The device node 0/0 that overlayfs leaves where a lower file shall not show through. */
static int leave_whiteout(struct change *c, struct renaming *rn)
{
	const struct rec_time now = change_now(c);
	const struct inode_rec rec = {
		.mode = S_IFCHR,
		.uid = rn->op->uid,
		.gid = rn->op->gid,
		.nlink = 1,
		.parent = rn->from.dir->ino,
		.atime = now, .mtime = now, .ctime = now, .btime = now,
	};
	struct inode *inode;
	uint64_t ino;
	int r = subvol_new_ino(rn->op, &ino);

	if (r)
		return r;
	inode = inode_enter(rn->op->sv, ino, &rec);
	if (!inode)
		return -ENOMEM;
	change_new(c, inode);
	change_replace_entry(c, rn->from.dir, rn->from.entry.cookie, rn->from.name, rn->from.len, ino, rec.mode);
	return 0;
}

static int move(struct renaming *rn)
{
	struct side *from = &rn->from, *to = &rn->to;
	struct inode *inode = from->inode;
	struct change c;
	int r = 0;

	change_begin(&c, rn->op);
	if (rn->flags & RENAME_WHITEOUT)
		r = leave_whiteout(&c, rn);
	else
		change_remove_entry(&c, from->dir, from->entry.cookie, from->len);
	if (r) {
		change_abandon(&c);
		return r;
	}
	if (S_ISDIR(inode->rec.mode))
		change_inode(&c, from->dir)->nlink--;
	if (to->inode) {
		change_replace_entry(&c, to->dir, to->entry.cookie, to->name, to->len, inode->ino, inode->rec.mode);
		names_drop_link(&c, to->inode);
		/* One directory goes, one comes. */
	} else {
		names_add(&c, to->dir, &to->entry, to->name, to->len, inode);
	}
	moved(&c, inode, to->dir);
	r = change_write(&c, inode->ino, to->inode && !(rn->flags & RENAME_WHITEOUT) ? CHANGE_FREES : CHANGE_GROWS);
	if (r)
		return r;
	to->entry.ino = inode->ino;
	to->entry.mode = inode->rec.mode & S_IFMT;
	known_note(rn->op->sv, to->dir, &to->entry, to->name, to->len);
	if (to->inode)
		names_dropped(to->inode);
	return 0;
}

int names_rename(struct op *op, uint64_t dir, const char *name, size_t name_len, uint64_t new_dir, const char *new_name,
		 size_t new_len, unsigned flags)
{
	struct renaming rn = {
		.op = op,
		.from = { .name = name, .len = name_len },
		.to = { .name = new_name, .len = new_len },
		.flags = flags,
	};
	int r = check_flags(flags);

	if (!r)
		r = find_both(&rn, dir, new_dir);
	if (r)
		return r;
	if (rn.to.inode == rn.from.inode)
		return 0; /* links of one file: POSIX wants nothing to happen */
	r = check_loops(&rn);
	if (!r && rn.to.inode && !(flags & RENAME_EXCHANGE))
		r = check_target(&rn);
	if (!r && S_ISDIR(rn.from.inode->rec.mode) && !rn.to.inode && rn.to.dir->rec.nlink >= NLINK_MAX)
		r = -EMLINK;
	if (!r)
		r = put_data(&rn);
	if (r)
		return r;
	return flags & RENAME_EXCHANGE ? exchange(&rn) : move(&rn);
}
