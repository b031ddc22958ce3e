/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How long requests took from their arrival to the answer, as counts in powers of two of a microsecond: what a mount has had since it
 * began. Who looks twice has what was in between. The reactor adds, with plain loads and stores of atomics; any thread reads.
 */
#ifndef NVFS_FS_LATENCY_H
#define NVFS_FS_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#define LATENCY_BUCKETS 28 /* the last one: from 67 s on */

enum latency_kind { LATENCY_READ, LATENCY_WRITE, LATENCY_SYNC, LATENCY_OTHER, LATENCY_KINDS };

struct latency {
	_Atomic uint64_t total_ns;
	_Atomic uint64_t buckets[LATENCY_BUCKETS]; /* 0: under 1 us; n: from 2^(n-1) us on */
};

static inline unsigned latency_bucket(uint64_t ns)
{
	const uint64_t us = ns / 1000;
	const unsigned n = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return n < LATENCY_BUCKETS ? n : LATENCY_BUCKETS - 1;
}

/* One thread adds to a counter: no other's addition can be lost. */
static inline void latency_bump(_Atomic uint64_t *counter, uint64_t by)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

static inline void latency_add(struct latency *l, uint64_t ns)
{
	latency_bump(&l->total_ns, ns);
	latency_bump(&l->buckets[latency_bucket(ns)], 1);
}

#endif
