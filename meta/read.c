/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "io/log.h"
#include "meta/data_internal.h"

static ssize_t read_result(struct op_io *io, struct iovec **iov, unsigned *iovcnt)
{
	struct subvol *sv = io->data->sv;

	atomic_fetch_add_explicit(&sv->stats.reads, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&sv->stats.read_bytes, io->iov.iov_len, memory_order_relaxed);
	*iov = &io->iov;
	*iovcnt = 1;
	return (ssize_t)io->iov.iov_len;
}

int inline_check(struct file *f)
{
	struct data *d = f->data;

	if (!f->inline_bad)
		return 0;
	log_error("pool %s, subvolume %s, inode %llu, offset 0: the checksum of its inline data does not match, in its size record",
		  pool_name(data_pool(d)), subvol_name(d->sv), (unsigned long long)f->inode->ino);
	event_add(data_pool(d)->events,
		  &(struct event_about){ .kind = EVENT_CHECKSUM_ERROR, .severity = EVENT_ERROR, .subvolume = subvol_name(d->sv),
					 .tenant = subvol_tenant(d->sv),
					 .inode = f->inode->ino, .limited = true,
					 .limit_key = (uint64_t)d->sv->id << 40 ^ f->inode->ino << 20 },
		  "inode %llu, offset 0: the checksum of its inline data does not match", (unsigned long long)f->inode->ino);
	atomic_fetch_add_explicit(&d->sv->stats.checksum_errors, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&data_pool(d)->checksum_errors, 1, memory_order_relaxed);
	return -EIO;
}

/* Fill one block of the result from memory, or want it from the device. */
static int read_block(struct op_io *io, struct chunk *c, unsigned block, uint8_t *dst)
{
	struct file *f = c->file;
	uint64_t bit = block_bit(block);

	if (chunk_dirty(c) & bit) {
		memcpy(dst, dirty_content(c, block), NVFS_BLOCK_SIZE);
	} else if (chunk_stored(c) & bit) {
		return want_into(io, c, block, dst);
	} else if (c->no == 0 && block == 0 && f->is_inline && !(chunk_mapped(c) & 1)) {
		memcpy(dst, f->inline_data, f->inline_len);
		memset(dst + f->inline_len, 0, NVFS_BLOCK_SIZE - f->inline_len);
		return inline_check(f);
	} else {
		memset(dst, 0, NVFS_BLOCK_SIZE);
	}
	return 0;
}

static int chunks_get(struct op *op, struct file *f, uint64_t first, uint64_t end)
{
	struct span s = span_blocks(first, end);
	struct chunk *c;
	int r = 0;

	while (!r && span_next(&s))
		r = chunk_get(op, f, s.chunk, &c);
	return r;
}

static int read_plan(struct op_io *io, struct file *f, uint64_t first, uint64_t end)
{
	struct span s = span_blocks(first, end);
	uint8_t *dst = io->buf;

	while (span_next(&s)) {
		struct chunk *c = chunk_peek(f, s.chunk);

		for (unsigned b = s.block; b < s.block + s.count; b++, dst += NVFS_BLOCK_SIZE) {
			int r = read_block(io, c, b, dst);

			if (r)
				return r;
		}
	}
	return 0;
}

static ssize_t read_file(struct op *op, struct file *f, uint64_t offset, size_t len, struct iovec **iov,
			 unsigned *iovcnt)
{
	uint64_t first = block_down(offset), end = block_up(offset + len);
	struct op_io *io;
	int r = chunks_get(op, f, first, end);

	if (r)
		return r;
	io = op_io_get(op);
	if (!io)
		return -ENOMEM;
	io->buf_bytes = (end - first) << NVFS_BLOCK_SHIFT;
	io->buf = buffers_get(op->sv->data->buffers, io->buf_bytes);
	if (!io->buf)
		return -ENOMEM;
	io->iov.iov_base = (uint8_t *)io->buf + (offset & (NVFS_BLOCK_SIZE - 1));
	io->iov.iov_len = len;
	op_io_enter(io);
	r = read_plan(io, f, first, end);
	if (r)
		return r;
	r = fetch_start(op, f);
	if (r == META_WAIT)
		op->stage = STAGE_READING;
	if (r)
		return r;
	return read_result(io, iov, iovcnt);
}

ssize_t data_read(struct op *op, uint64_t ino, uint64_t offset, size_t len, unsigned flags, struct iovec **iov,
		  unsigned *iovcnt)
{
	struct file *f;
	int r;

	(void)flags;
	*iov = NULL;
	*iovcnt = 0;
	if (op->stage == STAGE_READING) {
		if (op->io->error)
			return op->io->error;
		return read_result(op->io, iov, iovcnt);
	}
	r = file_get(op, ino, &f);
	if (r)
		return r;
	if (offset >= f->size || !len)
		return 0;
	if (len > f->size - offset)
		len = (size_t)(f->size - offset);
	return read_file(op, f, offset, len, iov, iovcnt);
}
