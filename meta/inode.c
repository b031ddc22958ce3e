/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inode cache of a subvolume: a hash table, and an LRU list of what is not pinned, with the other subvolumes of the reactor.
 *
 * Inodes leave memory only between handlers (a deferred message), so a pointer is good until
 * its handler returns. What a file has ahead of RocksDB pins its inode.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/log.h"
#include "meta/charge.h"
#include "meta/file.h"
#include "meta/shared.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"

#define BUCKETS_MIN 1024u
#define INODES_KEPT 256u     /* of a subvolume, whatever others use */
#define EVICT_SCAN_MAX 1024u /* looked at in one message */

/* ---- hash table ---- */

static struct inode **bucket(const struct subvol *sv, uint64_t ino)
{
	return &sv->inode_buckets[(ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20 & (sv->inode_bucket_count - 1)];
}

int inodes_init(struct subvol *sv)
{
	sv->inode_buckets = calloc(BUCKETS_MIN, sizeof(*sv->inode_buckets));
	sv->inode_bucket_count = BUCKETS_MIN;
	return sv->inode_buckets ? 0 : -ENOMEM;
}

/* Without memory the chains just get longer. */
static void buckets_grow(struct subvol *sv)
{
	const size_t old_count = sv->inode_bucket_count;
	struct inode **old = sv->inode_buckets, **new;

	new = calloc(old_count * 2, sizeof(*new));
	if (!new)
		return;
	sv->inode_buckets = new;
	sv->inode_bucket_count = old_count * 2;
	for (size_t i = 0; i < old_count; i++) {
		struct inode *inode, *next;

		for (inode = old[i]; inode; inode = next) {
			struct inode **b = bucket(sv, inode->ino);

			next = inode->hash_next;
			inode->hash_next = *b;
			*b = inode;
		}
	}
	free(old);
}

static void count_changed(struct subvol *sv, int by)
{
	sv->inode_count += (size_t)(ssize_t)by;
	sv->shared->inode_count += (size_t)(ssize_t)by;
	atomic_store_explicit(&sv->cached_inodes, sv->inode_count, memory_order_relaxed);
	atomic_fetch_add_explicit(&sv->pool->cached_inodes, (uint64_t)(int64_t)by, memory_order_relaxed);
}

static void unhash(struct inode *inode)
{
	struct inode **at = bucket(inode->sv, inode->ino);

	while (*at && *at != inode)
		at = &(*at)->hash_next;
	assert(*at == inode);
	*at = inode->hash_next;
	count_changed(inode->sv, -1);
}

/* ---- LRU ---- */

static void lru_push(struct inode *inode)
{
	struct shared *shared = inode->sv->shared;

	inode->lru_prev = NULL;
	inode->lru_next = shared->inodes_newest;
	if (shared->inodes_newest)
		shared->inodes_newest->lru_prev = inode;
	else
		shared->inodes_oldest = inode;
	shared->inodes_newest = inode;
	inode->listed = true;
}

static void lru_take(struct inode *inode)
{
	struct shared *shared = inode->sv->shared;

	if (!inode->listed)
		return;
	if (inode->lru_prev)
		inode->lru_prev->lru_next = inode->lru_next;
	else
		shared->inodes_newest = inode->lru_next;
	if (inode->lru_next)
		inode->lru_next->lru_prev = inode->lru_prev;
	else
		shared->inodes_oldest = inode->lru_prev;
	inode->listed = false;
}

static void inode_free(struct inode *inode)
{
	if (inode->file)
		file_free(inode->file);
	free((char *)inode->rec.target);
	free(inode);
}

/* Of the pool's cap each reactor may always use its part: what another one does not use any more stays with that one. */
static bool too_many(const struct shared *shared)
{
	const struct pool *pool = shared->pool;

	return shared->inode_count > pool->options.inode_cache / pool->options.reactors &&
	       atomic_load_explicit(&pool->cached_inodes, memory_order_relaxed) > pool->options.inode_cache;
}

static void evict(struct reactor *r, struct reactor_msg *msg)
{
	struct shared *shared = (struct shared *)((char *)msg - offsetof(struct shared, evict_msg));

	(void)r;
	shared->evicting = false;
	for (unsigned i = 0; i < EVICT_SCAN_MAX && shared->inodes_oldest && too_many(shared); i++) {
		struct inode *inode = shared->inodes_oldest;

		lru_take(inode);
		if (inode->sv->inode_count <= INODES_KEPT || inode->waiters.head ||
		    (inode->file && !file_clean(inode->file))) {
			lru_push(inode);
			continue;
		}
		unhash(inode);
		inode_free(inode);
	}
}

static void ask_evict(const struct subvol *sv)
{
	struct shared *shared = sv->shared;

	if (shared->evicting || !too_many(shared))
		return;
	shared->evicting = true;
	shared->evict_msg.fn = evict;
	reactor_defer(sv->reactor, &shared->evict_msg);
}

void inode_pin(struct inode *inode)
{
	lru_take(inode);
	inode->pins++;
}

void inode_unpin(struct inode *inode)
{
	assert(inode->pins > 0);
	if (--inode->pins)
		return;
	lru_push(inode); /* one that was removed is at the tail soon; it is not in the hash table */
	if (inode->deleted && !inode_peek(inode->sv, inode->ino)) {
		lru_take(inode);
		inode_free(inode);
	}
}

void inodes_free(struct subvol *sv)
{
	for (size_t i = 0; i < sv->inode_bucket_count && sv->inode_buckets; i++) {
		struct inode *inode, *next;

		for (inode = sv->inode_buckets[i]; inode; inode = next) {
			next = inode->hash_next;
			count_changed(sv, -1);
			lru_take(inode);
			inode_free(inode);
		}
	}
	free(sv->inode_buckets);
	sv->inode_buckets = NULL;
}

/* ---- getting one ---- */

struct inode *inode_peek(struct subvol *sv, uint64_t ino)
{
	struct inode *inode = *bucket(sv, ino);

	while (inode && inode->ino != ino)
		inode = inode->hash_next;
	return inode;
}

static int copy_target(struct inode_rec *rec)
{
	char *target;

	if (!rec->target_len) {
		rec->target = NULL;
		return 0;
	}
	target = malloc(rec->target_len + 1u);
	if (!target)
		return -ENOMEM;
	memcpy(target, rec->target, rec->target_len);
	target[rec->target_len] = 0;
	rec->target = target;
	return 0;
}

static struct inode *inode_new(struct subvol *sv, uint64_t ino, const struct inode_rec *rec, uint32_t node,
			       const struct size_rec *size, uint32_t size_node)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (!inode)
		return NULL;
	inode->ino = ino;
	inode->sv = sv;
	inode->rec = *rec;
	inode->node = node;
	inode->orphan = rec->nlink == 0;
	if (copy_target(&inode->rec)) {
		free(inode);
		return NULL;
	}
	if (S_ISREG(rec->mode)) {
		inode->file = file_new(inode, size, size_node);
		if (!inode->file) {
			inode_free(inode);
			return NULL;
		}
	}
	if (sv->inode_count >= sv->inode_bucket_count)
		buckets_grow(sv);
	inode->hash_next = *bucket(sv, ino);
	*bucket(sv, ino) = inode;
	count_changed(sv, 1);
	lru_push(inode);
	ask_evict(sv);
	return inode;
}

struct inode *inode_enter(struct subvol *sv, uint64_t ino, const struct inode_rec *rec)
{
	return inode_new(sv, ino, rec, sv->node, NULL, sv->node);
}

void inode_remove(struct inode *inode)
{
	inode->deleted = true;
	unhash(inode);
	op_wake_all(&inode->waiters);
	if (inode->pins)
		return;
	lru_take(inode);
	inode_free(inode);
}

static int damaged(const struct subvol *sv, uint64_t ino, const char *what)
{
	log_error("subvolume %s: inode %llu: its %s record is damaged", subvol_name(sv), (unsigned long long)ino, what);
	return -EIO;
}

/* Whether an inode without links is being reaped: 0 or 1, or what version_get() says. */
static int is_dying(struct op *op, uint64_t ino)
{
	cleanup_db_value struct db_value value = { 0 };
	uint8_t key[KEY_MAX];
	struct orphan_rec rec;
	int r;

	r = version_get(op, DB_NS, key, key_orphan(key, op->sv->tree, ino, op->sv->node), &value, NULL);
	if (r)
		return r == -ENOENT ? 0 : r;
	if (orphan_rec_decode(value.data, value.len, &rec))
		return damaged(op->sv, ino, "orphan");
	return rec.state == ORPHAN_REAPING;
}

static int load(struct op *op, uint64_t ino, struct inode **out)
{
	cleanup_db_value struct db_value value = { 0 }, size_value = { 0 };
	struct subvol *sv = op->sv;
	uint8_t key[KEY_MAX];
	struct inode_rec rec;
	struct size_rec size;
	uint32_t node, size_node = sv->node;
	int r, dying = 0;
	bool has_size = false;

	r = version_get(op, DB_NS, key, key_inode(key, sv->tree, ino, sv->node), &value, &node);
	if (r)
		return r;
	if (inode_rec_decode(value.data, value.len, &rec))
		return damaged(sv, ino, "inode");
	if (S_ISREG(rec.mode)) {
		r = version_get(op, DB_NS, key, key_size(key, sv->tree, ino, sv->node), &size_value, &size_node);
		if (r && r != -ENOENT)
			return r;
		has_size = !r;
		if (has_size && size_rec_decode(size_value.data, size_value.len, &size))
			return damaged(sv, ino, "size");
	}
	if (!rec.nlink)
		dying = is_dying(op, ino);
	if (dying < 0)
		return dying;
	*out = inode_new(sv, ino, &rec, node, has_size ? &size : NULL, size_node);
	if (!*out)
		return -ENOMEM;
	(*out)->deleted = dying;
	return 0;
}

int inode_get_dead(struct op *op, uint64_t ino, struct inode **out)
{
	struct subvol *sv = op->sv;

	ASSERT_ON_REACTOR(sv->reactor);
	*out = inode_peek(sv, ino);
	if (!*out) {
		if (!ino || ino > INO_MAX)
			return -ENOENT;
		return load(op, ino, out);
	}
	if ((*out)->listed && sv->shared->inodes_newest != *out) {
		lru_take(*out);
		lru_push(*out);
	}
	return 0;
}

int inode_get(struct op *op, uint64_t ino, struct inode **out)
{
	int r = inode_get_dead(op, ino, out);

	if (!r && (*out)->deleted)
		return -ENOENT;
	return r;
}

/* ---- records and attributes ---- */

static struct timespec to_timespec(struct rec_time t)
{
	return (struct timespec){ .tv_sec = t.sec, .tv_nsec = t.nsec };
}

static bool later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

void inode_attr(const struct inode *inode, struct inode_attr *out)
{
	const struct inode_rec *rec = &inode->rec;

	*out = (struct inode_attr){
		.ino = inode->ino,
		.mode = rec->mode,
		.nlink = rec->nlink,
		.uid = rec->uid,
		.gid = rec->gid,
		.rdev = rec->rdev,
		.size_bytes = S_ISDIR(rec->mode) ? rec->entry_bytes : rec->target_len,
		.blocks512 = inode_charge(rec),
		.atime = to_timespec(rec->atime),
		.mtime = to_timespec(rec->mtime),
		.ctime = to_timespec(rec->ctime),
		.btime = to_timespec(rec->btime),
		.generation = inode->sv->rec.incarnation,
	};
	if (inode->file) {
		struct timespec ctime;

		out->size_bytes = file_size(inode->file);
		out->blocks512 += file_blocks(inode->file);
		file_times(inode->file, &out->mtime, &ctime);
		if (later(&ctime, &out->ctime))
			out->ctime = ctime;
	}
	out->blocks512 *= NVFS_BLOCK_SIZE / 512;
}

struct timespec subvol_now(struct subvol *sv)
{
	const uint64_t at = reactor_now_ns(sv->reactor);

	if (at != sv->now_at_ns || !sv->now.tv_sec) {
		clock_gettime(CLOCK_REALTIME, &sv->now);
		sv->now_at_ns = at;
	}
	return sv->now;
}
