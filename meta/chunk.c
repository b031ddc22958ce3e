/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chunk maps in memory. A chunk is found by file and number in one hash of the subvolume. It can be
 * evicted when it equals what RocksDB has, has no dirty blocks and is not pinned; such chunks are in an LRU
 * list of the reactor, which is trimmed at the start of a handler only, so that within a handler every chunk that was got
 * stays where it is. Chunks without a record are cached like others, or a sequential writer would
 * ask RocksDB for each of them twice.
 *
 * Holders: the record of a chunk that is the own node's holds its blocks in the allocator. So does the map of a
 * changed chunk; chunk_edit() of an inherited one therefore adds a holder for all that it still maps.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/version.h"

static size_t chunk_hash(const struct data *d, const struct file *f, uint64_t no)
{
	uint64_t h = ((uint64_t)(uintptr_t)f >> 4) * UINT64_C(0x9e3779b97f4a7c15) ^ no * UINT64_C(0xff51afd7ed558ccd);

	return (h ^ h >> 32) & (d->bucket_count - 1);
}

struct chunk *chunk_peek(struct file *f, uint64_t no)
{
	struct data *d = f->data;
	struct chunk *c = d->buckets[chunk_hash(d, f, no)];

	while (c && (c->no != no || c->file != f))
		c = c->hash_next;
	return c;
}

static void buckets_grow(struct data *d)
{
	size_t old_count = d->bucket_count;
	struct chunk **old = d->buckets, **wider = calloc(old_count * 2, sizeof(*wider));

	if (!wider)
		return; /* longer chains */
	d->buckets = wider;
	d->bucket_count = old_count * 2;
	for (size_t i = 0; i < old_count; i++) {
		while (old[i]) {
			struct chunk *c = old[i];
			size_t at = chunk_hash(d, c->file, c->no);

			old[i] = c->hash_next;
			c->hash_next = d->buckets[at];
			d->buckets[at] = c;
		}
	}
	free(old);
}

static struct chunk *chunk_new(struct file *f, uint64_t no)
{
	struct data *d = f->data;
	struct chunk *c = calloc(1, sizeof(*c));
	size_t at;

	if (!c)
		return NULL;
	/* Each chunk of a chain is a cache miss: there are twice as many buckets as chunks, or more. */
	if (d->chunk_count >= d->bucket_count / 2)
		buckets_grow(d);
	c->no = no;
	c->file = f;
	at = chunk_hash(d, f, no);
	c->hash_next = d->buckets[at];
	d->buckets[at] = c;
	d->chunk_count++;
	d->sv->shared->chunk_count++;
	DL_APPEND(f->chunks, c);
	atomic_fetch_add_explicit(&data_pool(d)->map_bytes, sizeof(*c), memory_order_relaxed);
	return c;
}

static void unlist(struct chunk *c)
{
	if (c->listed)
		DL_DELETE2(c->file->data->sv->shared->chunks, c, lru_prev, lru_next);
	c->listed = false;
}

void chunk_list(struct chunk *c)
{
	struct shared *shared = c->file->data->sv->shared;
	bool evictable = !c->changed && !c->pins && !chunk_dirty(c) && !c->busy;

	if (evictable == c->listed)
		return;
	if (c->listed) {
		unlist(c);
	} else {
		DL_APPEND2(shared->chunks, c, lru_prev, lru_next);
		c->listed = true;
	}
}

static void base_free(struct chunk *c)
{
	if (c->base) {
		blockmap_clear(c->base);
		free(c->base);
		c->base = NULL;
	}
}

void chunk_free(struct chunk *c)
{
	struct file *f = c->file;
	struct data *d = f->data;
	struct chunk **p = &d->buckets[chunk_hash(d, f, c->no)];

	unlist(c);
	while (*p != c)
		p = &(*p)->hash_next;
	*p = c->hash_next;
	DL_DELETE(f->chunks, c);
	if (c->changed) {
		DL_DELETE2(f->changed, c, changed_prev, changed_next);
		f->changed_count--;
	}
	base_free(c);
	blockmap_clear(&c->map);
	if (c->out)
		blockmap_clear(c->out);
	free(c->out);
	free(c->front);
	free(c->back);
	free(c);
	d->chunk_count--;
	d->sv->shared->chunk_count--;
	atomic_fetch_sub_explicit(&data_pool(d)->map_bytes, sizeof(*c), memory_order_relaxed);
}

/* A subvolume keeps this many whatever others use. */
#define CHUNKS_KEPT 64u
#define TRIM_SCAN_MAX 1024u

/* Of the pool's cap each reactor may always use its part: what another one does not use any more stays with that one. */
static bool too_many(const struct data *d)
{
	const struct pool *pool = data_pool(d);

	return d->sv->shared->chunk_count > d->map_cap_bytes / pool->options.reactors / sizeof(struct chunk) &&
	       atomic_load_explicit(&pool->map_bytes, memory_order_relaxed) > d->map_cap_bytes;
}

void chunks_trim(struct data *d)
{
	struct shared *shared = d->sv->shared;

	for (unsigned i = 0; i < TRIM_SCAN_MAX && shared->chunks && too_many(d); i++) {
		struct chunk *c = shared->chunks;

		if (c->file->data->chunk_count > CHUNKS_KEPT) {
			chunk_free(c);
		} else {
			unlist(c);
			chunk_list(c); /* as the newest */
		}
	}
}

void chunk_pin(struct chunk *c)
{
	c->pins++;
	chunk_list(c);
}

void chunk_unpin(struct chunk *c)
{
	c->pins--;
	chunk_list(c);
}

/* ---- Loading ---- */

static bool cut_covers(const struct file *f, uint64_t no, uint64_t seq)
{
	for (const struct cut *cut = f->cuts; cut; cut = cut->next)
		if (seq < cut->sequence && no >= cut->first && no < cut->end)
			return true;
	return false;
}

/* Enter what RocksDB has (value NULL: nothing) as a chunk. */
static int chunk_enter(struct file *f, uint64_t no, const void *value, size_t len, uint32_t node, struct chunk **out)
{
	struct map_rec rec;
	struct chunk *c;
	int r = 0;

	if (value && map_rec_decode(value, len, &rec) < 0)
		r = -EBADMSG;
	c = r ? NULL : chunk_new(f, no);
	if (!r && !c)
		return -ENOMEM;
	if (!r && value) {
		c->node = node;
		r = blockmap_from_rec(&c->map, &rec, false);
		c->hidden = c->map.mapped && cut_covers(f, no, rec.seq);
		if (r)
			chunk_free(c);
	}
	if (r == -EBADMSG) {
		log_error("pool %s, subvolume %s, inode %llu: the map of chunk %llu is damaged; run fsck.nvfs",
			  pool_name(data_pool(f->data)), subvol_name(f->data->sv),
			  (unsigned long long)f->inode->ino, (unsigned long long)no);
		return -EIO;
	}
	if (r)
		return r;
	chunk_list(c);
	*out = c;
	return 0;
}

/* Whether there can be a record that is not in memory. Of an inode that an ancestor may have, one that maps nothing. */
static bool file_has_records(const struct file *f)
{
	return f->put_mapped || f->cuts || f->inode->ino < f->data->sv->first_ino;
}

int chunk_get(struct op *op, struct file *f, uint64_t no, struct chunk **out)
{
	struct subvol *sv = f->data->sv;
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_MAP_LEN];
	uint32_t from = 0;
	struct chunk *c = chunk_peek(f, no);
	int r;

	if (c) {
		if (c->listed) { /* the newest now */
			unlist(c);
			chunk_list(c);
		}
		*out = c;
		return 0;
	}
	if (!file_has_records(f))
		return chunk_enter(f, no, NULL, 0, 0, out);
	r = version_get(op, DB_MAP, key, key_map(key, sv->tree, f->inode->ino, no, sv->node), &value, &from);
	if (r == -ENOENT)
		return chunk_enter(f, no, NULL, 0, 0, out);
	if (r)
		return r;
	return chunk_enter(f, no, value.data, value.len, from, out);
}

struct range_load {
	struct file *f;
	uint64_t end;
	unsigned left; /* records that may still be met; */
	uint64_t next; /* then this is the first that was not */
};

static int range_load_one(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value,
			  size_t len)
{
	struct range_load *l = arg;
	uint64_t no = get_be64(key + 12);
	struct chunk *c;

	(void)key_len;
	if (no >= l->end)
		return 1;
	/* All are counted, those in memory too: what came with an earlier run of the op was new then. */
	if (!l->left--) {
		l->next = no;
		return 1;
	}
	if (chunk_peek(l->f, no))
		return 0;
	return chunk_enter(l->f, no, value, len, from, &c);
}

int chunk_load(struct op *op, struct file *f, uint64_t first, uint64_t end, unsigned most, uint64_t *next)
{
	struct subvol *sv = f->data->sv;
	struct range_load l = { .f = f, .end = end, .left = most, .next = end };
	uint8_t start[KEY_MAP_LEN];
	int r = 0;

	if (file_has_records(f) && first < end) {
		key_map(start, sv->tree, f->inode->ino, first, sv->node);
		r = version_each(op, DB_MAP, start, 12, start, 20, range_load_one, &l);
	}
	*next = l.next;
	return r < 0 ? r : 0;
}

/* ---- Changing ---- */

static int hold_one(void *arg, const struct extent *extent, int delta)
{
	(void)delta;
	return space_hold(arg, extent);
}

static int base_make(struct chunk *c)
{
	int r;

	if (!chunk_own(c)) {
		/* With the runs that its record will have, whatever flags the other's had when it was read. */
		c->map.inherited = c->map.mapped;
		blockmap_recount(&c->map, NULL);
		return blockmap_each(&c->map, hold_one, data_pool(c->file->data)->space);
	}
	c->base = calloc(1, sizeof(*c->base));
	if (!c->base)
		return -ENOMEM;
	r = blockmap_copy(c->base, &c->map);
	if (r)
		base_free(c);
	return r;
}

int chunk_edit(struct chunk *c)
{
	struct file *f = c->file;
	int r;

	assert(!c->hidden);
	if (c->changed)
		return 0;
	r = base_make(c);
	if (r)
		return r;
	c->changed = true;
	DL_APPEND2(f->changed, c, changed_prev, changed_next);
	f->changed_count++;
	chunk_list(c);
	return 0;
}

static int drop_one(void *arg, const struct extent *extent, int delta)
{
	(void)delta;
	space_drop(arg, extent);
	return 0;
}

void chunk_unmap(struct chunk *c, uint64_t mask)
{
	uint64_t gone = c->map.mapped & mask;

	assert(c->changed);
	blockmap_unmap(&c->map, gone, drop_one, data_pool(c->file->data)->space);
	c->file->mapped -= mask_count(gone);
}

int chunk_unhide(struct chunk *c)
{
	uint64_t counted = c->map.mapped, own = chunk_map_own(c);
	int r;

	if (!c->hidden)
		return 0;
	c->hidden = false;
	r = chunk_edit(c);
	if (r) {
		c->hidden = true;
		return r;
	}
	chunk_unmap(c, BLOCKMAP_ALL);
	file_uncharge(c->file, mask_count(counted), mask_count(own));
	file_changed(c->file);
	return 0;
}

void chunk_put_done(struct chunk *c, bool own)
{
	struct file *f = c->file;

	base_free(c);
	c->node = own ? f->data->sv->node : 0;
	c->changed = false;
	DL_DELETE2(f->changed, c, changed_prev, changed_next);
	f->changed_count--;
	chunk_list(c);
}

void chunk_drop_holders(struct chunk *c)
{
	if (chunk_own(c) || c->changed)
		blockmap_unmap(&c->map, BLOCKMAP_ALL, drop_one, data_pool(c->file->data)->space);
}
