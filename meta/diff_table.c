/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/diff_internal.h"

static size_t slot_of(const struct diff_table *t, uint64_t ino)
{
	size_t i = (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (t->nslots - 1);

	while (t->slots[i] && t->inodes[t->slots[i] - 1].ino != ino)
		i = (i + 1) & (t->nslots - 1);
	return i;
}

struct diff_inode *diff_inode_find(const struct diff_table *t, uint64_t ino)
{
	const uint32_t at = t->nslots ? t->slots[slot_of(t, ino)] : 0;

	return at ? &t->inodes[at - 1] : NULL;
}

static int more_slots(struct diff_table *t)
{
	const size_t n = t->nslots ? t->nslots * 2 : 256;
	uint32_t *slots = calloc(n, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	free(t->slots);
	t->slots = slots;
	t->nslots = n;
	for (size_t i = 0; i < t->count; i++)
		slots[slot_of(t, t->inodes[i].ino)] = (uint32_t)i + 1;
	return 0;
}

struct diff_inode *diff_inode_get(struct diff_table *t, uint64_t ino)
{
	struct diff_inode *there = diff_inode_find(t, ino);

	if (there)
		return there;
	if ((t->count + 1) * 4 > t->nslots * 3 && more_slots(t))
		return NULL;
	if (t->count == UINT32_MAX - 1 || array_grow((void **)&t->inodes, t->count, &t->room, sizeof(*t->inodes)))
		return NULL;
	t->inodes[t->count] = (struct diff_inode){ .ino = ino };
	t->slots[slot_of(t, ino)] = (uint32_t)t->count + 1;
	return &t->inodes[t->count++];
}

int diff_name_add(struct diff_table *t, uint64_t ino, uint64_t dir, const char *name, size_t len, unsigned in)
{
	if (t->nbytes + len > UINT32_MAX || t->nnames == UINT32_MAX - 1)
		return -ENOMEM;
	if (array_grow((void **)&t->names, t->nnames, &t->names_room, sizeof(*t->names)))
		return -ENOMEM;
	while (t->nbytes + len > t->bytes_room)
		if (array_grow((void **)&t->bytes, t->bytes_room, &t->bytes_room, 1))
			return -ENOMEM;
	memcpy(t->bytes + t->nbytes, name, len);
	t->names[t->nnames++] = (struct diff_name){ ino, dir, (uint32_t)t->nbytes, (uint8_t)len, (uint8_t)in };
	t->nbytes += len;
	return 0;
}

void diff_table_free(struct diff_table *t)
{
	free(t->inodes);
	free(t->slots);
	free(t->names);
	free(t->bytes);
	*t = (struct diff_table){ 0 };
}
