/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_THROTTLE_H
#define NVFS_IO_THROTTLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/bucket.h"

/*
 * Limits of operations and bytes a second, for reads and writes apart: four buckets. A request is subject to several throttles at once
 * (its subvolume's and its tenant's), takes its place in all that limit it, and goes when it is due in all.
 *
 * Any thread.
 */

enum throttle_kind { THROTTLE_READ, THROTTLE_WRITE, THROTTLE_NONE };

/* Per second; 0: no limit. */
struct rates {
	uint64_t read_iops, write_iops, read_bytes_per_s, write_bytes_per_s;
};

/* Of a limit: a petabyte a second. */
#define RATE_MAX (UINT64_C(1) << 50)

static inline bool rates_are_valid(const struct rates *r)
{
	return r->read_iops <= RATE_MAX && r->write_iops <= RATE_MAX && r->read_bytes_per_s <= RATE_MAX && r->write_bytes_per_s <= RATE_MAX;
}

#define THROTTLE_LEVELS 2u

/* The four limits of a throttle. */
enum throttle_limit { THROTTLE_READ_IOPS, THROTTLE_WRITE_IOPS, THROTTLE_READ_BPS, THROTTLE_WRITE_BPS, THROTTLE_LIMITS };

/*
 * Whoever waits is counted for one limit, that which let it go last, in all throttles that it is subject to: so a tenant's has what it
 * held, and what the limits of its subvolumes did. Only requests that waited count, which had the locks of the buckets besides: what
 * is counted costs nobody else anything.
 */
struct throttle {
	_Atomic uint64_t ops_rate[2], bytes_rate[2]; /* by throttle_kind */
	struct bucket ops[2], bytes[2];
	_Atomic uint64_t waiting, delayed_ops, delayed_ns;
	struct {
		_Atomic uint64_t ops, ns;
	} held[THROTTLE_LEVELS][THROTTLE_LIMITS];
};

/* A request's places. */
struct throttle_claim {
	uint64_t bytes;
	uint64_t since_ns;
	uint8_t kind, ops_taken, bytes_taken; /* the latter: a bit for each level */
	uint8_t held_level, held_limit;       /* what it waits for, if it does */
	uint64_t ops_place[THROTTLE_LEVELS], bytes_place[THROTTLE_LEVELS];
};

/* The throttles that requests of one origin are subject to; NULL: none at this level. */
struct throttles {
	struct throttle *level[THROTTLE_LEVELS];
};

struct throttle_stats {
	uint64_t waiting;     /* requests, now */
	uint64_t delayed_ops; /* requests that waited */
	uint64_t delayed_ns;  /* how long they did, together */
	struct throttle_held {
		uint64_t ops, ns;
	} held[THROTTLE_LEVELS][THROTTLE_LIMITS]; /* of these, by what they waited for */
};

void throttle_init(struct throttle *t);

/* Takes effect at once, for those too that wait already. */
void throttle_set(struct throttle *t, const struct rates *rates);
void throttle_get(struct throttle *t, struct rates *out);
void throttle_stats(struct throttle *t, struct throttle_stats *out);

/* Whether any level limits requests of this kind. */
bool throttles_limit(const struct throttles *ts, enum throttle_kind kind);

/* Take places for one operation of so many bytes (0: it moves none): for how long it is not due; 0: it is now. */
uint64_t throttles_claim(const struct throttles *ts, enum throttle_kind kind, uint64_t bytes, uint64_t now_ns, struct throttle_claim *c);

/* The same for a claim that waits. */
uint64_t throttles_wait_ns(const struct throttles *ts, const struct throttle_claim *c, uint64_t now_ns);

/* The request is not going to be served. */
void throttles_cancel(const struct throttles *ts, const struct throttle_claim *c);

/* Count: a request begins to wait; it waited from c->since_ns on. */
void throttles_hold(const struct throttles *ts);
void throttles_release(const struct throttles *ts, const struct throttle_claim *c, uint64_t now_ns);

/* It waits no more and was not served. */
void throttles_abandon(const struct throttles *ts);

#endif
