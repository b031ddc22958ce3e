/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After a worker died: the dirty blocks that it left, and that no batch has absorbed, become dirty
 * blocks of their files again, before the subvolume serves anything. They come in the order of their sequences, so of two
 * generations of a block the newer one stays. They were charged when they were accepted; what the counters in RocksDB do
 * not have is charged again, and fits.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "meta/data_internal.h"
#include "meta/room.h"

static int collect(void *arg, uint32_t slot, struct dirty_header *h)
{
	struct data *d = arg;

	if (h->subvol != subvol_id(d->sv))
		return 0;
	if (GROW(d->left, d->left_cap, d->left_count + 1))
		return -ENOMEM;
	d->left[d->left_count++] = slot;
	return 0;
}

static int by_sequence(const void *a, const void *b, void *dirty)
{
	uint64_t x = dirty_header(dirty, *(const uint32_t *)a)->sequence;
	uint64_t y = dirty_header(dirty, *(const uint32_t *)b)->sequence;

	return (x > y) - (x < y);
}

int takeup_find(struct data *d)
{
	int r = dirty_each_left(data_pool(d)->dirty, collect, d);

	if (!r && d->left_count)
		qsort_r(d->left, d->left_count, sizeof(*d->left), by_sequence, data_pool(d)->dirty);
	return r;
}

/* One block of a file: 0 when it is in, 1 when it is not needed any more. */
static int take_block(struct op *op, uint32_t slot, const struct dirty_header *h)
{
	uint64_t bit = block_bit(h->block % CHUNK_BLOCKS);
	struct file *f;
	struct chunk *c;
	int r = file_get(op, h->ino, &f);

	if (r)
		return r == -ENOENT || r == -EISDIR || r == -EINVAL ? 1 : r;
	if (h->incarnation != op->sv->rec.incarnation || h->sequence <= f->absorbed || h->block >> CHUNK_SHIFT > CHUNK_LAST)
		return 1;
	r = chunk_get(op, f, h->block >> CHUNK_SHIFT, &c);
	if (!r)
		r = chunk_unhide(c);
	if (!r)
		r = front_need(c);
	if (r)
		return r;
	file_charge_taken(f, !(chunk_charged(c) & bit), !(chunk_charged_own(c) & bit));
	front_drop(c, bit);
	front_set(c, h->block % CHUNK_BLOCKS, slot);
	room_count(f->data->sv, 1);
	if (f->size < h->size)
		f->size = h->size;
	f->mtime = f->ctime = (struct timespec){ .tv_sec = h->mtime_sec, .tv_nsec = h->mtime_nsec };
	file_changed(f);
	return 0;
}

int writeback_takeup(struct op *op)
{
	struct data *d = op->sv->data;
	struct dirty *dirty = data_pool(d)->dirty;
	unsigned taken = 0;

	for (; d->left_at < d->left_count; d->left_at++) {
		uint32_t slot = d->left[d->left_at];
		const struct dirty_header *h = dirty_header(dirty, slot);
		int r = take_block(op, slot, h);

		if (r == META_WAIT)
			return r;
		if (r < 0)
			log_error("pool %s, subvolume %s, inode %llu, offset %llu: a block that was left dirty is lost: %s",
				  pool_name(data_pool(d)), subvol_name(d->sv), (unsigned long long)h->ino,
				  (unsigned long long)(h->block << NVFS_BLOCK_SHIFT), strerror(-r));
		if (r)
			dirty_put(dirty, slot);
		taken += !r;
	}
	if (taken)
		log_info("pool %s, subvolume %s: took up %u dirty blocks", pool_name(data_pool(d)),
			 subvol_name(d->sv), taken);
	free(d->left);
	d->left = NULL;
	d->left_count = d->left_at = d->left_cap = 0;
	return 0;
}
