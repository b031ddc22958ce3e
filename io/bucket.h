/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NVFS_IO_BUCKET_H
#define NVFS_IO_BUCKET_H

#include <pthread.h>
#include <stdint.h>

/*
 * A token bucket whose requests stand in a line. Units (operations, bytes) are issued at a rate, and never more than a tenth of a
 * second's worth ahead of what was reserved, or one, which is what a burst after a rest may be. A request reserves its units at once, gets
 * its place in the line, and is due when the units before its place were issued: with at least one left it goes, however large it is, and
 * those behind it wait until it is paid for. So over any time t what is let through is at most rate * (t + 0.1 s) and one request, those who
 * share a bucket are served in the order of their reservations, and nobody who waits loses its place to one who came later.
 *
 * The rate is given with each call and may be another one each time: what is reserved keeps its place and is issued at the
 * new rate. Rate 0 is none: the caller asks no bucket.
 *
 * Any thread. The lock is held for some arithmetic.
 */
struct bucket {
	pthread_mutex_t lock;
	uint64_t rate;             /* of the last call; 0: there was none yet, or it was lifted */
	uint64_t issued, reserved; /* units, since it was made */
	uint64_t rest;             /* of a unit, in 10^-9: what was issued is exact over any number of calls */
	uint64_t at_ns;            /* issued is of this moment */
};

void bucket_init(struct bucket *b);

/* Reserve n units: the place in the line. */
uint64_t bucket_reserve(struct bucket *b, uint64_t rate, uint64_t n, uint64_t now_ns);

/* For how long a place is not yet due; 0: it is. */
uint64_t bucket_wait_ns(struct bucket *b, uint64_t rate, uint64_t place, uint64_t now_ns);

/* n units were reserved and are not going to be used: others are due sooner. */
void bucket_cancel(struct bucket *b, uint64_t n);

/* There is no limit any more: debts are forgiven. */
void bucket_lift(struct bucket *b);

#endif
