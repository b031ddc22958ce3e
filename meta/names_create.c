/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "meta/acl.h"
#include "meta/names_internal.h"
#include "meta/orphan.h"
#include "meta/subvol_internal.h"
#include "meta/xattr.h"

/* What a new inode gets from its directory's default ACL. */
struct inherited {
	struct db_value value;
	const void *acl; /* NULL: the directory has none */
	size_t size;
};

static int check_new(const struct names_new *what)
{
	const size_t target_len = what->target ? strlen(what->target) : 0;

	if (S_ISLNK(what->mode)) {
		if (!target_len)
			return -ENOENT;
		return target_len > TARGET_BYTES_MAX ? -ENAMETOOLONG : 0;
	}
	switch (what->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return -EINVAL;
	}
}

static int read_default_acl(struct op *op, const struct inode *dir, const struct names_new *what, struct inherited *in)
{
	int r;

	if (!(dir->rec.flags & INODE_DEFAULT_ACL) || S_ISLNK(what->mode))
		return 0;
	r = xattr_read(op, dir->ino, ACL_DEFAULT_NAME, &in->value, &in->acl, &in->size);
	if (!r && (acl_validate(in->acl, in->size) || in->size <= sizeof(le32_t)))
		r = -EIO;
	return r == -ENODATA ? 0 : r;
}

static struct inode_rec new_rec(struct op *op, const struct inode *dir, const struct names_new *what)
{
	const struct timespec now = subvol_now(op->sv);
	const struct rec_time t = { .sec = now.tv_sec, .nsec = (uint32_t)now.tv_nsec };
	struct inode_rec rec = {
		.mode = S_ISLNK(what->mode) ? S_IFLNK | 0777 : what->mode & (S_IFMT | 07777),
		.uid = op->uid,
		.gid = op->gid,
		.nlink = S_ISDIR(what->mode) ? 2 : 1,
		.rdev = S_ISCHR(what->mode) || S_ISBLK(what->mode) ? what->rdev : 0,
		.parent = dir->ino,
		.atime = t, .mtime = t, .ctime = t, .btime = t,
	};

	if (S_ISLNK(what->mode)) {
		rec.target = what->target;
		rec.target_len = (uint16_t)strlen(what->target);
	}
	if (dir->rec.mode & S_ISGID) {
		rec.gid = dir->rec.gid;
		if (S_ISDIR(rec.mode))
			rec.mode |= S_ISGID;
	}
	return rec;
}

/* Mode and ACLs of the new inode, into its change. */
static int set_acls(struct change *c, struct inode *inode, const struct names_new *what, const struct inherited *in)
{
	uint8_t acl[XATTR_BYTES_MAX];
	uint32_t mode = inode->rec.mode;

	if (!in->acl) {
		if (!S_ISLNK(mode))
			change_inode(c, inode)->mode = mode & ~(what->umask & 0777);
		return 0;
	}
	memcpy(acl, in->acl, in->size);
	if (!acl_inherit(acl, in->size, &mode) && !xattr_change(c, inode, ACL_ACCESS_NAME, acl, in->size, -1))
		return -ENOSPC;
	if (S_ISDIR(mode) && !xattr_change(c, inode, ACL_DEFAULT_NAME, in->acl, in->size, -1))
		return -ENOSPC;
	change_inode(c, inode)->mode = mode;
	return 0;
}

/* A new inode in a change that was begun. 0, -ENOMEM, -ENOSPC, META_WAIT. */
static int make_inode(struct op *op, struct change *c, const struct inode *dir, const struct names_new *what,
		      const struct inherited *in, uint32_t nlink, struct inode **out)
{
	struct inode_rec rec = new_rec(op, dir, what);
	uint64_t ino;
	int r = subvol_new_ino(op, &ino);

	if (r)
		return r;
	if (nlink != UINT32_MAX)
		rec.nlink = nlink;
	*out = inode_enter(op->sv, ino, &rec);
	if (!*out)
		return -ENOMEM;
	change_new(c, *out);
	r = set_acls(c, *out, what, in);
	if (r)
		change_abandon(c);
	return r;
}

int names_create(struct op *op, uint64_t dir, const char *name, size_t name_len, const struct names_new *what,
		 struct inode_attr *out)
{
	struct inherited in = { 0 };
	struct names_entry place;
	struct inode *d, *inode;
	struct change c;
	int r = names_check(name, name_len);

	if (!r)
		r = check_new(what);
	if (!r)
		r = names_dir(op, dir, &d);
	if (!r)
		r = names_place(op, d, name, name_len, &place);
	if (!r && S_ISDIR(what->mode) && d->rec.nlink >= NLINK_MAX)
		r = -EMLINK;
	if (!r)
		r = read_default_acl(op, d, what, &in);
	if (!r) {
		change_begin(&c, op);
		r = make_inode(op, &c, d, what, &in, UINT32_MAX, &inode);
	}
	db_value_release(&in.value);
	if (r)
		return r;
	names_add(&c, d, &place, name, name_len, inode);
	r = change_write(&c, inode->ino, CHANGE_GROWS);
	if (r)
		return r;
	place.ino = inode->ino;
	place.mode = inode->rec.mode & S_IFMT;
	known_note(op->sv, d, &place, name, name_len);
	inode_attr(inode, out);
	return 0;
}

int names_tmpfile(struct op *op, uint64_t dir, const struct names_new *what, struct inode_attr *out)
{
	struct inherited in = { 0 };
	struct inode *d, *inode;
	struct change c;
	int r = names_dir(op, dir, &d);

	if (!r && !S_ISREG(what->mode))
		r = -EINVAL;
	if (!r && !d->rec.nlink)
		r = -ENOENT;
	if (!r)
		r = read_default_acl(op, d, what, &in);
	if (!r) {
		change_begin(&c, op);
		r = make_inode(op, &c, d, what, &in, 0, &inode);
	}
	db_value_release(&in.value);
	if (r)
		return r;
	change_orphan(&c, inode->ino, ORPHAN_UNLINKED, true);
	r = change_write(&c, inode->ino, CHANGE_GROWS);
	if (r)
		return r;
	orphan_kept(op->sv, inode->ino);
	inode_attr(inode, out);
	return 0;
}
