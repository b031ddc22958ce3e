/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "fs/request.h"
#include "io/log.h"

#define PAGE 4096u
#define HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define HEAD_OFFSET (PAGE - HEAD_BYTES) /* of a request in its buffer */
#define SMALL_DATA (32u << 10)
#define SMALL_BYTES (PAGE + SMALL_DATA)
#define LARGE_BYTES (PAGE + REQUEST_DATA_MAX)
#define SMALL_ROOM (HEAD_BYTES + SMALL_DATA)

#define AREA_MAGIC UINT64_C(0x31716572736676) /* "vfsreq1" */

/* The start of the area: how to find marked requests in it. */
struct area_head {
	uint64_t magic;
	uint32_t slots, large;
	uint32_t small_bytes, large_bytes, head_offset, reserved;
};

/* Of a slot, beside its buffer. Written before the read. */
struct slot_mark {
	uint32_t session;
	int32_t large;    /* index of the large buffer behind it */
	uint64_t arrival; /* order of the reads on this reactor */
};

struct request_pool {
	struct reactor *reactor;
	uint8_t *area;
	bool own_area;
	struct slot_mark *marks;
	struct request *requests; /* REQUEST_SLOTS */
	struct request *free;     /* last used first */
	uint8_t *privs;
	int large_free[REQUEST_LARGE];
	unsigned large_free_count;
	int spare_large;          /* behind the next read; -1: to be taken from large_free */
	unsigned used, held, held_large;
	uint64_t arrivals;
	bool slot_locked[REQUEST_SLOTS], large_locked[REQUEST_LARGE];
	bool lock_refused;
};

#define MARKS_OFFSET PAGE
#define MARKS_BYTES (((REQUEST_SLOTS * sizeof(struct slot_mark)) + PAGE - 1) / PAGE * PAGE)
#define SMALL_OFFSET (MARKS_OFFSET + MARKS_BYTES)
#define LARGE_OFFSET (SMALL_OFFSET + (size_t)REQUEST_SLOTS * SMALL_BYTES)
#define AREA_BYTES (LARGE_OFFSET + (size_t)REQUEST_LARGE * LARGE_BYTES)

_Static_assert(AREA_BYTES % PAGE == 0, "the area is whole pages");

size_t request_pool_bytes(void)
{
	return AREA_BYTES;
}

static uint8_t *large_buffer(struct request_pool *pool, int index)
{
	return pool->area + LARGE_OFFSET + (size_t)index * LARGE_BYTES;
}

static void fill_pool(struct request_pool *pool, size_t priv_bytes)
{
	struct area_head head = {
		.magic = AREA_MAGIC,
		.slots = REQUEST_SLOTS,
		.large = REQUEST_LARGE,
		.small_bytes = SMALL_BYTES,
		.large_bytes = LARGE_BYTES,
		.head_offset = HEAD_OFFSET,
	};

	memcpy(pool->area, &head, sizeof(head));
	pool->marks = (struct slot_mark *)(pool->area + MARKS_OFFSET);
	for (unsigned i = REQUEST_SLOTS; i-- > 0;) {
		struct request *r = &pool->requests[i];

		r->slot = (uint16_t)i;
		r->buffer = pool->area + SMALL_OFFSET + (size_t)i * SMALL_BYTES;
		r->large = -1;
		r->priv = pool->privs + i * priv_bytes;
		r->next = pool->free;
		pool->free = r;
	}
	for (int i = REQUEST_LARGE; i-- > 0;)
		pool->large_free[pool->large_free_count++] = i;
	pool->spare_large = -1;
}

int request_pool_create(struct reactor *r, void *area, size_t priv_bytes, struct request_pool **out)
{
	struct request_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	priv_bytes = (priv_bytes + 63) / 64 * 64;
	pool->reactor = r;
	pool->area = area;
	if (!area) {
		pool->own_area = true;
		pool->area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	}
	pool->requests = calloc(REQUEST_SLOTS, sizeof(*pool->requests));
	pool->privs = priv_bytes ? aligned_alloc(64, REQUEST_SLOTS * priv_bytes) : NULL;
	if (pool->area == MAP_FAILED || !pool->requests || (priv_bytes && !pool->privs)) {
		request_pool_destroy(pool);
		return -ENOMEM;
	}
	if (pool->privs)
		memset(pool->privs, 0, REQUEST_SLOTS * priv_bytes);
	fill_pool(pool, priv_bytes);
	*out = pool;
	return 0;
}

void request_pool_destroy(struct request_pool *pool)
{
	if (!pool)
		return;
	assert(pool->used == 0);
	if (pool->own_area && pool->area != MAP_FAILED)
		munmap(pool->area, AREA_BYTES);
	free(pool->requests);
	free(pool->privs);
	free(pool);
}

struct reactor *request_pool_reactor(const struct request_pool *pool)
{
	return pool->reactor;
}

unsigned request_pool_used(const struct request_pool *pool)
{
	return pool->used;
}

bool request_pool_may_hold(const struct request_pool *pool)
{
	return pool->held < REQUEST_SLOTS / 4 && pool->held_large < REQUEST_LARGE / 4;
}

void request_pool_hold(struct request_pool *pool, const struct request *r)
{
	pool->held++;
	pool->held_large += request_is_large(r);
}

void request_pool_unhold(struct request_pool *pool, const struct request *r)
{
	pool->held--;
	pool->held_large -= request_is_large(r);
}

/* Have a buffer in memory for good; where locking is not allowed, at least for now. */
static void lock_buffer(struct request_pool *pool, void *buffer, size_t len, bool *locked)
{
	if (*locked)
		return;
	*locked = true;
	if (!mlock(buffer, len))
		return;
	if (!pool->lock_refused)
		log_warn("request buffers cannot be locked into memory (%s): raise LimitMEMLOCK",
			 strerror(errno));
	pool->lock_refused = true;
	for (size_t i = 0; i < len; i += PAGE)
		((volatile uint8_t *)buffer)[i] = 0;
}

static bool take_large(struct request_pool *pool)
{
	if (pool->spare_large >= 0)
		return true;
	if (!pool->large_free_count)
		return false;
	pool->spare_large = pool->large_free[--pool->large_free_count];
	lock_buffer(pool, large_buffer(pool, pool->spare_large), LARGE_BYTES,
		    &pool->large_locked[pool->spare_large]);
	return true;
}

static struct fuse_in_header *header(struct request *r)
{
	return (struct fuse_in_header *)(r->buffer + HEAD_OFFSET);
}

static ssize_t receive(struct request_pool *pool, struct request *r, int fd)
{
	uint8_t *large = large_buffer(pool, pool->spare_large);
	struct iovec iov[2] = {
		{ r->buffer + HEAD_OFFSET, SMALL_ROOM },
		{ large + PAGE + SMALL_DATA, REQUEST_DATA_MAX - SMALL_DATA },
	};

	return readv(fd, iov, 2);
}

/* The request reaches into the large buffer: bring it together there. */
static void join(struct request_pool *pool, struct request *r)
{
	uint8_t *large = large_buffer(pool, pool->spare_large);

	memcpy(large + HEAD_OFFSET, r->buffer + HEAD_OFFSET, SMALL_ROOM);
	r->large = pool->spare_large;
	r->in = (const struct fuse_in_header *)(large + HEAD_OFFSET);
	pool->spare_large = -1;
}

int request_get(struct request_pool *pool, int fd, uint32_t session, struct request **out)
{
	struct request *r = pool->free;
	ssize_t n;

	if (!r || !take_large(pool))
		return -ENOBUFS;
	lock_buffer(pool, r->buffer, SMALL_BYTES, &pool->slot_locked[r->slot]);
	pool->marks[r->slot] = (struct slot_mark){ session, pool->spare_large, pool->arrivals };
	atomic_signal_fence(memory_order_seq_cst); /* what a successor reads is there before the kernel's copy */
	n = receive(pool, r, fd);
	if (n < 0)
		return -errno;
	if (n < (ssize_t)sizeof(*r->in) || header(r)->len != (size_t)n) {
		header(r)->len = 0;
		return -EPROTO;
	}
	pool->free = r->next;
	pool->used++;
	pool->arrivals++;
	r->in = header(r);
	if ((size_t)n > SMALL_ROOM)
		join(pool, r);
	r->unique = r->in->unique;
	r->arrived_ns = monotonic_now_ns();
	r->fuse = NULL;
	r->hold = NULL;
	r->taken = false;
	*out = r;
	return 0;
}

void request_put(struct request_pool *pool, struct request *r)
{
	atomic_signal_fence(memory_order_seq_cst); /* unmarked only after the reply */
	header(r)->len = 0;
	if (r->large >= 0)
		pool->large_free[pool->large_free_count++] = r->large;
	r->large = -1;
	r->session = NULL;
	r->next = pool->free;
	pool->free = r;
	pool->used--;
}
