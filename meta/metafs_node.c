/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files as names and extents. A change here is in memory, and in the shared area; the sync of the
 * file, or of the names, makes it durable.
 */
#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

#include "meta/metafs_internal.h"

#define GROW_MIN_BLOCKS 64u     /* 256 KiB */
#define GROW_MAX_BLOCKS 2048u   /* 8 MiB */
#define EXPECT_MAX_BYTES TUNE_MIB(64)

static bool number_after(const char *text, size_t digits_min, uint64_t *out)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; isdigit((unsigned char)text[i]) && i < 19; i++)
		n = n * 10 + (uint64_t)(text[i] - '0');
	*out = n;
	return i >= digits_min && n;
}

enum metafs_kind mf_kind_of_name(const char *name, uint64_t *log_number)
{
	size_t digits = strspn(name, "0123456789");

	*log_number = 0;
	if (digits >= 6 && digits < 19 && !strcmp(name + digits, ".log") &&
	    number_after(name, 6, log_number))
		return METAFS_WAL;
	if (!strncmp(name, "MANIFEST-", 9) && strlen(name + 9) == strspn(name + 9, "0123456789") &&
	    number_after(name + 9, 6, log_number))
		return METAFS_LOG;
	*log_number = 0;
	return METAFS_PLAIN;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct mf_node *mf_node_new(struct metafs *mf, const char *name, size_t len, enum metafs_kind kind)
{
	struct mf_node *node = calloc(1, sizeof(*node));

	if (node)
		node->name = strndup(name, len);
	if (!node || !node->name) {
		free(node);
		return NULL;
	}
	node->kind = kind;
	node->mtime_ns = now_ns();
	node->open_frame = MF_NO_FRAME;
	node->next_seq = (mf->start << MF_SEQ_BITS) + 1;
	node->flushed = node->next_seq - 1;
	return node;
}

static void node_free(struct mf_node *node)
{
	free(node->name);
	free(node->extents.v);
	free(node->ends);
	free(node->buf);
	free(node);
}

void mf_node_free_all(struct metafs *mf)
{
	struct mf_node *node, *next;
	struct mf_pending *p, *p_next;

	HASH_CLEAR(hh, mf->by_name);
	DL_FOREACH_SAFE(mf->nodes, node, next)
		node_free(node);
	mf->nodes = NULL;
	LL_FOREACH_SAFE(mf->pending, p, p_next)
		free(p);
	mf->pending = NULL;
}

size_t mf_node_table_bytes(const struct mf_node *node)
{
	return metafs_table_file_bytes(node->extents.n, strlen(node->name));
}

static void name_add(struct metafs *mf, struct mf_node *node)
{
	HASH_ADD_KEYPTR(hh, mf->by_name, node->name, strlen(node->name), node);
	node->linked = true;
}

void mf_node_link(struct metafs *mf, struct mf_node *node)
{
	name_add(mf, node);
	DL_APPEND(mf->nodes, node);
	mf->table_bytes += mf_node_table_bytes(node);
}

struct mf_node *mf_node_find(struct metafs *mf, const char *name)
{
	struct mf_node *node;

	HASH_FIND(hh, mf->by_name, name, strlen(name), node);
	return node;
}

void mf_node_changed(struct metafs *mf, struct mf_node *node)
{
	node->changed = ++mf->changes;
}

/* ---- The table ---- */

/*
 * Closed for ever: a newer WAL has blocks, and all of this one's are durable. The table then says
 * exactly what it holds.
 */
static bool is_complete(const struct metafs *mf, const struct mf_node *node)
{
	return node->frozen || (node->kind == METAFS_WAL && node->log_number < mf->wal_newest &&
				!node->tail_frames);
}

static void snapshot_file(const struct metafs *mf, const struct mf_node *node,
			  struct metafs_table_file *f)
{
	*f = (struct metafs_table_file){
		.id = node->id,
		.log_number = node->log_number,
		.mtime_ns = node->mtime_ns,
		.kind = node->kind,
		.extents = node->extents.n,
		.extent = node->extents.v,
		.name = node->name,
		.name_len = strlen(node->name),
	};
	if (!mf_is_log(node)) {
		f->size = node->synced;
	} else if (is_complete(mf, node)) {
		f->frozen = true;
		f->size = node->size;
		f->blocks = node->blocks;
	}
}

int mf_table_snapshot(struct metafs *mf, struct metafs_table *out)
{
	struct mf_node *node;
	unsigned n = 0;

	memset(out, 0, sizeof(*out));
	DL_FOREACH(mf->nodes, node)
		n += node->linked;
	out->file = calloc(n + 1, sizeof(*out->file));
	out->range = calloc(mf->nranges + 1, sizeof(*out->range));
	if (!out->file || !out->range) {
		metafs_table_free(out);
		return -ENOMEM;
	}
	memcpy(out->range, mf->ranges, mf->nranges * sizeof(*out->range));
	out->ranges = mf->nranges;
	memcpy(out->pool_uuid, mf->labels[0].pool_uuid, 16);
	out->next_file_id = mf->next_file_id;
	out->wal_seq_next = mf->wal_seq_durable;
	for (unsigned i = 0; i < mf->members; i++)
		if (!mf->member[i].dev || mf->member[i].stale)
			out->members_stale |= 1ull << i;
	out->start = mf->start;
	DL_FOREACH(mf->nodes, node)
		if (node->linked)
			snapshot_file(mf, node, &out->file[out->files++]);
	return 0;
}

void mf_table_publish(struct metafs *mf)
{
	struct metafs_table table;

	if (mf->area.ours || mf->read_only || mf->freezing || mf_table_snapshot(mf, &table))
		return;
	mf_area_publish(&mf->area, &table);
	metafs_table_free(&table);
}

/* ---- Extents ---- */

static int extents_add(struct metafs_extents *list, const struct metafs_extent *e)
{
	struct metafs_extent *last = list->n ? &list->v[list->n - 1] : NULL;

	if (last && last->vdev == e->vdev && last->block + last->blocks == e->block &&
	    last->blocks <= UINT32_MAX - e->blocks) {
		last->blocks += e->blocks;
		list->blocks += e->blocks;
		return 0;
	}
	if (list->n == list->cap) {
		unsigned cap = list->cap ? list->cap * 2 : 4;
		struct metafs_extent *v = realloc(list->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		list->v = v;
		list->cap = cap;
	}
	list->v[list->n++] = *e;
	list->blocks += e->blocks;
	return 0;
}

int mf_node_map(const struct mf_node *node, uint64_t block, struct metafs_extent *out)
{
	for (unsigned i = 0; i < node->extents.n; i++) {
		const struct metafs_extent *e = &node->extents.v[i];

		if (block < e->blocks) {
			*out = (struct metafs_extent){ e->block + block,
						       e->blocks - (uint32_t)block, e->vdev };
			return 0;
		}
		block -= e->blocks;
	}
	return -EIO;
}

/* Free for good when the durable table no longer has it. */
static int pending_add(struct metafs *mf, const struct metafs_extent *e, uint64_t stamp)
{
	struct mf_pending *p;

	if (stamp <= mf->durable)
		return mf_alloc_release(&mf->alloc, e);
	p = malloc(sizeof(*p));
	if (!p)
		return -ENOMEM; /* lost until the next start: never reused too early */
	*p = (struct mf_pending){ .extent = *e, .stamp = stamp };
	LL_PREPEND(mf->pending, p);
	mf->pending_blocks += e->blocks;
	return 0;
}

void mf_pending_release(struct metafs *mf)
{
	struct mf_pending *p, *next;

	LL_FOREACH_SAFE(mf->pending, p, next) {
		if (p->stamp > mf->durable)
			continue;
		mf_alloc_release(&mf->alloc, &p->extent);
		mf->pending_blocks -= p->extent.blocks;
		LL_DELETE(mf->pending, p);
		free(p);
	}
}

int mf_node_trim(struct metafs *mf, struct mf_node *node, uint64_t keep)
{
	struct metafs_extents *list = &node->extents;
	size_t before = mf_node_table_bytes(node);
	int err = 0;

	if (list->blocks <= keep)
		return 0;
	mf_node_changed(mf, node);
	while (list->blocks > keep && !err) {
		struct metafs_extent *last = &list->v[list->n - 1];
		uint64_t excess = list->blocks - keep;
		uint32_t cut = excess < last->blocks ? (uint32_t)excess : last->blocks;
		struct metafs_extent gone = { last->block + last->blocks - cut, cut, last->vdev };

		err = pending_add(mf, &gone, node->changed);
		last->blocks -= cut;
		list->blocks -= cut;
		if (!last->blocks)
			list->n--;
	}
	if (node->linked)
		mf->table_bytes -= before - mf_node_table_bytes(node);
	mf_table_publish(mf);
	return err;
}

static uint64_t blocks_wanted(const struct metafs *mf, const struct mf_node *node, uint64_t blocks)
{
	uint64_t have = node->extents.blocks, extra = have, expect;

	if (node->kind == METAFS_WAL && !have)
		extra = tune_wal_bytes(mf->share_blocks * MF_BLOCK) / MF_BLOCK / 2;
	extra = tune_clamp(extra, GROW_MIN_BLOCKS, GROW_MAX_BLOCKS);
	expect = (node->expect + MF_BLOCK - 1) / MF_BLOCK;
	if (have + extra < expect)
		extra = expect - have;
	/* Near the end of the space nothing is kept for later. */
	if (mf->alloc.free_blocks < mf->share_blocks / 8)
		extra = tune_clamp(extra, 1, 16);
	return have + extra > blocks ? have + extra : blocks;
}

/* Only compactions announce how large their output will be. */
static bool may_take(const struct metafs *mf, const struct mf_node *node, uint64_t blocks)
{
	uint64_t reserve = tune_reserve_bytes(mf->share_blocks * MF_BLOCK) / MF_BLOCK;

	return mf_is_log(node) || !node->expect ||
	       mf->alloc.free_blocks >= reserve + (blocks - node->extents.blocks);
}

static int grow_once(struct metafs *mf, struct mf_node *node, uint64_t blocks)
{
	uint64_t wanted = blocks_wanted(mf, node, blocks), had = node->extents.blocks;
	int err = may_take(mf, node, blocks) ? 0 : -ENOSPC;

	while (node->extents.blocks < blocks && !err) {
		uint64_t missing = wanted - node->extents.blocks;
		struct metafs_extent e;
		size_t before = mf_node_table_bytes(node);

		if (mf->table_bytes + sizeof(struct metafs_extent_disk) > mf->slot_bytes)
			return -ENOSPC;
		err = mf_alloc_run(&mf->alloc, missing > UINT32_MAX ? UINT32_MAX : (uint32_t)missing,
				   &e);
		if (err)
			break;
		err = extents_add(&node->extents, &e);
		if (err)
			mf_alloc_release(&mf->alloc, &e);
		else if (node->linked)
			mf->table_bytes += mf_node_table_bytes(node) - before;
	}
	if (node->extents.blocks > had) {
		mf_node_changed(mf, node);
		mf_table_publish(mf);
	}
	return err;
}

int mf_node_grow(struct metafs *mf, struct mf_node *node, uint64_t blocks)
{
	int err;

	if (node->extents.blocks >= blocks)
		return 0;
	err = grow_once(mf, node, blocks);
	if (err != -ENOSPC || !mf->pending_blocks)
		return err;
	pthread_mutex_unlock(&mf->lock);
	pthread_mutex_lock(&mf->sync_lock);
	err = mf_sync_round(mf, NULL, true);
	pthread_mutex_unlock(&mf->sync_lock);
	pthread_mutex_lock(&mf->lock);
	return err ? err : grow_once(mf, node, blocks);
}

/* ---- Names ---- */

/* The last of name and handles is gone. */
static void node_destroy(struct metafs *mf, struct mf_node *node)
{
	for (unsigned i = 0; i < node->extents.n; i++)
		if (pending_add(mf, &node->extents.v[i], node->changed))
			log_warn("metafs: %s: its space is lost until the next start", node->name);
	DL_DELETE(mf->nodes, node);
	node_free(node);
}

void mf_node_drop(struct metafs *mf, struct mf_node *node)
{
	HASH_DELETE(hh, mf->by_name, node);
	node->linked = false;
	mf->table_bytes -= mf_node_table_bytes(node);
	mf_node_changed(mf, node);
	if (mf_is_log(node)) {
		mf_area_disown(&mf->area, node);
		node->tail_frames = 0;
		node->open_frame = MF_NO_FRAME;
	}
	if (!node->refs)
		node_destroy(mf, node);
}

static struct metafs_file *handle_new(struct metafs *mf, struct mf_node *node, bool writer)
{
	struct metafs_file *file = malloc(sizeof(*file));

	if (!file)
		return NULL;
	*file = (struct metafs_file){ .mf = mf, .node = node, .writer = writer };
	node->refs++;
	return file;
}

static int create_locked(struct metafs *mf, const char *name, struct metafs_file **out)
{
	struct mf_node *old = mf_node_find(mf, name), *node;
	uint64_t number;
	enum metafs_kind kind = mf_kind_of_name(name, &number);

	if (mf->failed)
		return -EIO;
	if (mf->table_bytes + metafs_table_file_bytes(8, strlen(name)) > mf->slot_bytes)
		return -ENOSPC;
	node = mf_node_new(mf, name, strlen(name), kind);
	*out = node ? handle_new(mf, node, true) : NULL;
	if (!*out) {
		if (node)
			node_free(node);
		return -ENOMEM;
	}
	node->id = mf->next_file_id++;
	node->log_number = number;
	if (old)
		mf_node_drop(mf, old);
	mf_node_link(mf, node);
	mf_node_changed(mf, node);
	mf->names_changed = mf->changes;
	mf_table_publish(mf);
	return 0;
}

int metafs_create(struct metafs *mf, const char *name, struct metafs_file **out)
{
	cleanup_unlock pthread_mutex_t *held = NULL;

	if (mf->read_only)
		return -EROFS;
	if (!metafs_name_valid(name, strlen(name)))
		return -EINVAL;
	held = lock_mutex(&mf->lock);
	return create_locked(mf, name, out);
}

int metafs_file_open(struct metafs *mf, const char *name, struct metafs_file **out)
{
	struct mf_node *node;
	int err = 0;

	pthread_mutex_lock(&mf->lock);
	node = mf_node_find(mf, name);
	*out = node ? handle_new(mf, node, false) : NULL;
	if (!*out)
		err = node ? -ENOMEM : -ENOENT;
	pthread_mutex_unlock(&mf->lock);
	if (!err && node->frozen)
		err = mf_log_index(mf, node);
	if (err && *out) {
		metafs_file_close(*out);
		*out = NULL;
	}
	return err;
}

void metafs_file_close(struct metafs_file *file)
{
	struct metafs *mf = file->mf;
	struct mf_node *node = file->node;
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);

	if (file->writer && !mf_is_log(node))
		mf_node_trim(mf, node, (node->size + MF_BLOCK - 1) / MF_BLOCK);
	if (file->writer && node->tail_written) {
		free(node->buf);
		node->buf = NULL;
		node->buf_used = 0;
	}
	free(file);
	if (!--node->refs && !node->linked)
		node_destroy(mf, node);
}

int metafs_unlink(struct metafs *mf, const char *name)
{
	cleanup_unlock pthread_mutex_t *held = NULL;
	struct mf_node *node;

	if (mf->read_only)
		return -EROFS;
	held = lock_mutex(&mf->lock);
	node = mf_node_find(mf, name);
	if (!node)
		return -ENOENT;
	mf_node_drop(mf, node);
	mf_table_publish(mf);
	return 0;
}

static void node_rename(struct metafs *mf, struct mf_node *node, char *name)
{
	HASH_DELETE(hh, mf->by_name, node);
	mf->table_bytes -= mf_node_table_bytes(node);
	free(node->name);
	node->name = name;
	name_add(mf, node);
	mf->table_bytes += mf_node_table_bytes(node);
	mf_node_changed(mf, node);
}

int mf_node_promote(struct metafs *mf, struct mf_node *node, const char *name, uint64_t log_number)
{
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	node_rename(mf, node, copy);
	node->log_number = log_number;
	return 0;
}

/* A longer name must leave the table small enough to be written. */
static bool name_fits(const struct metafs *mf, const struct mf_node *node, const struct mf_node *old,
		      const char *to)
{
	size_t before = mf_node_table_bytes(node) + (old ? mf_node_table_bytes(old) : 0);
	size_t after = metafs_table_file_bytes(node->extents.n, strlen(to));

	return after <= before || mf->table_bytes + (after - before) <= mf->slot_bytes;
}

static int rename_locked(struct metafs *mf, const char *from, const char *to)
{
	struct mf_node *node = mf_node_find(mf, from), *old = mf_node_find(mf, to);
	uint64_t number;
	char *name;

	if (!node)
		return -ENOENT;
	if (mf_kind_of_name(to, &number) != node->kind || number != node->log_number)
		return -EINVAL;
	if (node == old)
		return 0;
	if (!name_fits(mf, node, old, to))
		return -ENOSPC;
	name = strdup(to);
	if (!name)
		return -ENOMEM;
	if (old)
		mf_node_drop(mf, old);
	node_rename(mf, node, name);
	mf->names_changed = mf->changes;
	mf_table_publish(mf);
	return 0;
}

int metafs_rename(struct metafs *mf, const char *from, const char *to)
{
	cleanup_unlock pthread_mutex_t *held = NULL;

	if (mf->read_only)
		return -EROFS;
	if (!metafs_name_valid(to, strlen(to)))
		return -EINVAL;
	held = lock_mutex(&mf->lock);
	return rename_locked(mf, from, to);
}

int metafs_stat(struct metafs *mf, const char *name, struct metafs_stat *out)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	struct mf_node *node = mf_node_find(mf, name);

	if (!node)
		return -ENOENT;
	*out = (struct metafs_stat){
		.id = node->id,
		.size_bytes = node->size,
		.mtime_ns = node->mtime_ns,
		.kind = node->kind,
		.blocks = node->extents.blocks,
		.extents = node->extents.n,
	};
	return 0;
}

void metafs_list(struct metafs *mf, void (*fn)(void *arg, const char *name), void *arg)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	struct mf_node *node;

	DL_FOREACH(mf->nodes, node)
		if (node->linked)
			fn(arg, node->name);
}

uint64_t metafs_file_size(struct metafs_file *file)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&file->mf->lock);

	return file->node->size;
}

uint64_t metafs_file_id(const struct metafs_file *file)
{
	return file->node->id;
}

void metafs_file_expect(struct metafs_file *file, uint64_t bytes)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&file->mf->lock);

	if (!mf_is_log(file->node))
		file->node->expect = bytes < EXPECT_MAX_BYTES ? bytes : EXPECT_MAX_BYTES;
}

int metafs_append(struct metafs_file *file, const void *data, size_t len)
{
	struct metafs *mf = file->mf;
	struct mf_node *node = file->node;

	if (mf->read_only || !file->writer)
		return -EROFS;
	if (!len)
		return 0;
	return mf_is_log(node) ? mf_log_append(mf, node, data, len) :
				 mf_plain_append(mf, node, data, len);
}

ssize_t metafs_read(struct metafs_file *file, void *buf, size_t len, uint64_t offset)
{
	struct mf_node *node = file->node;

	return mf_is_log(node) ? mf_log_read(file->mf, node, buf, len, offset) :
				 mf_plain_read(file->mf, node, buf, len, offset);
}
