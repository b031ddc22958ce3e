/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading blocks from the device for an op, and checking them.
 *
 * A handler names the blocks that it wants, with the addresses that the map has now, and starts the
 * reads; it runs again when they are here. By then the map may have changed. A block that an op wanted as
 * old content is therefore looked up by its address: the epoch that the op entered before its first look keeps every
 * address from being reused, so the same address is the same content.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <lz4.h>
#include <string.h>

#include "io/crc.h"
#include "io/log.h"
#include "meta/data_internal.h"

void report_bad_block(struct file *f, enum event_kind kind, uint64_t block, uint64_t at, const char *what)
{
	struct subvol *sv = f->data->sv;
	struct pool *pool = sv->pool;
	const char *device = at_vdev(at) < pool->device_count ? device_name(pool->devices[at_vdev(at)]) : "no device";
	const struct event_about about = { .kind = kind, .severity = EVENT_ERROR, .subvolume = subvol_name(sv),
					   .tenant = subvol_tenant(sv),
					   .inode = f->inode->ino, .offset = block << NVFS_BLOCK_SHIFT, .limited = true,
					   .limit_key = ((uint64_t)sv->id << 40 ^ f->inode->ino << 20) + block };

	log_error("pool %s, subvolume %s, inode %llu, offset %llu: %s on %s, block %llu", pool_name(pool),
		  subvol_name(sv), (unsigned long long)about.inode, (unsigned long long)about.offset, what, device,
		  (unsigned long long)at_block(at));
	event_add(pool->events, &about, "inode %llu, offset %llu: %s on %s, block %llu", (unsigned long long)about.inode,
		  (unsigned long long)about.offset, what, device, (unsigned long long)at_block(at));
}

static void report_mismatch(struct op_io *io, uint64_t block, uint64_t at)
{
	struct data *d = io->data;

	report_bad_block(io->inode->file, EVENT_CHECKSUM_ERROR, block, at, "the checksum does not match");
	atomic_fetch_add_explicit(&d->sv->stats.checksum_errors, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&data_pool(d)->checksum_errors, 1, memory_order_relaxed);
	io->error = -EIO;
}

/* ---- Wants ---- */

int want_into(struct op_io *io, const struct chunk *c, unsigned block, void *dst)
{
	uint64_t bit = block_bit(block);

	assert(chunk_stored(c) & bit && io->in_epoch);
	if (GROW(io->wants, io->want_cap, io->nwants + 1))
		return -ENOMEM;
	io->wants[io->nwants++] = (struct want){
		.block = c->no * CHUNK_BLOCKS + block,
		.at = c->map.at[block],
		.crc = c->map.crc[block],
		.checked = !(c->map.nosum & bit),
		.compressed = c->map.compressed & bit,
		.dst = dst,
	};
	return 0;
}

int want_old(struct op_io *io, const struct chunk *c, unsigned block)
{
	uint8_t *dst = buffers_get(io->data->buffers, NVFS_BLOCK_SIZE);
	int r = dst ? want_into(io, c, block, dst) : -ENOMEM;

	if (r)
		buffers_put(io->data->buffers, dst, NVFS_BLOCK_SIZE);
	else
		io->wants[io->nwants - 1].own_buf = true;
	return r;
}

static bool want_is(const struct want *w, const struct chunk *c, unsigned block)
{
	return w->block == c->no * CHUNK_BLOCKS + block && w->at == c->map.at[block] &&
	       w->compressed == !!(c->map.compressed & block_bit(block)) &&
	       (!w->compressed || (w->crc & 0xff) == blockmap_raw_index(&c->map, block));
}

const void *old_content(struct op_io *io, const struct chunk *c, unsigned block)
{
	for (unsigned i = 0; i < io->nwants; i++)
		if (io->wants[i].ready && want_is(&io->wants[i], c, block))
			return io->wants[i].dst;
	return NULL;
}

int block_content(struct op_io *io, const struct chunk *c, unsigned block, const void **data)
{
	struct file *f = c->file;
	int r;

	*data = NULL;
	if (chunk_dirty(c) & block_bit(block)) {
		*data = dirty_content(c, block);
		return 0;
	}
	if (c->no == 0 && block == 0 && f->is_inline && !(chunk_mapped(c) & 1))
		return 0; /* the caller spills it */
	if (!(chunk_stored(c) & block_bit(block)))
		return 0;
	op_io_enter(io);
	*data = old_content(io, c, block);
	if (*data)
		return 0;
	r = want_old(io, c, block);
	return r ? r : 1;
}

/* ---- The reads ---- */

static void fetch_plain_done(struct fetch *fetch)
{
	struct op_io *io = fetch->io;

	for (unsigned i = fetch->first; i < fetch->first + fetch->count; i++) {
		struct want *w = &io->wants[i];

		if (w->checked && crc32c(0, w->dst, NVFS_BLOCK_SIZE) != w->crc)
			report_mismatch(io, w->block, w->at);
		w->ready = true;
	}
}

static void fetch_compressed_done(struct fetch *fetch)
{
	struct op_io *io = fetch->io;
	const struct compressed_extent *e = &fetch->extent;
	const struct want *first = &io->wants[fetch->first];
	size_t raw_bytes = (size_t)e->raw * NVFS_BLOCK_SIZE;
	char *raw;

	if (crc32c(0, fetch->stored, e->bytes) != e->crc) {
		report_mismatch(io, first->block, e->at);
		return;
	}
	raw = buffers_get(io->data->buffers, raw_bytes);
	if (!raw) {
		io->error = -ENOMEM;
		return;
	}
	if (LZ4_decompress_safe((char *)fetch->stored, raw, (int)e->bytes, (int)raw_bytes) != (int)raw_bytes) {
		report_mismatch(io, first->block, e->at);
	} else {
		for (unsigned i = fetch->first; i < fetch->first + fetch->count; i++) {
			struct want *w = &io->wants[i];

			memcpy(w->dst, raw + (size_t)(w->crc & 0xff) * NVFS_BLOCK_SIZE, NVFS_BLOCK_SIZE);
			w->ready = true;
		}
	}
	buffers_put(io->data->buffers, raw, raw_bytes);
}

static void fetch_done(struct io_request *req, int res)
{
	struct fetch *fetch = (struct fetch *)((char *)req - offsetof(struct fetch, req));
	struct op_io *io = fetch->io;
	struct data *d = io->data;

	if (res) {
		report_bad_block(io->inode->file, EVENT_DEVICE_ERROR, io->wants[fetch->first].block, io->wants[fetch->first].at,
				 res == -ENOMEM ? "no memory for a read" : "a read failed");
		atomic_fetch_add_explicit(&data_pool(d)->io_errors, 1, memory_order_relaxed);
		io->error = -EIO;
	} else if (fetch->extent.raw) {
		fetch_compressed_done(fetch);
	} else {
		fetch_plain_done(fetch);
	}
	if (fetch->stored)
		buffers_put(d->buffers, fetch->stored, (size_t)fetch->extent.stored * NVFS_BLOCK_SIZE);
	fetch->stored = NULL;
	if (--io->pending)
		return;
	inode_unpin(io->inode);
	io->inode = NULL;
	io->nfetches = 0;
	op_release(io->op);
}

static int fetch_add(struct op_io *io, unsigned first, unsigned count, const struct compressed_extent *extent)
{
	struct fetch *fetch;

	if (GROW(io->fetches, io->fetch_cap, io->nfetches + 1))
		return -ENOMEM;
	fetch = &io->fetches[io->nfetches++];
	fetch->io = io;
	fetch->first = first;
	fetch->count = count;
	fetch->stored = NULL;
	if (extent)
		fetch->extent = *extent;
	else
		fetch->extent.raw = 0;
	return 0;
}

/* How many wants from i on are one piece on the device and in memory. */
static unsigned wants_together(const struct op_io *io, unsigned i)
{
	const struct want *w = &io->wants[i];
	unsigned n = 1;

	while (i + n < io->nwants && !w[n].compressed == !w->compressed &&
	       (w->compressed ? w[n].at == w->at && w[n].block >> CHUNK_SHIFT == w->block >> CHUNK_SHIFT :
				w[n].at == w->at + n && w[n].dst == w->dst + (size_t)n * NVFS_BLOCK_SIZE))
		n++;
	return n;
}

static int fetches_plan(struct op_io *io, struct file *f)
{
	for (unsigned i = io->fetched; i < io->nwants;) {
		const struct want *w = &io->wants[i];
		const struct compressed_extent *extent = NULL;
		unsigned n = wants_together(io, i);
		int r;

		if (w->compressed) /* the chunk is in memory: it was looked up in this handler */
			extent = &chunk_peek(f, w->block >> CHUNK_SHIFT)->map.extents[w->crc >> 8];
		r = fetch_add(io, i, n, extent);
		if (r)
			return r;
		i += n;
	}
	for (unsigned i = 0; i < io->nfetches; i++) {
		struct fetch *fetch = &io->fetches[i];

		if (!fetch->extent.raw)
			continue;
		fetch->stored = buffers_get(io->data->buffers, (size_t)fetch->extent.stored * NVFS_BLOCK_SIZE);
		if (!fetch->stored)
			return -ENOMEM;
	}
	return 0;
}

static void fetches_forget(struct op_io *io)
{
	for (unsigned i = 0; i < io->nfetches; i++)
		if (io->fetches[i].stored)
			buffers_put(io->data->buffers, io->fetches[i].stored,
				    (size_t)io->fetches[i].extent.stored * NVFS_BLOCK_SIZE);
	io->nfetches = 0;
}

static bool fetch_fill(struct fetch *fetch, struct pool *pool)
{
	const struct want *w = &fetch->io->wants[fetch->first];
	struct io_request *req = &fetch->req;

	if (at_vdev(w->at) >= pool->device_count)
		return false;
	blocks_request(req, IO_READ, pool->devices[at_vdev(w->at)], at_block(w->at));
	req->buf = fetch->stored ? fetch->stored : w->dst;
	req->len = (uint64_t)(fetch->stored ? fetch->extent.stored : fetch->count) << NVFS_BLOCK_SHIFT;
	req->done = fetch_done;
	return true;
}

int fetch_start(struct op *op, struct file *f)
{
	struct op_io *io = op->io;
	int r;

	if (!io)
		return 0;
	if (io->error)
		return io->error;
	if (io->fetched == io->nwants)
		return 0;
	r = fetches_plan(io, f);
	for (unsigned i = 0; !r && i < io->nfetches; i++) {
		if (!fetch_fill(&io->fetches[i], op->sv->pool)) {
			report_bad_block(f, EVENT_CHECKSUM_ERROR, io->wants[io->fetches[i].first].block,
					 io->wants[io->fetches[i].first].at, "an address is out of range");
			r = -EIO;
		}
	}
	if (r) {
		fetches_forget(io);
		return r;
	}
	io->fetched = io->nwants;
	io->pending = io->nfetches;
	io->inode = f->inode;
	inode_pin(io->inode);
	r = op_hold(op);
	for (unsigned i = 0, n = io->nfetches; i < n; i++)
		device_submit(op->sv->reactor, &io->fetches[i].req);
	return r;
}
