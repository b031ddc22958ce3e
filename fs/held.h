/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_FS_HELD_H
#define NVFS_FS_HELD_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/request.h"
#include "io/throttle.h"

/*
 * Requests of a session that were read and are beyond a limit: each waits for its own moment (io/throttle.h) in the buffer that it was read
 * into, before it has taken anything else.
 *
 * Buffers are shared by all sessions of a reactor, so few are held: HELD_MAX by a session, so that its reads, fsyncs and the kernel's
 * FORGETs get past writes that wait; a quarter of the pool by all sessions together. A session that holds that many reads no further.
 * When the pool's quarter is full, a session that holds none does not hold its next request either: that one goes ahead of its moment, and
 * the session *owes*: it reads nothing until then. The rate is the same, the memory is not needed.
 *
 * Reactor thread only.
 */

#define HELD_MAX 16u
#define HELD_LARGE_MAX 2u

/* The longest that a waiting session goes without a look: at limits that changed, at a connection that ended, at killed processes. */
#define HELD_LOOK_NS UINT64_C(100000000)

struct held {
	struct request_pool *pool;
	struct throttles throttles;
	struct request *first; /* in the order of their arrival */
	unsigned count, large;
	bool owes;
	struct throttle_claim owed;
};

void held_init(struct held *h, struct request_pool *pool, const struct throttles *throttles);

/* True when r is to be executed now; else it is held. */
bool held_admit(struct held *h, struct request *r, enum throttle_kind kind, uint64_t bytes, uint64_t now_ns);

/* Whether another request may be read. */
bool held_room(const struct held *h);

/* Take out a request that is due, or NULL. A debt that is paid is forgotten. */
struct request *held_due(struct held *h, uint64_t now_ns);

/* When to look again; REACTOR_NEVER_NS: nothing waits. */
uint64_t held_next_look(const struct held *h, uint64_t now_ns);

/* The kernel asks to hurry with a request, since its process has a signal: it is watched if it is held. */
void held_interrupt(struct held *h, uint64_t unique);

/*
 * Take out a request whose process is being killed, or NULL. It was not begun, so it can be answered with EINTR; other signals
 * leave it where it is, as a disk does.
 */
struct request *held_killed(struct held *h);

/* Drop all: nobody waits for answers any more. */
void held_drop(struct held *h);

#endif
