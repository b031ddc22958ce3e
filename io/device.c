/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include "io/device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/device_ops.h"
#include "io/reactor_ring.h"

_Static_assert(REACTOR_FILES == 64, "one bit of slots_used each");

static atomic_uint_fast64_t slots_used;
static atomic_uint_fast64_t last_id;

static unsigned slot_take(void)
{
	uint64_t used = atomic_load(&slots_used);

	while (~used) {
		unsigned slot = (unsigned)__builtin_ctzll(~used);

		if (atomic_compare_exchange_weak(&slots_used, &used, used | 1ull << slot))
			return slot;
	}
	return REACTOR_FILES;
}

static void slot_give(unsigned slot)
{
	if (slot < REACTOR_FILES)
		atomic_fetch_and(&slots_used, ~(1ull << slot));
}

int device_init(struct device *dev, const struct device_ops *ops, const char *name)
{
	dev->name = strdup(name);
	if (!dev->name)
		return -ENOMEM;
	dev->ops = ops;
	dev->fd = -1;
	dev->slot = slot_take();
	dev->id = atomic_fetch_add(&last_id, 1) + 1;
	return 0;
}

void device_close(struct device *dev)
{
	if (!dev)
		return;
	slot_give(dev->slot);
	free(dev->name);
	dev->ops->close(dev);
}

void device_detach(struct reactor *r, struct device *dev)
{
	ASSERT_ON_REACTOR(r);
	reactor_forget_file(r, dev->slot, dev->id);
}

int device_lock(struct device *dev, bool wait)
{
	return dev->ops->lock ? dev->ops->lock(dev, wait) : 0;
}

enum device_kind device_kind(const struct device *dev)
{
	return dev->ops->kind;
}

const char *device_name(const struct device *dev)
{
	return dev->name;
}

bool device_readonly(const struct device *dev)
{
	return dev->readonly;
}

const struct device_geometry *device_geometry(const struct device *dev)
{
	return &dev->geometry;
}

/* ---- Checks and counters, for both ways in ---- */

static bool aligned(uint64_t v)
{
	return v % DEVICE_ALIGN_BYTES == 0;
}

int device_check_range(const struct device *dev, enum io_op op, uint64_t offset, uint64_t len)
{
	uint64_t size = dev->geometry.size_bytes;

	if (op != IO_READ && dev->readonly)
		return -EROFS;
	if (op == IO_FLUSH)
		return 0;
	if (!len || !aligned(offset | len) || offset > size || len > size - offset)
		return -EINVAL;
	return 0;
}

void device_count(struct device *dev, enum io_op op, uint64_t bytes, int res)
{
	struct device_counters *c = &dev->count;

	atomic_fetch_add_explicit(&c->ops[op], 1, memory_order_relaxed);
	if (res)
		atomic_fetch_add_explicit(&c->errors[op], 1, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&c->bytes[op], bytes, memory_order_relaxed);
}

void device_count_short(struct device *dev)
{
	atomic_fetch_add_explicit(&dev->count.short_ios, 1, memory_order_relaxed);
}

void device_health(const struct device *dev, struct device_health *out)
{
	const struct device_counters *c = &dev->count;

#define GET(field) atomic_load_explicit(&c->field, memory_order_relaxed)
	*out = (struct device_health){
		.reads = GET(ops[IO_READ]),
		.writes = GET(ops[IO_WRITE]),
		.flushes = GET(ops[IO_FLUSH]),
		.discards = GET(ops[IO_DISCARD]),
		.read_bytes = GET(bytes[IO_READ]),
		.written_bytes = GET(bytes[IO_WRITE]),
		.discarded_bytes = GET(bytes[IO_DISCARD]),
		.read_errors = GET(errors[IO_READ]),
		.write_errors = GET(errors[IO_WRITE]),
		.flush_errors = GET(errors[IO_FLUSH]),
		.discard_errors = GET(errors[IO_DISCARD]),
		.short_ios = GET(short_ios),
	};
#undef GET
}

/* ---- Synchronous ---- */

static int device_read_all(struct device *dev, char *buf, size_t len, uint64_t offset)
{
	while (len) {
		ssize_t n = dev->ops->read(dev, buf, len, offset);

		if (n <= 0)
			return n ? (int)n : -ENODATA;
		if ((size_t)n < len)
			device_count_short(dev);
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int device_read(struct device *dev, void *buf, size_t len_bytes, uint64_t offset_bytes)
{
	int rc = device_check_range(dev, IO_READ, offset_bytes, len_bytes);

	if (rc || !aligned((uintptr_t)buf))
		return rc ? rc : -EINVAL;
	rc = device_read_all(dev, buf, len_bytes, offset_bytes);
	device_count(dev, IO_READ, len_bytes, rc);
	return rc;
}

static int device_write_all(struct device *dev, const char *buf, size_t len, uint64_t offset,
			    unsigned flags)
{
	while (len) {
		ssize_t n = dev->ops->write(dev, buf, len, offset, flags);

		if (n <= 0)
			return n ? (int)n : -EIO;
		if ((size_t)n < len)
			device_count_short(dev);
		buf += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int device_write(struct device *dev, const void *buf, size_t len_bytes, uint64_t offset_bytes,
		 unsigned flags)
{
	int rc = device_check_range(dev, IO_WRITE, offset_bytes, len_bytes);

	if (rc || !aligned((uintptr_t)buf))
		return rc ? rc : -EINVAL;
	rc = device_write_all(dev, buf, len_bytes, offset_bytes, flags);
	device_count(dev, IO_WRITE, len_bytes, rc);
	return rc;
}

int device_flush(struct device *dev)
{
	int rc = device_check_range(dev, IO_FLUSH, 0, 0);

	if (rc)
		return rc;
	rc = dev->ops->flush(dev);
	device_count(dev, IO_FLUSH, 0, rc);
	return rc;
}

int device_discard(struct device *dev, uint64_t offset_bytes, uint64_t len_bytes)
{
	int rc = device_check_range(dev, IO_DISCARD, offset_bytes, len_bytes);

	if (rc)
		return rc;
	rc = dev->ops->discard(dev, offset_bytes, len_bytes);
	device_count(dev, IO_DISCARD, len_bytes, rc);
	return rc;
}
