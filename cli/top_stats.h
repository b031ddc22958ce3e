/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What subvolumes did between two answers to the request "top". */
#ifndef NVFS_CLI_TOP_STATS_H
#define NVFS_CLI_TOP_STATS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOP_BUCKETS 28
#define TOP_NAME_MAX 600 /* POOL:VOL */

/* Limits of the subvolume's, and those of its tenant: what requests waited for. */
#define TOP_LIMITS 8

enum top_kind { TOP_READ, TOP_WRITE, TOP_SYNC, TOP_OTHER, TOP_KINDS };

/* Of a subvolume or, added up, of a tenant. Numbers are those of the interval. */
struct top_row {
	char name[TOP_NAME_MAX], tenant[TOP_NAME_MAX]; /* "tank:web", "tank/team" */
	double seconds;
	uint64_t counts[TOP_KINDS], total_ns[TOP_KINDS], buckets[TOP_KINDS][TOP_BUCKETS];
	uint64_t read_bytes, written_bytes, throttled;
	uint64_t held_ns[TOP_LIMITS];
	uint64_t dirty_bytes, cached_inodes; /* of the moment of the second answer */
	unsigned subvolumes;
};

struct top {
	struct top_row *rows;
	size_t count;
};

/*
 * Append rows of one pool. before may be NULL: then the counts are those since the subvolumes were mounted, and all rates are 0. What was mounted
 * in between counts from then. 0 or -ENOMEM.
 */
int top_add(struct top *t, const json_t *before, const json_t *after);

/* Make one row of all subvolumes of a tenant. */
void top_by_tenant(struct top *t);

void top_free(struct top *t);

/* In a second. */
double top_rate(const struct top_row *r, uint64_t n);

/* Microseconds; 0 when there was none. The 99th percentile is estimated within a power of two. */
double top_mean_us(const struct top_row *r, enum top_kind kind);
double top_p99_us(const struct top_row *r, enum top_kind kind);

/* What its requests waited for longest in the interval, "tenant write_bps"; NULL: none waited. */
const char *top_held_by(const struct top_row *r);

/* How to sort, by a key: rows with more come first, with 'n' by name. False: there is no such key. */
bool top_sort(struct top *t, char key);

/* For programs. */
json_t *top_row_json(const struct top_row *r, bool tenant);

#endif
