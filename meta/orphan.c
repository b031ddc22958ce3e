/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An inode that loses its last name becomes an orphan in the same batch: its `I` has no links, its
 * `O` says that it is to be taken apart. When the kernel knows it, it waits in state 0 for the last FORGET; else, and
 * after that, it is queued here. An orphan whose records fit one batch goes in it, up to
 * BATCH_INODES of them together: a batch costs more than what is in it, so the first one waits
 * a moment for company. A larger one is put into state 1 with the first batch: from then on
 * it is dead, whatever of its data is left.
 *
 * At open all `O` records are read; those that the kernel does not know are queued.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "meta/change.h"
#include "meta/file.h"
#include "meta/inoset.h"
#include "meta/orphan.h"
#include "meta/subvol_internal.h"
#include "meta/version.h"

#define BATCH_INODES 32u
#define BATCH_BYTES (1u << 20)
#define XATTRS_MAX 1024u /* deleted in one batch */
#define SCAN_ORPHANS 512u
#define RETRY_NS UINT64_C(1000000000)
#define GATHER_NS UINT64_C(1000000) /* that an orphan may wait for others to share its batch */

_Static_assert(BATCH_INODES <= CHANGE_INODES, "a change holds a batch");

struct reaper {
	struct subvol *sv;
	struct op op;
	bool active;          /* the op is at work or waits */
	bool stopping;
	bool failing;         /* the last step did: it is tried again, but nobody shall wait for that */
	struct inoset queued; /* to be reaped, in no order */
	uint64_t *queue;      /* and in order; those not in `queued` any more are skipped */
	size_t head, tail, room;
	struct inoset known;  /* orphans that the kernel still knows */
	bool scanning;
	uint64_t scan_ino;
	struct op_queue waiters;
};

static void reaper_run(struct op *op);

static void kick(struct reaper *rp)
{
	if (rp->active || rp->stopping || rp->sv->read_only || (!rp->scanning && !rp->queued.count))
		return;
	rp->active = true;
	op_init(&rp->op, rp->sv, reaper_run);
	op_again(&rp->op, rp->scanning || rp->waiters.head ? 0 : GATHER_NS);
}

static int push(struct reaper *rp, uint64_t ino)
{
	if (inoset_has(&rp->queued, ino))
		return 0;
	if (rp->tail == rp->room && rp->head) {
		memmove(rp->queue, rp->queue + rp->head, (rp->tail - rp->head) * sizeof(*rp->queue));
		rp->tail -= rp->head;
		rp->head = 0;
	}
	if (rp->tail == rp->room) {
		const size_t room = rp->room ? rp->room * 2 : 64;
		uint64_t *queue = realloc(rp->queue, room * sizeof(*queue));

		if (!queue)
			return -ENOMEM;
		rp->queue = queue;
		rp->room = room;
	}
	if (inoset_add(&rp->queued, ino))
		return -ENOMEM;
	rp->queue[rp->tail++] = ino;
	return 0;
}

/* Without memory it stays an orphan until the next open. */
static void enqueue(struct reaper *rp, uint64_t ino)
{
	if (push(rp, ino))
		log_warn("subvolume %s: no memory to reap inode %llu now", subvol_name(rp->sv), (unsigned long long)ino);
	kick(rp);
}

/* ---- one inode ---- */

enum reaped {
	REAPED_WAIT, /* nothing of it is in the change */
	REAPED_BAD,  /* the same */
	REAPED_HALF, /* some of it is, and the rest has to be waited for: the change must not be written */
	REAPED_SPOILT, /* some of it is, and the rest failed: neither must this one */
	REAPED_PART,
	REAPED_ALL,
	REAPED_SKIP, /* it is no orphan any more, or is used again */
};

struct xattr_drop {
	struct change *c; /* NULL: only see that they can be read */
	uint64_t ino;
	unsigned count;
};

static int drop_xattr(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len)
{
	struct xattr_drop *d = arg;
	const size_t at = KEY_NS_PREFIX_LEN + 1;

	(void)from;
	(void)value;
	(void)value_len;
	if (key_len <= at)
		return -EIO;
	if (d->count++ == XATTRS_MAX)
		return 1;
	if (d->c)
		change_xattr(d->c, d->ino, (const char *)key + at, key_len - at, NULL, 0);
	return 0;
}

static int drop_xattrs(struct reaper *rp, struct change *c, const struct inode *inode)
{
	struct xattr_drop d = { .c = c, .ino = inode->ino };
	uint8_t prefix[KEY_MAX];

	if (!inode->rec.xattr_bytes)
		return 0;
	return version_each(&rp->op, DB_NS, prefix, key_ns_prefix(prefix, rp->sv->tree, inode->ino, REC_XATTR), NULL, 0,
			    drop_xattr, &d);
}

/*
 * 1 when there is more than fits, 0 when all of it is in the batch, else nothing is: META_WAIT, -errno. Unless *half: the xattrs, which
 * were in memory a moment ago, are so no more, or something failed on the way.
 */
static int drop_content(struct reaper *rp, struct change *c, struct inode *inode, bool *half)
{
	const size_t before = change_bytes(c);
	int r = drop_xattrs(rp, NULL, inode);

	if (r < 0)
		return r;
	r = inode->file ? file_drop(&rp->op, inode, c->batch, &c->delta) : 0;
	if (r) {
		*half = r < 0 && change_bytes(c) != before;
		return r;
	}
	r = drop_xattrs(rp, c, inode);
	*half = r < 0;
	return r;
}

/* Add to the change what takes the inode apart, all of it or a part. */
static enum reaped reap_one(struct reaper *rp, struct change *c, uint64_t ino, struct inode **out)
{
	struct inode *inode;
	bool half = false;
	int r = inode_get_dead(&rp->op, ino, &inode);

	if (r == META_WAIT)
		return REAPED_WAIT;
	if (r == -ENOENT)
		change_orphan(c, ino, -1, false);
	if (r)
		return r == -ENOENT ? REAPED_ALL : REAPED_BAD;
	if (inode->rec.nlink || (!inode->deleted && lookup_count(rp->sv, ino))) {
		if (!inode->rec.nlink && inoset_add(&rp->known, ino))
			log_warn("subvolume %s: no memory: orphan %llu stays", subvol_name(rp->sv), (unsigned long long)ino);
		file_keep(inode);
		return REAPED_SKIP;
	}
	r = drop_content(rp, c, inode, &half);
	if (r == META_WAIT)
		return half ? REAPED_HALF : REAPED_WAIT;
	if (r < 0) {
		log_error("subvolume %s: orphan %llu cannot be reaped: %s", subvol_name(rp->sv), (unsigned long long)ino,
			  strerror(-r));
		file_keep(inode);
		return half ? REAPED_SPOILT : REAPED_BAD;
	}
	*out = inode;
	if (r > 0) {
		change_orphan(c, ino, ORPHAN_REAPING, false);
		return REAPED_PART;
	}
	change_gone(c, inode);
	change_orphan(c, ino, -1, false);
	return REAPED_ALL;
}

/* ---- a batch of them ---- */

struct reap_batch {
	struct inode *whole[BATCH_INODES], *part;
	unsigned count; /* of whole */
	size_t head;    /* of the queue when the batch was written */
	enum reaped last;
};

static void collect(struct reaper *rp, struct change *c, struct reap_batch *b)
{
	while (b->head < rp->tail && b->count < BATCH_INODES && change_bytes(c) < BATCH_BYTES) {
		const uint64_t ino = rp->queue[b->head];
		struct inode *inode = NULL;

		b->last = inoset_has(&rp->queued, ino) ? reap_one(rp, c, ino, &inode) : REAPED_SKIP;
		if (b->last == REAPED_PART)
			b->part = inode;
		if (b->last != REAPED_ALL && b->last != REAPED_SKIP)
			return;
		b->head++;
		if (inode)
			b->whole[b->count++] = inode;
	}
}

static void advance(struct reaper *rp, size_t head)
{
	while (rp->head < head)
		inoset_remove(&rp->queued, rp->queue[rp->head++]);
	if (rp->head == rp->tail)
		rp->head = rp->tail = 0;
}

static void finish_batch(struct reaper *rp, const struct reap_batch *b)
{
	for (unsigned i = 0; i < b->count; i++) {
		if (b->whole[i]->file)
			file_dropped(b->whole[i]);
		inode_remove(b->whole[i]);
	}
	if (b->part) {
		b->part->deleted = true;
		if (b->part->file)
			file_dropped(b->part);
	}
	advance(rp, b->head);
}

static int reap_some(struct reaper *rp)
{
	struct reap_batch b = { .head = rp->head, .last = REAPED_SKIP };
	struct change c;
	int r;

	change_begin(&c, &rp->op);
	collect(rp, &c, &b);
	if (b.last == REAPED_HALF)
		return rp->op.pending ? META_WAIT : -EIO;
	if (b.last == REAPED_SPOILT) {
		/* The others go without it. */
		inoset_remove(&rp->queued, rp->queue[b.head]);
		return 0;
	}
	if (change_bytes(&c) || c.count) {
		r = change_write(&c, 0, CHANGE_FREES);
		if (r)
			return r;
		finish_batch(rp, &b);
		if (b.last != REAPED_WAIT)
			return 0;
		/* The op waits for what the next inode needs, and may be on its way: it goes on as it is. */
		op_wake_all(&rp->waiters);
		return META_WAIT;
	}
	if (b.last == REAPED_WAIT && b.head == rp->head)
		return META_WAIT;
	advance(rp, b.last == REAPED_BAD ? b.head + 1 : b.head);
	return 0;
}

/* ---- at open ---- */

struct scan {
	struct reaper *rp;
	uint64_t last;
	unsigned count;
	uint64_t inos[SCAN_ORPHANS];
};

static int scan_one(void *arg, const uint8_t *key, size_t key_len, uint32_t from, const void *value, size_t value_len)
{
	struct scan *s = arg;

	(void)from;
	(void)value;
	(void)value_len;
	if (key_len != KEY_ORPHAN_LEN - sizeof(be32_t))
		return -EIO;
	if (s->count == SCAN_ORPHANS)
		return 1;
	s->inos[s->count++] = get_be64(key + KEY_NS_PREFIX_LEN);
	return 0;
}

static int scan_some(struct reaper *rp)
{
	struct scan s = { .rp = rp };
	uint8_t prefix[KEY_MAX], start[KEY_MAX];
	const size_t prefix_len = key_ns_prefix(prefix, rp->sv->tree, 0, REC_ORPHAN);
	int r;

	key_orphan(start, rp->sv->tree, rp->scan_ino, rp->sv->node);
	r = version_each(&rp->op, DB_NS, prefix, prefix_len, start, KEY_ORPHAN_LEN - sizeof(be32_t), scan_one, &s);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < s.count; i++) {
		const uint64_t ino = s.inos[i];

		if (lookup_count(rp->sv, ino) ? inoset_add(&rp->known, ino) : push(rp, ino))
			return -ENOMEM;
		rp->scan_ino = ino + 1;
	}
	rp->scanning = r > 0;
	return 0;
}

/* ---- the op ---- */

/* A step is done: let others run before the next. */
static void next_step(struct reaper *rp, uint64_t delay_ns)
{
	op_finish(&rp->op);
	op_wake_all(&rp->waiters);
	rp->active = false;
	if (rp->stopping || (!rp->scanning && !rp->queued.count))
		return;
	rp->active = true;
	op_init(&rp->op, rp->sv, reaper_run);
	op_again(&rp->op, delay_ns);
}

/* Nothing of what is queued will be reaped any more: what was begun of it is taken back. */
static void give_up(struct reaper *rp)
{
	for (size_t i = rp->head; i < rp->tail; i++) {
		struct inode *inode = inode_peek(rp->sv, rp->queue[i]);

		if (inode)
			file_keep(inode);
	}
	rp->head = rp->tail = 0;
	inoset_free(&rp->queued);
}

static void reaper_run(struct op *op)
{
	struct reaper *rp = (struct reaper *)((char *)op - offsetof(struct reaper, op));
	int r = rp->stopping ? 0 : rp->scanning ? scan_some(rp) : reap_some(rp);

	if (r == META_WAIT)
		return;
	if (r == -EROFS) { /* the pool failed: nothing will be reaped any more */
		rp->scanning = false;
		give_up(rp);
	}
	rp->failing = r < 0;
	next_step(rp, r ? RETRY_NS : 0);
}

/* ---- interface ---- */

int reaper_start(struct subvol *sv)
{
	struct reaper *rp = calloc(1, sizeof(*rp));

	if (!rp)
		return -ENOMEM;
	rp->sv = sv;
	rp->scanning = !sv->read_only;
	sv->reaper = rp;
	kick(rp);
	return 0;
}

bool reaper_stop(struct subvol *sv)
{
	struct reaper *rp = sv->reaper;

	if (!rp)
		return true;
	rp->stopping = true;
	if (rp->active)
		return false;
	give_up(rp);
	inoset_free(&rp->known);
	free(rp->queue);
	free(rp);
	sv->reaper = NULL;
	return true;
}

void orphan_made(struct subvol *sv, uint64_t ino)
{
	if (lookup_count(sv, ino))
		orphan_kept(sv, ino);
	else
		enqueue(sv->reaper, ino);
}

void orphan_kept(struct subvol *sv, uint64_t ino)
{
	if (inoset_add(&sv->reaper->known, ino))
		log_warn("subvolume %s: no memory: orphan %llu stays", subvol_name(sv), (unsigned long long)ino);
}

void orphan_linked(struct subvol *sv, uint64_t ino)
{
	inoset_remove(&sv->reaper->known, ino);
	inoset_remove(&sv->reaper->queued, ino);
}

void orphan_forgotten(struct subvol *sv, uint64_t ino)
{
	if (inoset_remove(&sv->reaper->known, ino))
		enqueue(sv->reaper, ino);
}

bool reaper_busy(const struct subvol *sv)
{
	const struct reaper *rp = sv->reaper;

	return rp && rp->active && !rp->failing && (rp->scanning || rp->queued.count);
}

int reaper_wait(struct op *op)
{
	return op_wait(op, &op->sv->reaper->waiters);
}

void reaper_take_all(struct subvol *sv)
{
	struct reaper *rp = sv->reaper;
	struct inoset known = rp->known;

	rp->known = (struct inoset){ 0 };
	for (size_t i = 0; i < known.size; i++)
		if (known.slots[i])
			enqueue(rp, known.slots[i]);
	inoset_free(&known);
}
