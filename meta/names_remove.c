/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <sys/stat.h>

#include "meta/file.h"
#include "meta/names_internal.h"
#include "meta/orphan.h"
#include "meta/subvol_internal.h"

/* A name of a directory and the inode behind it. */
static int find_child(struct op *op, uint64_t dir, const char *name, size_t name_len, struct inode **d,
		      struct names_entry *entry, struct inode **child)
{
	int r = names_check(name, name_len);

	if (!r)
		r = names_dir(op, dir, d);
	if (!r)
		r = names_find(op, *d, name, name_len, entry);
	if (r)
		return r;
	r = inode_get(op, entry->ino, child);
	return r == -ENOENT ? -EIO : r;
}

int names_unlink(struct op *op, uint64_t dir, const char *name, size_t name_len)
{
	struct names_entry entry;
	struct inode *d, *inode;
	struct change c;
	int r = find_child(op, dir, name, name_len, &d, &entry, &inode);

	if (r)
		return r;
	if (S_ISDIR(inode->rec.mode))
		return -EISDIR;
	change_begin(&c, op);
	change_remove_entry(&c, d, entry.cookie, name_len);
	names_drop_link(&c, inode);
	r = change_write(&c, inode->ino, CHANGE_FREES);
	if (!r)
		names_dropped(inode);
	return r;
}

int names_rmdir(struct op *op, uint64_t dir, const char *name, size_t name_len)
{
	struct names_entry entry;
	struct inode *d, *inode;
	struct change c;
	int r = find_child(op, dir, name, name_len, &d, &entry, &inode);

	if (r)
		return r;
	if (!S_ISDIR(inode->rec.mode))
		return -ENOTDIR;
	if (inode->rec.entries)
		return -ENOTEMPTY;
	change_begin(&c, op);
	change_remove_entry(&c, d, entry.cookie, name_len);
	change_inode(&c, d)->nlink--;
	names_drop_link(&c, inode);
	r = change_write(&c, inode->ino, CHANGE_FREES);
	if (!r)
		names_dropped(inode);
	return r;
}

int names_link(struct op *op, uint64_t ino, uint64_t new_dir, const char *name, size_t name_len, struct inode_attr *out)
{
	struct names_entry place;
	struct inode *d, *inode;
	struct inode_rec *rec;
	struct change c;
	bool orphan;
	int r = names_check(name, name_len);

	if (!r)
		r = inode_get(op, ino, &inode);
	if (!r)
		r = names_dir(op, new_dir, &d);
	if (r)
		return r;
	if (S_ISDIR(inode->rec.mode))
		return -EPERM;
	if (inode->rec.nlink >= NLINK_MAX)
		return -EMLINK;
	r = names_place(op, d, name, name_len, &place);
	/* A file that gets its first name shall not be seen there without its data after a crash. */
	if (!r && inode->orphan && inode->file)
		r = file_put_all(op, inode);
	if (r)
		return r;
	change_begin(&c, op);
	orphan = inode->orphan;
	rec = change_inode(&c, inode);
	rec->nlink++;
	rec->ctime = change_now(&c);
	if (orphan) {
		rec->parent = d->ino;
		change_orphan(&c, ino, -1, false);
	}
	names_add(&c, d, &place, name, name_len, inode);
	r = change_write(&c, ino, CHANGE_GROWS);
	if (r)
		return r;
	if (orphan)
		orphan_linked(op->sv, ino);
	inode_attr(inode, out);
	return 0;
}
