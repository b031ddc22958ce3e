/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "io/log.h"
#include "meta/acl.h"
#include "meta/names.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"
#include "meta/xattr.h"

#define INODE_XATTR_BYTES_MAX (UINT32_C(1) << 24) /* names and values of one inode together */
#define LIST_BYTES_MAX 65536u                    /* what listxattr(2) can return */

static int check_name(const char *name)
{
	const size_t len = strlen(name);

	return len == 0 || len > NAME_BYTES_MAX ? -ERANGE : 0;
}

int xattr_read(struct op *op, uint64_t ino, const char *name, struct db_value *value, const void **data, size_t *size)
{
	const struct subvol *sv = op->sv;
	uint8_t key[KEY_MAX];
	struct xattr_rec rec;
	int r = version_get(op, DB_NS, key, key_xattr(key, sv->tree, ino, name, strlen(name), sv->node), value, NULL);

	if (r)
		return r == -ENOENT ? -ENODATA : r;
	if (xattr_rec_decode(value->data, value->len, &rec)) {
		log_error("subvolume %s: inode %llu: an xattr's record is damaged", subvol_name(sv),
			  (unsigned long long)ino);
		return -EIO;
	}
	*data = rec.value;
	*size = rec.len;
	return 0;
}

/* The flags that save lookups of what most inodes lack. */
static uint16_t flag_of(const char *name)
{
	if (!strcmp(name, ACL_ACCESS_NAME))
		return INODE_ACCESS_ACL;
	if (!strcmp(name, ACL_DEFAULT_NAME))
		return INODE_DEFAULT_ACL;
	return strcmp(name, CAPABILITY_NAME) ? 0 : INODE_CAPABILITY;
}

bool xattr_change(struct change *c, struct inode *inode, const char *name, const void *data, size_t size, ssize_t old)
{
	struct inode_rec *rec = change_inode(c, inode);
	const size_t name_len = strlen(name);
	const uint32_t was = old < 0 ? 0 : (uint32_t)(name_len + (size_t)old);
	const uint32_t now = data ? (uint32_t)(name_len + size) : 0;

	if (now > was && rec->xattr_bytes - was + now > INODE_XATTR_BYTES_MAX)
		return false;
	rec->xattr_bytes = rec->xattr_bytes - was + now;
	if (data)
		rec->flags |= flag_of(name);
	else
		rec->flags &= (uint16_t)~flag_of(name);
	if (data || old >= 0)
		change_xattr(c, inode->ino, name, name_len, data, size);
	return true;
}

/* Size of the value that is there, -1 for none; or an error. */
static int old_size(struct op *op, uint64_t ino, const char *name, ssize_t *old)
{
	cleanup_db_value struct db_value value = { 0 };
	const void *data;
	size_t size;
	int r = xattr_read(op, ino, name, &value, &data, &size);

	*old = r ? -1 : (ssize_t)size;
	return r == -ENODATA ? 0 : r;
}

/* An ACL on its way in: what becomes of the mode, and whether it needs to be stored at all. */
static int take_acl(const struct inode *inode, const char *name, const void *value, size_t size, uint32_t *mode,
		    bool *store)
{
	const bool is_default = !strcmp(name, ACL_DEFAULT_NAME);

	if (!is_default && strcmp(name, ACL_ACCESS_NAME))
		return 0;
	if (S_ISLNK(inode->rec.mode))
		return -EOPNOTSUPP;
	if (is_default && !S_ISDIR(inode->rec.mode))
		return -EACCES;
	if (acl_validate(value, size))
		return -EINVAL;
	if (size <= sizeof(le32_t))
		*store = false; /* no entries */
	else if (!is_default)
		*store = !acl_to_mode(value, size, mode);
	return 0;
}

int xattr_set(struct op *op, uint64_t ino, const char *name, const void *value, size_t size, int flags, bool kill_sgid)
{
	struct inode *inode;
	struct change c;
	uint32_t mode;
	bool store = true;
	ssize_t old;
	int r = check_name(name);

	if (r)
		return r;
	if (size > XATTR_BYTES_MAX)
		return -E2BIG;
	r = inode_get(op, ino, &inode);
	if (!r)
		r = old_size(op, ino, name, &old);
	if (r)
		return r;
	if ((flags & XATTR_CREATE) && old >= 0)
		return -EEXIST;
	if ((flags & XATTR_REPLACE) && old < 0)
		return -ENODATA;
	mode = inode->rec.mode;
	r = take_acl(inode, name, value, size, &mode, &store);
	if (r)
		return r;
	change_begin(&c, op);
	if (!xattr_change(&c, inode, name, store ? value ?: "" : NULL, size, old))
		return -ENOSPC;
	change_inode(&c, inode)->mode = kill_sgid ? mode & ~(uint32_t)S_ISGID : mode;
	change_inode(&c, inode)->ctime = change_now(&c);
	return change_write(&c, ino, CHANGE_GROWS);
}

ssize_t xattr_get(struct op *op, uint64_t ino, const char *name, void *buf, size_t size)
{
	cleanup_db_value struct db_value value = { 0 };
	struct inode *inode;
	const void *data;
	size_t len;
	int r = check_name(name);

	if (!r)
		r = inode_get(op, ino, &inode);
	if (r)
		return r;
	/* Asked before each write, and for every inode by whoever lists a directory in colour. */
	if (!inode->rec.xattr_bytes || (flag_of(name) && !(inode->rec.flags & flag_of(name))))
		return -ENODATA;
	r = xattr_read(op, ino, name, &value, &data, &len);
	if (r)
		return r;
	if (size && len > size)
		return -ERANGE;
	if (size)
		memcpy(buf, data, len);
	return (ssize_t)len;
}

struct listing {
	char *buf;
	size_t size, len;
};

static int list_one(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len)
{
	struct listing *l = arg;
	const size_t name_len = key_len - KEY_NS_PREFIX_LEN - 1; /* behind the prefix: its length in a byte */

	(void)from;
	(void)value;
	(void)value_len;
	if (key_len <= KEY_NS_PREFIX_LEN || key[KEY_NS_PREFIX_LEN] != name_len)
		return -EIO;
	if (l->size && l->len + name_len + 1 > l->size)
		return -ERANGE;
	if (l->size) {
		memcpy(l->buf + l->len, key + KEY_NS_PREFIX_LEN + 1, name_len);
		l->buf[l->len + name_len] = 0;
	}
	l->len += name_len + 1;
	return l->len > LIST_BYTES_MAX ? -E2BIG : 0;
}

ssize_t xattr_list(struct op *op, uint64_t ino, void *buf, size_t size)
{
	struct listing l = { .buf = buf, .size = size };
	uint8_t prefix[KEY_MAX];
	struct inode *inode;
	int r = inode_get(op, ino, &inode);

	if (r || !inode->rec.xattr_bytes)
		return r;
	r = version_each(op, DB_NS, prefix, key_ns_prefix(prefix, op->sv->tree, ino, REC_XATTR), NULL, 0, list_one, &l);
	return r ? r : (ssize_t)l.len;
}

int xattr_remove(struct op *op, uint64_t ino, const char *name)
{
	struct inode *inode;
	struct change c;
	ssize_t old;
	int r = check_name(name);

	if (!r)
		r = inode_get(op, ino, &inode);
	if (!r)
		r = old_size(op, ino, name, &old);
	if (r)
		return r;
	if (old < 0)
		return -ENODATA;
	change_begin(&c, op);
	xattr_change(&c, inode, name, NULL, 0, old);
	change_inode(&c, inode)->ctime = change_now(&c);
	return change_write(&c, ino, CHANGE_FREES);
}
