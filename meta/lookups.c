/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extendible hashing over segments of 32 KiB. A segment holds the inodes whose hash begins with its
 * prefix, `depth` bits long; a full one is split by the next bit. So growth costs one segment's
 * work at a time, and memory follows what the kernel knows, 16 bytes an inode.
 *
 * Segments and their headers lie in the area; the directory, from hash to segment, is the process's
 * and is made anew from the headers. A worker may be killed between any two stores, so
 *   - an entry's count is stored before its number;
 *   - a deletion moves entries back by copying before it clears: at worst one is there twice;
 *   - a split fills the new segment, makes it live, and only then takes the entries out of the old one.
 * Taking over drops entries from segments that are not theirs any more, and doubles. What is left
 * in doubt counts as known, which only keeps an orphan until the unmount.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "io/cleanup.h"
#include "io/log.h"
#include "meta/lookups.h"

#define SEGMENT_ENTRIES 2048u
#define SEGMENT_MASK (SEGMENT_ENTRIES - 1)
#define SEGMENT_FULL (SEGMENT_ENTRIES / 8 * 7)
#define SEGMENTS_MAX 32768u
#define DEPTH_MAX 24u
#define STORE_MAGIC UINT32_C(0x4b4c564e) /* NVLK */

struct entry {
	_Atomic uint64_t ino; /* 0: free */
	uint64_t count;
};

enum segment_state { SEGMENT_FREE = 0, SEGMENT_BUILDING = 1, SEGMENT_LIVE = 2 };

struct segment { /* in the area */
	_Atomic uint32_t state;
	uint32_t subvol;
	_Atomic uint32_t path; /* a one, then the hash's first `depth` bits: changes by one store */
	uint32_t used;
	uint32_t doubt;
	uint32_t reserved[3];
};

struct store_head { /* in the area, 4096 bytes */
	uint32_t magic;
	uint32_t entries;
	uint32_t high; /* segments from here on were never used */
};

#define HEAD_BYTES 4096u
#define SEGMENT_HEADS_BYTES (SEGMENTS_MAX * sizeof(struct segment))

struct lookup_store {
	struct store_head *head;
	struct segment *segments;
	struct entry (*entries)[SEGMENT_ENTRIES];
	pthread_mutex_t lock; /* leaf; protects what follows, head->high, and states from and to SEGMENT_FREE */
	uint32_t *free_list;
	uint32_t free_count;
};

struct lookups {
	struct lookup_store *store;
	uint32_t subvol;
	unsigned depth;
	uint32_t *dir; /* 1 << depth segment numbers */
	uint64_t count;
	bool doubt;
};

/* ---- store ---- */

size_t lookup_store_bytes(void)
{
	return HEAD_BYTES + SEGMENT_HEADS_BYTES + (size_t)SEGMENTS_MAX * SEGMENT_ENTRIES * sizeof(struct entry);
}

int lookup_store_create(void *base, struct lookup_store **out)
{
	struct lookup_store *st = calloc(1, sizeof(*st));

	if (!st)
		return -ENOMEM;
	st->free_list = malloc(SEGMENTS_MAX * sizeof(*st->free_list));
	if (!st->free_list) {
		free(st);
		return -ENOMEM;
	}
	pthread_mutex_init(&st->lock, NULL);
	st->head = base;
	st->segments = (struct segment *)((char *)base + HEAD_BYTES);
	st->entries = (struct entry (*)[SEGMENT_ENTRIES])((char *)base + HEAD_BYTES + SEGMENT_HEADS_BYTES);
	if (st->head->magic != STORE_MAGIC || st->head->entries != SEGMENT_ENTRIES || st->head->high > SEGMENTS_MAX) {
		st->head->high = 0;
		st->head->entries = SEGMENT_ENTRIES;
		st->head->magic = STORE_MAGIC;
	}
	for (uint32_t i = st->head->high; i > 0; i--)
		if (atomic_load(&st->segments[i - 1].state) == SEGMENT_FREE)
			st->free_list[st->free_count++] = i - 1;
	*out = st;
	return 0;
}

void lookup_store_destroy(struct lookup_store *st)
{
	if (!st)
		return;
	pthread_mutex_destroy(&st->lock);
	free(st->free_list);
	free(st);
}

static void segment_zero(struct lookup_store *st, uint32_t n)
{
	struct entry *e = st->entries[n];
	const size_t page = 4096;
	char *from = (char *)(((uintptr_t)e + page - 1) & ~(page - 1));

	/* Shared memory gives the pages back; where it is not shared the kernel refuses. */
	if ((char *)e == from && !madvise(e, sizeof(st->entries[n]), MADV_REMOVE))
		return;
	memset(e, 0, sizeof(st->entries[n]));
}

static void segment_free(struct lookup_store *st, uint32_t n)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&st->lock);

	segment_zero(st, n);
	atomic_store_explicit(&st->segments[n].state, SEGMENT_FREE, memory_order_release);
	st->free_list[st->free_count++] = n;
}

/* A zeroed segment, BUILDING, or -1. */
static int64_t segment_new(struct lookup_store *st, uint32_t subvol, uint32_t path)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&st->lock);
	struct segment *s;
	uint32_t n;

	if (st->free_count)
		n = st->free_list[--st->free_count];
	else if (st->head->high < SEGMENTS_MAX)
		n = st->head->high++;
	else
		return -1;
	s = &st->segments[n];
	*s = (struct segment){ .subvol = subvol, .path = path };
	atomic_store_explicit(&s->state, SEGMENT_BUILDING, memory_order_release);
	return n;
}

/* ---- one segment ---- */

static uint64_t hash(uint64_t ino)
{
	ino ^= ino >> 33;
	ino *= UINT64_C(0xff51afd7ed558ccd);
	ino ^= ino >> 33;
	ino *= UINT64_C(0xc4ceb9fe1a85ec53);
	return ino ^ ino >> 33;
}

static unsigned path_depth(uint32_t path)
{
	return path ? 31 - (unsigned)__builtin_clz(path) : 0;
}

static uint32_t prefix_of(uint64_t h, unsigned depth)
{
	return depth ? (uint32_t)(h >> (64 - depth)) : 0;
}

static uint64_t entry_ino(const struct entry *e)
{
	return atomic_load_explicit(&e->ino, memory_order_relaxed);
}

static void entry_set(struct entry *e, uint64_t ino, uint64_t count)
{
	e->count = count;
	atomic_store_explicit(&e->ino, ino, memory_order_release);
}

/* Where it is, or the free entry where it would be. Segments are never full. */
static unsigned segment_find(struct entry *e, uint64_t ino)
{
	unsigned i = (unsigned)hash(ino) & SEGMENT_MASK;

	while (entry_ino(&e[i]) && entry_ino(&e[i]) != ino)
		i = (i + 1) & SEGMENT_MASK;
	return i;
}

/* Deletion without tombstones: entries behind move back over the hole. */
static void segment_remove(struct segment *s, struct entry *e, unsigned hole)
{
	for (unsigned i = (hole + 1) & SEGMENT_MASK; entry_ino(&e[i]); i = (i + 1) & SEGMENT_MASK) {
		const unsigned home = (unsigned)hash(entry_ino(&e[i])) & SEGMENT_MASK;

		if (((i - home) & SEGMENT_MASK) < ((i - hole) & SEGMENT_MASK))
			continue;
		entry_set(&e[hole], entry_ino(&e[i]), e[i].count);
		hole = i;
	}
	atomic_store_explicit(&e[hole].ino, 0, memory_order_release);
	s->used--;
}

/* ---- the directory ---- */

static int dir_grow(struct lookups *l, unsigned depth)
{
	uint32_t *dir;

	if (depth > DEPTH_MAX)
		return -ENOSPC;
	dir = malloc(sizeof(*dir) << depth);
	if (!dir)
		return -ENOMEM;
	for (uint32_t i = 0; i < UINT32_C(1) << depth; i++)
		dir[i] = l->dir ? l->dir[i >> (depth - l->depth)] : UINT32_MAX;
	free(l->dir);
	l->dir = dir;
	l->depth = depth;
	return 0;
}

static void dir_set(struct lookups *l, uint32_t n)
{
	const struct segment *s = &l->store->segments[n];
	const unsigned depth = path_depth(s->path), shift = l->depth - depth;
	const uint32_t first = (s->path ^ UINT32_C(1) << depth) << shift;

	for (uint32_t i = 0; i < UINT32_C(1) << shift; i++)
		l->dir[first + i] = n;
}

static uint32_t segment_of(const struct lookups *l, uint64_t ino)
{
	return l->dir[prefix_of(hash(ino), l->depth)];
}

/* Take out what is not in its place, and doubles. */
static void segment_tidy(struct lookups *l, uint32_t n)
{
	struct segment *s = &l->store->segments[n];
	struct entry *e = l->store->entries[n];

	for (unsigned i = 0; i < SEGMENT_ENTRIES; i++) {
		uint64_t ino;

		while ((ino = entry_ino(&e[i])) && (segment_of(l, ino) != n || segment_find(e, ino) != i))
			segment_remove(s, e, i);
	}
}

static int split(struct lookups *l, uint32_t old)
{
	struct lookup_store *st = l->store;
	struct segment *s = &st->segments[old];
	const unsigned depth = path_depth(s->path) + 1;
	const uint32_t upper = s->path << 1 | 1;
	int64_t made;

	if (depth > l->depth) {
		int r = dir_grow(l, l->depth + 1);

		if (r)
			return r;
	}
	made = segment_new(st, l->subvol, upper);
	if (made < 0)
		return -ENOSPC;
	for (unsigned i = 0; i < SEGMENT_ENTRIES; i++) {
		const struct entry *e = &st->entries[old][i];
		const uint64_t ino = entry_ino(e);

		if (!ino || (prefix_of(hash(ino), depth) | UINT32_C(1) << depth) != upper)
			continue;
		entry_set(&st->entries[made][segment_find(st->entries[made], ino)], ino, e->count);
		st->segments[made].used++;
	}
	atomic_store_explicit(&st->segments[made].state, SEGMENT_LIVE, memory_order_release);
	s->path = s->path << 1;
	dir_set(l, (uint32_t)made);
	segment_tidy(l, old);
	return 0;
}

/* ---- taking over ---- */

/* A worker died between making the new half of a split live and narrowing the old one. */
static void finish_split(struct lookups *l, uint32_t n)
{
	struct segment *s = &l->store->segments[n];

	for (uint32_t i = 0; i < l->store->head->high; i++) {
		const struct segment *o = &l->store->segments[i];

		if (atomic_load(&o->state) == SEGMENT_LIVE && o->subvol == l->subvol && o->path == (s->path << 1 | 1)) {
			s->path = s->path << 1;
			return;
		}
	}
}

static bool mine(const struct lookups *l, uint32_t n)
{
	return atomic_load(&l->store->segments[n].state) == SEGMENT_LIVE && l->store->segments[n].subvol == l->subvol;
}

/* The segments' prefixes cover everything exactly once, and what they hold is in its place. */
static int take_over(struct lookups *l)
{
	struct lookup_store *st = l->store;
	unsigned depth = 0;
	int r;

	for (uint32_t n = 0; n < st->head->high; n++) {
		if (st->segments[n].subvol != l->subvol)
			continue;
		if (atomic_load(&st->segments[n].state) == SEGMENT_BUILDING)
			segment_free(st, n);
		if (!mine(l, n))
			continue;
		finish_split(l, n);
		if (path_depth(st->segments[n].path) > depth)
			depth = path_depth(st->segments[n].path);
		l->doubt |= st->segments[n].doubt;
	}
	r = dir_grow(l, depth);
	if (r)
		return r == -ENOMEM ? r : -EUCLEAN;
	for (uint32_t n = 0; n < st->head->high; n++)
		if (mine(l, n))
			dir_set(l, n);
	for (uint32_t n = 0; n < st->head->high; n++) {
		if (!mine(l, n))
			continue;
		st->segments[n].used = 0;
		for (unsigned i = 0; i < SEGMENT_ENTRIES; i++)
			st->segments[n].used += entry_ino(&st->entries[n][i]) != 0;
		segment_tidy(l, n);
		l->count += st->segments[n].used;
	}
	for (uint32_t i = 0; i < UINT32_C(1) << depth; i++)
		if (l->dir[i] == UINT32_MAX)
			return -EUCLEAN;
	return 0;
}

static bool anything_left(const struct lookups *l)
{
	for (uint32_t n = 0; n < l->store->head->high; n++)
		if (mine(l, n))
			return true;
	return false;
}

static void drop_segments(struct lookups *l)
{
	for (uint32_t n = 0; n < l->store->head->high; n++)
		if (mine(l, n))
			segment_free(l->store, n);
	free(l->dir);
	l->dir = NULL;
	l->depth = 0;
	l->count = 0;
}

static int start_empty(struct lookups *l)
{
	int64_t n = segment_new(l->store, l->subvol, 1);

	if (n < 0)
		return -ENOMEM;
	if (dir_grow(l, 0)) {
		segment_free(l->store, (uint32_t)n);
		return -ENOMEM;
	}
	l->store->segments[n].doubt = l->doubt;
	atomic_store_explicit(&l->store->segments[n].state, SEGMENT_LIVE, memory_order_release);
	dir_set(l, (uint32_t)n);
	return 0;
}

/* ---- interface ---- */

int lookups_open(struct lookup_store *store, uint32_t subvol, struct lookups **out)
{
	struct lookups *l = calloc(1, sizeof(*l));
	int r = 0;

	if (!l)
		return -ENOMEM;
	l->store = store;
	l->subvol = subvol;
	if (anything_left(l)) {
		r = take_over(l);
		if (r == -EUCLEAN) {
			log_warn("subvolume %u: its lookup counts are damaged: orphans stay until it is unmounted", subvol);
			drop_segments(l);
			l->doubt = true;
			r = 0;
		}
	}
	if (!r && !l->dir)
		r = start_empty(l);
	if (r) {
		free(l->dir);
		free(l);
		return r;
	}
	*out = l;
	return 0;
}

void lookups_close(struct lookups *l, bool forget)
{
	if (!l)
		return;
	if (forget)
		drop_segments(l);
	free(l->dir);
	free(l);
}

static void set_doubt(struct lookups *l)
{
	if (!l->doubt)
		log_warn("subvolume %u: no room for lookup counts: orphans stay until it is unmounted", l->subvol);
	l->doubt = true;
	l->store->segments[l->dir[0]].doubt = 1;
}

bool lookups_add(struct lookups *l, uint64_t ino, uint64_t n)
{
	uint32_t seg = segment_of(l, ino);
	unsigned i = segment_find(l->store->entries[seg], ino);

	if (entry_ino(&l->store->entries[seg][i])) {
		l->store->entries[seg][i].count += n;
		return true;
	}
	while (l->store->segments[seg].used >= SEGMENT_FULL) {
		if (split(l, seg)) {
			set_doubt(l);
			return false;
		}
		seg = segment_of(l, ino);
	}
	i = segment_find(l->store->entries[seg], ino);
	entry_set(&l->store->entries[seg][i], ino, n);
	l->store->segments[seg].used++;
	l->count++;
	return true;
}

uint64_t lookups_sub(struct lookups *l, uint64_t ino, uint64_t n)
{
	const uint32_t seg = segment_of(l, ino);
	struct entry *e = l->store->entries[seg];
	const unsigned i = segment_find(e, ino);

	if (!entry_ino(&e[i]))
		return 0;
	if (e[i].count > n) {
		e[i].count -= n;
		return e[i].count;
	}
	segment_remove(&l->store->segments[seg], e, i);
	l->count--;
	return 0;
}

uint64_t lookups_get(const struct lookups *l, uint64_t ino)
{
	struct entry *e = l->store->entries[segment_of(l, ino)];
	const unsigned i = segment_find(e, ino);

	return entry_ino(&e[i]) ? e[i].count : 0;
}

void lookups_clear(struct lookups *l)
{
	drop_segments(l);
	l->doubt = false;
	if (start_empty(l))
		abort(); /* a segment was freed just now, and a directory of one entry is always to be had */
}

uint64_t lookups_count(const struct lookups *l)
{
	return l->count;
}

bool lookups_in_doubt(const struct lookups *l)
{
	return l->doubt;
}
