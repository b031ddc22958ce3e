/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel looks a name up before it creates it, so the last places that were found free are noted:
 * in a directory without collisions (max_probe 0) a free place is all that has to be known of a name.
 * Entries that are there are noted as well, by two keyed hashes of the name, 127 bits together: the kernel asks
 * for a name once, but names it again to rename or remove it. All subvolumes of a reactor share the memory for them; each
 * opening has a number of its own, which no other one gets, so what a closed one left is nobody's and goes in its turn.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "meta/known.h"
#include "meta/namehash.h"
#include "meta/subvol_internal.h"

#define FREE_PLACES 256u
#define SETS 32768u
#define WAYS 4u
#define OWNERS_MAX ((UINT32_C(1) << 28) - 1)

/* 32 bytes: a set is two cache lines. */
struct known_name {
	uint64_t dir : 48, type : 4, owner_high : 12; /* no dir: unused */
	uint64_t cookie, check;
	uint64_t ino : 48, owner_low : 16;
};

_Static_assert(sizeof(struct known_name) == 32, "no holes");

struct known_names {
	struct known_name sets[SETS][WAYS];
	unsigned victim; /* way that goes next where a set is full */
	uint32_t owners; /* numbers that were given out */
};

struct known {
	struct known_names *names;
	uint32_t owner; /* 0: the numbers have run out, and no names are noted */
	struct free_place {
		uint64_t dir, cookie;  /* no dir: unused */
	} free_places[FREE_PLACES];
};

/* Pages that nothing is noted in shall cost nothing. */
int known_names_create(struct known_names **out)
{
	void *p = mmap(NULL, sizeof(struct known_names), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	*out = p;
	return 0;
}

void known_names_destroy(struct known_names *names)
{
	if (names)
		munmap(names, sizeof(*names));
}

int known_create(struct known_names *names, struct known **out)
{
	struct known *known = calloc(1, sizeof(*known));

	if (!known)
		return -ENOMEM;
	known->names = names;
	if (names->owners < OWNERS_MAX)
		known->owner = ++names->owners;
	*out = known;
	return 0;
}

void known_destroy(struct known *known)
{
	free(known);
}

static uint64_t place_hash(uint64_t dir, uint64_t cookie)
{
	return dir * UINT64_C(0x9e3779b97f4a7c15) + cookie;
}

/* Subvolumes with the same files have them in different sets. */
static struct known_name *set_of(const struct known *known, uint64_t dir, uint64_t cookie)
{
	return known->names->sets[(place_hash(dir, cookie) ^ known->owner * UINT64_C(0xff51afd7ed558ccd) >> 32) % SETS];
}

static bool is_place(const struct known_name *k, uint32_t owner, uint64_t dir, uint64_t cookie)
{
	return k->dir == dir && k->cookie == cookie && ((uint32_t)k->owner_high << 16 | k->owner_low) == owner;
}

/* What is noted of a place, or NULL. */
static struct known_name *find_name(const struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	struct known_name *set = set_of(sv->known, dir, cookie);

	for (unsigned i = 0; i < WAYS; i++)
		if (is_place(&set[i], sv->known->owner, dir, cookie))
			return &set[i];
	return NULL;
}

static struct known_name *new_name(struct subvol *sv, uint64_t dir, uint64_t cookie)
{
	struct known_name *set = set_of(sv->known, dir, cookie), *k = find_name(sv, dir, cookie);

	for (unsigned i = 0; !k && i < WAYS; i++)
		if (!set[i].dir)
			k = &set[i];
	return k ? k : &set[sv->known->names->victim++ % WAYS];
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
	if (entry->probe || dir->rec.max_probe || !sv->known->owner)
		return;
	*new_name(sv, dir->ino, entry->cookie) = (struct known_name){
		.dir = dir->ino,
		.type = entry->mode >> 12 & 0xf,
		.owner_high = sv->known->owner >> 16 & 0xfff,
		.cookie = entry->cookie,
		.check = name_check_of(hash_key(sv), name, len),
		.ino = entry->ino,
		.owner_low = sv->known->owner & 0xffff,
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
