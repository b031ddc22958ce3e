/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

/*
 * The life of an asynchronous request: checked -> (waiting for room in the
 * ring) -> part in flight -> ... -> answered. A part is what one SQE or one
 * submit() of the backend transfers; a short transfer makes another part of
 * the rest. Nothing is allocated: an iovec array that ended in the middle of
 * an element goes on with the rest of that element alone (in req->part), and
 * with the array again after it.
 */

#include <errno.h>
#include <limits.h>

#include "io/device.h"
#include "io/device_ops.h"
#include "io/reactor_ring.h"

/* The kernel may tell us to come back; not for ever. */
#define MAX_RETRIES 100u

static void request_start_part(struct io_request *req);

static bool request_transfers(const struct io_request *req)
{
	return req->op == IO_READ || req->op == IO_WRITE;
}

/* Its length, or -EINVAL for what O_DIRECT could not take. */
static int request_measure(struct io_request *req)
{
	uint64_t bits = 0;

	req->total = req->op == IO_FLUSH ? 0 : req->len;
	if (!request_transfers(req))
		return 0;
	if (!req->iovcnt)
		return (uintptr_t)req->buf % DEVICE_ALIGN_BYTES ? -EINVAL : 0;
	if (req->iovcnt > IOV_MAX)
		return -EINVAL;
	req->total = 0;
	for (unsigned i = 0; i < req->iovcnt; i++) {
		bits |= (uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len;
		req->total += req->iov[i].iov_len;
	}
	return bits % DEVICE_ALIGN_BYTES ? -EINVAL : 0;
}

static int request_check(struct io_request *req)
{
	int rc = request_measure(req);

	return rc ? rc : device_check_range(req->device, req->op, req->offset, req->total);
}

static void request_finish(struct io_request *req, int res)
{
	req->reactor->ios--;
	device_count(req->device, req->op, req->total, res);
	req->done(req, res);
}

static void request_rejected(struct reactor *r, struct reactor_msg *msg)
{
	struct io_request *req =
		(struct io_request *)((char *)msg - offsetof(struct io_request, msg));

	r->ios--;
	req->done(req, req->result);
}

/* What is left, from req->transferred on. */
static void request_part(struct io_request *req, struct device_part *part)
{
	uint64_t skip = req->transferred;
	unsigned i = 0;

	part->offset = req->offset + skip;
	part->len = req->total - skip;
	part->iov = &req->part;
	part->iovcnt = 1;
	if (!request_transfers(req))
		return;
	if (!req->iovcnt) {
		req->part.iov_base = (char *)req->buf + skip;
		req->part.iov_len = part->len;
		return;
	}
	while (skip >= req->iov[i].iov_len)
		skip -= req->iov[i++].iov_len;
	if (!skip) {
		part->iov = req->iov + i;
		part->iovcnt = req->iovcnt - i;
		return;
	}
	req->part.iov_base = (char *)req->iov[i].iov_base + skip;
	req->part.iov_len = req->iov[i].iov_len - skip;
	part->len = req->part.iov_len;
}

static void request_ring_done(struct reactor *r, struct reactor_op *op,
			      const struct io_uring_cqe *cqe)
{
	struct io_request *req =
		(struct io_request *)((char *)op - offsetof(struct io_request, ring_op));
	const struct device_ops *ops = req->device->ops;

	(void)r;
	device_part_done(req, ops->result ? ops->result(req->device, req, cqe) : cqe->res);
}

static void request_room(struct reactor *r, struct reactor_msg *msg)
{
	(void)r;
	request_start_part((struct io_request *)((char *)msg - offsetof(struct io_request, msg)));
}

static void request_prepare(struct io_request *req, struct io_uring_sqe *sqe)
{
	struct reactor *r = req->reactor;
	struct device *dev = req->device;
	int fixed = reactor_fixed_file(r, dev->slot, dev->id, dev->fd), buf_index = -1;
	struct device_part part;

	request_part(req, &part);
	if (part.iovcnt == 1 && request_transfers(req))
		buf_index = reactor_fixed_buffer(r, part.iov->iov_base, part.iov->iov_len);
	dev->ops->prepare(dev, req, &part, fixed < 0 ? dev->fd : fixed, buf_index, sqe);
	if (fixed >= 0)
		sqe->flags |= IOSQE_FIXED_FILE;
	if (buf_index >= 0)
		counter_add(&r->count.fixed_ios, 1);
	req->ring_op.complete = request_ring_done;
	reactor_start_sqe(r, sqe, &req->ring_op);
}

static void request_start_part(struct io_request *req)
{
	struct reactor *r = req->reactor;
	struct io_uring_sqe *sqe;
	struct device_part part;

	if (req->device->ops->submit) {
		request_part(req, &part);
		req->device->ops->submit(req->device, req, &part);
		return;
	}
	sqe = reactor_has_room(r) ? reactor_get_sqe(r) : NULL;
	if (sqe) {
		request_prepare(req, sqe);
	} else {
		req->msg.fn = request_room;
		reactor_await_room(r, &req->msg);
	}
}

void device_part_done(struct io_request *req, int res)
{
	if ((res == -EINTR || res == -EAGAIN) && req->retries++ < MAX_RETRIES) {
		request_start_part(req);
		return;
	}
	if (res < 0 || !request_transfers(req)) {
		request_finish(req, res < 0 ? res : 0);
		return;
	}
	req->transferred += (uint64_t)res;
	if (req->transferred >= req->total) {
		request_finish(req, 0);
	} else if (!res) {
		request_finish(req, req->op == IO_READ ? -ENODATA : -EIO);
	} else {
		device_count_short(req->device);
		request_start_part(req);
	}
}

void device_submit(struct reactor *r, struct io_request *req)
{
	ASSERT_ON_REACTOR(r);
	req->reactor = r;
	req->transferred = 0;
	req->retries = 0;
	r->ios++;
	req->result = request_check(req);
	if (req->result) {
		req->msg.fn = request_rejected;
		reactor_defer(r, &req->msg);
	} else {
		request_start_part(req);
	}
}

unsigned device_inflight(const struct reactor *r)
{
	return r->ios;
}
