/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an op holds while it works on data. Kept for reuse with its arrays, so that a request costs no malloc. */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "meta/data_internal.h"

/* Arrays that grew beyond this are not kept. */
#define KEEP_ITEMS 300u

int grow_array(void **array, unsigned *cap, unsigned n, size_t item)
{
	unsigned wider = *cap ? *cap : 4;
	void *p;

	if (n <= *cap)
		return 0;
	while (wider < n)
		wider *= 2;
	p = realloc(*array, wider * item);
	if (!p)
		return -ENOMEM;
	*array = p;
	*cap = wider;
	return 0;
}

static void op_io_free(struct op_io *io)
{
	free(io->wants);
	free(io->fetches);
	free(io->slots);
	free(io->parts);
	free(io->crcs);
	free(io);
}

static void wants_release(struct op_io *io)
{
	for (unsigned i = 0; i < io->nwants; i++)
		if (io->wants[i].own_buf)
			buffers_put(io->data->buffers, io->wants[i].dst, NVFS_BLOCK_SIZE);
	io->nwants = io->fetched = io->nfetches = 0;
}

void wants_restart(struct op_io *io)
{
	while (io->nwants > io->fetched)
		if (io->wants[--io->nwants].own_buf)
			buffers_put(io->data->buffers, io->wants[io->nwants].dst, NVFS_BLOCK_SIZE);
}

void wants_drop(struct op_io *io)
{
	assert(!io->pending);
	wants_release(io);
	if (io->in_epoch)
		epoch_exit(data_pool(io->data)->epochs, &io->epoch);
	io->in_epoch = false;
}

static void op_io_release(struct op *op)
{
	struct op_io *io = op->io;
	struct data *d = io->data;
	struct shared *shared = d->sv->shared;

	assert(!io->pending);
	op->io = NULL;
	op->io_release = NULL;
	direct_release(io);
	wants_drop(io);
	slots_give_back(d, io->slots, io->nslots);
	buffers_put(d->buffers, io->buf, io->buf_bytes);
	if (io->want_cap > KEEP_ITEMS || io->part_cap > KEEP_ITEMS || io->fetch_cap > KEEP_ITEMS) {
		op_io_free(io);
		return;
	}
	io->next = shared->free_io;
	shared->free_io = io;
}

struct op_io *op_io_get(struct op *op)
{
	struct data *d = op->sv->data;
	struct shared *shared = op->sv->shared;
	struct op_io *io = op->io;

	if (io)
		return io;
	io = shared->free_io;
	if (io) {
		struct op_io kept = *io;

		shared->free_io = io->next;
		memset(io, 0, sizeof(*io));
		io->wants = kept.wants, io->want_cap = kept.want_cap;
		io->fetches = kept.fetches, io->fetch_cap = kept.fetch_cap;
		io->slots = kept.slots, io->slot_cap = kept.slot_cap;
		io->parts = kept.parts, io->part_cap = kept.part_cap;
		io->crcs = kept.crcs, io->crc_cap = kept.crc_cap;
	} else {
		io = calloc(1, sizeof(*io));
		if (!io)
			return NULL;
	}
	io->op = op;
	io->data = d;
	op->io = io;
	op->io_release = op_io_release;
	return io;
}

void op_io_free_all(struct shared *shared)
{
	while (shared->free_io) {
		struct op_io *io = shared->free_io;

		shared->free_io = io->next;
		op_io_free(io);
	}
}

void op_io_enter(struct op_io *io)
{
	if (io->in_epoch)
		return;
	epoch_enter(data_pool(io->data)->epochs, io->data->sv->reactor_index, &io->epoch);
	io->in_epoch = true;
}
