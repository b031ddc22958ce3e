/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asynchronous I/O that every real backend has to do; for device_test and device_block_test. */
#ifndef NVFS_TESTS_DEVICE_IO_H
#define NVFS_TESTS_DEVICE_IO_H

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "io/device.h"

#include "tests/unit/unit.h"

#define BLOCK 4096u
#define MS 1000000ull

static unsigned io_answers;
static int io_first_error;

static void io_done(struct io_request *req, int res)
{
	(void)req;
	io_answers++;
	if (res && !io_first_error)
		io_first_error = res;
}

/* Run until n requests are answered; their first error. */
static int io_wait(struct reactor *r, unsigned n)
{
	int rc;

	while (io_answers < n)
		ck_assert_int_ge(reactor_run_once(r, 1000 * MS), 0);
	rc = io_first_error;
	io_answers = 0;
	io_first_error = 0;
	return rc;
}

static int io_one(struct reactor *r, struct io_request *req)
{
	req->done = io_done;
	device_submit(r, req);
	ck_assert_uint_eq(io_answers, 0);
	return io_wait(r, 1);
}

static void *io_memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	return p;
}

/* Block b of the device holds this in pass p. */
static void io_pattern(void *buf, unsigned b, unsigned p)
{
	uint32_t *word = buf;

	for (unsigned i = 0; i < BLOCK / 4; i++)
		word[i] = b * 2654435761u + p * 40503u + i;
}

static bool io_matches(const void *buf, unsigned b, unsigned p)
{
	uint32_t want[BLOCK / 4];

	io_pattern(want, b, p);
	return !memcmp(buf, want, BLOCK);
}

/*
 * Write blocks 0..n-1 in a scattered order and all at once, flush, and read
 * them back: with memory that is registered, and that is not.
 */
static void io_round_trip(struct reactor *r, struct device *dev, unsigned n, uint8_t *mem,
			  unsigned pass)
{
	struct io_request *req = calloc(n, sizeof(*req));
	struct io_request flush = { .device = dev, .op = IO_FLUSH };

	for (unsigned i = 0; i < n; i++) {
		unsigned b = i * 37 % n; /* n is a power of two */

		io_pattern(mem + (size_t)b * BLOCK, b, pass);
		req[b] = (struct io_request){ .device = dev, .op = IO_WRITE, .done = io_done,
					      .buf = mem + (size_t)b * BLOCK, .len = BLOCK,
					      .offset = (uint64_t)b * BLOCK,
					      .flags = b % 16 ? 0 : IO_FUA };
		device_submit(r, &req[b]);
	}
	ck_assert_uint_eq(device_inflight(r), n);
	ck_assert_int_eq(io_wait(r, n), 0);
	ck_assert_int_eq(io_one(r, &flush), 0);
	memset(mem, 0, (size_t)n * BLOCK);
	for (unsigned b = 0; b < n; b++) {
		req[b].op = IO_READ;
		req[b].flags = 0;
		device_submit(r, &req[b]);
	}
	ck_assert_int_eq(io_wait(r, n), 0);
	for (unsigned b = 0; b < n; b++)
		ck_assert(io_matches(mem + (size_t)b * BLOCK, b, pass));
	ck_assert_uint_eq(device_inflight(r), 0);
	free(req);
}

/* A vector with odd pieces, one of them empty. */
static void io_vectors(struct reactor *r, struct device *dev, uint8_t *mem)
{
	struct iovec iov[4] = {
		{ mem + 8 * BLOCK, 2 * BLOCK }, { mem, 0 }, { mem, BLOCK }, { mem + 4 * BLOCK, BLOCK },
	};
	static const unsigned place[4] = { 8, 9, 0, 4 };
	struct io_request req = { .device = dev, .op = IO_WRITE, .iov = iov, .iovcnt = 4,
				  .offset = 4 * BLOCK };

	for (unsigned i = 0; i < 4; i++)
		io_pattern(mem + (size_t)place[i] * BLOCK, 4 + i, 99);
	ck_assert_int_eq(io_one(r, &req), 0);
	memset(mem, 0, 10 * BLOCK);
	req = (struct io_request){ .device = dev, .op = IO_READ, .buf = mem, .len = 4 * BLOCK,
				   .offset = 4 * BLOCK };
	ck_assert_int_eq(io_one(r, &req), 0);
	for (unsigned i = 0; i < 4; i++)
		ck_assert(io_matches(mem + (size_t)i * BLOCK, 4 + i, 99));
	req = (struct io_request){ .device = dev, .op = IO_READ, .iov = iov, .iovcnt = 4,
				   .offset = 4 * BLOCK };
	ck_assert_int_eq(io_one(r, &req), 0);
	for (unsigned i = 0; i < 4; i++)
		ck_assert(io_matches(mem + (size_t)place[i] * BLOCK, 4 + i, 99));
}

#endif
