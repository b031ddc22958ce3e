/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * WALs and the MANIFEST: bytes in blocks that are written once. What was appended since the last
 * sync is in the ring of the area; the last `tail_frames` blocks of a file are there, all others
 * on the device. `ends` says for each block where its bytes end in the file, since a sync closes
 * a block however little is in it.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/metafs_internal.h"

#define READ_BLOCKS 64u

static int index_reserve(struct mf_node *node, uint64_t blocks)
{
	uint64_t cap = node->ends_cap ? node->ends_cap : 64;
	uint64_t *ends;

	if (node->ends && blocks <= node->ends_cap)
		return 0;
	while (cap < blocks)
		cap *= 2;
	if (cap > UINT32_MAX)
		return -EFBIG;
	ends = realloc(node->ends, cap * sizeof(*ends));
	if (!ends)
		return -ENOMEM;
	node->ends = ends;
	node->ends_cap = (uint32_t)cap;
	return 0;
}

int mf_log_add_block(struct mf_node *node, uint32_t used)
{
	int err = index_reserve(node, (uint64_t)node->blocks + 1);

	if (err)
		return err;
	node->size += used;
	node->ends[node->blocks++] = node->size;
	return 0;
}

static uint64_t block_start(const struct mf_node *node, uint32_t block)
{
	return block ? node->ends[block - 1] : 0;
}

/* ---- Appending ---- */

/* A frame for the file's next block; waits for a sync when the ring is full. */
static int next_frame(struct metafs *mf, struct mf_node *node)
{
	int err;

	/* The room that a sync makes may be taken by another log before this one has the lock again. */
	while ((err = mf_frame_open(&mf->area, node, node->blocks, &node->open_frame)) == -EAGAIN) {
		node->open_frame = MF_NO_FRAME;
		pthread_mutex_unlock(&mf->lock);
		pthread_mutex_lock(&mf->sync_lock);
		err = mf_sync_round(mf, NULL, false);
		pthread_mutex_unlock(&mf->sync_lock);
		pthread_mutex_lock(&mf->lock);
		if (err)
			break;
	}
	if (err) {
		node->open_frame = MF_NO_FRAME;
		return err;
	}
	node->last_frame = node->open_frame + 1;
	node->tail_frames++;
	node->ends[node->blocks++] = node->size;
	return 0;
}

static int check_appendable(const struct metafs *mf, const struct mf_node *node)
{
	if (mf->failed)
		return -EIO;
	/* The chain of sequences goes from WAL to WAL and never back. */
	if (node->frozen || (node->kind == METAFS_WAL && node->log_number < mf->wal_newest)) {
		log_error("metafs: %s takes no more: a newer log was begun", node->name);
		return -EIO;
	}
	return 0;
}

static int append_locked(struct metafs *mf, struct mf_node *node, const uint8_t *data, size_t len)
{
	/* One more than it takes, for a sync that closes the open block in between. */
	uint64_t blocks = node->blocks + len / METAFS_LOG_PAYLOAD + 2;
	int err = check_appendable(mf, node);

	if (!err)
		err = index_reserve(node, blocks);
	if (!err)
		err = mf_node_grow(mf, node, blocks);
	while (len && !err) {
		uint32_t used = node->open_frame == MF_NO_FRAME ?
					METAFS_LOG_PAYLOAD : mf_frame_used(&mf->area, node->open_frame);
		size_t n = METAFS_LOG_PAYLOAD - used;

		if (!n) {
			err = next_frame(mf, node);
			continue;
		}
		n = n < len ? n : len;
		mf_frame_add(&mf->area, node->open_frame, data, n);
		node->size += n;
		node->ends[node->blocks - 1] = node->size;
		data += n;
		len -= n;
	}
	return err;
}

int mf_log_append(struct metafs *mf, struct mf_node *node, const void *data, size_t len)
{
	cleanup_unlock pthread_mutex_t *held = lock_mutex(&mf->lock);
	int err = append_locked(mf, node, data, len);

	if (!err)
		mf->stats.log_bytes_appended += len;
	if (mf->area.head - mf->area.tail > mf->area.count / 2)
		mf->tail_high = true;
	return err;
}

/* ---- Reading ---- */

/* Blocks of a file that lie one after the other on a device. */
struct piece {
	struct metafs_extent at;
	uint32_t first, n;
	uint64_t start;             /* offset in the file of the first one's bytes */
	uint64_t ends[READ_BLOCKS];
};

static bool block_matches(const struct mf_node *node, const struct metafs_log_block *b,
			  uint32_t index)
{
	return b->file_id == node->id && b->index == index;
}

/* Reads the piece's blocks into buf (READ_BLOCKS of them). */
static int piece_read(struct metafs *mf, const struct mf_node *node, const struct piece *p, void *buf)
{
	struct device *dev = mf->member[p->at.vdev].dev;
	int err = dev ? device_read(dev, buf, (size_t)p->n * MF_BLOCK, p->at.block * MF_BLOCK) : -EIO;

	if (err)
		log_error("metafs: cannot read block %" PRIu32 " of %s: %s", p->first, node->name,
			  strerror(-err));
	return err ? -EIO : 0;
}

static uint32_t find_block(const struct mf_node *node, uint64_t offset)
{
	uint32_t low = 0, high = node->blocks;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (node->ends[mid] > offset)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Lock held. */
static int piece_plan(const struct mf_node *node, uint32_t block, size_t len, uint64_t offset,
		      struct piece *p)
{
	uint32_t on_device = node->blocks - node->tail_frames;

	if (mf_node_map(node, block, &p->at))
		return -EIO;
	p->first = block;
	p->start = block_start(node, block);
	for (p->n = 0; p->n < READ_BLOCKS && p->n < p->at.blocks && block + p->n < on_device; p->n++) {
		p->ends[p->n] = node->ends[block + p->n];
		if (p->ends[p->n] >= offset + len) {
			p->n++;
			break;
		}
	}
	return 0;
}

static ssize_t piece_copy(const struct mf_node *node, const struct piece *p, const uint8_t *blocks,
			  uint8_t *buf, size_t len, uint64_t offset)
{
	uint64_t start = p->start;
	size_t done = 0;

	for (uint32_t i = 0; i < p->n && done < len; i++) {
		const struct metafs_log_block_disk *d = (const void *)(blocks + i * MF_BLOCK);
		struct metafs_log_block b;
		size_t skip = offset + done - start, n = p->ends[i] - offset - done;

		if (metafs_log_block_decode(d, &b) || !block_matches(node, &b, p->first + i) ||
		    b.used != p->ends[i] - start) {
			log_error("metafs: block %" PRIu32 " of %s is damaged (device %u, block %" PRIu64 ")",
				  p->first + i, node->name, p->at.vdev, p->at.block + i);
			return -EIO;
		}
		n = n < len - done ? n : len - done;
		memcpy(buf + done, d->payload + skip, n);
		done += n;
		start = p->ends[i];
	}
	return (ssize_t)done;
}

/* What lies in one frame, or in one piece on a device; 0 at the end. */
static ssize_t read_some(struct metafs *mf, struct mf_node *node, uint8_t *buf, size_t len,
			 uint64_t offset, void *bounce)
{
	struct piece piece;
	uint32_t block;
	int err;

	pthread_mutex_lock(&mf->lock);
	block = find_block(node, offset);
	if (block >= node->blocks - node->tail_frames) {
		uint64_t pos = block < node->blocks ? mf_frame_find(&mf->area, node, block) : MF_NO_FRAME;
		size_t n = 0;

		if (pos != MF_NO_FRAME) {
			n = node->ends[block] - offset;
			n = n < len ? n : len;
			memcpy(buf, mf_frame(&mf->area, pos)->payload +
			       (offset - block_start(node, block)), n);
		}
		pthread_mutex_unlock(&mf->lock);
		return pos == MF_NO_FRAME && block < node->blocks ? -EIO : (ssize_t)n;
	}
	err = piece_plan(node, block, len, offset, &piece);
	pthread_mutex_unlock(&mf->lock);
	if (!err)
		err = piece_read(mf, node, &piece, bounce);
	return err ? err : piece_copy(node, &piece, bounce, buf, len, offset);
}

ssize_t mf_log_read(struct metafs *mf, struct mf_node *node, void *buf, size_t len, uint64_t offset)
{
	cleanup_free void *bounce = mf_buffer(READ_BLOCKS * MF_BLOCK);
	size_t done = 0;

	if (!bounce)
		return -ENOMEM;
	while (done < len) {
		ssize_t n = read_some(mf, node, (uint8_t *)buf + done, len - done, offset + done,
				      bounce);

		if (n < 0)
			return n;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* ---- The index of a frozen file ---- */

static int index_piece(struct metafs *mf, const struct mf_node *node, uint32_t first, void *buf,
		       uint64_t *ends, uint32_t *count)
{
	struct piece p = { .first = first };

	if (mf_node_map(node, first, &p.at))
		return -EIO;
	p.n = node->blocks - first;
	p.n = p.n < READ_BLOCKS ? p.n : READ_BLOCKS;
	p.n = p.n < p.at.blocks ? p.n : p.at.blocks;
	if (piece_read(mf, node, &p, buf))
		return -EIO;
	for (uint32_t i = 0; i < p.n; i++) {
		struct metafs_log_block b;

		if (metafs_log_block_decode((uint8_t *)buf + i * MF_BLOCK, &b) ||
		    !block_matches(node, &b, first + i)) {
			log_error("metafs: block %" PRIu32 " of %s is damaged (device %u, block %" PRIu64
				  ")", first + i, node->name, p.at.vdev, p.at.block + i);
			return -EIO;
		}
		ends[first + i] = (first + i ? ends[first + i - 1] : 0) + b.used;
	}
	*count = p.n;
	return 0;
}

int mf_log_index(struct metafs *mf, struct mf_node *node)
{
	cleanup_free uint64_t *ends = NULL;
	cleanup_free void *buf = NULL;
	cleanup_unlock pthread_mutex_t *held = NULL;
	int err = 0;

	pthread_mutex_lock(&mf->lock);
	if (!node->ends)
		ends = malloc((node->blocks + (size_t)1) * sizeof(*ends));
	else
		err = -EALREADY;
	pthread_mutex_unlock(&mf->lock);
	if (err)
		return 0;
	buf = mf_buffer(READ_BLOCKS * MF_BLOCK);
	if (!ends || !buf)
		return -ENOMEM;
	for (uint32_t i = 0, n = 0; i < node->blocks; i += n)
		if (index_piece(mf, node, i, buf, ends, &n))
			return -EIO;
	if ((node->blocks ? ends[node->blocks - 1] : 0) != node->size) {
		log_error("metafs: %s does not have the %" PRIu64 " bytes that the table says", node->name,
			  node->size);
		return -EIO;
	}
	held = lock_mutex(&mf->lock);
	if (!node->ends) {
		node->ends = take_ptr(ends);
		node->ends_cap = node->blocks + 1;
	}
	return 0;
}
