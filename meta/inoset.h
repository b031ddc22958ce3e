/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_META_INOSET_H
#define NVFS_META_INOSET_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A set of inode numbers: open addressing, at most three quarters full. All zeros is an empty one. */
struct inoset {
	uint64_t *slots; /* 0: free */
	size_t size;     /* a power of two, or 0 */
	size_t count;
};

static inline size_t inoset_home(const struct inoset *s, uint64_t ino)
{
	return (size_t)(ino * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (s->size - 1);
}

static inline size_t inoset_slot(const struct inoset *s, uint64_t ino)
{
	size_t i = inoset_home(s, ino);

	while (s->slots[i] && s->slots[i] != ino)
		i = (i + 1) & (s->size - 1);
	return i;
}

static inline bool inoset_has(const struct inoset *s, uint64_t ino)
{
	return s->count && s->slots[inoset_slot(s, ino)] == ino;
}

static inline int inoset_add(struct inoset *s, uint64_t ino)
{
	if ((s->count + 1) * 4 > s->size * 3) {
		struct inoset bigger = { .size = s->size ? s->size * 2 : 64, .count = s->count };

		bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
		if (!bigger.slots)
			return -ENOMEM;
		for (size_t i = 0; i < s->size; i++)
			if (s->slots[i])
				bigger.slots[inoset_slot(&bigger, s->slots[i])] = s->slots[i];
		free(s->slots);
		*s = bigger;
	}
	if (!inoset_has(s, ino)) {
		s->slots[inoset_slot(s, ino)] = ino;
		s->count++;
	}
	return 0;
}

/* True when it was there. */
static inline bool inoset_remove(struct inoset *s, uint64_t ino)
{
	size_t hole, mask = s->size - 1;

	if (!inoset_has(s, ino))
		return false;
	hole = inoset_slot(s, ino);
	for (size_t i = (hole + 1) & mask; s->slots[i]; i = (i + 1) & mask) {
		if (((i - inoset_home(s, s->slots[i])) & mask) < ((i - hole) & mask))
			continue;
		s->slots[hole] = s->slots[i];
		hole = i;
	}
	s->slots[hole] = 0;
	s->count--;
	return true;
}

static inline void inoset_free(struct inoset *s)
{
	free(s->slots);
	memset(s, 0, sizeof(*s));
}

#endif
