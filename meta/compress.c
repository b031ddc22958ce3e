/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compression of a piece of a chunk, on a worker. It reads the back layer, which nobody changes while
 * the cycle runs. It pays when at least one block is saved.
 */
#include "config.h"

#include <lz4.h>
#include <stdlib.h>
#include <string.h>

#include "io/crc.h"
#include "meta/data_internal.h"

static void compress(struct writing *w)
{
	const struct chunk *c = w->cycle->chunks[w->chunk];
	struct dirty *slots = data_pool(c->file->data)->dirty;
	int room = (int)((w->count - 1) * NVFS_BLOCK_SIZE), raw_bytes = (int)(w->count * NVFS_BLOCK_SIZE), n;
	char *raw = malloc((size_t)raw_bytes);
	void *packed = aligned_alloc(NVFS_BLOCK_SIZE, (size_t)room);

	if (raw && packed) {
		for (unsigned i = 0; i < w->count; i++)
			memcpy(raw + (size_t)i * NVFS_BLOCK_SIZE, dirty_data(slots, c->back->slot[w->block + i]),
			       NVFS_BLOCK_SIZE);
		n = LZ4_compress_default(raw, packed, raw_bytes, room);
		if (n > 0) {
			size_t end = ((size_t)n + NVFS_BLOCK_SIZE - 1) / NVFS_BLOCK_SIZE * NVFS_BLOCK_SIZE;

			memset((char *)packed + n, 0, end - (size_t)n);
			w->packed_bytes = (unsigned)n;
			w->packed_crc = crc32c(0, packed, (size_t)n);
			w->packed = packed;
			packed = NULL;
		}
	}
	free(raw);
	free(packed);
}

static struct writing *writing_of(struct work *work)
{
	return (struct writing *)((char *)work - offsetof(struct writing, work));
}

static void compress_work(struct work *work)
{
	compress(writing_of(work));
}

static void compress_done(struct work *work)
{
	cycle_compressed(writing_of(work));
}

void compress_start(struct writing *w)
{
	struct subvol *sv = w->cycle->file->data->sv;

	w->packed = NULL;
	w->packed_bytes = 0;
	w->work.fn = compress_work;
	w->work.done = compress_done;
	w->work.reactor = sv->reactor;
	workers_submit(sv->pool->workers, &w->work);
}

void compress_drop(struct writing *w)
{
	free(w->packed);
	w->packed = NULL;
}
