/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files that RocksDB writes once and syncs once: tables, CURRENT, OPTIONS. Whole blocks go to the
 * device as the buffer fills: nothing reaches them before a table of metafs that has their size,
 * and that is written by the file's sync, behind a flush of the devices.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "meta/metafs_internal.h"

#define BUF_BYTES (512u << 10)
#define READ_BYTES (1u << 20)

int mf_plain_write(struct metafs *mf, struct mf_node *node, const uint8_t *data, size_t len,
		   uint64_t first)
{
	while (len) {
		struct metafs_extent e;
		struct device *dev;
		size_t n;
		int err;

		pthread_mutex_lock(&mf->lock);
		err = mf_node_map(node, first, &e);
		pthread_mutex_unlock(&mf->lock);
		if (err)
			return err;
		n = (size_t)e.blocks * MF_BLOCK < len ? (size_t)e.blocks * MF_BLOCK : len;
		dev = mf->member[e.vdev].dev;
		err = dev ? device_write(dev, data, n, e.block * MF_BLOCK, 0) : -EIO;
		if (err) {
			log_error("metafs: cannot write %s to device %u: %s", node->name, e.vdev,
				  strerror(-err));
			return -EIO;
		}
		data += n;
		len -= n;
		first += n / MF_BLOCK;
	}
	return 0;
}

/* The whole blocks of the buffer. */
static int write_out(struct metafs *mf, struct mf_node *node)
{
	size_t whole = node->buf_used / MF_BLOCK * MF_BLOCK;
	int err = whole ? mf_plain_write(mf, node, node->buf, whole, node->written / MF_BLOCK) : 0;

	if (err || !whole)
		return err;
	pthread_mutex_lock(&mf->lock);
	memmove(node->buf, node->buf + whole, node->buf_used - whole);
	node->buf_used -= whole;
	node->written += whole;
	pthread_mutex_unlock(&mf->lock);
	return 0;
}

/*
 * Lock held: space, and a buffer. A last block that a sync wrote half full stays where it is, since any table shows the
 * synced bytes there: written again, each of its sectors begins with the same bytes, torn or not.
 */
static int prepare(struct metafs *mf, struct mf_node *node, size_t len)
{
	if (mf->failed)
		return -EIO;
	if (!node->buf)
		node->buf = mf_buffer(BUF_BYTES);
	if (!node->buf)
		return -ENOMEM;
	node->tail_written = false;
	return mf_node_grow(mf, node, (node->size + len + MF_BLOCK - 1) / MF_BLOCK);
}

int mf_plain_append(struct metafs *mf, struct mf_node *node, const void *data, size_t len)
{
	const uint8_t *from = data;
	int err;

	pthread_mutex_lock(&mf->lock);
	err = prepare(mf, node, len);
	pthread_mutex_unlock(&mf->lock);
	while (len && !err) {
		size_t n = BUF_BYTES - node->buf_used;

		n = n < len ? n : len;
		pthread_mutex_lock(&mf->lock);
		memcpy(node->buf + node->buf_used, from, n);
		node->buf_used += n;
		node->size += n;
		pthread_mutex_unlock(&mf->lock);
		from += n;
		len -= n;
		if (node->buf_used == BUF_BYTES)
			err = write_out(mf, node);
	}
	return err;
}

int mf_plain_sync_tail(struct metafs *mf, struct mf_node *node)
{
	size_t padded = (node->buf_used + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK;
	int err = 0;

	if (node->buf && node->buf_used && !node->tail_written) {
		memset(node->buf + node->buf_used, 0, padded - node->buf_used);
		err = mf_plain_write(mf, node, node->buf, padded, node->written / MF_BLOCK);
	}
	if (err)
		return err;
	pthread_mutex_lock(&mf->lock);
	if (node->buf_used % MF_BLOCK == 0) {
		node->written += node->buf_used;
		node->buf_used = 0;
	} else if (node->buf_used > MF_BLOCK) {
		size_t whole = node->buf_used / MF_BLOCK * MF_BLOCK;

		memmove(node->buf, node->buf + whole, node->buf_used - whole);
		node->buf_used -= whole;
		node->written += whole;
	}
	node->tail_written = true;
	pthread_mutex_unlock(&mf->lock);
	return 0;
}

/* From whole blocks of one extent. */
static ssize_t read_device(struct metafs *mf, const struct mf_node *node,
			   const struct metafs_extent *e, uint8_t *buf, size_t len, unsigned skip)
{
	size_t span = (skip + len + MF_BLOCK - 1) / MF_BLOCK * MF_BLOCK;
	struct device *dev = mf->member[e->vdev].dev;
	cleanup_free uint8_t *bounce = NULL;
	bool direct = !skip && span == len && (uintptr_t)buf % DEVICE_ALIGN_BYTES == 0;
	int err;

	if (!direct) {
		bounce = mf_buffer(span);
		if (!bounce)
			return -ENOMEM;
	}
	err = dev ? device_read(dev, direct ? buf : bounce, span, e->block * MF_BLOCK) : -EIO;
	if (err) {
		log_error("metafs: cannot read %s (device %u, block %" PRIu64 "): %s", node->name,
			  e->vdev, e->block, strerror(-err));
		return -EIO;
	}
	if (!direct)
		memcpy(buf, bounce + skip, len);
	return (ssize_t)len;
}

static ssize_t read_some(struct metafs *mf, struct mf_node *node, uint8_t *buf, size_t len,
			 uint64_t offset)
{
	unsigned skip = offset % MF_BLOCK;
	struct metafs_extent e;
	uint64_t limit;
	int err;

	pthread_mutex_lock(&mf->lock);
	if (offset >= node->size)
		len = 0;
	else if (len > node->size - offset)
		len = node->size - offset;
	limit = node->tail_written ? node->size : node->written;
	if (!len || offset >= limit) {
		if (len)
			memcpy(buf, node->buf + (offset - node->written), len);
		pthread_mutex_unlock(&mf->lock);
		return (ssize_t)len;
	}
	err = mf_node_map(node, offset / MF_BLOCK, &e);
	pthread_mutex_unlock(&mf->lock);
	if (err)
		return err;
	len = len < limit - offset ? len : limit - offset;
	len = len < READ_BYTES ? len : READ_BYTES;
	if (len > (uint64_t)e.blocks * MF_BLOCK - skip)
		len = (uint64_t)e.blocks * MF_BLOCK - skip;
	return read_device(mf, node, &e, buf, len, skip);
}

ssize_t mf_plain_read(struct metafs *mf, struct mf_node *node, void *buf, size_t len,
		      uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read_some(mf, node, (uint8_t *)buf + done, len - done, offset + done);

		if (n < 0)
			return n;
		if (!n)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}
