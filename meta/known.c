/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel looks a name up before it creates it, so the last places that were found free are noted:
 * in a directory without collisions (max_probe 0) a free place is all that has to be known of a name.
 * Entries that are there are noted as well, by two keyed hashes of the name, 127 bits together: the kernel asks
 * for a name once, but names it again to rename or remove it.
 */
#include "config.h"

#include <errno.h>
#include <sys/mman.h>

#include "meta/known.h"
#include "meta/namehash.h"
#include "meta/subvol_internal.h"

#define FREE_PLACES 256u
#define SETS 32768u
#define WAYS 4u

struct known {
	struct free_place {
		uint64_t dir, cookie;  /* no dir: unused */
	} free_places[FREE_PLACES];
	struct known_name {
		uint64_t dir, cookie, check;
		uint64_t ino : 48, type : 16;
	} names[SETS][WAYS];
	unsigned victim; /* way that goes next where a set is full */
};

/* Pages that nothing is noted in shall cost nothing. */
int known_create(struct known **out)
{
	void *p = mmap(NULL, sizeof(struct known), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	*out = p;
	return 0;
}

void known_destroy(struct known *known)
{
	if (known)
		munmap(known, sizeof(*known));
}

static uint64_t place_hash(uint64_t dir, uint64_t cookie)
{
	return dir * UINT64_C(0x9e3779b97f4a7c15) + cookie;
}

/* What is noted of a place, or NULL. */
static struct known_name *find_name(const struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	struct known_name *set = sv->known->names[place_hash(dir, cookie) % SETS];

	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].dir == dir && set[i].cookie == cookie)
			return &set[i];
	return NULL;
}

static struct known_name *new_name(struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	struct known_name *set = sv->known->names[place_hash(dir, cookie) % SETS], *k = find_name(sv, dir, cookie);

	for (unsigned i = 0; !k && i < WAYS; i++)
		if (!set[i].dir)
			k = &set[i];
	return k ? k : &set[sv->known->victim++ % WAYS];
}

static struct free_place *free_slot(const struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	return &sv->known->free_places[place_hash(dir, cookie) % FREE_PLACES];
}

static const uint8_t *hash_key(const struct subvol *sv)
{
	return sv->pool->label.hash_key;
}

bool known_there(const struct subvol *sv, const struct inode *dir, uint64_t cookie, const char *name, size_t len,
		 struct names_entry *out)
{
	const struct known_name *k = find_name(sv, dir->ino, cookie);

	if (!k || dir->rec.max_probe || k->check != name_check_of(hash_key(sv), name, len))
		return false;
	*out = (struct names_entry){ .cookie = cookie, .ino = k->ino, .mode = (uint32_t)k->type << 12 };
	return true;
}

bool known_free(const struct subvol *sv, const struct inode *dir, uint64_t cookie, struct names_entry *out)
{
	const struct free_place *p = free_slot(sv, dir->ino, cookie);

	if (dir->rec.max_probe || p->dir != dir->ino || p->cookie != cookie)
		return false;
	out->cookie = cookie;
	out->probe = 0;
	return true;
}

void known_note(struct subvol *sv, const struct inode *dir, const struct names_entry *entry, const char *name, size_t len)
{
	if (entry->probe || dir->rec.max_probe)
		return;
	*new_name(sv, dir->ino, entry->cookie) = (struct known_name){
		.dir = dir->ino,
		.cookie = entry->cookie,
		.check = name_check_of(hash_key(sv), name, len),
		.ino = entry->ino,
		.type = entry->mode >> 12,
	};
}

void known_note_free(struct subvol *sv, const struct inode *dir, const struct names_entry *place)
{
	if (!dir->rec.max_probe)
		*free_slot(sv, dir->ino, place->cookie) = (struct free_place){ .dir = dir->ino, .cookie = place->cookie };
}

void known_changed(struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	struct free_place *p = free_slot(sv, dir, cookie);
	struct known_name *k = find_name(sv, dir, cookie);

	if (p->dir == dir && p->cookie == cookie)
		p->dir = 0;
	if (k)
		k->dir = 0;
}
