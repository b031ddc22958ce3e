/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding names. An entry is stored under its name's cookie, or, where another name has that one, under
 * the next free one; max_probe of the directory says how far any entry is from its own place, so a
 * lookup reads max_probe + 1 keys, nearly always one.
 *
 * The kernel looks a name up before it creates it, so the last places that were found free are noted:
 * in a directory without collisions (max_probe 0) a free place is all that has to be known of a name.
 * Entries that are there are noted as well, by two keyed hashes of the name, 127 bits together: the kernel asks
 * for a name once, but names it again to rename or remove it.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
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
static int probe(struct op *op, const struct inode *dir, const char *name, size_t len, unsigned from, unsigned to,
		 bool *free_place, struct names_entry *out)
{
	const uint64_t home = cookie_of(op->sv->pool->label.hash_key, name, len);
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

/* ---- places found free ---- */

struct known_name {
	uint64_t dir, cookie, check; /* no dir: unused */
	uint64_t ino : 48, type : 16;
};

static uint64_t place_hash(uint64_t dir, uint64_t cookie)
{
	return dir * UINT64_C(0x9e3779b97f4a7c15) + cookie;
}

static struct known_name *known_slot(const struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	return &sv->known_names[place_hash(dir, cookie) % SUBVOL_KNOWN_NAMES];
}

static struct free_place *free_place_slot(struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	return &sv->free_places[place_hash(dir, cookie) % SUBVOL_FREE_PLACES];
}

void names_place_changed(struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	struct free_place *p = free_place_slot(sv, dir, cookie);
	struct known_name *k = known_slot(sv, dir, cookie);

	if (p->dir == dir && p->cookie == cookie)
		p->dir = 0;
	if (k->dir == dir && k->cookie == cookie)
		k->dir = 0;
}

/* ---- entries that are there ---- */

int names_init(struct subvol *sv)
{
	void *p = mmap(NULL, SUBVOL_KNOWN_NAMES * sizeof(struct known_name), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	sv->known_names = p;
	return 0;
}

void names_free(struct subvol *sv)
{
	if (sv->known_names)
		munmap(sv->known_names, SUBVOL_KNOWN_NAMES * sizeof(struct known_name));
}

void names_note(struct subvol *sv, const struct inode *dir, const struct names_entry *entry, const char *name, size_t len)
{
	struct known_name *k = known_slot(sv, dir->ino, entry->cookie);

	if (entry->probe || dir->rec.max_probe)
		return;
	*k = (struct known_name){
		.dir = dir->ino,
		.cookie = entry->cookie,
		.check = name_check_of(sv->pool->label.hash_key, name, len),
		.ino = entry->ino,
		.type = entry->mode >> 12,
	};
}

static bool known_there(const struct op *op, const struct inode *dir, const char *name, size_t len,
			struct names_entry *out)
{
	const uint8_t *hash_key = op->sv->pool->label.hash_key;
	const struct known_name *k;
	uint64_t home;

	if (dir->rec.max_probe)
		return false;
	home = cookie_of(hash_key, name, len);
	k = known_slot(op->sv, dir->ino, home);
	if (k->dir != dir->ino || k->cookie != home || k->check != name_check_of(hash_key, name, len))
		return false;
	*out = (struct names_entry){ .cookie = home, .ino = k->ino, .mode = (uint32_t)k->type << 12 };
	return true;
}

/* The name's own place was noted as free, and no other can have it: *out is that place. */
static bool known_free(const struct op *op, const struct inode *dir, const char *name, size_t len,
		       struct names_entry *out)
{
	const struct free_place *p;

	if (dir->rec.max_probe)
		return false;
	out->cookie = cookie_of(op->sv->pool->label.hash_key, name, len);
	out->probe = 0;
	p = free_place_slot(op->sv, dir->ino, out->cookie);
	return p->dir == dir->ino && p->cookie == out->cookie;
}

static void note_free(const struct op *op, const struct inode *dir, const struct names_entry *place)
{
	if (!dir->rec.max_probe)
		*free_place_slot(op->sv, dir->ino, place->cookie) =
			(struct free_place){ .dir = dir->ino, .cookie = place->cookie };
}

/* ---- names ---- */

int names_find(struct op *op, const struct inode *dir, const char *name, size_t len, struct names_entry *out)
{
	bool free_place = false;
	int r;

	if (known_free(op, dir, name, len, out))
		return -ENOENT;
	if (known_there(op, dir, name, len, out))
		return 0;
	r = probe(op, dir, name, len, 0, dir->rec.max_probe, &free_place, out);
	if (r == -ENOENT && free_place)
		note_free(op, dir, out);
	if (!r)
		names_note(op->sv, dir, out, name, len);
	return r;
}

int names_place(struct op *op, const struct inode *dir, const char *name, size_t len, struct names_entry *out)
{
	bool free_place = false;
	int r;

	if (!dir->rec.nlink)
		return -ENOENT; /* a removed directory that somebody stands in */
	if (known_free(op, dir, name, len, out))
		return 0;
	if (known_there(op, dir, name, len, out))
		return -EEXIST;
	r = probe(op, dir, name, len, 0, dir->rec.max_probe, &free_place, out);
	for (unsigned i = dir->rec.max_probe + 1u; r == -ENOENT && !free_place && i <= PROBE_MAX; i++)
		r = probe(op, dir, name, len, i, i, &free_place, out);
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
