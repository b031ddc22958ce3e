/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding names. An entry is stored under its name's cookie, or, where another name has that one, under
 * the next free one; max_probe of the directory says how far any entry is from its own place, so a
 * lookup reads max_probe + 1 keys, nearly always one; or none, where known.c has the answer.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "io/log.h"
#include "meta/names_internal.h"
#include "meta/namehash.h"
#include "meta/orphan.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"

int names_check(const char *name, size_t len)
{
	if (len > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	return dirent_name_validate(name, len) ? -EINVAL : 0;
}

int names_dir(struct op *op, uint64_t ino, struct inode **out)
{
	int r = inode_get(op, ino, out);

	if (r)
		return r;
	if (!S_ISDIR((*out)->rec.mode))
		return -ENOTDIR;
	return 0;
}

static int read_entry(struct op *op, const struct inode *dir, uint64_t cookie, struct db_value *value,
		      struct dirent_rec *rec)
{
	const struct subvol *sv = op->sv;
	uint8_t key[KEY_MAX];
	int r = version_get(op, DB_NS, key, key_dirent(key, sv->tree, dir->ino, cookie, sv->node), value, NULL);

	if (r)
		return r;
	if (!dirent_rec_decode(value->data, value->len, rec))
		return 0;
	log_error("subvolume %s: directory %llu: the entry at %llx is damaged", subvol_name(sv),
		  (unsigned long long)dir->ino, (unsigned long long)cookie);
	return -EIO;
}

/* Look at the probes from..to: 0 when the name is there. Notes the first free place. */
static int probe(struct op *op, const struct inode *dir, uint64_t home, const char *name, size_t len, unsigned from, unsigned to,
		 bool *free_place, struct names_entry *out)
{
	bool wait = false;

	for (unsigned i = from; i <= to; i++) {
		cleanup_db_value struct db_value value = { 0 };
		const uint64_t cookie = cookie_add(home, i);
		struct dirent_rec rec;
		int r = read_entry(op, dir, cookie, &value, &rec);

		if (r == META_WAIT) {
			wait = true;
			continue;
		}
		if (r == -ENOENT && !*free_place) {
			*free_place = true;
			out->cookie = cookie;
			out->probe = (uint8_t)i;
		}
		if (r == -ENOENT || (!r && (rec.name_len != len || memcmp(rec.name, name, len))))
			continue;
		if (r)
			return r;
		out->cookie = cookie;
		out->probe = (uint8_t)i;
		out->ino = rec.ino;
		out->mode = (uint32_t)rec.file_type << 12;
		return 0;
	}
	return wait ? META_WAIT : -ENOENT;
}

/* ---- names ---- */

int names_find(struct op *op, const struct inode *dir, const char *name, size_t len, struct names_entry *out)
{
	const uint64_t home = cookie_of(op->sv->pool->label.hash_key, name, len);
	bool free_place = false;
	int r;

	if (known_free(op->sv, dir, home, out))
		return -ENOENT;
	if (known_there(op->sv, dir, home, name, len, out))
		return 0;
	r = probe(op, dir, home, name, len, 0, dir->rec.max_probe, &free_place, out);
	if (r == -ENOENT && free_place)
		known_note_free(op->sv, dir, out);
	if (!r)
		known_note(op->sv, dir, out, name, len);
	return r;
}

int names_place(struct op *op, const struct inode *dir, const char *name, size_t len, struct names_entry *out)
{
	const uint64_t home = cookie_of(op->sv->pool->label.hash_key, name, len);
	bool free_place = false;
	int r;

	if (!dir->rec.nlink)
		return -ENOENT; /* a removed directory that somebody stands in */
	if (known_free(op->sv, dir, home, out))
		return 0;
	if (known_there(op->sv, dir, home, name, len, out))
		return -EEXIST;
	r = probe(op, dir, home, name, len, 0, dir->rec.max_probe, &free_place, out);
	for (unsigned i = dir->rec.max_probe + 1u; r == -ENOENT && !free_place && i <= PROBE_MAX; i++)
		r = probe(op, dir, home, name, len, i, i, &free_place, out);
	if (!r)
		return -EEXIST;
	if (r != -ENOENT)
		return r;
	return free_place ? 0 : -ENOSPC;
}

void names_add(struct change *c, struct inode *dir, const struct names_entry *place, const char *name, size_t len,
	       const struct inode *inode)
{
	struct inode_rec *rec = change_inode(c, dir);

	change_add_entry(c, dir, place->cookie, name, len, inode->ino, inode->rec.mode);
	if (place->probe > rec->max_probe)
		rec->max_probe = place->probe;
}

void names_drop_link(struct change *c, struct inode *inode)
{
	struct inode_rec *rec = change_inode(c, inode);

	rec->ctime = change_now(c);
	if (S_ISDIR(rec->mode))
		rec->nlink = 0;
	else
		rec->nlink--;
	if (!rec->nlink)
		change_orphan(c, inode->ino, lookup_count(inode->sv, inode->ino) ? ORPHAN_UNLINKED : ORPHAN_REAPING, true);
}

void names_dropped(struct inode *inode)
{
	if (inode->rec.nlink)
		return;
	inode->deleted = !lookup_count(inode->sv, inode->ino);
	orphan_made(inode->sv, inode->ino);
}

int names_lookup(struct op *op, uint64_t dir, const char *name, size_t name_len, struct inode_attr *out)
{
	struct names_entry entry;
	struct inode *d, *inode;
	int r = names_check(name, name_len);

	if (!r)
		r = names_dir(op, dir, &d);
	if (!r)
		r = names_find(op, d, name, name_len, &entry);
	if (r)
		return r;
	r = inode_get(op, entry.ino, &inode);
	if (r == -ENOENT) {
		log_error("subvolume %s: directory %llu has an entry for inode %llu, which is not there",
			  subvol_name(op->sv), (unsigned long long)dir, (unsigned long long)entry.ino);
		return -EIO;
	}
	if (!r)
		inode_attr(inode, out);
	return r;
}

int names_parent(struct op *op, uint64_t dir, struct inode_attr *out)
{
	struct inode *d, *parent;
	int r = names_dir(op, dir, &d);

	if (!r)
		r = inode_get(op, dir == INO_ROOT ? INO_ROOT : d->rec.parent, &parent);
	if (!r)
		inode_attr(parent, out);
	return r;
}

int names_readlink(struct op *op, uint64_t ino, const char **out)
{
	struct inode *inode;
	int r = inode_get(op, ino, &inode);

	if (r)
		return r;
	if (!S_ISLNK(inode->rec.mode))
		return -EINVAL;
	*out = inode->rec.target;
	return 0;
}
