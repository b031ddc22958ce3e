/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the size. What lies behind a new end is cleared.
 *
 * Invariant: in the last block of a file, what lies behind the end is zeros. So growing needs nothing but the size.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>

#include "meta/data_internal.h"

int data_writable(struct op *op)
{
	struct subvol *sv = op->sv;

	if (sv->read_only)
		return -EROFS;
	if (!sv->gated)
		return atomic_load_explicit(&sv->pool->failed, memory_order_relaxed);
	if (op->io)
		room_let_go(op->io);
	return op_wait(op, &sv->gate_waiters);
}

static void size_changed(struct file *f, uint64_t size)
{
	f->size = size;
	file_touch(f);
	file_changed(f);
}

static int shrink(struct op *op, struct file *f, uint64_t size)
{
	int r = range_clear(op, f, size, UINT64_MAX, false);

	if (r < 0)
		return r;
	size_changed(f, size);
	return 0;
}

int data_truncate(struct op *op, uint64_t ino, uint64_t size)
{
	struct file *f;
	int r = data_writable(op);

	if (size > FILE_BYTES_MAX)
		return -EFBIG;
	if (!r)
		r = file_get(op, ino, &f);
	if (!r)
		r = file_exclusive(op, f);
	if (r)
		return r;
	/* Truncating to the size that it has gives back what fallocate promised behind the end. */
	if (size < f->size || (size == f->size && f->charged))
		return shrink(op, f, size);
	size_changed(f, size);
	return 0;
}
