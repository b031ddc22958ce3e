/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_REQUEST_H
#define NVFS_FS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/fuse_abi.h"
#include "io/reactor.h"
#include "io/throttle.h"

/*
 * Requests of the kernel and the buffers that they are read into. A reactor has one
 * pool of them, shared by all its sessions.
 *
 * The buffers lie in memory that outlives the worker. A request is *marked* from the moment in which the kernel's
 * copy puts a header into its buffer (whose length was zero before) until its reply was written and
 * the length is set to zero again. Whoever finds the memory after a worker's death finds exactly the
 * requests that the kernel handed out and that have no answer.
 *
 * Most requests are small, a few are writes of a MiB, and one does not know before the read. So there are many small
 * buffers and a few large ones: every read is given a small one and, behind it, a spare large one for
 * what does not fit. When the large one was used the small part is copied to its front (32 KiB of up to 1 MiB), so
 * that a request is always in one piece; otherwise it stays the spare of the next read. The 80 bytes of header and struct fuse_write_in
 * lie just below a page, so that the data of a write is aligned as the device wants it.
 *
 * A buffer is locked into memory at its first use, and the one used last is used next: what was never needed
 * costs nothing, and the kernel's copy into what was used can't fail half-way for want of a page.
 *
 * Reactor thread only.
 */

#define REQUEST_DATA_MAX (1u << 20) /* of a write: max_write of FUSE_INIT */
#define REQUEST_SLOTS 256u
#define REQUEST_LARGE 24u

struct request_pool;
struct session;
struct fuse_req;

struct request {
	struct session *session;
	const struct fuse_in_header *in; /* the whole request in one piece; in->len bytes */
	struct fuse_req *fuse;           /* libfuse's, when it went through its dispatcher */
	uint64_t unique;
	uint64_t arrived_ns;             /* CLOCK_MONOTONIC */
	uint64_t number;                 /* of the session's requests, in the order of their reading */
	uint16_t slot;
	bool taken;                      /* a handler answers it, now or later */
	void *hold;                      /* the handlers': session_ops.release() of it comes when the request is over */
	void *priv;                      /* the handlers' own memory for a request in execution */

	/* held.c, while it waits for a limit. */
	struct throttle_claim claim;
	struct request *held_next;
	bool interrupted;

	/* Private. */
	uint8_t *buffer;
	int large;                       /* index, or -1 */
	struct request *next;
};

/* Behind the fixed part of a request: its arguments. */
static inline const void *request_arg(const struct request *r)
{
	return r->in + 1;
}

/* Bytes of arguments. */
static inline size_t request_arg_len(const struct request *r)
{
	return r->in->len - sizeof(*r->in);
}

/* Bytes of area that a pool needs; a multiple of 4096. */
size_t request_pool_bytes(void);

/*
 * Make the pool of reactor r in area (aligned to 4096, request_pool_bytes() of it, zeros at the first use ever);
 * NULL: in memory of its own. priv_bytes for each request. 0, -ENOMEM. Before the reactor runs or on its thread.
 */
int request_pool_create(struct reactor *r, void *area, size_t priv_bytes,
			struct request_pool **out);

/* No request is in use. NULL is fine. */
void request_pool_destroy(struct request_pool *pool);

struct reactor *request_pool_reactor(const struct request_pool *pool);

/*
 * Read one request from a /dev/fuse descriptor for the session with this number: 0 and *out, the caller's until request_put();
 * -ENOBUFS when all buffers are in use; -EPROTO for what is no request (dropped); or what read(2) said: -EAGAIN, -ENODEV, -EPERM, ...
 */
int request_get(struct request_pool *pool, int fd, uint32_t session, struct request **out);

/* The request was answered: unmark it, its buffers can be used again. */
void request_put(struct request_pool *pool, struct request *r);

/* Whether its data lies in one of the large buffers. */
static inline bool request_is_large(const struct request *r)
{
	return r->large >= 0;
}

/*
 * A request in use waits for its limits, as do at most a quarter of all and of the large ones: may_hold says whether one more may, which
 * is not asked again by hold.
 */
bool request_pool_may_hold(const struct request_pool *pool);
void request_pool_hold(struct request_pool *pool, const struct request *r);
void request_pool_unhold(struct request_pool *pool, const struct request *r);

/* Requests in use. */
unsigned request_pool_used(const struct request_pool *pool);

#endif
